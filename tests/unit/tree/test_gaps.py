"""What is missing of totals, by what each source has seen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakeroot import FakeHost
from proctally.record import codes
from proctally.tree import gaps
from proctally.tree.commands import CommandUse
from proctally.tree.member import CPU, USER
from proctally.tree.perf_source import PerfSource
from proctally.tree.sampler import TreeSampler
from proctally.tree.summary import TreeSummary

MS = 1_000_000
EXITS = 70 * 0.0015  # what perf lacks of 70 exits, each of which released 16 MiB


class Case:
    """A tree that was tracked: what its sampler, its counters and its cgroup have seen."""

    def __init__(self, folder: Path, own: int | None = 77) -> None:
        host = FakeHost(folder, own=77)
        self.sampler = TreeSampler(host.machine(), own=own)
        self.memory_gaps: list[Any] | None = []
        self.ledger = self.sampler.ledger
        self.ledger.waited = 1
        self.sampler.lifecycle.started = 2
        self.ledger.io_known = self.ledger.delay_known = True
        self.perf = PerfSource(self.sampler.machine)
        self.perf.roll = SimpleNamespace(  # type: ignore[assignment]
            dropped=0,
            strays=0,
            started=2,  # so many as scans saw
            threads_ended=0,
            tells_time=lambda: True,
            unread=lambda: 0,
            so_far=lambda clocks: {b"big": [30, 0], b"small": [40, 0]},
        )

    def seen(
        self,
        reaped: int,
        counted: int | None = None,
        *,
        enclosed: int | None = None,
        doubtful: int = 0,
        ignorers: int = 0,
    ) -> Case:
        """Milliseconds of CPU time."""
        ledger = self.ledger
        ledger.reaped[CPU] = ledger.best[CPU] = ledger.best[USER] = reaped * MS
        ledger.cpu.counted = self.perf.total_ns = None if counted is None else counted * MS
        ledger.cpu.enclosed = None if enclosed is None else enclosed * MS
        ledger.cpu.doubtful = doubtful * MS
        self.sampler.readings.ignores_children = set(range(ignorers))
        return self

    def tree(self) -> TreeSummary:
        tree = self.sampler.summary()
        if self.memory_gaps is not None:
            tree.memory_gaps = self.memory_gaps
        return tree

    def gaps(self, **named: Any) -> list[gaps.Gap]:
        named = {"client": False, "subreaper": True, "foreign": 0, "left": 0} | named
        return gaps.of_run(self.tree(), self.perf, **named)

    def found(self, **named: Any) -> tuple[str, dict[tuple[Any, Any], dict[str, Any]]]:
        """The source, and what is known of each gap, by section and code."""
        return self.ledger.choose().source, known(self.gaps(**named))


def known(found: list[gaps.Gap]) -> dict[tuple[Any, Any], dict[str, Any]]:
    every = ["section", "code", "count", "low_seconds", "high_seconds", "low_bytes", "high_bytes"]
    assert all(list(gap) == every for gap in found)
    return {
        (gap["section"], gap["code"]): {name: gap[name] for name in every[2:] if gap[name] is not None} for gap in found
    }


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_where_everybody_was_waited_for(case: Case) -> None:
    assert case.seen(1000, 999).found() == ("rusage", {})


@pytest.mark.parametrize("counted", [900, 999])
def test_those_that_ignore_children_are_known_and_wait4_saw_the_most(case: Case, counted: int) -> None:
    """What perf saw of such children may be less than what it lacks of the ends of all others."""
    unseen = {
        ("cpu", "unreaped_unseen"): {"count": 2, "high_seconds": EXITS},
        ("io", "unreaped_unseen"): {"count": 2},
    }
    assert case.seen(1000, counted, ignorers=2).found() == ("rusage", unseen)


def test_those_that_ignore_children_and_perf_saw_the_most(case: Case) -> None:
    unseen = {("cpu", "unreaped"): {"low_seconds": 0.0, "high_seconds": EXITS}, ("io", "unreaped_unseen"): {"count": 1}}
    assert case.seen(1000, 1200, ignorers=1).found() == ("perf", unseen)


def test_io_of_children_that_no_scan_saw(case: Case) -> None:
    roll: Any = case.seen(1000, 999, ignorers=1).perf.roll
    roll.started, case.sampler.lifecycle.started = 21, 8
    assert case.found()[1][("io", "unreaped")] == {"count": 13}
    case.sampler.lifecycle.started = 21
    assert ("io", "unreaped") not in case.found()[1]


def test_perf_saw_more_than_wait4(case: Case) -> None:
    unreaped = {("cpu", "unreaped"): {"low_seconds": 0.0, "high_seconds": EXITS}, ("io", "unreaped"): {}}
    assert case.seen(1000, 1200).found() == ("perf", unreaped)


def test_perf_saw_a_little_more_than_wait4(case: Case) -> None:
    assert case.seen(1000, 1010).found() == ("rusage", {})


def test_io_where_perf_saw_more_than_wait4_and_a_cgroup_is_the_source(case: Case) -> None:
    assert case.seen(1000, 1200, enclosed=1000).found() == ("cgroup", {("io", "unreaped"): {}})


def test_io_where_the_cgroup_saw_more_than_wait4(case: Case) -> None:
    assert case.seen(1000, enclosed=1200).found() == ("cgroup", {("io", "unreaped"): {}})


def test_an_excess_that_others_explain_is_said(case: Case) -> None:
    perhaps = {("cpu", "unreaped"): {"low_seconds": 0.0, "high_seconds": EXITS + 0.03}}
    assert case.seen(1000, 1030, doubtful=40).found() == ("rusage", perhaps)


def test_an_excess_that_is_nothing_is_not_said(case: Case) -> None:
    assert case.seen(1000, 1015, doubtful=40).found() == ("rusage", {})


def test_a_cgroup_that_was_left(case: Case) -> None:
    case.ledger.cpu.left = True
    left = {("cpu", "cgroup_left"): {}, ("io", "unreaped"): {}}
    assert case.seen(1000, 1000, enclosed=1200).found() == ("cgroup", left)
    assert case.seen(1000, 1000, enclosed=400).found() == ("rusage", {}), "another source has all"


def test_neither_perf_nor_cgroup(case: Case) -> None:
    case.perf.roll = None
    unknown = {
        ("cpu", "unreaped_unknown"): {},
        ("io", "unreaped_unknown"): {},
        ("processes", "processes_sampled"): {},
    }
    assert case.seen(1000).found() == ("rusage", unknown)


def test_perf_alone_lacks_the_end_of_each_process(case: Case) -> None:
    case.ledger.cpu.only = "perf"
    assert case.seen(1000, 1000).found() == ("perf", {("cpu", "teardown"): {"high_seconds": EXITS}})
    case.perf.roll = None
    assert case.found()[1][("cpu", "teardown")] == {}


def test_what_the_start_and_the_end_leave_out(case: Case) -> None:
    case.seen(1000, 999)
    assert case.found(client=True)[1] == {("cpu", "client_only"): {}}
    assert case.found(subreaper=False)[1] == {("cpu", "no_subreaper"): {}, ("io", "no_subreaper"): {}}
    assert case.found(foreign=3)[1] == {("cpu", "earlier_children"): {"count": 3}}
    assert case.found(left=4)[1] == {("cpu", "left_running"): {"count": 4}}
    case.sampler.tree.own = 1
    assert case.found()[1] == {}
    case.sampler.lifecycle.adopted = 2
    assert case.found()[1] == {("cpu", "adopted_unrelated"): {"count": 2}}


def test_a_refused_subreaper_does_not_matter_to_a_cgroup(case: Case) -> None:
    case.seen(1000, 1000, enclosed=1000)
    assert case.found(subreaper=False) == ("cgroup", {("io", "no_subreaper"): {}})


def test_io_that_cannot_be_read(case: Case) -> None:
    case.seen(1000, 999).sampler.readings.io_unread = {5: "io_denied", 6: "io_denied", 7: "io_unreadable"}
    assert case.found()[1] == {("io", "io_denied"): {"count": 2}, ("io", "io_unreadable"): {"count": 1}}
    case.ledger.io_known = False
    assert case.found()[1].keys() == {("io", code) for code in ("io_unavailable", "io_denied", "io_unreadable")}


def test_memory_that_no_scan_met(case: Case) -> None:
    sampler = case.seen(1000, 999).sampler
    case.memory_gaps = None
    assert case.found()[1] == {("memory", "not_sampled"): {}}
    sampler.memory.maxrss_floor = 5000
    assert case.found()[1] == {("memory", "not_sampled"): {"high_bytes": 5000}}
    sampler.memory.maxrss = 4000  # read during its exec
    assert case.found()[1] == {("memory", "not_sampled"): {"high_bytes": 5000}}
    sampler.memory.maxrss = 6000
    assert case.found()[1] == {("memory", "not_sampled"): {"high_bytes": 6000}}
    sampler.memory.fault = ValueError()
    assert case.found()[1] == {("memory", "tracking_failed"): {}}


def test_memory(case: Case) -> None:
    sampler = case.seen(1000, 999).sampler
    case.memory_gaps = [("pss_stale", None, 7), ("late_look", 2, None)]
    sampler.readings.delay_incomplete = True
    assert case.found()[1] == {
        ("memory", "pss_stale"): {"high_bytes": 7},
        ("memory", "late_look"): {"count": 2},
        ("time", "delay_sampled"): {},
    }


def test_processes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    perf: Any = case.seen(1000, 999).perf
    perf.lost = None
    perf.roll.strays = 2
    perf.roll.tells_time = lambda: False
    assert case.found()[1] == {
        ("processes", "lost_unknown"): {},
        ("processes", "forks_unseen"): {"count": 2},
        ("processes", "command_time_sampled"): {},
    }
    perf.lost = 7
    perf.broken = 1
    perf.roll.dropped = 3
    perf.roll.unread = lambda: 5
    monkeypatch.setattr(PerfSource, "new_cpus", lambda self: [8, 9])
    assert case.found()[1] == {
        ("cpu", "setuid"): {"count": 3},
        ("processes", "lost_records"): {"count": 7},
        ("processes", "buffers_unreadable"): {"count": 1},
        ("processes", "new_cpus"): {"count": 2},
        ("processes", "setuid"): {"count": 3},
        ("processes", "thread_time_merged"): {"count": 5},
    }


def test_large_processes_that_nobody_waited_for(case: Case) -> None:
    """Their exits release 200 MiB each, which perf does not count."""
    big = case.sampler.commands.uses[b"big"] = CommandUse()
    big.peak_rss = 200 << 20
    teardown = {("cpu", "teardown"): {"count": 30, "high_seconds": 0.5418}}
    found = case.seen(1000, 1200).found()[1]
    small = {"low_seconds": 0.0, "high_seconds": pytest.approx(40 * 0.0015)}
    assert found == {("cpu", "unreaped"): small, ("io", "unreaped"): {}} | teardown
    assert case.seen(1000, 900).found()[1] == {}, "all were waited for"
    assert teardown.items() <= case.seen(1000, 900, ignorers=1).found()[1].items()
    big.peak_rss = 49 << 20
    assert ("cpu", "teardown") not in case.found()[1]


@pytest.mark.parametrize(("ended", "raised"), [(454, False), (455, True)])
def test_ends_of_threads_are_in_no_source_but_the_cgroup(case: Case, ended: int, raised: bool) -> None:
    roll: Any = case.seen(900, 899).perf.roll
    roll.threads_ended = ended
    expected = {("cpu", "threads_ended"): {"count": ended, "high_seconds": 0.005}} if raised else {}
    assert case.found()[1] == expected
    roll.threads_ended = 12000
    assert case.seen(100000, 100000).found()[1] == {}, "less than one in 200"
    assert case.seen(872, 800, enclosed=906).found() == ("cgroup", {}), "no process is blamed for it"


def test_a_cgroup_blames_no_process_where_all_were_reaped(case: Case) -> None:
    roll: Any = case.seen(872, 800, enclosed=1106).perf.roll
    assert case.found() == ("cgroup", {("io", "unreaped"): {}})
    roll.started = 1
    assert case.found() == ("cgroup", {})
    case.perf.lost = 1
    assert ("io", "unreaped") in case.found()[1]


def test_a_total_without_user_and_system_time(case: Case) -> None:
    case.seen(1000, 999)
    case.sampler.total[USER] = 979 * MS
    split = {("cpu", "split_unknown"): {"low_seconds": 0.021, "high_seconds": 0.021}}
    assert case.found()[1] == split
    case.sampler.total[USER] = 980 * MS
    assert case.found()[1] == {}


def test_perf_lost_processes_and_saw_more_than_wait4(case: Case) -> None:
    case.seen(1000, 1200).ledger.cpu.lost = True
    assert case.found()[0] == "rusage"
    assert case.found()[1][("cpu", "unreaped")] == {"low_seconds": 0.2}


def test_children_that_no_listing_shows(case: Case) -> None:
    hidden = {("cpu", "left_running"): {"count": 2}, ("cpu", "hidden"): {"count": 1}}
    assert case.seen(1000, 999).found(left=2, hidden=1)[1] == hidden


# -- attach ----------------------------------------------------------------------------------------------------------


def test_attach_without_perf(tmp_path: Path) -> None:
    case = Case(tmp_path, own=None)
    case.sampler.readings.io_unread = {5: "io_denied"}
    assert known(gaps.of_attach(case.tree(), case.perf, 0.5)) == {
        ("cpu", "last_moments"): {"high_seconds": 0.02},
        ("cpu", "orphans_unseen"): {},
        ("io", "last_moments"): {"high_seconds": 0.5},
        ("io", "io_denied"): {"count": 1},
        ("memory", "last_moments"): {},
        ("processes", "processes_sampled"): {},
    }


def test_attach_with_perf(tmp_path: Path) -> None:
    case = Case(tmp_path, own=None)
    case.perf.total_ns = 5
    assert ("cpu", "attach_threads") not in known(gaps.of_attach(case.tree(), case.perf, 0.5))
    case.perf.unsure = True
    case.ledger.io_known = False
    assert known(gaps.of_attach(case.tree(), case.perf, 0.5)) == {
        ("cpu", "last_moments"): {"high_seconds": 0.02},
        ("cpu", "attach_threads"): {},
        ("io", "io_unavailable"): {},
        ("memory", "last_moments"): {},
        ("processes", "processes_sampled"): {},
    }


def last_moments(case: Case) -> dict[str, Any]:
    return known(gaps.of_attach(case.tree(), case.perf, 0.5))[("cpu", "last_moments")]


def test_last_moments_of_an_attach(tmp_path: Path) -> None:
    """What two CPUs can have done in 300 ms since the root was seen, less what perf counted, and ticks."""
    case = Case(tmp_path, own=None)
    case.seen(0, 1000)
    case.ledger.cpu.spliced = 900 * MS, 880 * MS
    case.sampler.lifecycle.cpus, case.sampler.lifecycle.root_waiters = 2, 1
    case.sampler.lifecycle.root_seen_ns -= 300 * MS
    assert last_moments(case) == {"high_seconds": 0.52}
    case.ledger.cpu.counted = 9000 * MS
    assert last_moments(case) == {"high_seconds": 0.04}
    case.ledger.cpu.counted = case.perf.total_ns = None
    assert last_moments(case) == {"high_seconds": 0.64}
    case.ledger.root_reaped = True
    assert last_moments(case) == {"high_seconds": 0.04}, "the parent of the root shows all but ticks"
    case.sampler.lifecycle.outside = 1
    assert last_moments(case) == {}, "a member ended elsewhere at any time"


def test_attach_where_perf_saw_processes_that_no_scan_did(tmp_path: Path) -> None:
    case = Case(tmp_path, own=None)
    case.seen(0, 1000)
    case.ledger.cpu.spliced = 6 * MS, 2 * MS
    case.ledger.best[CPU] = 1000 * MS
    found = known(gaps.of_attach(case.tree(), case.perf, 0.5))
    assert found[("cpu", "split_unknown")] == {"low_seconds": 1.0, "high_seconds": 1.0}
    assert ("cpu", "orphans_unseen") not in found, "all of it was since the last scan of the root"
    case.ledger.cpu.spliced = 6 * MS, 900 * MS
    found = known(gaps.of_attach(case.tree(), case.perf, 0.5))
    assert found[("cpu", "orphans_unseen")] == {}


# -- coverage --------------------------------------------------------------------------------------------------------


def test_coverage() -> None:
    complete = {"cpu": "complete", "memory": "complete", "io": "complete", "processes": "complete"}
    assert gaps.coverage([]) == complete
    assert gaps.coverage([gaps.gap(codes.TIME, codes.DELAY_SAMPLED)]) == complete
    assert gaps.coverage([gaps.gap(codes.CPU, codes.SETUID)]) == complete | {"cpu": "partial"}
    assert gaps.coverage([gaps.gap(codes.CPU, codes.SPLIT_UNKNOWN)]) == complete
    unknown = gaps.gap(codes.IO, codes.IO_UNAVAILABLE)
    assert gaps.coverage([unknown]) == complete | {"io": "unknown"}
    failed = dict.fromkeys(complete, "partial")
    assert gaps.coverage(gaps.of_failure()) == failed
    assert gaps.coverage([unknown, *gaps.of_failure()]) == failed | {"io": "unknown"}
