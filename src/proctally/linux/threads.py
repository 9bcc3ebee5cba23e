"""CPU time and waits of the threads that moved: `schedstat`, `stat` and `wchan` of `/proc/PID/task/TID`.

A thread whose process did not move is not read: its run delay cannot have grown, since a thread that waited for a CPU
moves when it gets one.
"""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE, NoDescriptors, ProcessGone
from proctally.linux.machine import Machine, reread
from proctally.linux.proc import is_vfork_wait, parse_block_delay, parse_schedstat, parse_state, read_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_READ = 256  # threads that are read in one scan; above it they take turns
MAX_STATES = 32  # threads, apart from main threads, whose state is read in one scan


def accounts_block_delays(machine: Machine) -> bool:
    """Return whether the kernel accounts for the block delays of tasks that start now (kernel.task_delayacct)."""
    try:
        return machine.read("sys/kernel/task_delayacct").strip() == b"1"
    except UNREADABLE:
        return False


class Thread:
    """The last reading of one thread: nanoseconds; `skipped`: scans since then in which it could have moved."""

    __slots__ = ("block_ns", "cpu_ns", "delay_ns", "fd", "skipped")

    def __init__(self) -> None:
        self.fd = -1
        self.cpu_ns = 0
        self.delay_ns = 0
        self.block_ns = 0
        self.skipped = 0


class ThreadScan:
    """Growths since the last scan, in nanoseconds: (pid, tid) -> [CPU, run delay, block delay].

    `running`: a thread runs or is ready. `disk`: none does, and one waits for a device. `sampled`: a part of the
    threads was read; a thread that had to wait for its turn has its mean growth for each scan.
    """

    __slots__ = ("disk", "running", "sampled", "threads")

    def __init__(self) -> None:
        self.threads: dict[tuple[int, int], list[float]] = {}
        self.running = False
        self.disk = False
        self.sampled = False


class ThreadReader:
    """Reads the threads of processes that moved, with at most `descriptors` files kept open.

    Reading a kept file takes 0.9 us, opening it 4.5 us more. `accounted`: the kernel accounts for block delays of all
    these threads, so that they are read instead of states.
    """

    def __init__(self, machine: Machine, *, descriptors: int, accounted: bool = False) -> None:
        self.machine = machine
        self.accounted = accounted
        self.limit = descriptors
        self.open_count = 0
        self._threads: dict[int, dict[int, Thread]] = {}
        self._busy: dict[tuple[int, int], bytes] = {}  # threads that were R or D when they moved last: they still are
        self._turn = 0

    def start(self, pid: int, threads: int) -> None:
        """Read a process whose counters so far are not part of the job."""
        for tid in list(self._tids(pid, threads)):
            self._grow(pid, tid, self._threads[pid][tid])

    def prime(self, pid: int, cpu_ns: int, delay_ns: int) -> None:
        """Take what the main thread of a process is known to have used before it was part of the job."""
        thread = self._threads.setdefault(pid, {})[pid] = Thread()
        thread.cpu_ns, thread.delay_ns = cpu_ns, delay_ns

    def delays(self, pid: int) -> dict[int, int]:
        """Return the run delay of each known thread by its last reading."""
        return {tid: thread.delay_ns for tid, thread in self._threads.get(pid, {}).items()}

    def delay_ns(self, pid: int, tid: int) -> int | None:
        """Return the run delay of a thread by its last reading; None where it is not known."""
        thread = self._threads.get(pid, {}).get(tid)
        return None if thread is None else thread.delay_ns

    def read(self, moved: Iterable[tuple[int, int, bytes]]) -> ThreadScan:
        """Read the processes that moved since the last scan: (pid, number of threads, state of the main thread)."""
        scan = ThreadScan()
        due = [(pid, tid, state) for pid, count, state in moved for tid in self._tids(pid, count)]
        if len(due) > MAX_READ:
            scan.sampled = True
            due = self._take_turns(due)
        others = []
        for pid, tid, state in due:
            grown = self._grow(pid, tid, self._threads[pid][tid])
            if grown is not None:
                scan.threads[pid, tid] = grown
            if tid == pid:
                self._note_state(pid, tid, state if tid in self._threads[pid] else b"")
            elif grown is not None:
                self._busy.pop((pid, tid), None)
                others.append((pid, tid))
        if not self.accounted:
            self._read_states(others)
        scan.running = b"R" in self._busy.values()
        scan.disk = not scan.running and not self.accounted and any(map(self._waits_for_device, self._busy))
        return scan

    def forget(self, pid: int) -> None:
        """Release the files of a process that exited."""
        for tid in list(self._threads.get(pid, ())):
            self._drop(pid, tid)
        self._threads.pop(pid, None)

    def close(self) -> None:
        """Close all files."""
        for pid in list(self._threads):
            self.forget(pid)

    def _tids(self, pid: int, count: int) -> Iterable[int]:
        """Return the threads of a process; list them only when their number changed."""
        known = self._threads.get(pid)
        if known is None:
            known = self._threads[pid] = {}
        elif len(known) == count and (count > 1 or pid in known):
            return known
        try:
            found = [pid] if count == 1 else read_threads(self.machine, pid)
        except UNREADABLE:
            return known
        for tid in known.keys() - found:
            self._drop(pid, tid)
        for tid in found:
            if tid not in known:
                known[tid] = Thread()
        return known

    def _take_turns(self, due: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
        start = self._turn % len(due)
        self._turn = start + MAX_READ
        turned = due[start:] + due[:start]
        for pid, tid, _ in turned[MAX_READ:]:
            self._threads[pid][tid].skipped += 1
        return turned[:MAX_READ]

    def _grow(self, pid: int, tid: int, thread: Thread) -> list[float] | None:
        """Read a thread; return its growth, None where it did not move or is gone."""
        try:
            cpu, delay = parse_schedstat(self._bytes(pid, tid, thread))
            if cpu == thread.cpu_ns and delay == thread.delay_ns:
                thread.skipped = 0
                return None
            block = self._block_ns(pid, tid) if self.accounted else 0
        except ProcessGone:
            self._drop(pid, tid)
            return None
        except (OSError, ValueError):
            return None  # it lives: its next growth is since its last reading
        scans = thread.skipped + 1
        grown: list[float] = [
            max(0, cpu - thread.cpu_ns) / scans,
            max(0, delay - thread.delay_ns) / scans,
            max(0, block - thread.block_ns) / scans,
        ]
        thread.cpu_ns, thread.delay_ns, thread.block_ns, thread.skipped = cpu, delay, block, 0
        return grown

    def _block_ns(self, pid: int, tid: int) -> int:
        return parse_block_delay(self.machine.read(f"{pid}/task/{tid}/stat")) * self.machine.tick_ns

    def _note_state(self, pid: int, tid: int, state: bytes) -> None:
        if state in (b"R", b"D"):
            self._busy[pid, tid] = state
        else:
            self._busy.pop((pid, tid), None)

    def _read_states(self, moved: list[tuple[int, int]]) -> None:
        """Read states until a thread is found that runs or is ready: the others then mean nothing."""
        for pid, tid in moved[:MAX_STATES]:
            if b"R" in self._busy.values():
                return
            try:
                self._note_state(pid, tid, parse_state(self.machine.read(f"{pid}/task/{tid}/stat")))
            except UNREADABLE:
                continue

    def _waits_for_device(self, key: tuple[int, int]) -> bool:
        if self._busy[key] != b"D":
            return False
        pid, tid = key
        try:
            return not is_vfork_wait(self.machine.read(f"{pid}/task/{tid}/wchan"))
        except UNREADABLE:
            return True

    def _bytes(self, pid: int, tid: int, thread: Thread) -> bytes:
        if thread.fd >= 0:
            return reread(thread.fd)
        fd = self._open(f"{pid}/task/{tid}/schedstat")
        if self.open_count < self.limit:
            thread.fd = fd
            self.open_count += 1
            return reread(fd)
        try:
            return reread(fd)
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        try:
            return self.machine.open(path)
        except NoDescriptors:
            self.limit = self.open_count // 2
            for threads in self._threads.values():
                for thread in threads.values():
                    self._close(thread)
            return self.machine.open(path)

    def _drop(self, pid: int, tid: int) -> None:
        self._busy.pop((pid, tid), None)
        self._close(self._threads[pid].pop(tid))

    def _close(self, thread: Thread) -> None:
        if thread.fd >= 0:
            os.close(thread.fd)
            thread.fd = -1
            self.open_count -= 1
