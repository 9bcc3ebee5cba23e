"""Gauges of processes on a made-up host."""

from __future__ import annotations

from pathlib import Path

import pytest

from captured import put
from fakeroot import INIT, NO_PID, PAGE, FakeHost
from gauges_of import only
from proctally import gauges
from proctally.gauges import Gauges, Series
from proctally.tree import sampler as tree_sampler
from proctally.tree.sampler import TreeSampler


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A fake host of four CPUs, with one process, 100, that executes /bin/job."""
    monkeypatch.setattr(gauges, "_affinity", lambda pid: {0, 1, 2, 3})
    host = FakeHost(tmp_path)
    host.spawn(100, INIT, comm=b"job", pages=10)
    executes(host, 100, "/bin/job")
    return host


def executes(host: FakeHost, pid: int, path: str) -> None:
    link = host.processes[pid].folder / "exe"
    link.unlink(missing_ok=True)
    link.symlink_to(path)


# -- a fake host -----------------------------------------------------------------------------------------------------


def test_percents_of_one_core(host: FakeHost) -> None:
    host.advance(10)
    host.run(100, user=3, system=1)
    tree = Gauges(100, machine=host.machine())
    first = only(tree.sample())
    assert (first.cpu_percent, first.user_cpu_percent, first.system_cpu_percent) == pytest.approx((40, 30, 10))
    host.advance(2)
    host.run(100, user=1, system=0.5)
    second = only(tree.sample())
    assert (second.cpu_percent, second.user_cpu_percent, second.system_cpu_percent) == pytest.approx((75, 50, 25))
    host.advance(1)
    assert only(tree.sample())[4:] == (0, 0, 0)
    assert (second.rss_bytes, second.virtual_bytes, second.threads) == (10 * PAGE, 10 * PAGE, 1)


def test_percents_end_at_what_the_cores_can_do(host: FakeHost) -> None:
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.advance(1)
    host.run(100, user=3.5, system=0.2)
    assert only(tree.sample()).cpu_percent == pytest.approx(370)
    host.advance(1)
    host.run(100, user=5, system=0.2)  # such are the clocks of a short interval
    assert only(tree.sample())[4:] == pytest.approx((400, 20, 400))


def test_the_quota_of_a_cgroup_counts_as_cores(host: FakeHost, tmp_path: Path) -> None:
    put(tmp_path, "cgroup/job/cpu.max", "150000 100000\n")
    put(tmp_path, "cgroup/cpu.max", "max 100000\n")
    put(host.proc, "100/cgroup", "0::/job\n")
    put(host.proc, "self/mountinfo", f"30 1 0:26 / {tmp_path}/cgroup rw - cgroup2 cgroup2 rw\n")
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.advance(1)
    host.run(100, user=3)
    assert only(tree.sample()).cpu_percent == pytest.approx(150)
    put(tmp_path, "cgroup/job/cpu.max", "250000 100000\n")
    host.advance(11)
    host.run(100, user=33)
    assert only(tree.sample()).cpu_percent == pytest.approx(250)


def test_waited_for_children_are_excluded_and_orphans_are_not(host: FakeHost) -> None:
    host.spawn(101, 100)
    host.spawn(102, 101)
    for pid in (101, 102):
        executes(host, pid, "/bin/other")
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.advance(1)
    host.run(101, user=0.5)
    host.run(102, user=0.25)
    host.end(101)
    sample = tree.sample()
    assert sample.members[Series(100, "job")].cpu_percent == pytest.approx(0, abs=0.01)
    assert sample.members[Series(102, "other")].cpu_percent == pytest.approx(25)
    assert sample.members.keys() == {(100, "job"), (102, "other")}
    assert sample.processes == 2


def test_another_process_under_the_pid_starts_anew(host: FakeHost) -> None:
    host.spawn(101, 100)
    executes(host, 101, "/bin/other")
    tree = Gauges(100, machine=host.machine())
    host.advance(10)
    host.run(101, user=8)
    assert tree.sample().members[Series(101, "other")].cpu_percent == pytest.approx(80)
    host.end(101)
    host.spawn(101, 100)
    executes(host, 101, "/bin/other")
    host.advance(2)
    host.run(101, user=1)
    assert tree.sample().members[Series(101, "other")].cpu_percent == pytest.approx(50)


def test_exec_starts_anew_and_the_same_program_does_not(host: FakeHost) -> None:
    tree = Gauges(100, machine=host.machine())
    host.advance(10)
    host.run(100, user=5)
    assert only(tree.sample()).cpu_percent == pytest.approx(50)
    host.advance(10)
    host.exec(100, b"again")  # another name, the same program
    host.run(100, user=1)
    assert tree.sample().members[Series(100, "job")].cpu_percent == pytest.approx(10)
    executes(host, 100, "/opt/new (deleted)")
    host.exec(100, b"new")
    host.advance(10)
    sample = tree.sample()
    assert list(sample.members) == [(100, "new")]
    assert only(sample).cpu_percent == pytest.approx(20, abs=0.01)
    host.advance(10)
    host.run(100, user=4)
    assert only(tree.sample()).cpu_percent == pytest.approx(40)


def test_a_process_that_begins_while_the_tree_is_read_has_no_spike(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CPU time was read after the moment of the sample, before which it was not."""
    monkeypatch.setattr(tree_sampler, "DESCRIPTORS", 0)  # each reading is announced
    tree = Gauges(100, machine=host.machine())
    tree.sample()

    def fork() -> None:
        host.advance(0.01)
        host.spawn(101, 100)
        executes(host, 101, "/bin/other")
        host.run(101, user=0.001)
        host.advance(0.002)

    host.advance(1)
    host.run(100, user=0.1)
    host.once("100/stat", fork)
    assert tree.sample().members[Series(101, "other")].cpu_percent == pytest.approx(50, abs=0.1)
    host.advance(1)
    host.run(101, user=0.25)
    assert tree.sample().members[Series(101, "other")].cpu_percent == pytest.approx(25, abs=1)


def test_a_program_that_came_between_two_samples_of_somebody_else(host: FakeHost) -> None:
    """Who shares a sampler is not asked at each of its looks."""
    machine = host.machine()
    sampler = TreeSampler(machine)
    sampler.attach(100, NO_PID)
    tree = Gauges.beside(sampler, machine)
    sampler.sample()
    assert tree.sample().members.keys() == {(100, "job")}
    executes(host, 100, "/bin/other")
    host.exec(100, b"other")
    sampler.scan()
    host.advance(1)
    sampler.sample()
    assert tree.sample().members.keys() == {(100, "other")}
    opened = len(host.opened())
    host.advance(1)
    sampler.sample()
    assert tree.sample().members.keys() == {(100, "other")}
    assert len(host.opened()) < opened


def test_what_cannot_be_understood_of_cgroups_is_no_limit(host: FakeHost) -> None:
    put(host.proc, "100/cgroup", "nonsense\n")
    put(host.proc, "self/mountinfo", "nonsense\n")
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.advance(1)
    host.run(100, user=3)
    assert only(tree.sample()).cpu_percent == pytest.approx(300)


def test_a_process_without_its_main_thread_has_memory(host: FakeHost) -> None:
    host.spawn(101, 100, threads=2, pages=7)
    executes(host, 101, "/bin/other")
    host.end_leader(101)
    found = Gauges(100, machine=host.machine()).sample().members[Series(101, "other")]
    assert (found.rss_bytes, found.virtual_bytes, found.threads) == (7 * PAGE, 7 * PAGE, 2)


def test_labels(host: FakeHost) -> None:
    for path, label in (
        ("/usr/bin/plain", "plain"),
        ("/x/really (deleted)", "really"),
        ("/x/odd \udcff", "odd \\xff"),
        (None, "a\\xfe(b"),
    ):
        link = host.processes[100].folder / "exe"
        link.unlink(missing_ok=True)
        if path is not None:
            link.symlink_to(path)
        host.exec(100, b"a\xfe(b")
        assert list(Gauges(100, machine=host.machine()).sample().members) == [(100, label)]


def test_a_zombie_keeps_its_label(host: FakeHost) -> None:
    host.spawn(101, 100, comm=b"called")
    executes(host, 101, "/bin/other")
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.exit(101)
    (host.processes[101].folder / "exe").unlink()
    assert tree.sample().members.keys() == {(100, "job"), (101, "other")}
    host.reap(101)
    assert tree.sample().members.keys() == {(100, "job")}


def test_processes_that_are_hidden_are_counted(tmp_path: Path) -> None:
    """Without a readable `stat` their memory is not in the sum."""
    host = FakeHost(tmp_path)
    host.spawn(100, INIT, pages=3)
    with Gauges(100, machine=host.machine()) as tree:
        assert (tree.sample().processes, tree.sample().unread) == (1, 0)
        host.spawn(101, 100, pages=5)
        host.hide(101)
        host.run(100, user=0.1)
        sample = tree.sample()
        assert (sample.processes, sample.unread, sample.rss_bytes) == (2, 1, 3 * PAGE)
