"""Text of strangers in Markdown: in a cell of a table nothing of it is markup, nor HTML, nor ends the cell."""

from __future__ import annotations

from proctally.summary import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MARKS = "\\`*_[]<>#!|~$&@"  # `$` begins a formula, and `@` calls somebody
LINKS = {"://": "&#58;//", "www.": "www&#46;"}


def escaped(text: str) -> str:
    """Text that shows as it is, within a line; control characters are shown, never sent."""
    shown = "".join(f"&#{ord(sign)};" if sign in MARKS else sign for sign in printable(text))
    for begin, instead in LINKS.items():
        shown = shown.replace(begin, instead)
    return shown


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """The lines of a table of cells that are escaped already; all but the first `left` columns stand to the right."""
    rule = ["---" if column < left else "---:" for column in range(len(head))]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]
