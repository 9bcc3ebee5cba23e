"""The whole machine: `/proc/stat`, `meminfo`, `pressure`, `loadavg`, and with disks and network the `system` section.

Layouts: proc(5), fs/proc/stat.c, fs/proc/meminfo.c, kernel/sched/psi.c of the kernel. A reading holds raw counters;
what is reported for one moment is derived from two of them.
"""

from __future__ import annotations

import os

from proctally.kernel.disks import DiskReader, DisksReading, derive_disks
from proctally.kernel.machine import NANOSECONDS, Machine
from proctally.kernel.mounts import ZpoolCommand
from proctally.kernel.net import NetReader, NetReading, derive_network
from proctally.kernel.proc import text
from proctally.kernel.sources import COUNTERS_END, KeptFile, counter, growth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HIGHEST_CORE = 1 << 16  # far above any kernel's NR_CPUS: a higher one is none
SHORTEST_NS = 1_000_000  # two readings are never closer than that: a rate over less says nothing
RECOUNT_NS = 60 * NANOSECONDS

# Where the times of a line of /proc/stat stand, in ticks. Guest time is a part of user and nice, not beside them.
USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL = range(8)
TIMES = 8


class Cpu:
    """`/proc/stat`: the eight times of all cores together and of each by its number, in ticks; counts since boot.

    Times that an old kernel does not have are 0: no time was counted there.
    """

    __slots__ = ("all", "blocked", "context_switches", "cores", "forks", "running")

    def __init__(self) -> None:
        self.all: tuple[int, ...] = ()
        self.cores: dict[int, tuple[int, ...]] = {}
        self.context_switches: int | None = None
        self.forks: int | None = None
        self.running: int | None = None
        self.blocked: int | None = None


def parse_stat(data: bytes) -> Cpu:
    """`/proc/stat`. Offline cores have no line. The long line of interrupts is not looked at."""
    cpu = Cpu()
    for line in data.partition(b"\nintr")[0].split(b"\n"):
        if line[:3] != b"cpu":
            continue
        words = line.split(None, TIMES + 1)
        try:
            times = tuple(map(int, words[1 : TIMES + 1]))
            if len(times) < TIMES:
                if len(times) < 4:
                    raise ValueError
                times += (0,) * (TIMES - len(times))
            name = words[0]
            if name == b"cpu":
                if min(times) < 0 or max(times) >= COUNTERS_END:
                    raise ValueError
                cpu.all = times
                continue
            core = int(name[3:])
            if not 0 <= core < HIGHEST_CORE:
                raise ValueError
            cpu.cores[core] = times
        except ValueError:
            raise ValueError(f"stat: {line[:200]!r}") from None
    if not cpu.all:
        raise ValueError(f"stat: no line of all cores: {data[:200]!r}")
    rest = b"\n" + data[data.rfind(b"\nctxt") + 1 :]
    cpu.context_switches = _number(rest, b"\nctxt ")
    cpu.forks = _number(rest, b"\nprocesses ")
    cpu.running = _number(rest, b"\nprocs_running ")
    cpu.blocked = _number(rest, b"\nprocs_blocked ")
    return cpu


def _number(data: bytes, key: bytes) -> int | None:
    """The number behind a key at the beginning of a line; None where it is missing."""
    at = data.find(key)
    if at < 0:
        return None
    words = data[at + len(key) : at + len(key) + 64].split(None, 1)
    try:
        return counter(words[0])
    except (ValueError, IndexError):
        raise ValueError(f"{text(key.strip())} {data[at + 1 : at + 100]!r}") from None


MEMORY = (
    (b"MemTotal", "total_bytes", 1024),
    (b"MemFree", "free_bytes", 1024),
    (b"MemAvailable", "available_bytes", 1024),
    (b"Buffers", "buffers_bytes", 1024),
    (b"Cached", "page_cache_bytes", 1024),
    (b"SReclaimable", "reclaimable_slab_bytes", 1024),
    (b"Active", "active_bytes", 1024),
    (b"Inactive", "inactive_bytes", 1024),
    (b"SwapTotal", "swap_total_bytes", 1024),
    (b"SwapFree", "swap_free_bytes", 1024),
    (b"HugePages_Total", "hugepages_total", 1),
    (b"HugePages_Free", "hugepages_free", 1),
    (b"Hugepagesize", "hugepage_bytes", 1024),
)


class Memory:
    """A part of `/proc/meminfo`: bytes (kB there), huge pages counted; None where the kernel does not say."""

    __slots__ = tuple(name for _, name, _ in MEMORY)

    total_bytes: int | None
    free_bytes: int | None
    available_bytes: int | None
    buffers_bytes: int | None
    page_cache_bytes: int | None
    reclaimable_slab_bytes: int | None
    active_bytes: int | None
    inactive_bytes: int | None
    swap_total_bytes: int | None
    swap_free_bytes: int | None
    hugepages_total: int | None
    hugepages_free: int | None
    hugepage_bytes: int | None


def parse_meminfo(data: bytes) -> Memory:
    memory = Memory()
    data = b"\n" + data
    for key, name, unit in MEMORY:
        value = _number(data, b"\n%s:" % key)
        setattr(memory, name, None if value is None else value * unit)
    return memory


def parse_pressure(data: bytes) -> dict[str, int]:
    """`/proc/pressure/*`: microseconds in which `some` and `full` were stalled; the kernel may lack `full`."""
    totals = {}
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        kind, _, rest = line.partition(b" ")
        if kind not in (b"some", b"full"):
            continue
        try:
            totals[text(kind)] = counter(rest[rest.index(b"total=") + 6 :].split()[0])
        except (ValueError, IndexError):
            raise ValueError(f"pressure: {line[:200]!r}") from None
    return totals


class Load:
    """`/proc/loadavg`: runnable and blocked tasks averaged over 1, 5 and 15 minutes; threads that exist."""

    __slots__ = ("averages", "threads")

    def __init__(self, averages: tuple[float, ...], threads: int) -> None:
        self.averages = averages
        self.threads = threads


def parse_loadavg(data: bytes) -> Load:
    try:
        one, five, fifteen, tasks = data.split()[:4]
        averages = (_decimal(one), _decimal(five), _decimal(fifteen))
        return Load(averages, counter(tasks.partition(b"/")[2]))
    except ValueError:
        raise ValueError(f"loadavg: {data[:200]!r}") from None


def _decimal(word: bytes) -> float:
    """A number as the kernel writes one: neither `nan` nor an exponent, nor too large for a counter."""
    if word.strip(b"0123456789.") or not float(word) < COUNTERS_END:
        raise ValueError
    return float(word)


class ProcessCounter:
    """How many processes there are, zombies included, threads not.

    In the initial pid namespace the link count of `/proc` is their number and that of some directories
    (proc_root_getattr): one listing tells how many those are, and is repeated every minute, for a module may add one.
    In any other namespace, and where other users' processes are hidden, the kernel counts what is not listed: there
    the listing itself is counted.
    """

    __slots__ = ("_beside", "_count_ns", "_machine")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._beside: int | None = None
        self._count_ns = 0

    def read(self) -> int | None:
        """None where `/proc` cannot be listed."""
        proc = self._machine.proc
        try:
            if self._beside is not None and self._machine.monotonic_ns() < self._count_ns:
                return os.stat(proc).st_nlink - self._beside
            before = os.stat(proc).st_nlink
            names = os.listdir(proc)
            after = os.stat(proc).st_nlink
        except OSError:
            return None
        count = sum(map(str.isdecimal, names))
        self._beside = None
        if before == after and "1" in names and self._machine.in_initial_pid_namespace():
            self._beside = after - count
            self._count_ns = self._machine.monotonic_ns() + RECOUNT_NS
        return count


class SystemReading:
    """Raw counters and levels of one moment; None for what this machine does not have.

    `at_ns`: by the monotonic clock. `ticks`: how many make a second. `pressure`: by `cpu`, `memory`, `io`. `version`:
    as long as it stays, what does not count (models, states, masters) is unchanged. `troubles`: why a file is missing.
    """

    __slots__ = (
        "at_ns",
        "cpu",
        "disks",
        "load",
        "memory",
        "net",
        "pressure",
        "processes",
        "ticks",
        "troubles",
        "version",
    )

    def __init__(self, at_ns: int, ticks: int) -> None:
        self.at_ns = at_ns
        self.ticks = ticks
        self.cpu: Cpu | None = None
        self.memory: Memory | None = None
        self.load: Load | None = None
        self.pressure: dict[str, dict[str, int]] = {}
        self.processes: int | None = None
        self.disks: DisksReading | None = None
        self.net: NetReading | None = None
        self.version = 0
        self.troubles: dict[str, str] = {}


PRESSURE = (("cpu", "some"), ("memory", "some"), ("memory", "full"), ("io", "some"), ("io", "full"))


class SystemReader:
    """Reads the whole machine again and again, from files that it keeps open. It has one thread.

    `statvfs`: statvfs(2), for tests. `zpool`: asks for ZFS pools by a child process, where the caller can have one.
    """

    __slots__ = ("_disks", "_load", "_machine", "_memory", "_net", "_pressure", "_processes", "_stat")

    def __init__(
        self,
        machine: Machine,
        *,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
        zpool: ZpoolCommand | None = None,
    ) -> None:
        self._machine = machine
        self._stat = KeptFile(machine, "stat")
        self._memory = KeptFile(machine, "meminfo")
        self._load = KeptFile(machine, "loadavg")
        self._pressure = {name: KeptFile(machine, f"pressure/{name}") for name in ("cpu", "memory", "io")}
        self._processes = ProcessCounter(machine)
        self._disks = DiskReader(machine, statvfs=statvfs, zpool=zpool)
        self._net = NetReader(machine)

    def read(self) -> SystemReading:
        """One reading. Nothing is raised: what is missing or broken is None, and `troubles` says why."""
        reading = SystemReading(self._machine.monotonic_ns(), self._machine.ticks)
        reading.cpu = self._stat.parsed(parse_stat)
        reading.memory = self._memory.parsed(parse_meminfo)
        reading.load = self._load.parsed(parse_loadavg)
        for name, file in self._pressure.items():
            totals = file.parsed(parse_pressure)
            if totals is not None:
                reading.pressure[name] = totals
        reading.processes = self._processes.read()
        reading.disks = self._disks.read()
        reading.net = self._net.read()
        reading.version = self._disks.version + self._net.version
        reading.troubles = {file.path: file.trouble for file in self._files() if file.trouble is not None}
        return reading

    def close(self) -> None:
        """Give up what is kept open."""
        for file in self._files():
            file.close()

    def _files(self) -> list[KeptFile]:
        files = [self._stat, self._memory, self._load, *self._pressure.values()]
        return [*files, self._disks.file, self._disks.mounts.file, self._net.file]


# -- what is derived -------------------------------------------------------------------------------------------------


def busy_ratio(before: tuple[int, ...], now: tuple[int, ...]) -> float:
    """The share of time that was not idle and did not wait for storage; 0 where no time passed.

    A counter may run backwards (`iowait`, get_cpu_iowait_time_us), so that idle time grows by more than all time.
    """
    total = growth(sum(before), sum(now))
    idle = growth(before[IDLE] + before[IOWAIT], now[IDLE] + now[IOWAIT])
    return (total - idle) / total if total > idle else 0.0


def core_ratios(before: Cpu, now: Cpu) -> list[float | None]:
    """By the number of the core, 0 to 1; None for one that is offline or was just taken into use."""
    ratios: list[float | None] = [None] * (max(now.cores, default=-1) + 1)
    for core, times in now.cores.items():
        earlier = before.cores.get(core)
        if earlier is not None:
            ratios[core] = round(min(1.0, busy_ratio(earlier, times)), 4)
    return ratios


def derive_cpu(before: Cpu | None, now: Cpu | None, ticks: int) -> dict[str, object]:
    """Counters since boot; `cpu_cores` and `per_core_ratio` over the interval, None in the first sample."""
    if now is None:
        return dict.fromkeys(CPU_KEYS)
    every = now.all
    return {
        "cpus": len(now.cores),
        "cpu_cores": None if before is None else busy_ratio(before.all, every) * len(now.cores),
        "per_core_ratio": None if before is None else core_ratios(before, now),
        "cpu_user_seconds": (every[USER] + every[NICE]) / ticks,
        "cpu_system_seconds": every[SYSTEM] / ticks,
        "cpu_iowait_seconds": every[IOWAIT] / ticks,
        "cpu_irq_seconds": every[IRQ] / ticks,
        "cpu_softirq_seconds": every[SOFTIRQ] / ticks,
        "cpu_steal_seconds": every[STEAL] / ticks,
        "context_switches": now.context_switches,
        "forks": now.forks,
        "processes_running": now.running,
        "processes_blocked": now.blocked,
    }


CPU_KEYS = (
    "cpus",
    "cpu_cores",
    "per_core_ratio",
    "cpu_user_seconds",
    "cpu_system_seconds",
    "cpu_iowait_seconds",
    "cpu_irq_seconds",
    "cpu_softirq_seconds",
    "cpu_steal_seconds",
    "context_switches",
    "forks",
    "processes_running",
    "processes_blocked",
)


def derive_memory(memory: Memory | None) -> dict[str, object] | None:
    """Levels in bytes. Used is what is neither free nor buffers nor cache, reclaimable slab being cache.

    Not clamped: a container's runtime may show a `meminfo` whose parts do not fit together.
    """
    if memory is None:
        return None
    cached = _sum(memory.page_cache_bytes, memory.reclaimable_slab_bytes)
    return {
        "total_bytes": memory.total_bytes,
        "free_bytes": memory.free_bytes,
        "available_bytes": memory.available_bytes,
        "used_bytes": _difference(memory.total_bytes, _sum(memory.free_bytes, memory.buffers_bytes, cached)),
        "buffers_bytes": memory.buffers_bytes,
        "cached_bytes": cached,
        "active_bytes": memory.active_bytes,
        "inactive_bytes": memory.inactive_bytes,
        "swap_total_bytes": memory.swap_total_bytes,
        "swap_free_bytes": memory.swap_free_bytes,
        "swap_used_bytes": _difference(memory.swap_total_bytes, memory.swap_free_bytes),
        "hugepages_total": memory.hugepages_total,
        "hugepages_free": memory.hugepages_free,
        "hugepage_bytes": memory.hugepage_bytes,
    }


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else whole - part


def derive(before: SystemReading | None, now: SystemReading, *, facts: bool = True) -> dict[str, object]:
    """The `system` section of a sample. Counters are since boot, rates over the interval and None in the first sample.

    `facts`: with what does not count of each device; it is the same as long as `now.version` is.
    """
    seconds = max(now.at_ns - before.at_ns, SHORTEST_NS) / NANOSECONDS if before is not None else 1.0
    section = derive_cpu(before.cpu if before is not None else None, now.cpu, now.ticks)
    section["process_count"] = now.processes
    section["thread_count"] = now.load.threads if now.load is not None else None
    for place, minutes in enumerate((1, 5, 15)):
        section[f"load_{minutes}"] = now.load.averages[place] if now.load is not None else None
    section["memory"] = derive_memory(now.memory)
    section["disk"] = section["disks"] = section["network"] = section["interfaces"] = None
    if now.disks is not None:
        earlier = before.disks if before is not None else None
        section["disk"], section["disks"] = derive_disks(earlier, now.disks, seconds, facts=facts)
    if now.net is not None:
        last = before.net if before is not None else None
        section["network"], section["interfaces"] = derive_network(last, now.net, seconds, facts=facts)
    section["pressure"] = derive_pressure(now.pressure)
    return section


def derive_pressure(pressure: dict[str, dict[str, int]]) -> dict[str, object] | None:
    """Seconds since boot; None where the kernel does not account for it."""
    if not pressure:
        return None
    seconds: dict[str, object] = {}
    for name, kind in PRESSURE:
        total = pressure.get(name, {}).get(kind)
        seconds[f"{name}_{kind}_seconds"] = None if total is None else total / 1e6
    return seconds
