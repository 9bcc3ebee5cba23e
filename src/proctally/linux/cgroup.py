"""Control groups: where a process lives, what limits it there, what was used and killed there. Read only.

Layouts: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the kernel. Which files a cgroup has depends on its
version, its controllers, the kernel's age and options: what cannot be read is None, never 0.
"""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE, ProcessGone
from proctally.linux.machine import Machine, contents
from proctally.linux.proc import parse_cpu_list, unescape
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Any

    Attempt = Callable[..., Any]  # calls its first argument with the others

DELETED = " (deleted)"  # proc_cgroup_show: the v2 cgroup of a zombie was removed
V2 = ""  # the unified hierarchy, among the names of v1 controllers: its line of /proc/PID/cgroup names none
NO_LIMIT_BYTES = 1 << 62  # v1 says "unlimited" as the largest long, cut to pages


class CgroupMount:
    """One cgroup filesystem. `names`: its controllers (and other options), or {V2}; `root`: which cgroup it shows."""

    __slots__ = ("names", "point", "root")

    def __init__(self, point: str, root: str, names: frozenset[str]) -> None:
        self.point = point
        self.root = root
        self.names = names


class Place:
    """The cgroup of a process in one hierarchy: its `directory`, its `path` as the kernel names it, and the `top`.

    `top`: the directory of the mount. What lies above is not visible here, however far down it is.
    """

    __slots__ = ("directory", "path", "top")

    def __init__(self, directory: str, path: str, top: str) -> None:
        self.directory = directory
        self.path = path
        self.top = top

    def levels(self) -> Iterator[tuple[str, str]]:
        """(directory, path) of this cgroup and of all around it that are visible, the innermost first."""
        directory, path = self.directory, self.path
        yield directory, path
        while directory != self.top:
            directory, path = directory.rpartition("/")[0], path.rpartition("/")[0] or "/"
            yield directory, path


def parse_cgroup(data: bytes) -> dict[str, str]:
    """`/proc/PID/cgroup`: the path in the hierarchy of each v1 controller (`name=...` as well), and of `V2`."""
    paths = {}
    for line in filter(None, data.split(b"\n")):  # a path may hold any other byte, `\r` too
        number, colon, rest = line.partition(b":")
        names, slash, path = rest.partition(b":/")
        if not colon or not slash:
            raise ValueError(f"cgroup: {line[:200]!r}")
        for name in os.fsdecode(names).split(","):
            if name or number == b"0":
                paths[name] = os.fsdecode(b"/" + path)
    return paths


def parse_mountinfo(data: bytes) -> list[CgroupMount]:
    """The cgroup mounts of `/proc/self/mountinfo`; of several on one directory the last, which hides the others."""
    mounts = {}
    for line in data.split(b"\n"):
        if b" - cgroup" not in line:
            continue
        head, _, tail = line.partition(b" - ")
        fields, kind = head.split(b" "), tail.split(b" ")
        if kind[0] not in (b"cgroup", b"cgroup2"):
            continue
        if len(fields) < 6 or len(kind) < 3:
            raise ValueError(f"mountinfo: {line[:200]!r}")
        root, point = (os.fsdecode(unescape(field)) for field in fields[3:5])
        names = [V2] if kind[0] == b"cgroup2" else os.fsdecode(kind[2]).split(",")
        mounts[point] = CgroupMount(point, root, frozenset(names))
    return list(mounts.values())


def locate(path: str, mounts: list[CgroupMount], name: str) -> Place | None:
    """Where this path of the hierarchy of `name` is found; None where no mount shows it, or where it was removed.

    Path and root of a mount are both seen from our cgroup namespace (cgroup_show_path), so that one is taken off the
    other by its text, `/..` included: a process may live outside the namespace, and a mount may come from outside.
    Of several mounts, the one that shows the most of the hierarchy. Where none fits, one that differs from the path
    by a prefix: systemd and containerd name the cgroup of a container from different roots.
    """
    fitting = sorted((mount for mount in mounts if name in mount.names), key=lambda mount: len(mount.root))
    for below in _below, _below_other_root:
        for mount in fitting:
            rest = below(path, mount.root.rstrip("/"))
            if rest is None or ".." in rest.split("/"):
                continue
            directory = mount.point + rest.rstrip("/")
            if os.path.isdir(directory):
                return Place(directory, path, mount.point)
    return None


def _below(path: str, root: str) -> str | None:
    return path[len(root) :] if (path + "/").startswith(root + "/") else None


def _below_other_root(path: str, root: str) -> str | None:
    if not root or path == "/" or ".." in root.split("/"):
        return None
    at = (path + "/").rfind(root + "/")
    if at >= 0:
        return path[at + len(root) :]
    return "" if root.endswith(path) else None


def places(machine: Machine, pid: int | str) -> dict[str, Place]:
    """Where a process lives: by v1 controller, and by `V2`. Empty when it is gone, or where there are no cgroups."""
    try:
        paths = parse_cgroup(machine.read(f"{pid}/cgroup"))
        mounts = parse_mountinfo(machine.mountinfo())
    except (ProcessGone, OSError):
        return {}
    found = {name: locate(path, mounts, name) for name, path in paths.items()}
    return {name: place for name, place in found.items() if place is not None}


INITIAL_CGROUP_NAMESPACE = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO, include/linux/proc_ns.h


def memory_place(machine: Machine, found: dict[str, Place]) -> tuple[str, Place] | None:
    """Return the smallest cgroup around a process whose memory is counted, with its hierarchy.

    `found`: its `places`. None where that is the whole machine.
    """
    name = "memory" if "memory" in found else V2
    for directory, path in found[name].levels() if name in found else ():
        if os.path.exists(f"{directory}/memory.stat") and (path != "/" or not _is_initial(machine)):
            return name, Place(directory, path, found[name].top)
    return None


def _is_initial(machine: Machine) -> bool:
    """Return whether `/` is the cgroup of the whole machine and not that of a container."""
    try:
        return os.readlink(f"{machine.proc}/self/ns/cgroup") == INITIAL_CGROUP_NAMESPACE
    except OSError:
        return True


# -- the files of a cgroup -------------------------------------------------------------------------------------------


def read_file(directory: str, name: str) -> bytes | None:
    """A file of a cgroup, or None: no such controller, too old a kernel, turned off (EOPNOTSUPP), removed (ENODEV)."""
    try:
        return contents(f"{directory}/{name}", to_end=True)
    except OSError:
        return None


def read_number(directory: str, name: str) -> int | None:
    data = read_file(directory, name)
    return None if data is None else parse_number(data)


def parse_number(data: bytes) -> int | None:
    """A file of one number (`memory.current`, `memory.max`, `cpu.cfs_quota_us`); None for `max`."""
    try:
        return None if data.strip() == b"max" else int(data)
    except ValueError:
        raise ValueError(f"number: {data[:200]!r}") from None


def parse_flat(data: bytes, known: Collection[bytes] | None = None) -> dict[str, int]:
    """A file of lines `key number` (`memory.stat`, `memory.events`, `memory.oom_control`): those known, or all."""
    values = {}
    for line in data.splitlines():
        words = line.split()
        if not words or (len(words) != 2 if known is None else words[0] not in known):
            continue
        try:
            key, value = words
            values[decode_name(key)] = int(value)
        except ValueError:
            raise ValueError(f"flat: {line[:200]!r}") from None
    return values


def parse_cpu_max(data: bytes) -> float | None:
    """`cpu.max`: quota by period, in cores; None for `max`. The two v1 files, one after the other, read the same."""
    try:
        quota, period = data.split()
        if quota in (b"max", b"-1"):
            return None
        cores = int(quota) / int(period)
    except (ValueError, ArithmeticError):
        raise ValueError(f"cpu.max: {data[:200]!r}") from None
    if cores <= 0:
        raise ValueError(f"cpu.max: {data[:200]!r}")
    return cores


CPU_KEYS = {
    b"usage_usec": ("usage_ns", 1000),
    b"user_usec": ("user_ns", 1000),
    b"system_usec": ("system_ns", 1000),
    b"nr_periods": ("periods", 1),
    b"nr_throttled": ("throttled_periods", 1),
    b"throttled_usec": ("throttled_ns", 1000),
    b"throttled_time": ("throttled_ns", 1),  # v1
}


class CpuStat:
    """One `cpu.stat`: nanoseconds and counts, None for what is not there.

    Usage is that of all that ever ran in the cgroup and below it; throttling is that by its own quota alone, the time
    summed over the CPUs that had to stand still.
    """

    __slots__ = ("periods", "system_ns", "throttled_ns", "throttled_periods", "usage_ns", "user_ns")

    def __init__(self) -> None:
        self.usage_ns: int | None = None
        self.user_ns: int | None = None
        self.system_ns: int | None = None
        self.periods: int | None = None
        self.throttled_periods: int | None = None
        self.throttled_ns: int | None = None


def parse_cpu_stat(data: bytes) -> CpuStat:
    """`cpu.stat` of v2 (microseconds there) and of v1 (throttling only, nanoseconds)."""
    stat = CpuStat()
    for key, value in parse_flat(data, CPU_KEYS).items():
        name, factor = CPU_KEYS[key.encode()]
        setattr(stat, name, value * factor)
    return stat


IO_KEYS = (b"rbytes", b"wbytes", b"rios", b"wios")


def parse_io_stat(data: bytes) -> list[int]:
    """`io.stat`: [bytes read, bytes written, reads, writes], summed over devices.

    A stacked device (dm, md) counts, and what lies below it counts again: only without one is this what was asked for.
    """
    totals = [0, 0, 0, 0]
    for word in data.split():
        key, _, value = word.partition(b"=")
        if key in IO_KEYS:
            try:
                totals[IO_KEYS.index(key)] += int(value)
            except ValueError:
                raise ValueError(f"io.stat: {word[:200]!r}") from None
    return totals


def parse_pressure(data: bytes) -> int | None:
    """`*.pressure`: nanoseconds in which some task stood still (Documentation/accounting/psi.rst)."""
    for line in data.splitlines():
        kind, _, rest = line.partition(b" ")
        if kind == b"some":
            try:
                return int(rest.partition(b"total=")[2].split()[0]) * 1000
            except (ValueError, IndexError):
                raise ValueError(f"pressure: {line[:200]!r}") from None
    return None


# -- limits, usage and kills around a process ------------------------------------------------------------------------


class CgroupLimits:
    """What a process may use. `cpu_cores`: quota or CPUs; bytes; `*_from`: what says so. None: unlimited or unknown.

    `memory_high_bytes`: from where on the kernel slows it down and reclaims (v2), below the limit that kills;
    `address_space_bytes`: RLIMIT_AS, of each process.
    """

    __slots__ = ("address_space_bytes", "cpu_cores", "cpu_from", "memory_bytes", "memory_from", "memory_high_bytes")

    def __init__(self) -> None:
        self.cpu_cores: float | None = None
        self.cpu_from: str | None = None
        self.memory_bytes: int | None = None
        self.memory_from: str | None = None
        self.memory_high_bytes: int | None = None
        self.address_space_bytes: int | None = None


def limits(
    found: dict[str, Place],
    affinity: Collection[int] | None,
    attempt: Attempt | None = None,
    memory_bytes: int | None = None,
) -> CgroupLimits:
    """The limits around the process of these `places`; `affinity` is its sched_getaffinity(2), where known.

    `attempt(call, *arguments)` calls, and gives None where a file cannot be understood; without it that raises.
    `memory_bytes`: memory of the machine; a limit above it is dropped.
    """
    attempt = attempt or _call
    result = CgroupLimits()
    result.cpu_cores, result.cpu_from = _cpus(attempt(cpuset, found) or (set(), ""), affinity)
    quota, quota_from = attempt(_quota_around, found) or NONE
    if quota is not None and (result.cpu_cores is None or quota < result.cpu_cores):
        result.cpu_cores, result.cpu_from = quota, quota_from
    memory, result.memory_from = attempt(_memory_around, found) or NONE
    high, _ = attempt(_least, found, V2, "memory.high", _bytes) or NONE
    most = NO_LIMIT_BYTES if memory_bytes is None else memory_bytes
    if memory is not None and memory > most:
        memory = result.memory_from = None
    result.memory_bytes = None if memory is None else int(memory)
    result.memory_high_bytes = None if high is None or high > most else int(high)
    return result


def _call(call: Attempt, *arguments: object) -> Any:
    return call(*arguments)


def _quota_around(found: dict[str, Place]) -> tuple[float, str] | None:
    return _least(found, "cpu", "cpu.cfs_quota_us", _quota) or _least(found, V2, "cpu.max", _quota)


def _memory_around(found: dict[str, Place]) -> tuple[float, str] | None:
    return _memory_v1(found) or _least(found, V2, "memory.max", _bytes)


NONE = (None, None)


def _least(
    found: dict[str, Place], name: str, file: str, value_of: Callable[[str, str], float | None]
) -> tuple[float, str] | None:
    """The smallest value of this file in a process's cgroup and all around it, and where it stands."""
    least = None
    for directory, path in found[name].levels() if name in found else ():
        value = value_of(directory, file)
        if value is not None and (least is None or value < least[0]):
            least = value, f"{file} of {_shown(path)}"
    return least


def _quota(directory: str, file: str) -> float | None:
    data = read_file(directory, file)
    if data and file == "cpu.cfs_quota_us":
        period = read_file(directory, "cpu.cfs_period_us")
        data = period and data + period
    return parse_cpu_max(data) if data else None


def _bytes(directory: str, file: str) -> int | None:
    value = read_number(directory, file)
    return None if value is None or value >= NO_LIMIT_BYTES else value


def _memory_v1(found: dict[str, Place]) -> tuple[float, str] | None:
    """v1: whether the limits around a cgroup hold in it (`use_hierarchy`) the kernel says, in `memory.stat`."""
    file, key = "memory.limit_in_bytes", "hierarchical_memory_limit"
    data = read_file(found["memory"].directory, "memory.stat") if "memory" in found else None
    limit = None if data is None else parse_flat(data, (key.encode(),)).get(key)
    if limit is None:
        return _least(found, "memory", file, _bytes)
    if limit >= NO_LIMIT_BYTES:
        return None
    for directory, path in found["memory"].levels():
        if read_number(directory, file) == limit:
            return limit, f"{file} of {_shown(path)}"
    return limit, f"{key} of {_shown(found['memory'].path)}"  # that of a cgroup above what is visible


def _cpus(of_cpuset: tuple[set[int], str], affinity: Collection[int] | None) -> tuple[int | None, str | None]:
    """How many CPUs may be used, and what says so: the cpuset, unless the affinity is narrower."""
    cpus, path = of_cpuset
    if not cpus:
        return (len(affinity), "affinity") if affinity else NONE
    usable = len(cpus.intersection(affinity or ()))
    return (usable, "affinity") if 0 < usable < len(cpus) else (len(cpus), f"cpuset of {_shown(path)}")


def cpuset(found: dict[str, Place]) -> tuple[set[int], str]:
    """The effective CPUs of the nearest cgroup that has them (it includes what those around it allow), and its path."""
    for name, files in ("cpuset", ("cpuset.effective_cpus", "cpuset.cpus")), (V2, ("cpuset.cpus.effective",)):
        for directory, path in found[name].levels() if name in found else ():
            for file in files:
                cpus = parse_cpu_list(read_file(directory, file) or b"")
                if cpus:
                    return cpus, path
    return set(), ""


def _shown(path: str) -> str:
    return decode_name(os.fsencode(path))


def accounting(found: dict[str, Place]) -> Place | None:
    """Where the CPU time of all around a process is accounted: v1 where `cpuacct` is mounted, for v2 has it not."""
    return found.get("cpuacct") or found.get(V2)


def usage(found: dict[str, Place]) -> CpuStat:
    """What all that ever ran in that cgroup used."""
    stat = CpuStat()
    if "cpuacct" in found:
        directory = found["cpuacct"].directory
        stat.usage_ns = read_number(directory, "cpuacct.usage")
        stat.user_ns = read_number(directory, "cpuacct.usage_user")
        stat.system_ns = read_number(directory, "cpuacct.usage_sys")
    elif V2 in found:
        stat = parse_cpu_stat(read_file(found[V2].directory, "cpu.stat") or b"")
    return stat


def quotas(found: dict[str, Place]) -> list[str]:
    """The directories around a process whose CPU time has a quota, the innermost first."""
    name, file = ("cpu", "cpu.cfs_quota_us") if "cpu" in found else (V2, "cpu.max")
    levels = found[name].levels() if name in found else ()
    return [directory for directory, _ in levels if _quota(directory, file) is not None]


def throttling(directories: Iterable[str]) -> dict[str, CpuStat]:
    """`cpu.stat` of each of these: periods of its quota, those in which it was throttled, and for how long."""
    stats = {}
    for directory in directories:
        data = read_file(directory, "cpu.stat")
        if data is not None:
            stats[directory] = parse_cpu_stat(data)
    return stats


def oom_kills(found: dict[str, Place], attempt: Attempt | None = None) -> dict[str, int]:
    """Processes that the OOM killer took in each cgroup around a process, by directory, the innermost first.

    v2: those of all cgroups below it too, so that of an outer one is not surely ours. v1 (4.13): its own alone.
    `attempt`: as for `limits`.
    """
    attempt = attempt or _call
    values = {}
    place = found.get("memory") or found.get(V2)
    for directory, _ in place.levels() if place else ():
        for file in ("memory.events", "memory.oom_control"):
            count = attempt(_oom_kills, directory, file)
            if count is not None:
                values[directory] = count
    return values


def _oom_kills(directory: str, file: str) -> int | None:
    return parse_flat(read_file(directory, file) or b"", (b"oom_kill",)).get("oom_kill")


def machine_kills(machine: Machine) -> int | None:
    """`oom_kill` of `/proc/vmstat` (4.13): processes that the OOM killer took on the whole machine."""
    try:
        data = machine.read("vmstat", to_end=True)
    except UNREADABLE:
        return None
    _, _, rest = data.partition(b"\noom_kill ")
    number = rest.partition(b"\n")[0]
    return int(number) if number.isdigit() else None


def growth(now: int | None, before: int | None) -> int | None:
    """Return how much a counter of a cgroup grew; None where a reading is unknown."""
    return None if now is None or before is None else now - before


def children(directory: str) -> frozenset[str]:
    """Return the names of the cgroups right below this one. Raises OSError."""
    if os.stat(directory).st_nlink == 2:  # kernfs counts the directories (set_inode_attr)
        return frozenset()
    with os.scandir(directory) as entries:
        return frozenset(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
