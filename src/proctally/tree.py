"""Who belongs to the tree: a root process and everything that descends from it, orphans included.

A member stays one when it is re-parented. The order of `Tree.members` is the order of discovery, in which a parent
always stands before its children: totals rely on it.
"""

from __future__ import annotations

from proctally.kernel.machine import Denied, Gone, Machine, clock_id
from proctally.kernel.proc import Files, Kept, Stat, process_count, read_children, read_stat, scan, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

VERIFY_NS = 10_000_000_000  # how often a full listing makes sure that `children` files hid nobody


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
        "first_at",
        "has_children",
        "hidden_switches",
        "io",
        "io_raw",
        "moved_tick",
        "parent",
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
        self.swap: int | None = None
        self.pss: int | None = None
        self.pss_at = 0
        self.pss_rss = -1
        self.pss_not_before = 0
        self.refreshed_at = 0
        self.first_at = 0


class Tree:
    """The members of one tree, and how new ones are found.

    `own`: the pid of this process where it is the parent of the root and a subreaper (`run`), None for `attach`.
    `strangers`: children of this process that are none of the tree.
    """

    __slots__ = (
        "_children_ns",
        "_others",
        "_scan_ns",
        "_verified_at",
        "changed",
        "files",
        "has_children_files",
        "machine",
        "members",
        "own",
        "strangers",
    )

    def __init__(self, machine: Machine, files: Files, own: int | None = None, *, children_files: bool = True) -> None:
        self.machine = machine
        self.files = files
        self.own = own
        self.strangers: set[int] = set()
        self.members: dict[int, Member] = {}
        self.has_children_files = children_files
        self.changed = True
        self._others: dict[int, tuple[int, int, int]] = {}  # pid -> its inode, its parent, the parent's inode
        self._verified_at = machine.monotonic_ns()
        self._children_ns = 12_000.0  # what reading the children of one thread costs here: measured as it goes
        self._scan_ns = 900.0  # what one entry of a listing costs here

    def admit(self, pid: int, parent: Member | None) -> Member | None:
        """Take a process into the tree; None when it is gone already."""
        try:
            stat = read_stat(self.machine, pid)
        except (Gone, Denied):
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
        """New members, parents before children. Only a process that ran can have forked, so only those are asked.

        Asking each of them, or listing all processes of the machine: whichever is cheaper for this tree and machine.
        """
        ran = list(ran)
        now = self.machine.monotonic_ns()
        asked = sum(member.threads or 1 for member in ran) + 1
        listed = process_count(self.machine)
        whole = listed * self._scan_ns
        due = now - self._verified_at > VERIFY_NS and whole < 20_000_000
        if not self.has_children_files or due or whole < asked * self._children_ns:
            self._verified_at = now
            found = self._discover_by_scan()
            cost = (self.machine.monotonic_ns() - now) / max(1, listed)
            self._scan_ns += (cost - self._scan_ns) * 0.2
            return found
        found = self._discover_by_children(ran)
        cost = (self.machine.monotonic_ns() - now) / (asked + 2 * len(found))
        self._children_ns += (cost - self._children_ns) * 0.2
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
        strangers = self.strangers
        new = [self.admit(pid, parent) for pid in pids if pid not in members and pid not in strangers]
        return [member for member in new if member is not None]

    def _children_of(self, pid: int, threads: int) -> list[int]:
        try:
            return read_children(self.machine, pid, threads)
        except (Gone, Denied):
            return []

    def _follow_strangers(self) -> None:
        """Descendants of strangers may become children of this process: know them before."""
        queue = list(self.strangers)
        for pid in queue:
            try:
                threads = read_stat(self.machine, pid).threads
            except (Gone, Denied):
                self.strangers.discard(pid)
                continue
            new = set(self._children_of(pid, threads)) - self.strangers
            self.strangers |= new
            queue += new

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
                except (Gone, Denied):
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
        queue = [pid for pid in fresh if others[pid][1] in self.members or others[pid][1] == self.own]
        for pid in queue:
            if pid in self.strangers or pid in self.members or pid == self.own:
                continue
            member = self.admit(pid, self.members.get(others[pid][1]))
            if member is not None:
                found.append(member)
                queue += children.get(pid, ())
        for member in found:
            others.pop(member.pid, None)
        return found

    def command_of(self, member: Member) -> str:
        """Its name after exec, as text."""
        return text(member.command)
