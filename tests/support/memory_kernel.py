"""A simulated kernel: sets of pages that fork shares, read as from `/proc`.

    kernel = PageKernel()
    root = kernel.execute(None)     # a process that executes its own program
    kernel.fill(root, 100)          # 100 new pages, 100 faults
    child = kernel.fork(root)       # the same pages, no faults, the mark of its parent
    kernel.copy(child, 10)          # writes to 10 shared pages: copies, 10 faults
    kernel.truth()                  # bytes of distinct pages

Scans are atomic here: what a real scan blurs in time is left out, so every bound must hold exactly.
"""

from __future__ import annotations

from itertools import count

from proctally.linux.memory_levels import MemoryLevels
from proctally.linux.proc_memory import Rollup
from proctally.tree.memory import MemoryModel
from proctally.tree.memory_families import Family, ProcessMemory
from proctally.tree.memory_moments import Bracket
from proctally.tree.memory_pss import snapshot

PAGE = 4096
HUGE = 512


class Simulated:
    """One process: page numbers, faults, and its high-water mark in pages."""

    def __init__(self, pid: int, program: int, parent: Simulated | None) -> None:
        self.pid = pid
        self.program = program
        self.parent = parent
        self.pages: list[int] = []
        self.faults = 0
        self.peak = 0
        self.alive = True
        self.is_root = False

    def note_peak(self) -> None:
        self.peak = max(self.peak, len(self.pages))


class PageKernel:
    """Processes of one tree (`members`), and `others` around it."""

    def __init__(self) -> None:
        self.processes: list[Simulated] = []
        self.others: list[Simulated] = []
        self.huge: set[int] = set()  # pages that were made as huge ones
        self.ended_faults = 0  # of processes of the tree that exited
        self.started = 0
        self.most_alive = 0  # most processes of the tree at once since this was set
        self._pages = count()
        self._pids = count(100)
        self._programs = count(1)

    # -- what processes do -----------------------------------------------------------------------------------------

    def execute(self, process: Simulated | None, *, other: bool = False) -> Simulated:
        """Start a process that executes its program, or replace that of one."""
        if process is None:
            process = Simulated(next(self._pids), 0, None)
            (self.others if other else self.processes).append(process)
        process.program = next(self._programs)
        process.pages, process.peak = [], 0
        return process

    def fork(self, parent: Simulated) -> Simulated:
        child = Simulated(next(self._pids), parent.program, parent)
        child.pages = list(parent.pages)
        child.peak = len(parent.pages)
        (self.others if parent in self.others else self.processes).append(child)
        self.most_alive = max(self.most_alive, len(self.processes))
        self.started += 1
        return child

    def fill(self, process: Simulated, pages: int) -> None:
        process.pages += [next(self._pages) for _ in range(pages)]
        process.faults += pages
        process.note_peak()

    def fill_huge(self, process: Simulated) -> None:
        new = [next(self._pages) for _ in range(HUGE)]
        self.huge.update(new)
        process.pages += new
        process.faults += 1
        process.note_peak()

    def copy(self, process: Simulated, pages: int) -> None:
        """Write to the first pages that another process holds too."""
        held: dict[int, int] = {}
        for each in self.processes + self.others:
            for page in each.pages:
                held[page] = held.get(page, 0) + 1
        for index, page in enumerate(process.pages):
            if pages and held[page] > 1:
                process.pages[index] = next(self._pages)
                process.faults += 1
                pages -= 1

    def free(self, process: Simulated, pages: int) -> None:
        del process.pages[:pages]

    def exit(self, process: Simulated) -> None:
        process.alive = False
        process.pages = []
        if process in self.processes:
            self.ended_faults += process.faults
        (self.others if process in self.others else self.processes).remove(process)
        for each in self.processes:
            if each.parent is process:
                each.parent = None

    # -- what is true ----------------------------------------------------------------------------------------------

    def truth(self) -> int:
        return len({page for process in self.processes for page in process.pages}) * PAGE

    def faults(self) -> int:
        return (self.ended_faults + sum(process.faults for process in self.processes)) * PAGE

    def levels(self) -> MemoryLevels:
        pages = {page for process in self.processes + self.others for page in process.pages}
        return MemoryLevels(len(pages) * PAGE, 0, len(pages & self.huge) * PAGE)

    def rollup(self, process: Simulated) -> Rollup:
        holders: dict[int, int] = {}
        for each in self.processes + self.others:
            for page in each.pages:
                holders[page] = holders.get(page, 0) + 1
        pss = sum(PAGE / holders[page] for page in process.pages)
        return Rollup(round(pss), 0, 0, len(process.pages) * PAGE)


class Scanner:
    """Reads a `PageKernel` into a model: the members that moved, as a sampler does."""

    def __init__(self, kernel: PageKernel, model: MemoryModel, *, neighbours: bool = False) -> None:
        self.kernel = kernel
        self.model = model
        self.neighbours = neighbours
        self.known: dict[Simulated, ProcessMemory] = {}
        self._read: dict[Simulated, tuple[int, int, int, int]] = {}

    def scan(self) -> Bracket:
        self._update()
        return self._bracket()

    def settle(self, now: float = 0.0, *, lists_processes: bool = False) -> None:
        """`lists_processes`: whether it is known how many lived at once, as by perf."""
        kernel = self.kernel
        self.model.settle(now, kernel.faults(), None, (kernel.most_alive, kernel.started) if lists_processes else None)
        kernel.most_alive, kernel.started = len(kernel.processes), 0

    def read_pss(self) -> Bracket:
        """Read the families that the model wants; return the bracket after that."""
        for family in self.model.families_to_read():
            self.read_family(family)
        return self._bracket()

    def read_family(self, family: Family) -> None:
        first = snapshot(family)
        simulated = {known: process for process, known in self.known.items()}
        readings = {
            known: (simulated[known].faults * PAGE, self.kernel.rollup(simulated[known])) for known, _, _ in first
        }
        self.model.take(family, first, readings)

    def _update(self) -> None:
        for process, known in list(self.known.items()):
            if not process.alive:
                self.model.leave(known)
                del self.known[process]
        for process in self.kernel.processes:
            moved = (len(process.pages), process.faults, process.peak, process.program)
            if self._read.get(process) == moved:
                continue
            self._read[process] = moved
            program = b"%d" % process.program
            if process not in self.known:
                parent = None if process.parent is None else self.known.get(process.parent)
                self.known[process] = self.model.enter(
                    process.pid, 1, b"simulated", program, parent, is_root=process.is_root
                )
            size = len(process.pages) * PAGE
            sizes = (process.peak * PAGE, size, 0, 0, 0, 0, 0)
            self.model.update(self.known[process], program, sizes, process.faults * PAGE, 1)

    def _bracket(self) -> Bracket:
        others = {(each.pid, 1): (len(each.pages) * PAGE, each.faults * PAGE) for each in self.kernel.others}
        self.model.neighbours(others if self.neighbours else None)
        levels = self.kernel.levels()
        return self.model.bracket(levels.anon, levels)
