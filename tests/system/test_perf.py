"""Runs that perf counts: every process told, whatever becomes of CPUs, rings and the tracker on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compiled import NO_COMPILER, Programs
from proctally.kernel import perf
from proctally.kernel.child import libc
from proctally.kernel.perf import Events, Refused, Unavailable
from proctally.record import read
from tracked import (
    PATIENCE,
    PROCTALLY,
    PYTHON,
    Done,
    User,
    environment,
    record,
    records,
    run,
    samples,
    state,
    until,
    whole,
)
from truth import available, cpu_truth

SLACK_SECONDS = 0.02
RINGS = ("--commands", "on")  # by themselves with few CPUs only
NO_TRUTH = available()


def no_perf() -> str | None:
    """None, or in one line why there are no counters here."""
    try:
        os.close(Events(libc()).open(0, -1, perf.OURS))
    except (Unavailable, Refused) as reason:
        return f"no perf: {reason}"
    return None


NO_PERF = no_perf() or NO_COMPILER
pytestmark = pytest.mark.skipif(NO_PERF is not None, reason=str(NO_PERF))


def right(total: float, used: float, stolen: float = 0.0, processes: int = 1) -> bool:
    """Within 1 % and 20 ms; perf has up to 1 ms less of each process more, whose memory is given back uncounted."""
    least = 0.99 * used - SLACK_SECONDS - 0.001 * (processes - 1)
    return least <= total <= 1.01 * used + SLACK_SECONDS + stolen


def commands(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {command["command"]: command for command in summary["commands"]}


def command_seconds(summary: dict[str, Any]) -> float:
    return sum(command["cpu_seconds"] for command in summary["commands"])


def ran(done: Done, status: int = 0) -> dict[str, Any]:
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.status == status, done.stderr.decode()
    return done.summary()


def forks(done: Done) -> tuple[int, float]:
    """How many processes the program says there were, and their CPU seconds."""
    count, seconds = done.stdout.split()
    return int(count), float(seconds)


def all_or_said(summary: dict[str, Any], count: int) -> None:
    """Every process was told, or it is said that some were not; none was invented."""
    started, coverage = summary["processes"]["started"], summary["processes"]["coverage"]
    assert started == count if coverage == "complete" else started <= count, f"{started} of {count}: {coverage}"


# -- jobs that end before they are looked at -------------------------------------------------------------------------

AT_ONCE = [(["true"], "true", 0, "ok"), (["sh", "-c", "exit 3"], "sh", 3, "failed")]


def test_a_job_that_ends_at_once(tmp_path: Path) -> None:
    for number in range(30):
        words, name, status, verdict = AT_ONCE[number % 2]
        done = run(tmp_path / str(number), "-q", *RINGS, "--", *words)
        assert (done.stdout, done.stderr) == (b"", b"")
        summary = ran(done, status)
        assert (summary["verdict"], summary["exit_code"], summary["signal"]) == (verdict, status, None)
        assert 0 < summary["cpu"]["total_seconds"] < 0.1
        assert summary["cpu"]["sources"]["perf"] > 0
        processes = summary["processes"]
        assert (processes["started"], processes["peak"], processes["left"]) == (1, 1, 0)
        assert (processes["source"], processes["coverage"]) == ("perf", "complete")
        (command,) = summary["commands"]
        assert (command["command"], command["processes"]) == (name, 1)
        assert 0 < command["cpu_seconds"] <= summary["cpu"]["total_seconds"] + 0.001


# -- commands against the counter ------------------------------------------------------------------------------------

MANY = """
import os, sys, time
for _ in range(300):
    os.waitpid(os.posix_spawn(sys.argv[1], [sys.argv[1], "0.005"], os.environ), 0)
print(time.process_time())
"""


def test_commands_sum_up_to_the_counter(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    done = run(tmp_path, "-q", *RINGS, "--", *PYTHON, "-c", MANY, programs.burn)
    summary = ran(done)
    own = float(done.stdout)
    told = commands(summary)
    parent = os.path.basename(PYTHON[0])[:15]
    assert {name: command["processes"] for name, command in told.items()} == {"burn": 300, parent: 1}
    assert (summary["processes"]["started"], summary["processes"]["coverage"]) == (301, "complete")
    assert command_seconds(summary) == pytest.approx(summary["cpu"]["sources"]["perf"], rel=0.01)
    assert 300 * 0.005 * 0.99 <= told["burn"]["cpu_seconds"] <= 300 * 0.008 + stolen()
    assert right(told[parent]["cpu_seconds"], own, stolen())
    # perf stops before the memory of a process is given back, wait4 does not
    assert 300 * 0.005 + own - SLACK_SECONDS <= summary["cpu"]["total_seconds"] <= 300 * 0.008 + own + stolen()


def test_who_never_calls_exec_is_of_its_parents_command(
    tmp_path: Path, programs: Programs, stolen: Callable[[], float]
) -> None:
    done = run(tmp_path, "-q", *RINGS, "--", "sh", "-c", f"{programs.forks} 2 30 60 0.01")
    count, used = forks(done)
    assert count == 1 + 2 + 2 * 30
    summary = ran(done)
    told = commands(summary)
    assert told["forks"]["processes"] in (count, count + 1)  # a shell may start its last command by a fork
    assert summary["processes"]["started"] == sum(command["processes"] for command in told.values())
    assert right(told["forks"]["cpu_seconds"], used, stolen(), count)
    assert right(summary["cpu"]["total_seconds"], used, stolen(), count)


THREADS = """
import threading, time, zlib
buffer = bytes(1 << 20)
def work():
    while time.thread_time() < 0.2:
        zlib.crc32(buffer)
workers = [threading.Thread(target=work) for _ in range(4)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(time.process_time())
"""


def test_threads_are_folded_into_their_process(tmp_path: Path, stolen: Callable[[], float]) -> None:
    done = run(tmp_path, "-q", *RINGS, "--", *PYTHON, "-c", THREADS)
    summary = ran(done)
    (command,) = summary["commands"]
    assert (command["processes"], summary["processes"]["started"]) == (1, 1)
    assert summary["processes"]["coverage"] == "complete"
    used = float(done.stdout)
    assert used >= 0.8
    assert right(command["cpu_seconds"], used, stolen())
    assert right(summary["cpu"]["total_seconds"], used, stolen())


# -- a ring that is not read in time ---------------------------------------------------------------------------------


def test_a_tracker_that_is_stopped(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    """It sleeps while the job makes more processes than rings can hold: they are lost, their CPU time is not."""
    script = f"echo $$; read go; exec {programs.forks} 2 10000 60 0"
    tracker = subprocess.Popen(
        [*PROCTALLY, "run", "-v", *RINGS, "--", "sh", "-c", script],
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert tracker.stdout is not None and tracker.stdin is not None
        job = int(tracker.stdout.readline())
        until(lambda: records(tmp_path) and samples(records(tmp_path)[0]), "it tracks")
        os.kill(tracker.pid, signal.SIGSTOP)
        until(lambda: state(tracker.pid) == "T", "the tracker stands still")
        tracker.stdin.write(b"\n")
        tracker.stdin.close()
        tracker.stdin = None
        until(lambda: state(job) == "Z", "the job has ended")
    finally:
        os.kill(tracker.pid, signal.SIGCONT)
        stdout, stderr = tracker.communicate(timeout=PATIENCE)
    assert tracker.returncode == 0
    assert b"Traceback" not in stderr and b"fault of its own" not in stderr
    count, used = map(float, stdout.split())
    summary = whole(record(tmp_path))
    assert right(summary["cpu"]["total_seconds"], used, stolen())
    assert summary["cpu"]["coverage"] == "complete"
    coverage = summary["processes"]["coverage"]
    text = " ".join(stderr.decode().split())
    if "does not say" in coverage:  # a kernel before 6.0
        return
    assert coverage.startswith("all but what ") and coverage.endswith(" lost records of perf would have told")
    lost = int(coverage.split()[3])
    assert 0 < lost <= 3 * count + 2, "FORK, EXIT and READ of each"
    assert coverage in text
    started = summary["processes"]["started"]
    assert 0 < started < count
    assert started + lost >= count
    assert command_seconds(summary) == pytest.approx(summary["cpu"]["sources"]["perf"], rel=0.01, abs=0.001)


GARBAGE = """
import sys
from proctally import cli
from proctally.kernel import perf

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
    assert summary["processes"]["coverage"].startswith("all but ")
    assert summary["processes"]["coverage"] in " ".join(done.stderr.decode().split())


# A ring of ends of four pages, and rings of CPUs that hold everything: nobody else has the former read in time.
SMALL = """
import sys
from proctally import cli
from proctally.kernel import perf

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

import proctally.watch
proctally.watch.Events = Events
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
from proctally.kernel import perf

true = perf.decode

def decode(data, records):
    at = len(records)
    good = true(data, records)
    records[at:] = [record for record in records[at:] if record[1] != perf.RECORD_READ]
    return good

perf.decode = decode
from proctally.cli import main
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
    said = "all but the CPU time of single processes, which this kernel does not tell: commands have it as sampled"
    assert processes["coverage"].startswith(said)


# -- CPUs that come and go -------------------------------------------------------------------------------------------
# The whole machine has one CPU less meanwhile: whatever else is tested on it at that moment may fail.

SECOND = Path("/sys/devices/system/cpu/cpu1/online")


class Second:
    """The second CPU."""

    def plug(self) -> None:
        SECOND.write_text("1")

    def unplug(self) -> None:
        SECOND.write_text("0")


@pytest.fixture
def second() -> Iterator[Second]:
    """It is there again when the test has ended, however it ended."""
    if os.cpu_count() != 2 or not os.access(SECOND, os.W_OK) or SECOND.read_text() != "1\n":
        pytest.skip("needs a second CPU, the last one, that may be unplugged")
    cpu = Second()
    try:
        cpu.unplug()
        cpu.plug()
    except OSError as error:
        pytest.skip(f"the second CPU cannot be unplugged: {error.strerror}")
    try:
        yield cpu
    finally:
        cpu.plug()


def hot(
    tmp_path: Path, programs: Programs, *steps: Callable[[], None], commands: str = "on"
) -> tuple[dict[str, Any], int, float]:
    """A run of 1.5 s that forks on both CPUs, with these steps on its way: summary, processes, their CPU seconds."""

    def go() -> None:
        for step in steps:
            time.sleep(0.5)
            step()

    other = threading.Thread(target=go)
    other.start()
    try:
        done = run(
            tmp_path, "-v", "-i", "0.2", "--commands", commands, "--", programs.forks, "2", "100000", "1.5", "0.002"
        )
    finally:
        other.join()
    return ran(done), *forks(done)


@pytest.mark.slow
def test_one_cpu_is_left(second: Second, tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    second.unplug()
    done = run(tmp_path, "-v", *RINGS, "--", programs.forks, "2", "50", "60", "0.002")
    count, used = forks(done)
    summary = ran(done)
    assert right(summary["cpu"]["total_seconds"], used, stolen(), count)
    assert (summary["processes"]["started"], summary["processes"]["coverage"]) == (count, "complete")


@pytest.mark.slow
def test_a_cpu_comes(second: Second, tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    """What is forked on it is told by no ring that was opened before."""
    second.unplug()
    summary, count, used = hot(tmp_path, programs, second.plug)
    assert right(summary["cpu"]["total_seconds"], used, stolen(), count)
    all_or_said(summary, count)


@pytest.mark.slow
def test_a_cpu_goes(second: Second, tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    summary, count, used = hot(tmp_path, programs, second.unplug)
    assert right(summary["cpu"]["total_seconds"], used, stolen(), count)
    all_or_said(summary, count)


@pytest.mark.slow
def test_a_cpu_goes_and_comes_back(
    second: Second, tmp_path: Path, programs: Programs, stolen: Callable[[], float]
) -> None:
    summary, count, used = hot(tmp_path, programs, second.unplug, second.plug)
    assert right(summary["cpu"]["total_seconds"], used, stolen(), count)
    all_or_said(summary, count)


@pytest.mark.slow
def test_a_cpu_comes_and_goes_without_rings(
    second: Second, tmp_path: Path, programs: Programs, stolen: Callable[[], float]
) -> None:
    second.unplug()
    summary, count, used = hot(tmp_path, programs, second.plug, second.unplug, commands="off")
    assert right(summary["cpu"]["total_seconds"], used, stolen(), count)
    assert right(summary["cpu"]["sources"]["perf"], used, stolen(), count)
    assert summary["processes"]["started"] <= count


# -- attach ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(NO_TRUTH is not None, reason=str(NO_TRUTH))
@pytest.mark.parametrize("repeat", range(3))
def test_attach_counts_what_is_made_meanwhile_once(
    tmp_path: Path, programs: Programs, stolen: Callable[[], float], repeat: int
) -> None:
    """Threads and children come and go while the counters are opened and ever after; nobody waits for the children."""
    output = tmp_path / "record.jsonl"
    with cpu_truth() as truth:
        job = subprocess.Popen(truth.enter_argv([programs.churn, "2"]))
        try:
            until(lambda: truth.cpu_seconds() > 0.1, "it works")
            before = truth.cpu_seconds()
            words = [*PROCTALLY, "attach", "-v", "--source", "perf", "-i", "0.2", "-o", str(output), str(job.pid)]
            tracker = subprocess.Popen(words, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            until(lambda: output.exists() and samples(list(read(str(output)))), "it has attached")
            after = truth.cpu_seconds()
            assert job.wait(PATIENCE) == 0
        finally:
            job.kill()
            job.wait()
            stdout, stderr = tracker.communicate(timeout=PATIENCE)
        until(lambda: not truth.pids(), "its last children have ended")
        used = truth.cpu_seconds()
    assert (tracker.returncode, stdout) == (0, b""), stderr.decode()
    assert b"Traceback" not in stderr
    summary = whole(list(read(str(output))))
    ended = 2 / 0.015 + 2 / 0.024  # processes
    assert used - after > 0.3
    least, most = used - after, used - before
    for counted in (summary["cpu"]["sources"]["perf"], summary["cpu"]["total_seconds"]):
        assert 0.99 * least - SLACK_SECONDS - 0.001 * ended <= counted <= 1.01 * most + SLACK_SECONDS + stolen()
    assert summary["cpu"]["source"] == "perf"
    assert summary["cpu"]["coverage"].startswith("since the attach, all but the last moments")


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
    assert summary["cpu"]["total_seconds"] > 0.2


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
