"""The records of past runs: list them, and choose by path, id, name or filter.

There is no index that could become stale: a list reads the first and the last line of each file.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from stat import S_ISREG

from proctally.errors import NoRecord
from proctally.record.location import runs_directory, utc
from proctally.record.reader import Ends
from proctally.record.schema import LOST, RUNNING
from proctally.record.values import number, section_at, value_at
from proctally.text.units import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Any

    from proctally.record import JsonObject

ENDINGS = (".jsonl", ".jsonl.gz")
STAMP = len("20260101T000000Z")  # with which the name of a record in its default place begins
FRESH_SECONDS = 10.0  # without locks, the maximum age of the last line of a record that is still written
FRESH_INTERVALS = 3
AHEAD_SECONDS = 300.0  # a record of a later time has the time of a wrong clock
SHORTEST_ID, SHORT_ID = 4, 8  # signs of an id that are enough; those that stand in the name of a file
SHORT_COMMAND, SHORT_WORD = 32, 128  # words and characters of a command, in a list of records
NAMED = 4  # so many files are named where an id may mean each of them


class Past:
    """One record, by its two ends. `run`: its first line; `summary`: its last, None where it has none (yet).

    `is_held`: True while a process writes it; None if the file system has no locks. `replaced`: wrong values in them.
    """

    __slots__ = ("is_held", "modified_at", "path", "replaced", "run", "size", "summary")

    def __init__(
        self,
        path: str,
        run: JsonObject,
        summary: JsonObject | None,
        size: int,
        modified_at: float,
        *,
        is_held: bool | None = False,
        replaced: int = 0,
    ) -> None:
        self.path = path
        self.run = run
        self.summary = summary
        self.size = size
        self.modified_at = modified_at
        self.is_held = is_held
        self.replaced = replaced

    @property
    def verdict(self) -> str:
        """That of its summary; `running` or `lost` without one."""
        if self.summary is not None:
            return str(self.summary.get("verdict"))
        is_written = self._is_fresh() if self.is_held is None else self.is_held
        return RUNNING if is_written else LOST

    def _is_fresh(self) -> bool:
        """Whether something was added lately, by the clock of whoever added it."""
        interval = number(self.run.get("interval_seconds")) or 0.0
        return time.time() - self.modified_at < max(FRESH_SECONDS, FRESH_INTERVALS * interval)

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.run.get("name") or "")

    @property
    def started_at(self) -> float:
        """When it began, Unix seconds."""
        return self.run.get("started_at") or 0.0

    @property
    def run_id(self) -> str:
        """The whole id of the run; empty where it has none."""
        return str(self.run.get("run_id") or "")

    @property
    def short_id(self) -> str:
        """The beginning of its id, by which it can be named."""
        return self.run_id[:SHORT_ID]

    @property
    def title(self) -> str:
        """The name, or the kind without one, and the command where it says more."""
        name = self.name or str(self.run.get("kind") or "")
        command = self.run.get("command")
        words = " ".join(command) if command else ""
        return f"{name}: {words}" if words and words != name else name

    def shorten(self, *, summary: bool) -> None:
        """Keep the start of the command, and in a `summary` no lists, so that many records take little memory."""
        command = self.run.get("command") or ()
        self.run["command"] = [word[:SHORT_WORD] for word in command[:SHORT_COMMAND]]
        if summary and self.summary is not None:
            self.summary = {name: value for name, value in self.summary.items() if not isinstance(value, list)}

    def figure(self, path: str) -> Any:
        """A value of its summary by its path (`cpu.total_seconds`); None where it is not known."""
        return value_at(self.summary, path)


def glance(path: str) -> Past:
    """Return a record by its first and its last line. Raises NoRecord for another file, OSError."""
    return of_ends(path, Ends(path))


def of_ends(path: str, ends: Ends) -> Past:
    """Return a record from its first and its last line."""
    status, replaced = ends.status, ends.reading.replaced
    return Past(path, ends.run, ends.summary, status.st_size, status.st_mtime, is_held=ends.is_held, replaced=replaced)


# -- which there are -------------------------------------------------------------------------------------------------


def past(environment: dict[str, str]) -> tuple[list[Past], list[str]]:
    """The records of the default place, shortened, the newest first; and what there is no record, with its reason."""
    strange: list[str] = []
    found = list(glances(paths(environment), strange))
    found.sort(key=_begun, reverse=True)
    return found, strange


def glances(files: Iterable[str], strange: list[str]) -> Iterator[Past]:
    """Yield the records of these files, shortened; add to `strange` which of them is not one, with its reason."""
    for path in files:
        try:
            record = glance(path)
            record.shorten(summary=True)
            yield record
        except FileNotFoundError:  # removed meanwhile
            continue
        except NoRecord as error:
            strange.append(str(error))
        except OSError as error:
            strange.append(f"{path}: {error.strerror}")


def paths(environment: dict[str, str]) -> list[str]:
    """The files of the default place that are called as records are. Raises NoRecord."""
    try:
        return files_of(directory_of(environment))
    except FileNotFoundError:
        return []


def files_of(directory: str) -> list[str]:
    """Return the files of a directory that have names of records. Raises NoRecord, FileNotFoundError."""
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.name.endswith(ENDINGS)]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NoRecord(f"{directory}: {error.strerror}") from None


def directory_of(environment: dict[str, str]) -> str:
    """The default place. Raises NoRecord."""
    directory = runs_directory(environment)
    if directory is None:
        raise NoRecord("there is no home directory; set PROCTALLY_HOME, or name a record")
    return directory


def no_records(environment: dict[str, str]) -> str:
    """Return the message for a default directory without records: what to do first."""
    return f"{directory_of(environment)}: no records; create one with proctally run -- COMMAND"


def _begun(record: Past) -> tuple[float, float]:
    return record.started_at, record.modified_at


def newest(environment: dict[str, str]) -> str:
    """Return the path of the newest record in the default directory that is not of the future. Raises NoRecord."""
    named = [path for path in paths(environment) if _is_stamped(os.path.basename(path))]
    ahead = utc(time.time() + AHEAD_SECONDS)
    stamps = {os.path.basename(path)[:STAMP] for path in named}
    for latest in sorted(stamps, key=lambda stamp: (stamp <= ahead, stamp), reverse=True):
        same = [path for path in named if os.path.basename(path)[:STAMP] == latest]
        found = max(((modified, path) for path in same if (modified := _modified(path)) is not None), default=None)
        if found is not None:
            return found[1]
    raise NoRecord(no_records(environment))


def _modified(path: str) -> int | None:
    """Return when a file was changed; None for what is not a regular file, and for a link to a file of /proc."""
    try:
        status = os.stat(path)
    except PermissionError:
        return 0
    except OSError:
        return None
    is_file = S_ISREG(status.st_mode) and (status.st_size or not os.path.islink(path))
    return status.st_mtime_ns if is_file else None


def _is_stamped(name: str) -> bool:
    return name.endswith(ENDINGS) and name[:8].isdecimal() and name[STAMP - 1 : STAMP + 1] == "Z-"


# -- which one is meant ----------------------------------------------------------------------------------------------


def resolve(word: str, environment: dict[str, str]) -> list[str]:
    """The paths of the records that a word means, the newest first. Raises NoRecord.

    A path; `last`; `name:X`, every past run of that name; the beginning of an id; the name of a file in the default
    directory; a name that one past run has.
    """
    if word == "last":
        return [newest(environment)]
    if word.startswith("name:"):
        wanted = word.removeprefix("name:")
        found = _with_name(wanted, environment)
        if not found:
            raise NoRecord(f"{word}: no past run has this name; list runs with proctally ls")
        return found
    if os.path.exists(word):
        return [word]
    if os.sep in word:
        raise NoRecord(f"{word}: No such file or directory")
    return [_by_id(word, environment)]


def _with_name(name: str, environment: dict[str, str]) -> list[str]:
    return [record.path for record in past(environment)[0] if record.name == name]


def _by_id(word: str, environment: dict[str, str]) -> str:
    """By the short id in the name of its file, the beginning of its whole id, the file's name, or a unique name."""
    named = paths(environment)
    for path in named:
        name = os.path.basename(path)
        if word in (name, name.partition(".jsonl")[0]):
            return path
    found: list[str] = []
    if len(word) >= SHORTEST_ID:
        found = [path for path in named if _short_id(path).startswith(word[:SHORT_ID])]
        if len(word) > SHORT_ID:
            found = _with_id(word, found)
        found = found or _with_id(word, named)  # a file may have been given another name
    if not found:
        found = _with_name(word, environment)
        if len(found) > 1:
            raise NoRecord(f"{word}: {len(found)} runs have this name; use name:{word}, or an id")
    if not found:
        raise NoRecord(f"{word}: no such record; list runs with proctally ls")
    if len(found) > 1:
        names = ", ".join(sorted(map(os.path.basename, found))[:NAMED])
        raise NoRecord(f"{word}: matches {len(found)} records; use a longer id, or a file: {names}")
    return found[0]


def _short_id(path: str) -> str:
    """That in the name of a record in its default place; empty for other names."""
    short = os.path.basename(path).partition(".jsonl")[0].rpartition("-")[2]
    return short if len(short) == SHORT_ID and not set(short) - set("0123456789abcdef") else ""


def _with_id(word: str, candidates: Iterable[str]) -> list[str]:
    """Those of these files that are records with an id that begins so."""
    found = []
    for path in candidates:
        try:
            if glance(path).run_id.startswith(word):
                found.append(path)
        except (NoRecord, OSError):
            continue
    return found


def named(words: Iterable[str], environment: dict[str, str]) -> list[Past]:
    """The records that words mean, each run once, whatever copies there are, with the start of their commands.

    A word that means nothing as it is may be several with commas between them. Raises NoRecord, OSError.
    """
    found: dict[str, Past] = {}
    for given in words:
        for path in _each(given, environment):
            record = glance(path)
            record.shorten(summary=False)
            found.setdefault(record.run_id or os.path.realpath(path), record)
    if not found:
        raise NoRecord(f"{','.join(words)}: names no record; list runs with proctally ls")
    return list(found.values())


def _each(words: str, environment: dict[str, str]) -> list[str]:
    if "," not in words:
        return resolve(words, environment)
    try:
        return resolve(words, environment)
    except NoRecord:
        return [path for word in words.split(",") if word for path in resolve(word, environment)]


def one(word: str, environment: dict[str, str]) -> str:
    """The path of the one record that a word means, of several the newest. Raises NoRecord."""
    return resolve(word, environment)[0]


# -- filters ---------------------------------------------------------------------------------------------------------


class Filter:
    """Which records are wanted; what is None, or empty, does not matter."""

    __slots__ = ("before", "conditions", "name", "since", "tags", "verdicts")

    def __init__(
        self,
        *,
        name: str | None = None,
        tags: dict[str, str] | None = None,
        verdicts: Iterable[str] = (),
        since: float | None = None,
        before: float | None = None,
        conditions: Collection[Callable[[Past], bool]] = (),
    ) -> None:
        self.conditions = conditions
        self.name = name
        self.tags = tags or {}
        self.verdicts = frozenset(verdicts)
        self.since = since
        self.before = before

    @property
    def is_any(self) -> bool:
        """Whether every record is wanted."""
        has_time = self.since is not None or self.before is not None
        return not (has_time or self.name is not None or self.tags or self.verdicts or self.conditions)

    def takes(self, record: Past) -> bool:
        """Whether this is one of them."""
        from fnmatch import fnmatchcase

        tags = section_at(record.run, "tags")
        return (
            (self.name is None or self.name == record.name or fnmatchcase(record.name, self.name))
            and all(tags.get(key) == value for key, value in self.tags.items())
            and (not self.verdicts or record.verdict in self.verdicts)
            and (self.since is None or record.started_at >= self.since)
            and (self.before is None or 0 < record.started_at < self.before)  # 0: unknown
            and all(holds(record) for holds in self.conditions)
        )


def moment(text: str) -> float:
    """Unix seconds of a moment: an age (`90m`, `12h`, `2d`, `4w`), or a local date or time (ISO 8601).

    Raises ValueError.
    """
    age = seconds_of(text) if text[-1:].isalpha() else None
    if age is not None and age >= 0:
        return time.time() - age
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError("not an age or a date; use 12h, 7d or 2026-01-31") from None
