"""Memory as a bracket, against a v1 memory cgroup around the job: its `total_rss` + `total_shmem`. It takes root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import proctally
from places import SUPPORT
from proctally.linux.cgroup import parse_mountinfo
from proctally.linux.memory_levels import read_cgroup_levels
from strict_schema import problems
from tracked import PROCTALLY, PYTHON, User, environment, gaps, record, records, samples, whole

MIB = 1 << 20
MOUNTS = parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
POINT = next((mount.point for mount in MOUNTS if "memory" in mount.names), "")
JOB = str(SUPPORT / "memory_shapes.py")
JOIN = 'echo 0 > "$0/cgroup.procs" && exec "$@"'
BLIND = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'  # hides every cgroup from the tracker

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 or not os.access(POINT, os.W_OK), reason="no writable v1 memory hierarchy"),
    pytest.mark.timeout(120),
]

# shape, MiB, processes; the least of the true peak in MiB; whether all of it is held when a sample is taken
SHAPES = [
    ("single", 60, 1, 60, True),
    ("busy", 20, 4, 70, True),
    ("small", 4, 12, 48, True),
    ("cow-write", 20, 3, 75, True),
    ("cow-exit", 40, 3, 40, True),
    ("shared", 48, 4, 48, True),
    ("tmpfs", 40, 1, 40, True),
    ("memfd", 40, 1, 40, True),
    ("sysv", 30, 1, 30, True),
    ("vfork", 40, 1, 40, True),
    ("spike-child", 60, 1, 60, False),
]


class Truth:
    """A cgroup as of a session, and one of the job inside it, whose levels a thread reads every 5 ms."""

    def __init__(self) -> None:
        self.session = tempfile.mkdtemp(prefix="proctally-memory-", dir=POINT)
        os.chmod(self.session, 0o755)
        self.job = f"{self.session}/job"
        os.mkdir(self.job)
        self.readings: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.wait(0.005):
            levels = read_cgroup_levels(self.job)
            assert levels is not None
            self.readings.append((time.time(), levels.anon + levels.shmem))

    def join(self) -> None:
        """Put this process into the cgroup of the session: to be called before exec."""
        Path(self.session, "cgroup.procs").write_text(str(os.getpid()))

    @property
    def peak(self) -> int:
        return max(held for _, held in self.readings)

    def around(self, moment: float) -> tuple[int, int]:
        """Return the least and the most of the tenth of a second in which a sample was read."""
        held = [held for at, held in self.readings if moment - 0.02 <= at <= moment + 0.1]
        return min(held), max(held)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for directory in (self.job, self.session):
            for _ in range(100):
                try:
                    os.rmdir(directory)
                    break
                except OSError:
                    time.sleep(0.02)


@pytest.fixture
def truth() -> Iterator[Truth]:
    truth = Truth()
    try:
        yield truth
    finally:
        truth.close()


def check(taken: list[dict[str, Any]], truth: Truth) -> int:
    """Check the bracket of each sample that has one; return how many there are."""
    found = [sample for sample in taken if sample["tree"]["processes"] and sample["tree"]["memory_low_bytes"]]
    for sample in found:
        tree = sample["tree"]
        least, most = truth.around(sample["at"])
        assert 0.98 * tree["memory_low_bytes"] - MIB <= most, (tree, least / MIB, most / MIB)
        assert least <= 1.02 * tree["memory_high_bytes"] + MIB, (tree, least / MIB, most / MIB)
    return len(found)


def check_peak(summary: dict[str, Any], truth: Truth) -> dict[str, Any]:
    memory: dict[str, Any] = summary["memory"]
    assert memory["peak_low_bytes"] <= 1.02 * truth.peak + MIB, (memory, truth.peak / MIB)
    assert truth.peak <= 1.02 * memory["peak_high_bytes"] + MIB, (memory, truth.peak / MIB)
    return memory


def job(truth: Truth, *words: object) -> list[str]:
    """Return the command of a shape that joins its cgroup before it executes."""
    return ["sh", "-c", JOIN, truth.job, *PYTHON, JOB, *map(str, words)]


def track(home: Path, truth: Truth, *words: object, prefix: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    command = [*prefix, *PROCTALLY, "run", "-q", "-i", "0.5", "--no-gpu", "--", *job(truth, *words)]
    subprocess.run(command, env=environment(home), preexec_fn=truth.join, check=True, timeout=60)
    return record(home)


@pytest.mark.parametrize(("shape", "mib", "processes", "least", "is_held"), SHAPES, ids=[each[0] for each in SHAPES])
def test_job_in_a_session(
    tmp_path: Path, truth: Truth, shape: str, mib: int, processes: int, least: int, is_held: bool
) -> None:
    lines = track(tmp_path, truth, shape, mib, processes, 1.6)
    assert truth.peak > least * MIB
    if is_held:  # else it is filled and released faster than the truth is read
        assert check(samples(lines), truth) >= 2
    memory = check_peak(whole(lines), truth)
    assert memory["source"] == "surroundings"
    # what workers can have copied at their end, at most what they shared, is in it
    assert memory["peak_high_bytes"] < 1.3 * truth.peak + 8 * MIB
    met = memory["peak_low_bytes"] > 0.9 * truth.peak - 8 * MIB  # beside load, also a short spike can be
    assert met if is_held else met or "spike_between_samples" in gaps(lines[-1], "memory")
    assert 1 <= len(memory["at_peak"]) <= 5
    assert problems(lines) == []


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
@pytest.mark.parametrize("shape", ["busy", "cow-write"])
def test_job_whose_cgroups_are_hidden(tmp_path: Path, truth: Truth, shape: str) -> None:
    prefix = ("unshare", "--mount", "--", "sh", "-c", BLIND, "sh")
    command = [*prefix, *PROCTALLY, "run", "-q", "-i", "0.5", "--no-gpu", "--", *PYTHON, JOB, shape, "20", "4", "1.6"]

    def join() -> None:
        Path(truth.job, "cgroup.procs").write_text(str(os.getpid()))

    subprocess.run(command, env=environment(tmp_path), preexec_fn=join, check=True, timeout=60)
    lines = record(tmp_path)
    tracker = 20 * MIB  # it is in the cgroup of the truth
    for sample in samples(lines):
        tree = sample["tree"]
        if tree["processes"] and tree["memory_low_bytes"]:
            least, most = truth.around(sample["at"])
            assert 0.98 * tree["memory_low_bytes"] - MIB <= most
            assert least - tracker <= 1.02 * tree["memory_high_bytes"] + MIB
    assert lines[-1]["memory"]["peak_low_bytes"] > 0.8 * truth.peak - tracker


@pytest.mark.parametrize("shape", ["cow-write", "tmpfs"])
def test_job_of_an_ordinary_user(truth: Truth, other_user: User, shape: str) -> None:
    jobs = other_user.folder / "shapes.py"
    jobs.write_bytes(Path(JOB).read_bytes())
    for folder in (truth.job, truth.session):
        os.chown(f"{folder}/cgroup.procs", other_user.number or 0, -1)
    words = ["sh", "-c", JOIN, truth.job, *other_user.python, str(jobs), shape, "20", "3", "1.6"]
    done = other_user.call("run", "-q", "-i", "0.5", "--no-gpu", "--", *words, before=truth.join)
    assert done.status == 0, done.stderr
    lines = records(other_user.folder / "home")[-1]
    assert check(samples(lines), truth) >= 2
    memory = check_peak(lines[-1], truth)
    assert memory["peak_low_bytes"] > 0.9 * truth.peak - 8 * MIB


def test_attached_job(tmp_path: Path, truth: Truth) -> None:
    with subprocess.Popen(job(truth, "cow-write", 20, 3, 3.0), preexec_fn=truth.join) as process:
        time.sleep(0.7)
        command = [*PROCTALLY, "attach", "-q", "-i", "0.5", "--no-gpu", str(process.pid)]
        subprocess.run(command, env=environment(tmp_path), preexec_fn=truth.join, check=True, timeout=60)
    lines = record(tmp_path)
    assert check(samples(lines), truth) >= 3
    memory = check_peak(lines[-1], truth)
    assert memory["peak_low_bytes"] > 0.9 * truth.peak - 8 * MIB


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("pss", [True, False])
def test_tree_of_the_library(truth: Truth, pss: bool) -> None:
    crossed = []
    with subprocess.Popen(job(truth, "shared", 40, 3, 2.0)) as process:
        wait_for(lambda: bool(truth.readings) and truth.peak > 40 * MIB)
        time.sleep(0.3)
        with proctally.Tree(process.pid, pss=pss) as tree:
            tree.watch(60 * MIB, crossed.append)
            sample = tree.sample()
            least, most = truth.around(sample.at)
            assert sample.memory_low_bytes is not None and sample.memory_high_bytes is not None
            assert 0.98 * sample.memory_low_bytes - MIB <= most
            assert least <= 1.02 * sample.memory_high_bytes + MIB
            assert sample.memory_bytes == sample.memory_low_bytes > 40 * MIB
            assert sample.rss_bytes > 120 * MIB and not crossed  # each worker maps all of it
        process.kill()


@pytest.mark.parametrize("milliseconds", [0, 10])
def test_short_job_is_bounded_by_its_mark(tmp_path: Path, milliseconds: int) -> None:
    code = f"import time; held = b'x' * {8 * MIB}; time.sleep({milliseconds / 1000})"
    command = [*PROCTALLY, "run", "-q", "--no-gpu", "--", *PYTHON, "-c", code]
    subprocess.run(command, env=environment(tmp_path), check=True, timeout=60)
    memory = record(tmp_path)[-1]["memory"]
    assert 8 * MIB < memory["peak_high_bytes"] < 64 * MIB
    assert 0 <= memory["peak_low_bytes"] <= memory["peak_high_bytes"]


def test_process_between_two_scans_is_within_the_bounds(tmp_path: Path) -> None:
    """No scan meets it, and its parent shows its faults together with those of a member that left."""
    script = f"sleep 0.3; {PYTHON[0]} -I -S -c 'print(open(\"/proc/self/status\").read())'; false"
    command = [*PROCTALLY, "run", "-q", "--no-gpu", "--", "sh", "-c", script]
    status = subprocess.run(command, env=environment(tmp_path), stdout=subprocess.PIPE, text=True, timeout=60).stdout
    held = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))
    memory = record(tmp_path)[-1]["memory"]
    assert held > 2 * MIB
    assert memory["peak_low_bytes"] <= held <= memory["peak_high_bytes"] < 64 * MIB


def test_mark_of_who_started_the_tracker_bounds_nothing(tmp_path: Path) -> None:
    """Exec hands on the mark of a process: that of 100 MiB reaches the tracker, and must not reach the job."""
    code = f"import os, sys; held = b'x' * {100 * MIB}; os.execvp(sys.argv[1], sys.argv[1:])"
    command = [*PYTHON, "-c", code, *PROCTALLY, "run", "-q", "--no-gpu", "--", "true"]
    subprocess.run(command, env=environment(tmp_path), check=True)
    memory = record(tmp_path)[-1]["memory"]
    assert MIB < memory["peak_high_bytes"] < 64 * MIB
    assert 0 <= memory["peak_low_bytes"] <= memory["peak_high_bytes"]
