"""The time of a tree: scans of its threads, their pace between two samples, and what a record holds of the parts.

A thread that runs all the time shows its parts at any pace. How threads overlap shows only in short intervals: so a
tree that moves is scanned each 0.1 s, one that does not move is not scanned between two samples.
"""

from __future__ import annotations

from proctally.record import seconds
from proctally.tree.member import CPU, DELAY
from proctally.tree.time import MIN_WALL_NS, TimeModel
from proctally.tree.time_source import TimeSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from proctally.linux.machine import Machine
    from proctally.record import JsonObject
    from proctally.tree.ledger import Ledger
    from proctally.tree.member import Member
    from proctally.tree.time import Breakdown, Gap, Mark, Sums

PACE_NS = 100_000_000  # between two scans of a tree that moves
PACE_DIVISOR = 200  # scans between two samples take at most this part of a core
WAKE_UP_NS = 100_000  # CPU time of a wake-up around the scan
QUIET_AT_PACE = 4  # scans that find no movement, before their distance doubles: what sleeps 0.3 s moves again soon
MAX_QUIET = 16
DESCRIPTORS, DESCRIPTORS_DIVISOR = 1024, 4  # of those that a tracker keeps, at most
SPARE_TIDS = 64  # exited threads whose run delay is kept
PARTS = ("running", "ready", "throttled", "disk", "asleep")
FIELDS = tuple(f"{part}_seconds" for part in PARTS)


def kept_for_threads(descriptors: int) -> int:
    """Return how many of these descriptors are for files of threads."""
    return min(DESCRIPTORS, descriptors // DESCRIPTORS_DIVISOR)


class TimeScan:
    """Reads the time of one tree into a model.

    `started_ns`: when the first interval starts; CPU time and run delay of `members` up to then are not part of it.
    `interval_ns`: between two samples. `accounted`: whether the kernel accounts for block delays of all threads.
    `throttled`: returns the throttled nanoseconds since the start. `due_ns`: monotonic clock of the next scan between
    two samples; None without one. `start`: the mark of the start.
    """

    def __init__(
        self,
        machine: Machine,
        ledger: Ledger,
        members: Iterable[Member],
        *,
        started_ns: int,
        interval_ns: int,
        descriptors: int,
        accounted: bool,
        throttled: Callable[[], int | None],
    ) -> None:
        self.model = TimeModel(accounted=accounted)
        self.due_ns: int | None = None
        self._ledger = ledger
        self._interval_ns = interval_ns
        self._throttled = throttled
        self._source = TimeSource(machine, descriptors=descriptors, accounted=accounted)
        self._source.begin(started_ns)
        self.start = self.model.start
        self._is_paused = False
        self._used_ns = self._throttled_ns = 0
        self.cost_ns = 0
        self._quiet = 0
        self._shown = [0.0] * len(PARTS)
        for member in members:
            self.enter(member)

    # -- scans -----------------------------------------------------------------------------------------------------

    def enter(self, member: Member) -> None:
        """Take what a member has used up to now as that of before; of one that is new to the job, nothing."""
        if not member.cpu_base:
            return
        delay_ns = member.run_delay if self._ledger.attached else self._ledger.base[DELAY]
        if member.threads == 1 or not self._ledger.attached:
            self._source.threads.prime(member.pid, member.cpu_base, delay_ns)
        else:
            reader = self._source.threads
            reader.start(member.pid, member.threads)
            member.run_delays = reader.delays(member.pid) | member.run_delays  # of many threads none was read before

    def end(self, member: Member) -> None:
        """Read a zombie that is about to be reaped."""
        self._source.end(member)
        delay_ns = self._source.threads.delay_ns(member.pid, member.pid)
        if delay_ns is not None:
            self._ledger.update_delay(member, member.pid, delay_ns)

    def leave(self, member: Member) -> None:
        """Release the files of a member that is gone."""
        self._source.forget([member])

    def pause(self) -> None:
        """Leave out the time up to the next scan: the job and this process were stopped."""
        self._is_paused = True

    def scan(self, ran: Collection[Member], now: int) -> None:
        """Read the members that ran; `now`: when their clocks were read."""
        moved = [member for member in ran if member.alive]
        used_ns = max(self._used_ns, self._ledger.total()[CPU])
        self._throttled_ns = max(self._throttled_ns, self._throttled() or 0)  # unknown once, its growth comes later
        one = self._source.scan(moved, now, used_ns=used_ns, throttled_ns=self._throttled_ns)
        self._note_delays(moved, one.threads)
        has_moved = bool(one.threads) or used_ns > self._used_ns
        self._used_ns = used_ns
        if self._is_paused:
            self._is_paused = False
        else:
            self.model.take(one)
        self._quiet = 0 if has_moved else min(MAX_QUIET, self._quiet + 1)
        pace_ns = max(PACE_NS, (self.cost_ns + WAKE_UP_NS) * PACE_DIVISOR) << max(0, self._quiet - QUIET_AT_PACE)
        self.due_ns = now + pace_ns if pace_ns < self._interval_ns else None

    def note_cost(self, cost_ns: int) -> None:
        """Take in the CPU time of a scan between two samples: it sets their pace."""
        self.cost_ns = (self.cost_ns + cost_ns) // 2 if self.cost_ns else cost_ns

    def _note_delays(self, moved: Iterable[Member], threads: Iterable[tuple[int, int]]) -> None:
        """Pass the run delay of threads to the ledger."""
        members = {member.pid: member for member in moved}
        reader = self._source.threads
        for pid, tid in threads:
            member = members.get(pid)
            delay_ns = reader.delay_ns(pid, tid)
            if member is not None and delay_ns is not None:
                self._ledger.update_delay(member, tid, delay_ns)
                if len(member.run_delays) > 2 * member.threads + SPARE_TIDS:
                    member.run_delays = reader.delays(pid)

    def close(self) -> None:
        """Close all files."""
        self._source.close()

    # -- what a record holds -----------------------------------------------------------------------------------------

    def sample(self) -> JsonObject:
        """Return the parts so far. They never fall, and they add up to the time of the scans."""
        parts = self.model.total()
        now = [getattr(parts, part)[1] for part in PARTS]
        self._shown = advanced(self._shown, now)
        return {field: seconds(round(value)) for field, value in zip(FIELDS, self._shown, strict=True)}

    def summary(self) -> JsonObject | None:
        """Return the parts with their bounds; None of a job that is too short for them."""
        return described(self.model.total())

    def mark(self) -> Mark:
        """Return the moment of the last scan."""
        return self.model.mark()

    def between(self, start: Mark, end: Mark) -> Sums:
        """Return the sums between two marks, for `parts_of`."""
        return self.model.between(start, end)

    def parts_of(self, sums: Sums) -> JsonObject | None:
        """Return the same as `summary` of sums between marks."""
        return described(self.model.breakdown(sums))

    def gaps(self) -> list[Gap]:
        """Return what the parts do not know."""
        return self.model.gaps() if self.model.total().wall_ns >= MIN_WALL_NS else []


def advanced(before: Sequence[float], now: Sequence[float]) -> list[float]:
    """Return the parts as a counter shows them.

    A part whose estimate has fallen stays, and the others grow by less: the sum is that of `now`.
    """
    growths = [max(0.0, to - value) for value, to in zip(before, now, strict=True)]
    whole, grown = max(0.0, sum(now) - sum(before)), sum(growths)
    ratio = whole / grown if grown else 0.0
    return [value + growth * ratio for value, growth in zip(before, growths, strict=True)]


def described(parts: Breakdown) -> JsonObject | None:
    """Return the parts of a time of at least 0.1 s; with bounds where these are further apart than 5 % of it."""
    if parts.wall_ns < MIN_WALL_NS:
        return None
    found: JsonObject = {}
    for part in PARTS:
        bounds = getattr(parts, part)
        found[f"{part}_seconds"] = seconds(round(bounds[1]))
        if parts.is_wide(bounds):
            found[f"{part}_low_seconds"] = seconds(round(bounds[0]))
            found[f"{part}_high_seconds"] = seconds(round(bounds[2]))
    found["wanted_cores"] = round(parts.wanted_cores, 4)
    return found
