"""One process, one call, one purpose: each function takes a pid and reads as few files as it can.

    from proctally import process
    process.rss_bytes(pid)
    process.cpu_time(pid, start=start)      # of that process alone, never of another that was given its pid

Each raises `Gone` when there is no such process, and `Denied` when this user may not read that of it. A bare pid says
only who has it now: with `start` (ticks since boot, from `liveness`, `processes.snapshot` or `processes.scan`) a
function answers for that one process, and raises `Gone` when the pid has been given to another. A zombie is there
until it is reaped: it has CPU time and no memory.

`machine` is where to look: this machine, unless it is told otherwise. In a container that has the host's `/proc` at
another place: `Machine("/host/proc", clock_gettime_ns=None)` of `proctally.kernel.machine`, since the CPU clocks know
only this container's pids.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from proctally.kernel import details
from proctally.kernel.cgroup import V2, parse_cgroup
from proctally.kernel.machine import Denied, Exhausted, Gone, Machine, clock_id, host_machine
from proctally.kernel.proc import (
    Stat,
    has_children_files,
    parse_children,
    parse_io,
    parse_stat,
    parse_status,
    read_threads,
    text,
)
from proctally.kernel.terminals import terminal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Parsed = TypeVar("Parsed")

__all__ = [
    "AllStats",
    "Cgroup",
    "CpuSplit",
    "Denied",
    "DiskIo",
    "Exhausted",
    "Gone",
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
    "this_machine",
    "threads",
    "uss_bytes",
    "virtual_bytes",
]


# -- what is returned ------------------------------------------------------------------------------------------------


class CpuSplit(NamedTuple):
    """CPU time in nanoseconds, each cut to the tick (10 ms). `children_*`: of the children that it waited for."""

    user_ns: int
    system_ns: int
    children_user_ns: int
    children_system_ns: int


class DiskIo(NamedTuple):
    """Bytes from and to storage, bytes through read(2) and write(2), and how many such calls.

    Since the start of the process, and of the children it waited for, and they of theirs (kernel: do_io_accounting).
    `cancelled_write_bytes`: counted as written, and then cut off before it was (a file that was deleted).
    """

    read_bytes: int
    write_bytes: int
    cancelled_write_bytes: int
    read_chars: int
    write_chars: int
    read_syscalls: int
    write_syscalls: int


class AllStats(NamedTuple):
    """CPU nanoseconds, bytes, and counts of one process at one moment. None: denied, or unknown to this kernel."""

    pid: int
    start: int
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


class Liveness(NamedTuple):
    """`state`: the letter of the kernel (R, S, D, T, Z, ...). `parent`: its pid, 0 where there is none in sight.

    `start`: ticks since boot; with the pid it is the identity. `started_at`: Unix seconds. `is_same`: whether it is
    the process that had the given start, None where none was given.
    """

    state: str
    parent: int
    start: int
    started_at: float
    is_same: bool | None


class Limit(NamedTuple):
    """One resource limit, see getrlimit(2); None is infinite."""

    soft: int | None
    hard: int | None


class Limits(NamedTuple):
    """All resource limits of a process, in the order of `/proc/PID/limits`."""

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


class Cgroup(NamedTuple):
    """Where a process lives. `path`: in the unified hierarchy (v2), None where there is none.

    `controllers`: its path by v1 controller, `name=...` hierarchies as well. Paths as its cgroup namespace shows them.
    """

    path: str | None
    controllers: dict[str, str]


# -- where to look ---------------------------------------------------------------------------------------------------

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


def _gone(pid: int) -> Gone:
    return Gone(f"process {pid} does not exist")


def _make_sure(pid: int, stat: Stat, start: int | None) -> None:
    """That it is there (state X: its parent is just reaping it), and the one that is meant."""
    if stat.state in b"Xx":
        raise _gone(pid)
    if start is not None and stat.start != start:
        raise Gone(f"process {pid} is another one: it began at tick {stat.start}, and not at {start}")


def _read(machine: Machine, pid: int, name: str, *, to_end: bool = False) -> bytes:
    try:
        return machine.read(f"{pid}/{name}", to_end=to_end)
    except Gone:
        raise _gone(pid) from None


def _stat(machine: Machine, pid: int, start: int | None) -> Stat:
    """Its `stat`, when it is the one that is meant."""
    stat = parse_stat(_read(machine, pid, "stat"))
    _make_sure(pid, stat, start)
    return stat


def _memory(machine: Machine, pid: int, name: str, parse: Callable[[bytes], Parsed | None]) -> Parsed | None:
    """What a file of the address space says, None without one."""
    try:
        return details.read_from_any(machine, pid, name, parse)
    except Gone:
        raise _gone(pid) from None


# -- CPU -------------------------------------------------------------------------------------------------------------


def cpu_time(pid: int, *, start: int | None = None, machine: Machine | None = None) -> int:
    """Nanoseconds of CPU, user and system together, of all its threads, ended ones included; without its children.

    One call, of the kernel's CPU clock of the process: exact, also of another user's and under hidepid. A thread that
    runs at this moment on another CPU has its last tick (at most 4 ms, as a rule) still to come. Where there is no
    such clock (a sandbox, the `/proc` of another pid namespace), from `stat`, each half cut to 10 ms.
    """
    if machine is None:
        machine = _machine or this_machine()
    if machine.clock_gettime_ns is None or not 0 < pid <= details.MOST_PIDS:
        return _cpu_otherwise(machine, pid, start)
    try:
        used = machine.clock_gettime_ns(clock_id(pid))
    except OSError:
        return _cpu_otherwise(machine, pid, start)
    if start is not None:
        _stat(machine, pid, start)
    return used


def _cpu_otherwise(machine: Machine, pid: int, start: int | None) -> int:
    """Why the clock could not be read: nobody is there, or there are no clocks and `stat` has to say it."""
    try:
        used = details.read_clock(machine, pid)
    except Gone:
        raise _gone(pid) from None
    stat = _stat(machine, pid, start)
    return (stat.user + stat.system) * machine.tick_ns if used is None else used


def cpu_time_with_children(pid: int, *, start: int | None = None, machine: Machine | None = None) -> int:
    """Nanoseconds of CPU of the process and of the children that it waited for, and they of theirs.

    Its own by its CPU clock, that of children from `stat`, user and system time each cut to the tick (10 ms).
    """
    machine = machine or this_machine()
    stat, own = _certain(machine, pid, start)
    return own + (stat.child_user + stat.child_system) * machine.tick_ns


def cpu_split(pid: int, *, start: int | None = None, machine: Machine | None = None) -> CpuSplit:
    """User and system time, its own and that of the children it waited for. From `stat`."""
    machine = machine or this_machine()
    stat = _stat(machine, pid, start)
    tick_ns = machine.tick_ns
    return CpuSplit(stat.user * tick_ns, stat.system * tick_ns, stat.child_user * tick_ns, stat.child_system * tick_ns)


def _certain(machine: Machine, pid: int, start: int | None) -> tuple[Stat, int]:
    """`stat` and the CPU time in nanoseconds, of the same process for certain."""
    clock, data = details.read_certain(machine, pid)
    stat = parse_stat(data)
    _make_sure(pid, stat, start)
    return stat, (stat.user + stat.system) * machine.tick_ns if clock is None else clock


# -- memory ----------------------------------------------------------------------------------------------------------


def rss_bytes(pid: int, *, start: int | None = None, machine: Machine | None = None) -> int:
    """Resident bytes, shared ones counted in full; 0 without an address space (a zombie, a kernel thread).

    From `statm`: anonymous, file and shared memory pages (kernel: task_statm).
    """
    return _statm(pid, 1, start, machine)


def virtual_bytes(pid: int, *, start: int | None = None, machine: Machine | None = None) -> int:
    """Bytes of address space, whether anything lies behind them or not. From `statm`."""
    return _statm(pid, 0, start, machine)


def _statm(pid: int, place: int, start: int | None, machine: Machine | None) -> int:
    machine = machine or this_machine()
    pages = details.parse_statm(_read(machine, pid, "statm"))
    if pages is None:  # perhaps its main thread has ended, and others live on
        pages = _memory(machine, pid, "statm", details.parse_statm) or (0, 0)
    if start is not None:
        _stat(machine, pid, start)
    return pages[place] * machine.page_size


PSS = (b"Pss",)
USS = (b"Private_Clean", b"Private_Dirty", b"Private_Hugetlb")


def pss_bytes(pid: int, *, start: int | None = None, machine: Machine | None = None) -> int | None:
    """Proportional set size in bytes: each page divided by how many processes share it. From `smaps_rollup`.

    0 without an address space; None where this kernel does not tell. Walks the page tables of the process, while its
    mmap(2) waits: 8 ms for a GiB of small pages. `Denied` for another user's process.
    """
    return _rollup(pid, PSS, start, machine)


def uss_bytes(pid: int, *, start: int | None = None, machine: Machine | None = None) -> int | None:
    """Unique set size in bytes: what is mapped by this process alone, and free when it ends. As `pss_bytes`."""
    return _rollup(pid, USS, start, machine)


def _rollup(pid: int, keys: tuple[bytes, ...], start: int | None, machine: Machine | None) -> int | None:
    machine = machine or this_machine()
    found = _smaps_rollup(machine, pid)
    if start is not None:
        _stat(machine, pid, start)
    if found is None:
        return _nothing_or_unknown(machine, pid)
    return details.parse_smaps(found, *keys)


def _smaps_rollup(machine: Machine, pid: int) -> bytes | None:
    return _memory(machine, pid, "smaps_rollup", bytes)


def _nothing_or_unknown(machine: Machine, pid: int) -> int | None:
    """0 when a process has no address space, None when it has one and the kernel lacks the file that was asked for."""
    return None if _memory(machine, pid, "statm", details.parse_statm) else 0


def swap_bytes(pid: int, *, start: int | None = None, machine: Machine | None = None) -> int | None:
    """Bytes of anonymous memory that were swapped out; shared memory is not in it. From `status` (VmSwap).

    0 without an address space.
    """
    machine = machine or this_machine()
    found = _memory(machine, pid, "status", _with_memory)
    if start is not None:
        _stat(machine, pid, start)
    return _nothing_or_unknown(machine, pid) if found is None else parse_status(found).swap_bytes


def _with_memory(status: bytes) -> bytes | None:
    return status if b"\nVmSwap:" in status else None


# -- I/O, and all at once --------------------------------------------------------------------------------------------


def disk_io(pid: int, *, start: int | None = None, machine: Machine | None = None) -> DiskIo:
    """What it read and wrote since its start, see `DiskIo`. From `io`; `Denied` for another user's process."""
    machine = machine or this_machine()
    io = _disk_io(_read(machine, pid, "io"))
    if start is not None:
        _stat(machine, pid, start)
    return io


def _disk_io(data: bytes) -> DiskIo:
    read_chars, write_chars, read_calls, write_calls, read, written, cancelled = parse_io(data)
    return DiskIo(read, written, cancelled, read_chars, write_chars, read_calls, write_calls)


def all_stats(pid: int, *, start: int | None = None, machine: Machine | None = None) -> AllStats:
    """CPU, memory and I/O in one go, of one and the same process for certain.

    From the CPU clock, `stat`, `io`, `status` and `smaps_rollup`. What this user may not read of it is None.
    """
    machine = machine or this_machine()
    try:
        fd = machine.open(f"{pid}/stat")
    except Gone:
        raise _gone(pid) from None
    try:
        io = _if_allowed(disk_io, machine, pid)
        rollup = _if_allowed(_rolled_up, machine, pid)
        swap = _if_allowed(swap_bytes, machine, pid)
        clock = _if_allowed(_clock, machine, pid)
        data = os.read(fd, details.STAT_SIZE)  # as long as this answers, nobody else has had the pid
    except (Gone, ProcessLookupError):
        raise _gone(pid) from None
    finally:
        os.close(fd)
    if not data:
        raise _gone(pid)
    stat = parse_stat(data)
    _make_sure(pid, stat, start)
    shown = stat
    if stat.state == b"Z" and stat.threads > 1:  # its main thread has ended and shows no memory any more
        shown = details.read_living_stat(machine, pid) or stat
    tick_ns = machine.tick_ns
    return AllStats(
        pid=pid,
        start=stat.start,
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
    except Denied:
        return None


def _clock(pid: int, *, machine: Machine) -> int | None:
    return details.read_clock(machine, pid)


def _rolled_up(pid: int, *, machine: Machine) -> tuple[int | None, int | None]:
    found = _smaps_rollup(machine, pid)
    if found is None:
        nothing = _nothing_or_unknown(machine, pid)
        return nothing, nothing
    return details.parse_smaps(found, *PSS), details.parse_smaps(found, *USS)


# -- who it is -------------------------------------------------------------------------------------------------------


def liveness(pid: int, *, start: int | None = None, machine: Machine | None = None) -> Liveness:
    """Whether and how it lives, whose child it is, since when, and whether it is the process that had this `start`.

    One read of one file, `stat`. Raises `Gone` only when nobody has the pid: for another process `is_same` is False.
    """
    machine = machine or this_machine()
    stat = _stat(machine, pid, None)
    return Liveness(
        stat.state.decode(),
        stat.ppid,
        stat.start,
        machine.start_unix(stat.start),
        None if start is None else stat.start == start,
    )


def start_time(pid: int, *, start: int | None = None, machine: Machine | None = None) -> float:
    """Unix seconds at which it was made, to the tick (10 ms). From `stat`."""
    machine = machine or this_machine()
    return machine.start_unix(_stat(machine, pid, start).start)


def parent(pid: int, *, start: int | None = None, machine: Machine | None = None) -> int:
    """The pid of its parent; 0 where it has none, or none in this pid namespace. From `stat`."""
    return _stat(machine or this_machine(), pid, start).ppid


def children(pid: int, *, start: int | None = None, machine: Machine | None = None) -> list[int]:
    """The pids of the children of all its threads. From `task/*/children`, else (an old kernel) from every `stat`.

    While children end, the kernel may leave one out (proc(5)).
    """
    machine = machine or this_machine()
    found: list[int] = []
    is_missing = False
    for tid in threads(pid, machine=machine):
        try:
            found += parse_children(_read(machine, pid, f"task/{tid}/children", to_end=True))
        except Gone:
            is_missing = True
    if is_missing and not found and not has_children_files(machine):
        found = details.children_by_listing(machine, pid)
    if start is not None or is_missing:
        _stat(machine, pid, start)
    return found


def threads(pid: int, *, start: int | None = None, machine: Machine | None = None) -> list[int]:
    """The ids of its threads, its own pid among them. One listing of `task`."""
    machine = machine or this_machine()
    try:
        found = read_threads(machine, pid)
    except Gone:
        raise _gone(pid) from None
    if start is not None:
        _stat(machine, pid, start)
    return sorted(found)


def command_name(pid: int, *, start: int | None = None, machine: Machine | None = None) -> str:
    """The name that the kernel has for it: at most 15 bytes, as it was executed or as it called itself. From `comm`.

    A name may hold any byte: one that is no UTF-8 stands there as `\\xff`.
    """
    machine = machine or this_machine()
    name = text(_read(machine, pid, "comm").removesuffix(b"\n"))
    if start is not None:
        _stat(machine, pid, start)
    return name


def executable(pid: int, *, start: int | None = None, machine: Machine | None = None) -> str | None:
    """The path of its program as os.fsdecode() gives it, None for a kernel thread and a zombie. The link `exe`.

    Of a program that was deleted or replaced, the path it had. `Denied` for another user's process.
    """
    machine = machine or this_machine()
    try:
        path = details.read_executable(machine, pid)
    except Gone:
        raise _gone(pid) from None
    if start is not None:
        _stat(machine, pid, start)
    return path


def command_line(pid: int, *, start: int | None = None, machine: Machine | None = None) -> list[str]:
    """Its arguments, the first one included, as os.fsdecode() gives them; none for a kernel thread and a zombie.

    From `cmdline`, where passwords may stand as well.
    """
    machine = machine or this_machine()
    data = _read(machine, pid, "cmdline", to_end=True) or _memory(machine, pid, "cmdline", bytes)
    if start is not None:
        _stat(machine, pid, start)
    return details.parse_arguments(data or b"")


def environment(pid: int, *, start: int | None = None, machine: Machine | None = None) -> dict[str, str]:
    """Its environment as it was executed with; what it set since is not in it. Empty for a kernel thread.

    From `environ`, os.fsdecode()d, where secrets may stand as well; `Denied` for another user's process.
    """
    machine = machine or this_machine()
    data = _memory(machine, pid, "environ", bytes)
    if start is not None:
        _stat(machine, pid, start)
    return details.parse_environment(data or b"")


def terminal(pid: int, *, start: int | None = None, machine: Machine | None = None) -> str | None:
    """The path of its controlling terminal (`/dev/pts/3`, `/dev/tty1`), None without one.

    From `stat`; for others than `/dev/pts`, sysfs or `/proc/tty/drivers` has the name.
    """
    machine = machine or this_machine()
    return terminal_name(machine, _stat(machine, pid, start).tty)


def open_files(pid: int, *, start: int | None = None, machine: Machine | None = None) -> dict[int, str]:
    """Where each open descriptor leads, by its number: a path, or `pipe:[123]`, `socket:[123]`, `anon_inode:...`.

    The links of `fd`; `Denied` for another user's process.
    """
    machine = machine or this_machine()
    try:
        found = details.read_descriptors(machine, pid)
    except Gone:
        raise _gone(pid) from None
    if start is not None:
        _stat(machine, pid, start)
    return found


def limits(pid: int, *, start: int | None = None, machine: Machine | None = None) -> Limits:
    """Its resource limits, soft and hard, None where infinite: `limits(pid).rss_bytes.soft`. From `limits`."""
    machine = machine or this_machine()
    found = details.parse_limits(_read(machine, pid, "limits"))
    if start is not None:
        _stat(machine, pid, start)
    return Limits._make(Limit(soft, hard) for soft, hard in found)


def cgroup(pid: int, *, start: int | None = None, machine: Machine | None = None) -> Cgroup:
    """The control groups it lives in. From `cgroup`."""
    machine = machine or this_machine()
    paths = parse_cgroup(_read(machine, pid, "cgroup", to_end=True))
    if start is not None:
        _stat(machine, pid, start)
    return Cgroup(paths.pop(V2, None), paths)
