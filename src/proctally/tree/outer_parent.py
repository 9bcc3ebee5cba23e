"""The parent of an attached root, outside the tree: what it shows once it has waited for the root.

A parent that is quick reaps the root before a scan can read it. perf lacks the release of every address space, so the
last interval of a tree that forks much would read half of what it used. The times of waited-for children of that
parent (`cutime`, `cstime`) then grow by all that the root and its descendants used. Other children that it waited for
are in them too, so that the growth counts only where the parent slept until one child woke it.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.machine import Machine
from proctally.linux.proc import Stat, read_children, read_stat, read_threads

SLEEPS = b"SD"  # states


class Reading:
    """The parent at one moment. `slices`: how often its threads were given a CPU; None where that is unknown."""

    __slots__ = ("children", "slices", "stat")

    def __init__(self, stat: Stat, children: set[int], slices: int | None) -> None:
        self.stat = stat
        self.children = children
        self.slices = slices


class OuterParent:
    """The readings of two scans: the last one that found the root alive, and the one that is under way."""

    __slots__ = ("_before", "_latest", "_machine", "_pid", "_root")

    def __init__(self, machine: Machine, pid: int, root: int) -> None:
        self._machine = machine
        self._pid = pid
        self._root = root
        self._before: Reading | None = None
        self._latest: Reading | None = None

    def read(self) -> None:
        """Read it before the root is read: what it shows by now is of others, if the root then lives."""
        # times last: a child that it waits for between the two is in the list, and its end is noticed
        self._latest = self._read(times_last=True)

    def root_lives(self) -> None:
        """Keep the reading of this scan, which has found the root alive."""
        self._before = self._latest

    def _read(self, *, times_last: bool) -> Reading | None:
        machine, pid = self._machine, self._pid
        try:
            stat = read_stat(machine, pid)
            slices = self._slices(stat.threads) if times_last else None
            children = set(read_children(machine, pid, stat.threads))
            if times_last:
                return Reading(read_stat(machine, pid), children, slices)
            return Reading(stat, children, self._slices(stat.threads))
        except UNREADABLE:
            return None

    def _slices(self, threads: int) -> int | None:
        """Return the sum of the third field of `schedstat`; None where the kernel does not count (all zeros)."""
        tids = [self._pid] if threads == 1 else read_threads(self._machine, self._pid)
        rows = [self._machine.read(f"{self._pid}/task/{tid}/schedstat").split() for tid in tids]
        found = [int(row[2]) for row in rows if len(row) == 3 and row[2].isdigit()]
        return sum(found) if len(found) == len(tids) and all(found) else None

    def growth(self) -> tuple[int, int, int, int] | None:
        """Return what the root had used with all that it waited for: user and system ticks, minor and major faults.

        None where that is unknown: the parent is not readable, has not waited for the root, ignores SIGCHLD, or may
        have waited for another child since the last scan. It has waited for no other if it slept at that scan and was
        woken once: to fork one and to wait for it takes a sleep more.
        """
        before, now = self._before, self._read(times_last=False)
        if before is None or now is None or self._root not in before.children:
            return None
        if now.stat.start != before.stat.start or self._root in now.children:
            return None
        if not before.children - {self._root} <= now.children or not self._was_woken_once(before, now):
            return None
        then, stat = before.stat, now.stat
        minor = stat.tree_minor_faults - stat.minor_faults - then.tree_minor_faults + then.minor_faults
        major = stat.tree_major_faults - stat.major_faults - then.tree_major_faults + then.major_faults
        return stat.child_user - then.child_user, stat.child_system - then.child_system, minor, major

    def _was_woken_once(self, before: Reading, now: Reading) -> bool:
        if before.stat.state not in SLEEPS or before.slices is None or now.slices is None:
            return False
        return 0 <= now.slices - before.slices <= 1
