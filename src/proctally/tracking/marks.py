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
READ_BYTES = 1 << 16
LONGEST_LINE = 4096
LONGEST_NAME = 200
MOST = 10_000  # marks of one run: what they cost, and the record, stay small
PAUSE_NS = 20_000_000  # who marks without end is heard no oftener


class Marks:
    """The pipe, and the phases that are open. `look`: reads the tree, and returns its CPU seconds so far."""

    def __init__(self, look: Callable[[], float | None], at: Callable[[], float]) -> None:
        self.look = look
        self._at = at
        self._open: dict[str, bool] = {}  # phases that are open; whether the next one ends it
        self._rest = b""
        self._heard = 0
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
        """Nanoseconds until it listens again; None while it does."""
        return self._not_before - now if self._read >= 0 and now < self._not_before else None

    def drain(self, now: int) -> bytes:
        """What was written since. It is always read: whoever marks waits for room in a full pipe."""
        if self._read < 0:
            return b""
        try:
            data = os.read(self._read, READ_BYTES)
        except OSError:
            return b""
        self._not_before = now + PAUSE_NS
        return data

    def take(self, now: int) -> list[JsonObject]:
        """Lines of the record for what was marked since."""
        *whole, self._rest = (self._rest + self.drain(now)).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
            self.dropped += 1
        told = [line for line in whole if line.strip()]
        room = MOST - self._heard
        marks = [mark for mark in map(parse, told[:room]) if mark is not None]
        self._heard += len(marks)
        self.dropped += len(told) - len(marks)
        if not marks:
            return []
        used, heard_at = self.look(), self._at()
        found: list[JsonObject] = []
        for name, event, at in marks:
            ago = 0.0 if at is None else max(0.0, heard_at - at)
            found += self._lines(name, event, self._moment(now, heard_at, ago), used)
        return found

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
        found = self.take(now)
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
