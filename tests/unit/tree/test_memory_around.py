"""The other processes around a tree, in a cgroup that is a folder of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeroot import INIT, PAGE, FakeHost
from proctally.linux.cgroup import V2, Place
from proctally.linux.machine import INITIAL_PID_NAMESPACE
from proctally.tree import memory_around
from proctally.tree.memory_around import KERNEL_THREAD, Around, listed

LATER = 1 << 40


class Host:
    """A host with a v1 memory cgroup `/batch/job`."""

    def __init__(self, folder: Path) -> None:
        self.host = FakeHost(folder)
        self.cgroup = folder / "batch" / "job"
        self.cgroup.mkdir(parents=True)
        self.procs(self.cgroup)
        self.place = "memory", Place(str(self.cgroup), "/batch/job", str(folder))
        self.around = Around(self.host.machine(), self.place)

    def procs(self, cgroup: Path, *pids: int) -> None:
        cgroup.mkdir(exist_ok=True)
        (cgroup / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def spawn(self, pid: int, pages: int) -> None:
        self.host.spawn(pid, INIT, pages=pages)
        self.size(pid, pages)
        (self.host.processes[pid].folder / "cgroup").write_text("4:memory:/batch/job\n")

    def size(self, pid: int, pages: int) -> None:
        (self.host.processes[pid].folder / "statm").write_text(f"{2 * pages} {pages} 0 0 0 0 0\n")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    for pid in (200, 201, 202):
        host.spawn(pid, pid)
    host.procs(host.cgroup, 200)
    host.procs(host.cgroup / "below", 201, 202)
    return host


def sizes(readings: memory_around.Readings | None) -> dict[int, int] | None:
    """Return the anonymous pages of each."""
    return None if readings is None else {pid: anon // PAGE for (pid, _), (anon, _) in readings.items()}


def test_others_of_a_cgroup_and_of_those_below(host: Host) -> None:
    assert sizes(host.around.others([201], LATER)) == {200: 200, 202: 202}


def test_process_is_read_where_its_clock_moved(host: Host) -> None:
    host.around.others([], LATER)
    host.host.opened()
    host.size(200, 7)
    host.host.run(200)
    host.around._scans = 20  # none of them is refreshed at its turn
    assert sizes(host.around.others([], LATER)) == {200: 7, 201: 201, 202: 202}
    assert host.host.opened() == ["200/stat", "200/statm"]


def test_process_that_does_not_run_is_refreshed(host: Host) -> None:
    host.around.others([], LATER)
    host.size(201, 7)
    found = [sizes(host.around.others([], LATER)) for _ in range(memory_around.REFRESH_SCANS)]
    assert found[-1] == {200: 200, 201: 7, 202: 202}


def test_process_that_exited_is_left_out(host: Host) -> None:
    host.around.others([], LATER)
    host.host.end(200)
    assert sizes(host.around.others([], LATER)) == {201: 201, 202: 202}


def test_process_of_a_later_start_is_left_out(host: Host) -> None:
    start = host.host.processes[200].start
    assert sizes(host.around.others([], start)) == {}
    assert len(host.around.others([], start + 1) or ()) == 3


@pytest.mark.parametrize("how", ["denied", "foreign", "threaded", "garbage", "many"])
def test_hidden_or_many_others_are_unknown(host: Host, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "denied":
        host.host.deny("201/stat")
    elif how == "foreign":  # of another pid namespace
        host.procs(host.cgroup / "below", 0)
    elif how == "threaded":
        (host.cgroup / "below" / "cgroup.procs").unlink()
    elif how == "garbage":
        (host.cgroup / "below" / "cgroup.procs").write_text("x\n")
    else:
        monkeypatch.setattr(memory_around, "MAX_NEIGHBOURS", 2)
    assert host.around.others([], LATER) is None


def test_cgroup_that_is_removed_holds_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = host.cgroup / "gone"
    gone.mkdir()
    read = memory_around.read_file

    def remove_first(directory: str, name: str) -> bytes | None:
        if directory == str(gone) and gone.is_dir():
            gone.rmdir()
        return read(directory, name)

    monkeypatch.setattr(memory_around, "read_file", remove_first)
    assert listed(str(host.cgroup)) == {200, 201, 202}
    assert listed(str(host.cgroup / "gone")) is None


def test_kernel_threads_are_no_neighbours(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_around, "MAX_NEIGHBOURS", 2)
    stat = host.host.processes[201].folder / "stat"
    stat.write_bytes(stat.read_bytes().replace(b" 4194304 ", b" %d " % KERNEL_THREAD))
    for _ in range(2):
        assert sizes(host.around.others([], LATER)) == {200: 200, 202: 202}


def test_member_that_lives_elsewhere_ends_the_levels(host: Host) -> None:
    (host.cgroup / "memory.stat").write_text("total_rss 4096\ntotal_shmem 0\ntotal_rss_huge 0\n")
    cgroup = host.host.processes[200].folder / "cgroup"
    for path in ("/batch/job", "/batch/job/step"):
        cgroup.write_text(f"4:memory:{path}\n")
        host.around.check(200)
    assert host.around.levels() is not None
    cgroup.write_text("4:memory:/\n")
    (host.host.processes[200].folder / "statm").write_text("0 0 0 0 0 0 0\n")  # it is exiting
    host.around.check(200)
    assert host.around.levels() is not None
    host.size(200, 1)
    cgroup.write_text("4:memory:/batch/jobs\n")
    host.around.check(200)
    assert host.around.levels() is host.around.others([], LATER) is None


def test_unified_hierarchy_has_levels_and_others(tmp_path: Path) -> None:
    host = Host(tmp_path)
    around = Around(host.host.machine(), (V2, host.place[1]))
    (host.cgroup / "memory.stat").write_text("anon 8192\nfile 4096\nshmem 12288\nanon_thp 4096\nshmem_thp 0\n")
    levels = around.levels()
    assert levels is not None and (levels.anon, levels.shmem, levels.anon_huge) == (8192, 12288, 4096)
    host.spawn(200, 2)
    host.procs(host.cgroup / "below", 200)
    assert sizes(around.others([], LATER)) == {200: 2}
    cgroup = host.host.processes[200].folder / "cgroup"
    cgroup.write_text("4:memory:/\n0::/batch/job/below\n")  # a v1 hierarchy beside it counts nothing
    around.check(200)
    assert around.is_complete
    cgroup.write_text("0::/batch\n")
    around.check(200)
    assert around.levels() is around.others([], LATER) is None


def test_unparsable_levels_are_unknown(host: Host) -> None:
    (host.cgroup / "memory.stat").write_text("total_rss x\ntotal_shmem 0\n")
    assert host.around.levels() is None


@pytest.mark.parametrize(("namespace", "known"), [(INITIAL_PID_NAMESPACE, True), ("pid:[4026532000]", False)])
def test_machine_is_seen_from_its_own_pid_namespace(host: Host, namespace: str, known: bool) -> None:
    (host.host.proc / "self" / "ns").mkdir(parents=True)
    (host.host.proc / "self" / "ns" / "pid").symlink_to(namespace)
    host.size(INIT, 1)
    found = sizes(Around(host.host.machine(), None).others([200], LATER))
    assert found == ({INIT: 1, 201: 201, 202: 202} if known else None)
