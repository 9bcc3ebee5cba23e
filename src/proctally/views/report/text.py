"""A record for a terminal: figures, sparklines, what it waited for; 80 columns."""

from __future__ import annotations

from itertools import zip_longest

from proctally.record.schema import CORES, field
from proctally.text.cells import cut, cut_middle, fitted, indented, sparkline, wrapped
from proctally.text.escape import printable
from proctally.text.units import UNKNOWN, duration
from proctally.views.report import request, run_facts, waits
from proctally.views.report.series import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proctally.views.report.run_facts import Facts

WIDTH = 80
LABEL = 13
SPARK = 32
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-:=+*#"
COMMANDS = 10
CELL = 27  # width of a figure of one of several runs, after 3 spaces


def text(runs: Sequence[Facts], *, blocks: bool) -> str:
    """The lines, each with its newline. `blocks`: the terminal knows block characters, and Unicode at all."""
    signs = BLOCKS if blocks else ASCII
    lines = _several(runs, signs) if len(runs) > 1 else _one(runs[0], signs)
    told = "".join(f"{line}\n" for line in lines)
    return told if blocks else told.replace("…", "...").encode("ascii", "backslashreplace").decode()


def _one(facts: Facts, signs: str) -> list[str]:
    lines = [f"{printable(facts.story.title)}  {printable(facts.verdict)}: {printable(facts.reason)}", ""]
    for figure in run_facts.head(facts):
        value = f"at least {figure.value}" if figure.incomplete else figure.value
        lines += _entry(figure.label, f"{value}  ({figure.note})" if figure.note else value)
    lines += ["", *_wrapped(waits.headline(facts), "")]
    for wait in waits.waits(facts):
        lines += _entry(wait.what, wait.text)
    first, *users = run_facts.others(facts) or [""]
    lines += _entry("other jobs", first) if users else []
    lines += [row for user in users for row in _wrapped(user, " " * (LABEL + 4) + "- ")]
    if found := request.next_time(facts):
        lines += ["", "What to request next time"]
        lines += [row for line in found for row in _wrapped(line, "  - ")]
    charts = list(sparks(facts, signs))
    if charts:
        lines += ["", f"Over time, from 0 to {duration(facts.wall)}, largest of each part", *charts]
    if parts := facts.memory.parts:
        lines += ["", "Memory at the peak"]
        lines += [f"  {part.text:>24}  {cut_middle(part.name, 40)}" for part in parts]
    if rows := run_facts.commands(facts):
        lines += ["", "Commands by CPU time"]
        lines += [
            f"  {UNKNOWN if row['cpu'] is None else format(row['cpu'], ',.3f'):>12} s"
            f"  {row['processes'] or 0:>8,.0f} x  {cut_middle(printable(row['command']), 40)}"
            for row in rows[:COMMANDS]
        ]
        if len(rows) > COMMANDS:
            lines.append(f"  {len(rows) - COMMANDS:,} more used less")
    if facts.story.phases:
        lines += ["", "Phases"]
        lines += [
            f"  at {duration(phase['begin']):>11}  {fitted(printable(phase['name']), 24)}"
            f"  {'not ended' if phase['end'] is None else duration(phase['end'] - phase['begin'])}"
            f", CPU {duration(phase['used'])}"
            for phase in facts.story.phases
        ]
    lines += ["", "Machine"]
    for label, told in run_facts.host(facts):
        lines += _entry(label, told)
    lines += ["", "What tracking cost", *(f"  {line}" for line in run_facts.tracker(facts))]
    lines += ["", "What the numbers cannot see"]
    for line in run_facts.unseen(facts):
        lines += _wrapped(line, "  - ")
    return [*lines, "", f"Record: {printable(facts.story.past.path)}"]


def _entry(label: str, told: str) -> list[str]:
    label = printable(label)
    if len(label) > LABEL:
        return [f"  {label}", *_wrapped(told, " " * (LABEL + 4))]
    return _wrapped(told, f"  {label:<{LABEL}}  ")


def _wrapped(told: str, before: str) -> list[str]:
    return indented(printable(told), before, WIDTH)


def sparks(facts: Facts, signs: str) -> Iterable[str]:
    """A line for each line of a chart: its course, its mean and its peak."""
    for plot, rows in shown(facts.story)[0]:
        yield f"  {plot.title}"
        for row in rows:
            peak = facts.story.peak(row.key)
            course = spark(facts, row.key, peak or 0.0, signs)
            yield f"    {fitted(printable(row.label), 26)} {course} {_said(plot.unit, peak)}"


def _said(unit: str, value: float | None) -> str:
    return run_facts.cores(value) if unit == CORES else run_facts.said(unit, value)


def spark(facts: Facts, key: str, top: float, signs: str, width: int = SPARK, wall: float | None = None) -> str:
    """The largest value in each of `width` parts of the time; a blank where none is known."""
    story = facts.story
    wall = facts.wall if wall is None else wall
    best: list[float | None] = [None] * width
    for at, value in zip(story.times, story.columns[key], strict=True):
        if value == value:
            place = min(width - 1, int(at / wall * width)) if wall > 0 else 0
            now = best[place]
            best[place] = value if now is None else max(now, value)
    if len(story.times) < width:
        _bridged(best)
    return sparkline(best, signs, top)


def _bridged(best: list[float | None]) -> None:
    """Where there are fewer samples than parts, a part without one is of the interval that the next one ends."""
    following: float | None = None
    known = [place for place, value in enumerate(best) if value is not None]
    for place in range(known[-1] if known else 0, known[0] if known else 0, -1):
        following = best[place] if best[place] is not None else following
        best[place] = following


def _several(runs: Sequence[Facts], signs: str) -> list[str]:
    names = run_facts.labels(runs)
    lines = [f"{len(runs)} runs"]
    for first in range(0, len(runs), 2):  # two beside each other have room
        part = slice(first, first + 2)
        lines.append("")
        for label, values in [("", [cut(printable(name), CELL) for name in names]), *run_facts.side_by_side(runs)]:
            cells = (wrapped(value, CELL, CELL) for value in values[part])
            for start, *row in zip_longest([label], *cells, fillvalue=""):
                lines.append(f"{start:<19}" + "".join(f"{cell:>{CELL + 3}}" for cell in row).rstrip())
    wall = max(one.wall for one in runs)
    bounds = ("tree.memory_high_bytes", "Memory, upper bound")
    memory = bounds if all(one.story.peak(bounds[0]) is not None for one in runs) else ("tree.pss_bytes", "Memory, PSS")
    for key, title in (("tree.cpu_cores", "CPU, cores"), memory):
        top = max((one.story.peak(key) or 0.0 for one in runs), default=0.0)
        if top:
            lines += ["", f"{title}, from 0 to {duration(wall)}"]
            lines += [
                f"  {fitted(printable(name), 28)} {spark(one, key, top, signs, wall=wall)}"
                f" {_said(field(key).unit, one.story.peak(key))}"
                for one, name in zip(runs, names, strict=True)
            ]
    return lines
