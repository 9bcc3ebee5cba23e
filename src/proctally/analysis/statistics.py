"""Statistics of a few runs: middle and spread, how far two groups are apart, and what the next value stays below.

Runs are few and their noise is not normal. So the middle is the median, and two groups are compared by the shift of
Hodges and Lehmann with the exact interval of Mann and Whitney, which one strange run changes little.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = 1e-9  # seconds, bytes or a count: below this no ratio is formed
LEVEL = 0.05  # share of comparisons of equal groups whose interval leaves 0 out
MIN_RUNS = 4  # on each side: of 3 against 3 even the clearest order comes by chance in 2 of 20 cases
MAX_RUNS = 1000  # on each side: what needs more is not decided by runs
EXACT = 60  # values on both sides whose order is counted exactly; above, the normal distribution is as good
DETECTION = 2.8  # distance in standard errors that 8 of 10 comparisons see at 5 %: quantiles 1.96 and 0.84

# Quantiles of Student's t for 1, 2, ... degrees of freedom (a test integrates the density): one-sided 95 %. Beyond the
# end the last stands: a little more than the true one.
ONE_SIDED = (
    6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753,
    1.746, 1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697,
)  # fmt: skip


class Group:
    """Values of one figure over runs.

    `mad`: the median distance from the median, times 1.4826 (a normal's sigma); None for one value, of which no spread
    is known.
    """

    __slots__ = ("high", "low", "mad", "median", "values")

    def __init__(self, values: Sequence[float]) -> None:
        self.values = tuple(values)
        self.median = median(values)
        self.low = min(values)
        self.high = max(values)
        self.mad = None if len(values) < 2 else 1.4826 * median(abs(value - self.median) for value in values)


@dataclass(frozen=True, slots=True)
class Interval:
    """The interval of 95 % of a shift.

    `p`: how often chance orders equal groups as clearly, in either direction; a tie counts against an order. `spread`:
    the standard deviation of the values of a side.
    """

    low: float
    high: float
    p: float
    spread: float


@dataclass(frozen=True, slots=True)
class Shift:
    """Distance from BASE to NEW: in logarithms where `is_ratio`, else in the unit of the values.

    `middle`: the median of all differences (Hodges and Lehmann). With fewer than four values on a side there is no
    interval, and `middle` is the difference of the medians.
    """

    is_ratio: bool
    middle: float
    interval: Interval | None


def shift(base: Sequence[float], new: Sequence[float], *, as_ratio: bool = True) -> Shift:
    """Return how far NEW is above BASE. `as_ratio`: in logarithms, unless a value is 0."""
    is_ratio = as_ratio and min(*base, *new) > NOTHING
    if min(len(base), len(new)) < MIN_RUNS:
        base, new = [median(base)], [median(new)]
    if is_ratio:
        base, new = [math.log(value) for value in base], [math.log(value) for value in new]
    if len(base) == 1:
        return Shift(is_ratio, new[0] - base[0], None)
    base, new = sorted(base, reverse=True), sorted(new)  # of many runs, differences that are partly sorted
    differences = sorted([after - before for before in base for after in new])
    outside = _differences_outside(len(base), len(new))
    against = min(bisect_right(differences, 0), len(differences) - bisect_left(differences, 0))
    p = min(1.0, 2 * _share_at_most(len(base), len(new), against))
    interval = Interval(differences[outside], differences[-1 - outside], p, spread(base, new))
    return Shift(is_ratio, median(differences), interval)


@cache
def _differences_outside(size: int, other: int) -> int:
    """Return how many of the sorted differences are below the interval, and as many above it."""
    count = 0
    while _share_at_most(size, other, count) <= LEVEL / 2:
        count += 1
    return count - 1


def _share_at_most(size: int, other: int, count: int) -> float:
    """Return how often at most this many differences of equal groups are below 0 (Mann and Whitney)."""
    if size + other <= EXACT:
        return sum(_orders(size, other)[: count + 1]) / math.comb(size + other, size)
    deviation = math.sqrt(size * other * (size + other + 1) / 12)
    return math.erfc((size * other / 2 - count - 0.5) / deviation / math.sqrt(2)) / 2


@cache
def _orders(size: int, other: int) -> list[int]:
    """Return in how many orders of two groups 0, 1, ... pairs are the wrong way round: a Gaussian binomial."""
    ways = [1] + [0] * (size * other)
    for step in range(1, size + 1):
        for place in range(size * other, other + step - 1, -1):
            ways[place] -= ways[place - other - step]
        for place in range(step, size * other + 1):
            ways[place] += ways[place - step]
    return ways


def holm(levels: Sequence[float]) -> list[bool]:
    """Return which of several p-values count at 5 % altogether (Holm): at most 5 % of such sets have a false one."""
    found = [False] * len(levels)
    for rank, place in enumerate(sorted(range(len(levels)), key=levels.__getitem__)):
        if levels[place] * (len(levels) - rank) > LEVEL:
            break
        found[place] = True
    return found


def spread(*groups: Sequence[float]) -> float:
    """Return the standard deviation of values around the mean of their group; of two values or more."""
    distances = [value - middle for group in groups for middle in (fmean(group),) for value in group]
    return math.sqrt(sum(each * each for each in distances) / (len(distances) - len(groups)))


def runs_needed(deviation: float, gap: float) -> int:
    """Return the runs a side with which 8 of 10 comparisons see a gap that is not 0."""
    return max(MIN_RUNS, math.ceil(2 * (DETECTION * deviation / gap) ** 2 + 2))


def gap_seen(deviation: float, runs: int) -> float:
    """Return the gap that 8 of 10 comparisons of this many runs a side see: what `runs_needed` inverts."""
    return DETECTION * deviation / math.sqrt((runs - 2) / 2)


def next_below(values: Sequence[float]) -> float | None:
    """What the next value stays below with 95 %, if values spread as a normal distribution does; None for one value.

    The prediction interval of a normal sample (Hahn and Meeker, Statistical Intervals): it widens with the spread, and
    the more the fewer values there are.
    """
    if len(values) < 2:
        return None
    quantile = ONE_SIDED[min(len(values) - 1, len(ONE_SIDED)) - 1]
    return fmean(values) + quantile * spread(values) * math.sqrt(1 + 1 / len(values))
