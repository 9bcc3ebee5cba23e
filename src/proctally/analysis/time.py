"""Parts of the wall time of a run, from its record: five parts in seconds, with bounds where they are wide.

A value of another type or below 0 is unknown: None. Older records, and runs below 0.1 s, have no parts.
"""

from __future__ import annotations

from proctally.analysis.waits import STARVED_SHARE, is_starved
from proctally.record.values import number_at, value_at

# part of the record, and the words for it
PARTS = (
    ("running", "computing"),
    ("ready", "waiting for a CPU"),
    ("throttled", "held by the quota"),
    ("disk", "storage"),
    ("asleep", "asleep"),
)
READY, THROTTLED = WAITS = ("ready", "throttled")  # parts in which work was ready and had no CPU
NARROW = 0.05  # of the wall: what differs by less is one figure
SMALLEST = 0.005  # of the wall: below it a part is not shown


class TimePart:
    """One part: its name in the record, the words, and its share of the wall, expected, at least and at most."""

    __slots__ = ("high", "low", "name", "share", "words")

    def __init__(self, name: str, words: str, share: float, low: float, high: float) -> None:
        self.name = name
        self.words = words
        self.share = share
        self.low = low
        self.high = high

    @property
    def percent(self) -> str:
        """The share in percent, such as `84` or `8 to 23`."""
        low, high = round(100 * self.low), round(100 * self.high)
        return f"{round(100 * self.share) if low == high else f'{low} to {high}'}"

    @property
    def text(self) -> str:
        """The part as text, such as `computing 84 %` or `storage 8 to 23 %`."""
        return f"{self.words} {self.percent} %"


class Time:
    """The parts of one wall time. `seconds`: their sum; `parts`: those that are shown, none where they are unknown.

    `wanted_cores`: mean number of threads that wanted a CPU, `usable`: cores for them; None where it is unknown.
    """

    __slots__ = ("_bounds", "parts", "seconds", "usable", "wanted_cores")

    def __init__(self, section: object) -> None:
        self.usable: float | None = None
        self.wanted_cores = number_at(section, "wanted_cores")
        values = {name: _seconds(section, name, "") for name, _ in PARTS}
        known = [value for value in values.values() if value is not None]
        self.seconds = sum(known)
        self.parts: list[TimePart] = []
        self._bounds: dict[str, tuple[float, float]] = {}
        if None in values.values() or not self.seconds:
            return
        for name, words in PARTS:
            value = values[name] or 0.0
            low, high = (_seconds(section, name, end) for end in ("_low", "_high"))
            low, high = value if low is None else low, value if high is None else high
            self._bounds[name] = low / self.seconds, high / self.seconds
            if value >= SMALLEST * self.seconds:
                self.parts.append(TimePart(name, words, *(each / self.seconds for each in (value, low, high))))

    @classmethod
    def of_summary(cls, summary: object) -> Time:
        """Return the parts of a summary; a job wants no more cores than there are for it, but for a quota."""
        time = cls(value_at(summary, "time"))
        has_quota = bool(number_at(summary, "waiting.throttled_seconds"))
        time.usable = number_at(summary, "system.cpus" if has_quota else "limits.cpu_cores") or None
        if time.usable and time.wanted_cores is not None:
            time.wanted_cores = min(time.wanted_cores, time.usable)
        return time

    def share(self, *names: str) -> float:
        """Return the share of the wall of these parts of the record; 0 where they are unknown."""
        return sum(part.share for part in self.parts if part.name in names)

    def bounds(self, *names: str) -> tuple[float, float]:
        """Return bounds of the share of these parts together: the other parts bound them, too."""
        own = [self._bounds[name] for name in self._bounds if name in names]
        rest = [self._bounds[name] for name in self._bounds if name not in names]
        low, high = (sum(each[end] for each in own) for end in (0, 1))
        return max(low, 1 - sum(high for _, high in rest)), min(high, 1 - sum(low for low, _ in rest))

    def got(self, used_cores: float | None) -> tuple[float, float] | None:
        """Return bounds of the share of the wanted CPU time that a starved job had; None for any other job."""
        if not used_cores or not self.wanted_cores or not self.is_starved(used_cores, *WAITS):
            return None
        unmet, share = self.wanted_cores - used_cores, self.share(*WAITS)
        high, got, low = (
            used_cores / (used_cores + unmet * max(0.0, waited) / share)
            for waited in (self.bounds(*WAITS)[0], share, self.bounds(*WAITS)[1])
        )
        return (got, got) if high - low <= NARROW else (low, high)

    @property
    def is_certain(self) -> bool:
        """Return whether the waits starve a job at their lower bound, too."""
        return self.bounds(*WAITS)[0] >= STARVED_SHARE

    def is_starved(self, used_cores: float | None, *names: str) -> bool:
        """Return whether the waits of these parts starved a job that used this many cores on average."""
        if used_cores is None or self.wanted_cores is None:
            return False
        return is_starved(self.share(*names), self.wanted_cores - used_cores)

    @property
    def text(self) -> str:
        """All parts as text; empty where they are unknown."""
        return ", ".join(part.text for part in self.parts)


def _seconds(section: object, part: str, end: str) -> float | None:
    return number_at(section, f"{part}{end}_seconds")


def wanted_cores(used: float, delay: float, interval: float, cpus: float | None) -> float:
    """Return the cores that a job wanted in an interval, from its seconds of CPU time and of run delay.

    What is ready while the job fills all of its `cpus` waits for no other job.
    """
    unmet = delay if cpus is None else min(delay, max(0.0, cpus * interval - used))
    return (used + unmet) / interval
