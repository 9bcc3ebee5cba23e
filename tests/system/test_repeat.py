"""`proctally run --repeat`: several runs of a command, or of two in turn."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from terminal_session import CTRL_C, Terminal
from tracked import PATIENCE, PROCTALLY, environment, records, run, until

A, B = "echo a >>order", "echo b >>order"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    try:
        yield made
    finally:
        made.close()


def order(folder: Path) -> list[str]:
    """The commands in the order of their runs."""
    path = folder / "order"
    return path.read_text().split() if path.exists() else []


def test_repeat_runs_are_recorded_in_pairs_and_compared(tmp_path: Path) -> None:
    words = ("--repeat", "8", "--warmup", "1", "--versus", f"sh -c '{B}'", "--", "sh", "-c", A)
    done = run(tmp_path, *words, cwd=tmp_path)
    pairs = ["".join(sorted(pair)) for pair in zip(*[iter(order(tmp_path))] * 2, strict=True)]
    assert (done.status, pairs) == (0, ["ab"] * 9)
    assert len(records(tmp_path)) == 16, "the warm-up has no record"
    assert all(lines[-1]["verdict"] == "ok" for lines in records(tmp_path))
    assert sorted(lines[0]["name"] for lines in records(tmp_path)) == ["sh-A"] * 8 + ["sh-B"] * 8
    lines = done.stderr.decode().splitlines()
    assert lines[:2] == [f"BASE  A: sh -c '{A}', 8 runs", f"NEW   B: sh -c '{B}', 8 runs"]
    assert any(line.split()[:1] == ["wall"] and ".." in line for line in lines)
    assert done.stdout == b"" and b"8 of 8" not in done.stderr, "there is no terminal"


def test_repeat_shuffles_each_pair(tmp_path: Path) -> None:
    """All of 16 pairs in one order: a chance of 1 in 32,768."""
    run(tmp_path, "-q", "--repeat", "16", "--no-record", "--versus", f"sh -c '{B}'", "--", "sh", "-c", A, cwd=tmp_path)
    pairs = set(zip(*[iter(order(tmp_path))] * 2, strict=True))
    assert pairs == {("a", "b"), ("b", "a")}


def test_repeat_of_one_command_shows_its_spread(tmp_path: Path) -> None:
    done = run(tmp_path, "--repeat", "4", "--", "cat", input=b"text", cwd=tmp_path)
    lines = done.stderr.decode().splitlines()
    assert (done.status, done.stdout) == (0, b""), "no run has the stdin of another one"
    assert lines[0] == "cat, 4 runs" and "SPREAD" in lines[1] and len(records(tmp_path)) == 4
    assert run(tmp_path, "-q", "--repeat", "1", "--", "true").stderr == b""


def test_repeat_stops_at_a_command_that_fails(tmp_path: Path) -> None:
    words = ("--repeat", "4", "--", "sh", "-c", f"{A}; test $(wc -l <order) != 2 || exit 7")
    done = run(tmp_path, *words, cwd=tmp_path)
    assert (done.status, order(tmp_path)) == (7, ["a", "a"])
    assert done.stderr == b"proctally: sh: run 2 of 4: exit status 7; use --ignore-failure to continue\n"
    done = run(tmp_path, "--ignore-failure", *words[:-1], f"{A}; exit 7", cwd=tmp_path)
    assert (done.status, len(order(tmp_path))) == (0, 6) and b"sh -c " in done.stderr
    done = run(tmp_path, "--repeat", "4", "--warmup", "1", "--", "sh", "-c", "kill -9 $$", cwd=tmp_path)
    assert done.status == 137 and done.stderr.startswith(b"proctally: sh: warm-up: ")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--repeat", "0"), b"--repeat 0: too small; use 1 or more"),
        (("--warmup", "1"), b"--warmup: no number of runs; add --repeat N"),
        (("--versus", "true"), b"add --repeat N"),
        (("--repeat", "2", "--versus", "a 'b"), b"--versus: No closing quotation"),
        (("--repeat", "2", "--versus", " "), b"--versus: empty; give a command"),
        (("--repeat", "2", "-o", "file"), b"--output file: one file for all runs; add {run_id} to its name"),
    ],
)
def test_repeat_mistake_is_one_line(tmp_path: Path, words: tuple[str, ...], why: bytes) -> None:
    done = run(tmp_path, *words, "--", "true", cwd=tmp_path)
    assert done.status == 125 and why in done.stderr and done.stderr.count(b"\n") == 1


def test_repeat_command_that_is_not_found_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--repeat", "2", "--", "no-such-command")
    assert (done.status, done.stderr) == (127, b"proctally: no-such-command: No such file or directory\n")


def test_repeat_is_not_passed_on(tmp_path: Path) -> None:
    inner = " ".join([*PROCTALLY, "run", "-q", "--", "sh", "-c", f"'{A}'"])
    env = environment(tmp_path, PROCTALLY_REPEAT="2")
    run(tmp_path, "-q", "--", "sh", "-c", inner, env=env, cwd=tmp_path)
    assert order(tmp_path) == ["a", "a"]


def test_repeat_forwards_a_signal_and_stops(tmp_path: Path) -> None:
    script = f"{A}; exec sleep 60"
    words = ["--repeat", "3", "--versus", f"sh -c '{script}'", "--", "sh", "-c", script]
    process = subprocess.Popen(
        [*PROCTALLY, "run", *words], env=environment(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE
    )
    until(lambda: order(tmp_path), "the first run")
    os.kill(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert re.fullmatch(rb"proctally: sh-[AB]: run 1 of 3: SIGTERM; no further run\n", stderr)
    (lines,) = records(tmp_path)
    assert (order(tmp_path), lines[-1]["signal"]) == (["a"], signal.SIGTERM)


COUNTS = """
import signal, sys, time
count = 0
def add(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, add)
print("ready", flush=True)
ends = time.monotonic() + 1
while time.monotonic() < ends:
    time.sleep(0.05)
sys.exit(count)
"""


def test_repeat_signal_to_the_group_reaches_the_job_as_often_as_under_run(tmp_path: Path) -> None:
    for words in ([], ["--repeat", "2"]):
        process = subprocess.Popen(
            [*PROCTALLY, "run", "-q", *words, "--", sys.executable, "-c", COUNTS],
            env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode in (1, 2), "two that wait at the same time are one"


def test_repeat_run_that_is_killed_is_one_line_where_sigchld_is_ignored(tmp_path: Path) -> None:
    words = [*PROCTALLY, "run", "-q", "--repeat", "2", "--", "sh", "-c", "kill -9 $PPID"]
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(tmp_path),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    message = b"proctally: sh: run 1 of 2: exit status 137, without a summary\n"
    assert (done.returncode, done.stderr) == (137, message)


def test_repeat_shows_progress_on_a_terminal_and_ends_by_ctrl_c(terminal: Terminal, tmp_path: Path) -> None:
    script = f"{A}; test $(wc -l <order) -lt 3 || exec sleep 60"
    words = ["--repeat", "4", "--versus", f"sh -c '{script}'", "--", "sh", "-c", script]
    process = subprocess.Popen([*PROCTALLY, "run", *words], env=environment(tmp_path), cwd=tmp_path, **terminal.popen())
    shown = terminal.shows(b" s\r\n").split()
    assert shown[:4] == [b"1", b"of", b"4", b"A"] and shown[-3] == b"B"
    until(lambda: len(order(tmp_path)) == 3, "the third run")
    terminal.type(CTRL_C)
    assert process.wait(PATIENCE) == 128 + signal.SIGINT
    assert re.search(rb"proctally: sh-[AB]: run 2 of 4: SIGINT; no further run", terminal.shown())
