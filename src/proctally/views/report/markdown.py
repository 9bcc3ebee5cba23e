"""A record as Markdown, for the job summary of a CI service."""

from __future__ import annotations

from proctally.record.values import number_at
from proctally.text.escape import printable
from proctally.text.markdown import code, escaped, fenced, table
from proctally.text.terminal import Look
from proctally.text.units import UNKNOWN, size
from proctally.views import phrases
from proctally.views.report import head, run_facts
from proctally.views.report.text import BLOCKS, difference, first_lines, sparks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.views.report.run_facts import Facts

COMMANDS = 15
SIGNS = {"ok": "✅", "ended": "⏹️", "running": "⏳", "lost": "❔"}
BAD = "❌"


def markdown(runs: Sequence[Facts], split: int = 0) -> str:
    """The document."""
    return "\n".join(_several(runs, split) if len(runs) > 1 else _one(runs[0])) + "\n"


def _one(facts: Facts) -> list[str]:
    lines = [f"## {code(facts.story.title)} {SIGNS.get(facts.verdict, BAD)} {escaped(facts.verdict)}", ""]
    lines += fenced(first_lines(facts, Look()))
    rows = [[code(row["name"]), row["wall"], row["cores"], row["time"]] for row in head.phases(facts)]
    if rows:
        lines += ["", "### Phases", "", *table(["phase", "wall", "cores", "where its time went"], rows)]
    if courses := list(sparks(facts, BLOCKS)):
        lines += ["", "### Over time", "", *fenced(courses)]
    if parts := facts.memory.parts:
        lines += ["", "### Memory at the peak", ""]
        rows = [[code(part.name), "" if part.pid is None else str(part.pid), part.text] for part in parts]
        lines += table(["part", "pid", "memory"], rows)
    if found := phrases.commands(facts.story.summary, least=phrases.LEAST_SECONDS):
        lines += ["", "### Commands by CPU time", ""]
        lines += table(["command", "CPU s", "processes", "largest RSS"], [_command(row) for row in found[:COMMANDS]])
        if len(found) > COMMANDS:
            lines += ["", f"{len(found) - COMMANDS:,} more used less."]
    lines += ["", "<details><summary>What the numbers cannot see</summary>", ""]
    lines += [f"- {escaped(line)}" for line in run_facts.unseen(facts)]
    return [*lines, "", "</details>"]


def _command(row: phrases.CommandTime) -> list[str]:
    return [
        code(row.title),
        UNKNOWN if row.seconds is None else f"{row.seconds:,.3f}",
        "" if row.processes is None else f"{row.processes:,.0f}",
        "" if row.line is None else size(number_at(row.line, "peak_rss_bytes")),
    ]


def _several(runs: Sequence[Facts], split: int) -> list[str]:
    rows = [[label, *map(escaped, values)] for label, values in run_facts.side_by_side(runs)]
    lines = [f"## {len(runs)} runs", "", *fenced(map(printable, difference(runs, split))), ""]
    return [*lines, *table(["", *map(code, run_facts.labels(runs))], rows)]
