"""The tracked jobs of this user that run now, to choose from."""

from __future__ import annotations

import time

from proctally.record.catalogue import Past, past
from proctally.record.schema import RUNNING
from proctally.text.escape import printable
from proctally.text.units import duration
from proctally.views.top.followed import Followed
from proctally.views.top.line import CHOSEN, HEADING, KEYS, NOTE, PLAIN, TITLE, Signs, clipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.top.followed import Open
    from proctally.views.top.line import Line

NONE = "no tracked job of yours is running"
REMEDY = "start one with proctally run, or give the pid of a process: proctally top PID"
LAST = 3  # runs that are named where none is running


class Running:
    """The records in the default directory that are still written, the newest first. Raises NoRecord."""

    def __init__(self, environment: dict[str, str], open_tree: Open | None = None) -> None:
        self._environment = environment
        self._open_tree = open_tree
        self.records: list[Past] = []
        self.last: list[Past] = []
        self.chosen = 0
        self.tick()

    def tick(self) -> None:
        """Look again; the chosen record stays the same."""
        path = self.path
        known = past(self._environment)[0]
        self.records = [record for record in known if record.verdict == RUNNING]
        self.last = known[:LAST]
        paths = [record.path for record in self.records]
        self.chosen = paths.index(path) if path in paths else min(self.chosen, max(0, len(paths) - 1))

    @property
    def path(self) -> str | None:
        """The record that is chosen."""
        return self.records[self.chosen].path if self.records else None

    def open(self) -> Followed | None:
        """Return the chosen run, to be followed; None without one. Raises NoRecord."""
        return None if self.path is None else Followed(self.path, self.path, self._open_tree)

    def move(self, step: int) -> None:
        """Choose another."""
        self.chosen = max(0, min(len(self.records) - 1, self.chosen + step))

    def lines(self) -> list[str]:
        """Return a heading and a line for each."""
        found = [f"{'ID':<8}  {'FOR':>14}  {'KIND':<7} NAME"]
        for record in self.records:
            kind = printable(str(record.run.get("kind") or ""))[:8]
            found.append(f"{printable(record.short_id):<8}  {_age(record):>14}  {kind:<7} {printable(record.title)}")
        return found

    def last_lines(self) -> list[str]:
        """Return the last runs, and how to see one; nothing without any."""
        if not self.last:
            return []
        found = ["the last runs; to see one: proctally report ID", f"{'ID':<8}  {'STARTED':>18}  {'VERDICT':<9} NAME"]
        for record in self.last:
            ago, verdict = f"{_age(record)} ago", printable(record.verdict)[:9]
            found.append(f"{printable(record.short_id):<8}  {ago:>18}  {verdict:<9} {printable(record.title)}")
        return found

    def page(self, width: int, height: int, signs: Signs) -> list[Line]:
        """Return the whole screen."""
        lines: list[Line] = [[(TITLE, "proctally top: running jobs")], []]
        if self.records:
            heading, *rest = self.lines()
            lines.append([(HEADING, heading)])
            room = max(1, height - 4)
            first = max(0, self.chosen - room + 1)
            for place, text in enumerate(rest[first : first + room], first):
                is_chosen = place == self.chosen
                lines.append([(CHOSEN if is_chosen else PLAIN, text.ljust(width) if is_chosen else text)])
        else:
            lines += [[(NOTE, NONE)], [(PLAIN, REMEDY)], []]
            lines += [[(PLAIN, text)] for text in self.last_lines()]
        keys = "q quit  Enter shows the chosen run  up down choose" if self.records else "q quit"
        return [clipped(line, width, signs) for line in [*lines[: height - 1], [(KEYS, keys)]]]


def _age(record: Past) -> str:
    return duration(max(0, round(time.time() - record.started_at)), tenths=False)
