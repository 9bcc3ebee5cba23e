"""`proctally ls`: a list of past runs as a table, CSV or JSON."""

from __future__ import annotations

import time

from proctally.analysis.conditions import waited_share, wanted_cores
from proctally.analysis.measures import figure
from proctally.analysis.time import WAITS, Time
from proctally.errors import NoRecord
from proctally.record.catalogue import SHORT_ID, Past, glance
from proctally.record.schema import STATES
from proctally.record.values import was_killed
from proctally.record.writer import json_line
from proctally.text.cells import columns_of, cut_middle, padded
from proctally.text.escape import argument_text, csv_cell, printable
from proctally.text.secrets import mask_recorded
from proctally.text.terminal import RED, VERDICT_COLOURS, Look
from proctally.text.units import brief, percentage, short_time, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

UNKNOWN = "-"
WALL, CPU, CORES, MEMORY = map(figure, ("wall", "cpu", "cores", "memory"))
TITLES = ("WHEN", "ID", "NAME", "VERDICT", "WALL", "CPU", "WANTED", "MEMORY", "WAITED")
TEXTS = (0, 1, 2, 3)  # columns whose cells start at the left
VERDICT = 3
ASCENDING = ("name", "verdict")
CSV = ("run_id", "name", "verdict", "started_at", "wall_seconds", "cpu_seconds", "wanted_cores", "memory_bytes",
       "waited_ratio", "oom_kills", "path")  # fmt: skip


class Row:
    """One run in the list, without its summary, which can be large. `but`: what is bad about the verdict."""

    __slots__ = (
        "but", "cpu", "memory", "modified_at", "name", "oom_kills", "path", "run_id", "started_at", "verdict", "waited",
        "wall", "wanted",
    )  # fmt: skip

    def __init__(self, record: Past) -> None:
        summary = record.summary
        self.path, self.run_id, self.name = record.path, record.run_id, record.name
        self.started_at, self.modified_at, self.verdict = record.started_at, record.modified_at, record.verdict
        self.wall, self.cpu, self.memory = (measure.of(summary) for measure in (WALL, CPU, MEMORY))
        self.wanted, self.waited = wanted_cores(summary), waited_share(summary)
        self.oom_kills = record.figure("reason.oom_kills") if was_killed(summary) else None
        self.but = ""
        if self.oom_kills and self.verdict != "oom":
            self.but = f", {self.oom_kills:,} killed"
        elif Time.of_summary(summary).is_starved(CORES.of(summary), *WAITS):
            self.but = ", starved"


KEYS: dict[str, Callable[[Row], Any]] = {
    "when": lambda row: (row.started_at, row.modified_at),
    "name": lambda row: row.name,
    "verdict": lambda row: row.verdict,
    "wall": lambda row: row.wall,
    "cpu": lambda row: row.cpu,
    "wanted": lambda row: row.wanted,
    "memory": lambda row: row.memory,
    "waited": lambda row: row.waited,
}


class Form:
    """A form of the table: cells of a name, what is between columns, form of a duration, whether the start is whole."""

    __slots__ = ("duration", "gap", "is_long", "name")

    def __init__(self, name: int, gap: str, duration: Callable[[float], str], *, is_long: bool = False) -> None:
        self.name = name
        self.gap = gap
        self.duration = duration
        self.is_long = is_long

    def cells(self, row: Row, mark: str, now: time.struct_time) -> list[str]:
        """Return the cells of a row."""
        known = row.verdict if row.verdict in STATES else UNKNOWN
        return [
            self._when(row.started_at, now),
            cut_middle(printable(row.run_id[:SHORT_ID]), SHORT_ID, mark),
            cut_middle(printable(row.name), self.name, mark),
            f"{known}{row.but}",
            *(UNKNOWN if seconds is None else self.duration(seconds) for seconds in (row.wall, row.cpu)),
            UNKNOWN if row.wanted is None else f"{row.wanted:.2f}",
            UNKNOWN if row.memory is None else size(row.memory),
            UNKNOWN if row.waited is None else percentage(row.waited),
        ]

    def _when(self, started_at: float, now: time.struct_time) -> str:
        """Return the local time of the start: whole, or the time of today, else the day."""
        if started_at <= 0:
            return UNKNOWN
        then = time.localtime(started_at)
        if self.is_long:
            return time.strftime("%Y-%m-%d %H:%M", then)
        if then[:3] == now[:3]:
            return time.strftime("%H:%M", then)
        return time.strftime("%b %d" if then.tm_year == now.tm_year else "%Y-%m-%d", then)


FORMS = (  # the first one that fits is taken
    Form(24, "  ", brief, is_long=True), Form(24, "  ", brief), Form(15, "  ", brief), Form(15, " ", short_time),
    Form(8, " ", short_time),
)  # fmt: skip


def in_order(rows: list[Row], column: str, *, reverse: bool) -> list[Row]:
    """Return the rows by a column, those where it is unknown last."""
    key = KEYS[column]
    known = [row for row in rows if key(row) is not None]
    known.sort(key=key, reverse=(column not in ASCENDING) != reverse)
    return known + [row for row in rows if key(row) is None]


def table(rows: Sequence[Row], look: Look) -> Iterator[str]:
    """Yield the lines of the table; where it is too wide, columns go from the right."""
    now = time.localtime()
    for form in FORMS:
        cells = padded([TITLES, *(form.cells(row, look.mark, now) for row in rows)], TEXTS)
        widths = [columns_of(cell) + len(form.gap) for cell in cells[0]]
        if sum(widths) - len(form.gap) <= look.width:
            break
    count = max(count for count in range(1, len(TITLES) + 1) if count == 1 or sum(widths[:count]) <= look.width + 1)
    yield form.gap.join(cells[0][:count]).rstrip() + "\n"
    for row, line in zip(rows, cells[1:], strict=True):
        line[VERDICT] = look.paint(line[VERDICT], RED if row.but else VERDICT_COLOURS.get(row.verdict, RED))
        yield look.encoded(form.gap.join(line[:count]).rstrip()) + "\n"


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a header and a line for each run, in base units; an unknown value is empty."""
    yield ",".join(CSV) + "\n"
    for row in rows:
        started_at = row.started_at or None
        cells = (row.run_id, row.name, row.verdict, started_at, row.wall, row.cpu, row.wanted, row.memory, row.waited)
        yield ",".join(map(csv_cell, (*cells, row.oom_kills, argument_text(row.path)))) + "\n"


def as_json(rows: Iterable[Row | Past]) -> Iterator[bytes]:
    """Yield a line for each of the records, which is read again: a list holds none of them whole."""
    for listed in rows:
        try:
            record = glance(listed.path)
        except (NoRecord, OSError):  # removed meanwhile
            continue
        run = record.run
        line = {
            "path": argument_text(record.path),
            "run_id": run.get("run_id"),
            "kind": run.get("kind"),
            "name": run.get("name"),
            "started_at": run.get("started_at"),
            "command": mask_recorded(run.pop("command", None)),
            "tags": run.get("tags"),
            "verdict": record.verdict,
            "size_bytes": record.size,
            "summary": record.summary,
        }
        yield json_line(line)
