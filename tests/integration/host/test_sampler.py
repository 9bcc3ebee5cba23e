"""The system sampler on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from captured import unpack
from fake_gpus import FakeGpus
from proctally.host.sampler import HostPeaks, HostSampler, slim
from proctally.views.summary import render
from tracked import PYTHON, environment, failing, of_type, record, samples

# -- what is said of it ----------------------------------------------------------------------------------------------


def derived(used: int, busy: float, read: int) -> dict[str, Any]:
    from proctally.host.derive import derive
    from proctally.linux.machine import host_machine
    from proctally.linux.system import SystemReader

    reader = SystemReader(host_machine())
    said: dict[str, Any] = dict(derive(None, reader.read(), facts=False))
    reader.close()
    said |= {"cpu_user_seconds": busy, "cpu_system_seconds": 0.0, "disks": [], "interfaces": []}
    said["memory"] = (said["memory"] or {}) | {"used_bytes": used}
    said["disk"] = dict.fromkeys(said["disk"] or {}) | {"read_bytes": read, "write_bytes": None}
    return said


def test_peaks_and_growth() -> None:
    peaks = HostPeaks()
    assert (peaks.system(), peaks.gpu()) == (None, None)
    peaks.begin(derived(5, 100.0, 1000))
    peaks.note(derived(9, 101.5, 1500), 0.0)
    peaks.note(derived(7, 102.5, 1800) | {"cpu_cores": 2.0}, 1.0)
    peaks.note(derived(7, 102.5, 1800) | {"cpu_cores": 0.5}, 2.0)
    said = peaks.system()
    assert said is not None
    assert (said["mean_cores"], said["peak_cores"]) == (1.0, 2.0)
    assert (said["cpu_seconds"], said["peak_memory_used_bytes"], said["disk_read_bytes"]) == (2.5, 9, 800)
    assert said["disk_write_bytes"] is None


def test_only_what_did_something_is_told_of_single_devices() -> None:
    section = derived(1, 1.0, 1)
    idle = {"name": "sda", "read_bytes_per_second": 0.0, "write_bytes_per_second": 0.0, "busy_ratio": 0.0}
    section["disks"] = [idle, idle | {"name": "sdb", "busy_ratio": 0.123456}]
    section["interfaces"] = None
    told = slim(section)
    assert [(disk["name"], disk["busy_ratio"]) for disk in told["disks"]] == [("sdb", 0.1235)]
    assert told["interfaces"] is None


def test_pools_are_asked_for_by_a_process_that_is_none_of_the_job(tmp_path: Path, monkeypatch: Any) -> None:
    """As `run` has it: it reaps every child itself, and tells whose time that was."""
    machine, _ = unpack("server", tmp_path)
    (tmp_path / "proc/spl/kstat/zfs").mkdir(parents=True)
    command = tmp_path / "bin/zpool"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nprintf 'tank\\t1000\\t400\\n'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    strangers: list[int] = []
    around = HostSampler(machine, {}, system=True, gpu=False, cloud=False, started=strangers.append)
    try:
        assert [line["disk"]["pools"] for line in around.lines() if line["type"] == "devices"] == [None]
        assert len(strangers) == 1
        pid, _, usage = os.wait4(strangers[0], 0)
        cpu_ns = round((usage.ru_utime + usage.ru_stime) * 1e9)
        assert around.reaped(pid, cpu_ns)
        assert not around.reaped(pid, cpu_ns)
        around.sample((), first=False)
        assert around.cpu_ns() == cpu_ns
        devices = [line for line in around.lines() if line["type"] == "devices"][0]
        assert devices["disk"]["pools"] == [{"name": "tank", "total_bytes": 1000, "free_bytes": 400, "used_bytes": 600}]
    finally:
        around.close()


def test_what_could_not_be_read_is_told(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    (tmp_path / "proc/net/dev").write_text("eth0: many\n")
    around = HostSampler(machine, {}, system=True, gpu=False, cloud=False)
    try:
        around.sample((), first=True)
        host, devices = around.lines(last=True)
        section = around.system() or {}
    finally:
        around.close()
    assert devices["unavailable"]["net/dev"] == "invalid"
    assert devices["interfaces"] is None
    assert section["unavailable"] == devices["unavailable"]
    assert host["unavailable"]  # this machine lacks much of what a host has
    tracker = {"cpu_seconds": 0.1, "samples": 2, "lost_samples": 0, "peak_rss_bytes": 1}
    summary = {
        "verdict": "ended",
        "reason": {"code": "not_ended"},
        "gaps": [],
        "wall_seconds": 1.0,
        "system": section,
        "tracker": tracker,
    }
    assert "no net/dev: " in render("name", summary, None, verbose=True)
    assert "no net/dev: " not in render("name", summary, None)


EARLY = """
import sys, time
from proctally.cli import main as cli
from proctally.tracking import session
from proctally.host import sampler as surroundings
surroundings.DEVICES_NS = 300_000_000
opened = session.Session.open_default
def slow(self):
    opened(self)
    time.sleep(float(sys.argv[1]))
session.Session.open_default = slow
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("kind", ["system", "attach", "run"])
def test_every_device_is_told_now_and_then(tmp_path: Path, kind: str) -> None:
    """Also where nobody wakes between samples."""
    for_long = ["--duration", "1.5"] if kind != "run" else []
    what = {"system": [], "attach": [str(os.getpid())], "run": ["sleep", "1.5"]}[kind]
    words = [sys.executable, "-c", EARLY, "0", kind, "-q", "-i", "0.1", *for_long, *what]
    assert subprocess.run(words, env=environment(tmp_path), timeout=20).returncode == 0
    told = [line["at"] for line in of_type(record(tmp_path), "devices")]
    assert 4 <= len(told) <= 8 and told == sorted(told)


def test_a_run_that_begins_slowly_has_the_machine_as_well(tmp_path: Path) -> None:
    """The moments of the early looks are over by then, if samples are as frequent."""
    words = [sys.executable, "-c", EARLY, "0.1", "run", "-q", "-i", "0.05", "sleep", "0.5"]
    assert subprocess.run(words, env=environment(tmp_path), timeout=20).returncode == 0
    assert [sample["system"] is None for sample in samples(record(tmp_path))][2:].count(True) == 0
    assert record(tmp_path)[-1]["system"] is not None


@pytest.mark.parametrize("method", ["_begin", "_fds", "_timeout", "_sample", "_ask", "_devices", "_host_line"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_fault_with_the_machine_costs_the_machine_alone(tmp_path: Path, method: str, number: int) -> None:
    job = [
        "run",
        "-i",
        "0.1",
        "--",
        *PYTHON,
        "-c",
        "import time\nwhile time.process_time() < 0.2: pass\nraise SystemExit(3)",
    ]
    words = [*failing(f"host.sampler:HostSampler.{method}", number), *job]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=20)
    assert done.returncode == 3
    lines = record(tmp_path)
    assert lines[-1]["cpu"]["total_seconds"] == pytest.approx(0.22, abs=0.05)
    assert lines[-1]["tracker"]["cpu_seconds"] < 0.3  # and nobody is woken again and again
    assert len(samples(lines)) >= 3
    if number == 1 or method in ("_fds", "_timeout", "_sample"):  # the others may not be called so often
        assert b"machine: its reading ended before the run did, by a fault of its own (RuntimeError" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["system", "attach"])
def test_the_same_for_those_that_start_nothing(tmp_path: Path, command: str) -> None:
    what = [str(os.getpid())] if command == "attach" else []
    words = [*failing("host.sampler:HostSampler._sample", 2), command, "-i", "0.1", "--duration", "0.4", *what]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=20)
    assert done.returncode == 0
    sections = [sample["system"] for sample in samples(record(tmp_path))]
    assert sections[0] is not None and set(map(str, sections[1:])) == {"None"}
    assert b"by a fault of its own (RuntimeError: broken on purpose)" in done.stderr


# -- on a machine of files, whose clock goes on when it is told ------------------------------------------------------


def test_devices_are_told_again_when_they_change_and_each_minute(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    around = HostSampler(machine, {}, system=True, gpu=False, cloud=False)

    def told(seconds: float) -> list[list[str]]:
        clock.advance(seconds)
        around.sample((), first=False)
        return [[disk["name"] for disk in line["disks"]] for line in around.lines() if line["type"] == "devices"]

    try:
        (at_first,) = told(0.0)
        assert told(1.0) == []
        assert told(60.0) == [at_first]
        (tmp_path / "sys/class/block/vdz").mkdir()
        (tmp_path / "sys/class/block/vdz/size").write_text("1000\n")
        with (tmp_path / "proc/diskstats").open("a") as file:
            file.write(" 252 16 vdz 1 0 8 0 2 0 8 0 0 1 0 0 0 0 0\n")
        assert told(1.0) == [[*at_first, "vdz"]]
        assert told(1.0) == []
    finally:
        around.close()


def test_gpus_are_asked_at_first_and_once_before_each_sample(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    around = HostSampler(machine, {}, system=False, gpu=False, cloud=False)
    gpus: Any = FakeGpus()
    around.gpus = gpus
    next_ns = clock.now_ns + 1_000_000_000
    asked = []
    for _ in range(100):
        around.go_on(clock.now_ns, next_ns, ())
        asked.append(gpus.asked)
        clock.advance(0.0099)
    assert asked[0] == 1 and asked[80] == 1  # once the host was read, which takes no time by this clock
    assert asked[95:] == [2] * 5
    around.go_on(clock.now_ns, next_ns + 1_000_000_000, ())
    assert gpus.asked == 2


def test_the_time_of_helpers_is_ours() -> None:
    from proctally.linux.machine import host_machine
    from proctally.tracking.config import Options
    from proctally.tracking.session import Session
    from proctally.tracking.tracker import Tracker

    class Busy:
        def cpu_ns(self) -> int:
            return 1_000_000_000_000

    machine = host_machine()
    tracker = Tracker(Session("run", Options(), {}, machine, "name"))
    host: Any = Busy()
    tracker.host = host
    assert tracker.cost(0)["cpu_seconds"] > 1000


DEAF = """
import sys
from proctally.cli import main as cli
from proctally.host import sampler as surroundings
surroundings.SHORT_NS = 0
surroundings.HostSampler.go_on = lambda self, *rest: []
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["run", "run -f csv", "attach", "system"])
def test_the_first_sample_of_a_record_has_no_rates(tmp_path: Path, command: str) -> None:
    """However long it took to get there; and where the machine begins later, its counters at that moment are told."""
    options = ["-q", "-i", "0.2", *(["-f", "csv", "-o", str(tmp_path / "table")] if "csv" in command else [])]
    what = {"attach": ["--duration", "0.5", str(os.getpid())], "system": ["--duration", "0.5"]}
    words = [*options, *what.get(command, ["--", "sleep", "0.5"])]
    done = subprocess.run(
        [sys.executable, "-c", DEAF, command.split()[0], *words], env=environment(tmp_path), timeout=20
    )
    assert done.returncode == 0
    lines = record(tmp_path)
    first, second = samples(lines)[:2]
    assert first["system"] is None or first["system"]["cpu_cores"] is None
    assert second["system"]["cpu_cores"] is not None
    if command == "run":
        assert lines.index(of_type(lines, "devices")[0]) < lines.index(second)
