"""A run cgroup: made below the cgroup of this process, removed at the end, swept after a crash.

Layouts: Documentation/admin-guide/cgroup-v2.rst. The user's own cgroups and their settings are never touched.
"""

from __future__ import annotations

import os
from errno import EACCES, EBUSY, EOPNOTSUPP, ESRCH, ESTALE

from proctally.errors import UNREADABLE, ProcessGone
from proctally.linux.cgroup import (
    DELETED,
    V2,
    parse_cgroup,
    parse_cpu_stat,
    parse_flat,
    parse_io_stat,
    parse_pressure,
    read_file,
    read_number,
)
from proctally.linux.child import pause
from proctally.linux.machine import Machine
from proctally.linux.proc import read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.linux.cgroup import Place

PREFIX = "proctally"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
REMOVE_PAUSES = (0.001, 0.004, 0.015, 0.0)  # seconds


class CgroupRefused(OSError):
    """No cgroup can be made, or the process cannot be moved into it; `errno` is the kernel's."""

    def __init__(self, number: int) -> None:
        super().__init__(number, os.strerror(number))


MEMORY_KEYS = (b"anon", b"file", b"active_file", b"inactive_file")


class CgroupReading:
    """What all that ever ran in a run's cgroup used, and what it holds now; None where this cgroup has no such file.

    `io`: [bytes read, bytes written, reads, writes]. `*_pressure_ns`: in which some task waited for it.
    `cache_bytes`: of files, which the kernel drops when it needs room.
    """

    __slots__ = (
        "anon_bytes", "cache_bytes", "cpu", "cpu_pressure_ns", "file_bytes", "io", "io_pressure_ns", "memory_bytes",
        "memory_peak_bytes", "memory_pressure_ns", "oom_kills", "pids_peak", "swap_bytes",
    )  # fmt: skip

    def __init__(self, directory: str) -> None:
        self.cpu = parse_cpu_stat(read_file(directory, "cpu.stat") or b"")
        self.memory_bytes = read_number(directory, "memory.current")
        self.memory_peak_bytes = read_number(directory, "memory.peak")
        memory = parse_flat(read_file(directory, "memory.stat") or b"", MEMORY_KEYS)
        self.anon_bytes = memory.get("anon")
        self.file_bytes = memory.get("file")
        self.cache_bytes = memory.get("active_file", 0) + memory.get("inactive_file", 0)
        self.swap_bytes = read_number(directory, "memory.swap.current")
        self.oom_kills = parse_flat(read_file(directory, "memory.events") or b"", (b"oom_kill",)).get("oom_kill")
        self.pids_peak = read_number(directory, "pids.peak")
        io = read_file(directory, "io.stat")
        self.io = None if io is None else parse_io_stat(io)
        self.cpu_pressure_ns = parse_pressure(read_file(directory, "cpu.pressure") or b"")
        self.memory_pressure_ns = parse_pressure(read_file(directory, "memory.pressure") or b"")
        self.io_pressure_ns = parse_pressure(read_file(directory, "io.pressure") or b"")


class RunCgroup:
    """A cgroup around one run, below the one in which this process lives, in the hierarchy `name`.

    No controller is ever enabled for it: a cgroup that does that may hold no process itself, and ours does. So there
    is what every cgroup has (`cpu.stat`, pressure), and more where the user has enabled it for the children.

    `fd`: its directory, locked (flock) as long as the run lives: a pid says that only to those who see it, and a
    `sweep` from another pid namespace does not.
    """

    def __init__(self, machine: Machine, parent: Place | None, pid: int, name: str = V2) -> None:
        """Make one below `parent`, where this process (`pid`) is (`places(...).get(name)`). Raises `CgroupRefused`."""
        self.name = name
        if parent is None:
            raise CgroupRefused(EOPNOTSUPP)
        try:
            start = read_stat(machine, pid).start if machine.procfs_missing is None else 0
            folder = f"{PREFIX}-{pid}-{start}-{os.urandom(3).hex()}"
        except UNREADABLE:
            raise CgroupRefused(ESRCH) from None
        self.machine = machine
        self.directory = f"{parent.directory}/{folder}"
        self.path = f"{parent.path.rstrip('/')}/{folder}"
        try:
            os.mkdir(self.directory, 0o755)
        except OSError as error:
            raise CgroupRefused(error.errno or 0) from None
        self.fd = -1
        try:
            self.fd = os.open(self.directory, DIRECTORY)
            _lock(self.fd)
            # To move a process takes the right to write to the nearest cgroup around both ends as well.
            if not os.access(f"{parent.directory}/cgroup.procs", os.W_OK, effective_ids=True):
                raise PermissionError(EACCES, "cgroup.procs")
            if b"invalid" in (read_file(self.directory, "cgroup.type") or b""):  # below a threaded one
                raise OSError(EOPNOTSUPP, "cgroup.type")
        except OSError as error:
            self.remove()
            raise CgroupRefused(error.errno or 0) from None

    def add(self, pid: int) -> None:
        """Move a process with all its threads here. Raises `ProcessGone` or `CgroupRefused`. Past use stays there."""
        try:
            _write(self.directory, "cgroup.procs", b"%d" % pid)
        except OSError as error:
            if error.errno == ESRCH:
                raise ProcessGone(ESRCH, f"process {pid}") from None
            raise CgroupRefused(error.errno or 0) from None

    def read(self) -> CgroupReading:
        """What it holds now and used so far; all None once it was removed."""
        return CgroupReading(self.directory)

    def used_ns(self) -> int | None:
        """Nanoseconds of CPU of all that ever ran in it; None once it was removed."""
        return parse_cpu_stat(read_file(self.directory, "cpu.stat") or b"").usage_ns

    def pids(self) -> list[int]:
        """The processes in it and in the cgroups that the job made below it; zombies are in none.

        One of a foreign pid namespace has no number here, and is left out.
        """
        return [pid for pid in _listed(self.directory) if pid]

    def left(self, pids: Iterable[int]) -> list[int]:
        """Those of these processes that live, but elsewhere: what they use is not counted here."""
        return [pid for pid in pids if self._holds(pid) is False]

    def _holds(self, pid: int) -> bool | None:
        try:
            path = parse_cgroup(self.machine.read(f"{pid}/cgroup")).get(self.name)
            # v1 shows `/` for a process that exits (cgroup_exit)
            if path == "/" and self.name != V2 and self.machine.read(f"{pid}/statm").startswith(b"0 "):
                return None
        except UNREADABLE:
            return None
        return path is not None and (path.removesuffix(DELETED) + "/").startswith(self.path + "/")

    def kill(self) -> bool:
        """SIGKILL to all that is in it, at once and without a race (`cgroup.kill`, 5.14); False where there is none."""
        try:
            _write(self.directory, "cgroup.kill", b"1")
        except OSError:
            return False
        return True

    def remove(self) -> bool:
        """Remove it with those below it, and give up `fd`. False while processes are in it: a later `sweep` does it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        return _remove(self.directory)


def _listed(directory: str) -> list[int]:
    """The processes of a cgroup and of those below it, 0 for one of a foreign pid namespace."""
    # A threaded cgroup has none of its own (EOPNOTSUPP): its processes are listed where its domain is.
    listings = (read_file(folder, "cgroup.procs") or b"" for folder, _, _ in os.walk(directory))
    return [int(word) for listing in listings for word in listing.split() if word.isdigit()]


def sweep(machine: Machine, parent: Place) -> int:
    """Remove what runs that are dead left below `parent`, where nothing lives in it; how many were removed."""
    try:
        names = os.listdir(parent.directory)
    except OSError:
        return 0
    return sum(_abandoned(machine, parent, name) and _remove(f"{parent.directory}/{name}") for name in names)


def owner(name: str) -> tuple[int, int] | None:
    """(pid, start ticks) of the run that made a cgroup of this name; None for any other name."""
    parts = name.split("-")
    if len(parts) != 4 or parts[0] != PREFIX or not name.isascii() or len(parts[3]) != 6:
        return None
    digits = parts[1].isdecimal() and parts[2].isdecimal() and len(name) < 64
    return (int(parts[1]), int(parts[2])) if digits and not parts[3].strip("0123456789abcdef") else None


def _abandoned(machine: Machine, parent: Place, name: str) -> bool:
    """Whether a run made this and is dead: a pid that is not seen may be hidden or of another namespace, a lock not."""
    made_by = owner(name)
    try:
        if made_by is None or read_stat(machine, made_by[0]).start == made_by[1]:
            return False
    except ProcessGone:
        pass
    except UNREADABLE:
        return False
    try:
        fd = os.open(f"{parent.directory}/{name}", DIRECTORY)
    except OSError:
        return False
    try:
        _lock(fd)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _lock(fd: int) -> None:
    """Raises OSError where another holds it: with ESTALE, for what the kernel says means another thing for a cgroup."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise OSError(ESTALE, "swept by another run") from None


def _write(directory: str, name: str, data: bytes) -> None:
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _remove(directory: str) -> bool:
    """Remove a cgroup, those below it first, unless processes are in any of them; whether it is gone.

    From 6.19 on (cgroup_task_dead) a cgroup is busy for a moment after the last of its processes was reaped.
    """
    for seconds in REMOVE_PAUSES:
        if _listed(directory):
            return False
        try:
            for folder, _, _ in os.walk(directory, topdown=False):
                os.rmdir(folder)
            break
        except OSError as error:
            if error.errno != EBUSY:
                break
            pause(seconds)
    return not os.path.isdir(directory)
