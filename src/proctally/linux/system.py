"""The whole machine: `/proc/stat`, `meminfo`, `pressure`, `loadavg`, and with disks and network the `system` section.

Layouts: proc(5), fs/proc/stat.c, fs/proc/meminfo.c, kernel/sched/psi.c of the kernel. A reading holds raw counters;
what is reported for one moment is derived from two of them.
"""

from __future__ import annotations

import os

from proctally.linux.counters import GrowingSum, known
from proctally.linux.disks import DiskReader, DisksReading
from proctally.linux.machine import NANOSECONDS, Machine
from proctally.linux.mounts import ZpoolCommand
from proctally.linux.net import NetReader, NetReading
from proctally.linux.proc import COUNTERS_END
from proctally.linux.sources import UNBOUNDED_NS, KeptFile
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HIGHEST_CORE = 1 << 16  # far above any kernel's NR_CPUS: a higher one is none
RECOUNT_NS = 60 * NANOSECONDS

# Where the times of a line of /proc/stat stand, in ticks. Guest time is a part of user and nice, not beside them.
USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL = range(8)
TIMES = 8
UNKNOWN = -1  # what no counter is: it is in doubt


class Cpu:
    """`/proc/stat`: the eight times of all cores together and of each by its number, in ticks; counts since boot.

    Times that an old kernel does not have are 0: no time was counted there. `counted`: whether anything is, which a
    sandbox does not do. `since_boot`: the times of all cores, None in place of those in doubt.
    """

    __slots__ = ("all", "blocked", "context_switches", "cores", "counted", "forks", "running", "since_boot")

    def __init__(self) -> None:
        self.all: tuple[int, ...] = ()
        self.counted = True
        self.since_boot: tuple[int | None, ...] = ()
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
    cpu.since_boot = tuple([time if 0 <= time < COUNTERS_END else None for time in cpu.all])
    if not any(cpu.all):
        cpu.counted, cpu.since_boot = False, (None,) * TIMES
        return cpu
    rest = b"\n" + data[data.rfind(b"\nctxt") + 1 :]
    cpu.context_switches = _number(rest, b"\nctxt ") or None  # 0 is impossible: this process was forked and runs
    cpu.forks = _number(rest, b"\nprocesses ") or None
    cpu.running = _number(rest, b"\nprocs_running ")
    cpu.blocked = _number(rest, b"\nprocs_blocked ")
    return cpu


def _number(data: bytes, key: bytes) -> int | None:
    """The number behind a key at the beginning of a line; None where it is missing or negative."""
    at = data.find(key)
    if at < 0:
        return None
    words = data[at + len(key) : at + len(key) + 64].split(None, 1)
    try:
        return known(words[0])
    except (ValueError, IndexError):
        raise ValueError(f"{decode_name(key.strip())} {data[at + 1 : at + 100]!r}") from None


MEMORY = (
    (b"MemTotal", "total_bytes", 1024),
    (b"MemFree", "free_bytes", 1024),
    (b"MemAvailable", "available_bytes", 1024),
    (b"Buffers", "buffers_bytes", 1024),
    (b"Cached", "page_cache_bytes", 1024),
    (b"SReclaimable", "reclaimable_slab_bytes", 1024),
    (b"Shmem", "shared_bytes", 1024),
    (b"Active", "active_bytes", 1024),
    (b"Inactive", "inactive_bytes", 1024),
    (b"SwapTotal", "swap_total_bytes", 1024),
    (b"SwapFree", "swap_free_bytes", 1024),
    (b"HugePages_Total", "hugepages_total", 1),
    (b"HugePages_Free", "hugepages_free", 1),
    (b"Hugepagesize", "hugepage_bytes", 1024),
)


class MemInfo:
    """A part of `/proc/meminfo`: bytes (kB there), huge pages counted; None where the kernel does not say.

    `arc_bytes`: the cache of ZFS, which is in no other figure of cache; 0 without ZFS.
    """

    __slots__ = ("arc_bytes", *(name for _, name, _ in MEMORY))

    arc_bytes: int

    total_bytes: int | None
    free_bytes: int | None
    available_bytes: int | None
    buffers_bytes: int | None
    page_cache_bytes: int | None
    reclaimable_slab_bytes: int | None
    shared_bytes: int | None
    active_bytes: int | None
    inactive_bytes: int | None
    swap_total_bytes: int | None
    swap_free_bytes: int | None
    hugepages_total: int | None
    hugepages_free: int | None
    hugepage_bytes: int | None


def parse_meminfo(data: bytes) -> MemInfo:
    memory = MemInfo()
    memory.arc_bytes = 0
    data = b"\n" + data
    for key, name, unit in MEMORY:
        value = _number(data, b"\n%s:" % key)
        setattr(memory, name, None if value is None or value * unit >= COUNTERS_END else value * unit)
    return memory


def parse_arcstats(data: bytes) -> int:
    """Return the bytes of the ZFS cache (ARC): `size` of `/proc/spl/kstat/zfs/arcstats` (module/zfs/arc.c)."""
    at = data.find(b"\nsize ")
    words = data[at : at + 128].split(None, 3) if at >= 0 else []
    if len(words) < 3 or not words[2].isdigit():
        raise ValueError(f"arcstats: {b' '.join(words)!r}")
    size = int(words[2])
    return size if size < COUNTERS_END else 0


def parse_pressure(data: bytes) -> dict[str, int | None]:
    """`/proc/pressure/*`: microseconds in which `some` and `full` were stalled; the kernel may lack `full`."""
    totals: dict[str, int | None] = {}
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        kind, _, rest = line.partition(b" ")
        if kind not in (b"some", b"full"):
            continue
        try:
            totals[decode_name(kind)] = known(rest[rest.index(b"total=") + 6 :].split()[0])
        except (ValueError, IndexError):
            raise ValueError(f"pressure: {line[:200]!r}") from None
    return totals


class Load:
    """`/proc/loadavg`: runnable and blocked tasks averaged over 1, 5 and 15 minutes; threads that exist."""

    __slots__ = ("averages", "threads")

    def __init__(self, averages: tuple[float | None, ...], threads: int | None) -> None:
        self.averages = averages
        self.threads = threads


def parse_loadavg(data: bytes) -> Load:
    try:
        one, five, fifteen, tasks = data.split()[:4]
        averages = (_decimal(one), _decimal(five), _decimal(fifteen))
        return Load(averages, known(tasks.partition(b"/")[2]))
    except ValueError:
        raise ValueError(f"loadavg: {data[:200]!r}") from None


def _decimal(word: bytes) -> float | None:
    """A number as the kernel writes one, neither `nan` nor an exponent; None where it is too large for a counter."""
    if word.strip(b"0123456789."):
        raise ValueError
    value = float(word)
    return value if value < COUNTERS_END else None


class ProcessCounter:
    """How many processes there are, zombies included, threads not.

    In the initial pid namespace the link count of `/proc` is their number and that of some directories
    (proc_root_getattr): one listing tells how many those are, and is repeated every minute, for a module may add one.
    In any other namespace, and where other users' processes are hidden, the kernel counts what is not listed: there
    the listing itself is counted.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._beside: int | None = None
        self._device = 0  # of the procfs with that many
        self._count_ns = 0

    def read(self) -> int | None:
        """None where `/proc` cannot be listed, or where it shows no process: every procfs has one, this one."""
        proc = self._machine.proc
        try:
            before = os.stat(proc)
            is_counted = self._beside is not None and self._machine.monotonic_ns() < self._count_ns
            if self._beside is not None and is_counted and before.st_dev == self._device:
                return before.st_nlink - self._beside
            names = os.listdir(proc)
            after = os.stat(proc)
        except OSError:
            return None
        count = sum(map(str.isdecimal, names))
        self._beside = None
        if before.st_nlink == after.st_nlink and "1" in names and self._machine.in_initial_pid_namespace():
            self._beside, self._device = after.st_nlink - count, after.st_dev
            self._count_ns = self._machine.monotonic_ns() + RECOUNT_NS
        return count or None


class SystemReading:
    """Raw counters and levels of one moment; None for what this machine does not have.

    `at_ns`: by the monotonic clock. `ticks`: how many make a second. `pressure`: as PRESSURE, microseconds. `version`:
    as long as it stays, what does not count (models, states, masters) is unchanged. `errors`: by file.
    """

    def __init__(self, at_ns: int, ticks: int) -> None:
        self.at_ns = at_ns
        self.ticks = ticks
        self.cpu: Cpu | None = None
        self.memory: MemInfo | None = None
        self.load: Load | None = None
        self.pressure: tuple[int | None, ...] | None = None
        self.processes: int | None = None
        self.disks: DisksReading | None = None
        self.net: NetReading | None = None
        self.version = 0
        self.errors: dict[str, Exception] = {}


ARC = "spl/kstat/zfs/arcstats"
SLACK = 2  # the kernel adds up times late, and the runtime of a container estimates them
LATE_SECONDS = 0.5  # between the clock and the reading, on a busy machine
MOST_EVENTS = 10_000_000  # context switches, or forks, of one core in a second
PRESSURE = (("cpu", "some"), ("memory", "some"), ("memory", "full"), ("io", "some"), ("io", "full"))


class SystemReader:
    """Reads the whole machine again and again, from files that it keeps open. It has one thread.

    `step_ns`: maximum time in which one reading reads sysfs and mounts, each for disks, interfaces and mounts; without
    it one reading reads all. Thousands of devices take seconds: the first readings have a part of them, and `discover`
    reads the rest.
    `statvfs`: statvfs(2), for tests. `zpool`: asks for ZFS pools by a child process, where the caller can have one.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
        zpool: ZpoolCommand | None = None,
        step_ns: int | None = None,
    ) -> None:
        self._machine = machine
        self._step_ns = step_ns
        self._stat = KeptFile(machine, "stat")
        self._memory = KeptFile(machine, "meminfo")
        has_zfs = os.path.exists(f"{machine.proc}/{ARC}")
        self._arc = KeptFile(machine, ARC) if has_zfs else None
        self._load = KeptFile(machine, "loadavg")
        self._pressure = {name: KeptFile(machine, f"pressure/{name}") for name in ("cpu", "memory", "io")}
        self._processes = ProcessCounter(machine)
        self._disks = DiskReader(machine, statvfs=statvfs, zpool=zpool)
        self._net = NetReader(machine)
        self._times = GrowingSum(TIMES, late=LATE_SECONDS)
        self._events = GrowingSum(2, late=LATE_SECONDS)
        self._stalls = GrowingSum(len(PRESSURE), late=LATE_SECONDS)

    def read(self) -> SystemReading:
        """One reading. Nothing is raised: what is missing or broken is None, and its error is in `errors`."""
        reading = SystemReading(self._machine.monotonic_ns(), self._machine.ticks)
        reading.cpu = self._stat.parsed(parse_stat)
        if reading.cpu is not None and reading.cpu.counted:
            self._judge(reading.cpu, reading.at_ns)
        reading.memory = self._memory.parsed(parse_meminfo)
        if self._arc is not None and reading.memory is not None:
            reading.memory.arc_bytes = self._arc.parsed(parse_arcstats) or 0
        reading.load = self._load.parsed(parse_loadavg)
        reading.pressure = self._read_pressure(reading.at_ns)
        reading.processes = self._processes.read()
        self._machine.attend()
        reading.disks = self._disks.read(self._end_ns())
        self._machine.attend()
        reading.net = self._net.read(self._end_ns())
        self._machine.attend()
        reading.version = self._disks.version + self._net.version
        reading.errors = {file.path: file.error for file in self._files() if file.error is not None}
        if self._net.foreign is not None:
            reading.errors["class/net"] = self._net.foreign
        return reading

    def _end_ns(self) -> int:
        return UNBOUNDED_NS if self._step_ns is None else self._machine.monotonic_ns() + self._step_ns

    def discover(self) -> bool:
        """Read what is left of the disks, interfaces and mounts, for a moment; True while some are left."""
        end_ns = self._end_ns()
        return self._disks.discover(end_ns) or self._disks.mounts.discover(end_ns) or self._net.discover(end_ns)

    def _judge(self, cpu: Cpu, at_ns: int) -> None:
        """Replace counters by what they can be: None while one is in doubt, and never more than time has passed."""
        cores = max(1, len(cpu.cores))
        ticks = SLACK * cores * self._machine.ticks
        cpu.since_boot = self._times.update({"cpu": cpu.all}, ("cpu",), at_ns, lambda _: ticks)
        events = (cpu.context_switches or UNKNOWN, cpu.forks or UNKNOWN)
        found = self._events.update({"cpu": events}, ("cpu",), at_ns, lambda _: MOST_EVENTS * cores)
        cpu.context_switches, cpu.forks = found

    def _read_pressure(self, at_ns: int) -> tuple[int | None, ...] | None:
        found = {name: file.parsed(parse_pressure) for name, file in self._pressure.items()}
        if not any(found.values()):
            return None
        values = [(found[name] or {}).get(kind) for name, kind in PRESSURE]
        raw = tuple([UNKNOWN if value is None else value for value in values])
        return self._stalls.update({"": raw}, ("",), at_ns, lambda _: SLACK * 1_000_000)

    def close(self) -> None:
        """Give up what is kept open."""
        for file in self._files():
            file.close()

    def _files(self) -> list[KeptFile]:
        files = [self._stat, self._memory, self._load, *self._pressure.values()]
        if self._arc is not None:
            files.append(self._arc)
        return [*files, self._disks.file, self._disks.mounts.file, self._net.file]
