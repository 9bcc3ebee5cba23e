"""The largest memory of a phase: bounds of the scans in it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.tree.memory_scan import MemoryScan


class PhasePeak:
    """Bytes of anonymous and shared memory at the peak of a phase, at least and at most; None before a scan."""

    __slots__ = ("high", "low")

    def __init__(self, memory: MemoryScan | None) -> None:
        self.low: int | None = None
        self.high: int | None = None
        bracket = None if memory is None else memory.bracket
        if bracket is not None:  # what the tree holds when the phase starts
            self.low, self.high = bracket.low, bracket.high

    def note(self, memory: MemoryScan) -> None:
        """Take in the last scan, with what high-water marks show of the time before it."""
        bracket = memory.bracket
        if bracket is None:
            return
        high = bracket.high
        for candidate in memory.model.peaks.candidates:
            if candidate.bracket is bracket:
                high = max(high, candidate.high)
        self.low = max(self.low or 0, bracket.low)
        self.high = max(self.high or 0, high)

    def add(self, other: PhasePeak) -> None:
        """Take in the peak of another phase of this name."""
        if other.low is not None and other.high is not None:
            self.low = max(self.low or 0, other.low)
            self.high = max(self.high or 0, other.high)
