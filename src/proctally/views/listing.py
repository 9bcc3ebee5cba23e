"""`proctally ls` and `proctally rm`: the runs of the past, and to be rid of them."""

from __future__ import annotations

import os
import time

from proctally.figures import figure, peak_memory
from proctally.history import RUNNING, Filter, NoRecord, Past, find_writers, glance, moment, past, resolve
from proctally.kernel.child import say
from proctally.options import UsageError
from proctally.record import json_line, plain
from proctally.summary import RESET, VERDICT_COLOURS, colour_wanted, printable, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from proctally.options import Options

FAILED = 1
NAME_WIDTH, VERDICT_WIDTH, ID_WIDTH = 15, 8, 8
UNKNOWN = "-"
WALL, CPU = figure("wall"), figure("cpu")
KEYS: dict[str, Callable[[Past], Any]] = {
    "when": lambda record: record.started_at,
    "name": lambda record: record.name,
    "verdict": lambda record: record.verdict,
    "wall": lambda record: WALL.of(record.summary),
    "cpu": lambda record: CPU.of(record.summary),
    "memory": lambda record: peak_memory(record.summary),
}
ASCENDING = ("name", "verdict")


def ls(options: Options, environment: dict[str, str]) -> tuple[int, str]:
    """The exit status, and the runs of the past. Raises UsageError."""
    wanted = _filter(options)
    try:
        records, strange = past(environment)
    except NoRecord as error:
        say(f"proctally: {printable(str(error))}\n")
        return FAILED, ""
    found = _sorted([record for record in records if wanted.takes(record)], options)
    found = found if options.limit is None else found[: options.limit]
    text = "".join(_as_json(found, strange) if options.json else _table(found, environment))
    for why in strange:
        say(f"proctally: skipped: {printable(why)}\n")
    return 0, text


def rm(options: Options, words: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Delete records; the exit status, and how many there were. Raises UsageError."""
    wanted = _filter(options)
    if not words and wanted.is_any:
        raise UsageError("which runs? proctally rm RECORD ..., or --older-than 30d")
    try:
        paths = dict.fromkeys(path for word in words for path in resolve(word, environment))
        records = [glance(path) for path in paths] if words else past(environment)[0]
        find_writers(records)
    except NoRecord as error:
        say(f"proctally: {printable(str(error))}\n")
        return FAILED, ""
    except OSError as error:
        say(f"proctally: {printable(str(error.filename))}: {error.strerror}\n")
        return FAILED, ""
    status = 0
    deleted = freed = 0
    for record in records:
        if not wanted.takes(record):
            continue
        why = "is still written" if record.verdict == RUNNING else "is a link" if os.path.islink(record.path) else None
        if why is not None:
            say(f"proctally: {printable(record.path)}: {why}; left alone\n")
            status = FAILED
            continue
        try:
            if not options.dry_run:
                os.unlink(record.path)
        except OSError as error:
            say(f"proctally: {printable(record.path)}: {error.strerror}\n")
            status = FAILED
        else:
            deleted, freed = deleted + 1, freed + record.size
    would = "would be deleted" if options.dry_run else "deleted"
    return status, f"{deleted} run{'' if deleted == 1 else 's'} {would}, {size(freed)}\n"


def _filter(options: Options) -> Filter:
    try:
        return Filter(
            name=options.name,
            tags=options.tag,
            verdicts=[] if options.verdict is None else [word.strip() for word in options.verdict.split(",")],
            since=None if options.since is None else moment(options.since),
            before=None if options.older_than is None else moment(options.older_than),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _sorted(records: list[Past], options: Options) -> list[Past]:
    """By the column that is asked for, what is not known last."""
    key = KEYS[options.sort]
    known = [record for record in records if key(record) is not None]
    known.sort(key=key, reverse=(options.sort not in ASCENDING) != options.reverse)
    return known + [record for record in records if key(record) is None]


def _table(records: list[Past], environment: dict[str, str]) -> Iterable[str]:
    colour = os.isatty(1) and colour_wanted(environment)
    yield f"{'WHEN':<16}  {'ID':<8}  {'NAME':<{NAME_WIDTH}}  {'VERDICT':<8} {'WALL':>8} {'CPU':>8} {'MEMORY':>8}\n"
    for record in records:
        began = time.localtime(record.started_at)
        when = time.strftime("%Y-%m-%d %H:%M", began) if record.started_at > 0 else UNKNOWN
        verdict = f"{printable(record.verdict)[:VERDICT_WIDTH]:<{VERDICT_WIDTH}}"
        painted = VERDICT_COLOURS.get(record.verdict) if colour else None
        yield (
            f"{when:<16}  {identity(record):<{ID_WIDTH}}  {_cut(printable(record.name)):<{NAME_WIDTH}}  "
            f"{verdict if painted is None else painted + verdict + RESET} {_time(WALL.of(record.summary)):>8} "
            f"{_time(CPU.of(record.summary)):>8} {_memory(record.summary):>8}\n"
        )


def identity(record: Past) -> str:
    """The short id by which a run can be named."""
    return str(record.run.get("run_id") or "")[:ID_WIDTH]


def _cut(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _time(seconds: float | None) -> str:
    """Seconds in at most eight signs."""
    if seconds is None:
        return UNKNOWN
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 100:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h" if days < 100 else f"{days} d"


def _memory(summary: dict[str, Any] | None) -> str:
    peak = peak_memory(summary)
    return UNKNOWN if peak is None else size(peak).replace("iB", "")


def _as_json(records: list[Past], strange: list[str]) -> Iterable[str]:
    for record in records:
        run = record.run
        said = {
            "path": plain(record.path),
            "run_id": run.get("run_id"),
            "kind": run.get("kind"),
            "name": run.get("name"),
            "started_at": run.get("started_at"),
            "command": run.get("command"),
            "tags": run.get("tags"),
            "verdict": record.verdict,
            "size_bytes": record.size,
            "summary": record.summary,
        }
        try:
            yield json_line(said).decode()
        except ValueError:
            strange.append(f"{record.path}: a number in it is none")
