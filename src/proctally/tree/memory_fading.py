"""Members whose memory the kernel is releasing: their last size counts in high alone.

A process shows no sizes between exit_mm() and its last state (kernel/exit.c), for seconds where it is large. What it
still holds and no living member does is at most what its family lost in high when it left.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.tree.memory_families import Family, ProcessMemory


class _Leaving:
    """The processes of one family that are releasing their memory.

    `high`: the bound of the family before the first of them left; then `lost`: by how much the others are below it.
    """

    __slots__ = ("high", "lost", "sizes")

    def __init__(self) -> None:
        self.high = 0
        self.lost: int | None = 0
        self.sizes: dict[ProcessMemory, int] = {}

    def most(self) -> int:
        """Return the most bytes that they hold and that no member does."""
        anon = [process.anon for process in self.sizes]
        return min(self.high if self.lost is None else self.lost, sum(self.sizes.values()) + max(anon), sum(anon))


class Fading:
    """All processes that are releasing their memory, by family."""

    def __init__(self) -> None:
        self._families: dict[Family, _Leaving] = {}

    def is_first(self, family: Family) -> bool:
        """Return whether no member of this family was added in this scan: then its bounds have to be up to date."""
        leaving = self._families.get(family)
        return leaving is None or leaving.lost is not None

    def add(self, process: ProcessMemory, family: Family, size: int) -> None:
        """Add a process that is still a member of a family; `size`: the most bytes that it made itself."""
        leaving = self._families.get(family)
        if leaving is None:
            leaving = self._families[family] = _Leaving()
        if leaving.lost is not None:
            leaving.high, leaving.lost = leaving.lost + family.high, None
        leaving.sizes[process] = size

    def remove(self, process: ProcessMemory) -> None:
        """Remove a process whose memory is released."""
        family = process.family
        if family is None or family not in self._families:
            return
        leaving = self._families[family]
        leaving.sizes.pop(process, None)
        if not leaving.sizes:
            del self._families[family]

    def most(self) -> int:
        """Return the most bytes that all of them hold beyond the members; bounds of families are current."""
        total = 0
        for family, leaving in self._families.items():
            if leaving.lost is None:
                leaving.lost = max(0, leaving.high - (family.high if family.members else 0))
            total += leaving.most()
        return total
