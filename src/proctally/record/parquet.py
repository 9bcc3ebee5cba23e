"""Parquet: a row for each sample, a typed column for each single value, and what the run was in its metadata.

The columns are those of `Run.to_dataframe()`: dotted names. Their types are those of the table of fields, so that files
of many runs fit together. Unknown is null. Only this module imports pyarrow.
"""

from __future__ import annotations

from itertools import islice
from json import dumps

import pyarrow  # type: ignore[import-untyped, unused-ignore]
from pyarrow import parquet  # type: ignore[import-untyped, unused-ignore]

from proctally.record.schema import CHOICES, SCOPES, walk
from proctally.record.section import flat
from proctally.text.units import MAX_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import RawIOBase
    from typing import Any

    from proctally.record import JsonObject

MAX_VALUES = 1 << 18  # that are held as Python's objects; the others are compact
KEPT_BYTES = 64 << 20  # of compact ones; a record with more is read twice
ROW_VALUES = 8  # as many as the memory of a row without values
MAX_COLUMNS = 2_000
MAX_PART = 4 << 20  # characters of one part of the metadata: the footer of a file is held several times
PREFIX = "proctally."
TYPES = {"int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()} | dict.fromkeys(
    ("str", *CHOICES), pyarrow.string()
)
SECTIONS = frozenset(path for path, field in walk("sample") if field.item in SCOPES)  # null ones have no column


def write(read: Callable[[], Iterable[JsonObject]], out: RawIOBase) -> None:
    """The samples of a record as one file. Raises OSError, and ValueError for what is no record.

    `read` yields its lines, all of one whose samples take much memory a second time.
    """
    about, columns = About(), Columns()
    kept: list[pyarrow.Table] | None = []
    for part in columns.parts(about.samples(read())):
        if kept is not None:
            kept.append(part)
            if sum(each.nbytes for each in kept) > KEPT_BYTES:
                kept = None
    schema = columns.schema().with_metadata(about.metadata())
    again = (line for line in islice(read(), about.lines) if line["type"] == "sample")
    with parquet.ParquetWriter(out, schema, compression="zstd") as file:
        for part in columns.parts(again) if kept is None else kept:
            file.write_table(_cast(part, schema))


class About:
    """What the run was: the lines of its record that are no samples. `lines`: all lines so far."""

    def __init__(self) -> None:
        self.lines = 0
        self._about: dict[str, JsonObject] = {}
        self._phases: list[str] = []
        self._size = 0  # characters of these

    def samples(self, lines: Iterable[JsonObject]) -> Iterator[JsonObject]:
        """Yield those of the lines that are samples, and take the others."""
        for line in lines:
            self.lines += 1
            kind = line["type"]
            if kind == "sample":
                yield line
            elif kind in ("run", "host", "summary"):
                self._about[kind] = line
            elif kind == "phase" and self._size <= MAX_PART:
                self._phases.append(dumps(line))
                self._size += len(self._phases[-1])

    def metadata(self) -> dict[str, str]:
        """Return these lines as JSON, and its identity in the clear."""
        run, summary = self._about.get("run", {}), self._about.get("summary", {})
        parts = {name: dumps(line) for name, line in self._about.items()} | {"phases": f"[{', '.join(self._phases)}]"}
        found = {PREFIX + name: text for name, text in parts.items() if len(text) <= MAX_PART}
        for name in (
            "schema",
            "version",
            "run_id",
            "kind",
            "name",
            "started_at",
            "interval_seconds",
            "thinned_seconds",
        ):
            if run.get(name) is not None:
                found[PREFIX + name] = str(run[name])
        if summary.get("verdict") is not None:
            found[PREFIX + "verdict"] = str(summary["verdict"])
        return found


class Columns:
    """The columns of samples, one for each of their single values, in the order of their first appearance."""

    def __init__(self) -> None:
        self._known = _types()
        self._kinds: dict[str, set[pyarrow.DataType]] = {}  # types of each column, by its parts

    def parts(self, samples: Iterable[JsonObject]) -> Iterator[pyarrow.Table]:
        """Yield all rows, many at once; a part lacks the columns that its rows do not have."""
        rows: list[JsonObject] = []
        values = 0  # of these
        for sample in samples:
            known = {name: value for name, value in flat(sample).items() if value is not None or name not in SECTIONS}
            row = {name: None if _is_endless(value) else value for name, value in known.items()}
            for name in row:
                if name not in self._kinds:
                    self._kinds[name] = set()
            if len(self._kinds) > MAX_COLUMNS:
                raise ValueError(f"has more than {MAX_COLUMNS:,} columns; use -f jsonl")
            rows.append(row)
            values += len(row) + ROW_VALUES
            if values >= MAX_VALUES:
                yield self._packed(rows)
                rows, values = [], 0
        if rows:
            yield self._packed(rows)

    def _packed(self, rows: list[JsonObject]) -> pyarrow.Table:
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: _array([row.get(name) for row in rows], self._known.get(name)) for name in names}
        for name, column in columns.items():
            self._kinds[name].add(column.type)
        return pyarrow.table(columns)

    def schema(self) -> pyarrow.Schema:
        """Return the columns of all parts."""
        return pyarrow.schema([(name, self._common(name)) for name in self._kinds])

    def _common(self, name: str) -> pyarrow.DataType:
        """The type of a column in which each part of it has room."""
        kinds = self._kinds[name] - {pyarrow.null()}
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
