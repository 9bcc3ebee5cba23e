"""The machine as one injected value, and the one door at which errors of the kernel are classified.

Nothing below a `Machine` touches the real host: tests point it at a small tree of files and at clocks of their own.
"""

from __future__ import annotations

import os
import time
from errno import EACCES, EFBIG, EINVAL, EMFILE, ENFILE, ENOENT, EPERM, ESRCH

from proctally.errors import AccessDenied, FileServed, NoDescriptors, NoProcfs, ProcessGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

NANOSECONDS = 1_000_000_000
SERVED = (b" - fuse", b" - 9p ", b" - nfs", b" - virtiofs ", b" - cifs ")  # what to look for in mountinfo


def classify(error: OSError) -> OSError:
    """The typed error for what the kernel said, by its number and never by its text.

    ENOENT comes from opening a path of a process that ended, ESRCH from reading a descriptor of one, EINVAL from the
    CPU clock of a pid that is not in use. Anything else is returned as it is.
    """
    if isinstance(error, NoProcfs):
        return error
    number = error.errno
    if number in (ENOENT, ESRCH, EINVAL):
        return ProcessGone(number, error.strerror, error.filename)
    if number in (EACCES, EPERM):
        return AccessDenied(number, error.strerror, error.filename)
    if number in (EMFILE, ENFILE):
        return NoDescriptors(number, error.strerror, error.filename)
    return error


def clock_id(pid: int) -> int:
    """The id of the CPU clock of a whole process, dead threads included: `clock_getcpuclockid(3)`.

    CPUCLOCK_SCHED of a process in kernel/time/posix-cpu-timers.c: nanoseconds, any user's processes, zombies too. It
    knows only a pid, so whose time was read must be made sure of afterwards.
    """
    return (~pid << 3) | 2


# What is mounted over a file of /proc or /sys may be a FIFO without writer, a terminal, or an endless device.
READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
MOST_BYTES = 1 << 23  # the longest are command lines: 6 MiB (bprm_stack_limits in fs/exec.c)


def check_size(size: int) -> None:
    """Raise OSError where a file is longer than any that the kernel makes."""
    if size > MOST_BYTES:
        raise OSError(EFBIG, os.strerror(EFBIG))


def contents(path: str, *, to_end: bool) -> bytes:
    """Return the content of a file of the kernel; of a FIFO, what is there. Raises the errors of `classify`."""
    try:
        fd = os.open(path, READING)
    except OSError as error:
        raise classify(error) from None
    try:
        data = os.read(fd, 65536)
        while to_end and data and (more := os.read(fd, 65536)):
            data += more
            check_size(len(data))
        return data
    except OSError as error:
        error.filename = path
        raise classify(error) from None
    finally:
        os.close(fd)


READS_ALONE = 32  # some of them, as smaps_rollup of a large process, take milliseconds
PROCFS_MISSING, PROCFS_FOREIGN = "procfs_missing", "procfs_foreign"  # as in record/codes.py
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def nothing() -> None:
    """Do nothing."""


def refuse_copy(self: object, protocol: object) -> NoReturn:
    """Raise TypeError: a copy would close the descriptors of the original. In place of `__reduce_ex__`."""
    raise TypeError(f"a {type(self).__name__} holds descriptors and cannot be copied or pickled")


class Machine:
    """The host through its roots, its tick rate, its page size and its clocks.

    `proc`, `sys`: where procfs and sysfs are mounted. `ticks`: USER_HZ, the unit of `stat`; `tick_ns`: its nanoseconds.
    `page_size`: bytes. `memory_bytes`: of the machine, by sysinfo(2); None where unknown. `clock_gettime_ns`:
    clock_gettime(2), or None where only `stat` can be trusted for CPU times. `monotonic_ns`, `boottime_ns`, `time`: the
    clocks of the schedule, of process starts, and of the calendar. `attend`: called every READS_ALONE files and
    between the parts of a long reading, so that a caller can do what is urgent.

    What `host_machine` finds out: `procfs_missing`: the code that says why nothing of a process can be read, or None;
    `procfs_device`: device number of the file system for which that holds.
    `has_wrong_clocks`: whether CPU clocks disagreed with times(2). `served`: paths of files and directories of procfs
    and sysfs that a daemon answers for; `refused`: those that were wanted. `aside`: returns what such a file below
    `proc` said, where another process reads it.
    """

    _last_pid_fd = -1  # also where a handler of a signal interrupts __init__

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
        now: Callable[[], float] | None = None,
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
        self.time: Callable[[], float] = now or _unix_time
        self.attend: Callable[[], object] = nothing
        self._reads = 0
        self.procfs_missing: str | None = None
        self.procfs_device: int | None = None
        self.has_wrong_clocks: bool = False
        self.served: frozenset[str] = frozenset()
        self.refused: set[str] = set()
        self.aside: Callable[[str], bytes] | None = None
        self._heeds_served = False
        self._first_mountinfo: bytes | None = None
        self._booted_at: float | None = None

    def read(self, path: str, *, to_end: bool = False) -> bytes:
        """Return the whole of a file below `proc` as bytes.

        Raises `ProcessGone`, `AccessDenied`, `NoDescriptors`, `NoProcfs` or `FileServed`. `to_end`: for files of many
        records (`children`), of which one read gives a page or so; the others are one record that a single read gives
        whole (single_open in the kernel).
        """
        try:
            return contents(self.path(path), to_end=to_end)
        except ProcessGone as error:
            raise self.classify(error) from None

    def has_process(self, pid: int) -> bool:
        """Return whether there is a process or a thread, for less than half of what a failed `read` takes."""
        return os.access(f"{self.proc}/{pid}", os.F_OK)

    def mountinfo(self) -> bytes:
        """Return `self/mountinfo`, at the first call as `host_machine` read it: a start reads it once."""
        first, self._first_mountinfo = self._first_mountinfo, None
        return self.read("self/mountinfo", to_end=True) if first is None else first

    def note_served(self) -> None:
        """Find out what a daemon answers for."""
        self._heeds_served = True
        try:
            self._first_mountinfo = mounts = self.mountinfo()
        except OSError:
            return
        self.note_mounts(mounts)

    def note_mounts(self, mounts: bytes) -> None:
        """Find the same in a mountinfo, also in one that changed. Files that are kept open stay those of the kernel."""
        if not self._heeds_served:
            return
        self.served = frozenset()
        if any(kind in mounts for kind in SERVED):
            from proctally.linux.mounts import served

            self.served = served(mounts, (self.proc, self.sys))

    def forget_served(self) -> None:
        """Read every file, also where a daemon answers."""
        self.served, self._first_mountinfo, self._heeds_served = frozenset(), None, False

    def read_or_aside(self, path: str, *, to_end: bool = False) -> bytes:
        """Return the same; of a file that a daemon serves, what it said to another process, as far as one reads it."""
        try:
            return self.read(path, to_end=to_end)
        except FileServed:
            if self.aside is None:
                raise
            return self.aside(path)

    def cpu_count(self) -> int:
        """Return the CPUs that are online; those that this process may use where sysconf(3) would wait for a file."""
        for file in (f"{self.sys}/devices/system/cpu/online", f"{self.proc}/stat"):
            if self.is_served(file) or (os.path.exists(file) and not os.path.isfile(file)):
                return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def read_sys(self, path: str) -> bytes:
        """Return the whole of a file below `sys` as bytes.

        Raises `ProcessGone`, `AccessDenied`, `NoDescriptors` or `FileServed`.
        """
        return contents(self.sys_path(path), to_end=True)

    def open(self, path: str) -> int:
        """Return a descriptor of a file below `proc`, for `reread`.

        Raises `ProcessGone`, `AccessDenied`, `NoDescriptors`, `NoProcfs` or `FileServed`.
        """
        try:
            return os.open(self.path(path), READING)
        except OSError as error:
            raise self.classify(error) from None

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory below `proc`. Raises the errors of `open`."""
        try:
            return os.listdir(self.path(path))
        except OSError as error:
            raise self.classify(error) from None

    def classify(self, error: OSError) -> OSError:
        """Return the typed error. A missing file is a missing procfs after chroot(2) or umount(2), no ended process."""
        if error.errno == ENOENT and (missing := self.why_no_procfs()) is not None:
            return NoProcfs(missing, self.proc)
        return classify(error)

    def why_no_procfs(self) -> str | None:
        """Return the code that says why nothing of a process can be read at this moment; None where it can be.

        Each procfs of another pid namespace is a separate file system, with another device number.
        """
        if self.procfs_device is None:
            return self.procfs_missing or (None if os.path.lexists(f"{self.proc}/self") else PROCFS_MISSING)
        device = device_of(self.proc)
        if device == self.procfs_device:
            return self.procfs_missing
        missing = why_no_procfs(self)
        if missing is None:
            self.procfs_device = device
        return missing

    def path(self, path: str) -> str:
        """Return where a file below `proc` is. Raises `NoProcfs` or `FileServed` where it must not be opened."""
        if self.procfs_missing is not None and path[:1].isdecimal():
            raise NoProcfs(self.procfs_missing, self.proc)
        return self.unserved(f"{self.proc}/{path}")

    def sys_path(self, path: str) -> str:
        """Return where a file or directory below `sys` is. Raises `FileServed` where it must not be opened."""
        return self.unserved(f"{self.sys}/{path}")

    def unserved(self, path: str) -> str:
        """Return the path, which must not be opened where a daemon answers for it. Raises `FileServed`."""
        self._reads += 1
        if self._reads % READS_ALONE == 0:
            self.attend()
        if self.served and self.is_served(path):
            self.refused.add(path)
            raise FileServed(path)
        return path

    def is_served(self, path: str) -> bool:
        """Return whether a daemon answers for this path, or for a directory above it."""
        above = path.replace("/self/", f"/{os.getpid()}/", 1)
        while above and above not in self.served:
            above = above.rpartition("/")[0]
        return bool(above)

    def need_procfs(self) -> None:
        """Raise `NoProcfs` where nothing of a process can be read: from the start on, or at this moment."""
        if (missing := self.why_no_procfs()) is not None:
            raise NoProcfs(missing, self.proc)

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
        try:
            if self._last_pid_fd == -1:
                fd = self.open("loadavg")
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

    __reduce_ex__ = refuse_copy

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
    except (OSError, OverflowError):
        return machine.monotonic_ns()


def process_cpu_ns(machine: Machine) -> int:
    """Return the CPU time of this process."""
    return _times_ns() if machine.has_wrong_clocks else time.process_time_ns()


def _memory_bytes() -> int | None:
    """Not from `meminfo`, which a daemon can serve in a container: such a file can block."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        return pages * os.sysconf("SC_PAGESIZE") if pages > 0 else None
    except (OSError, ValueError):
        return None


# A library that shifts the clocks of a program (faketime) can put them beyond 2262: there Python raises OverflowError.


def _unix_time() -> float:
    """Return the Unix seconds; beyond what Python's clocks can hold, as the kernel stamps a new inode."""
    try:
        return time.time()
    except OverflowError:
        read, write = os.pipe()
        try:
            return os.fstat(read).st_mtime
        finally:
            os.close(read)
            os.close(write)


def monotonic() -> float:
    """Return the seconds of the monotonic clock; beyond what Python's clocks can hold, those of times(2)."""
    try:
        return time.monotonic()
    except OverflowError:
        return os.times().elapsed


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _unshifted(machine: Machine) -> Callable[[], int]:
    """Return a clock since boot by times(2), which nothing shifts, in steps of a tick."""
    try:
        since_boot = float(machine.read("uptime").split()[0])
    except (OSError, ValueError, IndexError):
        since_boot = 0.0
    start = os.times().elapsed - since_boot
    return lambda: round((os.times().elapsed - start) * NANOSECONDS)


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
    """Return the machine this process runs on, after one question to /proc and one to the clocks.

    Where `/proc` shows other processes than those of this pid namespace, nothing of a process is read. CPU clocks are
    left out, and `stat` is used alone, where a sandbox refuses those of others, or where they are shifted; the other
    clocks are then those of times(2).
    """
    machine = Machine()
    machine.note_served()
    machine.procfs_device = device_of(machine.proc)
    machine.procfs_missing = why_no_procfs(machine)
    machine.has_wrong_clocks = not _agree(machine.tick_ns)
    if machine.has_wrong_clocks:
        machine.monotonic_ns = machine.boottime_ns = _unshifted(machine)
    if machine.has_wrong_clocks or _are_refused(machine):
        machine.clock_gettime_ns = None
    return machine


def _agree(tick_ns: int) -> bool:
    """Return False where a CPU clock of this process differs from times(2) by more than a tick and 1 %.

    A sandbox that refuses them does not disagree.
    """
    before = _times_ns()
    try:
        clocks = (time.process_time_ns(), time.clock_gettime_ns(clock_id(os.getpid())))
    except OverflowError:
        return False
    except OSError:
        return True
    after = _times_ns() + 2 * tick_ns  # user and system time are cut to the tick, each
    slack = max(tick_ns, after // 100)
    return before - slack <= min(clocks) and max(clocks) <= after + slack


def _times_ns() -> int:
    """Return the CPU time of this process by times(2), which nothing shifts."""
    used = os.times()
    return round((used.user + used.system) * NANOSECONDS)


def _are_refused(machine: Machine) -> bool:
    """Return True where a sandbox refuses CPU clocks, of this process or of one that exists."""
    parent = os.getppid()
    try:
        time.clock_gettime_ns(clock_id(os.getpid()))
        if parent:
            time.clock_gettime_ns(clock_id(parent))
    except OSError:
        return os.path.exists(f"{machine.proc}/{parent or os.getpid()}/stat")
    return False


def device_of(path: str) -> int:
    """Return the device number of a file system; 0 without one."""
    try:
        return os.stat(path).st_dev
    except OSError:
        return 0


def why_no_procfs(machine: Machine) -> str | None:
    """Return the code that says why nothing of a process can be read below `proc`; None where it can be.

    `self` is a link to the pid of the reader in the namespace of the mount, and leads nowhere where it has none there
    (proc_self_get_link); NSpid begins with the pid there, and this one has more where the namespace is an outer one.
    """
    link = f"{machine.proc}/self"
    try:
        if os.readlink(link) != str(os.getpid()):
            return PROCFS_FOREIGN
    except FileNotFoundError:
        return PROCFS_FOREIGN if os.path.lexists(link) else PROCFS_MISSING
    except OSError as error:  # EINVAL: no link, thus no procfs
        return PROCFS_MISSING if error.errno == EINVAL else None
    try:
        pids = contents(machine.path("self/status"), to_end=False).partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    except OSError:
        return None
    return PROCFS_FOREIGN if len(pids) > 1 else None


_machine: Machine | None = None
_is_told_of_forks = False


def this_machine() -> Machine:
    """The machine that this process runs on, as all functions here share it; procfs can be mounted later, or over."""
    global _machine, _is_told_of_forks
    if _machine is None or _machine.why_no_procfs() is not None:
        _machine = host_machine()
        _machine.forget_served()  # a caller of one function waits for the answer
        if not _is_told_of_forks:
            os.register_at_fork(after_in_child=_forget_machine)
            _is_told_of_forks = True
    return _machine


def _forget_machine() -> None:
    """A child may be in another pid namespace, where the pids of `/proc` are not those of the CPU clocks."""
    global _machine
    _machine = None
