"""A process that exits while a function reads it is reported as gone: no part of the answer is None instead."""

from __future__ import annotations

from collections.abc import Callable
from errno import ESRCH
from pathlib import Path

import pytest

import proctally
from fakeroot import INIT, FakeHost
from proctally import process, processes
from proctally.errors import NoProcfs
from proctally.linux.machine import Machine

PID = 100


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path)
    host.spawn(PID, INIT)
    return host


def vanish(host: FakeHost) -> None:
    host.exit(PID)
    host.reap(PID)


@pytest.mark.parametrize("step", ["io", "smaps_rollup", "status", "clock"])
def test_all_stats_of_process_that_exits_is_gone(host: FakeHost, step: str) -> None:
    host.once(f"{PID}/{step}", lambda: vanish(host))
    with pytest.raises(proctally.ProcessGone, match=f"process {PID} does not exist"):
        process.all_stats(PID, machine=host.machine())


FUNCTIONS: list[tuple[str, Callable[..., object]]] = [
    ("io", process.disk_io),
    ("statm", process.rss_bytes),
    ("status", process.swap_bytes),
    ("stat", processes.snapshot),
    ("stat", processes.snapshot_tree),
    (f"task/{PID}/children", process.children),
]


@pytest.mark.parametrize(("step", "function"), FUNCTIONS, ids=lambda value: getattr(value, "__name__", None))
def test_function_of_process_that_exits_is_gone(host: FakeHost, step: str, function: Callable[..., object]) -> None:
    host.once(f"{PID}/{step}", lambda: vanish(host))
    with pytest.raises(ProcessLookupError) as raised:
        function(PID, machine=host.machine())
    assert type(raised.value) is proctally.ProcessGone
    assert raised.value.errno == ESRCH


def test_scan_without_procfs_names_no_process(tmp_path: Path) -> None:
    for read in (processes.scan, processes.pids, processes.Scanner):
        with pytest.raises(NoProcfs):
            found = read(machine=Machine(str(tmp_path / "none"), clock_gettime_ns=None))
            found.scan()  # type: ignore[union-attr]
