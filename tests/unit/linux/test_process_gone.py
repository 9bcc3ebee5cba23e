"""A process that exits while it is read is reported as gone, though its error is an OSError."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fakeroot import INIT, FakeHost
from proctally.errors import NoProcfs, ProcessGone, no_process
from proctally.linux import proc_details
from proctally.linux.machine import Machine, classify
from proctally.linux.proc import read_run_delay, read_stat, scan
from proctally.linux.threads import ThreadReader

PID = 100


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path)
    host.spawn(PID, INIT, threads=2)
    return host


def vanish(host: FakeHost) -> None:
    host.exit(PID)
    host.reap(PID)


def test_gone_has_number_and_path() -> None:
    error = classify(OSError(errno.ENOENT, "No such file or directory", "/proc/7/stat"))
    assert isinstance(error, ProcessGone)
    assert isinstance(error, ProcessLookupError) and not isinstance(error, FileNotFoundError)
    assert (error.errno, error.filename) == (errno.ENOENT, "/proc/7/stat")
    assert classify(error).errno == errno.ENOENT
    assert (no_process(7).errno, no_process(7).strerror) == (errno.ESRCH, "process 7 does not exist")


def test_listing_without_procfs_names_no_process(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path / "none"))
    for read in (
        lambda: list(scan(machine)),
        lambda: proc_details.list_pids(machine),
        lambda: proc_details.read_each(machine, [1], tuple),
    ):
        with pytest.raises(NoProcfs):
            read()


@pytest.mark.parametrize("step", [f"{PID}/stat", f"{PID}/clock"])
def test_certain_reading_of_process_that_exits_is_gone(host: FakeHost, step: str) -> None:
    host.once(step, lambda: vanish(host))
    with pytest.raises(ProcessGone, match=f"process {PID} does not exist"):
        proc_details.read_certain(host.machine(), PID)


def test_children_of_process_that_exits_are_gone(host: FakeHost) -> None:
    host.once(f"{PID}/task/{PID}/children", lambda: vanish(host))
    with pytest.raises(ProcessGone, match=f"process {PID} does not exist"):
        proc_details.read_certain(host.machine(), PID, [])


def test_run_delay_of_process_that_exits_is_gone(host: FakeHost) -> None:
    host.once(f"{PID}/schedstat", lambda: vanish(host))
    with pytest.raises(ProcessGone):
        read_run_delay(host.machine(), PID, 1)


def test_stat_of_reaped_process_is_gone(host: FakeHost) -> None:
    vanish(host)
    with pytest.raises(ProcessGone, match=f"process {PID} does not exist"):
        read_stat(host.machine(), PID)


def test_reader_drops_thread_that_exits(tmp_path: Path) -> None:
    """One that only cannot be read is kept, with its descriptor."""
    task = tmp_path / "7/task/7"
    task.mkdir(parents=True)
    (task / "schedstat").write_bytes(b"5 5 1\n")
    reader = ThreadReader(Machine(str(tmp_path), ticks=100), descriptors=8)
    reader.read([(7, 1, b"S")])
    (task / "schedstat").write_bytes(b"broken\n")
    reader.read([(7, 1, b"S")])
    assert reader.open_count == 1
    os.truncate(task / "schedstat", 0)
    reader.read([(7, 1, b"S")])
    assert reader.open_count == 0
    reader.close()
