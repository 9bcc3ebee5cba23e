"""What `attach` costs a sample as it runs: beside 3,000 processes that sleep, and beside foreign ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

from programs import Programs
from table import Row

INTERVAL = 0.1
SHORT, LONG = 3.0, 13.0  # seconds
TURNS = 3


def cpu_ns_of_sample(programs: Programs, pid: int, *options: str) -> float:
    """Return CPU nanoseconds of a sample: the difference between a long and a short attach, by wait4(2)."""
    used = []
    for seconds in (SHORT, LONG):
        record = str(programs.folder / "cost.jsonl")
        words = ["attach", "-q", "-i", str(INTERVAL), "--duration", str(seconds), "--force", "-o", record, *options]
        tracker = subprocess.Popen([programs.proctally, *words, str(pid)], env=programs.environment)
        _, _, usage = os.wait4(tracker.pid, 0)
        tracker.returncode = 0
        used.append(usage.ru_utime + usage.ru_stime)
    return (used[1] - used[0]) * 1e9 / ((LONG - SHORT) / INTERVAL)


def tracker_cost(programs: Programs) -> Iterator[Row]:
    """The least of a few turns: other work on the machine only adds."""
    with programs.tree(3000, 0.0) as pid:
        each = min(cpu_ns_of_sample(programs, pid, "--no-system", "--no-gpu") for _ in range(TURNS)) / 1e6
    yield Row("CPU ms of a sample, attach to 3,000 idle at 10 Hz", each, 10, f"{each / INTERVAL / 10:.2f} % of a core")
    for foreign in (0, 2000):
        with ExitStack() as stack:
            pid = stack.enter_context(programs.tree(10, 2.0))
            if foreign:
                stack.enter_context(programs.tree(foreign, 0.0))
            each = min(cpu_ns_of_sample(programs, pid) for _ in range(TURNS)) / 1e6
        how = f"{each / INTERVAL / 10:.2f} % of a core; the machine is read too"
        yield Row(f"CPU ms of a sample, attach to 11 beside {foreign:,} foreign processes", each, None, how)
