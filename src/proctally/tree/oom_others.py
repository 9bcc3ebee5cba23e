"""Other processes in a cgroup of the tree: whether one of them may be the victim of an OOM kill."""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE
from proctally.linux.cgroup import read_file
from proctally.linux.machine import clock_id
from proctally.linux.proc import read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from proctally.linux.machine import Machine

MAX_OTHERS = 64  # processes in a cgroup; of more it is not known which of them was killed


class Others:
    """The processes of one cgroup from before the start that are neither of the tree nor this one.

    `below`: whether those of the cgroups below it count too (v2).
    """

    __slots__ = ("_below", "_clocks", "_directory", "_machine", "_starts", "is_looked_at")

    def __init__(self, machine: Machine, directory: str, *, below: bool) -> None:
        self._machine = machine
        self._directory = directory
        self._below = below
        self._starts: dict[int, int] | None = None  # by pid; None where they are unknown, or too many
        self._clocks: list[int | None] = []
        self.is_looked_at = False

    def look(self, members: Iterable[int], started: int) -> None:
        """Note them. `started`: boot time of the start of the job, in ticks."""
        self.is_looked_at = True
        found = self._read({*members, os.getpid()})
        starts = {pid: start for pid, (start, _) in found.items() if start < started}
        if 0 in starts or len(starts) > MAX_OTHERS:
            return
        self._clocks = self._read_clocks(starts)
        self._starts = starts

    def may_be_victims(self, members: Collection[int]) -> bool:
        """Return whether the victim of a kill might be one of them, or a process that one of them started.

        It is not where all of them are still there, none has run since, and no process has come from elsewhere. A
        child that was forked and killed between two scans is in no listing, but its parent has used CPU time.
        """
        starts = self._starts
        if starts is None:
            return True
        clocks = self._read_clocks(starts)
        if None in clocks or clocks != self._clocks:
            return True
        own = os.getpid()
        now = self._read({*members, own})
        if any(now.get(pid, (0, 0))[0] != start for pid, start in starts.items()):
            return True
        return any(pid not in starts and parent not in members and parent != own for pid, (_, parent) in now.items())

    def _read_clocks(self, pids: Iterable[int]) -> list[int | None]:
        return self._machine.clocks([clock_id(pid) for pid in pids])

    def _read(self, known: set[int]) -> dict[int, tuple[int, int]]:
        """Return start and parent of all processes but the known; (0, 0) for one of another pid namespace (0)."""
        found = {}
        folders = [self._directory]
        for folder in folders:
            for word in (read_file(folder, "cgroup.procs") or b"").split():
                pid = int(word) if word.isdigit() else 0
                if pid in known:
                    continue
                try:
                    stat = read_stat(self._machine, pid) if pid else None
                except UNREADABLE:
                    continue
                found[pid] = (0, 0) if stat is None else (stat.start, stat.ppid)
            if self._below:
                try:
                    folders += [entry.path for entry in os.scandir(folder) if entry.is_dir()]
                except OSError:
                    continue
        return found
