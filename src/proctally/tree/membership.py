"""Who belongs to the tree: a root process and everything that descends from it, orphans included.

A member stays one when it is re-parented. The order of `Tree.members` is the order of discovery, in which a parent
always stands before its children: totals rely on it.
"""

from __future__ import annotations

from proctally.kernel.machine import UNREADABLE, Machine, clock_id
from proctally.kernel.proc import Files, Kept, Stat, is_thread, process_count, read_children, read_stat, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

VERIFY_NS = 10_000_000_000  # how often a full listing makes sure that `children` files hid nobody
VERIFY_COST_NS = 20_000_000  # where that listing costs more, it is left out
MANY_PIDS = 20_000
AROUND_NS = 2_000_000_000  # in a longer time the pids (32,768 by default) may have gone round
UNSEEN_NS = 14_000  # what a listing costs more for each process whose parent is not known yet


class Member(Kept):
    """One process of the tree: (pid, start) is its identity.

    The tree owns who it is and whose child; the ledger owns the readings (`cpu` to `hidden_switches`), the sampler
    the levels (`state` to the end).
    """

    __slots__ = (
        "alive",
        "clock",
        "command",
        "context_switches",
        "cpu",
        "cpu_base",
        "cpu_sampled",
        "has_children",
        "head",
        "hidden_switches",
        "io",
        "io_raw",
        "moved_tick",
        "parent",
        "peak_base",
        "peak_rss",
        "pid",
        "ppid",
        "previous_io",
        "previous_stat",
        "pss",
        "pss_at",
        "pss_not_before",
        "pss_rss",
        "refreshed_at",
        "rss",
        "run_delay",
        "run_delays",
        "start",
        "stat",
        "state",
        "swap",
        "threads",
    )

    def __init__(self, pid: int, stat: Stat, parent: Member | None) -> None:
        Kept.__init__(self)
        self.pid = pid
        self.start = stat.start
        self.ppid = stat.ppid
        self.parent = parent
        self.command = stat.comm
        self.alive = True
        self.clock = clock_id(pid)
        self.has_children = False
        # readings
        self.cpu = 0
        self.cpu_base = 0
        self.cpu_sampled = 0
        self.stat = stat
        self.previous_stat = stat
        self.io: tuple[int, ...] | None = None
        self.previous_io: tuple[int, ...] | None = None
        self.io_raw = b""
        self.moved_tick = 0
        self.context_switches = 0
        self.hidden_switches = 0
        self.run_delay = 0
        self.run_delays: dict[int, int] = {}
        # levels
        self.state = b"?"
        self.threads = 0
        self.rss = 0
        self.peak_rss = 0
        self.peak_base = 0
        self.swap: int | None = None
        self.pss: int | None = None
        self.pss_at = 0
        self.pss_rss = -1
        self.pss_not_before = 0
        self.refreshed_at = 0
        self.head = b""

    @property
    def ended(self) -> bool:
        """Gone, or a zombie; one with several threads is none, its main thread alone has ended."""
        return not self.alive or (self.state == b"Z" and self.threads <= 1)


class Tree:
    """The members of one tree, and how new ones are found.

    `own`: the pid of this process where it is the parent of the root and a subreaper (`run`), None for `attach`.
    `strangers`: children of this process that are none of the tree, and what descends from them: pid and start.
    """

    __slots__ = (
        "_asked",
        "_children_ns",
        "_last_pid",
        "_last_pid_at",
        "_others",
        "_scan_ns",
        "_unresolved",
        "_verified_at",
        "changed",
        "files",
        "has_children_files",
        "lost",
        "machine",
        "members",
        "own",
        "strangers",
    )

    def __init__(self, machine: Machine, files: Files, own: int | None = None, *, children_files: bool = True) -> None:
        self.machine = machine
        self.files = files
        self.own = own
        self.strangers: dict[int, int] = {}
        self.members: dict[int, Member] = {}
        self.has_children_files = children_files
        self.changed = True
        self._asked = False  # `children` files were relied on, which may miss one, since the last listing
        self.lost = False  # a process ended since new ones were looked for: it may have left children
        self._last_pid: int | None = None
        self._last_pid_at = 0
        self._unresolved: list[int] = []
        self._others: dict[int, tuple[int, int, int]] = {}  # pid -> its inode, its parent, the parent's inode
        self._verified_at = machine.monotonic_ns()
        self._children_ns = 12_000.0  # what reading the children of one thread costs here: measured as it goes
        self._scan_ns = 900.0  # what one entry of a listing costs here

    def admit(self, pid: int, parent: Member | None) -> Member | None:
        """Take a process into the tree; None when it is gone already."""
        try:
            stat = read_stat(self.machine, pid)
        except UNREADABLE:
            return None
        if stat.state in b"Xx":
            return None
        if stat.ppid in self.members:
            parent = self.members[stat.ppid]
        member = Member(pid, stat, parent)
        if parent is not None:
            parent.has_children = True
        self.members[pid] = member
        self.changed = True
        return member

    def remove(self, member: Member) -> None:
        """Take an ended process out; its children stay."""
        member.alive = False
        self.lost = True
        self.files.close(member)
        if self.members.get(member.pid) is member:
            del self.members[member.pid]
        self.changed = True

    def relink(self, member: Member, ppid: int) -> None:
        """The process has another parent than before."""
        member.ppid = ppid
        member.parent = self.members.get(ppid)

    def ancestor(self, member: Member) -> Member | None:
        """The nearest surviving ancestor within the tree."""
        parent = member.parent
        while parent is not None and not parent.alive:
            parent = parent.parent
        return parent

    def discover(self, ran: Iterable[Member]) -> list[Member]:
        """New members, parents before children. Only a process that ran can have forked.

        Three ways, and the cheapest for this tree on this machine is taken: looking at the pids that were given out
        since the last time, asking each process that ran for its children, or listing all processes.
        """
        ran = list(ran)
        now = self.machine.monotonic_ns()
        verified = not self._asked or now - self._verified_at < VERIFY_NS
        if (
            not ran
            and verified
            and self._last_pid is not None
            and not (self.lost or self._unresolved or (self.own is not None and self.strangers))
        ):
            return []
        self.lost = False
        last = self.machine.last_pid()
        fresh = self._given_out(last, now)
        if fresh is not None and not fresh and verified:
            return []
        listed = process_count(self.machine)
        unseen = max(0, listed - len(self._others) - len(self.members))
        by_listing = listed * self._scan_ns + unseen * UNSEEN_NS
        by_asking = (sum(member.threads or 1 for member in ran) + 1) * self._children_ns
        by_pid = len(fresh) * UNSEEN_NS if fresh is not None else by_listing
        if not self.has_children_files:
            by_asking = by_listing
        due = not verified and by_listing < VERIFY_COST_NS
        if due or by_listing <= min(by_asking, by_pid):
            self._verified_at = now
            self._asked = False
            self._unresolved = []
            found = self._discover_by_scan()
            cost = (self.machine.monotonic_ns() - now - unseen * UNSEEN_NS) / max(1, listed)
            self._scan_ns += (max(0.0, cost) - self._scan_ns) * 0.2
            return found
        if fresh is not None and by_pid <= by_asking:
            return self._discover_by_pid(fresh)
        again = set(self._unresolved)
        self._asked = True
        found = self._discover_by_children(ran)
        # one whose parent ended while it was asked is now the child of one that was asked before
        self._unresolved = [pid for pid in fresh or () if pid not in self.members and pid not in again]
        cost = (
            (self.machine.monotonic_ns() - now) * self._children_ns / (by_asking + 2 * len(found) * self._children_ns)
        )
        self._children_ns += (cost - self._children_ns) * 0.2
        return found

    def _given_out(self, last: int | None, now: int) -> list[int] | None:
        """Pids given out since the last time, and those that could not be resolved then; None when that is unknown."""
        before, self._last_pid = self._last_pid, last
        since, self._last_pid_at = self._last_pid_at, now
        if last is None or before is None or last < before or last - before > MANY_PIDS or now - since > AROUND_NS:
            return None
        return [*self._unresolved, *range(before + 1, last + 1)]

    def _discover_by_pid(self, fresh: list[int]) -> list[Member]:
        """From the pids that were given out; some are threads, some are gone, some are not visible yet.

        What could not be read, and what has a parent that could not be, is looked at once more the next time.
        """
        parents: dict[int, int] = {}
        again = set(self._unresolved)
        unresolved = []
        for pid in fresh:
            if pid in self.members or self.is_stranger(pid):
                continue
            try:
                parents[pid] = read_stat(self.machine, pid).ppid
            except UNREADABLE:
                if pid not in again:
                    unresolved.append(pid)
        found: list[Member] = []
        for pid, ppid in parents.items():
            if ppid not in self.members and ppid != self.own:
                if ppid in self.strangers:
                    self.add_stranger(pid)
                if ppid in unresolved and pid not in again:
                    unresolved.append(pid)
                continue
            if is_thread(self.machine, pid):
                continue
            member = self.admit(pid, self.members.get(ppid))
            if member is not None:
                found.append(member)
            elif pid not in again:  # it ended in between: its children have another parent now
                unresolved.append(pid)
        self._unresolved = unresolved
        return found

    def _discover_by_children(self, ran: list[Member]) -> list[Member]:
        found: list[Member] = []
        if self.own is not None:
            if self.strangers:
                self._follow_strangers()
            found += self._admit_all(self._children_of(self.own, 1), None)
        queue = ran + found
        for member in queue:
            new = self._admit_all(self._children_of(member.pid, member.threads or member.stat.threads), member)
            found += new
            queue += new
        return found

    def _admit_all(self, pids: Iterable[int], parent: Member | None) -> list[Member]:
        members = self.members
        new = [self.admit(pid, parent) for pid in pids if pid not in members and not self.is_stranger(pid)]
        if None in new:
            self._last_pid = None  # its children have another parent now: that no pid was given out says nothing
        return [member for member in new if member is not None]

    def _children_of(self, pid: int, threads: int) -> list[int]:
        try:
            return read_children(self.machine, pid, threads)
        except UNREADABLE:
            return []

    def add_stranger(self, pid: int) -> None:
        """Know a process that is none of the tree although it is, or may become, a child of this process."""
        try:
            self.strangers[pid] = read_stat(self.machine, pid).start
        except UNREADABLE:
            pass

    def is_stranger(self, pid: int) -> bool:
        """Whether this is a stranger, and not another process that was given its pid."""
        start = self.strangers.get(pid)
        if start is None:
            return False
        try:
            if read_stat(self.machine, pid).start == start:
                return True
        except UNREADABLE:
            pass
        del self.strangers[pid]
        return False

    def _follow_strangers(self) -> None:
        """Descendants of strangers may become children of this process: know them before."""
        queue = [pid for pid in list(self.strangers) if self.is_stranger(pid)]
        for pid in queue:
            try:
                threads = read_stat(self.machine, pid).threads
            except UNREADABLE:
                continue
            for child in self._children_of(pid, threads):
                if child not in self.strangers:
                    self.add_stranger(child)
                    queue.append(child)

    def _discover_by_scan(self) -> list[Member]:
        """From one listing of the machine; `stat` is read only of processes not seen before.

        Of the others the parent is remembered, never the verdict that they are no members: it is asked again when
        that parent is gone.
        """
        if self.own is not None and self.strangers:
            self._follow_strangers()
        listed = dict(scan(self.machine))
        known = self._others
        others: dict[int, tuple[int, int, int]] = {}
        fresh = []
        for pid, inode in listed.items():
            if pid in self.members:
                continue
            entry = known.get(pid)
            if entry is None or entry[0] != inode or listed.get(entry[1], 0) != entry[2]:
                try:
                    ppid = read_stat(self.machine, pid).ppid
                except UNREADABLE:
                    continue
                entry = (inode, ppid, listed.get(ppid, 0))
                fresh.append(pid)
            others[pid] = entry
        self._others = others
        return self._adopt(fresh, others) if fresh else []

    def _adopt(self, fresh: list[int], others: dict[int, tuple[int, int, int]]) -> list[Member]:
        children: dict[int, list[int]] = {}
        for pid, entry in others.items():
            children.setdefault(entry[1], []).append(pid)
        found: list[Member] = []
        queue = [pid for pid in fresh if others[pid][1] in self.strangers]
        for pid in queue:
            self.add_stranger(pid)
            queue += children.get(pid, ())
        queue = [pid for pid in fresh if others[pid][1] in self.members or others[pid][1] == self.own]
        for pid in queue:
            if pid in self.members or pid == self.own or self.is_stranger(pid):
                continue
            member = self.admit(pid, self.members.get(others[pid][1]))
            if member is not None:
                found.append(member)
                queue += children.get(pid, ())
        for member in found:
            others.pop(member.pid, None)
        return found
