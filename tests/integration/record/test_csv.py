"""CSV rows of a real tree on this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from csv_rows import PROCESS, table
from proctally.host.derive import derive
from proctally.linux.machine import Machine
from proctally.linux.system import SystemReader
from proctally.tree.sampler import TreeSampler
from tracked import PYTHON

# -- the CPU, from ticks to the column ---------------------------------------------------------------------------


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """One that is busy, with two children that are not."""
    busy = "import os\nfor _ in '12': os.fork() or (os.read(0, 1), os._exit(0))\nprint(flush=True)\nwhile True: pass"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # with the first the children end
    with subprocess.Popen([*PYTHON, "-c", busy], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_real_tree_and_this_machine(child: subprocess.Popen[bytes]) -> None:
    machine = Machine()
    reader, sampler = SystemReader(machine), TreeSampler(machine)
    sampler.attach(child.pid, os.getpid())
    assert child.pid in sampler.members
    lines = []
    before = None
    for _ in range(2):
        line, now = sampler.sample(), reader.read()
        lines.append(line | {"system": derive(before, now), "gpus": []})
        before = now
        time.sleep(0.2)
    first, second = table(*lines, pid=child.pid)
    for row in (first, second):
        unknown = set() if os.path.exists("/proc/self/io") else {name for name in PROCESS if "disk" in name}
        assert {name for name in PROCESS if row[name] == ""} == unknown
        assert row["process_pid"] == str(child.pid)
        assert row["process_children"] == "2"
        assert int(row["system_processes"]) > 0
        assert int(row["process_memory_mib"]) > 0
    assert lines[0]["tree"]["rss_bytes"] > 0
    assert first["process_cpu_usage"] == first["process_utime"] == first["process_stime"] == "0.0000"
    assert first["system_cpu_usage"] == "0.0000"
    assert float(second["process_cpu_usage"]) > 0
    for row in table(*lines, kind="system"):
        assert {row[name] for name in PROCESS} == {""}
