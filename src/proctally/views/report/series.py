"""The samples of a record as columns of single floats: one for each line of a chart (plots.py has the table).

Counters become rates between two samples. An unknown value is NaN, a gap in the chart. Rows are collected in blocks;
above MAX_ROWS the resolution is halved, so that memory is bounded.
"""

from __future__ import annotations

from array import array
from heapq import heappush, heappushpop
from itertools import compress
from operator import mul

from proctally.analysis.evidence import Evidence
from proctally.record.catalogue import glance
from proctally.record.reader import Reading
from proctally.record.schema import BYTES, CORES, MAX, RATIO, field
from proctally.record.values import NAN, number_at, number_or_nan, objects_at
from proctally.views.report.plots import PARTS, PLOTS, Line, Plot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.record import JsonObject
    from proctally.record.catalogue import Past

    Row = Sequence[float | None]

MAX_ROWS = 1 << 17  # a day and a half at 1 Hz; the page of more is slow in a browser
BLOCK = 1 << 10  # rows
MOST_PROCESSES = 2000  # kept for the timeline, those that lasted longest or used most
KEPT = ("pid", "command", "started_at", "ended_at", "cpu_seconds", "peak_rss_bytes", "exit")  # of each
MOST_PHASES = 1000
MOST_GPUS = 8  # with a line of their own
FRESH_SECONDS = 2.5  # a reading of a source that is not read with every sample stands for so long
SHORT = 0.25  # of the interval: a sample so soon after another has its rates from the one before
FLAT = 0.02  # of the largest value: a chart whose lines vary less is a line of words
LEAST = {CORES: 0.005, RATIO: 0.005, f"{BYTES}/s": 512.0}  # by unit: a chart below it is flat, too
SMALL_PART = 0.02  # of an interval: a part of the time that never has more is left out
WANTED = "tree.wanted_cores"
UNMET_CORES, UNMET_SHARE = 0.05, 0.03  # what was wanted is shown where it is so much above what was used


class Story:
    """A record as it is shown: its two ends, its columns, its phases and processes.

    `times`: seconds since the start, ascending; `columns`: as long as that, NaN where unknown. `per_row`: samples that
    one row stands for. `evidence`: what it proves of what to request. `seen`: number of `process` lines; `processes`:
    those that are kept.
    """

    def __init__(self, past: Past) -> None:
        self.past = past
        self.evidence = Evidence(past.path)
        self.times = array("d")
        self.columns: dict[str, array[float]] = {}
        self.per_row = 1
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

    @property
    def usable_cores(self) -> float | None:
        """Cores that the job could use: its limit, else those of the machine."""
        limits = (number_at(ends, "limits.cpu_cores") for ends in (self.summary, self.run))
        return next((cores for cores in (*limits, number_at(self.host, "cpus_online")) if cores), None)

    def course(self, key: str) -> Course:
        """Return the figures of a column as a whole; they are computed once."""
        found = self._courses.get(key)
        if found is None:
            found = self._courses[key] = Course(self.times, self.columns.get(key) or array("f"))
        return found

    def peak(self, key: str) -> float | None:
        """Return the largest value of a column; None where all are unknown."""
        return self.course(key).peak

    def mean(self, key: str) -> float | None:
        """Return the mean of a column over time, each value for the interval that it ends; None where unknown."""
        return self.course(key).mean


class Course:
    """A column as a whole: largest value, its time, least value, mean over time; None where unknown."""

    __slots__ = ("least", "mean", "peak", "peak_at")

    def __init__(self, times: array[float], column: array[float]) -> None:
        spans = [now - before for before, now in zip(times, times[1:], strict=False)]
        values = column[1:]
        known = [value == value for value in values]
        if not all(known):
            spans, values = list(compress(spans, known)), array("f", compress(values, known))
        weight = sum(spans[: len(values)])
        self.mean = sum(map(mul, values, spans)) / weight if weight > 0 else None
        values.extend(value for value in column[:1] if value == value)
        self.peak: float | None = max(values, default=None)
        self.least: float | None = min(values, default=None)
        self.peak_at = None if self.peak is None else times[column.index(self.peak)]


class Source:
    """The fields of a sample that are read together. `keys`: their columns; `rows`: those of the block."""

    def __init__(self, path: str, lines: Sequence[Line]) -> None:
        levels, rates = ([line for line in lines if line.is_rate is wanted] for wanted in (False, True))
        self.keys = [line.key for line in (*levels, *rates)]
        self.rows: list[Row] = []
        self._path = path.split(".")
        self._levels, self._rates = ([line.key.rpartition(".")[2] for line in kind] for kind in (levels, rates))
        self._nothing: Row = (None,) * len(self.keys)
        self._shown: Row = self._nothing
        self._unknown: Row = [None] * len(rates)
        self._before: tuple[float, Row] | None = None  # the last reading: when, and the counters
        self._earlier: tuple[float, Row] | None = None  # the one before
        self._read_at = NAN

    def take(self, sample: JsonObject, elapsed: float, interval: float) -> None:
        """Add a row."""
        found: JsonObject | None = sample.get(self._path[0])
        is_old = found is not None or elapsed - self._read_at > max(FRESH_SECONDS, 1.5 * interval)
        for name in self._path[1:]:
            found = found.get(name) if found else None
        if not found:
            if is_old:
                self._shown = self._nothing
            self.rows.append(self._shown)
            return
        get = found.get
        counters = [*map(get, self._rates)]
        base = self._before
        if base is not None and elapsed - base[0] < SHORT * interval and self._earlier is not None:
            base = self._earlier
        rates: Row = self._unknown
        if base is not None and elapsed > base[0]:
            seconds = elapsed - base[0]
            rates = [
                None if now is None or before is None or now < before else (now - before) / seconds
                for now, before in zip(counters, base[1], strict=True)
            ]
        self._shown = (*map(get, self._levels), *rates)
        self.rows.append(self._shown)
        self._earlier, self._before, self._read_at = self._before, (elapsed, counters), elapsed

    def skip(self) -> None:
        """Add a row of unknown values, and forget the reading."""
        self._before = self._earlier = None
        self._shown = self._nothing
        self.rows.append(self._nothing)


class Devices:
    """The columns of GPUs: the sum of each field, and the first few one by one."""

    FIELDS = ("utilization_ratio", "memory_used_bytes", "power_watts")

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.rows: list[dict[str, float | None]] = []
        self._shown: dict[str, float | None] = {}

    def take(self, sample: JsonObject) -> None:
        """Add a row; a sample in which they were not read repeats the last one."""
        if sample.get("gpus") is not None:
            self._shown = {}
            if gpus := objects_at(sample, "gpus"):
                self._read(gpus)
        self.rows.append(self._shown)

    def _read(self, gpus: list[JsonObject]) -> None:
        for index, gpu in enumerate(gpus[:MOST_GPUS]):
            self.names.setdefault(index, f"GPU {gpu.get('index', index)} {gpu.get('name') or ''}".strip())
        for name in self.FIELDS:
            values = [gpu.get(name) for gpu in gpus]
            self._shown[f"gpus.{name}"] = sum(map(number_or_nan, values))
            self._shown |= {f"gpu{index}.{name}": value for index, value in enumerate(values[:MOST_GPUS])}

    def skip(self) -> None:
        """Add a row of unknown values."""
        self.rows.append({})


class Table:
    """The columns of a record while it is read."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._halvings = 0
        self._times: list[float] = []  # of the block
        fields: dict[str, list[Line]] = {}
        for line in (line for plot in PLOTS for line in plot.lines):
            if line.key != WANTED and line.scope != "gpus":
                fields.setdefault(line.key.rpartition(".")[0], []).append(line)
        self._sources = [Source(path, lines) for path, lines in fields.items()]
        self._devices = Devices(story.gpus)
        self._asked = number_or_nan(story.run.get("interval_seconds"))
        self._asked = self._asked if self._asked == self._asked else 1.0
        self._last = -1.0
        for key in (key for source in self._sources for key in source.keys):
            story.columns[key] = array("f")

    def take(self, sample: JsonObject) -> bool:
        """Add a row for a sample; return False where its time is unknown or of another run."""
        elapsed, interval = number_or_nan(sample.get("elapsed_seconds")), number_or_nan(sample.get("interval_seconds"))
        if not elapsed >= 0 or elapsed < self._last:
            return False
        pause = elapsed - self._last - interval
        if self._last >= 0 and pause > max(0.5, self._asked):  # nothing was sampled while the job was stopped
            self._times.append(elapsed - (elapsed - self._last) / 2)
            for source in self._sources:
                source.skip()
            self._devices.skip()
        self._last = elapsed
        self._times.append(elapsed)
        if tree := sample.get("tree"):
            without_stale(tree)
        for each in self._sources:
            each.take(sample, elapsed, self._asked)
        self._devices.take(sample)
        if len(self._times) >= BLOCK:
            self._flush()
        return True

    def _flush(self) -> None:
        """Add the block to the columns."""
        if not self._times:
            return
        story, start = self._story, len(self._story.times)
        block = {
            key: values
            for source in self._sources
            for key, values in zip(source.keys, zip(*source.rows, strict=True), strict=True)
        }
        for key in dict.fromkeys(key for row in self._devices.rows for key in row):
            block[key] = tuple(row.get(key) for row in self._devices.rows)
        for key, values in block.items():
            column = story.columns.setdefault(key, array("f"))
            column.extend([NAN] * (start - len(column)))  # of a GPU that comes late
            column.extend(self._halved(key, singles(values)))
        story.times.extend(self._halved("", array("d", self._times)))
        for source in self._sources:
            source.rows.clear()
        self._devices.rows.clear()
        self._times.clear()
        if len(story.times) > MAX_ROWS:
            story.times = halved("", story.times)
            for key, column in story.columns.items():
                column.extend([NAN] * (start - len(column)))
                story.columns[key] = halved(key, column)
            self._halvings += 1

    def _halved(self, key: str, values: array[float]) -> array[float]:
        for _ in range(self._halvings):
            values = halved(key, values)
        return values

    def close(self) -> None:
        """Make all columns as long as the times, and add those that are computed from others."""
        self._flush()
        story = self._story
        for column in story.columns.values():
            column.extend([NAN] * (len(story.times) - len(column)))
        story.per_row = 1 << self._halvings
        for plot in (plot for plot in PLOTS if plot.most):
            for key in (line.key for line in plot.lines):
                story.columns[key] = array("f", [min(value, plot.most) for value in story.columns[key]])
        used, ready = story.columns["tree.cpu_cores"], story.columns["tree.run_delay_seconds"]
        most = story.usable_cores or float("inf")
        # unknown where either is: NaN comes first
        wanted = (max(min(cores + more, most), cores) for cores, more in zip(used, ready, strict=True))
        story.columns[WANTED] = array("f", wanted)


LEVELS = [
    line.key.rpartition(".")[2]
    for plot in PLOTS
    for line in plot.lines
    if line.scope == "tree" and line.key != WANTED and field(line.key).aggregate == MAX
]


def without_stale(tree: JsonObject) -> None:
    """Remove a partial sum, and the levels of a tree that has exited: they are no drop to 0."""
    if tree.get("pss_unread"):
        tree["pss_bytes"] = None
    if tree.get("processes") == 0:
        tree.update(dict.fromkeys(LEVELS))


def singles(values: Row) -> array[float]:
    """Return values as single floats, NaN where unknown."""
    try:
        return array("f", values)  # type: ignore[arg-type]
    except TypeError:
        return array("f", [NAN if value is None else value for value in values])


def halved(key: str, column: array[float]) -> array[float]:
    """Return one row for two: of times the later, of levels the larger, else the mean; NaN where both are unknown."""
    rest = column[-1:] if len(column) % 2 else column[:0]
    pairs = zip(column[::2], column[1::2], strict=False)
    if not key:
        return column[1::2] + rest
    if key.rpartition(".")[2] in LEVELS:
        found = [(first if first > second else second) if second == second else first for first, second in pairs]
        return array("f", found) + rest
    both = [(total / 2 if (total := first + second) == total else first if first == first else second)
            for first, second in pairs]  # fmt: skip
    return array("f", both) + rest


def collect(path: str) -> Story:
    """Read a record. Raises NoRecord, OSError."""
    story = Story(glance(path))
    table = Table(story)
    begun: dict[str, list[JsonObject | None]] = {}
    kept: list[tuple[float, int, JsonObject]] = []
    reading = Reading(path)
    for line in reading.lines():
        what = line["type"]
        story.evidence.take(story.run if what == "run" else line)  # a command line can be long: one copy
        if what == "sample":
            if table.take(line):
                story.samples += 1
                story.last = line
        elif what == "process":
            _keep(story, kept, line)
        elif what == "phase":
            _phase(story, begun, line)
        elif what == "host":
            story.host = line
    story.replaced = reading.replaced
    table.close()
    story.processes = [line for _, _, line in sorted(kept, key=lambda one: -one[0])]
    return story


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
    """Return the lines of a chart that have something to show."""
    rows: list[Line] = list(plot.lines)
    for name in Devices.FIELDS:
        if any(line.key == f"gpus.{name}" for line in plot.lines) and len(story.gpus) > 1:
            rows += [Line(f"gpu{index}.{name}", label, of=f"gpus.{name}") for index, label in story.gpus.items()]
    if story.peak(rows[0].key) is not None:
        rows = [line for line in rows if not line.older]
    if plot.key == "cpu" and not _is_held_up(story):
        rows = rows[:1]
    least = SMALL_PART if plot.key == PARTS else 0.0
    return [
        line
        for line in rows
        if (peak := story.peak(line.key)) is not None and (peak > least or (peak == 0 and not line.dull))
    ]


def _is_held_up(story: Story) -> bool:
    """Return whether the job ever wanted notably more cores than it used."""
    least = max(UNMET_CORES, UNMET_SHARE * (story.peak(WANTED) or 0.0))
    pairs = zip(story.columns["tree.cpu_cores"], story.columns[WANTED], strict=True)
    return any(wanted - used > least for used, wanted in pairs)


def shown(story: Story) -> tuple[list[tuple[Plot, list[Line]]], list[str], list[str]]:
    """Return the charts with their lines, the titles of those without data, and of those that are zero throughout."""
    charts, empty, flat = [], [], []
    has_parts = story.peak("tree.time.running_seconds") is not None
    for plot in PLOTS:
        rows = lines_of(story, plot)
        if plot.key == "waiting" and has_parts:  # the parts of the time show more
            continue
        if any(story.peak(line.key) for line in rows):
            charts.append((plot, rows))
        elif any(story.peak(line.key) is not None for line in plot.lines):
            flat.append(plot.title)
        else:
            empty.append(plot.title)
    return charts, empty, flat


def is_flat(story: Story, plot: Plot, rows: Sequence[Line]) -> bool:
    """Return whether nothing of a chart changes, so that words show as much."""
    courses = [story.course(row.key) for row in rows]
    top = max(course.peak or 0.0 for course in courses)
    moved = max((course.peak or 0.0) - (course.least or 0.0) for course in courses)
    return top < LEAST.get(plot.unit, 0.0) or moved <= FLAT * top
