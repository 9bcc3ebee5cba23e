"""Regular samples, the first line of a thinned record, and what becomes of samples that are merged, in plain words."""

from __future__ import annotations

from functools import reduce
from math import ceil
from operator import add
from typing import Any

from proctally.record.schema import LAST, MAX, MEAN, MIN, SUM
from proctally.record.thinning import ACTIVE_ONLY, IDENTITY, rules
from scenes import header, of_record

RULES = rules()
Known = list[tuple[Any, float]]  # each value with the seconds of its sample


def first() -> dict[str, Any]:
    return of_record(0.0, cpu_cores=None) | {"interval_seconds": None}


def regular(count: int, jitter: float = 0.0) -> list[dict[str, Any]]:
    return [header(), first(), *(of_record(at + jitter * (-1) ** at) for at in range(1, count + 1))]


def merged(samples: list[dict[str, Any]], every: float, interval: float) -> list[dict[str, Any]]:
    """Return the samples but the first, from the lists of all values of each stretch."""
    stretches: list[tuple[int, Known]] = []
    for sample in samples:
        place = max(1, ceil((sample["elapsed_seconds"] - min(every, interval) / 2) / every))
        if not stretches or stretches[-1][0] != place:
            stretches.append((place, []))
        stretches[-1][1].append((sample, sample.get("interval_seconds") or 0.0))
    return [told[0][0] if len(told) == 1 else section("", told) for _, told in stretches]


def section(path: str, told: Known) -> dict[str, Any]:
    names = dict.fromkeys(name for each, _ in told for name in each)
    return {name: value(path + name, [(each.get(name), seconds) for each, seconds in told]) for name in names}


def value(path: str, told: Known) -> Any:
    known = [(each, seconds) for each, seconds in told if each is not None]
    values = [each for each, _ in known]
    rule = RULES.get(path, LAST)
    if not known:
        return None
    if isinstance(values[0], dict):
        return section(f"{path}.", known)
    if path in IDENTITY:
        return entries(path, known)
    if isinstance(values[0], list) and rule == MEAN:
        places = range(max(map(len, values)))
        return [mean([(each[at], seconds) for each, seconds in known if at < len(each)]) for at in places]
    if rule == MEAN:
        return mean(known)
    if rule == SUM:
        return round(reduce(add, values, 0), 4)
    return {MAX: max, MIN: min, LAST: lambda values: values[-1]}[rule](values)


def mean(told: Known) -> float | None:
    known = [(each, seconds) for each, seconds in told if each is not None]
    time = reduce(add, (seconds for _, seconds in known), 0)
    if time <= 0:
        return known[-1][0] if known else None
    return round(reduce(add, (each * seconds for each, seconds in known), 0) / time, 4)


def entries(path: str, known: Known) -> list[dict[str, Any]]:
    found: dict[tuple[str, ...], Known] = {}
    for listed, seconds in known:
        for entry in listed:
            who = tuple(str(entry.get(key)) for key in IDENTITY[path] if key in entry)
            found.setdefault(who, []).append((entry, seconds))
    together = []
    whole = reduce(add, (seconds for _, seconds in known), 0)
    for told in found.values():
        one = section(f"{path}.", told)
        time = reduce(add, (seconds for _, seconds in told), 0)
        for name, each in one.items():
            if path in ACTIVE_ONLY and time < whole and RULES.get(f"{path}.{name}") == MEAN and each is not None:
                one[name] = round(each * (time / whole), 4)
        together.append(one)
    if path == "top":
        together.sort(key=lambda entry: (-(entry.get("cpu_cores") or 0), -(entry.get("rss_bytes") or 0)))
        del together[max(len(listed) for listed, _ in known) :]
    return together
