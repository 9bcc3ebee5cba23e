"""/proc/PID/*: pure parsers of bytes, and thin readers.

Layouts: proc(5), fs/proc/array.c and fs/proc/task_mmu.c of the kernel. A parser skips what it does not know; a known
value that cannot be read raises ValueError with the text.
"""

from __future__ import annotations

import os
from errno import ESRCH

from proctally.errors import UNREADABLE, NoDescriptors, ProcessGone, no_process
from proctally.linux.machine import Machine, refuse_copy, reread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Stat:
    """One `/proc/PID/stat`. CPU times in ticks, `rss` in pages, `start` in ticks since boot; `comm` raw bytes.

    `head`: its text as far as it was parsed. One that begins with the same says the same.
    """

    __slots__ = (
        "child_system",
        "child_user",
        "comm",
        "flags",
        "head",
        "major_faults",
        "minor_faults",
        "ppid",
        "rss",
        "start",
        "state",
        "system",
        "threads",
        "tree_major_faults",
        "tree_minor_faults",
        "tty",
        "user",
        "vsize",
    )

    head: bytes
    comm: bytes
    state: bytes
    ppid: int
    tty: int
    flags: int
    minor_faults: int
    major_faults: int
    tree_minor_faults: int
    tree_major_faults: int
    user: int
    system: int
    child_user: int
    child_system: int
    threads: int
    start: int
    vsize: int
    rss: int


def parse_stat(data: bytes) -> Stat:
    """`/proc/PID/stat`: the name may hold spaces, parentheses, newlines and any bytes, so split after the last `)`.

    `tree_*_faults` are the process's own and those of the children it waited for.
    """
    close = data.rfind(b") ")
    fields = data[close + 2 :].split(None, 22)
    if close < 0 or len(fields) < 22 or (len(fields) == 22 and not data.endswith(b"\n")):
        raise ValueError(f"stat: {data[:200]!r}")
    stat = Stat()
    stat.head = data[: -len(fields[22])] if len(fields) > 22 else data
    stat.comm = data[data.find(b"(") + 1 : close]
    stat.state = fields[0]
    try:
        (
            stat.ppid, _, _, stat.tty, _, stat.flags, minor, child_minor, major, child_major, stat.user, stat.system,
            stat.child_user, stat.child_system, _, _, stat.threads, _, stat.start, stat.vsize, stat.rss,
        ) = map(int, fields[1:22])  # fmt: skip
    except ValueError:
        raise ValueError(f"stat: {data[:200]!r}") from None
    counted = (
        stat.ppid, minor, child_minor, major, child_major, stat.user, stat.system, stat.child_user, stat.child_system,
        stat.threads, stat.start, stat.vsize, stat.rss,
    )  # fmt: skip
    if min(counted) < 0 or max(counted) >= COUNTERS_END or data.startswith(b"0 "):
        raise ValueError(f"stat: {data[:200]!r}")
    stat.minor_faults = minor
    stat.major_faults = major
    stat.tree_minor_faults = minor + child_minor
    stat.tree_major_faults = major + child_major
    return stat


def parse_io(data: bytes) -> tuple[int, ...]:
    """`/proc/PID/io`: (rchar, wchar, syscr, syscw, read_bytes, write_bytes, cancelled_write_bytes).

    Own and those of the children it waited for (kernel: do_io_accounting). The order is that of the kernel, fixed
    since 2.6.20; a line that is missing raises ValueError.
    """
    words = data.split()
    try:
        counters = tuple(map(int, words[1:14:2]))
        if words[0:14:2] == IO_KEYS and min(counters) >= 0 and max(counters) < COUNTERS_END and data[-1:] == b"\n":
            return counters
    except ValueError:
        pass
    raise ValueError(f"io: {data[:200]!r}")


IO_KEYS = [
    b"rchar:",
    b"wchar:",
    b"syscr:",
    b"syscw:",
    b"read_bytes:",
    b"write_bytes:",
    b"cancelled_write_bytes:",
]


COUNTERS_END = 1 << 63  # a number from here on is a negative one, written without its sign
MAX_PID = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h
CHILD_SIGNAL_BIT = 1 << 16  # SIGCHLD is 17


class Status:
    """A part of `/proc/PID/status`: bytes, counts; None where the kernel does not say (kernel threads, zombies)."""

    __slots__ = ("context_switches", "ignores_child_signal", "peak_rss_bytes", "swap_bytes")

    def __init__(self) -> None:
        self.peak_rss_bytes: int | None = None
        self.swap_bytes: int | None = None
        self.context_switches: int | None = None
        self.ignores_child_signal = False


def parse_status(data: bytes) -> Status:
    """`/proc/PID/status`: VmHWM and VmSwap (kB there, bytes here), the context switches of its main thread, and
    whether it ignores SIGCHLD.

    The kernel keeps the switches of each thread apart: of a process with several, this is the main thread's count.
    """
    status = Status()
    data = b"\n" + data
    status.peak_rss_bytes = kilobytes(data, b"\nVmHWM:")
    status.swap_bytes = kilobytes(data, b"\nVmSwap:")
    status.ignores_child_signal = bool(_mask(data, b"\nSigIgn:") & CHILD_SIGNAL_BIT)
    voluntary = _number(data, b"\nvoluntary_ctxt_switches:")
    involuntary = _number(data, b"\nnonvoluntary_ctxt_switches:")
    if voluntary is not None and involuntary is not None:
        status.context_switches = voluntary + involuntary
    return status


def _value(data: bytes, key: bytes) -> bytes | None:
    """What stands behind a key at the beginning of a line, to the end of that line; None where it is missing."""
    at = data.find(key)
    if at < 0:
        return None
    end = data.find(b"\n", at + 1)
    if end < 0:  # the line is cut
        raise ValueError(f"{data[at + 1 : at + 200]!r}")
    return data[at + len(key) : end]


def _number(data: bytes, key: bytes) -> int | None:
    value = _value(data, key)
    try:
        return None if value is None else _counter(int(value))
    except ValueError:
        raise ValueError(f"{key[1:].decode()} {value!r}") from None


def _mask(data: bytes, key: bytes) -> int:
    value = _value(data, key)
    try:
        return 0 if value is None else int(value, 16)
    except ValueError:
        raise ValueError(f"{key[1:].decode()} {value!r}") from None


def _counter(value: int) -> int:
    if not 0 <= value < COUNTERS_END:
        raise ValueError
    return value


def kilobytes(data: bytes, key: bytes) -> int | None:
    value = _value(data, key)
    if value is None:
        return None
    try:
        return _counter(int(value.strip().removesuffix(b"kB")) * 1024)
    except ValueError:
        raise ValueError(f"{key[1:].decode()} {value!r}") from None


def parse_schedstat(data: bytes) -> tuple[int, int]:
    """Parse `/proc/PID/task/TID/schedstat`: nanoseconds of one thread on a CPU, and ready without one.

    Both are exact up to the last tick or switch (Documentation/scheduler/sched-stats.rst); the kernel adds the second
    when the thread gets its CPU.
    """
    words = data.split()
    if len(words) < 3:
        raise ValueError(f"schedstat: {data[:200]!r}")
    try:
        return _counter(int(words[0])), _counter(int(words[1]))
    except ValueError:
        raise ValueError(f"schedstat: {data[:200]!r}") from None


def parse_state(data: bytes) -> bytes:
    """Parse the state of one thread from its `stat`, such as `R`, `S` or `D`."""
    close = data.rfind(b") ")
    if close < 0 or close + 3 > len(data):
        raise ValueError(f"stat: {data[:200]!r}")
    return data[close + 2 : close + 3]


def parse_block_delay(data: bytes) -> int:
    """Parse field 42 of the `stat` of one thread: ticks that it waited for block devices, 0 without accounting.

    The `stat` of a process shows its main thread alone (kernel: do_task_stat, delayacct_blkio_ticks).
    """
    fields = data[data.rfind(b") ") + 2 :].split(None, 40)
    if len(fields) < 40:
        raise ValueError(f"stat: {data[:200]!r}")
    try:
        return _counter(int(fields[39]))
    except ValueError:
        raise ValueError(f"stat: {data[:200]!r}") from None


# a parent in vfork(2) is in state D until its child executes a program (kernel: wait_for_vfork_done, inlined)
VFORK_WAITS = (b"kernel_clone", b"_do_fork", b"do_fork", b"wait_for_vfork_done")


def is_vfork_wait(wchan: bytes) -> bool:
    """Return whether this `wchan` of a thread in state D is vfork(2), so that it waits for no device."""
    return wchan.strip() in VFORK_WAITS


def parse_children(data: bytes) -> list[int]:
    """`/proc/PID/task/TID/children`: pids of the children of that one thread."""
    try:
        pids = list(map(int, data.split()))
    except ValueError:
        pids = [-1]
    if pids and (min(pids) < 0 or max(pids) > MAX_PID or not data[-1:].isspace()):  # the last one can be cut
        raise ValueError(f"children: {data[:200]!r}")
    return [pid for pid in pids if pid]  # 0: in a pid namespace that this procfs does not see (pid_nr_ns)


def read_stat(machine: Machine, pid: int) -> Stat:
    """Return the `stat` of a process. Raises `ProcessGone` (also in state X: its parent reaps it) or `AccessDenied`."""
    try:
        stat = parse_stat(machine.read(f"{pid}/stat"))
    except ProcessGone:
        raise no_process(pid) from None
    if stat.state in b"Xx":
        raise ProcessGone(ESRCH, f"process {pid} is just being reaped")
    return stat


def read_start(machine: Machine, pid: int) -> int | None:
    """Return the start of a process in ticks; None where its `stat` alone is refused.

    Raises `ProcessGone`, `AccessDenied` or OSError where nothing of it can be read.
    """
    try:
        return read_stat(machine, pid).start
    except (ProcessGone, NoDescriptors):
        raise
    except UNREADABLE:
        machine.read(f"{pid}/status")
        return None


def read_status(machine: Machine, pid: int) -> Status:
    """The `status` of a process; raises `ProcessGone` or `AccessDenied`."""
    return parse_status(machine.read(f"{pid}/status"))


def read_threads(machine: Machine, pid: int) -> list[int]:
    """The thread ids of a process; raises `ProcessGone` or `AccessDenied`."""
    return list(map(int, machine.listdir(f"{pid}/task")))


def read_children(machine: Machine, pid: int, threads: int = 1) -> list[int]:
    """The children of all threads of a process. Imprecise while children exit: one may be missing until next time.

    Raises `ProcessGone` (also where this kernel has no `children` files, see `has_children_files`) or `AccessDenied`.
    """
    tids = [pid] if threads == 1 else read_threads(machine, pid)
    found: list[int] = []
    for tid in tids:
        try:
            found += parse_children(machine.read(f"{pid}/task/{tid}/children", to_end=True))
        except ProcessGone:
            if threads == 1:
                raise
    return found


def is_thread(machine: Machine, pid: int) -> bool:
    """Whether this id is that of a thread: it can be opened, but it is listed only below its process."""
    try:
        status = machine.read(f"{pid}/status")
    except UNREADABLE:
        return False
    return b"\nTgid:\t" in status and b"\nTgid:\t%d\n" % pid not in status


def has_children_files(machine: Machine) -> bool:
    """Whether this kernel has `children` files (CONFIG_PROC_CHILDREN)."""
    return os.path.exists(f"{machine.proc}/self/task/{os.getpid()}/children") or os.path.exists(
        f"{machine.proc}/thread-self/children"
    )


def read_run_delay(machine: Machine, pid: int, threads: int) -> dict[int, int] | None:
    """Return the nanoseconds that each living thread of a process waited for a CPU.

    None where this kernel has no such files (CONFIG_SCHED_INFO). Raises `ProcessGone` or `AccessDenied`.
    """
    if threads == 1:
        try:
            return {pid: parse_schedstat(machine.read(f"{pid}/schedstat"))[1]}
        except ProcessGone:
            machine.read(f"{pid}/stat")  # raises `ProcessGone` where the process has ended
            return None
    delays = {}
    for tid in read_threads(machine, pid):
        try:
            delays[tid] = parse_schedstat(machine.read(f"{pid}/task/{tid}/schedstat"))[1]
        except ProcessGone:
            continue
    return delays or None


def scan(machine: Machine) -> Iterator[tuple[int, int]]:
    """(pid, inode of its directory) of every process listed, without opening any of them.

    The inode changes when a pid is used again, so an unchanged pair is the same process. Raises `NoDescriptors` or
    `NoProcfs`.
    """
    machine.need_procfs()
    try:
        listing = os.scandir(machine.proc)
    except OSError as error:
        raise machine.classify(error) from None
    with listing as entries:
        for entry in entries:
            name = entry.name
            if name.isdecimal():
                yield int(name), entry.inode()


class OwnIo:
    """This process's own `/proc/self/io`: its growth around a wait4 is the I/O of what was reaped.

    On reaping, the kernel adds the I/O of a child, and of all it had waited for, to its parent (wait_task_zombie).
    Reading the file counts as a read too, and is taken out again.
    """

    __slots__ = ("_fd",)

    def __init__(self, machine: Machine) -> None:
        try:
            self._fd = machine.open("self/io")
        except OSError:
            self._fd = -1

    def read(self) -> bytes:
        """The file as it is now; empty where there is none, or where it cannot be read."""
        try:
            return b"" if self._fd < 0 else reread(self._fd)
        except UNREADABLE:
            return b""

    def growth(self, before: bytes) -> list[int] | None:
        """Return the growth of the seven counters since `before`; None where it is unknown."""
        if not before:
            return None
        try:
            grown = [now - old for now, old in zip(parse_io(self.read()), parse_io(before), strict=True)]
        except ValueError:
            return None
        grown[0] -= len(before)
        grown[2] -= 1
        return grown


def process_count(machine: Machine) -> int:
    """About how many entries a listing of procfs has: the link count of its root (kernel: proc_root_getattr)."""
    try:
        return os.stat(machine.proc).st_nlink
    except OSError:
        return 0


class Kept:
    """The descriptors of one process that are kept open; -1 where none is. `used` is the tick of the last read."""

    __slots__ = ("io_fd", "stat_fd", "status_fd", "used")

    def __init__(self) -> None:
        self.stat_fd = -1
        self.io_fd = -1
        self.status_fd = -1
        self.used = 0


class Files:
    """Kept-open `stat`, `io` and `status` of many processes, within a number of descriptors.

    Reading a kept descriptor costs half of opening one anew, and answers ESRCH once its process has ended, never the
    data of another. Beyond the limit a descriptor that was not read lately is given up for the new one; where all
    were, the new one is closed again at once.
    """

    __slots__ = ("_kept", "limit", "machine", "open_count", "tick")

    def __init__(self, machine: Machine, limit: int) -> None:
        self.machine = machine
        self.limit = limit
        self.open_count = 0
        self.tick = 0
        self._kept: dict[Kept, None] = {}

    def stat(self, kept: Kept, pid: int) -> Stat:
        """Return the `stat` of a process. Raises `ProcessGone`. The caller compares `start` where it was opened."""
        return parse_stat(self.stat_bytes(kept, pid))

    def stat_bytes(self, kept: Kept, pid: int) -> bytes:
        """The same as it was read."""
        kept.used = self.tick
        if kept.stat_fd >= 0:
            return reread(kept.stat_fd)
        fd = self._open(f"{pid}/stat")
        try:
            return reread(fd)
        finally:
            if self._room():
                kept.stat_fd = fd
                self._keep(kept)
            else:
                os.close(fd)

    def io(self, kept: Kept, pid: int) -> bytes:
        """The bytes of `io`; raises `ProcessGone` or `AccessDenied`."""
        if kept.io_fd >= 0:
            return reread(kept.io_fd)
        fd = self._open(f"{pid}/io")
        try:
            return reread(fd)
        finally:
            if kept.stat_fd >= 0 and self._room():
                kept.io_fd = fd
                self._keep(kept)
            else:
                os.close(fd)

    def status_bytes(self, kept: Kept, pid: int) -> bytes:
        """Return the bytes of `status`; raises `ProcessGone` or `AccessDenied`.

        It is read more seldom than the others, so it is kept open only while a quarter of the limit is free.
        """
        if kept.status_fd >= 0:
            return reread(kept.status_fd)
        if kept.stat_fd < 0 or self.open_count * 4 >= self.limit * 3:
            return self.machine.read(f"{pid}/status")
        fd = self._open(f"{pid}/status")
        if kept.stat_fd < 0:  # given up for want of descriptors
            try:
                return reread(fd)
            finally:
                os.close(fd)
        kept.status_fd = fd
        self._keep(kept)
        return reread(fd)

    def close(self, kept: Kept) -> None:
        """Give up the descriptors of a process."""
        for fd in (kept.stat_fd, kept.io_fd, kept.status_fd):
            if fd >= 0:
                os.close(fd)
                self.open_count -= 1
        kept.stat_fd = kept.io_fd = kept.status_fd = -1
        self._kept.pop(kept, None)

    def close_all(self) -> None:
        """Give up every descriptor."""
        for kept in list(self._kept):
            self.close(kept)

    __del__ = close_all

    __reduce_ex__ = refuse_copy

    def _open(self, path: str) -> int:
        try:
            return self.machine.open(path)
        except NoDescriptors:  # of this process or of the machine: be content with fewer from now on
            self.limit = max(0, self.open_count - 16)
            while self.open_count > self.limit and self._kept:
                self.close(next(iter(self._kept)))
            return self.machine.open(path)

    def _keep(self, kept: Kept) -> None:
        self._kept[kept] = None
        self.open_count += 1

    def _room(self) -> bool:
        if self.open_count < self.limit:
            return True
        for _ in range(4):
            oldest = next(iter(self._kept), None)
            if oldest is None:
                return False
            if oldest.used < self.tick - 2:
                self.close(oldest)
                return True
            self._kept[oldest] = self._kept.pop(oldest)
        return False


def unescape(field: bytes) -> bytes:
    """A field of mountinfo with its octal escapes undone (seq_escape: blank, tab, newline, backslash, `#`)."""
    first, *rest = field.split(b"\\")
    for part in rest:
        octal = part[:3]
        escaped = len(octal) == 3 and octal[0] in b"0123" and not octal.strip(b"01234567")
        first += bytes((int(octal, 8),)) + part[3:] if escaped else b"\\" + part
    return first


def parse_cpu_list(data: bytes) -> set[int]:
    """Return the CPU numbers of a list such as `0-3,7`. Raises ValueError."""
    cpus: set[int] = set()
    try:
        for part in filter(None, data.strip().split(b",")):
            first, dash, last = part.partition(b"-")
            low, high = int(first), int(last if dash else first)
            if not 0 <= low <= high < HIGHEST_CPU:
                raise ValueError
            cpus.update(range(low, high + 1))
    except ValueError:
        raise ValueError(f"cpu list: {data[:200]!r}") from None
    return cpus


HIGHEST_CPU = 1 << 16  # far above any kernel's NR_CPUS: a longer list is no list of CPUs
