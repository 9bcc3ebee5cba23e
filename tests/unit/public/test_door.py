"""What every public function refuses: a pid that is not one, an object after its `close()`; and files that may lack."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from errno import EACCES, EMFILE, ESRCH
from pathlib import Path
from typing import Any

import pytest

import proctally
from fakeroot import INIT, FakeHost
from process_functions import FUNCTIONS
from proctally import errors, gauges, processes, system
from proctally.errors import FileServed, NoProcfs, SysfsForeign
from proctally.linux.machine import Machine
from proctally.linux.proc import Files
from proctally.linux.proc_details import checked_pid

PID = 100
OTHER_TYPES = ("1", "self", "1/task/1", b"1", 1.5, None, [1], True, (), object())
OUT_OF_RANGE = (0, -1, -2, 1 << 31, 1 << 64, -(1 << 64))
MANY: dict[str, Callable[..., Any]] = {
    "descendants": lambda pid, **_: processes.descendants(pid, {}),
    "is_descendant": lambda pid, **_: processes.is_descendant(pid, 1, {}),
    "ancestor": lambda pid, **_: processes.is_descendant(1, pid, {}),
    "from_scan": lambda pid, **_: processes.snapshot_tree_from_scan(pid, {}),
    "tree_pids": processes.tree_pids,
    "snapshot": processes.snapshot,
    "snapshot_tree": processes.snapshot_tree,
    "DeltaTracker": processes.DeltaTracker,
    "children": lambda pid, **named: processes.DeltaTracker(pid, children=True, **named),
    "CumulativeTracker": processes.CumulativeTracker,
    "Gauges": gauges.Gauges,
}
EVERY = FUNCTIONS | MANY


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path)
    host.spawn(PID, INIT, pages=10)
    return host


# -- pids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_pid_of_another_type_or_range_is_refused(host: FakeHost, name: str) -> None:
    machine = host.machine()
    for wrong in OTHER_TYPES:
        with pytest.raises(TypeError, match=f"pid is a {type(wrong).__name__}; use an int"):
            EVERY[name](wrong, machine=machine)
    for number in OUT_OF_RANGE:
        with pytest.raises(ValueError, match=f"pid is {number}; use 1 to 2147483647"):
            EVERY[name](number, machine=machine)
    assert host.accesses == []


def test_tree_of_a_pid_of_another_type_or_range_is_refused() -> None:
    for wrong in OTHER_TYPES:
        with pytest.raises(TypeError, match="use an int"):
            proctally.Tree(wrong)  # type: ignore[arg-type]
    for number in OUT_OF_RANGE:
        with pytest.raises(ValueError, match="use 1 to"):
            proctally.Tree(number)


def test_pid_of_an_integer_type_is_taken() -> None:
    class Number:
        def __index__(self) -> int:
            return 7

    assert checked_pid(Number()) == 7  # type: ignore[arg-type]
    assert type(checked_pid(Number())) is int  # type: ignore[arg-type]
    assert checked_pid((1 << 31) - 1) == (1 << 31) - 1


def test_tracker_of_an_integer_type_keeps_an_int(host: FakeHost) -> None:
    class Number(int):
        def __index__(self) -> int:
            return PID

    for kind in (processes.DeltaTracker, processes.CumulativeTracker, gauges.Gauges):
        assert type(kind(Number(PID), machine=host.machine()).pid) is int


# -- after close -----------------------------------------------------------------------------------------------------


CLOSED: dict[str, tuple[Callable[..., Any], str]] = {
    "delta": (lambda machine: processes.DeltaTracker(PID, machine=machine), "update"),
    "delta of a tree": (lambda machine: processes.DeltaTracker(PID, children=True, machine=machine), "update"),
    "total": (lambda machine: processes.CumulativeTracker(PID, machine=machine), "update"),
    "gauges": (lambda machine: gauges.Gauges(PID, machine=machine), "sample"),
    "monitor": (lambda machine: system.Monitor(machine=machine), "stats"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_use_after_close_is_one_error(host: FakeHost, name: str) -> None:
    make, use = CLOSED[name]
    with make(host.machine()) as made:
        pass
    made.close()
    with pytest.raises(proctally.AlreadyClosed, match=f"this {type(made).__name__} is closed; make another one"):
        getattr(made, use)()


def test_already_closed_is_an_error_of_a_value() -> None:
    assert issubclass(proctally.AlreadyClosed, ValueError), "as for the files of Python"


# -- files that this kernel does not have ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_live_process_without_a_file_is_not_gone(host: FakeHost, name: str) -> None:
    """This host has none of `statm`, `comm`, `cmdline`, `environ`, `exe`, `fd`, `limits`, `cgroup`."""
    for file in ("io", "status", "schedstat", "smaps_rollup"):
        (host.proc / str(PID) / file).unlink()
    try:
        value = FUNCTIONS[name](PID, machine=host.machine())
    except FileNotFoundError as error:
        assert error.strerror == "this kernel has no such file"
    else:
        unknown = {"executable", "pss_bytes", "uss_bytes", "swap_bytes", "terminal"}
        assert (value is None) == (name in unknown) and value != {}, "what is unknown is not empty"
        if name == "all_stats":
            assert (value.disk_io, value.pss_bytes, value.uss_bytes, value.swap_bytes) == (None,) * 4


# -- copies ----------------------------------------------------------------------------------------------------------


def test_copy_of_what_holds_descriptors_is_refused() -> None:
    for held in (Machine(), Files(Machine(), 10)):
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="holds descriptors"):
                make(held)


@pytest.mark.parametrize("name", CLOSED)
def test_tracker_cannot_be_pickled(host: FakeHost, name: str) -> None:
    with CLOSED[name][0](host.machine()) as made:
        for make in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="holds descriptors"):
                make(made)


@pytest.mark.parametrize(
    "error",
    [proctally.ProcessGone(ESRCH, "gone"), proctally.AccessDenied(EACCES, "denied", "file"), NoProcfs("procfs_missing")]
    + [NoProcfs("procfs_foreign", "/host/proc"), FileServed("/proc/stat"), SysfsForeign(), errors.closed(7)]
    + [proctally.NoDescriptors(EMFILE, "none"), proctally.TrackingWarning("text")],
    ids=lambda error: type(error).__name__,
)
def test_error_can_leave_a_process_of_a_pool(error: Exception) -> None:
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), copied.args) == (type(error), str(error), error.args)
    assert vars(copied) == vars(error)


@pytest.mark.parametrize("name", ["all_stats", "liveness", "cpu_split", "disk_io", "snapshot", "snapshot_tree"])
def test_value_can_be_pickled(host: FakeHost, name: str) -> None:
    value = EVERY[name](PID, machine=host.machine())
    assert pickle.loads(pickle.dumps(value)) == value
