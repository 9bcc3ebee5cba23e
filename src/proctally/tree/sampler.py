"""The loop's body: in which order things are read at one moment, and what a sample says of them.

The cost of a sample grows with the processes that ran, not with those that exist: first the CPU clock of every
member, then the files of those whose clock moved. What others can change without a process running (reclaim, swap,
page sharing, parent) is refreshed at a slow pace.
"""

from __future__ import annotations

from proctally.kernel.machine import NANOSECONDS, UNREADABLE, Denied, Exhausted, Gone, Machine, seconds
from proctally.kernel.proc import (
    Files,
    has_children_files,
    parse_io,
    parse_stat,
    read_pss,
    read_run_delay,
    read_stat,
    read_status,
    read_threads,
    text,
)
from proctally.ledger import CPU, DELAY, IO, MAJOR, MINOR, SWITCHES, SYSTEM, USER, Ledger
from proctally.tree import Member, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from proctally.enclosure import Enclosure
    from proctally.watch import Watch

REFRESH_NS = 10 * NANOSECONDS  # the slow pace
PSS_OLD_PER_TICK = 15  # so many readings that are old, while the RSS stands still, are renewed in one look
PSS_IDLE_NS = 45 * NANOSECONDS  # of the PSS of a process that did not run: only its sharers can have changed it
STATUS_PER_TICK = 10  # so many processes have status and schedstat read in one sample, the longest unread first
THREADS_PER_STATUS = 256  # a process with more threads has no run delay
STALL_NS = 50_000_000  # a PSS reading that took longer is not repeated ...
STALL_PAUSE_NS = 60 * NANOSECONDS  # ... for so long
PSS_BURST_NS = 5_000_000  # so much of its budget may be spent at once
SHORT_NS = 50_000_000
SPREAD = 0.02  # readings of one look that lie further apart, in intervals, are brought to one moment ...
ALIGN_AT_MOST = 3  # ... by so many attempts
EXCESS_NS = 2_000_000  # perf may say so much more, by its clock, before it is asked how sure that is
TOP = 3
PROCESS_LINES = 2000


class Command:
    """What is known of the processes of one name."""

    __slots__ = ("cpu_ns", "peak_rss", "processes", "wall_ns")

    def __init__(self) -> None:
        self.processes = 0
        self.cpu_ns = 0
        self.wall_ns = 0
        self.peak_rss = 0


class Stranger:
    """A child of this process that is none of the tree."""


STRANGER = Stranger()


class Sampler:
    """Reads one tree, keeps its ledger, and says what a sample holds.

    `own`: the pid of this process when it is the tree's subreaper and reaps (`run`); None otherwise (`attach`).
    `pss_credit_ns`: what reading PSS may cost before its budget has filled; with neither of the two none is read.
    `emit(line)` receives the records of processes that ended, as dictionaries.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        own: int | None = None,
        interval_ns: int = NANOSECONDS,
        descriptors: int = 512,
        pss_budget: float = 0.005,
        pss_credit_ns: int = PSS_BURST_NS,
        process_lines: int = PROCESS_LINES,
        emit: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.machine = machine
        self.files = Files(machine, descriptors)
        self.tree = Tree(machine, self.files, own, children_files=has_children_files(machine))
        self.ledger = Ledger(machine.tick_ns)
        self.own = own
        self.watch: Watch | None = None
        self.enclosure: Enclosure | None = None
        self.interval_ns = interval_ns
        self.pss_budget = pss_budget
        self.pss_wanted_above: int | None = None  # an estimate over this many bytes is made sure of, whatever it costs
        self._pss_urgent = False
        self.process_lines = process_lines
        self.emit = emit
        self.tick = 0
        self.started_ns = machine.monotonic_ns()
        self.attached_ticks: int | None = None
        self.status_ns = 0  # a process has status and schedstat read no oftener than this
        self.peaks_from_now = False  # whether what processes held before they were taken in is no part of their peaks
        # levels of the living, kept as sums
        self.rss = 0
        self.rss_sampled: int | None = None  # in the last sample before the end
        self.threads = 0
        self.swap = 0
        self.pss = 0
        self._pss_known = 0
        self.states: dict[bytes, int] = {}
        # the schedule of what is read slowly
        self._order: list[Member] = []
        self._ids: list[int] = []
        self._clocks: list[int | None] = []
        self._again: set[Member] = set()  # to be read in the next look, whatever their clocks say
        self._grown = False
        self._leaving: set[Member] = set()
        self._claims: dict[Member, dict[Member, None]] = {}  # who is buried soon, by the parent that will show it
        self._read_ns = self.started_ns  # when the clocks were read: intervals are between these moments
        self._pss_credit = pss_credit_ns
        self._rss_more = 0  # bytes of RSS, as the last reading of PSS has seen them
        self._pss_paid_at = self.started_ns
        self._turns = 0.0
        self._next_turn = 0
        self._turned_at = self.started_ns
        self._idle: list[Member] = []
        # since the last sample
        self._ran: dict[Member, None] = {}
        self._sampled_ns: int | None = None
        self._rates: list[tuple[int, int]] = []  # moment and CPU time of the last two samples
        # for the summary
        self.samples = 0
        self.best = [0] * len(self.ledger.base)
        self.peak_rss: int | None = None
        self.peak_pss: int | None = None
        self.peak_process_rss: int | None = None
        self.peak_processes = 0
        self.peak_cores: float | None = None
        self.started = 0
        self.commands: dict[bytes, Command] = {}
        self.io_denied: set[int] = set()
        self.pss_denied: set[int] = set()
        self.peak_pss_unread = 0
        self.delay_incomplete = False
        self.maxrss_floor = 0
        self.ignores_children: set[int] = set()

    # -- beginning -----------------------------------------------------------------------------------------------

    def start(self, root: int, launcher_rss: int = 0) -> Member:
        """Take in the root that this process has just started and holds: what it used so far is no part of the job.

        `launcher_rss`: a bound of the memory of who forked it, in bytes. A child inherits that high-water mark, and
        `ru_maxrss` says nothing below it (kernel: exec_mmap). Raises `Gone` when it is not there any more.
        """
        member = self.tree.admit(root, None)
        if member is None:
            raise Gone(f"process {root} does not exist")
        self._enter(member, baseline=True)
        self.maxrss_floor = launcher_rss
        member.peak_rss = 0
        # The clock of a process that runs on another CPU is brought up to date by the scheduler's tick only (kernel:
        # thread_group_cputime): so shortly after its exec, the job may not seem to have moved.
        self._again.add(member)
        return member

    def attach(self, root: int, tracker: int | None) -> Member:
        """Take in a whole tree that runs already; totals count from now. Raises `Gone` or `Denied` for its root.

        `tracker`: the pid of this process. Who attaches to a shell may be its child, and is never of the tree. None
        where this process may be a member like any other.
        """
        machine = self.machine
        read_stat(machine, root)
        if tracker is not None:
            self.tree.add_stranger(tracker)
        self.attached_ticks = machine.boottime_ns() // machine.tick_ns
        member = self.tree.admit(root, None)
        if member is None:
            raise Gone(f"process {root} does not exist")
        found = [member, *self.tree.discover([member])]
        # an upper bound of what was before: children before their parents
        for new in reversed(found):
            self._enter(new, baseline=True)
        self.tree.members = {new.pid: new for new in found if new.alive}
        self.tree.changed = True
        self._ran = dict.fromkeys(self.tree.members.values())
        return member

    def thread_ids(self) -> list[int]:
        """The threads of all members at this moment, those that were found since the last look included."""
        members = list(self.tree.members.values())
        found = [member for member in self.tree.discover(members) if self._enter_new(member)]
        tids: list[int] = []
        for member in [*members, *found]:
            try:
                tids += read_threads(self.machine, member.pid)
            except UNREADABLE:
                continue
        return tids

    # -- one moment ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Read what there is to read now. Feeds totals and peaks; a sample is made of it by `sample`."""
        self.tick += 1
        self.files.tick = self.tick
        self._grown = False
        ran, gone = self._read_moved()
        if self._grown:
            # A parent shows the time of children it reaped, after the clock of one of them was read in this look:
            # whoever is gone by now must not count as living beside that.
            gone += [member for member in self._vanished() if member not in gone]
        for member in gone:  # before others are looked for: one of them may have been given its pid
            self.tree.remove(member)
        self._ran.update(dict.fromkeys(ran))
        while True:
            found = [member for member in self.tree.discover(ran) if self._enter_new(member)]
            if not found:
                break
            self._ran.update(dict.fromkeys(found))
            ran += found  # all of them are asked again: any may have forked since
        self._bury(gone)
        self._settle()
        self._align()
        now = self.machine.monotonic_ns()
        self._refresh_slowly(now)
        self._read_status(now)
        self._read_pss(now)
        self._note_peaks()

    def sample(self) -> dict[str, Any]:
        """`look`, and the sample of this moment as the record holds it."""
        self.look()
        now = self._read_ns
        if self.watch is not None and self.ledger.excess() > EXCESS_NS:
            self.ledger.doubtful = self.watch.doubtful_ns()
        total = self._never_fall(self.ledger.total())
        interval = None if self._sampled_ns is None else max(1, now - self._sampled_ns)
        cores = self._cores(now, max(total[CPU], self.ledger.cpu_for_rates()))
        at = round(self.machine.time(), 3)
        sample = {
            "type": "sample",
            "at": at,
            "elapsed_seconds": seconds(now - self.started_ns),
            "interval_seconds": None if interval is None else seconds(interval),
            "tree": self._tree_levels(total, cores),
        }
        sample["system"] = sample["gpus"] = None  # read by others
        sample["cgroup"] = None if self.enclosure is None else self.enclosure.sample()
        sample["top"] = self._top(interval)
        if cores is not None and interval is not None and interval * 2 >= self.interval_ns:
            self.peak_cores = max(self.peak_cores or 0.0, cores)
        self._sampled_ns = now
        self.rss_sampled = self.rss or self.rss_sampled
        self.samples += 1
        self._ran.clear()
        return sample

    def _cores(self, now: int, used: int) -> float | None:
        """CPU seconds per second since the last sample; None in the first.

        Readings lag by up to a tick of the scheduler and by the rounding of stat: an interval too short for that (the
        last one, as a rule) is taken together with the one before.
        """
        cores = None
        if self._rates:
            since, before = self._rates[-1]
            if now - since < SHORT_NS and len(self._rates) > 1:
                since, before = self._rates[-2]
            cores = round(max(0, used - before) / max(1, now - since), 4)
        self._rates = [*self._rates[-1:], (now, used)]
        return cores

    def _read_moved(self) -> tuple[list[Member], list[Member]]:
        """Read the members whose clock moved since the last look, parents first: (those that ran, those gone)."""
        tree = self.tree
        self._read_ns = self.machine.monotonic_ns()
        if tree.changed:
            self._order = list(tree.members.values())
            self._ids = [member.clock for member in self._order]
            self._clocks = [-1 if member in self._again else member.cpu for member in self._order]
            tree.changed = False
        self._again.clear()
        if self.machine.clock_gettime_ns is None:
            moved: list[tuple[Member, int | None]] = [(member, None) for member in self._order]
        else:
            clocks = self.machine.clocks(self._ids)
            self._read_ns = self.machine.monotonic_ns()
            moved = [
                (member, clock)
                for member, clock, before in zip(self._order, clocks, self._clocks, strict=True)
                if clock != before
            ]
            self._clocks = clocks
        self.read_counters()
        ran = []
        gone = []
        for member, clock in moved:
            if self._read(member, clock):
                ran.append(member)
            else:
                gone.append(member)
        return ran, gone

    def _read(self, member: Member, clock: int | None) -> bool:
        """Read the files of a member whose clock moved; False when it is gone.

        `io` before `stat`: what the one shows of a child that was just reaped, the other then shows too.
        """
        io = self._io_of(member)
        try:
            raw = self.files.stat_bytes(member, member.pid)
        except Exhausted:
            return True  # there, but not to be read now: its last reading stands
        except (Gone, Denied):
            return self._read_hidden(member, clock)
        if clock is not None and raw.startswith(member.head) and member.head is member.stat.head:
            return self._read_unchanged(member, clock, io)
        stat = parse_stat(raw)
        if stat.start != member.start or stat.state in b"Xx":
            return False
        if clock is None and self.machine.clock_gettime_ns is not None:
            return False  # no clock any more although stat reads: it ended in between
        old = member.stat
        if (
            stat.child_user != old.child_user
            or stat.child_system != old.child_system
            or stat.tree_minor_faults - stat.minor_faults != old.tree_minor_faults - old.minor_faults
            or (member.has_children and io != member.io_raw)
        ):
            self._grown = True
        member.previous_stat = old
        member.stat = stat
        self.ledger.update(member, clock, self.tick)
        self._levels(member)
        self._take_io(member, io)
        return True

    def _read_unchanged(self, member: Member, clock: int, io: bytes) -> bool:
        """It ran, and `stat` says what it said before."""
        if member.has_children and io != member.io_raw:
            self._grown = True
        member.previous_stat = member.stat
        self.ledger.update_clock(member, clock, self.tick)
        if member.state == b"Z":
            self._levels(member)  # its main thread has ended, and others may have other memory now
        self._take_io(member, io)
        return True

    def _read_hidden(self, member: Member, clock: int | None) -> bool:
        """No `stat` for a member: False when it is gone.

        Under hidepid a process that became another user's has no files any more, unless they were kept open, while
        its clock still reads.
        """
        if clock is not None:  # it may have ended since
            clock = self.machine.clocks([member.clock])[0]
        if clock is None or member.stat_fd >= 0 or clock < member.cpu:
            return False
        member.previous_stat = member.stat
        self.ledger.update(member, clock, self.tick)
        return True

    def _io_of(self, member: Member) -> bytes:
        """The bytes of its `io`; empty when they cannot be read."""
        try:
            return self.files.io(member, member.pid)
        except (Gone, Exhausted):
            return b""
        except Denied:
            self.io_denied.add(member.pid)
            return b""

    def _take_io(self, member: Member, raw: bytes) -> None:
        member.previous_io = member.io
        if raw and raw != member.io_raw:
            member.io_raw = raw
            self.ledger.update_io(member, parse_io(raw))

    def _levels(self, member: Member) -> None:
        """The levels of a member from its new `stat`."""
        stat = member.stat
        member.head = stat.head
        rss = stat.rss * self.machine.page_size
        if stat.state == b"Z" and stat.threads > 1:
            rss = self._rss_without_leader(member)
        if rss != member.rss:
            self.rss += rss - member.rss
            member.rss = rss
            if rss > member.peak_rss:
                member.peak_rss = rss
        if stat.threads != member.threads:
            self.threads += stat.threads - member.threads
            member.threads = stat.threads
        if stat.state != member.state:
            states = self.states
            states[member.state] = states.get(member.state, 0) - 1
            states[stat.state] = states.get(stat.state, 0) + 1
            member.state = stat.state
            if member.ended:
                self._forget_memory(member)
        if stat.comm != member.command:
            member.command = stat.comm
            self.commands.setdefault(stat.comm, Command())
        if stat.ppid != member.ppid:
            self.tree.relink(member, stat.ppid)

    def _forget_memory(self, member: Member) -> None:
        """A process that ended has no memory any more, also while it is a zombie."""
        self.swap -= member.swap or 0
        member.swap = None
        if member.pss is not None:
            self.pss -= member.pss
            self._pss_known -= 1
            member.pss = None

    def _rss_without_leader(self, member: Member) -> int:
        """The main thread has ended and others live on: its `stat` shows no memory, that of a living thread does."""
        try:
            tid = self._living_thread(member)
            return member.rss if tid is None else _thread_rss(self.machine, member.pid, tid)
        except UNREADABLE:
            return member.rss

    def _living_thread(self, member: Member) -> int | None:
        return next((tid for tid in read_threads(self.machine, member.pid) if tid != member.pid), None)

    # -- who comes and who goes ----------------------------------------------------------------------------------

    def _enter_new(self, member: Member) -> bool:
        before = self.attached_ticks is not None and member.start < self.attached_ticks
        return self._enter(member, baseline=before)

    def _enter(self, member: Member, *, baseline: bool) -> bool:
        """The first reading of a new member; False when it is gone already."""
        machine = self.machine
        clock: int | None = None
        if machine.clock_gettime_ns is not None:
            clock = machine.clocks([member.clock])[0]
        try:
            stat = self.files.stat(member, member.pid)
        except Exhausted:
            stat = member.stat  # there, but not to be read now: what it was found by stands
        except UNREADABLE:
            stat = None
        if stat is None or stat.start != member.start or (clock is None and machine.clock_gettime_ns is not None):
            self.tree.remove(member)
            return False
        member.stat = stat
        self.started += 1
        self.ledger.enter(member, clock, baseline=baseline)
        member.cpu_sampled = member.cpu_base
        member.moved_tick = self.tick
        self.states[b"?"] = self.states.get(b"?", 0) + 1
        self._levels(member)
        self._take_io(member, self._io_of(member))
        if baseline:
            self.ledger.rebase_io(member)
            self._read_waiting(member, machine.monotonic_ns())
            self.ledger.rebase_waiting(member)
            if self.peaks_from_now:
                member.peak_base, member.peak_rss = member.peak_rss, member.rss
        elif member.parent is not None:
            member.peak_base = member.parent.peak_base  # between vfork(2) and exec it is in its parent's memory
        return True

    def _bury(self, gone: list[Member]) -> None:
        for member in gone:
            self.tree.remove(member)
        self._relink_children(gone)
        self._leaving = set(gone)
        self._claims = {}
        for member in gone:
            if member.parent is not None and member.parent.alive:
                self._claims.setdefault(member.parent, {})[member] = None
        for member in sorted(gone, key=_depth, reverse=True):  # children first
            self._leaving.discard(member)
            if member.parent in self._claims:
                del self._claims[member.parent][member]
            self._leave(member, None)

    def _reaper_of(self, member: Member) -> Member | None:
        """Which surviving ancestor reaped it: the nearest, or, if its parent ended too, one whose growth can show it.

        Between the two may stand one that is no subreaper: what an orphan used then shows further up.
        """
        parent = member.parent
        if parent is not None and parent in self._leaving and self._can_show(parent, member):
            return parent  # its last reading shows what it had reaped
        nearest = candidate = self.tree.ancestor(member)
        if member.parent is not nearest:
            while candidate is not None:
                if self._can_show(candidate, member):
                    return candidate
                candidate = self.tree.ancestor(candidate)
        return nearest

    def _can_show(self, ancestor: Member, member: Member) -> bool:
        return self.ledger.can_show(ancestor, member, self.tick, self._claims.get(ancestor, ()))

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
        orphan_of_ours = self.own is not None
        self.ledger.bury(member, ancestor, self.tick, by_us=orphan_of_ours)
        self.rss -= member.rss
        self.threads -= member.threads
        self._forget_memory(member)
        self.states[member.state] -= 1
        self._ran.pop(member, None)
        self._note_process_rss(member.peak_rss)
        self._count_command(member)
        self._write_process(member, exit_code, ended=True)

    def _settle(self) -> None:
        """Read the ancestors of vanished members again, and see what their growth shows.

        Until nobody more is found to have vanished: who is gone by then hands on what waits for it.
        """
        vanished = True
        while vanished:
            self._grown = False
            waiting = [member for member in self.ledger.unsettled(self.tick) if not self.ledger.is_settled(member)]
            gone = [member for member in waiting if not self._reread(member)]
            if self._grown:
                # whoever was reaped since the first reading of this look must not count as living beside that
                gone += [member for member in self._vanished() if member not in gone]
            self._bury(gone)
            vanished = bool(gone)
        for ancestor in self.ledger.unsettled(self.tick):
            self.ledger.settle(ancestor)
        if self.own is not None:
            self.ledger.settle_reaped()

    def _align(self) -> None:
        """Bring every clock to one moment again, where this process was kept from running while it read.

        Beside many busy processes that takes long enough for a sample to show more cores than there are: what was
        read last then contains time that the moment of the clocks does not.
        """
        machine = self.machine
        if machine.clock_gettime_ns is None:
            return
        begun = self._read_ns
        for _ in range(ALIGN_AT_MOST):
            now = machine.monotonic_ns()
            if now - begun < self.interval_ns * SPREAD:
                return
            begun = now
            members = list(self.tree.members.values())
            for member, clock in zip(members, machine.clocks([member.clock for member in members]), strict=True):
                if clock is not None and clock > member.cpu:
                    self.ledger.correct(member, clock)
                    self._again.add(member)
            self._read_ns = machine.monotonic_ns()
            self.read_counters()

    def read_counters(self) -> None:
        """What perf and its own cgroup say at this moment."""
        if self.watch is not None:
            self.ledger.counted = self.watch.read()
        if self.enclosure is not None:
            self.ledger.enclosed = self.enclosure.used_ns()
            self.ledger.left = self.enclosure.left is not None

    def _reread(self, member: Member) -> bool:
        """A second reading in one look; the one before this look stays the previous one."""
        clock = self.machine.clocks([member.clock])[0]
        previous, previous_io, moved = member.previous_stat, member.previous_io, member.moved_tick
        if not self._read(member, clock):
            return False
        if moved == self.tick:
            member.previous_stat, member.previous_io = previous, previous_io
        self._again.add(member)  # what it forked since it was asked for children is still to be found
        return True

    def _vanished(self) -> list[Member]:
        """Members that are gone at this moment, wherever in the tree."""
        members = list(self.tree.members.values())
        if self.machine.clock_gettime_ns is None:
            return [member for member in members if not self._still_there(member)]
        clocks = self.machine.clocks([member.clock for member in members])
        return [
            member
            for member, clock in zip(members, clocks, strict=True)
            if clock is None or (clock != member.cpu and not self._still_there(member))  # its pid may be another's
        ]

    def _bury_vanished(self) -> None:
        """Who is gone at this moment, between two looks: each below the ancestor whose growth since then shows it."""
        gone = self._vanished()
        if not gone:
            return
        self.tick += 1
        self.files.tick = self.tick
        for ancestor in {ancestor: None for member in gone for ancestor in _ancestors(member)}:
            if ancestor not in gone and ancestor.alive and not self._reread(ancestor):
                gone.append(ancestor)
        self._bury(gone)

    def _still_there(self, member: Member) -> bool:
        try:
            stat = self.files.stat(member, member.pid)
        except Exhausted:
            return True
        except (Gone, Denied):
            return False
        return stat.start == member.start and stat.state not in b"Xx"

    # -- reaping (run) -------------------------------------------------------------------------------------------

    def ended(self, pid: int) -> Member | Stranger | None:
        """A child of this process ended and is still a zombie: its last reading. None when it could not be read."""
        self.tree.lost = True
        member = self.tree.members.get(pid)
        if member is not None and not self._still_there(member):  # its pid was given to another
            self._bury([member])
            member = None
        if member is None:
            if self.tree.is_stranger(pid):
                return STRANGER
            member = self.tree.admit(pid, None)
            if member is None or not self._enter(member, baseline=False):
                return None
            return member
        if member.has_children:
            # whom it reaped before its end must not count as living beside its last reading, which shows them
            self._bury_vanished()
        self._reread(member)
        self.ledger.settle(member)
        return member

    def reaped(self, member: Member | Stranger | None, exit_code: int, usage: Any, io: list[int] | None) -> None:
        """That child was reaped with this resource usage and I/O; a stranger's is not counted.

        `exit_code`: its exit status, or minus the number of the signal that ended it.
        """
        if isinstance(member, Stranger):
            return
        if member is None:
            self.started += 1
        else:
            own = round((usage.ru_utime + usage.ru_stime) * 1e9)
            if not member.has_children and not member.stat.child_user and not member.stat.child_system:
                self._exact_end(member, own)
            self.tree.remove(member)
            self._leave(member, exit_code, reaped=True)
        self.ledger.reap(usage)
        if io is not None:
            self.ledger.reap_io(io)
        if usage.ru_maxrss * 1024 > self.maxrss_floor:
            self._note_process_rss(usage.ru_maxrss * 1024)

    def gap_ended(self) -> None:
        """The job was stopped and goes on: the time between belongs to no interval."""
        self.look()
        self._sampled_ns = self._read_ns
        used = self._never_fall(self.ledger.total())[CPU]
        self._rates = [(self._read_ns, max(used, self.ledger.cpu_for_rates()))]

    def _exact_end(self, member: Member, own: int) -> None:
        """One without children: what wait4 says is its own time, to the end."""
        self.ledger.correct(member, max(own, member.cpu))

    # -- the slow pace -------------------------------------------------------------------------------------------

    def _refresh_slowly(self, now: int) -> None:
        """Members that did not run: some at each look, so that each has its turn once in ten seconds."""
        count = len(self._order)
        self._turns += min(now - self._turned_at, REFRESH_NS) * count / REFRESH_NS
        self._turned_at = now
        turns = int(self._turns)
        self._turns -= turns
        idle = []
        for place in range(self._next_turn, self._next_turn + turns):
            member = self._order[place % count]
            if member.alive and member.moved_tick != self.tick:
                self._refresh(member)
                idle.append(member)
        self._next_turn = (self._next_turn + turns) % count if count else 0
        self._idle = idle

    def _refresh(self, member: Member) -> None:
        try:
            raw = self.files.stat_bytes(member, member.pid)
        except UNREADABLE:
            return
        if raw.startswith(member.head):
            return
        stat = parse_stat(raw)
        if stat.start == member.start:
            previous, member.stat = member.stat, stat
            self._levels(member)
            member.stat = previous

    def _read_status(self, now: int) -> None:
        """Swap, the high-water mark, switches and run delay of some members that ran, the longest unread first."""
        before = now - self.status_ns
        due = [member for member in self._ran if member.alive and member.refreshed_at <= before]
        if len(due) > STATUS_PER_TICK:
            due.sort(key=_refreshed_at)
            del due[STATUS_PER_TICK:]
        for member in due:
            self._read_waiting(member, now)

    def _read_waiting(self, member: Member, now: int) -> None:
        member.refreshed_at = now
        try:
            status = read_status(self.machine, member.pid)
            delays = None
            if member.threads <= THREADS_PER_STATUS:
                delays = read_run_delay(self.machine, member.pid, member.threads)
            else:
                self.delay_incomplete = True
        except UNREADABLE:
            return
        if status.ignores_child_signal:
            self.ignores_children.add(member.pid)
        swap = status.swap_bytes
        if swap is not None:
            self.swap += swap - (member.swap or 0)
            member.swap = swap
        peak = status.peak_rss_bytes
        if peak is not None:
            if peak < member.peak_base:
                member.peak_base = 0  # the mark of another address space: it has executed something
            if peak > max(member.peak_rss, member.peak_base):
                member.peak_rss = peak
        self.ledger.update_waiting(member, status.context_switches, delays)

    # -- PSS -----------------------------------------------------------------------------------------------------

    def _read_pss(self, now: int) -> None:
        """PSS of members whose RSS moved or whose reading is old, within a share of one core.

        Reading walks page tables under the target's mmap lock: it is paid from an account that fills with time.
        """
        self._rss_more = 0
        self._pss_credit = min(
            self._pss_credit + int((now - self._pss_paid_at) * self.pss_budget), max(PSS_BURST_NS, self._pss_credit)
        )
        self._pss_paid_at = now
        self._pss_urgent = self.pss_wanted_above is not None and self.memory_estimate() > self.pss_wanted_above
        if self._pss_credit <= 0 and not self._pss_urgent:
            return
        due = [member for member in self._ran if self._pss_due(member, now)]
        idle = [member for member in self._idle if member not in self._ran and self._pss_due(member, now)]
        due += idle[: -(-len(self._idle) // 8)]
        due.sort(key=_pss_at)
        old = 0
        for member in due:
            if self._pss_credit <= 0 and not self._pss_urgent:
                break
            if member.rss == member.pss_rss:
                old += 1
                if old > PSS_OLD_PER_TICK:
                    continue
            self._pss_credit -= self._read_pss_of(member)

    def _pss_due(self, member: Member, now: int) -> bool:
        if member.ended or (now < member.pss_not_before and not (self._pss_urgent and member.rss != member.pss_rss)):
            return False
        if member.rss == 0 or member.pid in self.pss_denied:
            return False
        if member.pss is None or member.rss != member.pss_rss:
            return True
        return now - member.pss_at > (REFRESH_NS if member in self._ran else PSS_IDLE_NS)

    def _read_pss_of(self, member: Member) -> int:
        """Read one; the nanoseconds it took."""
        clock = self.machine.monotonic_ns
        begun = clock()
        try:
            tid = self._living_thread(member) if member.state == b"Z" else None
            pss = read_pss(self.machine, member.pid, tid)
        except (Gone, Exhausted):
            return clock() - begun
        except Denied:
            self.pss_denied.add(member.pid)
            return clock() - begun
        done = clock()
        cost = done - begun
        if pss is None:
            member.pss_not_before = done + NANOSECONDS
        else:
            self.pss += pss - (member.pss or 0)
            self._pss_known += member.pss is None
            if pss > member.rss:  # it has grown since its RSS was read
                self._rss_more += pss - member.rss
                member.peak_rss = max(member.peak_rss, pss)
            member.pss = pss
            member.pss_rss = member.rss
            member.pss_at = done
            if self.pss_budget > 0:
                member.pss_not_before = done + int(cost / self.pss_budget) // 8
            if cost > STALL_NS:
                member.pss_not_before = max(member.pss_not_before, done + STALL_PAUSE_NS)
        return cost

    def memory_estimate(self) -> int:
        """Bytes: the last PSS of each process and by how much its RSS has grown since; where PSS is unread, RSS."""
        used = 0
        for member in self.tree.members.values():
            if not member.ended:
                used += member.rss if member.pss is None else member.pss + max(0, member.rss - member.pss_rss)
        return used

    def cpu_seconds(self) -> float:
        """CPU time of the tree by the last look."""
        return seconds(self._never_fall(self.ledger.total())[CPU])

    @property
    def read_ns(self) -> int:
        """The moment of the last look, by the monotonic clock."""
        return self._read_ns

    # -- what a sample says --------------------------------------------------------------------------------------

    def _pss_unread(self) -> int:
        """Processes with memory whose PSS is not in the sum."""
        return sum(1 for member in self.tree.members.values() if member.pss is None and member.rss)

    def _note_peaks(self) -> None:
        if self.rss + self._rss_more > (self.peak_rss or 0):
            self.peak_rss = self.rss + self._rss_more
        if len(self.tree.members) > self.peak_processes:
            self.peak_processes = len(self.tree.members)
        if self.pss > (self.peak_pss or 0):
            self.peak_pss = self.pss
            self.peak_pss_unread = self._pss_unread()

    def _note_process_rss(self, rss: int) -> None:
        if rss and (self.peak_process_rss is None or rss > self.peak_process_rss):
            self.peak_process_rss = rss

    def close(self) -> None:
        """Give every descriptor back."""
        self.files.close_all()

    def _never_fall(self, total: list[int]) -> list[int]:
        self.best = [max(before, now) for before, now in zip(self.best, total, strict=True)]
        return self.best

    def _tree_levels(self, total: list[int], cores: float | None) -> dict[str, Any]:
        unread = self._pss_unread()
        age = None
        if self._pss_known:
            oldest = min(member.pss_at for member in self.tree.members.values() if member.pss is not None)
            age = round((self.machine.monotonic_ns() - oldest) / NANOSECONDS, 1)
        io: list[int | None] = list(total[IO:]) if self.ledger.io_known else [None] * 7
        levels = {
            "cpu_seconds": seconds(total[CPU]),
            "cpu_user_seconds": seconds(total[USER]),
            "cpu_system_seconds": seconds(total[SYSTEM]),
            "cpu_cores": cores,
            "processes": len(self.tree.members),
            "threads": self.threads,
            "running": self.states.get(b"R", 0),
            "disk_sleep": self.states.get(b"D", 0),
            "run_delay_seconds": seconds(total[DELAY]),
            "rss_bytes": self.rss,
            "pss_bytes": self.pss if self._pss_known or not unread else None,
            "pss_age_seconds": age,
            "swap_bytes": self.swap,
            "read_bytes": io[4],
            "write_bytes": io[5],
            "cancelled_write_bytes": io[6],
            "read_chars": io[0],
            "write_chars": io[1],
            "read_syscalls": io[2],
            "write_syscalls": io[3],
            "minor_faults": total[MINOR],
            "major_faults": total[MAJOR],
            "context_switches": total[SWITCHES],
            "throttled_seconds": self._throttled(),
        }
        if unread:
            levels["pss_unread"] = unread
        if self.io_denied:
            levels["io_unread"] = len(self.io_denied)
        return levels

    def _throttled(self) -> float | None:
        throttled = None if self.enclosure is None else self.enclosure.throttled()
        return None if throttled is None or throttled.throttled_ns is None else seconds(throttled.throttled_ns)

    def _top(self, interval: int | None) -> list[dict[str, Any]]:
        """The processes with the most CPU time in the interval, then those with the most memory."""
        members = [member for member in self._ran if member.alive]
        members.sort(key=_cpu_since_sample, reverse=True)
        del members[TOP:]
        if len(members) < TOP and len(self.tree.members) > len(members):
            rest = [member for member in self.tree.members.values() if member not in members]
            members += sorted(rest, key=_rss, reverse=True)[: TOP - len(members)]
        top = []
        for member in members:
            cores = None if interval is None else round((member.cpu - member.cpu_sampled) / interval, 3)
            top.append(
                {"pid": member.pid, "command": text(member.command), "cpu_cores": cores, "rss_bytes": member.rss}
            )
        for member in self._ran:
            member.cpu_sampled = member.cpu
        return top

    # -- processes and commands ----------------------------------------------------------------------------------

    def _count_command(self, member: Member) -> None:
        command = self.commands.setdefault(member.command, Command())
        command.processes += 1
        command.cpu_ns += member.cpu - member.cpu_base
        begun = max(member.start, self.attached_ticks or 0) * self.machine.tick_ns
        command.wall_ns += max(0, self.machine.boottime_ns() - begun)
        command.peak_rss = max(command.peak_rss, member.peak_rss)

    def _write_process(self, member: Member, exit_code: int | None, *, ended: bool) -> None:
        if self.emit is None or self.process_lines <= 0:
            return
        self.process_lines -= 1
        machine = self.machine
        io = member.io
        self.emit(
            {
                "type": "process",
                "pid": member.pid,
                "start": member.start,
                "parent": member.ppid,
                "command": text(member.command),
                "started_at": round(machine.start_unix(member.start), 2),
                "ended_at": round(machine.time(), 3) if ended else None,
                "cpu_seconds": seconds(member.cpu - member.cpu_base),
                "peak_rss_bytes": member.peak_rss or None,
                "read_bytes": None if io is None else io[4],
                "write_bytes": None if io is None else io[5],
                "exit": exit_code,
            }
        )

    def largest_commands(self) -> list[dict[str, Any]]:
        """The commands that were seen, by the CPU time of their own processes."""
        found = sorted(self.commands.items(), key=_cpu_of_command, reverse=True)
        return [
            {
                "command": text(name),
                "processes": command.processes,
                "cpu_seconds": seconds(command.cpu_ns),
                "teardown_seconds": 0.0,
                "wall_seconds": seconds(command.wall_ns),
                "peak_rss_bytes": command.peak_rss or None,
            }
            for name, command in found
            if command.processes
        ]

    def io_missing(self) -> int:
        """Processes whose I/O is denied, and not in the totals: whom we reap, all that they did is counted then."""
        return len(self.io_denied if self.own is None else self.io_denied & self.tree.members.keys())

    def memory_coverage(self) -> str:
        """What the peaks of memory may not contain, in words."""
        said = ["peaks as sampled; the largest process by its high-water mark"]
        if self.own is None:
            said[0] += " as last read"
        if self.peak_process_rss is None and self.maxrss_floor:
            said = [f"too short to be sampled; the largest process had at most {self.maxrss_floor} bytes"]
        if self.pss_denied:
            said.append(f"PSS of {len(self.pss_denied)} processes is denied")
        elif self.peak_pss_unread:
            said.append(f"PSS of {self.peak_pss_unread} processes had not been read at the peak")
        if self.delay_incomplete:
            said.append("run delay of processes with very many threads is left out")
        return "; ".join(said)

    def finish(self) -> int:
        """The lines of those that are still there; how many of them live on (a zombie does not)."""
        for member in self.tree.members.values():
            self._note_process_rss(member.peak_rss)
            self._count_command(member)
            self._write_process(member, None, ended=member.ended)
        return sum(not member.ended for member in self.tree.members.values())


def _thread_rss(machine: Machine, pid: int, tid: int) -> int:
    return parse_stat(machine.read(f"{pid}/task/{tid}/stat")).rss * machine.page_size


def _ancestors(member: Member) -> Iterator[Member]:
    """Its parent, and theirs, as far as they are known; gone or not."""
    parent = member.parent
    while parent is not None:
        yield parent
        parent = parent.parent


def _depth(member: Member) -> int:
    return sum(1 for _ in _ancestors(member))


def _refreshed_at(member: Member) -> int:
    return member.refreshed_at


def _pss_at(member: Member) -> int:
    return member.pss_at


def _rss(member: Member) -> int:
    return member.rss


def _cpu_of_command(item: tuple[bytes, Command]) -> int:
    return item[1].cpu_ns


def _cpu_since_sample(member: Member) -> int:
    return member.cpu - member.cpu_sampled
