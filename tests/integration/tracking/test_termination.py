"""A job that cannot be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compiled import NO_COMPILER, built
from proctally.tracking import termination
from tracked import PATIENCE, PYTHON, Done, User, environment, failing, gaps, reason, runs

# -- what cannot be ended --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stubborn() -> Iterator[str]:
    """A program that an ordinary user can start and not end."""
    if NO_COMPILER is not None:
        pytest.skip(NO_COMPILER)
    with built() as programs:
        if os.statvfs(programs.folder).f_flag & os.ST_NOSUID:
            pytest.skip(f"{programs.folder} is on a file system without setuid")
        os.chmod(programs.stubborn, 0o4755)
        yield programs.stubborn


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("{0} & sleep 60", 15),  # one that the command leaves
        ("exec {0}", None),
    ],
)
def test_what_cannot_be_killed_is_not_waited_for(
    other_user: User, stubborn: str, script: str, number: int | None
) -> None:
    output = other_user.folder / f"{number}.jsonl"
    options = ["-q", "--timeout", "0.3", "--grace", "0.2", "-o", str(output)]
    begun = time.monotonic()
    done = other_user.call("run", *options, "--", "sh", "-c", script.format(stubborn))
    took = time.monotonic() - begun
    pid = int(done.stdout)
    try:
        assert runs(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert (done.status, done.stderr) == (124, b"")
    patience = termination.PATIENCE_NS / 1e9
    assert 0.5 + patience <= took < 0.5 + patience + 3
    summary = summary_of(output)
    assert summary["verdict"] == "timeout"
    assert reason(summary) == {"code": "timeout", "limit_seconds": 0.3, "left_alive": True}
    assert (summary["exit_code"], summary["signal"]) == (None, number)
    assert summary["processes"]["left"] == 1
    assert gaps(summary, "cpu")["left_running"] == {"count": 1}


# -- when tracking itself has failed ---------------------------------------------------------------------------------


def broken(home: Path, method: str, call: int, *arguments: str) -> Done:
    """`proctally run ARGUMENTS` whose sampler fails from this call of a method on."""
    words = [*failing(f"tree.sampler:TreeSampler.{method}", call), "run", *arguments]
    done = subprocess.run(words, env=environment(home), capture_output=True, timeout=PATIENCE)
    assert b"Traceback" not in done.stderr
    return Done(home, done)


def summary_of(path: Path) -> dict[str, Any]:
    from proctally.record.reader import read

    *_, last = read(str(path))
    assert last["type"] == "summary"
    return last


@pytest.mark.parametrize("call", [1, 3])
def test_orphans_are_killed_although_nobody_can_look(tmp_path: Path, call: int) -> None:
    script = "trap '' TERM; (exec sleep 30 >/dev/null 2>&1) & echo $!; trap - TERM; sleep 30"
    options = ["-q", "-i", "0.05", "--timeout", "0.3", "--grace", "0.2"]
    begun = time.monotonic()
    done = broken(tmp_path, "scan", call, *options, "--", "sh", "-c", script)
    assert time.monotonic() - begun < 10
    assert done.status == 124
    assert not runs(int(done.stdout))
    assert b"tracking: ended before the command did, by a fault of its own" in done.stderr


@pytest.mark.parametrize(
    ("script", "status", "verdict"), [("sleep 30", 124, "timeout"), ("sleep 0.2; exit 3", 3, "failed")]
)
def test_after_a_fault_there_is_a_timeout_and_a_summary(tmp_path: Path, script: str, status: int, verdict: str) -> None:
    output = tmp_path / "record.jsonl"
    options = ["-q", "-i", "0.05", "--timeout", "0.4", "--grace", "0.2", "-o", str(output)]
    done = broken(tmp_path, "sample", 2, *options, "--", "sh", "-c", script)
    assert done.status == status
    assert done.stderr.count(b"broken on purpose") == 1
    assert summary_of(output)["verdict"] == verdict


def test_after_a_fault_nothing_is_said_to_be_complete(tmp_path: Path) -> None:
    output = tmp_path / "record.jsonl"
    code = "import os, time\ntime.sleep(0.2)\nfor _ in range(9):\n    os.fork() or os._exit(0)\n    os.wait()"
    code += "\nwhile time.process_time() < 0.2: pass"
    broken(tmp_path, "sample", 2, "-q", "-i", "0.05", "-o", str(output), "--", *PYTHON, "-c", code)
    summary = summary_of(output)
    assert summary["processes"]["started"] == 10 or summary["processes"]["coverage"] != "complete"
    assert summary["cpu"]["total_seconds"] > 0.2 or summary["cpu"]["coverage"] != "complete"
