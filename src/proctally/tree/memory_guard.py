"""The memory of a tree, which is read from the second scan of a run on: scans, readings of PSS, high-water marks."""

from __future__ import annotations

from proctally.linux.descriptors import own_maxrss
from proctally.linux.machine import NANOSECONDS
from proctally.record.codes import HIDDEN, NOT_SAMPLED, TRACKING_FAILED
from proctally.tree.guards import Guard
from proctally.tree.member import MAJOR, MINOR, UNREAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.record import JsonObject
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.ledger import Ledger
    from proctally.tree.member import Member, ScanState
    from proctally.tree.membership import Membership
    from proctally.tree.memory_scan import MemoryScan
    from proctally.tree.memory_unseen import Lived
    from proctally.tree.perf_source import PerfSource
    from proctally.tree.phase_peaks import PhasePeak

MEMORY_DIVISOR = 400  # scans between two samples that read memory take at most this part of a core ...
MISSING_DIVISOR = 200  # ... and this part while much of it is made and released between two of them
HELD_SLACK = 2 << 20  # what the held child maps before it executes: 0.8 to 1.1 MiB here
PEAK = (
    "peak_low_bytes", "peak_high_bytes", "at_seconds", "mapped_file_bytes", "kernel_bytes", "swap_bytes",
    "unclaimed_shmem_bytes", "at_peak", "source",
)  # fmt: skip


class MemoryGuard(Guard):
    """The memory of a tree: the scans that read it as a bracket, readings of PSS, high-water marks.

    `at_once`: whether the first scan of a run reads memory; a table needs it. `pss_ratio`: CPU time for PSS, as a share
    of a core. `reading`: the reader, in a scan that reads memory. `pss`: the sum of what is known.
    """

    reader: MemoryScan | None

    def __init__(
        self,
        tree: Membership,
        ledger: Ledger,
        state: ScanState,
        enclosure: Enclosure | None,
        perf: PerfSource | None,
        *,
        is_wanted: bool,
        at_once: bool,
        pss_ratio: float,
    ) -> None:
        super().__init__(tree, state, enclosure, is_wanted=is_wanted and tree.machine.procfs_missing is None)
        self.ledger = ledger
        self.perf = perf
        self.at_once = at_once
        self.pss_ratio = pss_ratio
        self.reading: MemoryScan | None = None
        self.pss = 0
        self.pss_known = 0  # members whose PSS is in the sum
        self.peak_process_rss: int | None = None
        self.maxrss = 0  # largest of the reaped processes, bytes
        self.maxrss_floor = 0
        self._is_loaded = False  # before this scan
        self._due_ns = 0  # when a scan between two samples reads memory again
        self.left_out: dict[Member, None] = {}  # members that ran in scans that left memory out
        self.phase_peaks: list[PhasePeak] = []  # of the phases that are open

    # -- scans -----------------------------------------------------------------------------------------------------

    def begin(self, now: int, *, between: bool) -> bool:
        """Return whether this scan reads memory: one between two samples does where that is cheap."""
        with_memory = self.is_wanted and (not between or now >= self._due_ns)
        self.reading = self.reader if with_memory else None
        self._is_loaded = self.reader is not None
        if self.reading is not None:
            self.call(self.reading.begin)
        return with_memory

    def scan(
        self, ran: list[Member], begun_ns: int, with_memory: bool, discover: Callable[[list[Member]], list[Member]]
    ) -> None:
        """Read the memory of members that ran, or keep them for the next scan that reads it.

        `discover(members)` returns the new processes of that state.
        """
        if with_memory:
            self.call(self._scan, list(dict.fromkeys([*self.left_out, *ran])), begun_ns, discover)
            self.left_out.clear()
        elif self.is_wanted:
            self.left_out.update(dict.fromkeys(ran))

    def _scan(self, ran: list[Member], begun_ns: int, discover: Callable[[list[Member]], list[Member]]) -> None:
        members, state = self.tree.members, self.state
        if self.reader is None:
            if not members or (self.tree.own is not None and state.tick == 1 and not self.at_once):
                return
            self.reader = self.reading = self.make(discover)
            ran = list(members.values())
        elif self.enclosure is not None and self.enclosure.memory_left:
            self.reader.leave_run_cgroup()
        self.reader.scan(ran, members, begun_ns, state.read_ns - state.started_ns, state.idle)
        for peak in self.phase_peaks:
            peak.note(self.reader)

    def make(self, discover: Callable[[list[Member]], list[Member]]) -> MemoryScan:
        """Return the reader of this tree."""
        from proctally.linux.cgroup import memory_place, places
        from proctally.tree.memory_scan import MemoryScan

        machine, enclosure = self.machine, self.enclosure
        found = {} if enclosure is None else enclosure.found
        place = memory_place(machine, found or places(machine, next(iter(self.tree.members))))
        before, run_cgroup = None, False
        if enclosure is not None:
            before = enclosure.memory_before
            run_cgroup = place is not None and enclosure.is_own(place[1].directory)
        return MemoryScan(
            machine,
            self.files,
            place,
            since=machine.time() - (machine.monotonic_ns() - self.state.started_ns) / NANOSECONDS,
            before=before,
            run_cgroup=run_cgroup,
            pss_ratio=self.pss_ratio,
            root=None if self.tree.own is None else self.tree.root,
            discover=discover,
            faults=self._all_faults,
            lived=self._lived,
            take_pss=self._take_pss,
        )

    def _all_faults(self) -> int:
        """Return the page faults of the tree, those before its start included: `stat` of a member shows them too."""
        total, base = self.ledger.total(), self.ledger.base
        return total[MINOR] + total[MAJOR] + base[MINOR] + base[MAJOR]

    def _lived(self) -> Lived | None:
        return None if self.perf is None else self.perf.lived()

    def note_cost(self, now: int, cost_ns: int) -> None:
        """Take in the CPU time of a scan that read memory: it sets the pace of those between two samples.

        That of the first is left out: it loads what it needs.
        """
        if self._is_loaded:
            self._due_ns = now + cost_ns * (MISSING_DIVISOR if self._misses_much else MEMORY_DIVISOR)

    @property
    def _misses_much(self) -> bool:
        return self.reader is not None and self.reader.misses_much

    @property
    def due_ns(self) -> int | None:
        """The monotonic clock of the next scan between two samples, where none is made for the time; None without."""
        return self._due_ns if self._misses_much else None

    def stop(self, error: Exception) -> None:
        """End it."""
        super().stop(error)
        self.reading = None

    # -- members ---------------------------------------------------------------------------------------------------

    def leave(self, member: Member) -> None:
        """Remove a member that exited, or that is a zombie."""
        if self.reader is not None:
            self.call(self.reader.leave, member)
        self.forget_pss(member)

    def forget(self, member: Member) -> None:
        """Remove a member that is out of the tree, and keep its high-water mark."""
        self.left_out.pop(member, None)
        self.note_process_rss(member.peak_rss)

    def _take_pss(self, member: Member, pss: int) -> None:
        """Keep a reading of PSS until the RSS of the member moves."""
        self.forget_pss(member)
        self.pss += pss
        self.pss_known += 1
        member.pss, member.pss_at = pss, self.machine.monotonic_ns()

    def forget_pss(self, member: Member) -> None:
        """Take the PSS of a member out of the sum: its memory moved."""
        if member.pss is not None:
            self.pss -= member.pss
            self.pss_known -= 1
            member.pss = None

    def pss_unread(self) -> int:
        """Return the number of processes with memory whose PSS is not in the sum."""
        return sum(1 for member in self.tree.members.values() if member.pss is None and member.rss)

    # -- high-water marks ------------------------------------------------------------------------------------------

    def start(self, root: Member) -> None:
        """Leave out what the root of a run maps before its exec.

        Its exec passes its high-water mark to `ru_maxrss`, which says nothing below it (kernel: exec_mmap). That mark
        is of this program, while the `ru_maxrss` of this process can be that of another. It is a bound where the mark
        cannot be read.
        """
        mark = own_maxrss() if root.state == UNREAD else root.peak_rss
        self.maxrss_floor = mark + HELD_SLACK
        root.peak_rss = 0

    def note_maxrss(self, maxrss: int) -> None:
        """Take in the `ru_maxrss` of a reaped process, in bytes."""
        self.maxrss = max(self.maxrss, maxrss)
        if maxrss > self.maxrss_floor:
            self.note_process_rss(maxrss)

    def note_process_rss(self, rss: int) -> None:
        """Take in the high-water mark of a process, in bytes."""
        if rss and (self.peak_process_rss is None or rss > self.peak_process_rss):
            self.peak_process_rss = rss

    def _mark_bound(self) -> int | None:
        """Return the largest mark of a reaped process; one below the floor can be that of the launcher."""
        return max(self.maxrss_floor, self.maxrss, self.peak_process_rss or 0) or None

    # -- figures ---------------------------------------------------------------------------------------------------

    def low(self) -> int | None:
        """Return the bytes that the tree provably holds; None where they are unknown."""
        bracket = None if self.reader is None else self.reader.bracket
        return None if bracket is None else bracket.low

    def levels(self, swap: int) -> JsonObject:
        """Return the fields of a sample. `swap`: bytes by `status`, for where no bracket is known."""
        bracket = None if self.reader is None else self.reader.bracket
        return {
            "swap_bytes": swap if bracket is None else bracket.swap,
            "memory_low_bytes": None if bracket is None else bracket.low,
            "memory_high_bytes": None if bracket is None else bracket.high,
            "mapped_file_bytes": None if bracket is None else bracket.mapped_file,
            "kernel_bytes": None if bracket is None else bracket.kernel,
        }

    def held_by(self, member: Member) -> tuple[int, int] | None:
        """Return bounds of the bytes that a member holds, with what it shares in the upper one; None: unread."""
        process = None if self.reader is None else self.reader.members.known.get(member)
        if process is None:
            return None
        family = process.family
        low, high = process.own_low, process.anon
        if family is not None and len(family.members) == 1:
            low, high = family.low, family.high
        return low + process.hugetlb, max(low, high) + process.hugetlb + process.shmem

    def open_phase(self) -> PhasePeak:
        """Return the peak of a phase that starts now."""
        from proctally.tree.phase_peaks import PhasePeak

        peak = PhasePeak(self.reader)
        self.phase_peaks.append(peak)
        return peak

    def close_phase(self, peak: PhasePeak) -> None:
        """End a phase: its peak stays as it is."""
        self.phase_peaks.remove(peak)

    def finish(self) -> None:
        """Take in the marks of all that was reaped, at the end of a run."""
        if self.reader is not None:
            elapsed_ns = self.machine.monotonic_ns() - self.state.started_ns
            self.call(self.reader.finish, self.maxrss, self.maxrss_floor, elapsed_ns)

    def summary(self) -> JsonObject:
        """Return the bracket of the peak; of a job that no scan met, the marks of what was reaped bound it."""
        found: JsonObject | None = None if self.reader is None else self.call(self.reader.summary)
        if found is not None:
            return found
        unknown: JsonObject = dict.fromkeys(PEAK)
        bound = self._mark_bound()
        if bound and self.is_wanted and self.tree.hidden is None:
            unknown |= {"peak_low_bytes": 0, "peak_high_bytes": bound}
        return unknown

    def gaps(self) -> list[tuple[str, int | None, int | None]]:
        """Return code, count and bytes of what makes the peak a range."""
        if not self.is_wanted and self.fault is None:
            return []
        found: list[tuple[str, int | None, int | None]] | None = None
        if self.reader is not None and self.reader.is_sampled:
            run_cgroup = self.reader.model.run_cgroup
            found = self.call(self.reader.gaps)
            if found is not None and self.tree.hidden is not None and not run_cgroup:
                found = [*found, (HIDDEN, None, None)]  # of such a process no size can be read
        if self.fault is not None:
            return [(TRACKING_FAILED, None, None)]
        if found is not None:
            return found
        return [(NOT_SAMPLED, None, self._mark_bound()) if self.tree.hidden is None else (HIDDEN, None, None)]

    @property
    def pss_denied(self) -> int:
        """Processes whose PSS was needed and is denied."""
        return 0 if self.reader is None else len(self.reader.denied)
