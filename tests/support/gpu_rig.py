"""The reader of GPUs in its helper process, with a made-up driver library."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from captured import put
from nvml_library import TWO
from proctally.host.gpu_client import GpuLimits, GpuPoller
from proctally.host.gpus import GpuSampler
from proctally.linux.gpu import GpuReading
from proctally.linux.machine import Machine

PATIENCE = 30.0  # for what takes well below a second on a machine that has nothing else to do


class Poller(GpuPoller):
    """A poller whose helper may be another program."""

    program: list[str] | None = None

    def command(self) -> list[str]:
        return self.program or super().command()


class Rig:
    """A machine with this script of a driver, and GPUs that are read from it."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.script = folder / "script"
        self.write(TWO)
        self.dev = folder / "dev"
        self.dev.mkdir()
        (self.dev / "nvidiactl").touch()
        (folder / "sys").mkdir()
        self.machine = Machine(sys=str(folder / "sys"))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(self.script)}
        self.started: list[int] = []
        self.gpus: GpuSampler | None = None

    def write(self, text: str) -> None:
        """Direct the driver anew, at once and as a whole."""
        new = self.script.with_suffix(".new")
        new.write_text(text)
        new.replace(self.script)

    def add(self, *lines: str) -> None:
        """Direct it so, and as before."""
        self.write("\n".join(lines) + "\n" + self.script.read_text())

    def start(self, *, program: list[str] | None = None, **limits: Any) -> GpuSampler:
        poller = Poller(
            self.machine,
            dev=str(self.dev),
            environment=self.environment,
            started=self.started.append,
            limits=GpuLimits(**{"pauses_ns": (0, 0, 0), **limits}),
        )
        poller.program = program
        self.gpus = GpuSampler(self.machine, dev=str(self.dev), poller=poller)
        self.gpus.start()
        return self.gpus

    def read(self, *members: int) -> GpuReading:
        """A new reading."""
        assert self.gpus is not None
        assert self.gpus.ask(members)
        return self.await_reading()

    def await_reading(self) -> GpuReading:
        gpus = self.gpus
        assert gpus is not None
        asked = time.monotonic_ns()
        last = gpus.last
        while time.monotonic_ns() - asked < PATIENCE * 1e9:
            if gpus.poller.fileno is not None:
                select.select([gpus.poller.fileno], [], [], 0.05)
            reading = gpus.take()
            if reading is not None and reading is not last:
                return reading
            if not gpus.poller.pid:
                break
        raise AssertionError(f"no reading: {gpus.skipped}")

    def derived(self, *members: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        self.read(*members)
        assert self.gpus is not None
        return self.gpus.derive(members)


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- processes -------------------------------------------------------------------------------------------------------


def on_host(rig: Rig) -> None:
    """A machine whose `/proc` is that of the host, by its thread of the kernel."""
    proc = rig.script.parent / "proc"
    put(proc.parent, "proc/2/stat", f"2 (kthreadd) S 0 0 0 0 -1 {0x00208040} {'0 ' * 45}\n")
    put(proc.parent, "proc/self/status", "NSpid:\t7\n")
    rig.machine = Machine(str(proc), sys=str(rig.script.parent / "sys"))
