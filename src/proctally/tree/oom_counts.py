"""OOM kills in the cgroups in which members of a tree lived, counted from before the start.

The kernel counts a kill in the memory cgroup of the victim (`memcg_memory_event_mm`, mm/oom_kill.c). `oom_kill` of the
v1 file `memory.oom_control` (4.13) and of the v2 file `memory.events.local` (5.2) is the count of that cgroup alone,
that of `memory.events` includes all cgroups below it.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.cgroup import (
    DELETED,
    V2,
    Place,
    limits,
    locate,
    machine_kills,
    parse_cgroup,
    parse_flat,
    parse_mountinfo,
    read_file,
)
from proctally.tree.oom_others import Others

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from proctally.linux.cgroup import CgroupMount
    from proctally.linux.machine import Machine

MAX_WATCHED = 32  # cgroups; each costs 8 us in a scan
ALL_NS = 500_000_000  # the count of the machine, 25 us, is read again after this time
MAX_SEEN = 1024  # different contents of /proc/PID/cgroup
KEY = (b"oom_kill",)


class Count:
    """The kills in one cgroup.

    `kills`: in it alone, `below`: in cgroups below it that nothing else counts. `others`: processes in it that are not
    of the tree.
    """

    __slots__ = (
        "below",
        "directory",
        "is_top",
        "kills",
        "offset",
        "others",
        "own",
        "path",
        "place",
        "whole",
    )

    def __init__(self, place: Place, directory: str, path: str, others: Others) -> None:
        self.place = place
        self.directory = directory
        self.path = path
        self.kills = self.below = 0
        self.others = others
        self.own: int | None = None  # the last reading of the count of this cgroup alone
        self.whole: int | None = None  # the first reading of the count that includes those below
        self.is_top = True  # whether no watched cgroup is above it
        self.offset = 0  # kills below it before it was watched

    @property
    def total(self) -> int:
        return self.kills + self.below


class OomCounts:
    """The kills in every cgroup in which a member was seen.

    `found`: the places of the root before the start, and `before` their counts at that moment, by directory, the
    innermost first. `children`: names of the cgroups that were below the root's then; None where that is unknown.
    `all_before`: kills on the whole machine; None where that is unknown. `started`: boot time of the start, in ticks.
    """

    __slots__ = (
        "_asked_ns", "_children", "_hierarchy", "_mounts", "_rises", "_root", "_seen", "_started", "_unexplained",
        "counts", "machine",
    )  # fmt: skip

    def __init__(
        self,
        machine: Machine,
        found: dict[str, Place],
        before: dict[str, int],
        children: Collection[str] | None = None,
        all_before: int | None = None,
        *,
        started: int = 0,
    ) -> None:
        self.machine = machine
        self.counts: dict[str, Count] = {}
        self._rises: dict[Count, int] = {}
        self._hierarchy = "memory" if "memory" in found else V2
        self._mounts: list[CgroupMount] | None = None
        self._seen: set[bytes] = set()
        self._started = started
        self._children = children
        self._unexplained = all_before  # kills on the machine less those that were counted, a short time ago
        self._asked_ns = 0  # when that was read
        self._root = ""
        if before and self._hierarchy in found:
            place, directory = found[self._hierarchy], next(iter(before))
            path = dict(place.levels()).get(directory, place.path)
            count = self._add(place, directory, path)
            self._root = directory
            if self._hierarchy == V2:
                count.own, count.whole = self._own(directory), before[directory]
            else:
                count.own = before[directory]

    # -- which cgroups ---------------------------------------------------------------------------------------------

    def _add(self, place: Place, directory: str, path: str) -> Count:
        others = Others(self.machine, directory, below=self._hierarchy == V2)
        self.counts[directory] = Count(place, directory, path, others)
        return self.counts[directory]

    def see(self, raw: bytes) -> None:
        """Watch the cgroup of a member. `raw`: its /proc/PID/cgroup."""
        if raw in self._seen:
            return
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen.add(raw)
        try:
            path = parse_cgroup(raw).get(self._hierarchy)
            if path is None or path.endswith(DELETED):
                return
            if self._mounts is None:
                self._mounts = parse_mountinfo(self.machine.read("self/mountinfo", to_end=True))
        except UNREADABLE:
            return
        place = locate(path, self._mounts, self._hierarchy)
        for directory, shown in () if place is None else place.levels():
            if directory in self.counts:
                return
            if place is not None and self._watch(place, directory, shown):
                return

    def _watch(self, place: Place, directory: str, path: str) -> bool:
        """Count from now on. False where it has no count.

        From 0 in a cgroup that was made after the start. A member can be killed there before a scan sees it: what the
        machine counted since the scan before, and no watched cgroup did, is then taken for a kill in this one.
        """
        own, whole = self._own(directory), self._whole(directory)
        if own is None and whole is None:
            return False
        if len(self.counts) >= MAX_WATCHED:
            return True
        self._update()
        count = self._add(place, directory, path)
        count.own, count.whole = own, whole
        for each in self.counts.values():
            each.is_top = not any(_is_below(each, other) for other in self.counts.values())
        if count.is_top:
            count.offset = sum(each.total for each in self.counts.values() if _is_below(each, count))
        if own and not self._is_counted_above(count):
            count.own = 0 if self._is_new(directory) else own - min(own, self._just_now())
        return True

    def _just_now(self) -> int:
        """Return how many kills on this machine, since a scan before, are in no cgroup that was watched."""
        before, now = self._unexplained, machine_kills(self.machine)
        self._unexplained = None if now is None else now - self.total
        return 0 if before is None or self._unexplained is None else max(0, self._unexplained - before)

    def _is_new(self, directory: str) -> bool:
        """Return whether this cgroup was made below the root's after the start."""
        if not self._root or self._children is None or not directory.startswith(self._root + "/"):
            return False
        return directory[len(self._root) + 1 :].partition("/")[0] not in self._children

    def _is_counted_above(self, count: Count) -> bool:
        """Return whether a watched cgroup above it has counted its kills so far."""
        return any(_is_below(count, other) and other.whole is not None for other in self.counts.values())

    # -- counts ----------------------------------------------------------------------------------------------------

    def poll(self) -> list[tuple[Count, int]]:
        """Return the cgroups in which processes were killed since the last call, with their number."""
        self._update()
        now = self.machine.monotonic_ns()
        if now - self._asked_ns > ALL_NS:
            self._asked_ns = now
            self._just_now()
        rises, self._rises = self._rises, {}
        return list(rises.items())

    def _update(self) -> None:
        # Counts that include others are read first: a kill between two readings is then missing once, never doubled.
        wholes = {each: self._whole(each.directory) for each in self.counts.values() if each.is_top}
        for count in self.counts.values():
            own = self._own(count.directory)
            if own is None:
                continue
            before = count.own or 0
            grown = own - before if own >= before else own  # the same name was removed and made again
            count.own = own
            count.kills += grown
            self._note(count, grown)
        for top, whole in wholes.items():
            if whole is None or top.whole is None:
                continue
            known = top.kills + sum(each.total for each in self.counts.values() if _is_below(each, top)) - top.offset
            grown = whole - top.whole - known - top.below
            if grown > 0:
                top.below += grown
                self._note(top, grown)

    def _note(self, count: Count, grown: int) -> None:
        if grown:
            self._rises[count] = self._rises.get(count, 0) + grown

    def _own(self, directory: str) -> int | None:
        return self._count(directory, "memory.events.local" if self._hierarchy == V2 else "memory.oom_control")

    def _whole(self, directory: str) -> int | None:
        return self._count(directory, "memory.events") if self._hierarchy == V2 else None

    def _count(self, directory: str, file: str) -> int | None:
        try:
            return parse_flat(read_file(directory, file) or b"", KEY).get("oom_kill")
        except ValueError:
            return None

    @property
    def total(self) -> int:
        """Kills since the start, each once."""
        return sum(count.total for count in self.counts.values())

    def most(self) -> Count:
        """Return the cgroup with the most kills."""
        return max(self.counts.values(), key=lambda count: count.total)

    def limit_bytes(self, count: Count) -> int | None:
        """Return the memory limit around a cgroup at this moment; None without one."""
        place = count.place
        found = {self._hierarchy: Place(count.directory, count.path, place.top)}
        try:
            return limits(found, None, None, self.machine.memory_bytes).memory_bytes
        except UNREADABLE:
            return None

    # -- whose -----------------------------------------------------------------------------------------------------

    def look_for_others(self, members: Iterable[int]) -> None:
        """Note once of each cgroup the processes from before the start that are neither of the tree nor this one."""
        for count in self.counts.values():
            if not count.others.is_looked_at:
                count.others.look(members, self._started)


def _is_below(count: Count, other: Count) -> bool:
    return count is not other and count.directory.startswith(other.directory + "/")
