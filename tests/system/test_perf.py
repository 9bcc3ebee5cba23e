"""CPU time and commands of runs that perf counts, also while CPUs come and go."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compiled import Programs
from counted_jobs import NO_PERF, RINGS, SLACK_SECONDS, commands, forks, ran, right
from proctally.record.reader import read
from tracked import (
    PATIENCE,
    PROCTALLY,
    PYTHON,
    environment,
    gaps,
    record,
    records,
    run,
    samples,
    state,
    until,
    whole,
)
from truth import available, cpu_truth

NO_TRUTH = available()
pytestmark = pytest.mark.skipif(NO_PERF is not None, reason=str(NO_PERF))


def command_seconds(summary: dict[str, Any]) -> float:
    return sum(command["cpu_seconds"] for command in summary["commands"])


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


def test_exits_do_not_wake_the_tracker(tmp_path: Path, cpu_jobs: str) -> None:
    """Each exit wakes whoever polls a ring, within the kernel: that took more CPU time than all else."""
    script = f"{cpu_jobs} forks 5000 0; grep ^voluntary /proc/$PPID/status"
    done = run(tmp_path, "-q", *RINGS, "--", "sh", "-c", script)
    summary = ran(done, 0)
    assert summary["processes"]["started"] == 5003
    assert int(done.stdout.split()[-1]) < 500


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
    found = gaps(summary, "processes")
    if "lost_unknown" in found:  # a kernel before 6.0
        return
    lost = found["lost_records"]["count"]
    assert 0 < lost <= 3 * count + 2, "FORK, EXIT and READ of each"
    started = summary["processes"]["started"]
    assert 0 < started < count
    assert started + lost >= count
    ends = sum(command["teardown_seconds"] for command in summary["commands"])
    assert command_seconds(summary) + ends == pytest.approx(summary["cpu"]["total_seconds"], rel=0.01, abs=0.001)
    assert summary["commands"][-1]["unlisted"] is True


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
    assert gaps(summary, "cpu").keys() <= {"last_moments", "attach_threads", "orphans_unseen", "split_unknown"}
    assert gaps(summary, "cpu")["last_moments"]["high_seconds"] >= 0.02
