"""What exporters tell: the newest of everything in the lines of a record, in bounded space.

A tracker's lines go in one by one (`feed`); nothing grows with the time a run takes. Labels come from strangers
(commands, phases, pids), and each of them makes a series of its own: there are at most so many, the rest is folded.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import isfinite

from proctally.record.schema import BY_PATH, COUNTER, LOST, RUNNING, STATES, names
from proctally.record.values import objects_at, section_at, value_at
from proctally.text.escape import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeGuard

    from proctally.record import JsonObject
    from proctally.record.schema import Field

    Row = tuple[tuple[str, ...], Any]
    Source = str | tuple[tuple[str, ...], ...] | Callable[[Any], Iterable[Row]]  # where the values of a metric are

COMMANDS = 50  # series of their own; the time of all other commands is in one
OTHER = "other"
PHASES = 20
PROCESSES = 1000  # of which gauges are told one by one, the largest first
SECTIONS = ("tree", "system", "cgroup")  # of a sample
JITTERS = names("system", COUNTER)  # the kernel reads them without a lock: one can be a little less than before
SHRINKS = tuple((sums, names(f"system.{sums}", COUNTER)) for sums in ("disk", "network"))  # a device can go
LARGEST = 1 << 63


def described(source: object) -> Field | None:
    """Return the field of a metric that is one plain field: of `summary.x|tree.x` the first that is in the table."""
    if not isinstance(source, str):
        return None
    return next((BY_PATH[path] for path in source.split("|") if path in BY_PATH), None)


def fits(value: object) -> TypeGuard[int | float]:
    """Return whether every receiver can take this number: whole ones have 64 bits, others are finite."""
    if isinstance(value, int):
        return -LARGEST <= value < LARGEST
    return isinstance(value, float) and isfinite(value)


def _known(value: object) -> float | None:
    return value if fits(value) else None


def program(run: JsonObject) -> str | None:
    """Return the name of the program that a run started, without its arguments; None without one."""
    command = run.get("command")
    first = command[0] if isinstance(command, list) and command else None
    return first.rpartition("/")[2] if isinstance(first, str) else None


def sentence(field: Field | None) -> str:
    """Return the help of a field as a sentence."""
    return "" if field is None else f"{field.help[0].upper()}{field.help[1:]}."


@dataclass(slots=True)
class Delivery:
    """What one way out has brought to its receiver: how often that worked and did not, and what was given up.

    `trouble`: why it did not work the last time, None when it did.
    """

    done: int = 0
    failed: int = 0
    dropped: int = 0
    trouble: str | None = None

    def succeeded(self) -> None:
        """It worked."""
        self.done += 1
        self.trouble = None

    def failed_by(self, trouble: str) -> None:
        """It did not, for this reason."""
        self.failed += 1
        self.trouble = trouble


class Latest:
    """The newest state of one run. `version` changes with each line; `lock` is to be held while it is read as a whole.

    `run`, `host`, `devices`, `sample`, `tracker`, `summary`: the newest line of that type, None before there is one.
    `processes`: of the newest line of gauges, the largest first. `omitted`: how many of these were left out.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.version = 0
        self.samples = 0
        self.run: JsonObject = {}
        self.host: JsonObject | None = None
        self.devices: JsonObject | None = None
        self.sample: JsonObject | None = None
        self.tracker: JsonObject | None = None
        self.summary: JsonObject | None = None
        self.processes: list[JsonObject] = []
        self.omitted = 0
        self.members: list[JsonObject] = []
        self.commands = Slots(COMMANDS)
        self.started: int | None = None
        self.ended: int | None = None
        self.phases: dict[str, int] = {}
        self.peak_rss: int | None = None
        self.peak_pss: int | None = None
        self.peak_low: int | None = None
        self.peak_high: int | None = None
        self.dropped = 0
        self.lost_at: float | None = None
        self.deliveries: dict[str, Delivery] = {}  # by sink; each is written by its own thread alone
        self._gpus: dict[str, JsonObject] = {}
        self._held: dict[str, float] = {}
        self._sums: dict[str, tuple[int, int]] = {}  # of devices: as last told, and as told on

    def feed(self, line: JsonObject) -> None:
        """One line; of a type that is not known nothing is taken."""
        take = getattr(self, f"_take_{line.get('type')}", None)
        if take is None:
            return
        line = {name: _fitting(each) for name, each in line.items()}
        with self.lock:
            take(line)
            self.version += 1

    def tracker_lost(self, at: float) -> None:
        """There will be no more lines, and there was no summary. `at`: Unix seconds of now."""
        with self.lock:
            self.lost_at = at
            self.version += 1

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.summary is not None:
            verdict = self.summary.get("verdict")
            return verdict if verdict in STATES else "ended"
        return RUNNING if self.lost_at is None else LOST

    @property
    def at(self) -> float | None:
        """Unix seconds of the newest sample, or of the end: a receiver takes one value for a moment, not another."""
        if self.summary is not None:
            return _known(self.summary.get("ended_at"))
        if self.lost_at is not None:
            return self.lost_at
        return _known(self.run.get("started_at") if self.sample is None else self.sample.get("at"))

    def value(self, path: str) -> Any:
        """Return the value at a path such as `tree.rss_bytes`; None without one."""
        return value_at(self.sample if path.partition(".")[0] in SECTIONS else vars(self), path)

    def known(self, paths: str, *, largest: bool) -> Any:
        """Return the first known value of several paths with `|` between them, or the largest one."""
        found = [value for path in paths.split("|") if (value := self.value(path)) is not None]
        return None if not found else max(found) if largest else found[0]

    def gpus(self) -> list[JsonObject] | None:
        """The GPUs of the newest sample, with the facts that are told only when they change."""
        found = None if self.sample is None else self.sample.get("gpus")
        return None if found is None else [self._gpus.get(_identity(gpu), {}) | gpu for gpu in found]

    # -- by type -------------------------------------------------------------------------------------------------

    def _take_run(self, line: JsonObject) -> None:
        self.run = line

    def _take_host(self, line: JsonObject) -> None:
        self.host = line
        self._note_gpus(line.get("gpus"))

    def _take_devices(self, line: JsonObject) -> None:
        self.devices = line

    def _take_sample(self, line: JsonObject) -> None:
        self.sample = line
        self.samples += 1
        self._note_gpus(line.get("gpus"))
        self._let_none_fall(line.get("system") or {})
        tree = line.get("tree") or {}
        self.peak_rss = _largest(self.peak_rss, tree.get("rss_bytes"))
        self.peak_pss = _largest(self.peak_pss, tree.get("pss_bytes"))
        self.peak_low = _largest(self.peak_low, tree.get("memory_low_bytes"))
        self.peak_high = _largest(self.peak_high, tree.get("memory_high_bytes"))

    def _let_none_fall(self, system: JsonObject) -> None:
        """A counter that falls by a hair would be taken for one that began anew, and all of it for growth.

        With a device its part of a sum goes: the others' growth is told on.
        """
        for name in JITTERS:
            if (now := system.get(name)) is not None:
                system[name] = self._held[name] = max(now, self._held.get(name, now))
        for section, summed in SHRINKS:
            counters = system.get(section) or {}
            for name in summed:
                if (now := counters.get(name)) is not None:
                    before, told = self._sums.get(name, (now, now))
                    counters[name] = told = told + max(0, now - before)
                    self._sums[name] = now, told

    def _note_gpus(self, gpus: list[JsonObject] | None) -> None:
        for gpu in gpus or []:
            if "vendor" in gpu:  # one that has the facts
                self._gpus[_identity(gpu)] = gpu

    def _take_gauges(self, line: JsonObject) -> None:
        listed = objects_at(line, "processes")
        found = sorted(listed, key=lambda process: process.get("rss_bytes") or 0, reverse=True)
        self.processes = found[:PROCESSES]
        self.omitted = line.get("process_count", len(found)) - len(self.processes)

    def _take_members(self, line: JsonObject) -> None:
        self.members = objects_at(line, "processes")[:PROCESSES]

    def _take_commands(self, line: JsonObject) -> None:
        self.commands.feed(line["commands"])
        self._count(line.get("started"), line.get("ended"))

    def _count(self, started: int | None, ended: int | None) -> None:
        self.started = _largest(self.started, started)
        self.ended = _largest(self.ended, ended)

    def _take_phase(self, line: JsonObject) -> None:
        name = label(line.get("name"))
        if name not in self.phases and len(self.phases) >= PHASES:
            name = OTHER
        begun = "begin" in [value for key, value in line.items() if key != "name"]
        self.phases[name] = max(0, self.phases.get(name, 0) + (1 if begun else -1))

    def _take_tracker(self, line: JsonObject) -> None:
        self.tracker = line

    def _take_summary(self, line: JsonObject) -> None:
        self.summary = line
        self.processes, self.members, self.omitted = [], [], 0  # those that live on are nobody's any more
        self.commands.feed([entry for entry in line.get("commands") or [] if not entry.get("folded")])
        processes = line.get("processes") or {}
        started, left = processes.get("started"), processes.get("left")
        self._count(started, None if started is None or left is None else max(0, started - left))

    def _take_dropped(self, line: JsonObject) -> None:
        self.dropped += line["lines"]


class Slots:
    """Counters by command in a bounded number of series, none of which ever falls while it is there.

    What comes first has a series of its own; what comes when all are taken is counted in `other`. One of them that has
    grown to twice the smallest of the series takes its place, and begins at 0: what it had stays in `other`. The series
    of the smallest ends, and what it still grows by is in `other`; what it had is not added there: it would be growth a
    second time. So the growth of all is always that of the tree, and a series ends at most so often.

    A process that execs takes its time along to its new command, in the totals that are told. What a command had then
    stays with it here, where it was used, and the growth of the others is as much smaller.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[str | None, tuple[int, float]] = {}
        self._shown: dict[str, list[float]] = {}
        self._other = [0, 0.0]
        self._debt = 0.0  # seconds by which commands fell, and which the growth of others still has to make up for

    def feed(self, commands: list[JsonObject]) -> None:
        """The totals so far."""
        totals: dict[str | None, tuple[int, float]] = {}
        for entry in commands:  # None: the row of all others, and a command that has its label
            name = None if entry.get("folded") or entry.get("unlisted") else label(entry["command"])
            name = None if name == OTHER else name
            processes, cpu = totals.get(name, (0, 0.0))
            totals[name] = processes + (entry.get("processes") or 0), cpu + (entry.get("cpu_seconds") or 0.0)
        seen = self._seen
        grown: dict[str | None, tuple[int, float]] = {}
        for name, (processes, cpu) in totals.items():
            before = seen.get(name, (0, 0.0))
            grown[name] = (max(0, processes - before[0]), max(0.0, cpu - before[1]))
            self._debt += max(0.0, before[1] - cpu)
            seen[name] = (max(before[0], processes), cpu)
        rise = sum(cpu for _, cpu in grown.values())
        made_up = min(self._debt, rise)
        self._debt -= made_up
        share = (rise - made_up) / rise if rise else 0.0
        promoted = {name for name in grown if self._takes_a_place(name)}
        for name, (processes, cpu) in grown.items():
            row = self._other if name in promoted else self._row(name)
            row[0] += processes
            row[1] += cpu * share
        if len(seen) > 20 * self._most:  # those that are not told any more
            self._seen = {name: total for name, total in seen.items() if name in grown or name in self._shown}

    def _takes_a_place(self, name: str | None) -> bool:
        """Whether it has grown so much that it takes the place of another; then that is done."""
        seen, shown = self._seen, self._shown
        if name is None or name in shown or len(shown) < self._most:
            return False
        smallest = min(shown, key=lambda each: seen[each][1])
        if seen[name][1] <= 2 * seen[smallest][1] + 0.01:
            return False
        del shown[smallest]
        shown[name] = [0, 0.0]
        return True

    def _row(self, name: str | None) -> list[float]:
        if name is None or (name not in self._shown and len(self._shown) >= self._most):
            return self._other
        return self._shown.setdefault(name, [0, 0.0])

    def rows(self) -> list[tuple[str, float, float]]:
        """(command, processes, CPU seconds), the others last."""
        rows = [(name, processes, cpu) for name, (processes, cpu) in self._shown.items()]
        processes, cpu = self._other
        return [*rows, (OTHER, processes, cpu)] if processes or cpu else rows


# -- rows of metrics: (values of the labels, value) ------------------------------------------------------------------


def commands(place: int) -> Callable[[Latest], Iterator[Row]]:
    """By command: 1 the processes, 2 the CPU seconds."""
    return lambda latest: (((row[0],), row[place]) for row in latest.commands.rows())


def sources(name: str) -> Callable[[Latest], Iterator[Row]]:
    """Of each source that the tracker reads: `success` or `seconds`."""

    def rows(latest: Latest) -> Iterator[Row]:
        for each, values in section_at(latest.tracker, "sources").items():
            yield (each,), values.get(name)

    return rows


def deliveries(name: str) -> Callable[[Latest], Iterator[Row]]:
    """Of each sink: how often it `done` its work, `failed`, or `dropped` points."""
    return lambda latest: (((sink,), getattr(each, name)) for sink, each in latest.deliveries.items())


def _fitting(value: object) -> object:
    """Return the value with None for each number in it that does not fit: a maximum would keep it for good."""
    if isinstance(value, int):  # as `fits`, without a call: a line can have 10,000 numbers
        return value if -LARGEST <= value < LARGEST else None
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {name: _fitting(each) for name, each in value.items()}
    return [_fitting(each) for each in value] if isinstance(value, list) else value


def _identity(gpu: JsonObject) -> str:
    return str(gpu.get("uuid") or gpu.get("pci") or gpu.get("index"))


def _largest(so_far: int | None, now: int | None) -> int | None:
    return so_far if now is None else max(so_far or 0, now)
