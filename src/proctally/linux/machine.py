"""The machine as one injected value, and the one door at which errors of the kernel are classified.

Nothing below a `Machine` touches the real host: tests point it at a small tree of files and at clocks of their own.
"""

from __future__ import annotations

import os
import time
from errno import EACCES, EINVAL, EMFILE, ENFILE, ENOENT, EPERM, ESRCH

from proctally.errors import AccessDenied, NoDescriptors, ProcessGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NANOSECONDS = 1_000_000_000


def classify(error: OSError) -> OSError:
    """The typed error for what the kernel said, by its number and never by its text.

    ENOENT comes from opening a path of a process that ended, ESRCH from reading a descriptor of one, EINVAL from the
    CPU clock of a pid that is not in use. Anything else is returned as it is.
    """
    number = error.errno
    if number in (ENOENT, ESRCH, EINVAL):
        return ProcessGone(number, error.strerror, error.filename)
    if number in (EACCES, EPERM):
        return AccessDenied(number, error.strerror, error.filename)
    if number in (EMFILE, ENFILE):
        return NoDescriptors(number, error.strerror, error.filename)
    return error


def classify_listing(error: OSError) -> OSError:
    """Return the same for a listing of all processes: a missing one is a missing procfs, and no process is gone."""
    reason = classify(error)
    return error if isinstance(reason, ProcessGone) else reason


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


READS_ALONE = 32  # some of them, as smaps_rollup of a large process, take milliseconds
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def nothing() -> None:
    """Do nothing."""


class Machine:
    """The host through its roots, its tick rate, its page size and its clocks.

    `proc`, `sys`: where procfs and sysfs are mounted. `ticks`: USER_HZ, the unit of `stat`; `tick_ns`: its nanoseconds.
    `page_size`: bytes. `memory_bytes`: of the machine, by sysinfo(2); None where unknown. `clock_gettime_ns`:
    clock_gettime(2), or None where only `stat` can be trusted for CPU times. `monotonic_ns`, `boottime_ns`, `time`: the
    clocks of the schedule, of process starts, and of the calendar. `attend`: called every READS_ALONE files and
    between the parts of a long reading, so that a caller can do what is urgent.
    """

    def __init__(
        self,
        proc: str = "/proc",
        *,
        sys: str = "/sys",
        ticks: int | None = None,
        page_size: int | None = None,
        memory_bytes: int | None = None,
        clock_gettime_ns: Callable[[int], int] | None = time.clock_gettime_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        boottime_ns: Callable[[], int] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Read nothing but constants of this host (sysconf(3)) for what is not given."""
        self.proc: str = proc
        self.sys: str = sys
        self.ticks: int = ticks or os.sysconf("SC_CLK_TCK")
        self.tick_ns: int = NANOSECONDS // self.ticks
        self.page_size: int = page_size or os.sysconf("SC_PAGESIZE")
        self.memory_bytes: int | None = memory_bytes or _memory_bytes()
        self.clock_gettime_ns: Callable[[int], int] | None = clock_gettime_ns
        self.monotonic_ns: Callable[[], int] = monotonic_ns
        self.boottime_ns: Callable[[], int] = boottime_ns or _boottime_ns
        self.time: Callable[[], float] = now
        self.attend: Callable[[], object] = nothing
        self._reads = 0
        self._last_pid_fd = -1
        self._booted_at: float | None = None

    def read(self, path: str, *, to_end: bool = False) -> bytes:
        """Return the whole of a file below `proc` as bytes. Raises `ProcessGone`, `AccessDenied` or `NoDescriptors`.

        `to_end`: for files of many records (`children`), of which one read gives a page or so; the others are one
        record that a single read gives whole (single_open in the kernel).
        """
        self._reads += 1
        if self._reads % READS_ALONE == 0:
            self.attend()
        return _read(f"{self.proc}/{path}", to_end=to_end)

    def read_sys(self, path: str) -> bytes:
        """Return the whole of a file below `sys` as bytes. Raises `ProcessGone`, `AccessDenied` or `NoDescriptors`."""
        return _read(f"{self.sys}/{path}", to_end=True)

    def open(self, path: str) -> int:
        """Return a descriptor of a file below `proc`, for `reread`.

        Raises `ProcessGone`, `AccessDenied` or `NoDescriptors`.
        """
        try:
            return os.open(f"{self.proc}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise classify(error) from None

    def clocks(self, ids: list[int]) -> list[int | None]:
        """Return the CPU nanoseconds of each of these clock ids, None for a process that is gone.

        One call of C for all.
        """
        read: list[int | None] = []
        if self.clock_gettime_ns is None:
            return [None] * len(ids)
        pending = map(self.clock_gettime_ns, ids)
        while True:
            try:
                read.extend(pending)
                return read
            except (OSError, OverflowError):  # the list has what came before it; the map continues behind it
                read.append(None)

    def last_pid(self) -> int | None:
        """Return the pid given out last in this pid namespace: while it is the same, no process and no thread was made.

        The last word of `/proc/loadavg`. None where that file is not the kernel's (a container's runtime can mount
        another one over it) or cannot be read.
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
        """Return whether this process is in the pid namespace of the host; None where unknown."""
        try:
            return os.readlink(f"{self.proc}/self/ns/pid") == INITIAL_PID_NAMESPACE
        except OSError:
            return None

    def start_unix(self, start_ticks: int) -> float:
        """Return the Unix seconds of a start in clock ticks since boot (field 22 of `stat`), always the same.

        The moment of the boot is read once: no two readings of two clocks are equally far apart, and `btime` of
        `/proc/stat` is cut to a second. A clock that is set later does not move it.
        """
        if self._booted_at is None:
            # a delay between the two clocks makes it too early: the latest of three is the nearest
            self._booted_at = max(self.time() - self.boottime_ns() / NANOSECONDS for _ in range(3))
        return self._booted_at + start_ticks / self.ticks


def cpu_ns(machine: Machine) -> int:
    """Return the CPU time of this thread; where a sandbox refuses that clock, the monotonic one, which is faster."""
    try:
        return time.thread_time_ns()
    except OSError:
        return machine.monotonic_ns()


def _memory_bytes() -> int | None:
    """Not from `meminfo`, which a daemon can serve in a container: such a file can block."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        return pages * os.sysconf("SC_PAGESIZE") if pages > 0 else None
    except (OSError, ValueError):
        return None


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def reread(fd: int, size: int = 4096) -> bytes:
    """The file of a kept-open descriptor from its beginning; raises `ProcessGone` when its process has ended.

    An empty answer is an ended process as well: no file that is read this way is ever empty while its process lives.
    """
    try:
        data = os.pread(fd, size, 0)
    except OSError as error:
        raise classify(error) from None
    if not data:
        raise ProcessGone(ESRCH, "the file of an ended process")
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


_machine: Machine | None = None
_is_told_of_forks = False


def this_machine() -> Machine:
    """The machine that this process runs on, as all functions here share it."""
    global _machine, _is_told_of_forks
    if _machine is None:
        _machine = host_machine()
        if not _is_told_of_forks:
            os.register_at_fork(after_in_child=_forget_machine)
            _is_told_of_forks = True
    return _machine


def _forget_machine() -> None:
    """A child may be in another pid namespace, where the pids of `/proc` are not those of the CPU clocks."""
    global _machine
    _machine = None
