"""perf of one tree, attached and without rings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compiled import Programs
from counted_jobs import NO_PERF, RINGS, commands, forks, ran, right
from proctally.record.reader import read
from tracked import (
    PATIENCE,
    PYTHON,
    Done,
    User,
    environment,
    gaps,
    whole,
)

pytestmark = pytest.mark.skipif(NO_PERF is not None, reason=str(NO_PERF))


# -- a ring that is not read in time ---------------------------------------------------------------------------------


GARBAGE = """
import sys
from proctally.cli import main as cli
from proctally.linux import perf

true = perf.Ring.take
taken = []

def take(ring):
    data = true(ring)
    if data:
        taken.append(len(data))
    return bytes(64) + data if len(taken) == 1 else data

perf.Ring.take = take
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_ring_with_garbage(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    """What follows it in one reading cannot be made out, and is lost."""
    words = [sys.executable, "-c", GARBAGE, "run", "-v", *RINGS, "--", programs.forks, "1", "20", "60", "0.01"]
    done = Done(tmp_path, subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=PATIENCE))
    summary = ran(done)
    count, used = forks(done)
    assert right(summary["cpu"]["total_seconds"], used, stolen(), count)
    assert gaps(summary, "processes")["buffers_unreadable"]["count"] >= 1


# A ring of ends of four pages, and rings of CPUs that hold everything: nobody else has the former read in time.
SMALL = """
import sys
from proctally.cli import main as cli
from proctally.linux import perf

SMALL = 16384
anywhere = set()

class Events(perf.Events):
    def open(self, pid, cpu, flags, **more):
        if cpu == -1 and more.get("watermark"):
            more["watermark"] = SMALL // 2
        fd = super().open(pid, cpu, flags, **more)
        if cpu == -1:
            anywhere.add(fd)
        return fd

class Ring(perf.Ring):
    def __init__(self, fd, size):
        super().__init__(fd, SMALL if fd in anywhere else size)

import proctally.tree.perf_source
proctally.tree.perf_source.Events = Events
perf.Ring = Ring
sys.exit(cli.main(sys.argv[1:]))
"""


def test_small_rings_are_read_in_time_after_the_roots_end(tmp_path: Path) -> None:
    """What it leaves forks on: 1,000 ends take more than twice the room that there is."""
    code = "import os, time\nfor _ in range(1000):\n    os.fork() or os._exit(0)\n    os.wait()\n    time.sleep(0.001)"
    job = ["sh", "-c", '"$@" & exit 0', "sh", *PYTHON, "-c", code]
    words = [sys.executable, "-c", SMALL, "run", "-q", "-i", "30", *RINGS, "--wait-all", "--", *job]
    done = Done(tmp_path, subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=PATIENCE))
    processes = ran(done)["processes"]
    assert (processes["started"], processes["coverage"]) == (1002, "complete")


# -- a kernel that does not tell the time of single processes --------------------------------------------------------


TELLS_NO_TIME = """
import sys
from proctally.linux import perf

true = perf.decode

def decode(data, records):
    at = len(records)
    good = true(data, records)
    records[at:] = [record for record in records[at:] if record[1] != perf.RECORD_READ]
    return good

perf.decode = decode
from proctally.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_kernel_that_tells_no_time_of_single_processes(
    tmp_path: Path, programs: Programs, stolen: Callable[[], float]
) -> None:
    """What is made after the last early look, and before the first interval is over, nobody has seen."""
    script = f"{programs.burn} 0.6; env true; env true; exit 0"
    words = [sys.executable, "-c", TELLS_NO_TIME, "run", "-v", "-i", "30", *RINGS, "--", "sh", "-c", script]
    done = Done(tmp_path, subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=PATIENCE))
    summary = ran(done)
    told = commands(summary)
    assert {name: command["processes"] for name, command in told.items()} == {"sh": 1, "burn": 1, "true": 2}
    assert told["true"]["cpu_seconds"] is None
    assert 0.05 < told["burn"]["cpu_seconds"] <= 0.61
    assert told["sh"]["cpu_seconds"] < 0.1, "it has nothing that is not its own"
    assert {command["teardown_seconds"] for command in told.values()} == {None}
    assert right(summary["cpu"]["total_seconds"], 0.6, stolen(), 4)
    assert summary["cpu"]["coverage"] == "complete"
    processes = summary["processes"]
    assert (processes["started"], processes["source"]) == (4, "perf")
    assert "command_time_sampled" in gaps(summary, "processes")


# -- attach ----------------------------------------------------------------------------------------------------------


def test_attach_to_an_own_process(user: User, programs: Programs, stolen: Callable[[], float]) -> None:
    output = user.folder / "own.jsonl"
    job = subprocess.Popen([programs.burn, "60"], preexec_fn=user.become)
    try:
        done = user.call("attach", "-v", "--source", "perf", "--duration", "0.5", "-o", str(output), str(job.pid))
    finally:
        job.kill()
        job.wait()
    if done.status and "perf_event_paranoid" in done.stderr.decode():
        pytest.skip(done.stderr.decode().strip())
    assert (done.status, done.stdout) == (0, b""), done.stderr.decode()
    summary = whole(list(read(str(output))))
    assert right(summary["cpu"]["sources"]["perf"], summary["cpu"]["sources"]["procfs"], stolen())
    assert summary["cpu"]["total_seconds"] > 0.02


@pytest.fixture
def foreign(user: User, programs: Programs) -> Iterator[int]:
    """A process that is not the user's."""
    if user.number is None:
        pytest.skip("only root has a process of another user to show")
    job = subprocess.Popen([programs.burn, "60"])
    yield job.pid
    job.kill()
    job.wait()


def test_attach_to_a_process_of_somebody_else_is_refused_by_perf(user: User, foreign: int) -> None:
    done = user.call("attach", "--source", "perf", "--duration", "0.3", str(foreign))
    assert (done.status, done.stdout) == (1, b"")
    line = done.stderr.decode()
    assert line.startswith("proctally: --source perf: ") and line.count("\n") == 1
    assert "CAP_PERFMON" in line


def test_attach_to_a_process_of_somebody_else_says_why_perf_is_missing(user: User, foreign: int) -> None:
    output = user.folder / "foreign.jsonl"
    done = user.call("attach", "-v", "--duration", "0.3", "-o", str(output), str(foreign))
    assert (done.status, done.stdout) == (0, b"")
    said = " ".join(done.stderr.decode().split())
    assert "by procfs" in said
    assert "no perf: " in said and "CAP_PERFMON" in said
