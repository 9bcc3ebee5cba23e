"""Many processes at once: lists, one pass over all, who descends from whom, and trackers that remember.

    from proctally import processes
    everything = processes.scan()                             # one pass: pid -> ProcessInfo
    for pid in processes.descendants(1234, processes.children_map(everything)): ...
    tracker = processes.DeltaTracker(1234); ...; tracker.update().percent

A process is (pid, start): within one scan no process is taken for the parent of one that is older than itself, and
trackers never subtract readings of two processes that had one pid. All times are nanoseconds, all sizes bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from proctally.kernel import details
from proctally.kernel.machine import NANOSECONDS, Denied, Exhausted, Gone, Machine, host_machine
from proctally.kernel.proc import has_children_files, parse_stat, text
from proctally.kernel.proc import scan as list_inodes
from proctally.ledger import CPU, IO, MAJOR, MINOR, SYSTEM, USER
from proctally.process import this_machine
from proctally.sampler import Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "CumulativeTracker",
    "Delta",
    "DeltaTracker",
    "Denied",
    "Exhausted",
    "Gone",
    "ProcessInfo",
    "Scanner",
    "Total",
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

OLD_NS = 10 * NANOSECONDS  # what others can change of a process that does not run (reclaim) is at most this old
DESCRIPTORS = 64  # of the program's own, that a tracker keeps open


class ProcessInfo(NamedTuple):
    """One process at one moment. CPU times are its own; `children_*`: of the children that it waited for.

    `cpu_ns`: by the kernel's CPU clock; the others are cut to the tick (10 ms), so that user and system time need not
    sum to it. `start`: ticks since boot; `state`: the letter of the kernel; `parent`: 0 where none is in sight.
    """

    pid: int
    start: int
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


_make_info = ProcessInfo._make  # half of what a call with its fields costs


class TreeStats(NamedTuple):
    """A process and its descendants at one moment, the root first; zombies included.

    `cpu_ns`, `user_ns`, `system_ns`: own times of all that are there. `children_ns`: of those that were waited for,
    and are no more. `rss_bytes` counts what processes share as often as it is shared.
    """

    processes: tuple[ProcessInfo, ...]
    cpu_ns: int
    user_ns: int
    system_ns: int
    children_ns: int
    threads: int
    rss_bytes: int
    virtual_bytes: int

    @property
    def pids(self) -> list[int]:
        """The members, the root first."""
        return [info.pid for info in self.processes]


# -- one pass over all -----------------------------------------------------------------------------------------------


def pids(*, machine: Machine | None = None) -> list[int]:
    """The pids of all processes that this user may see (hidepid), in ascending order. One listing."""
    machine = machine or this_machine()
    return sorted(details.list_pids(machine))


def scan(*, machine: Machine | None = None) -> dict[int, ProcessInfo]:
    """All processes that this user may see and read, by pid; one listing, `stat` and the CPU clock of each."""
    machine = machine or this_machine()
    found = details.read_each(machine, details.list_pids(machine), _make_info)
    _renew_children(found, machine, found.values())
    return found


def _info(machine: Machine, pid: int, clock: int | None, data: bytes) -> ProcessInfo:
    """What `stat` and the clock say of one; raises `Gone` in state X: its parent is just reaping it."""
    stat = parse_stat(data)
    if stat.state in b"Xx":
        raise Gone(f"process {pid} does not exist")
    shown = stat
    if stat.state == b"Z" and stat.threads > 1:  # its main thread has ended and shows no memory any more
        shown = details.read_living_stat(machine, pid) or stat
    tick_ns = machine.tick_ns
    return ProcessInfo(
        pid=pid,
        start=stat.start,
        parent=stat.ppid,
        state=stat.state.decode(),
        command=text(stat.comm),
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
    """Whether this can be its parent: one that began later has only been given the pid of the parent."""
    return parent is not None and parent.start <= child.start


def _renew_children(found: dict[int, ProcessInfo], machine: Machine, wanted: Iterable[ProcessInfo]) -> None:
    """Read again those whose parent ended during the pass: they have another one now."""
    orphans = [info.pid for info in wanted if info.parent and not _is_parent(found.get(info.parent), info)]
    if orphans:
        for pid in orphans:
            del found[pid]
        found.update(details.read_each(machine, orphans, _make_info))


class Scanner:
    """Scans again and again, each time at the cost of what changed.

    A pid under an unchanged directory inode is the same process, and one whose CPU clock stands still has done
    nothing: its `stat` is read again only when its parent is another one, and else once in ten seconds, since its
    memory may have been reclaimed. Where there are no CPU clocks every `stat` is read each time.
    """

    __slots__ = ("_known", "_machine", "_scanned_at", "_turns")

    def __init__(self, *, machine: Machine | None = None) -> None:
        self._machine = machine or this_machine()
        # with its inode and its parent's; the longest unread first
        self._known: dict[int, tuple[ProcessInfo, int, int]] = {}
        self._scanned_at = self._machine.monotonic_ns()
        self._turns = 0.0

    def scan(self) -> dict[int, ProcessInfo]:
        """As `processes.scan`; the dictionary is the caller's."""
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
        found.update(details.read_each(machine, fresh, _make_info))
        _renew_children(found, machine, [found[pid] for pid in fresh if pid in found])
        for pid in fresh:
            if pid in found:
                info = found[pid]
                kept[pid] = info, inodes[pid], inodes.get(info.parent, 0)
        self._known = kept
        return found

    def _turns_of(self, now: int) -> int:
        """How many are read again although nothing has happened: all of them once in ten seconds."""
        self._turns += (now - self._scanned_at) * len(self._known) / OLD_NS
        self._scanned_at = now
        turns = int(self._turns)
        self._turns -= turns
        return turns


# -- who descends from whom ------------------------------------------------------------------------------------------


def parent_map(scanned: Mapping[int, ProcessInfo] | None = None, *, machine: Machine | None = None) -> dict[int, int]:
    """The pid of the parent of every process of a scan (made now if none is given); 0 where none is in sight."""
    everything = scan(machine=machine) if scanned is None else scanned
    parents = {}
    for pid, info in everything.items():
        parent = everything.get(info.parent)
        parents[pid] = info.parent if parent is None or _is_parent(parent, info) else 0
    return parents


def children_map(
    scanned: Mapping[int, ProcessInfo] | None = None, *, machine: Machine | None = None
) -> dict[int, list[int]]:
    """The pids of the children of every process of a scan (made now if none is given), empty where it has none."""
    everything = scan(machine=machine) if scanned is None else scanned
    children: dict[int, list[int]] = {pid: [] for pid in everything}
    for pid, parent in parent_map(everything).items():
        children.setdefault(parent, []).append(pid)
    return children


def descendants(
    pid: int, children: Mapping[int, Iterable[int]] | None = None, *, machine: Machine | None = None
) -> list[int]:
    """All that descend from a process, level by level, itself not among them, by a map of children (made now if none
    is given). Empty for a pid that is not in it.
    """
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
    """Whether a process descends from another, by a map of parents (made now if none is given). None of itself."""
    above = parent_map(machine=machine) if parents is None else parents
    seen = {pid}
    while (parent := above.get(pid, 0)) and parent not in seen:
        if parent == ancestor:
            return True
        seen.add(parent)
        pid = parent
    return False


def tree_pids(pid: int, *, start: int | None = None, machine: Machine | None = None) -> list[int]:
    """A process and all that descend from it, level by level. Raises `Gone` or `Denied` for the first.

    From `children` of each thread and `stat` of each process; from a scan where the kernel has no such files.
    """
    return snapshot_tree(pid, start=start, machine=machine).pids


# -- snapshots -------------------------------------------------------------------------------------------------------


def snapshot(pid: int, *, start: int | None = None, machine: Machine | None = None) -> ProcessInfo:
    """One process at this moment; raises `Gone` or `Denied`. From its CPU clock and `stat`."""
    machine = machine or this_machine()
    clock, data = details.read_certain(machine, pid)
    info = _info(machine, pid, clock, data)
    if start is not None and info.start != start:
        raise Gone(f"process {pid} does not exist")
    return info


def snapshot_tree(pid: int, *, start: int | None = None, machine: Machine | None = None) -> TreeStats:
    """A process and all that descend from it; raises `Gone` or `Denied` for the first.

    Each parent is read before its children, so that the time of one that is reaped meanwhile is not counted twice.
    """
    machine = machine or this_machine()
    if not has_children_files(machine):
        return snapshot_tree_from_scan(pid, start=start, machine=machine)
    root, queue = _read_family(machine, pid)
    if start is not None and root.start != start:
        raise Gone(f"process {pid} does not exist")
    found = {pid: root}
    for child, listed_at in queue:
        if child in found:
            continue
        try:
            info, more = _read_family(machine, child)
        except (Gone, Denied):
            continue
        # one that was there when it was listed, or else another that was given its pid
        if info.start < listed_at or _is_parent(found.get(info.parent), info):
            found[child] = info
            queue += more
    return _tree(found.values())


def _read_family(machine: Machine, pid: int) -> tuple[ProcessInfo, list[tuple[int, int]]]:
    """A process, and its children each with the tick in which they were listed."""
    now = machine.boottime_ns() // machine.tick_ns
    children: list[int] = []
    clock, data = details.read_certain(machine, pid, children)
    return _info(machine, pid, clock, data), [(child, now) for child in children]


def snapshot_tree_from_scan(
    pid: int,
    scanned: Mapping[int, ProcessInfo] | None = None,
    *,
    start: int | None = None,
    machine: Machine | None = None,
) -> TreeStats:
    """The same from one scan (made now if none is given): cheaper for a large tree, or for several of them."""
    everything = scan(machine=machine) if scanned is None else scanned
    root = everything.get(pid)
    if root is None or (start is not None and root.start != start):
        raise Gone(f"process {pid} does not exist")
    below = descendants(pid, children_map(everything))
    return _tree([root, *(everything[each] for each in below)])


def _tree(members: Iterable[ProcessInfo]) -> TreeStats:
    infos = tuple(members)
    return TreeStats(
        processes=infos,
        cpu_ns=sum(info.cpu_ns for info in infos),
        user_ns=sum(info.user_ns for info in infos),
        system_ns=sum(info.system_ns for info in infos),
        children_ns=sum(info.children_user_ns + info.children_system_ns for info in infos),
        threads=sum(info.threads for info in infos),
        rss_bytes=sum(info.rss_bytes for info in infos),
        virtual_bytes=sum(info.virtual_bytes for info in infos),
    )


# -- trackers --------------------------------------------------------------------------------------------------------


class Delta(NamedTuple):
    """CPU nanoseconds that were used in so many nanoseconds."""

    cpu_ns: int
    elapsed_ns: int

    @property
    def percent(self) -> float:
        """Of one core: 250.0 is two and a half. Readings lag by up to a tick, so a short one may say too much."""
        return 100 * self.cpu_ns / self.elapsed_ns


class DeltaTracker:
    """CPU between two calls, of one process or, with `children`, of its tree (see `CumulativeTracker`).

    Not to be used by two threads at once.
    """

    __slots__ = ("_before", "_machine", "_total", "pid", "start")

    def __init__(
        self, pid: int, *, start: int | None = None, children: bool = False, machine: Machine | None = None
    ) -> None:
        """The first delta counts from here. Raises `Gone` or `Denied`."""
        self._machine = machine or this_machine()
        self.pid = pid
        self._total = CumulativeTracker(pid, start=start, machine=machine) if children else None
        self.start = start if self._total is None else self._total.start
        self._before = self._read()

    def update(self) -> Delta:
        """What was used since the last call. Raises `Gone` when the process has ended; a tree may outlive its root."""
        cpu, now = self._read()
        before, since = self._before
        self._before = cpu, now
        return Delta(cpu - before, max(1, now - since))

    def _read(self) -> tuple[int, int]:
        if self._total is not None:
            total = self._total.update()
            return total.cpu_ns, total.elapsed_ns
        now = self._machine.monotonic_ns()
        info = snapshot(self.pid, start=self.start, machine=self._machine)
        self.start = info.start
        return info.cpu_ns, now

    def close(self) -> None:
        """Give up what is kept open (with `children`)."""
        if self._total is not None:
            self._total.close()

    def __enter__(self) -> DeltaTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Total(NamedTuple):
    """What a tree has used since its tracker was made; it never falls.

    CPU in nanoseconds, user and system time cut to the tick; page faults; bytes from and to storage, None where no
    `io` could be read. `processes`: members now; `seen`: those that ever were, as far as they lived during an update.
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
    seen: int


class CumulativeTracker:
    """What a process and all that descend from it use from now on, those that live between two updates included.

    A child that somebody waited for shows in the time of who waited, one that nobody waits for (SIGCHLD is ignored)
    only as it was last seen. Orphans stay members. It goes on when the root has ended, with those that it left, and
    what the root had used since the last update is then lost unless its parent is a member too: update once more
    while it is a zombie, before waiting for it. Keeps some descriptors open. Not to be used by two threads at once.
    """

    __slots__ = ("_begun", "_sampler", "pid", "start")

    def __init__(self, pid: int, *, start: int | None = None, machine: Machine | None = None) -> None:
        """Raises `Gone` or `Denied`."""
        self._sampler = watched(pid, start, machine)
        self.pid = pid
        self.start = self._sampler.tree.members[pid].start
        self._begun = self._sampler.read_ns

    def update(self) -> Total:
        """The totals as of now."""
        sampler = self._sampler
        sampler.sample()
        used = sampler.best
        is_known = sampler.ledger.io_known
        return Total(
            elapsed_ns=max(1, sampler.read_ns - self._begun),
            cpu_ns=used[CPU],
            user_ns=used[USER],
            system_ns=used[SYSTEM],
            minor_faults=used[MINOR],
            major_faults=used[MAJOR],
            read_bytes=used[IO + 4] if is_known else None,
            write_bytes=used[IO + 5] if is_known else None,
            processes=len(sampler.tree.members),
            seen=sampler.started,
        )

    def close(self) -> None:
        """Give up what is kept open."""
        self._sampler.files.close_all()
        self._sampler.machine.close()

    def __enter__(self) -> CumulativeTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


NOBODY = 0  # the pid of a tracker that is none of the tree: ours may be a member like any other


def watched(pid: int, start: int | None = None, machine: Machine | None = None) -> Sampler:
    """A sampler of a tree that runs already, without PSS. Raises `Gone` or `Denied`."""
    sampler = Sampler(
        machine or host_machine(), descriptors=_descriptors(), pss_budget=0.0, pss_credit_ns=0, process_lines=0
    )
    try:
        root = sampler.attach(pid, NOBODY)
        if not root.alive or (start is not None and root.start != start):
            raise Gone(f"process {pid} does not exist")
    except BaseException:
        sampler.files.close_all()
        raise
    return sampler


def _descriptors() -> int:
    """A small part of what the program may have open."""
    from resource import RLIMIT_NOFILE, getrlimit

    return min(DESCRIPTORS, max(0, getrlimit(RLIMIT_NOFILE)[0] // 16))
