"""`proctally diff BASE NEW`: the figures of two runs, or two groups, side by side, as text, Markdown or JSON.

Also the spread of one group, for `run --repeat`.
"""

from __future__ import annotations

import math
from operator import itemgetter

from proctally.analysis.changes import amounts, change, interval, seen
from proctally.analysis.comparison import CLAIMED, UNCLEAR, ComparisonRow, Diff, Side
from proctally.analysis.gates import CANNOT_TELL, FAILS, HOLDS
from proctally.analysis.measures import FIGURES, MACHINE, figure
from proctally.analysis.statistics import LEVEL, MIN_RUNS, Group, spread
from proctally.record.writer import json_line
from proctally.text.cells import aligned, columns_of, cut_middle, fitted
from proctally.text.escape import printable
from proctally.text.markdown import escaped, table
from proctally.text.terminal import BOLD, DIM, GREEN, RED, RESET, YELLOW
from proctally.text.units import number, percentage, scale

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctally.analysis.comparison import Judged
    from proctally.analysis.statistics import Shift
    from proctally.record import JsonObject

NAME_WIDTH = 15
HEAD = ("", "BASE", "NEW", "CHANGE", "95 %", "")
EDGES = (0, 5)  # columns whose cells start at the left
SPREAD_HEAD = ("MEDIAN", "LEAST", "MOST", "SPREAD")
COLOURS = {HOLDS: GREEN, CANNOT_TELL: YELLOW, FAILS: RED}


# -- what is shown ---------------------------------------------------------------------------------------------------


def shown(diff: Diff, *, verbose: bool) -> tuple[list[ComparisonRow], list[ComparisonRow], int]:
    """Return the rows of figures, those that are only named (equal on both sides), and how many are left out.

    Without `verbose`, figures of which something is claimed, and those of the machine where that was tracked.
    """
    of_machine = all(record.run.get("kind") == "system" for side in (diff.base, diff.new) for record in side.counted)
    wanted: list[ComparisonRow] = []
    others: list[ComparisonRow] = []
    for measure, row in zip(FIGURES, diff.rows, strict=True):
        if row.base is not None or row.new is not None:
            is_first = row in diff.claimed or (measure.scope == MACHINE and of_machine)
            (wanted if is_first else others).append(row)
    if not verbose:
        return wanted, [], len(others)
    differing = [row for row in diff.rows if row in wanted or (row in others and not row.is_equal)]
    return differing, [row for row in others if row.is_equal], 0


def named_equal(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the line that stands for rows that are equal on both sides."""
    return [f"equal on both sides: {', '.join(row.name for row in rows)}"] if rows else []


def word(diff: Diff, row: ComparisonRow) -> str:
    """Return the claim of a row; of a change that is clear alone, and not among all tests, how many these are."""
    found = None if row.shift is None else row.shift.interval
    if row.claim == UNCLEAR and found is not None and found.p <= LEVEL:
        return f"{row.claim}: one of {len(diff.tested)} tests"
    return row.claim or ""


def remarks(diff: Diff) -> list[str]:
    """Return what this number of runs can show: that they are untested, or the change that they see."""
    untested = [row.untested for row in diff.claimed if row.untested]
    if untested:
        return [f"{untested[0]}; an interval needs {MIN_RUNS} runs a side"]
    spreads = [
        (found.spread, row)
        for row in diff.tested
        if row.shift is not None and row.shift.is_ratio and (found := row.shift.interval) is not None
    ]
    deviation, worst = max(spreads, key=itemgetter(0), default=(0.0, None))
    is_open = diff.result == CANNOT_TELL or any(row.claim == UNCLEAR for row in diff.tested)
    return [seen(worst.name, deviation, worst.runs)] if is_open and worst is not None and deviation > 0 else []


def most_of_the_cpu(diff: Diff) -> str | None:
    """Return the command that has most of the change of CPU time."""
    total = diff.row("cpu").change
    changes = [(row.change, row) for row in diff.commands if row.change is not None]
    if not total or not changes:
        return None
    most, row = max(changes, key=lambda pair: math.copysign(1, total) * pair[0])
    if most * total <= 0 or row.shift is None:
        return None
    between = interval(row.unit, row.shift) + " %" * row.shift.is_ratio
    basis = "" if row.shift.interval is None else f" ({between})"
    return f"most of the CPU: {row.name} {amounts(row.unit, most, total, between=' of ')}{basis}"


def cells(row: ComparisonRow) -> list[str]:
    """Return median of BASE and of NEW, the change and its interval."""
    medians = [None if group is None else group.median for group in (row.base, row.new)]
    moved = row.shift
    changes = ["", ""] if moved is None else [change(row.unit, moved), interval(row.unit, moved)]
    return [*_in_one_unit(row.unit, medians), *changes]


def ranges(row: ComparisonRow) -> list[str]:
    """Return the range of BASE and of NEW, `22.1 to 24.0 s`; empty for a side of one run."""
    found = []
    for group in (row.base, row.new):
        if group is None or len(group.values) < 2:
            found.append("")
            continue
        low, high = _in_one_unit(row.unit, [group.low, group.high])
        found.append(f"{low.partition(' ')[0]} to {high}")
    return found


def _in_one_unit(unit: str, values: Sequence[float | None]) -> list[str]:
    known = [value for value in values if value is not None]
    factor, name = scale(unit, max(known))
    scaled = [value / factor for value in known]
    return ["-" if value is None else f"{number(value / factor, *scaled)} {name}".strip() for value in values]


def title(side: Side) -> str:
    """Which runs a side is."""
    names = {record.name for record in side.counted}
    name = side.label or (names.pop() if len(names) == 1 else f"{len(names)} names")
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
    paint = _painter(colour)
    rows, equal, left = shown(diff, verbose=verbose)
    listed = diff.commands if verbose else []
    lines = [paint(f"BASE  {printable(title(diff.base))}", BOLD), paint(f"NEW   {printable(title(diff.new))}", BOLD)]
    body = [[f"  {row.name}", *cells(row), word(diff, row)] for row in rows]
    body += [[f"  {cut_middle(printable(row.name), NAME_WIDTH)}", *cells(row), counts(row)] for row in listed]
    head, *texts = aligned([HEAD, *body], EDGES)
    lines.append(paint(head, DIM))
    for text, row in zip(texts, rows + listed, strict=True):
        if listed and row is listed[0]:
            lines.append(paint("CPU time by command", DIM))
        lines.append(text if row.is_worse is None else paint(text, RED if row.is_worse else GREEN))
    lines += named_equal(equal)
    if not verbose:
        most = most_of_the_cpu(diff)
        lines += [] if most is None else [printable(most)]
        left += len(diff.commands)
        lines += [paint(f"{left} other figures and commands: -v", DIM)] if left else []
    lines += [paint(text, DIM) for text in remarks(diff)]
    lines += [paint(f"note: {printable(note)}", YELLOW) for note in diff.notes]
    width = max((columns_of(gate(each)) for each in diff.judged), default=0)
    for each in diff.judged:
        result = paint(f"{shouted(each):<11}", COLOURS[each.result])
        lines.append(f"{fitted(gate(each), width)}  {result}  {printable(each.why)}")
    return "\n".join(lines) + "\n"


def gate(judged: Judged) -> str:
    """Return the name of what was judged: `gate cpu=+5%`, or `runs` where no run of a side went well."""
    return "runs" if judged.gate is None else f"gate {judged.gate.text}"


def shouted(judged: Judged) -> str:
    """Return the result as it is shown: `CANNOT TELL`."""
    return judged.result.replace("_", " ").upper()


def _painter(colour: bool) -> Callable[[str, str], str]:
    return lambda text, code: f"{code}{text}{RESET}" if colour else text


def as_spread(side: Side, *, colour: bool) -> str:
    """Return the figures of one group: median, range and spread."""
    paint = _painter(colour)
    body, note = spread_rows(side)
    head, *lines = aligned([("", *SPREAD_HEAD, ""), *([f"  {row[0]}", *row[1:], ""] for row in body)], EDGES)
    lines = [paint(printable(title(side)), BOLD), paint(head, DIM), *lines]
    lines += [paint(note, DIM)] if note else []
    return "\n".join(lines) + "\n"


def spread_rows(side: Side) -> tuple[list[list[str]], str]:
    """Return the name, the median, the range and the spread of each figure, and which change these runs can see."""
    body, spreads = [], []
    for measure in map(figure, CLAIMED):
        values = side.values(measure)
        if not values:
            continue
        group = Group(values)
        is_spread = len(values) > 1 and group.low > 0
        deviation = spread([math.log(value) for value in values]) if is_spread else None
        texts = _in_one_unit(measure.unit, [group.median, group.low, group.high])
        body.append([measure.name, *texts, "-" if deviation is None else percentage(deviation)])
        spreads.append((deviation or 0.0, measure.name, len(values)))
    deviation, name, runs = max(spreads, default=(0.0, "", 0))
    return body, seen(name, deviation, runs) if deviation and runs >= MIN_RUNS else ""


# -- as Markdown, for the summary of a CI job ------------------------------------------------------------------------


def as_markdown(diff: Diff, *, verbose: bool) -> str:
    """Tables; the limits and their results first."""
    lines = []
    if diff.result is not None:
        lines += [f"**{diff.result.replace('_', ' ')}**", ""]
        lines += [f"- {escaped(gate(each))} {shouted(each)}: {escaped(each.why)}" for each in diff.judged]
        lines.append("")
    rows, equal, _ = shown(diff, verbose=verbose)
    lines += [f"BASE {escaped(title(diff.base))}; NEW {escaped(title(diff.new))}", ""]
    lines += table(
        ("figure", "BASE", "NEW", "change", "95 %", ""),
        [list(map(escaped, (row.name, *cells(row), word(diff, row)))) for row in rows],
    )
    if verbose and diff.commands:
        body = [list(map(escaped, (row.name, *cells(row), counts(row)))) for row in diff.commands]
        lines += ["", *table(("CPU time of command", "BASE", "NEW", "change", "95 %", "processes"), body)]
    most = None if verbose else most_of_the_cpu(diff)
    below = [*([] if most is None else [most]), *named_equal(equal), *remarks(diff)]
    lines += ["", *(f"{escaped(text)}  " for text in below)]
    lines += [f"- {escaped(note)}" for note in diff.notes]
    return "\n".join(lines).rstrip() + "\n"


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
            {
                "limit": None if each.gate is None else each.gate.text,
                "result": each.result,
                "why": each.why,
                **_shift_json(each.shift),
                "runs_needed": each.runs,
            }
            for each in diff.judged
        ],
        "result": diff.result,
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
    return {
        "name": row.name,
        "unit": row.unit,
        "better": row.better or None,
        "base": _group_json(row.base),
        "new": _group_json(row.new),
        "change": row.change,
        "ratio": row.ratio,
        **_shift_json(row.shift),
        "p": None if row.shift is None or row.shift.interval is None else row.shift.interval.p,
        "claim": row.claim,
    }


def _shift_json(moved: Shift | None) -> JsonObject:
    """Return a shift, as a share of BASE where a ratio is formed, else in the unit of the figure."""
    if moved is None:
        return dict.fromkeys(("shift_is_ratio", "shift", "shift_low", "shift_high"))
    found = moved.interval
    values = {
        "shift": moved.middle,
        "shift_low": None if found is None else found.low,
        "shift_high": None if found is None else found.high,
    }
    if moved.is_ratio:
        values = {name: None if value is None else math.expm1(value) for name, value in values.items()}
    return {"shift_is_ratio": moved.is_ratio, **values}


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
