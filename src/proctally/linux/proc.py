"""/proc/PID/*: pure parsers of bytes, and thin readers.

Layouts: proc(5), fs/proc/array.c and fs/proc/task_mmu.c of the kernel. A parser skips what it does not know; a known
value that cannot be read raises ValueError with the text.
"""

from __future__ import annotations

import os

from proctally.kernel.machine import Denied, Exhausted, Gone, Machine, classify, classify_listing, reread

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
    if close < 0 or len(fields) < 22:
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
    if len(words) < 14 or words[0:14:2] != IO_KEYS:
        raise ValueError(f"io: {data[:200]!r}")
    try:
        return tuple(map(int, words[1:14:2]))
    except ValueError:
        raise ValueError(f"io: {data[:200]!r}") from None


IO_KEYS = [
    b"rchar:",
    b"wchar:",
    b"syscr:",
    b"syscw:",
    b"read_bytes:",
    b"write_bytes:",
    b"cancelled_write_bytes:",
]


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
    status.peak_rss_bytes = _kilobytes(data, b"\nVmHWM:")
    status.swap_bytes = _kilobytes(data, b"\nVmSwap:")
    status.ignores_child_signal = bool((_number(data, b"\nSigIgn:", 16) or 0) & CHILD_SIGNAL_BIT)
    voluntary = _number(data, b"\nvoluntary_ctxt_switches:")
    involuntary = _number(data, b"\nnonvoluntary_ctxt_switches:")
    if voluntary is not None and involuntary is not None:
        status.context_switches = voluntary + involuntary
    return status


def parse_smaps_rollup(data: bytes) -> int | None:
    """`/proc/PID/smaps_rollup`: Pss in bytes, or None where the file has none."""
    return _kilobytes(b"\n" + data, b"\nPss:")


def _value(data: bytes, key: bytes) -> bytes | None:
    """What stands behind a key at the beginning of a line, to the end of that line; None where it is missing."""
    at = data.find(key)
    if at < 0:
        return None
    end = data.find(b"\n", at + 1)
    return data[at + len(key) : end if end >= 0 else len(data)]


def _number(data: bytes, key: bytes, base: int = 10) -> int | None:
    value = _value(data, key)
    try:
        return None if value is None else int(value, base)
    except ValueError:
        raise ValueError(f"{key[1:].decode()} {value!r}") from None


def _kilobytes(data: bytes, key: bytes) -> int | None:
    value = _value(data, key)
    if value is None:
        return None
    try:
        return int(value.strip().removesuffix(b"kB")) * 1024
    except ValueError:
        raise ValueError(f"{key[1:].decode()} {value!r}") from None


def parse_schedstat(data: bytes) -> int:
    """`/proc/PID/task/TID/schedstat`: nanoseconds this thread waited on a run queue (Documentation/sched-stats)."""
    words = data.split()
    if len(words) < 3:
        raise ValueError(f"schedstat: {data[:200]!r}")
    try:
        return int(words[1])
    except ValueError:
        raise ValueError(f"schedstat: {data[:200]!r}") from None


def parse_children(data: bytes) -> list[int]:
    """`/proc/PID/task/TID/children`: pids of the children of that one thread."""
    try:
        return list(map(int, data.split()))
    except ValueError:
        raise ValueError(f"children: {data[:200]!r}") from None


def text(name: bytes) -> str:
    """A name that may hold any bytes as text: what is not UTF-8 is written as `\\xff`, nothing is lost."""
    return name.decode("utf-8", "backslashreplace")


def read_stat(machine: Machine, pid: int) -> Stat:
    """The `stat` of a process; raises `Gone` (also for state X: its parent is just reaping it) or `Denied`."""
    try:
        stat = parse_stat(machine.read(f"{pid}/stat"))
    except Gone:
        raise Gone(f"process {pid} does not exist") from None
    if stat.state in b"Xx":
        raise Gone(f"process {pid} is just being reaped")
    return stat


def read_status(machine: Machine, pid: int) -> Status:
    """The `status` of a process; raises `Gone` or `Denied`."""
    return parse_status(machine.read(f"{pid}/status"))


def read_io(machine: Machine, pid: int) -> tuple[int, ...]:
    """The `io` of a process (another user's: `Denied`)."""
    return parse_io(machine.read(f"{pid}/io"))


def read_pss(machine: Machine, pid: int, tid: int | None = None) -> int | None:
    """PSS of a process in bytes; None for one without an address space (a zombie, a kernel thread).

    `smaps_rollup` belongs to the address space of the moment it was opened and answers ESRCH after an exec, so it is
    opened each time. ESRCH says only that there is no address space: whether the process is gone, `stat` decides.
    """
    path = f"{pid}/smaps_rollup" if tid is None else f"{pid}/task/{tid}/smaps_rollup"
    try:
        return parse_smaps_rollup(machine.read(path))
    except Gone:
        return None


def read_threads(machine: Machine, pid: int) -> list[int]:
    """The thread ids of a process; raises `Gone` or `Denied`."""
    try:
        return [int(name) for name in os.listdir(f"{machine.proc}/{pid}/task")]
    except OSError as error:
        raise classify(error) from None


def read_children(machine: Machine, pid: int, threads: int = 1) -> list[int]:
    """The children of all threads of a process. Imprecise while children exit: one may be missing until next time.

    Raises `Gone` (also where this kernel has no `children` files, see `has_children_files`) or `Denied`.
    """
    tids = [pid] if threads == 1 else read_threads(machine, pid)
    found: list[int] = []
    for tid in tids:
        try:
            found += parse_children(machine.read(f"{pid}/task/{tid}/children", to_end=True))
        except Gone:
            if threads == 1:
                raise
    return found


def is_thread(machine: Machine, pid: int) -> bool:
    """Whether this id is that of a thread: it can be opened, but it is listed only below its process."""
    try:
        return f"\nTgid:\t{pid}\n".encode() not in machine.read(f"{pid}/status")
    except (Gone, Denied):
        return False


def has_children_files(machine: Machine) -> bool:
    """Whether this kernel has `children` files (CONFIG_PROC_CHILDREN)."""
    return os.path.exists(f"{machine.proc}/self/task/{os.getpid()}/children") or os.path.exists(
        f"{machine.proc}/thread-self/children"
    )


def read_run_delay(machine: Machine, pid: int, threads: int) -> dict[int, int]:
    """Nanoseconds each living thread of a process has waited for a CPU; raises `Gone` or `Denied`."""
    if threads == 1:
        return {pid: parse_schedstat(machine.read(f"{pid}/schedstat"))}
    delays = {}
    for tid in read_threads(machine, pid):
        try:
            delays[tid] = parse_schedstat(machine.read(f"{pid}/task/{tid}/schedstat"))
        except Gone:
            continue
    return delays


def scan(machine: Machine) -> Iterator[tuple[int, int]]:
    """(pid, inode of its directory) of every process listed, without opening any of them.

    The inode changes when a pid is used again, so an unchanged pair is the same process. Raises `Exhausted`.
    """
    try:
        listing = os.scandir(machine.proc)
    except OSError as error:
        raise classify_listing(error) from None
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

    def __init__(self, path: str = "/proc/self/io") -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.read()
        except (OSError, Gone, Denied):
            self._fd = -1

    def read(self) -> bytes:
        """The file as it is now; empty where there is none."""
        return b"" if self._fd < 0 else reread(self._fd)

    def growth(self, before: bytes) -> list[int] | None:
        """The seven counters' growth since `before`, or None where there is no such file."""
        if self._fd < 0 or not before:
            return None
        now = parse_io(reread(self._fd))
        grown = [value - old for value, old in zip(now, parse_io(before), strict=True)]
        grown[0] -= len(before)
        grown[2] -= 1
        return grown


def process_count(machine: Machine) -> int:
    """About how many entries a listing of procfs has: the link count of its root (kernel: proc_root_getattr)."""
    return os.stat(machine.proc).st_nlink


class Kept:
    """The descriptors of one process that are kept open; -1 where none is. `used` is the tick of the last read."""

    __slots__ = ("io_fd", "stat_fd", "used")

    def __init__(self) -> None:
        self.stat_fd = -1
        self.io_fd = -1
        self.used = 0


class Files:
    """Kept-open `stat` and `io` of many processes, within a number of descriptors.

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
        """The `stat` of a process; raises `Gone`. The caller compares `start` where the file had to be opened."""
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
        """The bytes of `io`; raises `Gone` or `Denied`."""
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

    def close(self, kept: Kept) -> None:
        """Give up the descriptors of a process."""
        for fd in (kept.stat_fd, kept.io_fd):
            if fd >= 0:
                os.close(fd)
                self.open_count -= 1
        kept.stat_fd = kept.io_fd = -1
        self._kept.pop(kept, None)

    def close_all(self) -> None:
        """Give up every descriptor."""
        for kept in list(self._kept):
            self.close(kept)

    __del__ = close_all

    def _open(self, path: str) -> int:
        try:
            return self.machine.open(path)
        except Exhausted:  # of this process or of the machine: be content with fewer from now on
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
