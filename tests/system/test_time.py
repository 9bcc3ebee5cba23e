"""Where the wall time of real jobs went, as users see it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from beside import busy_processes
from proctally.record import schema
from tracked import run, samples

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="this kernel shows no run delay")

BURN = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass\n"
PARTS = schema.names("tree.time")


def test_starved_job_is_seen_in_the_summary(tmp_path: Path) -> None:
    """FIGURES C1. A job that got a third of a CPU at most said "ok" and nothing else."""
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}})\n" + BURN.format(0.8)
    with busy_processes(3, cpu):
        done = run(tmp_path, "-i", "0.25", "--", sys.executable, "-S", "-c", code)
    summary = done.summary()
    time = summary["time"]
    whole = sum(time[part] for part in PARTS)
    assert whole == pytest.approx(summary["wall_seconds"], abs=0.005)
    assert time["ready_seconds"] > 0.4 * whole
    assert time["running_seconds"] == pytest.approx(summary["cpu"]["total_seconds"], abs=0.15)
    assert b"ok, but starved" in done.stderr and b"waiting for a CPU" in done.stderr
    others = summary["others"]
    assert others["cpu_cores"] > 0.4 and others["largest"][0]["cpu_cores"] > 0.1
    assert b"\n  others     " in done.stderr
    levels = [sample["tree"]["time"] for sample in samples(done.record()) if sample["tree"]["time"]]
    for part in PARTS:
        values = [each[part] for each in levels]
        assert values == sorted(values)


def test_run_delay_of_processes_that_no_scan_saw_is_bounded(tmp_path: Path, cpu_jobs: str) -> None:
    """FIGURES C2. Their delay is in no file; the job never sleeps, and what is missing was told as sleep."""
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}}); os.execv({cpu_jobs!r}, ['cpu_jobs', 'vfork_exec', '150'])"
    with busy_processes(2, cpu):
        summary = run(tmp_path, "-q", "-i", "0.2", "--no-system", "--", sys.executable, "-S", "-c", code).summary()
    time, wall = summary["time"], summary["wall_seconds"]
    missing = wall - time["running_seconds"] - time["ready_seconds"]
    assert time["asleep_low_seconds"] < 0.06 * wall
    (gap,) = [gap for gap in summary["gaps"] if gap["code"] == "delay_of_dead"]
    assert 0 <= gap["low_seconds"] <= missing + 0.06 * wall
    assert missing <= gap["high_seconds"] + 0.06 * wall


def test_phases_of_a_job_have_parts_of_their_own(tmp_path: Path) -> None:
    """A phase that sleeps is asleep, whatever the others do and however busy the machine is."""
    marks = 'import os, time\nmark = lambda name: open(os.environ["PROCTALLY_MARKS"], "a").write(name + "\\n")\n'
    code = marks + 'mark("nap")\ntime.sleep(0.5)\nmark("work")\n' + BURN.format(0.5)
    summary = run(tmp_path, "-q", "--", sys.executable, "-S", "-c", code).summary()
    nap, work = summary["phases"]
    assert (nap["name"], work["name"], nap["count"]) == ("nap", "work", 1)
    assert nap["time"]["asleep_seconds"] > 0.6 * nap["wall_seconds"]
    assert work["time"]["running_seconds"] + work["time"]["ready_seconds"] > 0.8 * work["wall_seconds"]
    assert 0 < nap["peak_low_bytes"] <= nap["peak_high_bytes"]
    assert nap["cpu_seconds"] < work["cpu_seconds"] + 0.1


def test_short_job_has_no_parts(tmp_path: Path) -> None:
    summary = run(tmp_path, "-q", "--", "true").summary()
    if summary["wall_seconds"] < 0.1:
        assert summary["time"] is None
    assert summary["phases"] == []
