"""Where the wall time went: each rule with numbers made by hand, what always holds, and recorded jobs."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from places import SUPPORT
from proctally.record.codes import DELAY_OF_DEAD, DELAY_SAMPLED, DISK_BY_LOOKS
from proctally.tree.time import HELD, MIN_WALL_NS, WAKE_NS, Breakdown, Interval, TimeModel, share_of_looks
from timed import modelled

MS = 1_000_000
LENGTH = 100 * MS
PARTS = ("running", "ready", "throttled", "disk", "asleep")


def interval(
    *threads: tuple[float, ...], used: float | None = None, cpus: int = 2, length: float = 100, **more: Any
) -> Interval:
    """Milliseconds of [CPU, run delay, block delay] of threads 0, 1, ...; `used`: of the tree, by default theirs."""
    times = {number: [value * MS for value in (*thread, 0, 0)[:3]] for number, thread in enumerate(threads)}
    total = sum(thread[0] for thread in threads) if used is None else used
    for name in ("idle", "throttled"):
        if name in more:
            more[f"{name}_ns"] = round(more.pop(name) * MS)
    return Interval(round(length * MS), times, used_ns=round(total * MS), cpus=cpus, **more)


def parts_of(*intervals: Interval, accounted: bool = False) -> Breakdown:
    model = TimeModel(accounted=accounted)
    for one in intervals:
        model.take(one)
    return model.total()


def expected(parts: Breakdown) -> dict[str, float]:
    """Milliseconds of each part that is not 0."""
    return {part: round(getattr(parts, part)[1] / MS, 3) for part in PARTS if getattr(parts, part)[1]}


def bounds(parts: Breakdown, part: str) -> tuple[float, float]:
    low, _, high = getattr(parts, part)
    return round(low / MS, 3), round(high / MS, 3)


# -- one interval ----------------------------------------------------------------------------------------------------


def test_time_without_activity_is_asleep() -> None:
    parts = parts_of(interval())
    assert expected(parts) == {"asleep": 100}
    assert parts.wanted_cores == 0


def test_time_of_starved_thread_is_ready() -> None:
    parts = parts_of(interval((5, 95)))
    assert expected(parts) == {"running": 5, "ready": 95}
    assert bounds(parts, "ready") == (95, 95)
    assert parts.wanted_cores == 1


def test_time_of_thread_that_sleeps_between() -> None:
    assert expected(parts_of(interval((20, 10)))) == {"running": 20, "ready": 10, "asleep": 70}


def test_running_counts_share_of_usable_cpus() -> None:
    """Eight threads that have two CPUs of two lose nothing; with 1.3 CPUs they run for 65 %."""
    assert expected(parts_of(interval(*[(25, 75)] * 8))) == {"running": 100}
    assert expected(parts_of(interval(*[(16.25, 83.75)] * 8))) == {"running": 65, "ready": 35}


def test_active_time_lies_between_overlap_and_sequence() -> None:
    parts = parts_of(interval((30, 0), (30, 0)))
    assert bounds(parts, "running") == (30, 60)
    assert expected(parts) == {"running": 51, "asleep": 49}  # independent: 1 - 0.7 * 0.7
    assert bounds(parts, "ready") == (0, 0)


def test_mixed_threads_widen_running_and_ready_only_within_possible() -> None:
    mixed = parts_of(interval((60, 0), (20, 20)))
    assert bounds(mixed, "ready") == (5.75, 20)  # at most the run delay
    certain = parts_of(interval((50, 50), (50, 50)))  # both want a CPU throughout
    assert bounds(certain, "running") == bounds(certain, "ready") == (50, 50)
    one_cpu = parts_of(interval((60, 20), (20, 60), cpus=1))
    assert bounds(one_cpu, "running") == (80, 80)


# -- rule 1: run delay comes late ------------------------------------------------------------------------------------


def test_late_run_delay_goes_back_to_earlier_intervals() -> None:
    parts = parts_of(interval((100, 0)), interval(), interval(), interval((10, 290)))
    assert expected(parts) == {"running": 110, "ready": 290}


def test_late_run_delay_fills_newest_interval_first() -> None:
    model = TimeModel()
    for one in (interval(), interval(), interval((10, 140))):
        model.take(one)
    closed = [Breakdown(sums, accounted=False) for sums in model.finish()]
    assert [expected(parts).get("ready", 0) for parts in closed] == [0, 50, 90]


def test_late_run_delay_without_room_is_dropped() -> None:
    assert expected(parts_of(interval((90, 0)), interval((50, 500)))) == {"running": 140, "ready": 60}


def test_interval_closes_when_later_ones_hold_no_more() -> None:
    model = TimeModel()
    closed = [len(model.take(interval((1, 0)))) for _ in range(HELD + 3)]
    assert closed == [0] * HELD + [1, 1, 1]
    assert len(model.finish()) == HELD
    assert model.total().wall_ns == (HELD + 3) * LENGTH


def test_late_run_delay_does_not_reach_closed_intervals() -> None:
    intervals = [interval() for _ in range(HELD + 5)]
    parts = parts_of(*intervals, interval((0, 100 * (HELD + 20))))
    assert expected(parts)["ready"] == 100 * (HELD + 1)


# -- rule 2: threads that started and exited in between --------------------------------------------------------------


def test_unseen_cpu_counts_as_one_thread() -> None:
    parts = parts_of(interval(used=30, idle=100))
    assert expected(parts) == {"running": 30, "asleep": 70}
    assert bounds(parts, "ready") == (0, 0)


def test_delay_of_unseen_is_bounded_by_idlest_cpu() -> None:
    """A CPU was idle for 40 ms: the job was ready for at most 60, and used half of 20 then."""
    parts = parts_of(interval(used=20, idle=40), accounted=True)
    assert bounds(parts, "asleep") == (30, 90)
    assert parts.wanted_ns == 70 * MS
    assert bounds(parts_of(interval(used=20), accounted=True), "asleep") == (0, 90)  # idle time is unknown


def test_delay_of_unseen_is_expected_as_that_of_known() -> None:
    busy = parts_of(interval((50, 50)), interval(used=20, idle=0))
    assert busy.wanted_ns == (100 + 40) * MS


def test_delay_of_unseen_allows_for_wake_ups() -> None:
    parts = parts_of(interval(used=20, idle=100, born=30))
    assert parts.wanted_ns == 20 * MS + 2 * 30 * WAKE_NS


def test_gap_delay_of_dead_needs_share_of_unseen_cpu() -> None:
    model = modelled_of(interval((60, 0), used=100, idle=40))
    gap = model.gaps()[0]
    assert (gap.code, gap.low_ns, gap.high_ns) == (DELAY_OF_DEAD, 0, 40 * MS)
    assert DELAY_OF_DEAD not in codes(modelled_of(interval((96, 0), used=100, idle=0)))


def test_threads_read_after_total_leave_no_unseen_cpu() -> None:
    """The total is read first: it has 40 of 50 ms in the first interval, and 60 of 50 in the second."""
    parts = parts_of(interval((50, 0), used=40), interval((50, 0), used=60))
    assert parts.used_ns == 100 * MS
    assert bounds(parts, "running") == (100, 100)


# -- rule 3: run delay includes throttling ---------------------------------------------------------------------------


def test_throttled_is_part_of_run_delay() -> None:
    assert expected(parts_of(interval((20, 80), throttled=60))) == {"running": 20, "ready": 20, "throttled": 60}


def test_throttled_of_whole_cgroup_takes_lack_at_most() -> None:
    assert expected(parts_of(interval((20, 30), throttled=500))) == {"running": 20, "throttled": 30, "asleep": 50}


def test_throttled_counts_once_for_each_cpu() -> None:
    parts = parts_of(interval(*[(25, 75)] * 4, cpus=4, throttled=240))
    assert expected(parts) == {"running": 25, "ready": 15, "throttled": 60}


# -- rules 4 and 5: disk ---------------------------------------------------------------------------------------------


def test_disk_by_looks_is_share_of_inactive_time() -> None:
    looks = [interval((20, 0), disk=number % 4 == 0) for number in range(40)]
    parts = parts_of(*looks, interval((100, 0), running=True, disk=True))  # a thread runs: the state D says nothing
    assert expected(parts) == {"running": 900, "disk": 800, "asleep": 2400}
    low, _, high = (3200 * share for share in share_of_looks(40, 10))
    assert bounds(parts, "disk") == (round(low, 3), round(high, 3))


@pytest.mark.parametrize(
    ("looks", "found", "low", "high"),
    [(0, 0, 0, 1), (10, 0, 0, 0.2775), (10, 10, 0.7225, 1), (10, 5, 0.2366, 0.7634), (100, 50, 0.4038, 0.5962)],
)
def test_share_of_looks_is_wilson_interval(looks: int, found: int, low: float, high: float) -> None:
    share = share_of_looks(looks, found)
    assert (round(share[0], 4), round(share[2], 4)) == (low, high)
    assert share[1] == (found / looks if looks else 0)


def test_disk_is_exact_while_no_thread_wakes_up() -> None:
    """Who waits for a device, or for anything else, has to run when that has ended."""
    parts = parts_of(interval(), interval(disk=True), interval(disk=True), interval())
    assert expected(parts) == {"disk": 200, "asleep": 200}
    assert bounds(parts, "disk") == (200, 200)
    mixed = parts_of(*[interval()] * 8, interval((20, 0)), interval((20, 0), disk=True))
    assert bounds(mixed, "disk")[1] <= 160


def test_gap_disk_by_looks_needs_wide_bounds() -> None:
    few = modelled_of(*[interval((10, 0))] * 10)
    assert [(gap.code, gap.count) for gap in few.gaps()] == [(DISK_BY_LOOKS, 10)]
    assert codes(modelled_of(*[interval((99, 0))] * 10)) == []  # it can be 1 % at most
    assert codes(modelled_of(*[interval((10, 0))] * 10, accounted=True)) == []


def test_block_delay_of_one_thread_is_exact() -> None:
    parts = parts_of(interval((10, 20, 60)), accounted=True)
    assert expected(parts) == {"running": 10, "ready": 20, "disk": 60, "asleep": 10}
    assert bounds(parts, "disk") == (60, 60)


def test_block_delay_beside_activity_is_bounded() -> None:
    parts = parts_of(interval((0, 0, 80), (50, 0, 0)), accounted=True)
    assert bounds(parts, "disk") == (30, 50)
    assert expected(parts) == {"running": 50, "disk": 40, "asleep": 10}


def test_block_delay_of_several_threads_overlaps() -> None:
    """Of the 50 ms without activity one waits for a half of what it does not run, the other for a half of all."""
    parts = parts_of(interval((50, 0, 25), (0, 0, 50)), accounted=True)
    assert bounds(parts, "disk") == (25, 50)
    assert expected(parts) == {"running": 50, "disk": 37.5, "asleep": 12.5}


def test_late_block_delay_goes_back_before_run_delay() -> None:
    parts = parts_of(interval(), interval(), interval((10, 40, 200)), accounted=True)
    assert expected(parts) == {"running": 10, "ready": 40, "disk": 200, "asleep": 50}


# -- rule 7: sampled threads -----------------------------------------------------------------------------------------


def test_gap_delay_sampled_has_bounds_of_unread_threads() -> None:
    model = modelled_of(interval((10, 0), used=50, idle=30, sampled=True))
    gap = model.gaps()[0]
    assert (gap.code, gap.high_ns) == (DELAY_SAMPLED, 50 * MS)
    assert DELAY_OF_DEAD not in codes(model)


# -- sums ------------------------------------------------------------------------------------------------------------


def test_between_marks_has_parts_of_phase() -> None:
    model = TimeModel()
    start = model.mark()
    for _ in range(30):
        model.take(interval((100, 0)))
    middle = model.mark()
    for _ in range(10):
        model.take(interval())
    model.take(interval((10, 190)))
    end = model.mark()
    for closed in (False, True):
        if closed:
            model.finish()
        assert expected(model.breakdown(model.between(start, middle))) == {"running": 3000}
        assert expected(model.breakdown(model.between(middle, end))) == {"running": 10, "ready": 190, "asleep": 900}
    assert expected(model.total()) == {"running": 3010, "ready": 190, "asleep": 900}


def test_between_marks_late_delay_crosses_mark() -> None:
    model = TimeModel()
    start = model.mark()
    model.take(interval())
    middle = model.mark()
    model.take(interval((10, 150)))
    assert expected(model.breakdown(model.between(start, middle))) == {"ready": 60, "asleep": 40}
    assert expected(model.breakdown(model.between(middle, model.mark()))) == {"running": 10, "ready": 90}


def test_empty_interval_and_empty_model_are_nothing() -> None:
    parts = parts_of(interval((5, 0), length=0))
    assert (parts.wall_ns, parts.wanted_cores, expected(parts)) == (0, 0, {})


def test_wide_bounds_are_above_five_percent() -> None:
    parts = parts_of(interval((30, 0), (30, 0)))
    assert parts.is_wide(parts.running)
    assert not parts.is_wide(parts.ready)


# -- always ----------------------------------------------------------------------------------------------------------

times = st.integers(0, 250 * MS)
intervals = st.builds(
    Interval,
    st.integers(MS, 200 * MS),
    st.dictionaries(st.integers(0, 4), st.lists(times, min_size=3, max_size=3), max_size=5),
    used_ns=st.integers(0, 500 * MS),
    cpus=st.integers(1, 4),
    idle_ns=st.none() | times,
    born=st.integers(0, 2000),
    throttled_ns=times,
    running=st.booleans(),
    disk=st.booleans(),
    sampled=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(intervals, max_size=HELD + 4), st.booleans())
def test_parts_sum_to_wall_in_order_and_never_negative(given_intervals: list[Interval], accounted: bool) -> None:
    model = TimeModel(accounted=accounted)
    closed = []
    for one in given_intervals:
        closed += model.take(one)
    open_total = model.total()
    closed += model.finish()
    for parts in [open_total, model.total(), *[Breakdown(sums, accounted=accounted) for sums in closed]]:
        found = [getattr(parts, part) for part in PARTS]
        assert sum(part[1] for part in found) == pytest.approx(parts.wall_ns, abs=1)
        for low, middle, high in found:
            assert -1 <= low <= middle + 1
            assert middle <= high + 1
            assert high <= parts.wall_ns + 1
        assert parts.wanted_ns >= parts.used_ns - 1
    for low, high in [(gap.low_ns, gap.high_ns) for gap in model.gaps()]:
        assert 0 <= low <= high


# -- recorded jobs ---------------------------------------------------------------------------------------------------

RECORDED = [json.loads(line) for line in (SUPPORT / "recorded_time.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("job", RECORDED, ids=[job["name"] for job in RECORDED])
def test_recorded_job_agrees_with_scheduler_trace(job: dict[str, Any]) -> None:
    """Within 5 % of the wall of what is expected, or within the bounds; `ready` in the trace has what a quota took."""
    parts = modelled(job["intervals"], accounted=job["accounted"]).total()
    assert parts.wall_ns > MIN_WALL_NS
    found = {part: getattr(parts, part) for part in ("running", "disk", "asleep")}
    found["ready"] = tuple(ready + quota for ready, quota in zip(parts.ready, parts.throttled, strict=True))
    for part, (low, middle, high) in found.items():
        truth = job["truth"][part] * 1e9
        slack = 0.005 * parts.wall_ns
        assert low - slack <= truth <= high + slack or abs(truth - middle) < 0.05 * parts.wall_ns, part
        if part == "running":
            assert high - low < 0.6 * parts.wall_ns  # bounds that say something


def modelled_of(*intervals: Interval, accounted: bool = False) -> TimeModel:
    model = TimeModel(accounted=accounted)
    for one in intervals:
        model.take(one)
    return model


def codes(model: TimeModel) -> list[str]:
    return [gap.code for gap in model.gaps()]
