"""One tree that runs already, process by process, for who looks at it live. No record is written."""

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
from proctally.tree.perf_source import PerfSource
from proctally.tree.sampler import TreeSampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.tree.member import Member

    Seen = dict[tuple[int, int], tuple[Member, int, tuple[int, int] | None]]

MAX_DESCRIPTORS = 4096
READ, WRITE = 4, 5  # places in /proc/PID/io
NANOSECONDS = 1e9


class LiveTree:
    """The tree of a process: totals since this was made, by every source that there is, and what each member does.

    Raises NoProcess.
    """

    def __init__(self, pid: int, interval_seconds: float) -> None:
        machine = host_machine()
        self.machine = machine
        self.pid = pid
        if is_thread(machine, pid):
            raise NoProcess(f"process {pid}: is a thread; give the id of its process")
        kept = share(2, MAX_DESCRIPTORS)
        self._perf = PerfSource(machine)
        self._sampler = TreeSampler(
            machine, perf=self._perf, descriptors=kept, interval_ns=int(interval_seconds * 1e9), process_lines=0
        )
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
        self._neighbours = Neighbours(self._sampler, pauses=False)
        self.started_at = machine.time()
        self.command = decode_name(self._root.command)
        self._perf.attach(libc(), self._sampler.thread_ids)
        self._perf.begin()
        self.perf_missing = self._perf.missing
        self._seen: Seen = {}
        self._seen_ns: int | None = None
        self._lines: dict[int, tuple[int, str, str]] = {}

    def sample(self) -> JsonObject:
        """A sample as a record holds it, with `sources` and `processes` beside.

        `sources`: CPU seconds of the tree since the start by each source. `processes`: all members, parents before
        their children, each with what it used itself since the sample before (`cpu_cores`, `read_bytes_per_second`,
        `write_bytes_per_second`: None in the first) and its levels. Raises NoProcess.
        """
        try:
            taken = self._sampler.sample()
        except NoDescriptors as error:
            raise NoProcess(f"cannot go on: {error.strerror}") from None
        taken["source"], sources = self._sampler.cpu_by_source()
        taken["sources"] = {name: seconds(used) for name, used in sources.items()}
        taken["processes"] = self._processes()
        if taken["interval_seconds"] is not None:
            self._neighbours.note(taken)
            while self._neighbours.timeout(now := self.machine.monotonic_ns()) == 0:
                self._neighbours.step(now)
        return taken

    def _processes(self) -> list[JsonObject]:
        now = self._sampler.read_ns
        interval = None if self._seen_ns is None else max(1, now - self._seen_ns) / NANOSECONDS
        members = self._sampler.members
        seen: Seen = {(member.pid, member.start): (member, member.cpu, _io(member)) for member in members.values()}
        returned = self._returned(seen)
        found = [
            _row(member, interval, self._before(member), returned.get(member, (0, 0))) for member in members.values()
        ]
        self._seen, self._seen_ns = seen, now
        return found

    def _before(self, member: Member) -> tuple[int, tuple[int, int] | None]:
        """The CPU time and I/O of a member at the sample before; of a new one what it had when it became one."""
        seen = self._seen.get((member.pid, member.start))
        if seen is not None:
            return seen[1], seen[2]
        was_there = self._sampler.is_from_before(member)
        return member.cpu_base, _io(member) if was_there else (0, 0)

    def _returned(self, seen: Seen) -> dict[Member, tuple[int, int]]:
        """What the members that have ended since had read and written, by the survivor whose `io` has it now.

        The kernel adds the I/O of a child to its parent's when that has waited for it: it was seen before, and is no
        news of this interval.
        """
        found: dict[Member, tuple[int, int]] = {}
        for identity, (member, _, io) in self._seen.items():
            heir = self._sampler.ancestor(member) if identity not in seen and io is not None else None
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


def _row(
    member: Member, interval: float | None, before: tuple[int, tuple[int, int] | None], returned: tuple[int, int]
) -> JsonObject:
    cores = read = write = None
    cpu, io = before
    now = _io(member)
    if interval is not None:
        cores = round(max(0, member.cpu - cpu) / NANOSECONDS / interval, 4)
        if now is not None and io is not None:
            read, write = (max(0, now[place] - io[place] - returned[place]) / interval for place in (0, 1))
    return {
        "pid": member.pid,
        "parent": None if member.parent is None else member.ppid,
        "command": decode_name(member.command),
        "state": member.state.decode("ascii", "replace"),
        "threads": member.threads,
        "cpu_seconds": seconds(member.cpu - member.cpu_base),
        "cpu_cores": cores,
        "rss_bytes": member.rss,
        "pss_bytes": member.pss,
        "read_bytes_per_second": read,
        "write_bytes_per_second": write,
    }
