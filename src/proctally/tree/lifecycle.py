"""Processes that enter a tree and leave it: the first reading, the end below an ancestor, and what wait4 shows.

The time of a process that exits shows in that of the ancestor that reaps it: each end is matched with the growth of
one ancestor, so that the ledger counts it once.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.record.codes import IO_UNREADABLE
from proctally.tree.member import IO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from resource import struct_rusage

    from proctally.tree.commands import Commands
    from proctally.tree.guards import KillGuard, TimeGuard
    from proctally.tree.ledger import Ledger
    from proctally.tree.member import Member, ScanState
    from proctally.tree.membership import Membership
    from proctally.tree.memory_guard import MemoryGuard
    from proctally.tree.outer_parent import OuterParent
    from proctally.tree.readings import Readings
    from proctally.tree.sample import ProcessLines


class ForeignChild:
    """Stands for a child of this process outside the tree."""


FOREIGN_CHILD = ForeignChild()


class Lifecycle:
    """Enters and removes members.

    `started`: processes that were seen. `outside`: members that a process outside an attached tree reaped, the root
    left out. `adopted`: processes that this process has from a parent that was not seen. `attached_ticks`: boot time at
    which a tree was attached, None for a run. `root_seen_ns`: when a scan found an attached root alive; `root_waiters`:
    members that had waited for others by then. `peaks_from_now`: whether peaks of processes leave out what they held
    before they became members.
    """

    def __init__(
        self,
        tree: Membership,
        ledger: Ledger,
        state: ScanState,
        readings: Readings,
        memory: MemoryGuard,
        time: TimeGuard,
        kills: KillGuard,
        commands: Commands,
        lines: ProcessLines,
        *,
        peaks_from_now: bool,
    ) -> None:
        self.machine = tree.machine
        self.files = tree.files
        self.tree = tree
        self.ledger = ledger
        self.state = state
        self.readings = readings
        self.memory = memory
        self.time = time
        self.kills = kills
        self.commands = commands
        self.lines = lines
        self.peaks_from_now = peaks_from_now
        self.cpus = tree.machine.cpu_count()
        self.started = 0
        self.outside = 0
        self.adopted = 0
        self.attached_ticks: int | None = None
        self.outer: OuterParent | None = None  # of an attached root
        self.root_seen_ns = state.started_ns
        self.root_waiters = 0
        self._leaving: set[Member] = set()
        self._claims: dict[Member, dict[Member, None]] = {}  # members to be removed, by the parent that will show them

    # -- members that enter ----------------------------------------------------------------------------------------

    def discover(self, members: list[Member]) -> list[Member]:
        """Find the new processes of this moment. Only a process that ran can have forked."""
        return [member for member in self.tree.discover(members) if self.enter_new(member)]

    def discover_now(self, members: list[Member]) -> list[Member]:
        """Find new processes after the members were read: each may have forked before it was found, and waits since."""
        found = [member for member in self.tree.discover_below(members) if self.enter_new(member)]
        self.state.ran.update(dict.fromkeys(found))
        self.state.again.update(found)
        return found

    def is_from_before(self, member: Member) -> bool:
        """Return whether a member of an attached tree is older than its tracking."""
        return self.attached_ticks is not None and member.start < self.attached_ticks

    def enter_new(self, member: Member) -> bool:
        """Take in a member that was found; False when it is gone already."""
        return self.enter(member, baseline=self.is_from_before(member))

    def enter(self, member: Member, *, baseline: bool) -> bool:
        """Take the first reading of a new member; False when it is gone already.

        `baseline`: whether the totals leave out what it has used.
        """
        machine = self.machine
        clock: int | None = None
        if machine.clock_gettime_ns is not None:
            clock = machine.clocks([member.clock])[0]
        stat = self.readings.first(member)
        if stat is None or stat.start != member.start or (clock is None and machine.clock_gettime_ns is not None):
            self.tree.remove(member)
            return False
        member.stat = stat
        self.started += 1
        self.ledger.enter(member, clock, baseline=baseline)
        member.cpu_sampled = member.cpu_base
        member.moved_tick = self.state.tick
        if baseline:
            self.ledger.rebase(member)
        self.readings.enter(member)
        if baseline:
            self.readings.read_waiting(member, machine.monotonic_ns(), delays=True)
            self.time.enter(member)
            if self.peaks_from_now:
                member.peak_base, member.peak_rss = member.peak_rss, member.rss
        elif member.parent is not None:
            member.peak_base = member.parent.peak_base  # between vfork(2) and exec it is in its parent's memory
        elif member is not self.tree.root:
            self.adopted += 1
        return True

    # -- members that leave ----------------------------------------------------------------------------------------

    def remove(self, gone: list[Member]) -> None:
        """Remove members that are gone, each below the ancestor that reaped it."""
        if not gone:
            return
        for member in gone:
            self.tree.remove(member)
        self._relink_children(gone)
        self._leaving = set(gone)
        self._claims = {}
        for member in gone:
            if member.parent is not None and member.parent.alive:
                self._claims.setdefault(member.parent, {})[member] = None
        if self.tree.root in self._leaving:
            self._reaped_outside()
        for member in sorted(gone, key=_depth, reverse=True):  # children first
            self._leaving.discard(member)
            if member.parent in self._claims:
                del self._claims[member.parent][member]
            self._leave(member, None)

    def _reaper_of(self, member: Member) -> Member | None:
        """Return the ancestor that reaped it: the nearest whose growth can show it, else the nearest that lives.

        Ancestors that leave in the same scan come first: a chain collapses faster than a scan reads it, and the last
        reading of one of them shows the member. Above them, a process that is not a subreaper can be between the two:
        the time of an orphan then shows further up.
        """
        parent = member.parent
        while parent is not None and parent in self._leaving:
            if self._can_show(parent, member):
                return parent
            parent = parent.parent
        nearest = candidate = self.tree.ancestor(member)
        if member.parent is not nearest:
            while candidate is not None:
                if self._can_show(candidate, member):
                    return candidate
                candidate = self.tree.ancestor(candidate)
        return nearest

    def _can_show(self, ancestor: Member, member: Member) -> bool:
        return self.ledger.can_show(ancestor, member, self.state.tick, self._claims.get(ancestor, ()))

    def _relink_children(self, gone: list[Member]) -> None:
        """Children of who is gone have another parent now, which will reap them and show their time."""
        if any(member.has_children for member in gone):
            for child in self.tree.members.values():
                if child.parent is not None and not child.parent.alive:
                    try:
                        self.tree.relink(child, self.files.stat(child, child.pid).ppid)
                    except UNREADABLE:
                        continue

    def _leave(self, member: Member, exit_code: int | None, *, reaped: bool = False) -> None:
        """A member is out of the tree: its levels end, its last reading goes to the dead, its line is written."""
        ancestor = None if reaped else self._reaper_of(member)
        shown = self.tree.own is not None
        if not shown and ancestor is None:
            root = self.tree.root
            of_root = member is root or any(each is root for each in _ancestors(member))
            shown = self.ledger.root_reaped and of_root
            self.outside += not of_root
        self.ledger.add_ended(member, ancestor, self.state.tick, by_us=shown)
        self.readings.leave(member)
        self.state.ran.pop(member, None)
        self.time.leave(member)
        self.memory.forget(member)
        self.commands.count(member, self.attached_ticks or 0)
        self.lines.write(member, exit_code, ended=True)

    def settle(self) -> None:
        """Read the ancestors of vanished members again, and see what their growth shows.

        Until no more members have vanished: an ancestor that is gone passes on what waits for it.
        """
        state, ledger = self.state, self.ledger
        vanished = True
        while vanished:
            state.grown = False
            waiting = [member for member in ledger.unsettled(state.tick) if not ledger.is_settled(member)]
            gone = [member for member in waiting if not self.readings.reread(member)]
            if state.grown:
                # a process that was reaped since the first reading of this scan must not count as living too
                gone += [member for member in self.readings.vanished() if member not in gone]
            self.remove(gone)
            vanished = bool(gone)
        for ancestor in ledger.unsettled(state.tick):
            ledger.settle(ancestor)
        if self.tree.own is not None or ledger.root_reaped:
            ledger.settle_reaped()

    def _remove_vanished(self) -> None:
        """Remove the members that are gone between two scans, each below the ancestor whose growth shows it."""
        gone = self.readings.vanished()
        if not gone:
            return
        self.state.tick += 1
        self.files.tick = self.state.tick
        for ancestor in {ancestor: None for member in gone for ancestor in _ancestors(member)}:
            if ancestor not in gone and ancestor.alive and not self.readings.reread(ancestor):
                gone.append(ancestor)
        self.remove(gone)

    # -- the root of an attached tree ------------------------------------------------------------------------------

    def follow_parent(self) -> None:
        """Read the parent of the attached root as well, which shows at the end what no scan can."""
        from proctally.tree.outer_parent import OuterParent

        root = self.tree.root
        if root is not None and root.ppid > 0:
            self.outer = OuterParent(self.machine, root.ppid, root.pid)

    def read_outer_parent(self) -> None:
        """Read the parent of an attached root that lives, before the tree is read."""
        if self.outer is not None and self.tree.root is not None and self.tree.root.alive:
            self.outer.read()

    def root_lives(self) -> None:
        """Keep what a scan showed that found an attached root alive."""
        if self.ledger.attached and self.tree.root is not None and self.tree.root.alive:
            self.ledger.cpu.splice(self.ledger.procfs_cpu())
            self.root_seen_ns = self.state.read_ns
            self.root_waiters = len(self.ledger.waiters)
            if self.outer is not None:
                self.outer.root_lives()

    def _reaped_outside(self) -> None:
        """Take in what the parent of an attached root shows of it, where that can be the usage of the root."""
        growth = None if self.outer is None else self.outer.growth()
        if growth is not None and self.tree.root is not None:
            room = self.cpus * (self.machine.monotonic_ns() - self.root_seen_ns)
            self.ledger.reap_root(self.tree.root, growth, room)

    # -- reaping (run) -------------------------------------------------------------------------------------------

    def ended(self, pid: int) -> Member | ForeignChild | None:
        """Take the last reading of a child of this process, a zombie. Returns None when it cannot be read."""
        self.tree.lost = True
        self.kills.poll(self.memory.reader, settle=False)
        member = self.tree.members.get(pid)
        if member is not None and not self.readings.is_there(member):  # its pid was given to another
            self.remove([member])
            member = None
        if member is None:
            if self.tree.foreign.has(pid):
                return FOREIGN_CHILD
            member = self.tree.admit(pid, None)
            if member is None or not self.enter(member, baseline=False):
                return None
            return member
        if member.has_children:
            # a child that it reaped must not count as living too: the last reading shows its time
            self._remove_vanished()
        self.readings.reread(member)
        self.ledger.settle(member)
        self.time.end(member)
        return member

    def reaped(
        self, member: Member | ForeignChild | None, exit_code: int, usage: struct_rusage, io: list[int] | None
    ) -> None:
        """Take in the resource usage and I/O of a reaped child, unless it is excluded.

        `exit_code`: its exit status, or minus the number of the signal that ended it.
        """
        if isinstance(member, ForeignChild):
            return
        self.kills.note_reaped(member, exit_code)
        if member is None:
            self.started += 1
            self.adopted += 1
        else:
            if not member.has_children and not member.stat.child_user and not member.stat.child_system:
                # without children, what wait4 shows is its own time, to the end
                own = round((usage.ru_utime + usage.ru_stime) * 1e9)
                self.ledger.correct(member, max(own, member.cpu))
            self.tree.remove(member)
            self._leave(member, exit_code, reaped=True)
            self.ledger.cpu.root_ended |= member is self.tree.root
        self.ledger.reap(usage)
        if io is not None:
            self.ledger.reap_io(io)
        elif self.ledger.io_known is not None:
            self.ledger.io_known = any(self.ledger.reaped[IO:])  # without any of them, the total says nothing
            self.readings.io_unread[(self.tree.own or 0) if member is None else member.pid] = IO_UNREADABLE
        self.memory.note_maxrss(usage.ru_maxrss * 1024)

    def finish(self) -> int:
        """Write the lines of the members that remain. Returns how many of them run; a zombie does not."""
        members = self.tree.members.values()
        for member in members:
            self.memory.note_process_rss(member.peak_rss)
            self.commands.count(member, self.attached_ticks or 0)
            self.lines.write(member, None, ended=member.ended)
        return sum(not member.ended for member in members)


def _ancestors(member: Member) -> Iterator[Member]:
    """Yield its parent, and theirs, as far as they are known; gone or not."""
    parent = member.parent
    while parent is not None:
        yield parent
        parent = parent.parent


def _depth(member: Member) -> int:
    return sum(1 for _ in _ancestors(member))
