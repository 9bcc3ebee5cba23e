"""The cgroups around a run: the limits it lives under, what was killed and throttled there, and one of its own."""

from __future__ import annotations

import os
from errno import EOPNOTSUPP

from proctally.kernel.cgroup import (
    V2,
    CpuStat,
    Limits,
    accounting,
    cpuset,
    limits,
    oom_kills,
    places,
    quotas,
    throttling,
    usage,
)
from proctally.kernel.machine import UNREADABLE, Gone, seconds
from proctally.kernel.own_cgroup import Reading, Refused, RunCgroup, sweep
from proctally.kernel.proc import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, TypeVar

    from proctally.kernel.cgroup import Place
    from proctally.kernel.machine import Machine

    T = TypeVar("T")

UNSEEN_RATIO = 0.01  # so much more than its cgroup others may say, before somebody must have left it ...
UNSEEN_NS = 50_000_000  # ... and so much at least


class Enclosure:
    """What surrounds one job. `why`: why it has no cgroup of its own; `left`: who left that; None where it holds.

    A file that cannot be understood costs what it would have told, and nothing else: `trouble` says which.
    """

    __slots__ = (
        "_base_ns",
        "_enclosing_ns",
        "_kills",
        "_machine_kills",
        "_parent",
        "_throttling",
        "found",
        "left",
        "limits",
        "machine",
        "own",
        "trouble",
        "why",
    )

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.limits = Limits()
        self.own: RunCgroup | None = None
        self.why: str | None = "not asked for (--cgroup)"
        self.left: str | None = None
        self.trouble: str | None = None
        self.found: dict[str, Place] = {}
        self._parent: Place | None = None
        self._base_ns = 0
        self._enclosing_ns: int | None = None
        self._kills: dict[str, int] = {}
        self._throttling: dict[str, CpuStat] = {}
        self._machine_kills: int | None = None

    def _tried(self, call: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return call(*arguments)
        except (ValueError, OSError) as error:
            self.trouble = str(error)
            return None

    # -- beginning -----------------------------------------------------------------------------------------------

    def enclose(self, pid: int, tracker: int) -> None:
        """Make a cgroup below that of the tracker and put a held child into it."""
        self._parent = (self._tried(places, self.machine, tracker) or {}).get(V2)
        own = None
        try:
            own = RunCgroup(self.machine, self._parent, tracker)
            own.add(pid)
            used = own.used_ns()
            if used is None:
                raise Refused(EOPNOTSUPP)
        except (Refused, Gone, ValueError) as reason:
            self.why = str(reason)
            if own is not None:
                own.remove()
            return
        self.own = own
        self.why = None
        self._base_ns = used

    def look_around(self, pid: int) -> None:
        """Read the limits, and the counts that tell at the end what happened to this process meanwhile."""
        self.found = self._tried(places, self.machine, pid) or {}
        try:
            affinity = os.sched_getaffinity(pid)
        except OSError:
            affinity = set()
        self.limits = limits(self.found, affinity, self._tried)
        self._kills = oom_kills(self.found, self._tried)
        self._throttling = self._tried(throttling, self._tried(quotas, self.found) or []) or {}
        self._machine_kills = self._read_machine_kills()
        self._enclosing_ns = (self._tried(usage, self.found) or CpuStat()).usage_ns

    def cpus(self) -> set[int]:
        """The CPUs of its cpuset at this moment; empty where there is none."""
        return (self._tried(cpuset, self.found) or (set(), ""))[0]

    def _read_machine_kills(self) -> int | None:
        """`oom_kill` of `/proc/vmstat` (4.13): processes that the OOM killer took on the whole machine."""
        try:
            data = self.machine.read("vmstat", to_end=True)
        except (*UNREADABLE, OSError):
            return None
        _, _, rest = data.partition(b"\noom_kill ")
        number = rest.partition(b"\n")[0]
        return int(number) if number.isdigit() else None

    # -- its own -------------------------------------------------------------------------------------------------

    def read(self) -> Reading | None:
        """What its own cgroup holds and used; None without one."""
        return None if self.own is None else self._tried(self.own.read)

    def used_ns(self) -> int | None:
        """Nanoseconds of CPU of all that ever ran in its own cgroup; None without one."""
        used = None if self.own is None else self._tried(self.own.used_ns)
        return None if used is None else used - self._base_ns

    def check(self, pids: Collection[int]) -> None:
        """Notice who of these left it: what it uses elsewhere is not counted there."""
        if self.own is not None and self.left is None:
            left = self._tried(self.own.left, set(pids).difference(self.own.pids()))
            if left:
                self.left = f"process {left[0]} left it for another cgroup"

    def compare(self, seen_ns: int) -> None:
        """Notice it from what wait4 and /proc have seen, at the end: who left and came to an end was in no listing."""
        used = self.used_ns()
        if used is not None and self.left is None and seen_ns > used * (1 + UNSEEN_RATIO) + UNSEEN_NS:
            self.left = "processes left it for another cgroup: others have seen more than was used in it"

    def memory_bytes(self) -> int | None:
        """Memory of its own cgroup that cannot be dropped; None without one, or when somebody left it."""
        reading = None if self.left is not None else self.read()
        if reading is None or reading.memory_bytes is None:
            return None
        return reading.memory_bytes - reading.cache_bytes

    def sample(self) -> dict[str, Any] | None:
        """The `cgroup` section of a sample: what its own cgroup holds at this moment; None without one."""
        reading = self.read()
        if reading is None:
            return None
        return {"cpu_seconds": _seconds(_growth(reading.cpu.usage_ns, self._base_ns))} | _held(reading)

    # -- around it -----------------------------------------------------------------------------------------------

    def kills(self) -> tuple[int, str | None]:
        """How many processes the OOM killer took since the start, and where.

        The innermost cgroup that has such a count decides, and no other: every kill raises that of the victim's own,
        while one further out, and the machine, count those of others as well. "the machine" only where nothing nearer
        has a count: anybody's process may have been taken there.
        """
        now = oom_kills(self.found, self._tried)
        for directory, before in self._kills.items():
            own = self.own is not None and directory == self.own.directory
            count = max(0, now.get(directory, before) - before)
            return count, ("the run's own cgroup" if own else "the cgroup") if count else None
        machine = self._read_machine_kills()
        if machine is not None and self._machine_kills is not None and machine > self._machine_kills:
            return machine - self._machine_kills, "the machine"
        return 0, None

    def throttled(self) -> CpuStat | None:
        """Throttling by CPU quotas since the start: of the cgroup that was throttled longest; None without a quota."""
        most = None
        for directory, now in (self._tried(throttling, self._throttling) or {}).items():
            before = self._throttling[directory]
            grown = CpuStat()
            grown.throttled_ns = _growth(now.throttled_ns, before.throttled_ns)
            grown.periods = _growth(now.periods, before.periods)
            grown.throttled_periods = _growth(now.throttled_periods, before.throttled_periods)
            if most is None or (grown.throttled_ns or 0) > (most.throttled_ns or 0):
                most = grown
        return most

    def summary(self) -> dict[str, Any]:
        """The `cgroup` section of a summary: the one in which all around the job is accounted; what its own held."""
        reading = self.read()
        return self.around() | (dict.fromkeys(HELD) if reading is None else _held(reading))

    def around(self) -> dict[str, Any]:
        """The cgroup in which all around the job is accounted, and its CPU time since the start."""
        place = accounting(self.found)
        used = (self._tried(usage, self.found) or CpuStat()).usage_ns
        return {
            "path": None if place is None else text(os.fsencode(place.path)),
            "own": self.own is not None and place is not None and place.directory == self.own.directory,
            "cpu_seconds": _seconds(_growth(used, self._enclosing_ns)),
        }

    def close(self) -> bool:
        """Remove its own cgroup, and what runs that are dead left beside it; False where processes are still in it."""
        removed = True
        if self.own is not None:
            removed = self.own.remove()
            self.own = None
        if self._parent is not None:
            sweep(self.machine, self._parent)
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


def _held(reading: Reading) -> dict[str, Any]:
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


def _growth(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else seconds(nanoseconds)
