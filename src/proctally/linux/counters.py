"""Judge counters: what can a counter have grown by between two readings.

Files of the kernel, drivers and the runtimes of containers show a zero or another wrong number for a moment. A counter
that fell or grew by more than it can is unknown, and the next reading decides.
"""

from __future__ import annotations

from operator import sub

from proctally.linux.machine import NANOSECONDS
from proctally.linux.proc import COUNTERS_END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

WRAP = 1 << 32
MAX_WRAPPED = 1 << 28  # a counter of 32 bits that fell by less than the rest was more likely reset
LATE_SECONDS = 2.0  # age of what a driver counts, at most


def known(word: bytes) -> int | None:
    """Return a number of the kernel, None for one that is negative; raise ValueError for other text."""
    value = int(word)
    return value if 0 <= value < COUNTERS_END else None


def growth(before: int | None, now: int | None, most: float) -> int | None:
    """Return how much a counter grew, at most `most`; None where the two readings do not say it."""
    if before is None or now is None:
        return None
    grown = now - before
    if grown < 0 and before < WRAP and grown + WRAP <= MAX_WRAPPED:
        grown += WRAP
    return grown if 0 <= grown <= most and before >= 0 and now < COUNTERS_END else None


def rate(before: int | None, now: int | None, seconds: float, most: float) -> float | None:
    """Return the growth per second, None where it is unknown. `most`: how much a second can have."""
    grown = growth(before, now, most * (seconds + LATE_SECONDS))
    return None if grown is None else grown / seconds


class DeviceCounters:
    """The counters of one device. `values`: of the last reading, None in place of those in doubt."""

    __slots__ = ("_base", "_doubt", "_most", "values")

    def __init__(self, raw: tuple[int, ...]) -> None:
        self.values: tuple[int | None, ...] = tuple([value if 0 <= value < COUNTERS_END else None for value in raw])
        self._base = self.values  # the last reading that was believed
        self._doubt: list[int | None] | None = None  # readings that were not, and what can have grown since the base
        self._most = 0.0
        if None in self.values:
            self._doubt = list(raw)

    def update(self, raw: tuple[int, ...], most: float) -> tuple[int | None, ...]:
        """Take in a reading; return what each counter grew by, nothing where none moved.

        `most`: how much a counter can have grown since the last reading.
        """
        if self._doubt is None:
            if raw == self._base:
                return ()
            grown = tuple(map(sub, raw, self._base))  # without doubt there is no None
            if min(grown) >= 0 and max(grown) <= most and max(raw) < COUNTERS_END:
                self._base = self.values = raw
                return grown
            self._doubt = [None] * len(raw)
        return self._decide(raw, most, self._doubt)

    def _decide(self, raw: tuple[int, ...], most: float, doubt: list[int | None]) -> tuple[int | None, ...]:
        """Believe a counter that fits what was believed last, or the reading in doubt."""
        self._most += most
        base = list(self._base)
        found: list[int | None] = []
        for place, value in enumerate(raw):
            grown = growth(base[place], value, self._most)
            if grown is None:
                grown = growth(doubt[place], value, most)
            if grown is not None:
                base[place] = value
            doubt[place] = value if grown is None else None
            found.append(grown)
        self._base = tuple(base)
        self.values = tuple([None if each is None else value for each, value in zip(found, raw, strict=True)])
        if None not in found:
            self._doubt, self._most = None, 0.0
        return tuple(found)


class GrowingSum:
    """The sum of counters over devices that come and go; it never falls.

    It starts as the sum over the first devices. A device that goes leaves its counts in the sum. A device that comes
    later adds only its growth: its counts can be older (an interface moved here from another namespace).
    """

    __slots__ = ("_at_ns", "_devices", "_late", "_totals", "values")

    def __init__(self, width: int, late: float = LATE_SECONDS) -> None:
        self._at_ns = 0
        self._devices: dict[str, DeviceCounters] | None = None
        self._late = late
        self._totals = [0] * width
        self.values: dict[str, tuple[int | None, ...]] = {}  # of each device, None in place of those in doubt

    def update(
        self,
        raw: Mapping[str, tuple[int, ...]],
        summed: Collection[str],
        at_ns: int,
        most: Callable[[str], float],
    ) -> tuple[int | None, ...]:
        """Take in a reading; return the totals over those `summed`, None where a counter of one is in doubt.

        `most`: how much a counter of a device can grow by in a second.
        """
        last, totals = self._devices, self._totals
        seconds = (at_ns - self._at_ns) / NANOSECONDS + self._late
        devices: dict[str, DeviceCounters] = {}
        in_doubt: set[int] = set()
        for name, counters in raw.items():
            device = last.get(name) if last is not None else None
            grown: tuple[int | None, ...] = ()
            if device is not None:
                grown = device.update(counters, seconds * most(name))
            else:
                device = DeviceCounters(counters)
                if last is None:
                    grown = device.values
            devices[name] = device
            if grown and name in summed:
                for place, each in enumerate(grown):
                    if each is None:
                        in_doubt.add(place)
                    else:
                        totals[place] += each
        self._devices, self._at_ns = devices, at_ns
        self.values = {name: device.values for name, device in devices.items()}
        return tuple(None if place in in_doubt else total for place, total in enumerate(totals))
