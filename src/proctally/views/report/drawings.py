"""The charts of one run on a page: title, legend, the place that is drawn into, and the same in words."""

from __future__ import annotations

from proctally.record.schema import BYTES, CORES
from proctally.record.values import number, number_at
from proctally.text.escape import html, printable
from proctally.text.units import duration, size
from proctally.views.report import charts, lanes, run_facts
from proctally.views.report.lanes import SHADES
from proctally.views.report.series import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proctally.views.report.lanes import Bar
    from proctally.views.report.plots import Line, Plot
    from proctally.views.report.run_facts import Facts
    from proctally.views.report.series import Story

COLOURS = ("#2f7fd6", "#dd7a12", "#2a9d5c", "#9b6dd6", "#d6455d", "#1797a6", "#a07a1a", "#c95fa8")
MACHINE = ("#7f8993", "#a98f6a")
SHADE_COLOURS = ("#66707b", "#3f72ad", "#1f5ca8", "#b0530b", "#b32a46")  # white text stands on them
PHASE_COLOURS = ("#7a5bb5", "#2f72c4", "#21804c", "#a85a14", "#a8456f")
LIMIT_COLOUR = "#d6455d"
UNKNOWN_COLOUR = "#6b737c"
FAR = 2.5  # a limit so many times above the peak is told, not drawn
HEAD_ROOM = 1.08
AFTER_TIMELINE = ("network", "pressure", "cgroup-pressure", "processes", "machine-memory")


def drawings(facts: Facts, canvas: charts.Canvas, plots: charts.Plots) -> str:
    """All charts that there is data for, those of the job first; each is added to `plots` by its key."""
    story = facts.story
    found, empty, flat = shown(story)
    phases, bars = lanes.of_phases(story), lanes.of_processes(story)
    timeline = [_timeline(facts, bars, canvas, plots)] if bars else []
    parts = [_phase_strip(phases, canvas, plots)] if phases else []
    for plot, rows in found:
        if plot.key in AFTER_TIMELINE:
            parts += timeline
            timeline = []
        parts.append(_chart(facts, plot, rows, canvas, plots))
    parts += timeline
    missing = [f"Zero throughout: {', '.join(flat)}."] if flat else []
    missing += [f"Without data: {', '.join(empty)}."] if empty else []
    return "".join(parts) + f'<p class="small soft">{html(" ".join(missing))}</p>'


def _chart(facts: Facts, plot: Plot, rows: list[Line], canvas: charts.Canvas, plots: charts.Plots) -> str:
    story = facts.story
    styles = _styles(rows, of_tree=facts.of_tree)
    peak = max((story.peak(row.key) or 0.0) for row in rows)
    levels, told = _levels(facts, plot.key, peak)
    lines = [(row.key, 0, row.label, colour, dash) for row, (colour, dash) in zip(rows, styles, strict=True)]
    top = max([peak, *levels]) * HEAD_ROOM
    plots[plot.key] = canvas.chart(charts.Chart(plot.key, plot.unit, top, lines, levels))
    legend = [
        entry(row.label, colour, dash, spoken(story, plot, row), column=row.key, unit=plot.unit)
        for row, (colour, dash) in zip(rows, styles, strict=True)
    ]
    legend += [entry(text, LIMIT_COLOUR, "dashed") for text in told]
    note = f"{plot.note} {_unread(story)}" if plot.key == "memory" else plot.note
    return framed(plot.key, plot.title, legend, note.strip())


def _styles(rows: Sequence[Line], *, of_tree: bool) -> list[tuple[str, str]]:
    """Colour and dash of each line: what is the machine's stands back behind the job's."""
    own, other = iter(COLOURS * 2), iter(MACHINE * 8)
    several = len({row.scope for row in rows}) > 1
    return [
        (next(other), "dashed") if of_tree and several and row.scope in ("system", "gpus") else (next(own), "solid")
        for row in rows
    ]


def _levels(facts: Facts, key: str, peak: float) -> tuple[list[float], list[str]]:
    """The limits that a chart shows, and how they are told; one far above is told only."""
    if key == "cpu":
        known = [("it may use", facts.limit_cores if facts.of_tree else None), ("the machine has", facts.machine_cores)]
        unit = CORES
    elif key == "memory":
        known, unit = [("it may use", facts.limit_memory), ("the machine has", facts.machine_memory)], BYTES
    elif key == "machine-memory":
        known, unit = [("the machine has", facts.machine_memory)], BYTES
    else:
        return [], []
    drawn, told = [], []
    for what, level in known:
        if level is None or level in drawn:
            continue
        value = size(level) if unit == BYTES else f"{level:g} cores"
        if level <= FAR * peak:
            drawn.append(level)
            told.append(f"{what} {value}")
        else:
            told.append(f"{what} {value} (above the chart)")
    return drawn, told


def _unread(story: Story) -> str:
    """Return that PSS is a lower bound, as in older records; newer ones have no partial sum."""
    pairs = zip(story.columns["tree.pss_unread"], story.columns["tree.pss_bytes"], strict=True)
    short = sum(unread > 0 and pss == pss for unread, pss in pairs)
    if not short:
        return ""
    return (
        f"In {short:,} of {story.samples:,} samples the PSS of some processes had not been read (yet): the sum is at"
        " least what is drawn."
    )


def spoken(story: Story, plot: Plot, row: Line) -> str:
    """What a line shows, in words."""
    course = story.course(row.key)
    if course.peak is None:
        return ""
    level = "" if course.mean is None else f"mean {run_facts.said(plot.unit, course.mean)}, "
    return f"{level}peak {run_facts.said(plot.unit, course.peak)} at {duration(course.peak_at)}"


def entry(
    label: str, colour: str, dash: str, told: str = "", *, column: str = "", unit: str = "", table: int = 0
) -> str:
    """A line of a legend: what it is, what is told of it, and the place for its value at the cursor."""
    now = ""
    if column:
        now = f' <span class="now" data-column="{html(column)}" data-table="{table}" data-unit="{html(unit)}"></span>'
    stands = f' <span class="soft">{html(told)}</span>' if told else ""
    return f'<li class="{dash}" style="--line:{colour}">{html(label)}{stands}{now}</li>'


def framed(key: str, title: str, legend: Iterable[str], caption: str) -> str:
    """A chart with all that is said of it; page() puts the drawing into its place."""
    return f"""<section class="chart" aria-labelledby="title-{key}">
<div class="top"><h3 id="title-{key}">{html(title)}</h3>
<ul class="legend" id="lines-{key}" aria-label="Lines">{"".join(legend)}</ul></div>
<div class="drawing" id="chart-{key}" role="img" aria-label="{html(title)} over time"
 aria-describedby="lines-{key} told-{key}"><!--chart {key}--></div>
<p class="small soft" id="told-{key}">{html(caption)}</p></section>
"""


def _phase_strip(bars: Sequence[Bar], canvas: charts.Canvas, plots: charts.Plots) -> str:
    names = [printable(bar.line["name"]) for bar in bars]
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    colours = [PHASE_COLOURS[order[name] % len(PHASE_COLOURS)] for name in names]
    told = [_phase_told(bar) for bar in bars]
    plots["phases"] = canvas.bars("phases", bars, colours, names, told)
    return framed("phases", "Phases", [], f"{len(bars):,} phases; the table below has them all.")


def _phase_told(bar: Bar) -> str:
    used = bar.line["used"]
    return f"{duration(bar.end - bar.begin)}, from {duration(bar.begin)}; CPU {duration(used)}"


def _timeline(facts: Facts, bars: Sequence[Bar], canvas: charts.Canvas, plots: charts.Plots) -> str:
    story = facts.story
    names = [printable(str(bar.line.get("command"))) for bar in bars]
    colours = [UNKNOWN_COLOUR if bar.shade is None else SHADE_COLOURS[bar.shade] for bar in bars]
    plots["timeline"] = canvas.bars("timeline", bars, colours, names, [_process_told(bar) for bar in bars])
    started = number_at(story.summary, "processes.started")
    total = max(story.seen, int(started or 0))
    folded = total - len(bars)
    caption = f"{len(bars):,} of {total:,} processes, a bar each from start to end; shade: mean CPU over its life."
    if folded > 0:
        caption += (
            f" {folded:,} are folded, the shortest and those too short to be seen one by one: the table of commands"
            " counts them all."
        )
    legend = [entry(text, SHADE_COLOURS[number], "shade") for number, (_, text) in enumerate(SHADES)]
    return framed("timeline", "Processes: who ran when", legend, caption)


def _process_told(bar: Bar) -> str:
    line = bar.line
    used = duration(number(line.get("cpu_seconds")))
    life = duration(bar.end - bar.begin)
    status = line.get("exit")
    if line.get("ended_at") is None:
        ended = "lives on"
    elif status:
        ended = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
    else:
        ended = "exit status 0" if status == 0 else "ended"
    memory = size(number(line.get("peak_rss_bytes")))
    pid = printable(str(line.get("pid")))
    return f"pid {pid}: {life}, from {duration(bar.begin)}; CPU {used}; memory {memory}; {ended}"
