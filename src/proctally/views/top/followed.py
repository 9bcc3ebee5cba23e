"""A record that is still written, followed to its end."""

from __future__ import annotations

import os
import stat
import time
from json import loads

from proctally.history import FRESH_INTERVALS, FRESH_SECONDS, RUNNING, NoRecord, find_writers, glance
from proctally.record import GZIP
from proctally.summary import duration, printable, render
from proctally.top.scene import KEPT, Scene, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SAMPLE = b'{"type":"sample"'  # as json_line() begins one
NEWLINE = b"\n"
CHUNK = 1 << 20
LONGEST_LINE = 64 << 20


class Followed:
    """The record at `path`, which must be one that is still written. `word`: how it was named. Raises NoRecord."""

    def __init__(self, path: str, word: str) -> None:
        try:
            past = glance(path)
            find_writers([past])
            self._file = open(path, "rb", buffering=0)
            there = os.fstat(self._file.fileno())
        except OSError as error:
            raise NoRecord(f"{path}: {error.strerror}") from None
        if not stat.S_ISREG(there.st_mode) or self._file.read(2) == GZIP:
            raise NoRecord(f"{path}: is no file that is still written")
        self._file.seek(0)
        self.path = path
        run = past.run
        short = str(run.get("run_id") or "")[:8]
        asked = f"proctally report {printable(word)}"
        if past.summary is not None:
            wall = number(past.figure("wall_seconds"))
            after = "" if wall is None else f" after {duration(wall)}"
            raise NoRecord(f"{path}: has ended{after} ({printable(past.verdict)}); see it by: {asked}")
        if past.verdict != RUNNING:
            ago = duration(max(0.0, time.time() - past.modified_at))
            raise NoRecord(f"{path}: nothing was written for {ago}, its tracker is gone; see it by: {asked}")
        self._interval = number(run.get("interval_seconds")) or 1.0
        self.scene = _scene(run, short)
        self._buffer = b""
        self._samples: list[bytes] = []  # the last ones, unread until it is known that they are the last
        self._phases: dict[str, int] = {}
        self._written_at = time.monotonic() - max(0.0, time.time() - past.modified_at)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was added for so long that its tracker is stopped or gone."""
        return self.silence > max(FRESH_SECONDS, FRESH_INTERVALS * self._interval) and self.scene.ending is None

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
            if len(self._buffer) > LONGEST_LINE:
                raise NoRecord(f"{self.path}: a line of it is longer than any of a record")
        if news:
            self._written_at = time.monotonic()
        self._enter_samples()
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
            return
        try:
            line = loads(data)
        except (ValueError, RecursionError):
            return  # a line of somebody else: what is seen live need not be refused for it
        if not isinstance(line, dict):
            return
        kind = line.get("type")
        if kind == "phase":
            self._enter_phase(line)
        elif kind == "devices":
            memory = line.get("memory")
            self.scene.memory_total = number(memory.get("total_bytes")) if isinstance(memory, dict) else None
            self.scene.cpus = number(line.get("cpus"))
        elif kind == "summary":
            self._enter_samples()
            self.scene.ending = _ending(self.scene.title, line, self.path)
            cpu = line.get("cpu")
            self.scene.sources = _numbers(cpu.get("sources")) if isinstance(cpu, dict) else {}

    def _enter_samples(self) -> None:
        for data in self._samples[-KEPT:]:
            try:
                sample = loads(data)
            except (ValueError, RecursionError):
                continue
            self.scene.enter(sample)
            self.scene.sources = {} if self.scene.of_machine else _by_source(sample)
        self._samples.clear()

    def _enter_phase(self, line: dict[str, Any]) -> None:
        """A phase of one name may be begun while it goes on: it ends as often."""
        name, step = str(line.get("name")), 1 if line.get("event") == "begin" else -1
        depth = self._phases.pop(name, 0) + step
        if depth > 0:
            self._phases[name] = depth
        self.scene.phases = list(self._phases)

    def close(self) -> None:
        """Give it back."""
        self._file.close()


def _scene(run: dict[str, Any], short: str) -> Scene:
    command = run.get("command")
    words = " ".join(map(str, command)) if isinstance(command, list) else ""
    name = str(run.get("name") or run.get("kind") or "")
    scene = Scene(f"{name}: {words}" if words and words != name else name)
    pid = run.get("pid")
    scene.root = pid if isinstance(pid, int) and run.get("kind") != "system" else None
    scene.identity = f"run {short}" + ("" if scene.root is None else f", pid {scene.root}")
    scene.of_machine = run.get("kind") == "system"
    limits = run.get("limits")
    scene.limits = limits if isinstance(limits, dict) else {}
    return scene


def _by_source(sample: dict[str, Any]) -> dict[str, float]:
    """What a sample says of CPU time: the best of the sources, and the run's own cgroup's."""
    found = {}
    for name, section in (("the best source", "tree"), ("cgroup", "cgroup")):
        told = sample.get(section)
        used = number(told.get("cpu_seconds")) if isinstance(told, dict) else None
        if used is not None:
            found[name] = used
    return found


def _numbers(told: Any) -> dict[str, float]:
    values = told.items() if isinstance(told, dict) else ()
    return {str(name): value for name, value in values if number(value) is not None}


def _ending(title: str, summary: dict[str, Any], path: str) -> list[str]:
    try:
        text = render(title, summary, path, colour=False)
    except (KeyError, TypeError, ValueError, AttributeError):  # of another version, or by another hand
        text = f"proctally {title}  {summary.get('verdict')}: {summary.get('evidence')}"
    return [printable(line) for line in text.splitlines()]
