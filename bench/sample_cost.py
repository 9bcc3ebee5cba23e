"""What one sample costs, against a loop in C that reads the same processes, and how it grows with their number."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Iterator
from statistics import median

from programs import HERE, Missing, Programs
from table import Row

WAKES = 20.0


def per_pass(programs: Programs, pid: int, passes: int, interval: float) -> tuple[list[int], list[int]]:
    """CPU nanoseconds of each pass of proctally and of the C loop, in turn: half an interval apart."""
    arguments = [str(pid), str(passes), str(interval)]
    with subprocess.Popen([programs.compiled("reference"), *arguments], stdout=subprocess.PIPE, text=True) as reference:
        time.sleep(interval * 0.4)
        sampler = subprocess.run(
            [programs.python, str(HERE / "sampler_loop.py"), *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reference.stdout is not None
        lines = reference.stdout.read().split()
    if sampler.returncode or reference.returncode:
        raise Missing(f"the loop in {'Python' if sampler.returncode else 'C'} failed")
    return [int(line) for line in sampler.stdout.split()], [int(line) for line in lines]


def sample_cost(programs: Programs, count: int = 300, passes: int = 33) -> Iterator[Row]:
    """Two passes are left out: they open what stays open. The rest spans several turns of what is read slowly."""
    for name, rate, target in (("idle", 0.0, 0.1), (f"waking {WAKES:g}/s", WAKES, 0.6)):
        with programs.tree(count, rate) as pid:
            ours, theirs = per_pass(programs, pid, passes, 1.0)
        ours, theirs = ours[2:], theirs[2:]
        ratio = sum(ours) / sum(theirs)
        middle = median(a / b for a, b in zip(ours, theirs, strict=True))
        how = (
            f"mean {sum(ours) / len(ours) / 1e3 / count:.2f} us a process, C loop "
            f"{sum(theirs) / len(theirs) / 1e3 / count:.2f}; median of pairs {middle:.3f}"
        )
        yield Row(f"CPU of a sample, {count} {name} / C loop", ratio, target, how)


def scaling(programs: Programs, counts: tuple[int, ...] = (10, 100, 1000, 5000, 10000)) -> Iterator[Row]:
    """The median sample, per process; children that ran wake twice a second, so each ran before each sample."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for name, rate in (("idle", 0.0), ("that ran", 2.0)):
        first = None
        for count in counts:
            with programs.tree(count, rate) as pid:
                done = subprocess.run(
                    [programs.python, str(HERE / "sampler_loop.py"), str(pid), "8", "1"],
                    stdout=subprocess.PIPE,
                    text=True,
                )
            if done.returncode:
                raise Missing("the loop failed")
            each = median(int(line) for line in done.stdout.split()[2:]) / 1e3 / count
            first = first if first is not None else each
            beyond = " (beyond the limit of descriptors)" if 2 * count > hard - 64 else ""
            how = f"{each / first:.2f} x that of {counts[0]}; a sample {each * count / 1e3:.2f} ms"
            yield Row(f"us a process, {count} {name}{beyond}", each, None, how)
