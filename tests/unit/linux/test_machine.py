"""The machine as an injected value, and the classes of kernel errors."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
from pathlib import Path

import pytest

from proctally.errors import AccessDenied, FileServed, NoDescriptors, NoProcfs, ProcessGone
from proctally.linux import machine as machine_module
from proctally.linux.machine import Machine, classify, clock_id, reread, why_no_procfs
from proctally.linux.mounts import MountReader, served
from proctally.linux.sources import KeptFile

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
    for read in (machine.read, machine.open, machine.listdir):
        with pytest.raises(NoProcfs, match=f"procfs is not mounted at {tmp_path}; mount it"):
            read("8/stat")
        (tmp_path / "self").mkdir()
        with pytest.raises(ProcessGone):
            read("8/stat")
        (tmp_path / "self").rmdir()


def test_procfs_that_was_missing_is_found_once_it_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Machine()
    first.procfs_missing = "procfs_missing"
    monkeypatch.setattr(machine_module, "_machine", first)
    monkeypatch.setattr(machine_module, "host_machine", Machine)
    found = machine_module.this_machine()
    assert found is not first and machine_module.this_machine() is found


def test_read_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"0123456789" * 30_000)
    machine = Machine(str(tmp_path))
    assert machine.read("long", to_end=True) == b"0123456789" * 30_000
    (tmp_path / "empty").write_bytes(b"")
    assert machine.read("empty") == machine.read("empty", to_end=True) == b""


def test_what_is_mounted_over_a_file_never_holds_the_reader_nor_fills_its_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meminfo")
    (tmp_path / "stat").symlink_to("/dev/zero")
    machine = Machine(str(tmp_path))
    assert machine.read("meminfo", to_end=True) == b""
    assert KeptFile(machine, "meminfo").read() is None
    with pytest.raises(OSError, match="File too large"):
        machine.read("stat", to_end=True)
    endless = KeptFile(machine, "stat")
    assert endless.read() is None and getattr(endless.error, "errno", None) == errno.EFBIG


def test_cpu_count_never_opens_a_fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: pytest.fail("sysconf(3) waits for a writer"))
    online = tmp_path / "devices/system/cpu/online"
    online.parent.mkdir(parents=True)
    os.mkfifo(online)
    assert Machine(str(tmp_path), sys=str(tmp_path)).cpu_count() == len(os.sched_getaffinity(0))


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


def test_start_unix_is_the_same_although_clocks_drift() -> None:
    """The clocks are read one after the other, with any delay between them; the shortest one counts."""
    delays = itertools.cycle([1.0, 2.0, 1.0, 0.5, 1.0, 4.0, 0.25])
    unix = [1_000_000.0]

    def now() -> float:
        unix[0] += next(delays)
        return unix[0]

    machine = Machine(ticks=100, boottime_ns=lambda: int((now() - 900_000) * 1e9), now=now)
    assert [machine.start_unix(4000) for _ in range(3)] == [pytest.approx(900_039.5)] * 3
    assert machine.start_unix(4001) - machine.start_unix(4000) == pytest.approx(0.01)


# -- procfs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "status", "code"),
    [
        (None, None, "procfs_missing"),
        ("", None, "procfs_foreign"),  # a link that leads nowhere: the reader has no pid there
        ("1", None, "procfs_foreign"),
        ("own", "NSpid:\t{own}\t1\n", "procfs_foreign"),  # the same number by chance, in an outer namespace
        ("own", "NSpid:\t{own}\n", None),
        ("own", "", None),  # a kernel without pid namespaces
        ("own", None, None),
        ("folder", None, "procfs_missing"),  # something else is mounted there
    ],
)
def test_procfs_is_asked_whether_it_shows_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str | None, status: str | None, code: str | None
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 4321)
    folder = tmp_path / "4321"
    folder.mkdir()
    if status is not None:
        (folder / "status").write_text("Name:\tx\n" + status.format(own=4321))
    if link == "folder":
        (tmp_path / "self").mkdir()
    elif link:
        os.symlink("4321" if link == "own" else link, tmp_path / "self")
    elif link == "":

        def nowhere(path: str) -> str:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

        os.symlink("nowhere", tmp_path / "self")
        monkeypatch.setattr(os, "readlink", nowhere)
    assert why_no_procfs(Machine(str(tmp_path))) == code


def test_without_procfs_no_file_of_a_process_is_opened(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("a stranger")
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    machine = Machine(str(tmp_path))
    machine.procfs_missing = "procfs_foreign"
    for call in (lambda: machine.read("7/stat"), lambda: machine.open("7/stat"), machine.need_procfs):
        with pytest.raises(NoProcfs, match="another pid namespace"):
            call()
    assert machine.read("meminfo").startswith(b"MemTotal")


# -- files that a daemon serves ----------------------------------------------------------------------------------

MOUNTS = b"""\
22 1 8:1 / / rw - ext4 /dev/vda rw
23 22 0:5 / /proc rw - proc proc rw
24 23 0:40 /proc/meminfo /proc/meminfo rw - fuse.lxcfs lxcfs rw
25 23 8:1 /f /proc/uptime rw - ext4 /dev/vda rw
26 23 0:41 / /proc/sys rw - fuse.sysboxfs sysboxfs rw
27 23 0:40 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw
28 23 0:5 /stat /proc/stat rw - proc proc rw
29 22 0:42 / /srv rw - fuse.sshfs there: rw
30 22 0:43 / /sys/devices/system/cpu rw - fuse x rw
31 23 0:44 / /proc/4321/io rw - nfs4 there:/io rw
"""


def test_places_that_a_daemon_serves() -> None:
    places = {"/proc/meminfo", "/proc/sys", "/sys/devices/system/cpu", "/proc/4321/io"}
    assert served(MOUNTS, ("/proc", "/sys")) == places
    assert served(MOUNTS + b"32 22 0:5 / /proc rw - proc proc rw\n", ("/proc", "/sys")) == {"/sys/devices/system/cpu"}


def test_served_file_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 4321)
    machine = Machine("/nowhere/proc", sys="/nowhere/sys")
    machine.served = frozenset({"/nowhere/proc/sys", "/nowhere/proc/4321/io", "/nowhere/sys/devices/system/cpu"})
    for path in ("sys/kernel/perf_event_paranoid", "self/io", "4321/io"):
        with pytest.raises(FileServed):
            machine.read(path)
        with pytest.raises(FileServed):
            machine.open(path)
    with pytest.raises(FileServed):
        machine.read_sys("devices/system/cpu/online")
    for path in ("sysvipc/shm", "4321/iox", "self/status"):
        with pytest.raises(NoProcfs):
            machine.read(path)
    assert machine.refused == {
        f"/nowhere/{path}" for path in (
            "proc/sys/kernel/perf_event_paranoid", "proc/self/io", "proc/4321/io", "sys/devices/system/cpu/online",
        )
    }  # fmt: skip
    assert machine.cpu_count() == len(os.sched_getaffinity(0))


def test_served_file_is_what_another_process_read(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path))
    machine.served = frozenset({f"{tmp_path}/meminfo"})
    file = KeptFile(machine, "meminfo")
    assert file.read() is None and isinstance(file.error, FileServed)
    machine.aside = {"meminfo": b"MemTotal: 1 kB\n"}.__getitem__
    assert file.read() == machine.read_or_aside("meminfo") == b"MemTotal: 1 kB\n"
    assert file.error is None


@pytest.mark.parametrize("heeds", [True, False])
def test_mount_of_a_daemon_is_noticed_when_mounts_change(tmp_path: Path, heeds: bool) -> None:
    machine = Machine(str(tmp_path))
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_bytes(b"30 1 0:4 / /proc rw - proc proc rw\n")
    machine.note_served()
    if not heeds:  # a caller of one function waits for the answer
        machine.forget_served()
    reader = MountReader(machine, os.statvfs)
    reader.read(lambda number, source: None, 0)
    assert not machine.is_served(f"{tmp_path}/cpuinfo")
    (tmp_path / "self/mountinfo").write_text(f"31 30 0:50 / {tmp_path}/cpuinfo rw - fuse.lxcfs lxcfs rw\n")
    reader.read(lambda number, source: None, 0)
    assert machine.is_served(f"{tmp_path}/cpuinfo") == heeds
    reader.file.close()
