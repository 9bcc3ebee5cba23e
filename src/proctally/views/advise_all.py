"""`proctally advise --all`: a line for each name, the most wasted core-hours and GiB-hours first."""

from __future__ import annotations

from proctally.analysis.advice import LABELS, request_rows
from proctally.analysis.evidence import CORES, GPUS, MEMORY, TIME, Evidence
from proctally.analysis.waste import wasted
from proctally.errors import NoRecord
from proctally.record.catalogue import past
from proctally.record.reader import Reading
from proctally.record.writer import json_line
from proctally.text.cells import columns_of, cut_middle
from proctally.text.escape import printable
from proctally.text.markdown import escaped, table
from proctally.text.terminal import DIM
from proctally.views.advise import MOST_RUNS, NONE, data_of, ended_jobs, requested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.analysis.advice import Advice
    from proctally.record.catalogue import Filter, Past
    from proctally.text.terminal import Look

MOST_WHOLE = 10  # of each name the newest, which are read whole; of others the first and the last line count
MOST_BYTES = 32 << 20  # of records that are read whole
LARGEST = 4 << 20
NAME = 20
HEAD = ("NAME", "RUNS", "CORES", "MEMORY", "TIME", "GPUS", "CORE-H", "GIB-H")


class Job:
    """The runs of one name: how many there are, what to request, and what was wasted."""

    __slots__ = ("count", "gib_hours", "hours", "name", "rows")

    def __init__(self, name: str, runs: Sequence[Evidence], count: int) -> None:
        self.name = name
        self.count = count
        self.rows = {row.resource: row for row in request_rows(runs)}
        self.hours = wasted(runs, CORES)
        self.gib_hours = wasted(runs, MEMORY)

    def cells(self) -> list[str]:
        """Return the columns as text."""
        requests = [_cell(self.rows.get(resource)) for resource in (CORES, MEMORY, TIME, GPUS)]
        hours = [NONE if value is None else f"{value:.1f}" for value in (self.hours, self.gib_hours)]
        return [str(self.count), *requests, *hours]


def _cell(row: Advice | None) -> str:
    if row is None:
        return NONE
    is_trial = row.request is None and row.trial is not None
    return requested(row) + ("?" if is_trial else "")


def jobs(wanted: Filter, environment: dict[str, str]) -> tuple[list[Job], list[str]]:
    """Return the jobs of each name, the most wasteful first, and what was left out. Raises NoRecord."""
    ended, left_out = ended_jobs([record for record in past(environment)[0] if wanted.takes(record)])
    by_name: dict[str, list[Past]] = {}
    for record in ended:  # the newest first
        by_name.setdefault(record.name, []).append(record)
    room, by_ends = MOST_BYTES, 0
    found = []
    for name, records in by_name.items():
        runs = []
        for number, record in enumerate(records[:MOST_RUNS]):
            is_whole = number < MOST_WHOLE and record.size <= min(LARGEST, room)
            room -= record.size if is_whole else 0
            by_ends += not is_whole
            runs.append(_evidence(record, is_whole=is_whole))
        found.append(Job(name, runs, len(records)))
    if by_ends:
        left_out.append(
            f"of {by_ends} of {len(ended)} runs the summary alone was read: their cores are those of the peak"
        )
    found.sort(key=lambda job: (-(job.hours or 0.0), -(job.gib_hours or 0.0), job.name))
    return found, left_out


def _evidence(record: Past, *, is_whole: bool) -> Evidence:
    if is_whole:
        try:
            return Evidence.of(Reading(record.path).lines(), record.path)
        except (NoRecord, OSError):  # removed or damaged since
            pass
    return Evidence.of([record.run, *([] if record.summary is None else [record.summary])], record.path)


def as_text(found: Sequence[Job], left_out: Sequence[str], look: Look) -> str:
    """Return a line for each name; `?` marks a trial, which no run proves."""
    names = [cut_middle(look.encoded(printable(job.name)), NAME, look.mark) for job in found]
    rows = [HEAD, *([name, *job.cells()] for name, job in zip(names, found, strict=True))]
    kept = [place for place in range(len(HEAD)) if HEAD[place] != "GPUS" or any(GPUS in job.rows for job in found)]
    widths = [max(columns_of(row[place]) for row in rows) for place in range(len(HEAD))]
    lines = []
    for row in rows:
        name, *others = [row[place] + " " * (widths[place] - columns_of(row[place])) for place in kept]
        cells = [cell.rstrip().rjust(len(cell)) for cell in others]
        lines.append("  ".join([name, *cells]).rstrip())
    lines[0] = look.paint(lines[0], DIM)
    return "\n".join([*lines, *(f"note: {text}" for text in left_out)]) + "\n"


def as_markdown(found: Sequence[Job], left_out: Sequence[str]) -> str:
    """Return a table."""
    rows = [[escaped(job.name), *map(escaped, job.cells())] for job in found]
    return (
        "\n".join([*table([name.lower() for name in HEAD], rows), *(f"\n- {escaped(text)}" for text in left_out)])
        + "\n"
    )


def as_json(found: Sequence[Job]) -> str:
    """Return a line for each name."""
    lines = [
        {
            "name": job.name,
            "runs": job.count,
            "wasted_core_hours": job.hours,
            "wasted_gib_hours": job.gib_hours,
            "advice": {resource: data_of(job.rows[resource]) for resource in LABELS if resource in job.rows},
        }
        for job in found
    ]
    return "".join(json_line(line).decode() for line in lines)
