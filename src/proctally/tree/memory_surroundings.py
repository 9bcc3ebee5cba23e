"""Bounds of a tree by its surroundings: anonymous (rule 3), shared memory (rule 6).

Surroundings are the smallest memory cgroup that holds every member, else the machine. Their counters are exact sums
over all their processes (mm/memcontrol.c, mm/vmstat.c), so what they gained and other processes did not is the tree's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from proctally.linux.memory_levels import MemoryLevels
    from proctally.tree.memory_families import Family, ProcessMemory

MAX_NEIGHBOURS = 300
MOVED = -1  # shared memory of a member whose mapping changed while PSS was read: a page may count twice
SLACK_BYTES = 512 * 1024  # lag of a machine-wide counter on one CPU: at most 125 pages (mm/vmstat.c)


class Anchor:
    """A bracket of anonymous bytes with the counters of the same moment.

    `least`, `most`: the level of the surroundings before and after the scan, sorted. `fell`, `rose`: sums of the
    neighbours.
    """

    __slots__ = ("fell", "high", "least", "low", "most", "rose")

    def __init__(self, low: int, high: int, least: int, most: int, fell: int, rose: int) -> None:
        self.low = low
        self.high = high
        self.least = least
        self.most = most
        self.fell = fell
        self.rose = rose


class Surroundings:
    """The anonymous memory around a tree, and its neighbours (rule 3).

    `fell` is by how much neighbours shrank since the start, `rose` by how much they can have grown: by RssAnon, or by
    faults, since a copied page shows in faults alone.
    """

    def __init__(self, cpus: int) -> None:
        self.slack = cpus * SLACK_BYTES
        self.fell = self.rose = 0
        self.visible = False
        # True if sizes of this scan are of different moments, or if processes start: one that was forked during the
        # scan can be missing. Such a scan sets no anchor, unless it is the first of a run: what the level gained since
        # the start bounds what it misses.
        self.is_blurred = False
        self._start: int | None = None  # level before the tree started, until the first scan
        self._neighbours: dict[tuple[int, int], tuple[int, int]] = {}
        self._anchor: Anchor | None = None

    def start(self, anon_before: int, anon: int) -> None:
        """Anchor at 0: the tree has no process yet."""
        least, most = sorted((anon_before, anon))
        self._start = least
        self._anchor = Anchor(0, 0, least, most, self.fell, self.rose)

    def update(
        self, readings: dict[tuple[int, int], tuple[int, int]] | None, members: Collection[tuple[int, int]], huge: bool
    ) -> None:
        """Account for one reading of all neighbours.

        `readings`: (pid, start ticks) -> (RssAnon, faults), in bytes. `members`: those of the tree, which are left out.
        None where the neighbours are hidden: then the surroundings bound nothing until they are visible again.
        """
        if readings is None or len(readings) > MAX_NEIGHBOURS + len(members):
            self.visible = False
            self._neighbours = {}
            self._anchor = None
            return
        before = self._neighbours
        now = {key: reading for key, reading in readings.items() if key not in members}
        if self.visible:
            for key, (anon, faults) in now.items():
                was = before.get(key)
                if was is None:
                    self.rose += anon
                elif was != (anon, faults):
                    self.rose += filled(faults - was[1], anon - was[0], huge)
            for key, was in before.items():
                if key not in members:
                    self.fell += max(0, was[0] - now.get(key, (0, 0))[0])
        self.visible = True
        self._neighbours = now

    def narrow(self, low: int, high: int, anon_before: int, anon: int) -> tuple[int, int]:
        """Return the bounds narrowed by what the surroundings gained.

        `low`, `high`: bounds by the families; `anon_before`, `anon`: the level before and after the scan. The two
        bound how good an anchor is: memory that was filled between them belongs to neither side.
        """
        if not self.visible:
            return low, high
        low = min(low, anon + self.slack)  # members that ended during the scan can be in it
        high = max(low, min(high, anon + self.slack))
        least, most = sorted((anon_before, anon))
        anchor = self._anchor
        if anchor is not None:
            lowest = anchor.low + least - anchor.most - (self.rose - anchor.rose) - self.slack
            highest = anchor.high + most - anchor.least + self.fell - anchor.fell + self.slack
            if self.is_blurred and lowest > high:
                # A process that started or grew after its turn is in the level alone.
                return high, highest
            if highest - lowest <= high - low + most - least:
                low = max(low, min(lowest, high))  # what a neighbour hides is not held by the tree
                return low, max(low, min(high, highest))
        start, self._start = self._start, None
        if not self.is_blurred:
            self._anchor = Anchor(low, high, least, most, self.fell, self.rose)
        elif anchor is None and start is not None:
            self._anchor = Anchor(low, max(high, most - start), least, most, self.fell, self.rose)
        return low, high


def filled(faulted: int, grown: int, huge: bool) -> int:
    """Return the most bytes of new pages, from faults and growth of RssAnon.

    Each fault makes one page. A huge page is 512 pages for one fault and shows in the growth; a copied page shows in
    faults alone. Where there are huge pages both count.
    """
    return max(0, grown) + faulted if huge else max(faulted, grown)


class SharedMemory:
    """Shared memory of a tree (shm, tmpfs, memfd, System V), each page once.

    `low` is what members map, or what is claimed by inode; `high` follows what the surroundings gained.
    """

    def __init__(self, level: int | None) -> None:
        """Start at this level of the surroundings; None: at that of the first scan."""
        self.start = level
        self.others = 0  # growth that must be of other processes: at most 0, since their falls alone are certain
        self.mapping: dict[ProcessMemory, None] = {}  # members that map shared memory
        self.low = self.high = 0
        self._high_taken = None if level is None else 0  # `high` at the end of the scan before
        self._mapped_taken = 0
        self._growth = 0  # of the scan before, that no fault explained

    def explain(self, faulted: int) -> int:
        """Return what is left of the bytes of faults that no member shows, less those that made shared memory.

        A process can write to shared memory and exit between two scans. What it wrote is in `high`, so no scan
        missed it. The scan that sees the memory can be one before that which sees the faults. Limit: shared memory that
        was written by write(2) took no fault, and explains some all the same.
        """
        mapped = sum(process.shmem for process in self.mapping)
        before = self.high if self._high_taken is None else self._high_taken
        found = max(0, self.high - before - max(0, mapped - self._mapped_taken))
        self._high_taken, self._mapped_taken = self.high, mapped
        explained = min(faulted, found + self._growth)
        self._growth = min(found, found + self._growth - explained)
        return faulted - explained

    def update_bounds(self, levels: MemoryLevels | None, claimed: int) -> None:
        """Set `low` and `high` of this moment.

        `claimed`: bytes of files that the tree provably holds.
        """
        largest = mapped = 0
        for process in self.mapping:
            mapped += process.shmem
            if process.shmem > largest:
                largest = process.shmem
        low = max(largest, claimed, self._proportional())
        if levels is not None:
            low = min(low, levels.shmem)
        if levels is None:
            self.low, self.high = low, max(low, mapped)
            return
        if self.start is None:
            self.start = levels.shmem - max(low, mapped)
        growth = levels.shmem - self.start
        self.others = min(self.others, growth - low)
        self.low, self.high = low, max(low, growth - self.others)

    def _proportional(self) -> int:
        """Return the largest sum of Pss_Shmem of one family, read in one pass."""
        totals: dict[Family | None, int] = {}
        unread = set()
        for process in self.mapping:
            if process.rollup is None or process.rollup_shmem == MOVED:
                unread.add(process.family)
                continue
            released = max(0, process.rollup_shmem - process.shmem)
            size = max(0, process.rollup.pss_shmem - released)
            totals[process.family] = totals.get(process.family, 0) + size
        return max([total for family, total in totals.items() if family not in unread], default=0)
