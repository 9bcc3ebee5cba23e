"""How far the CPU total of each hostile job is from the kernel's own accounting of a cgroup that holds it alone.

Of every source by itself, and of what `run` says by default; of a tracker of root and of an ordinary user.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from programs import TESTS, Missing, Programs
from table import Head, Line, Share, Shares

import proctally
from truth import Truth, available, cpu_truth, mounts, remove
from workloads import WORKLOADS, Workload

JOBS = TESTS / "workloads.py"
NOBODY = 65534
SLACK_SECONDS = 0.02
ROOT_SHARE, USER_SHARE = 0.005, 0.01

# how a column is got: the options of `run`, and the source whose total is shown (None: the total of the summary)
COLUMNS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "procfs": (("--source", "procfs"), "procfs"),
    "perf": (("--source", "perf"), "perf"),
    "--cgroup": (("--cgroup",), None),
    "auto": ((), None),
}


class User:
    """Whose tracker it is: an interpreter, jobs and a place to write that this user can reach."""

    def __init__(self, name: str, uid: int, command: list[str], python: str, jobs: Path, folder: Path) -> None:
        self.name = name
        self.uid = uid
        self.command = command
        self.python = python
        self.jobs = jobs
        self.folder = folder
        self.environment = {"PATH": os.defpath, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def separate_truth() -> Iterator[Truth]:
    """A truth in a hierarchy other than that in which `--cgroup` works: v1 beside v2.

    A job that enters a cgroup of the same hierarchy leaves the one that proctally has made for it.
    """
    mount = next((mount for mount in mounts() if not (mount / "cgroup.controllers").exists()), None)
    if mount is None:
        raise Missing("no cgroup hierarchy apart from that of --cgroup")
    truth = Truth(Path(tempfile.mkdtemp(prefix="proctally-truth-", dir=mount)))
    try:
        truth.job.mkdir()
        truth.tracker.mkdir()
        yield truth
    finally:
        remove(truth)


def separate_truth_exists() -> bool:
    try:
        with separate_truth():
            return True
    except (Missing, OSError):
        return False


def python_for_nobody() -> str:
    """An interpreter that an ordinary user may execute: that of this environment may lie in a private place."""
    version = f"python3.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}", "/usr/bin/python3"):
        try:
            subprocess.run(
                [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                check=True,
                stderr=subprocess.DEVNULL,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    raise Missing("no Python 3.11 or newer that an ordinary user may execute")


@contextmanager
def ordinary_user() -> Iterator[User]:
    """Copies of the package and of the jobs, where every user can read them."""
    python = python_for_nobody()
    folder = Path(tempfile.mkdtemp(prefix="proctally-user-"))
    try:
        package = Path(proctally.__file__).parent
        shutil.copytree(package, folder / "proctally", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(JOBS, folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(folder, NOBODY, NOBODY)
        user = User("user", NOBODY, [python, "-m", "proctally"], python, folder / JOBS.name, folder)
        user.environment["PYTHONPATH"] = str(folder)
        yield user
    finally:
        shutil.rmtree(folder)


def measure(user: User, name: str, column: str) -> Share | None:
    """One job under one source: what is said of it; None where this source cannot be had here."""
    options, source = COLUMNS[column]
    record = user.folder / "accuracy.jsonl"
    with separate_truth() if column == "--cgroup" else cpu_truth() as truth:
        job = truth.enter_argv([user.python, "-S", str(user.jobs), name])
        done = subprocess.run(
            [*user.command, "run", "-q", "-i", "0.2", "--force", "-o", str(record), *options, "--", *job],
            env=user.environment,
            preexec_fn=truth.give_to(user.uid) if user.uid else None,
            capture_output=True,
            text=True,
        )
        used = truth.cpu_seconds()
    if done.returncode == 125 and source is not None:
        return None
    if done.returncode:
        raise Missing(f"the job {name} ended with {done.returncode}: {done.stderr.strip()}")
    cpu = json.loads(record.read_text(encoding="utf-8").splitlines()[-1])["cpu"]
    # what procfs and wait4 say together is shown under either name
    shown = {"procfs": max(cpu["sources"].get(name, 0.0) for name in ("procfs", "rusage"))} | cpu["sources"]
    total = cpu["total_seconds"] if source is None else shown.get(source)
    if total is None:
        return None
    return Share(total, used, promised(user, WORKLOADS[name], column, used, "perf" in cpu["sources"]))


def promised(user: User, workload: Workload, column: str, used: float, perf: bool) -> float | None:
    """CPU seconds by which this total may be off; None where nothing is promised."""
    if column == "--cgroup":
        return ROOT_SHARE * used + SLACK_SECONDS
    if column != "auto" or not (workload.seen or (workload.seen_by_perf and (perf or user.uid == 0))):
        return None
    return (USER_SHARE if user.uid else ROOT_SHARE) * used + SLACK_SECONDS


def columns_of(user: User) -> list[str]:
    """A cgroup of its own takes root, or a subtree that was delegated; and the truth has to stand beside it."""
    with_cgroup = user.uid == 0 and separate_truth_exists()
    return [column for column in COLUMNS if column != "--cgroup" or with_cgroup]


def row(users: list[User], name: str, workload: Workload) -> Shares:
    """One job with every source of every user."""
    cells: list[Share | None] = []
    for user in users:
        for column in columns_of(user):
            cells.append(measure(user, name, column) if user.uid == 0 or not workload.needs_root else None)
    measured = [cell.truth for cell in cells if cell is not None]
    return Shares(f"{name}: {workload.description}", sum(measured) / len(measured), cells)


def accuracy(programs: Programs) -> Iterator[Line]:
    """Every job with every source, as root and as an ordinary user."""
    reason = available()
    if reason is not None:
        raise Missing(reason)
    root = User("root", 0, [programs.proctally], programs.python, JOBS, programs.folder)
    with ordinary_user() as user:
        yield Head([f"{each.name} {column}" for each in (root, user) for column in columns_of(each)])
        for name, workload in WORKLOADS.items():
            yield row([root, user], name, workload)
