"""Types of the values of a record: each line passes this filter once, in the reader.

A file can hold any JSON. After the filter a value of a known field has the type and range of the table of fields, or is
null. An unknown field stays, finite, small and not nested deeply, and no command reads it.
"""

from __future__ import annotations

from functools import cache
from itertools import islice

from proctally.record.schema import MEAN, SCOPES
from proctally.text.units import MAX_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.record.schema import Field

    Range = tuple[float, float]

MAX_TIME = 1e11  # Unix seconds that localtime(3) can show
MOST = MAX_NUMBER * (1 - 2**-53)  # the largest number below it
MAX_DEPTH = 32  # of an unknown field
MAX_TEXT = 1 << 14  # characters: the longest path has 4 KiB, each byte of which can become four ...
MAX_ARGUMENT = 1 << 19  # ... and the longest argument of a command 128 KiB
MAX_ENTRIES = 1 << 15  # of the lists of objects, the maps and the unknown fields of one line
MAX_FIELDS = 1_000  # of an object
LINES = ("run", "host", "devices", "sample", "process", "phase", "summary")
TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,)}
NUMBERS = (int, float)
SIGNED = ("", "Cel")  # units of numbers that can be negative
RIGHT = (0.0, 0.0)  # in place of a range, for a value that is not a number


class Rule:
    """Values that one field can hold: `types` with the range of each, or the fields of an object.

    `container`: `list` or `map` of such values. `is_optional`: whether an element of it can be null; a missing source
    whose reason is unknown is null in schema 1.
    """

    __slots__ = ("container", "fields", "is_optional", "ranges")

    def __init__(self, field: Field) -> None:
        item = field.item.removesuffix("?")
        self.container = field.container
        self.is_optional = item != field.item or item == "missing"
        self.fields = fields(item) if item in SCOPES else None
        types = TYPES["float"] if item == "int" and field.aggregate == MEAN else TYPES.get(item, (str,))
        self.ranges = {} if item in SCOPES else {kind: _range(field) if kind in NUMBERS else RIGHT for kind in types}


def _range(field: Field) -> Range:
    if field.name == "at" or field.name.endswith("_at"):
        return -MAX_TIME, MAX_TIME
    return (-MOST if field.unit in SIGNED else 0.0), MOST


class Fields:
    """The fields of a scope by their names: all rules, the ranges of single values by their types, and objects."""

    __slots__ = ("objects", "ranges", "rules")

    def __init__(self, scope: str) -> None:
        self.rules = {field.name: Rule(field) for field in SCOPES[scope].fields()}
        self.ranges: dict[str, dict[type, Range]] = {
            name: {} if rule.container else rule.ranges for name, rule in self.rules.items()
        }
        self.objects = {
            name: rule.fields for name, rule in self.rules.items() if rule.fields is not None and not rule.container
        }


@cache
def fields(scope: str) -> Fields:
    """Return the fields of a scope."""
    return Fields(scope)


class TypeFilter:
    """The filter of one record. `replaced`: values that were wrong, so far."""

    def __init__(self) -> None:
        self.replaced = 0
        self._room = 0  # for entries of this line

    def admit(self, line: JsonObject) -> JsonObject:
        """Return the line with null for its wrong values, or without them where null is not allowed."""
        self._room = MAX_ENTRIES
        if line["type"] in LINES:
            self._section(line, fields(line["type"]))
        else:
            for name, value in line.items():
                line[name] = self._unknown(value, MAX_DEPTH)
        return line

    def _section(self, section: JsonObject, known: Fields) -> None:
        ranges, objects = known.ranges, known.objects
        if len(section) > MAX_FIELDS:
            for name in section.keys() - known.rules.keys():
                del section[name]
                self.replaced += 1
        for name, value in section.items():
            if value is None:
                continue
            kind = type(value)
            if kind is dict and name in objects:
                self._section(value, objects[name])
                continue
            try:
                low, high = ranges[name][kind]
            except KeyError:
                rule = known.rules.get(name)
                section[name] = self._unknown(value, MAX_DEPTH) if rule is None else self._value(value, rule)
            else:
                is_right = low <= value <= high if high else kind is not str or len(value) <= MAX_TEXT
                if not is_right:
                    section[name] = self._wrong()

    def _value(self, value: object, rule: Rule) -> object:
        if rule.container == "list" and isinstance(value, list):
            return self._objects(value, rule.fields) if rule.fields is not None else self._elements(value, rule)
        if rule.container == "map" and isinstance(value, dict):
            entries = islice(value.items(), self._take(len(value)))
            named = {name: self._element(each, rule) for name, each in entries if len(name) <= MAX_TEXT}
            self.replaced += len(value) - len(named)
            return named if rule.is_optional else {name: each for name, each in named.items() if each is not None}
        return self._wrong() if rule.container else self._element(value, rule)

    def _objects(self, values: list[object], known: Fields) -> list[JsonObject]:
        found = [each for each in values if isinstance(each, dict)]
        del found[self._take(len(found)) :]
        self.replaced += len(values) - len(found) - values.count(None)
        for each in found:
            self._section(each, known)
        return found

    def _elements(self, values: list[float], rule: Rule) -> object:
        if float in rule.ranges:
            taken = self._take(len(values))
            self.replaced += len(values) - taken
            values = values[:taken]
        if values and set(map(type, values)) == {float} and float in rule.ranges:
            low, high = rule.ranges[float]
            if low <= min(values) and max(values) <= high:
                return values
        found = [self._element(each, rule) for each in values]
        return found if rule.is_optional else [each for each in found if each is not None]

    def _element(self, value: object, rule: Rule) -> object:
        if value is None:
            return None
        if type(value) is float and float not in rule.ranges and int in rule.ranges and value.is_integer():
            value = int(value)  # another program wrote the record again
        if isinstance(value, str) and len(value) > (MAX_ARGUMENT if rule.container else MAX_TEXT):
            return self._wrong()
        found = rule.ranges.get(type(value))
        if found is None or (found is not RIGHT and not found[0] <= value <= found[1]):  # type: ignore[operator]
            return self._wrong()
        return value

    def _unknown(self, value: object, depth: int) -> object:
        """Return the value of an unknown field; what cannot be written again is null."""
        if type(value) is float and value - value != 0:
            return self._wrong()
        if isinstance(value, str) and len(value) > MAX_TEXT:
            return self._wrong()
        if not isinstance(value, dict | list):
            return value
        if not depth or self._take(len(value)) < len(value):
            return self._wrong()
        if isinstance(value, dict):
            return {name: self._unknown(each, depth - 1) for name, each in value.items()}
        return [self._unknown(each, depth - 1) for each in value]

    def _take(self, count: int) -> int:
        """Return the number of these entries that this line has room for."""
        taken = min(count, self._room)
        self._room -= taken
        return taken

    def _wrong(self) -> object:
        self.replaced += 1
        return None
