"""The table of charts: their lines, where each stands in a sample of a record, and what has to be known about it."""

from __future__ import annotations

GAUGE, RATE = "gauge", "rate"
CORES, COUNT, RATIO, BYTES, BYTES_A_SECOND, WATTS = "cores", "count", "ratio", "bytes", "bytes/s", "watts"


class Line:
    """One line of a chart. `key`: its column; `path`: where it stands in a sample; `kind`: GAUGE or RATE.

    `main`: what is compared when runs are laid over each other. `dull`: left out when it is zero throughout.
    """

    __slots__ = ("dull", "key", "kind", "label", "main", "path")

    def __init__(self, key: str, label: str, kind: str = GAUGE, *, main: str = "", dull: bool = False) -> None:
        self.key = key
        self.path = tuple(key.split("."))
        self.label = label
        self.kind = kind
        self.main = main
        self.dull = dull


class Plot:
    """One chart: its title, the unit of its lines, what has to be known about it, and its lines."""

    __slots__ = ("key", "lines", "note", "title", "unit")

    def __init__(self, key: str, title: str, unit: str, note: str, *rows: Line) -> None:
        self.key = key
        self.title = title
        self.unit = unit
        self.note = note
        self.lines = rows


PLOTS = (
    Plot(
        "cpu", "CPU", CORES, "Cores in use, mean of each interval.",
        Line("tree.cpu_cores", "the job", main="CPU"),
        Line("system.cpu_cores", "whole machine"),
    ),
    Plot(
        "memory", "Memory", BYTES,
        "PSS divides what processes share among them; the sum of RSS counts it for each.",
        Line("tree.pss_bytes", "PSS", main="Memory, PSS"),
        Line("tree.rss_bytes", "RSS, sum", main="Memory, sum of RSS"),
        Line("tree.swap_bytes", "in swap", dull=True),
        Line("cgroup.memory_bytes", "its cgroup, page cache included", dull=True),
    ),
    Plot(
        "waiting", "Waiting", COUNT, "Threads or processes that wait, on average; storage as seen at each sample.",
        Line("tree.run_delay_seconds", "threads ready, without a CPU", RATE, main="Threads ready, without a CPU"),
        Line("tree.disk_sleep", "processes in disk sleep", dull=True, main="Processes in disk sleep"),
        Line("tree.throttled_seconds", "held back by the CPU quota", RATE, dull=True, main="Held back by the quota"),
    ),
    Plot(
        "gpu", "GPU", RATIO, "Share of time in which anything ran on it.",
        Line("tree.gpu_utilization_ratio", "the job, sum", main="GPU"),
        Line("gpus.utilization_ratio", "all GPUs, sum"),
    ),
    Plot(
        "gpu-memory", "GPU memory", BYTES, "",
        Line("tree.gpu_memory_bytes", "the job, sum", main="GPU memory"),
        Line("gpus.memory_used_bytes", "all GPUs, sum"),
    ),
    Plot("gpu-power", "GPU power", WATTS, "", Line("gpus.power_watts", "all GPUs, sum", main="GPU power")),
    Plot(
        "disk", "Disk", BYTES_A_SECOND, "Of storage, not of the page cache; a write counts when it dirties the cache.",
        Line("tree.read_bytes", "read by the job", RATE, main="Disk, read"),
        Line("tree.write_bytes", "written by the job", RATE, main="Disk, written"),
        Line("system.disk.read_bytes", "read, all disks", RATE),
        Line("system.disk.write_bytes", "written, all disks", RATE),
    ),
    Plot(
        "network", "Network of the machine", BYTES_A_SECOND,
        "Linux counts no network traffic per process: this is everybody's.",
        Line("system.network.received_bytes", "received", RATE),
        Line("system.network.sent_bytes", "sent", RATE),
    ),
    Plot(
        "pressure", "Pressure of the machine", RATIO,
        "Share of time in which a task of the machine, of the job or not, waited (some) or all did (full).",
        Line("system.pressure.cpu_some_seconds", "CPU, some", RATE),
        Line("system.pressure.memory_some_seconds", "memory, some", RATE, dull=True),
        Line("system.pressure.memory_full_seconds", "memory, full", RATE, dull=True),
        Line("system.pressure.io_some_seconds", "storage, some", RATE, dull=True),
        Line("system.pressure.io_full_seconds", "storage, full", RATE, dull=True),
    ),
    Plot(
        "cgroup-pressure", "Pressure in the job's cgroup", RATIO, "Share of time in which some task of the job waited.",
        Line("cgroup.cpu_pressure_seconds", "CPU", RATE, dull=True),
        Line("cgroup.memory_pressure_seconds", "memory", RATE, dull=True),
        Line("cgroup.io_pressure_seconds", "storage", RATE, dull=True),
    ),
    Plot(
        "processes", "Processes", COUNT, "",
        Line("tree.processes", "processes", main="Processes"),
        Line("tree.threads", "threads"),
    ),
    Plot(
        "machine-memory", "Memory of the machine", BYTES, "",
        Line("system.memory.used_bytes", "used"),
        Line("system.memory.cached_bytes", "page cache"),
        Line("system.memory.swap_used_bytes", "swap in use", dull=True),
    ),
)  # fmt: skip
EXTRA = (Line("tree.pss_unread", ""),)  # told, not drawn
