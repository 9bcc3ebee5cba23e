"""Many processes at once: lists, one pass over all, who descends from whom, and trackers that remember.

    from proctally import processes
    everything = processes.scan()                             # one pass: pid -> ProcessInfo
    for pid in processes.descendants(1234, processes.children_map(everything)): ...
    tracker = processes.DeltaTracker(1234); ...; tracker.update().cpu_percent

A process is (pid, start_ticks): within one scan no process is taken for the parent of an older one, and trackers never
subtract readings of two processes that had one pid. All times are nanoseconds, all sizes bytes. The arguments `pid`,
`start_ticks` and `machine` and the errors are those of `proctally.process`. File names are those below `/proc/PID`.
"""

from __future__ import annotations

from typing import NamedTuple

from proctally.errors import UNREADABLE, NoDescriptors, closed, no_process
from proctally.linux import proc_details
from proctally.linux.machine import NANOSECONDS, Machine, clock_id, this_machine
from proctally.linux.proc import has_children_files, parse_stat
from proctally.linux.proc import scan as list_inodes
from proctally.text.escape import decode_name, short_repr
from proctally.text.nearest import missing_attribute
from proctally.tree.member import CPU, IO, MAJOR, MINOR, SYSTEM, USER
from proctally.tree.sampler import watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
else:  # a type checker would take every name for one of the module
    __getattr__ = missing_attribute(__name__)

__all__ = [
    "CumulativeTracker",
    "Delta",
    "DeltaTracker",
    "ProcessInfo",
    "Scanner",
    "TreeTotal",
    "TreeStats",
    "children_map",
    "descendants",
    "is_descendant",
    "parent_map",
    "pids",
    "scan",
    "snapshot",
    "snapshot_tree",
    "snapshot_tree_from_scan",
    "tree_pids",
]


def __dir__() -> list[str]:
    return list(__all__)


OLD_NS = 10 * NANOSECONDS  # what others can change of a process that does not run (reclaim) is at most this old


class ProcessInfo(NamedTuple):
    """One process at one moment, from `stat` and its CPU clock.

    `start_ticks`: clock ticks since boot. `parent`: its pid, 0 where none is in sight. `state`: the letter of the
    kernel. `command`: `comm`, at most 15 bytes. `cpu_ns`: its own CPU time, by the CPU clock; `user_ns` and `system_ns`
    are cut to the tick (10 ms) and need not sum to it. `children_user_ns`, `children_system_ns`: of the children that
    it waited for. `rss_bytes` counts shared pages in full.
    """

    pid: int
    start_ticks: int
    parent: int
    state: str
    command: str
    threads: int
    cpu_ns: int
    user_ns: int
    system_ns: int
    children_user_ns: int
    children_system_ns: int
    rss_bytes: int
    virtual_bytes: int

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


_make_info = ProcessInfo._make  # half of what a call with its fields costs


class TreeStats(NamedTuple):
    """A process and its descendants at one moment, zombies included.

    `members`: the root first. `cpu_ns`, `user_ns`, `system_ns`: own CPU time of all members. `children_cpu_ns`: of the
    children that they waited for, which are gone. `threads`, `rss_bytes`, `virtual_bytes`: sums; a page that members
    share counts for each of them. `unread`: descendants that exist and cannot be read (hidepid), which the sums lack;
    None from a scan, which does not see them. One that exits during the pass is left out.
    """

    members: tuple[ProcessInfo, ...]
    cpu_ns: int
    user_ns: int
    system_ns: int
    children_cpu_ns: int
    threads: int
    rss_bytes: int
    virtual_bytes: int
    unread: int | None

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())

    @property
    def pids(self) -> list[int]:
        """The pids of the members, the root first."""
        return [info.pid for info in self.members]


# -- one pass over all -----------------------------------------------------------------------------------------------


def pids(*, machine: Machine | None = None) -> list[int]:
    """Return the pids of all processes that this user can see (hidepid), in ascending order.

    One listing of `/proc`. Raises `AccessDenied` without procfs, and `NoDescriptors`.
    """
    machine = machine or this_machine()
    return sorted(proc_details.list_pids(machine))


def scan(*, machine: Machine | None = None) -> dict[int, ProcessInfo]:
    """Return all processes that this user can see and read, by pid.

    One listing of `/proc`, then `stat` and the CPU clock of each. One that exits during the pass
    is left out. Raises `AccessDenied` without procfs, and `NoDescriptors`.
    """
    machine = machine or this_machine()
    found = proc_details.read_each(machine, proc_details.list_pids(machine), _make_info)
    _renew_children(found, machine, found.values())
    return found


def _info(machine: Machine, pid: int, clock: int | None, data: bytes) -> ProcessInfo:
    """Return one process from its `stat` and clock; raise `ProcessGone` in state X: its parent is reaping it."""
    stat = parse_stat(data)
    if stat.state in b"Xx":
        raise no_process(pid)
    shown = proc_details.stat_with_memory(machine, pid, stat)
    tick_ns = machine.tick_ns
    return ProcessInfo(
        pid=pid,
        start_ticks=stat.start,
        parent=stat.ppid,
        state=stat.state.decode(),
        command=decode_name(stat.comm),
        threads=stat.threads,
        cpu_ns=(stat.user + stat.system) * tick_ns if clock is None else clock,
        user_ns=stat.user * tick_ns,
        system_ns=stat.system * tick_ns,
        children_user_ns=stat.child_user * tick_ns,
        children_system_ns=stat.child_system * tick_ns,
        rss_bytes=shown.rss * machine.page_size,
        virtual_bytes=shown.vsize,
    )


def _is_parent(parent: ProcessInfo | None, child: ProcessInfo) -> bool:
    """Return whether this can be its parent: one that started later only has the pid of the parent."""
    return parent is not None and parent.start_ticks <= child.start_ticks


def _renew_children(found: dict[int, ProcessInfo], machine: Machine, wanted: Iterable[ProcessInfo]) -> None:
    """Read those again whose parent exited during the pass: they have another parent now."""
    orphans = [info.pid for info in wanted if info.parent and not _is_parent(found.get(info.parent), info)]
    if orphans:
        for pid in orphans:
            del found[pid]
        found.update(proc_details.read_each(machine, orphans, _make_info))


class Scanner:
    """Scans again and again, each time at the cost of what changed.

    A pid with an unchanged directory inode is the same process, and one with an unchanged CPU clock did not run: its
    `stat` is read again only when its parent is another one, and else once in ten seconds, since its memory can be
    reclaimed. Without CPU clocks every `stat` is read each time. Use it from one thread.
    """

    __slots__ = ("_known", "_machine", "_scanned_at", "_turns")

    def __init__(self, *, machine: Machine | None = None) -> None:
        """Start with no process known."""
        self._machine = machine or this_machine()
        # with its inode and its parent's; the longest unread first
        self._known: dict[int, tuple[ProcessInfo, int, int]] = {}
        self._scanned_at = self._machine.monotonic_ns()
        self._turns = 0.0

    def scan(self) -> dict[int, ProcessInfo]:
        """Return all processes as `processes.scan` does; the dictionary is the caller's.

        From the listing of `/proc`, CPU clocks, and `stat` where something changed. Raises `AccessDenied` without
        procfs, and `NoDescriptors`.
        """
        machine = self._machine
        inodes = dict(list_inodes(machine))
        clocks = dict(zip(inodes, machine.clocks([(~pid << 3) | 2 for pid in inodes]), strict=True))
        turns = self._turns_of(machine.monotonic_ns())
        kept = {}
        for pid, entry in self._known.items():
            info, inode, parent_inode = entry
            if turns > 0:
                turns -= 1
            elif inodes.get(pid) == inode and clocks[pid] == info.cpu_ns and inodes.get(info.parent, 0) == parent_inode:
                kept[pid] = entry
        found = {pid: entry[0] for pid, entry in kept.items()}
        fresh = [pid for pid in inodes if pid not in kept]
        found.update(proc_details.read_each(machine, fresh, _make_info))
        _renew_children(found, machine, [found[pid] for pid in fresh if pid in found])
        for pid in fresh:
            if pid in found:
                info = found[pid]
                kept[pid] = info, inodes[pid], inodes.get(info.parent, 0)
        self._known = kept
        return found

    def _turns_of(self, now: int) -> int:
        """Return how many are read again although they did not run: all of them once in ten seconds."""
        self._turns += (now - self._scanned_at) * len(self._known) / OLD_NS
        self._scanned_at = now
        turns = int(self._turns)
        self._turns -= turns
        return turns


# -- who descends from whom ------------------------------------------------------------------------------------------


def parent_map(scanned: Mapping[int, ProcessInfo] | None = None, *, machine: Machine | None = None) -> dict[int, int]:
    """Return the pid of the parent of each process of a scan, 0 where none is in sight.

    `scanned`: made now if None; the errors are then those of `scan`.
    """
    everything = scan(machine=machine) if scanned is None else scanned
    parents = {}
    for pid, info in everything.items():
        parent = everything.get(info.parent)
        parents[pid] = info.parent if parent is None or _is_parent(parent, info) else 0
    return parents


def children_map(
    scanned: Mapping[int, ProcessInfo] | None = None, *, machine: Machine | None = None
) -> dict[int, list[int]]:
    """Return the pids of the children of each process of a scan; an empty list where it has none.

    `scanned`: made now if None; the errors are then those of `scan`.
    """
    everything = scan(machine=machine) if scanned is None else scanned
    children: dict[int, list[int]] = {pid: [] for pid in everything}
    for pid, parent in parent_map(everything).items():
        children.setdefault(parent, []).append(pid)
    return children


def descendants(
    pid: int, children: Mapping[int, Iterable[int]] | None = None, *, machine: Machine | None = None
) -> list[int]:
    """Return the pids of all descendants of a process, level by level, without itself.

    `children`: a map of children, made now if None; the errors are then those of `scan`. Empty for a pid that is not in
    it.
    """
    pid = proc_details.checked_pid(pid)
    below = children_map(machine=machine) if children is None else children
    found = {pid: None}
    queue = [pid]
    for each in queue:
        for child in below.get(each, ()):
            if child not in found:
                found[child] = None
                queue.append(child)
    return queue[1:]


def is_descendant(
    pid: int, ancestor: int, parents: Mapping[int, int] | None = None, *, machine: Machine | None = None
) -> bool:
    """Return whether a process descends from another one; no process descends from itself.

    `parents`: a map of parents, made now if None; the errors are then those of `scan`.
    """
    pid, ancestor = proc_details.checked_pid(pid), proc_details.checked_pid(ancestor)
    above = parent_map(machine=machine) if parents is None else parents
    seen = {pid}
    while (parent := above.get(pid, 0)) and parent not in seen:
        if parent == ancestor:
            return True
        seen.add(parent)
        pid = parent
    return False


def tree_pids(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> list[int]:
    """Return the pids of a process and of all its descendants, level by level.

    From `children` of each thread and `stat` of each process; from a scan where the kernel has no such files. Raises
    `ProcessGone` or `AccessDenied` for the first process.
    """
    return snapshot_tree(pid, start_ticks=start_ticks, machine=machine).pids


# -- snapshots -------------------------------------------------------------------------------------------------------


def snapshot(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> ProcessInfo:
    """Return one process at this moment, from its CPU clock and `stat`. Raises `ProcessGone` or `AccessDenied`."""
    pid, machine = proc_details.resolve(pid, machine)
    clock, data = proc_details.read_certain(machine, pid)
    info = _info(machine, pid, clock, data)
    if start_ticks is not None and info.start_ticks != start_ticks:
        raise no_process(pid)
    return info


def snapshot_tree(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> TreeStats:
    """Return a process with all its descendants. Raises `ProcessGone` or `AccessDenied` for the first process.

    From `children` of each thread, `stat` and the CPU clock of each process; from a scan where the kernel has no such
    files. Each parent is read before its children, so that the time of one that is reaped in between counts once.
    """
    pid, machine = proc_details.resolve(pid, machine)
    if not has_children_files(machine):
        return snapshot_tree_from_scan(pid, start_ticks=start_ticks, machine=machine)
    root, queue = _read_family(machine, pid)
    if start_ticks is not None and root.start_ticks != start_ticks:
        raise no_process(pid)
    found = {pid: root}
    unread = 0
    for child, listed_at in queue:
        if child in found:
            continue
        try:
            info, more = _read_family(machine, child)
        except NoDescriptors:
            raise
        except UNREADABLE:
            unread += machine.clocks([clock_id(child)])[0] is not None  # it exists: hidepid hides the rest
            continue
        # it existed when it was listed, else another process has its pid
        if info.start_ticks < listed_at or _is_parent(found.get(info.parent), info):
            found[child] = info
            queue += more
    return _tree(found.values(), unread)


def _read_family(machine: Machine, pid: int) -> tuple[ProcessInfo, list[tuple[int, int]]]:
    """Return a process, and its children each with the tick in which they were listed."""
    now = machine.boottime_ns() // machine.tick_ns
    children: list[int] = []
    clock, data = proc_details.read_certain(machine, pid, children)
    return _info(machine, pid, clock, data), [(child, now) for child in children]


def snapshot_tree_from_scan(
    pid: int,
    scanned: Mapping[int, ProcessInfo] | None = None,
    *,
    start_ticks: int | None = None,
    machine: Machine | None = None,
) -> TreeStats:
    """Return the same from one scan: cheaper for a large tree, or for several of them.

    `scanned`: made now if None. Raises `ProcessGone`; without a scan also the errors of `scan`.
    """
    pid = proc_details.checked_pid(pid)
    everything = scan(machine=machine) if scanned is None else scanned
    root = everything.get(pid)
    if root is None or (start_ticks is not None and root.start_ticks != start_ticks):
        raise no_process(pid)
    below = descendants(pid, children_map(everything))
    return _tree([root, *(everything[each] for each in below)], None)


def _tree(members: Iterable[ProcessInfo], unread: int | None) -> TreeStats:
    infos = tuple(members)
    return TreeStats(
        members=infos,
        cpu_ns=sum(info.cpu_ns for info in infos),
        user_ns=sum(info.user_ns for info in infos),
        system_ns=sum(info.system_ns for info in infos),
        children_cpu_ns=sum(info.children_user_ns + info.children_system_ns for info in infos),
        threads=sum(info.threads for info in infos),
        rss_bytes=sum(info.rss_bytes for info in infos),
        virtual_bytes=sum(info.virtual_bytes for info in infos),
        unread=unread,
    )


# -- trackers --------------------------------------------------------------------------------------------------------


class Delta(NamedTuple):
    """CPU time in nanoseconds that was used within `elapsed_ns` nanoseconds."""

    cpu_ns: int
    elapsed_ns: int

    @property
    def cpu_percent(self) -> float:
        """Percent of one core: 250.0 is two and a half cores. Readings lag by up to a tick (10 ms)."""
        return 100 * self.cpu_ns / self.elapsed_ns


class DeltaTracker:
    """CPU time between two calls, of one process or, with `children`, of its tree (see `CumulativeTracker`).

    `start_ticks`: of the process that it found. Use it from one thread.
    """

    __slots__ = ("_before", "_is_closed", "_machine", "_total", "pid", "start_ticks")

    def __init__(
        self, pid: int, *, start_ticks: int | None = None, children: bool = False, machine: Machine | None = None
    ) -> None:
        """Take the first reading, from which the first delta counts. Raises `ProcessGone` or `AccessDenied`."""
        self._machine = machine or this_machine()
        self.pid: int = proc_details.checked_pid(pid)
        self._total = CumulativeTracker(pid, start_ticks=start_ticks, machine=machine) if children else None
        self.start_ticks: int | None = start_ticks if self._total is None else self._total.start_ticks
        self._is_closed = False
        self._before = self._read()

    def update(self) -> Delta:
        """Return what was used since the last call, from the CPU clock and `stat`.

        Raises `ProcessGone` when the process has exited, and `AccessDenied`; a tree continues without its root. Raises
        `AlreadyClosed` after `close`.
        """
        if self._is_closed:
            raise closed(self)
        cpu, now = self._read()
        before, since = self._before
        self._before = cpu, now
        return Delta(cpu - before, max(1, now - since))

    def _read(self) -> tuple[int, int]:
        if self._total is not None:
            total = self._total.update()
            return total.cpu_ns, total.elapsed_ns
        now = self._machine.monotonic_ns()
        info = snapshot(self.pid, start_ticks=self.start_ticks, machine=self._machine)
        self.start_ticks = info.start_ticks
        return info.cpu_ns, now

    def close(self) -> None:
        """Close the descriptors (with `children`); safe to call twice."""
        self._is_closed = True
        if self._total is not None:
            self._total.close()

    def __enter__(self) -> DeltaTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TreeTotal(NamedTuple):
    """Usage of a tree since its tracker was made; no value ever falls.

    `cpu_ns`: by CPU clocks; `user_ns` and `system_ns` are cut to the tick (10 ms). `read_bytes`, `write_bytes`: from
    and to storage; None while no `io` could be read. `processes`: members now. `processes_seen`: all that were members
    during an update. `io_unread`: processes so far whose `io` could not be read: `read_bytes` and `write_bytes` lack
    their I/O until they are reaped.
    """

    elapsed_ns: int
    cpu_ns: int
    user_ns: int
    system_ns: int
    minor_faults: int
    major_faults: int
    read_bytes: int | None
    write_bytes: int | None
    processes: int
    processes_seen: int
    io_unread: int

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


class CumulativeTracker:
    """What a process and all its descendants use from now on, those that live between two updates included.

    A child that was waited for is in the time of the parent that waited; one that no process waits for (SIGCHLD is
    ignored) counts as it was last seen. Orphans stay members. It continues with the others when the root has exited.
    What the root had used since the last update is then lost, unless its parent is a member too: update once more while
    it is a zombie, before waiting for it. From CPU clocks, `stat`, `io` and `children` of those that ran. It keeps some
    descriptors open. Use it from one thread.
    """

    __slots__ = ("_begun", "_is_closed", "_sampler", "pid", "start_ticks")

    def __init__(self, pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> None:
        """Take in the tree; totals count from here. Raises `ProcessGone` or `AccessDenied` for the root."""
        pid = proc_details.checked_pid(pid)
        self._sampler = watched(pid, start_ticks, machine)
        self.pid: int = pid
        self.start_ticks: int = self._sampler.members[pid].start
        self._begun = self._sampler.read_ns
        self._is_closed = False

    def update(self) -> TreeTotal:
        """Return the totals as of now.

        Raises `NoDescriptors`, `AccessDenied` where procfs is gone, and `AlreadyClosed` after `close`; never for a
        member that has exited.
        """
        if self._is_closed:
            raise closed(self)
        sampler = self._sampler
        sampler.machine.need_procfs()
        sampler.sample()
        used = sampler.total
        is_known = sampler.io_known
        return TreeTotal(
            elapsed_ns=max(1, sampler.read_ns - self._begun),
            cpu_ns=used[CPU],
            user_ns=used[USER],
            system_ns=used[SYSTEM],
            minor_faults=used[MINOR],
            major_faults=used[MAJOR],
            read_bytes=used[IO + 4] if is_known else None,
            write_bytes=used[IO + 5] if is_known else None,
            processes=len(sampler.members),
            processes_seen=sampler.processes_seen,
            io_unread=len(sampler.readings.io_unread),
        )

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""
        self._is_closed = True
        self._sampler.close()
        self._sampler.machine.close()

    def __enter__(self) -> CumulativeTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
