"""The second truth for CPU totals: what the kernel's own accounting says that a job used.

A fresh cgroup holds the job and nothing else, least of all the tracker: v2 under the unified mount where it can be
written (`cpu.stat` exists in every v2 cgroup, without any controller), otherwise v1 `cpuacct`. It takes root.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ENTER = 'echo $$ > "$0" && exec "$@"'


class Truth:
    """One cgroup with two below it: `job` is measured; `tracker` holds a tracker that is an ordinary user's.

    Both and their parent can be given to a user: who is below a directory may move a process of his own from one to
    the other, so that his tracker starts a job that enters `job` while the tracker stays out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = folder / "job"
        self.tracker = folder / "tracker"

    def enter_argv(self, argv: list[str]) -> list[str]:
        """The command that enters the cgroup and then becomes this one."""
        return ["/bin/sh", "-c", ENTER, str(self.job / "cgroup.procs"), *argv]

    def cpu_seconds(self) -> float:
        """CPU seconds of all that ran in `job`, dead or alive."""
        try:
            lines = (self.job / "cpu.stat").read_text().splitlines()
        except FileNotFoundError:
            return int((self.job / "cpuacct.usage").read_text()) / 1e9
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6

    def pids(self) -> list[int]:
        """The processes that are in `job` now."""
        return [int(line) for line in (self.job / "cgroup.procs").read_text().split()]

    def give_to(self, user: int) -> Callable[[], None]:
        """Let an ordinary user's tracker put its job here; what its process has to call before exec."""
        self.folder.chmod(0o755)
        for folder in (self.folder, self.job, self.tracker):
            os.chown(folder / "cgroup.procs", user, -1)

        def become_user() -> None:
            (self.tracker / "cgroup.procs").write_text("0")
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)

        return become_user


class Log:
    """The truth over time, polled by a thread, to be asked for any moment in between."""

    def __init__(self, truth: Truth, every: float = 0.005) -> None:
        self.truth = truth
        self.every = every
        self.points: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def _poll(self) -> None:
        while True:
            before = time.time()
            used = self.truth.cpu_seconds()
            self.points.append(((before + time.time()) / 2, used))
            if self._stop.wait(self.every):
                return

    def __enter__(self) -> Log:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(4 * self.every)  # what ended just now, to the last digit that was written of it, lies before the end
        self._stop.set()
        self._thread.join()

    def cpu_seconds_at(self, moment: float) -> float:
        """CPU seconds at this Unix time, interpolated; it must lie within what was polled."""
        for (begin, low), (end, high) in zip(self.points, self.points[1:], strict=False):
            if begin <= moment <= end:
                return low + (high - low) * (moment - begin) / (end - begin)
        raise ValueError(f"{moment} lies outside {self.points[0][0]} to {self.points[-1][0]}")


def mounts() -> list[Path]:
    """Where a cgroup with CPU accounting can be made, the best first: v2 mounts, then v1 ones with `cpuacct`."""
    unified, accounting = [], []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        point = Path(fields.split()[4].encode().decode("unicode_escape"))
        if kind == "cgroup2":
            unified.append(point)
        elif kind == "cgroup" and "cpuacct" in options.split(","):
            accounting.append(point)
    return unified + accounting


def of_v1() -> list[Path]:
    return [mount for mount in mounts() if (mount / "cpuacct.usage").exists()]


def make(points: list[Path] | None = None) -> Truth:
    """A truth with fresh cgroups; raises OSError where none can be made or nothing is accounted."""
    reason = OSError("no cgroup with CPU accounting is mounted")
    for mount in mounts() if points is None else points:
        try:
            folder = Path(tempfile.mkdtemp(prefix="proctally-truth-", dir=mount))
        except OSError as error:
            reason = error
            continue
        truth = Truth(folder)
        try:
            truth.job.mkdir()
            truth.tracker.mkdir()
            truth.cpu_seconds()
            return truth
        except OSError as error:
            reason = error
            remove(truth)
    raise reason


def remove(truth: Truth) -> None:
    """Kill what is left in the cgroups and remove them."""
    for folder in (truth.job, truth.tracker, truth.folder):
        deadline = time.monotonic() + 5
        while folder.exists():
            try:
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                folder.rmdir()
            except (FileNotFoundError, ProcessLookupError):
                continue
            except OSError:  # busy until the killed have been reaped
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def available() -> str | None:
    """None, or in one line why there is no truth to compare with on this machine."""
    if os.geteuid() != 0:
        return "only root can make the cgroup to compare with"
    try:
        remove(make())
    except OSError as error:
        return f"no cgroup to compare with can be made: {error}"
    return None


def no_cpuacct() -> str | None:
    """None, or in one line why no v1 cgroup can be the truth for a job that lives in a v2 one of its own."""
    if os.geteuid() != 0:
        return "only root can make the cgroup to compare with"
    return None if of_v1() else "no v1 cpuacct hierarchy beside v2 to compare with"


@contextmanager
def cpuacct_truth() -> Iterator[Truth]:
    truth = make(of_v1())
    try:
        yield truth
    finally:
        remove(truth)


@contextmanager
def cpu_truth() -> Iterator[Truth]:
    truth = make()
    try:
        yield truth
    finally:
        remove(truth)


def stolen_ns() -> int:
    """Time in which this machine's CPUs served interrupts or another machine (proc_stat(5)), since it started."""
    fields = Path("/proc/stat").read_bytes().split(b"\n", 1)[0].split()
    return sum(map(int, fields[6:9])) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def agree(ours: Callable[[], dict[str, float | None]], theirs: Callable[[], dict[str, float]], drift: float) -> None:
    """Levels move while they are read: of many looks one has to be as near as that."""
    seen = []
    for _ in range(50):
        mine, truth = ours(), theirs()
        assert mine.keys() >= truth.keys()
        far = {name: (mine[name], value) for name, value in truth.items() if abs((mine[name] or 0) - value) > drift}
        if not far:
            return
        seen.append(far)
    raise AssertionError(seen[-3:])
