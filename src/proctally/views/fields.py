"""`proctally fields`: the table of fields, and the values of a record with their meanings."""

from __future__ import annotations

import time

from proctally.record.reader import lines as lines_of
from proctally.record.schema import BYTES, CORES, RATIO, SCOPES, SECONDS, fields, walk
from proctally.record.values import value_at
from proctally.record.writer import encode
from proctally.text.cells import columns_of, cut_middle, indented
from proctally.text.escape import printable
from proctally.text.secrets import mask_recorded
from proctally.text.terminal import BOLD
from proctally.text.units import brief, number, percentage, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from proctally.record import JsonObject
    from proctally.record.schema import Field
    from proctally.text.terminal import Look

COLUMNS = ("path", "type", "unit", "kind", "aggregate", "presence", "help", "source", "csv")
OF_RECORD = ("run", "host", "sample", "summary")  # types of lines, of samples the last one
MIN_HELP = 24  # cells of a meaning next to its field; with less room it has separate lines
MAX_VALUE = 32  # cells
UNKNOWN = "-"
MOMENT = "%Y-%m-%d %H:%M:%S"


class Entry:
    """A field and its path; of a record also its value there."""

    __slots__ = ("field", "path", "value")

    def __init__(self, path: str, field: Field, value: object = None) -> None:
        self.path = path
        self.field = field
        self.value = value

    def has(self, words: Iterable[str]) -> bool:
        """Return whether each of the words occurs in the path or the meaning, in either case of its letters."""
        text = f"{self.path} {self.field.help}".lower()
        return all(each.lower() in text for each in words)


def of_table() -> list[Entry]:
    """Return each field of a record."""
    return [Entry(field.path, field) for field in fields()]


def of_record(path: str) -> list[Entry]:
    """Return each field that has one value in a record: of the run, host, last sample, summary. Raises NoRecord."""
    last: dict[str, JsonObject] = {}
    for line in lines_of(path):
        if line["type"] in OF_RECORD:
            last[line["type"]] = line
    found = []
    for kind in OF_RECORD:
        lists: list[str] = []
        for path_, field in walk(kind) if kind in last else ():
            if not any(path_.startswith(each) for each in lists):  # its fields have a value for each entry
                value = value_at(last[kind], path_)
                value = mask_recorded(value) if field.name == "command" else value
                found.append(Entry(path_ if kind == "sample" else f"{kind}.{path_}", field, value))
            if field.container:
                lists.append(f"{path_}.")
    return [entry for entry in found if entry.field.item not in SCOPES or entry.field.container]


def as_lines(entries: Iterable[Entry], *, with_values: bool) -> Iterator[str]:
    """Yield a line with tabs for each field: the row of the table, or path, value as JSON, unit and meaning."""
    for entry in entries:
        cells = [getattr(entry.field, column) for column in COLUMNS]
        if with_values:
            cells = [entry.path, encode(entry.value), entry.field.unit, entry.field.help]
        yield "\t".join(cells) + "\n"


def as_page(entries: Sequence[Entry], look: Look, *, with_values: bool) -> Iterator[str]:
    """Yield the fields by their objects, in aligned columns: name, type and unit or value, meaning."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.path.rpartition(".")[0] or "sample", []).append(entry)
    for place, (group, found) in enumerate(groups.items()):
        scope = SCOPES.get(group)
        if place:
            yield "\n"
        meaning = "" if scope is None else scope.help
        title, *more = indented(meaning, f"{group}  ", look.width)
        yield f"{look.paint(group, BOLD)}{title.removeprefix(group)}\n" + "".join(f"{line}\n" for line in more)
        rows = [(entry.path.rpartition(".")[2], _second(entry, look, with_values=with_values)) for entry in found]
        widths = [max(columns_of(row[column]) for row in rows) for column in (0, 1)]
        for (name, second), entry in zip(rows, found, strict=True):
            start = f"  {name:<{widths[0]}}  {second}{' ' * (widths[1] - columns_of(second))}  "
            lines = []
            if look.width - columns_of(start) < MIN_HELP:
                lines, start = indented(second, f"  {name}  ", look.width), " " * 6
            lines += indented(entry.field.help, start, look.width)
            yield "".join(f"{look.encoded(line)}\n" for line in lines)


def _second(entry: Entry, look: Look, *, with_values: bool) -> str:
    if with_values:
        return cut_middle(look.encoded(shown(entry.value, entry.field)), min(MAX_VALUE, look.width // 3), look.mark)
    return f"{entry.field.type} {entry.field.unit}".rstrip()


def shown(value: object, field: Field) -> str:
    """Return a value as text, with its unit."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _amount(value, field)
    if isinstance(value, dict):
        return printable(", ".join(f"{name} {each}" for name, each in value.items())) or UNKNOWN
    if isinstance(value, list) and field.item in SCOPES:
        return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
    return printable(" ".join(map(str, value))) if isinstance(value, list) else UNKNOWN


def _amount(value: float, field: Field) -> str:
    unit = field.unit
    if unit == SECONDS and "Unix" in field.help:
        return time.strftime(MOMENT, time.localtime(value))
    if unit == SECONDS:
        return brief(value)
    if unit in (BYTES, f"{BYTES}/s"):
        return size(value) + unit.removeprefix(BYTES)
    if unit == RATIO:
        return percentage(value)
    if unit == CORES:
        return f"{value:.2f}"
    if not unit:
        return str(value)
    return number(value) if unit.startswith("{") else f"{number(value)} {unit}"
