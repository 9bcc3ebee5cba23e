"""What `proctally.track()` costs at 10 Hz: the sampler by itself, and the CPU-bound program that it samples."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from math import comb
from statistics import median

from programs import HERE, Programs
from table import Row

CONFIDENCE = 0.95


def interval_of_median(values: list[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median with this confidence, whatever the distribution."""
    values = sorted(values)
    count = len(values)
    for away in range((count - 1) // 2, -1, -1):
        outside = 2 * sum(comb(count, k) for k in range(away + 1)) / 2**count
        if 1 - outside >= CONFIDENCE:
            return values[away], values[count - 1 - away]
    return values[0], values[-1]


def track_cost(programs: Programs, pairs: int = 15, seconds: float = 2.0) -> Iterator[Row]:
    """The same work bare and tracked in turn, within one process; then one long block."""
    for threads in (1, 8):
        done = subprocess.run(
            [programs.python, str(HERE / "track_program.py"), str(threads), str(pairs), str(seconds)],
            stdout=subprocess.PIPE,
            env=programs.environment,
            check=True,
        )
        told = json.loads(done.stdout)
        of = f"{threads} thread{'s' * (threads > 1)}"
        how = f"one block of {8 * seconds:g} s, its begin included; {told['late']} late samples"
        yield Row(f"share of a core, track() at 10 Hz, {of}", told["share"], 0.01, how)
        for place, what in enumerate(("wall", "CPU")):
            slower = [tracked[place] / bare[place] for bare, tracked in told["pairs"]]
            low, high = interval_of_median(slower)
            how = f"median of {pairs} pairs of {seconds:g} s, {CONFIDENCE:.0%} interval {low:.4f} to {high:.4f}"
            yield Row(f"{what}, tracked / bare, {of}", median(slower), None, how)
        if threads == 1:
            for name, taken in (("first block", told["firsts"]), ("block inside another", told["inner"])):
                begin, end = (median(each) * 1e3 for each in zip(*taken, strict=True))
                yield Row(f"ms to begin, {name}", begin, None, f"until its baseline was taken; to end {end:.1f} ms")
