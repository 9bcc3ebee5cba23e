"""`run` and `system` beside a driver: the real helper process, whose library a script file directs. It takes root.

The driver is shown by a directory that is mounted over /proc/driver, in a mount namespace of the test's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvml_library import CC, TWO
from strict_schema import problems
from tracked import PROCTALLY, Done, environment, of_type, record, runs, samples

DRIVER = Path("/proc/driver")
pytestmark = [
    pytest.mark.skipif(CC is None, reason="no C compiler"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace"),
    pytest.mark.skipif(not DRIVER.is_dir(), reason="no /proc/driver to show a driver in"),
]
JOB = """
import os, sys, time
with open(os.environ["FAKE_NVML"], "a") as script:
    script.write(f"0.compute {os.getpid()} 3000000\\n0.compute 1 500\\n")
time.sleep(float(sys.argv[1]))
"""


class Beside:
    """A place with such a driver."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder = folder
        self.script = folder / "script"
        self.script.write_text(TWO)
        (folder / "driver/nvidia").mkdir(parents=True)
        (folder / "driver/nvidia/version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15\n")
        self.variables = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(self.script)}

    def call(self, *arguments: str) -> Done:
        mount = f'mount --bind {self.folder}/driver {DRIVER} && exec "$0" "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, *PROCTALLY, *arguments]
        env = environment(self.folder / "home", **self.variables)
        return Done(self.folder / "home", subprocess.run(command, env=env, capture_output=True, timeout=40))


@pytest.fixture
def beside(tmp_path: Path, library: Path) -> Beside:
    return Beside(tmp_path, library)


def test_a_job_and_what_it_holds(beside: Beside) -> None:
    done = beside.call("run", "-i", "0.3", "--", sys.executable, "-S", "-E", "-c", JOB, "1.6")
    assert done.status == 0, done.stderr
    lines = done.record()
    assert problems(lines) == []
    told = [sample for sample in samples(lines) if sample["gpus"]]
    assert len(told) >= 3
    first, last = told[0]["gpus"], told[-2]  # in the last one the job has ended
    assert [gpu["name"] for gpu in first] == ["NVIDIA H200", "NVIDIA RTX <A>"]
    (host,) = of_type(lines, "host")
    assert [gpu["name"] for gpu in host["gpus"]] == ["NVIDIA H200", "NVIDIA RTX <A>"]
    assert all(gpu["memory_total_bytes"] for gpu in host["gpus"])
    assert all("memory_total_bytes" not in gpu for gpu in last["gpus"])  # what does not change is told once
    assert last["gpus"][0]["utilization_ratio"] == 0.87
    assert last["gpus"][0]["memory_used_bytes"] == 20_000_000_000
    assert last["gpus"][0]["tree_memory_bytes"] == 3_000_000
    assert last["tree"]["gpu_memory_bytes"] == 3_000_000
    assert last["tree"]["gpu_processes"] == 1
    summary = lines[-1]
    assert summary["gpu"]["peak_tree_memory_bytes"] == 3_000_000
    assert b"GPUs" in done.stderr
    # the helper is none of the tree, and its time is ours
    assert summary["processes"]["started"] == 1
    assert {line["command"] for line in lines if line["type"] == "process"} == {
        lines[0]["command"][0].rpartition("/")[2]
    }
    assert summary["tracker"]["cpu_seconds"] > 0.05


def test_a_driver_that_hangs_holds_nothing_up(beside: Beside) -> None:
    with beside.script.open("a") as script:
        script.write("nvmlDeviceGetCount_v2.hang\n")
    done = beside.call("run", "-q", "-i", "0.2", "--", "sleep", "1")
    assert done.status == 0, done.stderr
    lines = done.record()
    assert problems(lines) == []
    assert lines[-1]["wall_seconds"] < 3
    skipped = [sample for sample in samples(lines)[1:] if sample["gpus"] is None]
    assert skipped and all(sample["gpus_skipped"] == "no_answer" for sample in skipped)
    assert all(sample["system"] is not None for sample in skipped)
    assert of_type(lines, "host")[0]["gpus"] is None


def test_no_helper_lives_on(beside: Beside) -> None:
    done = beside.call(
        "run", "-q", "-i", "0.2", "--wait-all", "--", "sh", "-c", "sleep 0.6; ps -ww -eo pid,args; sleep 0.4"
    )
    assert done.status == 0
    assert done.summary()["processes"]["left"] == 0
    assert b"proctally.host.gpu_helper" in done.stdout
    assert [pid for pid in pids_with(f"FAKE_NVML={beside.script}") if runs(pid)] == []


INIT = """
import subprocess, sys
for _ in range(4):
    subprocess.run(sys.argv[1:], check=True)
sys.exit(subprocess.run(["ps", "-eo", "stat="], capture_output=True).stdout.count(b"Z"))
"""


@pytest.mark.parametrize("arguments", [("run", "-i", "0.2", "sleep", "0.6"), ("system", "--duration", "0.6")])
def test_no_zombie_is_left_to_an_init_that_does_not_reap(beside: Beside, arguments: tuple[str, ...]) -> None:
    mount = f'mount --bind {beside.folder}/driver {DRIVER} && exec "$0" "$@"'
    command = ["unshare", "-mpf", "--mount-proc", "sh", "-c", mount, sys.executable, "-c", INIT, *PROCTALLY]
    env = environment(beside.folder / "home", **beside.variables)
    done = subprocess.run([*command, arguments[0], "-q", *arguments[1:]], env=env, timeout=60)
    assert done.returncode <= 1  # a busy machine may not end it in time


def pids_with(variable: str) -> list[int]:
    """Processes with this in their environment: those of other tests are none of ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it ended
            pass
    return found


def test_without_gpus(beside: Beside) -> None:
    done = beside.call("run", "-q", "-i", "0.1", "--no-gpu", "--", "sleep", "0.4")
    lines = done.record()
    assert all(sample["gpus"] is None for sample in samples(lines))
    assert lines[-1]["gpu"] is None


def test_the_machine_alone(beside: Beside) -> None:
    done = beside.call("system", "-i", "0.3", "--duration", "1.6")
    assert done.status == 0, done.stderr
    lines = record(beside.folder / "home")
    assert any(sample["gpus"] for sample in samples(lines))
    assert lines[-1]["gpu"]["peak_utilization_ratio"] == 0.87


def test_a_job_of_half_a_second_has_its_gpus_read(beside: Beside) -> None:
    lines = beside.call("run", "-q", "--", sys.executable, "-S", "-E", "-c", JOB, "0.6").record()
    first, last = samples(lines)
    assert (first["gpus"], first["gpus_skipped"]) == (None, "just_started")
    assert last["gpus"][0]["memory_used_bytes"] == 20_000_000_000
    assert lines[-1]["gpu"]["peak_memory_used_bytes"]


def test_a_slow_driver_is_asked_earlier(beside: Beside) -> None:
    with beside.script.open("a") as script:
        script.write("nvmlDeviceGetTemperature.sleep 150\n")  # for each of two devices
    lines = beside.call("run", "-q", "-i", "1", "--", "sleep", "4.5").record()
    told = [sample["gpus_age_seconds"] for sample in samples(lines)[2:-1]]
    assert len(told) >= 2
    assert max(told) < 0.9  # of this interval, and not of the one before
