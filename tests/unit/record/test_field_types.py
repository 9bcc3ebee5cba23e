"""Values that contradict the table of fields are null, and counted; unknown fields stay."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from places import GOLDEN
from proctally.record.field_types import MAX_ARGUMENT, MAX_DEPTH, MAX_ENTRIES, MAX_FIELDS, MAX_TEXT, TypeFilter
from proctally.record.reader import Reading, read


def filtered(line: dict[str, Any]) -> tuple[dict[str, Any], int]:
    types = TypeFilter()
    return types.admit(line), types.replaced


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("schema*/*.jsonl")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_records_of_ours_pass_as_they_are(path: Any) -> None:
    reading = Reading(str(path))
    found = list(reading)
    assert reading.replaced == 0
    if path.parent.name == "schema2":
        assert found == [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ({"pid": True}, ["pid"]),
        ({"pid": "7", "name": 7, "kind": []}, ["pid", "name", "kind"]),
        ({"pid": 1.5, "interval_seconds": "1"}, ["pid", "interval_seconds"]),
        ({"started_at": 1e12, "interval_seconds": -1.0}, ["started_at", "interval_seconds"]),
        ({"interval_seconds": math.inf}, ["interval_seconds"]),
        ({"interval_seconds": math.nan}, ["interval_seconds"]),
        ({"pid": 10**400}, ["pid"]),
        ({"limits": [1], "tags": "x", "command": {}}, ["limits", "tags", "command"]),
        ({"pid": 7, "interval_seconds": 1, "started_at": -1.0, "name": "\ud800", "cwd": None}, []),
    ],
)
def test_wrong_value_is_null_and_counted(section: dict[str, Any], wrong: list[str]) -> None:
    given = {"type": "run", **section}
    line, replaced = filtered(dict(given))
    assert replaced == len(wrong)
    assert line == given | dict.fromkeys(wrong)


def test_levels_near_the_end_of_64_bits_are_unknown() -> None:
    line, replaced = filtered({"type": "sample", "tree": {"rss_bytes": 2**64 - 1, "pss_bytes": 2**64 - 4096}})
    assert (line["tree"], replaced) == ({"rss_bytes": None, "pss_bytes": 2**64 - 4096}, 1)


def test_temperature_can_be_negative_and_memory_not() -> None:
    gpu = {"temperature_celsius": -5.0, "memory_used_bytes": -5}
    line, replaced = filtered({"type": "sample", "gpus": [gpu]})
    assert (line["gpus"], replaced) == ([{"temperature_celsius": -5.0, "memory_used_bytes": None}], 1)


def test_whole_number_of_another_program_stays_a_whole_number() -> None:
    line, replaced = filtered({"type": "sample", "tree": {"rss_bytes": 4096.0, "cpu_cores": 2}})
    assert (line["tree"], replaced) == ({"rss_bytes": 4096, "cpu_cores": 2}, 0)
    assert type(line["tree"]["rss_bytes"]) is int


def test_wrong_elements_are_left_out_unless_their_place_counts() -> None:
    line, replaced = filtered({
        "type": "sample", "top": [1, {"pid": 7}, None, "x"], "system": {"per_core_ratio": [0.5, "x", None, -1, 1.0]},
    })  # fmt: skip
    assert line["top"] == [{"pid": 7}]
    assert line["system"]["per_core_ratio"] == [0.5, None, None, None, 1.0]
    assert replaced == 4
    line, replaced = filtered({"type": "run", "command": ["a", 1, "b"], "tags": {"a": "b", "c": 1, "d": None}})
    assert (line["command"], line["tags"], replaced) == (["a", "b"], {"a": "b"}, 2)


def test_missing_source_without_a_reason_stays() -> None:
    line, replaced = filtered({"type": "host", "unavailable": {"dmi": None, "gpus": 7, "cpus": "EACCES"}})
    assert (line["unavailable"], replaced) == ({"dmi": None, "gpus": None, "cpus": "EACCES"}, 1)


@pytest.mark.parametrize("kind", ["summary", "later", "sample"])
def test_unknown_field_stays_without_what_cannot_be_written_again(kind: str) -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    given = {"type": kind, "new": {"a": [1, math.inf, "x", True], "b": deep}, "x": math.nan}
    line, replaced = filtered(given)
    assert line["new"]["a"] == [1, None, "x", True] and line["x"] is None and replaced == 3
    assert "[1]" not in json.dumps(line, allow_nan=False)


def test_text_that_no_argument_can_hold_is_null() -> None:
    long, longest, path = "y" * (MAX_ARGUMENT + 1), "y" * MAX_ARGUMENT, "y" * MAX_TEXT
    line, replaced = filtered(
        {
            "type": "run",
            "name": f"{path}y",
            "cwd": path,
            "command": [long, longest],
            "tags": {f"{path}y": "a", "b": long},
            "x": long,
        }
    )
    expected = {"type": "run", "name": None, "cwd": path, "command": [longest], "tags": {}, "x": None}
    assert (line, replaced) == (expected, 5)


@pytest.mark.parametrize(
    ("name", "many", "left"),
    [
        ("gaps", [{}] * (MAX_ENTRIES + 2), [{}] * MAX_ENTRIES), ("x", [0] * (MAX_ENTRIES + 1), None),
        ("x", [[0] * MAX_ENTRIES], [None]),
    ],
)  # fmt: skip
def test_entries_of_line_are_bounded(name: str, many: list[Any], left: object) -> None:
    assert filtered({"type": "summary", name: many})[0] == {"type": "summary", name: left}


def test_cores_of_machine_are_bounded() -> None:
    line, replaced = filtered({"type": "sample", "system": {"per_core_ratio": [0.5] * (MAX_ENTRIES + 2)}})
    assert line["system"]["per_core_ratio"] == [0.5] * MAX_ENTRIES and replaced == 2


def test_unknown_fields_of_object_are_bounded() -> None:
    line, replaced = filtered({"type": "sample", "tree": {"rss_bytes": 1} | {f"x{n}": 1 for n in range(MAX_FIELDS)}})
    assert line == {"type": "sample", "tree": {"rss_bytes": 1}} and replaced == MAX_FIELDS


def test_reader_counts_wrong_values(tmp_path: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"type":"run","schema":"proctally/2","pid":"x"}\n{"type":"summary","signal":1e999,"verdict":7}\n')
    reading = Reading(str(path))
    assert [line.get("pid") for line in reading] == [None, None]
    assert reading.replaced == 3
    assert list(read(str(path)))[1] == {"type": "summary", "signal": None, "verdict": None}
