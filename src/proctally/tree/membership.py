"""Who belongs to the tree: a root process and everything that descends from it, orphans included.

A member stays one when it is re-parented. The order of `Membership.members` is the order of discovery: parents before
their children. Totals rely on it.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE, NoDescriptors, ProcessGone, no_process
from proctally.linux.machine import Machine, clock_id
from proctally.linux.proc import Files, is_thread, process_count, read_children, read_start, read_stat, scan
from proctally.tree.member import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from proctally.tree.hidden import Hidden

VERIFY_NS = 10_000_000_000  # how often a full listing makes sure that nobody was missed, at least ...
VERIFY_SOON_NS, VERIFY_DIVISOR = 1_000_000_000, 1000  # ... and at most, where it takes this part of a core
VERIFY_COST_NS = 20_000_000  # where that listing costs more, it is left out
MANY_PIDS = 20_000
AROUND_NS = 2_000_000_000  # in a longer time the pids (32,768 by default) may have gone round
MAX_UNRESOLVED = 256
MAX_UNBORN = 16  # pids given out that are not visible yet: a fork can be preempted for longer than two scans ...
UNBORN_NS = 2_000_000_000  # ... but not for longer than this
UNKNOWN_START = -1
START_ATTEMPTS = 3  # to read the root, without which nothing is tracked
UNSEEN_NS = 14_000  # what a listing costs more for each process whose parent is not known yet


class Foreign:
    """Children of this process outside the tree, and what descends from them.

    `starts`: by pid, in ticks since boot; UNKNOWN_START where that cannot be read.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.starts: dict[int, int] = {}

    def add(self, pid: int) -> None:
        """Leave out a process that is, or may become, a child of this process."""
        try:
            self.starts[pid] = read_stat(self.machine, pid).start
        except ProcessGone:
            pass
        except UNREADABLE:
            self.starts[pid] = UNKNOWN_START

    def has(self, pid: int) -> bool:
        """Return whether this process is left out, and not another one that was given its pid."""
        start = self.starts.get(pid)
        if start is None or start == UNKNOWN_START:
            return start is not None
        try:
            if read_stat(self.machine, pid).start == start:
                return True
        except ProcessGone:
            pass
        except UNREADABLE:
            return True
        del self.starts[pid]
        return False

    def follow(self, children_of: Callable[[int, int], list[int]]) -> None:
        """Leave out descendants, before they become children of this process.

        `children_of` returns the children of a process with this number of threads.
        """
        queue = [pid for pid in list(self.starts) if self.has(pid)]
        for pid in queue:
            try:
                threads = read_stat(self.machine, pid).threads
            except UNREADABLE:
                continue
            for child in children_of(pid, threads):
                if child not in self.starts:
                    self.add(child)
                    queue.append(child)


class GivenOut:
    """The pids that were given out, by the last one in `loadavg`, and those of them that are still to be found.

    `unresolved`: what the last search could not resolve. `unborn`: pid -> when it could not be read a second time.
    `is_dropped`: whether one was given up, so that only a listing can find it.
    """

    def __init__(self) -> None:
        self.last: int | None = None
        self.unresolved: list[int] = []
        self.unborn: dict[int, int] = {}
        self.is_dropped = False
        self._at = 0

    def since(self, last: int | None, now: int) -> list[int] | None:
        """Return those since the last call, and the unresolved ones before them; None when that is unknown."""
        before, self.last = self.last, last
        since, self._at = self._at, now
        if last is None or before is None or last < before or last - before > MANY_PIDS or now - since > AROUND_NS:
            return None
        return [*self.unresolved, *range(before + 1, last + 1)]

    def unborn_still(self, now: int) -> list[int]:
        """Return pids that may become visible yet; what waits longer, under heavy load, is left to a listing."""
        for pid, since in list(self.unborn.items()):
            if now - since >= UNBORN_NS:
                del self.unborn[pid]
                self.is_dropped = True
        return list(self.unborn)

    def keep(self, unresolved: Iterable[int]) -> None:
        """Keep the newest of what a search could not resolve: in a fork storm, nearly all of these processes ended."""
        found = list(unresolved)
        self.is_dropped = self.is_dropped or len(found) > MAX_UNRESOLVED
        self.unresolved = found[-MAX_UNRESOLVED:]

    def note_unborn(self, pids: Iterable[int], members: Collection[int], now: int) -> None:
        """Keep the newest pids that could not be read twice; most of them are of processes that exited."""
        for pid in pids:
            if pid not in members:
                self.unborn.setdefault(pid, now)
        for pid in list(self.unborn)[:-MAX_UNBORN]:
            del self.unborn[pid]
            self.is_dropped = True


class Membership:
    """The members of one tree, and how new ones are found.

    `own`: the pid of this process where it is the parent of the root and a subreaper (`run`), None for `attach`.
    `follow`: whether what descends from the root is of it too.
    `foreign`: children of this process outside the tree.
    """

    def __init__(
        self,
        machine: Machine,
        files: Files,
        own: int | None = None,
        *,
        follow: bool = True,
        children_files: bool = True,
    ) -> None:
        self.machine = machine
        self.files = files
        self.own = own
        self.follow = follow and machine.procfs_missing is None
        self.root: Member | None = None
        self.foreign = Foreign(machine)
        self.members: dict[int, Member] = {}
        self.has_children_files = children_files
        self.changed = True
        self._doubtful = False  # since the last listing, ways were relied on that may miss a process
        self.lost = False  # a process ended since new ones were looked for: it may have left children
        self._pids = GivenOut()
        self._asked_ns = 0  # the scan in which these were left over after members were asked
        self._others: dict[int, tuple[int, int, int]] = {}  # pid -> its inode, its parent, the parent's inode
        self._verified_at = machine.monotonic_ns()
        self._verify_ns = VERIFY_SOON_NS
        self.since_ns = self._verified_at  # the last scan before this one
        self.hidden: Hidden | None = None  # from the first member on that this user cannot read
        self.children_ns = 12_000.0  # what reading the children of one thread costs here: measured as it goes
        self.scan_ns = 900.0  # what one entry of a listing costs here

    def admit(self, pid: int, parent: Member | None) -> Member | None:
        """Take a process into the tree; None when it is gone already."""
        try:
            stat = read_stat(self.machine, pid)
        except UNREADABLE:
            return None
        if stat.ppid in self.members:
            parent = self.members[stat.ppid]
        member = self.members[pid] = Member(pid, stat, parent)
        if parent is not None:
            parent.has_children = True
        self.changed = True
        return member

    def admit_root(self, pid: int, *, is_held: bool = False) -> Member | None:
        """Take in the process from which the tree descends.

        `is_held`: it is a child of this process, and without procfs its CPU clock suffices; None without that.
        Raises `ProcessGone`, `AccessDenied` or `NoProcfs`.
        """
        if is_held and self.machine.procfs_missing is not None:
            return self._admit_hidden(pid, None)
        for _ in range(START_ATTEMPTS):
            member = self.admit(pid, None)
            if member is not None:
                return member
        if not is_held:
            read_start(self.machine, pid)  # raises the reason, unless its `stat` alone is refused
        member = self._admit_hidden(pid, None) or self.admit(pid, None)
        if member is None:
            read_stat(self.machine, pid)
            raise no_process(pid)
        return member

    def remove(self, member: Member) -> None:
        """Take an ended process out; its children stay."""
        member.alive = False
        self.lost = True
        self.files.close(member)
        if self.members.get(member.pid) is member:
            del self.members[member.pid]
        self.changed = True

    def keep(self, found: list[Member]) -> None:
        """Have these as the members, as far as they live."""
        self.members = {member.pid: member for member in found if member.alive}
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
        if not self.follow:
            return []
        ran = list(ran)
        now = self.machine.monotonic_ns()
        verified = not (self._doubtful or self._pids.is_dropped) or now - self._verified_at < self._verify_ns
        if (
            not ran
            and verified
            and self._pids.last is not None
            and not (self.lost or self._pids.unresolved or (self.own is not None and self.foreign.starts))
        ):
            return []
        self.lost = False
        last = self.machine.last_pid()
        fresh = self._pids.since(last, now)
        if fresh is not None and ran:  # a fork that is complete has moved its parent
            fresh = [*self._pids.unborn_still(now), *fresh]  # parents before their children
        if fresh is not None and not fresh and verified:
            return []
        listed = process_count(self.machine)
        unseen = max(0, listed - len(self._others) - len(self.members))
        by_listing = listed * self.scan_ns + unseen * UNSEEN_NS
        by_asking = (sum(member.threads or 1 for member in ran) + 1) * self.children_ns
        by_pid = len(fresh) * UNSEEN_NS if fresh is not None else by_listing
        if not self.has_children_files:
            by_asking = by_listing
        due = not verified and by_listing < VERIFY_COST_NS
        if due or by_listing <= min(by_asking, by_pid):
            found = self._discover_by_listing(ran, fresh, now, listed, unseen, knows_last=last is not None)
            # a listing lacks what this user cannot see: members are asked as well
            return found + self._discover_by_children(ran + found) if due and self.has_children_files else found
        if fresh is not None and by_pid <= by_asking:
            return self._discover_by_pid(fresh, now, ran)
        again: set[int] = set()
        if self._asked_ns != self.since_ns:  # what forked after its clock was read is asked in the next scan
            self._asked_ns = self.since_ns
            again.update(self._pids.unresolved)
            self._pids.note_unborn(again, self.members, now)
        again.update(self._pids.unborn)
        self._doubtful = True  # a `children` file may skip one while others exit
        found = self._discover_by_children(ran)
        # one whose parent ended while it was asked is now the child of one that was asked before
        self._pids.keep(pid for pid in fresh or () if pid not in self.members and pid not in again)
        cost = (self.machine.monotonic_ns() - now) * self.children_ns / (by_asking + 2 * len(found) * self.children_ns)
        self.children_ns += (cost - self.children_ns) * 0.2
        return found

    def _discover_by_listing(
        self, ran: list[Member], fresh: list[int] | None, now: int, listed: int, unseen: int, *, knows_last: bool
    ) -> list[Member]:
        """From one listing, of `listed` processes; the parents of `unseen` of them are not known yet."""
        self._verified_at = now
        self._pids.is_dropped = False
        self._doubtful = fresh is None and knows_last  # a fork under way is in no listing
        self._pids.note_unborn(self._pids.unresolved, self.members, now)
        again = set(self._pids.unborn)
        found = self._discover_by_scan(ran)
        left = [pid for pid in fresh or () if pid not in self._others and pid not in again]
        self._pids.keep(pid for pid in left if pid not in self.members)
        cost_ns = self.machine.monotonic_ns() - now
        self._verify_ns = max(VERIFY_SOON_NS, min(VERIFY_NS, cost_ns * VERIFY_DIVISOR))
        cost = (cost_ns - unseen * UNSEEN_NS) / max(1, listed)
        self.scan_ns += (max(0.0, cost) - self.scan_ns) * 0.2
        return found

    def discover_below(self, members: Iterable[Member]) -> list[Member]:
        """Return new members that these forked. Pids that were given out are left to the next `discover`.

        That call asks all that ran: of these alone it would give up the children of others.
        """
        if not self.follow:
            return []
        return self._below(list(members)) if self.has_children_files else self.discover(members)

    def _discover_by_pid(self, fresh: list[int], now: int, ran: list[Member]) -> list[Member]:
        """From the pids that were given out; some are threads, some are gone, some are not visible yet.

        What could not be read, and what has a parent that could not be, is looked at once more the next time.
        """
        parents: dict[int, int] = {}
        again = {*self._pids.unresolved, *self._pids.unborn}
        unresolved = []
        unreadable = []
        for pid in fresh:
            if pid in self.members or self.foreign.has(pid):
                continue
            ppid = _parent_of(self.machine, pid)
            if ppid is not None:
                parents[pid] = ppid
                self._pids.unborn.pop(pid, None)
                continue
            if pid not in self._pids.unborn:
                unreadable.append(pid)
            if pid in again:
                self._pids.note_unborn([pid], self.members, now)
            else:
                unresolved.append(pid)
        found: list[Member] = []
        for pid, ppid in parents.items():
            if ppid not in self.members and ppid != self.own:
                if ppid in self.foreign.starts:
                    self.foreign.add(pid)
                if ppid in unresolved or ppid in self._pids.unborn:
                    if pid in again:
                        self._pids.note_unborn([pid], self.members, now)
                    else:
                        unresolved.append(pid)
                continue
            if is_thread(self.machine, pid):
                continue
            member = self.admit(pid, self.members.get(ppid))
            if member is not None:
                found.append(member)
            elif pid not in again:  # it ended in between: its children have another parent now
                unresolved.append(pid)
        if unreadable:
            found += self._hidden_children(unreadable, ran)
        self._pids.keep(unresolved)
        return found

    def _discover_by_children(self, ran: list[Member]) -> list[Member]:
        found: list[Member] = []
        if self.own is not None:
            if self.foreign.starts:
                self.foreign.follow(self._children_of)
            found += self._admit_all(self._children_of(self.own, 1), None)
        return found + self._below(ran + found)

    def _below(self, queue: list[Member]) -> list[Member]:
        found: list[Member] = []
        for member in queue:
            new = self._admit_all(self._children_of(member.pid, member.threads or member.stat.threads), member)
            found += new
            queue += new
        return found

    def _admit_all(self, pids: Iterable[int], parent: Member | None) -> list[Member]:
        members = self.members
        new = []
        for pid in pids:
            if pid in members or self.foreign.has(pid):
                continue
            member = self.admit(pid, parent) or self._admit_hidden(pid, parent)
            if member is not None:
                new.append(member)
            else:
                self._pids.last = None  # its children have another parent now: that no pid was given out says nothing
        return new

    def note_hidden(self, pid: int) -> bool:
        """Keep a process of the tree whose `stat` is refused; False when it is not there, or can be read."""
        from proctally.tree.hidden import Hidden, is_hidden

        if not is_hidden(self.machine, pid):
            return False
        self.hidden = self.hidden or Hidden(self.machine)
        self.hidden.note(pid, self.since_ns)
        return True

    def _admit_hidden(self, pid: int, parent: Member | None) -> Member | None:
        """Take in a process of which nothing but its CPU clock can be read; None where it is gone, or can be read."""
        if not self.note_hidden(pid):
            return None
        from proctally.tree.hidden import hidden_member

        member = self.members[pid] = hidden_member(self.machine, pid, self.own or 0, parent)
        self.changed = True
        return member

    def _hidden_children(self, pids: list[int], ran: Iterable[Member]) -> list[Member]:
        """New members among processes without a file that this user can read: children of those that ran."""
        clocks = self.machine.clocks([clock_id(pid) for pid in pids])
        existing = {pid for pid, clock in zip(pids, clocks, strict=True) if clock is not None}
        found: list[Member] = []
        if not existing or not self.has_children_files:
            return found
        if self.own is not None:
            found += self._admit_all(existing.intersection(self._children_of(self.own, 1)), None)
        for member in list(ran)[:MAX_UNBORN]:
            found += self._admit_all(existing.intersection(self._children_of(member.pid, member.threads or 1)), member)
        return found

    def _children_of(self, pid: int, threads: int) -> list[int]:
        try:
            return read_children(self.machine, pid, threads)
        except ProcessGone:
            return []
        except UNREADABLE:  # the next listing finds what this file does not show
            self.lost = self._doubtful = True
            self._verified_at = -VERIFY_NS
            return []

    def _discover_by_scan(self, ran: list[Member]) -> list[Member]:
        """From one listing of the machine; `stat` is read only of processes not seen before.

        Of the others the parent is remembered, never the verdict that they are no members: it is asked again when
        that parent is gone. Where there is no listing, the `children` files of those that ran are read.
        """
        if self.own is not None and self.foreign.starts:
            self.foreign.follow(self._children_of)
        try:
            listed = dict(scan(self.machine))
        except NoDescriptors:
            raise
        except UNREADABLE:
            self.lost = self._doubtful = True
            return self._discover_by_children(ran)
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
        return self._adopt(fresh, others)

    def _adopt(self, fresh: list[int], others: dict[int, tuple[int, int, int]]) -> list[Member]:
        children: dict[int, list[int]] = {}
        for pid, entry in others.items():
            children.setdefault(entry[1], []).append(pid)
        found: list[Member] = []
        queue = [pid for pid in fresh if others[pid][1] in self.foreign.starts]
        for pid in queue:
            self.foreign.add(pid)
            queue += children.get(pid, ())
        queue = [pid for pid, (_, ppid, _) in others.items() if ppid in self.members]
        queue += [pid for pid in fresh if others[pid][1] == self.own]
        for pid in queue:
            if pid in self.members or pid == self.own or self.foreign.has(pid):
                continue
            member = self.admit(pid, self.members.get(others[pid][1]))
            if member is not None:
                found.append(member)
                queue += children.get(pid, ())
        for member in found:
            others.pop(member.pid, None)
        return found


def _parent_of(machine: Machine, pid: int) -> int | None:
    """Return the parent of a process; None where that cannot be read. Most of these pids are of ended processes."""
    try:
        return read_stat(machine, pid).ppid if machine.has_process(pid) else None
    except UNREADABLE:
        return None
