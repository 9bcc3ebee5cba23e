"""What a few values say of their middle and their spread: whether two groups differ, and what the next one stays below.

Runs are few and their noise is no bell. So the middle is the median, and two groups are compared by ranks (Wilcoxon,
Mann and Whitney), exactly and with ties, as soon as ranks can tell at all: of 3 runs against 3 even the clearest order
comes by chance in 2 of 20 cases. With fewer runs Student's test with the spread of both sides pooled tells, which takes
the noise for normal and alike on both sides; with one run a side nothing does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.05  # of so many comparisons of what is alike one is taken for a difference
EXACT = 40  # so many values altogether are ranked exactly; of more the sum of ranks is as good as normal
NO_SPREAD, RANKS, STUDENT = "none", "ranks", "student"  # method; none: one run a side

# Quantiles of Student's t for 1, 2, ... degrees of freedom (a test integrates the density): two-sided
# 95 % and one-sided 95 %. Beyond the end the last stands: a little more than the true one.
TWO_SIDED = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
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


@dataclass(slots=True)
class Comparison:
    """Whether two groups differ by more than their spread: None where one run a side leaves that open.

    `p`: how often a difference as large comes by chance; `method`: `ranks`, `student`, or `none` for one run a side.
    """

    differs: bool | None
    method: str
    p: float | None = None


def compare(base: Sequence[float], new: Sequence[float]) -> Comparison:
    """Whether these differ, at the level of 5 %, in either direction."""
    if len(base) == 1 and len(new) == 1:
        return Comparison(None, NO_SPREAD)
    if 2 / math.comb(len(base) + len(new), len(base)) <= LEVEL:
        p = rank_sum(base, new)
        return Comparison(p <= LEVEL, RANKS, p)
    return Comparison(_student(base, new), STUDENT)


def _student(base: Sequence[float], new: Sequence[float]) -> bool:
    """Student's two-sample test; one of the two may be a single value."""
    distance = abs(fmean(new) - fmean(base))
    freedom = len(base) + len(new) - 2
    squares = sum((value - fmean(group)) ** 2 for group in (base, new) for value in group)
    error = math.sqrt(squares / freedom * (1 / len(base) + 1 / len(new)))
    return distance > error * _quantile(TWO_SIDED, freedom)


def _quantile(table: tuple[float, ...], freedom: int) -> float:
    return table[min(freedom, len(table)) - 1]


def rank_sum(base: Sequence[float], new: Sequence[float]) -> float:
    """How often chance puts the ranks of one group as far from their middle, either way; ties share their ranks."""
    everything = sorted([*base, *new])
    doubled: dict[float, int] = {}
    ties = 0
    for index, value in enumerate(everything):
        if value not in doubled:
            count = _run_length(everything, index)
            doubled[value] = 2 * index + count + 1  # twice the mean of the ranks index+1 ... index+count
            ties += count**3 - count
    ranks = [doubled[value] for value in everything]
    total, size = len(everything), len(base)
    middle = size * (total + 1)  # twice the expectation
    away = abs(sum(doubled[value] for value in base) - middle)
    if total <= EXACT:
        return _share_as_far(ranks, size, middle, away)
    variance = size * len(new) / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance == 0:
        return 1.0
    return math.erfc(max(0.0, away / 2 - 0.5) / math.sqrt(2 * variance))


def _run_length(values: Sequence[float], index: int) -> int:
    end = index
    while end < len(values) and values[end] == values[index]:
        end += 1
    return end - index


def _share_as_far(ranks: Sequence[int], size: int, middle: int, away: int) -> float:
    """Of all choices of `size` of these ranks, the share whose sum is at least so far from the middle."""
    counts: list[dict[int, int]] = [{0: 1}] + [{} for _ in range(size)]
    for rank in ranks:
        for chosen in range(size, 0, -1):
            for total, ways in counts[chosen - 1].items():
                counts[chosen][total + rank] = counts[chosen].get(total + rank, 0) + ways
    far = sum(ways for total, ways in counts[size].items() if abs(total - middle) >= away)
    return far / math.comb(len(ranks), size)


def next_below(values: Sequence[float]) -> float | None:
    """What the next value stays below with 95 %, if values spread as a normal distribution does; None for one value.

    The prediction interval of a normal sample (Hahn and Meeker, Statistical Intervals): it widens with the spread, and
    the more the fewer values there are.
    """
    if len(values) < 2:
        return None
    middle = fmean(values)
    deviation = math.sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1))
    return middle + _quantile(ONE_SIDED, len(values) - 1) * deviation * math.sqrt(1 + 1 / len(values))
