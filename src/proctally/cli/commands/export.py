"""`proctally export`: a record of the past in another format, thinned out, or a whole copy of one whose end is torn."""

from __future__ import annotations

import io
import os
import stat
from itertools import chain

from proctally.history import NoRecord, lines, one
from proctally.kernel.child import say
from proctally.options import UsageError
from proctally.outputs.csv import Lines
from proctally.record import json_line, open_output, standard_output
from proctally.thinning import thin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from proctally.record import Record

FAILED = 1
INTERRUPTED = 130
FOREVER_MS = 1 << 50  # a reader of the output is waited for: nothing else is being measured meanwhile


def export(
    name: str,
    form: str,
    output: str,
    environment: dict[str, str],
    *,
    force: bool = False,
    every_seconds: float | None = None,
) -> int:
    """Write the record that `name` means as `form` to the file `output`; the exit status.

    `-` is stdout. A file is only there afterwards if it is whole. `every_seconds`: one sample for so much time. Raises
    UsageError.
    """
    if form == "parquet":
        _check_parquet(output)
    try:
        path = one(name, environment)
        found = lines(path)
        run = next(found)
        record = _open(output, path, force)
        record.format = Lines() if form == "csv" else json_line
        wanted: Iterable[dict[str, Any]] = chain((run,), found)
        if every_seconds is not None:
            wanted = thin(wanted, every_seconds)
        try:
            if form == "parquet":
                _write_parquet(record, path, wanted)
            else:
                _write(record, path, wanted)
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


def _check_parquet(output: str) -> None:
    """Raises UsageError where it could not be written, or would be by chance."""
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise UsageError("-f parquet needs the package pyarrow: pip install 'proctally[parquet]'")
    if output == "-" and os.isatty(1):
        raise UsageError("-f parquet is not for a terminal: give -o FILE")


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
    try:
        for line in found:
            record.write(line)
            record.unwritten(FOREVER_MS)
            if record.error is not None:
                raise record.error
    except (ValueError, RecursionError) as error:  # Python reads numbers and depths that it does not write
        raise NoRecord(f"{path}: {error}") from None


def _write_parquet(record: Record, path: str, found: Iterable[dict[str, Any]]) -> None:
    """Raises OSError where the output takes no more."""
    from proctally.outputs.parquet import write

    try:
        write(found, Outlet(record))
    except (ValueError, RecursionError) as error:  # pyarrow's own errors are ValueErrors, too
        raise NoRecord(f"{path}: {error}") from None


class Outlet(io.RawIOBase):
    """A file for who writes bytes, into the output of a record. Raises OSError where that takes no more."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """All of it, at once."""
        taken = bytes(data)
        self._record.write_bytes(taken)
        self._record.unwritten(FOREVER_MS)
        if self._record.error is not None:
            raise self._record.error
        self._at += len(taken)
        return len(taken)

    def tell(self) -> int:
        return self._at
