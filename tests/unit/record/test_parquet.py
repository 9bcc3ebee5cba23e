"""Types and columns of Parquet."""

from __future__ import annotations

import pytest

from parquet_files import read_back
from proctally.record.parquet import MAX_COLUMNS, MAX_PART, MAX_VALUES
from proctally.record.section import flat
from scenes import header, of_record

ROWS = MAX_VALUES // len(flat(of_record(1.0))) + 1  # that are held at once


def test_columns_come_and_go_over_many_rows() -> None:
    """More than are held at once; a machine that is read now and then, or only once all has begun."""
    lines = [header()]
    for at in range(2 * ROWS + 10):
        system = {"load_1": 1, "forks": at} if at >= ROWS + 5 else None
        lines.append(of_record(float(at)) | {"system": system})
    table = read_back(lines)
    assert table.num_rows == 2 * ROWS + 10
    assert table.column("system.forks").null_count == ROWS + 5
    assert sum(table.column("system.forks").drop_null().to_pylist()) == sum(range(ROWS + 5, 2 * ROWS + 10))
    assert str(table.schema.field("system.load_1").type) == "double", "whole by chance"


def test_large_record_is_read_twice_up_to_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [header(), {"type": "phase", "name": "p"}]
    lines += [of_record(at + 0.5, processes=at if at < ROWS else at + 0.5) for at in range(2 * ROWS)]
    at_once = read_back(lines)
    monkeypatch.setattr("proctally.record.parquet.KEPT_BYTES", 1)
    assert read_back(lines, [*lines, of_record(1e9, new=1)]).equals(at_once, check_metadata=True)
    assert read_back(lines, lines[:5]).num_rows == 3, "the first reading is not kept"


def test_whole_numbers_stay_exact() -> None:
    most = (1 << 63) - 1
    table = read_back([header(), of_record(1.0, read_bytes=most), of_record(2.0, read_bytes=None)])
    assert table.column("tree.read_bytes").to_pylist() == [most, None]


def test_what_contradicts_the_table_is_kept_as_it_is() -> None:
    lines = [header(), of_record(1.0, processes=1.5, threads=1 << 63, running="many", odd=[1], new_field=True)]
    lines += [of_record(float(at)) for at in range(2, ROWS + 5)]
    lines.append(of_record(1e6, running=True, new_field="x"))
    table = read_back(lines)
    assert table.column("tree.processes").to_pylist()[:2] == [1.5, 3.0]
    assert table.column("tree.threads").to_pylist()[0] == float(1 << 63)
    assert table.column("tree.running").to_pylist()[0] == "many"
    assert table.column("tree.new_field").to_pylist()[0] == "true"


def test_the_machine_alone() -> None:
    lines = [header(kind="system", pid=None), of_record(1.0) | {"tree": None, "top": None, "system": {"forks": 5}}]
    assert read_back(lines).column_names == [
        "at",
        "elapsed_seconds",
        "interval_seconds",
        "cgroup.cpu_seconds",
        "system.forks",
    ]


def test_part_of_metadata_is_left_out_where_it_is_large() -> None:
    phase = {"type": "phase", "name": "p" * 16_000}
    table = read_back([header(command=["x" * MAX_PART]), *[phase] * (MAX_PART // 16_000 + 2), of_record(1.0)])
    assert set(table.schema.metadata) & {b"proctally.run", b"proctally.phases"} == set()
    assert b"proctally.run_id" in table.schema.metadata


def test_record_of_very_many_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="has more than 2,000 columns; use -f jsonl"):
        read_back([header(), *(of_record(float(at)) | {f"x{at}": 1} for at in range(MAX_COLUMNS))])
