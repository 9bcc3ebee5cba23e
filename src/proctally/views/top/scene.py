"""What there is to see at one moment, and how it came to be: no word here of how it looks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from proctally.record.values import number, number_at, objects_at, section_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctally.record import JsonObject

NAMES = ("cores", "cpu_seconds", "rss", "pss", "read", "write", "threads")
KEYS = (
    "cpu_cores",
    "cpu_seconds",
    "rss_bytes",
    "pss_bytes",
    "read_bytes_per_second",
    "write_bytes_per_second",
    "threads",
)
NEIGHBOURS_SECONDS = 30.0  # age up to which other processes are shown
KEPT = 600  # moments of history: more than the widest terminal shows


class Figures:
    """What one or several processes have: since the sample before, and levels. None is what is not known."""

    __slots__ = NAMES

    def __init__(self, values: Iterable[float | None]) -> None:
        self.cores, self.cpu_seconds, self.rss, self.pss, self.read, self.write, self.threads = values

    def __add__(self, other: Figures) -> Figures:
        return Figures(total([getattr(self, name), getattr(other, name)]) for name in NAMES)

    @property
    def io(self) -> float | None:
        """Bytes a second, read and written."""
        return total([self.read, self.write])


class Process:
    """One process: who it is, and what it has."""

    __slots__ = ("command", "figures", "parent", "pid", "state")

    def __init__(self, told: JsonObject) -> None:
        self.pid = told.get("pid") or 0
        self.parent = told.get("parent")
        self.command = str(told.get("command") or "")
        self.state = str(told.get("state") or "")
        self.figures = Figures(number(told.get(key)) for key in KEYS)


@dataclass(slots=True)
class Scene:
    """Everything that the live view tells; who follows a record or samples a tree fills it in.

    `of_machine`: it is of the whole machine, without a tree. `is_whole`: `processes` are all there are, else the
    largest few. `sources`: totals of CPU seconds by where they are from. `ending`: lines that tell how it ended, None
    while it goes on. `notes`: what the watcher should know, a sentence each. `line_of`: the command line of a process.
    """

    title: str
    identity: str = ""
    root: int | None = None
    of_machine: bool = False
    is_whole: bool = False
    sample: JsonObject = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    sources: dict[str, float] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
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
        """The next sample."""
        self.sample = sample
        self.history.enter(sample, "system" if self.of_machine else "tree")
        elapsed = number(sample.get("elapsed_seconds")) or 0.0
        if "neighbours" in sample:
            self.neighbours, self.neighbours_at = section_at(sample, "neighbours"), elapsed
        elif elapsed > self.neighbours_at + NEIGHBOURS_SECONDS:
            self.neighbours = None
        self.processes = [Process(told) for told in objects_at(sample, "processes" if "processes" in sample else "top")]

    def figure(self, path: str) -> float | None:
        """A number of the last sample by its path (`tree.rss_bytes`)."""
        return number_at(self.sample, path)


class History:
    """Cores, memory and bytes a second of the last samples, each None where it is not known; and the largest ever."""

    def __init__(self) -> None:
        self.cores: deque[float | None] = deque(maxlen=KEPT)
        self.memory: deque[float | None] = deque(maxlen=KEPT)
        self.io: deque[float | None] = deque(maxlen=KEPT)
        self.read: float | None = None
        self.write: float | None = None
        self.received: float | None = None
        self.sent: float | None = None
        self._before: dict[str, float] = {}

    def enter(self, sample: JsonObject, what: str) -> None:
        """The next sample; `what`: tree or system."""
        section = section_at(sample, what)
        if not section:
            return  # the machine is not read in each sample at high rates
        seconds = self._seconds(sample)
        disk = section_at(section, "disk") if what == "system" else section
        memory = section_at(section, "memory") if what == "system" else section
        used = number(memory.get("used_bytes")) if what == "system" else memory_of(memory)
        self.read = self._rate("read_bytes", disk, seconds)
        self.write = self._rate("write_bytes", disk, seconds)
        network = section_at(sample, "system.network")
        self.received = self._rate("received_bytes", network, seconds)
        self.sent = self._rate("sent_bytes", network, seconds)
        self.cores.append(number(section.get("cpu_cores")))
        self.memory.append(used)
        self.io.append(total([self.read, self.write]))

    def _seconds(self, sample: JsonObject) -> float | None:
        """Since the last sample that told anything."""
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
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
