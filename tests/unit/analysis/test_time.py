"""Parts of the wall time as text."""

from __future__ import annotations

import pytest

from proctally.analysis.time import WAITS, Time

STARVED: dict[str, object] = {
    "running_seconds": 0.3, "ready_seconds": 24.2, "throttled_seconds": 0.0, "disk_seconds": 0.01,
    "asleep_seconds": 1.19, "wanted_cores": 0.95,
}  # fmt: skip


def test_parts_are_shares_of_their_sum() -> None:
    assert Time(STARVED).text == "computing 1 %, waiting for a CPU 94 %, asleep 5 %"


def test_bounds_take_the_place_of_a_share() -> None:
    wide = STARVED | {"ready_low_seconds": 12.85, "ready_high_seconds": 24.2, "disk_high_seconds": 1.0}
    assert Time(wide).text == "computing 1 %, waiting for a CPU 50 to 94 %, asleep 5 %"


def test_every_part_has_words() -> None:
    equal = dict.fromkeys(STARVED, 1.0)
    assert Time(equal).text == (
        "computing 20 %, waiting for a CPU 20 %, held by the quota 20 %, storage 20 %, asleep 20 %"
    )


@pytest.mark.parametrize(
    "section",
    [None, [], {}, {"running_seconds": 1.0}, STARVED | {"ready_seconds": None}] + [dict.fromkeys(STARVED, 0.0)],
)
def test_unknown_parts_have_no_text(section: object) -> None:
    assert Time(section).text == ""


@pytest.mark.parametrize(
    ("changes", "used", "starved"),
    [
        ({}, 0.3, True), ({}, None, False), ({}, 0.91, False), ({"wanted_cores": None}, 0.3, False),
        ({"ready_seconds": 0.1}, 0.3, False), ({"ready_seconds": 0.1, "throttled_seconds": 9.0}, 0.3, True),
    ],
)  # fmt: skip
def test_starved_is_a_share_of_waits_and_lacking_cores(
    changes: dict[str, object], used: float | None, starved: bool
) -> None:
    assert Time(STARVED | changes).is_starved(used, *WAITS) is starved
