"""The command `proctally`: help, statuses, outputs and interval."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import CANNOT_RUN, ENDS_WITHIN_SECONDS, proctally
from proctally import __version__
from proctally.cli.options import describe
from tracked import failing

pytestmark = pytest.mark.usefixtures("clean_environment")


# -- exit statuses and streams -----------------------------------------------------------------------------------


USAGE = [
    ([], 2, "proctally run"),
    (["nosuch"], 2, "nosuch: unknown command"),
    (["-q", "run"], 2, "-q: unknown command"),
    (["run"], CANNOT_RUN, "run: no command; use"),
    (["run", "--"], CANNOT_RUN, "run: no command; use"),
    (["run", "--nonsense", "true"], CANNOT_RUN, "--nonsense"),
    (["run", "-i", "soon", "true"], CANNOT_RUN, "soon"),
    (["run", "-o", "-", "true"], CANNOT_RUN, "--output -: the command owns stdout"),
    (["run", "--source", "procfs", "--cgroup", "true"], CANNOT_RUN, "--source procfs and --cgroup exclude each other"),
    (["run", "-o", "{nonsense}", "true"], CANNOT_RUN, "{nonsense}"),
    (["run", "-o", "/nowhere/x", "true"], CANNOT_RUN, "/nowhere/x"),
    (["run", "--process-lines", "9" * 5000, "true"], CANNOT_RUN, "--process-lines"),
    (["run", "-i", "1e300", "true"], CANNOT_RUN, "1e300"),
    (["attach"], 2, "attach: expected one PID"),
    (["attach", "1", "2"], 2, "attach: expected one PID"),
    (["attach", "x"], 2, "x: not a PID; find one with pgrep"),
    (["attach", "0"], 2, "0: not a PID"),
    (["attach", "-1"], 2, "-1"),
    (["attach", "²"], 2, "not a PID"),
    (["attach", "9" * 5000], 2, "not a PID"),
    (["attach", "99999999999"], 2, "not a PID"),
    (["attach", "--nonsense", "1"], 2, "--nonsense"),
    (["attach", str((1 << 31) - 1)], 1, "process 2147483647: No such process"),
]


@pytest.mark.parametrize(("arguments", "status", "said"), USAGE, ids=[" ".join(row[0])[:40] for row in USAGE])
def test_failures(arguments: list[str], status: int, said: str) -> None:
    done = proctally(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not arguments or done.stderr.startswith("proctally: ")
    assert not arguments or done.stderr.count("\n") == 1


@pytest.mark.parametrize("argument", ["--help", "-h", "help"])
def test_help(argument: str) -> None:
    done = proctally(argument)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"proctally {command}" in done.stdout for command in ("run", "attach", "fields"))


@pytest.mark.parametrize("argument", ["--version", "-V"])
def test_version(argument: str) -> None:
    done = proctally(argument)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"proctally {__version__}\n", "")


@pytest.mark.parametrize("command", ["run", "attach"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_command(command: str, flag: str) -> None:
    done = proctally(command, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"proctally {command} [options]" in done.stdout
    assert describe(command, 80) in done.stdout


def test_help_of_fields() -> None:
    done = proctally("fields", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "proctally fields" in done.stdout


def test_fields_without_a_match() -> None:
    done = proctally("fields", "no", "such-field")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "proctally: fields no such-field: no field has this name or meaning\n"


def test_help_in_spite_of_a_bad_variable() -> None:
    done = proctally("run", "--help", env={**os.environ, "PROCTALLY_INTERVAL": "soon"})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["fields"], ["run", "--help"],
        ["top", "--plain", "-i", "0.05", "--count", "1", str(os.getpid())],
    ],
)  # fmt: skip
def test_output_that_cannot_be_written(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "proctally", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in done.stderr
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True)
    assert closed.stderr == "proctally: stdout: Bad file descriptor\n" and closed.returncode in (1, CANNOT_RUN)
    read_end, write_end = os.pipe()
    os.close(read_end)
    gone = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert gone.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_change_the_status(tmp_path: Path, closed: str) -> None:
    """Nor does what is said on stderr land in a file that was opened in its place."""
    record, summary = tmp_path / "record", tmp_path / "summary"
    command = [sys.executable, "-m", "proctally", "run", "-o", str(record), "--summary-json", str(summary)]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command, "--", "sh", "-c", "exit 3"], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [lines[0]["type"], lines[-1]["type"]] == ["run", "summary"]
    assert json.loads(summary.read_text())["exit_code"] == 3


def test_closed_stderr_of_a_usage_error() -> None:
    command = [sys.executable, "-m", "proctally"]
    for arguments, status in (([], 2), (["nosuch"], 2), (["run"], CANNOT_RUN), (["attach", "x"], 2)):
        done = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command, *arguments], capture_output=True)
        assert (done.returncode, done.stdout) == (status, b"")


def test_an_interval_that_outlasts_the_job() -> None:
    """Longer than what poll(2) takes as a timeout, and longer than the early looks."""
    done = proctally("run", "-q", "-i", "1e7", "--", "sleep", "0.7")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("method", "call", "error"),
    [
        ("scan", 1, "ValueError"),
        ("scan", 3, "OSError"),
        ("scan", 3, "MemoryError"),
        ("sample", 2, "ValueError"),
        ("reaped", 1, "OSError"),
        ("finish", 1, "ValueError"),
    ],
)
def test_trouble_of_our_own_does_not_reach_the_job(method: str, call: int, error: str) -> None:
    """It ends the tracking with a warning; the job runs to its end, and its exit status is passed on."""
    words = ["run", "-q", "-i", "0.05", "--", "sh", "-c", "sleep 0.3; echo done; exit 3"]
    tracker = failing(f"tree.sampler:TreeSampler.{method}", call, error)
    done = subprocess.run([*tracker, *words], capture_output=True, text=True, timeout=ENDS_WITHIN_SECONDS)
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert done.stderr.startswith("proctally: "), "also with -q"
    assert "Traceback" not in done.stderr


def test_attach_to_a_slow_reader_can_be_stopped(tmp_path: Path) -> None:
    """`attach -o - PID | less`: a reader that does not read must not keep SIGTERM from being heard."""
    job = subprocess.Popen(["sleep", "60"])
    read_end, write_end = os.pipe()
    tracker = subprocess.Popen(
        [sys.executable, "-m", "proctally", "attach", "-q", "-i", "0.05", "-o", "-", str(job.pid)], stdout=write_end
    )
    os.close(write_end)
    try:
        fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, 4096)
        time.sleep(1.5)  # enough for a few pages of samples
        tracker.terminate()
        assert tracker.wait(10) == 0
    finally:
        os.close(read_end)
        tracker.kill()
        tracker.wait()
        job.kill()
        job.wait()


# -- what is lost is said ----------------------------------------------------------------------------------------


def test_lost_samples_are_counted_in_the_summary(tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    done = proctally("run", "-q", "-i", "0.05", "-o", "/dev/full", "--summary-json", str(summary), "--", "sleep", "0.3")
    assert done.returncode == 0
    tracker = json.loads(summary.read_text())["tracker"]
    assert tracker["lost_samples"] == tracker["samples"] >= 3
    assert f"{tracker['samples']} samples are lost" in done.stderr


def test_a_small_process_has_not_the_memory_of_its_tracker(tmp_path: Path) -> None:
    """What the held child had before exec is in its ru_maxrss, and no part of the job."""
    summary = tmp_path / "summary"
    done = proctally("run", "-q", "--no-record", "--summary-json", str(summary), "--", "sleep", "0.2")
    assert done.returncode == 0
    memory = json.loads(summary.read_text())["memory"]
    assert memory["peak_process_rss_bytes"] <= 4 << 20, "sleep takes about 2 MiB"
