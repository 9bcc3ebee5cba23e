"""CSV: a table of 32 columns with one row for each sample, as established trackers write it, so that pipelines go on.

Levels are those of the moment; what counts is given as its growth since the row before. The units are that table's:
MiB (2^20) without fractions, GB (10^9), cores, seconds and bytes per interval, GPUs in use as a sum of their ratios.
What is not known is an empty field, never 0. All fields are numbers: nothing is ever quoted.
"""

from __future__ import annotations

from proctally.record.schema import COUNTER, Field, fields
from proctally.record.values import section_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject

MIB = 1 << 20
GB = 1e9

# name, digits behind the decimal point (0: a whole number, cut off and not rounded)
COLUMNS = (
    ("timestamp", 0),
    ("system_processes", 0),
    ("system_utime", 3),
    ("system_stime", 3),
    ("system_cpu_usage", 4),
    ("system_memory_free_mib", 0),
    ("system_memory_used_mib", 0),
    ("system_memory_buffers_mib", 0),
    ("system_memory_cached_mib", 0),
    ("system_memory_active_mib", 0),
    ("system_memory_inactive_mib", 0),
    ("system_disk_read_bytes", 0),
    ("system_disk_write_bytes", 0),
    ("system_disk_space_total_gb", 6),
    ("system_disk_space_used_gb", 6),
    ("system_disk_space_free_gb", 6),
    ("system_net_recv_bytes", 0),
    ("system_net_sent_bytes", 0),
    ("system_gpu_usage", 4),
    ("system_gpu_vram_mib", 4),
    ("system_gpu_utilized", 0),
    ("process_pid", 0),
    ("process_children", 0),
    ("process_utime", 4),
    ("process_stime", 4),
    ("process_cpu_usage", 4),
    ("process_memory_mib", 0),
    ("process_disk_read_bytes", 0),
    ("process_disk_write_bytes", 0),
    ("process_gpu_usage", 4),
    ("process_gpu_vram_mib", 4),
    ("process_gpu_utilized", 0),
)
UNITS = {"mib": MIB, "gb": GB}  # by the end of a column's name; others are in the unit of their field
MADE = (  # columns that are more than the value or the growth of their field
    "system_cpu_usage",
    "system_memory_used_mib",
    "system_memory_cached_mib",
    "system_disk_space_used_gb",
    "system_gpu_usage",
    "system_gpu_vram_mib",
    "system_gpu_utilized",
    "process_pid",
    "process_children",
    "process_cpu_usage",
    "process_memory_mib",
    "process_gpu_usage",
    "process_gpu_vram_mib",
    "process_gpu_utilized",
)


def _plain() -> list[tuple[str, Field, float | None]]:
    """Return the other columns, each with its field and the size of its unit, None for that of the field."""
    columns = ((column, field) for field in fields() for column in field.csv.split(", ") if column)
    return [(name, field, UNITS.get(name.rpartition("_")[2])) for name, field in columns if name not in MADE]


class Lines:
    """The lines of a record as those of the table, in bytes: the `format` of a `Record`. None for one without a row."""

    def __init__(self) -> None:
        self._rows: Rows | None = None

    def __call__(self, line: JsonObject) -> bytes | None:
        if self._rows is None:
            if line["type"] != "run":
                return None
            self._rows = Rows(line)
            text = self._rows.header()
        elif line["type"] == "sample":
            text = self._rows.row(line)
        elif line["type"] == "devices":
            self._rows.begin(line)
            return None
        else:
            return None
        return text.encode("ascii") + b"\n"


class Rows:
    """The rows of one run, each with what grew since the one before. `run`: the first line of its record."""

    def __init__(self, run: JsonObject) -> None:
        self._tracked = run.get("kind") != "system"
        self._pid = run.get("pid")
        self._interval = run.get("interval_seconds")
        self._plain = _plain()
        self._counted = {field.scope: Counted(from_zero=field.scope == "tree") for _, field, _ in self._plain}
        self._any = False  # whether there was a row
        self._memory: float | None = None  # the last level of a tree that had a process

    def header(self) -> str:
        """The names of the columns."""
        return ",".join(name for name, _ in COLUMNS)

    def begin(self, devices: JsonObject) -> None:
        """The counters from which the machine's count where its first sample has none of it, as in a run."""
        if self._any:
            for scope, path in (("system", ""), ("system.disk", "disk"), ("system.network", "network")):
                self._counted[scope].begin(section_at(devices, path) if path else devices)

    def row(self, sample: JsonObject) -> str:
        """The row of a sample; samples are given in order, each once."""
        self._any = True
        seconds = sample.get("interval_seconds")
        if seconds is None:
            seconds = self._interval
        for scope, counted in self._counted.items():
            untracked = scope == "tree" and not self._tracked
            counted.enter({} if untracked else sample if scope == "sample" else section_at(sample, scope))
        values = self._made(sample)
        for name, field, unit in self._plain:
            section = self._counted[field.scope]
            value = section.growth(field.name, seconds) if field.kind == COUNTER else section.level(field.name)
            values[name] = value if unit is None else _in(unit, value)
        return ",".join(_field(values[name], digits) for name, digits in COLUMNS)

    def _made(self, sample: JsonObject) -> dict[str, float | None]:
        """The columns that are more than a field."""
        system, disk, tree = (self._counted[scope] for scope in ("system", "system.disk", "tree"))
        total, free = disk.level("space_total_bytes"), disk.level("space_free_bytes")
        used = None  # space that is reserved for root is not free
        if total is not None and free is not None and free <= total:
            used = total - free
        processes = tree.level("processes")
        gpus = [tree.level(name) for name in ("gpu_utilization_ratio", "gpu_memory_bytes", "gpu_used")]
        if tree.section and sample.get("gpus") == [] and "gpus_unavailable" not in sample:
            gpus = [0, 0, 0]
        values = (
            system.cores("cpu_user_seconds"),
            *_of_machine_memory(self._counted["system.memory"]),
            _in(GB, used),
            *_of_gpus(sample),
            self._pid if self._tracked else None,
            None if processes is None else max(0, processes - 1),
            tree.cores("cpu_seconds"),
            _in(MIB, self._of_memory(tree)),
            gpus[0],
            _in(MIB, gpus[1]),
            gpus[2],
        )
        return dict(zip(MADE, values, strict=True))

    def _of_memory(self, tree: Counted) -> float | None:
        """Return what the tree holds at most and the files it maps, in bytes; after the last exit the level before it.

        Older records have PSS instead.
        """
        if tree.level("processes") == 0:
            return self._memory
        high, files = tree.level("memory_high_bytes"), tree.level("mapped_file_bytes")
        if high is None and "memory_high_bytes" not in tree.section:
            self._memory = tree.level("pss_bytes")
        else:
            self._memory = None if high is None or files is None else high + files
        return self._memory


class Counted:
    """The counters of one section of a sample, and what they were when last known.

    `from_zero`: they began at 0 with the record, so that what was counted before the first row is in the next one.
    """

    __slots__ = ("_began", "_first", "_from_zero", "_last", "section")

    def __init__(self, *, from_zero: bool = False) -> None:
        self.section: JsonObject = {}
        self._from_zero = from_zero
        self._began = self._first = False
        self._last: dict[str, float] = {}

    def begin(self, section: JsonObject) -> None:
        """The counters from which it counts, unless it has begun."""
        if section and not self._began:
            self._began = True
            self._last = {name: value for name, value in section.items() if value is not None}

    def enter(self, section: JsonObject) -> None:
        """The next sample's section, empty where it has none."""
        self.section = section
        self._first = bool(section) and not self._began
        self._began |= self._first

    def level(self, name: str) -> float | None:
        """What the section says now."""
        return self.section.get(name)

    def growth(self, name: str, seconds: float | None = None) -> float | None:
        """Since it was last known, so that over all rows nothing is missing; 0 for one that fell, and at first.

        One that was never known before is its rate, where there is one, over so many seconds.
        """
        now: float | None = self.section.get(name)
        last = self._last.get(name, 0 if self._from_zero else None)
        if now is not None and not (self._first and self._from_zero):
            self._last[name] = now
            if last is not None:
                return max(0, now - last)
        if last is None and seconds is not None:
            rate: float | None = self.section.get(f"{name}_per_second")
            if rate is not None:
                return rate * seconds
        return 0 if self._first and now is not None else None

    def cores(self, counter: str) -> float | None:
        """In use over the interval; 0 at first, where its counter can be read."""
        cores = self.section.get("cpu_cores")
        return 0 if cores is None and self._first and self.section.get(counter) is not None else cores


def _of_machine_memory(memory: Counted) -> list[float | None]:
    """Memory in use, and cache: that table counts shared memory as cache."""
    used, cached, shared = (memory.level(name) for name in ("used_bytes", "cached_bytes", "shared_bytes"))
    shared = shared or 0
    return [_in(MIB, None if used is None else used - shared), _in(MIB, None if cached is None else cached + shared)]


def _of_gpus(sample: JsonObject) -> list[float | None]:
    """All devices together: usage, memory, how many are in use. Where one cannot be read, the sum is not known."""
    devices = sample.get("gpus")
    if devices is None or "gpus_unavailable" in sample:
        return [None, None, None]
    used = [_of_gpu(device, "utilization_ratio") for device in devices]
    held = [_of_gpu(device, "memory_used_bytes") for device in devices]
    return [_sum(used), _in(MIB, _sum(held)), _sum([None if ratio is None else ratio > 0 for ratio in used])]


def _of_gpu(device: JsonObject, name: str) -> float | None:
    asleep = device.get("state") == "asleep"  # powered down, it does and holds nothing
    return 0 if asleep else device.get(name)


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _in(unit: float, value: float | None) -> float | None:
    return None if value is None else value / unit


def _field(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value + 0:.{digits}f}" if digits else str(int(value))  # no -0.0
