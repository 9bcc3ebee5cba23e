"""Every signal, sent to `run`, `attach` and `system`: one table of what each of them does then."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from places import ROOT, SUPPORT
from tracked import (
    PATIENCE,
    PROCTALLY,
    PYTHON,
    Lines,
    Puppet,
    call,
    environment,
    reason,
    record,
    runs,
    state,
    target,
    until,
    whole,
)

sys.path.append(str(ROOT / "bench"))

from kills import in_parallel, killed  # noqa: E402

ALL = range(1, signal.NSIG)
UNCATCHABLE = {signal.SIGKILL, signal.SIGSTOP}
INTERNAL = {32, 33}  # of the C library, which lets no program of its own block them
STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}

TO_JOB = [number for number in ALL if number not in UNCATCHABLE | INTERNAL]
ENDING = [number for number in ALL if number not in UNCATCHABLE | STOPS | HARMLESS | IGNORED_BY_PYTHON]
SI_USER, SI_QUEUE = 0, -1

libc = ctypes.CDLL(None, use_errno=True)


def queue(pid: int, number: int, value: int) -> None:
    """sigqueue(3); waits while no more signals can be pending."""
    until(lambda: libc.sigqueue(pid, number, ctypes.c_void_p(value)) == 0, "there is room for a signal")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    yield from target(["sleep", "60"])


# -- run: everything goes to the job ---------------------------------------------------------------------------------


class Listener:
    """`proctally run` and under it a job that says each signal that it gets: number, code, sender, value."""

    def __init__(self, home: Path, *options: str, setup: str = "", before: Callable[[], None] | None = None) -> None:
        says, write = os.pipe()
        hears, self._go = os.pipe()
        self.lines = Lines(says)
        job = [*PYTHON, str(SUPPORT / "listener.py"), str(write), str(hears), setup]
        self.process = subprocess.Popen(
            [*PROCTALLY, "run", "-q", *options, "--", *job],
            env=environment(home),
            pass_fds=(write, hears),
            preexec_fn=before,
        )
        os.close(write)
        os.close(hears)
        self.tracker = self.process.pid
        assert self.lines.next() == "ready"

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._go)
        self.process.kill()
        self.process.wait()
        os.close(self.lines.fd)

    def go(self) -> None:
        """Let it take what is pending."""
        os.write(self._go, b"x")

    def end(self) -> int:
        """Let it exit with status 7; return the status of the tracker."""
        os.write(self._go, b"x")
        return self.process.wait(PATIENCE)

    def heard(self) -> tuple[int, ...]:
        """Number, code, sender and value of the next signal."""
        return tuple(map(int, self.lines.next().split()))


def test_every_signal_reaches_the_job(tmp_path: Path) -> None:
    with Listener(tmp_path) as job:
        job.go()
        for number in TO_JOB:
            os.kill(job.tracker, number)
            assert job.heard()[:3] == (number, SI_USER, job.tracker)
        assert job.end() == 7
    assert whole(record(tmp_path))["exit_code"] == 7


def test_every_signal_with_a_value_reaches_the_job_with_it(tmp_path: Path) -> None:
    with Listener(tmp_path, "--no-record") as job:
        job.go()
        for number in TO_JOB:
            for value in (number, -number, (1 << 62) + number):
                queue(job.tracker, number, value)
                assert job.heard() == (number, SI_QUEUE, job.tracker, value)


def is_ignored(number: int) -> bool:
    """Return True for what this process and its children ignore: posix_spawn(3) of glibc, as of make, ignores 32."""
    mask = Path("/proc/self/status").read_text().partition("SigIgn:")[2].split()[0]
    return bool(int(mask, 16) >> number - 1 & 1)


@pytest.mark.parametrize(
    "number",
    [
        *(each for each in sorted(INTERNAL) if not is_ignored(each)),
        signal.SIGSEGV,
        signal.SIGALRM,
        signal.SIGRTMIN,
        signal.SIGRTMAX,
    ],
)
def test_signal_that_ends_the_job(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen([*PROCTALLY, "run", "-q", "--", "sleep", "60"], env=environment(tmp_path), cwd=tmp_path)
    until(lambda: list(tmp_path.glob("runs/*")), "the job runs")
    os.kill(process.pid, number)
    assert process.wait(PATIENCE) == 128 + number
    assert whole(record(tmp_path))["signal"] == number


@pytest.mark.parametrize("name", ["SIGTTIN", "SIGTTOU"])
def test_signal_that_stops_the_job_stops_the_tracker(tmp_path: Path, name: str) -> None:
    with Puppet(tmp_path) as puppet:
        os.kill(puppet.tracker, getattr(signal, name))
        until(lambda: state(puppet.job) == "T" and state(puppet.tracker) == "T", "both are stopped")
        os.kill(puppet.tracker, signal.SIGCONT)
        until(lambda: state(puppet.job) != "T", "the job goes on")
        puppet.settle()
        assert puppet.exit(3) == 3


# -- many at once ----------------------------------------------------------------------------------------------------


def test_of_a_flood_no_signal_is_lost(tmp_path: Path) -> None:
    count = 5000
    with Listener(tmp_path, "--no-record") as job:
        job.go()
        for value in range(count):
            queue(job.tracker, signal.SIGRTMIN + 1, value)
        assert [job.heard()[3] for _ in range(count)] == list(range(count))


def test_signals_for_which_the_job_has_no_room_wait_for_it(tmp_path: Path) -> None:
    """Those without a value do not wait behind them: the kernel has room for one of each."""
    count = 300
    setup = "import resource; resource.setrlimit(resource.RLIMIT_SIGPENDING, (20, 20))"
    with Listener(tmp_path, "--no-record", setup=setup) as job:
        for value in range(count):
            queue(job.tracker, signal.SIGRTMIN + 1, value)
        os.kill(job.tracker, signal.SIGTERM)
        bit = 1 << (signal.SIGTERM - 1)
        child = Path(f"/proc/{job.tracker}/task/{job.tracker}/children")
        status = Path(f"/proc/{child.read_text().split()[0]}/status")
        until(lambda: int(status.read_text().partition("ShdPnd:")[2].split()[0], 16) & bit, "SIGTERM waits for the job")
        job.go()
        heard = [job.heard() for _ in range(count + 1)]
        assert heard[0][0] == signal.SIGTERM
        assert [value for number, *_, value in heard if number != signal.SIGTERM] == list(range(count))


def test_flood_from_the_job_itself_does_not_come_back(tmp_path: Path) -> None:
    with Puppet(tmp_path, reports=("SIGRTMIN",)) as puppet:
        puppet.do("for _ in range(3000): os.kill(os.getppid(), signal.SIGRTMIN)")
        puppet.settle()
        assert puppet.signals["SIGRTMIN"] == 0
        assert puppet.exit(0) == 0


def test_many_runs_at_once(tmp_path: Path) -> None:
    assert in_parallel(tmp_path, 40) == []


def test_tracker_that_gets_a_signal_at_any_moment_harms_no_job(tmp_path: Path) -> None:
    seed = time.time_ns()
    assert killed(tmp_path, 30, seed)[0] == [], f"seed {seed}"


# -- timers that exec leaves to us -----------------------------------------------------------------------------------


def test_timers_are_those_of_the_job(tmp_path: Path) -> None:
    """`alarm(2)`, then exec: the timer would end the tracker, which the kernel takes for the program."""

    def before() -> None:
        signal.setitimer(signal.ITIMER_REAL, 1000, 2)
        signal.setitimer(signal.ITIMER_PROF, 3000)

    code = "import signal; print([signal.getitimer(each) for each in range(3)])"
    done = call(tmp_path, "run", "-q", "--", *PYTHON, "-c", code, preexec_fn=before)
    real, virtual, profiling = eval(done.stdout)
    assert (900 < real[0] <= 1000, real[1], virtual, 2900 < profiling[0] <= 3000) == (True, 2, (0, 0), True)
    done = call(
        tmp_path, "run", "-q", "--", "sleep", "60", preexec_fn=lambda: signal.setitimer(signal.ITIMER_REAL, 0.3)
    )
    assert done.status == 128 + signal.SIGALRM


# -- attach and system: they end, with a summary ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["attach", "system"])
def test_every_signal_that_ends_a_program_ends_it_with_a_summary(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], kind: str
) -> None:
    """One interpreter is forked for all of them: to start as many takes seconds."""
    words = [kind, "-q", "--no-gpu", "-i", "3600", *([str(sleeper.pid)] if kind == "attach" else [])]
    many = [sys.executable, str(SUPPORT / "many_trackers.py"), str(tmp_path), ",".join(map(str, ENDING)), *words]
    process = subprocess.Popen(many, env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        for number in ENDING:
            pid = int(process.stdout.readline())
            until(lambda number=number: list(tmp_path.glob(f"{number}/runs/*")), "it tracks")  # type: ignore[misc]
            os.kill(pid, number)
        ended = dict(map(int, line.split()) for line in process.stdout)
    assert ended == dict.fromkeys(ENDING, 0)
    for number in ENDING:
        assert reason(record(tmp_path / str(number))[-1]) == {"code": "stopped", "signal": number}
    assert runs(sleeper.pid)


@pytest.mark.parametrize("kind", ["attach", "system"])
def test_other_signals_do_to_it_what_they_do_to_any_program(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], kind: str
) -> None:
    words = [kind, "-q", "-i", "0.1", *([str(sleeper.pid)] if kind == "attach" else [])]
    process = subprocess.Popen([*PROCTALLY, *words], env=environment(tmp_path), process_group=0)
    until(lambda: list(tmp_path.glob("runs/*")), "it tracks")
    for number in sorted(HARMLESS | IGNORED_BY_PYTHON):
        process.send_signal(number)
    for number in sorted(STOPS):
        process.send_signal(number)
        until(lambda: state(process.pid) == "T", "it is stopped")
        process.send_signal(signal.SIGCONT)
        until(lambda: state(process.pid) != "T", "it goes on")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert reason(record(tmp_path)[-1]) == {"code": "stopped", "signal": signal.SIGTERM}


@pytest.mark.parametrize("kind", ["attach", "system", "serve"])
def test_signal_that_was_blocked_at_the_start_ends_it_without_streams_too(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], kind: str
) -> None:
    """Some who start daemons block every signal and close all descriptors."""
    if kind == "serve":
        pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")

    def before() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.closerange(0, 3)

    words = {"attach": [str(sleeper.pid)], "system": [], "serve": ["--listen", "127.0.0.1:0"]}[kind]
    process = subprocess.Popen([*PROCTALLY, kind, *words], env=environment(tmp_path), preexec_fn=before)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    if kind != "serve":
        assert reason(record(tmp_path)[-1]) == {"code": "stopped", "signal": signal.SIGTERM}


@pytest.mark.parametrize("kind", ["attach", "system"])
def test_signals_that_were_ignored_at_the_start_stay_ignored(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], kind: str
) -> None:
    """What a shell puts into the background ignores Ctrl-C."""

    def before() -> None:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGRTMIN):
            signal.signal(number, signal.SIG_IGN)

    words = [kind, "-q", *([str(sleeper.pid)] if kind == "attach" else [])]
    process = subprocess.Popen([*PROCTALLY, *words], env=environment(tmp_path), preexec_fn=before)
    until(lambda: list(tmp_path.glob("runs/*")), "it tracks")
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGRTMIN, signal.SIGTERM):
        process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    assert reason(record(tmp_path)[-1]) == {"code": "stopped", "signal": signal.SIGTERM}


EARLY = """
import os, signal, sys

class Early:
    def find_spec(self, name, path=None, target=None):
        if name == wanted[0]:
            os.kill(os.getpid(), int(wanted[1]))

wanted = sys.argv[1:3]
del sys.argv[1:3]
sys.meta_path.insert(0, Early())
from proctally.cli import start
start()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("room", ["cli.commands", "tracking"])
@pytest.mark.parametrize("kind", ["attach", "system"])
def test_signal_before_it_is_ready_ends_it_with_a_summary(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], kind: str, room: str, number: int
) -> None:
    """What it tracks with is not loaded yet."""
    words = [kind, *([str(sleeper.pid)] if kind == "attach" else [])]
    code = [sys.executable, "-c", EARLY, f"proctally.{room}.{kind}", str(int(number)), *words]
    done = subprocess.run(code, env=environment(tmp_path), capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0
    assert b"s: stopped by signal " in done.stderr.partition(b"\n")[0]
    assert reason(record(tmp_path)[-1]) == {"code": "stopped", "signal": number}


# -- the other commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["report", "export", "ls", "diff", "advise", "rm", "top", "mark"])
def test_signal_while_modules_are_loaded_ends_it_without_a_word(tmp_path: Path, kind: str, number: int) -> None:
    code = [sys.executable, "-c", EARLY, f"proctally.cli.commands.{kind}", str(int(number)), kind]
    done = subprocess.run(code, env=environment(tmp_path), capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (-number, b"", b"")


def test_ctrl_c_before_it_is_loaded_prints_nothing(tmp_path: Path) -> None:
    code = EARLY.partition("from proctally")[0] + (ROOT / "scripts/proctally").read_text(encoding="utf-8")
    command = [sys.executable, "-c", code, "proctally.cli", str(int(signal.SIGINT)), "ls"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_while_a_file_is_written_leaves_nothing_of_it(tmp_path: Path, number: int) -> None:
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    assert call(tmp_path, "run", "-q", "true").status == 0
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["export", "-f", "parquet", "-o", str(folder / "file"), "last"]
    code = [sys.executable, "-c", EARLY, "proctally.record.parquet", str(int(number)), *words]
    done = subprocess.run(code, env=environment(tmp_path), capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (-number, b"", b"")
    assert list(folder.iterdir()) == []
