"""Trouble of our own never reaches the job: no place for the record, no room, no permission, no system call."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proctally.record.reader import read
from sandbox import refusing, unavailable
from tracked import (
    PATIENCE,
    PROCTALLY,
    PYTHON,
    Done,
    Puppet,
    User,
    environment,
    failing,
    gaps,
    of_type,
    record,
    run,
    samples,
    shell,
    state,
    until,
    whole,
)


def warned(done: Done, status: int, *words: str) -> None:
    """The job's own status, and one line on stderr that names the trouble, although `-q` was given."""
    assert done.status == status
    assert done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr.decode()


# -- no place for the record -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_directory_that_cannot_be_written(user: User, mode: int) -> None:
    home = user.folder / f"home-{mode:o}"
    home.mkdir(mode)
    try:
        env = {**user.environment, "PROCTALLY_HOME": str(home)}
        warned(user.call("run", "-q", "--", "sh", "-c", "exit 3", env=env), 3, str(home))
    finally:
        home.chmod(0o755)  # or nobody can remove it


def test_place_of_the_record_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    warned(shell(tmp_path, "exit 3"), 3, str(tmp_path / "runs"))


def test_place_of_the_record_is_too_long(tmp_path: Path) -> None:
    warned(shell(tmp_path / ("x" * 300), "exit 3"), 3)


def test_no_home_and_no_entry_in_the_passwd_database(user: User) -> None:
    if user.number is None:
        pytest.skip("whoever runs the tests has an entry")
    bare = {name: value for name, value in user.environment.items() if name != "PROCTALLY_HOME"}
    warned(user.call("run", "-q", "--", "sh", "-c", "exit 3", env=bare), 3, "PROCTALLY_HOME")


def test_user_without_a_name(user: User) -> None:
    output = user.folder / "unnamed.jsonl"
    assert user.call("run", "-q", "-o", str(output), "--", "true").status == 0
    if user.number is not None:
        assert next(read(str(output)))["user"] == str(user.number)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"XDG_STATE_HOME": "{0}/state"}, "state/proctally/runs"),
        ({"HOME": "{0}/home"}, "home/.local/state/proctally/runs"),
        ({"HOME": "{0}/home", "XDG_STATE_HOME": "relative"}, "home/.local/state/proctally/runs"),
        ({"HOME": "{0}/home", "XDG_STATE_HOME": ""}, "home/.local/state/proctally/runs"),
        ({"HOME": "{0}/home", "XDG_STATE_HOME": "{0}/state"}, "state/proctally/runs"),
        ({"HOME": "{0}/home", "XDG_STATE_HOME": "{0}/state", "PROCTALLY_HOME": "{0}/ours"}, "ours/runs"),
        ({"HOME": "{0}/home", "PROCTALLY_HOME": ""}, "home/.local/state/proctally/runs"),
    ],
)
def test_default_place(tmp_path: Path, variables: dict[str, str], place: str) -> None:
    env = {name: value.format(tmp_path) for name, value in variables.items()}
    inherited = {name: value for name, value in environment(tmp_path).items() if name not in ("HOME", "XDG_STATE_HOME")}
    del inherited["PROCTALLY_HOME"]
    assert run(tmp_path, "-q", "--", "true", env={**inherited, **env}, cwd=tmp_path).status == 0
    (path,) = (tmp_path / place).iterdir()
    whole(list(read(str(path))))


# -- no room, no reader ----------------------------------------------------------------------------------------------


def test_full_device(tmp_path: Path) -> None:
    done = shell(tmp_path, "echo out; sleep 0.3; exit 3", "-i", "0.05", "-o", "/dev/full")
    warned(done, 3, "/dev/full", "No space left", "lost")
    assert done.stdout == b"out\n"


def test_full_device_for_the_summary(tmp_path: Path) -> None:
    done = shell(tmp_path, "exit 3", "--summary-json", "/dev/full")
    warned(done, 3, "/dev/full")
    done.summary()


def test_stdout_and_stderr_are_full(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        assert run(tmp_path, "--", "true", stdout=full, stderr=full).status == 0
    whole(record(tmp_path))


def test_limit_of_the_size_of_files(tmp_path: Path) -> None:
    """RLIMIT_FSIZE, with which the kernel sends SIGXFSZ: it must not end the tracker."""
    done = shell(
        tmp_path,
        "sleep 0.5; exit 3",
        "-i",
        "0.05",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)),
    )
    warned(done, 3, "File too large")


def test_reader_that_never_reads(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4096)
        os.set_blocking(writing, True)
        done = shell(tmp_path, "exit 3", "-o", f"/dev/fd/{writing}", pass_fds=(writing,))
    finally:
        os.close(reading)
        os.close(writing)
    warned(done, 3, "lost")


def test_reader_that_reads_late(tmp_path: Path) -> None:
    """What did not fit is kept and written when there is room: nothing is lost."""
    reading, writing = os.pipe()
    with Puppet(tmp_path, "-i", "0.05", "-o", f"/dev/fd/{writing}", pass_fds=(writing,)) as puppet:
        os.set_blocking(reading, False)
        data = os.read(reading, 100)
        puppet.do("time.sleep(0.5)")
        puppet.tell("os._exit(3)")
        os.close(writing)
        os.set_blocking(reading, True)
        with open(reading, "rb") as pipe:
            data += pipe.read()
        assert puppet.wait() == 3
        assert puppet.stderr() == b""
    assert whole([json.loads(line) for line in data.splitlines()])["tracker"]["lost_samples"] == 0


# -- standard streams and the working directory ----------------------------------------------------------------------


def closing(*fds: int) -> Callable[[], None]:
    def close() -> None:
        for fd in fds:
            os.close(fd)

    return close


@pytest.mark.parametrize("output", ["default", "explicit"])
@pytest.mark.parametrize("fds", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)], ids=str)
def test_streams_that_are_closed(tmp_path: Path, fds: tuple[int, ...], output: str) -> None:
    """Nothing of ours goes to a descriptor that only happens to have the number of stdout or stderr."""
    path = tmp_path / "out.jsonl"
    options = ["-o", str(path)] if output == "explicit" else []
    words = [*PROCTALLY, "run", *options, "--", "sh", "-c", "exit 3"]
    process = subprocess.Popen(
        words,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=closing(*fds),
    )
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert stdout == b""
    assert stderr.count(b"proctally sh") == (2 not in fds)
    assert b"Traceback" not in stderr
    if output == "default":
        (path,) = (tmp_path / "runs").iterdir()
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
    whole(list(read(str(path))))


FAILED = {"--help": 1, "run": 125, "fields": 1}


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["run"], ["nothing"], ["fields"]], ids=" ".join)
@pytest.mark.parametrize("fds", [(1,), (2,), (1, 2)], ids=str)
def test_words_for_closed_streams(tmp_path: Path, command: list[str], fds: tuple[int, ...]) -> None:
    plain = subprocess.run([*PROCTALLY, *command], env=environment(tmp_path), capture_output=True)
    closed = subprocess.run(
        [*PROCTALLY, *command], env=environment(tmp_path), capture_output=True, preexec_fn=closing(*fds)
    )
    is_lost = 1 in fds and plain.stdout  # what was asked for could not be written
    assert closed.returncode == (FAILED[command[0]] if is_lost else plain.returncode)
    assert b"Traceback" not in closed.stderr


def test_working_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    job = [*PYTHON, "-c", "raise SystemExit(3)"]  # a shell complains
    done = run(tmp_path, "-q", "--", *job, cwd=gone, preexec_fn=gone.rmdir)
    assert (done.status, done.stderr) == (3, b"")
    lines = done.record()
    assert lines[0]["cwd"] is None
    whole(lines)


def test_relative_output_in_a_working_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    warned(shell(tmp_path, "exit 3", "-o", "out.jsonl", cwd=gone, preexec_fn=gone.rmdir), 125, "out.jsonl")


def test_working_directory_that_cannot_be_written(user: User) -> None:
    done = user.call("run", "-q", "--", "sh", "-c", "pwd; exit 3", cwd="/")
    assert (done.status, done.stdout, done.stderr) == (3, b"/\n", b"")


# -- limits ----------------------------------------------------------------------------------------------------------


def test_fork_that_fails(user: User) -> None:
    marker = user.folder / "ran"
    done = user.call(
        "run", "-q", "--", "touch", str(marker), before=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    )
    warned(done, 125, os.strerror(errno.EAGAIN))
    assert not marker.exists()


def test_few_descriptors(tmp_path: Path) -> None:
    """A tree that is larger than the limit of open files, of which the job has its own."""
    with Puppet(
        tmp_path,
        "-i",
        "0.05",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)),
    ) as puppet:
        puppet.do("import resource, subprocess")
        assert puppet.ask("resource.getrlimit(resource.RLIMIT_NOFILE)") == "(32, 32)"
        puppet.do("children = [os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '300') for _ in range(60)]")
        path = next((tmp_path / "runs").iterdir())

        def seen() -> bool:
            return samples(list(read(str(path))))[-1]["tree"]["processes"] == 61

        until(seen, "all of them are in a sample")
        puppet.do("[(os.kill(child, 9), os.waitpid(child, 0)) for child in children]")
        assert puppet.exit(3) == 3
        assert puppet.stderr() == b""
    lines = record(tmp_path)
    assert whole(lines)["processes"]["peak"] == 61
    assert whole(lines)["processes"]["left"] == 0


@pytest.mark.parametrize("limit", [5, 6, 8, 10, 12, 16])
def test_hardly_any_descriptors(tmp_path: Path, limit: int) -> None:
    """Either the job runs and its status comes through, or one line says why it did not begin."""

    def under_limit(words: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            words,
            env=environment(tmp_path),
            capture_output=True,
            timeout=PATIENCE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        )

    if under_limit([sys.executable, "-c", "import ctypes"]).returncode != 0:
        pytest.skip("the interpreter itself does not start")
    done = under_limit([*PROCTALLY, "run", "-q", "--", "sh", "-c", "exit 3"])
    assert b"Traceback" not in done.stderr
    assert (done.returncode, done.stderr.count(b"\n")) in ((3, 0), (125, 1))


# -- a mistake of ours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["scan", "ended", "reaped", "finish"])
@pytest.mark.parametrize("error", ["AssertionError", "MemoryError"])
def test_mistake_in_the_tracker_does_not_cost_the_status_of_the_job(tmp_path: Path, method: str, error: str) -> None:
    tracker = [*failing(f"tree.sampler:TreeSampler.{method}", error=error), "run", "-q", "-i", "0.05", "--"]
    with Puppet(tmp_path, tracker=tracker, reports=("SIGTERM",)) as puppet:
        puppet.do("time.sleep(0.2)")
        if method == "scan":
            os.kill(puppet.tracker, 15)
            puppet.await_signal("SIGTERM")
        assert puppet.exit(3) == 3
        assert puppet.stderr().startswith(b"proctally: ")


@pytest.mark.parametrize(
    "fault", ["tracking.session:Session.end", "views.summary:render", "tracking.session:Session.close"]
)
def test_mistake_at_the_end_is_a_line_and_the_status_is_the_jobs(tmp_path: Path, fault: str) -> None:
    words = [*failing(fault), "run", "--", "sh", "-c", "sleep 0.1; echo out; exit 3"]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert done.stderr.count(b"broken on purpose") == 1
    assert b"Traceback" not in done.stderr


# -- names of strangers ----------------------------------------------------------------------------------------------

HOSTILE = b"a) R 1 (b\n\xff"


def test_process_with_a_hostile_name(tmp_path: Path) -> None:
    program = os.fsencode(tmp_path) + b"/" + HOSTILE
    with open(program, "wb") as file:
        file.write(b"#!/bin/sh\nsleep 0.3 & wait\nexit 6\n")
    os.chmod(program, 0o755)
    done = run(tmp_path, "-i", "0.05", "--", program)
    assert done.status == 6
    text = done.stderr.decode("utf-8")
    assert re.match(r"proctally a\) R 1 \(b\\n\\xff  failed  [0-9.]+ s: exit status 6\n  ", text)
    lines = done.record()
    summary = whole(lines)
    named = "a) R 1 (b\n\\xff"
    assert lines[0]["name"] == named
    assert lines[0]["command"] == [os.fspath(tmp_path) + "/" + named]
    assert named in {line["command"] for line in of_type(lines, "process")}
    assert named in {command["command"] for command in summary["commands"]}
    assert summary["processes"]["peak"] == 2


def test_thread_and_child_with_hostile_names(tmp_path: Path) -> None:
    code = f"""
import ctypes, os, time
if os.fork():
    os.wait()
else:
    ctypes.CDLL(None).prctl(15, {HOSTILE!r}, 0, 0, 0)
    while time.process_time() < 0.3: pass
"""
    done = run(tmp_path, "-q", "-i", "0.05", "--", *PYTHON, "-c", code)
    assert (done.status, done.stderr) == (0, b"")
    lines = done.record()
    (child,) = [line for line in of_type(lines, "process") if line["pid"] != lines[0]["pid"]]
    assert child["command"] == "a) R 1 (b\n\\xff"
    assert child["cpu_seconds"] >= 0.2


# -- a sandbox without some system calls -----------------------------------------------------------------------------

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h

NO_SANDBOX = unavailable()
in_a_sandbox = pytest.mark.skipif(NO_SANDBOX is not None, reason=str(NO_SANDBOX))


@in_a_sandbox
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=["ENOSYS", "EPERM"])
def test_without_signalfd_and_pidfd_open(tmp_path: Path, number: int) -> None:
    before = refusing(number, "signalfd4", "pidfd_open")
    with Puppet(tmp_path, "-i", "0.1", reports=("SIGTERM",), preexec_fn=before) as puppet:
        os.kill(puppet.tracker, 15)
        puppet.await_signal("SIGTERM")
        puppet.settle()
        assert puppet.signals["SIGTERM"] == 1
        puppet.do("os.kill(os.getppid(), signal.SIGTERM)")
        puppet.settle()
        assert puppet.signals["SIGTERM"] == 1
        path = next((tmp_path / "runs").iterdir())
        until(lambda: len(samples(list(read(str(path))))) >= 3, "it samples")
        assert puppet.exit(7) == 7
        assert puppet.stderr() == b""
    assert whole(record(tmp_path))["exit_code"] == 7


@in_a_sandbox
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=["ENOSYS", "EPERM"])
def test_attach_without_signalfd_and_pidfd_open(tmp_path: Path, number: int) -> None:
    target = subprocess.Popen(["sleep", "300"])
    words = [*PROCTALLY, "attach", "-q", "-i", "0.05", str(target.pid)]
    before = refusing(number, "signalfd4", "pidfd_open")
    tracker = subprocess.Popen(words, env=environment(tmp_path), stderr=subprocess.PIPE, preexec_fn=before)
    try:
        until(lambda: list((tmp_path / "runs").glob("*")), "it has begun")
        path = next((tmp_path / "runs").iterdir())
        until(lambda: len(samples(list(read(str(path))))) >= 3, "it samples")
    finally:
        target.kill()
        target.wait()
    _, stderr = tracker.communicate(timeout=PATIENCE)
    assert (tracker.returncode, stderr) == (0, b"")
    whole(record(tmp_path))


@in_a_sandbox
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=["ENOSYS", "EPERM"])
def test_without_becoming_a_subreaper(tmp_path: Path, number: int) -> None:
    done = shell(
        tmp_path,
        "sleep 300 </dev/null >/dev/null 2>&1 & echo $!; exit 3",
        preexec_fn=refusing(number, prctl_option=PR_SET_CHILD_SUBREAPER),
    )
    os.kill(int(done.stdout), 9)
    assert (done.status, done.stderr) == (3, b"")
    assert "no_subreaper" in gaps(done.summary(), "io")


@in_a_sandbox
def test_without_cpu_clocks_of_processes(tmp_path: Path) -> None:
    """clock_gettime(2) of the clocks that need no system call goes on to work."""
    code = "import time\nend = time.perf_counter() + 0.3\nwhile time.perf_counter() < end: pass\nraise SystemExit(3)"
    done = run(
        tmp_path, "-q", "-i", "0.1", "--", *PYTHON, "-c", code, preexec_fn=refusing(errno.EPERM, "clock_gettime")
    )
    assert (done.status, done.stderr) == (3, b"")
    assert done.summary()["cpu"]["total_seconds"] > 0.1


def test_without_ctypes(tmp_path: Path) -> None:
    """An interpreter that was built without it, or whose libffi is missing."""
    code = "import sys; sys.modules['_ctypes'] = None; from proctally.cli.main import main; sys.exit(main())"
    with Puppet(tmp_path, tracker=[sys.executable, "-c", code, "run", "-q", "--"], reports=("SIGTERM",)) as puppet:
        os.kill(puppet.tracker, 15)
        puppet.await_signal("SIGTERM")
        assert puppet.exit(7) == 7
        assert puppet.stderr() == b""
    assert "no_subreaper" in gaps(whole(record(tmp_path)), "io")


# -- somebody else's processes ---------------------------------------------------------------------------------------


def test_job_that_becomes_another_users(user: User, tmp_path: Path) -> None:
    if user.number is None:
        pytest.skip("needs root")
    with Puppet(tmp_path, "-i", "0.05", reports=("SIGTERM",)) as puppet:
        puppet.do(f"os.setgid({user.number}); os.setuid({user.number})")
        os.kill(puppet.tracker, 15)
        puppet.await_signal("SIGTERM")
        assert puppet.exit(7) == 7
    whole(record(tmp_path))


def test_all_that_is_in_proc_vanishes_while_it_is_read(tmp_path: Path) -> None:
    """Many processes that live for no time, on every processor: whatever file is read, its process may be gone."""
    loop = "i=0; while [ $i -lt 150 ]; do (/bin/true &); /bin/true; i=$((i+1)); done"
    done = shell(tmp_path, f"({loop}) & ({loop}) & ({loop}) & wait; exit 3", "-i", "0.05")
    assert (done.status, done.stderr) == (3, b"")
    done.summary()


def test_stopped_job_that_is_killed(tmp_path: Path) -> None:
    with Puppet(tmp_path, "-i", "0.05") as puppet:
        os.kill(puppet.job, 19)
        until(lambda: state(puppet.job) == "T", "the job is stopped")
        os.kill(puppet.job, 9)
        assert puppet.wait() == 137
