"""`proctally attach`: a tree that runs already, whoever owns it, until it ends or somebody says stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracked import (
    PATIENCE,
    PROCTALLY,
    PYTHON,
    Done,
    User,
    call,
    environment,
    gaps,
    of_type,
    reason,
    record,
    records,
    runs,
    samples,
    state,
    target,
    until,
    whole,
)

BUSY = [*PYTHON, "-c", "while True: pass"]


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that computes and does not end."""
    yield from target(BUSY)


class Tracker:
    """`proctally attach` that has begun."""

    def __init__(self, home: Path, *arguments: str, **popen: Any) -> None:
        self.home = home
        popen.setdefault("env", environment(home))
        self.process = subprocess.Popen(
            [*PROCTALLY, "attach", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen
        )
        until(lambda: self.ended() or self.samples(1), "it has taken a sample")

    def ended(self) -> bool:
        return self.process.poll() is not None

    def samples(self, count: int) -> bool:
        """Whether so many samples are in the record."""
        return any(len(samples(lines)) >= count for lines in records(self.home))

    def done(self) -> Done:
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        completed = subprocess.CompletedProcess(self.process.args, self.process.returncode, stdout, stderr)
        return Done(self.home, completed)


# -- nothing to track ------------------------------------------------------------------------------------------------


def one_line(done: Done, status: int) -> None:
    assert (done.status, done.stdout) == (status, b"")
    assert done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1
    assert records(done.home) == []


def test_process_that_does_not_exist(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    one_line(call(tmp_path, "attach", str(ended.pid)), 1)
    one_line(call(tmp_path, "attach", str((1 << 31) - 1)), 1)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["1", "2"],
        ["0"],
        ["-1"],
        ["one"],
        ["1.5"],
        ["\u0661"],
        ["99999999999"],
        ["--wait-all", "1"],
        ["-i", "0", "1"],
    ]
    + [["--duration", "0", "1"], ["--duration", "soon", "1"], ["-f", "xml", "1"]],
    ids=" ".join,
)
def test_mistakes(tmp_path: Path, arguments: list[str]) -> None:
    one_line(call(tmp_path, "attach", *arguments), 2)


def test_thread_is_no_process(tmp_path: Path) -> None:
    """`/proc` opens at the number of any thread, and lists processes alone."""
    code = "import threading, time; t = threading.Thread(target=time.sleep, args=(300,)); t.start()"
    code += "; print(t.native_id, flush=True)"
    process = subprocess.Popen([*PYTHON, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        one_line(call(tmp_path, "attach", "--duration", "0.1", process.stdout.readline().decode().strip()), 1)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("output", ["existing", "missing/out.jsonl", "out-{nothing}"])
def test_output_that_cannot_be_made(tmp_path: Path, sleeper: subprocess.Popen[bytes], output: str) -> None:
    (tmp_path / "existing").write_text("mine\n")
    one_line(call(tmp_path, "attach", "-o", output, str(sleeper.pid), cwd=tmp_path), 1)
    assert (tmp_path / "existing").read_text() == "mine\n"
    assert runs(sleeper.pid)


# -- its end ---------------------------------------------------------------------------------------------------------


def test_ends_when_the_root_ends(tmp_path: Path, busy: subprocess.Popen[bytes]) -> None:
    tracker = Tracker(tmp_path, "-q", "-i", "3600", str(busy.pid))
    assert not tracker.ended()
    busy.kill()
    done = tracker.done()  # of a process that is still a zombie: nobody has waited for it
    assert state(busy.pid) == "Z"
    assert (done.status, done.stdout, done.stderr) == (0, b"", b"")
    lines = done.record()
    summary = whole(lines)
    header = lines[0]
    assert (header["kind"], header["command"], header["pid"]) == ("attach", None, busy.pid)
    assert (summary["verdict"], summary["exit_code"], summary["signal"]) == ("ended", None, None)
    assert summary["cpu"]["source"] == "procfs"
    assert "last_moments" in gaps(summary, "cpu")
    assert reason(summary) == {"code": "all_exited"}


def test_ends_when_the_last_known_member_ends(tmp_path: Path) -> None:
    script = "sleep 300 & echo $!; read line; kill -9 $$"
    process = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdin is not None
    child = int(process.stdout.readline())
    try:
        tracker = Tracker(tmp_path, "-q", "-i", "0.05", str(process.pid))
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait()

        def alone() -> bool:
            return samples(record(tmp_path))[-1]["tree"]["processes"] == 1

        until(alone, "a sample of the child alone: it stays a member without its parent")
        assert not tracker.ended()
    finally:
        os.kill(child, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    done = tracker.done()
    assert (done.status, done.stderr) == (0, b"")
    lines = done.record()
    assert whole(lines)["processes"]["peak"] == 2
    assert {process.pid, child} == {line["pid"] for line in of_type(lines, "process")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_it_and_leaves_the_target_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    tracker = Tracker(tmp_path, "-i", "0.05", str(sleeper.pid))
    until(lambda: tracker.samples(3), "it samples")
    tracker.process.send_signal(number)
    done = tracker.done()
    assert (done.status, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"proctally sleep  ended  ")
    summary = done.summary()
    assert reason(summary) == {"code": "stopped", "signal": int(number)}
    assert (summary["processes"]["left"], summary["exit_code"]) == (1, None)
    assert runs(sleeper.pid)


def test_duration(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    begun = time.monotonic()
    done = call(tmp_path, "attach", "-q", "-i", "3600", "--duration", "300ms", str(sleeper.pid))
    assert (done.status, done.stderr) == (0, b"")
    assert time.monotonic() - begun >= 0.3
    assert done.summary()["wall_seconds"] >= 0.3
    assert reason(done.summary())["code"] == "duration"
    assert runs(sleeper.pid)


def test_killed_tracker_leaves_the_target_alone_and_a_record(tmp_path: Path, busy: subprocess.Popen[bytes]) -> None:
    tracker = Tracker(tmp_path, "-i", "0.05", str(busy.pid))
    until(lambda: tracker.samples(3), "it samples")
    tracker.process.kill()
    tracker.done()
    assert state(busy.pid) in "RS"
    lines = record(tmp_path)
    assert lines[-1]["type"] in ("sample", "host"), "no summary"


# -- what is counted -------------------------------------------------------------------------------------------------


def test_totals_count_from_the_attach(tmp_path: Path, busy: subprocess.Popen[bytes]) -> None:
    def used() -> float:
        return time.clock_gettime((~busy.pid << 3) | 2)

    until(lambda: used() > 0.5, "it was busy before")
    done = call(tmp_path, "attach", "-q", "-i", "0.1", "--duration", "0.5", str(busy.pid))
    assert done.status == 0
    first, last = samples(done.record())[0], samples(done.record())[-1]
    assert first["tree"]["cpu_seconds"] < 0.1
    assert 0 < last["tree"]["cpu_seconds"] <= last["elapsed_seconds"] + 0.02


def test_tracker_of_its_own_parent_is_no_member(tmp_path: Path) -> None:
    """`proctally attach $$` from a script."""
    words = " ".join([*PROCTALLY, "attach", "-q", "-i", "0.05", "--duration", "0.3", "$$"])
    done = subprocess.run(["sh", "-c", f"{words}; exit 4"], env=environment(tmp_path), capture_output=True)
    assert (done.returncode, done.stderr) == (4, b"")
    assert whole(record(tmp_path))["processes"]["peak"] == 1


def test_attach_to_itself_is_told_apart(tmp_path: Path) -> None:
    """By exec the shell's own number is the tracker's: there is nothing to track."""
    words = " ".join([*PROCTALLY, "attach", "-q", "--duration", "0.3", "$$"])
    done = subprocess.run(
        ["sh", "-c", f"exec {words}"], env=environment(tmp_path), capture_output=True, timeout=PATIENCE
    )
    assert done.returncode in (0, 1)
    assert b"Traceback" not in done.stderr


def test_zombie(tmp_path: Path) -> None:
    zombie = subprocess.Popen(["true"])
    until(lambda: state(zombie.pid) == "Z", "it has ended and nobody waited for it")
    done = call(tmp_path, "attach", "-q", "-i", "3600", str(zombie.pid))
    zombie.wait()
    assert (done.status, done.stdout, done.stderr) == (0, b"", b"")
    assert done.summary()["verdict"] == "ended"


# -- a tree of somebody else -----------------------------------------------------------------------------------------


def test_tree_of_another_user(other_user: User, busy: subprocess.Popen[bytes]) -> None:
    output = other_user.folder / "denied.jsonl"
    arguments = ["attach", "-q", "-i", "0.1", "--duration", "0.5", "-o", str(output), str(busy.pid)]
    done = other_user.call(*arguments)
    assert (done.status, done.stdout, done.stderr) == (0, b"", b"")
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    summary = whole(lines)
    assert summary["cpu"]["total_seconds"] > 0
    assert summary["memory"]["peak_rss_bytes"] > 1 << 20
    assert summary["memory"]["peak_pss_bytes"] is None
    assert 1 << 20 < summary["memory"]["peak_low_bytes"] == summary["memory"]["peak_high_bytes"]  # `status` is readable
    assert gaps(summary, "io").keys() & {"io_denied", "io_unavailable"}
    for name in ("read_bytes", "write_bytes", "read_chars", "write_chars"):
        assert summary["io"][name] is None
    for sample in samples(lines):
        tree = sample["tree"]
        assert tree["rss_bytes"] > 1 << 20
        assert [tree[name] for name in ("pss_bytes", "read_bytes", "write_bytes", "read_syscalls")] == [None] * 4
    (line,) = of_type(lines, "process")
    assert (line["read_bytes"], line["write_bytes"]) == (None, None)
    assert line["cpu_seconds"] > 0


def test_summary_of_what_is_denied(other_user: User, sleeper: subprocess.Popen[bytes]) -> None:
    done = other_user.call("attach", "-v", "--no-record", "--duration", "0.1", str(sleeper.pid))
    assert done.status == 0
    text = done.stderr.decode()
    assert "read unknown, written unknown" in text
    assert "denied" in text


# -- outputs ---------------------------------------------------------------------------------------------------------


def test_record_on_stdout(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    done = call(tmp_path, "attach", "-q", "-i", "0.05", "--duration", "0.3", "-o", "-", str(sleeper.pid))
    assert (done.status, done.stderr) == (0, b"")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert whole(lines)["verdict"] == "ended"
    assert len(samples(lines)) >= 4
    assert records(tmp_path) == []


def test_record_on_stdout_comes_as_it_is_made(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    words = [*PROCTALLY, "attach", "-q", "-i", "0.05", "-o", "-", str(sleeper.pid)]
    with subprocess.Popen(words, env=environment(tmp_path), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        got = []
        while len(samples(got)) < 3:
            got.append(json.loads(process.stdout.readline()))
        process.terminate()
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    whole(got + rest)


def test_reader_of_stdout_that_goes_away(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """`proctally attach -o - PID | head -1`: a warning at the end, and no trace of the interpreter."""
    words = [*PROCTALLY, "attach", "-q", "-i", "0.05", "--duration", "0.3", "-o", "-", str(sleeper.pid)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(words, env=environment(tmp_path), stdout=writing, stderr=subprocess.PIPE, timeout=PATIENCE)
    os.close(writing)
    assert done.returncode == 0
    assert done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1


def test_disable_is_for_run_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    env = environment(tmp_path, PROCTALLY_DISABLE="1")
    done = call(tmp_path, "attach", "-q", "--duration", "0.1", str(sleeper.pid), env=env)
    assert (done.status, done.stderr) == (0, b"")
    done.summary()


def test_options_may_follow_the_number(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    done = call(tmp_path, "attach", str(sleeper.pid), "-q", "--duration", "0.1", "-n", "mine", "--tag", "a=1")
    assert (done.status, done.stderr) == (0, b"")
    header = done.record()[0]
    assert (header["name"], header["tags"]) == ("mine", {"a": "1"})
