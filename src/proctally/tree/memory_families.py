"""Families: processes that can share anonymous pages (rules 2, 4 and 5).

A family is every member whose `stat` shows the same startcode, startstack and start_brk: fork keeps them, exec draws
new ones (fs/binfmt_elf.c, arch_randomize_brk). Only its members can share a page copy-on-write. Four bounds of the
distinct pages of a family are intersected:

- at least the largest RssAnon of a member, at most the sum;
- by fork: a fork copies no page, and each page of a child that its parent did not have costs a fault of that child;
- carried from the last whole reading: a low bound moves with RssAnon, a high bound with faults;
- a family of one is its RssAnon, exactly. That counts as a whole reading.

Each member keeps its share of these sums, so a scan costs nothing for a member that did not move.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.proc_memory import Rollup, Sizes

UNLIMITED = 1 << 60  # more than any level of huge pages, which limits it in turn
NO_SIZES = (0, 0, 0, 0, 0, 0, 0)


class ProcessMemory:
    """One process: its latest sizes and its share of the bounds of its family.

    Everything is in bytes. `faults`: pages it faulted in since it started, minor and major. `before`, `faults_before`:
    the reading at the end of the previous scan, valid while `tick` is that of the model. `inherited_max`: the most
    anonymous bytes that its parent had at the fork. `base_anon` is None until a whole reading of its family included
    it.
    """

    __slots__ = (
        "anon", "base_anon", "base_faults", "base_pss", "base_shared", "before", "carried_high", "carried_huge",
        "carried_low", "children", "command", "entered", "family", "faults", "faults_before", "file", "forked",
        "hugetlb", "inherited_max", "is_new", "kernel", "living", "new_children", "own_high",
        "own_huge", "own_low", "parent", "peak", "pid", "rollup", "rollup_shmem", "shmem", "sizes", "start", "swap",
        "tick", "unsure",
    )  # fmt: skip

    def __init__(self, pid: int, start: int, command: bytes, tick: int) -> None:
        self.pid = pid
        self.start = start
        self.command = command
        self.living = True
        self.family: Family | None = None
        self.forked = True  # whether it may hold pages from before its own faults were counted
        # latest reading
        self.sizes: Sizes = NO_SIZES
        self.anon = self.file = self.shmem = self.peak = self.hugetlb = self.swap = 0
        self.kernel = 0
        self.faults = 0
        self.before: Sizes | None = None
        self.faults_before = 0
        self.entered = self.tick = tick
        # relatives in the family
        self.parent: ProcessMemory | None = None
        self.children: dict[ProcessMemory, None] = {}
        self.is_new = False  # whether the last whole reading of the family did not include it
        self.new_children = 0
        self.unsure: list[ProcessMemory] = []  # children since its latest reading
        self.inherited_max = 0
        # at the last whole reading of the family
        self.base_anon: int | None = None
        self.base_faults = self.base_pss = self.base_shared = 0
        self.rollup: Rollup | None = None
        self.rollup_shmem = 0
        # its share of the family's bounds
        self.clear_shares()

    def clear_shares(self) -> None:
        """Contribute nothing to the bounds of the family."""
        self.own_low = self.own_high = self.own_huge = 0
        self.carried_low = self.carried_high = self.carried_huge = 0

    def most_anon(self) -> int:
        """Return the most anonymous bytes it can have had, by its high-water mark."""
        return max(self.anon, self.peak - self.file - self.shmem)

    def made_at_most(self) -> int:
        """Return the most anonymous bytes that it made itself, of those that it holds."""
        size = self.anon if self.parent is None else min(self.anon, self.faults)
        if self.base_anon is not None:
            size = min(size, self.base_pss + max(0, self.anon - self.base_anon))
        return size

    def growth(self, tick: int) -> int:
        """Return the bytes by which it grew between its last two readings; 0 where the last one is older."""
        if self.before is None or self.tick <= self.entered or self.tick < tick - 1:
            return 0
        return max(0, self.anon - self.before[1])

    def shared_at_most(self) -> int:
        """Return the most anonymous bytes that others of its family can hold too."""
        if self.base_anon is not None and not self.new_children:
            return min(self.anon, self.base_shared)
        return self.anon - self.own_low


class Family:
    """Processes that descend by fork from one exec, and bounds of their pages.

    `based`: whether `carried_low` and `carried_high` start from a whole reading. `heads`: members without a known
    parent in the family. A member that exited stays a parent while a child of it lives: that child can hold its pages.
    """

    __slots__ = (
        "anon", "based", "carried_high", "carried_huge", "carried_low", "cost_ns", "denied", "fresh", "fresh_tick",
        "heads", "high", "high_small", "huge_pages", "left_tick", "low", "mapped_file", "members", "own_high",
        "own_huge", "own_low", "postponed", "postponed_tick", "program",
    )  # fmt: skip

    def __init__(self, program: bytes, huge_pages: int) -> None:
        self.program = program
        self.huge_pages = huge_pages  # pages of a huge page
        self.members: dict[ProcessMemory, None] = {}
        self.heads: dict[ProcessMemory, None] = {}
        self.anon = 0
        self.based = False
        self.clear_shares()
        self.carried_low = self.carried_high = 0
        self.low = self.high = self.high_small = self.mapped_file = 0
        # for the decision to read PSS
        self.fresh = 0  # members since the previous scan
        self.fresh_tick = 0
        self.postponed = self.postponed_tick = 0
        self.left_tick = 0  # scan in which one of several members left
        self.denied = False
        self.cost_ns: int | None = None

    # -- members ---------------------------------------------------------------------------------------------------

    def add(self, process: ProcessMemory, parent: ProcessMemory | None, tick: int, huge: int) -> None:
        """Add a process; `parent` is a living member of this family, or None."""
        process.family = self
        self.members[process] = None
        if self.fresh_tick != tick:
            self.fresh_tick, self.fresh = tick, 0
        self.fresh += 1
        if parent is None:
            self.heads[process] = None
            return
        process.parent, process.forked = parent, True
        parent.children[process] = None
        parent.unsure.append(process)
        parent.new_children += 1
        process.is_new = True
        process.inherited_max = parent.most_anon()
        self.weigh(parent, huge)

    def remove(self, process: ProcessMemory, tick: int, huge: int, *, executed: bool = False) -> None:
        """Remove a process that exited or executed another program."""
        del self.members[process]
        self.anon -= process.anon
        self.carried_low -= process.carried_low
        self.own_low -= process.own_low
        process.carried_low = process.own_low = 0
        if process.base_anon is not None:
            self.carried_low -= process.base_pss  # at most what no other process holds is gone with it
            if not process.new_children:
                self._release(process)
        # A fork can be later than the last reading of the parent.
        unsure = [child for child in process.unsure if child.parent is process and child.entered >= tick - 1]
        process.unsure = []
        for child in list(process.children) if executed else unsure:
            self._orphan(child, huge)
        if not process.children:
            self._drop(process, huge)

    def _orphan(self, child: ProcessMemory, huge: int) -> None:
        """Forget the parent of a process: what it inherited is not bounded. Those of one that exited follow."""
        orphans, exited = [child], []
        for process in orphans:  # no recursion: a chain of forks can be deeper than the stack
            parent, process.parent = process.parent, None
            if parent is not None:
                del parent.children[process]
                parent.new_children -= process.is_new
            process.is_new = False
            if process in self.members:
                self.heads[process] = None
                self.weigh(process, huge)
            else:
                exited.append(process)
                orphans.extend(process.children)
        for process in reversed(exited):
            self._drop(process, huge)

    def _drop(self, process: ProcessMemory, huge: int) -> None:
        """Forget an exited process without children, its pages are gone; and then such ones above it."""
        last: ProcessMemory | None = process
        while last is not None:  # no recursion, as above
            last = self._drop_one(last, huge)

    def _drop_one(self, process: ProcessMemory, huge: int) -> ProcessMemory | None:
        """Forget one; return its parent where that is the next one to forget."""
        self.carried_high -= process.carried_high
        self.carried_huge -= process.carried_huge
        self.own_high -= process.own_high
        self.own_huge -= process.own_huge
        process.clear_shares()
        self.heads.pop(process, None)
        if process.base_anon is not None:
            self._release(process)
        parent, process.parent = process.parent, None
        if parent is None:
            return None
        del parent.children[process]
        parent.new_children -= process.is_new
        if parent in self.members:
            self.weigh(parent, huge)
            return None
        return None if parent.children else parent

    def _release(self, process: ProcessMemory) -> None:
        """Take an exited process out of the carried bound.

        No member holds what it faulted in since the reading. Of what it had then, the part that it cannot have shared
        is gone too.
        """
        if process.base_anon is not None:
            self.carried_high -= process.carried_high + max(0, process.base_anon - process.base_shared)
            self.carried_huge -= process.carried_huge
            process.carried_high = process.carried_huge = 0
            process.base_anon = None

    # -- shares of the bounds --------------------------------------------------------------------------------------

    def weigh(self, process: ProcessMemory, huge: int) -> None:
        """Update the share of one member after its reading or its relatives changed.

        `huge`: the most bytes of huge pages around. One is 512 pages for one fault and shows in RssAnon alone, while
        a copied small page shows in faults alone. The high bounds are of small pages; what huge pages can add to them
        is kept apart.
        """
        anon, faults = process.anon, process.faults
        own_low = own_high = own_huge = carried_huge = 0
        if process.parent is not None:
            if anon > process.inherited_max:
                # Its parent can have had more at the fork than any reading of it shows.
                own_low = min(anon - process.inherited_max, faults * self.huge_pages if huge else faults)
            # A child can hold pages that this process made and no longer has.
            high = own_high = faults if process.children or faults < anon else anon
            if huge and faults:
                own_huge = carried_huge = UNLIMITED
        elif process.children:
            high = filled_by_head(process)
            carried_huge = UNLIMITED if huge else 0
        else:
            high = anon
        base = process.base_anon
        low = 0
        if base is not None:
            low = anon - base
            created = faults - process.base_faults
            high = created if created > low else low
            carried_huge = 0
            if process.new_children:
                carried_huge = UNLIMITED if huge else 0
            else:
                moved = low + process.base_shared
                if huge and moved > high:
                    carried_huge = min(moved - high, created * self.huge_pages)
                if moved < high:
                    high = moved
        self.own_low += own_low - process.own_low
        self.own_high += own_high - process.own_high
        self.carried_low += low - process.carried_low
        self.carried_high += high - process.carried_high
        self.own_huge += own_huge - process.own_huge
        self.carried_huge += carried_huge - process.carried_huge
        process.own_low, process.own_high, process.own_huge = own_low, own_high, own_huge
        process.carried_low, process.carried_high, process.carried_huge = low, high, carried_huge

    def confirm_children(self, process: ProcessMemory, tick: int, huge: int) -> None:
        """Widen what children can have inherited, after a reading of their parent."""
        for child in process.unsure:
            if child.parent is process and child in self.members and child.entered >= tick - 1:
                child.inherited_max = max(child.inherited_max, process.most_anon())
                self.weigh(child, huge)
        process.unsure = []

    # -- bounds ----------------------------------------------------------------------------------------------------

    def update_bounds(self, huge: int) -> None:
        """Set the bounds and `mapped_file` from the shares of the members."""
        members = self.members
        if len(members) == 1:
            (process,) = members
            self._rebase_alone(process)
            self.low = self.high = self.high_small = process.anon
            self.mapped_file = process.file
            return
        low = max([process.anon for process in members], default=0)
        high = small = self.anon
        if len(self.heads) == 1:
            (head,) = self.heads
            if head.living and head.family is self:
                low = max(low, head.anon + self.own_low)
            small = min(small, filled_by_head(head) + self.own_high)
            if not huge:
                high = small
        if self.based:
            low, small = max(low, self.carried_low), min(small, self.carried_high)
            high = min(high, self.carried_high + self.carried_huge)
        self.low, self.high_small = low, max(low, small)
        self.high = max(low, min(high, self.high_small + huge))
        self.mapped_file = max(max([process.file for process in members], default=0), self._proportional_file())

    def _proportional_file(self) -> int:
        total = 0
        for process in self.members:
            if process.rollup is None:
                return 0
            total += process.rollup.pss_file
        return total

    def hugetlb_bounds(self) -> tuple[int, int]:
        """Return bounds of the distinct hugetlb pages.

        A whole reading shows which of them have one holder.
        """
        sizes = [process.hugetlb for process in self.members]
        shared = []
        private = 0
        for process in self.members:
            rollup = process.rollup
            if rollup is None or rollup.private_hugetlb + rollup.shared_hugetlb != process.hugetlb:
                return max(sizes), sum(sizes)
            private += rollup.private_hugetlb
            shared.append(rollup.shared_hugetlb)
        return private + max(shared), private + max(max(shared), sum(shared) // 2)

    def clear_shares(self) -> None:
        """Start the sums over the members at 0."""
        self.own_low = self.own_high = self.own_huge = self.carried_huge = 0

    def _rebase_alone(self, process: ProcessMemory) -> None:
        """Take RssAnon of the only member as a whole reading."""
        process.parent = None
        process.children.clear()
        process.unsure = []
        self.heads = {process: None}
        self.set_base(process, process.anon, process.faults, process.anon, 0)
        self.based = True
        self.clear_shares()
        self.carried_low = self.carried_high = process.anon

    def set_base(self, process: ProcessMemory, anon: int, faults: int, pss: int, shared: int) -> None:
        """Count a member from its part of a whole reading."""
        process.base_anon, process.base_faults = anon, faults
        process.base_pss, process.base_shared = pss, shared
        process.is_new = False
        process.new_children = 0
        process.clear_shares()


def filled_by_head(head: ProcessMemory) -> int:
    """Return the most bytes in small pages that a process can have held so far.

    The process has no known parent, so it can have inherited pages unless it executed its program itself.
    """
    if head.forked or head.anon > head.faults:
        return max(head.anon, head.peak) + head.faults
    return head.faults
