"""Lines of a record as objects: each field is an attribute, unknown ones are None.

The classes of record/objects.py are generated from the table of fields and hold annotations only.
"""

from __future__ import annotations

import sys

from proctally.text.escape import short_repr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from proctally.record import JsonObject

OPTIONAL = " | None"


class Section:
    """A part of a line. A declared field that is absent is None; a section that is always there is an empty one."""

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        self._values = dict(values or {})

    if not TYPE_CHECKING:  # a type checker knows the declared fields only

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            annotation, kind = _declaration(type(self), name)
            if name not in self._values:
                if annotation is None:
                    raise AttributeError(f"{type(self).__name__} has no field {name!r}")
                return _wrapped(None, annotation, kind)
            value = _wrapped(self._values[name], annotation or "", kind)
            self.__dict__[name] = value
            return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._values, *_declared(type(self))})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Section) and self._values == other._values

    def __repr__(self) -> str:
        return short_repr(self, self._values.items())

    def as_dict(self) -> JsonObject:
        """Return the values as the record holds them."""
        return dict(self._values)


class Phase(Section):
    """One phase of a run: Unix seconds of its start and end, its wall time, and the CPU time of the tree in it.

    `ended_at`, `wall_seconds` and `cpu_seconds` are None for one that has not ended.
    """

    name: str | None
    began_at: float | None
    ended_at: float | None
    wall_seconds: float | None
    cpu_seconds: float | None


def _wrapped(value: object, annotation: str, kind: type[Section] | None) -> Any:
    if isinstance(value, dict):
        return value if annotation.startswith("dict[") else (kind or Section)(value)
    if isinstance(value, list):
        return [_wrapped(each, "", kind) if each is not None else None for each in value]
    if value is None and kind is not None and not annotation.endswith(OPTIONAL):
        return kind()
    return value


def _declared(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        yield from each.__dict__.get("__annotations__", ())


def _declaration(kind: type, name: str) -> tuple[str | None, type[Section] | None]:
    """Return the annotation of a field, and the class of the sections in it; None where there is none."""
    for each in kind.__mro__:
        annotation = each.__dict__.get("__annotations__", {}).get(name)
        if annotation is not None:
            item = annotation.removesuffix(OPTIONAL).removeprefix("list[").removesuffix("]")
            found = getattr(sys.modules.get(each.__module__), item, None)  # no module is left while Python exits
            return annotation, found if isinstance(found, type) and issubclass(found, Section) else None
    return None, None


def sections(kind: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the paths of the fields that hold sections or lists of them."""
    for name in _declared(kind):
        inner = _declaration(kind, name)[1]
        if inner is not None:
            yield prefix + name
            yield from sections(inner, f"{prefix}{name}.")


def flat(line: Mapping[str, object], prefix: str = "") -> JsonObject:
    """Return the single values of a line by their dotted names, without lists of devices and processes."""
    found: JsonObject = {}
    for name, value in line.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list) and f"{prefix}{name}" != "type":
            found[f"{prefix}{name}"] = value
    return found
