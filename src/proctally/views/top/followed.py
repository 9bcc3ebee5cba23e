"""A record that is still written, followed to its end."""

from __future__ import annotations

import os
import time

from proctally.errors import NoRecord
from proctally.record.catalogue import FRESH_INTERVALS, FRESH_SECONDS, of_ends
from proctally.record.reader import GZIP, MAX_LINE_BYTES, NEWLINE, Ends, is_held, line_of, open_record, too_long
from proctally.record.schema import RUNNING
from proctally.record.values import number, number_at, section_at
from proctally.text.escape import printable
from proctally.text.units import duration
from proctally.text.words import headline
from proctally.views.summary import render
from proctally.views.top.scene import KEPT, Scene

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.record.catalogue import Past

SAMPLE = b'{"type":"sample"'  # as json_line() begins one
CHUNK = 1 << 20
LONG_SAMPLE = 1 << 16  # bytes; a longer one is read at once, so that few bytes wait
MAX_OPEN_PHASES, MAX_PHASE_NAME = 1_000, 128  # more, and characters of a name, are not shown


class Followed:
    """The record at `path`, which must be one that is still written. `word`: how it was named. Raises NoRecord."""

    def __init__(self, path: str, word: str) -> None:
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
        self._buffer = b""
        self._samples: list[bytes] = []  # the last ones, unread until it is known that they are the last
        self._phases: dict[str, int] = {}
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
        self._enter_samples()
        self.scene.phases = list(self._phases)
        was, self.scene.notes = self.scene.notes, self._notes()
        return news or was != self.scene.notes

    def _notes(self) -> list[str]:
        if self.is_silent:
            return ["nothing is written any more: the job is stopped, or its tracker was killed"]
        root = self.scene.root
        if root is None or not self.scene.processes:
            return []
        return [f"a record has the largest processes only; all of them: proctally top {root}"]

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
            self.scene.ending = _ending(self.scene.title, line, self.path)
            sources = section_at(line, "cpu.sources")
            self.scene.sources = {str(name): used for name, used in sources.items() if number(used) is not None}

    def _line(self, data: bytes) -> JsonObject | None:
        line = line_of(data)
        return None if line is None else self._admit(line)

    def _enter_samples(self) -> None:
        for data in self._samples[-KEPT:]:
            sample = self._line(data)
            if sample is None:
                continue
            self.scene.enter(sample)
            self.scene.sources = {} if self.scene.of_machine else _by_source(sample)
        self._samples.clear()

    def _enter_phase(self, line: JsonObject) -> None:
        """A phase of one name may be begun while it goes on: it ends as often."""
        name, step = str(line.get("name"))[:MAX_PHASE_NAME], 1 if line.get("event") == "begin" else -1
        depth = self._phases.pop(name, 0) + step
        if depth > 0 and len(self._phases) < MAX_OPEN_PHASES:
            self._phases[name] = depth

    def close(self) -> None:
        """Give it back."""
        self._file.close()


def _scene(past: Past) -> Scene:
    run, scene = past.run, Scene(past.title)
    scene.root = run.get("pid") if run.get("kind") != "system" else None
    scene.identity = f"run {past.short_id}" + ("" if scene.root is None else f", pid {scene.root}")
    scene.of_machine = run.get("kind") == "system"
    scene.limits = section_at(run, "limits")
    return scene


def _by_source(sample: JsonObject) -> dict[str, float]:
    """What a sample says of CPU time: the best of the sources, and the run's own cgroup's."""
    found = {}
    for name, section in (("the best source", "tree"), ("cgroup", "cgroup")):
        used = number_at(sample, f"{section}.cpu_seconds")
        if used is not None:
            found[name] = used
    return found


def _ending(title: str, summary: JsonObject, path: str) -> list[str]:
    try:
        text = render(title, summary, path)
    except (KeyError, TypeError, ValueError, AttributeError):  # of another version, or by another hand
        text = f"proctally {title}  {''.join(headline(summary))}"
    return [printable(line) for line in text.splitlines()]
