"""`--fail-on`: limits on how far a figure may move from BASE to NEW, and whether it stays within them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from proctally.analysis.measures import FIGURES, figure
from proctally.analysis.statistics import MAX_RUNS, runs_needed
from proctally.errors import UsageError
from proctally.record.schema import BYTES, SECONDS
from proctally.text.nearest import did_you_mean
from proctally.text.units import parse_size, seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.analysis.measures import Measure
    from proctally.analysis.statistics import Shift

VERDICT = "verdict"
ROUNDING = 1e-12  # of what is compared: 1.1 - 1.0 is more than 0.1 to a computer
HOLDS, CANNOT_TELL, FAILS = "holds", "cannot_tell", "fails"  # results, the worst last
RESULTS = (HOLDS, CANNOT_TELL, FAILS)


@dataclass(slots=True)
class Gate:
    """One limit: `cpu=+10%`. `amount` is a share of BASE where `relative`, else in the unit of the figure.

    `sign`: 1 where more than that is beyond it, -1 where less is. `figure` is None for the verdict.
    """

    text: str
    figure: Measure | None
    sign: int = 1
    amount: float = 0.0
    relative: bool = False

    def result(self, moved: Shift, base: float) -> str:
        """Judge a change by its whole interval, or by itself where it has none. `base`: the median of BASE."""
        limit = self._limit(moved, base)
        found = moved.interval
        edges = (moved.middle, moved.middle) if found is None else (found.low, found.high)
        is_beyond = [self.sign * edge > limit for edge in edges]
        return FAILS if all(is_beyond) else CANNOT_TELL if any(is_beyond) else HOLDS

    def runs_needed(self, moved: Shift, base: float) -> int | None:
        """Return the runs a side that decide it in 8 of 10 cases; None without an interval, or above the maximum."""
        gap = abs(self.sign * moved.middle - self._limit(moved, base))
        if moved.interval is None or gap == 0:
            return None
        needed = runs_needed(moved.interval.spread, gap)
        return needed if needed <= MAX_RUNS else None

    def _limit(self, moved: Shift, base: float) -> float:
        """Return how far the change may go in the direction of the sign, as the change is given."""
        if moved.is_ratio:
            factor = 1 + self.sign * self.amount
            return self.sign * math.log(factor) + ROUNDING if factor > 0 else math.inf
        amount = abs(base) * self.amount if self.relative else self.amount
        return amount + ROUNDING * (abs(base) + amount)


def gates(text: str) -> list[Gate]:
    """The limits in `cpu=+10%,memory=+100MB,gpu=-20%,verdict`. Raises UsageError."""
    found = [_gate(part.strip()) for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError("--fail-on: no limit given; use cpu=+10% or memory=+100MB")
    return found


def _gate(text: str) -> Gate:
    name, equals, limit = (part.strip() for part in text.partition("="))
    if text == VERDICT:
        return Gate(text, None)
    try:
        wanted = figure(name)
    except KeyError:
        near = did_you_mean(name, (VERDICT, *(each.name for each in FIGURES)))
        remedy = near or "proctally diff --help lists the figures"
        raise UsageError(f"--fail-on {text[:60]}: unknown figure; {remedy}") from None
    sign = {"+": 1, "-": -1}.get(limit[:1])
    if not equals or sign is None:
        raise UsageError(f"--fail-on {text[:60]}: no limit given; use {name}=+10% or {name}=-10%")
    amount, relative = _amount(limit[1:].strip(), wanted, text)
    return Gate(text, wanted, sign, amount, relative)


def _amount(text: str, wanted: Measure, whole: str) -> tuple[float, bool]:
    """The number, in the figure's unit or as a share, and whether it is a share."""
    where = f"--fail-on {whole[:60]}"
    if text.endswith("%"):
        return _number(text[:-1].rstrip(), where) / 100, True
    if wanted.unit == BYTES:
        return (0.0 if text == "0" else float(parse_size(text, where))), False
    if wanted.unit == SECONDS:
        seconds = seconds_of(text)
        if seconds is None or text[:1] in "+-":
            raise UsageError(f"{where}: not a share or a time; use +10% or +2s (ms, s, m, h, d)")
        return seconds, False
    return _number(text, where), False


def _number(text: str, where: str) -> float:
    if not text.replace(".", "", 1).isdecimal() or not text.isascii():
        raise UsageError(f"{where}: {text or 'nothing'} is not a number; use +10% or +2")
    return float(text)
