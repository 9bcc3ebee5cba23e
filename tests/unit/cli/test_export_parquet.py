"""The command `export -f parquet`."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from pyarrow import parquet

from parquet_files import read_back
from proctally.cli.main import main
from proctally.record.writer import json_line
from scenes import header, of_record


def test_a_record_without_samples_and_one_without_an_end(tmp_path: Path) -> None:
    assert read_back([header()]).num_rows == 0
    path = tmp_path / "torn.jsonl.gz"
    path.write_bytes(gzip.compress(json_line(header()) + json_line(of_record(1.0)) + b'{"type":"sam'))
    assert main(["export", str(path), "-f", "parquet", "-o", str(tmp_path / "torn.parquet")]) == 0
    table = parquet.read_table(tmp_path / "torn.parquet")
    assert table.num_rows == 1 and b"proctally.summary" not in table.schema.metadata


# -- where it goes ---------------------------------------------------------------------------------------------------


def test_what_is_no_record_leaves_no_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(json_line(header()) + b"not json\n")
    assert main(["export", str(path), "-f", "parquet", "-o", str(tmp_path / "out")]) == 1
    assert capfd.readouterr().err == f"proctally: {path}: line 2 is not JSON\n"
    assert not (tmp_path / "out").exists()
