"""`proctally export`: convert a record, downsample it, or repair a truncated one."""

from __future__ import annotations

import io
import os

from proctally.cli.options import parse
from proctally.cli.streams import whole_file
from proctally.errors import NoRecord, UsageError, require
from proctally.record.catalogue import one
from proctally.record.csv import Lines
from proctally.record.reader import check_size, lines
from proctally.record.thinning import thin
from proctally.record.writer import json_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

    from proctally.record import JsonObject
    from proctally.record.writer import RecordWriter

HELP = """\
proctally export [options] RECORD|last

Write a record of the past as a table of 32 columns (csv), as a typed table of every field (parquet; it needs the extra
`parquet`), or as a whole copy of one whose end is torn (jsonl).

{options}

Exit status: 0, 1 when it cannot be read or written, 2 for a mistake in the options.
"""


def call(arguments: list[str]) -> int:
    """Write the converted record and return the exit status. Raises UsageError, HelpAsked, NoRecord, OSError.

    No option of it has an environment variable: those are for what is tracked.
    """
    options, words = parse("export", arguments, {}, to_first_word=False)
    if len(words) != 1:
        raise UsageError(f"export: expected one record, got {len(words)}; use proctally export [options] RECORD|last")
    output, environment = options.output or "-", dict(os.environ)
    export(words[0], options.format, output, environment, force=options.force, every_seconds=options.every)
    return 0


def export(
    name: str,
    form: str,
    output: str,
    environment: dict[str, str],
    *,
    force: bool = False,
    every_seconds: float | None = None,
) -> None:
    """Write the record that `name` means as `form` to the file `output`.

    `-` is stdout. The file appears only when it is complete. `every_seconds`: one sample for this time. Raises
    UsageError, NoRecord, OSError.
    """
    if form == "parquet":
        require("pyarrow", "parquet", "--format parquet")
        if output == "-" and os.isatty(1):
            raise UsageError("--format parquet: not for a terminal; use --output FILE")
    path = one(name, environment)
    check_size(path)
    next(lines(path))  # of what is no record, no file is made
    file = whole_file(output, [path], force=force)

    def wanted() -> Iterator[JsonObject]:
        return lines(path) if every_seconds is None else thin(lines(path), every_seconds)

    with file.open() as record:
        record.format = Lines() if form == "csv" else json_line
        try:
            if form == "parquet":
                from proctally.record.parquet import write

                write(wanted, Outlet(record))
            else:
                for line in wanted():
                    record.write(line)
                    record.drain()
        except (ValueError, RecursionError) as error:  # of pyarrow, and numbers and depths that Python does not write
            raise NoRecord(f"{path}: {error}") from None


class Outlet(io.RawIOBase):
    """A file for who writes bytes, into the output of a record. Raises OSError where that takes no more."""

    def __init__(self, record: RecordWriter) -> None:
        super().__init__()
        self._record = record
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        """All of it, at once."""
        taken = bytes(data)
        self._record.write_bytes(taken)
        self._record.drain()
        self._at += len(taken)
        return len(taken)

    def tell(self) -> int:
        return self._at
