"""How often `diff` is wrong and how much it sees: simulated runs whose truth is known, compared by its own code."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from programs import Programs
from table import Row

from proctally.analysis.comparison import BASE, NEW, UNCLEAR, Diff, Side
from proctally.analysis.gates import FAILS, HOLDS, gates
from proctally.analysis.statistics import runs_needed
from proctally.record.catalogue import Past

TIMES = 4_000
NOISE = 0.05  # of each run, normal
LIMIT = "wall=+5%"
RUNS = (4, 5, 6, 8, 10)


def diff_simulated(_: Programs) -> Iterator[Row]:
    """Yield shares of comparisons in percent; wall, CPU and memory have independent noise."""
    for runs in (1, 2, 3):
        null, eight = outcomes(runs, 1.0), outcomes(runs, 1.08)
        yield Row("% without a change in which it fails, untested", null[FAILS], None, f"{runs} runs a side")
        yield Row("% of true +8 % in which it holds, untested", eight[HOLDS], None, f"{runs} runs a side")
    for runs in RUNS:
        null, eight, ten, fifteen = (outcomes(runs, truth) for truth in (1.0, 1.08, 1.1, 1.15))
        how = f"{runs} runs a side"
        yield Row("% with a false claim, no change", null["claim"], 5, how)
        yield Row("% in which +10 % of wall is claimed", ten["wall"], None, how)
        yield Row(f"% of true +8 % in which {LIMIT} holds", eight[HOLDS], 0.5, how)
        yield Row("... fails", eight[FAILS], None, how)
        yield Row("% of true +15 % in which it fails", fifteen[FAILS], None, how)
        yield Row("% without a change in which it holds", null[HOLDS], None, how)
        yield Row("... fails", null[FAILS], 0.5, how)
    for noise in (0.02, 0.03, 0.05):
        runs = runs_needed(noise, 0.04879)  # the logarithm of 1.05
        decided = outcomes(runs, 1.0, noise)[HOLDS]
        yield Row(
            "% without a change in which it holds, runs as advised", decided, None, f"noise {noise:.0%}: {runs} runs"
        )


def outcomes(runs: int, truth: float, noise: float = NOISE) -> dict[str, float]:
    """Return, in percent of all comparisons: claims (of any figure, of wall), and results of the limit."""
    chance = random.Random(f"{runs} {truth} {noise}")
    found: Counter[str] = Counter()
    for _ in range(TIMES):
        base, new = side(BASE, chance, runs, 1.0, noise), side(NEW, chance, runs, truth, noise)
        diff = Diff(base, new, gates(LIMIT))
        claimed = [row.name for row in diff.tested if row.claim != UNCLEAR]
        found.update({str(diff.result): 1, "claim": bool(claimed), "wall": "wall" in claimed})
    return {name: 100 * found[name] / TIMES for name in (HOLDS, FAILS, "claim", "wall")}


def side(title: str, chance: random.Random, runs: int, factor: float, noise: float) -> Side:
    """Return made-up runs; the factor is that of the wall time."""

    def value(middle: float) -> float:
        return middle * chance.gauss(1, noise)

    made = [
        {
            "verdict": "ok",
            "wall_seconds": value(100 * factor),
            "cpu": {"total_seconds": value(300)},
            "memory": {"peak_high_bytes": value(1e9)},
        }
        for _ in range(runs)
    ]
    return Side(title, title, [Past("", {}, summary, 0, 0.0) for summary in made])
