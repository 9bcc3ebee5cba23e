"""The command `export` with real runs and readers."""

from __future__ import annotations

import csv as library
import subprocess
import sys
import time
from pathlib import Path

import pytest

from csv_rows import RUN, export, sample, write_record
from proctally.cli.main import FAILED
from proctally.record.reader import read
from tracked import PYTHON, environment, run

# -- export ------------------------------------------------------------------------------------------------------


EXPORT = [sys.executable, "-m", "proctally", "export", "-f", "csv"]


def test_a_slow_reader_gets_every_row(tmp_path: Path) -> None:
    """Where nothing is measured meanwhile, no row is given up for a reader that takes its time."""
    path = tmp_path / "long.jsonl"
    write_record(path, [RUN, *(sample(number) for number in range(6000))])
    with subprocess.Popen([*EXPORT, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        time.sleep(1.0)
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert len(lines) == 6001


def test_a_reader_that_has_enough_ends_it_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    write_record(path, [RUN, *(sample(number) for number in range(3000))])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*EXPORT, str(path)], **pipes) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == FAILED


# -- the newest record -------------------------------------------------------------------------------------------


def test_last_of_a_real_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The first row is taken at the start, the last one when the job has ended."""
    work = (
        "x = bytearray(40 << 20)\nimport time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    )
    done = run(tmp_path, "-i", "0.1", "--", *PYTHON, "-c", work)
    assert done.status == 0
    assert export("last", "csv", "-", environment(tmp_path)) == 0
    rows = list(library.DictReader(capfd.readouterr().out.splitlines()))
    assert len(rows) >= 4
    used = sum(float(row["process_utime"]) + float(row["process_stime"]) for row in rows)
    assert used == pytest.approx(0.42, abs=0.1)
    assert max(int(row["process_memory_mib"] or 0) for row in rows) >= 40
    assert max(float(row["process_cpu_usage"]) for row in rows) > 0.1
    assert float(rows[0]["process_cpu_usage"]) == 0
    (path,) = (tmp_path / "runs").iterdir()
    summary = list(read(str(path)))[-1]
    assert int(rows[-1]["timestamp"]) >= int(summary["ended_at"]) - 1
