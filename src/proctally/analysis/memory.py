"""Memory of a run as its record has it: bounds of what it held, what is apart, and the parts of the peak.

A value of another type, below 0 or above its upper bound is unknown: None. Older records have no bounds.
"""

from __future__ import annotations

from proctally.record import codes
from proctally.record.values import objects_at, value_at
from proctally.text import words
from proctally.text.escape import label, printable
from proctally.text.units import UNKNOWN, between, exact_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject

NARROW = 0.02  # of the upper bound: maximum width that is shown as one figure
NEAR_LIMIT = 0.90  # of a limit: above it the peak is near it
MAX_PARTS = 5
EXPLAINED = 0.5  # of the low bound of the peak: where the parts are less, most was held between two scans
SPIKE, UNSEEN = "spike", "between two scans"
PARTS = {"family": "{} (forks)", "shared": "shared memory", SPIKE: "{} (briefly)", UNSEEN: UNSEEN}  # by kind
SMALLEST = 1 << 16  # bytes of mapped files, kernel memory or swap: below it they are not shown


class PeakPart:
    """One part of the peak: the name that is shown, its pid and its bounds in bytes."""

    __slots__ = ("high", "kind", "low", "name", "pid")

    def __init__(self, entry: JsonObject) -> None:
        self.kind = entry.get("kind") or UNKNOWN
        shown = printable(label(entry.get("command"))) or UNKNOWN
        self.name = PARTS.get(self.kind, "{}").format(shown)
        self.pid = entry.get("pid")
        self.low, self.high = _bounds(entry, "low_bytes", "high_bytes")

    @property
    def text(self) -> str:
        """The bytes, such as `251 to 258 MiB`."""
        return bounds(self.low, self.high)


class HeldMemory:
    """Memory in bytes, each None where it is unknown.

    `low`, `high`: bounds of anonymous and shared memory; `unclaimed`: the part of `high` that might belong to another
    job; `at_seconds`: time from the start to the peak; `parts`: the largest at the peak.
    """

    __slots__ = ("at_seconds", "gaps", "high", "kernel", "low", "mapped_file", "parts", "swap", "unclaimed")

    def __init__(self, section: object, low: str, high: str) -> None:
        self.low, self.high = _bounds(section, low, high)
        self.mapped_file = _bytes(section, "mapped_file_bytes")
        self.kernel = _bytes(section, "kernel_bytes")
        self.swap = _bytes(section, "swap_bytes")
        self.unclaimed: float | None = None
        self.at_seconds: float | None = None
        self.parts: list[PeakPart] = []
        self.gaps: list[JsonObject] = []

    @classmethod
    def of_summary(cls, summary: object) -> HeldMemory:
        """Return the peak of a run."""
        section = value_at(summary, "memory")
        memory = cls(section, "peak_low_bytes", "peak_high_bytes")
        memory.unclaimed = _bytes(section, "unclaimed_shmem_bytes")
        memory.at_seconds = _bytes(section, "at_seconds")
        memory.parts = [PeakPart(entry) for entry in objects_at(section, "at_peak")[:MAX_PARTS]]
        memory.parts[:0] = _unseen(memory, _bytes(value_at(summary, "processes"), "peak"))
        memory.gaps = [gap for gap in objects_at(summary, "gaps") if gap.get("section") == codes.MEMORY]
        return memory

    @classmethod
    def of_sample(cls, tree: object) -> HeldMemory:
        """Return the memory of one moment, from the section `tree` of a sample."""
        return cls(tree, "memory_low_bytes", "memory_high_bytes")

    def limit_high(self, peak: float | None) -> None:
        """Lower the upper bound to that of the whole run: later samples can narrow it."""
        if peak is not None and self.high is not None:
            self.high = min(self.high, peak)

    @property
    def is_known(self) -> bool:
        """Return whether there is an upper bound."""
        return self.high is not None

    @property
    def is_narrow(self) -> bool:
        """Return whether one figure shows both bounds."""
        return self.high is not None and self.low is not None and self.high - self.low <= NARROW * self.high

    def is_near(self, limit: float | None) -> bool:
        """Return whether the peak might have been near a limit in bytes."""
        return bool(limit) and self.high is not None and self.high >= NEAR_LIMIT * (limit or 0)

    @property
    def text(self) -> str:
        """The bounds: `1.71 GiB`, or `between 0.90 and 1.20 GiB`."""
        return between_bounds(self.low, self.high)

    @property
    def short(self) -> str:
        """The bounds for a table: `1.71 GiB`, or `0.90 to 1.20 GiB`."""
        return _text(self.low, self.high, "{} to {}")

    @property
    def apart(self) -> list[tuple[str, float]]:
        """Mapped files, kernel memory and swap where they are known and not tiny."""
        named = (("mapped files", self.mapped_file), ("kernel", self.kernel), ("swap", self.swap))
        return [(name, value) for name, value in named if value is not None and value >= SMALLEST]

    @property
    def needed(self) -> float | None:
        """All that a job needs: the upper bound and what is apart; None without an upper bound."""
        if self.high is None:
            return None
        return self.high + sum(value for value in (self.mapped_file, self.kernel, self.swap) if value is not None)

    @property
    def widest(self) -> JsonObject | None:
        """The gap that makes the bounds wide; None where they are narrow or no gap is known."""
        if self.is_narrow or self.high is None:
            return None
        found = [gap for gap in self.gaps if gap.get("code") != codes.LATE_LOOK]
        return max(found, key=_width, default=None)

    @property
    def cause(self) -> str:
        """The same as text; empty without one."""
        return words.gap(self.widest) if self.widest else ""

    def late(self) -> str:
        """Return the gap of scans that took long, as text; empty without one."""
        return next((words.gap(gap) for gap in self.gaps if gap.get("code") == codes.LATE_LOOK), "")


def _unseen(memory: HeldMemory, processes: float | None) -> list[PeakPart]:
    """Return what was held between two scans, where the parts and as small ones leave most of the low bound to it.

    `processes`: the most that lived at once.
    """
    parts, is_cut = memory.parts, len(memory.parts) == MAX_PARTS
    if not parts or memory.low is None or memory.high is None or (is_cut and processes is None):
        return []
    lows, highs = ([getattr(part, end) or 0 for part in parts] for end in ("low", "high"))
    left_out = max(0.0, (processes or 0.0) - MAX_PARTS) if is_cut else 0.0
    most = sum(highs) + left_out * min(highs)
    if most >= EXPLAINED * memory.low:
        return []
    return [PeakPart({"kind": UNSEEN, "low_bytes": memory.low - most, "high_bytes": memory.high - sum(lows)})]


def _width(gap: JsonObject) -> float:
    low, high = _bounds(gap, "low_bytes", "high_bytes")
    return -1.0 if high is None else high - (low or 0)


def _bytes(section: object, name: str) -> float | None:
    found: float | None = section.get(name) if isinstance(section, dict) else None
    return found


def _bounds(section: object, low: str, high: str) -> tuple[float | None, float | None]:
    least, most = _bytes(section, low), _bytes(section, high)
    if least is not None and most is not None and least > most:
        return None, most
    return least, most


def between_bounds(low: float | None, high: float | None) -> str:
    """Return bounds in bytes as text: `1.71 GiB`, or `between 0.90 and 1.20 GiB`."""
    return _text(low, high, "between {} and {}")


def bounds(low: float | None, high: float | None) -> str:
    """Return the same for a table: `1.71 GiB`, or `0.90 to 1.20 GiB`."""
    return _text(low, high, "{} to {}")


def _text(low: float | None, high: float | None, form: str) -> str:
    if high is None:
        return UNKNOWN if low is None else f"at least {exact_size(low)}"
    if not low:
        return "0 B" if not high and low == 0 else f"at most {exact_size(high)}"
    return between(low, high, form) if high - low > NARROW * high else exact_size(high)
