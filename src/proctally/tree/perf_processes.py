"""Who was started, under which command, and how much each used: from what perf tells of forks, execs and ends.

Every process is on the roll, however short: it is entered by its FORK, named by its exec, and what its threads had used
comes when they end. A process that never called exec stands under the command of its parent.
"""

from __future__ import annotations

from proctally.linux.perf import LOWER, RECORD_COMM, RECORD_EXIT, RECORD_FORK, RECORD_READ
from proctally.tree.commands import CommandUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from proctally.linux.perf import Record

GROWN_NS = 500_000_000  # a process that has used so much CPU touches little new memory any more
UNREAD_AT_MOST = 50  # one in so many threads may be missing
THREAD_END_NS = 11_000  # what a thread uses at most between its last accounting and its end
EXIT_NS = 60_000  # what perf lacks of the end of a thread or of a small process ...
RELEASE_NS_PER_MIB = 90_000  # ... and for each MiB that it had touched
UNSEEN_BYTES = 2 << 20  # of a process that no scan saw
TOLERANCE_NS, TOLERANCE_DIVISOR = 20_000_000, 50  # what may be shared out among known commands
NO_NAME = b""  # of processes whose fork is in no record, and of CPU time that no known command used
DROPPED_NS = 40_000  # no program ends so soon after its exec: the kernel has ended its counting


class Entry:
    """A process that lives, or ended a moment ago. `cpu_ns`: of its threads that ended."""

    __slots__ = ("begun_ns", "command", "cpu_ns", "ended_ns", "executed_ns", "threads", "threads_ended")

    def __init__(self, command: bytes, begun_ns: int) -> None:
        self.command = command
        self.begun_ns = begun_ns
        self.executed_ns = 0
        self.ended_ns = 0
        self.cpu_ns = 0
        self.threads = 1
        self.threads_ended = 0


def teardown_ns(ends: int, peak_rss: int) -> int:
    """Return what perf lacks at most of the ends of processes as large as this."""
    return ends * (EXIT_NS + RELEASE_NS_PER_MIB * peak_rss // (1 << 20))


def tolerance_ns(total_ns: int) -> int:
    """Return up to where CPU time in no record belongs to known commands."""
    return max(TOLERANCE_NS, total_ns // TOLERANCE_DIVISOR)


def weight(use: CommandUse) -> int:
    """Return the share of a command in what exits cost: as much memory as it touched, it has to release."""
    return min(use.cpu_ns, use.processes * GROWN_NS)


def _nameless(_pid: int) -> bytes:
    return NO_NAME


class Roll:
    """The processes of a tree by perf's records.

    The root's first thread never has a READ: the counter that was opened is its own, and what that holds is in no
    record. It stays with it: the kernel swaps counters only between tasks that inherited them all
    (perf_event_context_sched_out), and the root has one event more that none inherits.
    """

    def __init__(self, root: int, command: bytes, begun_ns: int) -> None:
        self.started = 1
        self._alive = self._most_alive = 1
        self._lived = (1, 1)
        self._root = Entry(command, begun_ns)
        self._entries: dict[int, Entry] = {root: self._root}
        self._tallies: dict[bytes, CommandUse] = {}
        self._ended: list[tuple[int, Entry]] = []  # processes that ended since records were last taken in
        self._past: list[tuple[int, Entry]] = []  # ... and those before them: no READ of theirs comes any more
        self._read_ns = 0
        self._reads = 0
        self._ends = 0
        self.strays = 0  # threads that ended, of processes whose fork was not told
        self.threads_ended = 0  # ... before their processes
        self.name_of: Callable[[int], bytes] = _nameless  # the name of a process whose fork is in no record
        self.dropped = 0  # processes that are counted no longer: they executed what this user may not look into

    def take(self, records: Iterable[Record]) -> None:
        """Take in what happened, in the order of time."""
        entries = self._entries
        ended = self._ended
        read_ns = 0
        for when, kind, ids, more in records:
            pid = ids & LOWER
            if kind == RECORD_READ:
                self._reads += 1
                entry = entries.get(pid)
                if entry is None:
                    self.strays += 1
                else:
                    entry.cpu_ns += more  # type: ignore[operator]
                    read_ns += more  # type: ignore[operator]
            elif kind == RECORD_EXIT:
                self._ends += 1
                entry = entries.get(pid)
                if entry is not None:
                    entry.threads -= 1
                    if entry.threads > 0:
                        entry.threads_ended += 1
                        self.threads_ended += 1
                    else:
                        if when - entry.executed_ns < DROPPED_NS:
                            self.dropped += 1
                        entry.ended_ns = when
                        self._alive -= 1
                        ended.append((pid, entry))
            elif kind == RECORD_FORK:
                tid = more & LOWER  # type: ignore[operator]
                if tid != pid:
                    entry = entries.get(pid)
                    if entry is not None:
                        entry.threads += 1
                    continue
                self.started += 1
                self._alive += 1
                if self._alive > self._most_alive:
                    self._most_alive = self._alive
                before = entries.get(pid)
                if before is not None:  # its pid was given out again
                    self._fold(before, when)
                parent = entries.get(ids >> 32)
                entries[pid] = Entry(self.name_of(pid) if parent is None else parent.command, when)
            elif kind == RECORD_COMM:
                entry = entries.get(pid)
                if entry is not None:
                    entry.command = more  # type: ignore[assignment]
                    entry.executed_ns = when
        self._read_ns += read_ns
        self._forget()

    def _forget(self) -> None:
        """Fold what ended before the last records but one into its command: none of its READs is missing any more."""
        entries = self._entries
        for pid, entry in self._past:
            if entries.get(pid) is entry:
                self._fold(entry, entry.ended_ns)
                del entries[pid]
        self._past, self._ended = self._ended, []

    def _fold(self, entry: Entry, now_ns: int) -> None:
        tally = self._tallies.get(entry.command)
        if tally is None:
            tally = self._tallies[entry.command] = CommandUse()
        tally.processes += 1
        tally.threads_ended += entry.threads_ended
        tally.cpu_ns += entry.cpu_ns
        tally.wall_ns += max(0, (entry.ended_ns or now_ns) - entry.begun_ns)

    def take_lived(self) -> tuple[int, int]:
        """Return the most processes that lived at once, since the last call but one, and how many started since.

        The records of the last moments come later (LATE_NS): of two intervals for the first, of one for the second.
        """
        before, self._lived = self._lived, (self._most_alive, self.started)
        self._most_alive = self._alive
        return max(before[0], self._lived[0]), self.started - before[1]

    def unread(self) -> int:
        """Threads that ended and whose time was not told. The root's first never is."""
        return max(0, self._ends - self._reads - 1)

    def tells_time(self) -> bool:
        """Whether the time of single processes is known.

        Kernels from 5.13 on did not tell it (kernel: sync_child_event) until that was mended in 6.18.
        """
        return self.unread() * UNREAD_AT_MOST <= self._ends

    def so_far(self, clocks: Mapping[int, int]) -> dict[bytes, list[int]]:
        """Each command's processes and their CPU nanoseconds, those of the living included, to be asked at any time.

        `clocks`: as for `commands`. Of a process that ended lately and of one that lives the time is about right.
        """
        found = {name: [tally.processes, tally.cpu_ns] for name, tally in self._tallies.items()}
        for pid, entry in self._entries.items():
            row = found.setdefault(entry.command, [0, 0])
            row[0] += 1
            row[1] += entry.cpu_ns if entry.ended_ns else max(entry.cpu_ns, clocks.get(pid, 0))
        return found

    def living(self) -> list[int]:
        """Pids that have not ended."""
        return [pid for pid, entry in self._entries.items() if not entry.ended_ns]

    def teardowns(self, missing_ns: int, total_ns: int, peaks: Mapping[bytes, int] | None) -> dict[bytes, int]:
        """Share out what perf does not count of the ends of processes among their commands: an estimate.

        `missing_ns`: what perf lacks of the total; `peaks`: bytes of the largest process that was seen of each name,
        None where the list is whole. If it is not, no command gets more than its ends can have cost; the rest is of
        NO_NAME.
        """
        missing_ns = max(0, missing_ns)
        weights = {name: weight(tally) for name, tally in self._tallies.items()}
        whole = sum(weights.values())
        shares = {name: missing_ns * weight // whole if whole else 0 for name, weight in weights.items()}
        if peaks is None:
            return shares
        most = {
            name: teardown_ns(tally.processes, peaks.get(name) or UNSEEN_BYTES) + tally.threads_ended * EXIT_NS
            for name, tally in self._tallies.items()
        }
        if missing_ns <= sum(most.values()) + tolerance_ns(total_ns):
            return shares
        shares = {name: min(share, most[name]) for name, share in shares.items()}
        shares[NO_NAME] = shares.get(NO_NAME, 0) + missing_ns - sum(shares.values())
        return shares

    def commands(
        self, total_ns: int, now_ns: int, clocks: Mapping[int, int], root_ns: int | None = None
    ) -> dict[bytes, CommandUse]:
        """Each command's processes, to be asked once, at the end.

        `total_ns`: the counter of the whole tree. `clocks`: the CPU nanoseconds of processes that live on; `root_ns`:
        those of the root, None where the list is whole. What is in no record is theirs. What remains, if it is more
        than a tolerance, is of NO_NAME.
        """
        remainder = max(0, total_ns - self._read_ns)
        for pid in self.living():
            entry = self._entries[pid]
            used = min(max(0, clocks.get(pid, 0) - entry.cpu_ns), remainder)
            entry.cpu_ns += used
            remainder -= used
        unknown = 0 if root_ns is None else remainder - max(0, root_ns - self._root.cpu_ns)
        for entry in self._entries.values():
            self._fold(entry, now_ns)
        self._entries = {}
        if unknown > tolerance_ns(total_ns):
            self._tallies.setdefault(NO_NAME, CommandUse()).cpu_ns += unknown
            remainder -= unknown
        self._tallies[self._root.command].cpu_ns += remainder
        return self._tallies
