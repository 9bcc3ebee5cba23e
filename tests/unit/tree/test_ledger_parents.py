"""Totals of a tree whose processes are reaped by the tracker, get other parents or reused pids."""

from pathlib import Path

import pytest

from fakeroot import INIT, SECOND, TICK_NS
from ledger_job import IO_OF, ROOT, Job, close
from proctally.tree.member import CPU, IO

# -- what this process reaps -----------------------------------------------------------------------------------


def test_orphans_are_ours(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.run(202, user=0.4)
    job.look()
    host.run(200, user=0.1)
    host.end(200)
    host.run(201, user=0.2)
    job.look()
    host.exit(201)
    job.reap(201)
    host.run(202, user=0.3)
    job.look()
    assert job.cpu() == pytest.approx(host.cpu_seconds(ROOT), abs=2 * TICK_NS / SECOND)
    job.finish()
    job.exact()


def test_orphans_that_were_never_seen(job: Job) -> None:
    host = job.host
    for number in range(20):
        middle = 200 + 2 * number
        host.spawn(middle, ROOT)
        host.spawn(middle + 1, middle)
        host.end(middle)
        host.run(middle + 1, user=0.05, minor=2, io=IO_OF)
        host.exit(middle + 1)
        job.reap(middle + 1)
        if number % 5 == 0:
            job.look()
    job.look()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()
    assert job.sampler.processes_seen == 21  # those of less than an interval that others waited for are missing


def test_reaped_by_us_before_the_end_of_its_child_is_noticed(job: Job) -> None:
    """The rusage of the parent shows a child that the last look still saw alive."""
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(201, user=3.0, io=IO_OF)
    host.spawn(300, ROOT)
    host.run(300, user=0.5)
    job.look()
    host.end(300)
    host.run(201, user=0.5)
    host.end(201)
    host.run(200, user=0.1)
    host.end(200)
    host.exit(ROOT)
    job.reap(ROOT)
    job.look()
    job.exact(CPU)
    job.settle()
    job.exact()


def test_orphan_of_ours_is_reaped_with_its_own_children(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.run(202, user=1.0)
    job.look()
    host.end(200)  # 201 is ours; no look since
    host.end(202)
    host.exit(201)
    job.reap(201)
    job.look()
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def test_grandchild_of_ours_died_between_two_readings_of_one_look(tmp_path: Path) -> None:
    job = Job(tmp_path, descriptors=0)
    host = job.host
    job.start()
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(201, user=1.0)
    job.look()
    host.run(ROOT)
    host.run(200)
    host.once("200/stat", lambda: host.end(201))
    job.look()
    host.end(200)
    host.exit(ROOT)
    job.reap(ROOT)
    job.settle()
    job.exact()


def test_zombie_of_ours_that_cannot_be_read(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.end(200)
    host.run(201, user=0.5)
    host.exit(201)
    host.deny("201/stat")
    job.reap(201)
    job.look()
    job.exact(CPU)
    assert job.sampler.processes_seen == 2


# -- other parents, other processes of the same pid ---------------------------------------------------------------


@pytest.mark.parametrize("noticed", [True, False])
def test_orphan_below_an_inner_subreaper(job: Job, noticed: bool) -> None:
    host = job.host
    host.spawn(200, ROOT, subreaper=True)
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.run(202, user=1.0)
    job.look()
    host.end(201)
    if noticed:
        host.run(202, user=0.1)
        job.look()
    host.end(202)
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


@pytest.mark.parametrize("noticed", [True, False])
def test_orphan_below_an_inner_subreaper_further_up(job: Job, noticed: bool) -> None:
    """Between the orphan and its new parent stands one that lives and never shows its time."""
    host = job.host
    host.spawn(200, ROOT, subreaper=True)
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.spawn(203, 202)
    host.run(203, user=1.0, minor=4, io=IO_OF)
    job.look()
    host.end(202)
    if noticed:
        host.run(203, user=0.1)
        job.look()
    host.end(203)
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def test_idle_orphan_is_reaped_by_its_new_parent(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, subreaper=True)
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.spawn(203, 202)
    host.run(203, user=1.0)
    job.look()
    host.end(202)
    assert host.processes[203].ppid == 200
    job.look()  # it did not run: its clock stands, its parent is another
    host.end(203)
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


@pytest.mark.parametrize("descriptors", [0, 512])
@pytest.mark.parametrize("second", [0.2, 3.0])
def test_pid_used_again_between_looks(tmp_path: Path, descriptors: int, second: float) -> None:
    job = Job(tmp_path, descriptors=descriptors)
    host = job.host
    job.start()
    host.spawn(200, ROOT)
    host.run(200, user=1.0)
    job.look()
    host.end(200)
    host.spawn(200, ROOT)
    host.run(200, user=second)
    job.look()
    host.run(ROOT)
    job.look()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    host.end(200)
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


@pytest.mark.parametrize("second", [0.2, 3.0])
def test_pid_used_again_by_a_stranger(job: Job, second: float) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.run(200, user=1.0)
    job.look()
    host.end(200)
    host.spawn(200, INIT)
    host.run(200, user=second)
    job.settle()
    assert close(job.cpu(), 1.0)


@pytest.mark.parametrize("second", [0.2, 3.0])
def test_pid_used_again_by_one_that_we_reap(job: Job, second: float) -> None:
    """A grandchild was reaped by its parent, and an orphan with its pid ended, all since the last look."""
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(300, 200)
    host.run(300, user=1.0)
    job.look()
    host.end(300)
    host.spawn(201, 200)
    host.spawn(300, 201)
    host.run(300, user=second)
    host.end(201)
    host.exit(300)
    job.reap(300)
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def chain_below_a_subreaper(job: Job) -> None:
    """200, a subreaper, and below it 201, 202 and 203, each with CPU time of its own."""
    host = job.host
    for pid, parent in ((200, ROOT), (201, 200), (202, 201), (203, 202)):
        host.spawn(pid, parent, subreaper=pid == 200)
        host.run(pid, user=0.1 * (pid - 195))
    job.look()


def test_what_is_explained_for_certain_comes_first(job: Job) -> None:
    """202 shows in 201, its parent; 203 came to 200 and shows there, though the growth of 201 could hold it, too."""
    chain_below_a_subreaper(job)
    job.host.run(202, user=1.0)
    job.look()
    job.host.end(202)
    job.host.end(203)
    job.settle()
    assert close(job.cpu(), job.host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def test_who_vanished_before_the_root_is_reaped_shows_in_the_subreaper(job: Job) -> None:
    """The root shows time of another child, which is no room for what the subreaper has reaped since the last look."""
    host = job.host
    chain_below_a_subreaper(job)
    host.spawn(300, ROOT)
    host.run(300, user=0.9)
    job.look()
    host.end(300)
    job.look()
    host.end(202)
    host.end(201)
    host.exit(ROOT)
    job.reap(ROOT)
    job.look()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def test_one_forked_by_a_parent_that_was_read_between_two_looks_is_found(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.spawn(205, ROOT)
    job.look()
    host.end(200)
    job.look()  # 201 is ours now
    host.end(202)
    host.end(205)
    host.spawn(300, ROOT)  # and nothing more runs in the root until the next look
    host.spawn(301, ROOT)
    host.end(301)
    host.exit(201)
    job.reap(201)
    job.look()
    assert 300 in job.sampler.members


def test_io_of_one_that_nobody_waited_for_is_not_explained_by_what_was_before(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.run(200, io=IO_OF)
    job.look()
    host.run(ROOT, user=0.1, io=tuple(5 * value for value in IO_OF))
    job.look()
    host.auto_reap(200)
    host.run(ROOT, user=0.1)  # it reads and writes nothing more
    job.settle()
    assert tuple(job.sampler.ledger.total()[IO:]) == tuple(6 * value for value in IO_OF)
