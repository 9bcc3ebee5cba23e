"""Clocks, descriptors and start times of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from proctally.errors import ProcessGone
from proctally.linux.machine import Machine, clock_id, host_machine, reread
from proctally.linux.proc import read_stat

# -- clocks ------------------------------------------------------------------------------------------------------


def test_clocks_of_real_processes() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    parent, own = os.getppid(), os.getpid()
    before = time.process_time_ns()
    clocks = Machine().clocks([clock_id(parent), clock_id(ended.pid), clock_id(own)])
    after = time.process_time_ns()
    assert clocks[1] is None
    assert clocks[0] is not None
    assert before <= (clocks[2] or 0) <= after


# -- files -------------------------------------------------------------------------------------------------------


def test_reading_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    machine = Machine(str(tmp_path))
    before = os.listdir("/proc/self/fd")
    machine.read("file")
    with pytest.raises(OSError):
        machine.read("folder")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_kept_descriptor_of_an_ended_process() -> None:
    machine = Machine()
    child = subprocess.Popen(["sleep", "60"])
    descriptors = [machine.open(f"{child.pid}/{name}") for name in ("stat", "io", "status")]
    try:
        assert all(reread(fd) for fd in descriptors)
        child.kill()
        child.wait()
        for fd in descriptors:
            with pytest.raises(ProcessGone):
                reread(fd)
    finally:
        for fd in descriptors:
            os.close(fd)


# -- the calendar ------------------------------------------------------------------------------------------------


def test_start_unix_of_a_child() -> None:
    machine = Machine()
    before = time.time()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    after = time.time()
    try:
        started = machine.start_unix(read_stat(machine, child.pid).start)
        # field 22 is cut to the tick
        assert before - 1.5 / machine.ticks <= started <= after
        # psutil adds whole seconds of boot time
        assert started == pytest.approx(psutil.Process(child.pid).create_time(), abs=1.1)
    finally:
        child.kill()
        child.wait()


# -- this machine -------------------------------------------------------------------------------------------------


def test_constants_of_this_machine() -> None:
    machine = host_machine()
    assert machine.proc == "/proc"
    assert machine.ticks == os.sysconf("SC_CLK_TCK")
    assert machine.tick_ns * machine.ticks == 1_000_000_000
    assert machine.page_size == os.sysconf("SC_PAGESIZE")
    assert machine.clock_gettime_ns is not None
    assert (machine.procfs_missing, machine.has_wrong_clocks) == (None, False)
