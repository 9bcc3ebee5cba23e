"""Memory of a process tree as a bracket: low <= anonymous + shared memory <= high.

What a job needs is memory that the kernel cannot drop: anonymous pages (heap, stack) and shared memory (shm, tmpfs,
memfd). No file of `/proc` has that figure for a set of processes. A sum of RSS counts a page once for each process
that maps it; a sum of PSS adds moments, and misses what was not read and what no process maps. So the model
keeps two bounds, each proved by a rule, and everything that is not part of the figure apart: mapped files, kernel
memory, swap.

Rules, and where each one is:

1. A scan is `stat` and `status` of each member that moved. Where minflt, majflt and rss of `stat` are unchanged, no
   size of that member moved. (`MemoryModel.update`; the caller reads.)
2. Members with the same startcode, startstack and start_brk are a family; a family of one is RssAnon, exactly.
   (`memory_families`)
3. What the surroundings gained, and their other processes did not, is the tree's. (`memory_surroundings`)
4. A fork copies no page, and each later copy costs a fault. (`Family.weigh`)
5. PSS is read where the bracket is wide, for a whole family, and carried forward. (`memory_pss`)
6. Shared memory counts once. (`SharedMemory`)
7. A high-water mark above every reading is a spike between two scans. (`memory_peaks`)
8. Mapped files, kernel memory, swap and huge pages of hugetlbfs are separate figures. (`MemoryModel.bracket`)
9. ru_maxrss below the mark of the launcher says nothing: exec passes that mark on. (`Peaks.finish`)

Sources in the kernel: fs/proc/task_mmu.c (task_mem, smaps_rollup), fs/proc/array.c (do_task_stat), kernel/fork.c
(dup_mm: a child starts with the RSS and the mark of its parent, and with no fault), fs/exec.c (exec_mmap: a new mark;
setmax_mm_hiwater_rss hands the old one to ru_maxrss), mm/memory.c (mm_account_fault), mm/memcontrol.c, mm/vmstat.c.

Beyond these rules: a huge page is 512 pages for one fault, so the high bounds are of small pages, and huge pages add at
most the rise of their level around the tree (`MemoryModel.huge`). And a later scan narrows an earlier peak: what a
moment held and a later one does not was released in between (`Candidate.fall`).

Limits: a scan is not one moment, so memory that moves during it blurs both bounds. A neighbour that maps huge pages
and frees as many within one interval can shift low. High of shared memory, and the level of huge pages, follow the
surroundings: a neighbour's tmpfs is in high, and a neighbour that frees while the tree fills hides as much. Before
kernel 6.2 RssAnon lags by up to 64 pages a thread. Processes that live wholly between two scans are bounded by their
faults (`memory_unseen`): huge pages of theirs are not, nor are unreaped children. Shared memory that the
tree held before an attach, and that no member maps, is in no figure.

The model does no I/O and reads no clock. At the start of a run, before the job is forked:

    list the other processes of the surroundings and read them; anon_before, start = their levels, twice
    model = MemoryModel(cpus, start=start, anon_before=anon_before); model.neighbours(readings of the others)

One scan, in this order:

    list the other processes, then anon_before = the anonymous level
    for each member that moved, parents first: read `stat`, then `status`; model.update(...)
    for each that is new:  process = model.enter(...), then model.update(...); read its parent again: model.update(...)
    for each without Vm lines that is not a zombie: model.fade(process); for each that is gone: model.leave(process)
    read the others: model.neighbours(readings, or None)
    claimed = shared files that the tree holds, then levels = the levels of the surroundings
    bracket = model.bracket(anon_before, levels, claimed)
    for family in model.families_to_read(), while the budget allows it:
        first = snapshot(family); for each member read `stat`, then `smaps_rollup`; scan again as above
        model.take(family, first, readings)
    if any was read: neighbours, levels and model.bracket(...) again
    model.settle(now)

At the end: model.peaks.finish(...), then model.peaks and memory_peaks.gaps(...).
"""

from __future__ import annotations

from proctally.tree import memory_pss
from proctally.tree.memory_fading import Fading
from proctally.tree.memory_families import NO_SIZES, Family, ProcessMemory
from proctally.tree.memory_moments import Bracket, PeakEntry, Turnover
from proctally.tree.memory_overlap import Overlap
from proctally.tree.memory_peaks import NOISE_BYTES, PROCESSES, RUN_CGROUP, SURROUNDINGS, Peaks, entries
from proctally.tree.memory_surroundings import SharedMemory, Surroundings
from proctally.tree.memory_unseen import SPREAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.linux.memory_levels import MemoryLevels
    from proctally.linux.proc_memory import Sizes
    from proctally.tree.memory_exits import Exiting
    from proctally.tree.memory_unseen import Lived

THREAD_BYTES = 30 * 1024  # kernel stack and task of a thread, measured
YOUNG_SCANS = 2  # a member that leaves after so many scans can still have been growing
PROCESS_BYTES = 32 * 1024  # areas, signals, descriptors and directory entries of a process, measured


class MemoryModel:
    """Readings of scans in, brackets out.

    `cpus`: CPUs of the machine, for the lag of its counters. `start`: levels of the surroundings before the tree
    started, with `anon_before` read just before them; None for a tree that is running (`attach`). `run_cgroup`:
    whether the levels given are those of a cgroup that holds the tree and nothing else; the caller clears it when a
    member leaves that cgroup.
    """

    def __init__(
        self,
        cpus: int,
        *,
        start: MemoryLevels | None = None,
        anon_before: int | None = None,
        run_cgroup: bool = False,
        page_size: int = 4096,
    ) -> None:
        self.tick = 1
        self.run_cgroup = run_cgroup
        self._huge_pages = page_size // 8  # a huge page fills one page of page table entries
        self.huge = 0  # most bytes of huge pages that the tree can have made: the largest rise of their level
        self._least_huge = 0 if start is None else start.anon_huge
        self.members: dict[tuple[int, int], ProcessMemory] = {}
        self.families: dict[bytes, Family] = {}
        self.surroundings = Surroundings(cpus)
        self.shared = SharedMemory(None if start is None else start.shmem)
        self.peaks = Peaks(attached=start is None)
        if start is not None:
            self.surroundings.start(start.anon if anon_before is None else anon_before, start.anon)
        self.last: Bracket | None = None  # of this scan
        # sums over the members
        self._kernel = self._swap = self._hugetlb = 0
        # bounds over the families, and the families whose bounds a scan changed
        self._low = self._high = self._high_small = 0
        self._changed: dict[Family, None] = {}
        self._mapped_file = 0
        self._mapped_changed = False
        self._fading = Fading()
        self.turnover = Turnover(self._huge_pages)
        self._overlap = Overlap()
        self.missed = 0  # bytes that were made between the last two scans, and that no reading shows
        # Bytes that members that left since the last scan can have made before their end: a young one grew no larger
        # than others of its command, and each copied no more than it shared.
        self._room = 0
        self._largest: dict[bytes, int] = {}  # command -> most anonymous bytes of one process, by its mark
        # of the tree, but in no reading of a member: the maximum so far; None before the first scan of an attach
        self._unseen_faults = None if start is None else 0

    # -- members ---------------------------------------------------------------------------------------------------

    @property
    def entered(self) -> int:
        """The members that are new in this scan."""
        return len(self._overlap.entered)

    def enter(
        self,
        pid: int,
        start: int,
        command: bytes,
        program: bytes,
        parent: ProcessMemory | None,
        *,
        is_root: bool = False,
    ) -> ProcessMemory:
        """Add a member, to be followed by its first `update`.

        `program`: `parse_program` of its `stat`. `parent`: its parent, if that is a member. `is_root`: whether
        it is the process that a run started, which executed the job itself. A process that shares its
        parent's address space (kcmp) or that has not executed the job yet (it has the launcher's program) is not
        entered before it executes its own program.
        """
        process = self.members[pid, start] = ProcessMemory(pid, start, command, self.tick)
        self._overlap.entered[process] = None
        # Its parent had another program at the previous scan: it executed its own.
        process.forked = not is_root and (parent is None or parent.entered == self.tick)
        self._join(process, program, parent)
        self.peaks.marked[process] = None
        return process

    def _join(self, process: ProcessMemory, program: bytes, parent: ProcessMemory | None) -> None:
        family = self.families.get(program)
        if family is None:
            family = self.families[program] = Family(program, self._huge_pages)
        if parent is not None and (parent.family is not family or not parent.living):
            parent = None
        family.add(process, parent, self.tick, self.huge)
        self._changed[family] = None

    def update(self, process: ProcessMemory, program: bytes, sizes: Sizes, faults: int, threads: int) -> None:
        """Take in a reading of a member that is new or that moved.

        `sizes`: `parse_memory` of its `status`; `faults`: (minflt + majflt) x page size; readings are passed on in
        the order in which they were made.
        """
        family = process.family
        if family is None or family.program != program:
            family = self._execute(process, program)
        if process.tick != self.tick or process.before is None:
            process.tick = self.tick
            process.before, process.faults_before = process.sizes, process.faults
        old = process.anon
        peak, anon, file, shmem, tables, swap, hugetlb = process.sizes = sizes
        if peak > process.peak:
            self.peaks.marked[process] = None
            if peak - file - shmem > self._largest.get(process.command, 0):
                self._largest[process.command] = peak - file - shmem
        if shmem != process.shmem:
            if shmem:
                self.shared.mapping[process] = None
            else:
                self.shared.mapping.pop(process, None)
        process.peak, process.anon, process.file, process.shmem = peak, anon, file, shmem
        filled, process.faults = faults - process.faults, faults
        if filled > NOISE_BYTES:
            self.peaks.faulting[process] = None
        kernel = tables + threads * THREAD_BYTES + PROCESS_BYTES
        self._kernel += kernel - process.kernel
        self._swap += swap - process.swap
        self._hugetlb += hugetlb - process.hugetlb
        process.kernel, process.swap, process.hugetlb = kernel, swap, hugetlb
        family.anon += anon - old
        self.turnover.add(old, anon, filled, self.huge)
        family.weigh(process, self.huge)
        if process.unsure:
            family.confirm_children(process, self.tick, self.huge)
        self._changed[family] = None

    def _execute(self, process: ProcessMemory, program: bytes) -> Family:
        """Move a member that executed another program to the family of that program."""
        self._part(process, executed=True)
        process.living = True
        process.forked = False
        process.base_anon = process.rollup = None
        process.is_new = False
        process.new_children = 0
        process.clear_shares()
        process.anon = process.peak = 0
        process.sizes, process.before = NO_SIZES, None
        process.entered = self.tick
        self._join(process, program, None)
        assert process.family is not None
        return process.family

    def fade(self, process: ProcessMemory) -> None:
        """Note that the kernel is releasing the memory of a member.

        Its last size counts in high alone.
        """
        if process.living:
            family = process.family
            assert family is not None
            if self._fading.is_first(family):
                self._update_families()
            self._fading.add(process, family, process.made_at_most())
            self._overlap.entered.pop(process, None)
            self._depart(process)

    def leave(self, process: ProcessMemory) -> None:
        """Remove a member that exited, or that is a zombie without another thread."""
        self._fading.remove(process)
        if process.living:
            self._overlap.leave(process)
            self._depart(process)

    def _depart(self, process: ProcessMemory) -> None:
        del self.members[process.pid, process.start]
        self._part(process)

    def _part(self, process: ProcessMemory, *, executed: bool = False) -> None:
        family = process.family
        assert family is not None
        process.living = False
        if not executed:
            if len(family.members) > 1 or family.left_tick == self.tick:
                family.left_tick = self.tick
                self._room += process.shared_at_most()
            most = process.most_anon()
            largest = self._largest.get(process.command, 0)
            most = max(most, min(SPREAD * largest, process.anon + SPREAD * process.growth(self.tick)))
            if self.tick - process.entered <= YOUNG_SCANS:
                most = max(most, largest)
                # what it has in common with its parent is not its own
                unseen = self.peaks.unseen
                unseen.largest = max(unseen.largest, min(process.most_anon(), process.faults))
            self._room += most - process.anon
        family.remove(process, self.tick, self.huge, executed=executed)
        if family.members:
            self._changed[family] = None
        else:
            del self.families[family.program]
            self._changed.pop(family, None)
            self._low -= family.low
            self._high -= family.high
            self._high_small -= family.high_small
            self._mapped_changed = True
        self.shared.mapping.pop(process, None)
        self.peaks.marked.pop(process, None)
        self.peaks.faulting.pop(process, None)
        self.turnover.released += process.anon
        self._kernel -= process.kernel
        self._swap -= process.swap
        self._hugetlb -= process.hugetlb
        process.kernel = process.swap = process.hugetlb = 0

    # -- surroundings ----------------------------------------------------------------------------------------------

    def neighbours(self, readings: dict[tuple[int, int], tuple[int, int]] | None) -> None:
        """Take in the other processes of the surroundings.

        `readings`: (pid, start ticks) -> (RssAnon, faults), in bytes. They are listed before the tree is scanned and
        read after it; members among them are left out here. None where they are hidden or where a member lives
        elsewhere.
        """
        self.surroundings.update(readings, self.members.keys(), self.huge > 0)

    # -- the bracket -----------------------------------------------------------------------------------------------

    def bracket(self, anon_before: int, levels: MemoryLevels | None, claimed: int = 0) -> Bracket:
        """Return the bracket of this moment.

        It can be called again within a scan, after more was read. `anon_before`: the anonymous level of the
        surroundings before the scan; `levels`: all levels after it, None where they cannot be read; `claimed`: shared
        memory that the tree provably holds, read before `levels`.
        """
        if levels is not None:
            self._least_huge = min(self._least_huge, levels.anon_huge)
            if levels.anon_huge - self._least_huge > self.huge:
                self._set_huge(levels.anon_huge - self._least_huge)
        self._update_families()
        self.shared.update_bounds(levels, claimed)
        shmem = self.shared.low, self.shared.high
        source = PROCESSES
        anon = self._low, min(self._high, self._high_small + self.huge) + self._fading.most()
        if self.run_cgroup and levels is not None:
            source = RUN_CGROUP
            anon = self._around_level(*anon, *sorted((anon_before, levels.anon)))
            shmem = levels.shmem, levels.shmem
        elif levels is not None and self.surroundings.visible:
            source = SURROUNDINGS
            anon = self.surroundings.narrow(*anon, anon_before, levels.anon)
        self.last = Bracket(anon, shmem, self._hugetlb_bounds(), self._mapped_file, self._kernel, self._swap, source)
        return self.last

    def _around_level(self, low: int, high: int, least: int, most: int) -> tuple[int, int]:
        """Return bounds from the level of the run cgroup before and after a scan, and from those of the families.

        The level lags behind (mm/memcontrol.c, memcg_vmstats_needs_flush): by at most the slack, and never more than
        the families explain, or than processes that no scan saw can hold.
        """
        slack = self.surroundings.slack
        lowest = least if least <= high else max(high, least - slack)
        return max(lowest, min(low, least + slack)), max(most, min(high, most + slack))

    def parts(self) -> list[PeakEntry]:
        """Return the largest parts of the last bracket, largest first."""
        return [] if self.last is None else entries(self.last, self.families.values(), [])

    def _set_huge(self, huge: int) -> None:
        first, self.huge = not self.huge, huge
        for family in self.families.values() if first else ():
            self._changed[family] = None
            for process in family.members:
                family.weigh(process, huge)

    def _update_families(self) -> None:
        for family in self._changed:
            low, high, small, mapped_file = family.low, family.high, family.high_small, family.mapped_file
            family.update_bounds(self.huge)
            self._low += family.low - low
            self._high += family.high - high
            self._high_small += family.high_small - small
            if family.mapped_file != mapped_file:
                self._mapped_changed = True
        self._changed = {}
        if self._mapped_changed:
            self._mapped_changed = False
            self._mapped_file = _mapped_files(self.families.values())

    def _hugetlb_bounds(self) -> tuple[int, int]:
        """Return bounds of hugetlb pages.

        They are in no RSS, nor, as a rule, in a memory cgroup. Families can map the same ones: a segment, or a file.
        """
        if not self._hugetlb:
            return 0, 0
        low = high = 0
        for family in self.families.values():
            family_low, family_high = family.hugetlb_bounds()
            low = max(low, family_low)
            high += family_high
        return low, high

    # -- PSS (rule 5) ----------------------------------------------------------------------------------------------

    def families_to_read(self) -> list[Family]:
        """Return the families whose PSS would narrow the last bracket, widest first."""
        assert self.last is not None
        return memory_pss.families_to_read(self.last, self.families.values(), self.shared.mapping, self.tick)

    def take(self, family: Family, first: memory_pss.Snapshot, readings: memory_pss.Readings) -> None:
        """Take in a whole reading of a family (`memory_pss.take`).

        `first` is its `snapshot` before the reading; the scan after the reading has been passed on.
        """
        if family.members:
            memory_pss.take(family, first, readings, self.huge)
            family.denied = not readings
            self._changed[family] = None

    # -- the end of a scan -----------------------------------------------------------------------------------------

    def settle(
        self, now: float, faults: int | None = None, exiting: Exiting | None = None, lived: Lived | None = None
    ) -> None:
        """End a scan: pass its last bracket and its high-water marks to the peaks.

        `now`: the moment in seconds since the start. `faults`: (minflt + majflt) x page size of the whole tree, exited
        processes included. `exiting`: bytes that members that left since the last scan faulted in after their last
        reading, and those that are theirs or of children that no scan met. `lived`: how many processes lived at once,
        and how many started, since the last scan. Each is None where it is unknown.
        """
        assert self.last is not None
        peaks = self.peaks
        self.missed = 0 if faults is None else self.unseen_since(faults)
        if faults is not None:
            if self._unseen_faults is None:
                self._unseen_faults = faults - self.turnover.faulted
            self._unseen_faults += self.missed
        own, of_parents = exiting or (0, self.missed)
        ending = min(own + of_parents, self._room, self.missed)
        faulted = self.shared.explain(self.missed - max(ending, min(own, self.missed)))
        members = len(self.members)
        unseen = peaks.unseen.size_of(faulted, members - self.entered, lived)
        overlap = self._overlap.take(members, lived)
        turnover = self.turnover.mark(self.huge)
        peaks.note(now, self.last, self.families.values(), self.tick, self._low, turnover, ending, unseen, overlap)
        self._room = 0
        self.tick += 1

    def unseen_since(self, faults: int) -> int:
        """Return the most bytes that were made since the last scan, and that no reading of a member shows.

        `faults` as in `settle`. Those of a member can be read after those of the whole tree, so the difference counts
        where it passes its maximum.
        """
        before = self._unseen_faults
        return 0 if before is None else max(0, faults - self.turnover.faulted - before)


def _mapped_files(families: Iterable[Family]) -> int:
    """Return mapped files: of each command the family that maps most.

    Processes of one command map the same files.
    """
    largest: dict[bytes, int] = {}
    for family in families:
        command = next(iter(family.members)).command
        largest[command] = max(largest.get(command, 0), family.mapped_file)
    return sum(largest.values())
