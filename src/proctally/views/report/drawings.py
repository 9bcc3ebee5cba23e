"""The column of charts of one run: controls, and for each chart its legend, its place, and the same in words."""

from __future__ import annotations

from proctally.analysis.memory import NARROW
from proctally.record.values import number, number_at
from proctally.text.escape import html, printable
from proctally.text.units import cores, duration, size
from proctally.views.report import lanes, run_facts
from proctally.views.report.charts import Chart
from proctally.views.report.lanes import SHADES
from proctally.views.report.plots import PARTS
from proctally.views.report.readout import tools
from proctally.views.report.series import is_flat, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proctally.views.report.charts import Canvas, Plots
    from proctally.views.report.lanes import Bar
    from proctally.views.report.plots import Line, Plot
    from proctally.views.report.run_facts import Facts
    from proctally.views.report.series import Story

COLOURS = ("computing", "ready", "memory", "disk", "throttled", "green", "pink", "asleep")
BOUNDS = ("tree.memory_high_bytes", "tree.memory_low_bytes")
SHADE_COLOURS = ("#66707b", "#3f72ad", "#1f5ca8", "#b0530b", "#b32a46")  # white text stands on them
PHASE_COLOURS = ("#7a5bb5", "#2f72c4", "#21804c", "#a85a14", "#a8456f")
UNKNOWN_COLOUR = "#6b737c"
FAR = 1.5  # a limit so many times above the peak is in the legend, not in the chart: the scale is the job's
HEAD_ROOM = 1.08
SPIKE = 0.02  # of the largest sample: a peak so far above it was between two samples


def drawings(facts: Facts, canvas: Canvas, plots: Plots) -> str:
    """Return all charts that there is data for, those of the job first; each is added to `plots` by its key."""
    story = facts.story
    found, empty, zero = shown(story)
    phases, bars = lanes.of_phases(story), lanes.of_processes(story)
    own = [_phase_strip(phases, canvas, plots)] if phases else []
    machine: list[str] = []
    flat: list[str] = []
    for plot, rows in found:
        if is_flat(story, plot, rows):
            flat.append(_in_words(story, plot, rows))
        else:
            (machine if _is_aside(facts, plot) else own).append(_chart(facts, plot, rows, canvas, plots))
    if len(bars) > 1:
        own.append(_timeline(facts, bars, canvas, plots))
    elif bars:
        flat.append(f"Processes: 1, {printable(str(bars[0].line.get('command')))}, {_process(bars[0])}.")
    flat += [f"Zero throughout: {', '.join(zero)}."] if zero else []
    flat += [f"Without data: {', '.join(empty)}."] if empty and facts.of_tree else []
    aside = ""
    if machine:
        aside = f'<details class="machine"><summary>Charts of the machine</summary>\n{"".join(machine)}</details>\n'
    words = "".join(f"<li>{html(text)}</li>" for text in flat)
    return (
        f'{_resolution(story)}{tools(story.wall_seconds, canvas)}<div class="charts">\n{"".join(own)}{aside}</div>\n'
        f'<ul class="plain small">{words}</ul>\n'
    )


def _resolution(story: Story) -> str:
    if story.per_row == 1:
        return ""
    text = f"{story.samples:,} samples: {story.per_row} are one here, the largest of levels and the mean of rates."
    return f'<p class="small soft">{html(text)}</p>\n'


def _is_aside(facts: Facts, plot: Plot) -> bool:
    """Return whether a chart is folded: one of the machine, beside those of a job."""
    return plot.of_machine and facts.of_tree


def _in_words(story: Story, plot: Plot, rows: Sequence[Line]) -> str:
    courses = ((row.label, story.course(row.key)) for row in rows)
    values = (f"{label} {run_facts.said(plot.unit, course.mean or course.peak)}" for label, course in courses)
    return f"{plot.title}: {', '.join(values)} throughout."


def _chart(facts: Facts, plot: Plot, rows: list[Line], canvas: Canvas, plots: Plots) -> str:
    story = facts.story
    peak = max((story.peak(row.key) or 0.0) for row in rows)
    levels, texts = _limits(facts, plot.key, peak)
    legend = [entry(text, "limit", "dashed") for text in texts]
    if plot.key == "memory" and (bound := _spike(facts, story.peak(BOUNDS[0]) or peak)) is not None:
        levels.append((bound, "memory"))
        legend.append(entry(f"peak at most {size(bound)}, between two samples", "memory", "dashed"))
    colours = [row.colour or COLOURS[number % len(COLOURS)] for number, row in enumerate(rows)]
    is_stacked = plot.key == PARTS
    chart = Chart(
        plot.key,
        plot.title,
        plot.unit,
        plot.most if is_stacked else max([peak, *(level for level, _ in levels)]) * HEAD_ROOM,
        [(row.key, 0, row.label, colour, row.dash) for row, colour in zip(rows, colours, strict=True)],
        levels,
        band=tuple(row.key for row in rows[:2]) == BOUNDS,
        filled=plot.key == "cpu",
        stacked=is_stacked,
        aside=_is_aside(facts, plot),
    )
    plots[plot.key] = canvas.chart(chart)
    lines = [
        entry(row.label, colour, row.dash, spoken(story, plot, row))
        for row, colour in zip(rows, colours, strict=True)
        if row.key != BOUNDS[1] or is_wide(story)
    ]
    note = plot.note if rows[0] is plot.lines[0] else ""  # of lines that older records lack
    return framed(plot.key, plot.title, lines + legend, note)


def is_wide(story: Story) -> bool:
    """Return whether the bounds of memory differ at the peak."""
    high, low = (story.peak(key) for key in BOUNDS)
    return high is None or low is None or high - low > NARROW * high


def _limits(facts: Facts, key: str, peak: float) -> tuple[list[tuple[float, str]], list[str]]:
    """Return the limits that a chart shows with their colour, and all of them as text."""
    own_cores, own_memory = (facts.limit_cores, facts.limit_memory) if facts.of_tree else (None, None)
    may, has = "it can use", "the machine has"
    known: list[tuple[str, float | None]] = []
    if key == "cpu":
        known = [(may, own_cores), (has, None if own_cores else facts.machine_cores)]
    elif key == "machine-cpu":
        known = [(has, facts.machine_cores)]
    elif key == "memory":
        known = [(may, own_memory), (has, None if own_memory else facts.machine_memory)]
    elif key == "machine-memory":
        known = [(has, facts.machine_memory)]
    drawn, texts = [], []
    for what, level in known:
        if level is not None:
            amount = size(level) if key.endswith("memory") else cores(level)
            is_near = level <= FAR * peak
            drawn += [(level, "limit")] if is_near else []
            texts.append(f"{what} {amount}{'' if is_near else ' (above the chart)'}")
    return drawn, texts


def _spike(facts: Facts, peak: float) -> float | None:
    """Return the upper bound of the peak of the whole run where no sample is near it."""
    bound = number_at(facts.story.summary, "memory.peak_high_bytes")
    return bound if bound is not None and bound > (1 + SPIKE) * peak else None


def spoken(story: Story, plot: Plot, row: Line) -> str:
    """Return the figures of a line as text."""
    course = story.course(row.key)
    if course.peak is None:
        return ""
    level = "" if course.mean is None else f"mean {run_facts.said(plot.unit, course.mean)}, "
    return f"{level}peak {run_facts.said(plot.unit, course.peak)} at {duration(course.peak_at)}"


def entry(label: str, colour: str, dash: str, text: str = "") -> str:
    """Return a line of a legend: what it is, and its figures."""
    stands = f' <span class="soft">{html(text)}</span>' if text else ""
    return f'<li class="{dash}" style="--line:var(--chart-{colour})">{html(label)}{stands}</li>'


def framed(key: str, title: str, legend: Iterable[str], caption: str, *, of_bars: bool = False) -> str:
    """Return a chart with its texts; page() puts the drawing into its place."""
    bar = f'<p class="bar-at small" id="bar-{key}"></p>' if of_bars else ""
    return f"""<div class="chart" role="group" aria-labelledby="title-{key}">
<div class="top"><h3 id="title-{key}">{html(title)}</h3>
<ul class="legend" id="lines-{key}" aria-label="Lines of {html(title)}">{"".join(legend)}</ul>{bar}</div>
<div class="drawing" id="chart-{key}" role="img" aria-label="{html(title)} over time"
 aria-describedby="lines-{key} note-{key}"><!--chart {key}--></div>
<p class="small soft" id="note-{key}">{html(caption)}</p></div>
"""


def _phase_strip(bars: Sequence[Bar], canvas: Canvas, plots: Plots) -> str:
    names = [printable(bar.line["name"]) for bar in bars]
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    colours = [PHASE_COLOURS[order[name] % len(PHASE_COLOURS)] for name in names]
    plots["phases"] = canvas.bars("phases", bars, colours, names, [_phase(bar) for bar in bars])
    return framed("phases", "Phases", [], f"{len(bars):,} phases; the table below has them all.", of_bars=True)


def _phase(bar: Bar) -> str:
    used = bar.line["used"]
    return f"{duration(bar.end - bar.begin)}, from {duration(bar.begin)}; CPU {duration(used)}"


def _timeline(facts: Facts, bars: Sequence[Bar], canvas: Canvas, plots: Plots) -> str:
    story = facts.story
    names = [printable(str(bar.line.get("command"))) for bar in bars]
    colours = [UNKNOWN_COLOUR if bar.shade is None else SHADE_COLOURS[bar.shade] for bar in bars]
    plots["timeline"] = canvas.bars("timeline", bars, colours, names, [_process(bar) for bar in bars])
    total = max(story.seen, int(number_at(story.summary, "processes.started") or 0))
    caption = f"{len(bars):,} of {total:,} processes, a bar each from start to end; shade: mean CPU over its life."
    if total > len(bars):
        caption += " The shortest have no room: the table of commands counts them all."
    shades = dict(zip(SHADE_COLOURS, (text for _, text in SHADES), strict=True))
    legend = [
        f'<li class="shade" style="--line:{colour}">{html(text)}</li>'
        for colour, text in shades.items()
        if colour in colours
    ]
    return framed("timeline", "Who ran when", legend, caption, of_bars=True)


def _process(bar: Bar) -> str:
    line = bar.line
    status = line.get("exit")
    if line.get("ended_at") is None:
        ended = "still running"
    elif status:
        ended = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
    else:
        ended = "exit status 0" if status == 0 else "exited"
    memory, pid = size(number(line.get("peak_rss_bytes"))), printable(str(line.get("pid")))
    used = duration(number(line.get("cpu_seconds")))
    return (
        f"pid {pid}: {duration(bar.end - bar.begin)}, from {duration(bar.begin)}; CPU {used}; memory {memory}; {ended}"
    )
