"""`proctally.Tree`: one process tree, read whenever the caller asks for a sample.

Nothing runs beside the caller: no thread, no process, no file is written. A service may so look at its own memory, or a
test rig at its target; what is wanted between two calls is the caller's to decide.
"""

from __future__ import annotations

import os
import threading
from errno import ESRCH
from weakref import WeakSet

from proctally.errors import ProcessGone, closed
from proctally.linux.descriptors import share
from proctally.linux.machine import host_machine
from proctally.linux.proc import is_thread, read_start
from proctally.linux.proc_details import checked_pid
from proctally.record.objects import TreeSection
from proctally.record.schema import COUNTER, names
from proctally.tree.member import UNREAD
from proctally.tree.sampler import TreeSampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

MAX_DESCRIPTORS = 256  # maximum that is kept open
DESCRIPTORS_DIVISOR = 8  # at most this part of the limit of the caller
REARM_RATIO = 0.95
PSS_BUDGET = 0.005  # of a core
COUNTERS = names("tree", COUNTER)  # they count since the first sample


class TreeSample(TreeSection):
    """One sample: the fields of `tree` in docs/fields.md with their units and sources, and these.

    `at`: Unix seconds. `interval_seconds`: since the sample before, by the monotonic clock; None in the first. `pids`:
    the members, zombies included, parents before children. `memory_bytes`: what `watch` compares, `memory_low_bytes`,
    or RSS where that is unknown; None without both. A sum that lacks members is None or has a count beside it:
    `pss_bytes` with `pss_unread`, I/O with `io_unread`, GPU memory with `gpu_unread`.
    """

    at: float
    interval_seconds: float | None
    pids: list[int]
    memory_bytes: int | None


class MemoryWatch:
    """A limit that `Tree.sample` watches.

    `limit_bytes`: a rise above it calls. `rearm_bytes`: at or below it the next rise calls again. `is_above`: whether
    memory was above the limit in the last sample.
    """

    __slots__ = ("_callback", "_tree", "is_above", "limit_bytes", "rearm_bytes")

    def __init__(
        self, tree: Tree, limit_bytes: int, callback: Callable[[TreeSample], object], rearm_bytes: int
    ) -> None:
        """Made by `Tree.watch`."""
        self._tree = tree
        self._callback = callback
        self.limit_bytes: int = limit_bytes
        self.rearm_bytes: int = rearm_bytes
        self.is_above: bool = False

    def cancel(self) -> None:
        """Stop watching; safe to call twice."""
        self._tree._unwatch(self)

    def __repr__(self) -> str:
        return f"<MemoryWatch of {self.limit_bytes} bytes: {'above' if self.is_above else 'below'}>"

    def _crossed(self, sample: TreeSample) -> bool:
        """Return whether memory has risen above it in this sample."""
        was_above = self.is_above
        if sample.memory_bytes is None:
            return False
        if sample.memory_bytes > self.limit_bytes:
            self.is_above = True
        elif sample.memory_bytes <= self.rearm_bytes:
            self.is_above = False
        return self.is_above and not was_above


class Tree:
    """A process and all its descendants, orphans seen before included; with `children=False` it alone.

    The first sample has the gauges of that moment and zero for each counter; later ones count from there, exited
    members included. The caller is a member like any other where it belongs to the tree. For one process alone CPU
    times and faults are its own, while I/O has that of the children that it waited for (the kernel adds it).

    `pss`: whether PSS is read where the bounds of memory are far apart, which takes about 8 ms a GiB, at most 0.5 % of
    a core. Sources: CPU clocks, `stat`, `status`, `io`, `children`, `smaps_rollup` and the memory levels of the machine
    (docs/fields.md names them field by field).

    All threads can take samples, one at a time. A forked child can continue with a copy, except where another thread
    was taking a sample at that moment: ValueError then.
    """

    def __init__(self, pid: int, children: bool = True, *, pss: bool = True) -> None:
        """Find the process; totals count from the first sample.

        Raises `ProcessGone` (a ProcessLookupError) where there is no such process or the pid is that of a thread, and
        `AccessDenied` (a PermissionError) where this user can read nothing of it. A pid that is not an integer is a
        TypeError, one below 1 or above 2**31 - 1 a ValueError.
        """
        self.pid: int = checked_pid(pid)
        machine = host_machine()
        self._start = read_start(machine, self.pid)
        if is_thread(machine, self.pid):
            raise ProcessGone(ESRCH, f"process {pid}: is a thread; give the id of its process")
        self._sampler = _make_sampler(machine, children=children, pss=pss)
        self._lock = threading.Lock()
        self._base: dict[str, Any] | None = None  # the counters of the first sample
        self._base_time: dict[str, float] = {}
        self._watches: list[MemoryWatch] = []
        self._is_closed = False
        self._is_torn = False  # forked while another thread read it
        _all.add(self)

    def sample(self) -> TreeSample:
        """Read the tree now and return the sample.

        The sample that finds the last member gone is the last: its totals are complete, its `pids` are empty, and any
        later call raises `ProcessGone`, as does a pid that was given to another process. Raises `AlreadyClosed` after
        `close`, and `AccessDenied` where procfs is gone. It calls the callbacks of `watch`, each of them, and then
        raises what the first one that failed raised.
        """
        with self._lock:
            sample = self._read()
            crossed = [watch for watch in self._watches if watch._crossed(sample)]
        failed: Exception | None = None
        for watch in crossed:
            try:
                if watch in self._watches:  # one of the others may have cancelled it
                    watch._callback(sample)
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return sample

    def _read(self) -> TreeSample:
        if self._is_closed:
            raise closed(self)
        if self._is_torn:
            raise ValueError("this process was forked while its parent read this tree; make another")
        sampler = self._sampler
        sampler.machine.need_procfs()
        if self._base is None:
            root = sampler.attach(self.pid, None)
            if self._start not in (None, root.start) and root.state != UNREAD:
                raise ProcessGone(ESRCH, f"process {self.pid} has exited, and another process has its pid")
            sampler.begin(sampler.machine.monotonic_ns())  # the parts of the time count from here
        elif not sampler.members:
            raise ProcessGone(ESRCH, f"process {self.pid} and all its descendants have exited")
        taken = sampler.sample()
        levels = taken["tree"]
        low = sampler.memory.low()
        if self._base is None:
            self._base = {name: levels[name] for name in COUNTERS}
            self._base_time = levels["time"] or {}
            levels["cpu_cores"] = 0.0
        for name in COUNTERS:
            if levels[name] is not None:
                levels[name] = _less(levels[name], self._base[name] or 0)
        if levels["time"] is not None:
            levels["time"] = {
                name: _less(part, self._base_time.get(name, 0.0)) for name, part in levels["time"].items()
            }
        return TreeSample(
            levels
            | {
                "at": taken["at"],
                "interval_seconds": taken["interval_seconds"],
                "pids": list(sampler.members),
                "memory_bytes": levels["rss_bytes"] if low is None else low,
            }
        )

    def watch(
        self, limit_bytes: int, callback: Callable[[TreeSample], object], *, rearm_bytes: int | None = None
    ) -> MemoryWatch:
        """Call `callback(sample)` each time the memory of the tree rises above a limit in bytes.

        `sample` calls it, in its thread, and again only after memory was at `rearm_bytes` or below (by default 95 % of
        the limit), so a service that throttles itself is called once, not at every sample around the limit. The
        returned object has `is_above`, which tells when to continue, and `cancel`. Memory is `memory_bytes` of a
        sample: a page that several processes share counts once. Raises ValueError for limits that cannot be, and
        `AlreadyClosed` (a ValueError) after `close`.
        """
        if limit_bytes <= 0:
            raise ValueError(f"limit_bytes is {limit_bytes}; use a number of bytes above 0")
        rearm = int(limit_bytes * REARM_RATIO) if rearm_bytes is None else rearm_bytes
        if not 0 <= rearm <= limit_bytes:
            raise ValueError(f"rearm_bytes is {rearm}; use 0 to {limit_bytes}")
        found = MemoryWatch(self, limit_bytes, callback, rearm)
        with self._lock:
            if self._is_closed:
                raise closed(self)
            self._watches.append(found)
        return found

    def _unwatch(self, watch: MemoryWatch) -> None:
        with self._lock:
            if watch in self._watches:
                self._watches.remove(watch)

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""
        with self._lock:
            self._is_closed = True
            self._watches = []
            self._sampler.close()
            self._sampler.machine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<proctally.Tree of process {self.pid}>"


_all: WeakSet[Tree] = WeakSet()


def _after_fork() -> None:
    """Another thread may have been reading a tree: it is not of this process, and would never give the lock back."""
    for tree in list(_all):
        if tree._lock.locked():
            tree._lock = threading.Lock()
            tree._is_torn = True


os.register_at_fork(after_in_child=_after_fork)


def _less(value: float, base: float) -> float:
    return round(value - base, 4) if isinstance(value, float) else value - base


def _make_sampler(machine: Any, *, children: bool, pss: bool) -> TreeSampler:
    kept = share(DESCRIPTORS_DIVISOR, MAX_DESCRIPTORS)
    budget = PSS_BUDGET if pss else 0.0
    return TreeSampler(machine, children=children, descriptors=kept, process_lines=0, pss_budget=budget, time=True)
