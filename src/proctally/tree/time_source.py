"""The readings behind `time`: threads that moved, idle CPUs and affinities, one interval for each scan of the tree."""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE
from proctally.linux.machine import NANOSECONDS, Machine
from proctally.linux.system import IDLE, IOWAIT, Cpu, parse_stat
from proctally.linux.threads import ThreadReader, ThreadScan
from proctally.tree.time import Interval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from proctally.tree.member import Member

UNSEEN_NS = 1_000_000  # CPU time that no known thread explains, below which the machine is not read
AFFINITY_NS = 10 * NANOSECONDS  # maximum age of an affinity


class TimeSource:
    """Reads what one interval of a tree needs.

    `accounted`: the kernel accounts for the block delays of all members: true for a job that started after
    kernel.task_delayacct was set.
    """

    def __init__(self, machine: Machine, *, descriptors: int, accounted: bool = False) -> None:
        self.machine = machine
        self.threads = ThreadReader(machine, descriptors=descriptors, accounted=accounted)
        self._ended: dict[tuple[int, int], list[float]] = {}
        self._affinities: dict[int, tuple[int, frozenset[int]]] = {}
        self._masks: dict[frozenset[int], frozenset[int]] = {}  # each once: one of 256 CPUs takes 16 KiB
        self._usable: frozenset[int] | None = None  # the union of these, until one changes
        self._at = machine.monotonic_ns()
        self._used_ns = 0  # of the intervals so far
        self._had_unseen = False
        self._throttled_ns = 0
        self._cpu: Cpu | None = None
        self._cpu_at = self._at

    def begin(self, at: int) -> None:
        """Have the first interval start at a past moment at which the tree had used nothing."""
        self._at = at

    def start(self, members: Iterable[Member], now: int, *, used_ns: int = 0, throttled_ns: int = 0) -> None:
        """Take the present counters of members as those before the first interval."""
        for member in members:
            self.threads.start(member.pid, member.threads)
        self._at, self._used_ns, self._throttled_ns = now, used_ns, throttled_ns
        self._cpu, self._cpu_at = self._read_cpu(), now
        self._ended = {}

    def end(self, member: Member) -> None:
        """Read a zombie before it is reaped: no later scan can."""
        self._ended |= self.threads.read([(member.pid, 1, b"Z")]).threads

    def forget(self, members: Iterable[Member]) -> None:
        """Release the files of members that are gone."""
        for member in members:
            self.threads.forget(member.pid)
            if self._affinities.pop(member.pid, None) is not None and self._affinities:
                self._usable = None  # the last member leaves its CPUs to the last interval

    def scan(self, moved: Collection[Member], now: int, *, used_ns: int, throttled_ns: int = 0) -> Interval:
        """Return the interval since the last scan.

        `moved`: living members whose CPU clock moved in it, zombies included. `now`: when the clocks were read.
        `used_ns`, `throttled_ns`: of the whole tree, since its start.
        """
        scan = self.threads.read([(member.pid, member.threads, member.state) for member in moved])
        cpus = self._cpus(moved, now)
        threads = self._with_ended(scan)
        known_ns = round(sum(times[0] for times in threads.values()))
        growth_ns = used_ns - self._used_ns
        idle_ns, born = None, 0
        has_unseen = growth_ns - known_ns >= UNSEEN_NS
        if has_unseen or self._had_unseen:
            idle_ns, born = self._machine_since(now, cpus)
        if not has_unseen:
            # The rest is explained by a later scan: threads are read after the total, and that comes in ticks in part.
            growth_ns = known_ns
        self._had_unseen = has_unseen
        interval = Interval(
            now - self._at,
            threads,
            used_ns=growth_ns,
            cpus=len(cpus),
            idle_ns=idle_ns,
            born=born,
            throttled_ns=throttled_ns - self._throttled_ns,
            # a scan because of an exit shows no state of the job
            running=scan.running or (bool(moved) and all(member.state == b"Z" for member in moved)),
            disk=scan.disk,
            sampled=scan.sampled,
        )
        self._used_ns = min(self._used_ns + growth_ns, used_ns + max(0, now - self._at))
        self._at, self._throttled_ns = now, throttled_ns
        return interval

    def _machine_since(self, now: int, cpus: Collection[int]) -> tuple[int | None, int]:
        """Return for how long the idlest CPU was idle in this interval, at least, and how many tasks started.

        The last reading is older than the interval where there was no reason to read before it.
        """
        cpu, before, before_at = self._read_cpu(), self._cpu, self._cpu_at
        self._cpu, self._cpu_at = cpu, now
        if cpu is None or before is None:
            return None, 0
        idle_ns = idlest(cpu, before, cpus) * self.machine.tick_ns - max(0, self._at - before_at)
        return max(0, idle_ns), max(0, (cpu.forks or 0) - (before.forks or 0))

    def close(self) -> None:
        """Close all files."""
        self.threads.close()

    def _with_ended(self, scan: ThreadScan) -> dict[tuple[int, int], list[float]]:
        ended, self._ended = self._ended, {}
        return ended | scan.threads

    def _cpus(self, moved: Iterable[Member], now: int) -> Collection[int]:
        """Return the CPUs that the members can use together: the union of their affinities."""
        for member in moved:
            known = self._affinities.get(member.pid)
            if known is None or now - known[0] > AFFINITY_NS:
                try:
                    affinity = frozenset(os.sched_getaffinity(member.pid))
                except OSError:
                    continue
                if known is None or known[1] != affinity:
                    self._usable = None
                    affinity = self._masks.setdefault(affinity, affinity)
                self._affinities[member.pid] = now, affinity
        if self._usable is None:
            found = {cpus for _, cpus in self._affinities.values()} or {frozenset(os.sched_getaffinity(0))}
            self._usable = frozenset().union(*found)
        return self._usable

    def _read_cpu(self) -> Cpu | None:
        try:
            return parse_stat(self.machine.read("stat", to_end=True))
        except UNREADABLE:
            return None


def idlest(now: Cpu, before: Cpu, cpus: Collection[int]) -> int:
    """Return for how many ticks the idlest of these CPUs was idle."""
    growths = [
        now.cores[cpu][IDLE] + now.cores[cpu][IOWAIT] - before.cores[cpu][IDLE] - before.cores[cpu][IOWAIT]
        for cpu in cpus
        if cpu in now.cores and cpu in before.cores
    ]
    return max(0, *growths) if growths else 0
