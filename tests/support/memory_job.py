"""Hand-made readings for the memory model, in MiB.

job = MemoryJob()
root = job.start(anon=100)
worker = job.fork(root)              # the anonymous memory of its parent, and no fault
job.read(worker, anon=100, faults=20)
assert job.scan() == (100, 120)      # anonymous memory: low, high
"""

from __future__ import annotations

from itertools import count

from proctally.linux.memory_levels import MemoryLevels
from proctally.linux.proc_memory import Rollup
from proctally.tree.memory import MemoryModel
from proctally.tree.memory_families import Family, ProcessMemory
from proctally.tree.memory_moments import Bracket
from proctally.tree.memory_pss import snapshot

MIB = 1 << 20
FILE = 8


class MemoryJob:
    """A model, what its processes show, and the levels around them.

    `attached`: the tree ran before.
    """

    def __init__(self, *, attached: bool = False, neighbours: bool = False, run_cgroup: bool = False) -> None:
        start = None if attached else MemoryLevels(1000 * MIB, 0)
        self.model = MemoryModel(0, start=start, run_cgroup=run_cgroup)
        self.levels = MemoryLevels(1000 * MIB, 0)
        self.anon_before: int | None = None
        self.claimed = 0
        self.others: dict[tuple[int, int], tuple[int, int]] | None = {} if neighbours else None
        self.model.neighbours(self.others)
        if neighbours:
            self.model.surroundings.start(1000 * MIB, 1000 * MIB)
        self.faults: dict[ProcessMemory, float] = {}
        self._pids = count(100)
        self._programs = count(1)
        self.seconds = 0.0

    # -- processes -------------------------------------------------------------------------------------------------

    def start(
        self, anon: float = 0, *, command: bytes = b"job", program: bytes | None = None, faults: float | None = None
    ) -> ProcessMemory:
        """Add a process that executed its own program."""
        program = program or b"%d" % next(self._programs)
        process = self.model.enter(next(self._pids), 1, command, program, None, is_root=True)
        return self.read(process, anon=anon, faults=anon + FILE if faults is None else faults)

    def fork(self, parent: ProcessMemory, *, anon: float | None = None, faults: float = 0) -> ProcessMemory:
        """Add a forked child, with what its parent has unless another size is given."""
        assert parent.family is not None
        process = self.model.enter(next(self._pids), 1, parent.command, parent.family.program, parent)
        peak = max(parent.anon / MIB, anon or 0) + FILE
        return self.read(process, anon=parent.anon / MIB if anon is None else anon, faults=faults, peak=peak)

    def orphan(self, family: ProcessMemory, anon: float) -> ProcessMemory:
        """Add a process of the same family whose parent is not a member."""
        assert family.family is not None
        process = self.model.enter(next(self._pids), 1, family.command, family.family.program, None)
        return self.read(process, anon=anon)

    def read(
        self,
        process: ProcessMemory,
        *,
        anon: float | None = None,
        faults: float | None = None,
        file: float = FILE,
        shmem: float = 0,
        peak: float | None = None,
        tables: float = 0,
        swap: float = 0,
        hugetlb: float = 0,
        threads: int = 1,
        program: bytes | None = None,
    ) -> ProcessMemory:
        """Pass on a reading; the mark follows the RSS unless it is given."""
        if anon is None:
            anon = process.anon / MIB
        if faults is None:
            faults = self.faults.get(process, 0)
        self.faults[process] = faults
        peak = max(process.peak / MIB, anon + file + shmem) if peak is None else peak
        sizes = tuple(round(size * MIB) for size in (peak, anon, file, shmem, tables, swap, hugetlb))
        assert process.family is not None and len(sizes) == 7
        self.model.update(process, program or process.family.program, sizes, round(faults * MIB), threads)
        return process

    def execute(self, process: ProcessMemory, anon: float) -> ProcessMemory:
        """Let a process execute another program."""
        program = b"%d" % next(self._programs)
        return self.read(process, anon=anon, faults=self.faults[process] + anon, peak=anon + FILE, program=program)

    # -- scans -----------------------------------------------------------------------------------------------------

    def bracket(self) -> Bracket:
        """Return the bracket of this moment."""
        self.model.neighbours(self.others)
        before = self.levels.anon if self.anon_before is None else self.anon_before
        return self.model.bracket(before, self.levels, round(self.claimed * MIB))

    def scan(
        self,
        *,
        unseen: float = 0,
        exiting: float | None = None,
        of_parents: float = 0,
        lived: tuple[int, int] | None = None,
    ) -> tuple[float, float]:
        """End a scan; return low and high of anonymous memory.

        `unseen`: faults of the tree so far that no reading of a member shows; `exiting`: those since the last scan of
        members that left; `of_parents`: those that are theirs or of others. `lived`: the most processes that lived at
        once, and how many started.
        """
        bracket = self.bracket()
        self.seconds += 1
        faults = self.model.turnover.faulted + round(unseen * MIB)
        left = None if exiting is None else (round(exiting * MIB), round(of_parents * MIB))
        self.model.settle(self.seconds, faults, left, lived)
        return bracket.anon_low / MIB, bracket.anon_high / MIB

    def read_pss(self, process: ProcessMemory, pss: dict[ProcessMemory, float]) -> None:
        """Pass on a whole reading of a family: the PSS of each member that was read."""
        family = process.family
        assert isinstance(family, Family)
        readings = {
            member: (member.faults, Rollup(round(size * MIB), 0, 0, member.anon)) for member, size in pss.items()
        }
        self.model.take(family, snapshot(family), readings)
