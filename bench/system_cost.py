"""What one sample of the whole machine costs: here, and parsed from the files of a machine of 256 cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from programs import HERE, Missing, Programs
from table import Row

TESTS = HERE.parent / "tests" / "support"
sys.path.insert(0, str(TESTS))

import bighost  # noqa: E402

HOST_MS = 1.5
BIG_MS = 8.0


def system_cost(programs: Programs, passes: int = 200) -> Iterator[Row]:
    """CPU milliseconds of reading and deriving, the median; the first pass, which reads what stays, is noted."""
    folder = Path(programs.folder) / "big-host"
    bighost.build(folder)
    for name, roots, target in (
        (f"this machine, {os.cpu_count()} CPUs", (), HOST_MS),
        ("256 cores, 100 disks, 200 interfaces", (str(folder / "proc"), str(folder / "sys")), BIG_MS),
    ):
        done = subprocess.run(
            [programs.python, str(HERE / "system_loop.py"), str(passes), *roots], stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise Missing("the loop failed")
        first, *rest = (int(line) / 1e6 for line in done.stdout.split())
        how = f"mean {sum(rest) / len(rest):.3f}, worst {max(rest):.3f}; the first {first:.2f}"
        yield Row(f"CPU ms of a system sample, {name}", median(rest), target, how)
