"""Figures of phases from their lines, the scans between them, and marks of time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from proctally.tracking.phases import MOST, Phases
from proctally.tree.guards import TimeGuard
from proctally.tree.memory_guard import MemoryGuard
from proctally.tree.memory_moments import Bracket
from proctally.tree.time import HELD, Interval, TimeModel
from proctally.tree.time_scan import described

MS = 1_000_000


class Tracked:
    """A sampler with a model of time, whose memory is set."""

    def __init__(self, *, timed: bool = True) -> None:
        self.model = TimeModel()
        self.elapsed = self.used = 0.0
        rooms: list[Any] = [SimpleNamespace(machine=SimpleNamespace(procfs_missing=None), files=None), None, None, None]
        self.memory = MemoryGuard(*rooms, None, is_wanted=True, at_once=False, pss_ratio=0.0)
        self.scan: Any = SimpleNamespace(bracket=None, model=SimpleNamespace(peaks=SimpleNamespace(candidates=[])))
        self.memory.reader = self.scan
        self.time = TimeGuard(*rooms, is_wanted=True, interval_ns=1000 * MS)
        if timed:
            self.time.reader = SimpleNamespace(  # type: ignore[assignment]
                mark=self.model.mark,
                between=self.model.between,
                start=self.model.start,
                parts_of=lambda sums: described(self.model.breakdown(sums)),
            )
        self.phases = Phases(self)  # type: ignore[arg-type]

    def runs(self, cpu: int, delay: int = 0, times: int = 1, memory: int = 0) -> None:
        """Intervals of 0.1 s with these milliseconds of one thread; bytes of memory in each."""
        for _ in range(times):
            self.model.take(Interval(100 * MS, {(7, 7): [cpu * MS, delay * MS, 0]}, used_ns=cpu * MS, cpus=2))
            self.elapsed += 0.1
            self.used += cpu / 1000
            self.scan.bracket = Bracket((memory, memory + 5), (0, 0), (0, 0), 0, 0, 0, "cgroup")
            for peak in self.memory.phase_peaks:
                peak.note(self.scan)

    def mark(self, name: str, event: str, cpu_seconds: float | None = -1.0) -> None:
        used = self.used if cpu_seconds == -1.0 else cpu_seconds
        self.phases.take({"name": name, "event": event, "elapsed_seconds": self.elapsed, "cpu_seconds": used})


def test_phase_has_its_own_figures() -> None:
    tracked = Tracked()
    tracked.runs(0, memory=900)
    tracked.runs(100, times=2, memory=50)
    tracked.mark("fit", "begin")
    tracked.runs(10, 90, times=5, memory=70)
    tracked.runs(0, times=5, memory=60)
    tracked.mark("fit", "end")
    tracked.runs(100, times=2, memory=800)
    (phase,) = tracked.phases.summary()
    time = phase.pop("time")
    assert phase == {
        "name": "fit", "count": 1, "wall_seconds": pytest.approx(1.0), "cpu_seconds": pytest.approx(0.05),
        "peak_low_bytes": 70, "peak_high_bytes": 75,
    }  # fmt: skip
    assert (time["running_seconds"], time["ready_seconds"]) == (0.05, 0.45)
    assert time["asleep_seconds"] == 0.5
    assert tracked.memory.phase_peaks == []


def test_phase_holds_what_it_found_at_its_start() -> None:
    tracked = Tracked()
    tracked.runs(1, memory=50)
    tracked.mark("save", "begin")
    tracked.mark("save", "end")
    (phase,) = tracked.phases.summary()
    assert (phase["peak_low_bytes"], phase["peak_high_bytes"], phase["time"]) == (50, 55, None)


def test_phases_of_one_name_add_up() -> None:
    """Also long after their end, when nothing can change their parts."""
    tracked = Tracked()
    for number in range(5):
        tracked.mark("epoch", "begin")
        tracked.runs(100, times=HELD, memory=number)
        tracked.mark("epoch", "end")
        tracked.runs(0)
    (phase,) = tracked.phases.summary()
    assert (phase["count"], phase["peak_low_bytes"]) == (5, 4)
    assert phase["wall_seconds"] == pytest.approx(10.0)
    assert phase["time"]["running_seconds"] == pytest.approx(10.0)
    assert len(tracked.phases._totals["epoch"].spans) <= 2


def test_phases_that_overlap_are_each_whole() -> None:
    tracked = Tracked()
    tracked.mark("outer", "begin")
    tracked.runs(100)
    tracked.mark("inner", "begin")
    tracked.runs(100, times=2)
    tracked.mark("outer", "end")
    tracked.mark("inner", "end", cpu_seconds=None)
    found = {phase["name"]: phase for phase in tracked.phases.summary()}
    assert found["outer"]["time"]["running_seconds"] == 0.3
    assert (found["inner"]["time"]["running_seconds"], found["inner"]["cpu_seconds"]) == (0.2, None)


def test_without_time_or_without_end() -> None:
    tracked = Tracked(timed=False)
    tracked.mark("fit", "begin")
    tracked.mark("open", "begin")
    tracked.mark("never", "end")
    tracked.mark("fit", "end")
    (phase,) = tracked.phases.summary()
    assert (phase["name"], phase["time"]) == ("fit", None)


def test_an_error_of_the_time_costs_the_parts_alone() -> None:
    tracked = Tracked()
    tracked.mark("fit", "begin")
    tracked.runs(100, memory=5)
    tracked.mark("fit", "end")
    tracked.time.reader.parts_of = None  # type: ignore[union-attr, method-assign, assignment]
    (phase,) = tracked.phases.summary()
    assert (phase["time"], phase["wall_seconds"], phase["peak_low_bytes"]) == (None, 0.1, 5)


def test_names_are_limited() -> None:
    tracked = Tracked()
    for number in range(MOST + 10):
        tracked.mark(f"{number}", "begin")
        tracked.mark(f"{number}", "end")
    assert len(tracked.phases.summary()) == MOST
