"""docs/record.schema.json: golden records are valid, and a line with an error is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from places import GOLDEN, ROOT
from proctally.record.reader import read
from proctally.record.thinning import thin
from strict_schema import problems

RECORDS = sorted((GOLDEN / "schema2").glob("*.jsonl"))
OLD_RECORDS = sorted((GOLDEN / "schema1").glob("*.jsonl"))
LATER = (  # fields that were added after schema 1, and that nothing in it says
    "peak_threads", "memory_low_bytes", "memory_high_bytes", "mapped_file_bytes", "kernel_bytes", "peak_low_bytes",
    "peak_high_bytes", "at_seconds", "swap_bytes", "unclaimed_shmem_bytes", "at_peak", "source",
    "oom_kills", "ooms", "killed_by",
)  # fmt: skip


def test_golden_records_are_of_every_kind() -> None:
    assert {path.stem for path in RECORDS} >= {"run", "attach", "system", "track"}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_golden_record_is_valid(path: Path) -> None:
    assert problems(read(str(path))) == []


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_downsampled_record_is_valid(path: Path) -> None:
    assert problems(thin(read(str(path)), 1.0)) == []


@pytest.mark.parametrize("path", OLD_RECORDS, ids=lambda path: path.stem)
def test_record_of_schema_1_is_valid_as_it_is_read(path: Path) -> None:
    missing = tuple(f"'{name}' is a required property" for name in LATER)
    assert [each for each in problems(read(str(path))) if not each.endswith(missing)] == []


def lines(name: str, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (GOLDEN / "schema2" / f"{name}.jsonl").read_text().splitlines()]
    return [line for line in found if line["type"] == kind]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"exit_code": "0"}, "$.exit_code"),
        ({"verdict": "good"}, "$.verdict"),
        ({"verdict": None}, "$.verdict"),
        ({"evidence": "a sentence"}, "evidence"),
        ({"gaps": [{"section": "cpu", "code": "unreaped"}]}, "$.gaps[0]"),
        ({"cpu": {}}, "$.cpu"),
        ({"wall_seconds": True}, "$.wall_seconds"),
    ],
)
def test_error_in_a_summary_is_found(change: dict[str, Any], problem: str) -> None:
    (summary,) = lines("run", "summary")
    assert problems([summary]) == []
    found = problems([summary | change])
    assert found and all(problem in each for each in found)


def test_missing_key_is_found() -> None:
    sample = lines("run", "sample")[0]
    del sample["tree"]["threads"]
    assert any("threads" in each for each in problems([sample]))


def test_counter_below_zero_is_found() -> None:
    sample = lines("run", "sample")[-1]
    sample["tree"]["cpu_seconds"] = -1
    assert any("minimum" in each for each in problems([sample]))


def test_code_of_a_missing_source_is_a_code_or_an_errno() -> None:
    (summary,) = lines("run", "summary")
    for code, valid in (("not_requested", True), ("EIO", True), ("nvml_999", True), ("no such file", False)):
        summary["cpu"]["unavailable"] = {"perf": code}
        assert (problems([summary]) == []) == valid, code


def test_newer_field_is_allowed_by_the_published_schema() -> None:
    schema = json.loads((ROOT / "docs" / "record.schema.json").read_text(encoding="utf-8"))
    from jsonschema import Draft202012Validator

    (summary,) = lines("run", "summary")
    assert Draft202012Validator(schema).is_valid(summary | {"later": 1})
    assert not Draft202012Validator(schema).is_valid(summary | {"type": "other"})
