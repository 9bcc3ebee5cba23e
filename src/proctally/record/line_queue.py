"""Lines on their way to a descriptor that may block: in order, and within limits."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NEVER, LATER, FIRST = 0, 1, 2  # when a line is dropped


class LineQueue:
    """Keeps what `write` does not take at once; above the limits the oldest lines of the first rank are dropped.

    `write` returns how many bytes it took; it raises BlockingIOError where it takes none now, and OSError.
    """

    __slots__ = ("_bytes", "_lines", "_max_bytes", "_max_lines", "_taken", "_write")

    def __init__(self, write: Callable[[bytes], int], max_lines: int, max_bytes: int) -> None:
        self._write = write
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lines: list[tuple[bytes, int]] = []  # with the rank of each
        self._bytes = 0
        self._taken = 0  # bytes of the first line

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, data: bytes, rank: int) -> None:
        """Append a line; nothing is written yet."""
        self._lines.append((data, rank))
        self._bytes += len(data)

    def flush(self) -> int:
        """Write what is taken at once; return how many bytes that were. Raises OSError."""
        before = self._bytes - self._taken
        while self._lines:
            data = self._lines[0][0]
            try:
                self._taken += self._write(data[self._taken :])
            except BlockingIOError:
                break
            if self._taken == len(data):
                self._remove(0)
                self._taken = 0
        return before - self._bytes + self._taken

    def trim(self) -> list[int]:
        """Drop lines until the limits hold, if that is possible; return their ranks."""
        dropped = []
        while len(self._lines) > self._max_lines or self._bytes > self._max_bytes:
            place = self._dispensable()
            if place is None:
                break
            dropped.append(self._remove(place))
        return dropped

    def count(self, rank: int) -> int:
        """Return how many lines of this rank are not written yet."""
        return sum(each == rank for _, each in self._lines)

    def clear(self) -> None:
        """Drop all lines."""
        self._lines.clear()
        self._bytes = self._taken = 0

    def _dispensable(self) -> int | None:
        """Return the place of the next line to drop; a line that is partly written stays."""
        for rank in (FIRST, LATER):
            for place in range(1 if self._taken else 0, len(self._lines)):
                if self._lines[place][1] == rank:
                    return place
        return None

    def _remove(self, place: int) -> int:
        data, rank = self._lines.pop(place)
        self._bytes -= len(data)
        return rank
