"""The files of members: what each has used goes to the ledger, and their levels are summed over the living.

Only members that ran are read, and some others at a slow pace.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE, AccessDenied, NoProcfs, ProcessGone
from proctally.linux.proc import parse_io, parse_stat, read_run_delay, read_status, read_threads
from proctally.record.codes import IO_DENIED, IO_UNREADABLE
from proctally.tree.member import UNREAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.proc import Stat
    from proctally.tree.commands import Commands
    from proctally.tree.guards import KillGuard
    from proctally.tree.hidden import Hidden
    from proctally.tree.ledger import Ledger
    from proctally.tree.member import Member, ScanState
    from proctally.tree.membership import Membership
    from proctally.tree.memory_guard import MemoryGuard

STATUS_PER_TICK = 10  # maximum of processes with status and schedstat read in one sample, the longest unread first
THREADS_PER_STATUS = 256  # a process with more threads has no run delay


class Readings:
    """Reads members, and keeps the levels of the living as sums.

    `with_children`: whether CPU time and faults of a member have those of the children that it waited for.
    """

    def __init__(
        self,
        tree: Membership,
        ledger: Ledger,
        state: ScanState,
        commands: Commands,
        memory: MemoryGuard,
        kills: KillGuard,
        *,
        with_children: bool = True,
    ) -> None:
        self.machine = tree.machine
        self.files = tree.files
        self.tree = tree
        self.ledger = ledger
        self.state = state
        self.commands = commands
        self.memory = memory
        self.kills = kills
        self.with_children = with_children
        self.rss = 0
        self.threads = 0
        self.swap = 0
        self.states: dict[bytes, int] = {}
        self.io_unread: dict[int, str] = {}  # why `io` could not be read, by pid
        self.delay_incomplete = False
        self.ignores_children: set[int] = set()

    # -- members that ran ----------------------------------------------------------------------------------------

    def read_all(self, moved: list[tuple[Member, int | None]]) -> tuple[list[Member], list[Member]]:
        """Read the members whose clocks moved. Returns those that ran, and those that are gone."""
        ran = []
        gone = []
        read = self.read
        for member, clock in moved:
            if read(member, clock):
                ran.append(member)
            else:
                gone.append(member)
        return ran, gone

    def read(self, member: Member, clock: int | None) -> bool:
        """Read the files of a member whose clock moved; False when it is gone.

        `io` before `stat`: what the one shows of a child that was just reaped, the other then shows too.
        """
        io = self._io_of(member)
        try:
            raw = self.files.stat_bytes(member, member.pid)
            is_unchanged = raw.startswith(member.head) and member.head is member.stat.head
            stat = member.stat if is_unchanged else parse_stat(raw)
        except ProcessGone:
            return member.stat_fd < 0 and self._read_hidden(member, clock)
        except UNREADABLE:
            return self._read_hidden(member, clock) or self.machine.clock_gettime_ns is None
        if self.tree.hidden is not None and (clock is None or clock >= member.cpu):
            self._see_hidden(self.tree.hidden, member, stat)
        if clock is not None and is_unchanged:
            return self._read_unchanged(member, clock, io)
        if stat.start != member.start or stat.state in b"Xx":
            return False
        if clock is None and self.machine.clock_gettime_ns is not None:
            return False  # its clock is gone although stat reads: it exited in between
        if not self.with_children:
            _leave_out_children(stat)
        old = member.stat
        if (
            stat.child_user != old.child_user
            or stat.child_system != old.child_system
            or stat.tree_minor_faults - stat.minor_faults != old.tree_minor_faults - old.minor_faults
            or (member.has_children and io != member.io_raw)
        ):
            self.state.grown = True
        member.previous_stat = old
        member.stat = stat
        reading = self.memory.reading
        if reading is not None:
            self.memory.call(reading.read_moved, member, raw)
        self.ledger.update(member, clock, self.state.tick)
        self._take_levels(member)
        self._take_io(member, io)
        return True

    def _read_unchanged(self, member: Member, clock: int, io: bytes) -> bool:
        """It ran, and `stat` says what it said before."""
        if member.has_children and io != member.io_raw:
            self.state.grown = True
        member.previous_stat = member.stat
        self.ledger.update_clock(member, clock, self.state.tick)
        if member.state == b"Z":
            self._take_levels(member)  # its main thread has ended, and others may have other memory now
        self._take_io(member, io)
        return True

    def _read_hidden(self, member: Member, clock: int | None) -> bool:
        """No `stat` for a member: False when it is gone.

        Under hidepid a process that became another user's has no files, unless they were kept open, while its clock
        still reads. So it does where a security module or an error refuses `stat` alone.
        """
        if clock is not None:  # it may have ended since
            clock = self._clock_of(member)
        if clock is None:
            return False
        member.previous_stat = member.stat
        self.ledger.update(member, clock, self.state.tick)
        member.has_children |= self.tree.note_hidden(member.pid)  # whether it has some is unknown from now on
        return True

    def _clock_of(self, member: Member) -> int | None:
        """Return its CPU clock; None where it is gone, also where another process with less CPU time has its pid."""
        clock = self.machine.clocks([member.clock])[0]
        return None if clock is None or clock < member.cpu else clock

    def _see_hidden(self, hidden: Hidden, member: Member, stat: Stat) -> None:
        """Take in a member that can be read; where it could not be when it entered, its identity is known now."""
        hidden.forget(member.pid)
        if member.stat.state == UNREAD:
            member.start = stat.start
            if member.cpu_base:  # what it used before tracking began is in these counters
                member.stat = stat

    def reread(self, member: Member) -> bool:
        """Read a member again in one scan; the reading before this scan stays the previous one."""
        clock = self.machine.clocks([member.clock])[0]
        previous, previous_io, moved = member.previous_stat, member.previous_io, member.moved_tick
        if not self.read(member, clock):
            return False
        if moved == self.state.tick:
            member.previous_stat, member.previous_io = previous, previous_io
        self.state.again.add(member)  # children that it forked since the search are still unknown
        return True

    def first(self, member: Member) -> Stat | None:
        """Return the first `stat` of a new member; None when it is gone already."""
        try:
            stat = self.files.stat(member, member.pid)
        except ProcessGone:
            return None if self.tree.hidden is None or member.pid not in self.tree.hidden else member.stat
        except UNREADABLE:
            stat = member.stat  # there, but not readable now: the reading that found it is valid
        if not self.with_children:
            _leave_out_children(stat)
        return stat

    # -- members that enter and leave ------------------------------------------------------------------------------

    def enter(self, member: Member) -> None:
        """Read the levels of a new member, and its `io`."""
        self.states[UNREAD] = self.states.get(UNREAD, 0) + 1
        self._take_levels(member)
        self._take_io(member, self._io_of(member))

    def leave(self, member: Member) -> None:
        """Take the levels of a member that is gone out of the sums."""
        self.rss -= member.rss
        self.threads -= member.threads
        self._forget_memory(member)
        self.states[member.state] -= 1

    def is_there(self, member: Member) -> bool:
        """Return whether a member exists still, as a zombie at least."""
        try:
            stat = self.files.stat(member, member.pid)
        except ProcessGone:
            return member.stat_fd < 0 and self._clock_of(member) is not None  # hidden
        except UNREADABLE:
            return self._clock_of(member) is not None or self.machine.clock_gettime_ns is None
        return stat.start == member.start and stat.state not in b"Xx"

    def vanished(self) -> list[Member]:
        """Return the members that are gone at this moment, anywhere in the tree.

        Where the clock reads as before, a zombie might still be in state X: its parent shows its time already, while
        its pid is not released yet (kernel: wait_task_zombie, release_task).
        """
        members = list(self.tree.members.values())
        if self.machine.clock_gettime_ns is None:
            return [member for member in members if not self.is_there(member)]
        clocks = self.machine.clocks([member.clock for member in members])
        return [
            member
            for member, clock in zip(members, clocks, strict=True)
            if clock is None  # otherwise its pid may be another's
            or ((clock != member.cpu or member.state == b"Z") and not self.is_there(member))
        ]

    # -- levels and I/O ------------------------------------------------------------------------------------------

    def _io_of(self, member: Member) -> bytes:
        """The bytes of its `io`; empty when they cannot be read."""
        try:
            return self.files.io(member, member.pid)
        except (ProcessGone, NoProcfs):
            pass
        except AccessDenied:
            self._miss_io(member, IO_DENIED)
        except OSError:
            self._miss_io(member, IO_UNREADABLE)
        return b""

    def _miss_io(self, member: Member, code: str) -> None:
        if member.io is None:
            self.io_unread[member.pid] = code

    def _take_io(self, member: Member, raw: bytes) -> None:
        member.previous_io = member.io
        if raw and raw != member.io_raw:
            try:
                self.ledger.update_io(member, parse_io(raw))
            except ValueError:
                self._miss_io(member, IO_UNREADABLE)
                return
            self.io_unread.pop(member.pid, None)
            member.io_raw = raw

    def _take_levels(self, member: Member) -> None:
        """The levels of a member from its new `stat`."""
        stat = member.stat
        member.head = stat.head
        rss = stat.rss * self.machine.page_size
        if stat.state == b"Z" and stat.threads > 1:
            rss = self._rss_without_leader(member)
        if rss != member.rss:
            self.rss += rss - member.rss
            member.rss = rss
            self.memory.forget_pss(member)
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
                self.kills.note_zombie(member)
        if stat.comm != member.command:
            member.command = stat.comm
            self.commands.add(stat.comm)
        if stat.ppid != member.ppid:
            self.tree.relink(member, stat.ppid)

    def _forget_memory(self, member: Member) -> None:
        """Take out the memory of a process that exited: a zombie has none."""
        self.memory.leave(member)
        self.swap -= member.swap or 0
        member.swap = None

    def _rss_without_leader(self, member: Member) -> int:
        """The main thread has ended and others live on: its `stat` shows no memory, that of a living thread does."""
        pid = member.pid
        try:
            tid = next((tid for tid in read_threads(self.machine, pid) if tid != pid), None)
            if tid is None:
                return member.rss
            return parse_stat(self.machine.read(f"{pid}/task/{tid}/stat")).rss * self.machine.page_size
        except UNREADABLE:
            return member.rss

    # -- the slow pace -------------------------------------------------------------------------------------------

    def refresh(self, idle: list[Member]) -> None:
        """Read the levels of members that did not run: others can change them."""
        for member in idle:
            self._refresh(member)
        self.state.idle = idle

    def _refresh(self, member: Member) -> None:
        try:
            raw = self.files.stat_bytes(member, member.pid)
            if raw.startswith(member.head):
                return
            stat = parse_stat(raw)
        except UNREADABLE:
            return
        if stat.start == member.start:
            previous, member.stat = member.stat, stat
            self._take_levels(member)
            member.stat = previous

    def read_status(self, now: int, pace_ns: int, *, delays: bool) -> None:
        """Read `status` of some members that ran, the longest unread first; of each once in `pace_ns` at most."""
        before = now - pace_ns
        due = [member for member in self.state.ran if member.alive and member.refreshed_at <= before]
        if len(due) > STATUS_PER_TICK:
            due.sort(key=_refreshed_at)
            del due[STATUS_PER_TICK:]
        for member in due:
            self.read_waiting(member, now, delays=delays)

    def read_waiting(self, member: Member, now: int, *, delays: bool) -> None:
        """Read swap, the high-water mark, and switches; with `delays` the run delay of each thread.

        Without, the run delay comes with the parts of time.
        """
        member.refreshed_at = now
        try:
            self.ledger.update_waiting(member, None, self._run_delays(member) if delays else None)
        except UNREADABLE:
            pass
        try:
            status = read_status(self.machine, member.pid)
        except UNREADABLE:
            return
        if status.ignores_child_signal:
            self.ignores_children.add(member.pid)
            self.ledger.cpu.ignored = True
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
        self.ledger.update_waiting(member, status.context_switches, None)

    def _run_delays(self, member: Member) -> dict[int, int] | None:
        is_huge = member.threads > THREADS_PER_STATUS
        self.delay_incomplete = self.delay_incomplete or is_huge
        return read_run_delay(self.machine, member.pid, 1 if is_huge else member.threads)


def _leave_out_children(stat: Stat) -> None:
    stat.child_user = stat.child_system = 0
    stat.tree_minor_faults, stat.tree_major_faults = stat.minor_faults, stat.major_faults


def _refreshed_at(member: Member) -> int:
    return member.refreshed_at
