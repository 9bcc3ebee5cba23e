"""What there is to see at one moment, and how it came to be: no word here of how it looks."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field

from proctally.analysis.time import PARTS, wanted_cores
from proctally.record.values import number, number_at, section_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctally.record import JsonObject

NAMES = ("cores", "wait", "cpu_seconds", "low", "high", "read", "write", "threads")
KEYS = (
    "cpu_cores",
    "wait_cores",
    "cpu_seconds",
    "memory_low_bytes",
    "memory_high_bytes",
    "read_bytes_per_second",
    "write_bytes_per_second",
    "threads",
)
FIELDS = tuple(f"{part}_seconds" for part, _ in PARTS)
NEIGHBOURS_SECONDS = 30.0  # age up to which other processes are shown
KEPT = 600  # moments of history


class Figures:
    """What one or several processes have: since the sample before, and levels. None is what is not known."""

    __slots__ = NAMES

    def __init__(self, values: Iterable[float | None]) -> None:
        (
            self.cores, self.wait, self.cpu_seconds, self.low, self.high, self.read, self.write, self.threads,
        ) = values  # fmt: skip

    def __add__(self, other: Figures) -> Figures:
        return Figures(total([getattr(self, name), getattr(other, name)]) for name in NAMES)

    @property
    def io(self) -> float | None:
        """Bytes a second, read and written."""
        return total([self.read, self.write])


class Process:
    """One process: who it is, and what it has. A record of the run alone has its RSS as memory."""

    __slots__ = ("command", "figures", "parent", "pid", "row", "state")

    def __init__(self, row: JsonObject) -> None:
        self.row = row
        self.pid: int = row.get("pid") or 0
        self.parent = row.get("parent")
        self.command = str(row.get("command") or "")
        self.state = str(row.get("state") or "")
        self.figures = Figures(map(row.get, KEYS))
        if self.figures.high is None:
            self.figures.high = number(row.get("rss_bytes"))


@dataclass(slots=True)
class Scene:
    """Everything that the live view shows; who follows a record or samples a tree fills it in.

    `of_machine`: it is of the whole machine, without a tree. `is_whole`: `processes` are all there are, else the
    largest few. `phases`: the open ones with the seconds at which they started. `ending`: lines that show how it ended,
    None while it goes on. `notes`: what the user should know, a sentence each. `line_of`: the command line of a
    process.
    """

    name: str
    command: str = ""
    run_id: str = ""
    since: str = "running"
    root: int | None = None
    of_machine: bool = False
    is_whole: bool = False
    sample: JsonObject = field(default_factory=dict)
    rows: list[JsonObject] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    phases: dict[str, float | None] = field(default_factory=dict)
    limits: JsonObject = field(default_factory=dict)
    memory_total: float | None = None
    cpus: float | None = None
    neighbours: JsonObject | None = None  # the last ones, while they are recent
    neighbours_at: float = 0.0
    notes: list[str] = field(default_factory=list)
    ending: list[str] | None = None
    line_of: Callable[[Process], str] = lambda process: process.command
    history: History = field(default_factory=lambda: History())

    def enter(self, sample: JsonObject) -> None:
        """Take in the next sample."""
        self.sample = sample
        self.history.enter(sample, "system" if self.of_machine else "tree", self.usable_cores)
        elapsed = number(sample.get("elapsed_seconds")) or 0.0
        if "neighbours" in sample:
            self.neighbours, self.neighbours_at = section_at(sample, "neighbours"), elapsed
        elif elapsed > self.neighbours_at + NEIGHBOURS_SECONDS:
            self.neighbours = None

    def show(self, rows: list[JsonObject]) -> None:
        """Take in the processes; the row of one that does nothing is the same object as before."""
        if rows == self.rows:
            return
        known = {process.pid: process for process in self.processes}
        self.rows, self.processes = rows, []
        for row in rows:
            process = known.get(row.get("pid") or 0)
            self.processes.append(process if process is not None and process.row is row else Process(row))

    @property
    def usable_cores(self) -> float | None:
        """The cores that it may use."""
        return self.cpus if self.of_machine else number_at(self.limits, "cpu_cores")

    @property
    def usable_memory(self) -> float | None:
        """The bytes of memory that it may use."""
        return self.memory_total if self.of_machine else number_at(self.limits, "memory_bytes")

    def figure(self, path: str) -> float | None:
        """Return a number of the last sample by its path (`tree.rss_bytes`)."""
        return number_at(self.sample, path)


class History:
    """Cores, memory and bytes a second of the last samples, each None where it is not known; and the parts of time.

    `wanted`: cores wanted in the last interval. `peak`: the most cores ever.
    """

    def __init__(self) -> None:
        self.cores: deque[float | None] = deque(maxlen=KEPT)
        self.memory: deque[float | None] = deque(maxlen=KEPT)
        self.io: deque[float | None] = deque(maxlen=KEPT)
        self.wanted: float | None = None
        self.peak: float | None = None
        self.read: float | None = None
        self.write: float | None = None
        self.received: float | None = None
        self.sent: float | None = None
        self._parts: deque[tuple[float, list[float]]] = deque(maxlen=KEPT)  # elapsed seconds, and seconds of each part
        self._before: dict[str, float] = {}

    def enter(self, sample: JsonObject, what: str, cpus: float | None) -> None:
        """Take in the next sample; `what`: tree or system; `cpus`: that it may use."""
        section = section_at(sample, what)
        if not section:
            return  # the machine is not read in each sample at high rates
        interval = self._seconds(sample)
        disk = section_at(section, "disk") if what == "system" else section
        memory = section_at(section, "memory") if what == "system" else section
        used = number(memory.get("used_bytes")) if what == "system" else memory_of(memory)
        self.read = self._rate("read_bytes", disk, interval)
        self.write = self._rate("write_bytes", disk, interval)
        network = section_at(sample, "system.network")
        self.received = self._rate("received_bytes", network, interval)
        self.sent = self._rate("sent_bytes", network, interval)
        cores, delay = number(section.get("cpu_cores")), self._rate("run_delay_seconds", section, interval)
        known = None not in (cores, delay, interval)
        self.wanted = wanted_cores((cores or 0.0), (delay or 0.0), 1.0, cpus) if known else None
        self.peak = max((value for value in (self.peak, cores) if value is not None), default=None)
        self.cores.append(cores)
        self.memory.append(used)
        self.io.append(total([self.read, self.write]))
        self._enter_parts(section)

    def _enter_parts(self, section: JsonObject) -> None:
        parts = [number_at(section, f"time.{name}") for name in FIELDS]
        elapsed = self._before.get("elapsed_seconds")
        if elapsed is not None and not (self._parts and self._parts[-1][0] >= elapsed):
            known = [value for value in parts if value is not None]
            if len(known) == len(FIELDS):
                self._parts.append((elapsed, known))

    def parts(self, most: float, cells: int = 1) -> tuple[float, list[JsonObject]]:
        """Return the seconds of the five parts in `cells` equal spans up to now, the oldest first.

        The first item is the time that they cover, at most `most` seconds; it is 0 where the parts are unknown. A span
        within which there was no sample is empty.
        """
        if len(self._parts) < 2:
            return 0.0, []
        moments = [elapsed for elapsed, _ in self._parts]
        covered = min(most, moments[-1] - moments[0])
        places = [
            max(0, bisect_right(moments, moments[-1] - covered * left / cells + 1e-3) - 1)
            for left in range(cells, -1, -1)
        ]
        spans: list[JsonObject] = []
        for first, last in zip(places, places[1:], strict=False):
            start, end = self._parts[first][1], self._parts[last][1]
            grown = [max(0.0, now - before) for now, before in zip(end, start, strict=True)]
            spans.append(dict(zip(FIELDS, grown, strict=True)) if last > first else {})
        return covered, spans

    def _seconds(self, sample: JsonObject) -> float | None:
        """Return the seconds since the last sample that had anything."""
        now = number(sample.get("elapsed_seconds"))
        before = self._before.get("elapsed_seconds")
        if now is not None:
            self._before["elapsed_seconds"] = now
        return None if now is None or before is None or now <= before else now - before

    def _rate(self, name: str, section: JsonObject, seconds: float | None) -> float | None:
        now = number(section.get(name))
        before = self._before.get(name)
        if now is not None:
            self._before[name] = now
        return None if now is None or before is None or seconds is None else max(0.0, now - before) / seconds


def memory_of(tree: JsonObject) -> float | None:
    """Return the memory of a tree: its upper bound; of an older record PSS, or RSS where PSS was not read."""
    names = ("memory_high_bytes", "pss_bytes", "rss_bytes")
    return next((value for name in names if (value := number(tree.get(name))) is not None), None)


def total(values: list[float | None]) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
