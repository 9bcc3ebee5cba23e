"""The parts of tracking that start after the first moments of a job, and whose errors cost their own figures alone.

A job of a few milliseconds is not delayed by them, and does not load them.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from proctally.record import JsonObject
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.kills import Kills
    from proctally.tree.ledger import Ledger
    from proctally.tree.member import Member, ScanState
    from proctally.tree.membership import Membership
    from proctally.tree.memory_scan import MemoryScan
    from proctally.tree.time_scan import TimeScan

    T = TypeVar("T")

TIME_AFTER_NS = 15_000_000  # the threads of a run are not read before ...
TIME_OF_ENDED_NS = 100_000_000  # ... nor after the end of one that took less: it has no parts of time


class Guard:
    """A part of the tracking. `reader`: None before it starts; `fault`: the error of proctally that ended it."""

    def __init__(self, tree: Membership, state: ScanState, enclosure: Enclosure | None, *, is_wanted: bool) -> None:
        self.machine = tree.machine
        self.files = tree.files
        self.tree = tree
        self.state = state
        self.enclosure = enclosure
        self.is_wanted = is_wanted
        self.fault: Exception | None = None
        self.reader: object = None

    def call(self, call: Callable[..., T | None], *arguments: object) -> T | None:
        """Do something of this part. An error of proctally ends this part alone."""
        try:
            return call(*arguments)
        except Exception as error:
            self.stop(error)
            return None

    def stop(self, error: Exception) -> None:
        """End this part."""
        self.is_wanted = False
        self.reader = None
        self.fault = error


class TimeGuard(Guard):
    """The parts of the time of a tree: scans of its threads. `reader`: None in the first 15 ms of a run."""

    reader: TimeScan | None

    def __init__(
        self,
        tree: Membership,
        ledger: Ledger,
        state: ScanState,
        enclosure: Enclosure | None,
        *,
        is_wanted: bool,
        interval_ns: int,
    ) -> None:
        super().__init__(tree, state, enclosure, is_wanted=is_wanted and tree.machine.procfs_missing is None)
        self.ledger = ledger
        self.interval_ns = interval_ns

    def scan(self, ran: list[Member]) -> None:
        """Read the threads of members that ran."""
        if not self.is_wanted:
            return
        state = self.state
        if self.reader is None:
            elapsed_ns = state.read_ns - state.started_ns
            least_ns = TIME_AFTER_NS if self.tree.members else TIME_OF_ENDED_NS
            if not self.ledger.delay_known or (self.tree.own is not None and elapsed_ns < least_ns):
                return
            self.call(self._begin)
            ran = list(self.tree.members.values())
        if self.reader is not None:
            self.call(self.reader.scan, ran, state.read_ns)

    def _begin(self) -> None:
        from proctally.linux.threads import accounts_block_delays
        from proctally.tree.time_scan import TimeScan, kept_for_threads

        kept = kept_for_threads(self.files.limit)
        self.files.limit -= kept
        self.reader = TimeScan(
            self.machine,
            self.ledger,
            self.tree.members.values(),
            started_ns=self.state.started_ns,
            interval_ns=self.interval_ns,
            descriptors=kept,
            accounted=self.tree.own is not None and accounts_block_delays(self.machine),
            throttled=self.throttled_ns,
        )

    def throttled_ns(self) -> int | None:
        """Return the throttled time since the start; None where it is unknown."""
        throttled = None if self.enclosure is None else self.enclosure.throttled()
        return None if throttled is None else throttled.throttled_ns

    def enter(self, member: Member) -> None:
        """Take in a member that was there before tracking started."""
        if self.reader is not None:
            self.call(self.reader.enter, member)

    def end(self, member: Member) -> None:
        """Read a zombie that is about to be reaped."""
        if self.reader is not None:
            self.call(self.reader.end, member)

    def leave(self, member: Member) -> None:
        """Release the files of a member that is gone."""
        if self.reader is not None:
            self.call(self.reader.leave, member)

    def pause(self) -> None:
        """Leave out the time up to the next scan."""
        if self.reader is not None:
            self.reader.pause()

    @property
    def due_ns(self) -> int | None:
        """The monotonic clock of the next scan between two samples; None without one."""
        return None if self.reader is None else self.reader.due_ns

    def sample(self) -> JsonObject | None:
        """Return the parts so far; None where they are unknown."""
        return None if self.reader is None else self.call(self.reader.sample)

    def summary(self) -> JsonObject | None:
        """Return the parts of the wall time; None where they are unknown."""
        return None if self.reader is None else self.call(self.reader.summary)

    def gaps(self) -> list[tuple[str, int | None, float, float]]:
        """Return code, count, and bounds in nanoseconds of what the parts of the time do not know."""
        found = None if self.reader is None else self.call(self.reader.gaps)
        return [(gap.code, gap.count, gap.low_ns, gap.high_ns) for gap in found or ()]

    def close(self) -> None:
        """Close all files."""
        if self.reader is not None:
            self.reader.close()


class KillGuard(Guard):
    """The OOM kills and signals that end members. `reader`: None before there is something to count.

    Without an enclosure nothing is counted.
    """

    reader: Kills | None

    def __init__(self, tree: Membership, state: ScanState, enclosure: Enclosure | None) -> None:
        super().__init__(tree, state, enclosure, is_wanted=enclosure is not None)

    def begin(self) -> Kills | None:
        """Return what counts how members end; None without an enclosure, or after an error of proctally."""
        if self.reader is None and self.is_wanted:
            self.call(self._begin)
        return self.reader

    def _begin(self) -> None:
        from proctally.tree.kills import Kills

        assert self.enclosure is not None
        self.reader = Kills(self.machine, self.enclosure, self.state.started_ns)

    def poll(self, memory: MemoryScan | None, *, settle: bool = True) -> None:
        """Note the OOM kills since the last call, with the memory of the last scan; `settle`: whether a scan starts."""
        if self.reader is not None:
            poll = self.reader.poll
            self.call(lambda: poll(memory, self.tree.members, settle=settle))

    def settle(self, memory: MemoryScan | None) -> Kills | None:
        """Count OOM kills to the end; None for a job without any that ended before the second scan."""
        enclosure = self.enclosure
        if self.reader is None and enclosure is not None and enclosure.counts_kills and enclosure.kills() is not None:
            self.begin()
        self.poll(memory)
        return self.reader

    def see_cgroups(self, ran: list[Member]) -> None:
        """Read the cgroups of members that ran, and of those that had their turn at the slow pace."""
        tree, state = self.tree, self.state
        if tree.members and (tree.own is None or state.tick > 1) and (kills := self.begin()) is not None:
            self.call(kills.see, ran, state.idle, tree.members, state.read_ns, tree.root)

    def note_zombie(self, member: Member) -> None:
        """Note the signal that ended a zombie, which its parent has not reaped. wait4 has those of this process."""
        if not self.state.tick or (member.parent is None and self.tree.own is not None):
            return  # before the first scan nothing ends that is counted
        kills = self.begin()
        if kills is not None and member is not self.tree.root:
            self.call(self._note_zombie, kills, member)

    def _note_zombie(self, kills: Kills, member: Member) -> None:
        try:
            kills.zombie(member, self.files.stat_bytes(member, member.pid))
        except UNREADABLE:
            return

    def note_reaped(self, member: Member | None, exit_code: int) -> None:
        """Note a reaped child. `exit_code`: minus the number of the signal that ended it."""
        if exit_code < 0 and (kills := self.begin()) is not None:
            self.call(lambda: kills.reaped(member, -exit_code, is_root=member is self.tree.root))
