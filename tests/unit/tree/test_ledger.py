"""Conserved totals: whatever a tree does, they never fall, never exceed the truth, and end at it.

The scripts run against `fakeroot` over several looks; the ledger is driven by the sampler that owns the order of
reading. Totals are a lower bound: what waits in the kernel's counters of waited-for children is cut to ticks there, the
user's and the system's share each.
"""

from pathlib import Path

import pytest

from fakeroot import SECOND, TICK_NS, nanoseconds
from ledger_job import IO_OF, ROOT, Job, close
from proctally.tree.ledger import Ledger
from proctally.tree.member import CPU, DELAY, IO, MAJOR, MINOR, SIZE, SWITCHES, SYSTEM, USER

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
        assert job.sampler.total[MINOR] == job.truth()[MINOR]
        assert job.sampler.total[IO] == job.truth()[IO]
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
    assert job.sampler.total[MINOR] == 5
    assert job.sampler.total[IO] == job.truth()[IO]
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
    assert job.sampler.total[MINOR] == 9


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


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_chain_collapse_within_scan_counts_once(tmp_path: Path, depth: int) -> None:
    """The topmost is read when all below it are reaped, and exits before the scan ends."""
    job = Job(tmp_path, descriptors=0)
    host = job.host
    job.start()
    chain = range(ROOT + 1, ROOT + 1 + depth)
    for pid in chain:
        host.spawn(pid, pid - 1)
        host.run(pid, user=0.3)
    job.look()
    host.run(chain[0], user=0.1)

    def collapse() -> None:
        for pid in reversed(chain[1:]):
            host.end(pid)
        host.once(f"{chain[0]}/clock", lambda: host.end(chain[0]))

    host.once(f"{chain[0]}/stat", collapse)
    job.look()
    assert chain[0] not in host.processes
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    job.finish()
    job.exact()
    assert job.sampler.ledger.dropped == 0


def test_zombie_that_is_being_reaped_counts_once(tmp_path: Path) -> None:
    """Its parent shows its time already while its CPU clock still reads, as in the last scan."""
    job = Job(tmp_path, descriptors=0)
    host = job.host
    job.start()
    host.spawn(200, ROOT)
    host.run(200, user=0.75)
    host.exit(200)
    job.look()
    host.run(ROOT, user=0.1)
    host.once(f"{ROOT}/stat", lambda: host.begin_reap(200))
    job.look()
    host.reap(200)
    job.settle()
    assert close(job.cpu(), host.cpu_seconds(ROOT))
    assert job.sampler.ledger.dropped == 0
    job.finish()
    job.exact()


@pytest.mark.parametrize("reaped", [True, False])
def test_ledger_counts_amounts_that_no_growth_shows(job: Job, reaped: bool) -> None:
    job.host.spawn(200, ROOT)
    job.host.run(200, user=0.75)
    job.look()
    if reaped:
        job.host.end(200)
    else:
        job.host.auto_reap(200)
    job.host.run(ROOT, user=0.01)
    job.settle()
    assert job.sampler.ledger.dropped == (not reaped)


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
    assert 200 not in job.sampler.members
    assert job.cpu() == pytest.approx(1.0, abs=0.001)
    host.reap(200)
    job.settle()
    assert close(job.cpu(), 1.1)
    job.finish()
    job.exact()


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
    assert 200 in job.sampler.members
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
    assert job.sampler.total[DELAY] == nanoseconds(0.75)
    host.end_thread(200, 20001)
    host.waits(200, 0.125)
    job.look()
    assert job.sampler.total[DELAY] == nanoseconds(0.875)
    host.end_thread(200, 20002)
    host.start_thread(200, 20001)  # its id is used again
    host.waits(20001, 0.0625, pid=200)
    job.look()
    job.look()
    assert job.sampler.total[DELAY] == nanoseconds(0.9375)
    host.end(200)
    job.settle()
    assert job.sampler.total[DELAY] == nanoseconds(0.9375)  # nothing ever shows the run delay of the dead


# -- counters other than time --------------------------------------------------------------------------------------


def test_context_switches_hide_in_the_parent_until_it_is_reaped(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.run(201, switches=40)
    host.run(200, switches=5)
    job.look()
    assert job.sampler.total[SWITCHES] == 45
    host.run(201, switches=2)
    host.end(201)
    job.settle()
    assert job.sampler.total[SWITCHES] == 45
    host.run(200, switches=10)
    job.look()
    assert job.sampler.total[SWITCHES] == 55
    host.end(200)
    job.settle()
    assert job.sampler.total[SWITCHES] == 55
    job.finish()
    assert job.sampler.total[SWITCHES] == 57
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
    assert job.sampler.readings.io_unread.keys() == {ROOT, 200}


def test_io_of_reaped_that_is_unreadable_is_unknown(job: Job) -> None:
    job.host.spawn(200, ROOT)
    job.host.run(200, io=IO_OF)
    job.look()
    assert job.sampler.sample()["tree"]["read_bytes"] == IO_OF[4]
    job.host.exit(ROOT)
    seen = job.sampler.ended(ROOT)
    job.sampler.reaped(seen, 0, job.host.reap(ROOT).usage, None)
    job.settle()
    assert job.sampler.sample()["tree"]["read_bytes"] is None
    assert job.sampler.readings.io_unread == {ROOT: "io_unreadable"}
    job.host.end(200)
    job.look()
    assert job.sampler.sample()["tree"]["read_bytes"] is None


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
    assert attached.sampler.total == [0] * SIZE
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
    host.advance(0.5)
    children = host.processes[200].folder / "task" / "200" / "children"
    children.write_bytes(b"")  # imprecise at this moment
    attached.start(0.1)  # no listing is due
    assert 201 not in attached.sampler.members
    children.write_bytes(b"201 ")
    host.run(200)
    attached.look()
    assert 201 in attached.sampler.members
    assert attached.cpu() < 0.001
    assert attached.sampler.total[MINOR:] == [0] * (SIZE - MINOR)
    host.run(201, user=0.5, switches=1)
    host.spawn(202, 201)
    host.run(202, user=0.25)
    attached.look()
    assert attached.cpu() == pytest.approx(0.75, abs=1e-3)


def test_user_and_system_time_are_not_above_a_total_below_a_tick(attached: Job) -> None:
    host = attached.host
    host.run(ROOT, user=0.009, system=0.009)
    attached.start()
    host.run(ROOT, user=0.002, system=0.002)
    total = attached.look()
    assert total[CPU] == pytest.approx(0.004 * SECOND, abs=10)
    assert total[USER] == pytest.approx(total[SYSTEM], abs=10)
    assert total[USER] + total[SYSTEM] == total[CPU]


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
    assert not attached.sampler.members


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
    ledger.cpu.counted = 4 * SECOND
    ledger.cpu.enclosed = enclosed * SECOND
    ledger.cpu.left = left
    assert ledger.choose().source == source
    assert ledger.total()[CPU] == ledger.sources()[source]
