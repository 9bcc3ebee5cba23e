"""Files of /proc that a daemon serves, as lxcfs does: one that is dead or silent costs its fields, and nobody waits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fuse_files import served, unavailable

REASON = unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

HELD_SECONDS = 20.0  # so long a daemon is silent: far longer than any test
LXCFS = (
    "/proc/stat", "/proc/meminfo", "/proc/loadavg", "/proc/diskstats", "/proc/cpuinfo", "/proc/uptime", "/proc/swaps",
    "/sys/devices/system/cpu/online",
)  # fmt: skip
PLACES = (("/proc/meminfo",), LXCFS, ("/proc/sys", "/proc/pressure", "/sys/devices/system/cpu", "/sys/class/net"))
PROCTALLY = (sys.executable, "-m", "proctally")
# the job tells when the signal came; the wrapper gets it 0.3 s after the start
SIGNALLED = """
import os, subprocess, sys, time
job = "import os,signal,time;signal.signal(15,lambda *a:(print(time.monotonic(),flush=True),os._exit(5)));time.sleep(9)"
wrapper = [sys.executable, "-m", "proctally", "run", "-q", "--no-record", "-i", "0.1", "--", sys.executable, "-c", job]
with subprocess.Popen(wrapper, stdout=subprocess.PIPE, text=True) as run:
    time.sleep(0.8)
    sent = time.monotonic()
    run.terminate()
    print(float(run.stdout.read()) - sent, run.wait())
"""
TREE = """
import os, proctally
with proctally.Tree(os.getpid()) as tree:
    print(tree.sample().rss_bytes > 0)
"""


def tracked(
    mode: str, files: tuple[str, ...], record: Path, *options: str, seconds: float = 0.7
) -> tuple[dict[str, Any], float]:
    """Return the summary of a job that sleeps and exits with 3, and the wall time."""
    job = ("sh", "-c", f"sleep {seconds}; exit 3")
    done = served(mode, HELD_SECONDS, files, *PROCTALLY, "run", "-i", "0.2", "-o", str(record), *options, "--", *job)
    assert "fault" not in done.stderr and "Traceback" not in done.stderr
    status, wall = done.stdout.split()
    assert status == "3", done.stderr
    found: dict[str, Any] = json.loads(record.read_text().splitlines()[-1])
    assert found["type"] == "summary"
    return found, float(wall)


def machine_gaps(summary: dict[str, Any]) -> dict[str, int]:
    return {gap["code"]: gap["count"] for gap in summary["gaps"] if gap["section"] == "machine"}


@pytest.mark.parametrize("files", PLACES, ids=["one", "lxcfs", "folders"])
@pytest.mark.parametrize("mode", ["dead", "silent", "stuck"])
def test_file_without_an_answer_costs_its_fields(tmp_path: Path, mode: str, files: tuple[str, ...]) -> None:
    summary, wall = tracked(mode, files, tmp_path / "record")
    assert wall < 5.0
    assert 0.6 < summary["wall_seconds"] < 3.0
    assert summary["cpu"]["total_seconds"] > 0 and summary["memory"]["peak_high_bytes"] > 0
    assert list(machine_gaps(summary)) == ["file_served"]
    if "/proc/meminfo" in files:
        assert summary["system"]["unavailable"]["meminfo"] == ("ENOTCONN" if mode == "dead" else "file_served")
        assert summary["system"]["peak_memory_used_bytes"] is None
    if "/proc/stat" in files:
        assert summary["system"]["cpu_seconds"] is None


def test_daemon_that_comes_during_a_run_holds_nothing_up(tmp_path: Path) -> None:
    files = ("/proc/meminfo", "/proc/pressure", "/sys/class/net")
    summary, wall = tracked("later", files, tmp_path / "record", seconds=1.2)
    assert wall < 5.0
    assert list(machine_gaps(summary)) == ["file_served"]
    assert summary["system"]["unavailable"] == {}, "what is open stays the kernel's"


def test_exporter_does_not_wait_for_a_silent_file(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.prom"
    tracked("silent", ("/proc/stat",), tmp_path / "record", "--textfile", str(metrics))
    assert "proctally_run_info" in metrics.read_text()


def test_file_that_answers_gives_its_values(tmp_path: Path) -> None:
    record = tmp_path / "record"
    summary, _ = tracked("answers", LXCFS, record)
    assert summary["system"]["peak_memory_used_bytes"] > 0
    assert summary["system"]["unavailable"] == {} and machine_gaps(summary) == {}
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    host = next(line for line in lines if line["type"] == "host")
    assert host["memory_bytes"] > 0 and host["cpus_online"] and not host["unavailable"]


@pytest.mark.parametrize("mode", ["silent", "stuck"])
def test_signal_is_forwarded_beside_a_silent_file(mode: str) -> None:
    done = served(mode, HELD_SECONDS, LXCFS, sys.executable, "-c", SIGNALLED)
    latency, status = done.stdout.splitlines()[0].split()
    assert status == "5"
    assert float(latency) < 2.0  # 0.02 on a machine with time to spare; without the cure until the daemon goes away


@pytest.mark.parametrize("command", ["system", "attach"])
def test_other_trackers_do_not_wait_for_a_silent_file(tmp_path: Path, command: str) -> None:
    record = tmp_path / "record"
    with subprocess.Popen(["sleep", "30"]) as target:
        words = [command, "-i", "0.2", "--duration", "0.5", "-o", str(record)]
        words += [str(target.pid)] if command == "attach" else []
        done = served("silent", HELD_SECONDS, LXCFS, *PROCTALLY, *words)
        target.kill()
    status, wall = done.stdout.split()
    assert (status, float(wall) < 5.0) == ("0", True), done.stderr
    assert "file_served" in machine_gaps(json.loads(record.read_text().splitlines()[-1]))


def test_tree_does_not_wait_for_a_silent_file() -> None:
    done = served("silent", HELD_SECONDS, LXCFS, sys.executable, "-c", TREE)
    said, result = done.stdout.splitlines()
    assert said == "True", done.stderr
    assert float(result.split()[1]) < 5.0


@pytest.mark.parametrize("name", ["io", "status", "smaps_rollup", "stat"])
def test_silent_file_of_one_process_costs_that_alone(tmp_path: Path, name: str) -> None:
    record = tmp_path / "record"
    with subprocess.Popen(["sleep", "30"]) as target:
        words = ("attach", "-i", "0.2", "--duration", "0.5", "-o", str(record), str(target.pid))
        done = served("silent", HELD_SECONDS, (f"/proc/{target.pid}/{name}",), *PROCTALLY, *words)
        target.kill()
    status, wall = done.stdout.split()
    assert float(wall) < 5.0
    assert status == "0", done.stderr
    assert "Traceback" not in done.stderr
