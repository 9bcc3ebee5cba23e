"""The command `export --every` with a real run."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from proctally.cli.main import main
from proctally.record.reader import read
from tracked import PYTHON, record, run, samples

# -- the command -----------------------------------------------------------------------------------------------------


def test_a_real_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    work = "import time\nend = time.monotonic() + 0.6\nwhile time.monotonic() < end: sum(range(9999))"
    assert run(tmp_path, "-q", "-i", "0.05", "--", *PYTHON, "-c", work).status == 0
    lines = record(tmp_path)
    (path,) = (tmp_path / "runs").iterdir()
    for form in ("csv", "jsonl"):
        assert main(["export", str(path), "-f", form, "--every", "0.2", "-o", str(tmp_path / form)]) == 0
    assert capfd.readouterr() == ("", "")
    few = list(read(str(tmp_path / "jsonl")))
    assert few[-1] == lines[-1], "the summary is that of the whole run"
    assert 3 <= len(samples(few)) <= 6 < len(samples(lines))
    last = samples(lines)[-1]["tree"]
    assert samples(few)[-1]["tree"]["cpu_seconds"] == last["cpu_seconds"]
    assert main(["export", str(path), "-o", str(tmp_path / "whole")]) == 0
    rows, whole = (list(csv.DictReader((tmp_path / name).open())) for name in ("csv", "whole"))
    assert len(rows) == len(samples(few))
    for column in ("process_utime", "process_stime", "process_disk_write_bytes", "system_utime"):
        one, other = (sum(float(row[column] or 0) for row in found) for found in (rows, whole))
        assert one == pytest.approx(other, abs=0.01), column
    most = [max(float(row["process_memory_mib"] or 0) for row in found) for found in (rows, whole)]
    assert most[0] == most[1] > 0
