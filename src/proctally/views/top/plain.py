"""The live view as plain text: a block for each interval, for pipes, files and logs."""

from __future__ import annotations

import time

from proctally.views.top.followed import Followed
from proctally.views.top.head import bad_news, head
from proctally.views.top.line import NOTE, PLAIN, Signs
from proctally.views.top.table import View, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.views.top.line import Line
    from proctally.views.top.sampled import Living

POLL_SECONDS = 0.1


def write_blocks(
    watched: Living | Followed,
    write: Callable[[str], object],
    *,
    interval: float,
    view: View,
    signs: Signs,
    width: int,
    rows: int,
    duration: float | None,
    count: int | None,
) -> bool:
    """Write until it ended, the time is over or so many blocks are written; False where the tracker is gone.

    Raises OSError where the output takes no more.
    """
    watched.tick()
    begun = time.monotonic()
    deadline = None if duration is None else begun + duration
    due = begun + interval
    written = 0
    # rates need two samples: a record has them already, and of what has ended there are no more
    if watched.has_ended or (isinstance(watched, Followed) and watched.scene.sample):
        write(_block(watched, view, width, rows, signs))
        written = 1
    while True:
        if watched.has_ended or (count is not None and written >= count):
            return True
        news = _wait(watched, due, deadline)
        if news:
            write(_block(watched, view, width, rows, signs))
            written += 1
        if deadline is not None and time.monotonic() >= deadline:
            return True
        if watched.is_silent:
            return False
        due = max(due + interval, time.monotonic())


def _wait(watched: Living | Followed, due: float, deadline: float | None) -> bool:
    """Until a block is due; whether there is anything to write. A tree is then sampled, a record read meanwhile."""
    news = False
    while True:
        if isinstance(watched, Followed):
            news = watched.tick() or news
            if watched.has_ended or watched.is_silent:
                return news
        now = time.monotonic()
        end = due if deadline is None else min(due, deadline)
        if now >= end:
            return watched.tick() if not isinstance(watched, Followed) else news
        pause = POLL_SECONDS if isinstance(watched, Followed) else watched.scan()
        time.sleep(end - now if pause is None else min(pause, end - now))


def _block(watched: Living | Followed, view: View, width: int, rows: int, signs: Signs) -> str:
    scene = watched.scene
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(scene.figure("at")))
    lines: list[Line] = [[(PLAIN, moment)]]
    if scene.ending is None:
        lines += head(scene, width, signs) + bad_news(scene)
        lines += [[(NOTE, note)] for note in scene.notes]
        lines += table(scene, view, width, rows + 1, signs)
    else:
        lines += [[(PLAIN, text)] for text in scene.ending]
    return "".join("".join(text for _, text in line).rstrip() + "\n" for line in [*lines, []])
