"""CSV: a table of 32 columns with one row for each sample, as established trackers write it, so that pipelines go on.

Levels are those of the moment; what counts is given as its growth since the row before. The units are that table's:
MiB (2^20) without fractions, GB (10^9), cores, seconds and bytes per interval, GPUs in use as a sum of their ratios.
What is not known is an empty field, never 0. All fields are numbers: nothing is ever quoted.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MIB = 1 << 20
GB = 1e9
COUNTERS_END = 1 << 64  # the kernel's widest counter: nothing it says reaches that

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
TREE_COLUMNS = sum(name.startswith("process_") for name, _ in COLUMNS)
MEMORY = ("free_bytes", "used_bytes", "buffers_bytes", "cached_bytes", "active_bytes", "inactive_bytes")


class Lines:
    """The lines of a record as those of the table, in bytes: the `format` of a `Record`. None for one without a row."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: Rows | None = None

    def __call__(self, line: dict[str, Any]) -> bytes | None:
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

    __slots__ = ("_any", "_disk", "_interval", "_network", "_pid", "_system", "_tracked", "_tree")

    def __init__(self, run: dict[str, Any]) -> None:
        self._tracked = run.get("kind") != "system"
        self._pid = _number(run, "pid")
        self._interval = _number(run, "interval_seconds")
        self._system, self._disk, self._network = Counted(), Counted(), Counted()
        self._tree = Counted(from_zero=True)
        self._any = False  # whether there was a row

    def header(self) -> str:
        """The names of the columns."""
        return ",".join(name for name, _ in COLUMNS)

    def begin(self, devices: dict[str, Any]) -> None:
        """The counters from which the machine's count where its first sample has none of it, as in a run."""
        if self._any:
            self._system.begin(devices)
            self._disk.begin(_section(devices, "disk"))
            self._network.begin(_section(devices, "network"))

    def row(self, sample: dict[str, Any]) -> str:
        """The row of a sample; samples are given in order, each once."""
        self._any = True
        values = [_number(sample, "at"), *self._of_system(sample), *_of_gpus(sample), *self._of_tree(sample)]
        return ",".join(_field(value, digits) for value, (_, digits) in zip(values, COLUMNS, strict=True))

    def _of_system(self, sample: dict[str, Any]) -> list[float | None]:
        section = _section(sample, "system")
        memory = _section(section, "memory")
        system = self._system.enter(section)
        disk = self._disk.enter(_section(section, "disk"))
        network = self._network.enter(_section(section, "network"))
        seconds = _number(sample, "interval_seconds")
        if seconds is None:
            seconds = self._interval
        total, free = (_number(disk.section, f"space_{part}_bytes") for part in ("total", "free"))
        used = None  # what is kept back for root is no free space
        if total is not None and free is not None and free <= total:
            used = total - free
        return [
            _number(section, "process_count"),
            system.growth("cpu_user_seconds"),
            system.growth("cpu_system_seconds"),
            system.cores("cpu_user_seconds"),
            *(_in(MIB, _number(memory, name)) for name in MEMORY),
            disk.growth("read_bytes", seconds),
            disk.growth("write_bytes", seconds),
            *(_in(GB, space) for space in (total, used, free)),
            network.growth("received_bytes", seconds),
            network.growth("sent_bytes", seconds),
        ]

    def _of_tree(self, sample: dict[str, Any]) -> list[float | None]:
        if not self._tracked:
            return [None] * TREE_COLUMNS
        tree = self._tree.enter(_section(sample, "tree"))
        section = tree.section
        if not section:
            return [self._pid, *[None] * (TREE_COLUMNS - 1)]
        processes = _number(section, "processes")
        gpus: list[float | None] = [0, 0, 0]
        if sample.get("gpus") != [] or sample.get("gpus_trouble"):
            gpus = [_number(section, name) for name in ("gpu_utilization_ratio", "gpu_memory_bytes", "gpu_used")]
        return [
            self._pid,
            None if processes is None else max(0, processes - 1),
            tree.growth("cpu_user_seconds"),
            tree.growth("cpu_system_seconds"),
            tree.cores("cpu_seconds"),
            _in(MIB, _number(section, "pss_bytes")),
            tree.growth("read_bytes"),
            tree.growth("write_bytes"),
            gpus[0],
            _in(MIB, gpus[1]),
            gpus[2],
        ]


class Counted:
    """The counters of one section of a sample, and what they were when last known.

    `from_zero`: they began at 0 with the record, so that what was counted before the first row is in the next one.
    """

    __slots__ = ("_began", "_first", "_from_zero", "_last", "section")

    def __init__(self, *, from_zero: bool = False) -> None:
        self.section: dict[str, Any] = {}
        self._from_zero = from_zero
        self._began = self._first = False
        self._last: dict[str, float] = {}

    def begin(self, section: dict[str, Any]) -> None:
        """The counters from which it counts, unless it has begun."""
        if section and not self._began:
            self._began = True
            known = ((name, _number(section, name)) for name in section)
            self._last = {name: value for name, value in known if value is not None}

    def enter(self, section: dict[str, Any]) -> Counted:
        """The next sample's section, empty where it has none."""
        self.section = section
        self._first = bool(section) and not self._began
        self._began |= self._first
        return self

    def growth(self, name: str, seconds: float | None = None) -> float | None:
        """Since it was last known, so that over all rows nothing is missing; 0 for one that fell, and at first.

        One that was never known before is its rate, where there is one, over so many seconds.
        """
        now = _number(self.section, name)
        last = self._last.get(name, 0 if self._from_zero else None)
        if now is not None and not (self._first and self._from_zero):
            self._last[name] = now
            if last is not None:
                return max(0, now - last)
        if last is None and seconds is not None:
            rate = _number(self.section, f"{name}_per_second")
            if rate is not None:
                return rate * seconds
        return 0 if self._first and now is not None else None

    def cores(self, counter: str) -> float | None:
        """In use over the interval; 0 at first, where its counter can be read."""
        cores = _number(self.section, "cpu_cores")
        return 0 if cores is None and self._first and _number(self.section, counter) is not None else cores


def _of_gpus(sample: dict[str, Any]) -> list[float | None]:
    """All devices together: usage, memory, how many are in use. Where one cannot be read, the sum is not known."""
    devices = sample.get("gpus")
    if not isinstance(devices, list) or sample.get("gpus_trouble"):
        return [None, None, None]
    used = [_of_gpu(device, "utilization_ratio") for device in devices]
    held = [_of_gpu(device, "memory_used_bytes") for device in devices]
    return [_sum(used), _in(MIB, _sum(held)), _sum([None if ratio is None else ratio > 0 for ratio in used])]


def _of_gpu(device: Any, name: str) -> float | None:
    if not isinstance(device, dict):
        return None
    return 0 if device.get("state") == "asleep" else _number(device, name)  # powered down, it does and holds nothing


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _in(unit: float, value: float | None) -> float | None:
    return None if value is None else value / unit


def _section(line: dict[str, Any], name: str) -> dict[str, Any]:
    section = line.get(name)
    return section if isinstance(section, dict) else {}


def _number(section: dict[str, Any], name: str) -> float | None:
    """A number of a section; None for anything that cannot stand in a column: a file may hold any JSON."""
    value = section.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < COUNTERS_END:
        return value + 0  # no -0.0
    return None


def _field(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}" if digits else str(int(value))
