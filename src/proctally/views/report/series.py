"""What a record says over time, read in one pass into arrays of floats: one column for each line of a chart.

plots.py says which. Counters become rates between two samples; what is not known is NaN, and a gap in the
chart. A record of a day at 1 Hz is some 150 MB of text and 20 MB of columns.
"""

from __future__ import annotations

from array import array
from heapq import heappush, heappushpop
from itertools import compress
from operator import mul

from proctally.analysis.evidence import Evidence
from proctally.record.catalogue import glance
from proctally.record.reader import Reading
from proctally.record.values import NAN, number_or_nan, objects_at, value_at
from proctally.views.report.plots import EXTRA, PLOTS, Line, Plot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.record.catalogue import Past

MOST_PROCESSES = 2000  # kept for the timeline, those that lasted longest or used most
KEPT = ("pid", "command", "started_at", "ended_at", "cpu_seconds", "peak_rss_bytes", "exit")  # of each
MOST_PHASES = 1000
MOST_GPUS = 8  # with a line of their own
FRESH_SECONDS = 2.5  # a reading of a source that is not read with every sample stands for so long
SHORT = 0.25  # of the interval: a sample so soon after another has its rates from the one before


class Story:
    """A record as it is told: its two ends, its columns, its phases and processes.

    `times`: seconds since the start, ascending; `columns`: as long as that, NaN where nothing is known. `evidence`:
    what it proves of what to request. `seen`: how many `process` lines there were; `processes`: those that are kept.
    """

    def __init__(self, past: Past) -> None:
        self.past = past
        self.evidence = Evidence(past.path)
        self.times = array("d")
        self.columns: dict[str, array[float]] = {}
        self.gpus: dict[int, str] = {}  # those with lines of their own
        self.host: JsonObject = {}
        self.phases: list[JsonObject] = []
        self.phases_left_out = 0
        self.processes: list[JsonObject] = []
        self.seen = 0
        self.samples = 0
        self.replaced = 0  # values of a wrong type
        self.last: JsonObject = {}  # the last sample
        self._courses: dict[str, Course] = {}

    @property
    def run(self) -> JsonObject:
        """The first line."""
        return self.past.run

    @property
    def summary(self) -> JsonObject:
        """The last line; empty where there is none."""
        return self.past.summary or {}

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.past.name or str(self.run.get("kind") or "run")

    @property
    def wall_seconds(self) -> float:
        """From start to end, or to the last sample."""
        wall = number_or_nan(self.summary.get("wall_seconds"))
        return max([value for value in (wall, *self.times[-1:]) if value == value], default=0.0)

    def course(self, key: str) -> Course:
        """What is to be said of a column as a whole; it is worked out once."""
        found = self._courses.get(key)
        if found is None:
            found = self._courses[key] = Course(self.times, self.columns.get(key) or array("d"))
        return found

    def peak(self, key: str) -> float | None:
        """The largest value of a column; None where nothing is known."""
        return self.course(key).peak

    def mean(self, key: str) -> float | None:
        """The mean of a column over time, each value for the interval that it ends; None where nothing is known."""
        return self.course(key).mean


class Course:
    """A column as a whole: its largest value, when that was, and its mean over time; None where nothing is known."""

    __slots__ = ("mean", "peak", "peak_at")

    def __init__(self, times: array[float], column: array[float]) -> None:
        spans = [now - before for before, now in zip(times, times[1:], strict=False)]
        values = column[1:]
        known = [value == value for value in values]
        if not all(known):
            spans, values = list(compress(spans, known)), array("d", compress(values, known))
        weight = sum(spans[: len(values)])
        self.mean = sum(map(mul, values, spans)) / weight if weight > 0 else None
        self.peak: float | None = max((value for value in (*column[:1], *values) if value == value), default=None)
        self.peak_at = None if self.peak is None else times[column.index(self.peak)]


class Source:
    """What of a sample is read together: the fields of one object, and what they said last."""

    __slots__ = ("before", "earlier", "fields", "path", "read_at", "said")

    def __init__(self, path: str, fields: list[tuple[str, bool, array[float]]]) -> None:
        self.path = path
        self.fields = fields
        self.before: tuple[float, list[float]] | None = None  # the last reading: when, and what
        self.earlier: tuple[float, list[float]] | None = None  # the one before
        self.said = [NAN] * len(fields)
        self.read_at = NAN

    def take(self, sample: JsonObject, elapsed: float, interval: float) -> None:
        """Add a row to each column."""
        found = value_at(sample, self.path)
        if found is None:
            if not elapsed - self.read_at <= max(FRESH_SECONDS, 1.5 * interval):
                self.said = [NAN] * len(self.fields)
            for (_, _, column), value in zip(self.fields, self.said, strict=True):
                column.append(value)
            return
        raw = [NAN if (value := found.get(name)) is None else value for name, _, _ in self.fields]
        base = self.before
        if base is not None and elapsed - base[0] < SHORT * interval and self.earlier is not None:
            base = self.earlier
        for index, (_, is_rate, column) in enumerate(self.fields):
            value = _rate(base, index, raw[index], elapsed) if is_rate else raw[index]
            self.said[index] = value
            column.append(value)
        self.earlier, self.before, self.read_at = self.before, (elapsed, raw), elapsed


def _rate(base: tuple[float, list[float]] | None, index: int, value: float, elapsed: float) -> float:
    """Per second since `base`; NaN where that is not known, or the counter fell."""
    if base is None or elapsed <= base[0]:
        return NAN
    rise = value - base[1][index]
    return rise / (elapsed - base[0]) if rise >= 0 else NAN


class Devices:
    """The columns of GPUs: the sum of each field, and the first few one by one."""

    FIELDS = ("utilization_ratio", "memory_used_bytes", "power_watts")

    def __init__(self, columns: dict[str, array[float]], names: dict[int, str]) -> None:
        self.columns = columns
        self.names = names
        self.rows = 0
        self.said: dict[str, float] = {}
        for field in self.FIELDS:
            columns[f"gpus.{field}"] = array("d")

    def take(self, sample: JsonObject) -> None:
        """Add a row; a sample in which they were not read says what the last one did."""
        if sample.get("gpus") is not None:
            gpus = objects_at(sample, "gpus")
            self.said = {}
            for field in self.FIELDS:
                values = [number_or_nan(gpu.get(field)) for gpu in gpus]
                self.said[f"gpus.{field}"] = sum(values) if values else NAN
                for index, value in enumerate(values[:MOST_GPUS]):
                    self._name(index, gpus[index])
                    self.said[f"gpu{index}.{field}"] = value
        for key, value in self.said.items():
            column = self.columns.setdefault(key, array("d"))
            column.extend([NAN] * (self.rows - len(column)))
            column.append(value)
        self.rows += 1

    def _name(self, index: int, gpu: JsonObject) -> None:
        if index not in self.names:
            self.names[index] = f"GPU {gpu.get('index', index)} {gpu.get('name') or ''}".strip()

    def skip(self) -> None:
        """Add a row of which nothing is known."""
        self.rows += 1

    def close(self) -> None:
        """Make all columns equally long."""
        for key, column in self.columns.items():
            if key.startswith("gpu"):
                column.extend([NAN] * (self.rows - len(column)))


def collect(path: str) -> Story:
    """Read a record. Raises NoRecord, OSError."""
    story = Story(glance(path))
    sources = _sources(story.columns)
    devices = Devices(story.columns, story.gpus)
    asked = number_or_nan(story.run.get("interval_seconds"))
    begun: dict[str, list[JsonObject | None]] = {}
    kept: list[tuple[float, int, JsonObject]] = []
    reading = Reading(path)
    for line in reading.lines():
        what = line["type"]
        story.evidence.take(story.run if what == "run" else line)  # a command line can be long: one copy
        if what == "sample":
            _take(story, sources, devices, line, asked)
        elif what == "process":
            _keep(story, kept, line)
        elif what == "phase":
            _phase(story, begun, line)
        elif what == "host":
            story.host = line
    story.replaced = reading.replaced
    devices.close()
    story.processes = [line for _, _, line in sorted(kept, key=lambda one: -one[0])]
    return story


def _sources(columns: dict[str, array[float]]) -> list[Source]:
    fields: dict[str, list[tuple[str, bool, array[float]]]] = {}
    for line in [*EXTRA, *(line for plot in PLOTS for line in plot.lines)]:
        if line.scope != "gpus":
            columns[line.key] = array("d")
            path, _, name = line.key.rpartition(".")
            fields.setdefault(path, []).append((name, line.is_rate, columns[line.key]))
    return [Source(path, found) for path, found in fields.items()]


def _take(story: Story, sources: list[Source], devices: Devices, line: JsonObject, asked: float) -> None:
    elapsed = number_or_nan(line.get("elapsed_seconds"))
    times = story.times
    if not elapsed >= 0 or (times and elapsed < times[-1]):  # unknown, or of no time of this run
        return
    interval = number_or_nan(line.get("interval_seconds"))
    asked = asked if asked == asked else 1.0
    if times and interval == interval and elapsed - times[-1] - interval > max(0.5, asked):
        _gap(story, sources, devices, times[-1] + (elapsed - times[-1]) / 2)
    times.append(elapsed)
    for source in sources:
        source.take(line, elapsed, asked)
    devices.take(line)
    story.samples += 1
    story.last = line


def _gap(story: Story, sources: list[Source], devices: Devices, at: float) -> None:
    """While the job stood still nothing was sampled."""
    story.times.append(at)
    for source in sources:
        source.before = source.earlier = None
        for _, _, column in source.fields:
            column.append(NAN)
    devices.skip()


def _keep(story: Story, kept: list[tuple[float, int, JsonObject]], line: JsonObject) -> None:
    began, ended = number_or_nan(line.get("started_at")), number_or_nan(line.get("ended_at"))
    if began != began:
        return
    story.seen += 1
    used = number_or_nan(line.get("cpu_seconds"))
    life = ended - began if ended == ended else float("inf")
    row = (max(life, used if used == used else 0.0), -story.seen, {name: line.get(name) for name in KEPT})
    if len(kept) < MOST_PROCESSES:
        heappush(kept, row)
    else:
        heappushpop(kept, row)


def _phase(story: Story, begun: dict[str, list[JsonObject | None]], line: JsonObject) -> None:
    """Phases of one name may be nested: an end belongs to the last one, None where that is left out."""
    name, at = str(line.get("name")), number_or_nan(line.get("elapsed_seconds"))
    if at != at:  # as older records have it
        at = number_or_nan(line.get("at")) - number_or_nan(story.run.get("started_at"))
    if at != at:
        return
    if line.get("event") == "begin":
        if len(story.phases) < MOST_PHASES:
            cpu = number_or_nan(line.get("cpu_seconds"))
            story.phases.append({"name": name, "begin": at, "end": None, "cpu": cpu, "used": None})
            begun.setdefault(name, []).append(story.phases[-1])
        else:
            story.phases_left_out += 1
            if name in begun:
                begun[name].append(None)
    elif begun.get(name) and (phase := begun[name].pop()) is not None:
        phase["end"] = at
        used = number_or_nan(line.get("cpu_seconds")) - number_or_nan(phase["cpu"])
        phase["used"] = used if used == used else None


def lines_of(story: Story, plot: Plot) -> list[Line]:
    """The lines of a chart that have something to show."""
    rows: list[Line] = list(plot.lines)
    for field in Devices.FIELDS:
        if any(line.key == f"gpus.{field}" for line in plot.lines) and len(story.gpus) > 1:
            rows += [Line(f"gpu{index}.{field}", name, of=f"gpus.{field}") for index, name in story.gpus.items()]
    return [line for line in rows if story.peak(line.key) or (story.peak(line.key) == 0 and not line.dull)]


def shown(story: Story) -> tuple[list[tuple[Plot, list[Line]]], list[str], list[str]]:
    """The charts with their lines; the titles of those without data; the titles of those that are zero throughout."""
    charts, empty, flat = [], [], []
    for plot in PLOTS:
        rows = lines_of(story, plot)
        if any(story.peak(line.key) for line in rows):
            charts.append((plot, rows))
        elif any(story.peak(line.key) is not None for line in plot.lines):
            flat.append(plot.title)
        else:
            empty.append(plot.title)
    return charts, empty, flat
