"""Limits of time and memory that end a job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracked import PYTHON, reason, run


def alive(marker: str) -> list[str]:
    found = subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True).stdout.split()
    return [pid for pid in found if pid != str(os.getpid())]


def marked(tmp_path: Path) -> str:
    return f"marker-{tmp_path.name}-{os.getpid()}"


def test_one_that_obeys(tmp_path: Path) -> None:
    done = run(tmp_path, "--timeout", "0.3", "--", "sleep", "60")
    assert done.status == 124
    summary = done.summary()
    assert (summary["verdict"], summary["signal"], summary["exit_code"]) == ("timeout", 15, None)
    assert reason(summary) == {"code": "timeout", "limit_seconds": 0.3, "left_alive": False}
    assert summary["wall_seconds"] < 30


def test_what_it_says_while_it_ends_is_its_own(tmp_path: Path) -> None:
    script = "trap 'echo saved; exit 7' TERM; while :; do sleep 0.05; done"
    done = run(tmp_path, "-q", "--timeout", "0.3", "--", "sh", "-c", script)
    assert (done.status, done.stdout) == (124, b"saved\n")
    assert done.summary()["exit_code"] == 7


def test_one_in_time_is_left_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--timeout", "50", "--", "sh", "-c", "exit 5")
    assert done.status == 5
    assert done.summary()["verdict"] == "failed"


def test_all_of_it_is_killed_after_the_grace(tmp_path: Path) -> None:
    """Members that ignore TERM, that are stopped, and an orphan in a session of its own; nobody else."""
    marker = marked(tmp_path)
    code = (
        "import os, signal, time\n"
        f"marker = '{marker}'\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if not os.fork():\n    os.setsid()\n    os.fork() and os._exit(0)\n    time.sleep(60)\n"
        "if not os.fork():\n    os.kill(os.getpid(), signal.SIGSTOP)\n"
        "time.sleep(60)"
    )
    bystander = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(60)  # bystander-{marker}"])
    try:
        done = run(tmp_path, "-q", "--timeout", "0.5", "--grace", "0.3", "--", *PYTHON, "-c", code)
        assert done.status == 124
        assert done.summary()["signal"] == 9
        assert done.summary()["processes"]["left"] == 0
        assert alive(f"marker = '{marker}'") == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_orphans_have_the_grace_too(tmp_path: Path) -> None:
    """The command ends at TERM; what it leaves is told as well, and may end by itself until the grace is over."""
    child = f"trap 'sleep 0.3; touch {tmp_path}/told; exit' TERM; while :; do sleep 0.05; done"
    slow = f"trap '' TERM; sleep 0.6; touch {tmp_path}/done"
    done = run(tmp_path, "-q", "--timeout", "0.2", "--grace", "60", "--", "sh", "-c", f"({child}) & ({slow}) & wait")
    assert done.status == 124
    assert (tmp_path / "done").exists()
    assert (tmp_path / "told").exists()


def test_a_stopped_command_hears_of_it(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--timeout", "0.4", "--grace", "30", "--", "sh", "-c", "kill -STOP $$; sleep 60")
    assert done.status == 124
    assert done.summary()["signal"] == 15


@pytest.mark.parametrize("size", ["30MB", "30M", "31457280"])
def test_more_memory_than_it_may(tmp_path: Path, size: str) -> None:
    code = "import time; b = bytearray(80_000_000); time.sleep(60)"
    done = run(tmp_path, "-q", "-i", "0.1", "--max-memory", size, "--", *PYTHON, "-c", code)
    assert done.status == 143
    summary = done.summary()
    assert summary["verdict"] == "limit"
    found = reason(summary)
    assert (found["code"], found["measure"], found["left_alive"]) == ("memory_limit", "low", False)
    assert found["used_bytes"] > found["limit_bytes"] >= 30_000_000


def test_spike_above_the_limit_is_a_warning(tmp_path: Path) -> None:
    code = "import os, time; time.sleep(0.3); os.fork() or bytes(b'x') * 80_000_000 and os._exit(0); os.wait()"
    done = run(tmp_path, "-q", "-i", "10", "--max-memory", "40MB", "--", *PYTHON, "-c", code)
    assert done.status == 0
    assert b"--max-memory 38.1 MiB: memory might have reached" in done.stderr


def test_memory_for_one_sample_is_no_limit(tmp_path: Path) -> None:
    code = "import time; b = bytearray(30_000_000); time.sleep(0.5)"
    done = run(tmp_path, "-q", "-i", "0.1", "--max-memory", "200MB", "--", *PYTHON, "-c", code)
    assert done.status == 0


def test_a_record_of_it_is_whole(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run(tmp_path, "-i", "0.1", "--timeout", "0.35", "--", "sleep", "60")
    assert time.monotonic() - begun < 30
    assert b": still running after 0.35 s (--timeout)" in done.stderr
    assert [line["type"] for line in done.record()].count("summary") == 1
