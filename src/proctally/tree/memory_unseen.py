"""Memory that no scan sees: of processes that start and end between two scans.

No size shows it. Each page costs a fault, and the faults of exited processes are in `stat` of their parents, so the
faults that no reading explains bound the sum. Where perf lists each process, the number of those that lived at one
moment is known too. None of them is expected to hold more than the largest of short life that a scan met, or than twice
their mean. (ru_maxrss says nothing of a process that was started by vfork: exec hands the mark of the parent on.)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.tree.memory_moments import Candidate

    Lived = tuple[int, int]  # the most processes that lived at one moment, and how many started, since the last scan

NOISE_BYTES = 256 * 1024  # of the end of a process: it is in no peak
SPREAD = 2  # a process holds at most so many times the mean
MAX_WIDE = 4


class Unseen:
    """The largest moments around which memory was unseen. `largest`: of one process of short life, in bytes."""

    def __init__(self) -> None:
        self.largest = 0
        self._started = 0  # processes that started in the interval before
        self._narrow_high = 0
        self._wide: list[tuple[Candidate, int]] = []

    def size_of(self, faulted: int, survivors: int, lived: Lived | None) -> int:
        """Return the most bytes that unseen processes held at one moment since the last scan.

        `faulted`: bytes that they made. `survivors`: processes that lived all the time and that scans met.
        """
        if lived is None:
            return faulted
        alive, started = lived
        recent, self._started = started + self._started, started
        if not recent:
            return 0
        most = max(self.largest, SPREAD * faulted // max(1, started))
        return min(faulted, max(0, alive - survivors) * most)

    def note(self, candidate: Candidate, size: int) -> None:
        """Take in the moment with the largest bracket around `size` unseen bytes."""
        if size <= NOISE_BYTES:
            return
        if candidate.is_narrow:
            self._narrow_high = max(self._narrow_high, candidate.high + size)
        else:
            self._wide = sorted([*self._wide, (candidate, size)], key=_high, reverse=True)[:MAX_WIDE]

    def wide(self) -> list[Candidate]:
        """Return the moments that a later scan can narrow."""
        return [candidate for candidate, _ in self._wide]

    def high(self) -> int:
        """Return the most bytes that the tree can have held around one of these moments."""
        return max([self._narrow_high, *map(_high, self._wide)])


def _high(moment: tuple[Candidate, int]) -> int:
    candidate, size = moment
    return candidate.high + size
