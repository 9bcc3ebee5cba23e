"""Sources of the readers of the whole machine: files kept open and attributes of sysfs."""

from __future__ import annotations

import os

from proctally.errors import FileServed
from proctally.linux.machine import Machine, check_size
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    Parsed = TypeVar("Parsed")

UNBOUNDED_NS = 1 << 63  # a moment that no clock reaches
FIRST_SIZE = 8192  # what is read of a file at first; more where it proves to be longer


def take(names: list[str], clock: Callable[[], int], end_ns: int) -> Iterator[str]:
    """Take names out of a list until the moment `end_ns`, at least one."""
    while names:
        yield names.pop()
        if clock() >= end_ns:
            return


class KeptFile:
    """A file below `proc` that is kept open and read again from its beginning.

    `records`: a file of many records, of which one read gives a page or so (seq_read_iter); the others are generated
    as a whole. `error`: of the last time, where it could not be read or parsed.
    """

    __slots__ = ("_fd", "_machine", "_records", "_size", "error", "path")

    def __init__(self, machine: Machine, path: str, *, records: bool = False) -> None:
        self._machine = machine
        self.path = path
        self._records = records
        self._fd = -1
        self._size = FIRST_SIZE
        self.error: OSError | ValueError | None = None

    def fileno(self) -> int:
        """The descriptor, opened if it was not; raises OSError."""
        if self._fd < 0:
            self._fd = self._machine.open(self.path)
        return self._fd

    def read(self) -> bytes | None:
        """The whole file, or None where there is none or it cannot be read; it is tried again the next time."""
        try:
            fd = self.fileno()
            data = piece = os.pread(fd, self._size, 0)
            while len(piece) == self._size or (self._records and piece):
                if len(piece) == self._size:
                    self._size *= 2
                piece = os.pread(fd, self._size, len(data))
                data += piece
                check_size(len(data))
        except FileServed as error:
            return self._aside(error)
        except OSError as error:
            self.error = error.with_traceback(None)  # its frames would keep this file open
            self.close()
            return None
        self.error = None
        return data

    def _aside(self, error: OSError) -> bytes | None:
        aside = self._machine.aside
        try:
            if aside is None:
                raise error
            data = aside(self.path)
        except OSError as reason:
            self.error = reason.with_traceback(None)
            return None
        self.error = None
        return data

    def parsed(self, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        """What the file says; None as well where the parser raised ValueError."""
        data = self.read()
        try:
            if data and not data.endswith(b"\n"):
                raise ValueError(f"{self.path}: cut behind {data[-100:]!r}")
            return None if data is None else parse(data)
        except ValueError as error:
            self.error = error.with_traceback(None)  # its frames would keep this file open
            return None

    def close(self) -> None:
        """Give up the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


def attribute(machine: Machine, path: str) -> str | None:
    """An attribute below `sys` as text; None where it is missing, empty or not readable (a link that is down)."""
    try:
        return decode_name(machine.read_sys(path).strip(b" \t\n\0")) or None
    except (OSError, ValueError):  # ValueError: a NUL in a name
        return None


def number(machine: Machine, path: str) -> int | None:
    """An attribute that is a number; None where it is none."""
    value = attribute(machine, path)
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def entries(machine: Machine, path: str) -> list[str] | None:
    """The names in a directory below `sys`; None where there is none."""
    try:
        return os.listdir(machine.sys_path(path))
    except (OSError, ValueError):
        return None


def link_name(machine: Machine, path: str) -> str | None:
    """The last part of where a link below `sys` leads (a driver, a master); None where there is none."""
    try:
        return os.readlink(machine.sys_path(path)).rpartition("/")[2]
    except (OSError, ValueError):
        return None
