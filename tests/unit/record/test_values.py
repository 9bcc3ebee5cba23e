"""Values of a record that decide."""

from __future__ import annotations

import math

import pytest

from proctally.record.values import amount, clock_time, number, number_or_nan, objects_at, section_at, was_killed, whole

NOT_NUMBERS = [None, "1", True, [], {}, math.nan, math.inf, -math.inf, 1 << 64, 1e300, 10**400]


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_number_of_another_value_is_none(value: object) -> None:
    assert (number(value), amount(value), clock_time(value)) == (None, None, 0.0)
    assert math.isnan(number_or_nan(value))


def test_number_is_a_float_and_amount_stays_exact() -> None:
    assert (number(-3), amount(-3)) == (-3.0, None)
    assert isinstance(number(3), float)
    assert amount((1 << 53) + 1) == (1 << 53) + 1
    assert clock_time(1e11) == 0.0


def test_whole_takes_no_truth_value() -> None:
    assert (whole(True), whole(1.0), whole(7)) == (None, None, 7)


def test_section_and_objects_of_another_shape_are_empty() -> None:
    line = {"a": {"b": [1, {"c": 2}, None]}, "d": 5}
    assert section_at(line, "d") == section_at(line, "a.b") == section_at(line, "x.y") == {}
    assert objects_at(line, "a.b") == [{"c": 2}]
    assert objects_at(line, "d") == objects_at(line, "a") == []


@pytest.mark.parametrize(
    ("reason", "killed"),
    [
        ({"oom_kills": 1, "oom_place": "cgroup"}, True),
        ({"oom_kills": 1, "oom_place": "machine"}, False),
        ({"oom_kills": 0, "oom_place": "cgroup"}, False),
        ({"oom_kills": "1", "oom_place": "cgroup"}, False),
        ("oom_kill", False),
    ],
)
def test_was_killed_takes_a_count_of_a_cgroup(reason: object, killed: bool) -> None:
    assert was_killed({"reason": reason}) is killed
