"""Where the wall time of a job went, as `run` has it, and by the scheduler's own events (root, tracefs).

Each part is within 6 % of the wall of what is true, or inside its bounds. The events do not tell a quota from other
jobs: ready and throttled are compared together.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from programs import Missing, Programs
from table import Line

import sched_trace
from beside import busy_processes

TOLERANCE = 0.06
PARTS = ("running", "ready", "disk", "asleep")
BURN = """
import os, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
def fork(count, work):
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            work()
            os._exit(0)
        pids.append(pid)
    for pid in pids: os.waitpid(pid, 0)
"""
SPIN = "burn(0.5)"
FSYNC = "f = open(sys.argv[1], 'w')\nfor _ in range(400):\n    f.write('x'); f.flush(); os.fsync(f.fileno())"
VFORK = "for _ in range(400): os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)"
TOGETHER = "for _ in range(4):\n    fork(2, lambda: burn(0.2)); time.sleep(0.6)"
STOPPED = """
child = os.fork()
if child == 0:
    burn(0.2); os.kill(os.getpid(), 19); burn(0.2); os._exit(0)
os.waitid(os.P_PID, child, os.WSTOPPED); time.sleep(1); os.kill(child, 18); os.waitpid(child, 0)
"""
PING_PONG = """
a, b = os.pipe(), os.pipe()
def answer():
    for _ in range(8000): os.read(a[0], 1); os.write(b[1], b'x')
def ask():
    for _ in range(8000): os.write(a[1], b'x'); os.read(b[0], 1)
pid = os.fork()
if pid == 0: answer(); os._exit(0)
ask()
"""
MAKE = "def work():\n    for _ in range(6): burn(0.05); time.sleep(0.1)\nfork(2, work)"
PIPELINE = "dd if=/dev/zero bs=64k count=3000 2>/dev/null | cat | md5sum >/dev/null"


class Job:
    """A Python job, or words of a shell. `beside`: busy neighbours; `pinned`: all on one CPU; `quota`: in percent."""

    def __init__(
        self,
        name: str,
        code: str,
        *,
        beside: int = 0,
        pinned: bool = False,
        quota: int = 0,
        accounted: bool = False,
        shell: bool = False,
    ) -> None:
        self.name = name
        self.code = code
        self.beside = beside
        self.pinned = pinned
        self.quota = quota
        self.accounted = accounted
        self.shell = shell

    def command(self, folder: Path) -> list[str]:
        if self.shell:
            return ["sh", "-c", self.code]
        pin = f"os.sched_setaffinity(0, {{{_first_cpu()}}})\n" if self.pinned else ""
        return [sys.executable, "-S", "-c", BURN + pin + self.code, str(folder / "written")]


JOBS = (
    Job("spinner pinned beside 3", SPIN, beside=3, pinned=True),
    Job("quota 20 %", SPIN, quota=20),
    Job("quota 100 %, 4 spinners", f"fork(4, lambda: {SPIN})", quota=100),
    Job("5 x sleep 0.3", "for _ in range(5): time.sleep(0.3)"),
    Job("fsync 400 times, accounted", FSYNC, accounted=True),
    Job("fsync 400 times", FSYNC),
    Job("vfork + exec 400 times", VFORK),
    Job("dd, cat, md5sum", PIPELINE, shell=True),
    Job("two together, then asleep", TOGETHER),
    Job("4 spinners", f"fork(4, lambda: {SPIN})"),
    Job("8 spinners beside 4", f"fork(8, lambda: {SPIN})", beside=4),
    Job("naps of 5 ms", "for _ in range(300): time.sleep(0.005)"),
    Job("stopped for 1 s", STOPPED),
    Job("ping-pong over pipes", PING_PONG),
    Job("2 workers with sleeps", MAKE),
)


class Parts:
    """One job: the truth, and what the summary has, in shares of the wall."""

    def __init__(self, name: str, wall: float, truth: dict[str, float], found: dict[str, float]) -> None:
        self.name = name
        self.wall = wall
        self.cells = []
        self.missed = False
        for part in PARTS:
            low, expected, high = bounds(found, part)
            if part == "ready":
                low, expected, high = (
                    a + b for a, b in zip((low, expected, high), bounds(found, "throttled"), strict=True)
                )
            share, *ends = (value / wall for value in (truth[part], expected, low, high))
            is_right = abs(share - ends[0]) <= TOLERANCE or ends[1] <= share <= ends[2]
            self.missed |= not is_right
            wide = f" [{100 * ends[1]:.0f}, {100 * ends[2]:.0f}]" if ends[2] - ends[1] > TOLERANCE / 2 else ""
            self.cells.append(f"{100 * share:.1f}, {100 * ends[0]:.1f}{wide}{'' if is_right else ' MISSED'}")

    def __str__(self) -> str:
        return f"| {self.name} | {self.wall:.2f} | {' | '.join(self.cells)} |"


class Head:
    """The head of a table of `Parts`."""

    missed = False

    def __str__(self) -> str:
        names = ["% of the wall: truth, expected [bounds]", "wall s", "running", "ready + throttled", "disk", "asleep"]
        return f"\n| {' | '.join(names)} |\n|---|{'---:|' * (len(names) - 1)}"


def bounds(found: dict[str, float], part: str) -> tuple[float, float, float]:
    expected = found[f"{part}_seconds"]
    return found.get(f"{part}_low_seconds", expected), expected, found.get(f"{part}_high_seconds", expected)


def wall_time(programs: Programs) -> Iterator[Line]:
    if os.geteuid() != 0:
        raise Missing("a scheduler trace takes root")
    yield Head()
    for job in JOBS:
        for _ in range(3):  # a busy machine can lose events
            try:
                yield measured(programs, job)
                break
            except (AssertionError, OSError) as error:
                print(f"{job.name}: {error}", file=sys.stderr)


def measured(programs: Programs, job: Job) -> Parts:
    record = programs.folder / "time.jsonl"
    record.unlink(missing_ok=True)
    quota: Any = quota_cgroup(job.quota) if job.quota else nullcontext()
    command = programs.tracked(*job.command(programs.folder), options=("--no-record", "-o", str(record)))
    beside = busy_processes(job.beside, _first_cpu() if job.pinned else None)
    with beside, delay_accounting(job.accounted), quota as cgroup, sched_trace.trace() as events:
        if cgroup is not None:
            command = ["sh", "-c", f"echo $$ > {cgroup}/cgroup.procs; exec {shlex.join(command)}"]
        subprocess.run(command, env=programs.environment, check=True)
        lines = events.read_text(errors="replace").splitlines()
    first, *_, summary = map(json.loads, record.read_text().splitlines())
    start = first["started_at"] - time.time() + time.monotonic()
    found = summary["time"]
    wall = sum(found[f"{part}_seconds"] for part in (*PARTS, "throttled"))
    cpus = 1 if job.pinned else len(os.sched_getaffinity(0))
    return Parts(job.name, wall, sched_trace.parts(lines, first["pid"], cpus, start, start + wall), found)


@contextmanager
def delay_accounting(wanted: bool) -> Iterator[None]:
    switch = Path("/proc/sys/kernel/task_delayacct")
    before = switch.read_text()
    if wanted:
        switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text(before)


@contextmanager
def quota_cgroup(percent: int) -> Iterator[Path]:
    mount = next((each for each in cpu_mounts()), None)
    if mount is None:
        raise OSError("no CPU controller for a quota")
    folder = mount / f"proctally-bench-{os.getpid()}"
    folder.mkdir()
    try:
        if (folder / "cpu.cfs_quota_us").exists():
            (folder / "cpu.cfs_quota_us").write_text(f"{1000 * percent}")
        else:
            (folder / "cpu.max").write_text(f"{1000 * percent} 100000")
        yield folder
    finally:
        folder.rmdir()


def cpu_mounts() -> Iterator[Path]:
    """Hierarchies in which a cgroup can have a CPU quota."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        mount = Path(fields.split()[4])
        if (
            kind == "cgroup"
            and "cpu" in options.split(",")
            or kind == "cgroup2"
            and "cpu" in (mount / "cgroup.subtree_control").read_text().split()
        ):
            yield mount


def _first_cpu() -> int:
    return min(os.sched_getaffinity(0))
