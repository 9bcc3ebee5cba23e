"""Values of lines by their paths. What is read from a file has passed `field_types.TypeFilter`: its type, or null."""

from __future__ import annotations

from proctally.record.codes import WHOLE_MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from proctally.record import JsonObject

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


def number(value: float | None) -> float | None:
    """Return a number as a float, None where it is unknown."""
    return None if value is None else float(value)


def number_at(value: object, path: str) -> float | None:
    """Return the number at a path as a float, None where there is none."""
    return number(value_at(value, path))


def number_or_nan(value: float | None) -> float:
    """Return a number as a float, NaN where it is unknown: for columns of floats."""
    return NAN if value is None else float(value)


def was_killed(summary: object) -> bool:
    """Return whether the OOM killer ended a process of the run; the count of the whole machine does not prove it."""
    return bool(value_at(summary, "reason.oom_kills")) and value_at(summary, "reason.oom_place") != WHOLE_MACHINE
