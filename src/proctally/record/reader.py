"""Read the file of one run: its lines, or the first and the last of them.

A record can be compressed by gzip, can still be written, and can have a truncated last line. Each line leaves this
module in the current schema: a record of schema 1 goes through `schema1.upgrade`.
"""

from __future__ import annotations

import json
import os
import stat

from proctally.errors import NoRecord
from proctally.record import SCHEMA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

    from proctally.record import JsonObject

GZIP = b"\x1f\x8b"  # the first bytes of a file that gzip compressed
HEAD_BYTES = 16 << 10
TAIL_BYTES = 16 << 10
MAX_LINE_BYTES = 64 << 20
CHUNK_BYTES = 1 << 18


def _finite(text: str) -> float | None:
    value = float(text)
    return value if value - value == 0 else None


_decode = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None).decode


def decode(data: bytes) -> Any:
    """Return the JSON value of a line; a number in it that is not finite becomes None. Raises ValueError."""
    return _decode(data.decode("utf-8", "surrogatepass"))


def upgrader(path: str, run: JsonObject) -> Callable[[JsonObject], JsonObject] | None:
    """Return what turns the lines of this record into the current schema; None for one that needs nothing.

    `run`: the first line of the record. Raises NoRecord for a schema of a later version.
    """
    schema = run.get("schema")
    if schema == "proctally/1":
        from proctally.record.schema1 import upgrade

        return upgrade
    if isinstance(schema, str) and schema.startswith("proctally/") and schema != SCHEMA:
        raise NoRecord(f"{path}: schema {schema[:40]} is unknown; update proctally")
    return None


def read(path: str) -> Iterator[JsonObject]:
    """Yield the lines of a record in order, without a truncated last one.

    Raises ValueError, naming the line, for a file that is not a record, NoRecord for an unknown schema, and OSError.
    """
    upgrade = None
    with open(path, "rb") as file:
        compressed = file.peek(2)[:2] == GZIP  # a pipe can be read once only
        for number, data in enumerate(unzipped(file) if compressed else file, 1):
            if not data.endswith(b"\n"):
                return
            try:
                line = decode(data)
            except ValueError:
                raise ValueError(f"{path}: line {number} is not JSON") from None
            if not isinstance(line, dict) or "type" not in line:
                raise ValueError(f"{path}: line {number} is not a line of a record")
            if number == 1:
                upgrade = upgrader(path, line)
            yield line if upgrade is None else upgrade(line)


def unzipped(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a compressed file, up to where it is truncated."""
    import gzip
    import zlib

    try:
        with gzip.open(file) as lines:
            yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile):  # truncated
        return


def lines(path: str) -> Iterator[JsonObject]:
    """Yield the lines of a record, the first of which is the type `run`. Raises NoRecord for any error."""
    try:
        found = read(path)
        run = next(found, None)
        if run is None or run["type"] != "run":
            raise NoRecord(f"{path}: does not begin as a record does")
        yield run
        yield from found
    except OSError as error:
        raise NoRecord(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise NoRecord(str(error)) from None
    except RecursionError:
        raise NoRecord(f"{path}: is not a record: nested too deeply") from None


def first_and_last(path: str) -> tuple[JsonObject, JsonObject | None, os.stat_result]:
    """Return the line `run`, the summary or None, and the status of the file. Raises NoRecord, OSError."""
    with open(path, "rb", opener=_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise NoRecord(f"{path}: is not a file")
        try:
            first, last = _ends_of_gzip(file) if file.read(2) == GZIP else _ends(file, status.st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
    run = _line(first)
    if run is None or run["type"] != "run" or not str(run.get("schema", "")).startswith("proctally/"):
        raise NoRecord(f"{path}: is not a record")
    end = _line(last)
    summary = end if end is not None and end["type"] == "summary" else None
    upgrade = upgrader(path, run)
    if upgrade is not None:
        run, summary = upgrade(run), None if summary is None else upgrade(summary)
    return run, summary, status


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _ends(file: IO[bytes], size: int) -> tuple[bytes, bytes]:
    file.seek(0)
    first = file.read(HEAD_BYTES)
    if b"\n" not in first:
        first += file.readline(MAX_LINE_BYTES)
    length = TAIL_BYTES
    while True:
        start = max(0, size - length)
        file.seek(start)
        tail = file.read(size - start)
        if not tail.endswith(b"\n"):  # truncated, or being written: there is no last line
            return first, b""
        line = tail.rstrip(b"\n").rpartition(b"\n")
        if line[1] or start == 0 or length >= MAX_LINE_BYTES:
            return first, line[2]
        length *= 8


def _ends_of_gzip(file: IO[bytes]) -> tuple[bytes, bytes]:
    """Read all of it, since gzip has no other way to the end; only the two lines are kept."""
    import gzip
    import zlib

    file.seek(0)
    first = last = b""
    try:
        with gzip.open(file) as content:
            first = content.readline(MAX_LINE_BYTES)
            while chunk := content.read(CHUNK_BYTES):
                last += chunk
                last = last[last.rfind(b"\n", 0, -1) + 1 :][:MAX_LINE_BYTES]
    except (EOFError, zlib.error, gzip.BadGzipFile):  # truncated
        pass
    return first, last if last.endswith(b"\n") else b""


def _line(data: bytes) -> JsonObject | None:
    try:
        line = decode(data.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("type"), str) else None
