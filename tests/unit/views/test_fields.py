"""The table of fields as a page and as lines, with the values of a record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import made
from proctally.record.schema import fields
from proctally.text.cells import columns_of
from proctally.text.terminal import Look
from proctally.views.fields import as_lines, as_page, of_record, of_table


def page(path: Path, *words: str, width: int = 100) -> list[str]:
    entries = [entry for entry in of_record(str(path)) if entry.has(words)]
    return "".join(as_page(entries, Look(width), with_values=True)).splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_page_has_every_field_and_fits(width: int, tmp_path: Path) -> None:
    lines = "".join(as_page(of_table(), Look(width), with_values=False)).splitlines()
    assert max(map(columns_of, lines)) <= width
    assert sum(line.startswith("  ") and line[2] != " " for line in lines) == len(fields())
    path = made.written(tmp_path / "a.jsonl", made.run(name="名" * 90, command=["x" * 99]), *made.lines()[1:])
    assert max(map(columns_of, page(path, width=width))) <= width


def test_words_choose_by_name_and_meaning(tmp_path: Path) -> None:
    found = [entry.path for entry in of_table() if entry.has(["PEAK", "memory", "bytes"])]
    assert "summary.memory.peak_high_bytes" in found and "tree.rss_bytes" not in found
    assert [entry.path for entry in of_table() if entry.has(["Memory of the machine, with"])] == []


def test_values_have_units_beside_their_meaning(tmp_path: Path) -> None:
    path = made.written(tmp_path / "a.jsonl", made.run(name="a\x1b[31m"), *made.lines()[1:])
    shown = page(path)
    rows = {line.split()[0]: line for line in shown if line.startswith("  ")}
    assert rows["peak_pss_bytes"].split()[2] in ("KiB", "MiB", "GiB")
    assert "\\x1b[31m" in rows["name"] and rows["pid"].split()[1].isdecimal()
    assert rows["started_at"].split()[1].startswith("2026-11-")
    assert rows["top"].split()[1:3] in (["1", "entry"], ["2", "entries"], ["0", "entries"], ["3", "entries"])
    assert not any(line.startswith("top.") for line in shown), "an entry of a list has no value of its own"


def test_lines_have_path_value_unit_and_meaning(tmp_path: Path) -> None:
    path = made.written(tmp_path / "a.jsonl", made.run(command=["curl", "--password", "hunter2"]), *made.lines()[1:])
    rows = [line.split("\t") for line in as_lines(of_record(str(path)), with_values=True)]
    values = {row[0]: json.loads(row[1]) for row in rows}
    assert {len(row) for row in rows} == {4}
    assert values["run.kind"] == "run" and values["run.command"][2] == "***"
    assert values["summary.wall_seconds"] == made.lines()[-1]["wall_seconds"] and "summary.cpu" not in values
