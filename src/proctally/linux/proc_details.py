"""/proc/PID/*: what is asked of one process at a time, and never in a sample.

Layouts: proc(5), fs/proc/base.c, fs/proc/array.c and fs/proc/task_mmu.c of the kernel. Pure parsers of bytes, and thin
readers; where the main thread of a process has ended and others live on, those have its memory and its files.
"""

from __future__ import annotations

import os
from errno import EMFILE, ENFILE

from proctally.errors import UNREADABLE, AccessDenied, NoDescriptors, ProcessGone, no_process
from proctally.linux.machine import Machine, classify, clock_id, this_machine
from proctally.linux.proc import COUNTERS_END, Stat, parse_children, parse_stat, read_stat, read_threads, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    Made = TypeVar("Made")
    Parsed = TypeVar("Parsed")

DELETED = " (deleted)"  # d_path() of what has no name any more
INFINITE = b"unlimited"
MOST_PIDS = 1 << 22  # PID_MAX_LIMIT
LARGEST_PID = (1 << 31) - 1  # of pid_t: a sandbox may give out numbers above PID_MAX_LIMIT
STAT_SIZE = 2048  # 52 numbers of at most 20 digits and a name of at most 64 bytes are less


# -- what a caller gives ----------------------------------------------------------------------------------------------


def checked_pid(pid: int) -> int:
    """Return the pid of a caller: any integer type but bool. Raises TypeError, and ValueError for one out of range."""
    if isinstance(pid, bool) or not hasattr(pid, "__index__"):
        raise TypeError(f"pid is a {type(pid).__name__}; use an int")
    number = pid.__index__()
    if not 0 < number <= LARGEST_PID:
        raise ValueError(f"pid is {number}; use 1 to {LARGEST_PID}")
    return number


def resolve(pid: int, machine: Machine | None) -> tuple[int, Machine]:
    """Return the checked pid, and the given machine or this one. Raises TypeError or ValueError."""
    if type(pid) is not int or not 0 < pid <= LARGEST_PID:  # 0.1 us less for what most callers give
        pid = checked_pid(pid)
    return pid, machine or this_machine()


# -- parsers ---------------------------------------------------------------------------------------------------------


def parse_statm(data: bytes) -> tuple[int, int] | None:
    """`/proc/PID/statm`: virtual and resident size in pages; None where there is no address space."""
    try:
        size, resident = map(int, data.split()[:2])
    except ValueError:
        raise ValueError(f"statm: {data[:200]!r}") from None
    return (size, resident) if size else None


def parse_smaps(data: bytes, *keys: bytes) -> int | None:
    """`/proc/PID/smaps_rollup`: the sum in bytes of these lines (kB there), None where it has none of them."""
    total = None
    for line in data.split(b"\n"):
        key, _, value = line.partition(b":")
        if key in keys:
            try:
                total = (total or 0) + int(value.strip().removesuffix(b"kB")) * 1024
            except ValueError:
                raise ValueError(f"smaps_rollup: {line[:200]!r}") from None
    return total


LIMITS = (
    b"Max cpu time",
    b"Max file size",
    b"Max data size",
    b"Max stack size",
    b"Max core file size",
    b"Max resident set",
    b"Max processes",
    b"Max open files",
    b"Max locked memory",
    b"Max address space",
    b"Max file locks",
    b"Max pending signals",
    b"Max msgqueue size",
    b"Max nice priority",
    b"Max realtime priority",
    b"Max realtime timeout",
)


def parse_limits(data: bytes) -> list[tuple[int | None, int | None]]:
    """`/proc/PID/limits`: soft and hard of each of LIMITS, None where infinite; a missing line raises ValueError.

    Columns of a fixed width (lnames, proc_pid_limits): a name may hold blanks.
    """
    found = {}
    for line in data.split(b"\n"):
        words = line[26:].split()
        if len(words) >= 2:
            found[line[:26].strip()] = words
    try:
        return [(_limit(found[name][0]), _limit(found[name][1])) for name in LIMITS]
    except (KeyError, ValueError):
        raise ValueError(f"limits: {data[:2000]!r}") from None


def _limit(word: bytes) -> int | None:
    return None if word == INFINITE else int(word)


def parse_arguments(data: bytes) -> list[str]:
    """`/proc/PID/cmdline`: the arguments as os.fsdecode() gives them; none where it is empty.

    A process may write over its own (setproctitle): what then has no NUL is one argument.
    """
    return [os.fsdecode(word) for word in data.removesuffix(b"\0").split(b"\0")] if data else []


def parse_environment(data: bytes) -> dict[str, str]:
    """`/proc/PID/environ` as os.fsdecode() gives it; of two of one name the first, as in getenv(3)."""
    variables: dict[str, str] = {}
    for word in data.split(b"\0"):
        name, equals, value = word.partition(b"=")
        if equals:
            variables.setdefault(os.fsdecode(name), os.fsdecode(value))
    return variables


# -- readers ---------------------------------------------------------------------------------------------------------


def folders(machine: Machine, pid: int) -> Iterator[str]:
    """Where the files of its address space may lie; raises `ProcessGone` when the process is gone.

    Twice its own: one ESRCH may be of the address space that an exec has just replaced. Then those of its threads.
    """
    yield str(pid)
    yield str(pid)
    for tid in read_threads(machine, pid):
        if tid != pid:
            yield f"{pid}/task/{tid}"


def first_answer(machine: Machine, pid: int, read: Callable[[str], Parsed | None]) -> Parsed | None:
    """Return the answer of its first folder that has one, else None. Raises `ProcessGone` or `AccessDenied`."""
    for folder in folders(machine, pid):
        try:
            found = read(folder)
        except ProcessGone:
            continue
        except AccessDenied:  # of a main thread that has ended, not even its own user may read what is no more
            if "/" in folder or read_stat(machine, pid).state != b"Z":
                raise
            continue
        if found:
            return found
    return None


def read_from_any(machine: Machine, pid: int, name: str, parse: Callable[[bytes], Parsed | None]) -> Parsed | None:
    """What a file of the address space says; None where nothing does: a zombie, a kernel thread, no such file.

    Raises `ProcessGone` or `AccessDenied`.
    """
    return first_answer(machine, pid, lambda folder: parse(machine.read(f"{folder}/{name}", to_end=True)))


def read_executable(machine: Machine, pid: int) -> str | None:
    """The path of the program, os.fsdecode()d, without the ` (deleted)` that the kernel puts behind one that has no
    name any more; None for a kernel thread and a zombie. Raises `ProcessGone` or `AccessDenied`.
    """

    def read(folder: str) -> str:
        link = machine.path(f"{folder}/exe")
        try:
            path = os.readlink(link)
        except OSError as error:
            raise machine.classify(error) from None
        if path.endswith(DELETED) and not _is_same(link, f"{machine.proc}/{folder}/root{path}"):
            path = path.removesuffix(DELETED)
        return path

    return first_answer(machine, pid, read)


def read_descriptors(machine: Machine, pid: int) -> dict[int, str]:
    """Where each open descriptor leads, by its number; raises `ProcessGone` or `AccessDenied`."""

    def read(folder: str) -> dict[int, str]:
        path = f"{folder}/fd"
        found = {}
        for name in machine.listdir(path):
            try:
                found[int(name)] = os.readlink(f"{machine.proc}/{path}/{name}")
            except OSError:  # closed in between
                continue
        return dict(sorted(found.items()))

    return first_answer(machine, pid, read) or {}


def _is_same(link: str, path: str) -> bool:
    """Whether a file is really called like that."""
    try:
        return os.path.samefile(link, path)
    except OSError:
        return False


def read_clock(machine: Machine, pid: int) -> int | None:
    """Nanoseconds of the CPU clock of a process; None where there is no such clock and `stat` has to say it.

    Raises `ProcessGone`. Whose time it was, the pid alone does not say.
    """
    if machine.clock_gettime_ns is None:
        return None
    if not 0 < pid <= MOST_PIDS:  # to the clocks, 0 and -1 are this process
        raise no_process(pid)
    try:
        return machine.clock_gettime_ns(clock_id(pid))
    except OSError as error:
        reason = classify(error)
        if isinstance(reason, PermissionError):  # a sandbox
            return None
        raise reason from None


def read_certain(machine: Machine, pid: int, children: list[int] | None = None) -> tuple[int | None, bytes]:
    """The CPU clock and `stat` of one and the same process: the descriptor that was opened before answers after it.

    `children`: where to put the pids of the children of all its threads, for certain of this process as well; imprecise
    while children end. Raises `ProcessGone` or `AccessDenied`.
    """
    try:
        fd = machine.open(f"{pid}/stat")
        try:
            if children is not None:
                children += _children_of_threads(machine, pid)
            clock = read_clock(machine, pid)
            data = os.read(fd, STAT_SIZE)
        except OSError as error:
            raise classify(error) from None
        finally:
            os.close(fd)
    except ProcessGone:
        data = b""
    if not data:
        raise no_process(pid)
    return clock, data


def _children_of_threads(machine: Machine, pid: int) -> list[int]:
    found: list[int] = []
    for tid in read_threads(machine, pid):
        try:
            found += parse_children(machine.read(f"{pid}/task/{tid}/children", to_end=True))
        except ProcessGone:  # the thread has ended
            continue
    return found


def list_pids(machine: Machine) -> list[int]:
    """The pids of all processes that are listed. Raises `NoDescriptors` or `NoProcfs`."""
    machine.need_procfs()
    return list(map(int, filter(str.isdecimal, machine.listdir(""))))


def read_each(machine: Machine, pids: Iterable[int], make: Callable[[tuple[Any, ...]], Made]) -> dict[int, Made]:
    """CPU clock and `stat` of many processes, by pid; those that cannot be read are left out. Raises `NoDescriptors`.

    `make` is given pid, start, parent, state, command, threads, nanoseconds of CPU, user, system, children's user and
    system time, bytes of RSS and of address space. Everything stands in this one loop since a scan is this loop: the
    calls of the kernel are three quarters of it, and calls of Python would be a tenth.
    """
    clock_gettime_ns, tick_ns, page_size = machine.clock_gettime_ns, machine.tick_ns, machine.page_size
    flags = os.O_RDONLY | os.O_CLOEXEC
    open_, read, close = os.open, os.read, os.close
    found = {}
    try:
        folder = open_(machine.proc, flags | os.O_DIRECTORY)
    except OSError as error:
        raise machine.classify(error) from None
    try:
        for pid in pids:
            try:
                fd = open_(f"{pid}/stat", flags, dir_fd=folder)
            except OSError as error:
                if error.errno in (EMFILE, ENFILE):
                    raise classify(error) from None
                continue
            try:  # as in `read_certain`
                clock = None if clock_gettime_ns is None else clock_gettime_ns((~pid << 3) | 2)
                data = read(fd, STAT_SIZE)
            except OSError:  # it has ended since
                continue
            finally:
                close(fd)
            if not data:
                continue
            end = data.rfind(b") ")
            try:
                (
                    state, parent, _, _, _, _, _, _, _, _, _, user, system, child_user, child_system, _, _, threads, _,
                    start, virtual, rss, _,
                ) = data[end + 2 :].split(None, 22)  # fmt: skip
                user_ns, system_ns = int(user) * tick_ns, int(system) * tick_ns
                virtual_bytes, rss_bytes = int(virtual), int(rss) * page_size
                if not 0 <= user_ns + system_ns + virtual_bytes + rss_bytes < COUNTERS_END:  # no kernel wrote that
                    continue
                if state in b"ZXx":
                    if state != b"Z":  # its parent is just reaping it
                        continue
                    if threads != b"1":
                        virtual_bytes, rss_bytes = _memory_without_leader(machine, pid)
                found[pid] = make(
                    (
                        pid, int(start), int(parent), state.decode(),
                        data[data.find(b"(") + 1 : end].decode("utf-8", "backslashreplace"),  # as proc.decode_name
                        int(threads), user_ns + system_ns if clock is None else clock, user_ns, system_ns,
                        int(child_user) * tick_ns, int(child_system) * tick_ns, rss_bytes, virtual_bytes,
                    )
                )  # fmt: skip
            except ValueError:
                continue
    finally:
        close(folder)
    return found


def _memory_without_leader(machine: Machine, pid: int) -> tuple[int, int]:
    try:
        stat = read_living_stat(machine, pid)
    except UNREADABLE:
        stat = None
    return (0, 0) if stat is None else (stat.vsize, stat.rss * machine.page_size)


def stat_with_memory(machine: Machine, pid: int, stat: Stat) -> Stat:
    """Return this `stat`; that of a living thread where the main one has ended and shows no memory."""
    if stat.state == b"Z" and stat.threads > 1:
        return read_living_stat(machine, pid) or stat
    return stat


def read_living_stat(machine: Machine, pid: int) -> Stat | None:
    """The `stat` of a thread that lives on after the main one has ended: it shows the memory. None without one."""
    for tid in read_threads(machine, pid):
        if tid != pid:
            try:
                stat = parse_stat(machine.read(f"{pid}/task/{tid}/stat"))
            except ProcessGone:
                continue
            if stat.vsize:
                return stat
    return None


def children_by_listing(machine: Machine, parent: int) -> list[int]:
    """The children of a process where this kernel has no `children` files: `stat` of all processes is read."""
    found = []
    for pid, _ in scan(machine):
        try:
            if read_stat(machine, pid).ppid == parent:
                found.append(pid)
        except NoDescriptors:
            raise
        except UNREADABLE:
            continue
    return found
