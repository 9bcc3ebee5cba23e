"""`proctally.Tree`: one process tree, read whenever the caller asks for a sample.

Nothing runs beside the caller: no thread, no process, no file is written. A service may so look at its own memory, or a
test rig at its target; what is wanted between two calls is the caller's to decide.
"""

from __future__ import annotations

import os
import resource
import threading
from weakref import WeakSet

from proctally.kernel.machine import Gone, host_machine
from proctally.kernel.proc import is_thread, read_stat
from proctally.ledger import CPU, MAJOR, MINOR, SYSTEM, USER, Ledger
from proctally.results import TreeSection
from proctally.sampler import Sampler
from proctally.tree import Member
from proctally.tree import Tree as Members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, Self

MOST_DESCRIPTORS = 256  # that are kept open, and ...
SHARE = 8  # ... at most this part of what the caller may have
REARM_RATIO = 0.95
# what counts since the first sample: those of the table of fields (model.py)
COUNTERS = (
    "cpu_seconds",
    "cpu_user_seconds",
    "cpu_system_seconds",
    "run_delay_seconds",
    "read_bytes",
    "write_bytes",
    "cancelled_write_bytes",
    "read_chars",
    "write_chars",
    "read_syscalls",
    "write_syscalls",
    "minor_faults",
    "major_faults",
    "context_switches",
)


class TreeSample(TreeSection):
    """One sample: the fields of `tree` in docs/fields.md, and these.

    `at`: Unix seconds. `interval_seconds`: since the sample before, by the monotonic clock; None in the first. `pids`:
    the members, zombies included, parents before children. `memory_bytes`: what `watch` compares: PSS as last read and
    by how much RSS has grown since, RSS where PSS is unread.
    """

    at: float
    interval_seconds: float | None
    pids: list[int]
    memory_bytes: int


class Watch:
    """A limit that is watched. `is_above`: whether memory was above it when last looked at."""

    __slots__ = ("_callback", "_tree", "is_above", "limit_bytes", "rearm_bytes")

    def __init__(
        self, tree: Tree, limit_bytes: int, callback: Callable[[TreeSample], object], rearm_bytes: int
    ) -> None:
        self._tree = tree
        self._callback = callback
        self.limit_bytes = limit_bytes
        self.rearm_bytes = rearm_bytes
        self.is_above = False

    def cancel(self) -> None:
        """Watch no longer; once more is no mistake."""
        self._tree._unwatch(self)

    def _crossed(self, sample: TreeSample) -> bool:
        """Whether memory has just risen above it."""
        was_above = self.is_above
        if sample.memory_bytes > self.limit_bytes:
            self.is_above = True
        elif sample.memory_bytes <= self.rearm_bytes:
            self.is_above = False
        return self.is_above and not was_above


class Tree:
    """A process and all that descends from it, orphans seen before included; with `children=False` it alone.

    The first sample has the levels of that moment and zero for everything that counts; later ones count from there,
    dead members included. The caller itself is a member like any other where it belongs to the tree. For one process
    alone CPU times and faults are its own, while I/O has that of the children it has waited for (the kernel adds it).

    `pss`: whether PSS is read, which takes about 8 ms a GiB, at most 0.5 % of a core; without it memory is RSS.

    A sample may be taken from any thread, one at a time. A forked child may go on with a copy, except where another
    thread was taking a sample at that moment: ValueError then.

    Raises `Gone` (LookupError) where there is no such process, and `Denied` (PermissionError) where nothing of it can
    be read. A pid that was given to another process is `Gone`.
    """

    def __init__(self, pid: int, children: bool = True, *, pss: bool = True) -> None:
        machine = host_machine()
        self.pid = pid
        self._start = read_stat(machine, pid).start
        if is_thread(machine, pid):
            raise Gone(f"{pid} is a thread, and no process")
        self._reads_pss = pss
        self._sampler = _make_sampler(machine, children=children, pss=pss)
        self._lock = threading.Lock()
        self._base: dict[str, Any] | None = None  # the counters of the first sample
        self._watches: list[Watch] = []
        self._why_closed: str | None = None
        _all.add(self)

    def sample(self) -> TreeSample:
        """Read the tree now.

        The sample in which its last member was found gone is the last: its totals stand, its `pids` are empty, and any
        later call raises `Gone`. Raises ValueError once closed. Callbacks of `watch` are called from here, each of
        them, and what the first that failed raised is raised then.
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
        if self._why_closed is not None:
            raise ValueError(self._why_closed)
        sampler = self._sampler
        if self._base is None:
            root = sampler.attach(self.pid, None)
            if root.start != self._start:
                raise Gone(f"process {self.pid} has ended, and its number is another's")
        elif not sampler.tree.members:
            raise Gone(f"process {self.pid} and all that descended from it have ended")
        taken = sampler.sample()
        levels = taken["tree"]
        if self._base is None:
            self._base = {name: levels[name] for name in COUNTERS}
            levels["cpu_cores"] = 0.0
        for name in COUNTERS:
            if levels[name] is not None:
                levels[name] = _less(levels[name], self._base[name] or 0)
        return TreeSample(
            levels
            | {
                "at": taken["at"],
                "interval_seconds": taken["interval_seconds"],
                "pids": list(sampler.tree.members),
                "memory_bytes": sampler.memory_estimate(),
            }
        )

    def watch(
        self, limit_bytes: int, callback: Callable[[TreeSample], object], *, rearm_bytes: int | None = None
    ) -> Watch:
        """Have `callback(sample)` called when the tree's memory rises above a limit, once for each time it does.

        It is called by `sample`, in the thread that calls it, and again only after memory has been at `rearm_bytes` or
        below (by default 95 % of the limit): a service that throttles itself is told once, not at every sample around
        the limit, and can ask `is_above` of what is returned when to go on. Memory is `memory_bytes` of a sample. Near
        a limit PSS is read whatever it costs, so that shared memory alone never crosses it.
        """
        if limit_bytes <= 0:
            raise ValueError(f"limit_bytes is {limit_bytes}; use a number of bytes above 0")
        rearm = int(limit_bytes * REARM_RATIO) if rearm_bytes is None else rearm_bytes
        if not 0 <= rearm <= limit_bytes:
            raise ValueError(f"rearm_bytes is {rearm}; use 0 to {limit_bytes}")
        found = Watch(self, limit_bytes, callback, rearm)
        with self._lock:
            self._watches.append(found)
            self._want_pss()
        return found

    def _unwatch(self, watch: Watch) -> None:
        with self._lock:
            if watch in self._watches:
                self._watches.remove(watch)
                self._want_pss()

    def _want_pss(self) -> None:
        if self._reads_pss:
            self._sampler.pss_wanted_above = min((watch.limit_bytes for watch in self._watches), default=None)

    def close(self) -> None:
        """Give its descriptors back; once more is no mistake."""
        with self._lock:
            self._why_closed = "this tree is closed"
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
            tree._why_closed = "this process was forked while its parent read this tree; make another"


os.register_at_fork(after_in_child=_after_fork)


def _less(value: float, base: float) -> float:
    return round(value - base, 4) if isinstance(value, float) else value - base


def _make_sampler(machine: Any, *, children: bool, pss: bool) -> Sampler:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, soft // SHARE)
    budget: dict[str, Any] = {} if pss else {"pss_budget": 0.0, "pss_credit_ns": 0}
    sampler = Sampler(machine, descriptors=most, process_lines=0, **budget)
    if not children:
        sampler.tree = _Alone(machine, sampler.files)
        sampler.ledger = _OwnLedger(machine.tick_ns)
    return sampler


class _Alone(Members):
    """A tree of one."""

    __slots__ = ()

    def discover(self, ran: Iterable[Member]) -> list[Member]:
        return []


class _OwnLedger(Ledger):
    """What members used themselves, without the children that they have waited for."""

    __slots__ = ()

    def update(self, member: Member, cpu: int | None, tick: int) -> None:
        stat, old, live = member.stat, member.previous_stat, self._live
        if cpu is None:
            cpu = (stat.user + stat.system) * self.tick_ns
        live[CPU] += cpu - member.cpu
        live[USER] += (stat.user - old.user) * self.tick_ns
        live[SYSTEM] += (stat.system - old.system) * self.tick_ns
        live[MINOR] += stat.minor_faults - old.minor_faults
        live[MAJOR] += stat.major_faults - old.major_faults
        member.cpu = cpu
        member.moved_tick = tick

    def _amount(self, member: Member) -> list[int]:
        amount, stat = super()._amount(member), member.stat
        amount[CPU] = member.cpu
        amount[USER], amount[SYSTEM] = stat.user * self.tick_ns, stat.system * self.tick_ns
        amount[MINOR], amount[MAJOR] = stat.minor_faults, stat.major_faults
        return amount
