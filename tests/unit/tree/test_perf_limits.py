"""perf where a kernel, descriptors or CPUs limit it."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from compiled import NO_COMPILER
from perf_refused import Giving, machine, spare
from proctally.linux import perf
from proctally.tree.perf_source import PerfSource

pytestmark = pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER))


# -- kernel.perf_event_paranoid --------------------------------------------------------------------------------------


class Refusing:
    """A C library whose kernel refuses every call."""

    def __init__(self, number: int) -> None:
        self.number = number

    def syscall(self, *_: Any) -> int:
        ctypes.set_errno(self.number)
        return -1


def refused(watch: PerfSource) -> None:
    assert watch.missing == "perf_paranoid"
    assert (watch.read(), watch.fds, watch.roll) == (None, [], None)
    watch.take(last=True)
    watch.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("level", [3, 4])
def test_a_kernel_that_is_more_paranoid(tmp_path: Path, level: int, number: int) -> None:
    """Debian and Android have 3, Ubuntu has 4: nothing for whoever lacks CAP_PERFMON."""
    watch = PerfSource(machine(tmp_path, level=level))
    watch.open(Refusing(number), 1, b"job", commands="auto", counters=False)
    refused(watch)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("level", [3, 4])
def test_attach_under_a_kernel_that_is_more_paranoid(tmp_path: Path, level: int, number: int) -> None:
    watch = PerfSource(machine(tmp_path, level=level))
    watch.attach(Refusing(number), lambda: [1, 2])
    refused(watch)


# -- no descriptors --------------------------------------------------------------------------------------------------


@pytest.fixture
def giving(monkeypatch: pytest.MonkeyPatch) -> Giving:
    """Its files know no PERF_EVENT_IOC_SET_OUTPUT."""
    monkeypatch.setattr(perf, "ioctl", lambda fd, request, argument: 0)
    return Giving()


def test_counters_that_leave_too_few_descriptors_are_given_up_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, giving: Giving
) -> None:
    spare(monkeypatch, True, False)
    watch = PerfSource(machine(tmp_path))
    watch.open(giving, 1, b"job", commands="on", counters=True)
    assert set(watch.counters().values()) == {None}
    assert (watch.missing, watch.commands_missing) == (None, None)
    assert watch.roll is not None
    assert len(watch.fds) == 3
    watch.close()


# -- perf without rings ----------------------------------------------------------------------------------------------


class Many:
    """A C library whose kernel gives counters and refuses the events of which rings are made."""

    def __init__(self) -> None:
        self.cpus: list[int] = []

    def syscall(self, number: Any, attr: bytes, pid: Any, cpu: Any, *_: Any) -> int:
        self.cpus.append(cpu.value)
        if cpu.value >= 0:
            ctypes.set_errno(errno.EMFILE)
            return -1
        return os.memfd_create("counter")


@pytest.mark.parametrize(
    ("cpus", "commands", "code", "tried"),
    [
        ("0-63", "auto", "many_cpus", [-1]),
        ("0-16", "auto", "many_cpus", [-1]),
        ("0-15", "auto", "no_descriptors", [0, -1]),
        ("0-63", "on", "no_descriptors", [0, -1]),
        ("0-1", "off", "switched_off", [-1]),
    ],
)
def test_many_cpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpus: str, commands: str, code: str, tried: list[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {max(tried[0], 0)})
    library = Many()
    watch = PerfSource(machine(tmp_path, cpus=cpus))
    watch.open(library, 1, b"job", commands=commands, counters=False)
    assert library.cpus == tried
    assert (watch.missing, watch.commands_missing) == (None, code)
    assert (watch.read(), watch.fds, watch.roll) == (0, [], None)
    watch.close()


@pytest.mark.parametrize(
    ("online", "cpuset", "opened"),
    [
        ("0-1", {0}, [0]),
        ("0-127", {6, 3, 5, 4}, [3, 4, 5, 6]),  # by the machine alone there would be none
        ("0-1", set(), [0, 1]),
    ],
)
def test_rings_are_for_the_cpus_of_the_cpuset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, giving: Giving, online: str, cpuset: set[int], opened: list[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    watch = PerfSource(machine(tmp_path, cpus=online))
    watch.open(giving, 1, b"job", commands="auto", counters=False, cpuset=lambda: cpuset)
    assert giving.cpus == [*opened, -1, -1]
    assert (watch.missing, watch.commands_missing) == (None, None)
    assert watch.roll is not None
    assert len(watch.fds) == len(opened) + 1
    watch.close()
