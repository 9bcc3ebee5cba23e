"""Processes of a made-up host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import proctally
from fakeroot import INIT, FakeHost
from proctally import processes
from proctally.gauges import Gauges
from proctally.linux import proc_details
from proctally.linux.machine import Machine
from proctally.processes import ProcessInfo
from ways_to_total import OF_ONE


def info(pid: int, parent: int, start: int = 0) -> ProcessInfo:
    return ProcessInfo(pid, start or pid, parent, "S", "job", 1, 0, 0, 0, 0, 0, 0, 0)


def scan_of(*infos: ProcessInfo) -> dict[int, ProcessInfo]:
    return {each.pid: each for each in infos}


# -- one pass over all -----------------------------------------------------------------------------------------------


def test_a_parent_that_ends_during_the_scan(tmp_path: Path) -> None:
    for number in range(2):  # whichever of the two the folder lists first
        folder = tmp_path / str(number)
        folder.mkdir()
        host = FakeHost(folder)
        parent, child = (100, 101) if number else (101, 100)
        host.spawn(parent, INIT)
        host.spawn(child, parent)

        def end(host: FakeHost = host, parent: int = parent) -> None:
            host.end(parent)
            host.spawn(parent, INIT)

        host.once(f"{parent}/clock", end)
        found = processes.scan(machine=host.machine())
        assert found[child].parent == INIT
        assert processes.children_map(found).get(parent, []) == []


# -- the scanner -----------------------------------------------------------------------------------------------------


class Reads:
    """Which processes are read by whom scans."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pids: list[int] = []
        self._read_each = proc_details.read_each
        monkeypatch.setattr(proc_details, "read_each", self.read_each)

    def read_each(self, machine: Machine, pids: Iterable[int], make: Callable[..., Any]) -> dict[int, Any]:
        pids = list(pids)
        self.pids += pids
        return self._read_each(machine, pids, make)

    def of(self, scanner: processes.Scanner) -> list[int]:
        self.pids = []
        scanner.scan()
        return sorted(self.pids)


def test_only_who_ran_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, reads = FakeHost(tmp_path), Reads(monkeypatch)
    for pid in range(100, 120):
        host.spawn(pid, INIT)
    scanner = processes.Scanner(machine=host.machine())
    assert reads.of(scanner) == [INIT, *range(100, 120)]
    assert reads.of(scanner) == []
    host.run(105, user=0.1)
    assert reads.of(scanner) == [105]
    host.spawn(200, 107)
    assert reads.of(scanner) == [107, 200]
    host.end(110)
    assert reads.of(scanner) == [INIT]
    assert 110 not in scanner.scan()


def test_a_scanner_without_clocks_reads_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, reads = FakeHost(tmp_path), Reads(monkeypatch)
    host.spawn(100, INIT)
    scanner = processes.Scanner(machine=host.machine(clocks=False))
    assert reads.of(scanner) == reads.of(scanner) == [INIT, 100]


def test_a_pid_that_is_used_again_is_another_for_a_scanner(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    scanner = processes.Scanner(machine=host.machine())
    before = scanner.scan()[100]
    serial = host.serial
    host.end(100)
    host.serial = serial - 1  # the very clock of the other, too
    host.spawn(100, INIT, comm=b"another")
    assert host.processes[100].used[0] == before.cpu_ns
    after = scanner.scan()[100]
    assert after.start_ticks > before.start_ticks and after.command == "another"


def test_another_parent_is_seen_without_the_child_having_run(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    host.spawn(101, 100)
    scanner = processes.Scanner(machine=host.machine())
    assert scanner.scan()[101].parent == 100
    host.end(100)
    assert scanner.scan()[101].parent == INIT
    host.spawn(100, INIT)
    assert scanner.scan()[101].parent == INIT
    assert processes.children_map(scanner.scan())[100] == []


def test_what_others_did_to_an_idle_process_shows_within_ten_seconds(tmp_path: Path, monkeypatch: Any) -> None:
    host, reads = FakeHost(tmp_path), Reads(monkeypatch)
    for pid in range(100, 200):
        host.spawn(pid, INIT, pages=50)
    scanner = processes.Scanner(machine=host.machine())
    scanner.scan()
    host.reclaim(150, 3)
    most = 0
    for _ in range(10):
        host.advance(1.0)
        most = max(most, len(reads.of(scanner)))
    assert scanner.scan()[150].rss_bytes == 3 * 4096
    assert most <= 12  # spread out


# -- who descends from whom ------------------------------------------------------------------------------------------


def test_a_process_is_no_child_of_a_younger_one() -> None:
    found = scan_of(info(1, 0), info(50, 1, start=900), info(60, 50, start=100), info(70, 50, start=900))
    assert processes.parent_map(found) == {1: 0, 50: 1, 60: 0, 70: 50}
    assert processes.children_map(found)[50] == [70]
    assert processes.snapshot_tree_from_scan(50, found).pids == [50, 70]


def test_a_parent_that_is_hidden_is_still_told() -> None:
    found = scan_of(info(60, 50), info(61, 60))
    assert processes.parent_map(found) == {60: 50, 61: 60}
    assert processes.children_map(found) == {50: [60], 60: [61], 61: []}


def test_maps_that_go_round_in_a_circle_come_to_an_end() -> None:
    assert sorted(processes.descendants(1, {1: [2], 2: [3], 3: [1, 2]})) == [2, 3]
    assert not processes.is_descendant(1, 9, {1: 2, 2: 3, 3: 1})
    assert processes.descendants(9, {}) == [] and not processes.is_descendant(9, 1, {})


# -- snapshots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", OF_ONE)
def test_who_may_not_be_read_is_denied_and_it_is_said_what(tmp_path: Path, function: Callable[..., Any]) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    host.deny("100/stat", "100/status")  # as under hidepid=1
    with pytest.raises(proctally.AccessDenied, match="100/stat"):
        function(100, machine=host.machine())


def test_a_tree_where_there_are_no_children_files(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, children_files=False)
    host.spawn(100, INIT)
    host.spawn(101, 100)
    host.spawn(102, 101)
    host.spawn(103, INIT)
    assert processes.tree_pids(100, machine=host.machine()) == [100, 101, 102]


def test_children_of_every_thread_belong_to_the_tree(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT, threads=2)
    host.spawn(101, 100, by=10001)
    host.spawn(102, 101)
    assert processes.tree_pids(100, machine=host.machine()) == [100, 101, 102]


@pytest.mark.parametrize("later", [0.0, 0.05])
def test_who_was_given_the_pid_of_a_child_is_none_of_the_tree(tmp_path: Path, later: float) -> None:
    host = FakeHost(tmp_path)
    host.advance(10)
    host.spawn(100, INIT)
    host.spawn(101, 100)
    host.spawn(102, INIT)
    host.advance(1)

    def reuse() -> None:
        host.advance(later)
        host.end(101)
        host.spawn(101, 102)
        host.spawn(103, 101)

    host.once("101/stat", reuse)
    assert processes.tree_pids(100, machine=host.machine()) == [100]


def test_a_child_whose_parent_ends_meanwhile_is_still_of_the_tree(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    host.spawn(101, 100)
    host.spawn(102, 101)
    host.advance(1)
    host.once("102/stat", lambda: host.end(101))
    assert 102 in processes.tree_pids(100, machine=host.machine())


# -- trackers --------------------------------------------------------------------------------------------------------


def test_a_delta_is_never_one_of_two_processes(tmp_path: Path) -> None:
    for clocks in (True, False):
        folder = tmp_path / str(clocks)
        folder.mkdir()
        host = FakeHost(folder)
        host.spawn(100, INIT)
        host.run(100, user=1.0)
        tracker = processes.DeltaTracker(100, machine=host.machine(clocks=clocks))
        host.advance(1.0)
        host.run(100, user=0.5)
        assert tracker.update().cpu_percent == pytest.approx(50, abs=0.1)
        host.end(100)
        host.spawn(100, INIT)
        host.run(100, user=5.0)
        with pytest.raises(proctally.ProcessGone):
            tracker.update()
        makers: tuple[Callable[..., Any], ...] = (processes.DeltaTracker, processes.CumulativeTracker, Gauges)
        for maker in makers:
            maker(100, machine=host.machine(clocks=clocks))
            with pytest.raises(proctally.ProcessGone):
                maker(100, start_ticks=tracker.start_ticks, machine=host.machine(clocks=clocks))
        with pytest.raises(proctally.ProcessGone):
            processes.DeltaTracker(
                100, start_ticks=tracker.start_ticks, children=True, machine=host.machine(clocks=clocks)
            )


@pytest.mark.parametrize("clocks", [True, False])
def test_a_total_has_nothing_of_who_was_given_a_pid_of_the_tree(tmp_path: Path, clocks: bool) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    host.spawn(101, 100)
    host.spawn(200, INIT)
    tracker = processes.CumulativeTracker(100, machine=host.machine(clocks=clocks))
    near = 40_000_000  # what was waited for is cut to the tick
    host.run(101, user=1.0)
    assert tracker.update().cpu_ns == pytest.approx(1_000_000_000, abs=near)
    host.end(101)
    host.spawn(101, 200)  # a stranger's child
    host.run(101, user=7.0)
    total = tracker.update()
    assert (total.processes, total.processes_seen) == (1, 2)
    assert total.cpu_ns == pytest.approx(1_000_000_000, abs=near)
    host.end(101)
    host.spawn(101, 100)  # and now another child
    host.run(101, user=0.5)
    total = tracker.update()
    assert (total.processes, total.processes_seen) == (2, 3)
    assert total.cpu_ns == pytest.approx(1_500_000_000, abs=near)
    host.end(100)
    host.spawn(100, INIT)
    host.run(100, user=9.0)
    before, total = total, tracker.update()
    assert (total.processes, total.processes_seen) == (1, 3)  # 101 is an orphan, and still of the tree
    assert before.cpu_ns <= total.cpu_ns <= before.cpu_ns + near


@pytest.mark.parametrize("last", [100, 150])
def test_pids_that_went_round_between_two_calls_hide_nobody(tmp_path: Path, last: int) -> None:
    """Who is asked once a minute may see a pid given out last that is hardly greater than before, or the very same."""
    host = FakeHost(tmp_path, last_pid=True)
    host.spawn(100, INIT)
    tracker = processes.CumulativeTracker(100, machine=host.machine())
    for _ in range(3):
        host.advance(60)
        host.run(100, user=0.01)
        before = tracker.update()
    host.advance(60)
    host.spawn(30_000, 100)
    host.run(30_000, user=1.0)
    (host.proc / "loadavg").write_text(f"0.00 0.01 0.05 1/3 {last}\n")
    total = tracker.update()
    assert (total.processes, total.cpu_ns - before.cpu_ns) == (2, pytest.approx(1_000_000_000, abs=1000))


def test_the_io_of_a_total(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    host.run(100, io=(1, 1, 1, 1, 4096, 8192, 1))
    tracker = processes.CumulativeTracker(100, machine=host.machine())
    host.spawn(101, 100)
    host.run(101, io=(500, 600, 7, 8, 10 * 4096, 20 * 4096, 9))
    host.end(101)
    total = tracker.update()
    assert (total.read_bytes, total.write_bytes) == (10 * 4096, 20 * 4096)
    host.spawn(200, INIT)
    host.deny("200/io")
    total = processes.CumulativeTracker(200, machine=host.machine()).update()
    assert (total.read_bytes, total.write_bytes) == (None, None)


def test_no_pss_is_read_for_a_total(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT, pages=100)
    with processes.CumulativeTracker(100, machine=host.machine()) as tracker:
        for pages in (10, 20, 30):
            host.run(100, user=0.1, pages=pages)
            host.advance(1)
            tracker.update()
        assert not [path for path in host.opened() if path.endswith("smaps_rollup")]
        assert tracker.update().cpu_ns == pytest.approx(300_000_000, abs=1000)


# -- sums that lack members ------------------------------------------------------------------------------------------


def test_descendants_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    for pid in (101, 102, 103):
        host.spawn(pid, 100, pages=5)
    host.deny("101/stat")  # hidepid=1

    def vanish() -> None:
        host.exit(103)
        host.reap(103)

    host.once("103/stat", vanish)
    tree = processes.snapshot_tree(100, machine=host.machine())
    assert (tree.pids, tree.unread) == ([100, 102], 1), "one that exits is not unread"
    assert processes.snapshot_tree_from_scan(100, machine=host.machine()).unread is None


def test_io_that_is_denied_is_counted(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    host.spawn(101, 100)
    host.deny("101/io")
    with processes.CumulativeTracker(100, machine=host.machine()) as tracker:
        host.run(101, user=0.1, io=(9,) * 7)
        host.run(100, user=0.1, io=(5,) * 7)
        total = tracker.update()
    assert (total.read_bytes, total.io_unread) == (5, 1)
