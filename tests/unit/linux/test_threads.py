"""Threads that moved, from a `/proc` in a folder: growths, states, turns, and files that are kept open."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proctally.linux import threads as module
from proctally.linux.machine import Machine
from proctally.linux.proc import is_vfork_wait, parse_block_delay, parse_state
from proctally.linux.threads import ThreadReader, accounts_block_delays

STAT = b"%d (a) b) %c 1 " + b" ".join(b"%d" % field for field in range(5, 42)) + b" %d 43\n"


class Proc:
    """Threads by (pid, tid), written over in place as the kernel shows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, pid: int, tid: int, cpu: int, delay: int = 0, state: str = "S", block: int = 0) -> None:
        task = self.folder / f"{pid}/task/{tid}"
        task.mkdir(parents=True, exist_ok=True)
        (task / "schedstat").write_bytes(b"%d %d 1\n" % (cpu, delay))
        (task / "stat").write_bytes(STAT % (tid, state.encode(), block))
        (task / "wchan").write_bytes(b"io_schedule")

    def end(self, pid: int, tid: int) -> None:
        task = self.folder / f"{pid}/task/{tid}"
        os.truncate(task / "schedstat", 0)  # what is open reads nothing any more
        for path in task.iterdir():
            path.unlink()
        task.rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[ThreadReader]:
    reader = ThreadReader(Machine(str(tmp_path), ticks=100), descriptors=8)
    yield reader
    reader.close()
    assert reader.open_count == 0


def test_stat_of_thread_has_state_and_block_delay() -> None:
    data = STAT % (7, b"D", 12)
    assert (parse_state(data), parse_block_delay(data)) == (b"D", 12)
    for broken in (b"", b"7 (a", b"7 (a) ", b"7 (a) D 1 2\n"):
        with pytest.raises(ValueError, match="stat: "):
            parse_block_delay(broken)
    with pytest.raises(ValueError, match="stat: "):
        parse_state(b"7 (a) ")


@pytest.mark.parametrize("wchan", [b"kernel_clone", b"_do_fork", b"wait_for_vfork_done\n"])
def test_wchan_of_vfork_is_no_device(wchan: bytes) -> None:
    assert is_vfork_wait(wchan)
    assert not is_vfork_wait(b"io_schedule")
    assert not is_vfork_wait(b"0")


def test_reader_returns_growth_since_last_scan(proc: Proc, reader: ThreadReader) -> None:
    proc.set(7, 7, 100, 10)
    reader.start(7, 1)
    assert reader.read([(7, 1, b"S")]).threads == {}
    proc.set(7, 7, 150, 30)
    assert reader.read([(7, 1, b"S")]).threads == {(7, 7): [50, 20, 0]}
    proc.set(8, 8, 5)  # new since the last scan: from 0
    assert reader.read([(7, 1, b"S"), (8, 1, b"S")]).threads == {(8, 8): [5, 0, 0]}


def test_reader_follows_threads_that_come_and_go(proc: Proc, reader: ThreadReader) -> None:
    proc.set(7, 7, 1)
    proc.set(7, 70, 10)
    assert reader.read([(7, 2, b"S")]).threads == {(7, 7): [1, 0, 0], (7, 70): [10, 0, 0]}
    proc.end(7, 70)
    proc.set(7, 71, 20)  # the same number of threads
    assert reader.read([(7, 2, b"S")]).threads == {}
    assert reader.read([(7, 2, b"S")]).threads == {(7, 71): [20, 0, 0]}
    proc.end(7, 71)
    proc.set(7, 7, 3)
    assert reader.read([(7, 1, b"S")]).threads == {(7, 7): [2, 0, 0]}
    assert reader.open_count == 1


def test_reader_counters_that_fall_are_no_growth(proc: Proc, reader: ThreadReader) -> None:
    """A thread that executes a program takes the id of the main thread."""
    proc.set(7, 7, 100, 10)
    reader.start(7, 1)
    proc.set(7, 7, 40, 20)
    assert reader.read([(7, 1, b"S")]).threads == {(7, 7): [0, 10, 0]}


def test_reader_of_vanished_process_is_empty(proc: Proc, reader: ThreadReader) -> None:
    proc.set(7, 7, 100)
    reader.start(7, 1)
    proc.end(7, 7)
    assert reader.read([(7, 1, b"S")]).threads == {}
    reader.forget(7)
    reader.forget(7)


def test_reader_forgets_state_of_process_that_exits_before_it_is_read(proc: Proc, reader: ThreadReader) -> None:
    """The sampler read its state before that: without a file there is no thread that could move again."""
    proc.set(7, 7, 100, state="R")
    reader.start(7, 1)
    proc.end(7, 7)
    assert not reader.read([(7, 1, b"R")]).running
    reader.forget(7)
    proc.set(8, 8, 1, state="D")
    scan = reader.read([(8, 1, b"D")])
    assert (scan.running, scan.disk) == (False, True)


def test_reader_state_stays_until_thread_moves(proc: Proc, reader: ThreadReader) -> None:
    """What was ready or waited for a device when it moved last still is."""
    for pid, state in ((7, "D"), (8, "R")):
        proc.set(pid, pid, 1, state=state)
    scan = reader.read([(7, 1, b"D"), (8, 1, b"R")])
    assert (scan.running, scan.disk) == (True, False)  # D counts only where no thread is R
    proc.set(8, 8, 2)
    scan = reader.read([(8, 1, b"S")])
    assert (scan.running, scan.disk) == (False, True)
    assert reader.read([]).disk
    proc.set(7, 7, 2)
    assert not reader.read([(7, 1, b"S")]).disk


def test_reader_leaves_out_vfork(proc: Proc, reader: ThreadReader) -> None:
    proc.set(7, 7, 1, state="D")
    (proc.folder / "7/task/7/wchan").write_bytes(b"kernel_clone")
    assert not reader.read([(7, 1, b"D")]).disk


def test_reader_reads_state_of_other_threads(proc: Proc, reader: ThreadReader) -> None:
    proc.set(7, 7, 1)
    proc.set(7, 70, 1, state="D")
    assert reader.read([(7, 2, b"S")]).disk
    proc.set(7, 70, 2, state="R")
    assert reader.read([(7, 2, b"S")]).running


def test_reader_with_accounting_reads_block_delay(proc: Proc) -> None:
    reader = ThreadReader(Machine(str(proc.folder), ticks=100), descriptors=8, accounted=True)
    proc.set(7, 7, 1, block=3, state="D")
    scan = reader.read([(7, 1, b"D")])
    assert (scan.threads, scan.disk) == ({(7, 7): [1, 0, 30_000_000]}, False)
    reader.close()


def test_reader_above_limit_takes_turns(proc: Proc, reader: ThreadReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes, two a scan: one that waited for its turn has its mean growth for each scan."""
    monkeypatch.setattr(module, "MAX_READ", 2)
    moved = [(pid, 1, b"S") for pid in (7, 8, 9)]
    read = []
    for scans in range(1, 4):
        for pid, *_ in moved:
            proc.set(pid, pid, 60 * scans)
        scan = reader.read(moved)
        assert scan.sampled
        read.append(scan.threads)
    assert read[0] == {(7, 7): [60, 0, 0], (8, 8): [60, 0, 0]}
    assert read[1] == {(9, 9): [60, 0, 0], (7, 7): [60, 0, 0]}
    assert read[2] == {(8, 8): [60, 0, 0], (9, 9): [60, 0, 0]}
    assert not reader.read(moved[:2]).sampled


@pytest.mark.parametrize("descriptors", [0, 1, 8])
def test_reader_keeps_within_its_descriptors(proc: Proc, descriptors: int) -> None:
    reader = ThreadReader(Machine(str(proc.folder)), descriptors=descriptors)
    for scans in (1, 2):
        for pid in (7, 8, 9):
            proc.set(pid, pid, scans)
        assert len(reader.read([(pid, 1, b"S") for pid in (7, 8, 9)]).threads) == 3
        assert reader.open_count == min(3, descriptors)
    reader.forget(7)
    assert reader.open_count == min(2, max(0, descriptors - 1))
    reader.close()


def test_switches_of_kernel(proc: Proc, tmp_path: Path) -> None:
    machine = Machine(str(tmp_path))
    assert not accounts_block_delays(machine)
    (tmp_path / "self").mkdir()
    (tmp_path / "self/schedstat").write_text("1 2 3\n")
    (tmp_path / "sys/kernel").mkdir(parents=True)
    for text, accounted in (("0\n", False), ("1\n", True)):
        (tmp_path / "sys/kernel/task_delayacct").write_text(text)
        assert accounts_block_delays(machine) is accounted
