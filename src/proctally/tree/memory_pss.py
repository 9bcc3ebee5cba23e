"""Whole readings of families by PSS (rule 5): when to make one, what it proves.

Reading `smaps_rollup` walks the page tables of a process under its mmap lock: 150 us for a Python process, and more
with its size. That is worth it only where the bracket is wide, and only for a whole family: a partial sum is not a
level.
"""

from __future__ import annotations

from proctally.tree.memory_surroundings import MOVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.linux.proc_memory import Rollup
    from proctally.tree.memory_families import Family, ProcessMemory
    from proctally.tree.memory_moments import Bracket

    Snapshot = list[tuple[ProcessMemory, int, int]]
    Readings = dict[ProcessMemory, tuple[int, Rollup]]

MIB = 1 << 20
WIDE_RATIO = 0.05  # a bracket is wide above this share of low ...
WIDE_BYTES = 4 * MIB  # ... and this
MAX_POSTPONED = 3  # scans for which a family that forks is left alone

BURST_NS = 50_000_000  # credit at the start, and for each process ...
BURST_PROCESS_NS = 150_000
FIRST_READING_NS = 25_000_000  # credit above which a family without a known cost is read
RATIO = 0.005  # of a core, in the long run
RATIO_EARLY = 0.05  # in the first second
WIDE_FACTOR = 4  # more budget while the bracket is wide
PROCESS_NS = 60_000  # expected cost of a process, and of each MiB that it maps
MIB_NS = 10_000


class PssBudget:
    """CPU time for reading PSS: a credit that fills with time."""

    def __init__(self, now_ns: int, ratio: float = RATIO) -> None:
        self.ratio = ratio
        self.credit_ns = self._most_ns = BURST_NS
        self._filled_ns = now_ns

    def fill(self, now_ns: int, processes: int, *, wide: bool, early: bool = False) -> None:
        """Add the credit of the time since the last call.

        `wide`: the bracket is wider than 10 % of low; `early`: in the first second.
        """
        ratio = self.ratio * WIDE_FACTOR if wide else self.ratio
        if early:
            ratio = max(ratio, RATIO_EARLY)
        gained = int((now_ns - self._filled_ns) * ratio)
        most = BURST_PROCESS_NS * processes
        if most > self._most_ns:  # the first reading of a process is paid for
            gained += most - self._most_ns
            self._most_ns = most
        self.credit_ns = min(self.credit_ns + gained, self._most_ns)
        self._filled_ns = now_ns

    def allows(self, family: Family) -> bool:
        """Return whether a whole reading of this family fits."""
        cost = family.cost_ns
        if cost is None:
            if self.credit_ns > FIRST_READING_NS:
                return True
            cost = sum(expected_cost_ns(process) for process in family.members)
        return cost <= self.credit_ns

    def spend(self, family: Family, cost_ns: int) -> None:
        """Pay for a whole reading of this family."""
        family.cost_ns = cost_ns
        self.credit_ns -= cost_ns


def expected_cost_ns(process: ProcessMemory) -> int:
    """Return what reading the PSS of a process may cost."""
    return PROCESS_NS + MIB_NS * (process.anon + process.file + process.shmem) // MIB


def families_to_read(
    bracket: Bracket, families: Iterable[Family], mapping: Iterable[ProcessMemory], tick: int
) -> list[Family]:
    """Return the families whose PSS would narrow a bracket, widest first.

    `mapping`: members that map shared memory.
    """
    allowed = int(bracket.low * WIDE_RATIO) + WIDE_BYTES
    found = []
    if bracket.anon_high - bracket.anon_low > allowed:
        wide = [family for family in families if family.high > family.low and not family.denied]
        wide.sort(key=_width, reverse=True)
        for family in wide:
            if _width(family) * len(wide) <= allowed:
                break
            if not _postpone(family, tick):
                found.append(family)
    if bracket.shmem_high - bracket.shmem_low > allowed:
        for family in _unread_mappers(mapping, bracket.shmem_low):
            if family not in found and not family.denied:
                found.append(family)
    return found


def _width(family: Family) -> int:
    return family.high - family.low


def _postpone(family: Family, tick: int) -> bool:
    """Return whether a family is forking, so that a reading is soon outdated; it counts once in a scan."""
    if family.postponed_tick == tick:
        return family.postponed > 0
    family.postponed_tick = tick
    forking = family.fresh_tick == tick and family.fresh > len(family.members) // 8
    family.postponed = family.postponed + 1 if forking and family.postponed < MAX_POSTPONED else 0
    return family.postponed > 0


def _unread_mappers(mapping: Iterable[ProcessMemory], known: int) -> list[Family]:
    """Return families that map more shared memory than the `known` bytes."""
    mapped = 0
    families: dict[Family, None] = {}
    for process in mapping:
        mapped += process.shmem
        if process.family is not None and (process.rollup is None or process.rollup_shmem != process.shmem):
            families[process.family] = None
    return list(families) if mapped > known else []


# -- what a reading says -----------------------------------------------------------------------------------------------


def snapshot(family: Family) -> Snapshot:
    """Return each member with its anonymous bytes and faults, before a reading."""
    for process in family.members:
        process.rollup_shmem = process.shmem
    return [(process, process.anon, process.faults) for process in family.members]


def take(family: Family, first: Snapshot, readings: Readings, huge: int) -> None:
    """Start the carried bounds of a family again from a whole reading.

    `first` is the `snapshot` before it; `readings` gives for each member its faults just before its own reading, and
    the reading; the members are those of a scan after it. Each member is carried on from its own reading. What is
    added here is for pages whose holders changed between the reading of two of them.
    """
    if not readings:
        return
    low = slack = 0
    largest = max(rollup.pss_anon for _, rollup in readings.values())
    seen = set()
    for process, anon, faults in first:
        seen.add(process)
        reading = readings.get(process)
        if reading is not None:
            low += reading[1].pss_anon
            slack += _changed_holders(anon, faults, *reading) // 2
        elif process not in family.members:
            slack += min(anon // 2, largest)
    for process in family.members:
        if process not in seen:  # forked during the reading: of k + 1 shares of a page one is missing
            parent = readings.get(process.parent) if process.parent is not None else None
            slack += min(process.anon // 2, largest if parent is None else parent[1].pss_anon)
        elif process not in readings:
            slack += process.anon
    _forget_base(family)
    family.carried_low, family.carried_high = low, low + slack
    for process, (_, rollup) in readings.items():
        if process not in family.members:  # exited after its reading
            family.carried_low -= rollup.pss_anon
    _rebase(family, seen, readings, huge)


def _forget_base(family: Family) -> None:
    """Clear what members and exited parents carry from the reading before."""
    family.based = True
    family.clear_shares()
    for process in _with_ancestors(family):
        process.is_new = False
        process.new_children = 0
        process.base_anon = None
        process.carried_low = process.carried_high = process.carried_huge = 0
        if process in family.members:
            process.own_low = process.own_high = process.own_huge = 0
        else:
            family.own_high += process.own_high
            family.own_huge += process.own_huge


def _with_ancestors(family: Family) -> list[ProcessMemory]:
    """Return the members, and exited processes that are still parents of one."""
    found = dict(family.members)
    for process in family.members:
        parent = process.parent
        while parent is not None and parent not in found:
            found[parent] = None
            parent = parent.parent
    return list(found)


def _rebase(family: Family, seen: set[ProcessMemory], readings: Readings, huge: int) -> None:
    """Count each member that was there from its reading."""
    for process in family.members:
        process.rollup = None
        if process in readings:
            faults, rollup = readings[process]
            process.rollup = rollup
            if process.rollup_shmem != process.shmem:
                process.rollup_shmem = MOVED
            family.set_base(process, rollup.anon, faults, rollup.pss_anon, shared_most(rollup.anon, rollup.pss_anon))
        elif process in seen:  # denied: all of it may be shared
            family.set_base(process, process.anon, process.faults, 0, process.anon)
    for process in family.members:
        if process.base_anon is None and process.parent is not None:
            process.is_new = True
            process.parent.new_children += 1
    for process in family.members:
        family.weigh(process, huge)


def shared_most(anon: int, pss: int) -> int:
    """Return the most anonymous bytes that a member can share.

    A page of k holders counts 1/k in PSS, which is at most half.
    """
    return min(anon, 2 * max(0, anon - pss))


def _changed_holders(anon: int, faults: int, faults_now: int, rollup: Rollup) -> int:
    """Return the bytes that a member copied or released before its own turn."""
    copied = min(faults_now - faults, shared_most(rollup.anon, rollup.pss_anon))
    return max(0, copied + max(0, anon - rollup.anon))
