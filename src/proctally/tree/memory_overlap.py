"""Processes that follow each other between two scans: what they can have held at once.

A scan shows the processes of its moment. One that left since the scan before and one that is new can have lived
together in between, each with the most that it had. Where perf lists each process, the number of those that lived at
one moment is known. Without perf it is taken to be that of the scan before or of this one, the larger.
"""

from __future__ import annotations

from heapq import nlargest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.tree.memory_families import Family, ProcessMemory
    from proctally.tree.memory_unseen import Lived


class Overlap:
    """The processes that entered and left since the last scan.

    `entered`: those that are new. A process that leaves counts with what it made itself, and those of a family that
    lives on with no more than the family lost.
    """

    def __init__(self) -> None:
        self.entered: dict[ProcessMemory, None] = {}
        self._left: list[int] = []
        self._families: dict[Family, tuple[int, list[int]]] = {}  # bound before the first one left, and their sizes
        self._members = 0  # at the end of the last scan

    def leave(self, process: ProcessMemory) -> None:
        """Add a process that is still a member of its family. The bounds of the family are those of the last scan."""
        family = process.family
        assert family is not None
        if self.entered.pop(process, True) is None:
            return  # no scan saw it: it is among those that are unseen
        if len(family.members) == 1 and family not in self._families:
            self._left.append(process.anon)
        else:
            self._families.setdefault(family, (family.high, []))[1].append(process.made_at_most())

    def take(self, members: int, lived: Lived | None) -> int:
        """Return by how much they held more, at one moment since the last scan, than members do now; then forget them.

        `members`: their number now. Memory that processes which left made after their last reading is not included.
        """
        left = self._left + [size for family in self._families.items() for size in _of_family(*family)]
        new = [process.made_at_most() for process in self.entered]
        most = max(self._members, members, 0 if lived is None else lived[0])
        survivors = members - len(new)
        self._members, self._left, self._families, self.entered = members, [], {}, {}
        return max(0, sum(nlargest(max(0, most - survivors), left + new)) - sum(new)) if left else 0


def _of_family(family: Family, before: tuple[int, list[int]]) -> Iterable[int]:
    """Yield the sizes of those that left, largest first, of which no more is gone than the family lost."""
    high, sizes = before
    room = max(0, high - (family.high if family.members else 0))
    for size in sorted(sizes, reverse=True):
        yield min(size, room)
        room -= min(size, room)
