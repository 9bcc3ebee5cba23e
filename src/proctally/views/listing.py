"""`proctally ls` and `proctally rm`: the runs of the past, and to be rid of them."""

from __future__ import annotations

import time

from proctally.analysis.measures import figure
from proctally.errors import NoRecord
from proctally.record.catalogue import Past, glance
from proctally.record.writer import json_line
from proctally.text.cells import fitted
from proctally.text.escape import argument_text, printable
from proctally.text.secrets import mask_recorded
from proctally.text.terminal import RESET, VERDICT_COLOURS, colour_wanted
from proctally.text.units import short_time, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


FAILED = 1
NAME_WIDTH, VERDICT_WIDTH, ID_WIDTH = 15, 8, 8
UNKNOWN = "-"
WALL, CPU, MEMORY = figure("wall"), figure("cpu"), figure("memory")
KEYS: dict[str, Callable[[Past], Any]] = {
    "when": lambda record: record.started_at,
    "name": lambda record: record.name,
    "verdict": lambda record: record.verdict,
    "wall": lambda record: WALL.of(record.summary),
    "cpu": lambda record: CPU.of(record.summary),
    "memory": lambda record: MEMORY.of(record.summary),
}
ASCENDING = ("name", "verdict")


def in_order(records: list[Past], column: str, *, reverse: bool) -> list[Past]:
    """By the column that is asked for, what is not known last."""
    key = KEYS[column]
    known = [record for record in records if key(record) is not None]
    known.sort(key=key, reverse=(column not in ASCENDING) != reverse)
    return known + [record for record in records if key(record) is None]


def table(records: list[Past], environment: dict[str, str]) -> Iterable[str]:
    colour = colour_wanted(environment, 1)
    yield f"{'WHEN':<16}  {'ID':<8}  {'NAME':<{NAME_WIDTH}}  {'VERDICT':<8} {'WALL':>8} {'CPU':>8} {'MEMORY':>8}\n"
    for record in records:
        began = time.localtime(record.started_at)
        when = time.strftime("%Y-%m-%d %H:%M", began) if record.started_at > 0 else UNKNOWN
        verdict = f"{printable(record.verdict)[:VERDICT_WIDTH]:<{VERDICT_WIDTH}}"
        painted = VERDICT_COLOURS.get(record.verdict) if colour else None
        name, peak = fitted(printable(record.name), NAME_WIDTH), MEMORY.of(record.summary)
        yield (
            f"{when:<16}  {fitted(printable(record.short_id), ID_WIDTH)}  {name}  "
            f"{verdict if painted is None else painted + verdict + RESET} {_time(WALL.of(record.summary)):>8} "
            f"{_time(CPU.of(record.summary)):>8} {UNKNOWN if peak is None else size(peak, short=True):>8}\n"
        )


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else short_time(seconds)


def as_json(records: list[Past]) -> Iterable[bytes]:
    """Yield a line for each of the records, which is read again: a list holds none of them whole."""
    for listed in records:
        try:
            record = glance(listed.path)
        except (NoRecord, OSError):  # removed meanwhile
            continue
        run = record.run
        said = {
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
        yield json_line(said)
