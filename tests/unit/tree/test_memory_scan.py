"""What a scan reads of the memory of a tree, and what it passes to the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from fakeroot import INIT, PAGE, FakeHost, attach_to, reap_ours
from proctally.errors import NoProcfs
from proctally.linux.cgroup import Place
from proctally.linux.machine import INITIAL_PID_NAMESPACE
from proctally.record import codes
from proctally.tree.gaps import coverage, gap
from proctally.tree.memory_guard import HELD_SLACK
from proctally.tree.memory_moments import Bracket
from proctally.tree.memory_scan import MemoryScan
from proctally.tree.sampler import TreeSampler

OWN, ROOT = 77, 100
MIB = 1 << 20
PAGES = MIB // PAGE


class Job:
    """A root on a fake host, and a sampler that has taken the first sample.

    `surroundings`: whether the other processes and the levels of the machine can be read.
    """

    def __init__(self, folder: Path, *, attached: bool = False, surroundings: bool = False, **options: Any) -> None:
        self.host = host = FakeHost(folder, own=None if attached else OWN)
        self.others = 1000 * PAGES
        self.shmem = 0
        self.has_levels = surroundings
        if surroundings:
            (host.proc / "self" / "ns").mkdir(parents=True)
            (host.proc / "self" / "ns" / "pid").symlink_to(INITIAL_PID_NAMESPACE)
            for process in host.processes.values():
                (process.folder / "statm").write_bytes(b"0 0 0\n")
        host.spawn(ROOT, INIT if attached else OWN, comm=b"root", pages=PAGES)
        self.sampler = TreeSampler(host.machine(), own=host.own, **options)
        if attached:
            attach_to(self.sampler, ROOT)
        else:
            self.sampler.start(ROOT)
            self.levels()
            host.advance(1)
            self.sampler.sample()

    def levels(self) -> None:
        """Show the levels of this moment: each page of the tree counts once, as in a tree without forks."""
        if self.has_levels:
            tree = sum(process.pages - process.shmem_pages for process in self.host.family(ROOT))
            kib = ((self.others + tree) * 4, self.shmem * 4)
            (self.host.proc / "meminfo").write_bytes(b"AnonPages: %d kB\nShmem: %d kB\nAnonHugePages: 0 kB\n" % kib)

    def sample(self, seconds: float = 1.0) -> dict[str, Any]:
        self.levels()
        self.host.advance(seconds)
        tree = self.sampler.sample()["tree"]
        assert isinstance(tree, dict)
        return tree

    def scan(self) -> tuple[float | None, float | None]:
        """Return the bounds in MiB."""
        tree = self.sample()
        low, high = tree["memory_low_bytes"], tree["memory_high_bytes"]
        return (None, None) if low is None else (low / MIB, high / MIB)

    @property
    def memory(self) -> MemoryScan:
        assert self.sampler.memory.reader is not None
        return self.sampler.memory.reader

    @property
    def last(self) -> Bracket:
        assert self.memory.bracket is not None
        return self.memory.bracket


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def opened(job: Job, name: str) -> list[str]:
    """Return the files of this name that were opened since the last call."""
    return [path for path in job.host.opened() if path.endswith(name)]


# -- what is read --------------------------------------------------------------------------------------------------


def test_process_alone_is_its_anonymous_memory(job: Job) -> None:
    assert job.scan() == (1, 1)
    job.host.run(ROOT, pages=5 * PAGES, minor=4 * PAGES)
    assert job.scan() == (5, 5)


def test_attached_tree_has_a_bracket_at_once(tmp_path: Path) -> None:
    assert Job(tmp_path, attached=True).scan() == (1, 1)


def test_tree_without_memory_reading_has_none(tmp_path: Path) -> None:
    job = Job(tmp_path, memory=False)
    assert job.scan() == (None, None)
    assert job.sampler.memory.summary()["peak_high_bytes"] is None


def test_member_that_did_not_move_is_not_read(tmp_path: Path) -> None:
    job = Job(tmp_path, descriptors=2)  # none is left to keep `status` open
    job.host.spawn(200, ROOT, pages=PAGES)
    job.scan()
    opened(job, "status")
    job.host.run(ROOT, user=0.1)
    job.sampler.status_ns = 1 << 62  # other figures of `status` are read at a slower pace
    job.scan()
    assert opened(job, "status") == []
    job.host.run(ROOT, minor=1)
    job.scan()
    assert opened(job, "status") == [f"{ROOT}/status"]


def test_status_stays_open(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.sampler.status_ns = 1 << 62
    for pid in range(200, 210):
        job.host.spawn(pid, ROOT)
        job.host.exec(pid, b"worker", pages=PAGES)
    job.scan()
    opened(job, "status")
    for pid in range(200, 210):
        job.host.run(pid, pages=2 * PAGES, minor=PAGES)
    assert job.scan() == (21, 21)
    assert opened(job, "status") == []
    assert job.sampler.files.open_count == 3 * 11
    for pid in range(200, 210):
        job.host.end(pid)
    assert job.scan() == (1, 1)
    assert job.sampler.files.open_count == 3


def test_scan_without_moves_reads_no_surroundings(tmp_path: Path) -> None:
    job = Job(tmp_path, surroundings=True)
    job.scan()
    opened(job, "meminfo")
    job.scan()
    assert opened(job, "meminfo") == []
    job.host.run(ROOT, user=0.1)
    job.scan()
    assert opened(job, "meminfo") == ["meminfo"]  # a file in tmpfs is written without a fault
    job.shmem += 7 * PAGES
    job.host.run(ROOT, user=0.1)
    assert job.scan() == (1, 8)


def test_idle_member_is_refreshed_slowly(job: Job) -> None:
    job.host.spawn(200, ROOT)
    job.host.exec(200, b"other", pages=8 * PAGES)
    assert job.scan() == (9, 9)
    job.host.reclaim(200, 4 * PAGES)
    for _ in range(12):
        bounds = job.scan()
    assert bounds == (5, 5)


def test_exec_leaves_the_family(job: Job) -> None:
    host = job.host
    host.run(ROOT, pages=8 * PAGES, minor=8 * PAGES)
    host.spawn(200, ROOT, pages=8 * PAGES)
    assert job.scan() == (8, 8)  # a fork copies no page
    host.exec(200, b"other", pages=3 * PAGES)
    host.run(200, minor=3 * PAGES)
    assert job.scan() == (11, 11)
    (family,) = [each for each in job.memory.model.families.values() if each.low == 3 * MIB]
    assert [process.command for process in family.members] == [b"other"]


class SharedAddressSpaces:
    """A C library whose kcmp(2) finds one address space while `shared` is true."""

    shared = True

    def syscall(self, *arguments: int) -> int:
        return 0 if self.shared else 1


def test_child_in_the_address_space_of_its_parent_is_not_counted(job: Job) -> None:
    job.scan()
    job.memory.members.library = SharedAddressSpaces()
    job.host.spawn(200, ROOT, pages=PAGES)
    job.host.run(200, minor=PAGES)
    assert job.scan() == (1, 1)
    assert job.memory.model.surroundings.is_blurred, "it can be in the level already"
    job.memory.members.library.shared = False
    job.host.exec(200, b"true", pages=2 * PAGES)
    assert job.scan() == (3, 3)
    job.host.run(200, minor=1)
    assert job.scan() == (3, 3)
    assert not job.memory.model.surroundings.is_blurred


def test_child_that_leaves_the_address_space_of_its_parent_meanwhile_has_its_own_sizes(job: Job) -> None:
    job.host.run(ROOT, pages=8 * PAGES, minor=7 * PAGES)
    job.scan()

    class Executes(SharedAddressSpaces):
        def syscall(self, *arguments: int) -> int:
            job.host.exec(200, b"true", pages=2 * PAGES)
            return 1

    job.memory.members.library = Executes()
    job.host.spawn(200, ROOT, pages=8 * PAGES)
    job.host.run(200, minor=PAGES)
    assert job.scan() == (10, 10)
    assert [len(family.members) for family in job.memory.model.families.values()] == [1, 1]


def test_parent_of_a_new_child_is_read_again(tmp_path: Path) -> None:
    job = Job(tmp_path, descriptors=0)
    host = job.host

    def grow() -> None:
        host.run(ROOT, pages=6 * PAGES, minor=4 * PAGES)

    host.run(ROOT, pages=2 * PAGES, minor=2 * PAGES)
    job.scan()
    host.run(ROOT, minor=PAGES)
    host.spawn(200, ROOT, pages=2 * PAGES)
    # the first access is for other figures of `status`
    host.once("200/status", lambda: host.once("200/status", grow))
    assert job.scan() == (6, 7)


def test_zombie_leaves(job: Job) -> None:
    job.host.spawn(200, ROOT, pages=4 * PAGES)
    job.scan()
    job.host.exit(200)
    assert job.scan() == (1, 1)
    assert len(job.memory.model.members) == 1


def test_memory_that_is_being_released_counts_in_high(job: Job) -> None:
    job.host.exec(ROOT, b"root", pages=2 * PAGES)
    job.host.spawn(200, ROOT)
    job.host.exec(200, b"large", pages=4 * PAGES)
    assert job.scan() == (6, 6)
    job.host.run(200, minor=1)
    (job.host.processes[200].folder / "status").write_bytes(b"Name:\tlarge\n")
    assert job.scan() == (2, 6)
    job.host.end(200)
    assert job.scan() == (2, 2)


def test_main_thread_that_exited_is_read_through_another(job: Job) -> None:
    job.host.spawn(200, ROOT)
    job.host.start_thread(200, 20001)
    job.host.exec(200, b"threads", pages=4 * PAGES)
    assert job.scan() == (5, 5)
    job.host.end_leader(200)
    job.host.run(200, pages=6 * PAGES, minor=2 * PAGES)
    assert job.scan() == (7, 7)


def test_main_thread_that_exited_leaves_its_process_in_the_family(job: Job) -> None:
    job.host.run(ROOT, pages=8 * PAGES, minor=8 * PAGES)
    job.host.spawn(200, ROOT, pages=8 * PAGES)
    job.host.start_thread(200, 20001)
    assert job.scan() == (8, 8)
    job.host.end_leader(200)
    job.host.run(200, minor=1)
    assert job.scan() == (8, 8 + 1 / PAGES)


# -- what fails ----------------------------------------------------------------------------------------------------


def test_reading_that_fails_costs_that_reading(tmp_path: Path) -> None:
    job = Job(tmp_path, descriptors=0)
    host = job.host
    host.spawn(200, ROOT)
    host.exec(200, b"other", pages=4 * PAGES)
    assert job.scan() == (5, 5)
    host.deny("200/status")
    host.run(200, pages=8 * PAGES, minor=4 * PAGES)
    assert job.scan() == (5, 5)
    host.denied.clear()
    host.run(200, user=0.1)
    assert job.scan() == (9, 9)


def test_unparsable_status_costs_that_reading(job: Job) -> None:
    job.scan()
    status = job.host.processes[ROOT].folder / "status"
    job.host.run(ROOT, pages=8 * PAGES, minor=7 * PAGES)
    status.write_bytes(status.read_bytes().replace(b"RssAnon:\t", b"RssAnon:\tx"))
    job.sampler.status_ns = 1 << 62
    assert job.scan() == (1, 1)


def test_error_of_proctally_costs_memory_alone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.scan()

    def fail(*_: object) -> None:
        raise RuntimeError("x")

    monkeypatch.setattr(job.memory.model, "bracket", fail)
    job.host.run(ROOT, user=0.5, minor=1)
    tree = job.sample()
    assert tree["cpu_cores"] == pytest.approx(0.5, abs=0.01)
    assert tree["memory_low_bytes"] is tree["memory_high_bytes"] is job.sampler.memory.low() is None
    assert job.sampler.memory.gaps() == [("tracking_failed", None, None)]
    assert set(job.sampler.memory.summary().values()) == {None}
    assert str(job.sampler.memory.fault) == "x"
    job.host.exit(ROOT)
    assert job.sample()["memory_low_bytes"] is None


# -- the surroundings ----------------------------------------------------------------------------------------------


def neighbour(job: Job, pid: int, pages: int, *, minor: int = 0) -> None:
    """Add or change a process outside the tree."""
    host = job.host
    if pid not in host.processes:
        host.spawn(pid, INIT)
    job.others += pages - host.processes[pid].pages
    host.run(pid, pages=pages, minor=minor)
    (host.processes[pid].folder / "statm").write_bytes(b"%d %d 0\n" % (pages, pages))


def test_others_bound_what_a_family_hides(tmp_path: Path) -> None:
    """Two members of one family with 40 MiB each, of which none is shared: the levels show it."""
    job = Job(tmp_path, surroundings=True)
    neighbour(job, 300, 10 * PAGES)
    job.scan()
    job.host.run(ROOT, pages=40 * PAGES, minor=39 * PAGES)
    job.host.spawn(200, ROOT, pages=40 * PAGES)
    job.host.run(200, minor=40 * PAGES)
    slack = (os.cpu_count() or 1) / 2
    low, high = job.scan()
    assert job.last.source == "surroundings"
    assert (low, high) == (max(40, 80 - slack), 80)
    neighbour(job, 300, 30 * PAGES, minor=20 * PAGES)  # its growth is none of the tree's
    job.host.run(ROOT, minor=1)
    low, high = job.scan()
    assert (low, high) == (max(40, 80 - slack), 80)


def test_new_process_might_be_a_child_and_is_left_out(tmp_path: Path) -> None:
    job = Job(tmp_path, surroundings=True)
    job.scan()
    job.host.run(ROOT, minor=1)
    job.levels()
    job.host.advance(1)
    neighbour(job, 300, 10 * PAGES)  # it starts in the tick of the scan
    job.sampler.sample()
    assert 300 not in job.memory._around._known
    job.host.run(ROOT, minor=1)
    job.scan()
    assert 300 in job.memory._around._known


def test_hidden_process_leaves_the_families_alone(tmp_path: Path) -> None:
    job = Job(tmp_path, surroundings=True)
    neighbour(job, 300, 10 * PAGES)
    job.scan()
    assert job.last.source == "surroundings"
    job.host.deny("300/stat")
    neighbour(job, 300, 11 * PAGES)
    job.host.run(ROOT, minor=1)
    job.scan()
    assert job.last.source == "processes"


def started(job: Job) -> MemoryScan:
    """Return a reader of a run that starts at the present levels."""
    job.levels()

    class Enclosure:
        memory_left, found = False, {"cpu": None}
        memory_before = (job.host.proc / "meminfo").read_bytes()

        def is_own(self, directory: str) -> bool:
            return False

    job.sampler.memory.enclosure = Enclosure()  # type: ignore[assignment]
    memory = job.sampler.memory.make(lambda _: [])
    job.sampler.memory.enclosure = None
    return memory


def test_shared_memory_before_the_start_is_not_counted(tmp_path: Path) -> None:
    job = Job(tmp_path, surroundings=True)
    job.shmem = 5 * PAGES
    memory = started(job)
    job.shmem = 9 * PAGES
    job.levels()
    memory.scan(job.sampler.members.values(), job.sampler.members, job.host.now_ns, 0)
    assert memory.bracket is not None
    assert (memory.bracket.shmem_low, memory.bracket.shmem_high) == (0, 4 * MIB)


def test_children_that_the_first_scan_of_a_run_misses_are_in_its_bound(tmp_path: Path) -> None:
    job = Job(tmp_path, surroundings=True)
    memory = started(job)
    begun_ns = job.host.now_ns
    job.host.advance(0.04)
    for pid in (200, 201):
        job.host.spawn(pid, ROOT, pages=50 * PAGES)
        job.host.run(pid, minor=50 * PAGES)
    job.levels()
    memory.scan(job.sampler.members.values(), job.sampler.members, begun_ns, 0)
    assert memory.bracket is not None
    assert memory.bracket.high < 51 * MIB, "a scan cannot know of them"
    job.host.advance(1)
    job.sampler.memory.reader = memory
    assert job.scan()[1] >= 100  # type: ignore[operator]


# -- PSS -----------------------------------------------------------------------------------------------------------


def fork_pool(job: Job) -> None:
    """A parent of 40 MiB and two children that may have copied all of it: PSS shows that they did not."""
    host = job.host
    host.run(ROOT, pages=40 * PAGES, minor=39 * PAGES)
    job.scan()
    for pid in (200, 201):
        host.spawn(pid, ROOT, pages=40 * PAGES)
        host.run(pid, minor=40 * PAGES)
    for pid in (ROOT, 200, 201):
        host.processes[pid].pss_pages = 14 * PAGES
        host.write(host.processes[pid])


def test_late_scan_sums_members_that_live_at_its_end(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.sampler.status_ns = 1 << 62  # the scan alone reads `status`
    for pid in (200, 201, 202):
        job.host.spawn(pid, ROOT)
        job.host.exec(pid, b"worker", pages=10 * PAGES)

    def end_while_it_is_read() -> None:
        job.host.advance(0.1)
        job.host.end(200)
        job.host.exit(201)

    job.host.once("202/status", end_while_it_is_read)
    assert job.scan() == (11, 11)
    assert job.memory.late == 1
    assert job.sampler.memory.summary()["peak_low_bytes"] == 11 * MIB


def test_pss_is_read_although_nothing_moves_any_more(tmp_path: Path) -> None:
    job = Job(tmp_path)
    fork_pool(job)
    assert job.scan() == (40, 120)  # a family that forks is left alone at first
    assert opened(job, "smaps_rollup") == []
    low, high = job.scan()
    assert (low, high) == pytest.approx((42, 42), abs=1)
    assert len(opened(job, "smaps_rollup")) == 3
    job.scan()
    assert opened(job, "smaps_rollup") == []


def test_pss_is_read_where_the_bracket_is_wide(tmp_path: Path) -> None:
    job = Job(tmp_path)
    assert job.sample()["pss_bytes"] is None
    fork_pool(job)
    for _ in range(4):  # a family that forks is left alone at first
        job.host.run(ROOT, minor=1)
        tree = job.sample()
    assert (tree["memory_low_bytes"] / MIB, tree["memory_high_bytes"] / MIB) == pytest.approx((42, 42), abs=1)
    assert tree["pss_bytes"] == job.sampler.samples.peak_pss == 42 * MIB
    assert sorted(opened(job, "smaps_rollup")) == [f"{pid}/smaps_rollup" for pid in (ROOT, 200, 201)]
    job.host.run(201, pages=41 * PAGES, minor=PAGES)
    tree = job.sample()
    assert (tree["pss_bytes"], tree["pss_unread"]) == (None, 1)
    assert tree["memory_high_bytes"] / MIB == pytest.approx(43, abs=1)


def test_child_forked_while_pss_is_read_is_found(tmp_path: Path) -> None:
    job = Job(tmp_path)
    fork_pool(job)
    job.host.once("201/smaps_rollup", lambda: job.host.spawn(202, 200, pages=40 * PAGES))
    while 202 not in job.host.processes:
        job.host.run(ROOT, minor=1)
        job.scan()
    assert sorted(pid for pid, _ in job.memory.model.members) == [ROOT, 200, 201, 202]


def test_cores_are_within_the_cpus_where_a_child_is_found_while_pss_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    job = Job(tmp_path)
    fork_pool(job)

    def fork() -> None:
        job.host.spawn(202, 200)
        job.host.advance(1.5)
        job.host.run(202, user=1.5)

    job.host.once("201/smaps_rollup", fork)
    while 202 not in job.host.processes:
        job.host.run(ROOT, user=1)
        job.host.run(201, user=1)
        tree = job.sample()
    assert tree["cpu_cores"] == pytest.approx(2.0, abs=0.05)


def test_denied_pss_is_a_gap(tmp_path: Path) -> None:
    job = Job(tmp_path)
    fork_pool(job)
    job.host.deny("200/smaps_rollup")
    for _ in range(4):
        job.host.run(ROOT, minor=1)
        tree = job.sample()
    assert tree["pss_bytes"] is job.sampler.samples.peak_pss is None
    assert job.sampler.memory.pss_denied == 1
    assert [code for code, _, _ in job.sampler.memory.gaps()] == ["pss_denied", "surroundings_hidden"]


def test_pss_after_procfs_went_is_a_gap_of_procfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proctally.tree.memory_scan.read_rollup", Mock(side_effect=NoProcfs("procfs_missing")))
    job = Job(tmp_path)
    fork_pool(job)
    for _ in range(4):
        job.host.run(ROOT, minor=1)
        job.sample()
    assert job.sampler.memory.pss_denied == 0
    found = [gap(codes.MEMORY, code) for code, _, _ in job.sampler.memory.gaps()]
    assert (found[0]["code"], coverage(found)["memory"]) == ("procfs_missing", "partial")


def test_without_a_budget_no_pss_is_read(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=0.0)
    fork_pool(job)
    for _ in range(4):
        job.host.run(ROOT, minor=1)
        job.scan()
    assert opened(job, "smaps_rollup") == []


# -- the end -------------------------------------------------------------------------------------------------------


def test_job_that_no_scan_met_is_bounded_by_its_mark(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(ROOT, OWN, pages=3 * PAGES - HELD_SLACK // PAGE)
    sampler = TreeSampler(host.machine(), own=OWN)
    sampler.start(ROOT)
    host.exec(ROOT, b"job", pages=PAGES)
    sampler.sample()
    host.run(ROOT, pages=2 * PAGES)
    host.exit(ROOT)
    reap_ours(host, sampler, ROOT)
    assert sampler.sample()["tree"]["memory_low_bytes"] is None
    sampler.finish()
    assert sampler.memory.reader is None
    summary = sampler.memory.summary()
    assert (summary["peak_low_bytes"], summary["peak_high_bytes"], summary["at_peak"]) == (0, 3 * MIB, None)
    assert sampler.memory.gaps() == [("not_sampled", None, 3 * MIB)]


@pytest.mark.parametrize(("seconds", "high"), [(0.1, 9), (3.0, 2)])
def test_mark_of_the_launcher_bounds_what_was_hardly_seen(tmp_path: Path, seconds: float, high: int) -> None:
    """A job is seen at 1 s, holds 5 MiB afterwards, and its launcher had 9 MiB."""
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(ROOT, OWN, pages=9 * PAGES)
    sampler = TreeSampler(host.machine(), own=OWN)
    sampler.start(ROOT)
    host.exec(ROOT, b"job", pages=PAGES)
    sampler.sample()
    host.run(ROOT, pages=2 * PAGES)
    host.advance(seconds)
    sampler.sample()
    host.run(ROOT, pages=5 * PAGES)
    host.advance(1)
    host.exit(ROOT)
    reap_ours(host, sampler, ROOT)
    sampler.sample()
    sampler.finish()
    assert sampler.memory.summary()["peak_high_bytes"] == high * MIB


def spike_of_the_root(job: Job) -> None:
    job.host.run(ROOT, pages=60 * PAGES, minor=60 * PAGES)
    job.host.run(ROOT, pages=2 * PAGES)


def spike_of_a_child(job: Job) -> None:
    job.host.spawn(200, ROOT, pages=PAGES)
    job.host.run(200, pages=60 * PAGES)
    job.host.end(200)


@pytest.mark.parametrize(("spike", "low"), [(spike_of_the_root, 60), (spike_of_a_child, 1)])
def test_spike_between_two_scans_is_in_the_peak(job: Job, spike: Callable[[Job], None], low: int) -> None:
    job.scan()
    spike(job)
    job.scan()
    job.host.exit(ROOT)
    reap_ours(job.host, job.sampler, ROOT)
    assert job.scan() == (0, 0)
    job.sampler.finish()
    summary = job.sampler.memory.summary()
    assert (summary["peak_low_bytes"] // MIB, summary["peak_high_bytes"] // MIB) == (low, 60)
    assert "spike_between_samples" in [code for code, _, _ in job.sampler.memory.gaps()]


def test_memory_that_was_swapped_out_is_swap(job: Job) -> None:
    job.host.run(ROOT, pages=100 * PAGES, minor=99 * PAGES)
    assert job.scan() == (100, 100)
    job.host.reclaim(ROOT, 30 * PAGES)
    job.host.run(ROOT, minor=1)
    tree = job.sample()
    assert (tree["memory_low_bytes"], tree["memory_high_bytes"], tree["swap_bytes"]) == (30 * MIB, 30 * MIB, 70 * MIB)
    assert job.sampler.memory.summary()["swap_bytes"] == 0  # at the peak


def test_parts_of_the_peak(job: Job) -> None:
    job.host.spawn(200, ROOT)
    job.host.exec(200, b"worker \xff", pages=9 * PAGES)
    job.scan()
    summary = job.sampler.memory.summary()
    assert summary["at_peak"] == [
        {"pid": 200, "command": "worker \\xff", "low_bytes": 9 * MIB, "high_bytes": 9 * MIB, "kind": "private"},
        {"pid": ROOT, "command": "root", "low_bytes": MIB, "high_bytes": MIB, "kind": "private"},
    ]
    assert (summary["at_seconds"], summary["source"]) == (2.0, "processes")


# -- a run cgroup --------------------------------------------------------------------------------------------------


class RunCgroup:
    """An enclosure whose run cgroup is a folder."""

    memory_before = b"anon 0\nshmem 0\n"
    left = memory_left = False
    split_ns = None
    kills_before: tuple[Any, ...] = {}, {}, None, None

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.found = {"": Place(str(folder), "/job", str(folder))}
        self.folder = folder

    def hold(self, anon: int, shmem: int) -> None:
        (self.folder / "memory.stat").write_text(f"anon {anon * MIB}\nshmem {shmem * MIB}\nanon_thp 0\n")

    def is_own(self, directory: str) -> bool:
        return directory == str(self.folder)

    def follow(self, pid: int, raw: bytes) -> None:
        pass

    def used_ns(self) -> None:
        return None

    def sample(self) -> None:
        return None

    def throttled(self) -> None:
        return None


def test_run_cgroup_is_the_figure_until_a_member_leaves(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(ROOT, OWN, pages=PAGES)
    enclosure = RunCgroup(tmp_path / "job")
    sampler = TreeSampler(host.machine(), own=OWN, enclosure=enclosure)  # type: ignore[arg-type]
    sampler.start(ROOT)
    enclosure.hold(1, 4)
    bounds = []
    for step in range(4):
        host.run(ROOT, minor=1)
        host.advance(1)
        enclosure.memory_left = step > 2
        tree = sampler.sample()["tree"]
        bounds.append((tree["memory_low_bytes"], tree["memory_high_bytes"]))
    assert bounds == [(None, None), (5 * MIB, 5 * MIB), (5 * MIB, 5 * MIB), (MIB, MIB)]
    assert sampler.memory.reader is not None and sampler.memory.reader.bracket is not None
    assert sampler.memory.reader.bracket.source == "processes"


class Session(RunCgroup):
    """An enclosure that found a cgroup around the tree and the tracker."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "cgroup.procs").write_text("")

    def is_own(self, directory: str) -> bool:
        return False


def test_cgroup_of_the_unified_hierarchy_bounds_a_family(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(ROOT, OWN, pages=40 * PAGES)
    session = Session(tmp_path / "job")
    sampler = TreeSampler(host.machine(), own=OWN, enclosure=session)  # type: ignore[arg-type]
    sampler.start(ROOT)
    bounds, sources = [], []
    for path in ("/job/step", "/job/step", "/job/step", "/other"):
        (host.processes[ROOT].folder / "cgroup").write_text(f"0::{path}\n")
        session.hold(anon=70, shmem=2)
        host.advance(1)
        child = 200 + len(bounds)
        host.spawn(child, ROOT, pages=40 * PAGES)
        (host.processes[child].folder / "cgroup").write_text(f"0::{path}\n")
        (host.processes[child].folder / "statm").write_bytes(b"10240 10240 0 0 0 0 0\n")
        host.run(child, minor=40 * PAGES)
        tree = sampler.sample()["tree"]
        low, high = tree["memory_low_bytes"], tree["memory_high_bytes"]
        bounds.append(None if low is None else (low // MIB, high // MIB))
        bracket = None if sampler.memory.reader is None else sampler.memory.reader.bracket
        sources.append(None if bracket is None else bracket.source)
    assert sources == [None, "surroundings", "surroundings", "processes"]
    assert bounds[2][1] <= 74  # type: ignore[index]
    assert bounds[3][1] > 80  # type: ignore[index]


def test_pss_is_read_where_a_sandbox_refuses_the_clock_of_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("time.thread_time_ns", refuse)
    job = Job(tmp_path)
    fork_pool(job)
    job.scan()
    assert job.scan() == pytest.approx((42, 42), abs=1)
    assert job.sampler.memory.fault is None


def test_scans_without_memory_keep_no_members(tmp_path: Path) -> None:
    """A member that exits in the scan that read it stayed for ever."""
    job = Job(tmp_path, memory=False)
    job.host.run(ROOT, user=0.1)
    job.scan()
    assert not job.sampler.memory.left_out
