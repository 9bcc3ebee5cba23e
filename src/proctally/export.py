"""`proctally export`: a record of the past in another format, or a whole copy of one whose end is torn."""

from __future__ import annotations

import os
import stat
from itertools import chain

from proctally.kernel.child import say
from proctally.outputs.csv import Lines
from proctally.record import json_line, open_output, read, runs_directory, standard_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from proctally.record import Record

FAILED = 1
INTERRUPTED = 130
FOREVER_MS = 1 << 50  # a reader of the output is waited for: nothing else is being measured meanwhile
STAMP = len("20260101T000000Z")  # with which the name of a record in its default place begins


class CannotExport(Exception):
    """What is wrong, in one line."""


def export(name: str, form: str, output: str, environment: dict[str, str], *, force: bool = False) -> int:
    """Write the record at the path `name` as `form` to the file `output`; the exit status.

    `last` is the newest record in the default place, `-` is stdout. A file is only there afterwards if it is whole.
    """
    try:
        path = newest(environment) if name == "last" else name
        lines = _lines(path)
        run = next(lines, None)
        if run is None or run["type"] != "run":
            raise CannotExport(f"{path}: does not begin as a record does")
        record = _open(output, path, force)
        record.format = Lines() if form == "csv" else json_line
        try:
            _write(record, path, chain((run,), lines))
        except BaseException:
            record.discard()
            raise
        record.close()
        if record.error is not None:
            raise record.error
    except CannotExport as error:
        say(f"proctally: {error}\n")
    except BrokenPipeError:  # whoever reads it has enough
        pass
    except OSError as error:
        say(f"proctally: --output {output}: {error.strerror}\n")
    except KeyboardInterrupt:
        return INTERRUPTED
    else:
        return 0
    return FAILED


def newest(environment: dict[str, str]) -> str:
    """The path of the record in the default place that was begun last."""
    directory = runs_directory(environment)
    if directory is None:
        raise CannotExport("there is no home directory; set PROCTALLY_HOME, or name a record")
    try:
        names = [name for name in os.listdir(directory) if _is_stamped(name)]
        latest = max((name[:STAMP] for name in names), default=None)
        paths = [os.path.join(directory, name) for name in names if name[:STAMP] == latest]
        found = max(((os.stat(path).st_mtime_ns, path) for path in paths), default=None)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise CannotExport(f"{directory}: {error.strerror}") from None
    if found is None:
        raise CannotExport(f"there is no record in {directory}")
    return found[1]


def _is_stamped(name: str) -> bool:
    return name.endswith(".jsonl") and name[:8].isdecimal() and name[STAMP - 1 : STAMP + 1] == "Z-"


def _lines(path: str) -> Iterator[dict[str, Any]]:
    try:
        yield from read(path)
    except OSError as error:
        raise CannotExport(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise CannotExport(str(error)) from None
    except RecursionError:
        raise CannotExport(f"{path}: is not a record: nested too deeply") from None


def _open(output: str, path: str, force: bool) -> Record:
    """The output. What is read must not grow, nor be emptied, by what is written. Raises OSError."""
    try:
        there = os.fstat(1) if output == "-" else os.stat(output)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISREG(there.st_mode) and os.path.samestat(there, os.stat(path)):
            raise CannotExport(f"--output {output}: is the record itself")
    return standard_output() if output == "-" else open_output(output, force=force)


def _write(record: Record, path: str, lines: Iterable[dict[str, Any]]) -> None:
    """Raises OSError where the output takes no more."""
    for line in lines:
        try:
            record.write(line)
        except (ValueError, RecursionError) as error:  # Python reads numbers and depths that it does not write
            raise CannotExport(f"{path}: {error}") from None
        record.unwritten(FOREVER_MS)
        if record.error is not None:
            raise record.error
