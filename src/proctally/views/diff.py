"""`proctally diff BASE NEW`: the figures of two runs, or two groups, side by side, as text, Markdown or JSON."""

from __future__ import annotations

from proctally.analysis.comparison import ComparisonRow, Diff, Side
from proctally.analysis.gates import FAILED, PASSED, UNKNOWN
from proctally.analysis.measures import FIGURES, MACHINE
from proctally.analysis.statistics import NO_SPREAD, RANKS
from proctally.record.writer import json_line
from proctally.text.cells import columns_of, cut, fitted
from proctally.text.escape import printable
from proctally.text.markdown import escaped, table
from proctally.text.terminal import BOLD, DIM, GREEN, RED, RESET, YELLOW
from proctally.text.units import number, percent, scale

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.analysis.statistics import Group
    from proctally.record import JsonObject

COMMANDS = 10
NAME_WIDTH = 15
ONLY_VERBOSE = ("user", "system", "rss", "peak-processes", "read-chars", "write-chars")
WITHIN_MARK, ALONE_MARK = "~", "?"
STATES = {PASSED: GREEN, FAILED: RED, UNKNOWN: RED}


# -- what is told ----------------------------------------------------------------------------------------------------


def shown(diff: Diff, *, verbose: bool) -> list[ComparisonRow]:
    """The rows that are told: what is known of a side; of the whole machine only where that is what was tracked."""
    of_machine = all(record.run.get("kind") == "system" for side in (diff.base, diff.new) for record in side.counted)
    wanted = {each.gate.figure.name for each in diff.judged if each.gate is not None and each.gate.figure is not None}
    rows = []
    for figure, row in zip(FIGURES, diff.rows, strict=True):
        groups = [group for group in (row.base, row.new) if group is not None]
        is_idle = all(group.high == 0 for group in groups)
        is_aside = is_idle or figure.name in ONLY_VERBOSE or (figure.scope == MACHINE and not of_machine)
        if groups and (verbose or figure.name in wanted or not is_aside):
            rows.append(row)
    return rows


def mark(row: ComparisonRow) -> str:
    """`~` for a change within the spread, `?` where the spread is not known, nothing for a difference."""
    if row.comparison is None or not row.change:
        return ""
    return {None: ALONE_MARK, False: WITHIN_MARK, True: ""}[row.comparison.differs]


def legend(rows: Sequence[ComparisonRow]) -> list[str]:
    """What the marks mean, and by what statistic they stand there."""
    said = []
    marks = {mark(row) for row in rows}
    if WITHIN_MARK in marks:
        said.append("~ within the spread of the runs: no difference")
    if ALONE_MARK in marks:
        said.append("? one run a side: their spread is unknown")
    methods = {row.comparison.method for row in rows if row.comparison is not None} - {NO_SPREAD}
    if methods == {RANKS}:
        said.append("medians and ranges; differences by ranks (Mann and Whitney, exact) at 5 %")
    elif methods:
        said.append("medians and ranges; differences by Student's t at 5 %, for ranks of so few runs tell nothing")
    return said


def changed(row: ComparisonRow) -> str:
    """The change by the medians; empty where one side is unknown."""
    return "" if row.base is None or row.new is None else percent(row.base.median, row.new.median)


def cells(row: ComparisonRow) -> tuple[str, list[str]]:
    """The unit of a row, and its numbers: median and range of BASE, the same of NEW."""
    groups = (row.base, row.new)
    factor, unit = scale(row.unit, max(abs(group.median) for group in groups if group is not None))
    beside = [
        value / factor for group in groups if group is not None for value in (group.low, group.median, group.high)
    ]
    found = []
    for group in groups:
        if group is None:
            found += ["-", ""]
            continue
        low, middle, high = (number(value / factor, *beside) for value in (group.low, group.median, group.high))
        found += [middle, "" if low == high else f"{low}..{high}"]
    return unit, found


def title(side: Side) -> str:
    """Which runs a side is."""
    names = {record.name for record in side.counted}
    name = names.pop() if len(names) == 1 else f"{len(names)} names"
    if len(side.counted) == 1:
        verdict = side.counted[0].verdict
        return f"{name} {side.counted[0].short_id}{'' if verdict == 'ok' else f', {verdict}'}"
    return f"{name}, {len(side.counted)} runs"


def counts(row: ComparisonRow) -> str:
    """How many processes of a command there were, where that changed."""
    base, new = row.processes
    if base is None or new is None or base == new:
        return ""
    return f"{number(base)} to {number(new)} processes"


# -- as text ---------------------------------------------------------------------------------------------------------


def as_text(diff: Diff, *, verbose: bool, colour: bool) -> str:
    """80 columns where the names allow it; worse is red, better green."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{RESET}" if colour else text

    rows = shown(diff, verbose=verbose)
    used = diff.commands if verbose else diff.commands[:COMMANDS]
    lines = [paint(f"BASE {printable(title(diff.base))}", BOLD), paint(f"NEW  {printable(title(diff.new))}", BOLD), ""]
    body = [_text_row(row, row.name) for row in rows]
    listed = [_text_row(row, printable(row.name)) for row in used]
    widths = [max((columns_of(cell[column]) for cell, _ in body + listed), default=0) for column in range(6)]
    widths = [max(width, 4) if column in (1, 3) else width for column, width in enumerate(widths)]
    head = ("", "BASE", "", "NEW", "", "CHANGE")
    widths[5] = max(widths[5], 6)
    lines.append(paint(_aligned(head, widths), DIM))
    for each in (body, listed):
        if each is listed and listed:
            lines.append(paint("CPU time by command", DIM))
        for cell, row in each:
            text = f"{_aligned(cell, widths)} {mark(row):<1}"
            worse = row.is_worse
            text = text if worse is None or mark(row) == WITHIN_MARK else paint(text, RED if worse else GREEN)
            lines.append(f"{text} {counts(row) if each is listed else ''}".rstrip() if not colour else text)
    left = len(diff.commands) - len(used)
    if left:
        lines.append(paint(f"and {left} more commands (-v)", DIM))
    lines += ["", *(paint(text, DIM) for text in legend(rows + used))]
    lines += [paint(f"note: {printable(note)}", YELLOW) for note in diff.notes]
    lines += [paint(f"{each.state}: {printable(each.why)}", STATES.get(each.state, YELLOW)) for each in diff.judged]
    return "\n".join(lines) + "\n"


def _text_row(row: ComparisonRow, name: str) -> tuple[list[str], ComparisonRow]:
    unit, numbers = cells(row)
    return [f"{cut(name, NAME_WIDTH)}{f', {unit}' if unit else ''}", *numbers, changed(row)], row


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = f"  {fitted(cells[0], widths[0])}"
    parts = []
    for column in (1, 3, 5):
        parts.append(f"{cells[column]:>{widths[column]}}")
        if column < 5 and widths[column + 1]:
            parts.append(f"{cells[column + 1]:<{widths[column + 1]}}")
    return "  ".join([left, *parts])


# -- as Markdown, for the summary of a CI job ------------------------------------------------------------------------


def as_markdown(diff: Diff, *, verbose: bool) -> str:
    """Tables; the limits and what became of them first."""
    lines = []
    if diff.judged:
        lines += ["**failed**" if diff.has_failed else "**passed**", ""]
        lines += [f"- {each.state}: {escaped(each.why)}" for each in diff.judged]
        lines.append("")
    rows = shown(diff, verbose=verbose)
    used = diff.commands if verbose else diff.commands[:COMMANDS]
    lines += [f"BASE {escaped(title(diff.base))}; NEW {escaped(title(diff.new))}", ""]
    lines += table(("figure", "BASE", "NEW", "change", ""), [_markdown_row(row) for row in rows])
    if used:
        body = [[*_markdown_row(row), escaped(counts(row))] for row in used]
        lines += ["", *table(("CPU time of command", "BASE", "NEW", "change", "", "processes"), body)]
    lines += ["", *(f"{escaped(text)}  " for text in legend(rows + used))]
    lines += [f"- {escaped(note)}" for note in diff.notes]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(row: ComparisonRow) -> list[str]:
    unit, numbers = cells(row)
    pairs = [
        f"{median} {spread and f'({spread})'}".strip() for median, spread in zip(*[iter(numbers)] * 2, strict=True)
    ]
    name = f"{row.name}, {unit}" if unit else row.name
    return [escaped(name), *map(escaped, pairs), escaped(changed(row)), escaped(mark(row))]


# -- as JSON ---------------------------------------------------------------------------------------------------------


def as_json(diff: Diff) -> str:
    """One object, with everything; values in the units of the record."""
    said = {
        "base": _side_json(diff.base),
        "new": _side_json(diff.new),
        "figures": [_row_json(row) for row in diff.rows if row.base is not None or row.new is not None],
        "commands": [
            _row_json(row) | {"base_processes": row.processes[0], "new_processes": row.processes[1]}
            for row in diff.commands
        ],
        "notes": diff.notes,
        "limits": [
            {"limit": None if each.gate is None else each.gate.text, "state": each.state, "why": each.why}
            for each in diff.judged
        ],
        "failed": diff.has_failed,
    }
    return json_line(said).decode()


def _side_json(side: Side) -> JsonObject:
    return {
        "word": side.word,
        "runs": [
            {
                "path": record.path,
                "run_id": str(record.run.get("run_id")),
                "name": record.name,
                "verdict": record.verdict,
                "started_at": record.started_at,
                "counted": record in side.counted,
            }
            for record in side.found
        ],
    }


def _row_json(row: ComparisonRow) -> JsonObject:
    comparison = row.comparison
    return {
        "name": row.name,
        "unit": row.unit,
        "better": row.better or None,
        "base": _group_json(row.base),
        "new": _group_json(row.new),
        "change": row.change,
        "ratio": row.ratio,
        "differs": None if comparison is None else comparison.differs,
        "method": None if comparison is None else comparison.method,
        "p": None if comparison is None else comparison.p,
    }


def _group_json(group: Group | None) -> JsonObject | None:
    if group is None:
        return None
    return {
        "n": len(group.values),
        "median": group.median,
        "low": group.low,
        "high": group.high,
        "mad": group.mad,
        "values": list(group.values),
    }
