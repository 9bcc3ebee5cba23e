"""The cgroups around a run: the limits it lives under, what was killed and throttled there, and one of its own."""

from __future__ import annotations

import os
from errno import (
    EACCES,
    EAGAIN,
    EBUSY,
    ENODEV,
    ENOENT,
    ENOMEM,
    ENOSPC,
    EOPNOTSUPP,
    EPERM,
    EROFS,
    ESRCH,
    ESTALE,
    EXDEV,
)

from proctally.errors import UNREADABLE
from proctally.linux.cgroup import (
    CgroupLimits,
    CpuStat,
    accounting,
    children,
    cpuset,
    growth,
    limits,
    machine_kills,
    memory_place,
    oom_kills,
    parse_cgroup,
    places,
    quotas,
    read_file,
    throttling,
    usage,
)
from proctally.record import codes, seconds
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, TypeVar

    from proctally.linux.cgroup import Place
    from proctally.linux.machine import Machine
    from proctally.linux.own_cgroup import CgroupReading
    from proctally.linux.own_cgroups import OwnCgroups
    from proctally.record import JsonObject

    T = TypeVar("T")

BY_ERRNO = {
    EROFS: codes.CGROUP_READ_ONLY,
    EACCES: codes.CGROUP_NOT_DELEGATED,
    EPERM: codes.CGROUP_NOT_DELEGATED,
    ENOENT: codes.CGROUP_MISSING,
    ENODEV: codes.CGROUP_MISSING,
    EAGAIN: codes.CGROUP_LIMIT,
    ENOSPC: codes.CGROUP_FULL,
    ENOMEM: codes.NO_KERNEL_MEMORY,
    ESTALE: codes.CGROUP_TAKEN,
    EBUSY: codes.CGROUP_BUSY,
    ESRCH: codes.NO_OWN_PROCFS,
    EOPNOTSUPP: codes.CGROUP_UNFIT,
    EXDEV: codes.CGROUP_ALTERS,
}
UNSEEN_RATIO = 0.01  # so much more than its cgroup others may say, before somebody must have left it ...
UNSEEN_NS = 50_000_000  # ... and so much at least


class Enclosure:
    """What surrounds one job. `missing`: the code that says why it has no cgroup of its own, None with one.

    `left`: whether a process left that. A file that does not parse costs what it would have shown, and nothing else:
    `limits_missing` is its code.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.limits = CgroupLimits()
        self.own: OwnCgroups | None = None
        self.missing_memory: str | None = None  # the code that says why the run has no v1 memory cgroup
        self.missing: str | None = codes.NOT_REQUESTED
        self.left = False
        self.limits_missing: str | None = None
        self.found: dict[str, Place] = {}
        self.memory_before: bytes | None = None  # the levels of `memory_place` before the job started
        self._enclosing_ns: int | None = None
        self._kills: dict[str, int] = {}
        self._children: frozenset[str] | None = None
        self._throttling: dict[str, CpuStat] = {}
        self._machine_kills: int | None = None

    def _tried(self, call: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return call(*arguments)
        except (ValueError, OSError) as error:
            self.limits_missing = codes.of_error(error)
            return None

    # -- beginning -----------------------------------------------------------------------------------------------

    def enclose(self, pid: int, tracker: int, *, memory: bool = True) -> None:
        """Make cgroups below those of the tracker and put a held child into them.

        `memory`: whether to count memory too, for which v1 has a separate hierarchy.
        """
        from proctally.linux.own_cgroups import MEMORY, OwnCgroups

        own = None
        try:
            own = OwnCgroups(self.machine, self._places(tracker), tracker, memory=memory)
            own.add(pid)
        except UNREADABLE as error:
            self.missing = codes.of_error(error)
            if own is not None:
                own.remove()
            return
        self.own = own
        refused = {
            name: BY_ERRNO.get(number) or codes.of_error(OSError(number, "")) for name, number in own.missing.items()
        }
        self.missing = None if own.counts_cpu else next(iter(refused.values()), codes.CGROUP_UNFIT)
        self.missing_memory = refused.get(MEMORY)
        if not own.by_name and own.remove():
            own.sweep()
            self.own = None

    def look_around(self, pid: int) -> None:
        """Read the limits, and the counts that tell at the end what happened to this process meanwhile."""
        self.found = self._places(pid)
        try:
            affinity = os.sched_getaffinity(pid)
        except OSError:
            affinity = set()
        self.limits = limits(self.found, affinity, self._tried, self.machine.memory_bytes)
        self._kills = oom_kills(self.found, self._tried)
        self._children = self._tried(children, next(iter(self._kills))) if self._kills else None
        self._throttling = self._tried(throttling, self._tried(quotas, self.found) or []) or {}
        self._machine_kills = machine_kills(self.machine)
        self._enclosing_ns = (self._tried(usage, self.found) or CpuStat()).usage_ns

    def _places(self, pid: int) -> dict[str, Place]:
        """Return where a process lives. A job whose pid procfs does not show starts where this process is."""
        seen = pid if self.machine.procfs_missing is None else "self"
        return self._tried(places, self.machine, seen) or {}

    def follow(self, pid: int, raw: bytes) -> None:
        """Read the limits again where the root has moved. `raw`: its /proc/PID/cgroup."""
        paths = self._tried(parse_cgroup, raw) or {}
        if all(paths.get(name) == place.path for name, place in self.found.items()):
            return
        found = self._tried(places, self.machine, pid) or {}
        new = limits(found, None, self._tried, self.machine.memory_bytes)
        old = self.limits
        if new.memory_bytes is not None:
            old.memory_bytes, old.memory_from = new.memory_bytes, new.memory_from
        if new.memory_high_bytes is not None:
            old.memory_high_bytes = new.memory_high_bytes
        if new.cpu_cores is not None and (old.cpu_cores is None or new.cpu_cores < old.cpu_cores):
            old.cpu_cores, old.cpu_from = new.cpu_cores, new.cpu_from

    def note_memory(self) -> None:
        """Read the levels of memory around a job that has not started; they are parsed when they are needed."""
        place = memory_place(self.machine, self.found)
        try:
            data = self.machine.read("meminfo") if place is None else read_file(place[1].directory, "memory.stat")
        except UNREADABLE:
            return
        self.memory_before = data

    def cpus(self) -> set[int]:
        """The CPUs of its cpuset at this moment; empty where there is none."""
        return (self._tried(cpuset, self.found) or (set(), ""))[0]

    # -- its own -------------------------------------------------------------------------------------------------

    def read(self) -> CgroupReading | None:
        """What its own cgroup holds and used; None without one."""
        return None if self.own is None else self._tried(self.own.read)

    def used_ns(self) -> int | None:
        """Nanoseconds of CPU of all that ever ran in its own cgroup; None without one."""
        return None if self.own is None else self._tried(self.own.used_ns)

    @property
    def split_ns(self) -> tuple[int, int] | None:
        """User and system part of the last `used_ns`; None where they are unknown."""
        return None if self.own is None else self.own.split_ns

    def check(self, pids: Collection[int]) -> None:
        """Notice who of these left it: what it uses elsewhere is not counted there."""
        if self.own is not None:
            self._tried(self.own.check, pids)
            self.left = self.left or (self.own.counts_cpu and self.own.has_left)

    @property
    def memory_left(self) -> bool:
        """Return whether a process left the run cgroup that counts memory."""
        return self.own is not None and self.own.memory_left

    def compare(self, seen_ns: int) -> None:
        """Notice it from what wait4 and /proc have seen, at the end: who left and came to an end was in no listing."""
        used = self.used_ns()
        if used is not None and not self.left and seen_ns > used * (1 + UNSEEN_RATIO) + UNSEEN_NS:
            self.left = True

    def memory_bytes(self) -> int | None:
        """Memory of its own cgroup that cannot be dropped; None without one, or when somebody left it."""
        reading = None if self.memory_left else self.read()
        if reading is None or reading.memory_bytes is None:
            return None
        return reading.memory_bytes - reading.cache_bytes

    def sample(self) -> JsonObject | None:
        """The `cgroup` section of a sample: what its own cgroup holds at this moment; None without one."""
        reading = self.read()
        if reading is None:
            return None
        return {"cpu_seconds": _seconds(self.used_ns())} | _held(reading)

    # -- around it -----------------------------------------------------------------------------------------------

    def kills(self) -> tuple[int, str] | None:
        """Return how many processes the OOM killer ended since the start, and the place; None without any.

        The innermost cgroup that has such a count decides, and no other: every kill raises that of the victim's own,
        while one further out, and the machine, count those of others as well. WHOLE_MACHINE only where nothing nearer
        has a count: it might be a process of another job.
        """
        now = oom_kills(self.found, self._tried)
        for directory, before in self._kills.items():
            own = self.is_own(directory)
            count = max(0, now.get(directory, before) - before)
            return (count, codes.OWN_CGROUP if own else codes.ENCLOSING_CGROUP) if count else None
        machine = machine_kills(self.machine)
        if machine is not None and self._machine_kills is not None and machine > self._machine_kills:
            return machine - self._machine_kills, codes.WHOLE_MACHINE
        return None

    @property
    def kills_before(self) -> tuple[dict[str, Place], dict[str, int], frozenset[str] | None, int | None]:
        """The state before the start: places of the root, their OOM kills, cgroups below the root's, and all kills."""
        return self.found, self._kills, self._children, self._machine_kills

    @property
    def counts_kills(self) -> bool:
        """Return whether a cgroup around the job counts OOM kills."""
        return bool(self._kills)

    def is_own(self, directory: str) -> bool:
        """Return whether this is the run cgroup."""
        return self.own is not None and self.own.holds(directory)

    def throttled(self) -> CpuStat | None:
        """Throttling by CPU quotas since the start: of the cgroup that was throttled longest; None without a quota."""
        most = None
        for directory, now in (self._tried(throttling, self._throttling) or {}).items():
            before = self._throttling[directory]
            grown = CpuStat()
            grown.throttled_ns = growth(now.throttled_ns, before.throttled_ns)
            grown.periods = growth(now.periods, before.periods)
            grown.throttled_periods = growth(now.throttled_periods, before.throttled_periods)
            if most is None or (grown.throttled_ns or 0) > (most.throttled_ns or 0):
                most = grown
        return most

    def summary(self) -> JsonObject:
        """The `cgroup` section of a summary: the one in which all around the job is accounted; what its own held."""
        reading = self.read()
        return self.around() | (dict.fromkeys(HELD) if reading is None else _held(reading))

    def around(self) -> JsonObject:
        """The cgroup in which all around the job is accounted, and its CPU time since the start."""
        place = accounting(self.found)
        used = (self._tried(usage, self.found) or CpuStat()).usage_ns
        return {
            "path": None if place is None else decode_name(os.fsencode(place.path)),
            "own": place is not None and self.is_own(place.directory),
            "cpu_seconds": _seconds(growth(used, self._enclosing_ns)),
        }

    def close(self) -> bool:
        """Remove its own cgroup, and what runs that are dead left beside it; False where processes are still in it."""
        removed = True
        if self.own is not None:
            removed = self.own.remove()
            self.own.sweep()
            self.own = None
        return removed


HELD = (
    "cpu_user_seconds",
    "cpu_system_seconds",
    "memory_bytes",
    "memory_peak_bytes",
    "anon_bytes",
    "file_bytes",
    "swap_bytes",
    "oom_kills",
    "pids_peak",
    "read_bytes",
    "write_bytes",
    "cpu_pressure_seconds",
    "memory_pressure_seconds",
    "io_pressure_seconds",
)


def _held(reading: CgroupReading) -> JsonObject:
    """The fields of `HELD`, since it was made."""
    io = reading.io
    values = (
        _seconds(reading.cpu.user_ns),
        _seconds(reading.cpu.system_ns),
        reading.memory_bytes,
        reading.memory_peak_bytes,
        reading.anon_bytes,
        reading.file_bytes,
        reading.swap_bytes,
        reading.oom_kills,
        reading.pids_peak,
        None if io is None else io[0],
        None if io is None else io[1],
        _seconds(reading.cpu_pressure_ns),
        _seconds(reading.memory_pressure_ns),
        _seconds(reading.io_pressure_ns),
    )
    return dict(zip(HELD, values, strict=True))


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else seconds(nanoseconds)
