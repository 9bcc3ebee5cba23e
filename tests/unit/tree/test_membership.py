"""Members of a tree, found over several scans."""

from errno import ENOMEM
from pathlib import Path

import pytest

from fakeroot import INIT, FakeHost, attach_to, reap_ours
from proctally.linux.proc import Files
from proctally.tree.membership import MAX_UNBORN, Membership
from proctally.tree.sampler import TreeSampler

OWN = 77
ROOT = 100
BY = pytest.mark.parametrize("by", ["children", "scan", "pid"])


class Job:
    """A root process and the tracker that follows it, in one of the three ways alone."""

    def __init__(self, folder: Path, by: str, *, own: int | None = OWN, descriptors: int = 512) -> None:
        self.host = host = FakeHost(folder, own=own, children_files=by != "scan", last_pid=by == "pid")
        host.spawn(ROOT, INIT if own is None else own)
        host.advance(1)
        self.sampler = TreeSampler(host.machine(), own=own, descriptors=descriptors)
        self.tree = self.sampler.tree
        assert self.tree.has_children_files == (by != "scan")
        if by != "scan":
            self.tree.scan_ns = 1e12  # a listing is never cheaper, nor due
        if by == "pid":
            self.tree.children_ns = 1e6

    def start(self, root: int) -> None:
        if self.tree.own is None:
            attach_to(self.sampler, root)
        else:
            self.sampler.start(root)

    def look(self) -> list[int]:
        """The members after another look, in their order."""
        self.host.advance(1)
        self.sampler.scan()
        self.check()
        return list(self.tree.members)

    def check(self) -> None:
        """Parents stand before children, and each member is linked to the parent that the host says."""
        places = {pid: place for place, pid in enumerate(self.tree.members)}
        for pid, member in self.tree.members.items():
            assert member.pid == pid and member.alive
            assert member.start == self.host.processes[pid].start
            if member.parent is not None and member.parent.alive:
                assert self.tree.members[member.parent.pid] is member.parent
                if member.parent.pid == self.host.processes[pid].ppid:
                    assert places[member.parent.pid] < places[pid]


@pytest.fixture
def job(tmp_path: Path, by: str) -> Job:
    job = Job(tmp_path, by)
    job.start(ROOT)
    return job


@BY
def test_children_and_theirs_are_found(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(202, 201)
    assert job.look() == [ROOT, 200, 201, 202]
    host.spawn(203, 202)
    host.spawn(204, ROOT)
    assert sorted(job.look()) == [ROOT, 200, 201, 202, 203, 204]
    assert job.tree.members[203].parent is job.tree.members[202]


@BY
def test_pids_of_children_may_be_lower(job: Job) -> None:
    host = job.host
    host.spawn(300, ROOT)
    job.look()
    host.spawn(200, 300)  # the pids began again
    host.spawn(201, 200)
    job.sampler.scan()
    assert list(job.tree.members) == [ROOT, 300, 200, 201]


def test_pids_given_out_to_threads_and_to_the_dead(tmp_path: Path) -> None:
    job = Job(tmp_path, "pid")
    host = job.host
    job.start(ROOT)
    job.look()
    host.start_thread(ROOT, 101)
    host.start_thread(ROOT, 102)
    host.spawn(103, ROOT, by=102)
    host.end(103)
    host.spawn(104, ROOT, by=102)
    host.spawn(105, INIT)
    host.start_thread(104, 106)
    host.spawn(107, 104, by=106)
    assert job.look() == [ROOT, 104, 107]
    host.opened()
    assert job.look() == [ROOT, 104, 107]
    assert not [path for path in host.opened() if path.startswith(("101/", "102/", "105/", "106/"))]


def test_a_parent_that_ends_while_it_is_admitted_leaves_its_child(tmp_path: Path) -> None:
    job = Job(tmp_path, "pid")
    host = job.host
    job.start(ROOT)
    job.look()
    host.processes[ROOT].subreaper = True
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    # 200 is read, then 201 as its child, and then 200 ends before it is read again to be admitted
    host.once("201/stat", lambda: host.once("200/stat", lambda: host.end(200)))
    job.look()
    assert job.look() == [ROOT, 201]


@pytest.mark.parametrize("last_pid", [False, True])
def test_a_parent_that_ends_before_it_is_asked_leaves_its_child(tmp_path: Path, last_pid: bool) -> None:
    job = Job(tmp_path, "pid" if last_pid else "children")
    if last_pid:
        job.tree.children_ns = 1.0
    host = job.host
    job.start(ROOT)
    job.look()
    host.processes[ROOT].subreaper = True
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.once("200/task/200/children", lambda: host.end(200))
    job.look()
    assert job.look() == [ROOT, 201]


def test_children_made_while_others_are_found(tmp_path: Path) -> None:
    job = Job(tmp_path, "pid")
    job.tree.children_ns = 1.0  # each that ran is asked
    host = job.host
    job.start(ROOT)
    host.spawn(200, ROOT)
    host.spawn(201, ROOT)
    job.look()
    host.spawn(202, 200)
    # once 200 and 201 were asked, the second has a child, too
    host.once("202/task/202/children", lambda: host.spawn(203, 201))
    host.run(201, user=0.1)
    job.look()
    assert job.look() == [ROOT, 200, 201, 202, 203]


def test_nothing_is_asked_while_no_pid_is_given_out(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN, last_pid=True)
    host.spawn(ROOT, OWN)
    sampler = TreeSampler(host.machine(), own=OWN)
    sampler.start(ROOT)
    sampler.scan()
    host.run(ROOT, user=0.1)
    host.opened()
    sampler.scan()
    assert not [path for path in host.opened() if path.endswith("children")]


@pytest.mark.parametrize("scans", [1, 2, 3, 8])
@pytest.mark.parametrize("children", [[], [210]])
def test_fork_preempted_for_several_scans_is_found(tmp_path: Path, children: list[int], scans: int) -> None:
    """The kernel gives out the pid before the process is visible. Its own child, with a later pid, is found too."""
    job = Job(tmp_path, "pid")
    job.start(ROOT)
    job.look()
    (job.host.proc / "loadavg").write_bytes(b"0.00 0.01 0.05 1/2 200\n")
    for _ in range(scans):
        job.host.advance(0.1)
        job.host.run(ROOT, user=0.01)
        job.sampler.scan()
    job.host.spawn(200, ROOT)
    for child in children:
        job.host.spawn(child, 200)
    assert job.look() == [ROOT, 200, *children]


def test_fork_that_is_in_no_listing_yet_is_found(tmp_path: Path) -> None:
    job = Job(tmp_path, "pid")
    job.start(ROOT)
    job.look()
    job.tree.scan_ns = 1.0
    (job.host.proc / "loadavg").write_bytes(b"0.00 0.01 0.05 1/2 200\n")
    job.host.run(ROOT, user=0.01)
    job.look()  # a listing
    job.tree.scan_ns = 1e12
    job.host.spawn(200, ROOT)
    assert job.look() == [ROOT, 200]


def test_fork_preempted_for_seconds_is_found_by_a_listing(tmp_path: Path) -> None:
    """Beside heavy load a pid stays invisible for seconds, and nothing else is forked afterwards."""
    job = Job(tmp_path, "pid")
    job.start(ROOT)
    job.look()
    job.tree.scan_ns = 900
    job.host.advance(20)
    job.host.run(ROOT, user=0.01)
    job.look()  # a listing: nobody is missing
    job.tree.scan_ns = 1e12
    (job.host.proc / "loadavg").write_bytes(b"0.00 0.01 0.05 1/2 200\n")
    for _ in range(4):
        job.host.run(ROOT, user=0.01)
        job.look()
    job.host.spawn(200, ROOT)
    job.tree.scan_ns = 900
    for _ in range(12):
        job.host.run(ROOT, user=0.01)
        job.look()
    assert list(job.tree.members) == [ROOT, 200]


@BY
def test_children_of_every_thread_are_found(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, threads=3)
    host.spawn(201, 200, by=20001)
    host.spawn(202, 200, by=20002)
    host.spawn(203, 201, threads=2)
    assert sorted(job.look()) == [ROOT, 200, 201, 202, 203]
    host.start_thread(200, 20003)
    host.spawn(204, 200, by=20003)
    host.spawn(205, 203, by=20301)
    assert sorted(job.look()) == [ROOT, 200, 201, 202, 203, 204, 205]


@BY
def test_threads_are_no_processes(job: Job) -> None:
    job.host.spawn(200, ROOT, threads=5)
    assert job.look() == [ROOT, 200]
    assert job.sampler.readings.threads == 6


@BY
def test_children_of_a_process_whose_main_thread_ended(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, threads=3)
    host.spawn(201, 200)
    job.look()
    host.end_leader(200)
    host.spawn(202, 200, by=20001)
    assert job.look() == [ROOT, 200, 201, 202]


@BY
def test_more_children_than_one_read_gives(job: Job) -> None:
    pids = range(3_000_000, 3_000_520)  # eight bytes each: more than 4096
    for pid in pids:
        job.host.spawn(pid, ROOT)
    assert set(job.look()) == {ROOT, *pids}
    assert job.sampler.processes_seen == 521


@BY
def test_strangers_are_left_out(tmp_path: Path, by: str) -> None:
    job = Job(tmp_path, by)
    host = job.host
    host.spawn(150, INIT)
    host.spawn(151, 150)
    host.spawn(160, OWN)  # a child of the shell that became us
    host.spawn(161, 160)
    job.tree.foreign.add(160)
    job.start(ROOT)
    host.spawn(200, ROOT)
    assert job.look() == [ROOT, 200]
    host.exit(160)  # its child comes to us
    host.spawn(262, 161)
    assert job.look() == [ROOT, 200]
    host.exit(161)
    assert job.look() == [ROOT, 200]
    for pid in (160, 161):
        reap_ours(host, job.sampler, pid)
    assert job.look() == [ROOT, 200]
    host.exit(262)
    reap_ours(host, job.sampler, 262)
    assert job.look() == [ROOT, 200]
    assert job.sampler.processes_seen == 2
    assert job.sampler.ledger.reaped_cpu() <= 0


@BY
def test_pid_of_a_stranger_is_used_again_by_a_member(tmp_path: Path, by: str) -> None:
    job = Job(tmp_path, by)
    host = job.host
    host.spawn(160, OWN)
    host.spawn(161, 160)
    host.spawn(900, INIT)
    job.tree.foreign.add(160)
    job.start(ROOT)
    job.look()
    host.end(161)
    host.spawn(161, ROOT)
    assert job.look() == [ROOT, 161]


@BY
def test_orphan_comes_to_us(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    job.look()
    host.end(200)
    assert host.processes[201].ppid == OWN
    assert job.look() == [ROOT, 201]
    host.spawn(202, 201)
    assert job.look() == [ROOT, 201, 202]
    assert job.tree.ancestor(job.tree.members[201]) is None


@BY
def test_parent_died_before_its_child_was_seen(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.end(200)
    host.exit(201)  # 202 is ours as well, and 201 a zombie
    assert sorted(job.look()) == [ROOT, 201, 202]


@BY
def test_orphan_comes_to_an_inner_subreaper(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, subreaper=True)
    host.spawn(201, 200)
    host.spawn(202, 201)
    job.look()
    host.end(201)
    host.run(202, user=0.1)
    assert job.look() == [ROOT, 200, 202]
    assert job.tree.members[202].parent is job.tree.members[200]


@BY
def test_parent_of_an_orphan_died_unseen_below_an_inner_subreaper(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, subreaper=True)
    job.look()
    host.spawn(201, 200)
    host.spawn(202, 201)
    host.end(201)
    assert job.look() == [ROOT, 200, 202]


@BY
def test_attach_takes_in_what_runs_and_keeps_orphans(tmp_path: Path, by: str) -> None:
    job = Job(tmp_path, by, own=None)
    host = job.host
    host.spawn(50, INIT)
    host.spawn(200, ROOT, threads=2)
    host.spawn(201, 200, by=20001)
    host.advance(1)
    job.start(ROOT)
    assert job.look() == [ROOT, 200, 201]
    host.end(200)
    assert host.processes[201].ppid == INIT
    assert job.look() == [ROOT, 201]
    host.spawn(202, 201)
    assert job.look() == [ROOT, 201, 202]
    host.exit(ROOT)
    host.reap(ROOT)
    host.spawn(203, 202)
    assert job.look() == [201, 202, 203]


@BY
@pytest.mark.parametrize("descriptors", [0, 512])
def test_pid_used_again(tmp_path: Path, by: str, descriptors: int) -> None:
    job = Job(tmp_path, by, descriptors=descriptors)
    host = job.host
    job.start(ROOT)
    host.spawn(200, ROOT)
    host.spawn(900, INIT)
    host.run(200, user=0.5)
    job.look()
    first = job.tree.members[200]
    host.end(200)
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    assert job.look() == [ROOT, 200, 201]
    assert not first.alive
    assert job.sampler.processes_seen == 4


@BY
def test_pid_used_again_by_a_stranger(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    job.look()
    host.end(200)
    host.spawn(200, INIT)
    host.run(200, user=5)
    assert job.look() == [ROOT]
    host.spawn(201, 200)
    assert job.look() == [ROOT]


def test_pid_used_again_by_a_member_after_a_stranger_in_the_listing(tmp_path: Path) -> None:
    job = Job(tmp_path, "scan")
    host = job.host
    job.start(ROOT)
    host.spawn(50, INIT)
    host.spawn(51, 50)
    assert job.look() == [ROOT]
    host.end(51)
    host.spawn(51, ROOT)
    assert job.look() == [ROOT, 51]


def test_listing_reads_only_what_it_has_not_seen(tmp_path: Path) -> None:
    job = Job(tmp_path, "scan")
    host = job.host
    job.start(ROOT)
    for pid in range(500, 540):
        host.spawn(pid, INIT)
    job.look()
    host.opened()
    host.spawn(200, ROOT)
    job.look()
    assert not [path for path in host.opened() if path.partition("/")[0] in map(str, range(500, 540))]
    host.end(539)
    host.spawn(539, INIT)
    job.look()
    assert [path for path in host.opened() if path.startswith("53")] == ["539/stat"]


@BY
def test_orphan_below_a_stranger_that_dies_is_no_member(job: Job) -> None:
    host = job.host
    host.spawn(50, INIT)
    host.spawn(51, 50)
    host.spawn(52, 51)
    job.look()
    host.end(51)
    assert host.processes[52].ppid == INIT
    assert job.look() == [ROOT]


@BY
@pytest.mark.parametrize("access", ["stat", "clock"])
def test_process_that_vanishes_while_it_is_admitted(job: Job, access: str) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    host.spawn(202, ROOT)
    host.once(f"200/{access}", lambda: host.end(200))
    assert set(job.look()) | {201} == {ROOT, 201, 202}
    assert sorted(job.look()) == [ROOT, 201, 202]
    host.spawn(203, ROOT)
    host.once(f"203/{access}", lambda: host.auto_reap(203))
    assert sorted(job.look()) == [ROOT, 201, 202]


@BY
def test_pid_is_used_again_by_a_stranger_while_it_is_admitted(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)

    def use_again() -> None:
        host.end(200)
        host.spawn(200, INIT)

    host.once("200/clock", use_again)
    assert job.look() == [ROOT]


@BY
def test_zombie_is_a_member_until_it_is_reaped(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.exit(200)
    assert job.look() == [ROOT, 200]
    host.reap(200)
    assert job.look() == [ROOT]


@BY
def test_process_that_is_just_being_reaped_is_no_member(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.exit(200)
    host.set_state(200, "X")
    assert job.look() == [ROOT]


@BY
def test_member_that_vanishes_from_the_listing_alone_stays(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    job.look()
    host.hide(200)
    host.run(200, user=0.5)
    assert job.look() == [ROOT, 200]
    host.spawn(201, 200)
    host.run(ROOT)
    if job.tree.has_children_files:
        assert 200 in job.look()
    else:
        assert job.look() == [ROOT, 200, 201]
    total = job.sampler.sample()["tree"]["cpu_seconds"]
    assert total == pytest.approx(host.cpu_seconds(ROOT), abs=0.001)


@BY
def test_hidden_member_beyond_the_descriptors_is_not_counted_twice(tmp_path: Path, by: str) -> None:
    job = Job(tmp_path, by, descriptors=0)
    host = job.host
    job.start(ROOT)
    host.spawn(200, ROOT)
    host.run(200, user=0.5)
    job.look()
    host.hide(200)
    host.run(200, user=0.5)
    for _ in range(3):
        job.look()
    host.end(200)
    for _ in range(3):
        job.look()
    assert job.sampler.sample()["tree"]["cpu_seconds"] <= host.cpu_seconds(ROOT) + 0.001


def test_listing_verifies_what_children_files_did_not_show(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(ROOT, OWN)
    sampler = TreeSampler(host.machine(), own=OWN)
    sampler.start(ROOT)
    sampler.scan()
    host.spawn(200, ROOT)
    path = host.processes[ROOT].folder / "task" / str(ROOT) / "children"
    path.write_bytes(b"")  # imprecise while children exit (kernel: Documentation/filesystems/proc.rst)
    sampler.tree.children_ns = 1e-3
    sampler.scan()
    assert list(sampler.members) == [ROOT]
    host.advance(1)
    sampler.scan()
    assert list(sampler.members) == [ROOT, 200]


@pytest.mark.parametrize("ask", ["discover", "discover_below"])
def test_children_of_members_that_were_not_asked_are_found_later(tmp_path: Path, ask: str) -> None:
    """They forked after their clocks were read; PSS is read of one family. More of them than are kept as unborn."""
    host = FakeHost(tmp_path, own=OWN, last_pid=True)
    host.spawn(ROOT, OWN)
    sampler = TreeSampler(host.machine(), own=OWN)
    sampler.start(ROOT)
    sampler.scan()
    tree = sampler.tree
    for pid in (200, 201):
        host.spawn(pid, ROOT)
    sampler.scan()
    pids = range(300, 300 + 2 * MAX_UNBORN)
    for pid in pids:
        host.spawn(pid, 201)
    tree.scan_ns = 1e12
    tree.children_ns = 1e-3
    for _ in range(2):
        assert getattr(tree, ask)([tree.members[200]]) == []
    tree.children_ns = 1e9  # now pids are cheaper
    host.advance(0.1)
    host.run(ROOT)
    sampler.scan()
    assert list(sampler.members) == [ROOT, 200, 201, *pids]


def test_children_file_that_cannot_be_read_costs_the_next_listing(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(ROOT, OWN)
    sampler = TreeSampler(host.machine(), own=OWN)
    sampler.start(ROOT)
    sampler.scan()
    host.spawn(200, ROOT)

    def refuse(path: str) -> None:
        if path.endswith("children"):
            raise OSError(ENOMEM, "Cannot allocate memory")

    host.on_access = refuse
    sampler.tree.children_ns = 1e-3
    sampler.scan()
    assert list(sampler.members) == [ROOT]
    host.on_access = None
    host.advance(0.1)
    sampler.scan()
    assert list(sampler.members) == [ROOT, 200]
    assert sampler.tree.has_children_files


def test_the_cheaper_way_is_taken(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(ROOT, OWN)
    sampler = TreeSampler(host.machine(), own=OWN)
    sampler.start(ROOT)
    for pid in range(500, 520):
        host.spawn(pid, INIT)
    host.opened()
    sampler.scan()
    assert f"{OWN}/task/{OWN}/children" in host.opened()
    for pid in range(600, 680):
        host.spawn(pid, ROOT)
    sampler.scan()
    host.opened()
    for pid in range(600, 680):
        host.run(pid, user=0.01)
    sampler.scan()  # 80 files of children, or one listing
    assert not [path for path in host.opened() if path.endswith("children")]


def test_remembers_no_verdict_on_who_is_not_a_member(tmp_path: Path) -> None:
    """Its grandparent dies, it becomes our child: a listing that knew it asks again."""
    host = FakeHost(tmp_path, own=OWN, children_files=False)
    machine = host.machine()
    tree = Membership(machine, Files(machine, 16), OWN, children_files=False)
    host.spawn(ROOT, OWN)
    host.spawn(200, ROOT)
    host.spawn(201, 200)
    tree.foreign.add(ROOT)
    assert tree.discover([]) == []
    tree.foreign.starts.clear()
    host.end(200)
    assert [member.pid for member in tree.discover([])] == [201]
