"""Parquet: a row for each sample, a typed column for each single value, and what the run was in its metadata.

The columns are those of `Run.to_dataframe()`: dotted names. Their types are those of the table of fields, so that files
of many runs fit together. Unknown is null. Only this module imports pyarrow.
"""

from __future__ import annotations

from json import dumps

import pyarrow  # type: ignore[import-untyped, unused-ignore]
from pyarrow import parquet  # type: ignore[import-untyped, unused-ignore]

from proctally.record.schema import CHOICES, SCOPES, walk
from proctally.record.section import flat
from proctally.text.units import MAX_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import RawIOBase
    from typing import Any

    from proctally.record import JsonObject

MAX_VALUES = 1 << 18  # that are held as Python's objects; the others are compact already
ROW_VALUES = 8  # as many as the memory of a row without values
MAX_COLUMNS = 2_000
MAX_PART = 4 << 20  # characters of one part of the metadata: the footer of a file is held several times
PREFIX = "proctally."
TYPES = {"int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()} | dict.fromkeys(
    ("str", *CHOICES), pyarrow.string()
)
SECTIONS = frozenset(path for path, field in walk("sample") if field.item in SCOPES)  # null ones have no column


def write(lines: Iterable[JsonObject], out: RawIOBase) -> None:
    """The samples of a record as one file. Raises OSError, and ValueError for what is no record."""
    table = Columns()
    about: dict[str, JsonObject] = {}
    phases: list[str] = []
    size = 0
    for line in lines:
        kind = line["type"]
        if kind == "sample":
            table.add(line)
        elif kind in ("run", "host", "summary"):
            about[kind] = line
        elif kind == "phase" and size <= MAX_PART:
            phases.append(dumps(line))
            size += len(phases[-1])
    schema = table.schema().with_metadata(_metadata(about, f"[{', '.join(phases)}]"))
    with parquet.ParquetWriter(out, schema, compression="zstd") as file:
        for part in table.parts():
            file.write_table(_cast(part, schema))


def _metadata(about: dict[str, JsonObject], phases: str) -> dict[str, str]:
    """What the run was: the lines of the record that are no samples, as JSON, and its identity in the clear."""
    run, summary = about.get("run", {}), about.get("summary", {})
    parts = {name: dumps(line) for name, line in about.items()} | {"phases": phases}
    found = {PREFIX + name: text for name, text in parts.items() if len(text) <= MAX_PART}
    for name in ("schema", "version", "run_id", "kind", "name", "started_at", "interval_seconds", "thinned_seconds"):
        if run.get(name) is not None:
            found[PREFIX + name] = str(run[name])
    if summary.get("verdict") is not None:
        found[PREFIX + "verdict"] = str(summary["verdict"])
    return found


class Columns:
    """Samples, a column for each of their single values, in the order of their first appearance."""

    def __init__(self) -> None:
        self._known = _types()
        self._rows: list[JsonObject] = []
        self._values = 0  # of these
        self._names: dict[str, None] = {}
        self._parts: list[pyarrow.Table] = []

    def add(self, sample: JsonObject) -> None:
        """One more row."""
        known = {name: value for name, value in flat(sample).items() if value is not None or name not in SECTIONS}
        row = {name: None if _is_endless(value) else value for name, value in known.items()}
        self._rows.append(row)
        self._names.update(dict.fromkeys(row))
        if len(self._names) > MAX_COLUMNS:
            raise ValueError(f"has more than {MAX_COLUMNS:,} columns; use -f jsonl")
        self._values += len(row) + ROW_VALUES
        if self._values >= MAX_VALUES:
            self._pack()

    def _pack(self) -> None:
        names = dict.fromkeys(name for row in self._rows for name in row)
        columns = {name: _array([row.get(name) for row in self._rows], self._known.get(name)) for name in names}
        self._parts.append(pyarrow.table(columns))
        self._rows, self._values = [], 0

    def parts(self) -> list[pyarrow.Table]:
        """Return all rows; a part lacks the columns that its rows do not have."""
        if self._rows:
            self._pack()
        return self._parts

    def schema(self) -> pyarrow.Schema:
        """Return the columns of all parts."""
        self.parts()
        return pyarrow.schema([(name, self._common(name)) for name in self._names])

    def _common(self, name: str) -> pyarrow.DataType:
        """The type of a column in which each part of it has room."""
        kinds = {part.schema.field(name).type for part in self._parts if name in part.column_names}
        kinds.discard(pyarrow.null())
        if len(kinds) == 1:
            return kinds.pop()
        if not kinds:
            return self._known.get(name, pyarrow.null())
        return pyarrow.float64() if kinds == {pyarrow.int64(), pyarrow.float64()} else pyarrow.string()


def _cast(part: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.Table:
    """Return the rows with all columns: one that came later, or has gone, is null."""
    names = set(part.column_names)
    columns = [
        part.column(field.name).cast(field.type) if field.name in names else pyarrow.nulls(part.num_rows, field.type)
        for field in schema
    ]
    return pyarrow.table(columns, schema=schema)


def _array(values: list[Any], kind: pyarrow.DataType | None) -> pyarrow.Array:
    """A typed column. What contradicts the table of fields has a column of what it is."""
    known = [value for value in values if value is not None]
    if kind is None or (kind == pyarrow.int64() and not set(map(type, known)) <= {int}):
        kind = _type_of(known)  # a fraction would be cut off without a word
    if kind == pyarrow.float64():
        values = [float(value) if type(value) is int else value for value in values]
    try:
        return pyarrow.array(values, kind)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        other = _type_of(known)
        if other == pyarrow.string():
            values = [value if value is None or isinstance(value, str) else dumps(value) for value in values]
        elif other == pyarrow.float64():
            values = [None if value is None else float(value) for value in values]
        return pyarrow.array(values, other)


def _type_of(known: list[object]) -> pyarrow.DataType:
    kinds = {type(value) for value in known}
    if not kinds:
        return pyarrow.null()
    if kinds == {bool}:
        return pyarrow.bool_()
    if kinds == {int} and all(isinstance(value, int) and -(1 << 63) <= value < 1 << 63 for value in known):
        return pyarrow.int64()
    return pyarrow.float64() if kinds <= {int, float} else pyarrow.string()


def _types() -> dict[str, pyarrow.DataType]:
    """Return the type of each value of a sample, by its path."""
    items = ((path, field.item.removesuffix("?")) for path, field in walk("sample"))
    return {path: TYPES[item] for path, item in items if item in TYPES}


def _is_endless(value: object) -> bool:
    return isinstance(value, int | float) and not abs(value) < MAX_NUMBER
