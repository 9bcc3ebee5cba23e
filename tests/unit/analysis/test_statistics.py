"""The statistics against second truths: densities integrated, every choice counted, and noise that is known."""

from __future__ import annotations

import itertools
import math
import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctally.analysis import statistics
from proctally.analysis.statistics import (
    LEVEL,
    NO_SPREAD,
    ONE_SIDED,
    RANKS,
    STUDENT,
    TWO_SIDED,
    Group,
    compare,
    next_below,
    rank_sum,
)

patient = settings(deadline=None)
values = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=6)


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


@pytest.mark.parametrize(("table", "share"), [(TWO_SIDED, 0.975), (ONE_SIDED, 0.95)])
def test_quantiles_of_student_cut_off_what_they_say(table: tuple[float, ...], share: float) -> None:
    for freedom, quantile in enumerate(table, 1):
        assert below(quantile, freedom) == pytest.approx(share, abs=0.00015), freedom


@patient
@given(values, values)
def test_rank_sum_counts_every_choice(base: list[float], new: list[float]) -> None:
    everything = base + new
    doubled = {value: sum(other < value for other in everything) + sum(other <= value for other in everything) + 1
               for value in everything}  # fmt: skip
    ranks = [doubled[value] for value in everything]
    middle = len(base) * (len(everything) + 1)
    away = abs(sum(ranks[: len(base)]) - middle)
    choices = [sum(choice) for choice in itertools.combinations(ranks, len(base))]
    far = sum(abs(total - middle) >= away for total in choices)
    assert rank_sum(base, new) == pytest.approx(far / len(choices))


def test_many_values_are_ranked_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 40 values the normal distribution stands in for the exact one: of the same values it says the same."""
    noise = random.Random(5)
    groups = [
        (
            [round(noise.gauss(0, 1), digits) for _ in range(20)],
            [round(noise.gauss(shift, 1), digits) for _ in range(20)],
        )
        for shift in (0.0, 0.4, 1.2)
        for digits in (0, 6)  # with ties, and without
    ]
    exact = [rank_sum(*pair) for pair in groups]
    monkeypatch.setattr(statistics, "EXACT", 0)
    assert [rank_sum(*pair) for pair in groups] == pytest.approx(exact, abs=0.01)
    assert min(exact) < 0.1 < max(exact)
    assert rank_sum([1.0] * 30, [1.0] * 30) == 1.0


@pytest.mark.parametrize(
    ("base", "new", "method"),
    [
        (1, 1, NO_SPREAD),
        (1, 2, STUDENT),
        (2, 2, STUDENT),
        (3, 3, STUDENT),
        (3, 4, STUDENT),  # 2 of 35 orders are as clear as the clearest
        (4, 4, RANKS),  # 2 of 70
        (3, 5, RANKS),  # 2 of 56
        (2, 8, RANKS),  # 2 of 45
        (1, 20, STUDENT),
        (1, 39, RANKS),  # 2 of 40
    ],
)
def test_ranks_decide_where_they_can(base: int, new: int, method: str) -> None:
    found = compare([float(i) for i in range(base)], [100.0 + i for i in range(new)])
    assert found.method == method
    assert found.differs is (None if method == NO_SPREAD else True)


@pytest.mark.parametrize(("base", "new"), [(2, 2), (3, 3), (1, 5), (4, 4), (5, 3), (12, 9), (30, 30)])
def test_alike_is_called_different_in_one_of_twenty(base: int, new: int) -> None:
    noise = random.Random(base * 100 + new)
    times = 600 if base + new > 40 else 1500
    wrong = sum(
        compare([noise.gauss(10, 1) for _ in range(base)], [noise.gauss(10, 1) for _ in range(new)]).differs is True
        for _ in range(times)
    )
    slack = 3.5 * math.sqrt(LEVEL * (1 - LEVEL) / times)  # the seeds are fixed: this never changes
    assert wrong / times <= LEVEL + slack
    assert wrong / times >= 0.015  # ... and it is no test that says nothing ever


def test_what_differs_is_seen() -> None:
    assert compare([10.0, 10.1], [12.0, 12.1]).differs is True
    assert compare([10.0, 11.0], [10.5, 12.1]).differs is False
    assert compare([10.0, 10.1, 9.9, 10.05, 9.95], [10.6]).differs is True
    assert compare([10.0, 10.1, 9.9, 10.05, 9.95], [10.08]).differs is False
    assert compare([43.0, 43.0], [44.0, 44.0]).differs is True  # counts that never vary
    assert compare([43.0, 43.0], [43.0, 43.0]).differs is False
    assert compare([1.0, 1.1, 1.2, 1.3, 90.0], [2.0, 2.1, 2.2, 2.3, 2.4]).differs is False  # one strange run of ten
    assert compare([1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 90.0]).differs is True  # ... changes no order


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
