"""CPU time that comes late: with a process that this user cannot read, when its parent has waited for it."""

from __future__ import annotations

from errno import EACCES
from pathlib import Path

import pytest

from fakeroot import SECOND
from ledger_job import ROOT, Job
from proctally.errors import AccessDenied
from proctally.tree.hidden import Hidden, backdate, is_hidden
from proctally.tree.member import MINOR

CPUS = 2


@pytest.fixture(params=["children", "pids"])
def job(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr("os.cpu_count", lambda: CPUS)
    job = Job(tmp_path, last_pid=request.param == "pids")
    job.start()
    return job


def hidden_child(job: Job, pid: int) -> None:
    """The root starts a setuid program that its user cannot read."""
    job.host.spawn(pid, ROOT)
    job.host.hide(pid)


def run_grandchild(job: Job, seconds: float) -> None:
    """A child of the hidden one, which waits for it: nothing shows its time but the usage of the hidden one."""
    job.host.spawn(300, 200)
    job.host.hide(300)
    job.host.run(300, user=seconds)
    job.host.end(300)


def test_clock_of_a_hidden_child_is_read(job: Job) -> None:
    hidden_child(job, 200)
    for _ in range(3):
        job.host.run(200, user=0.75)
        job.look(1.0)
    assert job.cores[-1] == pytest.approx(0.75, abs=0.01)
    assert job.cpu() == pytest.approx(2.25, abs=0.01)
    assert job.sampler.hidden_living() == 1
    assert job.sampler.processes_started() == 2
    job.host.end(200)
    job.settle()
    assert job.sampler.hidden_living() == 0
    assert list(job.sampler.members) == [ROOT]
    job.finish()
    job.exact()


def test_memory_of_a_hidden_child_is_a_gap(job: Job) -> None:
    """No bound holds what it has: memory was `complete`."""
    job.look(1.0)
    assert "hidden" not in [code for code, _, _ in job.sampler.memory.gaps()]
    hidden_child(job, 200)
    job.host.run(200, user=0.5, minor=1000, pages=1000)
    job.look(1.0)
    assert "hidden" in [code for code, _, _ in job.sampler.memory.gaps()]


def test_time_of_hidden_children_is_of_the_whole_lifetime_of_their_parent(job: Job) -> None:
    hidden_child(job, 200)
    for _ in range(4):
        run_grandchild(job, 0.9)
        job.look(1.0)
        assert job.cores[-1] < 0.01
    run_grandchild(job, 0.9)
    job.host.end(200)
    job.look(1.0)
    assert job.cores[-1] == pytest.approx(0.9, abs=0.01), "4.5 s come at once"
    assert job.cpu() == pytest.approx(4.5, abs=0.02)
    job.host.run(ROOT, user=0.25)
    job.look(1.0)
    assert job.cores[-1] == pytest.approx(0.25, abs=0.02), "the next interval has its own rate"
    job.finish()
    job.exact()


def test_an_interval_holds_no_more_than_its_cpus(job: Job) -> None:
    """Evenly spread, the hidden ones would have had half a CPU that others used for certain."""
    hidden_child(job, 200)
    run_grandchild(job, 2.0)
    job.look(1.0)
    job.host.run(ROOT, user=1.9)
    job.host.end(200)
    job.look(1.0)
    assert job.cores[-1] == pytest.approx(CPUS, abs=0.03)
    assert job.cpu() == pytest.approx(3.9, abs=0.02)


def test_hidden_orphan_that_we_reap(job: Job) -> None:
    hidden_child(job, 200)
    for _ in range(3):
        run_grandchild(job, 0.5)
        job.host.run(200, user=0.25)
        job.look(1.0)
    job.host.exit(ROOT)
    job.reap(ROOT)
    job.look(1.0)
    assert list(job.sampler.members) == [200]
    job.host.exit(200)
    job.reap(200)
    job.look(1.0)
    assert job.cores[-1] == pytest.approx(1.5 / 5, abs=0.01)
    assert job.cpu() == pytest.approx(2.25, abs=0.01)
    job.settle()
    job.exact()


def test_children_that_no_scan_saw_and_that_can_be_read_are_of_their_interval(job: Job) -> None:
    for pid in range(200, 210):
        job.host.spawn(pid, ROOT)
        job.host.run(pid, user=0.1)
        job.host.end(pid)
    job.look(1.0)
    assert job.cores[-1] == pytest.approx(1.0, abs=0.03)
    assert job.sampler.tree.hidden is None


def test_hidden_is_who_has_a_clock_and_no_file(job: Job) -> None:
    hidden = Hidden(job.sampler.machine)
    hidden_child(job, 200)
    assert [is_hidden(job.sampler.machine, pid) for pid in (200, ROOT, 999)] == [True, False, False]
    hidden.note(200, 7)
    hidden.note(200, 9)
    assert hidden.take_ended() is None
    job.host.end(200)
    assert hidden.take_ended() == 7
    assert hidden.take_ended() is None


@pytest.mark.parametrize("attached", [False, True])
def test_hidden_process_that_can_be_read_later_is_one(tmp_path: Path, attached: bool) -> None:
    """As the child of su(1): it counted twice, as a process that ended and as a new one."""
    job = Job(tmp_path, attached=attached)
    job.start()
    hidden_child(job, 200)
    for _ in range(2):
        job.host.run(200, user=0.75, minor=5)
        job.look(1.0)
    job.host.show(200)
    for _ in range(2):
        job.host.run(200, user=0.75, minor=5, pages=10)
        job.look(1.0)
    assert job.cpu() == pytest.approx(3.0, abs=0.01)
    assert (job.sampler.processes_started(), job.sampler.hidden_living()) == (2, 0)
    assert job.sampler.members[200].rss == 10 * 4096
    assert job.truth()[MINOR] == job.sampler.total[MINOR]


@pytest.mark.parametrize("descriptors", [0, 100])
def test_refused_stat_costs_the_process_alone(tmp_path: Path, descriptors: int) -> None:
    job = Job(tmp_path, attached=True, descriptors=descriptors)
    job.host.run(ROOT, user=0.5, minor=7)
    job.host.deny(f"{ROOT}/stat")
    job.start()
    job.host.spawn(200, ROOT)
    for _ in range(2):
        job.host.run(ROOT, user=0.25)
        job.host.run(200, user=0.5)
        job.look(1.0)
    assert job.cpu() == pytest.approx(1.5, abs=0.01)
    assert job.sampler.members.keys() == {ROOT, 200}
    assert "hidden" in [code for code, _, _ in job.sampler.memory.gaps()]
    job.host.denied.clear()
    job.host.run(ROOT, user=0.25, minor=1, pages=3)
    job.look(1.0)
    assert job.cpu() == pytest.approx(1.75, abs=0.01)
    assert job.sampler.members[ROOT].rss == 3 * 4096


def test_process_of_which_nothing_can_be_read_is_denied(tmp_path: Path) -> None:
    job = Job(tmp_path, attached=True)
    job.host.deny(f"{ROOT}/stat", f"{ROOT}/status")
    with pytest.raises(AccessDenied):
        job.start()


def test_kept_stat_that_is_refused_is_no_end(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.look(1.0)
    refused = AccessDenied(EACCES, "Permission denied")
    monkeypatch.setattr("proctally.linux.proc.reread", lambda fd: (_ for _ in ()).throw(refused))
    job.host.run(ROOT, user=0.5)
    job.look(1.0)
    monkeypatch.undo()
    job.host.run(ROOT, user=0.25)
    job.look(1.0)
    assert list(job.sampler.members) == [ROOT]
    assert job.sampler.hidden_living() == 0
    assert job.cpu() == pytest.approx(0.75, abs=0.01)


def test_gaps_of_a_hidden_root_alone(tmp_path: Path) -> None:
    """Memory was `not_sampled`, with a bound that held the largest process alone."""
    job = Job(tmp_path)
    job.host.deny(f"{ROOT}/stat")
    job.start()
    assert [code for code, _, _ in job.sampler.memory.gaps()] == ["hidden"]
    assert job.sampler.memory.summary()["peak_high_bytes"] is None


def test_backdate_raises_what_was_known_before() -> None:
    before = {"own": 0, "procfs": 0, "rusage": 0, "perf": 5}
    rates = [(1 * SECOND, dict(before)), (2 * SECOND, dict(before))]
    levels = {"own": SECOND, "procfs": 5 * SECOND, "rusage": 5 * SECOND}
    backdate(rates, 3 * SECOND, levels, -SECOND, cpus=4)
    share = {"own": 0, "procfs": 3 * SECOND, "rusage": 3 * SECOND, "perf": 5}
    assert rates[1][1] == share, "one of four seconds that came late"
    assert rates[0][1]["procfs"] == 2 * SECOND


@pytest.mark.parametrize(("begin", "arrived"), [(2, 5), (3, 5), (0, 0)])
def test_backdate_leaves_what_is_of_the_interval(begin: int, arrived: int) -> None:
    rates = [(2 * SECOND, {"own": 0, "procfs": 0})]
    backdate(rates, 3 * SECOND, {"own": SECOND, "procfs": (arrived + 1) * SECOND}, begin * SECOND, cpus=1)
    assert rates[0][1]["procfs"] == 0
