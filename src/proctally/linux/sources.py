"""What the readers of the whole machine share: files kept open, attributes of sysfs, a sum over changing devices."""

from __future__ import annotations

import os

from proctally.kernel.machine import Gone, Machine
from proctally.kernel.proc import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeVar

    Parsed = TypeVar("Parsed")

FIRST_SIZE = 8192  # what is read of a file at first; more where it proves to be longer
COUNTERS_END = 1 << 64  # what no counter of the kernel reaches


class KeptFile:
    """A file below `proc` that is kept open and read again from its beginning.

    `records`: a file of many records, of which one read gives a page or so (seq_read_iter); the others are generated
    as a whole. `trouble`: why it could not be read or understood the last time, or None.
    """

    __slots__ = ("_fd", "_machine", "_records", "_size", "path", "trouble")

    def __init__(self, machine: Machine, path: str, *, records: bool = False) -> None:
        self._machine = machine
        self.path = path
        self._records = records
        self._fd = -1
        self._size = FIRST_SIZE
        self.trouble: str | None = None

    def fileno(self) -> int:
        """The descriptor, opened if it was not; raises `Gone`, or OSError."""
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
        except (OSError, Gone) as error:
            self.trouble = str(error.args[-1])
            self.close()
            return None
        self.trouble = None
        return data

    def parsed(self, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        """What the file says; None as well where the parser raised ValueError."""
        data = self.read()
        try:
            return None if data is None else parse(data)
        except ValueError as error:
            self.trouble = str(error)
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
        return text(machine.read_sys(path).strip(b" \t\n\0")) or None
    except (OSError, Gone, ValueError):  # ValueError: a NUL in a name
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
        return os.listdir(f"{machine.sys}/{path}")
    except (OSError, ValueError):
        return None


def link_name(machine: Machine, path: str) -> str | None:
    """The last part of where a link below `sys` leads (a driver, a master); None where there is none."""
    try:
        return os.readlink(f"{machine.sys}/{path}").rpartition("/")[2]
    except (OSError, ValueError):
        return None


def counter(word: bytes) -> int:
    """A counter as the kernel writes one; raises ValueError for anything else."""
    value = int(word)
    if not 0 <= value < COUNTERS_END:
        raise ValueError
    return value


def growth(before: int, now: int) -> int:
    """How much a counter grew. One that fell was reset, or belongs to a device made anew: nothing is known to be more.

    Never above the truth: a counter that began at 0 again has since grown by at least what it exceeds the old one.
    """
    return now - before if now > before else 0


class GrowingSum:
    """The sum of `width` counters over devices that come and go; it never falls.

    It starts as the sum over the devices that are there at first. One that goes leaves what it counted in the sum; one
    that comes later adds what it counts from then on: what it had counted before may be older (an interface moved
    here from another namespace).
    """

    __slots__ = ("_last", "_totals")

    def __init__(self, width: int) -> None:
        self._last: dict[str, tuple[int, ...]] | None = None
        self._totals = (0,) * width

    def update(self, counters: Mapping[str, tuple[int, ...]], summed: Iterable[str]) -> tuple[int, ...]:
        """The totals, with what the `summed` ones among these devices counted since the last time."""
        now = {name: counters[name] for name in summed if name in counters}
        last = self._last
        if last is None:
            added = list(now.values())
        else:
            added = [tuple(map(growth, last[name], values)) for name, values in now.items() if name in last]
        self._totals = tuple(map(sum, zip(self._totals, *added, strict=True)))
        self._last = now
        return self._totals


def rate(before: int | None, now: int | None, seconds: float) -> float | None:
    """Growth of a counter per second; None where one of the two is not known, or no counter of the kernel."""
    try:
        return None if before is None or now is None else growth(before, now) / seconds
    except OverflowError:
        return None
