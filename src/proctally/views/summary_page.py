"""The page of a summary: lines with a label each, for one width."""

from __future__ import annotations

from proctally.record.values import number_at
from proctally.text.cells import columns_of, cut_middle, wrapped
from proctally.text.escape import label, printable
from proctally.text.terminal import DIM
from proctally.text.units import UNKNOWN, decimal, size
from proctally.views.phrases import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.text.terminal import Look

LABEL = 11
MAX_LINES = 16
DISPENSABLE = (
    "processes",
    "disk",
    "",
    "cores",
    "CPU",
    "phases",
    "commands",
)  # labels in the order in which they give way


class Page:
    """Lines with a label each, for one width."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.room = look.width - LABEL - 2
        self.rows: list[tuple[str, list[str]]] = []

    def add(self, name: str, text: str, *, whole: bool = False) -> None:
        """Add an entry, as many lines as it needs; `whole`: one, however long, so that it can be copied."""
        first, *more = [text] if whole else wrapped(text, self.room, self.room)
        lines = [f"  {self.look.paint(f'{name:<{LABEL}}', DIM)}{first}"]
        self.rows.append((name, lines + [" " * (LABEL + 2) + line for line in more]))

    def add_list(self, name: str, start: str, entries: list[str]) -> None:
        """Add a line with the entries that it has room for, none where there are none."""
        for count in range(len(entries), 0, -1):
            text = start + ", ".join(entries[:count])
            more = "" if count == len(entries) else f", {self.look.mark}"
            if columns_of(text + more) <= self.room:
                self.add(name, text + more)
                return
        if entries:
            self.add(name, start + entries[0])

    def name(self, text: object, width: int = NAME) -> str:
        """Return a name of another program, cut in its middle."""
        return cut_middle(self.look.encoded(printable(label(text))), min(width, self.room // 2), self.look.mark)

    def lines(self, most: int = MAX_LINES) -> list[str]:
        """Return the lines, at most `most` where some can be left out."""
        rows = list(self.rows)
        for name in DISPENSABLE:
            if sum(len(lines) for _, lines in rows) > most:
                rows = [row for row in rows if row[0] != name]
        return [line for _, lines in rows for line in lines]


def busy_cores(system: JsonObject) -> str:
    """Return the busy cores of the machine as text."""
    mean, peak, cpus = (number_at(system, name) for name in ("mean_cores", "peak_cores", "cpus"))
    if mean is None:
        return UNKNOWN
    return f"mean {mean:.2f}, peak {decimal(peak)} of {UNKNOWN if cpus is None else f'{cpus:g}'} busy"


def used_memory(system: JsonObject) -> str:
    """Return the used memory of the machine as text."""
    used, total = (size(number_at(system, name)) for name in ("peak_memory_used_bytes", "memory_total_bytes"))
    return f"at most {used} of {total} used"
