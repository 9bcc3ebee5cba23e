"""Fewer samples of a record: those of a stretch of time become one, in which nothing that counts is lost.

The table of fields says which value of a field stands for several (`aggregate`): of a counter the last, so that every
growth stays right; of a rate its mean over time; of a gauge its peak, which for free space is the least. One pass holds
a value for each field, whatever the number of samples.
"""

from __future__ import annotations

from functools import partial
from math import ceil
from sys import getsizeof, intern

from proctally.record.schema import LAST, MAX, MEAN, MIN, SUM, walk
from proctally.record.values import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from proctally.record import JsonObject

IDENTITY = {
    "top": ("pid", "command"),
    "gpus": ("uuid", "index", "pci", "name"),
    "system.disks": ("name",),
    "system.interfaces": ("name",),
}
ACTIVE_ONLY = ("system.disks", "system.interfaces")  # one that did nothing is missing
HELD_BYTES = 16 << 20  # above that, a stretch becomes more than one sample: about 30,000 processes
VALUE_BYTES = 100  # of one value, with its name
SIGN_BYTES = 6  # of a character of a text, which takes up to 12 as JSON


def rules() -> dict[str, str]:
    """Return the aggregate of each field of a sample by its path (`tree.cpu_seconds`)."""
    return {path: field.aggregate for path, field in walk("sample")}


def thin(lines: Iterable[JsonObject], every: float) -> Iterator[JsonObject]:
    """The lines of a record with one sample for each `every` seconds; all others as they are.

    The first sample stays what it is: all counting begins with it. Boundaries are those of the record's own clock
    (`elapsed_seconds`); a sample that comes late by less than half an interval is of the stretch that it was meant for.
    """
    merged = Merged()
    slack = 0.0
    stretch: int | None = None
    begun = False
    for line in lines:
        kind = line["type"]
        if kind == "run":
            interval = line.get("interval_seconds")
            slack = min(every, interval) / 2 if interval is not None else 0.0
            line = line | {"thinned_seconds": every}
        elif kind == "sample":
            elapsed = line.get("elapsed_seconds")
            if begun and elapsed is not None:
                its = max(1, ceil((elapsed - slack) / every))
                if its != stretch or merged.is_full:
                    yield from merged.end()
                stretch = its
                merged.add(line)
                continue
            begun = True
        elif kind == "summary":
            yield from merged.end()
        yield line
    yield from merged.end()


class Merged:
    """One sample for several that follow each other. `held`: bytes of what it holds, about."""

    def __init__(self) -> None:
        self.rules = rules()
        self.held = 0
        self._only: JsonObject | None = None  # of one sample nothing is changed
        self._whole: Section | None = None

    @property
    def is_full(self) -> bool:
        """Whether it holds so many different fields and processes that it should end."""
        return self.held > HELD_BYTES

    def add(self, sample: JsonObject) -> None:
        """The next sample."""
        self._only = sample if self._whole is None else None
        if self._whole is None:
            self._whole = Section("", self)
        self._whole.add(sample, sample.get("interval_seconds") or 0.0)

    def end(self) -> Iterator[JsonObject]:
        """Yield the sample, if there is one, and begin again."""
        if self._whole is not None:
            yield self._whole.value() if self._only is None else self._only
        self._only = self._whole = None
        self.held = 0

    def field(self, path: str, value: object) -> Field:
        """Return what holds the values of a field of which this is the first that is known."""
        self.held += VALUE_BYTES
        if isinstance(value, dict):
            return Section(f"{path}.", self)
        if isinstance(value, list) and path in IDENTITY:
            return Entries(path, self)
        rule = self.rules.get(path, LAST)
        if isinstance(value, list):
            return Places(self) if rule == MEAN else Last(self)
        return Last(self) if rule == LAST else NUMBERS[rule]()


# -- fields, each with `add(value, seconds)` for the next value that is known, and `value()` ------------------------


class Last:
    """The last of them."""

    __slots__ = ("_merged", "_value")

    def __init__(self, merged: Merged) -> None:
        self._merged = merged
        self._value: object = None

    def add(self, value: object, _: float) -> None:
        if isinstance(value, str | list):
            self._merged.held += size_of(value) - size_of(self._value)
        self._value = value

    def value(self) -> object:
        return self._value


class Extreme:
    """The largest of numbers, or the smallest: `of` is max or min."""

    __slots__ = ("_of", "_value")

    def __init__(self, of: Callable[[float, float], float]) -> None:
        self._of = of
        self._value: float | None = None

    def add(self, value: float, _: float) -> None:
        self._value = value if self._value is None else self._of(self._value, value)

    def value(self) -> float | None:
        return self._value


class Sum:
    """The sum of numbers."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value: float = 0

    def add(self, value: float, _: float) -> None:
        self._value += value

    def value(self) -> float:
        return round(self._value, 4)


class Mean:
    """The mean of numbers over the time in which they are known."""

    __slots__ = ("_last", "_seconds", "_weighted")

    def __init__(self) -> None:
        self._weighted: float = 0
        self._seconds: float = 0
        self._last: float = 0

    def add(self, value: float, seconds: float) -> None:
        self._weighted += value * seconds
        self._seconds += seconds
        self._last = value

    def value(self) -> float:
        return round(self._weighted / self._seconds, 4) if self._seconds > 0 else self._last


class Places:
    """The mean of each place of a list of ratios, one for each core."""

    __slots__ = ("_means", "_merged")

    def __init__(self, merged: Merged) -> None:
        self._merged = merged
        self._means: list[Mean | None] = []

    def add(self, values: list[float | None], seconds: float) -> None:
        means = self._means
        means += [None] * (len(values) - len(means))
        for place, value in enumerate(values):
            if value is None:
                continue
            mean = means[place]
            if mean is None:
                mean = means[place] = Mean()
                self._merged.held += VALUE_BYTES
            mean.add(value, seconds)

    def value(self) -> list[float | None]:
        return [None if mean is None else mean.value() for mean in self._means]


class Section:
    """An object, field by field. `seconds`: the time of the samples that have it."""

    __slots__ = ("_fields", "_merged", "_path", "seconds")

    def __init__(self, path: str, merged: Merged) -> None:
        self._path = path
        self._merged = merged
        self._fields: dict[str, Field | None] = {}
        self.seconds: float = 0

    def add(self, section: JsonObject, seconds: float) -> None:
        self.seconds += seconds
        fields = self._fields
        for name, value in section.items():
            field = fields.get(name)
            if value is None:
                if field is None and name not in fields:
                    fields[intern(name)] = None
                    self._merged.held += VALUE_BYTES
                continue
            if field is None or isinstance(value, dict) != isinstance(field, Section):  # an unknown one can change
                field = fields[intern(name)] = self._merged.field(self._path + name, value)
            field.add(value, seconds)

    def value(self) -> JsonObject:
        return {name: None if field is None else field.value() for name, field in self._fields.items()}


class Entries:
    """Entries of lists by who they are. One that is missing in a sample had no part in it: its rates count as 0 there.

    So it is for disks and interfaces, which are told when they did something; a process that is missing among the
    largest ones, or a GPU that could not be read, had a rate that is not known: their means are of what is.
    """

    __slots__ = ("_found", "_merged", "_most", "_path", "_seconds")

    def __init__(self, path: str, merged: Merged) -> None:
        self._path = path
        self._merged = merged
        self._found: dict[tuple[str, ...], Section] = {}
        self._seconds: float = 0
        self._most = 0  # entries of one sample

    def add(self, entries: list[JsonObject], seconds: float) -> None:
        self._seconds += seconds
        self._most = max(self._most, len(entries))
        for entry in entries:
            who = tuple(str(entry.get(key)) for key in IDENTITY[self._path] if key in entry)
            section = self._found.get(who)
            if section is None:
                section = self._found[who] = Section(f"{self._path}.", self._merged)
                self._merged.held += VALUE_BYTES
            section.add(entry, seconds)

    def value(self) -> list[JsonObject]:
        together = [self._of(section) for section in self._found.values()]
        if self._path == "top":
            together.sort(key=lambda entry: [-(number(entry.get(name)) or 0) for name in ("cpu_cores", "rss_bytes")])
            del together[self._most :]
        return together

    def _of(self, section: Section) -> JsonObject:
        entry = section.value()
        if self._path in ACTIVE_ONLY and section.seconds < self._seconds:
            share = section.seconds / self._seconds
            for name, value in entry.items():
                if value is not None and self._merged.rules.get(f"{self._path}.{name}") == MEAN:
                    entry[name] = round(value * share, 4)
        return entry


Field = Last | Extreme | Sum | Mean | Places | Section | Entries
NUMBERS: dict[str, Callable[[], Field]] = {MAX: partial(Extreme, max), MIN: partial(Extreme, min), SUM: Sum, MEAN: Mean}


def size_of(value: object) -> int:
    """Return the bytes of a value of JSON, about."""
    if isinstance(value, str):
        return SIGN_BYTES * len(value)
    size = getsizeof(value)
    if isinstance(value, list):
        return size + sum(map(size_of, value))
    if isinstance(value, dict):
        return size + sum(map(size_of, value)) + sum(map(size_of, value.values()))
    return size
