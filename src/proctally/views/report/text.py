"""A record for a terminal: the summary that it had at its end, sparklines, tables; 80 columns."""

from __future__ import annotations

from itertools import zip_longest

from proctally.record.schema import CORES, field
from proctally.text.cells import cut, cut_middle, fitted, indented, sparkline, wrapped
from proctally.text.escape import printable
from proctally.text.terminal import Look
from proctally.text.units import UNKNOWN, brief, decimal, duration
from proctally.views import diff, phrases, summary
from proctally.views.report import head, run_facts
from proctally.views.report.series import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proctally.views.report.run_facts import Facts

WIDTH = 80
LABEL = 9
SPARK = 32
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-:=+*#"
COMMANDS = 10
CELL = 27  # width of a figure of one of several runs, after 3 spaces


def text(runs: Sequence[Facts], split: int = 0, *, blocks: bool) -> str:
    """The lines, each with its newline. `blocks`: the terminal knows block characters, and Unicode at all."""
    look = Look(WIDTH, blocks=blocks)
    lines = _several(runs, split, look) if len(runs) > 1 else _one(runs[0], look)
    shown = "".join(f"{line}\n" for line in lines)
    return shown if blocks else shown.replace("…", "...").encode("ascii", "backslashreplace").decode()


def first_lines(facts: Facts, look: Look) -> list[str]:
    """Return the summary that the terminal had at the end; of a record without an end, what is known."""
    title, end = facts.story.title, facts.story.summary
    if facts.whole:
        lines = summary.render(title, end, facts.story.past.path, look, recorded=facts).splitlines()
        return [*lines, *_entry("ended", facts.reason)]
    lines = [f"proctally {printable(title)}  {facts.verdict}  {brief(facts.wall)}: {facts.reason}"]
    memory = [] if facts.memory.high is None else [("memory", f"{facts.memory.short} held")]
    figures = [(figure.label, f"{figure.value} ({figure.note})") for figure in run_facts.head(facts)]
    for label, entry in [*memory, *figures, ("request", facts.request()), ("record", facts.story.past.path)]:
        lines += _entry(label, entry) if entry else []
    return lines


def _one(facts: Facts, look: Look) -> list[str]:
    lines = first_lines(facts, look)
    rows = [(row["name"], row["wall"], row["cores"], row["time"]) for row in head.phases(facts)]
    if rows:
        lines += ["", "Phases"]
        lines += [row for name, *rest in rows for row in _entry(printable(name), ", ".join(filter(None, rest)))]
    charts = list(sparks(facts, BLOCKS if look.blocks else ASCII))
    if charts:
        lines += ["", f"Over time, from 0 to {duration(facts.wall)}, largest of each part", *charts]
    if parts := facts.memory.parts:
        lines += ["", "Memory at the peak"]
        lines += [f"  {part.text:>24}  {cut_middle(part.name, 40)}" for part in parts]
    if found := phrases.commands(facts.story.summary, least=phrases.LEAST_SECONDS):
        lines += ["", "Commands by CPU time"]
        lines += [
            f"  {UNKNOWN if row.seconds is None else format(row.seconds, ',.3f'):>12} s"
            f"  {row.processes or 0:>8,.0f} x  {cut_middle(printable(row.title), 40)}"
            for row in found[:COMMANDS]
        ]
        if len(found) > COMMANDS:
            lines.append(f"  {len(found) - COMMANDS:,} more used less")
    lines += ["", "Machine and neighbours"]
    for label, entry in run_facts.host(facts):
        lines += _entry(label, entry)
    for line in run_facts.pressure(facts):
        lines += _wrapped(line, "  - ")
    first, *users = run_facts.others(facts) or [""]
    lines += _entry("other jobs", first) if users else []
    lines += [row for user in users for row in _wrapped(user, " " * (LABEL + 4) + "- ")]
    lines += ["", "What tracking cost", *(f"  {line}" for line in run_facts.tracker(facts))]
    lines += ["", "What the numbers cannot see"]
    for line in run_facts.unseen(facts):
        lines += _wrapped(line, "  - ")
    return lines


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
    return decimal(value) if unit == CORES else run_facts.said(unit, value)


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


def difference(runs: Sequence[Facts], split: int) -> list[str]:
    """Return what differs between two sides, as `diff` shows it, or how far one group spreads."""
    found, every = run_facts.compared(runs, split), run_facts.together(runs)
    if found is not None:
        return diff.as_text(found, verbose=False, colour=False).splitlines()
    return diff.as_spread(every, colour=False).splitlines() if every.counted else []


def _several(runs: Sequence[Facts], split: int, look: Look) -> list[str]:
    signs = BLOCKS if look.blocks else ASCII
    names = run_facts.labels(runs)
    lines = difference(runs, split) or [f"{len(runs)} runs"]
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
