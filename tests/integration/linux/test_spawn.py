"""Helper processes: their interpreter, their socket, and their end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proctally.linux.machine import Machine
from proctally.linux.spawn import HelperClient, python


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_interpreter_finds_package_and_standard_library_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracked program's folders hold a module that has the name of one of the standard library."""
    other, extra = tmp_path / "other", tmp_path / "extra"
    other.mkdir()
    extra.mkdir()
    for folder in (other, extra):
        (folder / "json.py").write_text("raise SystemExit('not this one')\n")
    (extra / "an_extra.py").touch()
    monkeypatch.setattr(sys, "path", [str(other), str(extra), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(other))
    command = python("proctally.record.writer", "argument", packages=("an_extra",))
    code = command[4].replace(
        "from proctally.record.writer import main;main()", "import json,proctally;print(sys.path)"
    )
    done = subprocess.run([*command[:4], code], capture_output=True, text=True, check=True)
    assert str(extra) in done.stdout
    assert str(other) not in done.stdout


@pytest.mark.parametrize("end", [0, 1])
def test_helper_answers_and_is_reaped(end: int) -> None:
    started: list[int] = []
    client = HelperClient(Machine(), started=started.append)
    code = f"import os; os.write({end}, os.read({end}, 100)[::-1]); os.read({end}, 1)"
    helper = client.begin([sys.executable, "-c", code], end=end)
    assert (client.pids, client.pid) == ({helper.pid}, started[0])
    helper.send(b"abc")
    until(lambda: helper.receive(100) and helper.incoming)
    assert helper.incoming == b"cba"
    assert helper.end_of_lines()
    until(lambda: not helper.receive(100))
    client.drop(kill=False)
    assert client.fileno is None
    until(client.reap)
    assert (client.pids, client.pid) == (frozenset(), 0)
    assert client.cpu_ns() > 0


def test_helper_that_sends_too_much() -> None:
    client = HelperClient(Machine())
    helper = client.begin([sys.executable, "-c", "import os\nwhile True: os.write(0, b'x' * 4096)"])
    until(lambda: not helper.receive(10_000))
    client.close()
    until(client.reap)


def test_helper_that_another_part_reaps() -> None:
    client = HelperClient(Machine())
    helper = client.begin(["/bin/true"])
    pid = helper.pid
    os.waitpid(pid, 0)
    assert not client.reaped(pid + 1, 5)
    assert client.reaped(pid, 123)
    assert not client.reaped(pid, 123)
    client.close()
    assert client.reap()
    assert client.cpu_ns() == 123


def test_helper_that_cannot_start_leaves_no_descriptor() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    client = HelperClient(Machine())
    with pytest.raises(OSError):
        client.begin(["/nonexistent/python"])
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert client.reap() and not client.cpu_ns()
