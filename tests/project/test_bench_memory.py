"""The judge of `bench/memory.py` names each limit that a run misses."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from places import ROOT

sys.path.append(str(ROOT / "bench"))

from memory import Result  # noqa: E402
from memory_setting import ALONE, HIDDEN, Truth  # noqa: E402

MIB = 1 << 20
LATE = {"section": "memory", "code": "late_look", "count": 1, "high_bytes": None}
SPIKE = {"section": "memory", "code": "spike_between_samples", "count": None, "high_bytes": 90 * MIB}


def truth(*mib: int) -> Truth:
    """Return a truth of one level a second."""
    made = Truth.__new__(Truth)
    made.times = [float(at) for at in range(len(mib))]
    made.levels = [level * MIB for level in mib]
    made.foreign = [0] * len(mib)
    return made


def judged(
    *brackets: tuple[int, int],
    peak: tuple[int, int],
    held: tuple[int, ...] = (0, 100, 100, 100),
    way: str = ALONE,
    advised: int = 150,
    gaps: tuple[dict[str, Any], ...] = (),
) -> list[str]:
    """Return what is wrong with a run of these samples at 1 s, 2 s, ..."""
    samples = [
        {
            "type": "sample",
            "at": float(at),
            "elapsed_seconds": float(at),
            "tree": {"processes": 1, "memory_low_bytes": low * MIB, "memory_high_bytes": high * MIB},
        }
        for at, (low, high) in enumerate(brackets, 1)
    ]
    memory = {"peak_low_bytes": peak[0] * MIB, "peak_high_bytes": peak[1] * MIB}
    memory |= {"mapped_file_bytes": 0, "kernel_bytes": 0, "source": "surroundings"}
    summary = {"type": "summary", "memory": memory, "gaps": list(gaps)}
    summary |= {"tracker": {"cpu_seconds": 0.0}, "wall_seconds": 3.0}
    result = Result("job", way, truth(*held), [*samples, summary])
    result.advised = advised * MIB
    return list(result.misses())


def test_run_within_every_limit_misses_nothing() -> None:
    assert judged((99, 101), (98, 101), peak=(99, 102)) == []


@pytest.mark.parametrize("peak", [(110, 120), (80, 90)])
def test_peak_that_leaves_out_the_truth_is_a_miss(peak: tuple[int, int]) -> None:
    assert judged((99, 101), peak=peak) == ["peak outside"]


def test_sample_outside_needs_a_late_scan() -> None:
    brackets = (99, 101), (120, 130)
    assert len(judged(*brackets, peak=(99, 101))) == 1
    assert judged(*brackets, peak=(99, 101), gaps=(LATE,)) == []


def test_wide_sample_is_a_miss_after_first_readings() -> None:
    assert judged((60, 140), (99, 101), peak=(99, 101)) == []
    assert judged((99, 101), (60, 140), peak=(99, 101)) == ["wide"]


def test_wide_peak_needs_a_gap_with_bytes() -> None:
    assert judged((99, 101), peak=(40, 130), way=HIDDEN) == ["wide without a gap"]
    assert judged((99, 101), peak=(40, 130), way=HIDDEN, gaps=(LATE,)) == ["wide without a gap"]
    assert judged((99, 101), peak=(40, 130), way=HIDDEN, gaps=(SPIKE,)) == []


def test_advice_is_judged_at_both_ends() -> None:
    assert judged((99, 101), peak=(99, 101), advised=99) == ["advice below the truth"]
    assert judged((99, 101), peak=(99, 101), advised=215) == ["advice too high"]
    assert judged((99, 101), peak=(99, 101), advised=213) == []
