"""Conserved totals: whatever a tree does, they never fall, never exceed the truth, and end at it.

The scripts run against `fakeroot` over several looks; the ledger is driven by the sampler that owns the order of
reading. Totals are a lower bound: what waits in the kernel's counters of waited-for children is cut to ticks there, the
user's and the system's share each.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fakeroot import INIT, SECOND, TICK_NS, FakeHost, attach_to, nanoseconds, reap_ours
from proctally.ledger import CPU, DELAY, IO, MAJOR, MINOR, SIZE, SWITCHES, SYSTEM, USER, Ledger
from proctally.sampler import Sampler

OWN = 77
ROOT = 100
MICROSECOND = 1000
IO_OF = (4096, 512, 8, 4, 8192, 1024, 0)


class Job:
    """A tree on a fake host and its tracker; every look checks that totals rise and stay below the truth."""

    def __init__(self, folder: Path, *, attached: bool = False, descriptors: int = 512, clocks: bool = True) -> None:
        self.host = host = FakeHost(folder, own=None if attached else OWN)
        self.attached = attached
        self.clocks = clocks
        host.spawn(ROOT, INIT if attached else OWN)
        host.advance(1)
        self.sampler = Sampler(host.machine(clocks=clocks), own=host.own, descriptors=descriptors)
        self.founders = 1
        self.base = [0] * SIZE
        self.before = [0] * SIZE
        self.cores: list[float] = []

    def start(self) -> None:
        self.base = self.host.used(ROOT)
        self.founders = len(self.host.family(ROOT))
        if self.attached:
            attach_to(self.sampler, ROOT)
        else:
            self.sampler.start(ROOT)
        self.look()

    def truth(self) -> list[int]:
        return [used - base for used, base in zip(self.host.used(ROOT), self.base, strict=True)]

    def look(self, seconds: float = 1.0) -> list[int]:
        """A sample after so much time; the totals of the tree."""
        self.host.advance(seconds)
        sample = self.sampler.sample()
        if sample["tree"]["cpu_cores"] is not None:
            self.cores.append(sample["tree"]["cpu_cores"])
        total = self.sampler.best
        truth = self.truth()
        for place in range(SIZE):
            assert total[place] >= self.before[place], f"the total of {place} fell"
            slack = self.slack(place)
            assert total[place] <= truth[place] + slack, f"more than the truth in {place}: {total} against {truth}"
        self.before = list(total)
        return total

    def slack(self, place: int) -> int:
        """What was before is cut to ticks as well, of each process and of those it waited for."""
        ticks = {CPU: 2, USER: 2, SYSTEM: 2}.get(place, 0) * self.founders
        return ticks * TICK_NS * (1 if self.clocks else 2)

    def cpu(self) -> float:
        """CPU seconds as the last sample told them."""
        return self.sampler.best[CPU] / SECOND

    def reap(self, pid: int) -> None:
        reap_ours(self.host, self.sampler, pid)

    def finish(self) -> None:
        """The root ends and is reaped, and so is every orphan: everything is known exactly."""
        for process in self.host.family(ROOT):
            if process.ppid == OWN:
                if not process.ended:
                    self.host.exit(process.pid)
                self.reap(process.pid)
        if self.host.family(ROOT):
            self.finish()
        self.settle()

    def settle(self) -> list[int]:
        for _ in range(3):
            self.look()
        return self.look()

    def exact(self, *places: int) -> None:
        """The total is the truth, to the microsecond of wait4 in times."""
        truth = self.truth()
        for place in places or [place for place in range(SIZE) if place != DELAY]:
            slack = 100 * MICROSECOND if place in (CPU, USER, SYSTEM) else 0
            assert self.sampler.best[place] == pytest.approx(truth[place], abs=slack), place


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = Job(tmp_path)
    job.start()
    return job


@pytest.fixture
def attached(tmp_path: Path) -> Job:
    return Job(tmp_path, attached=True)


def close(total: float, truth: float, ticks: int = 2) -> bool:
    """Equal to the ticks that `cutime` and `cstime` lose."""
    return truth - ticks * TICK_NS / SECOND <= total <= truth + 1e-4


# -- several looks of simple trees ---------------------------------------------------------------------------------


def test_one_process(job: Job) -> None:
    host = job.host
    for _ in range(5):
        host.run(ROOT, user=0.6, system=0.1, minor=7, major=1, switches=3, io=IO_OF)
        job.look()
        assert job.cpu() == pytest.approx(host.cpu_seconds(ROOT), abs=1e-6)
    assert job.cores == [pytest.approx(0.7, abs=1e-3)] * 5
    job.exact()
    job.finish()
    job.exact()


def test_what_the_held_child_used_before_is_not_counted(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.host.run(ROOT, user=0.5, system=0.25, minor=100, major=2, switches=9, io=IO_OF)
    job.start()
    assert job.look()[:IO] == [0] * IO
    job.host.run(ROOT, user=1, minor=11, io=IO_OF)
    total = job.look()
    assert total[CPU] == pytest.approx(SECOND, abs=10)
    assert (total[MINOR], total[MAJOR], total[SWITCHES], total[IO]) == (11, 0, 0, 4096)
    job.finish()
    job.exact()


def test_long_child_reaped_at_its_end(job: Job) -> None:
    """Its whole time moves into its parent's at once: no interval has more cores than ran."""
    host = job.host
    host.spawn(200, ROOT)
    for _ in range(10):
        host.run(200, user=0.9)
        job.look()
    host.run(200, user=0.4)
    host.end(200)
    job.look()
    assert close(job.cpu(), 9.4)
    for _ in range(5):
        job.look()
        assert close(job.cpu(), 9.4)
    assert max(job.cores) <= 0.92
    job.finish()
    job.exact()


def test_many_short_children(job: Job) -> None:
    host = job.host
    pid = 1000
    for _ in range(6):
        for _ in range(40):
            host.spawn(pid, ROOT)
            host.run(pid, user=0.004, system=0.001, minor=20, switches=1, io=IO_OF)
            host.end(pid)
            pid += 1
        job.look()
        assert close(job.cpu(), host.cpu_seconds(ROOT))
        assert job.sampler.best[MINOR] == job.truth()[MINOR]
        assert job.sampler.best[IO] == job.truth()[IO]
    job.finish()
    job.exact()


def test_short_children_of_which_some_are_seen(job: Job) -> None:
    host = job.host
    pid = 1000
    host.spawn(pid, ROOT)
    for _ in range(30):
        for _ in range(3):
            host.run(pid, user=0.007, system=0.006, minor=3, io=IO_OF)
            host.end(pid)
            pid += 1
            host.spawn(pid, ROOT)
            host.run(pid, user=0.002, system=0.003, minor=1)
        job.look(0.1)
        assert close(job.cpu(), host.cpu_seconds(ROOT), ticks=3)
    job.finish()
    job.exact()


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_two_levels(job: Job, looks: int) -> None:
    host = job.host
    for number in range(5):
        middle = 200 + 10 * number
        host.spawn(middle, ROOT)
        for pid in range(middle + 1, middle + 5):
            host.spawn(pid, middle)
            host.run(pid, user=0.2, minor=3, io=IO_OF, switches=2)
            for _ in range(looks):
                job.look(0.1)
            host.run(pid, user=0.05)
            host.end(pid)
        host.end(middle)
        job.look(0.1)
        assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_a_chain_ends_within_one_interval(job: Job, depth: int) -> None:
    """`sh -c 'sh -c busy'`: the innermost is reaped by the next, and that by the next, until the root is ours."""
    host = job.host
    for pid in range(ROOT + 1, ROOT + depth + 1):
        host.spawn(pid, pid - 1)
    host.run(ROOT + depth, user=0.9, io=IO_OF)
    job.look()
    host.run(ROOT + depth, user=0.05)
    for pid in range(ROOT + depth, ROOT, -1):
        host.end(pid)
    host.exit(ROOT)
    job.reap(ROOT)
    job.settle()
    job.exact()


def test_a_chain_ends_below_a_root_that_lives(job: Job) -> None:
    host = job.host
    for pid in (101, 102, 103):
        host.spawn(pid, pid - 1)
    host.run(103, user=0.9, minor=5, io=IO_OF)
    job.look()
    for pid in (103, 102, 101):
        host.end(pid)
    job.settle()
    assert close(job.cpu(), 0.9)
    assert job.sampler.best[MINOR] == 5
    assert job.sampler.best[IO] == job.truth()[IO]
    job.finish()
    job.exact()


def test_eight_parents_of_short_children(job: Job) -> None:
    host = job.host
    parents = range(200, 208)
    for parent in parents:
        host.spawn(parent, ROOT)
    pid = 1000
    for _ in range(8):
        for parent in parents:
            for _ in range(5):
                host.spawn(pid, parent)
                host.run(pid, user=0.004, system=0.0035)
                host.end(pid)
                pid += 1
        job.look()
        assert close(job.cpu(), host.cpu_seconds(ROOT), ticks=2 * len(parents))
    for parent in parents:
        host.end(parent)
    job.look()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def test_zombies_nobody_waits_for(job: Job) -> None:
    host = job.host
    for pid in range(200, 210):
        host.spawn(pid, ROOT)
        host.run(pid, user=0.3)
        host.exit(pid)
    job.look()
    assert job.cpu() == pytest.approx(host.cpu_seconds(ROOT), abs=1e-6)
    host.exit(ROOT)  # they become ours
    job.finish()
    job.exact()


# -- children that the kernel reaps by itself ------------------------------------------------------------------------


def test_auto_reaped_child_is_kept_from_its_last_reading(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.run(200, user=0.75, minor=9, io=IO_OF)
    job.look()
    seen = job.cpu()
    host.run(200, user=0.1)
    host.auto_reap(200)
    for _ in range(5):
        host.run(ROOT, user=0.01)
        job.look()
    assert job.cpu() == pytest.approx(seen + 0.05, abs=1e-3)
    assert job.sampler.best[MINOR] == 9


def test_many_auto_reaped_children(job: Job) -> None:
    host = job.host
    host.processes[ROOT].ignores = True
    for pid in range(200, 240):
        host.spawn(pid, ROOT)
        host.run(pid, user=0.05)
        job.look(0.1)
        host.exit(pid)
        assert pid not in host.processes
    job.settle()
    assert job.cpu() == pytest.approx(host.cpu_seconds(ROOT), abs=1e-4)


def test_auto_reaped_beside_reaped(job: Job) -> None:
    """The growth that shows the reaped explains the auto-reaped of the same interval as well, and nothing later."""
    host = job.host
    host.spawn(200, ROOT)
    host.run(200, user=1.0)
    job.look()
    host.end(200)
    job.settle()
    for pid in range(300, 310):  # a new server of each kind every time
        host.spawn(pid, ROOT)
        host.run(pid, user=0.5)
        job.look()
        if pid % 2:
            host.end(pid)
        else:
            host.auto_reap(pid)
        job.settle()
        assert close(job.cpu(), host.cpu_seconds(ROOT), ticks=4)


def test_growth_from_before_explains_no_auto_reaped_child(job: Job) -> None:
    """What the parent's counters showed in earlier intervals is of others."""
    host = job.host
    host.spawn(200, ROOT)
    host.run(200, user=0.5)
    job.look()
    host.run(200, user=0.1, system=0.1)  # all that was seen is explained, and more
    host.end(200)
    job.look()
    host.spawn(300, ROOT)
    host.run(300, user=2.0)
    host.end(300)  # never seen
    job.look()
    host.spawn(201, ROOT)
    host.run(201, user=1.0)
    job.look()
    host.auto_reap(201)
    job.settle()
    assert close(job.sampler.ledger.total()[CPU] / SECOND, host.cpu_seconds(ROOT), ticks=4)


def test_auto_reaped_below_a_parent_that_is_reaped(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(201, user=0.8)
    host.run(200, user=0.2)
    job.look()
    host.auto_reap(201)
    host.end(200)
    job.settle()
    assert close(job.cpu(), 1.0)
    job.finish()
    assert close(job.cpu(), 1.0, ticks=4)


# -- races within one look ---------------------------------------------------------------------------------------


RACES = ["100/clock", "200/clock", "201/clock", "100/stat", "200/stat", "201/stat", "202/stat", "200/io", "201/io"]


@pytest.mark.parametrize("moment", RACES)
@pytest.mark.parametrize("idle", ["child", "parent", "both", "neither"])
@pytest.mark.parametrize("clocks", [True, False])
def test_child_is_reaped_during_a_look(tmp_path: Path, moment: str, idle: str, clocks: bool) -> None:
    job = Job(tmp_path, descriptors=0, clocks=clocks)
    host = job.host
    job.start()
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(202, 200)
    host.run(201, user=2.0, io=IO_OF, minor=5)
    job.look()
    job.look()
    for pid, who in ((200, "parent"), (201, "child")):
        if idle not in (who, "both"):
            host.run(pid, user=0.1)
    host.run(ROOT, user=0.1)
    host.run(202, user=0.1)

    def ends() -> None:
        if 201 in host.processes:
            host.end(201)

    host.once(moment, ends)
    job.look()
    ends()  # a file may not be read at all in a look where its process did not run
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT), ticks=2 if clocks else 12)
    job.finish()
    job.exact(*([CPU, USER, SYSTEM, MINOR, IO] if clocks else [MINOR, IO]))


@pytest.mark.parametrize("moment", [*RACES, "203/stat"])
def test_child_and_parent_are_reaped_during_a_look(tmp_path: Path, moment: str) -> None:
    job = Job(tmp_path, descriptors=0)
    host = job.host
    job.start()
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.spawn(203, ROOT)
    host.run(202, user=2.0)
    host.run(203, user=1.0)
    job.look()
    for pid in (ROOT, 200, 201, 203):
        host.run(pid, user=0.1)

    def ends() -> None:
        for pid in (202, 201, 200, 203):
            if pid in host.processes:
                host.end(pid)

    host.once(moment, ends)
    job.look()
    ends()
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def test_chain_is_reaped_while_the_ancestor_is_read_again(tmp_path: Path) -> None:
    """One member is gone, so the root is read a second time in this look: it shows a grandchild by then."""
    job = Job(tmp_path, descriptors=0)
    host = job.host
    job.start()
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(300, ROOT)
    host.run(201, user=2.0)
    host.run(300, user=1.0)
    job.look()
    host.end(300)
    readings = 0

    def second_reading(path: str) -> None:
        nonlocal readings
        readings += path == f"{ROOT}/stat"
        if readings == 2 and 201 in host.processes:
            host.end(201)
            host.end(200)

    host.on_access = second_reading
    job.look()
    host.on_access = None
    assert 201 not in host.processes
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def test_parent_and_child_vanish_in_the_same_look(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(200, user=0.25)
    host.run(201, user=0.5)
    job.look()
    host.run(201, user=0.05)
    host.end(201)
    host.end(200)
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()


def test_state_x_counts_as_gone(job: Job) -> None:
    """Its parent is reaping it: the parent's counters may show it a moment later."""
    host = job.host
    host.spawn(200, ROOT)
    host.run(200, user=1.0)
    job.look()
    host.run(200, user=0.1)
    host.exit(200)
    host.set_state(200, "X")
    job.look()
    assert 200 not in job.sampler.tree.members
    assert job.cpu() == pytest.approx(1.0, abs=0.001)
    host.reap(200)
    job.settle()
    assert close(job.cpu(), 1.1)
    job.finish()
    job.exact()


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
    assert job.sampler.started == 21  # those of less than an interval that others waited for are missing


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
    assert job.sampler.started == 2


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
    assert 300 in job.sampler.tree.members


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


# -- threads -----------------------------------------------------------------------------------------------------


def test_main_thread_ended_and_others_live(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, threads=3)
    host.run(200, user=0.5)
    job.look()
    host.end_leader(200)
    for _ in range(3):
        host.run(200, user=0.5)
        job.look()
    assert job.cpu() == pytest.approx(2.0, abs=1e-3)
    assert 200 in job.sampler.tree.members
    host.end(200)
    job.settle()
    assert close(job.cpu(), 2.0)
    job.finish()
    job.exact()


def test_run_delay_of_ended_threads_stays(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, threads=3)
    job.look()
    host.waits(20001, 0.5, pid=200)
    host.waits(20002, 0.25, pid=200)
    job.look()
    assert job.sampler.best[DELAY] == nanoseconds(0.75)
    host.end_thread(200, 20001)
    host.waits(200, 0.125)
    job.look()
    assert job.sampler.best[DELAY] == nanoseconds(0.875)
    host.end_thread(200, 20002)
    host.start_thread(200, 20001)  # its id is used again
    host.waits(20001, 0.0625, pid=200)
    job.look()
    job.look()
    assert job.sampler.best[DELAY] == nanoseconds(0.9375)
    host.end(200)
    job.settle()
    assert job.sampler.best[DELAY] == nanoseconds(0.9375)  # nothing ever shows the run delay of the dead


# -- counters other than time --------------------------------------------------------------------------------------


def test_context_switches_hide_in_the_parent_until_it_is_reaped(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(201, switches=40)
    host.run(200, switches=5)
    job.look()
    assert job.sampler.best[SWITCHES] == 45
    host.run(201, switches=2)
    host.end(201)
    job.settle()
    assert job.sampler.best[SWITCHES] == 45
    host.run(200, switches=10)
    job.look()
    assert job.sampler.best[SWITCHES] == 55
    host.end(200)
    job.settle()
    assert job.sampler.best[SWITCHES] == 55
    job.finish()
    assert job.sampler.best[SWITCHES] == 57
    job.exact()


def test_io_with_that_of_waited_for_children(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(201, io=IO_OF)
    host.run(200, io=IO_OF)
    assert tuple(job.look()[IO:]) == tuple(2 * value for value in IO_OF)
    host.run(201, io=IO_OF)
    host.end(201)
    assert tuple(job.look()[IO:]) == tuple(3 * value for value in IO_OF)
    host.end(200)
    assert tuple(job.look()[IO:]) == tuple(3 * value for value in IO_OF)
    host.exit(ROOT)
    job.reap(ROOT)
    assert tuple(job.settle()[IO:]) == tuple(3 * value for value in IO_OF)


def test_denied_io_is_known_when_it_is_reaped(tmp_path: Path) -> None:
    job = Job(tmp_path)
    host = job.host
    host.deny(f"{ROOT}/io", "200/io")
    job.start()
    host.spawn(200, ROOT)
    host.run(200, io=IO_OF)
    job.host.advance(1)
    assert job.sampler.sample()["tree"]["read_bytes"] is None
    host.end(200)
    host.exit(ROOT)
    job.reap(ROOT)
    assert tuple(job.settle()[IO:]) == IO_OF
    assert job.sampler.io_denied == {ROOT, 200}


def test_faults_of_children(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.run(200, minor=50, major=3)
    assert job.look()[MINOR : MAJOR + 1] == [50, 3]
    host.run(200, minor=5)
    host.end(200)
    assert job.look()[MINOR : MAJOR + 1] == [55, 3]
    host.spawn(201, ROOT)
    host.run(201, minor=1, major=1)
    host.end(201)
    assert job.look()[MINOR : MAJOR + 1] == [56, 4]


# -- attach ------------------------------------------------------------------------------------------------------


def test_attach_counts_from_now(attached: Job) -> None:
    host = attached.host
    host.spawn(200, ROOT, threads=2)
    host.spawn(201, 200)
    for pid in (ROOT, 200, 201):
        host.run(pid, user=5.0, minor=100, switches=7, io=IO_OF)
    host.waits(20001, 0.5, pid=200)
    host.spawn(300, ROOT)
    host.run(300, user=4.0, io=IO_OF)
    host.end(300)
    host.advance(1)
    attached.start()
    assert attached.sampler.best == [0] * SIZE
    host.run(200, user=0.5, minor=3, switches=2, io=IO_OF)
    host.waits(20001, 0.25, pid=200)
    attached.look()
    attached.exact(*range(SIZE))
    host.run(201, user=0.25)
    host.end(201)
    attached.settle()
    assert close(attached.cpu(), 0.75)
    host.end(200)
    attached.settle()
    assert close(attached.cpu(), 0.75)


@pytest.mark.parametrize("moment", ["201/clock", "201/stat", "200/clock", "200/stat", "100/clock", "100/stat"])
def test_child_is_reaped_while_the_baseline_is_taken(attached: Job, moment: str) -> None:
    """Children before their parents: what was before is never part of the total."""
    host = attached.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(201, user=5.0, minor=9, io=IO_OF)
    host.run(200, user=1.0)
    host.advance(1)
    taken = 0

    def after_admission(path: str) -> None:
        nonlocal taken
        taken += path == moment
        if taken == (1 if moment.endswith("clock") else 2) and 201 in host.processes:
            host.end(201)

    host.on_access = after_admission
    attached.start()
    host.on_access = None
    assert 201 not in host.processes
    attached.settle()
    assert attached.cpu() <= 2 * TICK_NS / SECOND
    host.run(200, user=0.5)
    attached.look()
    assert attached.cpu() == pytest.approx(0.5, abs=2 * TICK_NS / SECOND)


def test_member_that_is_seen_late_but_started_before_the_attach(attached: Job) -> None:
    host = attached.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(201, user=5.0, switches=9, minor=3, io=IO_OF)
    host.advance(1)
    children = host.processes[200].folder / "task" / "200" / "children"
    children.write_bytes(b"")  # imprecise at this moment
    attached.start()
    assert 201 not in attached.sampler.tree.members
    children.write_bytes(b"201 ")
    host.run(200)
    attached.look()
    assert 201 in attached.sampler.tree.members
    assert attached.cpu() < 0.001
    assert attached.sampler.best[MINOR:] == [0] * (SIZE - MINOR)
    host.run(201, user=0.5, switches=1)
    host.spawn(202, 201)
    host.run(202, user=0.25)
    attached.look()
    assert attached.cpu() == pytest.approx(0.75, abs=1e-3)


def test_orphan_of_an_attached_tree_goes_on_counting(attached: Job) -> None:
    host = attached.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    attached.start()
    host.run(201, user=0.5)
    host.end(200)
    attached.look()
    host.run(201, user=0.5)
    attached.look()
    assert attached.cpu() == pytest.approx(1.0, abs=1e-3)
    host.exit(201)
    host.reap(201)  # init
    attached.settle()
    assert attached.cpu() == pytest.approx(1.0, abs=1e-3)


def test_attached_root_ends(attached: Job) -> None:
    host = attached.host
    host.spawn(200, ROOT)
    attached.start()
    host.run(ROOT, user=0.5)
    host.run(200, user=0.25)
    attached.look()
    host.end(200)
    host.exit(ROOT)
    attached.look()
    host.reap(ROOT)
    attached.settle()
    assert close(attached.cpu(), 0.75)
    assert not attached.sampler.tree.members


# -- random scripts ------------------------------------------------------------------------------------------------

PLACES = st.integers(0, 999)
CALM = ["spawn", "run", "run", "run", "end", "end", "exit", "reap", "thread", "look", "look"]
ORPHANS = [*CALM, "orphan", "exit"]
STEP = st.tuples(st.sampled_from(CALM), PLACES, PLACES)
ORPHAN_STEP = st.tuples(st.sampled_from(ORPHANS), PLACES, PLACES)
AUTO_STEP = st.tuples(st.sampled_from([*ORPHANS, "auto", "auto"]), PLACES, PLACES)
# Making a failing script smaller takes minutes: add Phase.shrink for that.
RANDOM = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Script:
    """A random script: each step picks among what can be done at that moment."""

    def __init__(self, job: Job, *, again: bool = False, subreapers: bool = False) -> None:
        self.job = job
        self.host = job.host
        self.again = again  # a pid is given out again as soon as it is free
        self.last_pid = 299
        self.subreapers = subreapers
        self.looking = False

    def living(self) -> list[int]:
        return [process.pid for process in self.host.family(ROOT) if not process.ended]

    def step(self, action: str, which: int, amount: int) -> None:
        living = self.living()
        if not living:
            return
        pid = living[which % len(living)]
        others = [other for other in living if other != ROOT]
        other = others[which % len(others)] if others else None
        if action == "spawn":
            self.host.spawn(self.next_pid(), pid, subreaper=self.subreapers and amount % 3 == 0, pages=amount)
        elif action == "run":
            io = (amount, which, 1, 1, amount * 512, which * 512, 0)
            self.host.run(
                pid, user=amount / 1000, system=which / 5000, minor=amount, switches=which % 7, io=io, pages=amount
            )
        elif action == "thread":
            process = self.host.processes[pid]
            extra = [tid for tid in process.threads if tid != pid]
            if extra and amount % 2:
                self.host.end_thread(pid, extra[-1])
            else:
                tid = pid * 1000 + amount
                if tid not in process.threads:
                    self.host.start_thread(pid, tid)
        elif action == "look" and not self.looking:
            self.look(amount)
        elif action in ("end", "exit", "auto", "orphan") and other is not None:
            self.finish(action, other)
        elif action == "reap":
            self.reap(which)

    def next_pid(self) -> int:
        free = [pid for pid in range(200, 206) if pid not in self.host.processes]
        if self.again and free:
            return free[0]
        self.last_pid += 1
        return self.last_pid

    def finish(self, action: str, pid: int) -> None:
        process = self.host.processes[pid]
        if any(thread.children for thread in process.threads.values()) and action != "orphan":
            return
        if process.ppid in (OWN, INIT):
            if self.looking:
                return
            self.host.exit(pid)
            if process.ppid == OWN:
                self.job.reap(pid)
            else:
                self.host.reap(pid)
        elif action == "auto":
            self.host.auto_reap(pid)
        else:
            self.host.exit(pid)
            if action != "exit":
                self.host.reap(pid)

    def reap(self, which: int) -> None:
        zombies = [process for process in self.host.family(ROOT) if process.ended]
        if zombies:
            zombie = zombies[which % len(zombies)]
            if zombie.ppid != OWN:
                self.host.reap(zombie.pid)
            elif not self.looking:
                self.job.reap(zombie.pid)

    def look(self, amount: int) -> None:
        self.looking = True
        self.job.look(0.02 + amount / 1000)
        self.looking = False

    def check_levels(self) -> None:
        family = self.host.family(ROOT)
        sampler = self.job.sampler
        assert sampler.tree.members.keys() == {process.pid for process in family}
        assert sampler.rss == sum(process.pages for process in family) * 4096
        assert sampler.threads == sum(len(process.threads) for process in family)
        zombies = sum(process.ended for process in family)
        assert sampler.states.get(b"Z", 0) == zombies
        assert sum(sampler.states.values()) == len(family)


def grow(script: Script) -> None:
    """A tree of seven to begin with: 200 to 203 and 204 to 205 are chains below the root."""
    for number, parent in enumerate([ROOT, 200, 201, 202, ROOT, 204]):
        pid = 200 + number
        script.host.spawn(pid, parent, subreaper=script.subreapers and number == 0)
        script.host.run(pid, user=0.5 + number / 10, io=IO_OF, minor=number)


@contextmanager
def random_job(*, attached: bool = False, descriptors: int = 512, clocks: bool = True) -> Iterator[Job]:
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), attached=attached, descriptors=descriptors, clocks=clocks)
        yield job
        for member in list(job.sampler.tree.members.values()):
            job.sampler.files.close(member)


@given(st.lists(ORPHAN_STEP, min_size=15, max_size=50), st.booleans())
@RANDOM
def test_random_scripts_between_looks(steps: list[tuple[str, int, int]], clocks: bool) -> None:
    with random_job(clocks=clocks) as job:
        job.start()
        script = Script(job)
        grow(script)
        for step in steps:
            script.step(*step)
            if step[0] == "look":
                script.check_levels()
        job.look()
        script.check_levels()
        job.finish()
        if clocks:
            job.exact()
        assert not job.sampler.tree.members


@given(st.lists(ORPHAN_STEP, min_size=15, max_size=50))
@RANDOM
def test_random_scripts_with_inner_subreapers(steps: list[tuple[str, int, int]]) -> None:
    with random_job() as job:
        job.start()
        script = Script(job, subreapers=True)
        grow(script)
        for step in steps:
            script.step(*step)
        job.finish()
        job.exact()


@given(st.lists(STEP, min_size=15, max_size=50))
@RANDOM
def test_random_scripts_with_pids_used_again(steps: list[tuple[str, int, int]]) -> None:
    with random_job() as job:
        job.start()
        script = Script(job, again=True)
        grow(script)
        for step in steps:
            script.step(*step)
            if step[0] == "look":
                script.check_levels()
        job.finish()
        job.exact()


@given(st.lists(AUTO_STEP, min_size=15, max_size=50))
@RANDOM
def test_random_scripts_with_auto_reaped_children(steps: list[tuple[str, int, int]]) -> None:
    with random_job() as job:
        job.start()
        script = Script(job)
        grow(script)
        for step in steps:
            script.step(*step)
            if step[0] == "look":
                script.check_levels()
        job.finish()


@given(st.lists(ORPHAN_STEP, max_size=30), st.lists(ORPHAN_STEP, min_size=15, max_size=50))
@RANDOM
def test_random_scripts_of_an_attached_tree(
    before: list[tuple[str, int, int]], steps: list[tuple[str, int, int]]
) -> None:
    with random_job(attached=True) as job:
        script = Script(job)
        grow(script)
        for step in before:
            if step[0] != "look":
                script.step(*step)
        job.host.advance(1)
        job.start()
        for step in steps:
            script.step(*step)
        job.settle()
        lost = [process for process in job.host.family(ROOT) if process.pid not in job.sampler.tree.members]
        if not lost:
            script.check_levels()


@given(
    st.lists(st.tuples(STEP, st.lists(st.tuples(st.integers(0, 40), STEP), max_size=4)), min_size=6, max_size=30),
    st.booleans(),
)
@RANDOM
def test_random_scripts_within_looks(
    steps: list[tuple[tuple[str, int, int], list[tuple[int, tuple[str, int, int]]]]], attached: bool
) -> None:
    """Things happen before any reading of a clock or a file: the scan is not atomic."""
    with random_job(attached=attached, descriptors=0) as job:
        job.start()
        host = job.host
        script = Script(job)
        grow(script)
        for step, races in steps:
            script.step(*step)
            pending = sorted(races, reverse=True)
            accesses = 0

            def happens(path: str, pending: list[tuple[int, tuple[str, int, int]]] = pending) -> None:
                nonlocal accesses
                accesses += 1
                while pending and pending[-1][0] <= accesses:
                    script.step(*pending.pop()[1])

            host.on_access = happens if races else None
            if races:
                script.look(100)
            host.on_access = None
            script.look(10)
        job.settle()
        if not attached:
            job.finish()
            job.exact()


# -- a cgroup that somebody has left ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "enclosed", "source"),
    [
        (True, 5, "cgroup"),  # a lower bound, and the largest: what stayed in it is no less for that
        (True, 3, "perf"),
        (True, 1, "perf"),
        (False, 1, "cgroup"),
    ],
)
def test_a_cgroup_that_was_left_is_a_bound_like_others(left: bool, enclosed: int, source: str) -> None:
    ledger = Ledger(TICK_NS)
    ledger.waited = True
    ledger.reaped[CPU] = 2 * SECOND
    ledger.counted = 4 * SECOND
    ledger.enclosed = enclosed * SECOND
    ledger.left = left
    assert ledger.source() == source
    assert ledger.total()[CPU] == ledger.sources()[source]
