"""What the parent of an attached root shows of it: the last interval, which no scan can read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fakeroot import INIT, SECOND, TICK_NS
from ledger_job import ROOT, Job, close
from proctally.tree.cpu_sources import choose_source
from proctally.tree.member import MINOR

MS = 1_000_000


class Attached(Job):
    """A tree below a shell outside of it, with what perf counts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, attached=True)
        self.counted = 0
        self.sampler.lifecycle.cpus = 2

    def start(self) -> None:
        super().start()
        self.sampler.perf = SimpleNamespace(  # type: ignore[assignment]
            read=lambda **_: self.counted, roll=None, has_lost_processes=False, doubtful_ns=lambda: 0
        )
        self.sampler.lifecycle.follow_parent()
        self.look()

    def fork(self, pid: int, seconds: float, seen_by_perf: float) -> None:
        self.host.spawn(pid, ROOT)
        self.host.run(pid, user=seconds, minor=3)
        self.host.end(pid)
        self.counted += round(seen_by_perf * SECOND)

    def wake_parent(self) -> None:
        self.host.processes[INIT].slices += 1

    def end_root(self) -> None:
        self.wake_parent()
        self.host.exit(ROOT)
        self.host.reap(ROOT)


@pytest.fixture
def job(tmp_path: Path) -> Attached:
    job = Attached(tmp_path)
    job.host.run(ROOT, user=7.0, minor=100)
    job.host.spawn(99, INIT)
    job.start()
    return job


def test_the_last_interval_has_what_perf_lacks(job: Attached) -> None:
    job.host.spawn(150, ROOT)
    job.host.run(150, user=0.25)
    job.look()
    for pid in range(200, 210):
        job.fork(pid, 0.08, 0.04)
    job.host.end(150)
    job.end_root()
    job.look()
    assert close(job.cpu(), 1.05, ticks=2)
    assert job.sampler.total[MINOR] == job.truth()[MINOR]
    assert job.sampler.ledger.choose().source == "procfs"
    job.settle()
    assert close(job.cpu(), 1.05, ticks=2)
    assert job.sampler.lifecycle.outside == 0


def without_growth(job: Attached) -> None:
    job.host.processes[INIT].ignores = True


def with_a_sibling(job: Attached) -> None:
    job.host.run(99, user=0.5)
    job.host.end(99)


def with_too_much(job: Attached) -> None:
    job.host.spawn(300, INIT)
    job.host.run(300, user=3.0)
    job.host.end(300)


def with_a_quick_sibling(job: Attached) -> None:
    """It comes and goes between two scans: no list of children has it, but its parent is woken once more."""
    job.host.spawn(300, INIT)
    job.host.run(300, user=0.05)
    job.wake_parent()
    job.host.end(300)


@pytest.mark.parametrize("trouble", [without_growth, with_a_sibling, with_too_much, with_a_quick_sibling])
def test_growth_that_is_not_of_the_root_alone_is_not_taken(job: Attached, trouble: object) -> None:
    job.fork(200, 0.5, 0.2)
    assert callable(trouble)
    trouble(job)
    if trouble is without_growth:
        job.host.exit(ROOT)
    else:
        job.end_root()
    job.look()
    assert not job.sampler.ledger.root_reaped
    assert job.cpu() == pytest.approx(0.2, abs=0.001), "what perf counted since"


def running(job: Attached) -> None:
    """It need not sleep to wait for other children."""
    job.host.set_state(INIT, "R")


def without_slices(job: Attached) -> None:
    """CONFIG_SCHED_INFO is off: all zeros."""
    job.host.processes[INIT].slices = -1
    job.host.run(INIT)


@pytest.mark.parametrize("trouble", [running, without_slices])
def test_a_parent_whose_sleep_is_not_known(job: Attached, trouble: object) -> None:
    assert callable(trouble)
    trouble(job)
    job.look()
    job.fork(200, 0.5, 0.2)
    job.end_root()
    job.look()
    assert not job.sampler.ledger.root_reaped


def test_a_parent_that_cannot_be_read(job: Attached) -> None:
    job.host.deny(f"{INIT}/stat")
    job.look()
    job.fork(200, 0.5, 0.2)
    job.end_root()
    job.look()
    assert job.cpu() == pytest.approx(0.2, abs=0.001)


def test_source_attach_takes_the_parent_where_it_shows_more() -> None:
    spliced = {"attached": True, "root_reaped": True, "counted": 11 * SECOND, "spliced": (10 * SECOND, 9 * SECOND)}
    more = choose_source(reaped=13 * SECOND, **spliced)  # type: ignore[arg-type]
    assert (more.source, more.total_ns) == ("procfs", 13 * SECOND)
    less = choose_source(reaped=12 * SECOND - TICK_NS, **spliced)  # type: ignore[arg-type]
    assert (less.source, less.total_ns) == ("procfs+perf", 12 * SECOND)
