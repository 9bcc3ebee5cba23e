"""Changes, their intervals and what a number of runs can see, as text."""

from __future__ import annotations

import math

from proctally.analysis.statistics import MAX_RUNS, gap_seen, runs_needed
from proctally.text.units import number, percentage, scale

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.analysis.statistics import Shift

MAX_PERCENT = 10  # from this factor on a change is shown as a multiple
USUAL_GAP = math.log(1.05)  # change for which the number of runs is shown


def change(unit: str, moved: Shift) -> str:
    """Format a change: `+8.0 %`, where no ratio is formed `+2.500 s`, and `=`."""
    if moved.is_ratio:
        return percent(moved.middle)
    return amounts(unit, moved.middle) if moved.middle else "="


def percent(moved: float) -> str:
    """Format a logarithm of a ratio: `+8.0 %`, `x 12.0` or `=`."""
    if moved == 0:
        return "="
    ratio = math.exp(moved)
    return f"{_share(moved)} %" if ratio < MAX_PERCENT else f"x {ratio:,.1f}"


def interval(unit: str, moved: Shift) -> str:
    """Format the interval of a change in the same unit: `+1.4..+17.2`; empty where it has none."""
    found = moved.interval
    if found is None:
        return ""
    if moved.is_ratio:
        return f"{_share(found.low)}..{_share(found.high)}"
    return amounts(unit, found.low, found.high)


def _share(moved: float) -> str:
    return f"{round(100 * math.expm1(moved), 1) + 0.0:+,.1f}"  # + 0.0: no -0.0


def amounts(unit: str, *values: float, between: str = "..") -> str:
    """Format amounts with their signs and one unit: `-1.5..+2.0 s`."""
    factor, name = scale(unit, max(map(abs, values)))
    shown = [abs(value) / factor for value in values]
    texts = [f"{'-' if value < 0 else '+'}{number(each, *shown)}" for value, each in zip(values, shown, strict=True)]
    return f"{between.join(texts)} {name}".strip()


def seen(name: str, deviation: float, runs: int) -> str:
    """Return which changes of a figure this many runs a side see, by the spread of its logarithm (above 0)."""
    gap = gap_seen(deviation, runs)
    text = f"{name} spreads by {percentage(deviation)}: {runs} runs a side see {percent(gap)}"
    needed = runs_needed(deviation, USUAL_GAP)
    return f"{text}, {needed} see {percent(USUAL_GAP)}" if runs < needed <= MAX_RUNS else text
