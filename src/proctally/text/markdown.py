"""Escape untrusted text for Markdown, and write tables."""

from __future__ import annotations

from proctally.text.escape import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MARKS = "\\`*_[]<>#!|~$&@"  # `$` starts a formula, and `@` a mention
LINKS = {"://": "&#58;//", "www.": "www&#46;"}


def escaped(text: object) -> str:
    """Return text that shows as it is within a line: no markup, HTML, mention or link, no end of a table cell."""
    shown = "".join(f"&#{ord(sign)};" if sign in MARKS else sign for sign in printable(str(text)))
    for start, instead in LINKS.items():
        shown = shown.replace(start, instead)
    return shown


def code(text: object) -> str:
    """Return a name as code; services look for no mentions there."""
    return f"<code>{escaped(text)}</code>"


def fenced(lines: Iterable[str], language: str = "text") -> list[str]:
    """Return lines as a block of code, with an apostrophe for each backtick: no line closes the block."""
    return [f"```{language}", *(line.replace("`", "'") for line in lines), "```"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Return the lines of a table of escaped cells; all but the first `left` columns are right-aligned."""
    rule = ["---" if column < left else "---:" for column in range(len(head))]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]
