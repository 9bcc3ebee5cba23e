"""Fewer samples of a record: those of a stretch of time become one, in which nothing that counts is lost.

The table of fields says which value of a field stands for several (`aggregate`): of a counter the last, so that every
growth stays right; of a rate its mean over time; of a gauge its peak, which for free space is the least.
"""

from __future__ import annotations

from math import ceil

from proctally.record.schema import LAST, MAX, MEAN, MIN, SUM, walk
from proctally.record.values import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from proctally.record import JsonObject

IDENTITY = {
    "top": ("pid", "command"),
    "gpus": ("uuid", "index", "pci", "name"),
    "disks": ("name",),
    "interfaces": ("name",),
}


def rules() -> dict[str, str]:
    """Return the aggregate of each field of a sample by its path (`tree.cpu_seconds`)."""
    return {path: field.aggregate for path, field in walk("sample")}


def thin(lines: Iterable[JsonObject], every: float) -> Iterator[JsonObject]:
    """The lines of a record with one sample for each `every` seconds; all others as they are.

    The first sample stays what it is: all counting begins with it. Boundaries are those of the record's own clock
    (`elapsed_seconds`); a sample that comes late by less than half an interval is of the stretch that it was meant for.
    """
    how = rules()
    slack = 0.0
    waiting: list[JsonObject] = []
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
                if waiting and its != stretch:
                    yield merged(waiting, how)
                    waiting = []
                stretch = its
                waiting.append(line)
                continue
            begun = True
        elif kind == "summary" and waiting:
            yield merged(waiting, how)
            waiting = []
        yield line
    if waiting:
        yield merged(waiting, how)


def merged(samples: list[JsonObject], how: dict[str, str]) -> JsonObject:
    """One sample for several that follow each other."""
    if len(samples) == 1:
        return samples[0]
    weights = [sample.get("interval_seconds") for sample in samples]
    seconds = [weight or 0.0 for weight in weights]
    return _section("", samples, seconds, how) | {"type": "sample"}


def _section(path: str, sections: Sequence[object], seconds: list[float], how: dict[str, str]) -> JsonObject:
    """One section of them, of those samples that have it."""
    there = [(section, second) for section, second in zip(sections, seconds, strict=True) if isinstance(section, dict)]
    found: JsonObject = {}
    for name in dict.fromkeys(name for section, _ in there for name in section):
        values = [section.get(name) for section, _ in there]
        found[name] = _value(f"{path}{name}", values, [second for _, second in there], how)
    return found


def _value(path: str, values: list[object], seconds: list[float], how: dict[str, str]) -> object:
    known = [(value, second) for value, second in zip(values, seconds, strict=True) if value is not None]
    if not known:
        return None
    last = known[-1][0]
    if isinstance(last, dict):
        return _section(f"{path}.", values, seconds, how)
    rule = how.get(path, LAST)
    if isinstance(last, list):
        name = path.rpartition(".")[2]
        if name in IDENTITY:
            return _devices(path, name, [value for value, _ in known], [second for _, second in known], how)
        return _by_place([(each, second) for each, second in known if isinstance(each, list)]) if rule == MEAN else last
    numbers = [(value, second) for value, second in known if isinstance(value, int | float)]
    if len(numbers) < len(known):
        return last
    if rule == MEAN:
        return _mean(numbers)
    if rule == SUM:
        return round(sum(value for value, _ in numbers), 4)
    chosen = {MAX: max, MIN: min}.get(rule)
    return last if chosen is None else chosen(value for value, _ in numbers)


def _mean(known: list[tuple[float, float]]) -> float:
    """Over the time of those in which it is known."""
    time = sum(second for _, second in known)
    if time <= 0:
        return known[-1][0]
    return round(sum(value * second for value, second in known) / time, 4)


def _by_place(known: list[tuple[list[object], float]]) -> list[float | None]:
    """Of a list of ratios, one for each core: the mean of each."""
    places = range(max(len(values) for values, _ in known))
    found: list[float | None] = []
    for place in places:
        told = [(values[place], second) for values, second in known if place < len(values)]
        numbers = [(value, second) for value, second in told if isinstance(value, int | float)]
        found.append(_mean(numbers) if numbers else None)
    return found


def _devices(path: str, name: str, lists: list[object], seconds: list[float], how: dict[str, str]) -> list[JsonObject]:
    """Entries of lists by who they are. One that is missing in a sample had no part in it: its rates count as 0 there.

    So it is for disks and interfaces, which are told when they did something; a process that is missing among the
    largest ones, or a GPU that could not be read, had a rate that is not known: their means are of what is.
    """
    tells_all = name in ("disks", "interfaces")
    found: dict[tuple[str, ...], list[tuple[JsonObject, float]]] = {}
    for entries, second in zip(lists, seconds, strict=True):
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                who = tuple(str(entry.get(key)) for key in IDENTITY[name] if key in entry)
                found.setdefault(who, []).append((entry, second))
    together = []
    for told in found.values():
        entries, times = [entry for entry, _ in told], [second for _, second in told]
        one = _section(f"{path}.", entries, times, how)
        share = sum(times) / sum(seconds) if tells_all and sum(seconds) > 0 else 1.0
        for key, value in one.items():
            if share < 1.0 and how.get(f"{path}.{key}") == MEAN and isinstance(value, int | float):
                one[key] = round(value * share, 4)
        together.append(one)
    if name == "top":
        most = max(len(entries) for entries in lists if isinstance(entries, list))
        together.sort(key=lambda entry: [-(number(entry.get(name)) or 0) for name in ("cpu_cores", "rss_bytes")])
        del together[most:]
    return together
