"""`proctally export`: a record of the past in another format, or a whole copy of one whose end is torn."""

from __future__ import annotations

import os
import stat
from itertools import chain

from proctally.history import NoRecord, lines, one
from proctally.kernel.child import say
from proctally.outputs.csv import Lines
from proctally.record import json_line, open_output, standard_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from proctally.record import Record

FAILED = 1
INTERRUPTED = 130
FOREVER_MS = 1 << 50  # a reader of the output is waited for: nothing else is being measured meanwhile


def export(name: str, form: str, output: str, environment: dict[str, str], *, force: bool = False) -> int:
    """Write the record that `name` means as `form` to the file `output`; the exit status.

    `-` is stdout. A file is only there afterwards if it is whole.
    """
    try:
        path = one(name, environment)
        found = lines(path)
        run = next(found)
        record = _open(output, path, force)
        record.format = Lines() if form == "csv" else json_line
        try:
            _write(record, path, chain((run,), found))
        except BaseException:
            record.discard()
            raise
        record.close()
        if record.error is not None:
            raise record.error
    except NoRecord as error:
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


def _open(output: str, path: str, force: bool) -> Record:
    """The output. What is read must not grow, nor be emptied, by what is written. Raises OSError."""
    try:
        there = os.fstat(1) if output == "-" else os.stat(output)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISREG(there.st_mode) and os.path.samestat(there, os.stat(path)):
            raise NoRecord(f"--output {output}: is the record itself")
    return standard_output() if output == "-" else open_output(output, force=force)


def _write(record: Record, path: str, found: Iterable[dict[str, Any]]) -> None:
    """Raises OSError where the output takes no more."""
    for line in found:
        try:
            record.write(line)
        except (ValueError, RecursionError) as error:  # Python reads numbers and depths that it does not write
            raise NoRecord(f"{path}: {error}") from None
        record.unwritten(FOREVER_MS)
        if record.error is not None:
            raise record.error
