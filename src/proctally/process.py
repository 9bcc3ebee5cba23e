"""One process, one call, one purpose: each function takes a pid and reads as few files as it can.

    from proctally import process
    process.rss_bytes(pid)
    process.cpu_time(pid, start_ticks=start)      # of that process alone, never of another that was given its pid

The arguments are the same for all. `pid`: the process id; the id of a thread is not one. A bare pid names the process
that has it now. `start_ticks`: clock ticks since boot at which the process started (from `liveness`,
`processes.snapshot` or `processes.scan`). The function then answers for that process alone, and raises `ProcessGone`
when another has its pid. `machine`: where to read, this machine by default. In a container that has the host's `/proc`
at another place: `Machine("/host/proc", clock_gettime_ns=None)`, since the CPU clocks know only the pids of this
container.

So are the errors. `ProcessGone`: no such process. `AccessDenied`: this user cannot read that of it, or procfs of this
pid namespace is not at `/proc`, from the start or since chroot(2). `NoDescriptors`: no descriptor is left.
FileNotFoundError: this kernel does not have the file. TypeError: the pid is not an integer. ValueError: no process can
have it (below 1, above 2**31 - 1), or a file of the kernel cannot be parsed. A zombie exists until it is reaped: it has
CPU time and no memory. File names are those below `/proc/PID` (proc(5)).
"""

from __future__ import annotations

import os
from errno import ENOENT, ESRCH
from typing import NamedTuple

from proctally.errors import UNREADABLE, ProcessGone, no_process
from proctally.linux import proc_details
from proctally.linux.cgroup import V2, parse_cgroup
from proctally.linux.machine import Machine, clock_id
from proctally.linux.proc import (
    Stat,
    has_children_files,
    parse_children,
    parse_io,
    parse_stat,
    parse_status,
    read_threads,
)
from proctally.linux.terminals import terminal_name
from proctally.text.escape import decode_name, short_repr
from proctally.text.nearest import missing_attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Parsed = TypeVar("Parsed")
else:  # a type checker would take every name for one of the module
    __getattr__ = missing_attribute(__name__)

__all__ = [
    "AllStats",
    "Cgroup",
    "CpuSplit",
    "DiskIo",
    "Limit",
    "Limits",
    "Liveness",
    "Machine",
    "all_stats",
    "cgroup",
    "children",
    "command_line",
    "command_name",
    "cpu_split",
    "cpu_time",
    "cpu_time_with_children",
    "disk_io",
    "environment",
    "executable",
    "limits",
    "liveness",
    "open_files",
    "parent",
    "pss_bytes",
    "rss_bytes",
    "start_time",
    "swap_bytes",
    "terminal",
    "threads",
    "uss_bytes",
    "virtual_bytes",
]


def __dir__() -> list[str]:
    return list(__all__)


# -- what is returned ------------------------------------------------------------------------------------------------


class CpuSplit(NamedTuple):
    """CPU time in nanoseconds, each counter cut to the tick (10 ms).

    `children_user_ns`, `children_system_ns`: of the children that it waited for, and they of theirs.
    """

    user_ns: int
    system_ns: int
    children_user_ns: int
    children_system_ns: int


class DiskIo(NamedTuple):
    """Bytes from and to storage, bytes through read(2) and write(2), and the number of such calls.

    They count since the start of the process, with the children that it waited for (do_io_accounting in the kernel).
    `cancelled_write_bytes`: bytes that were counted as written whose file was truncated before storage had them.
    """

    read_bytes: int
    write_bytes: int
    cancelled_write_bytes: int
    read_chars: int
    write_chars: int
    read_syscalls: int
    write_syscalls: int

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


class AllStats(NamedTuple):
    """CPU time in nanoseconds, memory in bytes and I/O of one process at one moment.

    `start_ticks`: clock ticks since boot; with the pid it is the identity. `cpu_ns`: by the CPU clock; `user_ns`,
    `system_ns` and `children_*_ns` are cut to the tick (10 ms) and need not sum to it. None: denied, unreadable,
    or this kernel does not have it.
    """

    pid: int
    start_ticks: int
    cpu_ns: int
    user_ns: int
    system_ns: int
    children_user_ns: int
    children_system_ns: int
    threads: int
    rss_bytes: int
    virtual_bytes: int
    pss_bytes: int | None
    uss_bytes: int | None
    swap_bytes: int | None
    disk_io: DiskIo | None

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


class Liveness(NamedTuple):
    """The state of a process, its parent and its identity.

    `state`: the letter of the kernel (R, S, D, T, Z, ...). `parent`: its pid, 0 where none is in sight. `start_ticks`:
    with the pid the identity. `started_at`: Unix seconds. `is_same`: whether it has the given start, None without one.
    """

    state: str
    parent: int
    start_ticks: int
    started_at: float
    is_same: bool | None


class Limit(NamedTuple):
    """One resource limit, see getrlimit(2). None: infinite."""

    soft: int | None
    hard: int | None


class Limits(NamedTuple):
    """All resource limits of a process; the unit is in the name, else it is a count."""

    cpu_seconds: Limit
    file_size_bytes: Limit
    data_bytes: Limit
    stack_bytes: Limit
    core_bytes: Limit
    rss_bytes: Limit
    processes: Limit
    open_files: Limit
    locked_bytes: Limit
    virtual_bytes: Limit
    file_locks: Limit
    pending_signals: Limit
    message_queue_bytes: Limit
    nice: Limit
    realtime_priority: Limit
    realtime_microseconds: Limit

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


class Cgroup(NamedTuple):
    """The cgroups of a process, as its cgroup namespace shows them.

    `path`: in the unified hierarchy (v2), None where there is none. `controllers`: its path by v1 controller,
    `name=...` hierarchies included.
    """

    path: str | None
    controllers: dict[str, str]

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


def _make_sure(pid: int, stat: Stat, start_ticks: int | None) -> None:
    """Check that it exists (in state X its parent is reaping it), and that it is the one with this start."""
    if stat.state in b"Xx":
        raise no_process(pid)
    if start_ticks is not None and stat.start != start_ticks:
        raise ProcessGone(ESRCH, f"process {pid} is another one: it started at tick {stat.start}, not {start_ticks}")


def _read(machine: Machine, pid: int, name: str, *, to_end: bool = False) -> bytes:
    try:
        return machine.read(f"{pid}/{name}", to_end=to_end)
    except ProcessGone:
        if name == "stat" or _stat(machine, pid, None).state == b"Z":
            raise no_process(pid) from None
        raise FileNotFoundError(ENOENT, "this kernel has no such file", f"{machine.proc}/{pid}/{name}") from None


def _stat(machine: Machine, pid: int, start_ticks: int | None) -> Stat:
    """Return its `stat`, for the process with this start."""
    stat = parse_stat(_read(machine, pid, "stat"))
    _make_sure(pid, stat, start_ticks)
    return stat


def _of_same(value: Parsed, machine: Machine, pid: int, start_ticks: int | None) -> Parsed:
    """Return a value that was read, once it is certain that it is of the process with this start."""
    if start_ticks is not None:
        _stat(machine, pid, start_ticks)
    return value


def _named(pid: int, read: Callable[..., Parsed], *arguments: object) -> Parsed:
    """Return what this reads; its `ProcessGone` names the process."""
    try:
        return read(*arguments)
    except ProcessGone:
        raise no_process(pid) from None


def _nothing(machine: Machine, pid: int, name: str) -> bytes:
    """Return what an empty file has; `_read` names the error where there is no file, although the process lives."""
    return b"" if os.path.exists(f"{machine.proc}/{pid}/{name}") else _read(machine, pid, name)


def _memory(machine: Machine, pid: int, name: str, parse: Callable[[bytes], Parsed | None]) -> Parsed | None:
    """Return what a file of the address space says, None without one."""
    return _named(pid, proc_details.read_from_any, machine, pid, name, parse)


# -- CPU -------------------------------------------------------------------------------------------------------------


def cpu_time(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> int:
    """Return the CPU time in nanoseconds: user and system time of all its threads, exited ones included.

    Without its children. One call, of the CPU clock of the process (clock_getcpuclockid(3)): exact, also for another
    user's process and under hidepid. A thread that runs now on another CPU has its last tick, 4 ms as a rule, still to
    come. Without such a clock (a sandbox, the `/proc` of another pid namespace) from `stat`, each half cut to 10 ms.
    Raises `ProcessGone`, and `AccessDenied` from `stat`.
    """
    pid, machine = proc_details.resolve(pid, machine)
    if machine.clock_gettime_ns is None or pid > proc_details.MOST_PIDS:
        return _cpu_otherwise(machine, pid, start_ticks)
    try:
        used = machine.clock_gettime_ns(clock_id(pid))
    except OSError:
        return _cpu_otherwise(machine, pid, start_ticks)
    if start_ticks is not None:
        _stat(machine, pid, start_ticks)
    return used


def _cpu_otherwise(machine: Machine, pid: int, start_ticks: int | None) -> int:
    """Find out why the clock could not be read: no process, or no clocks, where `stat` has the time."""
    used = _named(pid, proc_details.read_clock, machine, pid)
    stat = _stat(machine, pid, start_ticks)
    return (stat.user + stat.system) * machine.tick_ns if used is None else used


def cpu_time_with_children(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> int:
    """Return the CPU time in nanoseconds of a process and of the children that it waited for, and they of theirs.

    Its own from its CPU clock, that of the children from `stat` (cutime, cstime), each cut to the tick (10 ms). Raises
    `ProcessGone` or `AccessDenied`.
    """
    pid, machine = proc_details.resolve(pid, machine)
    stat, own = _certain(machine, pid, start_ticks)
    return own + (stat.child_user + stat.child_system) * machine.tick_ns


def cpu_split(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> CpuSplit:
    """Return user and system time, its own and its children's, by `stat`. Raises `ProcessGone` or `AccessDenied`."""
    pid, machine = proc_details.resolve(pid, machine)
    stat = _stat(machine, pid, start_ticks)
    tick_ns = machine.tick_ns
    return CpuSplit(stat.user * tick_ns, stat.system * tick_ns, stat.child_user * tick_ns, stat.child_system * tick_ns)


def _certain(machine: Machine, pid: int, start_ticks: int | None) -> tuple[Stat, int]:
    """Return `stat` and the CPU time in nanoseconds, for certain of the same process."""
    clock, data = proc_details.read_certain(machine, pid)
    stat = parse_stat(data)
    _make_sure(pid, stat, start_ticks)
    return stat, (stat.user + stat.system) * machine.tick_ns if clock is None else clock


# -- memory ----------------------------------------------------------------------------------------------------------


def rss_bytes(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> int:
    """Return the resident bytes; shared pages count in full. 0 without an address space (a zombie, a kernel thread).

    From `statm`: anonymous, file and shared memory pages (task_statm in the kernel). Raises `ProcessGone` or
    `AccessDenied`.
    """
    return _statm(pid, 1, start_ticks, machine)


def virtual_bytes(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> int:
    """Return the bytes of its address space by `statm`; 0 without one. Raises `ProcessGone` or `AccessDenied`."""
    return _statm(pid, 0, start_ticks, machine)


def _statm(pid: int, place: int, start_ticks: int | None, machine: Machine | None) -> int:
    pid, machine = proc_details.resolve(pid, machine)
    pages = proc_details.parse_statm(_read(machine, pid, "statm"))
    if pages is None:  # perhaps its main thread has ended, and others live on
        pages = _memory(machine, pid, "statm", proc_details.parse_statm) or (0, 0)
    return _of_same(pages[place] * machine.page_size, machine, pid, start_ticks)


PSS = (b"Pss",)
USS = (b"Private_Clean", b"Private_Dirty", b"Private_Hugetlb")


def pss_bytes(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> int | None:
    """Return the proportional set size in bytes: each page is divided by the number of processes that share it.

    0 without an address space; None where this kernel does not have the file. From `smaps_rollup`, which walks the page
    tables of the process while its mmap(2) waits: 8 ms for a GiB of small pages. Raises `ProcessGone`, and
    `AccessDenied` for another user's process.
    """
    return _rollup(pid, PSS, start_ticks, machine)


def uss_bytes(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> int | None:
    """Return the unique set size in bytes: what this process alone maps, and frees when it exits.

    0 without an address space; None where this kernel does not have the file. From `smaps_rollup` (Private_Clean,
    Private_Dirty, Private_Hugetlb), at the cost of `pss_bytes`. Raises `ProcessGone`, and `AccessDenied` for another
    user's process.
    """
    return _rollup(pid, USS, start_ticks, machine)


def _rollup(pid: int, keys: tuple[bytes, ...], start_ticks: int | None, machine: Machine | None) -> int | None:
    pid, machine = proc_details.resolve(pid, machine)
    found = _of_same(_memory(machine, pid, "smaps_rollup", bytes), machine, pid, start_ticks)
    return _nothing_or_unknown(machine, pid) if found is None else proc_details.parse_smaps(found, *keys)


def _nothing_or_unknown(machine: Machine, pid: int) -> int | None:
    """Return 0 for a process without an address space, None where the kernel does not have the requested file."""
    return None if proc_details.stat_with_memory(machine, pid, _stat(machine, pid, None)).vsize else 0


def swap_bytes(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> int | None:
    """Return the bytes of anonymous memory in swap by `status`. Raises `ProcessGone` or `AccessDenied`.

    Shared memory is not included. 0 without an address space; None where this kernel does not show it.
    """
    pid, machine = proc_details.resolve(pid, machine)
    found = _of_same(_memory(machine, pid, "status", _with_memory), machine, pid, start_ticks)
    return _nothing_or_unknown(machine, pid) if found is None else parse_status(found).swap_bytes


def _with_memory(status: bytes) -> bytes | None:
    return status if b"\nVmSwap:" in status else None


# -- I/O, and all at once --------------------------------------------------------------------------------------------


def disk_io(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> DiskIo:
    """Return bytes and calls of I/O since its start by `io`, with the children that it waited for.

    Raises `ProcessGone`, `AccessDenied` for another user's process, and FileNotFoundError where this kernel does not
    account I/O.
    """
    pid, machine = proc_details.resolve(pid, machine)
    read_chars, write_chars, read_calls, write_calls, read, written, cancelled = parse_io(_read(machine, pid, "io"))
    found = DiskIo(read, written, cancelled, read_chars, write_chars, read_calls, write_calls)
    return _of_same(found, machine, pid, start_ticks)


def all_stats(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> AllStats:
    """Return CPU time, memory and I/O of one moment, for certain of one process.

    From its CPU clock, `stat`, `io`, `status` and `smaps_rollup`. What this user cannot read, or this kernel does not
    have, is None. Raises `ProcessGone`, and `AccessDenied` for `stat`.
    """
    pid, machine = proc_details.resolve(pid, machine)
    fd = _named(pid, machine.open, f"{pid}/stat")
    try:
        io = _if_allowed(disk_io, machine, pid)
        rollup = _if_allowed(_rolled_up, machine, pid)
        swap = _if_allowed(swap_bytes, machine, pid)
        clock = _if_allowed(_clock, machine, pid)
        data = os.read(fd, proc_details.STAT_SIZE)  # while this answers, no other process had the pid
    except ProcessLookupError:
        raise no_process(pid) from None
    finally:
        os.close(fd)
    if not data:
        raise no_process(pid)
    stat = parse_stat(data)
    _make_sure(pid, stat, start_ticks)
    shown = proc_details.stat_with_memory(machine, pid, stat)
    tick_ns = machine.tick_ns
    return AllStats(
        pid=pid,
        start_ticks=stat.start,
        cpu_ns=(stat.user + stat.system) * tick_ns if clock is None else clock,
        user_ns=stat.user * tick_ns,
        system_ns=stat.system * tick_ns,
        children_user_ns=stat.child_user * tick_ns,
        children_system_ns=stat.child_system * tick_ns,
        threads=stat.threads,
        rss_bytes=shown.rss * machine.page_size,
        virtual_bytes=shown.vsize,
        pss_bytes=rollup and rollup[0],
        uss_bytes=rollup and rollup[1],
        swap_bytes=swap,
        disk_io=io,
    )


def _if_allowed(read: Callable[..., Parsed], machine: Machine, pid: int) -> Parsed | None:
    try:
        return read(pid, machine=machine)
    except ProcessGone:
        raise
    except UNREADABLE:
        return None


def _clock(pid: int, *, machine: Machine) -> int | None:
    return proc_details.read_clock(machine, pid)


def _rolled_up(pid: int, *, machine: Machine) -> tuple[int | None, int | None]:
    found = _memory(machine, pid, "smaps_rollup", bytes)
    if found is None:
        nothing = _nothing_or_unknown(machine, pid)
        return nothing, nothing
    return proc_details.parse_smaps(found, *PSS), proc_details.parse_smaps(found, *USS)


# -- who it is -------------------------------------------------------------------------------------------------------


def liveness(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> Liveness:
    """Return state, parent and start of a process by `stat`. Raises `ProcessGone` or `AccessDenied`.

    It raises `ProcessGone` only when no process has the pid: for another process `is_same` is False.
    """
    pid, machine = proc_details.resolve(pid, machine)
    stat = _stat(machine, pid, None)
    is_same = None if start_ticks is None else stat.start == start_ticks
    return Liveness(stat.state.decode(), stat.ppid, stat.start, machine.start_unix(stat.start), is_same)


def start_time(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> float:
    """Return the Unix seconds of its start, to the tick (10 ms), by `stat`. Raises `ProcessGone` or `AccessDenied`."""
    pid, machine = proc_details.resolve(pid, machine)
    return machine.start_unix(_stat(machine, pid, start_ticks).start)


def parent(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> int:
    """Return the pid of its parent by `stat`, 0 where none is in sight. Raises `ProcessGone` or `AccessDenied`."""
    pid, machine = proc_details.resolve(pid, machine)
    return _stat(machine, pid, start_ticks).ppid


def children(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> list[int]:
    """Return the pids of the children of all its threads.

    From `task/*/children`, else (CONFIG_PROC_CHILDREN is off) from every `stat`. While children exit, the kernel can
    leave one out (proc(5)). Raises `ProcessGone` or `AccessDenied`.
    """
    pid, machine = proc_details.resolve(pid, machine)
    found: list[int] = []
    is_missing = False
    for tid in threads(pid, machine=machine):
        try:
            found += parse_children(_read(machine, pid, f"task/{tid}/children", to_end=True))
        except (ProcessGone, FileNotFoundError):
            is_missing = True
    if is_missing and not found and not has_children_files(machine):
        found = proc_details.children_by_listing(machine, pid)
    if start_ticks is not None or is_missing:
        _stat(machine, pid, start_ticks)
    return found


def threads(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> list[int]:
    """Return the ids of its threads, sorted, by the listing of `task`. Raises `ProcessGone` or `AccessDenied`."""
    pid, machine = proc_details.resolve(pid, machine)
    return _of_same(sorted(_named(pid, read_threads, machine, pid)), machine, pid, start_ticks)


def command_name(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> str:
    r"""Return its name by `comm`: at most 15 bytes, of its program or set by itself.

    A byte that is not UTF-8 becomes `\xff` as text. Raises `ProcessGone` or `AccessDenied`.
    """
    pid, machine = proc_details.resolve(pid, machine)
    return _of_same(decode_name(_read(machine, pid, "comm").removesuffix(b"\n")), machine, pid, start_ticks)


def executable(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> str | None:
    """Return the path of its program as os.fsdecode() gives it; None for a kernel thread and a zombie.

    From the link `exe`; for a program that was deleted or replaced, the path that it had. Raises `ProcessGone`, and
    `AccessDenied` for another user's process.
    """
    pid, machine = proc_details.resolve(pid, machine)
    return _of_same(_named(pid, proc_details.read_executable, machine, pid), machine, pid, start_ticks)


def command_line(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> list[str]:
    """Return its arguments, the first one included, as os.fsdecode() gives them; empty for kernel threads and zombies.

    From `cmdline`, which can hold passwords. Raises `ProcessGone` or `AccessDenied`.
    """
    pid, machine = proc_details.resolve(pid, machine)
    data = _read(machine, pid, "cmdline", to_end=True) or _memory(machine, pid, "cmdline", bytes)
    return _of_same(proc_details.parse_arguments(data or b""), machine, pid, start_ticks)


def environment(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> dict[str, str]:
    """Return the environment that it was executed with, by os.fsdecode(); empty for a kernel thread.

    From `environ`, which can hold passwords; what it set since is not in it. Raises `ProcessGone`, `AccessDenied` for
    another user's process, and FileNotFoundError where this kernel does not have the file.
    """
    pid, machine = proc_details.resolve(pid, machine)
    data = _memory(machine, pid, "environ", bytes) or _nothing(machine, pid, "environ")
    return _of_same(proc_details.parse_environment(data), machine, pid, start_ticks)


def terminal(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> str | None:
    """Return the path of its controlling terminal (`/dev/pts/3`, `/dev/tty1`); None without one.

    From `stat` (tty_nr); for those outside `/dev/pts` sysfs or `/proc/tty/drivers` has the name. Raises `ProcessGone`
    or `AccessDenied`.
    """
    pid, machine = proc_details.resolve(pid, machine)
    return terminal_name(machine, _stat(machine, pid, start_ticks).tty)


def open_files(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> dict[int, str]:
    """Return the target of each open descriptor by its number: a path, or `pipe:[123]`, `socket:[123]`, ....

    From the links of `fd`. Raises `ProcessGone`, `AccessDenied` for another user's process, and FileNotFoundError where
    this kernel does not have them.
    """
    pid, machine = proc_details.resolve(pid, machine)
    found = _named(pid, proc_details.read_descriptors, machine, pid)
    if not found:
        _nothing(machine, pid, "fd")
    return _of_same(found, machine, pid, start_ticks)


def limits(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> Limits:
    """Return its resource limits by `limits`, each soft and hard: `limits(pid).rss_bytes.soft`.

    Raises `ProcessGone`, `AccessDenied`, and FileNotFoundError where this kernel does not have the file.
    """
    pid, machine = proc_details.resolve(pid, machine)
    found = proc_details.parse_limits(_read(machine, pid, "limits"))
    return _of_same(Limits._make(Limit(soft, hard) for soft, hard in found), machine, pid, start_ticks)


def cgroup(pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> Cgroup:
    """Return its cgroups by `cgroup`. Raises `ProcessGone`, `AccessDenied`, and FileNotFoundError without cgroups."""
    pid, machine = proc_details.resolve(pid, machine)
    paths = parse_cgroup(_read(machine, pid, "cgroup", to_end=True))
    return _of_same(Cgroup(paths.pop(V2, None), paths), machine, pid, start_ticks)
