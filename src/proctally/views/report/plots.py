"""The table of charts: their lines, where each stands in a sample of a record, and what has to be known about it."""

from __future__ import annotations

from proctally.record.schema import COUNTER, RATIO, SECONDS, field


class Line:
    """One line of a chart. `key`: its column and its path in a sample; `is_rate`: its field is a counter.

    `of`: the path of its field, for a column that no field has. `main`: the title of its chart of several runs.
    `dull`: left out when it is zero throughout. `older`: left out where the first line of the chart has values.
    `colour`: a colour of charts.py; without one it is by its place.
    """

    __slots__ = ("colour", "dash", "dull", "is_rate", "key", "label", "main", "older", "scope", "unit")

    def __init__(
        self,
        key: str,
        label: str,
        *,
        of: str = "",
        main: str = "",
        dull: bool = False,
        older: bool = False,
        colour: str = "",
        dash: str = "solid",
    ) -> None:
        row = field(of or key)
        self.key = key
        self.scope = key.partition(".")[0]
        self.label = label
        self.is_rate = row.kind == COUNTER
        self.unit = row.unit if not self.is_rate else RATIO if row.unit == SECONDS else f"{row.unit}/s"
        self.main = main
        self.dull = dull
        self.older = older
        self.colour = colour
        self.dash = dash


class Plot:
    """One chart: its title, what has to be known about it, its lines, and their unit (`unit`: where it is another).

    `of_machine`: it shows the machine, not the job. `most`: the largest value that it can have.
    """

    __slots__ = ("key", "lines", "most", "note", "of_machine", "title", "unit")

    def __init__(
        self, key: str, title: str, note: str, *rows: Line, unit: str = "", of_machine: bool = False, most: float = 0.0
    ) -> None:
        self.key = key
        self.title = title
        self.note = note
        self.lines = rows
        self.unit = unit or rows[0].unit
        self.of_machine = of_machine
        self.most = most


PARTS = "parts"  # the chart of the parts of the time
PLOTS = (
    Plot(
        "cpu", "Cores", "Mean of each interval. Wanted: those used, and threads ready without one, up to all it can"
        " use.",
        Line("tree.cpu_cores", "used", main="CPU"),
        Line("tree.wanted_cores", "wanted", of="tree.cpu_cores", dull=True, dash="dashed"),
    ),
    Plot(
        "memory", "Memory",
        "The job holds between the two bounds of anonymous and shared memory; mapped files are apart.",
        Line("tree.memory_high_bytes", "held", main="Memory, upper bound", colour="memory"),
        Line("tree.memory_low_bytes", "held, at least", main="Memory, lower bound", colour="memory"),
        Line("tree.mapped_file_bytes", "mapped files", dull=True, colour="green"),
        Line("tree.pss_bytes", "sum of PSS", main="Memory, sum of PSS", dull=True, older=True, colour="memory"),
        Line("tree.rss_bytes", "sum of RSS", main="Memory, sum of RSS", older=True, colour="asleep"),
        Line("tree.swap_bytes", "in swap", dull=True, colour="ready"),
    ),
    Plot(
        PARTS, "Where the time went", "Parts of the wall time, as shares of each interval.",
        Line("tree.time.running_seconds", "computing", colour="computing"),
        Line("tree.time.ready_seconds", "waiting for a CPU", main="Waiting for a CPU, share of the wall",
             colour="ready"),
        Line("tree.time.throttled_seconds", "held by the quota", dull=True, colour="throttled"),
        Line("tree.time.disk_seconds", "storage", dull=True, colour="disk"),
        Line("tree.time.asleep_seconds", "asleep", colour="asleep"),
        most=1.0,
    ),
    Plot(
        "waiting", "Waiting", "Threads or processes that wait, on average; storage as seen at each sample.",
        Line("tree.run_delay_seconds", "threads ready, without a CPU", main="Threads ready, without a CPU", dull=True),
        Line("tree.disk_sleep", "processes in disk sleep", dull=True, main="Processes in disk sleep"),
        Line("tree.throttled_seconds", "held back by the CPU quota", dull=True, main="Held back by the quota"),
        unit="{thread}",
    ),
    Plot(
        "disk", "Disk", "Of storage, not of the page cache; a write counts when it dirties the cache.",
        Line("tree.read_bytes", "read", main="Disk, read"),
        Line("tree.write_bytes", "written", main="Disk, written"),
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
        "processes", "Processes", "",
        Line("tree.processes", "processes", main="Processes"),
        Line("tree.threads", "threads"),
    ),
    Plot(
        "cgroup-pressure", "Pressure in the job's cgroup", "Share of time in which some task of the job waited.",
        Line("cgroup.cpu_pressure_seconds", "CPU", dull=True),
        Line("cgroup.memory_pressure_seconds", "memory", dull=True),
        Line("cgroup.io_pressure_seconds", "storage", dull=True),
        most=1.0,
    ),
    Plot(
        "machine-cpu", "Cores of the machine", "", Line("system.cpu_cores", "in use"), of_machine=True,
    ),
    Plot(
        "machine-memory", "Memory of the machine", "",
        Line("system.memory.used_bytes", "used"),
        Line("system.memory.cached_bytes", "page cache"),
        Line("system.memory.swap_used_bytes", "swap in use", dull=True),
        of_machine=True,
    ),
    Plot(
        "machine-disk", "Disks of the machine", "",
        Line("system.disk.read_bytes", "read"),
        Line("system.disk.write_bytes", "written"),
        of_machine=True,
    ),
    Plot(
        "network", "Network of the machine",
        "Linux counts no network traffic per process: this is that of all processes.",
        Line("system.network.received_bytes", "received"),
        Line("system.network.sent_bytes", "sent"),
        of_machine=True,
    ),
    Plot(
        "pressure", "Pressure of the machine",
        "Share of time in which a task of the machine, of the job or not, waited (some) or all did (full).",
        Line("system.pressure.cpu_some_seconds", "CPU, some"),
        Line("system.pressure.memory_some_seconds", "memory, some", dull=True),
        Line("system.pressure.memory_full_seconds", "memory, full", dull=True),
        Line("system.pressure.io_some_seconds", "storage, some", dull=True),
        Line("system.pressure.io_full_seconds", "storage, full", dull=True),
        of_machine=True, most=1.0,
    ),
)  # fmt: skip
