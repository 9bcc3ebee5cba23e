"""Parts of the wall time of a run, from its record: five parts in seconds, with bounds where they are wide.

A value of another type or below 0 is unknown: None. Older records, and runs below 0.1 s, have no parts.
"""

from __future__ import annotations

from proctally.record.values import number_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject

# part of the record, and the words for it
PARTS = (
    ("running", "computing"),
    ("ready", "waiting for a CPU"),
    ("throttled", "held by the quota"),
    ("disk", "storage"),
    ("asleep", "asleep"),
)
SMALLEST = 0.005  # of the wall: below it a part is not shown


class TimePart:
    """One part: the words, and its share of the wall, expected, at least and at most."""

    __slots__ = ("high", "low", "share", "words")

    def __init__(self, words: str, share: float, low: float, high: float) -> None:
        self.words = words
        self.share = share
        self.low = low
        self.high = high

    @property
    def text(self) -> str:
        """The part as text, such as `computing 84 %` or `storage 8 to 23 %`."""
        low, high = round(100 * self.low), round(100 * self.high)
        return f"{self.words} {round(100 * self.share) if low == high else f'{low} to {high}'} %"


class Time:
    """The parts of one wall time. `seconds`: their sum; `parts`: those that are shown, none where they are unknown."""

    __slots__ = ("parts", "seconds")

    def __init__(self, section: object) -> None:
        values = {name: _seconds(section, name, "") for name, _ in PARTS}
        known = [value for value in values.values() if value is not None]
        self.seconds = sum(known)
        self.parts: list[TimePart] = []
        if None in values.values() or not self.seconds:
            return
        for name, words in PARTS:
            value = values[name] or 0.0
            low, high = (_seconds(section, name, end) for end in ("_low", "_high"))
            low, high = value if low is None else low, value if high is None else high
            if value >= SMALLEST * self.seconds:
                self.parts.append(TimePart(words, *(each / self.seconds for each in (value, low, high))))

    @classmethod
    def of_summary(cls, summary: JsonObject) -> Time:
        """Return the parts of a summary."""
        return cls(summary.get("time"))

    @property
    def text(self) -> str:
        """All parts as text; empty where they are unknown."""
        return ", ".join(part.text for part in self.parts)


def _seconds(section: object, part: str, end: str) -> float | None:
    return number_at(section, f"{part}{end}_seconds")
