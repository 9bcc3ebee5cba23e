"""`--timeout` and `--max-memory`: who is asked, who is made to end, and what is said of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compiled import NO_COMPILER, built
from proctally import ending
from tracked import PATIENCE, PYTHON, Done, User, environment, ordinary_user, run, runs


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
    assert summary["evidence"].startswith("still running after 0.3 s (--timeout)")
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
    assert "--max-memory" in summary["evidence"]
    assert "two samples" in summary["evidence"]


def test_memory_for_one_sample_is_no_limit(tmp_path: Path) -> None:
    code = "import time; b = bytearray(30_000_000); time.sleep(0.5)"
    done = run(tmp_path, "-q", "-i", "0.1", "--max-memory", "200MB", "--", *PYTHON, "-c", code)
    assert done.status == 0


def test_a_record_of_it_is_whole(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run(tmp_path, "-i", "0.1", "--timeout", "0.35", "--", "sleep", "60")
    assert time.monotonic() - begun < 30
    assert b"timeout: still running after 0.35 s (--timeout)" in done.stderr
    assert [line["type"] for line in done.record()].count("summary") == 1


# -- what cannot be ended --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with ordinary_user() as somebody:
        if somebody is None or somebody.number is None:
            pytest.skip("needs root, and a Python 3.11 or newer that an ordinary user may execute")
        yield somebody


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
    ("script", "said"),
    [
        ("{0} & sleep 60", "killed by signal 15 (SIGTERM)"),  # one that the command leaves
        ("exec {0}", "not ended when tracking did"),
    ],
)
def test_what_cannot_be_killed_is_not_waited_for(user: User, stubborn: str, script: str, said: str) -> None:
    output = user.folder / f"{len(said)}.jsonl"
    options = ["-q", "--timeout", "0.3", "--grace", "0.2", "-o", str(output)]
    begun = time.monotonic()
    done = user.call("run", *options, "--", "sh", "-c", script.format(stubborn))
    took = time.monotonic() - begun
    pid = int(done.stdout)
    try:
        assert runs(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert (done.status, done.stderr) == (124, b"")
    patience = ending.PATIENCE_NS / 1e9
    assert 0.5 + patience <= took < 0.5 + patience + 3
    summary = summary_of(output)
    assert summary["verdict"] == "timeout"
    assert "; something of it could not be killed; " in summary["evidence"]
    assert summary["evidence"].endswith(said)
    assert summary["processes"]["left"] == 1


# -- when tracking itself has failed ---------------------------------------------------------------------------------

BROKEN = """
import sys
from proctally import cli, sampler
calls = 0
def broken(self, *rest):
    global calls
    calls += 1
    if calls >= int(sys.argv[2]):
        raise RuntimeError("broken on purpose")
    return kept(self, *rest)
kept = getattr(sampler.Sampler, sys.argv[1])
setattr(sampler.Sampler, sys.argv[1], broken)
sys.exit(cli.main(["run", *sys.argv[3:]]))
"""


def broken(home: Path, method: str, call: int, *arguments: str) -> Done:
    """`proctally run ARGUMENTS` whose sampler fails from this call of a method on."""
    words = [sys.executable, "-c", BROKEN, method, str(call), *arguments]
    done = subprocess.run(words, env=environment(home), capture_output=True, timeout=PATIENCE)
    assert b"Traceback" not in done.stderr
    return Done(home, done)


def summary_of(path: Path) -> dict[str, Any]:
    from proctally.record import read

    *_, last = read(str(path))
    assert last["type"] == "summary"
    return last


@pytest.mark.parametrize("call", [1, 3])
def test_orphans_are_killed_although_nobody_can_look(tmp_path: Path, call: int) -> None:
    script = "trap '' TERM; (exec sleep 30 >/dev/null 2>&1) & echo $!; trap - TERM; sleep 30"
    options = ["-q", "-i", "0.05", "--timeout", "0.3", "--grace", "0.2"]
    begun = time.monotonic()
    done = broken(tmp_path, "look", call, *options, "--", "sh", "-c", script)
    assert time.monotonic() - begun < 10
    assert done.status == 124
    assert not runs(int(done.stdout))
    assert b"tracking ended before the command did, by a fault of its own" in done.stderr


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
