"""The code for a perf that cannot be had."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path
from typing import Any

import pytest

from perf_made import fake
from proctally.linux import perf_attach
from proctally.linux.machine import NANOSECONDS, Machine
from proctally.tree.perf_source import PerfSource
from proctally.tree.sample import spread


class Refusing:
    """A C library whose kernel refuses every call."""

    def __init__(self, number: int) -> None:
        self.number = number

    def syscall(self, *_: Any) -> int:
        ctypes.set_errno(self.number)
        return -1


def machine(folder: Path, level: int | None) -> Machine:
    """One with this `perf_event_paranoid`."""
    file = folder / "proc/sys/kernel/perf_event_paranoid"
    file.parent.mkdir(parents=True)
    if level is not None:
        file.write_text(f"{level}\n")
    return Machine(str(folder / "proc"), sys=str(folder / "sys"))


def opened(machine: Machine, library: object, commands: str = "auto") -> PerfSource:
    source = PerfSource(machine)
    source.open(library, 1, b"job", commands=commands, counters=False)
    return source


@pytest.mark.parametrize("level", [-1, 0, 2, 3, 4, None])
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, "perf_refused"),
        (errno.EPERM, "perf_refused"),
        (errno.ENOSYS, "no_syscall"),
        (errno.EMFILE, "no_descriptors"),
        (errno.ENFILE, "no_descriptors"),
        (errno.ENOENT, "no_counter"),
        (errno.ENODEV, "no_counter"),
        (errno.EOPNOTSUPP, "no_counter"),
        (errno.ENOMEM, "no_locked_memory"),
        (errno.EBUSY, "no_counter_left"),
        (errno.EINVAL, "EINVAL"),
        (errno.E2BIG, "E2BIG"),
        (errno.ESRCH, "ESRCH"),
    ],
)
def test_refused_counter_has_a_code(tmp_path: Path, number: int, code: str, level: int | None) -> None:
    if code == "perf_refused" and level is not None and level > 2:
        code = "perf_paranoid"
    watch = opened(machine(tmp_path, level), Refusing(number))
    assert watch.missing == code
    assert (watch.read(), watch.fds, watch.roll) == (None, [], None)


def test_nothing_was_requested(tmp_path: Path) -> None:
    watch = PerfSource(machine(tmp_path, 2))
    assert (watch.missing, watch.commands_missing) == ("not_requested", None)


def test_no_library(tmp_path: Path) -> None:
    assert opened(machine(tmp_path, 2), None).missing == "unsupported"


def test_commands_that_are_switched_off(tmp_path: Path) -> None:
    watch = opened(machine(tmp_path, 2), Refusing(errno.ENOSYS), "off")
    assert (watch.missing, watch.commands_missing) == ("no_syscall", "switched_off")


def test_counters_of_an_idle_tree_are_read_every_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, values = [0], iter(range(1, 100))
    host = machine(tmp_path, None)
    monkeypatch.setattr(host, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(perf_attach, "ioctl", lambda fd, request, argument: 0)
    monkeypatch.setattr(perf_attach, "_value", lambda fd: next(values))
    source = PerfSource(host)
    library, _ = fake(lambda call: 0)
    now[0] = 20 * NANOSECONDS
    source.attach(library, lambda: [1])
    assert [source.read(), source.read(), source.read(is_idle=True), source.read(is_idle=True)] == [1, 2, 2, 2]
    now[0] += 10 * NANOSECONDS - 1
    assert (source.read(is_idle=True), source.take_late()) == (2, None)
    now[0] += 1
    assert (source.read(is_idle=True), source.take_late(), source.take_late()) == (3, 20 * NANOSECONDS, None)
    assert (source.read(is_idle=True), source.read(), source.take_late()) == (3, 4, 30 * NANOSECONDS)
    source.close()


def test_what_perf_shows_late_ran_since_it_was_read() -> None:
    rates = [(second * NANOSECONDS, {"perf": NANOSECONDS, "procfs": 0}) for second in (8, 9)]
    spread(rates, 10 * NANOSECONDS, {"perf": 11 * NANOSECONDS}, 0)
    assert rates == [(second * NANOSECONDS, {"perf": (second + 1) * NANOSECONDS, "procfs": 0}) for second in (8, 9)]
