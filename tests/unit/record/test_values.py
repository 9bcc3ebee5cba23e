"""Values of a record that decide."""

from __future__ import annotations

import math

import pytest

from proctally.record.values import number, number_or_nan, objects_at, section_at, was_killed


def test_number_is_float_and_unknown_is_none_or_nan() -> None:
    assert (number(None), number(-3)) == (None, -3.0) and isinstance(number(3), float)
    assert math.isnan(number_or_nan(None)) and number_or_nan(3) == 3.0


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
        ({"oom_kills": None, "oom_place": "cgroup"}, False),
        ("oom_kill", False),
    ],
)
def test_was_killed_takes_a_count_of_a_cgroup(reason: object, killed: bool) -> None:
    assert was_killed({"reason": reason}) is killed
