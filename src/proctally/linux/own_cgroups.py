"""All cgroups of one run: one in the v2 hierarchy, and on v1 and hybrid hosts one in `cpuacct` and one in `memory`.

A refusal costs what that one would have counted. Layouts: Documentation/admin-guide/cgroup-v1/ of the kernel.
"""

from __future__ import annotations

import os
from errno import EOPNOTSUPP, EXDEV

from proctally.errors import UNREADABLE
from proctally.linux.cgroup import V2, Place, growth, parse_flat, parse_mountinfo, read_file, read_number, usage
from proctally.linux.own_cgroup import CgroupReading, CgroupRefused, RunCgroup, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from proctally.linux.cgroup import CpuStat
    from proctally.linux.machine import Machine

CPUACCT, MEMORY = "cpuacct", "memory"
SPLIT_NS = 20_000_000  # a larger surplus of CPU time shows that a process left the other cgroup
V1_KEYS = (b"total_rss", b"total_cache", b"total_active_file", b"total_inactive_file", b"total_swap")


class OwnCgroups:
    """The cgroups that hold one run, each below the one in which this process lives.

    `missing`: errno of each hierarchy that refused. `left`: names of those that a process left: what it uses elsewhere
    is not counted there.
    """

    def __init__(self, machine: Machine, parents: dict[str, Place], tracker: int, *, memory: bool = True) -> None:
        """Make them. `parents`: the places of this process, whose pid is `tracker`.

        `memory`: whether more than CPU time is wanted; otherwise one that counts it is enough.
        """
        self.machine = machine
        self.by_name: dict[str, RunCgroup] = {}
        self.missing: dict[str, int] = {}
        self.parents: dict[str, Place] = {}
        self.left: set[str] = set()
        self._base: dict[str, CpuStat] = {}  # of those that count CPU time, when the job was moved there
        self._unfit: list[RunCgroup] = []  # those that count nothing and hold the job
        self.split_ns: tuple[int, int] | None = None  # user and system time of the last reading of CPU time
        for name in (V2, CPUACCT, MEMORY):
            is_wanted = memory or name == V2 or (name == CPUACCT and V2 not in self.by_name)
            if is_wanted and (name in parents or name == V2):
                self._make(name, parents, tracker)

    def _make(self, name: str, parents: dict[str, Place], tracker: int) -> None:
        parent = parents.get(name)
        try:
            if parent is not None and name != V2:
                self._check(name, parent)
            self.by_name[name] = RunCgroup(self.machine, parent, tracker, name)
        except UNREADABLE as error:
            self.missing[name] = getattr(error, "errno", None) or 0
        if parent is not None:
            self.parents[name] = parent

    def _check(self, name: str, parent: Place) -> None:
        """Raise `CgroupRefused` where a separate cgroup would change what the job may use."""
        if name == MEMORY and read_number(parent.directory, "memory.use_hierarchy") == 0:  # no limit reaches below it
            raise CgroupRefused(EXDEV)
        if name == CPUACCT:
            mounts = parse_mountinfo(self.machine.read("self/mountinfo", to_end=True))
            if any("cpu" in mount.names for mount in mounts if mount.point == parent.top):
                raise CgroupRefused(EXDEV)

    def add(self, pid: int) -> None:
        """Move a held process (all its threads) into each; raises `ProcessGone`, and leaves them to `remove` then."""
        for name, cgroup in list(self.by_name.items()):
            try:
                cgroup.add(pid)
                if name != MEMORY:
                    stat = _cpu(cgroup)
                    if stat.usage_ns is None:
                        raise CgroupRefused(EOPNOTSUPP)
                    self._base[name] = stat
            except (CgroupRefused, ValueError) as error:
                self.missing[name] = (error.errno if isinstance(error, CgroupRefused) else None) or EOPNOTSUPP
                del self.by_name[name]
                if not cgroup.remove():  # the job is in it
                    self._unfit.append(cgroup)

    @property
    def counts_cpu(self) -> bool:
        """Return whether one of them counts CPU time."""
        return bool(self._base)

    @property
    def has_left(self) -> bool:
        """Return whether processes left every one that counts CPU time."""
        return self.left >= self._base.keys()

    @property
    def memory(self) -> RunCgroup | None:
        """The one that counts memory, as far as there is one."""
        return self.by_name.get(MEMORY) or self.by_name.get(V2)

    @property
    def memory_left(self) -> bool:
        """Return whether a process left the one that counts memory."""
        return (MEMORY if MEMORY in self.by_name else V2) in self.left

    def holds(self, directory: str) -> bool:
        """Return whether this is the directory of one of them."""
        return any(cgroup.directory == directory for cgroup in self.by_name.values())

    def used_ns(self) -> int | None:
        """Nanoseconds of CPU of all that ever ran in them; None once they were removed. Sets `split_ns`.

        Each counts the run alone, so the largest is the most complete. Each splits it in a different way, so the split
        is that of the first one, unless another counts much more.
        """
        most: int | None = None
        split_of = 0
        for name, base in self._base.items():
            cgroup = self.by_name[name]
            stat = _cpu(cgroup) if name == V2 else None
            usage_ns = read_number(cgroup.directory, "cpuacct.usage") if stat is None else stat.usage_ns
            used = growth(usage_ns, base.usage_ns)
            if used is None:
                continue
            if most is None or used > split_of + SPLIT_NS:
                stat = stat or _cpu(cgroup)
                user, system = growth(stat.user_ns, base.user_ns), growth(stat.system_ns, base.system_ns)
                self.split_ns = None if user is None or system is None else (user, system)
                split_of = used
            most = max(most or 0, used)
        return most

    def read(self) -> CgroupReading:
        """Return usage so far and what they hold now; None where no cgroup counts it."""
        v2, cpuacct, memory = (self.by_name.get(name) for name in (V2, CPUACCT, MEMORY))
        reading = CgroupReading(os.devnull if v2 is None else v2.directory)  # below a file there are none
        if cpuacct is not None and reading.cpu.usage_ns is None:
            reading.cpu = _cpu(cpuacct)
        if memory is not None:
            _read_memory(reading, memory.directory)
        return reading

    def check(self, pids: Collection[int]) -> None:
        """Notice which of these processes left one of them."""
        for name, cgroup in self.by_name.items():
            if name not in self.left and cgroup.left(set(pids).difference(cgroup.pids())):
                self.left.add(name)

    def kill(self) -> bool:
        """SIGKILL to all that is in them, at once (`cgroup.kill`, v2); False where that is not possible."""
        return V2 in self.by_name and self.by_name[V2].kill()

    def remove(self) -> bool:
        """Remove them; False while processes are in one."""
        removed = [cgroup.remove() for cgroup in (*self.by_name.values(), *self._unfit)]
        return all(removed)

    def sweep(self) -> None:
        """Remove what runs that are dead left in the same places."""
        for parent in self.parents.values():
            sweep(self.machine, parent)


def _cpu(cgroup: RunCgroup) -> CpuStat:
    return usage({cgroup.name: Place(cgroup.directory, cgroup.path, cgroup.directory)})


def _read_memory(reading: CgroupReading, directory: str) -> None:
    """Fill in memory from a v1 cgroup.

    `memory.max_usage_in_bytes` contains the page cache, as `memory.peak` does. The count of kills is that of this
    cgroup alone.
    """
    reading.memory_bytes = read_number(directory, "memory.usage_in_bytes")
    reading.memory_peak_bytes = read_number(directory, "memory.max_usage_in_bytes")
    values = parse_flat(read_file(directory, "memory.stat") or b"", V1_KEYS)
    reading.anon_bytes = values.get("total_rss")
    reading.file_bytes = values.get("total_cache")
    reading.cache_bytes = values.get("total_active_file", 0) + values.get("total_inactive_file", 0)
    reading.swap_bytes = values.get("total_swap")
    reading.oom_kills = parse_flat(read_file(directory, "memory.oom_control") or b"", (b"oom_kill",)).get("oom_kill")
