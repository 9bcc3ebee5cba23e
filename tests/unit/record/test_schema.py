"""The table of fields: its rows are sound, and pinned to the version of the schema.

With PROCTALLY_REFRESH_GOLDEN=1 the golden list is written.
"""

import os

from places import GOLDEN
from proctally.record import SCHEMA
from proctally.record.csv import COLUMNS
from proctally.record.schema import (
    AGGREGATES,
    CHOICES,
    COUNTER,
    INFO,
    KINDS,
    LAST,
    PRESENCES,
    SCOPES,
    VALUES,
    field,
    fields,
)

FIELDS = GOLDEN / "fields.txt"
REFRESH = "PROCTALLY_REFRESH_GOLDEN"
UNIT_OF_SUFFIX = {
    "_seconds": "s",
    "_bytes": "By",
    "_chars": "By",
    "_cores": "{cpu}",
    "_ratio": "1",
    "_at": "s",
    "_hertz": "Hz",
    "_watts": "W",
    "_joules": "J",
    "_celsius": "Cel",
}


def test_every_row_is_sound() -> None:
    assert len({row.path for row in fields()}) == len(fields())
    assert len({scope.class_name for scope in SCOPES.values()}) == len(SCOPES)
    for row in fields():
        assert row.item.removesuffix("?") in (*VALUES, *CHOICES, *SCOPES), row.path
        assert row.container in ("", "list", "map"), row.path
        assert row.kind in KINDS, row.path
        assert row.aggregate in AGGREGATES, row.path
        assert row.presence in PRESENCES, row.path
        assert row.help, row.path
        assert row.kind == INFO or row.unit, row.path
        assert row.kind != COUNTER or row.aggregate == LAST, row.path
        assert row.kind == INFO or row.item.removesuffix("?") in ("int", "float"), row.path


def test_unit_is_in_the_name() -> None:
    for row in fields():
        for suffix, unit in UNIT_OF_SUFFIX.items():
            assert not row.name.endswith(suffix) or row.unit == unit, row.path
        if row.unit == "By":
            assert row.name.endswith(("_bytes", "_chars")), row.path


def test_names_of_types_have_one_meaning() -> None:
    assert not set(CHOICES) & set(VALUES)
    assert not set(SCOPES) & {*CHOICES, *VALUES}


def test_every_scope_is_a_line_or_a_type() -> None:
    lines = {scope for scope in SCOPES if "type" in {row.name for row in SCOPES[scope].fields()}}
    lines -= {"host.storage", "devices.disks"}  # where it is the type of the medium
    assert lines == {"run", "host", "devices", "sample", "phase", "process", "summary"}
    assert {row.item for row in fields() if row.item in SCOPES} == set(SCOPES) - lines


def test_included_field_is_as_in_its_scope() -> None:
    there, origin = field("summary.io.read_bytes"), field("tree.read_bytes")
    assert (there.unit, there.kind, there.help) == (origin.unit, origin.kind, origin.help)
    assert (there.csv, origin.csv) == ("", "process_disk_read_bytes")
    assert field("host.storage.capacity_bytes").presence == "null"


def test_every_csv_column_has_a_field() -> None:
    made = [column for row in fields() for column in row.csv.split(", ") if column]
    assert sorted(made) == sorted(name for name, _ in COLUMNS)


def test_schema_is_pinned() -> None:
    """A field is added freely: refresh the list. One that is renamed or changes its meaning takes a new SCHEMA."""
    columns = ("path", "type", "unit", "kind", "aggregate", "presence")
    rows = ["  ".join(getattr(row, column) or "-" for column in columns) for row in fields()]
    table = "".join(f"{line}\n" for line in (f"schema {SCHEMA}", *rows))
    if os.environ.get(REFRESH) == "1":
        FIELDS.write_text(table, encoding="utf-8")
    pinned = FIELDS.read_text(encoding="utf-8")
    gone = set(pinned.splitlines()) - set(table.splitlines())
    assert not gone, f"fields that programs read are gone or changed: {sorted(gone)}"
    assert table == pinned, f"new fields: {REFRESH}=1 writes them to {FIELDS.name}"
