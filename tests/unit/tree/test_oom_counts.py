"""OOM kills by cgroup, in trees of files as hosts with v1 and v2 show them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cgroup_host import NO_PID, Host
from proctally.linux.cgroup import children
from proctally.tree.cgroups import Enclosure
from proctally.tree.oom_counts import MAX_SEEN, MAX_WATCHED, OomCounts

ROOT = NO_PID
STARTED = 5000  # ticks
MIB = 1 << 20


class Case:
    """A host with one memory hierarchy, and the counts of a job that starts in `/job`."""

    def __init__(self, folder: Path, *, v1: bool, local: bool = True, mount_root: str = "/") -> None:
        self.host = Host(folder)
        self.v1 = v1
        self.local = local
        self.host.mount("cg", "memory" if v1 else None, root=mount_root)
        self.clocks: dict[int, int] = {}  # CPU time of the processes that ran, by pid
        self.host.machine.clock_gettime_ns = lambda clock: self.clocks.get(~(clock >> 3), 0)

    def kills(self, path: str, own: int, whole: int | None = None) -> None:
        """Write the counts of a cgroup; `whole` includes all below it (v2)."""
        if self.v1:
            self.host.write(f"cg{path}/memory.oom_control", f"oom_kill_disable 0\nunder_oom 0\noom_kill {own}\n")
            return
        self.host.write(f"cg{path}/memory.events", f"low 0\noom 9\noom_kill {own if whole is None else whole}\n")
        if self.local:
            self.host.write(f"cg{path}/memory.events.local", f"low 0\noom_kill {own}\n")

    def machine(self, kills: int) -> None:
        self.host.write("proc/vmstat", f"nr_free_pages 1\noom_kill {kills}\n")

    def raw(self, path: str) -> bytes:
        return f"{'4:memory' if self.v1 else '0:'}:{path}\n".encode()

    def start(self, path: str = "/job") -> OomCounts:
        self.host.process(ROOT, self.raw(path).decode().rstrip())
        enclosure = Enclosure(self.host.machine)
        enclosure.look_around(ROOT)
        return OomCounts(self.host.machine, *enclosure.kills_before, started=STARTED)


def shown(counts: OomCounts) -> list[tuple[str, int]]:
    return sorted((count.path, kills) for count, kills in counts.poll())


# -- v1: the count of a cgroup is its own --------------------------------------------------------------------------


def test_v1_counts_of_parent_and_child_are_apart(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 3)
    case.kills("/job/in", 2)
    counts = case.start()
    counts.see(case.raw("/job/in"))
    assert shown(counts) == []
    case.kills("/job", 6)
    case.kills("/job/in", 4)
    assert shown(counts) == [("/job", 3), ("/job/in", 2)]
    assert counts.total == 5
    assert shown(counts) == []
    assert counts.most().path == "/job"


def test_v1_cgroup_of_after_the_start_counts_from_zero(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 3)
    case.kills("/job/old", 7)
    counts = case.start()
    case.kills("/job/new", 2)
    for path in ("/job/new", "/job/old"):
        counts.see(case.raw(path))
    assert shown(counts) == [("/job/new", 2)]


def test_v1_cgroup_from_before_counts_from_the_first_scan(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 0)
    case.kills("/other", 7)
    case.machine(20)
    counts = case.start()
    counts.see(case.raw("/other"))
    assert shown(counts) == []
    case.kills("/other", 8)
    assert shown(counts) == [("/other", 1)]


def test_v1_kill_before_the_first_scan_is_taken_from_the_machine(tmp_path: Path) -> None:
    """A member moved to a cgroup and was killed there before a scan saw it."""
    case = Case(tmp_path, v1=True)
    case.kills("/job", 0)
    case.kills("/other", 7)
    case.machine(20)
    counts = case.start()
    case.machine(21)
    case.kills("/other", 8)
    counts.see(case.raw("/other"))
    assert shown(counts) == [("/other", 1)]
    case.kills("/third", 5)
    counts.see(case.raw("/third"))
    assert shown(counts) == [], "that kill of the machine is counted"


def test_cgroup_that_was_made_again_counts_from_zero(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 5)
    counts = case.start()
    case.kills("/job", 1)
    assert shown(counts) == [("/job", 1)]


# -- v2: the count includes all cgroups below ----------------------------------------------------------------------


def test_v2_hierarchical_counts_are_not_doubled(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=False)
    case.kills("/job", 1, 4)
    case.kills("/job/a", 3)
    counts = case.start()
    counts.see(case.raw("/job/a"))
    case.kills("/job", 1, 6)
    case.kills("/job/a", 5)
    assert shown(counts) == [("/job/a", 2)]
    assert counts.total == 2


def test_v2_kill_in_a_cgroup_that_no_scan_saw(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=False)
    case.kills("/job", 0, 0)
    counts = case.start()
    case.kills("/job", 0, 2)
    case.kills("/job/b", 2)
    assert shown(counts) == [("/job", 2)]
    counts.see(case.raw("/job/b"))
    case.kills("/job/b", 3)
    case.kills("/job", 0, 3)
    assert shown(counts) == [("/job/b", 1)]
    assert counts.total == 3


def test_v2_cgroup_above_one_that_was_watched(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=False)
    case.kills("/up", 0, 5)
    case.kills("/up/job", 1)
    counts = case.start("/up/job")
    case.kills("/up/job", 3)
    case.kills("/up", 0, 7)
    assert shown(counts) == [("/up/job", 2)]
    counts.see(case.raw("/up"))
    case.kills("/up/job", 4)
    case.kills("/up", 1, 9)
    assert shown(counts) == [("/up", 1), ("/up/job", 1)]
    case.kills("/up", 1, 12)
    assert shown(counts) == [("/up", 3)], "in a cgroup that no scan saw"
    assert counts.total == 7


@pytest.mark.parametrize("local", [True, False])
def test_v2_of_old_kernels_and_with_memory_localevents(tmp_path: Path, local: bool) -> None:
    """Before 5.2 there is no count of a cgroup alone; that mount option makes both files alike."""
    case = Case(tmp_path, v1=False, local=local)
    case.kills("/job", 0)
    case.kills("/job/a", 0)
    counts = case.start()
    counts.see(case.raw("/job/a"))
    case.kills("/job/a", 2)
    case.kills("/job", 1 if local else 0, 1 if local else 2)
    counts.poll()
    assert counts.total == (3 if local else 2)


def test_v2_nearest_cgroup_with_a_count(tmp_path: Path) -> None:
    """As below a cgroup that does not give the memory controller to its children."""
    case = Case(tmp_path, v1=False)
    case.kills("/job", 0)
    (tmp_path / "cg/job/a/b").mkdir(parents=True)
    counts = case.start("/job/a/b")
    counts.see(case.raw("/job/a"))
    assert [count.path for count in counts.counts.values()] == ["/job"]
    case.kills("/job", 1)
    assert shown(counts) == [("/job", 1)]


# -- paths ---------------------------------------------------------------------------------------------------------


def test_path_that_differs_from_the_mount_by_a_prefix(tmp_path: Path) -> None:
    """containerd below systemd names the cgroup of a container from two roots."""
    inner = "/kubepods-pod7.slice:cri-containerd:abc"
    case = Case(tmp_path, v1=True, mount_root=inner)
    case.kills("", 1)
    case.host.write("cg/memory.limit_in_bytes", str(2048 * MIB))
    case.host.write("cg/memory.stat", f"hierarchical_memory_limit {2048 * MIB}\n")
    counts = case.start(f"/system.slice/containerd.service{inner}")
    case.kills("", 3)
    ((count, kills),) = counts.poll()
    assert (kills, counts.limit_bytes(count)) == (2, 2048 * MIB)
    case.kills("/child", 0)
    counts.see(case.raw(f"/system.slice/containerd.service{inner}/child"))
    case.kills("/child", 1)
    assert [kills for _, kills in counts.poll()] == [1]


@pytest.mark.parametrize("raw", [b"", b"nonsense\n", b"4:memory:/gone\n", b"4:memory:/job (deleted)\n", b"0::/job\n"])
def test_content_without_a_cgroup_is_ignored(tmp_path: Path, raw: bytes) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 0)
    counts = case.start()
    counts.see(raw)
    assert [count.path for count in counts.counts.values()] == ["/job"]


def test_host_without_counts(tmp_path: Path) -> None:
    counts = Case(tmp_path, v1=True).start()
    counts.see(b"4:memory:/\n")
    assert (counts.counts, counts.poll(), counts.total) == ({}, [], 0)


def test_count_that_does_not_parse_costs_itself_alone(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 0)
    case.kills("/other", 0)
    counts = case.start()
    counts.see(case.raw("/other"))
    case.host.write("cg/job/memory.oom_control", "oom_kill many\n")
    case.kills("/other", 1)
    assert shown(counts) == [("/other", 1)]


def test_number_of_cgroups_is_bounded(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 0)
    counts = case.start()
    for number in range(MAX_WATCHED + 5):
        case.kills(f"/c{number}", 0)
        counts.see(case.raw(f"/c{number}"))
    assert len(counts.counts) == MAX_WATCHED
    for number in range(MAX_SEEN):
        counts.see(case.raw(f"/none{number}"))
    assert len(counts._seen) <= MAX_SEEN


def test_limit_of_a_cgroup(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=False)
    case.kills("/job", 0)
    case.host.write("cg/job/memory.max", f"{100 * MIB}\n")
    counts = case.start()
    (count,) = counts.counts.values()
    assert counts.limit_bytes(count) == 100 * MIB
    case.host.write("cg/job/memory.max", "max\n")
    assert counts.limit_bytes(count) is None
    case.host.write("cg/job/memory.max", "a lot\n")
    assert counts.limit_bytes(count) is None


# -- others in the cgroup ------------------------------------------------------------------------------------------

OTHER, MEMBER = 77, 78


def shared(folder: Path, *, v1: bool = True) -> tuple[Case, OomCounts]:
    """The root and a process from before the start, in one cgroup."""
    case = Case(folder, v1=v1)
    case.kills("/job", 0)
    live(case, OTHER, start=STARTED - 1)
    counts = case.start()
    listed(case, ROOT, OTHER)
    counts.look_for_others([ROOT])
    return case, counts


def live(case: Case, pid: int, *, start: int = STARTED, parent: int = 1) -> None:
    case.host.process(pid, "4:memory:/job", start=start)
    case.host.write(f"proc/{pid}/stat", f"{pid} (x) S {parent} " + "0 " * 17 + f"{start} 0 0 0\n")


def listed(case: Case, *pids: int) -> None:
    case.host.write("cg/job/cgroup.procs", "".join(f"{pid}\n" for pid in pids))


def may_be_another(counts: OomCounts) -> list[bool]:
    return [count.others.may_be_victims([ROOT]) for count in counts.counts.values()]


def test_others_that_are_still_there_were_not_killed(tmp_path: Path) -> None:
    case, counts = shared(tmp_path)
    assert may_be_another(counts) == [False]
    live(case, MEMBER, parent=ROOT)  # no scan has seen it yet
    listed(case, ROOT, OTHER, MEMBER)
    assert may_be_another(counts) == [False]


def test_other_that_is_gone_may_be_the_victim(tmp_path: Path) -> None:
    case, counts = shared(tmp_path)
    listed(case, ROOT)
    assert may_be_another(counts) == [True]


def test_other_whose_pid_was_used_again_may_be_the_victim(tmp_path: Path) -> None:
    case, counts = shared(tmp_path)
    live(case, OTHER, start=STARTED + 5, parent=ROOT)
    assert may_be_another(counts) == [True]


def test_others_that_come_may_be_victims(tmp_path: Path) -> None:
    case, counts = shared(tmp_path)
    live(case, MEMBER, parent=OTHER)
    listed(case, ROOT, OTHER, MEMBER)
    assert may_be_another(counts) == [True]


def test_other_that_ran_may_have_forked_the_victim(tmp_path: Path) -> None:
    """Its child began and was killed between two scans, so that no listing has it."""
    case, counts = shared(tmp_path)
    case.clocks[OTHER] = 1
    assert may_be_another(counts) == [True]


def test_others_whose_clocks_cannot_be_read(tmp_path: Path) -> None:
    case, counts = shared(tmp_path)
    case.host.machine.clock_gettime_ns = None
    assert may_be_another(counts) == [True]


def test_cgroup_without_others(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 0)
    counts = case.start()
    assert may_be_another(counts) == [True], "no scan has looked yet"
    listed(case, ROOT, os.getpid())
    counts.look_for_others([ROOT])
    assert may_be_another(counts) == [False]


def test_child_of_after_the_start_is_not_another(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 0)
    counts = case.start()
    live(case, MEMBER, parent=ROOT)
    listed(case, ROOT, MEMBER)
    counts.look_for_others([ROOT])
    listed(case, ROOT)
    assert may_be_another(counts) == [False]


def test_processes_of_another_pid_namespace_are_unknown(tmp_path: Path) -> None:
    case = Case(tmp_path, v1=True)
    case.kills("/job", 0)
    counts = case.start()
    listed(case, ROOT, 0)
    counts.look_for_others([ROOT])
    assert may_be_another(counts) == [True]


def test_others_in_cgroups_below_count_for_v2(tmp_path: Path) -> None:
    for v1 in (True, False):
        case, counts = shared(tmp_path / str(v1), v1=v1)
        live(case, MEMBER)
        case.host.write("cg/job/in/cgroup.procs", f"{MEMBER}\n")
        assert may_be_another(counts) == [not v1]


def test_children_of_a_cgroup(tmp_path: Path) -> None:
    assert children(str(tmp_path)) == frozenset()
    (tmp_path / "a").mkdir()
    (tmp_path / "file").touch()
    assert children(str(tmp_path)) == {"a"}
