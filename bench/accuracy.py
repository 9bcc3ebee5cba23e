"""How far the CPU total of each hostile job is from the kernel's own accounting of a cgroup that holds it alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from programs import HERE, Missing, Programs
from table import Row

TESTS = HERE.parent / "tests"
sys.path.insert(0, str(TESTS))

from truth import available, cpu_truth  # noqa: E402
from workloads import WORKLOADS  # noqa: E402


def accuracy(programs: Programs) -> Iterator[Row]:
    """The share by which a total is off; at most 1 % plus 20 ms, which the target holds as a share of this job."""
    reason = available()
    if reason is not None:
        raise Missing(reason)
    for name, workload in WORKLOADS.items():
        record = programs.folder / f"{name}.jsonl"
        options = ("-i", "0.2", "--source", "procfs", "-o", str(record))
        with cpu_truth() as truth:
            job = truth.enter_argv([programs.python, "-S", str(TESTS / "workloads.py"), name])
            subprocess.run(programs.tracked(*job, options=options), env=programs.environment, check=True)
            used = truth.cpu_seconds()
        total = json.loads(record.read_text().splitlines()[-1])["cpu"]["total_seconds"]
        off = abs(total - used)
        how = f"{total:.3f} s of {used:.3f} s ({total - used:+.3f} s): {workload.description}"
        target = 0.01 + 0.02 / used if workload.seen else None
        yield Row(f"CPU total, {name}, off by a share of", off / used, target, how)
