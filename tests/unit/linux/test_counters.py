"""What counters can have grown by between two readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctally.linux.counters import WRAP, GrowingSum, growth, rate

SECOND = 1_000_000_000
BIG = 10**12


@pytest.mark.parametrize(
    ("before", "now", "grown"),
    [
        (5, 5, 0),
        (5, 105, 100),
        (5, 106, None),  # more than it can
        (105, 5, None),  # fell
        (BIG, 0, None),  # a zero
        (WRAP - 60, 40, 100),  # 32 bits
        (WRAP - 61, 40, None),
        (WRAP + 1, 40, None),  # had more bits than that
        (None, 5, None),
        (5, None, None),
        (-5, 5, None),
        (1 << 64, (1 << 64) + 1, None),  # negative, written without its sign
    ],
)
def test_growth_is_at_most_what_a_counter_can(before: int | None, now: int | None, grown: int | None) -> None:
    assert growth(before, now, 100) == grown


def test_growth_of_a_reset_in_32_bits_is_unknown() -> None:
    assert growth(3 << 30, 1000, BIG) is None


def test_rate_allows_for_late_counters() -> None:
    assert rate(0, 300, 1.0, 100.0) == 300.0
    assert rate(0, 301, 1.0, 100.0) is None


def totals(*readings: int, most: float = 1e6) -> list[int | None]:
    """Return the totals of one counter that is read once in a second."""
    growing = GrowingSum(1)
    return [
        growing.update({"a": (value,)}, "a", place * SECOND, lambda _: most)[0] for place, value in enumerate(readings)
    ]


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ((BIG, 0, BIG + 1000), [BIG, None, BIG + 1000]),  # a zero that the next reading takes back
        ((BIG, 0, 500, 600), [BIG, None, BIG + 500, BIG + 600]),  # it began again
        ((BIG, 300, 310), [BIG, None, BIG + 10]),
        ((0, BIG, BIG + 10), [0, None, 10]),  # the first reading was a zero
        ((5, BIG, 15), [5, None, 15]),  # a jump that the next reading takes back
        ((5, BIG, BIG + 10), [5, None, 15]),  # and one that stays
        ((WRAP - 1000, 9000), [WRAP - 1000, WRAP + 9000]),
        ((1 << 64, 5, 7), [None, None, 2]),
        ((7, (1 << 64) - 1, (1 << 64) - 1, 9), [7, None, None, 9]),
        ((BIG, 0, 7, 3, 8), [BIG, None, BIG + 7, None, BIG + 8]),
    ],
)
def test_a_total_leaves_out_what_cannot_be(readings: tuple[int, ...], expected: list[int | None]) -> None:
    assert totals(*readings) == expected


def test_one_counter_in_doubt_leaves_the_others() -> None:
    growing = GrowingSum(2)
    growing.update({"a": (100, 100), "b": (5, 5)}, "ab", 0, lambda _: 1e6)
    assert growing.update({"a": (0, 110), "b": (6, 6)}, "ab", SECOND, lambda _: 1e6) == (None, 116)
    assert growing.values == {"a": (None, 110), "b": (6, 6)}
    assert growing.update({"a": (120, 120), "b": (6, 6)}, "ab", 2 * SECOND, lambda _: 1e6) == (126, 126)


device_names = st.sampled_from(["a", "b", "c"])
counted = st.tuples(st.integers(0, 100), st.integers(0, 100))
moments = st.lists(st.dictionaries(device_names, counted), max_size=8)


@given(moments)
def test_a_sum_never_falls_nor_exceeds_what_was_counted(moments: list[dict[str, tuple[int, int]]]) -> None:
    growing = GrowingSum(2)
    last = [0, 0]
    most = 0
    for counters in moments:
        most += sum(values[0] for values in counters.values())
        found = growing.update(counters, counters, 0, lambda _: 1e6)
        for place, total in enumerate(found):
            if total is not None:
                assert total >= last[place]
                last[place] = total
        assert last[0] <= most


def test_a_sum_over_what_comes_goes_and_is_reset() -> None:
    growing = GrowingSum(1)

    def update(**counters: int) -> int | None:
        return growing.update({name: (value,) for name, value in counters.items()}, "abc", 0, lambda _: 1e6)[0]

    assert update(a=100, b=5) == 105
    assert update(a=110, b=6, c=1000) == 116  # c may have counted elsewhere
    assert update(b=7, c=1001) == 118  # a is gone, what it counted is not
    assert update(a=3, b=2, c=1001) is None  # a is back, b fell
    assert update(a=4, b=3, c=1001) == 120
