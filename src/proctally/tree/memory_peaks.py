"""Brackets, and the peak of a run: its bounds, parts, spikes and gaps (rules 7, 9).

VmHWM of a process is the most RSS that its address space ever had. Where it rose above everything that scans saw of the
process, and of its parent before a fork, there was a spike between two scans. It counts in high; in low only where the
process took as many faults as pages, since a mapped file comes with 16 pages a fault (fault-around, mm/memory.c).
"""

from __future__ import annotations

from proctally.record.codes import (
    ANONYMOUS_SHMEM,
    LATE_LOOK,
    NOT_SAMPLED,
    PSS_DENIED,
    PSS_STALE,
    SPIKE_BETWEEN_SAMPLES,
    SURROUNDINGS_HIDDEN,
    UNCLAIMED_SHMEM,
)
from proctally.tree.memory_moments import NARROW_BYTES, WIDE_RATIO, Candidate, PeakEntry
from proctally.tree.memory_unseen import Unseen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from proctally.tree.memory_families import Family, ProcessMemory
    from proctally.tree.memory_moments import Bracket, Turnover

NOISE_BYTES = 256 * 1024  # a mark exceeds the RSS of a scan by this much without a spike
SMALLEST_SPIKE = 1 << 20  # bytes from which on a spike is listed as a gap
MARK_RATIO = 1.01  # ru_maxrss counts above the largest mark seen times this
ENTRIES = 5
NEAR_RATIO = 0.8  # the parts of a scan are kept where it is above this share of the peak
MAX_CANDIDATES = 8

PRIVATE, FAMILY, SHARED, SPIKE = "private", "family", "shared", "spike"

# sources of a bracket
RUN_CGROUP, SURROUNDINGS, PROCESSES = "cgroup", "surroundings", "processes"


class Peaks:
    """The largest memory of a run: bounds, and the moments that may be the peak.

    `attached`: the tree ran before its first scan, and marks of that time do not count.
    """

    def __init__(self, *, attached: bool = False) -> None:
        self.low = 0
        self.sampled = True
        self.marked: dict[ProcessMemory, None] = {}  # members whose mark rose in this scan
        self.faulting: dict[ProcessMemory, None] = {}  # members that took faults in this scan
        self.refilled = 0  # bytes that those can have held and released since the last scan
        self.candidates: list[Candidate] = []
        self.unseen = Unseen()
        self._least_high = 0  # high bound of dropped candidates, and of processes that no scan met
        self._largest_mark = 0
        self._attached = attached
        self._previous: tuple[Bracket, int, Turnover] | None = None
        self._previous_moment: Candidate | None = None

    @property
    def candidate(self) -> Candidate | None:
        """The moment with the largest high bound; None before the first scan."""
        return max(self.candidates, key=_candidate_high, default=None)

    @property
    def high(self) -> int:
        """The most bytes that the tree can have held at once."""
        highs = [candidate.high for candidate in self.candidates]
        return max([self.low, self._least_high, self.unseen.high(), *highs])

    @property
    def spike(self) -> int:
        """Bytes by which `high` exceeds the bracket of the peak."""
        candidate = self.candidate
        return 0 if candidate is None else candidate.spike + max(0, self.high - max(self.low, candidate.high))

    def note(
        self,
        now: float,
        bracket: Bracket,
        families: Collection[Family],
        tick: int,
        families_low: int,
        turnover: Turnover,
        ending: int = 0,
        unseen: int = 0,
        overlap: int = 0,
    ) -> None:
        """Take in the last bracket of a scan.

        `families_low`: the sum of the low bounds of all families. `ending`: bytes that members that left since the scan
        before can have made after their last reading; `unseen`: those that processes that no scan met held at once;
        `overlap`: the most that processes that left and new ones held together, beyond what members hold now.
        """
        for candidate in [*self.candidates, *self.unseen.wide()]:
            candidate.fall(bracket, turnover)
        current = moment = Candidate(now, bracket, turnover, 0)
        previous = self._previous
        self._previous = bracket, families_low, turnover
        if previous is None and self._attached:
            self._largest_mark = max([process.peak for process in self.marked], default=0)
            self.marked, self.faulting = {}, {}
        spikes, before_more, proved = self._spikes(current, tick, families_low, previous)
        self.low = max(self.low, bracket.low, proved)
        before_more += ending
        if previous is not None and (before_more or unseen):
            earlier = self._exceeded(now, previous, before_more, spikes)
            earlier.fall(bracket, turnover)
            if earlier.high > current.high:
                current = earlier
        if moment.high > self.high * NEAR_RATIO:  # the next scan can show a spike above this one
            moment.entries = entries(bracket, families, spikes)
        self._previous_moment = moment
        self.unseen.note(current, unseen)
        if overlap and previous is not None:
            overlap = min(overlap, previous[0].high + turnover.filled_since(previous[2]) - bracket.low)
            between = Candidate(now, bracket, turnover, moment.spike + max(0, overlap) + ending)
            current = max(current, between, key=_candidate_high)
        self._add(current, families, spikes)

    def _exceeded(
        self, now: float, previous: tuple[Bracket, int, Turnover], spike: int, spikes: list[PeakEntry]
    ) -> Candidate:
        """Return the previous scan with a spike after it."""
        bracket, _, turnover = previous
        before = self._previous_moment
        if before is None or not before.entries:
            return Candidate(now, bracket, turnover, spike)
        earlier = Candidate(before.seconds, bracket, turnover, spike)
        earlier.entries = sorted([*spikes, *before.entries], key=_size, reverse=True)[:ENTRIES]
        return earlier

    def _spikes(
        self,
        current: Candidate,
        tick: int,
        families_low: int,
        previous: tuple[Bracket, int, Turnover] | None,
    ) -> tuple[list[PeakEntry], int, int]:
        """Add the spikes of this scan to a moment.

        Returns the spikes, what they add to the previous scan, and the low bound that they prove.
        """
        shmem_low, earlier_low = current.bracket.shmem_low, families_low
        if previous is not None:
            shmem_low = min(shmem_low, previous[0].shmem_low)
            earlier_low = previous[1]
        spikes: list[PeakEntry] = []
        spiked: set[ProcessMemory] = set()
        before_more = proved = 0
        for process in self.marked:
            if process.peak > self._largest_mark:
                self._largest_mark = process.peak
            if process.peak - process.anon - process.file - process.shmem <= NOISE_BYTES:
                continue  # it holds as much now: most that grow do
            spike = _Spike(process, tick)
            if spike.size <= NOISE_BYTES:
                continue
            spiked.add(process)
            current.spike += process.peak - spike.seen
            before_more += max(0, process.peak - spike.earlier)
            anon = process.peak - spike.file - process.shmem
            low, high = (anon, anon) if spike.by_faults else (0, process.peak)
            spikes.append(PeakEntry(process.pid, process.command, low, high, SPIKE))
            if spike.by_faults and process.family is not None:
                rest = min(families_low - process.family.low, max(0, earlier_low - spike.earlier_anon))
                proved = max(proved, rest + anon + shmem_low)
        return spikes, before_more + self._refill(current, tick, spiked), proved

    def _refill(self, moment: Candidate, tick: int, spiked: set[ProcessMemory]) -> int:
        """Add what members can have held and released again without a new mark, at most what they faulted in.

        It is memory up to their mark, and copies of what they shared with a member that left: no size shows those.
        Returns what that adds to the previous scan.
        """
        now = before = 0
        for process in self.faulting:
            if process in spiked or process.entered == tick or process.before is None:
                continue
            faulted = process.faults - process.faults_before
            held, held_before = sum(process.sizes[1:4]), sum(process.before[1:4])
            now += min(faulted, process.peak - held)
            copied = 0
            if process.family is not None and process.family.left_tick == tick:
                copied = min(process.anon, faulted - max(0, held - held_before))
            before += min(faulted, process.peak - max(held, held_before) + copied)
        self.marked, self.faulting = {}, {}
        self.refilled = now
        if now > SMALLEST_SPIKE:
            moment.spike += now
        return before if before > SMALLEST_SPIKE else 0

    def _add(self, new: Candidate, families: Collection[Family], spikes: list[PeakEntry]) -> None:
        """Keep a moment unless a narrow one has a larger high bound."""
        best = max([each.high for each in self.candidates if each.is_narrow], default=-1)
        if new.high <= best:
            return
        new.entries = new.entries or entries(new.bracket, families, spikes)
        kept = [each for each in self.candidates if each.high > new.high] if new.is_narrow else self.candidates
        kept = sorted([*kept, new], key=_candidate_high, reverse=True)
        dropped = [each.high for each in self.candidates if each not in kept] + [
            each.high for each in kept[MAX_CANDIDATES:]
        ]
        self._least_high = max([self._least_high, *dropped])
        self.candidates = kept[:MAX_CANDIDATES]

    def finish(self, maxrss: int, floor: int) -> None:
        """Take in ru_maxrss of the largest reaped process, at the end (rule 9).

        `floor`: the high-water mark of the launcher. Exec hands it on (setmax_mm_hiwater_rss), so ru_maxrss says
        nothing below it. Above every mark seen it is a process that no scan met. It holds file pages: no low bound.
        """
        if self._previous is None:
            self.sampled = False
            self._least_high = max(maxrss, floor)
        elif maxrss > max(floor, self._largest_mark * MARK_RATIO):
            self._least_high = max(self._least_high, maxrss)


class _Spike:
    """The excess of a high-water mark over what scans saw of a process.

    `seen`, `earlier`: RSS now and at the previous scan (of a new process, that of its parent in the family); `size`:
    the excess over both and over earlier marks; `by_faults`: whether it took as many faults as pages.
    """

    __slots__ = ("by_faults", "earlier", "earlier_anon", "file", "seen", "size")

    def __init__(self, process: ProcessMemory, tick: int) -> None:
        self.seen = process.anon + process.file + process.shmem
        self.earlier = self.earlier_anon = 0
        self.file = process.file
        most, faults = self.seen, process.faults
        before, parent = process.before, process.parent
        if process.entered < tick and before is not None:
            self.earlier = before[1] + before[2] + before[3]
            self.earlier_anon = before[1]
            self.file = max(process.file, before[2])
            most = max(most, self.earlier, before[0])
            faults -= process.faults_before
        elif parent is not None and parent.living:
            self.earlier = parent.anon + parent.file + parent.shmem
            most = max(most, self.earlier, parent.peak)  # its mark starts with what the parent had
        self.size = process.peak - most
        self.by_faults = faults >= process.peak - max(self.seen, self.earlier)


def entries(bracket: Bracket, families: Iterable[Family], spikes: list[PeakEntry]) -> list[PeakEntry]:
    """Return the largest parts of a peak, largest first."""
    found = list(spikes)
    if bracket.shmem_high:
        found.append(PeakEntry(None, None, bracket.shmem_low, bracket.shmem_high, SHARED))
    for family in sorted(families, key=_high, reverse=True)[:ENTRIES]:
        heads = [process for process in family.heads if process in family.members]
        process = max(heads or family.members, key=_anon)
        kind = PRIVATE if len(family.members) == 1 else FAMILY
        high = max(family.low, min(family.high, bracket.anon_high))
        found.append(PeakEntry(process.pid, process.command, family.low, high, kind))
    found.sort(key=_size, reverse=True)
    return found[:ENTRIES]


def _high(family: Family) -> int:
    return family.high


def _anon(process: ProcessMemory) -> int:
    return process.anon


def _size(entry: PeakEntry) -> int:
    return entry.low + entry.high


def _candidate_high(candidate: Candidate) -> int:
    return candidate.high


def gaps(
    peaks: Peaks, *, denied: int = 0, missing: str | None = None, late_scans: int = 0, anonymous_hidden: bool = False
) -> list[tuple[str, int | None, int | None]]:
    """Return what makes the peak a range: (code, count, bytes); count or bytes are None where there are none.

    A peak that is shown as one figure has none but spikes and late scans. PSS is not read for a width of
    `NARROW_BYTES`, which the lag of the machine's counters alone can make. `denied`: processes whose PSS this user
    cannot read; `missing`: the code of a procfs that went; `late_scans`: scans that took more than 50 ms;
    `anonymous_hidden`: whether this user cannot attribute shared anonymous memory by `map_files`.
    """
    candidate = peaks.candidate
    if candidate is None:
        return [] if peaks.sampled else [(NOT_SAMPLED, None, peaks.high)]
    found: list[tuple[str, int | None, int | None]] = []
    bracket = candidate.bracket
    range_bytes = peaks.high - peaks.low
    least = max(bracket.low, peaks.low) * WIDE_RATIO
    width = min(candidate.anon_high - bracket.anon_low, range_bytes)
    if width > max(least, NARROW_BYTES):
        found.append((PSS_DENIED, denied, width) if denied else (missing or PSS_STALE, None, width))
        if bracket.source == PROCESSES:
            found.append((SURROUNDINGS_HIDDEN, None, width))
    if peaks.spike > max(least, SMALLEST_SPIKE):
        found.append((SPIKE_BETWEEN_SAMPLES, None, peaks.spike))
    if min(bracket.unclaimed_shmem, range_bytes) > least:
        found.append((UNCLAIMED_SHMEM, None, bracket.unclaimed_shmem))
        if anonymous_hidden:
            found.append((ANONYMOUS_SHMEM, None, bracket.unclaimed_shmem))
    if late_scans:
        found.append((LATE_LOOK, late_scans, None))
    return found
