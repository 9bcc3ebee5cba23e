"""The pieces of HTML that a page is made of: `escape.html` is what puts text of a record into the page."""

from __future__ import annotations

from proctally.text.escape import html

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def section(key: str, title: str, body: str) -> str:
    """A part of the page with its heading."""
    return f'<section aria-labelledby="{key}"><h2 id="{key}">{html(title)}</h2>\n{body}</section>\n'


def bullets(lines: Iterable[object]) -> str:
    """A list of texts."""
    return f'<ul class="plain small">{"".join(f"<li>{html(line)}</li>" for line in lines)}</ul>'


def table(label: str, caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in a box that scrolls where it is too wide; cells are markup, the first of a row is its heading."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    lines = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>\n' for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html(label)}"><table>\n'
        f"{f'<caption>{html(caption)}</caption>' if caption else ''}"
        f"<thead><tr>{top}</tr></thead>\n<tbody>{lines}</tbody></table></div>"
    )
