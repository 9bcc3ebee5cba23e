"""The table of charts: their lines, where each stands in a sample of a record, and what has to be known about it."""

from __future__ import annotations

from proctally.record.schema import COUNTER, RATIO, SECONDS, field


class Line:
    """One line of a chart. `key`: its column and its path in a sample; `is_rate`: its field is a counter.

    `of`: the path of its field, for the column of one GPU. `main`: the title of its chart of several runs.
    `dull`: left out when it is zero throughout.
    """

    __slots__ = ("dull", "is_rate", "key", "label", "main", "scope", "unit")

    def __init__(self, key: str, label: str, *, of: str = "", main: str = "", dull: bool = False) -> None:
        row = field(of or key)
        self.key = key
        self.scope = key.partition(".")[0]
        self.label = label
        self.is_rate = row.kind == COUNTER
        self.unit = row.unit if not self.is_rate else RATIO if row.unit == SECONDS else f"{row.unit}/s"
        self.main = main
        self.dull = dull


class Plot:
    """One chart: its title, what has to be known about it, its lines, and their unit (`unit`: where it is another)."""

    __slots__ = ("key", "lines", "note", "title", "unit")

    def __init__(self, key: str, title: str, note: str, *rows: Line, unit: str = "") -> None:
        self.key = key
        self.title = title
        self.note = note
        self.lines = rows
        self.unit = unit or rows[0].unit


PLOTS = (
    Plot(
        "cpu", "CPU", "Cores in use, mean of each interval.",
        Line("tree.cpu_cores", "the job", main="CPU"),
        Line("system.cpu_cores", "whole machine"),
    ),
    Plot(
        "memory", "Memory",
        "The job holds between the two bounds of anonymous and shared memory; mapped files are apart. PSS divides what"
        " processes share among them; the sum of RSS counts it for each.",
        Line("tree.memory_high_bytes", "held, at most", main="Memory, upper bound"),
        Line("tree.memory_low_bytes", "held, at least", main="Memory, lower bound"),
        Line("tree.mapped_file_bytes", "mapped files", dull=True),
        Line("tree.pss_bytes", "sum of PSS", main="Memory, sum of PSS", dull=True),
        Line("tree.rss_bytes", "sum of RSS", main="Memory, sum of RSS"),
        Line("tree.swap_bytes", "in swap", dull=True),
        Line("cgroup.memory_bytes", "its cgroup, page cache included", dull=True),
    ),
    Plot(
        "time", "Where the time went", "Parts of the wall time, as shares of each interval.",
        Line("tree.time.running_seconds", "computing"),
        Line("tree.time.ready_seconds", "waiting for a CPU", main="Waiting for a CPU, share of the wall"),
        Line("tree.time.throttled_seconds", "held by the quota", dull=True),
        Line("tree.time.disk_seconds", "storage", dull=True),
        Line("tree.time.asleep_seconds", "asleep"),
    ),
    Plot(
        "waiting", "Waiting", "Threads or processes that wait, on average; storage as seen at each sample.",
        Line("tree.run_delay_seconds", "threads ready, without a CPU", main="Threads ready, without a CPU"),
        Line("tree.disk_sleep", "processes in disk sleep", dull=True, main="Processes in disk sleep"),
        Line("tree.throttled_seconds", "held back by the CPU quota", dull=True, main="Held back by the quota"),
        unit="{thread}",
    ),
    Plot(
        "gpu", "GPU", "Share of time in which anything ran on it.",
        Line("tree.gpu_utilization_ratio", "the job, sum", main="GPU"),
        Line("gpus.utilization_ratio", "all GPUs, sum"),
    ),
    Plot(
        "gpu-memory", "GPU memory", "",
        Line("tree.gpu_memory_bytes", "the job, sum", main="GPU memory"),
        Line("gpus.memory_used_bytes", "all GPUs, sum"),
    ),
    Plot("gpu-power", "GPU power", "", Line("gpus.power_watts", "all GPUs, sum", main="GPU power")),
    Plot(
        "disk", "Disk", "Of storage, not of the page cache; a write counts when it dirties the cache.",
        Line("tree.read_bytes", "read by the job", main="Disk, read"),
        Line("tree.write_bytes", "written by the job", main="Disk, written"),
        Line("system.disk.read_bytes", "read, all disks"),
        Line("system.disk.write_bytes", "written, all disks"),
    ),
    Plot(
        "network", "Network of the machine",
        "Linux counts no network traffic per process: this is everybody's.",
        Line("system.network.received_bytes", "received"),
        Line("system.network.sent_bytes", "sent"),
    ),
    Plot(
        "pressure", "Pressure of the machine",
        "Share of time in which a task of the machine, of the job or not, waited (some) or all did (full).",
        Line("system.pressure.cpu_some_seconds", "CPU, some"),
        Line("system.pressure.memory_some_seconds", "memory, some", dull=True),
        Line("system.pressure.memory_full_seconds", "memory, full", dull=True),
        Line("system.pressure.io_some_seconds", "storage, some", dull=True),
        Line("system.pressure.io_full_seconds", "storage, full", dull=True),
    ),
    Plot(
        "cgroup-pressure", "Pressure in the job's cgroup", "Share of time in which some task of the job waited.",
        Line("cgroup.cpu_pressure_seconds", "CPU", dull=True),
        Line("cgroup.memory_pressure_seconds", "memory", dull=True),
        Line("cgroup.io_pressure_seconds", "storage", dull=True),
    ),
    Plot(
        "processes", "Processes", "",
        Line("tree.processes", "processes", main="Processes"),
        Line("tree.threads", "threads"),
    ),
    Plot(
        "machine-memory", "Memory of the machine", "",
        Line("system.memory.used_bytes", "used"),
        Line("system.memory.cached_bytes", "page cache"),
        Line("system.memory.swap_used_bytes", "swap in use", dull=True),
    ),
)  # fmt: skip
EXTRA = (Line("tree.pss_unread", ""),)  # told, not drawn
UNITS = tuple(dict.fromkeys(plot.unit for plot in PLOTS))
