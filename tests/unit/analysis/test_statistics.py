"""The statistics against second truths: densities integrated, every choice counted, and noise that is known."""

from __future__ import annotations

import itertools
import math
import random
from statistics import fmean, median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctally.analysis import statistics
from proctally.analysis.statistics import (
    LEVEL,
    ONE_SIDED,
    Group,
    Interval,
    gap_seen,
    holm,
    next_below,
    runs_needed,
    shift,
    spread,
)

patient = settings(deadline=None)


def plain(base: list[float], new: list[float]) -> Interval:
    found = shift(base, new, as_ratio=False).interval
    assert found is not None
    return found


def density(t: float, freedom: int) -> float:
    """Student's, in logarithms of the gamma function."""
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    return math.exp(scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))


def below(quantile: float, freedom: int) -> float:
    """The share below it, by Simpson's rule."""
    steps = 2000
    width = quantile / steps
    total = sum(
        (1, 4, 2)[0 if i in (0, steps) else 1 + (i % 2 == 0)] * density(i * width, freedom) for i in range(steps + 1)
    )
    return 0.5 + total * width / 3


def test_quantiles_of_student_cut_off_what_they_say() -> None:
    for freedom, quantile in enumerate(ONE_SIDED, 1):
        assert below(quantile, freedom) == pytest.approx(0.95, abs=0.00015), freedom


@pytest.mark.parametrize(("size", "other"), [(4, 4), (4, 6), (5, 5), (6, 5), (4, 9), (7, 6)])
def test_shift_interval_and_p_count_every_order(size: int, other: int) -> None:
    """By Mann and Whitney: count, in every order of two groups, the pairs that are the wrong way round."""
    everything = set(range(size + other))
    wrong = [
        sum(mine > theirs for mine in chosen for theirs in everything - set(chosen))
        for chosen in itertools.combinations(sorted(everything), size)
    ]
    noise = random.Random(size * 10 + other)
    base, new = ([noise.gauss(middle, 1) for _ in range(count)] for middle, count in ((10, size), (11, other)))
    differences = sorted(after - before for before in base for after in new)
    against = min(sum(each < 0 for each in differences), sum(each > 0 for each in differences))
    outside = max(count for count in range(size * other) if sum(each <= count for each in wrong) / len(wrong) <= 0.025)
    found = plain(base, new)
    assert found.p == pytest.approx(min(1, 2 * sum(each <= against for each in wrong) / len(wrong)))
    assert (found.low, found.high) == (differences[outside], differences[-1 - outside])
    assert shift(base, new, as_ratio=False).middle == median(differences)


def test_shift_interval_equals_that_of_scipy() -> None:
    """Computed with scipy 1.17.1: mannwhitneyu(method="exact"), and the shifts that it does not reject at 5 %."""
    base = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    new = [1.15, 0.88, 0.90, 0.74, 1.21]
    found = plain(base, new)
    assert found.p == pytest.approx(0.2544122544)
    assert (found.low, found.high) == (pytest.approx(-0.76), pytest.approx(0.15))
    assert shift(base, new, as_ratio=False).middle == pytest.approx(-0.305)


def test_shift_is_of_logarithms_unless_a_value_is_0() -> None:
    base, new = [1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]
    found = shift(base, new)
    assert found.is_ratio and math.exp(found.middle) == pytest.approx(2)
    assert found.interval is not None and math.exp(found.interval.high) == pytest.approx(8)
    assert found.interval.spread == pytest.approx(spread([math.log(value) for value in base]))
    for pair in (([0.0, *base], new), (base, [0.0, *new])):
        assert not shift(*pair).is_ratio
    assert shift([0.0] * 4, [3.0] * 4).middle == 3


def test_shift_of_few_runs_has_no_interval() -> None:
    assert shift([1.0, 2.0, 3.0], [2.0] * 9).interval is None
    assert shift([1.0, 3.0], [4.0]).middle == pytest.approx(math.log(2)), "of medians, not of logarithms"
    assert shift([1.0] * 4, [1.0] * 4).interval == Interval(0, 0, 1, 0)


def test_shift_excludes_0_exactly_where_p_is_small() -> None:
    noise = random.Random(3)
    for _ in range(300):
        base, new = ([float(noise.randrange(12) + more) for _ in range(noise.randrange(4, 9))] for more in (0, 4))
        found = plain(base, new)
        assert (found.p <= LEVEL) == (found.low > 0 or found.high < 0)


def test_shift_of_many_runs_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = random.Random(5)
    groups = [[[noise.gauss(middle, 1) for _ in range(25)] for middle in (0, more)] for more in (0.0, 0.4, 1.2)]
    exact = [plain(*pair) for pair in groups]
    monkeypatch.setattr(statistics, "EXACT", 0)
    statistics._differences_outside.cache_clear()
    try:
        for pair, expected in zip(groups, exact, strict=True):
            found = plain(*pair)
            assert found.p == pytest.approx(expected.p, abs=0.005)
            assert found.low == pytest.approx(expected.low, abs=0.02)
    finally:
        statistics._differences_outside.cache_clear()


@pytest.mark.parametrize(("base", "new"), [(4, 4), (5, 5), (5, 8), (12, 9)])
def test_interval_leaves_out_the_truth_in_one_of_twenty(base: int, new: int) -> None:
    noise = random.Random(base * 100 + new)
    times = 1500
    found = [plain([noise.gauss(10, 1) for _ in range(base)], [noise.gauss(12, 1) for _ in range(new)])
             for _ in range(times)]  # fmt: skip
    wrong = sum(not each.low <= 2 <= each.high for each in found) / times
    assert 0.02 <= wrong <= LEVEL + 3.5 * math.sqrt(LEVEL * (1 - LEVEL) / times)


def test_one_strange_run_changes_no_order() -> None:
    assert plain([1.0, 1.1, 1.2, 1.3, 90.0], [2.0, 2.1, 2.2, 2.3, 2.4]).p > LEVEL
    assert plain([1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 90.0]).p < LEVEL
    assert plain([43.0] * 5, [44.0] * 5).p < LEVEL, "counts that never vary"


def test_holm_stops_at_the_first_that_does_not_count() -> None:
    assert holm([]) == []
    assert holm([0.04]) == [True]
    assert holm([0.04, 0.01, 0.026]) == [False, True, False]  # 0.026 x 2 is above 0.05, and so 0.04 x 1 does not count
    assert holm([0.04, 0.01, 0.02]) == [True, True, True]
    assert holm([0.02, 0.03]) == [True, True]
    assert holm([0.03, 0.03]) == [False, False]


@pytest.mark.parametrize(("noise", "runs"), [(0.02, 5), (0.03, 8), (0.05, 19)])
def test_runs_needed_are_those_of_the_formula(noise: float, runs: int) -> None:
    gap = math.log(1.05)
    assert runs_needed(noise, gap) == pytest.approx(runs, abs=1)
    assert gap_seen(noise, runs_needed(noise, gap)) <= gap
    assert runs_needed(0, gap) == 4


def test_a_group_tells_its_middle_and_its_spread() -> None:
    group = Group([1.0, 2.0, 4.0, 100.0])
    assert (group.median, group.low, group.high) == (3.0, 1.0, 100.0)
    assert group.mad == pytest.approx(1.4826 * 1.5)
    assert Group([5.0]).mad is None


@pytest.mark.parametrize("count", [2, 3, 5, 20, 60])
def test_the_next_one_stays_below_in_nineteen_of_twenty(count: int) -> None:
    noise = random.Random(count)
    times = 3000
    kept = 0
    for _ in range(times):
        bound = next_below([noise.gauss(100, 7) for _ in range(count)])
        assert bound is not None
        kept += noise.gauss(100, 7) <= bound
    assert kept / times == pytest.approx(0.95, abs=0.015)


def test_of_one_nothing_follows() -> None:
    assert next_below([3.0]) is None
    assert next_below([3.0, 3.0]) == 3.0


@patient
@given(st.lists(st.floats(1, 1e9), min_size=2, max_size=30))
def test_the_next_one_stays_below_more_than_the_mean(found: list[float]) -> None:
    bound = next_below(found)
    assert bound is not None and bound >= fmean(found) * (1 - 1e-9)
