"""What there is to see at one moment, and how it came to be: no word here of how it looks."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

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
KEPT = 600  # moments of history: more than the widest terminal shows


class CannotShow(Exception):
    """There is nothing to show, or no way to; in one line."""


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

    def __init__(self, told: dict[str, Any]) -> None:
        self.pid = _whole(told.get("pid")) or 0
        self.parent = _whole(told.get("parent"))
        self.command = str(told.get("command") or "")
        self.state = str(told.get("state") or "")
        self.figures = Figures(number(told.get(key)) for key in KEYS)


class Scene:
    """Everything that the live view tells; who follows a record or samples a tree fills it in.

    `of_machine`: it is of the whole machine, without a tree. `is_whole`: `processes` are all there are, else the
    largest few. `sources`: totals of CPU seconds by where they are from. `ending`: lines that tell how it ended, None
    while it goes on. `notes`: what the watcher should know, a sentence each. `line_of`: the command line of a process.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.identity = ""
        self.root: int | None = None
        self.of_machine = False
        self.is_whole = False
        self.sample: dict[str, Any] = {}
        self.processes: list[Process] = []
        self.sources: dict[str, float] = {}
        self.phases: list[str] = []
        self.limits: dict[str, Any] = {}
        self.memory_total: float | None = None
        self.cpus: float | None = None
        self.notes: list[str] = []
        self.ending: list[str] | None = None
        self.line_of: Callable[[Process], str] = lambda process: process.command
        self.history = History()

    def enter(self, sample: dict[str, Any]) -> None:
        """The next sample."""
        self.sample = sample
        self.history.enter(sample, "system" if self.of_machine else "tree")
        found = sample.get("processes", sample.get("top"))
        self.processes = [Process(told) for told in found if isinstance(told, dict)] if isinstance(found, list) else []

    def figure(self, path: str) -> float | None:
        """A number of the last sample by its path (`tree.rss_bytes`)."""
        value: Any = self.sample
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return number(value)


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

    def enter(self, sample: dict[str, Any], what: str) -> None:
        """The next sample; `what`: tree or system."""
        section = _section(sample, what)
        if not section:
            return  # the machine is not read in each sample at high rates
        seconds = self._seconds(sample)
        disk = _section(section, "disk") if what == "system" else section
        memory = _section(section, "memory") if what == "system" else section
        used = number(memory.get("used_bytes")) if what == "system" else memory_of(memory)
        self.read = self._rate("read_bytes", disk, seconds)
        self.write = self._rate("write_bytes", disk, seconds)
        network = _section(_section(sample, "system"), "network")
        self.received = self._rate("received_bytes", network, seconds)
        self.sent = self._rate("sent_bytes", network, seconds)
        self.cores.append(number(section.get("cpu_cores")))
        self.memory.append(used)
        self.io.append(total([self.read, self.write]))

    def _seconds(self, sample: dict[str, Any]) -> float | None:
        """Since the last sample that told anything."""
        now = number(sample.get("elapsed_seconds"))
        before = self._before.get("elapsed_seconds")
        if now is not None:
            self._before["elapsed_seconds"] = now
        return None if now is None or before is None or now <= before else now - before

    def _rate(self, name: str, section: dict[str, Any], seconds: float | None) -> float | None:
        now = number(section.get(name))
        before = self._before.get(name)
        if now is not None:
            self._before[name] = now
        return None if now is None or before is None or seconds is None else max(0.0, now - before) / seconds


def memory_of(tree: dict[str, Any]) -> float | None:
    """Memory of a tree: PSS, or RSS where that is not read."""
    pss = number(tree.get("pss_bytes"))
    return number(tree.get("rss_bytes")) if pss is None else pss


def total(values: list[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def number(value: Any) -> float | None:
    """A number that a view can show; None for anything else: a file may hold any JSON."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30:
        return value
    return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _section(line: dict[str, Any], name: str) -> dict[str, Any]:
    section = line.get(name)
    return section if isinstance(section, dict) else {}
