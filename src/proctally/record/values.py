"""Check the types of values from a record: a file can hold any JSON."""

from __future__ import annotations

from proctally.record.codes import WHOLE_MACHINE
from proctally.text.units import MAX_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeGuard

    from proctally.record import JsonObject

MAX_TIME = 1e11  # Unix seconds that localtime(3) can show
NUMBERS = (int, float)  # bool is not one
NAN = float("nan")


def value_at(value: object, path: str) -> Any:
    """Return the value at a path of nested objects, such as `tree.rss_bytes`; None where there is none."""
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def section_at(value: object, path: str) -> JsonObject:
    """Return the object at a path; an empty one where there is none."""
    section = value_at(value, path)
    return section if isinstance(section, dict) else {}


def objects_at(value: object, path: str) -> list[JsonObject]:
    """Return the objects of the list at a path; an empty list where there is none."""
    listed = value_at(value, path)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether this is a finite number that can be calculated with."""
    return type(value) in NUMBERS and -MAX_NUMBER < value < MAX_NUMBER


def number(value: object) -> float | None:
    """Return a number as a float, None for any other value."""
    return float(value) if is_number(value) else None


def number_at(value: object, path: str) -> float | None:
    """Return the number at a path as a float, None where there is none."""
    return number(value_at(value, path))


def number_or_nan(value: object) -> float:
    """Return a number as a float, NaN for any other value: for columns of floats."""
    return float(value) if is_number(value) else NAN


def amount(value: object) -> int | float | None:
    """Return a number that is not negative as the record has it, None for any other value."""
    return value if is_number(value) and value >= 0 else None


def whole(value: object) -> int | None:
    """Return a whole number, None for any other value."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def clock_time(value: object) -> float:
    """Return Unix seconds that a clock can show, 0 for any other value."""
    return float(value) if is_number(value) and abs(value) < MAX_TIME else 0.0


def was_killed(summary: object) -> bool:
    """Return whether the OOM killer ended a process of the run; the count of the whole machine does not prove it."""
    kills, place = value_at(summary, "reason.oom_kills"), value_at(summary, "reason.oom_place")
    return is_number(kills) and kills > 0 and place != WHOLE_MACHINE
