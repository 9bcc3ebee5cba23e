"""Signals that are sent to `proctally run`: each reaches the job once, and none that the job sent comes back to it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proctally.record.reader import read
from tracked import (
    PATIENCE,
    PROCTALLY,
    Puppet,
    environment,
    of_type,
    parent,
    record,
    records,
    samples,
    state,
    until,
    whole,
)

FORWARDED = ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT", "SIGQUIT", "SIGCONT"]


def send(puppet: Puppet, name: str) -> None:
    os.kill(puppet.tracker, getattr(signal, name))


@pytest.mark.parametrize("name", FORWARDED)
def test_signal_reaches_the_job_once(tmp_path: Path, name: str) -> None:
    with Puppet(tmp_path, reports=(name,)) as puppet:
        send(puppet, name)
        puppet.await_signal(name)
        puppet.settle()
        assert puppet.signals[name] == 1
        assert puppet.exit(7) == 7
        assert puppet.stderr() == b""
    assert whole(record(tmp_path))["exit_code"] == 7


def test_signals_that_come_before_the_job_can_take_them_are_not_lost(tmp_path: Path) -> None:
    """From its very start the tracker holds signals back until there is a job."""
    waiting, go = os.pipe()
    process = subprocess.Popen(
        [*PROCTALLY, "run", "-q", "--", "sh", "-c", 'trap "exit 9" TERM; read line'],
        env=environment(tmp_path),
        stdin=waiting,
    )
    os.close(waiting)
    status = Path(f"/proc/{process.pid}/status")
    bit = 1 << (signal.SIGTERM - 1)

    def held_back() -> bool:
        line = next(line for line in status.read_text().splitlines() if line.startswith("SigBlk:"))
        return bool(int(line.split()[1], 16) & bit)

    until(held_back, "the tracker blocks SIGTERM")
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(PATIENCE) in (9, 143), "the trap, or what comes before the trap is set"
    finally:
        os.close(go)


def test_trap_of_a_shell_decides_the_exit_status(tmp_path: Path) -> None:
    script = 'trap "echo trapped; exit 9" TERM; echo ready; while :; do sleep 0.05; done'
    process = subprocess.Popen(
        [*PROCTALLY, "run", "--", "sh", "-c", script],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (9, b"trapped\n")
    assert re.match(rb"proctally sh  failed  [0-9.]+ s: exit status 9\n", stderr)
    assert whole(record(tmp_path))["exit_code"] == 9


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT", "SIGQUIT"])
def test_job_that_a_signal_ends(tmp_path: Path, name: str) -> None:
    with Puppet(tmp_path, cwd=tmp_path) as puppet:
        puppet.do("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))")
        puppet.do(f"signal.signal(signal.{name}, signal.SIG_DFL)")
        send(puppet, name)
        assert puppet.wait() == 128 + getattr(signal, name)
        assert puppet.stderr() == b""
    summary = whole(record(tmp_path))
    assert (summary["verdict"], summary["signal"]) == ("killed", getattr(signal, name))


def test_job_that_ignores_a_signal_goes_on(tmp_path: Path) -> None:
    with Puppet(tmp_path) as puppet:
        puppet.do("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
        for _ in range(3):
            send(puppet, "SIGTERM")
            puppet.settle()
        assert puppet.ask("os.getppid()") == str(puppet.tracker)
        assert puppet.exit(5) == 5
    assert whole(record(tmp_path))["verdict"] == "failed"


def test_signals_that_the_tracker_was_started_to_ignore_reach_the_job(tmp_path: Path) -> None:
    """The caller's dispositions are for the job, which sets its own; the tracker still passes on."""
    with Puppet(
        tmp_path, reports=("SIGHUP",), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ) as puppet:
        send(puppet, "SIGHUP")
        puppet.await_signal("SIGHUP")
        assert puppet.exit(0) == 0


# The sender is there, at least as a zombie, until the tracker has asked who it is: one that was reaped is nobody's.
SENDERS = {
    "job": "os.kill(os.getppid(), signal.{name})",
    "child": "os.spawnlp(os.P_NOWAIT, 'sh', 'sh', '-c', 'kill -{short} {tracker}')",
    "grandchild": "os.spawnlp(os.P_NOWAIT, 'sh', 'sh', '-c', 'sh -c \"kill -{short} {tracker}\" & exec sleep 60')",
}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_signal_from_within_the_tree_does_not_come_back(tmp_path: Path, name: str, sender: str) -> None:
    with Puppet(tmp_path, reports=(name,)) as puppet:
        short = name.removeprefix("SIG")
        puppet.do("sent = " + SENDERS[sender].format(name=name, short=short, tracker=puppet.tracker))
        if sender == "child":
            until(lambda: state(int(puppet.ask("sent"))) == "Z", "the child has sent it")
        if sender == "grandchild":
            until(lambda: _has_zombie(int(puppet.ask("sent"))), "the grandchild has sent it")
        puppet.settle()
        assert puppet.signals[name] == 0
        if sender == "grandchild":
            puppet.do("os.kill(sent, signal.SIGKILL)")
        assert puppet.exit(4) == 4


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_signal_from_an_orphan_does_not_come_back(tmp_path: Path, seen: bool) -> None:
    """Also when the sampler has not looked since the orphan came to be a child of the tracker."""
    with Puppet(tmp_path, "-i", "0.05" if seen else "3600", reports=("SIGTERM",)) as puppet:
        if not seen:
            puppet.do("time.sleep(0.6)")  # the early looks are over then
        wait = f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
        script = f"({wait}; kill -TERM {puppet.tracker}; touch {tmp_path}/sent; sleep 60; :) >/dev/null & echo $!"
        puppet.do("import subprocess")
        orphan = int(puppet.ask(f"subprocess.run(['sh', '-c', {script!r}], stdout=subprocess.PIPE).stdout.decode()"))
        try:
            until(lambda: parent(orphan) == puppet.tracker, "the orphan is adopted")
            (tmp_path / "go").touch()
            until((tmp_path / "sent").exists, "the orphan has sent it")
            puppet.settle()
            assert puppet.signals["SIGTERM"] == 0
        finally:
            puppet.do(f"subprocess.run(['sh', '-c', 'pkill -P {orphan}; kill -9 {orphan} 2>/dev/null'])")
        assert puppet.exit(0) == 0


def test_kill_of_the_whole_group_by_the_job_reaches_it_once(tmp_path: Path) -> None:
    with Puppet(tmp_path, reports=("SIGUSR1",)) as puppet:
        puppet.do("os.kill(0, signal.SIGUSR1)")
        puppet.settle()
        assert puppet.signals["SIGUSR1"] == 1
        assert puppet.exit(0) == 0


def test_signal_of_one_outside_while_the_job_sends_its_own(tmp_path: Path) -> None:
    """What the job sends to the tracker must not hide what somebody else sends."""
    with Puppet(tmp_path, reports=("SIGTERM", "SIGHUP")) as puppet:
        puppet.do("os.kill(os.getppid(), signal.SIGTERM)")
        send(puppet, "SIGHUP")
        puppet.await_signal("SIGHUP")
        puppet.settle()
        send(puppet, "SIGTERM")
        puppet.await_signal("SIGTERM")
        puppet.settle()
        assert puppet.signals["SIGTERM"] == 1
        assert puppet.exit(0) == 0


def test_tracker_alone_is_stopped_and_continued_with_its_job(tmp_path: Path) -> None:
    """SIGTSTP to the tracker goes to the job, with which it stops; SIGCONT to the tracker continues both."""
    with Puppet(tmp_path) as puppet:
        send(puppet, "SIGTSTP")
        until(lambda: state(puppet.job) == "T", "the job is stopped")
        until(lambda: state(puppet.tracker) == "T", "the tracker is stopped")
        send(puppet, "SIGCONT")
        until(lambda: state(puppet.job) != "T", "the job goes on")
        puppet.settle()
        assert puppet.exit(3) == 3


def test_job_stopped_by_another_alone_does_not_stop_the_tracker(tmp_path: Path) -> None:
    with Puppet(tmp_path, "-i", "0.05") as puppet:
        os.kill(puppet.job, signal.SIGSTOP)
        until(lambda: state(puppet.job) == "T", "the job is stopped")
        path = next((tmp_path / "runs").iterdir())
        before = len(list(read(str(path))))
        until(lambda: len(list(read(str(path)))) > before + 2, "samples go on")
        assert state(puppet.tracker) != "T"
        os.kill(puppet.job, signal.SIGCONT)
        assert puppet.exit(3) == 3


def test_job_stopped_while_the_tracker_is_asked_to_end(tmp_path: Path) -> None:
    """SIGTERM for a stopped job waits with the job, as without a tracker."""
    with Puppet(tmp_path, reports=("SIGTERM",)) as puppet:
        os.kill(puppet.job, signal.SIGSTOP)
        until(lambda: state(puppet.job) == "T", "the job is stopped")
        send(puppet, "SIGTERM")
        os.kill(puppet.job, signal.SIGCONT)
        puppet.await_signal("SIGTERM")
        puppet.settle()
        assert puppet.signals["SIGTERM"] == 1
        assert puppet.exit(0) == 0


def test_killed_tracker_leaves_the_job_running_and_a_record(tmp_path: Path) -> None:
    with Puppet(tmp_path, "-i", "0.05") as puppet:
        path = next((tmp_path / "runs").iterdir())
        until(lambda: len(samples(list(read(str(path))))) >= 3, "three samples are written")
        puppet.process.kill()
        assert puppet.wait() == -signal.SIGKILL
        assert puppet.ask("6 * 7") == "42"
        assert int(puppet.ask("os.getppid()")) != puppet.tracker
        puppet.tell(f"open({str(tmp_path / 'ended')!r}, 'w').close(); os._exit(0)")
        until((tmp_path / "ended").exists, "the job came to its own end")
    (lines,) = records(tmp_path)
    assert lines[0]["type"] == "run"
    assert lines[-1]["type"] in ("sample", "host"), "no summary"
    assert len(samples(lines)) >= 3
    assert not of_type(lines, "summary")
    assert path.read_bytes().endswith(b"\n")


def test_tracker_killed_before_the_job_began_does_not_leave_it_waiting(tmp_path: Path) -> None:
    """Whatever the moment, the process that was to become the job does not wait for ever."""
    for delay in range(0, 60, 6):
        process = subprocess.Popen(
            [*PROCTALLY, "run", "-q", "--", "true"], env=environment(tmp_path), start_new_session=True
        )
        try:
            process.wait(delay / 1000)
        except subprocess.TimeoutExpired:
            pass
        process.kill()
        process.wait()
        until(_session_is_empty(process.pid), "nobody is left in its session")


# -- who is where ----------------------------------------------------------------------------------------------------


def _stats() -> list[list[str]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.append([path.parent.name, *path.read_bytes().rpartition(b")")[2].decode().split()])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def _session_is_empty(session: int) -> Callable[[], bool]:
    return lambda: not any(fields[4] == str(session) and fields[1] != "Z" for fields in _stats())


def _has_zombie(pid: int) -> bool:
    """Whether a child of this process has ended and is not reaped."""
    return any(fields[2] == str(pid) and fields[1] == "Z" for fields in _stats())


ATTEND = """
import os, sys, time
from proctally.cli.main import main
from proctally.linux.disks import DiskReader
from proctally.linux.net import NetReader
from proctally.linux.child import SIGTERM

folder, *words = sys.argv[1:]
read_disks, read_net = DiskReader.read, NetReader.read

def await_file(name):
    deadline = time.monotonic() + 20
    while not os.path.exists(f"{folder}/{name}"):
        if time.monotonic() > deadline: return False
        time.sleep(0.005)
    return True

def disks(self, end_ns):
    open(f"{folder}/reads", "w").close()
    await_file("sent")
    return read_disks(self, end_ns)

def net(self, end_ns):
    said = "in time" if await_file("got") else "late"
    with open(f"{folder}/said", "w") as file: file.write(said)
    return read_net(self, end_ns)

DiskReader.read, NetReader.read = disks, net
sys.exit(main(words))
"""


def test_signal_is_forwarded_while_a_sample_is_taken(tmp_path: Path) -> None:
    """One beside thousands of disks takes tens of milliseconds."""
    script = f"trap 'touch {tmp_path}/got; exit 9' TERM; while :; do sleep 0.05; done"
    words = ["run", "-q", "--no-record", "--", "sh", "-c", script]
    process = subprocess.Popen(
        [sys.executable, "-c", ATTEND, str(tmp_path), *words], env=environment(tmp_path), start_new_session=True
    )
    until((tmp_path / "reads").exists, "it reads the disks")
    process.terminate()
    (tmp_path / "sent").touch()
    assert process.wait(2 * PATIENCE) == 9
    assert (tmp_path / "said").read_text() == "in time"


def test_stop_that_is_continued_at_once_stops_no_tracker(tmp_path: Path) -> None:
    """The continuation comes while the sample before the stop is taken."""
    job = "i=0; while [ $i -lt 10 ]; do sleep .1; i=$((i+1)); done; exit 7"
    words = [*PROCTALLY, "run", "-q", "--no-record", "--", "sh", "-c", job]
    started = [subprocess.Popen(words, env=environment(tmp_path), process_group=0) for _ in range(6)]
    time.sleep(0.6)
    for each in started:
        each.send_signal(signal.SIGTSTP)
        time.sleep(0.001)
        each.send_signal(signal.SIGCONT)
    try:
        assert [each.wait(20) for each in started] == [7] * len(started)
    finally:
        for each in started:
            each.kill()
            each.send_signal(signal.SIGCONT)
