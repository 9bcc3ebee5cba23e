"""Types of the values of a record: each line passes this filter once, in the reader.

A file can hold any JSON. After the filter a value of a known field has the type and range of the table of fields, or is
null. An unknown field stays, finite and not nested deeply, and no command reads it.
"""

from __future__ import annotations

from functools import cache

from proctally.record.schema import CHOICES, MEAN, SCOPES
from proctally.text.units import MAX_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.record.schema import Field

MAX_TIME = 1e11  # Unix seconds that localtime(3) can show
MAX_DEPTH = 32  # of what the table does not know
LINES = ("run", "host", "devices", "sample", "process", "phase", "summary")
TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,)}
SIGNED = ("", "Cel")  # units of numbers that can be negative
NO_NUMBERS = (0.0, 0.0)


class Rule:
    """Values that one field can hold: `types` of a value, `low` and `high` of a number, or the fields of an object.

    `container`: `list` or `map` of such values. `is_optional`: whether an element of it can be null; a missing source
    whose reason is unknown is null in schema 1.
    """

    __slots__ = ("container", "fields", "high", "is_optional", "low", "types")

    def __init__(self, field: Field) -> None:
        item = field.item.removesuffix("?")
        self.container = field.container
        self.is_optional = item != field.item or item == "missing"
        self.fields = rules(item) if item in SCOPES else None
        self.types = () if item in SCOPES else TYPES.get(item, (str,))
        self.low, self.high = NO_NUMBERS if item in ("str", *CHOICES) else _range(field)
        if item == "int" and field.aggregate == MEAN:
            self.types = TYPES["float"]


def _range(field: Field) -> tuple[float, float]:
    if field.name == "at" or field.name.endswith("_at"):
        return -MAX_TIME, MAX_TIME
    most = MAX_NUMBER * (1 - 2**-53)  # the largest number below it
    return -most if field.unit in SIGNED else 0.0, most


@cache
def rules(scope: str) -> dict[str, Rule]:
    """Return the rules of the fields of a scope, by their names."""
    return {field.name: Rule(field) for field in SCOPES[scope].fields()}


class TypeFilter:
    """The filter of one record. `replaced`: values that were wrong, so far."""

    def __init__(self) -> None:
        self.replaced = 0
        self._lines = {name: rules(name) for name in LINES}

    def admit(self, line: JsonObject) -> JsonObject:
        """Return the line with null for its wrong values, or without them where null is not allowed."""
        known = self._lines.get(line["type"])
        if known is None:
            for name in line:
                line[name] = self._unknown(line[name], MAX_DEPTH)
        else:
            self._section(line, known)
        return line

    def _section(self, section: JsonObject, known: dict[str, Rule]) -> None:
        for name, value in section.items():
            if value is None:
                continue
            rule = known.get(name)
            if rule is None:
                section[name] = self._unknown(value, MAX_DEPTH)
                continue
            kind = type(value)
            if kind in rule.types and not rule.container:
                if (kind is float or kind is int) and not rule.low <= value <= rule.high:
                    section[name] = self._wrong()
            elif kind is dict and rule.fields is not None and not rule.container:
                self._section(value, rule.fields)
            else:
                section[name] = self._other(value, rule)

    def _other(self, value: object, rule: Rule) -> object:
        """Return a list, a map, or a single value that has not its exact type."""
        if rule.container == "list" and isinstance(value, list):
            found = [None if each is None else self._element(each, rule) for each in value]
            return found if rule.is_optional else [each for each in found if each is not None]
        if rule.container == "map" and isinstance(value, dict):
            named = {name: None if each is None else self._element(each, rule) for name, each in value.items()}
            return named if rule.is_optional else {name: each for name, each in named.items() if each is not None}
        return self._wrong() if rule.container else self._element(value, rule)

    def _element(self, value: object, rule: Rule) -> object:
        if rule.fields is not None:
            if not isinstance(value, dict):
                return self._wrong()
            self._section(value, rule.fields)
            return value
        if type(value) is float and rule.types == TYPES["int"] and value.is_integer():
            value = int(value)  # another program wrote the record again
        if type(value) not in rule.types:
            return self._wrong()
        is_within = type(value) not in (int, float) or rule.low <= value <= rule.high  # type: ignore[operator]
        return value if is_within else self._wrong()

    def _unknown(self, value: object, depth: int) -> object:
        """Return a value that the table does not know, of which only what cannot be written again is null."""
        kind = type(value)
        if kind is float and value - value != 0:  # type: ignore[operator]
            return self._wrong()
        if kind is not dict and kind is not list:
            return value
        if not depth:
            return self._wrong()
        if isinstance(value, dict):
            return {name: self._unknown(each, depth - 1) for name, each in value.items()}
        return [self._unknown(each, depth - 1) for each in value]  # type: ignore[attr-defined]

    def _wrong(self) -> object:
        self.replaced += 1
        return None
