"""The machine as an injected value, and the classes of kernel errors."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from proctally.errors import AccessDenied, NoDescriptors, ProcessGone
from proctally.linux.machine import Machine, classify, clock_id, reread

KINDS = {
    errno.ENOENT: ProcessGone,
    errno.ESRCH: ProcessGone,
    errno.EINVAL: ProcessGone,
    errno.EACCES: AccessDenied,
    errno.EPERM: AccessDenied,
    errno.EMFILE: NoDescriptors,
    errno.ENFILE: NoDescriptors,
}


@pytest.mark.parametrize(("number", "kind"), KINDS.items(), ids=lambda value: errno.errorcode.get(value))
def test_classified_by_number(number: int, kind: type[Exception]) -> None:
    error = classify(OSError(number, "a text that nobody reads"))
    assert type(error) is kind
    assert error.args[0] == number


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOMEM, errno.EINTR, errno.ENOTDIR, errno.ENOSPC])
def test_what_is_not_known_stays_as_it_is(number: int) -> None:
    error = OSError(number, "No such process")  # the text must not count
    assert classify(error) is error


def test_kinds_are_apart() -> None:
    """An `except ProcessGone` must not catch what was denied, and the other way round."""
    kinds = (ProcessGone, AccessDenied, NoDescriptors)
    assert [[issubclass(a, b) for b in kinds] for a in kinds] == [[a is b for b in kinds] for a in kinds]


# -- clocks ------------------------------------------------------------------------------------------------------


def test_clocks_keep_their_places_around_errors() -> None:
    def clock(number: int) -> int:
        if number < 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        return number * 10

    machine = Machine(clock_gettime_ns=clock)
    for ids in ([1, -1, 3], [-1, 1], [1, -1], [-1, -2], [1, 2, 3], [], [-1, 2, -3, 4, 5, -6, -7, 8, -9]):
        assert machine.clocks(ids) == [None if number < 0 else number * 10 for number in ids]


def test_clocks_of_many() -> None:
    """Long enough for the list to be moved in memory while it grows."""

    def clock(number: int) -> int:
        if number % 7 == 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        return number

    ids = list(range(5000))
    read = Machine(clock_gettime_ns=clock).clocks(ids)
    assert read == [None if number % 7 == 0 else number for number in ids]


def test_without_clocks_none_is_known() -> None:
    assert Machine(clock_gettime_ns=None).clocks([1, 2, 3]) == [None, None, None]


def test_clock_id_is_that_of_the_library() -> None:
    library = ctypes.CDLL(None)
    for pid in (os.getpid(), os.getppid()):
        number = ctypes.c_int()
        assert library.clock_getcpuclockid(pid, ctypes.byref(number)) == 0
        assert clock_id(pid) == number.value


# -- files -------------------------------------------------------------------------------------------------------


def test_everything_lies_below_the_injected_root(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(b"a fake")
    machine = Machine(str(tmp_path))
    assert machine.read("7/stat") == b"a fake"
    fd = machine.open("7/stat")
    try:
        assert not os.get_inheritable(fd)
        assert [reread(fd), reread(fd), reread(fd, 3)] == [b"a fake", b"a fake", b"a f"]
    finally:
        os.close(fd)
    with pytest.raises(ProcessGone):
        machine.read("8/stat")
    with pytest.raises(ProcessGone):
        machine.open("8/stat")


def test_read_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"0123456789" * 30_000)
    machine = Machine(str(tmp_path))
    assert machine.read("long", to_end=True) == b"0123456789" * 30_000
    (tmp_path / "empty").write_bytes(b"")
    assert machine.read("empty") == machine.read("empty", to_end=True) == b""


def test_empty_answer_is_an_ended_process(tmp_path: Path) -> None:
    (tmp_path / "stat").write_bytes(b"")
    fd = Machine(str(tmp_path)).open("stat")
    try:
        with pytest.raises(ProcessGone):
            reread(fd)
    finally:
        os.close(fd)


# -- the calendar ------------------------------------------------------------------------------------------------


def test_start_unix_of_injected_clocks() -> None:
    machine = Machine(ticks=100, boottime_ns=lambda: 50_000_000_000, now=lambda: 1_000_000.0)
    assert machine.start_unix(5000) == 1_000_000.0
    assert machine.start_unix(4000) == pytest.approx(999_990.0, abs=1e-6)
    assert machine.start_unix(0) == pytest.approx(999_950.0, abs=1e-6)
