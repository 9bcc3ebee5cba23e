"""Helper processes that exit just after the command: whether it is worth waiting for them.

A resource tracker or fork server of multiprocessing, loky or Dask reads a pipe whose other end the command held. The
exit of the command wakes it before SIGCHLD is sent (kernel: do_exit, exit_files before exit_notify). So a helper that
is about to exit runs, or waits for a CPU or a disk, and a daemon that stays is asleep, or computed before that.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.machine import Machine, clock_id
from proctally.linux.proc import read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proctally.tree.member import Member

AT_MOST_NS = 50_000_000
POLL_NS = 2_000_000
BUSY = b"RD"
COMPUTING_NS = 40_000_000  # of which one that computes has had a CPU for half; the exit of a helper takes less


class Helpers:
    """The children that a command left, from its exit on.

    `members`: the tree as the last scan read it, at `read_ns` of the monotonic clock.
    """

    __slots__ = ("_clocks", "_computing", "_deadline_ns", "_machine")

    def __init__(self, machine: Machine, members: Mapping[int, Member], read_ns: int) -> None:
        self._machine = machine
        now = machine.monotonic_ns()
        self._deadline_ns = now + AT_MOST_NS
        self._clocks: dict[int, int | None] = {}
        self._computing: set[int] = set()
        if now - read_ns >= COMPUTING_NS:
            clocks = machine.clocks([clock_id(pid) for pid in members])
            self._computing = {
                pid
                for (pid, member), clock in zip(members.items(), clocks, strict=True)
                if clock is not None and member.state in BUSY and clock - member.cpu >= (now - read_ns) // 2
            }

    def timeout(self, pids: Iterable[int]) -> int:
        """Return the nanoseconds until the next call; 0 when none of these children is about to exit."""
        left = self._deadline_ns - self._machine.monotonic_ns()
        pids = [pid for pid in pids if pid not in self._computing]
        clocks = dict(zip(pids, self._machine.clocks([clock_id(pid) for pid in pids]), strict=True))
        before, self._clocks = self._clocks, clocks
        moves = any(pid in before and clocks[pid] != before[pid] for pid in pids)
        if left <= 0 or not (moves or any(map(self._is_busy, pids))):
            return 0
        return min(left, POLL_NS)

    def _is_busy(self, pid: int) -> bool:
        """Return True if it runs, waits for a CPU or a disk, or has exited."""
        try:
            return read_stat(self._machine, pid).state in BUSY + b"Z"
        except UNREADABLE:
            return False
