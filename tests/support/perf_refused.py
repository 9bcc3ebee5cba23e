"""Kernels that refuse perf."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from proctally.linux.machine import Machine
from proctally.linux.perf import PerfRefused

# -- kernel.perf_event_paranoid --------------------------------------------------------------------------------------


def machine(folder: Path, *, level: int = 2, cpus: str = "0-1") -> Machine:
    """One with this `perf_event_paranoid` and these CPUs online."""
    for path, text in (("proc/sys/kernel/perf_event_paranoid", level), ("sys/devices/system/cpu/online", cpus)):
        file = folder / path
        file.parent.mkdir(parents=True)
        file.write_text(f"{text}\n")
    return Machine(str(folder / "proc"), sys=str(folder / "sys"))


# -- no descriptors --------------------------------------------------------------------------------------------------


class Giving:
    """A C library whose kernel gives every event: a file that can be mapped."""

    def __init__(self) -> None:
        self.cpus: list[int] = []

    def syscall(self, number: Any, attr: bytes, pid: Any, cpu: Any, *_: Any) -> int:
        self.cpus.append(cpu.value)
        fd = os.memfd_create("event")
        os.ftruncate(fd, 1 << 18)
        return fd


def spare(monkeypatch: pytest.MonkeyPatch, *enough: bool) -> None:
    """Whether there are enough descriptors for /proc, each time that this is asked."""
    answers = iter(enough)

    def leave_spare() -> None:
        if not next(answers):
            raise PerfRefused(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("proctally.tree.perf_source.leave_spare", leave_spare)
