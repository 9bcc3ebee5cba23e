"""Programs that track a block."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tracked import environment

# what every program below begins with
PREAMBLE = """
import json, os, resource, signal, subprocess, sys, threading, time
import proctally

def busy(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

def used():  # by this process and all it has waited for
    return time.process_time(), sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])

def say(**values):
    print(json.dumps(values), flush=True)

"""


def program(home: Path, code: str, **popen: Any) -> dict[str, Any]:
    """What a program said last, which ended well."""
    done = run_program(home, code, **popen)
    assert done.returncode == 0, done.stderr.decode()
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def run_program(home: Path, code: str, *flags: str, **popen: Any) -> subprocess.CompletedProcess[bytes]:
    popen.setdefault("env", environment(home))
    python = popen.pop("python", [sys.executable])
    text = PREAMBLE + textwrap.dedent(code)
    return subprocess.run([*python, *flags, "-c", text], capture_output=True, timeout=60, **popen)


def near(claimed: float, truth: float, more: float = 0.02) -> None:
    assert claimed == pytest.approx(truth, rel=0.01, abs=more), f"{claimed} of {truth} s"
