"""Parts of the wall time of a job: pure functions of counters, all times in nanoseconds.

At each instant the job is in the first part that holds, so the parts add up to the wall:

    running    its threads have the CPUs that they can use: with k threads on a CPU, n that want one and P CPUs that
               the job can use, an instant counts k / min(n, P)
    throttled  the rest of that instant, as far as a CPU quota took it
    ready      the rest of that instant otherwise: other jobs had the CPU
    disk       no thread runs or is ready, one waits for a device
    asleep     all else: a timer, a peer, a lock, a stopped job

CPU time and run delay of each thread are exact, how threads overlap is unknown. So each part has a low, an expected
and a high value. Short intervals give narrow bounds: 0.1 to 0.2 s, not 1 s.
"""

from __future__ import annotations

from proctally.record.codes import DELAY_OF_DEAD, DELAY_SAMPLED, DISK_BY_LOOKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WAKE_NS = 50_000  # from a wake-up to running on an idle CPU of a virtual machine
HELD = 20  # intervals that stay open for run delay that the kernel adds later
MIXED_DIVISOR = 16  # bounds take the threads of one interval as evenly mixed: 1/16 of its length is added to them
WIDE_DIVISOR = 20  # bounds further apart than this part of the wall need to be shown
DEAD_DIVISOR = 20  # CPU of unseen threads above this part of the total makes a gap
MIN_WALL_NS = 100_000_000  # one scan of a shorter job shows nothing

# places in a list of sums; the first five each have a low, an expected and a high value
RUNNING, READY, THROTTLED, INACTIVE, DISK = 0, 3, 6, 9, 12
WALL, USED, WANTED, UNSEEN, DEAD_DELAY, UNREAD_DELAY, LOOKS, DISK_LOOKS, STILL, STILL_DISK = range(15, 25)
SIZE = 25

Sums = list[float]
Bounds = tuple[float, float, float]


class Interval:
    """Growths between two scans.

    `threads`: [CPU, run delay, block delay] of each thread that moved. `used_ns`: CPU of the whole tree. `cpus`: how
    many the members can use together. `idle_ns`: how long the idlest of these was idle, None where that is unknown.
    `born`: processes and threads that started on the machine. `throttled_ns`: of the job's cgroup, one entry for each
    CPU that stood still. `running`, `disk`: whether the scan found a thread that runs or is ready, one that waits for
    a device. `sampled`: whether only a part of the threads that moved was read.
    """

    __slots__ = (
        "born",
        "cpus",
        "disk",
        "idle_ns",
        "length_ns",
        "running",
        "sampled",
        "sums",
        "threads",
        "throttled_ns",
        "unseen_ns",
        "used_ns",
    )

    def __init__(
        self,
        length_ns: int,
        threads: dict[tuple[int, int], list[float]],
        *,
        used_ns: int,
        cpus: int,
        idle_ns: int | None = None,
        born: int = 0,
        throttled_ns: int = 0,
        running: bool = False,
        disk: bool = False,
        sampled: bool = False,
    ) -> None:
        self.length_ns = length_ns
        self.threads = threads
        self.used_ns = used_ns
        self.unseen_ns: float = 0  # CPU that no known thread explains
        self.cpus = max(1, cpus)
        self.idle_ns = idle_ns
        self.born = born
        self.throttled_ns = max(0, throttled_ns)
        self.running = running
        self.disk = disk
        self.sampled = sampled
        self.sums: Sums | None = None  # its parts, until late run delay changes them


class Mark:
    """A moment between two intervals; `sums`: of all intervals before it, None while these can change."""

    __slots__ = ("moment", "sums")

    def __init__(self, moment: int, sums: Sums | None) -> None:
        self.moment = moment
        self.sums = sums


class Breakdown:
    """The parts of a wall time: (low, expected, high) of each; the expected ones add up to the wall.

    `used_ns` is CPU time, `wanted_ns` that and the time that threads were ready without a CPU.
    """

    __slots__ = ("asleep", "disk", "ready", "running", "throttled", "used_ns", "wall_ns", "wanted_ns")

    def __init__(self, sums: Sums, *, accounted: bool) -> None:
        self.wall_ns = sums[WALL]
        self.used_ns = sums[USED]
        self.wanted_ns = sums[WANTED]
        self.running = _bounds(sums, RUNNING)
        self.ready = _bounds(sums, READY)
        self.throttled = _bounds(sums, THROTTLED)
        inactive = _bounds(sums, INACTIVE)
        if accounted:
            self.disk = _bounds(sums, DISK)
        else:
            shares = share_of_looks(round(sums[LOOKS]), round(sums[DISK_LOOKS]))
            still, waits = sums[STILL], sums[STILL_DISK]
            low, expected, high = (share * (part - still) for share, part in zip(shares, inactive, strict=True))
            self.disk = waits + low, waits + expected, waits + high
        low, expected, high = self.disk
        self.asleep = max(0.0, inactive[0] - high), max(0.0, inactive[1] - expected), max(0.0, inactive[2] - low)

    @property
    def wanted_cores(self) -> float:
        """Mean number of threads that wanted a CPU."""
        return self.wanted_ns / self.wall_ns if self.wall_ns else 0.0

    def is_wide(self, part: Bounds) -> bool:
        """Return whether the bounds of a part are too far apart for its expected value alone."""
        return (part[2] - part[0]) * WIDE_DIVISOR > self.wall_ns


class Gap:
    """Missing knowledge in a breakdown: a code of `record.codes`, a count, and bounds of the time in question."""

    __slots__ = ("code", "count", "high_ns", "low_ns")

    def __init__(self, code: str, count: int | None, low_ns: float, high_ns: float) -> None:
        self.code = code
        self.count = count
        self.low_ns = low_ns
        self.high_ns = high_ns


class TimeModel:
    """Adds intervals up, and returns the parts of each once nothing can change them.

    `accounted`: whether the kernel accounts for block delays of every thread of the job; else disk time is a share of
    the scans.
    """

    def __init__(self, *, accounted: bool = False) -> None:
        self.accounted = accounted
        self._held: list[Interval] = []
        self._total: Sums = [0.0] * SIZE  # of the closed intervals
        self._closed = 0
        self.start = self._mark = Mark(0, [0.0] * SIZE)
        self._open_marks: list[Mark] = []
        self._lead: float = 0  # CPU that the threads showed before the tree's total did
        self._known_cpu: float = 0
        self._known_delay: float = 0

    def take(self, one: Interval) -> list[Sums]:
        """Add the next interval; return the sums of those that it closes, each for a `Breakdown`."""
        if one.length_ns <= 0:
            return []
        self._explain(one)
        for times in one.threads.values():
            self._known_cpu += times[0]
            self._known_delay += times[1]
        _give_back(one, self._held)
        self._held.append(one)
        return [self._close() for _ in range(len(self._held) - HELD)]

    def finish(self) -> list[Sums]:
        """Close all intervals; return their sums."""
        return [self._close() for _ in range(len(self._held))]

    def mark(self) -> Mark:
        """Return the moment of the last scan, for `between`."""
        moment = self._closed + len(self._held)
        if self._mark.moment != moment:
            self._mark = Mark(moment, None if self._held else list(self._total))
            if self._held:
                self._open_marks.append(self._mark)
        return self._mark

    def between(self, start: Mark, end: Mark) -> Sums:
        """Return the sums between two marks. Late run delay can still move in the last `HELD` intervals."""
        return [to - before for to, before in zip(self._sums_at(end), self._sums_at(start), strict=True)]

    def breakdown(self, sums: Sums) -> Breakdown:
        """Return the parts of sums."""
        return Breakdown(sums, accounted=self.accounted)

    def total(self) -> Breakdown:
        """Return the parts of the whole time."""
        return self.breakdown(self._sums_at(self.mark()))

    def gaps(self) -> list[Gap]:
        """Return what the parts of the whole time do not know."""
        sums = self._sums_at(self.mark())
        found = []
        if sums[UNSEEN] * DEAD_DIVISOR > sums[USED] and sums[DEAD_DELAY]:
            found.append(Gap(DELAY_OF_DEAD, None, 0, sums[DEAD_DELAY]))
        if sums[UNREAD_DELAY]:
            found.append(Gap(DELAY_SAMPLED, None, 0, sums[UNREAD_DELAY]))
        parts = Breakdown(sums, accounted=self.accounted)
        if not self.accounted and parts.is_wide(parts.disk):
            found.append(Gap(DISK_BY_LOOKS, round(sums[LOOKS]), parts.disk[0], parts.disk[2]))
        return found

    def _explain(self, one: Interval) -> None:
        """Find the CPU that no known thread explains: it is of threads that started and exited in the interval.

        Threads are read after the tree's total, and that comes in ticks in part: what they show early is explained
        by later growth of the total.
        """
        unseen = one.used_ns - sum(times[0] for times in one.threads.values()) - self._lead
        one.unseen_ns = max(0, unseen)
        self._lead = min(max(0, -unseen), one.length_ns)

    def _close(self) -> Sums:
        one = self._held.pop(0)
        if one.unseen_ns:
            one.sums = None  # more is known by now of the delay that its CPU time comes with
        sums = self._sums_of(one)
        _add(self._total, sums)
        self._closed += 1
        while self._open_marks and self._open_marks[0].moment == self._closed:
            self._open_marks.pop(0).sums = list(self._total)
        return sums

    def _sums_of(self, one: Interval) -> Sums:
        if one.sums is None:
            one.sums = sums_of(one, self._known_delay / self._known_cpu if self._known_cpu else None)
        return one.sums

    def _sums_at(self, mark: Mark) -> Sums:
        if mark.sums is not None:
            return mark.sums
        total = list(self._total)
        for one in self._held[: mark.moment - self._closed]:
            _add(total, self._sums_of(one))
        return total


def sums_of(one: Interval, delay_per_cpu: float | None) -> Sums:
    """Return the parts of one interval. `delay_per_cpu`: of the known threads, expected of the unseen ones too."""
    sums = [0.0] * SIZE
    length = one.length_ns
    sums[WALL] = length
    if not one.threads and not one.unseen_ns:
        # No thread woke up: what waits for a device at the end has waited all the time, and nothing else has.
        sums[INACTIVE : INACTIVE + 3] = length, length, length
        sums[STILL] = length
        sums[STILL_DISK] = length if one.disk else 0
        return sums
    if not one.running:
        sums[LOOKS] = 1
        sums[DISK_LOOKS] = one.disk
    used = one.unseen_ns + sum(times[0] for times in one.threads.values())
    delay = sum(times[1] for times in one.threads.values())
    most = delay_of_unseen(one)
    likely = most if delay_per_cpu is None else min(most, one.unseen_ns * delay_per_cpu)
    sums[USED] = used
    sums[WANTED] = used + delay + likely
    sums[UNSEEN] = 0 if one.sampled else one.unseen_ns
    sums[UNREAD_DELAY if one.sampled else DEAD_DELAY] = most
    wants = [min(length, times[0] + times[1]) for times in one.threads.values()]
    active = active_bounds(one, wants, used, most, likely)
    ends = [
        split(one, active[0], used, used + delay),
        split(one, active[1], used, used + delay + likely),
        split(one, active[2], used, used + delay),
        split(one, active[2], used, used + delay + most),
    ]
    for number, place in enumerate((RUNNING, READY, THROTTLED, INACTIVE)):
        values = [end[number] for end in ends]
        sums[place : place + 3] = min(values), values[1], max(values)
    if len(wants) + (one.unseen_ns > 0) > 1:
        _allow_for_mixing(one, sums, active, wants, used, delay + most)
    _add_block_delay(one, sums, wants, active[2])
    return sums


def active_bounds(one: Interval, wants: Sequence[float], used: float, most: float, likely: float) -> Bounds:
    """Return how long any thread ran or was ready: at least, for independent threads, at most.

    `wants`: CPU and run delay of each known thread. Unseen threads count as one: short ones mostly follow one another.
    """
    length = one.length_ns
    low = min(length, max([*wants, used / one.cpus]))
    high = max(low, min(length, sum(wants) + one.unseen_ns + most))
    quiet = 1.0
    for each in (*wants, min(length, one.unseen_ns + likely)):
        quiet *= 1 - each / length
    return low, min(max(length * (1 - quiet), low), high), high


def delay_of_unseen(one: Interval) -> float:
    """Return the maximum run delay of threads that started and exited in the interval: no counter has it.

    While a CPU was idle no thread was ready, except from a wake-up until an idle CPU answers.
    """
    if not one.unseen_ns:
        return 0
    length = one.length_ns
    ready = length if one.idle_ns is None else max(0, length - one.idle_ns)
    known = max((times[1] for times in one.threads.values()), default=0)
    answers = min(length, 2 * one.born * WAKE_NS)
    return max(answers, ready - min(ready, known + one.unseen_ns / one.cpus))


def split(one: Interval, active: float, used: float, wanted: float) -> tuple[float, float, float, float]:
    """Return (running, ready, throttled, inactive) of a job that was active for this long."""
    if active <= 0:
        return 0.0, 0.0, 0.0, one.length_ns
    running = min(active, max(used * active / wanted, used / one.cpus)) if wanted > 0 else 0.0
    lack = active - running
    stopped_cpus = max(1.0, min(one.cpus, wanted / active))
    throttled = min(lack, one.throttled_ns / stopped_cpus)
    return running, lack - throttled, throttled, one.length_ns - active


def share_of_looks(looks: int, found: int) -> Bounds:
    """Return the share of time that this share of scans stands for (Wilson's interval at 95 %)."""
    if not looks:
        return 0.0, 0.0, 1.0
    share = found / looks
    square = 1.96 * 1.96
    scale = 1 + square / looks
    middle = (share + square / (2 * looks)) / scale
    half = (square * (share * (1 - share) / looks + square / (4 * looks * looks))) ** 0.5 / scale
    return max(0.0, min(share, middle - half)), share, min(1.0, max(share, middle + half))


def _give_back(one: Interval, held: Sequence[Interval]) -> None:
    """Give waiting that is longer than the interval to the earlier ones with room for it, the newest first.

    The kernel adds run delay when a thread gets its CPU, and block delay when it wakes up.
    """
    for key, times in one.threads.items():
        late = sum(times) - one.length_ns
        if late <= 0:
            continue
        late_block = min(times[2], late)
        late_delay = min(times[1], late - late_block)
        times[1] -= late_delay
        times[2] -= late_block
        for before in reversed(held):
            if late_delay <= 0 and late_block <= 0:
                break
            seen = before.threads.setdefault(key, [0, 0, 0])
            before.sums = None
            moved = min(late_delay, max(0, before.length_ns - sum(seen)))
            seen[1] += moved
            late_delay -= moved
            moved = min(late_block, max(0, before.length_ns - sum(seen)))
            seen[2] += moved
            late_block -= moved


def _allow_for_mixing(
    one: Interval, sums: Sums, active: Bounds, wants: Sequence[float], used: float, lack: float
) -> None:
    """Widen running and ready, within what is possible for any order of the threads of one interval.

    `lack`: the run delay of all, at most.
    """
    length = one.length_ns
    room = length / MIXED_DIVISOR
    cpus = one.cpus
    all_used = max(0, sum(sorted(wants)[-cpus:]) - (cpus - 1) * length) if len(wants) >= cpus else 0
    alone = min(used, active[2] - all_used)  # CPU used while fewer threads than CPUs wanted one
    least = max(used / cpus, active[0] - lack)
    most = min(active[2], alone + (used - alone) / cpus)
    sums[RUNNING] = min(sums[RUNNING], max(least, sums[RUNNING] - room))
    sums[RUNNING + 2] = max(sums[RUNNING + 2], min(most, sums[RUNNING + 2] + room))
    least = max(0, active[0] - most - one.throttled_ns)
    most = min(lack, active[2] - used / cpus)
    sums[READY] = min(sums[READY], max(least, sums[READY] - room))
    sums[READY + 2] = max(sums[READY + 2], min(most, sums[READY + 2] + room))


def _add_block_delay(one: Interval, sums: Sums, wants: Sequence[float], active: float) -> None:
    """Add the time in which a thread waited for a device and none was active, from block delays."""
    length = one.length_ns
    low = high = 0.0
    quiet = 1.0
    for want, times in zip(wants, one.threads.values(), strict=True):
        block = min(times[2], length - want)
        if block > 0:
            low = max(low, block - min(active, sum(wants) - want + sums[UNSEEN]))
            high += block
            quiet *= 1 - block / (length - want)
    high = min(high, sums[INACTIVE + 2])
    low = min(max(0.0, low), sums[INACTIVE], high)
    sums[DISK : DISK + 3] = low, min(max(low, sums[INACTIVE + 1] * (1 - quiet)), high), high


def _bounds(sums: Sums, place: int) -> Bounds:
    return sums[place], sums[place + 1], sums[place + 2]


def _add(to: Sums, sums: Iterable[float]) -> None:
    for place, value in enumerate(sums):
        to[place] += value
