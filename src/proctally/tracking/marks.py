"""Phases that a job tells of from inside: `proctally mark NAME`, or `echo NAME >> "$PROCTALLY_MARKS"`.

The file named there is a pipe of the tracker's, reached through `/proc/PID/fd/N`: nothing is left behind on a disk,
nothing listens on a network, and the tracker hears of a mark when it is made. Without a tracker there is no such file.
"""

from __future__ import annotations

import os
import stat

from proctally.errors import NotMarked
from proctally.linux.machine import NANOSECONDS
from proctally.text.escape import argument_text, encodable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.record import JsonObject

VARIABLE = "PROCTALLY_MARKS"
NEXT, BEGIN, END = "next", "begin", "end"
READ_BYTES = 1 << 16  # what a pipe holds, as a rule
READS_AT_ONCE = 16  # of a flood, between which everything else gets its turn
LONGEST_LINE = 4096
LONGEST_NAME = 200
MOST = 10_000  # marks of one run: what they cost, and the record, stay small
PARSED_AT_ONCE = 200
WAITING_BYTES = 1 << 20  # of waiting lines: above that the pipe is not read
PAUSE_NS = 20_000_000  # maximum time between two reads of the pipe


class Marks:
    """The pipe, and the phases that are open. `look`: reads the tree, and returns its CPU seconds so far."""

    def __init__(self, look: Callable[[], float | None], at: Callable[[], float]) -> None:
        self.look = look
        self._at = at
        self._open: dict[str, bool] = {}  # phases that are open; whether the next one ends it
        self._rest = b""
        self._is_cut = False  # whether the rest is of a line that is too long, of which nothing is kept
        self._waiting: list[bytes] = []  # whole lines that are not parsed yet
        self._line_count = 0
        self._read_ns = -NANOSECONDS  # long ago
        self._not_before = 0
        self.dropped = 0
        self.started_ns = 0  # of the run, by the clock of `take`
        self.path: str | None = None
        try:
            self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:  # no descriptor is left
            self._read = self._write = -1
        else:
            self.path = f"/proc/{os.getpid()}/fd/{self._write}"

    def fds(self, now: int) -> list[int]:
        """The descriptor that is ready when something was marked; none for a moment after that."""
        return [self._read] if self._read >= 0 and now >= self._not_before else []

    def timeout(self, now: int) -> int | None:
        """Return the nanoseconds until it listens again, or parses waiting lines; None while it listens."""
        if self._waiting:
            return 0
        return self._not_before - now if self._read >= 0 and now < self._not_before else None

    def drain(self, now: int) -> bytes:
        """Return the bytes of the pipe. A job that marks waits for room in a full pipe.

        A pause follows, which ends before the pipe is full at the rate at which it was filled this time.
        """
        if self._read < 0:
            return b""
        half = _room(self._read) // 2
        found: list[bytes] = []
        try:
            while len(found) < READS_AT_ONCE:
                found.append(os.read(self._read, READ_BYTES))
                if len(found[-1]) < min(half, READ_BYTES):
                    break
        except OSError:
            pass
        data = b"".join(found)
        if data:
            pause = 0 if len(data) >= half else (now - self._read_ns) * half // len(data)
            self._read_ns, self._not_before = now, now + min(pause, PAUSE_NS)
        return data

    @property
    def has_waiting(self) -> bool:
        """Return True if lines wait to be parsed."""
        return bool(self._waiting)

    def forget(self) -> None:
        """Drop the lines that wait."""
        self.dropped += len(self._waiting)
        self._waiting = []

    def take(self, now: int, most: int = PARSED_AT_ONCE) -> list[JsonObject]:
        """Return the lines of the record for the next marks, at most this many."""
        if sum(map(len, self._waiting)) < WAITING_BYTES:
            self._split(self.drain(now))
        lines, self._waiting = self._waiting[:most], self._waiting[most:]
        marks = [mark for mark in map(parse, lines) if mark is not None]
        self.dropped += len(lines) - len(marks)
        if not marks:
            return []
        used, heard_at = self.look(), self._at()
        found: list[JsonObject] = []
        for name, event, at in marks:
            ago = 0.0 if at is None else max(0.0, heard_at - at)
            found += self._lines(name, event, self._moment(now, heard_at, ago), used)
        return found

    def _split(self, data: bytes) -> None:
        """Take in the whole lines; those above MOST are only counted."""
        if self._is_cut:
            _, newline, data = data.partition(b"\n")
            self._is_cut = not newline
        *whole, rest = (self._rest + data).split(b"\n", MOST - self._line_count)
        self._line_count += len(whole)
        self._waiting += [line[:LONGEST_LINE] for line in whole if line.strip()]
        if b"\n" in rest:
            self.dropped += rest.count(b"\n")
            rest = rest.rpartition(b"\n")[2]
        if len(rest) > LONGEST_LINE:
            rest = b""
            self._is_cut = True
            self.dropped += 1
        self._rest = rest

    def _moment(self, now: int, heard_at: float, ago: float) -> dict[str, float]:
        """When something was marked, if that is so many seconds ago."""
        elapsed = max(0.0, (now - self.started_ns) / NANOSECONDS - ago)
        return {"at": round(heard_at - ago, 3), "elapsed_seconds": round(elapsed, 4)}

    def _lines(self, name: str | None, event: str, moment: dict[str, float], used: float | None) -> list[JsonObject]:
        ended: list[str] = []
        begun: list[str] = []
        if event == END:
            ended = [each for each in self._open if name is None or each == name]
        else:
            assert name is not None
            if event == NEXT:
                ended = [each for each, ends in self._open.items() if ends]
            elif name in self._open:
                ended = [name]
            begun = [name]
        for each in ended:
            del self._open[each]
        self._open |= dict.fromkeys(begun, event == NEXT)
        return [_phase(each, END, moment, used) for each in ended] + [
            _phase(each, BEGIN, moment, used) for each in begun
        ]

    def last(self, now: int) -> list[JsonObject]:
        """The same at the end: what is open ends."""
        self._split(self.drain(now))
        found = self.take(now, MOST)
        self.dropped += bool(self._rest.strip())  # its line has no end
        if self._open:
            found += self._lines(None, END, self._moment(now, self._at(), 0.0), self.look())
        return found

    def close(self) -> None:
        """Give the pipe back."""
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1


def _room(fd: int) -> int:
    """Return how many bytes a pipe holds: fewer for a user of very many pipes."""
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return READ_BYTES


def _phase(name: str, event: str, moment: dict[str, float], used: float | None) -> JsonObject:
    return {"type": "phase", "name": name, "event": event} | moment | {"cpu_seconds": used}


def parse(line: bytes) -> tuple[str | None, str, float | None] | None:
    """(name, event, when) of one line: a name, or a JSON object of `name`, `event`, `at`; None for what is neither."""
    text = line[:LONGEST_LINE].decode("utf-8", "backslashreplace").strip()
    if not text.startswith("{"):
        return (text[:LONGEST_NAME], NEXT, None) if text else None
    import json

    try:
        told = json.loads(text)
        name, event, at = told.get("name"), told.get("event", NEXT), told.get("at")
        at = None if at is None else float(at)
    except (ValueError, TypeError, RecursionError, OverflowError):
        return None
    if event not in (NEXT, BEGIN, END) or not (isinstance(name, str) and name.strip() or name is None and event == END):
        return None
    if at is not None and not 0 <= at < 1 << 40:
        return None
    return (None if name is None else encodable(name.strip()[:LONGEST_NAME])), event, at


# -- from inside the job ---------------------------------------------------------------------------------------------


def mark(name: str | None, event: str, environment: dict[str, str], at: float) -> None:
    """Send a mark to the tracker of this job, without waiting for it. Raises NotMarked."""
    from json import dumps

    path = environment.get(VARIABLE)
    if not path:
        raise NotMarked("this is not inside a tracked job; nothing was marked")
    told = None if name is None else argument_text(name)[:LONGEST_NAME]
    data = dumps({"name": told, "event": event, "at": at}).encode() + b"\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NotMarked(f"nothing was marked: the tracker of this job cannot be reached ({why})") from None
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):  # that of another process, which has its pid by now or here
            raise NotMarked(f"nothing was marked: {path} is no pipe of a tracker")
        os.write(fd, data)  # whole or not at all: it is shorter than PIPE_BUF
    except BlockingIOError:
        raise NotMarked("nothing was marked: the tracker of this job takes no more") from None
    except OSError as error:
        raise NotMarked(f"nothing was marked: {error.strerror}") from None
    finally:
        os.close(fd)
