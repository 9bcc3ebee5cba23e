"""A job and the intervals of its wall time, as a tracker reads them: `timed.py [-i SECONDS] [--cgroup DIR] COMMAND`

Prints the recorded intervals, one a line, and before them the truth of a scheduler trace where there is tracefs.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from proctally.linux.machine import host_machine
from proctally.linux.threads import accounts_block_delays
from proctally.tree.member import CPU
from proctally.tree.sampler import TreeSampler
from proctally.tree.time import Interval, TimeModel
from proctally.tree.time_source import TimeSource

PR_SET_CHILD_SUBREAPER = 36
FIELDS = ("length_ns", "used_ns", "cpus", "idle_ns", "born", "throttled_ns", "running", "disk", "sampled")


def packed(one: Interval) -> dict[str, Any]:
    """An interval as JSON holds it; before a model has it."""
    threads = {"/".join(map(str, key)): [round(value) for value in times] for key, times in one.threads.items()}
    return {**{field: getattr(one, field) for field in FIELDS}, "threads": threads}


def unpacked(line: dict[str, Any]) -> Interval:
    fields = dict(line)
    return Interval(fields.pop("length_ns"), fields.pop("threads"), **fields)


def modelled(lines: list[dict[str, Any]], *, accounted: bool = False) -> TimeModel:
    model = TimeModel(accounted=accounted)
    for line in lines:
        model.take(unpacked(line))
    return model


def throttled_ns(files: list[Path]) -> int:
    words = [word for file in files for word in file.read_text().split()]
    return int(words[words.index("throttled_time") + 1]) if "throttled_time" in words else 0


class Tracker:
    """One job under a sampler, with the calls of a tracker in their order."""

    def __init__(self, argv: list[str], every: float, cgroup: Path | None) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.every = every
        self.quota = [] if cgroup is None else [cgroup / "cpu.stat"]
        gate, self.go = os.pipe()
        self.root = os.fork()
        if self.root == 0:
            os.close(self.go)
            os.read(gate, 1)
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text("0")
            os.execvp(argv[0], argv)
        os.close(gate)
        self.machine = host_machine()
        self.sampler = TreeSampler(self.machine, own=os.getpid(), interval_ns=round(every * 1e9), process_lines=0)
        self.accounted = accounts_block_delays(self.machine)
        self.source = TimeSource(self.machine, descriptors=1024, accounted=self.accounted)
        self.lines: list[dict[str, Any]] = []

    def used_ns(self) -> int:
        return self.sampler.ledger.total()[CPU]

    def scan(self) -> None:
        sampler = self.sampler
        before = dict(sampler.members)
        sampler.scan()
        self.source.forget(member for pid, member in before.items() if sampler.members.get(pid) is not member)
        moved = [member for member in sampler.members.values() if member.moved_tick == sampler.tick]
        throttled = throttled_ns(self.quota)
        one = self.source.scan(moved, sampler.read_ns, used_ns=self.used_ns(), throttled_ns=throttled)
        self.lines.append(packed(one))

    def run(self) -> tuple[float, float]:
        """The job, to its end; when it started and ended, by the monotonic clock."""
        root = self.sampler.start(self.root)
        start = self.machine.monotonic_ns()
        self.source.start([root], start, used_ns=self.used_ns(), throttled_ns=throttled_ns(self.quota))
        os.close(self.go)
        due = time.monotonic()
        ended = False
        while not ended:
            due = max(due + self.every, time.monotonic())
            ended = self.wait(due)
            self.scan()
        end = self.sampler.read_ns
        os.waitpid(self.root, 0)
        return start / 1e9, end / 1e9

    def wait(self, until: float) -> bool:
        """Reap orphans until then; True when the root is a zombie."""
        while time.monotonic() < until:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                time.sleep(0.002)
            elif found.si_pid == self.root:
                return True
            else:
                member: Any = self.sampler.ended(found.si_pid)
                if hasattr(member, "pid"):
                    self.source.end(member)
                    self.source.forget([member])
                _, status, usage = os.wait4(found.si_pid, 0)
                self.sampler.reaped(member, os.waitstatus_to_exitcode(status), usage, None)
        return False


def record(argv: list[str], every: float, cgroup: Path | None = None) -> dict[str, Any]:
    """The intervals of a job, and the truth where there is one."""
    import sched_trace

    tracing: Any = nullcontext()
    if os.geteuid() == 0:
        tracing = sched_trace.trace()
    with tracing as events:
        tracker = Tracker(argv, every, cgroup)
        start, end = tracker.run()
        cpus = len(os.sched_getaffinity(0))
        truth = None
        if events is not None:
            truth = sched_trace.parts(events.read_text(errors="replace").splitlines(), tracker.root, cpus, start, end)
    return {"command": argv, "accounted": tracker.accounted, "truth": truth, "intervals": tracker.lines}


def main(words: list[str]) -> None:
    every, cgroup = 0.1, None
    if words[0] == "-i":
        every, words = float(words[1]), words[2:]
    if words[0] == "--cgroup":
        cgroup, words = Path(words[1]), words[2:]
    print(json.dumps(record(words, every, cgroup)))


if __name__ == "__main__":
    main(sys.argv[1:])
