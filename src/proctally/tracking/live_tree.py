"""One tree that runs already, process by process, for a live view. No record is written."""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE, AccessDenied, NoDescriptors, NoProcess, NoProcfs, ProcessGone
from proctally.linux.c_library import libc
from proctally.linux.descriptors import share
from proctally.linux.machine import host_machine
from proctally.linux.proc import is_thread
from proctally.linux.proc_details import parse_arguments
from proctally.record import seconds
from proctally.text.escape import decode_name
from proctally.text.secrets import mask
from proctally.tracking.neighbours import Neighbours
from proctally.tracking.summary import limits
from proctally.tree.cgroups import Enclosure
from proctally.tree.perf_source import PerfSource
from proctally.tree.sampler import TreeSampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.tree.member import Member

MAX_DESCRIPTORS = 4096
READ, WRITE = 4, 5  # places in /proc/PID/io
NANOSECONDS = 1e9
TURNS = 30  # samples in which the row of each process is made once, whether it ran or not
SAME_START_SECONDS = 2.0  # between the start of a process by the kernel and by the record of its run


class _Shown:
    """A member at the sample before. `is_still`: its row stays until it runs or it is its turn."""

    __slots__ = ("cpu", "delay", "io", "is_still", "row")

    def __init__(self, cpu: int, delay: int, io: tuple[int, int] | None) -> None:
        self.cpu = cpu
        self.delay = delay
        self.io = io
        self.is_still = False
        self.row: JsonObject = {}


class LiveTree:
    """The tree of a process: totals since this was made, by every source that there is, and what each member does.

    `started_at`: Unix time at which it must have started; its totals come from a record then, so that neither perf nor
    other processes are read. Raises NoProcess.
    """

    def __init__(self, pid: int, interval_seconds: float, *, started_at: float | None = None) -> None:
        machine = host_machine()
        self.machine = machine
        self.pid = pid
        self.cpus: int = machine.cpu_count()
        if is_thread(machine, pid):
            raise NoProcess(f"process {pid}: is a thread; give the id of its process")
        kept = share(2, MAX_DESCRIPTORS)
        enclosure = Enclosure(machine)
        enclosure.look_around(pid)
        self.limits = limits(enclosure.limits)
        self._perf = PerfSource(machine)
        self._sampler = TreeSampler(
            machine, perf=self._perf, enclosure=enclosure, descriptors=kept, interval_ns=int(interval_seconds * 1e9),
            process_lines=0, time=True,
        )  # fmt: skip
        try:
            self._root = self._sampler.attach(pid, os.getpid())
        except ProcessGone:
            raise NoProcess(f"process {pid}: No such process") from None
        except NoProcfs as error:
            raise NoProcess(error.strerror) from None
        except AccessDenied:
            raise NoProcess(f"process {pid}: Permission denied") from None
        except NoDescriptors as error:
            raise NoProcess(f"cannot begin: {error.strerror}") from None
        if started_at is not None and abs(machine.start_unix(self._root.start) - started_at) > SAME_START_SECONDS:
            self._sampler.close()
            raise NoProcess(f"process {pid} is another one")
        self._neighbours = None if started_at is not None else Neighbours(self._sampler, pauses=False)
        self.command = decode_name(self._root.command)
        if started_at is None:
            self._perf.attach(libc(), self._sampler.thread_ids)
            self._perf.begin()
        self.perf_missing = self._perf.missing
        self._shown: dict[Member, _Shown] = {}
        self._restless: set[Member] = set()
        self._shown_ns: int | None = None
        self._tick = self._samples = 0
        self._lines: dict[int, tuple[int, str, str]] = {}

    def scan(self) -> float | None:
        """Scan the tree if that is due between two samples; return the seconds to the next, None without one."""
        due = self._sampler.due_ns
        if due is None:
            return None
        if due <= self.machine.monotonic_ns():
            try:
                self._sampler.scan(between=True)
            except NoDescriptors as error:
                raise NoProcess(f"cannot go on: {error.strerror}") from None
            due = self._sampler.due_ns
        return None if due is None else max(0.0, (due - self.machine.monotonic_ns()) / NANOSECONDS)

    def sample(self) -> JsonObject:
        """A sample as a record holds it, with `sources` and `processes` beside.

        `sources`: CPU seconds of the tree since the start by each source. `processes`: all members, parents before
        their children, each with what it used itself since the sample before (`cpu_cores`, `wait_cores`,
        `read_bytes_per_second`, `write_bytes_per_second`: None in the first) and its levels. The row of one that sleeps
        is the same object as before. Raises NoProcess.
        """
        try:
            taken = self._sampler.sample()
        except NoDescriptors as error:
            raise NoProcess(f"cannot go on: {error.strerror}") from None
        taken["source"], sources = self._sampler.cpu_by_source()
        taken["sources"] = {name: seconds(used) for name, used in sources.items()}
        taken["processes"] = self._processes()
        if self._neighbours is not None and taken["interval_seconds"] is not None:
            self._neighbours.note(taken)
            while self._neighbours.timeout(now := self.machine.monotonic_ns()) == 0:
                self._neighbours.step(now)
        return taken

    def _processes(self) -> list[JsonObject]:
        read_ns, tick = self._sampler.read_ns, self._tick
        interval = None if self._shown_ns is None else max(1, read_ns - self._shown_ns) / NANOSECONDS
        returned = self._returned()
        shown, restless = self._shown, self._restless
        members = list(self._sampler.members.values())
        self._samples += 1
        due = dict.fromkeys(members[self._samples % TURNS :: TURNS])
        due |= dict.fromkeys(
            [member for member in members if member.moved_tick > tick or member in restless or member not in shown]
        )
        for member in due:
            before = shown.get(member)
            now = self._show(member, before, interval, returned.get(member, (0, 0)))
            if before is not None and now.row == before.row:
                now.row = before.row
            shown[member] = now
        self._restless = {member for member in due if not shown[member].is_still}
        found = [shown[member].row for member in members]
        self._tick, self._shown_ns = self._sampler.tick, read_ns
        return found

    def _show(self, member: Member, before: _Shown | None, interval: float | None, returned: tuple[int, int]) -> _Shown:
        """Return a member as it is now, with its row; a new one had used nothing when it became a member."""
        if before is None:
            io = _io(member) if self._sampler.is_from_before(member) else (0, 0)
            before = _Shown(member.cpu_base, member.run_delay if member.cpu_base else 0, io)
        now = _Shown(member.cpu, member.run_delay, _io(member))
        cores = wait = read = write = None
        if interval is not None:
            cores = round(max(0, now.cpu - before.cpu) / NANOSECONDS / interval, 4)
            if self._sampler.ledger.delay_known:
                wait = round(max(0, now.delay - before.delay) / NANOSECONDS / interval, 4)
            if now.io is not None and before.io is not None:
                pairs = zip(now.io, before.io, returned, strict=True)
                read, write = (max(0, value - was - returned) / interval for value, was, returned in pairs)
        low, high = self._sampler.memory.held_by(member) or (None, None)
        now.is_still = interval is not None and high is not None and not (cores or wait or read or write)
        now.row = {
            "pid": member.pid,
            "parent": None if member.parent is None else member.ppid,
            "command": decode_name(member.command),
            "state": member.state.decode("ascii", "replace"),
            "threads": member.threads,
            "cpu_seconds": seconds(member.cpu - member.cpu_base),
            "cpu_cores": cores,
            "wait_cores": wait,
            "rss_bytes": member.rss,
            "memory_low_bytes": low,
            "memory_high_bytes": high,
            "read_bytes_per_second": read,
            "write_bytes_per_second": write,
        }
        return now

    def _returned(self) -> dict[Member, tuple[int, int]]:
        """Return what the members that exited since had read and written, by the survivor whose `io` has it now.

        The kernel adds the I/O of a child to its parent's when that has waited for it: it was seen before, and is not
        new in this interval.
        """
        found: dict[Member, tuple[int, int]] = {}
        for member in [member for member in self._shown if not member.alive]:
            io = self._shown.pop(member).io
            heir = self._sampler.ancestor(member) if io is not None else None
            if heir is not None and io is not None:
                read, write = found.get(heir, (0, 0))
                found[heir] = (read + io[0], write + io[1])
        return found

    def command_line(self, pid: int) -> str:
        """The command line of a member, secrets masked; its name where it has none."""
        member = self._sampler.members.get(pid)
        if member is None:
            return ""
        name = decode_name(member.command)
        kept = self._lines.get(pid)
        if kept is not None and kept[:2] == (member.start, name):
            return kept[2]
        try:
            line = " ".join(mask(parse_arguments(self.machine.read(f"{pid}/cmdline"))))
        except UNREADABLE:
            line = ""
        self._lines[pid] = (member.start, name, line or name)
        return line or name

    @property
    def has_ended(self) -> bool:
        """Whether its root and everybody else who is known of it have ended."""
        return self._root.ended and all(member.ended for member in self._sampler.members.values())

    def close(self) -> None:
        """Give everything back."""
        self._perf.close()
        self._sampler.close()
        self.machine.close()


def _io(member: Member) -> tuple[int, int] | None:
    return None if member.io is None else (member.io[READ], member.io[WRITE])
