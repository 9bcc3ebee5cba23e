"""What is said to be missing of a run's totals, by what each source has seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeroot import FakeHost
from proctally import coverage
from proctally.enclosure import Enclosure
from proctally.ledger import CPU
from proctally.sampler import Sampler
from proctally.watch import Watch

MS = 1_000_000
COMPLETE = {"cpu": "complete", "io": "complete"}
IGNORED = "all but what children of 1 processes that ignore SIGCHLD used after they were last seen"
UNWAITED = "all but processes that nobody waited for, after they were last seen"


def said(
    folder: Path,
    reaped: int,
    counted: int | None = None,
    *,
    enclosed: int | None = None,
    doubtful: int = 0,
    ignorers: int = 0,
    left: bool = False,
) -> tuple[str, dict[str, str]]:
    """The source, and what is said of CPU time and io where the sources have seen so many milliseconds."""
    host = FakeHost(folder, own=77)
    sampler = Sampler(host.machine(), own=77)
    ledger = sampler.ledger
    ledger.waited = ledger.io_known = True
    ledger.reaped[CPU] = reaped * MS
    ledger.counted = None if counted is None else counted * MS
    ledger.enclosed = None if enclosed is None else enclosed * MS
    ledger.doubtful = doubtful * MS
    ledger.left = left
    sampler.ignores_children = set(range(ignorers))
    watch = Watch(sampler.machine)
    watch.total_ns = ledger.counted
    enclosure = Enclosure(sampler.machine)
    found = coverage.of_run(sampler, watch, enclosure, client=None, subreaper=True, strangers=0)
    return ledger.source(), {name: found[name] for name in COMPLETE}


def test_where_everybody_was_waited_for(tmp_path: Path) -> None:
    assert said(tmp_path, 1000, 999) == ("rusage", COMPLETE)


@pytest.mark.parametrize("counted", [900, 999])
def test_those_that_ignore_children_are_known_and_wait4_saw_the_most(tmp_path: Path, counted: int) -> None:
    """What perf saw of such children may be less than what it lacks of the ends of all others."""
    assert said(tmp_path, 1000, counted, ignorers=1) == ("rusage", {"cpu": IGNORED, "io": IGNORED})


def test_those_that_ignore_children_and_perf_saw_the_most(tmp_path: Path) -> None:
    source, words = said(tmp_path, 1000, 1200, ignorers=1)
    assert source == "perf"
    assert "perf alone has seen those that nobody waited for" in words["cpu"]
    assert words["io"] == IGNORED


def test_io_where_perf_saw_more_than_wait4(tmp_path: Path) -> None:
    source, words = said(tmp_path, 1000, 1200)
    assert source == "perf"
    assert words["io"] == UNWAITED


def test_io_where_perf_saw_more_than_wait4_and_a_cgroup_is_the_source(tmp_path: Path) -> None:
    assert said(tmp_path, 1000, 1200, enclosed=1000) == ("cgroup", {"cpu": "complete", "io": UNWAITED})


def test_io_where_the_cgroup_saw_more_than_wait4(tmp_path: Path) -> None:
    assert said(tmp_path, 1000, enclosed=1200) == ("cgroup", {"cpu": "complete", "io": UNWAITED})


def test_an_excess_that_others_explain_is_said(tmp_path: Path) -> None:
    source, words = said(tmp_path, 1000, 1030, doubtful=40)
    assert source == "rusage"
    assert words["cpu"].startswith(
        "all but perhaps 0.030 s that perf alone counted: its clock goes on while interrupts"
    )
    assert words["io"] == "complete"


def test_an_excess_that_is_nothing_is_not_said(tmp_path: Path) -> None:
    assert said(tmp_path, 1000, 1015, doubtful=40) == ("rusage", COMPLETE)


def test_a_cgroup_that_was_left(tmp_path: Path) -> None:
    source, words = said(tmp_path, 1000, 1000, enclosed=1200, left=True)
    assert source == "cgroup"
    assert words["cpu"].startswith("all but what was used outside of its cgroup")
