"""The time of a tree as a sampler reads it: pace, gaps, run delay, and what a record holds of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeroot import PAGE, FakeHost, attach_to, reap_ours
from proctally.record import codes
from proctally.tree import gaps
from proctally.tree.phase_peaks import PhasePeak
from proctally.tree.sampler import TreeSampler
from proctally.tree.time import Breakdown, Interval, TimeModel
from proctally.tree.time_scan import PACE_NS, advanced, described, kept_for_threads
from timed import modelled

MS = 1_000_000
SECOND = 1000 * MS
ROOT = 100


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def attached(host: FakeHost, root: int, interval: float = 1.0) -> TreeSampler:
    sampler = TreeSampler(host.machine(), memory=False, time=True, interval_ns=int(interval * SECOND))
    attach_to(sampler, root)
    sampler.begin(host.monotonic_ns())
    sampler.scan()
    return sampler


def pace(sampler: TreeSampler) -> float | None:
    due = sampler.time.due_ns
    return None if due is None else (due - sampler.read_ns) / SECOND


def test_tree_that_moves_is_scanned_soon_and_one_at_rest_is_not(host: FakeHost) -> None:
    root = host.spawn(ROOT, 1).pid
    sampler = attached(host, root)
    paces = []
    for moves in (True, True, *[False] * 8, True):
        host.advance(0.1)
        if moves:
            host.run(root, 0.05)
        sampler.scan(between=True)
        sampler.time.reader.cost_ns = 0  # type: ignore[union-attr]
        paces.append(pace(sampler))
    assert paces == [0.1] * 6 + [0.2, 0.4, 0.8, None, 0.1]


@pytest.mark.parametrize(("seconds", "has_time"), [(0.05, False), (0.15, True)])
def test_short_run_that_has_ended_is_not_kept_for_its_time(tmp_path: Path, seconds: float, has_time: bool) -> None:
    own = 50
    host = FakeHost(tmp_path, own=own)
    host.spawn(ROOT, own)
    sampler = TreeSampler(host.machine(), own=own, memory=False, time=True)
    sampler.start(ROOT)
    sampler.sample()
    host.advance(seconds)
    host.run(ROOT, 0.01)
    host.exit(ROOT)
    reap_ours(host, sampler, ROOT)
    sampler.sample()
    assert (sampler.time.reader is not None) == has_time


def test_scans_between_samples_have_a_budget(host: FakeHost) -> None:
    root = host.spawn(ROOT, 1).pid
    sampler = attached(host, root)
    time = sampler.time.reader
    assert time is not None
    for cost, expected in ((MS // 10, 0.1), (2 * MS, 0.25), (100 * MS, None)):
        time.cost_ns = 0
        time.note_cost(cost)
        host.advance(0.1)
        host.run(root, 0.05)
        sampler.scan()
        found = pace(sampler)
        assert found is None if expected is None else found is not None and found >= expected
    assert PACE_NS == 100 * MS
    assert [kept_for_threads(each) for each in (0, 100, 100_000)] == [0, 25, 1024]


@pytest.mark.parametrize("is_cheap", [True, False])
def test_scans_between_samples_read_memory_where_it_is_cheap(host: FakeHost, is_cheap: bool) -> None:
    root = host.spawn(ROOT, 1, pages=1000).pid
    sampler = TreeSampler(host.machine(), descriptors=0, time=True)
    sampler.attach(root, None)
    sampler.scan()
    before = sampler.memory.low()
    sampler.memory._due_ns = 0 if is_cheap else 1 << 62
    host.advance(0.1)
    host.run(root, 0.05, minor=2000, pages=3000)
    sampler.scan(between=True)
    assert (sampler.memory.low() != before) is is_cheap
    host.advance(0.1)
    sampler.scan()
    assert sampler.memory.low() != before, "each sample reads it"


def test_scan_that_reads_memory_counts_in_the_budget_of_time(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    root = host.spawn(ROOT, 1, pages=1000).pid
    sampler = TreeSampler(host.machine(), descriptors=0, time=True)
    sampler.attach(root, None)
    sampler.scan()
    before, costs = sampler.memory.low(), list[int]()
    monkeypatch.setattr(sampler.time.reader, "note_cost", costs.append)
    host.advance(0.1)
    host.run(root, 0.05, minor=2000, pages=3000)
    sampler.scan(between=True)
    assert sampler.memory.low() != before and len(costs) == 1


def test_memory_that_no_scan_saw_is_searched_for(host: FakeHost) -> None:
    root = host.spawn(ROOT, 1, pages=1000).pid
    sampler = TreeSampler(host.machine(), descriptors=0)
    sampler.attach(root, None)
    sampler.scan()
    assert sampler.due_ns is None
    child = host.spawn(ROOT + 1, root).pid
    host.run(child, 0.05, minor=20_000)
    host.end(child)
    host.run(root, 0.05)
    host.advance(1)
    sampler.scan()
    assert sampler.memory.summary()["peak_high_bytes"] >= 20_000 * PAGE
    due = sampler.due_ns
    assert due is not None and due < host.monotonic_ns() + SECOND
    host.advance(4)
    host.run(root, 0.05)
    sampler.scan()
    assert sampler.due_ns is None


def test_moment_of_a_sample_is_that_of_its_readings(host: FakeHost) -> None:
    root = host.spawn(ROOT, 1).pid
    sampler = attached(host, root)
    starts = []
    for slow in (False, True):
        host.advance(1.0)
        host.run(root, 0.5)
        if slow:
            host.once(f"{root}/status", lambda: host.advance(0.3))
        sample = sampler.sample()
        starts.append(sample["at"] - sample["elapsed_seconds"])
    assert starts[1] == pytest.approx(starts[0], abs=0.002)


def test_interval_as_short_as_the_pace_has_no_scan_between(host: FakeHost) -> None:
    root = host.spawn(ROOT, 1).pid
    sampler = attached(host, root, interval=0.1)
    host.advance(0.1)
    host.run(root, 0.05)
    sampler.scan()
    assert sampler.time.due_ns is None


def test_run_delay_comes_from_every_thread_that_moved(host: FakeHost) -> None:
    """Also from the twenty processes that a sample would read no `status` of."""
    root = host.spawn(ROOT, 1).pid
    pids = [host.spawn(pid, root).pid for pid in range(200, 220)]
    sampler = attached(host, root)
    host.advance(1.0)
    for pid in pids:
        host.run(pid, 0.01)
        host.waits(pid, 0.5)
    assert sampler.sample()["tree"]["run_delay_seconds"] == pytest.approx(10.0)


def test_kernel_without_schedstat_has_neither_run_delay_nor_parts(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = host.spawn(ROOT, 1).pid
    monkeypatch.setattr(FakeHost, "locate", lambda self, path: path.replace("schedstat", "none"))
    sampler = TreeSampler(host.machine(), memory=False, time=True)
    attach_to(sampler, root)
    host.advance(2.0)
    host.run(root, 0.1)
    tree = sampler.sample()["tree"]
    assert (tree["run_delay_seconds"], tree["time"]) == (None, None)
    assert [gap["code"] for gap in gaps._time(sampler.summary())] == [codes.DELAY_UNAVAILABLE]


def test_error_costs_the_time_alone(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    root = host.spawn(ROOT, 1).pid
    sampler = attached(host, root)

    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("broken")

    assert sampler.time.reader is not None
    monkeypatch.setattr(sampler.time.reader, "scan", broken)
    host.advance(1.0)
    host.run(root, 0.5)
    tree = sampler.sample()["tree"]
    assert (tree["time"], tree["cpu_seconds"], sampler.time.due_ns) == (None, 0.5, None)
    assert [gap["code"] for gap in gaps._time(sampler.summary())] == [codes.TRACKING_FAILED]


def test_time_while_all_is_stopped_is_no_part(host: FakeHost) -> None:
    root = host.spawn(ROOT, 1).pid
    sampler = attached(host, root)
    host.advance(1.0)
    host.run(root, 1.0)
    before = sampler.sample()["tree"]["time"]
    host.advance(100.0)
    sampler.gap_ended()
    host.advance(1.0)
    after = sampler.sample()["tree"]["time"]
    assert sum(after.values()) - sum(before.values()) == pytest.approx(1.0, abs=0.01)


# -- parts in a record -----------------------------------------------------------------------------------------------


def test_parts_never_fall_and_add_up() -> None:
    """Late run delay moves time from asleep to ready: asleep waits until the estimate has caught up."""
    shown = [0.0] * 5
    for now in ([10.0, 0, 0, 0, 90.0], [20.0, 100.0, 0, 0, 80.0], [30.0, 150.0, 0, 0, 120.0]):
        before, shown = shown, advanced(shown, now)
        assert all(a <= b for a, b in zip(before, shown, strict=True))
        assert sum(shown) == pytest.approx(sum(now))
    assert shown[4] > 90


def intervals(count: int, *threads: tuple[int, int], **named: int) -> TimeModel:
    """A tree of threads with these milliseconds of CPU and run delay in each interval of 0.1 s."""
    model = TimeModel()
    used = sum(cpu for cpu, _ in threads) * MS + named.pop("unseen", 0) * MS
    for _ in range(count):
        keys = {(7, 7 + number): [cpu * MS, delay * MS, 0] for number, (cpu, delay) in enumerate(threads)}
        model.take(Interval(100 * MS, keys, used_ns=used, cpus=2, running=True, **named))
    return model


def test_bounds_are_there_where_they_are_wide() -> None:
    narrow = described(intervals(10, (10, 90)).total())
    assert narrow is not None
    assert narrow == {
        "running_seconds": 0.1, "ready_seconds": 0.9, "throttled_seconds": 0.0, "disk_seconds": 0.0,
        "asleep_seconds": 0.0, "wanted_cores": 1.0,
    }  # fmt: skip
    wide = described(intervals(10, (50, 0), (50, 0)).total())
    assert wide is not None
    assert wide["running_low_seconds"] < wide["running_seconds"] < wide["running_high_seconds"]
    assert "throttled_low_seconds" not in wide


def test_job_below_a_tenth_of_a_second_has_no_parts() -> None:
    assert described(Breakdown(intervals(0)._sums_at(intervals(0).mark()), accounted=False)) is None
    model = TimeModel()
    model.take(Interval(99 * MS, {}, used_ns=0, cpus=1))
    assert described(model.total()) is None


def test_children_of_vfork_beside_load() -> None:
    """FIGURES C2, as recorded: the run delay of children that no scan met is within the bounds.

    Wall 3.8 s, CPU 0.26 s, known run delay 1.1 s: by the scheduler's events the rest was ready too.
    """
    lines = [
        {
            "length_ns": 100 * MS, "threads": {"7/7": [2 * MS, 29 * MS, 0]}, "used_ns": 7 * MS, "cpus": 2,
            "idle_ns": 0, "born": 11, "throttled_ns": 0, "running": True, "disk": False, "sampled": False,
        }
    ] * 38  # fmt: skip
    model = modelled(lines)
    parts = model.total()
    low, _, high = parts.ready
    assert low <= 3.53 * SECOND <= high
    assert parts.running[0] + parts.ready[2] >= 3.79 * SECOND
    (gap,) = [each for each in model.gaps() if each.code == codes.DELAY_OF_DEAD]
    assert gap.high_ns >= 2.4 * SECOND


def test_peak_of_a_phase_without_a_scan_is_unknown() -> None:
    peak, other = PhasePeak(None), PhasePeak(None)
    assert (peak.low, peak.high) == (None, None)
    other.low, other.high = 10, 20
    peak.add(other)
    assert (peak.low, peak.high) == (10, 20)


def test_throttled_time_that_is_unknown_once_counts_once(host: FakeHost) -> None:
    root = host.spawn(ROOT, 1).pid
    sampler = attached(host, root)
    assert sampler.time.reader is not None
    for throttled in (5 * SECOND, None, 5 * SECOND):
        sampler.time.reader._throttled = lambda throttled=throttled: throttled
        host.advance(0.1)
        host.run(root, 0.01)
        host.waits(root, 0.09)
        sampler.scan()
    parts = sampler.time.summary()
    assert parts is not None
    assert parts["throttled_seconds"] == pytest.approx(0.09, abs=0.001)
    assert parts["ready_seconds"] == pytest.approx(0.18, abs=0.001)


def test_delay_of_many_threads_counts_from_the_attach(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads are too many for a baseline of each by `status`, and have waited for hours."""
    monkeypatch.setattr("proctally.tree.readings.THREADS_PER_STATUS", 2)
    root = host.spawn(ROOT, 1).pid
    for tid in (1000, 1001):
        host.start_thread(root, tid)
    host.run(root, 1.0)
    for tid in (root, 1001):
        host.waits(tid, 3600, root)
    sampler = attached(host, root)
    host.advance(1.0)
    host.run(root, 0.5)
    for tid in (root, 1001):
        host.waits(tid, 0.25, root)
    tree = sampler.sample()["tree"]
    assert tree["run_delay_seconds"] == 0.5
    assert tree["time"] is not None


def test_helpers_of_a_command_that_exited_are_in_no_part(host: FakeHost) -> None:
    root = host.spawn(ROOT, 1).pid
    sampler = attached(host, root)
    host.advance(0.2)
    host.run(root, 0.1)
    sampler.end_time()
    host.advance(0.05)
    host.run(root, 0.05)
    sampler.sample()
    parts = sampler.time.summary()
    assert parts is not None
    assert sum(parts[f"{part}_seconds"] for part in ("running", "ready", "throttled", "disk", "asleep")) == 0.2
