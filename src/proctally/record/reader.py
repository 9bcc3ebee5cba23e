"""Read the file of one run: its lines, or the first and the last of them.

A record can be compressed by gzip, can still be written, and can have a truncated last line. It is untrusted: only
regular files are opened, in blocks; a line, the values of a line, and what a compressed file holds have limits. Each
line leaves this module in the current schema (a record of schema 1 goes through `schema1.upgrade`) and with the types
of the table of fields (`field_types.py`).
"""

from __future__ import annotations

import json
import os
import stat

from proctally.errors import NoRecord
from proctally.record import SCHEMA
from proctally.record.field_types import TypeFilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BytesIO, FileIO
    from typing import Any

    from proctally.record import JsonObject

GZIP = b"\x1f\x8b"  # the first bytes of a file that gzip compressed
BLOCK_BYTES = 1 << 18
TAIL_BYTES = 16 << 10
MAX_LINE_BYTES = 16 << 20  # a first line holds the command line: 2 MiB, and six times that where it is escaped
MAX_LINE_VALUES = 1 << 20  # each takes up to 72 bytes of memory
UNPACKED_BYTES = 20 << 20  # above that, a compressed record ...
UNPACKED_RATIO = 100  # ... is at most this many times its size; real ones are 5 to 40 times
PACKED_BYTES = 1 << 15
GZIP_FORMAT = 31  # wbits of zlib
PADDING = b"\0"  # between the members of a file
NEWLINE = b"\n"

_decode = json.JSONDecoder(parse_constant=lambda _: None).decode


def decode(data: bytes) -> Any:
    """Return the JSON value of a line; its numbers can be infinite. Raises ValueError with the problem of the line."""
    if len(data) > MAX_LINE_VALUES and sum(map(data.count, (b",", b"[", b"{"))) > MAX_LINE_VALUES:
        raise ValueError("has too many values")
    try:
        return _decode(data.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError:
        raise ValueError("is not JSON") from None


def upgrader(path: str, run: JsonObject) -> Callable[[JsonObject], JsonObject] | None:
    """Return what turns the lines of this record into the current schema; None for one that needs nothing.

    `run`: the first line of the record. Raises NoRecord for any other schema.
    """
    schema = run.get("schema")
    if schema == "proctally/1":
        from proctally.record.schema1 import upgrade

        return upgrade
    if schema not in (SCHEMA, None):
        raise NoRecord(f"{path}: schema {str(schema)[:40]} is unknown; update proctally")
    return None


class Reading:
    """The lines of one record, in order, without a truncated last one. `opened`: it is read instead of a file."""

    def __init__(self, path: str, opened: BytesIO | None = None) -> None:
        self.path = path
        self._opened = opened
        self._types = TypeFilter()
        self._upgrade: Callable[[JsonObject], JsonObject] | None = None

    @property
    def replaced(self) -> int:
        """Return the number of wrong values so far."""
        return self._types.replaced

    def __iter__(self) -> Iterator[JsonObject]:
        """Yield the lines.

        Raises ValueError, naming the line, for a file that is not a record of one run, NoRecord for an unknown schema
        and for what is not a regular file, and OSError.
        """
        with self._opened or open_record(self.path) as file:
            for number, data in enumerate(_split(_blocks(file, self.path), self.path), 1):
                try:
                    line = decode(data)
                except ValueError as error:
                    raise ValueError(f"{self.path}: line {number} {error}") from None
                if not is_line(line):
                    raise ValueError(f"{self.path}: line {number} is not a line of a record")
                if number == 1:
                    self.begin(line)
                elif line["type"] == "run":
                    raise ValueError(
                        f"{self.path}: line {number} begins a second run; write each run into its own file"
                    )
                yield self.admit(line)

    def lines(self) -> Iterator[JsonObject]:
        """Yield the lines, the first of which is the type `run`. Raises NoRecord for any error."""
        try:
            found = iter(self)
            run = next(found, None)
            if run is None or run["type"] != "run":
                raise NoRecord(f"{self.path}: does not begin as a record does")
            yield run
            yield from found
        except OSError as error:
            raise NoRecord(f"{self.path}: {error.strerror}") from None
        except ValueError as error:
            raise NoRecord(str(error)) from None

    def begin(self, run: JsonObject) -> None:
        """Take the schema of the first line. Raises NoRecord for any other."""
        self._upgrade = upgrader(self.path, run)

    def admit(self, line: JsonObject) -> JsonObject:
        """Return a line in the current schema, with the types of the table of fields."""
        return self._types.admit(line if self._upgrade is None else self._upgrade(line))


def check_size(path: str) -> None:
    """Unpack a compressed record to its end, as `Ends` does, before much is made of it. Raises NoRecord, OSError."""
    with open_record(path) as file:
        try:
            is_packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            for _ in _split(_blocks(file, path), path) if is_packed else ():
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        except ValueError as error:
            raise NoRecord(str(error)) from None


def is_line(value: object) -> bool:
    """Return whether this JSON value is a line of a record."""
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def read(path: str, opened: BytesIO | None = None) -> Iterator[JsonObject]:
    """Yield the lines of a record in order, as `Reading` does."""
    return iter(Reading(path, opened))


def lines(path: str) -> Iterator[JsonObject]:
    """Yield the lines of a record, the first of which is the type `run`. Raises NoRecord for any error."""
    return Reading(path).lines()


# -- first and last line ----------------------------------------------------------------------------------------------


class Ends:
    """The line `run` of a record, its summary or None, and the status of its file.

    `is_held`: True while a process writes it; None if the file system has no locks. `reading`: for lines that follow.
    """

    __slots__ = ("is_held", "reading", "run", "status", "summary")

    def __init__(self, path: str) -> None:
        """Read them. Raises NoRecord, OSError."""
        self.reading = reading = Reading(path)
        with open_record(path) as file:
            self.status = os.fstat(file.fileno())
            try:
                first, last = _ends(file, self.status.st_size, path)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None
            except ValueError as error:
                raise NoRecord(str(error)) from None
            run, end = line_of(first), line_of(last)
            if run is None or run["type"] != "run" or not str(run.get("schema", "")).startswith("proctally/"):
                raise NoRecord(f"{path}: is not a record")
            self.summary: JsonObject | None = None
            self.is_held: bool | None = False
            if end is None or end["type"] != "summary":
                self.is_held = is_held(file.fileno())
            elif end.get("run_id", run.get("run_id")) != run.get("run_id"):
                raise NoRecord(f"{path}: has lines of two runs; write each run into its own file")
        reading.begin(run)
        self.run = reading.admit(run)
        if end is not None and end["type"] == "summary":
            self.summary = reading.admit(end)


def is_held(fd: int) -> bool | None:
    """Return True while a process writes this record, which it locks; None if the file system has no locks."""
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _ends(file: FileIO, size: int, path: str) -> tuple[bytes, bytes]:
    head = file.read(TAIL_BYTES) or b""
    file.seek(0)
    if head.startswith(GZIP):
        found = _split(_blocks(file, path), path)
        first = last = next(found, b"")
        for line in found:  # gzip has no other way to the end
            last = line
        return first, last
    first, newline, _ = head.partition(NEWLINE)
    if not newline:
        first = next(_split(_blocks(file, path), path), b"")
    length = TAIL_BYTES
    while True:
        start = max(0, size - length)
        file.seek(start)
        tail = file.read(size - start) or b""
        if not tail.endswith(NEWLINE):  # truncated, or being written: there is no last line
            return first, b""
        parts = tail.rstrip(NEWLINE).rpartition(NEWLINE)
        if parts[1] or start == 0:
            return first, parts[2]
        if length > MAX_LINE_BYTES:
            raise too_long(path)
        length *= 8


def line_of(data: bytes) -> JsonObject | None:
    """Return a line of a record, None for any other data."""
    try:
        line = decode(data)
    except ValueError:
        return None
    return line if is_line(line) else None


# -- bytes -----------------------------------------------------------------------------------------------------------


def open_record(path: str) -> FileIO:
    """Open a regular file, without waiting. Raises NoRecord for a pipe or a device, and OSError."""
    file = open(path, "rb", buffering=0, opener=_at_once)
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return file
    file.close()
    raise NoRecord(f"{path}: is not a file")


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def too_long(path: str) -> ValueError:
    """Return the error for a line above the limit."""
    return ValueError(f"{path}: has a line of more than {MAX_LINE_BYTES >> 20} MiB; it is not a record")


def _split(blocks: Iterator[bytes], path: str) -> Iterator[bytes]:
    """Yield the whole lines of a text, without their ends. Raises ValueError for one that is too long."""
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        first, newline, rest = block.partition(NEWLINE)
        parts.append(first)
        size += len(first)
        if size > MAX_LINE_BYTES:
            raise too_long(path)
        if newline:
            yield b"".join(parts)
            *whole, last = rest.split(NEWLINE)
            yield from whole
            parts, size = [last], len(last)


def _blocks(file: FileIO | BytesIO, path: str) -> Iterator[bytes]:
    """Yield the text of a file in blocks, unpacked, up to where it is truncated. Raises ValueError, OSError."""
    block = file.read(BLOCK_BYTES)
    if block and block.startswith(GZIP):
        yield from _unpacked(file, block, path)
        return
    while block:
        yield block
        block = file.read(BLOCK_BYTES)


def _unpacked(file: FileIO | BytesIO, data: bytes, path: str) -> Iterator[bytes]:
    import zlib

    unzip = zlib.decompressobj(GZIP_FORMAT)
    packed, unpacked = len(data), 0
    while True:
        try:
            block = unzip.decompress(data, BLOCK_BYTES)
        except zlib.error:
            return
        unpacked += len(block)
        if unpacked > max(UNPACKED_BYTES, UNPACKED_RATIO * packed):
            raise ValueError(f"{path}: unpacks to more than {UNPACKED_RATIO} times its size; it is not a record")
        if block:
            yield block
        data = unzip.unused_data.lstrip(PADDING) if unzip.eof else unzip.unconsumed_tail
        while len(data) < len(GZIP) and (more := file.read(PACKED_BYTES)):
            packed += len(more)
            data = (data + more).lstrip(PADDING) if unzip.eof else data + more
        if unzip.eof:
            if not data.startswith(GZIP):  # another member follows, or nothing of gzip
                return
            unzip = zlib.decompressobj(GZIP_FORMAT)
        elif not data and not block:  # truncated
            return
