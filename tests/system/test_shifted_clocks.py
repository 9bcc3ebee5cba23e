"""Clocks that a preloaded library shifts, as faketime does: totals stay true, and no clock ends a job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import proctally
from compiled import preload

SHIFT_C = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now) {
    static struct timespec first;
    const char *seconds = getenv("SHIFT_SECONDS"), *rate = getenv("SHIFT_RATE");
    int failed = syscall(SYS_clock_gettime, id, now);
    if (rate && id >= 0)
        now->tv_sec *= atoi(rate);
    if (rate && id < 0)
        now->tv_nsec = now->tv_nsec * atoi(rate) % 1000000000;
    if (getenv("SHIFT_STOPPED") && id == CLOCK_MONOTONIC) {
        if (!first.tv_sec)
            first = *now;
        *now = first;
    }
    if (seconds)
        now->tv_sec += atoll(seconds);
    return failed;
}
"""
BUSY = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
SHIFTS = {
    "back": {"SHIFT_SECONDS": "-817000000"},
    "one_second": {"SHIFT_SECONDS": "1"},
    "year_2300": {"SHIFT_SECONDS": "8640000000"},
    "year_2500": {"SHIFT_SECONDS": "15000000000"},
    "year_1900": {"SHIFT_SECONDS": "-4000000000"},
    "faster": {"SHIFT_RATE": "10"},
    "stopped": {"SHIFT_STOPPED": "1", "SHIFT_SECONDS": "-817000000"},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return preload(tmp_path_factory.mktemp("shift"), SHIFT_C)


def run_shifted(library: str, record: Path, shift: dict[str, str]) -> dict[str, Any]:
    """Return the summary of a busy job that exits with 7; the job itself has true clocks."""
    command = ("env", "-u", "LD_PRELOAD", "sh", "-c", f"{BUSY}; sleep 0.3; exit 7")
    done = proctally("run", "-o", str(record), "--", *command, env=os.environ | {"LD_PRELOAD": library} | shift)
    assert done.returncode == 7, done.stderr
    assert "fault" not in done.stderr and "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(record.read_text().splitlines()[-1])
    assert found["type"] == "summary"
    return found


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_shifted_clocks_are_not_believed(tmp_path: Path, library: str, shift: dict[str, str]) -> None:
    summary = run_shifted(library, tmp_path / "record", shift)
    cpu = summary["cpu"]
    assert 0.01 < cpu["total_seconds"] < 5.0
    assert max(cpu["sources"].values()) < 5.0
    assert "clock_disbelieved" in [gap["code"] for gap in summary["gaps"]]
    assert cpu["coverage"] == "complete" or "perf" in cpu["unavailable"]
    assert 0.3 <= summary["wall_seconds"] < 20.0
    assert 0.0 <= summary["tracker"]["cpu_seconds"] < 5.0


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_exporter_with_shifted_clocks_writes_the_end(tmp_path: Path, library: str, shift: dict[str, str]) -> None:
    words = (
        "run",
        "-q",
        "--no-record",
        "--textfile",
        str(tmp_path / "x.prom"),
        "--",
        "env",
        "-u",
        "LD_PRELOAD",
        "sleep",
    )
    done = proctally(*words, "0.3", env=os.environ | {"LD_PRELOAD": library} | shift)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'proctally_run_exit_code{run="env"} 0.0' in (tmp_path / "x.prom").read_text()


LIBRARY = """
import json, os, proctally
from proctally import gauges, process, processes, system
own = os.getpid()
for _ in range(2):
    with proctally.track(record=False, interval=0.05) as run:
        with run.phase("work"):
            end = os.times().user + 0.1
            while os.times().user < end: pass
with proctally.Tree(own) as tree:
    tree.sample()
    tree.sample()
for call in (process.start_time, process.liveness, processes.snapshot, processes.snapshot_tree):
    call(own)
for tracker in (processes.DeltaTracker(own), processes.CumulativeTracker(own)):
    tracker.update()
gauges.Gauges(own).sample()
processes.Scanner().scan()
system.stats()
system.disk_spaces()
[phase] = run.phases
used, wall = run.summary.cpu.total_seconds, run.summary.wall_seconds
print(json.dumps([run.missing, 0.05 < used < 5, 0 < wall < 20, phase.name]))
"""


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_library_with_shifted_clocks_answers(library: str, shift: dict[str, str]) -> None:
    environment = os.environ | {"LD_PRELOAD": library} | shift
    words = [sys.executable, "-c", LIBRARY]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == '[[], true, true, "work"]\n', done.stderr


def test_true_clocks_are_believed(tmp_path: Path, library: str) -> None:
    summary = run_shifted(library, tmp_path / "record", {})
    assert "clock_disbelieved" not in [gap["code"] for gap in summary["gaps"]]
