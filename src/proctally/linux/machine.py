"""The machine as one injected value, and the one door at which errors of the kernel are classified.

Nothing below a `Machine` touches the real host: tests point it at a small tree of files and at clocks of their own.
"""

from __future__ import annotations

import os
import time
from errno import EACCES, EINVAL, EMFILE, ENFILE, ENOENT, EPERM, ESRCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NANOSECONDS = 1_000_000_000


class Gone(LookupError):
    """The process (or the thread, or the file that belonged to it) no longer exists."""


class Denied(PermissionError):
    """The kernel does not let this user read that."""


class Exhausted(OSError):
    """No descriptor is left, in this process or on the machine."""


UNREADABLE = (Gone, Denied, Exhausted)


def classify(error: OSError) -> Exception:
    """The typed error for what the kernel said, by its number and never by its text.

    ENOENT comes from opening a path of a process that ended, ESRCH from reading a descriptor of one, EINVAL from the
    CPU clock of a pid that is not in use. Anything else is returned as it is.
    """
    number = error.errno
    if number in (ENOENT, ESRCH, EINVAL):
        return Gone(*error.args)
    if number in (EACCES, EPERM):
        return Denied(number, error.strerror, error.filename)
    if number in (EMFILE, ENFILE):
        return Exhausted(number, error.strerror, error.filename)
    return error


def classify_listing(error: OSError) -> OSError:
    """The same for a listing of all processes: what is missing then is procfs, and nobody is gone."""
    reason = classify(error)
    return reason if isinstance(reason, OSError) else error


def clock_id(pid: int) -> int:
    """The id of the CPU clock of a whole process, dead threads included: `clock_getcpuclockid(3)`.

    CPUCLOCK_SCHED of a process in kernel/time/posix-cpu-timers.c: nanoseconds, any user's processes, zombies too. It
    knows only a pid, so whose time was read must be made sure of afterwards.
    """
    return (~pid << 3) | 2


def _read(path: str, *, to_end: bool) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise classify(error) from None
    try:
        data = os.read(fd, 65536)
        while to_end and data and (more := os.read(fd, 65536)):
            data += more
        return data
    except OSError as error:
        error.filename = path
        raise classify(error) from None
    finally:
        os.close(fd)


INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
SPARE = 8  # descriptors that are left for reading /proc, or there is no tracking at all


def seconds(nanoseconds: int) -> float:
    """As records hold them: to a tenth of a millisecond."""
    return round(nanoseconds / NANOSECONDS, 4)


class Machine:
    """The host through its roots, its tick rate, its page size and its clocks.

    `proc`, `sys`: where procfs and sysfs are mounted. `ticks`: USER_HZ, the unit of `stat`. `page_size`: bytes.
    `clock_gettime_ns`: clock_gettime(2), or None where only `stat` can be trusted for CPU times.
    `monotonic_ns`, `boottime_ns`, `time`: the clocks of the schedule, of process starts, and of the calendar.
    """

    __slots__ = (
        "_last_pid_fd",
        "boottime_ns",
        "clock_gettime_ns",
        "monotonic_ns",
        "page_size",
        "proc",
        "sys",
        "tick_ns",
        "ticks",
        "time",
    )

    def __init__(
        self,
        proc: str = "/proc",
        *,
        sys: str = "/sys",
        ticks: int | None = None,
        page_size: int | None = None,
        clock_gettime_ns: Callable[[int], int] | None = time.clock_gettime_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        boottime_ns: Callable[[], int] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.proc = proc
        self.sys = sys
        self.ticks = ticks or os.sysconf("SC_CLK_TCK")
        self.tick_ns = NANOSECONDS // self.ticks
        self.page_size = page_size or os.sysconf("SC_PAGESIZE")
        self.clock_gettime_ns = clock_gettime_ns
        self.monotonic_ns = monotonic_ns
        self.boottime_ns = boottime_ns or _boottime_ns
        self.time = now
        self._last_pid_fd = -1

    def read(self, path: str, *, to_end: bool = False) -> bytes:
        """The whole of a file below `proc` as bytes; raises `Gone`, `Denied` or `Exhausted`.

        `to_end`: for files of many records (`children`), of which one read gives a page or so; the others are one
        record that a single read gives whole (kernel: single_open).
        """
        return _read(f"{self.proc}/{path}", to_end=to_end)

    def read_sys(self, path: str) -> bytes:
        """The whole of a file below `sys`; raises the same."""
        return _read(f"{self.sys}/{path}", to_end=True)

    def open(self, path: str) -> int:
        """A descriptor of a file below `proc`, to be read with `reread`; raises `Gone`, `Denied`, `Exhausted`."""
        try:
            return os.open(f"{self.proc}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise classify(error) from None

    def clocks(self, ids: list[int]) -> list[int | None]:
        """CPU nanoseconds behind each of these clock ids, None for a process that is gone; one call of C for all."""
        read: list[int | None] = []
        if self.clock_gettime_ns is None:
            return [None] * len(ids)
        pending = map(self.clock_gettime_ns, ids)
        while True:
            try:
                read.extend(pending)
                return read
            except OSError:  # what came before it is in the list; the map goes on behind it
                read.append(None)

    def last_pid(self) -> int | None:
        """The pid given out last in this pid namespace: when it stands still, no process and no thread was made.

        The last word of `/proc/loadavg`. None where that file is not the kernel's (a container's runtime may mount
        one of its own over it) or cannot be read.
        """
        path = f"{self.proc}/loadavg"
        try:
            if self._last_pid_fd == -1:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._last_pid_fd = fd if os.fstat(fd).st_dev == os.stat(self.proc).st_dev else -2
            if self._last_pid_fd < 0:
                return None
            return int(os.pread(self._last_pid_fd, 128, 0).split()[4])
        except (OSError, ValueError, IndexError):
            self._last_pid_fd = -2
            return None

    def close(self) -> None:
        """Close what is kept open."""
        fd, self._last_pid_fd = self._last_pid_fd, -2
        if fd >= 0:
            os.close(fd)

    __del__ = close

    def in_initial_pid_namespace(self) -> bool | None:
        """Whether this process is in the host's own pid namespace; None where that is not told."""
        try:
            return os.readlink(f"{self.proc}/self/ns/pid") == INITIAL_PID_NAMESPACE
        except OSError:
            return None

    def start_unix(self, start_ticks: int) -> float:
        """Unix seconds at which a process with this start (field 22 of `stat`, ticks since boot) began."""
        age_ns = self.boottime_ns() - start_ticks * self.tick_ns
        return self.time() - age_ns / NANOSECONDS


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def reread(fd: int, size: int = 4096) -> bytes:
    """The file of a kept-open descriptor from its beginning; raises `Gone` when its process has ended.

    An empty answer is an ended process as well: no file that is read this way is ever empty while its process lives.
    """
    try:
        data = os.pread(fd, size, 0)
    except OSError as error:
        raise classify(error) from None
    if not data:
        raise Gone(ESRCH, "the file of an ended process")
    return data


def host_machine() -> Machine:
    """The machine this process runs on.

    Where `/proc` is that of another pid namespace, its pids are not those of the CPU clocks, and a sandbox may refuse
    the clocks of others: they are then left out and `stat` is used alone.
    """
    machine = Machine()
    try:
        own = os.readlink(f"{machine.proc}/self")
    except OSError:
        own = ""
    parent = os.getppid()
    try:
        if parent:
            time.clock_gettime_ns(clock_id(parent))
    except OSError:
        if os.path.exists(f"{machine.proc}/{parent}/stat"):
            machine.clock_gettime_ns = None
    if own != str(os.getpid()):
        machine.clock_gettime_ns = None
    return machine


def leave_spare() -> None:
    """Raises OSError (EMFILE) when too few descriptors are left for reading /proc."""
    spare: list[int] = []
    try:
        while len(spare) < SPARE:
            spare.append(os.dup(2))
    finally:
        for fd in spare:
            os.close(fd)
