"""The command `top`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scenes import Written, of_record
from tracked import PROCTALLY, Puppet, environment, until

# -- a record --------------------------------------------------------------------------------------------------------


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Neither where records are, nor where it is named."""
    path = tmp_path / "runs" / "20260101T000000Z-x-1.jsonl"
    path.parent.mkdir()
    os.mkfifo(path)
    for word in ("", "last", str(path)):
        done = top(tmp_path, *[word] * bool(word))
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == ""
    assert done.stderr == f"proctally: {path}: is not a file\n"


# -- plain text ------------------------------------------------------------------------------------------------------


def top(home: Path, *arguments: str, **popen: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROCTALLY, "top", *arguments],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        **popen,
    )


def test_blocks_of_a_tree(tmp_path: Path) -> None:
    done = top(tmp_path, str(os.getpid()), "--count", "2", "-i", "0.1", "--limit", "1")
    assert (done.returncode, done.stderr) == (0, "")
    blocks = done.stdout.split("\n\n")
    assert len(blocks) == 3 and blocks[2] == ""
    for block in blocks[:2]:
        lines = block.splitlines()
        assert lines[1].split()[0] and any(line.startswith("cores ") and " used" in line for line in lines)
        assert [line.split()[0] for line in lines[-2:]] == ["PID", str(os.getpid())]
    assert not (tmp_path / "runs").exists(), "nothing is written"


def test_what_ends_before_it_was_seen(tmp_path: Path) -> None:
    job = subprocess.Popen(["true"])
    os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
    done = top(tmp_path, str(job.pid), "--count", "1", "-i", "0.1")
    job.wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert "ended: the process and all that descended from it" in done.stdout


def test_a_run_of_another_shell(tmp_path: Path) -> None:
    """Found by `last`, by its id and by its file, listed while it runs; at its end so is that."""
    output = tmp_path / "own.jsonl"
    with Puppet(tmp_path, "-i", "0.1", "-n", "watched") as puppet, Puppet(tmp_path, "-o", str(output)) as other:
        runs = tmp_path / "runs"
        until(lambda: runs.is_dir() and list(runs.iterdir()) and output.exists(), "records")
        (path,) = runs.iterdir()
        listed = top(tmp_path)
        assert listed.returncode == 0 and [line.split()[4] for line in listed.stdout.splitlines()[1:]] == ["watched:"]
        for word in ("last", path.stem.rpartition("-")[2], str(path), str(output)):
            done = top(tmp_path, word, "--count", "1", "-i", "0.05")
            assert (done.returncode, done.stderr) == (0, "")
            assert f"pid {other.job if word == str(output) else puppet.job}" in done.stdout
        following = subprocess.Popen(
            [*PROCTALLY, "top", "last", "-i", "0.1"], env=environment(tmp_path), stdin=-3, stdout=-1, text=True
        )
        assert following.stdout is not None
        assert following.stdout.readline()
        puppet.exit(3)
        said = following.communicate(timeout=60)[0]
        assert following.returncode == 0
        assert ": exit status 3" in said.split("\n\n")[-2]
    done = top(tmp_path, "last")
    assert done.returncode == 1
    assert done.stderr.endswith("(failed); see it by: proctally report last\n") and done.stderr.count("\n") == 1


def test_the_last_sample_of_a_run_is_told_at_once(tmp_path: Path) -> None:
    """The next one of this run comes in a minute."""
    written = Written(tmp_path / "r.jsonl", interval_seconds=60.0)
    written.add(of_record(0.0), of_record(60.0))
    begun = time.monotonic()
    done = top(tmp_path, str(written.path), "--count", "1", "-i", "30")
    assert done.returncode == 0 and "running 1 min 00 s" in done.stdout
    assert time.monotonic() - begun < 20


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    command = [*PROCTALLY, "top", str(os.getpid()), "-i", "0.05"]
    job = subprocess.Popen(command, env=environment(tmp_path), stdin=-3, stdout=-1, stderr=-1)
    assert job.stdout is not None and job.stderr is not None
    job.stdout.readline()
    job.stdout.close()
    assert job.wait(60) == 1
    assert job.stderr.read() == b""
    job.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["4194305"], 1, "process 4194305: No such process"),
        (["nothing"], 1, "nothing: no such record"),
        ([], 1, "no tracked job of yours is running"),
        (["1", "2"], 2, "top: expected one PID or record, got 2; use "),
        (["--sort", "wall"], 2, "use cpu, wait, memory, io, pid or name"),
        (["-i", "0.01"], 2, "too short"),
        (["--count", "0"], 2, "--count 0: too small; use 1 or more"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    done = top(tmp_path, *arguments)
    assert done.returncode == status
    assert said in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_without_its_extra_plain_text_is_left(tmp_path: Path) -> None:
    """In an interpreter that has no urwid, and says so."""
    code = (
        "import sys; sys.modules['urwid'] = None\n"
        "from proctally.cli.main import main; import importlib.util as u\n"
        "was = u.find_spec; u.find_spec = lambda name, *a: None if name == 'urwid' else was(name, *a)\n"
        "import os; os.isatty = lambda fd: True\n"
        "sys.exit(main(['top', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, str(os.getpid()), "--count", "1", "-i", "0.05"]
    popen: dict[str, Any] = {"env": environment(tmp_path) | {"TERM": "xterm"}, "capture_output": True, "text": True}
    done = subprocess.run(command, **popen)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pip install 'proctally[top]'" in done.stderr
    assert subprocess.run([*command, "--plain"], **popen).returncode == 0
