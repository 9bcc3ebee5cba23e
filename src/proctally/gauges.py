"""Gauges of a tree for dashboards and throttles: each process by its pid and program, in percent and bytes of now.

    from proctally.gauges import Gauges
    gauges = Gauges(pid)
    while ...:
        sample = gauges.sample()
        sample.rss_bytes                                     # of the whole tree
        for (pid, exe), process in sample.members.items(): process.cpu_percent

The only place in proctally that cuts a figure to what is possible: percents to 100 times the usable cores.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from proctally.errors import UNREADABLE, closed
from proctally.linux import cgroup, proc_details
from proctally.linux.machine import NANOSECONDS, Machine, host_machine
from proctally.linux.proc import parse_stat
from proctally.text.escape import decode_name, short_repr
from proctally.text.nearest import missing_attribute
from proctally.tree.member import UNREAD
from proctally.tree.sampler import watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from proctally.tree.member import Member
    from proctally.tree.sampler import TreeSampler
else:  # a type checker would take every name for one of the module
    __getattr__ = missing_attribute(__name__)

__all__ = ["Gauges", "ProcessGauges", "Series", "TreeGauges"]


def __dir__() -> list[str]:
    return list(__all__)


INFINITE = (1 << 64) - 1  # RLIM_INFINITY
OLD_NS = 10 * NANOSECONDS  # limits, which others may change, are read again after that


class Series(NamedTuple):
    """The labels of one process.

    `exe`: the name of its program without the directory; its command name where that cannot be read.
    """

    pid: int
    exe: str


class ProcessGauges(NamedTuple):
    """One process: bytes, and percent of one core since the last sample.

    `rss_bytes`, `virtual_bytes`, `threads`: from `stat`. `rss_limit_bytes`: the soft RLIMIT_RSS, None where it is
    infinite. `cpu_percent`: by the CPU clock, without the children that it waited for; `system_cpu_percent` and
    `user_cpu_percent` come from counters that are cut to the tick (10 ms) and need not sum to it. The first value, also
    of a new program in an old process, is the average since its start.
    """

    rss_bytes: int
    rss_limit_bytes: int | None
    virtual_bytes: int
    threads: int
    cpu_percent: float
    system_cpu_percent: float
    user_cpu_percent: float

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())

    def named(self) -> Iterator[tuple[str, float]]:
        """Yield each gauge with its name; an infinite limit is left out."""
        for name, value in zip(self._fields, self, strict=True):
            if value is not None:
                yield name, value


class TreeGauges(NamedTuple):
    """All processes of the tree, zombies included.

    `members`: their gauges. `processes`: their number. `rss_bytes`: the sum of their RSS in bytes. `unread`: processes
    whose `stat` cannot be read (hidepid): their memory is not in the sum.
    """

    members: dict[Series, ProcessGauges]
    processes: int
    rss_bytes: int
    unread: int

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


class _Before:
    """What was last read of a process, and what of it is read rarely."""

    __slots__ = ("cpu", "exe", "is_first", "limit", "moment", "read_at", "system", "tick", "user")

    def __init__(self, begun: int) -> None:
        self.exe = ""
        self.limit: int | None = None
        self.read_at: int | None = None
        self.tick = 0
        self.restart(begun)

    def restart(self, begun: int) -> None:
        """What follows is counted from the beginning of the process."""
        self.is_first = True
        self.moment = begun
        self.cpu = self.user = self.system = 0


class Gauges:
    """The gauges of one tree, as a Prometheus client or a throttle wants them. Use it from one thread."""

    __slots__ = ("_before", "_cores", "_cores_at", "_is_closed", "_is_shared", "_machine", "_sampler", "pid")

    def __init__(self, pid: int, *, start_ticks: int | None = None, machine: Machine | None = None) -> None:
        """Take in the tree of a process. Raises `ProcessGone` or `AccessDenied`.

        `start_ticks`: clock ticks since boot at which it started; another process with its pid is then `ProcessGone`.
        `machine`: where to read, as in `proctally.process`.
        """
        pid, machine = proc_details.checked_pid(pid), machine or host_machine()
        self._begin(watched(pid, start_ticks, machine), machine)
        self._is_shared = False
        self.pid: int = pid

    @classmethod
    def beside(cls, sampler: TreeSampler, machine: Machine) -> Gauges:
        """Return the gauges of a tree that another sampler reads, as of its last sample."""
        gauges = cls.__new__(cls)
        gauges._begin(sampler, machine)
        gauges._is_shared = True
        gauges.pid = next(iter(sampler.members), 0)
        return gauges

    def _begin(self, sampler: TreeSampler, machine: Machine) -> None:
        self._machine = machine
        self._sampler = sampler
        self._before: dict[Member, _Before] = {}
        self._cores = 0.0
        self._cores_at: int | None = None
        self._is_closed = False

    def sample(self, largest: int | None = None) -> TreeGauges:
        """Return the gauges of this moment; empty when the whole tree has exited.

        `largest`: only that number of processes, those with the largest RSS; count and sum are those of all. From CPU
        clocks, `stat`, the link `exe` and the cgroup of the root. Raises `NoDescriptors`, `AccessDenied` where
        procfs is gone, and `AlreadyClosed` after `close`; never for a member that has exited.
        """
        if self._is_closed:
            raise closed(self)
        sampler, machine = self._sampler, self._machine
        if not self._is_shared:
            sampler.machine.need_procfs()
            sampler.sample()
        now = sampler.read_ns
        most = 100 * self._usable_cores(now)
        seen = machine.monotonic_ns()
        boot_ns = seen - machine.boottime_ns()  # when it booted, by the monotonic clock
        everybody = list(sampler.members.values())
        members = everybody if largest is None or len(everybody) <= largest else _largest(largest, everybody)
        before = {member: self._before.get(member) or _Before(self._begun(member, boot_ns)) for member in members}
        self._before = before
        found = {}
        for member, last in before.items():
            self._look_at(member, last, now, boot_ns)
            found[Series(member.pid, last.exe)] = self._gauges(member, last, now, seen, most)
        return TreeGauges(
            members=found,
            processes=len(everybody),
            rss_bytes=sum(member.rss for member in everybody),
            unread=sum(member.state == UNREAD for member in everybody),
        )

    def _begun(self, member: Member, boot_ns: int) -> int:
        return boot_ns + member.start * self._machine.tick_ns

    def _look_at(self, member: Member, last: _Before, now: int, boot_ns: int) -> None:
        """Its program and its limit, when it has run since: without that there was no exec."""
        if last.read_at is not None and member.moved_tick <= last.tick and now - last.read_at < OLD_NS:
            return
        exe = self._exe(member)
        if exe != last.exe and not (last.exe and member.ended):  # that of a zombie cannot be read any more
            last.exe = exe
            last.restart(self._begun(member, boot_ns))
        last.limit = self._rss_limit(member)
        last.read_at, last.tick = now, self._sampler.tick

    def _exe(self, member: Member) -> str:
        try:
            path = proc_details.read_executable(self._machine, member.pid)
        except UNREADABLE:
            path = None
        name = os.fsencode(path).rpartition(b"/")[2] if path else b""
        return decode_name(name or member.command)

    def _rss_limit(self, member: Member) -> int | None:
        """Field 25 of `stat`, right behind what is parsed of it."""
        try:
            data = self._sampler.stat_bytes(member)
            limit = int(data[len(parse_stat(data).head) :].split(None, 1)[0])
        except (*UNREADABLE, IndexError):
            return None
        return None if limit >= INFINITE else limit

    def _gauges(self, member: Member, last: _Before, now: int, seen: int, most: float) -> ProcessGauges:
        """`now`: when the CPU clocks were read. One that began after that was read later, by `seen` at the latest."""
        stat, tick_ns = member.stat, self._machine.tick_ns
        cpu, user, system = member.cpu, stat.user * tick_ns, stat.system * tick_ns
        share = 100 / max(1, (seen if last.is_first else now) - last.moment)
        gauges = ProcessGauges(
            rss_bytes=member.rss,
            rss_limit_bytes=last.limit,
            virtual_bytes=stat.vsize or self._vsize_without_leader(member),
            threads=stat.threads,
            cpu_percent=min(most, (cpu - last.cpu) * share),
            system_cpu_percent=min(most, (system - last.system) * share),
            user_cpu_percent=min(most, (user - last.user) * share),
        )
        last.is_first, last.moment, last.cpu, last.user, last.system = False, now, cpu, user, system
        return gauges

    def _vsize_without_leader(self, member: Member) -> int:
        """The main thread has ended and others live on: its `stat` shows no memory, that of a living thread does."""
        if member.state != b"Z" or member.threads <= 1:
            return 0
        try:
            stat = proc_details.read_living_stat(self._machine, member.pid)
        except UNREADABLE:
            return 0
        return 0 if stat is None else stat.vsize

    def _usable_cores(self, now: int) -> float:
        """What the tree may use: the least of quota, cpuset and affinity of its root, as far as it is there."""
        root = next(iter(self._sampler.members.values()), None)
        if root is not None and (self._cores_at is None or now - self._cores_at >= OLD_NS):
            self._cores_at = now
            places = _attempt(cgroup.places, self._machine, root.pid) or {}
            found = cgroup.limits(places, _affinity(root.pid), _attempt)
            self._cores = found.cpu_cores or self._cores or self._machine.cpu_count()
        return self._cores

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""
        self._is_closed = True
        if not self._is_shared:
            self._sampler.close()
            self._sampler.machine.close()

    def __enter__(self) -> Gauges:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _largest(count: int, members: list[Member]) -> list[Member]:
    from heapq import nlargest

    return nlargest(count, members, key=lambda member: member.rss)


def _affinity(pid: int) -> Collection[int] | None:
    try:
        return os.sched_getaffinity(pid)
    except OSError:
        return None


def _attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a file of a cgroup says; None where it cannot be understood."""
    try:
        return call(*arguments)
    except ValueError:
        return None
