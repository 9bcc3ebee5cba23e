"""What `run --wait-all` reads after its command has exited."""

from __future__ import annotations

from types import SimpleNamespace

from proctally.tracking.run_tracker import RunTracker


def test_scans_for_the_rest_take_a_small_part_of_a_core() -> None:
    """Each took 10 ms where 100 members moved, and one was made 20 times a second, with all of the memory."""
    clock = [0]
    looks: list[bool] = []

    def look(*, between: bool = False) -> None:
        looks.append(between)
        clock[0] += 10_000_000

    tracker = object.__new__(RunTracker)
    tracker._rest_due_ns = 0
    tracker.machine = SimpleNamespace(monotonic_ns=lambda: clock[0])  # type: ignore[assignment]
    tracker.sampler = SimpleNamespace(scan=look, members={1})  # type: ignore[assignment]
    while clock[0] < 5_000_000_000:
        assert tracker.scan_rest()
        clock[0] += 50_000_000
    assert 8 <= len(looks) <= 10
    assert all(looks)
