"""A record that is still written, followed to its end."""

from __future__ import annotations

import os
import time

from proctally.errors import NoProcess, NoRecord
from proctally.record.catalogue import FRESH_INTERVALS, FRESH_SECONDS, of_ends
from proctally.record.reader import GZIP, MAX_LINE_BYTES, NEWLINE, Ends, is_held, line_of, open_record, too_long
from proctally.record.schema import RUNNING
from proctally.record.values import number, number_at, objects_at, section_at
from proctally.text.escape import printable
from proctally.text.units import duration
from proctally.text.words import headline
from proctally.views.summary import render
from proctally.views.top.scene import KEPT, Process, Scene

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.record import JsonObject
    from proctally.record.catalogue import Past
    from proctally.views.top.sampled import SampledTree

    Open = Callable[[int, float], SampledTree]  # of a root and the Unix time of its start; raises NoProcess

SAMPLE = b'{"type":"sample"'  # as json_line() begins one
CHUNK = 1 << 20
LONG_SAMPLE = 1 << 16  # bytes; a longer one is read at once, so that few bytes wait
MAX_OPEN_PHASES, MAX_PHASE_NAME = 1_000, 128  # more, and characters of a name, are not shown


class Followed:
    """The record at `path`, which must be one that is still written. `word`: how it was named. Raises NoRecord.

    `open_tree` gives the processes of a run on this machine, all of them; a record has the largest few.
    """

    def __init__(self, path: str, word: str, open_tree: Open | None = None) -> None:
        try:
            ends = Ends(path)
            self._file = open_record(path)
            is_packed = self._file.read(len(GZIP)) == GZIP
        except OSError as error:
            raise NoRecord(f"{path}: {error.strerror}") from None
        if is_packed:
            raise NoRecord(f"{path}: is no file that is still written")
        self._file.seek(0)
        self.path = path
        self._admit = ends.reading.admit
        past = of_ends(path, ends)
        asked = f"proctally report {printable(word)}"
        if past.summary is not None:
            wall = number(past.figure("wall_seconds"))
            after = "" if wall is None else f" after {duration(wall)}"
            raise NoRecord(f"{path}: has ended{after} ({printable(past.verdict)}); see it by: {asked}")
        if past.verdict != RUNNING:
            ago = duration(max(0.0, time.time() - past.modified_at))
            raise NoRecord(f"{path}: nothing was written for {ago}, its tracker is gone; see it by: {asked}")
        self._interval = number(past.run.get("interval_seconds")) or 1.0
        self.scene = _scene(past)
        self._tree = None if open_tree is None or past.is_held is not True else _tree(past, open_tree)
        if self._tree is not None:
            self.scene.is_whole = True
            self.scene.line_of = self._line_of
        self._buffer = b""
        self._samples: list[bytes] = []  # the last ones, unread until it is known that they are the last
        self._phases: dict[str, int] = {}  # how often each open phase was begun
        self._is_left = False  # whether its tracker has ended without a summary
        self._written_at = time.monotonic() - max(0.0, time.time() - past.modified_at)

    @property
    def is_silent(self) -> bool:
        """Return True if its tracker ended without a summary, or wrote nothing for a long time."""
        is_late = self.silence > max(FRESH_SECONDS, FRESH_INTERVALS * self._interval)
        return (is_late or self._is_left) and self.scene.ending is None

    @property
    def silence(self) -> float:
        """Seconds for which nothing was added."""
        return time.monotonic() - self._written_at

    @property
    def has_ended(self) -> bool:
        """Whether its summary was read."""
        return self.scene.ending is not None

    def tick(self) -> bool:
        """Read what was added; whether there is anything new. Raises NoRecord."""
        news = False
        was_held = is_held(self._file.fileno())  # before the last read
        while True:
            try:
                data = self._file.read(CHUNK)
                if not data and self._file.tell() > os.fstat(self._file.fileno()).st_size:
                    self._file.seek(0)  # it was emptied (a rotation of logs), and is written from its beginning
                    self._buffer = b""
                    data = self._file.read(CHUNK)
            except OSError as error:
                raise NoRecord(f"{self.path}: {error.strerror}") from None
            if not data:
                break
            news = True
            whole, newline, self._buffer = (self._buffer + data).rpartition(NEWLINE)
            for line in whole.split(NEWLINE) if newline else ():
                self._take(line)
            if len(self._buffer) > MAX_LINE_BYTES:
                raise NoRecord(str(too_long(self.path)))
        self._is_left = was_held is False
        if news:
            self._written_at = time.monotonic()
        if self._enter_samples():
            self._show_processes()
        was, self.scene.notes = self.scene.notes, self._notes()
        return news or was != self.scene.notes

    def _notes(self) -> list[str]:
        if self.is_silent:
            return ["nothing is written any more: the job is stopped, or its tracker was killed"]
        if self.scene.is_whole or not self.scene.processes:
            return []
        return ["the largest processes only: the others are on another machine, or unreadable"]

    def _show_processes(self) -> None:
        """Take in the processes: all of them by `/proc`, else those of the last sample."""
        if self._tree is not None:
            try:
                self.scene.show(self._tree.sample()["processes"])
                return
            except NoProcess:
                self._leave_tree()
        self.scene.show(objects_at(self.scene.sample, "top"))

    def _leave_tree(self) -> None:
        if self._tree is not None:
            self._tree.close()
        self._tree, self.scene.is_whole = None, False
        self.scene.line_of = lambda process: process.command

    def _line_of(self, process: Process) -> str:
        return (self._tree.command_line(process.pid) if self._tree is not None else "") or process.command

    def _take(self, data: bytes) -> None:
        if data.startswith(SAMPLE):
            self._samples.append(data)
            if len(self._samples) > 2 * KEPT:
                del self._samples[:KEPT]
            if len(data) > LONG_SAMPLE:
                self._enter_samples()
            return
        line = self._line(data)
        if line is None:  # damaged: a live view needs no line
            return
        kind = line["type"]
        if kind == "phase":
            self._enter_phase(line)
        elif kind == "devices":
            self.scene.memory_total = number_at(line, "memory.total_bytes")
            self.scene.cpus = number(line.get("cpus"))
        elif kind == "summary":
            self._enter_samples()
            self.scene.ending = _ending(self.scene.name, line, self.path)

    def _line(self, data: bytes) -> JsonObject | None:
        line = line_of(data)
        return None if line is None else self._admit(line)

    def _enter_samples(self) -> bool:
        """Take in the samples that were read; return whether there were any."""
        samples = [sample for data in self._samples[-KEPT:] if (sample := self._line(data)) is not None]
        for sample in samples:
            self.scene.enter(sample)
        self._samples.clear()
        return bool(samples)

    def _enter_phase(self, line: JsonObject) -> None:
        """A phase of one name may be begun while it goes on: it ends as often."""
        name, step = str(line.get("name"))[:MAX_PHASE_NAME], 1 if line.get("event") == "begin" else -1
        depth = self._phases.pop(name, 0) + step
        if depth > 0 and len(self._phases) < MAX_OPEN_PHASES:
            self._phases[name] = depth
            self.scene.phases.setdefault(name, number(line.get("elapsed_seconds")))
        else:
            self.scene.phases.pop(name, None)

    def close(self) -> None:
        """Give it back."""
        self._leave_tree()
        self._file.close()


def _scene(past: Past) -> Scene:
    run, command = past.run, past.run.get("command")
    scene = Scene(past.name or str(run.get("kind") or ""), " ".join(command or ()), past.short_id)
    scene.root = run.get("pid") if run.get("kind") != "system" else None
    scene.of_machine = run.get("kind") == "system"
    scene.limits = section_at(run, "limits")
    return scene


def _tree(past: Past, open_tree: Open) -> SampledTree | None:
    """Return the tree of a run whose root is on this machine; None for any other."""
    root = past.run.get("pid")
    if past.run.get("kind") != "run" or root is None:
        return None
    try:
        return open_tree(root, past.started_at)
    except NoProcess:
        return None


def _ending(title: str, summary: JsonObject, path: str) -> list[str]:
    try:
        text = render(title, summary, path)
    except (KeyError, TypeError, ValueError, AttributeError):  # of another version, or by another hand
        text = f"proctally {title}  {''.join(headline(summary))}"
    return [printable(line) for line in text.splitlines()]
