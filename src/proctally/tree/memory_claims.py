"""Shared memory that a tree provably holds although no member maps it (rule 6): open files and System V segments."""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.machine import NANOSECONDS
from proctally.linux.memory_levels import read_sysvipc_shm
from proctally.linux.shared_files import SharedFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from proctally.linux.machine import Machine
    from proctally.tree.memory_families import ProcessMemory
    from proctally.tree.memory_moments import Bracket

SEARCH_NS = 10 * NANOSECONDS  # how often files are searched although no more is unclaimed than before
WORTH_RATIO = 0.05  # unclaimed shared memory above this share of low ...
WORTH_BYTES = 4 << 20  # ... and this is worth a search
GROWTH = 1.1


class Claims:
    """What a tree claims. Members have many descriptors, so these are searched only where much is unclaimed.

    `since`: Unix seconds of the start of the tree.
    """

    __slots__ = ("_files", "_machine", "_searched_bytes", "_searched_ns", "_segments", "_since")

    def __init__(self, machine: Machine, since: float) -> None:
        self._machine = machine
        self._since = since
        self._files: SharedFiles | None = None
        # System V segments, and whether a member made them: later its pid can be that of another process
        self._segments: dict[int, bool] = {}
        self._searched_bytes = 0  # what was unclaimed at the last search
        self._searched_ns = 0

    @property
    def is_hidden(self) -> bool:
        """True if this user cannot search mapped files."""
        return self._files is not None and self._files.map_files_denied

    def size(self, members: Collection[int]) -> int:
        """Return the bytes that the tree holds now. `members`: their pids."""
        total = 0 if self._files is None else self._files.size()
        try:
            segments = read_sysvipc_shm(self._machine)
        except ValueError:
            return total
        known = self._segments
        self._segments = {number: known.get(number, creator in members) for number, creator, _ in segments}
        return total + sum(size for number, _, size in segments if self._segments[number])

    def search(self, bracket: Bracket, members: Iterable[ProcessMemory]) -> bool:
        """Search the files of members if more is unclaimed than before; return whether it was done."""
        unclaimed, now = bracket.unclaimed_shmem, self._machine.monotonic_ns()
        if unclaimed <= bracket.low * WORTH_RATIO + WORTH_BYTES:
            return False
        if unclaimed < self._searched_bytes * GROWTH and now - self._searched_ns < SEARCH_NS:
            return False
        self._searched_bytes, self._searched_ns = unclaimed, now
        try:
            if self._files is None:
                self._files = SharedFiles(self._machine, self._since)
        except UNREADABLE:
            return False
        self._files.search([process.pid for process in members])
        return True
