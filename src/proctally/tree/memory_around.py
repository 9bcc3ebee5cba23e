"""Readers of what is around a tree: the levels of its surroundings, and their other processes.

Another process costs a call of clock_gettime(2) in each scan; its files are read where its CPU clock moved, and now and
then, since reclaim changes the memory of a process that does not run.
"""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE, AccessDenied
from proctally.linux.cgroup import parse_cgroup, read_file
from proctally.linux.machine import clock_id
from proctally.linux.memory_levels import read_cgroup_levels, read_machine_levels
from proctally.linux.proc import Stat, parse_stat, process_count
from proctally.linux.proc_memory import parse_statm
from proctally.tree.memory_surroundings import MAX_NEIGHBOURS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from proctally.linux.cgroup import Place
    from proctally.linux.machine import Machine
    from proctally.linux.memory_levels import MemoryLevels

    Readings = dict[tuple[int, int], tuple[int, int]]

MAX_LISTED = 2000  # maximum of processes on the machine, kernel threads included, for a listing of all
KERNEL_THREAD = 0x00200000  # PF_KTHREAD, include/linux/sched.h
REFRESH_SCANS = 10  # a process that does not run is read again in one of as many scans
INITIAL_PID = 1


class Around:
    """The smallest memory cgroup that holds a tree, else the machine.

    `place`: the controller (`memory`, or V2) and the cgroup; None for the machine. `is_complete`: false once a member
    lives elsewhere; then no level bounds the tree.
    """

    def __init__(self, machine: Machine, place: tuple[str, Place] | None) -> None:
        self._machine = machine
        self._place = place
        self._sees_all = place is not None or machine.in_initial_pid_namespace() is True
        self._known: dict[int, tuple[int, int | None, int, int]] = {}  # pid -> start, clock, RssAnon, faults
        self._kernel_threads: set[int] = set()
        self._checked: set[int] = set()  # pids of which it is known whether they are kernel threads
        self._scans = 0
        self.is_complete = True

    # -- levels ----------------------------------------------------------------------------------------------------

    def levels(self) -> MemoryLevels | None:
        """Read the levels of this moment; None where they cannot be read."""
        if not self.is_complete:
            return None
        try:
            if self._place is None:
                return read_machine_levels(self._machine)
            return read_cgroup_levels(self._place[1].directory)
        except ValueError:
            return None

    def check(self, pid: int) -> None:
        """Notice a member that lives elsewhere."""
        if self._place is not None and self.is_complete:
            self.is_complete = self._holds(pid, *self._place)

    def _holds(self, pid: int, controller: str, place: Place) -> bool:
        try:
            path = parse_cgroup(self._machine.read(f"{pid}/cgroup")).get(controller)
            if path is None or (path + "/").startswith(place.path.rstrip("/") + "/"):
                return True
            return self._machine.read(f"{pid}/statm").startswith(b"0 ")  # v1 shows `/` for one that exits
        except UNREADABLE:
            return True

    # -- other processes -------------------------------------------------------------------------------------------

    def others(self, members: Collection[int], since: int) -> Readings | None:
        """Read the processes that are not members; None where some are hidden, or where there are too many.

        `since`: start ticks from which on a process might be a new child of the tree; it is left out.
        """
        pids = self._listed() if self.is_complete and self._sees_all else None
        if pids is None:
            self._known = {}
            return None
        self._scans += 1
        pids = pids.difference(members, self._kernel_threads)
        if len(pids) > MAX_NEIGHBOURS:
            self._kernel_threads.update(filter(self._is_kernel_thread, pids - self._checked))
            self._checked = set(pids)
            pids -= self._kernel_threads
            if len(pids) > MAX_NEIGHBOURS:
                self._known = {}
                return None
        try:
            return self._read(sorted(pids), since)
        except AccessDenied:
            self._sees_all = False
            return None

    def _listed(self) -> set[int] | None:
        if self._place is not None:
            return listed(self._place[1].directory)
        try:
            if process_count(self._machine) > MAX_LISTED:
                return None
            pids = {int(name) for name in os.listdir(self._machine.proc) if name.isdecimal()}
        except OSError:
            return None
        self._kernel_threads &= pids
        return pids if INITIAL_PID in pids else None

    def _read(self, pids: list[int], since: int) -> Readings:
        clocks = self._machine.clocks([clock_id(pid) for pid in pids])
        now = {}
        readings = {}
        for pid, clock in zip(pids, clocks, strict=True):
            known = self._known.get(pid)
            if known is None or clock is None or clock != known[1] or (pid + self._scans) % REFRESH_SCANS == 0:
                known = self._reading(pid, clock)
                if known is None or known[0] >= since:
                    continue
            now[pid] = known
            readings[pid, known[0]] = known[2], known[3]
        self._known = now
        return readings

    def _reading(self, pid: int, clock: int | None) -> tuple[int, int | None, int, int] | None:
        machine = self._machine
        try:
            stat = parse_stat(machine.read(f"{pid}/stat"))
            if _is_of_kernel(stat):
                self._kernel_threads.add(pid)
                return None
            anon = parse_statm(machine.read(f"{pid}/statm"), machine.page_size)
        except AccessDenied:
            raise
        except UNREADABLE:
            return None
        return stat.start, clock, anon, (stat.minor_faults + stat.major_faults) * machine.page_size

    def _is_kernel_thread(self, pid: int) -> bool:
        try:
            return _is_of_kernel(parse_stat(self._machine.read(f"{pid}/stat")))
        except UNREADABLE:
            return False


def _is_of_kernel(stat: Stat) -> bool:
    return bool(stat.flags & KERNEL_THREAD)


def listed(directory: str) -> set[int] | None:
    """Return the processes of a cgroup and of those below it; None where some are hidden.

    A process of a foreign pid namespace is listed as 0, and a threaded cgroup lists none (EOPNOTSUPP).
    """
    data = read_file(directory, "cgroup.procs")
    if data is None:
        return None
    try:
        pids = set(map(int, data.split()))
        below = os.stat(directory).st_nlink > 2  # kernfs counts the directories (set_inode_attr)
        names = [entry.path for entry in os.scandir(directory) if entry.is_dir()] if below else []
    except (OSError, ValueError):
        return None
    for name in names:
        found = listed(name)
        if found is None and os.path.isdir(name):
            return None
        pids |= found or set()
    return None if 0 in pids else pids
