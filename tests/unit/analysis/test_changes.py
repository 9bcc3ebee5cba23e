"""Changes as text."""

from __future__ import annotations

import math

import pytest

from proctally.analysis.changes import change, interval, seen
from proctally.analysis.statistics import shift


@pytest.mark.parametrize(
    ("base", "new", "text"),
    [
        (1.0, 1.0, "="),
        (2.0, 1.0, "-50.0 %"),
        (1.0, 25.0, "x 25.0"),
        (1.0, 0.99999, "+0.0 %"),
        (0.0, 1.5, "+1.500 s"),
        (90.0, 0.0, "-90 s"),
        (0.0, 0.0, "="),
    ],
)
def test_change_is_a_share_a_multiple_or_an_amount(base: float, new: float, text: str) -> None:
    moved = shift([base], [new])
    assert (change("s", moved), interval("s", moved)) == (text, "")


def test_interval_has_the_form_of_its_change() -> None:
    moved = shift([100.0] * 4, [99.99, 101.0, 102.0, 1500.0])
    assert (change("s", moved), interval("s", moved)) == ("+1.5 %", "+0.0..+1,400.0")
    moved = shift([0.0] * 4, [-0.5e9, 1e9, 2e9, 3e9])
    assert interval("By", moved) == "-0.466..+2.794 GiB"


def test_seen_names_the_runs_for_the_usual_change() -> None:
    assert seen("wall", 0.042, 5) == "wall spreads by 4.2 %: 5 runs a side see +10.1 %, 14 see +5.0 %"
    assert seen("wall", 0.01, 5) == "wall spreads by 1.0 %: 5 runs a side see +2.3 %"
    assert seen("wall", math.log(9), 5).endswith("see x 151.9"), "more runs than are sensible"
