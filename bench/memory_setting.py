"""Where a job of `bench/memory.py` runs: a memory cgroup that says the truth, what surrounds it, and whose it is."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accuracy import python_for_nobody
from programs import HERE, TESTS, Missing, Programs

import proctally

ALONE, HIDDEN, NEIGHBOURS = WAYS = ("alone", "hidden", "neighbours")
NEIGHBOUR_MIB = 640
POLL_SECONDS = 0.02
JOB_SECONDS = 180
AROUND_SECONDS = 0.05  # a scan takes that long at most, or says so
FALL_SECONDS = 0.5
JOIN_FD = 9  # a digit: shells take no more
BY_DESCRIPTOR = f'echo 0 >&{JOIN_FD} && exec {JOIN_FD}>&- && exec "$@"'
BY_PATH = 'echo 0 >"$0" && exec "$@"'
# As in a container: no cgroup to read, and no process of others. The shell stays, as the init of the namespace.
HIDE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
HIDE += ["sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && { "$@"; exit $?; }', "sh"]
V1_KEYS = ("total_rss", "total_shmem")
V2_KEYS = ("anon", "shmem")


def memory_mount() -> tuple[Path, bool]:
    """Where memory cgroups can be made, and whether they are v2; raises Missing."""
    unified = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        point = Path(fields.split()[4])
        if kind == "cgroup" and "memory" in options.split(","):
            if os.access(point, os.W_OK):
                return point, False
        elif kind == "cgroup2" and "memory" in (point / "cgroup.controllers").read_text().split():
            unified = point
    if unified is None or not os.access(unified, os.W_OK):
        raise Missing("no writable memory cgroup")
    return unified, True


class Truth:
    """A cgroup as of a session, with one of the job in it; a thread reads the level of the latter every 20 ms.

    The session holds the tracker, and the neighbours where there are any. A v2 cgroup that has others below it holds
    no process: there the tracker has one of its own.
    """

    def __init__(self) -> None:
        mount, self.is_v2 = memory_mount()
        self.session = Path(tempfile.mkdtemp(prefix="proctally-memory-", dir=mount))
        self.session.chmod(0o755)
        self.job = self.session / "job"
        self.tracker = self.session / "tracker" if self.is_v2 else self.session
        if self.is_v2:
            (self.session / "cgroup.subtree_control").write_text("+memory")
            self.tracker.mkdir()
        self.job.mkdir()
        self.times: list[float] = []
        self.levels: list[int] = []
        self.foreign: list[int] = []  # shared memory of the machine that is not the job's
        self._stat = os.open(self.job / "memory.stat", os.O_RDONLY)
        opened = os.open(self.job / "cgroup.procs", os.O_WRONLY)
        os.dup2(opened, JOIN_FD, inheritable=True)
        os.close(opened)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def read(self) -> None:
        """Read the levels of this moment."""
        self.times.append(time.time())
        lines = dict(line.split() for line in os.pread(self._stat, 1 << 16, 0).decode().splitlines())
        anon, shared = (int(lines[key]) for key in (V2_KEYS if self.is_v2 else V1_KEYS))
        self.levels.append(anon + shared)
        with open("/proc/meminfo", "rb") as file:
            machine = next(int(line.split()[1]) for line in file if line.startswith(b"Shmem:"))
        self.foreign.append(machine * 1024 - shared)

    def _poll(self) -> None:
        if os.geteuid() == 0:  # beside load it has to be on time
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)
        while True:
            self.read()
            if self._ended.wait(POLL_SECONDS):
                return

    def limit(self, size: int) -> None:
        """Let the kernel kill the job above this size."""
        name = "memory.max" if self.is_v2 else "memory.limit_in_bytes"
        (self.job / name).write_text(str(size))

    def oom_kills(self) -> int:
        """How many processes of the job the kernel killed for memory."""
        name = "memory.events" if self.is_v2 else "memory.oom_control"
        lines = dict(line.split() for line in (self.job / name).read_text().splitlines())
        return int(lines["oom_kill"])

    def enter(self, folder: Path) -> None:
        """Move this process, before it executes."""
        (folder / "cgroup.procs").write_text("0")

    def job_argv(self, argv: list[str], by_path: bool = False) -> list[str]:
        """The command that joins the cgroup of the job and then becomes this one."""
        if by_path:
            return ["/bin/sh", "-c", BY_PATH, str(self.job / "cgroup.procs"), *argv]
        return ["/bin/sh", "-c", BY_DESCRIPTOR, "sh", *argv]

    @property
    def peak(self) -> int:
        return max(self.levels)

    @property
    def foreign_moved(self) -> int:
        """By how much shared memory of others changed: where no cgroup can be read it might be the job's."""
        return max(self.foreign) - min(self.foreign)

    def around(self, moment: float) -> tuple[int, int]:
        """The least and the most from the last reading before a sample to the first one after it."""
        first = max(0, bisect_right(self.times, moment - AROUND_SECONDS) - 1)
        last = bisect_left(self.times, moment + AROUND_SECONDS) + 1
        near = self.levels[first:last]
        return min(near), max(near)

    def fall(self, moment: float) -> int:
        """By how much the level falls around a sample, as at the end of a job: what ends counts in high alone."""
        before, at, after = (bisect_left(self.times, moment + far) for far in (-FALL_SECONDS, 0, FALL_SECONDS))
        return max(0, max(self.levels[before : at + 1]) - min(self.levels[at:after] or [0]))

    def as_text(self) -> str:
        """One line for each reading: its time and bytes."""
        return "".join(f"{at:.3f} {held}\n" for at, held in zip(self.times, self.levels, strict=True))

    def stop(self) -> None:
        if self._thread.is_alive():
            self._ended.set()
            self._thread.join()

    def close(self) -> None:
        self.stop()
        os.close(self._stat)
        os.close(JOIN_FD)
        for folder in dict.fromkeys((self.job, self.tracker, self.session)):
            for _ in range(250):
                try:
                    folder.rmdir()
                    break
                except OSError:  # processes that still exit, or that an end by force left behind
                    kill_all(folder)
                    time.sleep(0.02)


def kill_all(folder: Path) -> None:
    """Kill what is left in a cgroup of this bench."""
    for pid in (folder / "cgroup.procs").read_text().split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass


class Owner:
    """Whose job and tracker it is: `argv` becomes that user, who can read and write the folder."""

    def __init__(self, name: str, folder: Path, python: str, tracker: list[str], shapes: Path) -> None:
        self.name = name
        self.folder = folder
        self.python = python
        self.tracker = tracker
        self.shapes = shapes
        self.argv: list[str] = []
        self.environment = os.environ | {"PROCTALLY_HOME": str(folder / "home"), "HOME": str(folder)}


def root(programs: Programs) -> Owner:
    """The user of this process."""
    return Owner("root", programs.folder, programs.python, [programs.proctally], HERE / "shapes.py")


@contextmanager
def ordinary(name: str) -> Iterator[Owner]:
    """Another user, with copies of what that user might not be able to read."""
    entry = pwd.getpwnam(name)
    python = python_for_nobody()
    folder = Path(tempfile.mkdtemp(prefix="proctally-user-"))
    try:
        package = folder / "package"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(proctally.__file__).parent, package / "proctally", ignore=ignored)
        for path in (HERE / "shapes.py", TESTS / "memory_shapes.py"):
            shutil.copy(path, package)
        shutil.copytree(HERE / "drive", package / "drive", ignore=ignored)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        owner = Owner(name, folder, python, [python, "-m", "proctally"], package / "shapes.py")
        owner.argv = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--"]
        owner.environment = {
            "PATH": os.defpath + ":/usr/sbin:/sbin",
            "HOME": str(folder),
            "PYTHONPATH": str(package),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        yield owner
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(argv: list[str], enter: Callable[[], None] | None = None) -> Iterator[None]:
    """A process group beside the job, killed at the end."""
    process = subprocess.Popen(argv, preexec_fn=enter, start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


@contextmanager
def setting(way: str) -> Iterator[Truth]:
    """The truth of one job, and its neighbours where it has any."""
    truth = Truth()
    try:
        if way != NEIGHBOURS:
            yield truth
            return
        shape = [sys.executable, "-S", "-E", str(HERE / "shapes.py"), NEIGHBOURS, str(NEIGHBOUR_MIB), "0", "600"]
        with running(shape, lambda: truth.enter(truth.tracker)):
            time.sleep(1.5)  # until they hold most of it
            yield truth
    finally:
        truth.close()


@contextmanager
def load(count: int) -> Iterator[None]:
    """So many busy loops beside everything."""
    if count == 0:
        yield
        return
    loops = "for each in $(seq " + str(count) + "); do while :; do :; done & done; wait"
    with running(["sh", "-c", loops]):
        yield


def track(truth: Truth, way: str, owner: Owner, job: list[str], record: Path, options: tuple[str, ...]) -> float:
    """Track a job in a setting; return its wall seconds. Raises Missing when it fails."""
    words = [*owner.tracker, "run", "-q", "--no-gpu", "--force", *options, "-o", str(record), "--"]
    command = [*(HIDE if way == HIDDEN else []), *owner.argv, *words, *truth.job_argv(job)]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=owner.environment,
        cwd=owner.folder,
        pass_fds=(JOIN_FD,),
        preexec_fn=lambda: truth.enter(truth.tracker),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _, said = process.communicate(timeout=JOB_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Missing(f"did not end within {JOB_SECONDS} s") from None
    finally:
        truth.stop()
    if process.returncode:
        last = (said.strip().splitlines() or [""])[-1]
        raise Missing(f"ended with {process.returncode}: {last}")
    return time.monotonic() - started
