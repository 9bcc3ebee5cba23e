"""Lines of text: pieces, each a style and its text; the signs that pictures are made of.

Names come from other programs: what is no printable character is shown in its escaped form, and no text is ever read as
markup.
"""

from __future__ import annotations

from proctally.text.cells import columns_of, cut
from proctally.text.escape import printable
from proctally.views.summary import ASCII, BLOCKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    Line = list[tuple[str, str]]

TITLE, LABEL, PLAIN, GRAPH, HEADING, SORTED, CHOSEN, NOTE, KEYS, BAD = (
    "title", "label", "plain", "graph", "heading", "sorted", "chosen", "note", "keys", "bad",
)  # fmt: skip
LABEL_WIDTH = 7


class Signs:
    """The characters that pictures are made of."""

    def __init__(self, *, ascii_only: bool) -> None:
        self.ascii_only = ascii_only
        self.levels = "_.-=+*#@" if ascii_only else "▁▂▃▄▅▆▇█"
        self.parts = ASCII if ascii_only else BLOCKS
        self.open = "-" if ascii_only else "▾"
        self.folded = "+" if ascii_only else "▸"
        self.cut = "~" if ascii_only else "…"

    def name(self, text: str) -> str:
        """Return text of another program as it can be shown."""
        shown = printable(text)
        return shown.encode("ascii", "backslashreplace").decode() if self.ascii_only else shown


def labelled(label: str, text: str, style: str = PLAIN) -> Line:
    """Return a line of the head."""
    return [(LABEL, f"{label:<{LABEL_WIDTH}}"), (style, text)]


def apart(left: Line, right: str, width: int, style: str = PLAIN) -> Line:
    """Return a line with text at its right end, where there is room for both."""
    room = width - columns_of_line(left) - columns_of(right)
    return [*left, (PLAIN, " " * room), (style, right)] if room >= 1 else left


def columns_of_line(line: Line) -> int:
    """Return the cells of a line."""
    return sum(columns_of(text) for _, text in line)


def clipped(line: Line, width: int, signs: Signs) -> Line:
    """Return the line within the width; a cut is shown."""
    kept: Line = []
    room = width
    for style, text in line:
        used = columns_of(text)
        if used > room:
            kept.append((style, cut(text, room, signs.cut)))
            break
        kept.append((style, text))
        room -= used
    return kept
