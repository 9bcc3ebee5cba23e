"""The rings of perf: poll(2) waits for them while little is written, the clock while much is."""

from __future__ import annotations

from typing import Any

from proctally.linux.machine import NANOSECONDS
from proctally.tracking.run_tracker import MANY_BYTES, Rings

MS = 1_000_000
PACE = 30 * MS


class FakePerf:
    """Rings into which so many bytes a second are written, 131,072 bytes each."""

    def __init__(self) -> None:
        self.machine: Any = self
        self.now = 0
        self.total = 0.0
        self.taken = 0.0
        self.takes = 0
        self.fds = [8, 9]
        self.pace_ns = PACE

    def monotonic_ns(self) -> int:
        return self.now

    def written(self) -> int:
        return int(self.total)

    def filled(self) -> float:
        return (self.total - self.taken) / 131_072

    def take(self) -> None:
        self.taken = self.total
        self.takes += 1

    def pass_time(self, source: Rings, nanoseconds: int, rate: float) -> float:
        """Return the largest fill that was met, while the loop sleeps as long as the source allows, or 100 ms."""
        end, largest = self.now + nanoseconds, 0.0
        while self.now < end:
            timeout = source.timeout(self.now)
            step = min(100 * MS if timeout is None else max(1, timeout), end - self.now)
            self.now += step
            self.total += rate * step / NANOSECONDS
            largest = max(largest, self.filled())
            source.act(self.now, [])
        return largest


def test_rings_of_a_quiet_job_are_polled() -> None:
    perf = FakePerf()
    rings = Rings(perf)  # type: ignore[arg-type]
    perf.pass_time(rings, 5 * NANOSECONDS, MANY_BYTES / 2)
    assert rings.fds(perf.now) == [8, 9] and rings.timeout(perf.now) is None
    assert not perf.takes
    rings.act(perf.now, [9])
    assert perf.takes == 1


def test_rings_of_a_busy_job_are_checked_by_the_clock() -> None:
    perf = FakePerf()
    rings = Rings(perf)  # type: ignore[arg-type]
    perf.pass_time(rings, 200 * MS, 10 * MANY_BYTES)
    assert rings.fds(perf.now) == [] and rings.timeout(perf.now) is not None
    perf.pass_time(rings, NANOSECONDS, 10 * MANY_BYTES)
    assert 3 <= perf.takes <= 6  # a quarter of a ring each: few records are not worth it


def test_rings_are_drained_in_time_when_starts_become_many() -> None:
    perf = FakePerf()
    rings = Rings(perf)  # type: ignore[arg-type]
    perf.pass_time(rings, NANOSECONDS, 2 * MANY_BYTES)
    assert perf.pass_time(rings, NANOSECONDS, 2_000_000) < 0.75


def test_rings_are_polled_again_after_the_storm() -> None:
    perf = FakePerf()
    rings = Rings(perf)  # type: ignore[arg-type]
    perf.pass_time(rings, NANOSECONDS, 10 * MANY_BYTES)
    perf.pass_time(rings, NANOSECONDS, 100)
    assert rings.fds(perf.now) == [8, 9] and rings.timeout(perf.now) is None
