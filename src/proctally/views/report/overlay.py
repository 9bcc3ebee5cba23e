"""Several runs: what differs between them first, then a chart for each thing to compare."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from statistics import median, quantiles

from proctally.record.values import NAN, objects_at, section_at
from proctally.text import words
from proctally.text.units import UNKNOWN, brief
from proctally.views import diff
from proctally.views.report import diagrams, head, run_facts
from proctally.views.report.charts import Chart
from proctally.views.report.drawings import COLOURS, HEAD_ROOM, entry, framed, spoken
from proctally.views.report.plots import PLOTS
from proctally.views.report.readout import tools
from proctally.views.report.series import Story

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.analysis.comparison import Diff, Side
    from proctally.record import JsonObject
    from proctally.views.report.charts import Canvas, Plots
    from proctally.views.report.run_facts import Facts

MOST_LINES = 8  # runs that are lines of a chart and rows of a diagram
POINTS = 400  # of a quartile over time
QUARTILES = ("lower quartile", "median", "upper quartile")
# columns of the charts: of each row the first that a run has
CHARTS = (
    ("tree.cpu_cores",),
    ("tree.memory_high_bytes", "tree.pss_bytes"),
    ("tree.time.ready_seconds", "tree.run_delay_seconds"),
    ("tree.write_bytes", "tree.read_bytes"),
)


# -- what differs ----------------------------------------------------------------------------------------------------


def view(facts: Sequence[Facts], split: int) -> JsonObject:
    """Return what the page of several runs shows apart from its charts."""
    names = run_facts.labels(facts)
    found = run_facts.compared(facts, split)
    figures = _compared(found) if found else _spread(run_facts.together(facts))
    common, apart = coverage(facts, names)
    return {
        "title": f"{len(facts)} runs" if found is None else f"{diff.title(found.base)} and {diff.title(found.new)}",
        "figures": figures,
        "runs": _runs(facts, names),
        "phases": phases(facts, names),
        "common": common,
        "apart": apart,
    }


def _compared(found: Diff) -> JsonObject:
    rows = []
    for row in diff.shown(found, verbose=False)[0]:
        base, new, *change = diff.cells(row)
        medians = [
            f"{text} ({spread})" if spread else text for text, spread in zip((base, new), diff.ranges(row), strict=True)
        ]
        rows.append([row.name, *medians, *change, diff.word(found, row)])
    most = diff.most_of_the_cpu(found)
    notes = [*([most] if most else []), *diff.remarks(found), *found.notes]
    return {"heads": ("Median", "BASE", "NEW", "change", "95 %", ""), "rows": rows, "notes": notes}


def _spread(side: Side) -> JsonObject:
    rows, note = diff.spread_rows(side)
    heads = ("Figure", *(name.lower() for name in diff.SPREAD_HEAD))
    return {"heads": heads, "rows": rows, "notes": [note] if note else []}


def _runs(facts: Sequence[Facts], names: Sequence[str]) -> list[JsonObject]:
    """Return the diagrams of each run, all on one scale of seconds and one of bytes."""
    longest = max((one.wall for one in facts), default=0.0)
    largest = max((one.memory.needed or 0.0 for one in facts), default=0.0)
    rows: list[JsonObject] = []
    for one, name in zip(facts, names, strict=True):
        scale = one.wall / longest if longest > 0 else 1.0
        rows.append(
            {
                "name": name,
                "verdict": one.verdict,
                "wall": brief(one.wall),
                "time": diagrams.time_bar(name, one.time, scale),
                "shares": one.time.text or UNKNOWN,
                "held": one.memory.short if one.memory.is_known else UNKNOWN,
                "bracket": diagrams.bracket(name, one.memory, one.limit_memory, most=largest),
            }
        )
    return rows


def phases(facts: Sequence[Facts], names: Sequence[str]) -> JsonObject | None:
    """Return the wall time of each phase by its name, a column for each run; of many runs the middle and the range."""
    found = [_walls(one) for one in facts]
    known = list(dict.fromkeys(name for walls in found for name in walls))
    if not known:
        return None
    if len(facts) <= MOST_LINES:
        rows = [[name, *(brief(walls[name]) if name in walls else "-" for walls in found)] for name in known]
        return {"heads": ("Phase", *names), "rows": rows}
    rows = []
    for name in known:
        values = [walls[name] for walls in found if name in walls]
        rows.append([name, str(len(values)), *map(brief, (median(values), min(values), max(values)))])
    return {"heads": ("Phase", "runs", "median", "least", "most"), "rows": rows}


def _walls(facts: Facts) -> dict[str, float]:
    """Return the seconds of each phase by its name."""
    walls: dict[str, float] = {}
    for phase in head.phases(facts):
        if phase["seconds"] is not None:
            walls[phase["name"]] = walls.get(phase["name"], 0.0) + phase["seconds"]
    return walls


def coverage(facts: Sequence[Facts], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what no run can see, and what some cannot, each with the names of these; without amounts."""
    texts: dict[tuple[str, ...], str] = {}
    runs: dict[tuple[str, ...], list[str]] = {}
    for one, name in zip(facts, names, strict=True):
        for key, text in _unseen(one).items():
            texts[key] = text
            runs.setdefault(key, []).append(name)
    common = [text for key, text in texts.items() if len(runs[key]) == len(facts)]
    apart = [f"{_some(runs[key])}: {text}" for key, text in texts.items() if len(runs[key]) < len(facts)]
    return common, apart


def _unseen(facts: Facts) -> dict[tuple[str, ...], str]:
    """Return the gaps and missing sources of a run, by their codes."""
    found: dict[tuple[str, ...], str] = {} if facts.whole else {("end",): "the record has no end"}
    for gap in objects_at(facts.story.summary, "gaps"):
        section, code = str(gap.get("section")), str(gap.get("code"))
        title = words.SECTIONS.get(section, UNKNOWN)
        found[section, code] = f"{title}: {words.gap({'section': section, 'code': code})}"
    for source, code in section_at(facts.story.summary, "cpu.unavailable").items():
        found["source", source, str(code)] = f"no {source}: {words.missing(code, source)}"
    return found


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


# -- charts ----------------------------------------------------------------------------------------------------------


def lines(facts: Sequence[Facts]) -> list[tuple[str, Story]]:
    """Return what is a line of each chart: the runs, or of many their quartiles."""
    stories = [one.story for one in facts]
    if len(facts) <= MOST_LINES:
        return list(zip(run_facts.labels(facts), stories, strict=True))
    longest = max(stories, key=lambda story: story.wall_seconds)
    times = array("d", (longest.wall_seconds * n / POINTS for n in range(1, POINTS + 1)))
    found = []
    for place, name in enumerate(QUARTILES):
        story = Story(longest.past)
        story.times = times
        story.columns = {key: _quartile(stories, key, times, place) for keys in CHARTS for key in keys}
        found.append((name, story))
    return found


def _quartile(stories: Sequence[Story], key: str, times: array[float], place: int) -> array[float]:
    """Return a quartile over the runs at each time: of those that still ran, as long as there are three."""
    column = array("f")
    for time in times:
        values = [value for story in stories if (value := _at(story, key, time)) == value]
        column.append(quantiles(values, n=4, method="inclusive")[place] if len(values) > 2 else NAN)
    return column


def _at(story: Story, key: str, time: float) -> float:
    """Return the value of the sample whose interval contains a time; NaN after the last one."""
    place = bisect_left(story.times, time)
    return story.columns[key][place] if place < len(story.times) else NAN


def charts_of(drawn: Sequence[tuple[str, Story]], canvas: Canvas, plots: Plots) -> str:
    """Return the controls and the charts; each chart is added to `plots` by its key."""
    known = {line.key: (plot, line) for plot in PLOTS for line in plot.lines}
    parts = []
    for keys in CHARTS:
        key = next((key for key in keys if any(story.peak(key) for _, story in drawn)), None)
        if key is None:
            continue
        plot, line = known[key]
        there = [(n, name, story) for n, (name, story) in enumerate(drawn) if story.peak(key)]
        peak = max(story.peak(key) or 0.0 for _, _, story in there)
        rows = [(key, n, name, COLOURS[n % len(COLOURS)], "solid") for n, name, _ in there]
        place, top = key.replace(".", "-"), plot.most or peak * HEAD_ROOM
        plots[place] = canvas.chart(Chart(place, line.main, plot.unit, top, rows))
        legend = [
            entry(row[2], row[3], row[4], spoken(story, plot, line))
            for row, (*_, story) in zip(rows, there, strict=True)
        ]
        parts.append(framed(place, line.main, legend, plot.note))
    return f'{tools(max(story.wall_seconds for _, story in drawn), canvas)}<div class="charts">{"".join(parts)}</div>'
