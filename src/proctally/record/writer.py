"""Write the file of one run: JSON Lines, each line at once, readable after `kill -9` of its writer.

No other module imports `_json`, the encoder in C: the import of the package around it takes 8 ms instead of 0.2.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EPIPE

from proctally.record.line_queue import FIRST, LATER, NEVER, LineQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from proctally.record import JsonObject

KEPT_LINES = 4096
KEPT_BYTES = 4 << 20
PATIENCE_MS = 500
FOREVER_MS = 1 << 50  # for a reader, where nothing is measured in the meantime
RANKS = {"sample": FIRST, "process": LATER}  # what is given up where nothing is taken


def _refuse(value: Any) -> Any:
    raise TypeError(f"{value!r} has no place in a record")


def _make_encode() -> Any:
    """Return the encoder in C of the standard library, or the slow one where that is missing or different."""
    try:
        from _json import encode_basestring_ascii, make_encoder

        chunks = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)
        return lambda value: "".join(chunks(value, 0))
    except (ImportError, TypeError):
        from json import JSONEncoder

        return JSONEncoder(separators=(",", ":"), allow_nan=False).encode


encode = _make_encode()


def json_line(line: JsonObject) -> bytes:
    """A line as it stands in a record."""
    data: bytes = encode(line).encode()  # of a large line, its text is not held as well
    return data + b"\n"


class RecordWriter:
    """Writes the lines of one run to a descriptor; what cannot be written is kept, within limits, and tried again.

    `format`: what becomes of a line, None for one of which nothing is written. `made`: the file that was made for it,
    which becomes `path` when it is closed. `is_file`: whether `path` has to name it until then; `is_gone`: whether it
    did not. `replaces`: whether its first line replaces what is in the file.
    """

    __slots__ = (
        "_has_line", "_is_file", "_made", "_queue", "_replaces", "error", "fd", "format", "is_gone", "lost_samples",
        "path",
    )  # fmt: skip

    def __init__(
        self, fd: int, path: str, *, made: str | None = None, is_file: bool = False, replaces: bool = False
    ) -> None:
        self.path = path
        self._replaces = replaces
        self.is_gone = False
        self._is_file = is_file
        self._made = made
        self._has_line = False  # whether a whole line of it is written
        self.format: Callable[[JsonObject], bytes | None] = json_line
        self.error: OSError | None = None
        self.lost_samples = 0
        self.fd = fd
        self._queue = LineQueue(self._put, KEPT_LINES, KEPT_BYTES)

    def _put(self, data: bytes) -> int:
        if self._replaces:
            os.ftruncate(self.fd, 0)
            self._replaces = False
        return os.write(self.fd, data)

    def write(self, line: JsonObject) -> None:
        """Write one line. An error of the file is not raised: see `error` and `lost_samples`."""
        data = self.format(line)
        if data is not None:
            self._queue.add(data, RANKS.get(line["type"], NEVER))
        self._flush()
        self.lost_samples += self._queue.trim().count(FIRST)

    def write_bytes(self, data: bytes) -> None:
        """Write what is not a line. An error of the file is not raised, and the data is never given up."""
        self._queue.add(data, NEVER)
        self._flush()

    def discard(self) -> None:
        """Close it, and remove the file if it was made for this run."""
        os.close(self.fd)
        self._remove()

    def _remove(self) -> None:
        """Remove what was made for this run."""
        if self._made is not None:
            try:
                os.unlink(self._made)
            except OSError:
                pass

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the rest and close it; after an error, remove a file that was made for it. Raises OSError."""
        try:
            if kind is None:
                self.drain()
                self.close()
                self._raise()
        finally:
            if self.fd >= 0:
                self.discard()

    def drain(self) -> None:
        """Wait for the reader until everything is written. Raises OSError."""
        self.unwritten(FOREVER_MS)
        self._raise()

    def _raise(self) -> None:
        if self.error is not None:
            raise OSError(self.error.errno, self.error.strerror, None if self.path == "-" else self.path)

    def _flush(self) -> bool:
        """Write what is taken at once; return True when any was."""
        waiting = len(self._queue)
        try:
            taken = self._queue.flush()
        except OSError as error:
            self.error = error
            if error.errno == EPIPE:
                self.lost_samples += self._queue.count(FIRST)
                self._queue.clear()
            return False
        finally:
            self._has_line |= len(self._queue) < waiting
        if not self._queue and self.error is not None and self.error.errno != EPIPE and not self.lost_samples:
            self.error = None  # there is room again, and everything was written
        return taken > 0

    def unwritten(self, patience_ms: int = PATIENCE_MS) -> int:
        """Return the samples that are lost, or will be when this is closed.

        It waits this long for a reader that does not read, ten times as long for one that reads.
        """
        self._flush()
        if self._queue and self.error is None:
            self._drain(patience_ms)
        return self.lost_samples + self._queue.count(FIRST)

    def _drain(self, patience_ms: int) -> None:
        import select

        poller = select.poll()
        poller.register(self.fd, select.POLLOUT)
        begun = progress = os.times().elapsed  # no library shifts or stops it
        while True:
            is_read = self._flush()
            if not self._queue or self.error is not None:
                return
            now = os.times().elapsed
            if is_read:
                progress = now
            if (now - progress) * 1000 >= patience_ms or (now - begun) * 100 >= patience_ms:
                return
            poller.poll(10)

    def close(self, patience_ms: int = PATIENCE_MS) -> None:
        """Write the rest, as far as it can be written; a file without a whole line is removed."""
        self.lost_samples = self.unwritten(patience_ms)
        if self._queue and self.error is None:
            self.error = OSError(EAGAIN, "its reader does not read")
        self.is_gone = self._is_file and not self._is_there()
        fd, self.fd = self.fd, -1
        try:
            os.close(fd)
            if self._made is not None and self._made != self.path and self.error is None:
                os.replace(self._made, self.path)
        except OSError as error:
            self.error = self.error or error
        if self.error is not None and (self._made != self.path or not self._has_line):
            self._remove()

    def _is_there(self) -> bool:
        """Return True if the path still names this file."""
        try:
            return os.path.samestat(os.fstat(self.fd), os.stat(self.path))
        except OSError:
            return False
