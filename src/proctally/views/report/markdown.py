"""A record as Markdown, for the job summary of a CI service."""

from __future__ import annotations

from proctally.record.schema import BYTES
from proctally.text.markdown import code, escaped, fenced, table
from proctally.text.units import UNKNOWN, duration
from proctally.views.report import request, run_facts, waits
from proctally.views.report.text import BLOCKS, sparks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.views.report.run_facts import Facts

COMMANDS = 15
SIGNS = {"ok": "✅", "ended": "⏹️", "running": "⏳", "lost": "❔"}
BAD = "❌"


def markdown(runs: Sequence[Facts]) -> str:
    """The document."""
    return "\n".join(_several(runs) if len(runs) > 1 else _one(runs[0])) + "\n"


def _one(facts: Facts) -> list[str]:
    lines = [
        f"## {code(facts.story.title)} {SIGNS.get(facts.verdict, BAD)} {escaped(facts.verdict)}",
        "",
        escaped(facts.reason),
        "",
    ]
    rows = []
    for figure in run_facts.head(facts):
        value = f"at least {figure.value}" if figure.incomplete else figure.value
        rows.append([escaped(figure.label), f"**{escaped(value)}**", escaped(figure.note)])
    lines += table(["", "", ""], rows)
    lines += ["", f"**{escaped(waits.headline(facts))}**", ""]
    lines += [f"- {escaped(wait.what)}: {escaped(wait.text)}" for wait in waits.waits(facts)]
    if found := request.next_time(facts):
        lines += ["", "### What to request next time", "", *(f"- {escaped(line)}" for line in found)]
    if courses := list(sparks(facts, BLOCKS)):
        lines += ["", "### Over time", "", *fenced(courses)]
    if parts := facts.memory.parts:
        lines += ["", "### Memory at the peak", ""]
        rows = [[code(part.name), "" if part.pid is None else str(part.pid), part.text] for part in parts]
        lines += table(["part", "pid", "memory"], rows)
    if found_commands := run_facts.commands(facts):
        lines += ["", "### Commands by CPU time", ""]
        lines += table(
            ["command", "CPU s", "processes", "largest RSS"],
            [
                [
                    code(row["command"]),
                    UNKNOWN if row["cpu"] is None else f"{row['cpu']:,.3f}",
                    f"{row['processes'] or 0:,.0f}",
                    run_facts.said(BYTES, row["rss"]),
                ]
                for row in found_commands[:COMMANDS]
            ],
        )
        if len(found_commands) > COMMANDS:
            lines += ["", f"{len(found_commands) - COMMANDS:,} more used less."]
    if facts.story.phases:
        lines += ["", "### Phases", ""]
        lines += table(
            ["phase", "from", "wall", "CPU"],
            [
                [
                    code(phase["name"]),
                    duration(phase["begin"]),
                    "not ended" if phase["end"] is None else duration(phase["end"] - phase["begin"]),
                    duration(phase["used"]),
                ]
                for phase in facts.story.phases
            ],
        )
    lines += ["", "<details><summary>What the numbers cannot see</summary>", ""]
    lines += [f"- {escaped(line)}" for line in run_facts.unseen(facts)]
    return [*lines, "", "</details>"]


def _several(runs: Sequence[Facts]) -> list[str]:
    rows = [[label, *map(escaped, values)] for label, values in run_facts.side_by_side(runs)]
    return [f"## {len(runs)} runs", "", *table(["", *map(code, run_facts.labels(runs))], rows)]
