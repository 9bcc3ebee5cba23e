"""Ends of members: what is kept of OOM kills, and of the signals that ended children."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cgroup_host import NO_PID, Host
from proctally.linux.child import signal_names
from proctally.tree.cgroups import Enclosure
from proctally.tree.kills import MAX_OOMS, MAX_READS, REFRESH_NS, Kills

MIB = 1 << 20
PART = {"pid": 7, "command": "eat", "low_bytes": 1, "high_bytes": 2, "kind": "private"}
MEMORY: Any = SimpleNamespace(parts=lambda: [PART])


class Job:
    """A job in `/job` of a v1 host, with the kills of its cgroup."""

    def __init__(self, folder: Path) -> None:
        self.host = Host(folder)
        self.host.mount("cg", "memory")
        self.killed(0)
        self.host.write("cg/job/memory.stat", f"hierarchical_memory_limit {100 * MIB}\n")
        self.host.process(NO_PID, "4:memory:/job")
        self.enclosure = Enclosure(self.host.machine)
        self.enclosure.look_around(NO_PID)
        self.kills = Kills(self.host.machine, self.enclosure, self.host.machine.monotonic_ns())

    def killed(self, count: int, path: str = "/job") -> None:
        self.host.write(f"cg{path}/memory.oom_control", f"oom_kill {count}\n")

    def poll(self, memory: Any = MEMORY, *, settle: bool = True) -> None:
        self.kills.poll(memory, (), settle=settle)

    def share(self, others: bool) -> None:
        for count in self.kills.counts.counts.values():
            count.others = SimpleNamespace(may_be_victims=lambda _: others)  # type: ignore[assignment]

    def member(self, pid: int, path: str = "/job", command: bytes = b"x") -> Any:
        self.host.process(pid, f"4:memory:{path}")
        self.host.write(f"proc/{pid}/statm", "10 1 1 0 0 0 0\n")
        return Member(pid, command)


class Member:
    def __init__(self, pid: int, command: bytes) -> None:
        self.pid = pid
        self.command = command
        self.alive = True
        self.ended = False


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


# -- OOM kills -----------------------------------------------------------------------------------------------------


def test_kill_is_kept_with_who_held_the_memory(job: Job) -> None:
    job.poll()
    assert job.kills.ooms == []
    assert job.kills.found() is None
    job.killed(2)
    job.poll()
    (entry,) = job.kills.ooms
    assert entry.pop("elapsed_seconds") >= 0
    assert entry == {"cgroup": "/job", "limit_bytes": 100 * MIB, "count": 2, "at_peak": [PART]}
    assert job.kills.found() == (2, "cgroup", "/job", 100 * MIB)
    job.poll()
    assert len(job.kills.ooms) == 1


def test_kill_before_memory_was_read(job: Job) -> None:
    job.killed(1)
    job.poll(None)
    assert job.kills.ooms[0]["at_peak"] is None


def test_entries_are_bounded_and_their_counts_are_the_total(job: Job) -> None:
    for count in range(1, MAX_OOMS + 5):
        job.killed(count)
        job.poll()
    assert len(job.kills.ooms) == MAX_OOMS
    assert sum(entry["count"] for entry in job.kills.ooms) == job.kills.counts.total == MAX_OOMS + 4


# -- whose kill it was ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("others", "elsewhere"), [(True, 2), (False, 0)])
def test_kill_in_a_shared_cgroup_may_be_elsewhere(job: Job, others: bool, elsewhere: int) -> None:
    job.share(others)
    job.killed(2)
    job.poll()
    assert job.kills.elsewhere() == elsewhere
    job.poll()
    assert job.kills.elsewhere() == elsewhere


def test_sigkill_of_a_member_explains_a_kill_of_its_scan(job: Job) -> None:
    job.share(True)
    job.killed(2)
    job.poll()
    job.kills.reaped(None, 9)
    job.kills.reaped(None, 15)
    assert job.kills.elsewhere() == 1
    job.poll()
    job.kills.reaped(None, 9)
    assert job.kills.elsewhere() == 1, "it came a scan too late"


def test_sigkill_that_is_seen_before_the_count(job: Job) -> None:
    job.share(True)
    job.kills.reaped(None, 9, is_root=True)
    job.killed(1)
    job.poll(settle=False)
    job.poll()
    assert job.kills.elsewhere() == 0
    job.killed(2)
    job.poll()
    assert job.kills.elsewhere() == 1, "one SIGKILL explains one kill"


def test_sigkill_of_long_ago_explains_nothing(job: Job) -> None:
    job.share(True)
    job.kills.reaped(None, 9)
    job.poll()
    job.killed(1)
    job.poll()
    assert job.kills.elsewhere() == 1


# -- where members live --------------------------------------------------------------------------------------------


def watched(job: Job) -> set[str]:
    return {count.path for count in job.kills.counts.counts.values()}


def test_cgroup_of_a_member_is_read_again_after_exec_and_after_a_while(job: Job) -> None:
    for path in ("/a", "/b", "/c"):
        job.killed(0, path)
    member = job.member(50)
    job.kills.see([member], [], {50}, 0)
    assert watched(job) == {"/job"}
    job.member(50, "/a")
    job.kills.see([member], [], {50}, 1)
    assert watched(job) == {"/job"}
    member.command = b"y"
    job.kills.see([member], [], {50}, 2)
    assert watched(job) == {"/job", "/a"}
    job.member(50, "/b")
    job.kills.see([], [member], {50}, REFRESH_NS + 2)
    assert watched(job) == {"/job", "/a", "/b"}
    member.alive = False
    job.member(50, "/c")
    job.kills.see([], [member], {50}, 3 * REFRESH_NS)
    assert watched(job) == {"/job", "/a", "/b"}


def test_members_beyond_the_budget_are_read_in_later_scans(job: Job) -> None:
    members = [job.member(100 + number, f"/c{number}") for number in range(MAX_READS + 3)]
    for number in range(len(members)):
        job.killed(0, f"/c{number}")
    job.kills.see(members, [], range(100), 0)
    assert len(watched(job)) == 1 + MAX_READS
    job.kills.see(members, [], range(100), 1)
    assert len(watched(job)) == 1 + len(members)


def test_v1_path_of_a_process_that_exits_is_not_its_cgroup(job: Job) -> None:
    job.killed(4, "")
    member = job.member(50, "/")
    job.host.write("proc/50/statm", "0 0 0 0 0 0 0\n")
    job.kills.see([member], [], {50}, 0)
    assert watched(job) == {"/job"}
    job.host.write("proc/50/statm", "10 1 1 0 0 0 0\n")
    job.kills.see([member], [], {50}, REFRESH_NS)
    assert watched(job) == {"/job", "/"}


def test_gone_members_are_forgotten(job: Job) -> None:
    members = [job.member(100 + number) for number in range(40)]
    for start in range(0, 40, MAX_READS):
        job.kills.see(members[start : start + MAX_READS], [], (), 0)
        for member in members:
            member.alive = False
        members[start + MAX_READS : start + 2 * MAX_READS] = [
            job.member(200 + start + number)
            for number in range(len(members[start + MAX_READS : start + 2 * MAX_READS]))
        ]
    assert len(job.kills._known) <= 2 * MAX_READS


def test_limits_follow_the_root_to_another_cgroup(job: Job) -> None:
    job.host.write("cg/small/memory.stat", f"hierarchical_memory_limit {16 * MIB}\n")
    job.killed(0, "/small")
    assert job.enclosure.limits.memory_bytes == 100 * MIB
    root = job.member(50, "/small")
    job.kills.see([root], [], {50}, 0, root)
    assert job.enclosure.limits.memory_bytes == 16 * MIB


# -- signals -------------------------------------------------------------------------------------------------------


def test_names_are_those_of_the_standard_library() -> None:
    assert signal_names() == {int(each): each.name for each in signal.Signals}


def test_signals_by_name(job: Job) -> None:
    for number in (9, 9, 11, 40):
        job.kills.reaped(None, number)
    assert job.kills.killed_by() == {"SIGKILL": 2, "SIGSEGV": 1, "40": 1}


def test_zombie_is_counted_once(job: Job) -> None:
    member = job.member(50)
    stat = b"50 (a b) Z 1 " + b"0 " * 48
    job.kills.zombie(member, stat + b"9\n")
    job.kills.zombie(member, stat + b"9\n")
    job.kills.reaped(member, 9)
    assert job.kills.killed_by() == {"SIGKILL": 1}


@pytest.mark.parametrize("last", [b"0", b"256", b"", b"x"])
def test_zombie_without_a_signal(job: Job, last: bytes) -> None:
    job.kills.zombie(job.member(50), b"50 (x) Z 1 0 " + last + b"\n")
    assert job.kills.killed_by() == {}


def test_root_is_not_a_child(job: Job) -> None:
    job.kills.reaped(job.member(50), 9, is_root=True)
    assert job.kills.killed_by() == {}
