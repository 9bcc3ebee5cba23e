"""Where the wall time of a job went by the scheduler's own events, from a tracefs instance. It takes root.

The events are `sched_switch`, `sched_wakeup`, `sched_wakeup_new`, `sched_process_fork` and `sched_process_exit`.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVENTS = ["sched_switch", "sched_wakeup", "sched_wakeup_new", "sched_process_fork", "sched_process_exit"]
LINE = re.compile(r"^.*\[(\d+)\] \S+ +(\d+\.\d+): (\w+): (.*)$")
SWITCH = re.compile(r"prev_pid=(\d+) .*prev_state=(\S+) ==> .*next_pid=(\d+) ")
PID = re.compile(r"(?<![a-z_])pid=(\d+)")
FORK = re.compile(r"pid=(\d+) .*child_pid=(\d+)")


@contextmanager
def trace(kilobytes: int = 16384) -> Iterator[Path]:
    """An instance that records; the file of its events. Raises OSError where there is no tracefs."""
    with tempfile.TemporaryDirectory() as mount:
        if subprocess.run(["mount", "-t", "tracefs", "none", mount], capture_output=True).returncode:
            raise OSError("tracefs cannot be mounted")
        instance = Path(mount, "instances", f"proctally-{os.getpid()}")
        try:
            instance.mkdir()
            (instance / "trace_clock").write_text("mono")
            (instance / "buffer_size_kb").write_text(str(kilobytes))
            for event in EVENTS:
                (instance / "events/sched" / event / "enable").write_text("1")
            yield instance / "trace"
            for stats in instance.glob("per_cpu/cpu*/stats"):
                assert "\noverrun: 0\n" in stats.read_text(), "events were lost"
        finally:
            if instance.exists():
                instance.rmdir()
            subprocess.run(["umount", mount], check=True)


class Thread:
    """`state`: on a CPU `C`, ready `R`, else as the kernel shows it; `forks`: in a fork since it got its CPU."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.forks = False


class Job:
    """The threads of a job, and the parts of the wall so far, in seconds."""

    def __init__(self, root: int, cpus: int, start: float) -> None:
        self.threads = {root: Thread("S")}
        self.cpus = cpus
        self.at = start
        self.parts = dict.fromkeys(("running", "ready", "disk", "asleep"), 0.0)

    def advance(self, at: float) -> None:
        """Time goes on in the present states."""
        states = [thread.state for thread in self.threads.values()]
        on, ready = states.count("C"), states.count("R")
        length = max(0.0, at - self.at)
        self.at = max(self.at, at)
        if on + ready:
            share = on / min(on + ready, self.cpus)
            self.parts["running"] += length * share
            self.parts["ready"] += length * (1 - share)
        else:
            self.parts["disk" if "D" in states else "asleep"] += length

    def event(self, name: str, text: str) -> None:
        if name == "sched_switch":
            match = SWITCH.search(text)
            assert match is not None
            self._switch(int(match[1]), match[2], int(match[3]))
        elif name == "sched_process_fork":
            match = FORK.search(text)
            assert match is not None
            if int(match[1]) in self.threads:
                self.threads[int(match[1])].forks = True
                self.threads[int(match[2])] = Thread("new")
        else:
            match = PID.search(text)
            assert match is not None
            pid = int(match[1])
            if name == "sched_process_exit" and pid in self.threads:
                self.threads[pid].state = "exits"  # until it leaves its CPU
            elif pid in self.threads and self.threads[pid].state not in ("C", "exits"):
                self.threads[pid].state = "R"

    def _switch(self, before: int, state: str, after: int) -> None:
        thread = self.threads.get(before)
        if thread is not None:
            if thread.state == "exits" or state[0] in "XZ":
                del self.threads[before]
            elif state[0] == "R":
                thread.state = "R"
            else:  # a parent in vfork(2) is D
                thread.state = "S" if thread.forks and state[0] == "D" else state[0]
        thread = self.threads.get(after)
        if thread is not None:
            thread.state, thread.forks = "C", False


def parts(lines: list[str], root: int, cpus: int, start: float, end: float) -> dict[str, float]:
    """The parts of the wall from `start` to `end`, seconds of the monotonic clock. `ready` has what a quota took."""
    job = Job(root, cpus, start)
    for line in lines:
        match = LINE.match(line)
        if match is None:
            continue
        at = float(match[2])
        if at > end:
            break
        if at >= start:
            job.advance(at)
        job.event(match[3], match[4])
    job.advance(end)
    return job.parts
