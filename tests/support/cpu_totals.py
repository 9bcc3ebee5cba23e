"""Run or attach to a job in a cgroup of its own, and compare the CPU total of the record with that cgroup."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from proctally.tracking.loop import EARLY_SCANS_NS
from tracked import PROCTALLY, PYTHON, User, environment, until
from truth import Truth

SLACK_SECONDS = 0.02
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
PARENT = """
import os, signal, sys
if os.fork() == 0:
    os.execv(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
try:
    os.wait()
except ChildProcessError:
    pass
"""
UNREAPED = [*PYTHON, "-c", PARENT]
READY = ["/bin/sh", "-c", 'read ready && exec "$@"', "sh"]
QUIET = ["-q", "--no-system", "--no-gpu"]


def run_and_check(
    truth: Truth, folder: Path, job: list[str], *options: str, user: User | None = None
) -> dict[str, Any]:
    """Return the summary; no sample of the run has more cores than there are. `user`: an ordinary one."""
    record = folder / "record.jsonl"
    proctally = PROCTALLY if user is None else user.proctally
    command = [*proctally, "run", *QUIET, "-i", "0.2", *options, "-o", str(record), "--", *truth.enter_argv(job)]
    if user is None or user.number is None:
        subprocess.run(command, env=environment(folder), check=True, timeout=30)
    else:
        become = truth.give_to(user.number)
        subprocess.run(command, env=user.environment, cwd=folder, preexec_fn=become, check=True, timeout=30)
    check_cores(record)
    return summary_of(record)


def attach_and_check(
    truth: Truth, folder: Path, job: list[str], interval: float, *options: str, reaped: bool = True
) -> tuple[dict[str, Any], float]:
    """Attach to a shell that becomes the job once it is tracked; return the summary and what the job used.

    The early scans are over then. `reaped`: the parent of the shell waits for it. Without that, no file shows what it
    used after the last scan.
    """
    record = folder / "record.jsonl"
    argv = [*([] if reaped else UNREAPED), *truth.enter_argv([*READY, *job])]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as parent:
        until(lambda: len(truth.pids()) == 1, "the job's cgroup has the shell")
        (root,) = truth.pids()
        command = [*PROCTALLY, "attach", *QUIET, "-i", str(interval), *options, "-o", str(record), str(root)]
        with subprocess.Popen(command, env=environment(folder)) as tracker:
            until(lambda: record.exists() and '"sample"' in record.read_text(), "the first sample")
            time.sleep(min(interval, EARLY_SCANS_NS[-1] / 1e9))
            before = truth.cpu_seconds()
            parent.communicate(b"ready\n", timeout=30)
            assert tracker.wait(timeout=30) == 0
    check_cores(record)
    return summary_of(record), truth.cpu_seconds() - before


def attached_right(total: float, used: float, waiters: int = 1) -> bool:
    """Within 1 % and 20 ms; the total lacks up to two ticks of each process that waits for others."""
    return 0.99 * used - SLACK_SECONDS - 2 * TICK_SECONDS * waiters <= total <= 1.01 * used + SLACK_SECONDS


def summary_of(record: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(record.read_text().splitlines()[-1])
    return summary


def gaps_of(summary: dict[str, Any], section: str = "cpu") -> dict[str, dict[str, Any]]:
    return {gap["code"]: gap for gap in summary["gaps"] if gap["section"] == section}


def check_cores(record: Path) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in record.read_text().splitlines()]
    cores = [line["tree"]["cpu_cores"] or 0 for line in lines if line["type"] == "sample"]
    assert max(cores) <= (os.cpu_count() or 1) + 1


def bounded(summary: dict[str, Any], used: float) -> bool:
    """Return True if the total is not called complete, and its gaps hold the truth."""
    cpu, found = summary["cpu"], [gap for code, gap in gaps_of(summary).items() if code != "split_unknown"]
    low = cpu["total_seconds"] + sum(gap["low_seconds"] or 0 for gap in found)
    highs = [gap["high_seconds"] for gap in found]
    high = None if None in highs else cpu["total_seconds"] + sum(highs)
    return (
        cpu["coverage"] == "partial"
        and low <= 1.005 * used + SLACK_SECONDS
        and (high is None or used <= high + SLACK_SECONDS)
    )
