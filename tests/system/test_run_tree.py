"""`proctally run` and the tree below its job: orphans, descendants that live on, runs inside runs, short jobs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracked import (
    PATIENCE,
    PROCTALLY,
    PYTHON,
    Puppet,
    environment,
    gaps,
    of_type,
    parent,
    record,
    records,
    run,
    runs,
    samples,
    shell,
    state,
    until,
    whole,
)

BURN = "import time\nwhile time.process_time() < {seconds}: pass"


def burn(seconds: float) -> list[str]:
    """A job that uses so much CPU time."""
    return [*PYTHON, "-c", BURN.format(seconds=seconds)]


def quoted(words: list[str]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


# -- orphans and those that live on ----------------------------------------------------------------------------------


def orphan_of(puppet: Puppet, script: str) -> int:
    """The pid of what a shell, which ends at once, leaves in the background."""
    puppet.do("import subprocess")
    left = f"({script}) </dev/null >/dev/null 2>&1 & echo $!"
    orphan = int(puppet.ask(f"subprocess.run(['sh', '-c', {left!r}], stdout=subprocess.PIPE).stdout.decode()"))
    until(lambda: parent(orphan) == puppet.tracker, "the orphan is adopted by the tracker")
    return orphan


def test_orphans_are_adopted_and_reaped(tmp_path: Path) -> None:
    with Puppet(tmp_path, "-i", "0.05") as puppet:
        orphans = [
            orphan_of(puppet, f"exec sh -c 'while [ ! -e {tmp_path}/go ]; do sleep 0.02; done'") for _ in range(5)
        ]
        (tmp_path / "go").touch()
        until(lambda: {state(orphan) for orphan in orphans} == {"X"}, "all orphans are reaped, none stays a zombie")
        assert puppet.exit(3) == 3
    lines = record(tmp_path)
    summary = whole(lines)
    assert summary["processes"]["left"] == 0
    assert summary["processes"]["started"] >= 6
    assert {line["pid"] for line in of_type(lines, "process")} >= {*orphans, puppet.job}


def test_daemon_is_found_again(tmp_path: Path) -> None:
    """One that forked twice, in a session of its own, is still of the tree."""
    with Puppet(tmp_path, "-i", "0.05") as puppet:
        daemon = orphan_of(puppet, f"exec setsid sh -c 'while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit 4'")
        until(lambda: os.getsid(daemon) == daemon, "it has a session of its own")
        (tmp_path / "go").touch()
        until(lambda: state(daemon) == "X", "the daemon is reaped")
        assert puppet.exit(0) == 0
    (line,) = [line for line in of_type(record(tmp_path), "process") if line["pid"] == daemon]
    assert (line["exit"], line["ended_at"] is not None) == (4, True)


def test_descendants_that_live_on_are_left_alone(tmp_path: Path) -> None:
    puppet = Puppet(tmp_path)
    left = []
    try:
        with puppet:
            left = [orphan_of(puppet, "exec sleep 300"), orphan_of(puppet, "exec setsid sleep 300")]
            begun = time.monotonic()
            assert puppet.exit(3) == 3
            assert time.monotonic() - begun < PATIENCE, "it does not wait for them"
        assert all(map(runs, left))
        lines = record(tmp_path)
        summary = whole(lines)
        assert (summary["processes"]["left"], summary["exit_code"], summary["verdict"]) == (2, 3, "failed")
        alive = [line for line in of_type(lines, "process") if line["ended_at"] is None]
        assert sorted(line["pid"] for line in alive) == sorted(left)
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def test_summary_says_how_many_were_left(tmp_path: Path) -> None:
    done = run(tmp_path, "--", "sh", "-c", "sleep 300 </dev/null >/dev/null 2>&1 & echo $!")
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.status == 0
    assert "1 left running" in done.stderr.decode()


@pytest.mark.parametrize("how", ["exec sleep 300", "exec setsid sleep 300"], ids=["orphan", "daemon"])
def test_wait_all(tmp_path: Path, how: str) -> None:
    with Puppet(tmp_path, "-i", "0.05", "--wait-all") as puppet:
        orphan = orphan_of(puppet, how)
        puppet.tell("os._exit(3)")
        until(lambda: state(puppet.job) == "X", "the job is reaped")
        path = next((tmp_path / "runs").iterdir())
        size = path.stat().st_size
        until(lambda: path.stat().st_size > size, "samples go on")
        assert puppet.process.poll() is None
        os.kill(orphan, signal.SIGKILL)
        assert puppet.wait() == 3
    lines = record(tmp_path)
    assert (whole(lines)["processes"]["left"], whole(lines)["exit_code"]) == (0, 3)
    (line,) = [line for line in of_type(lines, "process") if line["pid"] == orphan]
    assert line["exit"] == -signal.SIGKILL


def test_wait_all_ends_when_a_signal_ends_what_is_left(tmp_path: Path) -> None:
    """Ctrl-C, for one: it goes to the whole group."""
    with Puppet(tmp_path, "-i", "0.05", "--wait-all") as puppet:
        orphan = orphan_of(puppet, "exec sleep 300")
        puppet.tell("os._exit(3)")
        until(lambda: state(puppet.job) == "X", "the job is reaped")
        os.killpg(puppet.tracker, signal.SIGTERM)
        assert puppet.wait() == 3
        assert state(orphan) == "X"


# -- runs inside runs ------------------------------------------------------------------------------------------------


def test_run_inside_a_run(tmp_path: Path) -> None:
    inner = [*PROCTALLY, "run", "-q", "-n", "inner", "--", *burn(0.3)]
    done = run(tmp_path, "-q", "-n", "outer", "--", "sh", "-c", f"{quoted(inner)}; exit 5")
    assert (done.status, done.stderr) == (5, b"")
    by_name = {lines[0]["name"]: lines for lines in records(tmp_path)}
    assert sorted(by_name) == ["inner", "outer"]
    inside, outside = by_name["inner"], by_name["outer"]
    assert inside[0]["parent_run_id"] == outside[0]["run_id"]
    assert outside[0]["parent_run_id"] is None
    assert (whole(inside)["exit_code"], whole(outside)["exit_code"]) == (0, 5)
    assert whole(inside)["cpu"]["total_seconds"] >= 0.29
    assert whole(outside)["cpu"]["total_seconds"] >= whole(inside)["cpu"]["total_seconds"]


def test_signal_through_two_runs_arrives_once(tmp_path: Path) -> None:
    tracker = [*PROCTALLY, "run", "-q", "--", *PROCTALLY, "run", "-q", "--"]
    with Puppet(tmp_path, tracker=tracker, reports=("SIGTERM",)) as puppet:
        os.kill(puppet.tracker, signal.SIGTERM)
        puppet.await_signal("SIGTERM")
        puppet.settle()
        assert puppet.signals["SIGTERM"] == 1
        puppet.do("os.kill(os.getppid(), signal.SIGTERM)")
        puppet.settle()
        assert puppet.signals["SIGTERM"] == 1
        assert puppet.exit(7) == 7
    assert [whole(lines)["exit_code"] for lines in records(tmp_path)] == [7, 7]


def test_children_from_before_are_not_counted(tmp_path: Path) -> None:
    """A shell with a job in the background becomes the tracker by exec: that job is no descendant of ours."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    tracker = quoted([*PROCTALLY, "run", "-q", "-i", "0.05", "--", "cat", str(fifo)])
    script = f"{quoted(burn(0.5))} >{fifo} & (sleep 300 >/dev/null 2>&1 & echo $!); exec {tracker}"
    done = subprocess.run(["sh", "-c", script], env=environment(tmp_path), capture_output=True, timeout=PATIENCE)
    os.kill(int(done.stdout), signal.SIGKILL)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = record(tmp_path)
    summary = whole(lines)
    assert summary["wall_seconds"] >= 0.4, "the job waits for the end of what burns"
    assert summary["cpu"]["total_seconds"] < 0.2
    assert (summary["processes"]["started"], summary["processes"]["peak"], summary["processes"]["left"]) == (1, 1, 0)
    assert [line["command"] for line in of_type(lines, "process")] == ["cat"]


# -- as the init of a pid namespace ----------------------------------------------------------------------------------


def _can_unshare() -> bool:
    tools = all(map(shutil.which, ("unshare", "nsenter")))
    return tools and subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="no new pid namespace for this user")
def test_as_init_of_a_pid_namespace(tmp_path: Path) -> None:
    unshare = ("unshare", "-pf", "--mount-proc", "--kill-child")
    with Puppet(tmp_path, "-i", "0.05", before=unshare, reports=("SIGTERM",)) as puppet:
        assert puppet.ask("os.getppid()") == "1"
        (children,) = Path(f"/proc/{puppet.process.pid}/task").glob("*/children")
        puppet.tracker = int(children.read_text())
        # a stranger that enters the namespace and leaves an orphan: who is 1 there has to adopt and reap it
        script = "(sleep 0.1; exit 3) </dev/null >/dev/null 2>&1 & exit 0"
        enter = ["nsenter", "-t", str(puppet.tracker), "-p", "sh", "-c", script]
        assert subprocess.run(enter, timeout=PATIENCE).returncode == 0
        below = Path(f"/proc/{puppet.tracker}/task/{puppet.tracker}/children")
        until(lambda: len(below.read_text().split()) == 1, "only the job is left below it")
        os.kill(puppet.tracker, signal.SIGTERM)
        puppet.await_signal("SIGTERM")
        puppet.settle()
        assert puppet.signals["SIGTERM"] == 1
        puppet.do("os.kill(1, signal.SIGTERM)")
        puppet.settle()
        assert puppet.signals["SIGTERM"] == 1, "what the job sends to init does not come back"
        assert puppet.exit(7) == 7
    summary = whole(record(tmp_path))
    assert summary["exit_code"] == 7
    assert "adopted_unrelated" in gaps(summary, "cpu")


@pytest.mark.skipif(not _can_unshare(), reason="no new pid namespace for this user")
def test_as_init_that_adopts_nobody(tmp_path: Path) -> None:
    command = ["unshare", "-pf", "--mount-proc", *PROCTALLY, "run", "-q", "--", "sh", "-c", "/bin/true; exit 7"]
    assert subprocess.run(command, env=environment(tmp_path), timeout=PATIENCE).returncode == 7
    assert "adopted_unrelated" not in gaps(whole(record(tmp_path)), "cpu")


# -- what forks, how, and for how long -------------------------------------------------------------------------------


def test_children_of_another_thread(tmp_path: Path) -> None:
    code = """
import os, threading, time
def fork():
    pid = os.fork()
    if pid == 0:
        while time.process_time() < 0.4: pass
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
thread = threading.Thread(target=fork)
thread.start()
thread.join()
"""
    done = run(tmp_path, "-q", "-i", "0.05", "--", *PYTHON, "-c", code)
    assert done.status == 0
    lines = done.record()
    summary = whole(lines)
    assert summary["processes"]["peak"] == 2
    assert int(done.stdout) in {line["pid"] for line in of_type(lines, "process")}
    assert summary["cpu"]["total_seconds"] >= 0.39


@pytest.mark.parametrize("interval", ["1", "3600"])
def test_short_job(tmp_path: Path, interval: str) -> None:
    """A job of 50 ms is measured like a long one: peaks, a first and a last sample, a line of its own."""
    done = run(tmp_path, "-q", "-i", interval, "--", *burn(0.05))
    assert done.status == 0
    lines = done.record()
    summary = whole(lines)
    first, last = samples(lines)[0], samples(lines)[-1]
    assert summary["cpu"]["total_seconds"] >= 0.05
    assert summary["cpu"]["peak_cores"] >= summary["cpu"]["mean_cores"] > 0
    assert summary["memory"]["peak_rss_bytes"] > 1 << 20
    assert 1 << 20 < summary["memory"]["peak_low_bytes"] <= summary["memory"]["peak_high_bytes"]
    assert summary["memory"]["peak_process_rss_bytes"] > 1 << 20
    assert first["tree"]["processes"] == 1
    assert first["elapsed_seconds"] < last["elapsed_seconds"] <= summary["wall_seconds"]
    assert last["elapsed_seconds"] >= 0.05
    assert abs(last["tree"]["cpu_seconds"] - summary["cpu"]["total_seconds"]) < 0.001
    (line,) = of_type(lines, "process")
    assert (line["pid"], line["exit"], line["command"][:6]) == (lines[0]["pid"], 0, "python")
    assert line["cpu_seconds"] >= 0.05


def test_shortest_job(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--", "true")
    lines = done.record()
    summary = whole(lines)
    assert summary["processes"] | {"coverage": ""} == {
        "started": 1,
        "source": "perf",
        "peak": 1,
        "left": 0,
        "killed_by": None,
        "coverage": "",
    }
    assert summary["wall_seconds"] > 0
    (line,) = of_type(lines, "process")
    assert (line["pid"], line["exit"]) == (lines[0]["pid"], 0)


def test_many_short_children(tmp_path: Path) -> None:
    done = shell(tmp_path, "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done")
    summary = done.summary()
    assert (done.status, summary["processes"]["left"]) == (0, 0)
    assert summary["cpu"]["total_seconds"] > 0


def test_job_that_becomes_another_program(tmp_path: Path) -> None:
    done = shell(tmp_path, f"exec {quoted(burn(0.1))}", "-i", "0.05")
    lines = done.record()
    assert whole(lines)["processes"]["started"] == 1
    (line,) = of_type(lines, "process")
    assert line["command"].startswith("python")


def test_zombies_that_nobody_waits_for_do_not_keep_it(tmp_path: Path) -> None:
    code = "import os, time\nfor _ in range(20):\n    os.fork() or os._exit(0)\ntime.sleep(0.3)"
    done = run(tmp_path, "-q", "--", *PYTHON, "-c", code)
    summary = done.summary()
    assert done.status == 0
    assert summary["processes"]["left"] == 0
    assert summary["processes"]["started"] == 21, (summary, done.stderr)


def test_job_whose_main_thread_ends_first(tmp_path: Path) -> None:
    """The leader is a zombie then, and the process is alive."""
    if os.uname().machine != "x86_64":
        pytest.skip("the number of exit(2) is known for x86_64 alone")
    code = """
import ctypes, os, threading, time
def on():
    while time.process_time() < 0.5: pass
    os._exit(6)
threading.Thread(target=on).start()
ctypes.CDLL(None).syscall(60, 0)
"""
    done = run(tmp_path, "-q", "-i", "0.05", "--", sys.executable, "-c", code)
    assert done.status == 6
    summary = done.summary()
    assert summary["cpu"]["total_seconds"] >= 0.49
    assert summary["memory"]["peak_rss_bytes"] > 1 << 20


HELPER = """
import os, time
end, kept = os.pipe()
if os.fork() == 0:
    os.close(kept)
    os.read(end, 1)  # as a resource tracker: end of file says that the command has ended
    while time.process_time() < 0.01:
        pass
    os._exit(0)
os.close(end)
time.sleep(0.05)
"""


def test_a_helper_that_exits_just_after_the_command_is_not_left_running(tmp_path: Path) -> None:
    summary = run(tmp_path, "-i", "0.1", "--no-system", "--", *PYTHON, "-c", HELPER).summary()
    assert summary["processes"]["left"] == 0
    assert "left_running" not in gaps(summary, "cpu")
    assert summary["cpu"]["total_seconds"] >= 0.01
