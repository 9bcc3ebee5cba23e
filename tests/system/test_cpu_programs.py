"""CPU totals of programs that people use, against the kernel: Go, Java, builds, strace, tools of the shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compiled import NO_COMPILER
from cpu_totals import SLACK_SECONDS, attach_and_check, attached_right, bounded, gaps_of, run_and_check
from places import SUPPORT
from tracked import PYTHON, User
from truth import Truth, available, cpu_truth

NO_TRUTH = available()
pytestmark = [
    pytest.mark.skipif(NO_TRUTH is not None, reason=str(NO_TRUTH)),
    pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER)),
    pytest.mark.timeout(240),  # the first build of a Go program takes most of it
]


@pytest.fixture
def truth() -> Iterator[Truth]:
    with cpu_truth() as made:
        yield made


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


class Kept:
    """A folder that outlives the tests, for programs that take long to compile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def made(self, target: str, source: Path, *command: str) -> Path:
        """Return the file that this command makes of a source in this folder, once for each version of the source."""
        path = self.folder / target
        if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
            subprocess.run([*command, source], cwd=self.folder, check=True)
        return path


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Kept:
    assert request.config.cache is not None
    return Kept(request.config.cache.mkdir("programs"))


def check(summary: dict[str, Any], used: float, share: float, stolen: float) -> None:
    """The total is right, or a process was late to exit on a busy machine: that is a gap.

    `stolen`: the clock of perf runs while other machines and interrupts have the CPU.
    """
    cpu, most = summary["cpu"], share * used + SLACK_SECONDS
    if summary["processes"]["left"]:
        assert "left_running" in gaps_of(summary)
        assert bounded(summary, used), (used, cpu, summary["gaps"])
    else:
        excess = cpu["total_seconds"] - used
        assert -most <= excess <= most + (stolen if cpu["source"] == "perf" else 0.0), (used, cpu, summary["gaps"])


Check = Callable[[list[str]], None]


@pytest.fixture
def check_run(truth: Truth, tmp_path: Path, stolen: Callable[[], float]) -> Check:
    def run(job: list[str]) -> None:
        summary, used = run_and_check(truth, tmp_path, job), truth.cpu_seconds()
        assert used > 0.1
        check(summary, used, 0.005, stolen())

    return run


# -- languages that start processes in their own way -----------------------------------------------------------------


@needs("go")
def test_go_with_and_without_wait(check_run: Check, kept: Kept, cpu_jobs: str) -> None:
    program = kept.made("spawn", SUPPORT / "spawn.go", "go", "build", "-o", "spawn")
    check_run([str(program), cpu_jobs, "burn", "1", "30"])


@needs("java", "javac")
def test_java_process_builder(check_run: Check, kept: Kept, cpu_jobs: str) -> None:
    program = kept.made("Spawn.class", SUPPORT / "Spawn.java", "javac", "-d", ".")
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", str(program.parent), "Spawn"]
    check_run([*java, cpu_jobs, "burn", "1", "50"])


WORKERS = """
import hashlib, multiprocessing, sys
start = multiprocessing.get_context(sys.argv[1])
workers = [start.Process(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", 100_000)) for _ in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing(check_run: Check, method: str) -> None:
    """Row C9. Their helpers exit a little after the command; the fork server is the one that waits for workers."""
    check_run([*PYTHON, "-c", WORKERS, method])


# -- builds, and a tracer --------------------------------------------------------------------------------------------


CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(build NONE)
foreach(number RANGE 1 8)
  add_custom_target(work${number} ALL COMMAND ${BURN} burn 1 30)
endforeach()
"""


def build(generator: str, cpu_jobs: str, folder: Path) -> list[str]:
    """Return a command that builds eight targets with cmake, eight at once."""
    (folder / "CMakeLists.txt").write_text(CMAKE)
    made = f"cmake -G '{generator}' -DBURN={cpu_jobs} -S {folder} -B {folder}/made"
    return ["/bin/sh", "-c", f"{made} >/dev/null && cmake --build {folder}/made -- -j8 >/dev/null"]


def command_of(name: str, cpu_jobs: str, folder: Path) -> list[str]:
    if name == "strace":
        return ["strace", "-f", "-o", "/dev/null", cpu_jobs, "forks", "12", "20"]
    return build({"make": "Unix Makefiles", "ninja": "Ninja"}[name], cpu_jobs, folder)


TOOLS = [
    pytest.param("make", marks=needs("cmake", "make")),
    pytest.param("ninja", marks=needs("cmake", "ninja")),
    pytest.param("strace", marks=needs("strace")),
]


@pytest.mark.parametrize("name", TOOLS)
def test_run_of_builds_and_a_tracer(check_run: Check, cpu_jobs: str, tmp_path: Path, name: str) -> None:
    check_run(command_of(name, cpu_jobs, tmp_path))


@pytest.mark.parametrize("name", TOOLS)
def test_attach_to_builds_and_a_tracer(truth: Truth, cpu_jobs: str, tmp_path: Path, name: str) -> None:
    """Row A12. Builds end between two scans."""
    job = command_of(name, cpu_jobs, tmp_path)
    summary, used = attach_and_check(truth, tmp_path, job, 0.2 if name == "strace" else 5)
    assert used > 0.2
    assert bounded(summary, used), (used, summary["cpu"], summary["gaps"])
    if "perf" in summary["cpu"]["sources"]:
        assert attached_right(summary["cpu"]["total_seconds"], used, waiters=2), (used, summary["cpu"])


# -- tools of the shell ----------------------------------------------------------------------------------------------


AS_ROOT = """
unshare -pf --kill-child {jobs} forks 4 20 &
su -s /bin/sh nobody -c '{jobs} burn 1 80' &
"""
SCRIPT = """
setsid -f sh -c '{jobs} burn 1 80; : > done'
seq 8 | xargs -P 8 -I N {jobs} burn 1 10 &
bash -c 'for i in $(seq 40); do echo $i | cat | cat >/dev/null; done' &
nohup {jobs} burn 1 80 &
./unreadable burn 1 80 &
./setuid burn 1 80 &
wait
until [ -e done ]; do sleep 0.02; done
sleep 0.1
"""


@needs("setsid", "xargs", "bash", "unshare", "su")
@pytest.mark.parametrize("who", ["root", "user"])
def test_tools_of_the_shell(
    truth: Truth, user: User, cpu_jobs: str, tmp_path: Path, stolen: Callable[[], float], who: str
) -> None:
    """A session of its own, a PID namespace, another user, a setuid program, one that cannot be read."""
    if user.number is None:
        pytest.skip("no ordinary user")
    folder, owner = (user.folder, 0) if who == "user" else (tmp_path, user.number)
    for name, mode in {"setuid": 0o4755, "unreadable": 0o711}.items():
        shutil.copy(cpu_jobs, folder / name)
        os.chown(folder / name, owner, owner)
        (folder / name).chmod(mode)
    script = (SCRIPT if who == "user" else AS_ROOT + SCRIPT).format(jobs=cpu_jobs)
    job = ["/bin/sh", "-c", f"cd {folder} || exit 1\n{script}"]
    summary = run_and_check(truth, folder, job, user=user if who == "user" else None)
    used = truth.cpu_seconds()
    assert used > 0.08 * (5 if who == "user" else 7), "all of them ran"
    check(summary, used, 0.01 if who == "user" else 0.005, stolen())
