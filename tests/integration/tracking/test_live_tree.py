"""A running tree, read without having started it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from proctally.errors import NoProcess
from proctally.tracking.live_tree import LiveTree
from proctally.views.top.sampled import Living
from scenes import Written
from top_views import shown
from tracked import PYTHON, Puppet, until

BURN = "end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"


# -- a record --------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "r.jsonl")


# -- a tree that runs ------------------------------------------------------------------------------------------------


def of(pid: int, taken: dict[str, Any]) -> dict[str, Any]:
    return next(process for process in taken["processes"] if process["pid"] == pid)


def test_each_process_is_told_apart(tmp_path: Path) -> None:
    with Puppet(tmp_path, tracker=[]) as puppet:
        puppet.do("child = os.fork() or (time.sleep(60), os._exit(0))")
        child = int(puppet.ask("child"))
        puppet.do(f"exec({BURN!r})")
        live = LiveTree(puppet.job, 1.0)
        first = live.sample()
        assert of(puppet.job, first)["cpu_seconds"] < 0.1, "what it used before is not told"
        assert {process["pid"] for process in first["processes"]} == {puppet.job, child}
        assert of(child, first)["parent"] == puppet.job
        assert of(child, first)["cpu_cores"] is None, "there is nothing to compare with"
        puppet.do(f"exec({BURN!r})")
        second = live.sample()
        assert of(puppet.job, second)["cpu_cores"] * second["interval_seconds"] > 0.1
        assert of(child, second)["cpu_cores"] < 0.05, "the end of its fork, at most"
        assert second["sources"]["procfs"] >= 0.15
        assert not live.has_ended
        assert live.command_line(puppet.job).startswith(PYTHON[0])
        live.close()
        puppet.do("os.kill(child, 9)")


def test_io_of_a_child_that_was_waited_for_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "written"
    write = f"dd if=/dev/zero of={path} bs=1M count=8 conv=fsync 2>/dev/null"
    script = f"(read x; {write}; echo done; read x); echo waited; read y"
    job = subprocess.Popen(["sh", "-c", f"{script}; :"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert job.stdin is not None and job.stdout is not None
    try:
        live = LiveTree(job.pid, 1.0)
        live.sample()
        job.stdin.write(b"x\n")
        job.stdin.flush()
        assert job.stdout.readline() == b"done\n"
        shell = {process["pid"]: process for process in live.sample()["processes"]}
        if shell[job.pid]["write_bytes_per_second"] is None:
            pytest.skip("no I/O accounting here")
        wrote = [process["write_bytes_per_second"] for pid, process in shell.items() if pid != job.pid]
        if not wrote[0]:
            pytest.skip("nothing is written to storage here")
        before = live.sample()["tree"]["write_bytes"]
        job.stdin.write(b"x\n")
        job.stdin.flush()
        assert job.stdout.readline() == b"waited\n"
        after = live.sample()
        assert after["tree"]["write_bytes"] - before < 1 << 20
        assert of(job.pid, after)["write_bytes_per_second"] < 1 << 20, "8 MiB of its child's are its own by the kernel"
        live.close()
    finally:
        job.kill()
        job.wait()
        job.stdin.close()
        job.stdout.close()


def test_wait_and_memory_of_each_process() -> None:
    """Three that compute on one CPU wait two thirds of the time."""
    cpu = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{cpu}]); held = bytes(64 << 20).replace(b'\\0', b'x')\nwhile True: pass"
    )
    jobs = [subprocess.Popen([*PYTHON, "-c", code]) for _ in range(3)]
    try:
        live = LiveTree(jobs[0].pid, 1.0)
        until(lambda: (of(jobs[0].pid, live.sample())["memory_high_bytes"] or 0) >= 64 << 20, "its memory")
        time.sleep(0.3)
        live.sample()
        time.sleep(1.5)
        taken = live.sample()
        row = of(jobs[0].pid, taken)
        assert row["wait_cores"] > 0.3
        assert row["wait_cores"] + row["cpu_cores"] == pytest.approx(1.0, abs=0.3)
        assert 64 << 20 <= row["memory_low_bytes"] <= row["memory_high_bytes"] < 128 << 20
        assert live.limits["cpu_cores"] is not None
        live.close()
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def test_row_of_a_process_that_sleeps_stays_the_same() -> None:
    job = subprocess.Popen(["sleep", "60"])
    try:
        live = LiveTree(job.pid, 1.0)
        until(lambda: live.sample()["processes"][0] is live.sample()["processes"][0], "the same row")
        live.close()
    finally:
        job.kill()
        job.wait()


def test_a_tree_of_another_start_is_refused() -> None:
    job = subprocess.Popen(["sleep", "60"])
    try:
        LiveTree(job.pid, 1.0, started_at=time.time()).close()
        with pytest.raises(NoProcess, match="is another one"):
            LiveTree(job.pid, 1.0, started_at=time.time() - 3600)
    finally:
        job.kill()
        job.wait()


def test_the_end_of_a_tree() -> None:
    job = subprocess.Popen(["sleep", "60"])
    living = Living(LiveTree(job.pid, 1.0))
    try:
        assert living.tick() and not living.has_ended
    finally:
        job.kill()
        job.wait()
    until(lambda: living.tick() and living.has_ended, "its end")
    assert not living.tick()
    assert any("ended" in line for line in shown(living.scene))
    living.close()


def test_no_such_process() -> None:
    job = subprocess.Popen(["true"])
    job.wait()
    with pytest.raises(NoProcess, match=f"process {job.pid}: No such process"):
        LiveTree(job.pid, 1.0)


def test_secrets_of_command_lines_are_masked() -> None:
    job = subprocess.Popen(
        [*PYTHON, "-c", "import time; print(flush=True); time.sleep(60)", "--password=hunter2"], stdout=-1
    )
    try:
        assert job.stdout is not None
        job.stdout.readline()
        live = LiveTree(job.pid, 1.0)
        assert "--password=***" in live.command_line(job.pid) and "hunter2" not in live.command_line(job.pid)
        live.close()
        job.stdout.close()
    finally:
        job.kill()
        job.wait()
