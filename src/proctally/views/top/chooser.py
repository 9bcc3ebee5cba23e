"""The tracked jobs of this user that run now, to choose from."""

from __future__ import annotations

import time

from proctally.record.catalogue import Past, past
from proctally.record.schema import RUNNING
from proctally.text.escape import printable
from proctally.text.units import duration
from proctally.views.top.layout import CHOSEN, HEADING, KEYS, NOTE, PLAIN, TITLE, Signs, clipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.top.layout import Line

NONE = "no tracked job of yours is running: start one by proctally run, or give the pid of a process"


class Running:
    """The records in the default place that are still written, the newest first. Raises NoRecord."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self.records: list[Past] = []
        self.chosen = 0
        self.tick()

    def tick(self) -> None:
        """Look again; what was chosen stays it."""
        path = self.path
        self.records = [record for record in past(self._environment)[0] if record.verdict == RUNNING]
        paths = [record.path for record in self.records]
        self.chosen = paths.index(path) if path in paths else min(self.chosen, max(0, len(paths) - 1))

    @property
    def path(self) -> str | None:
        """The record that is chosen."""
        return self.records[self.chosen].path if self.records else None

    def move(self, step: int) -> None:
        """Choose another."""
        self.chosen = max(0, min(len(self.records) - 1, self.chosen + step))

    def lines(self) -> list[str]:
        """A heading and a line for each."""
        now = time.time()
        found = [f"{'ID':<8}  {'FOR':>14}  {'KIND':<7} NAME"]
        for record in self.records:
            seconds = max(0, round(now - record.started_at))
            since = duration(seconds, tenths=False)
            kind = printable(str(record.run.get("kind") or ""))[:8]
            found.append(f"{printable(record.short_id):<8}  {since:>14}  {kind:<7} {printable(record.title)}")
        return found

    def page(self, width: int, height: int, signs: Signs) -> list[Line]:
        """The whole screen."""
        lines: list[Line] = [[(TITLE, "proctally top: running jobs")], []]
        if self.records:
            heading, *rest = self.lines()
            lines.append([(HEADING, heading.ljust(width))])
            room = max(1, height - 4)
            first = max(0, self.chosen - room + 1)
            for place, text in enumerate(rest[first : first + room], first):
                lines.append([(CHOSEN if place == self.chosen else PLAIN, text)])
        else:
            lines.append([(NOTE, NONE)])
        foot: Line = [(KEYS, "q quit  enter watch  up down choose")]
        return [clipped(line, width, signs) for line in [*lines[: height - 1], foot]]
