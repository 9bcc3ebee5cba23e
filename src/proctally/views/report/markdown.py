"""A record as Markdown, for the job summary of a CI service."""

from __future__ import annotations

from proctally.report import figures, request, waits
from proctally.report.text import BLOCKS, sparks
from proctally.summary import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proctally.report.figures import Facts

COMMANDS = 15
SIGNS = {"ok": "✅", "ended": "⏹️", "running": "⏳", "lost": "❔"}
BAD = "❌"
PLAIN = " -,.;%/="  # every other sign may mean something to Markdown, or to a service


def markdown(runs: Sequence[Facts]) -> str:
    """The document."""
    return "\n".join(_several(runs) if len(runs) > 1 else _one(runs[0])) + "\n"


def said(text: object) -> str:
    """Text of a stranger: nothing in it is Markdown, HTML, a mention or a link."""
    return "".join(sign if sign.isalnum() or sign in PLAIN else f"&#{ord(sign)};" for sign in printable(str(text)))


def code(text: object) -> str:
    """A name as code: no service looks for mentions there."""
    return f"<code>{said(text)}</code>"


def _one(facts: Facts) -> list[str]:
    lines = [
        f"## {code(facts.story.title)} {SIGNS.get(facts.verdict, BAD)} {said(facts.verdict)}",
        "",
        said(facts.evidence),
        "",
    ]
    rows = []
    for figure in figures.head(facts):
        value = f"at least {figure.value}" if figure.incomplete else figure.value
        rows.append([said(figure.label), f"**{said(value)}**", said(figure.note)])
    lines += _table(["", "", ""], rows)
    lines += ["", f"**{said(waits.headline(facts))}**", ""]
    lines += [f"- {said(wait.what)}: {said(wait.text)}" for wait in waits.waits(facts)]
    if found := request.next_time(facts):
        lines += ["", "### What to request next time", "", *(f"- {said(line)}" for line in found)]
    if courses := list(sparks(facts, BLOCKS)):
        # Fenced, so that columns stay in line; a fence is closed by nothing that is in it: names stand in no course
        lines += ["", "### Over time", "", "```text", *(course.replace("`", "'") for course in courses), "```"]
    if found_commands := figures.commands(facts):
        lines += ["", "### Commands by CPU time", ""]
        lines += _table(
            ["command", "CPU s", "processes", "largest RSS"],
            [
                [
                    code(row["command"]),
                    figures.UNKNOWN if row["cpu"] is None else f"{row['cpu']:,.3f}",
                    f"{row['processes'] or 0:,.0f}",
                    figures.said("bytes", row["rss"]),
                ]
                for row in found_commands[:COMMANDS]
            ],
        )
        if len(found_commands) > COMMANDS:
            lines += ["", f"{len(found_commands) - COMMANDS:,} more used less."]
    if facts.story.phases:
        lines += ["", "### Phases", ""]
        lines += _table(
            ["phase", "from", "wall", "CPU"],
            [
                [
                    code(phase["name"]),
                    figures.time(phase["begin"]),
                    "not ended" if phase["end"] is None else figures.time(phase["end"] - phase["begin"]),
                    figures.time(phase["used"]),
                ]
                for phase in facts.story.phases
            ],
        )
    lines += ["", "<details><summary>What the numbers cannot see</summary>", ""]
    lines += [f"- {said(line)}" for line in figures.unseen(facts)]
    return [*lines, "", "</details>"]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _several(runs: Sequence[Facts]) -> list[str]:
    rows = [[label, *map(said, values)] for label, values in figures.side_by_side(runs)]
    return [f"## {len(runs)} runs", "", *_table(["", *map(code, figures.labels(runs))], rows)]
