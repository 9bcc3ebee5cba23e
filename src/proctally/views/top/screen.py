"""The live view on a terminal, by urwid: it writes the rows that changed and nothing else."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time

import urwid

from proctally.errors import NoRecord
from proctally.views.top.followed import Followed
from proctally.views.top.layout import page
from proctally.views.top.line import Signs
from proctally.views.top.table import SORTS, View, rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from proctally.views.top.chooser import Running
    from proctally.views.top.line import Line
    from proctally.views.top.sampled import Living

FIRST_SECONDS = 0.3  # rates need two samples: so long after the first the second is taken
POLL_SECONDS = 0.25  # how often is looked whether something was written
MAX_WANTED = 32  # characters to find by
MOST_REDRAWN = 0.9  # a record that is written oftener is shown as often as the interval, about
PALETTE: list[tuple[str, str, str] | tuple[str, str, str, str]] = [
    ("title", "bold", "", "bold"),
    ("label", "dark cyan", "", ""),
    ("graph", "dark blue", "", ""),
    ("heading", "bold", "", "bold"),
    ("sorted", "bold,underline", "", "bold,underline"),
    ("chosen", "standout", "", "standout"),
    ("note", "brown", "", "bold"),
    ("bad", "dark red,bold", "", "bold"),
    ("keys", "dark cyan", "", ""),
    ("running", "dark blue", "", ""),
    ("ready", "brown", "", ""),
    ("throttled", "brown,bold", "", ""),
    ("disk", "dark magenta", "", ""),
    ("asleep", "dark gray", "", ""),
]
KEY_SORTS = {"c": "cpu", "w": "wait", "m": "memory", "i": "io", "p": "pid", "n": "name"}


class Sheet(urwid.Widget):
    """A whole screen of lines, and what its keys do."""

    _sizing = frozenset([urwid.BOX])
    _selectable = True

    def __init__(self, draw: Callable[[int, int], list[Line]], press: Callable[[str, int], bool]) -> None:
        super().__init__()
        self._draw = draw
        self._press = press

    def render(self, size: tuple[int, int], focus: bool = False) -> urwid.Canvas:  # type: ignore[override]
        """The canvas of this size."""
        width, height = size
        lines = self._draw(width, height)[:height]
        lines += [[] for _ in range(height - len(lines))]
        rendered = [urwid.Text(list(line) or "", wrap=urwid.CLIP).render((width,)) for line in lines]
        return urwid.CanvasCombine([(canvas, None, False) for canvas in rendered])

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        """The key, unless it means something here."""
        if not self._press(key, size[1]):
            return key
        self._invalidate()
        return None

    def renew(self) -> None:
        """Draw it again: what it shows has changed."""
        self._invalidate()


class Screen:
    """The running jobs to choose from, or one watched; and what happens when time goes by."""

    def __init__(
        self,
        watched: Living | Followed | None,
        running: Running | None,
        *,
        interval: float,
        view: View,
        signs: Signs,
        duration: float | None = None,
        count: int | None = None,
    ) -> None:
        self.watched = watched
        self.running = running
        self.view = view
        self.view.can_go_back = running is not None
        self.signs = signs
        self.sheet = Sheet(self.draw, self.press)
        self._interval = interval
        self._deadline = None if duration is None else time.monotonic() + duration
        self._left = count
        self._next = 0.0
        self._drawn_at = 0.0
        self._first = True

    def draw(self, width: int, height: int) -> list[Line]:
        """The lines of the whole screen."""
        if self.watched is not None:
            return page(self.watched.scene, self.view, width, height, self.signs)
        assert self.running is not None
        return self.running.page(width, height, self.signs)

    # -- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> float:
        """Do what is due; the seconds until the next time. Raises urwid.ExitMainLoop at the end."""
        now = time.monotonic()
        over = self._deadline is not None and now >= self._deadline
        if over or (self._left is not None and self._left <= 0 and now >= self._next):  # the last one was seen, too
            raise urwid.ExitMainLoop
        if now >= self._next and not self.view.is_held:
            self._advance(now)
        wait = max(0.0, self._next - now) if not self.view.is_held else POLL_SECONDS
        if self.watched is not None and not isinstance(self.watched, Followed):
            due = self.watched.scan()
            wait = wait if due is None else min(wait, due)
        return wait if self._deadline is None else min(wait, max(0.0, self._deadline - now))

    def _advance(self, now: float) -> None:
        if self.watched is None:
            assert self.running is not None
            self.running.tick()
            self._next = now + self._interval
            self.sheet.renew()
        elif isinstance(self.watched, Followed):
            self._next = now + min(POLL_SECONDS, self._interval)
            if now - self._drawn_at >= MOST_REDRAWN * self._interval and self.watched.tick():
                self._show(now)
        else:
            was_first, self._first = self._first, False
            self._next = max(self._next + self._interval, now) if self._next else now + self._interval
            if was_first:
                self._next = now + min(FIRST_SECONDS, self._interval)
            if self.watched.tick():
                self._show(now)

    def _show(self, now: float) -> None:
        self._drawn_at = now
        self.sheet.renew()
        if self._left is not None:
            self._left -= 1

    # -- keys --------------------------------------------------------------------------------------------------------

    def press(self, key: str, height: int) -> bool:
        """What a key does; whether it does anything. Raises urwid.ExitMainLoop for `q`."""
        view = self.view
        if key in ("q", "Q") and not view.is_finding:
            raise urwid.ExitMainLoop
        if view.helps:
            view.helps = False
            return True
        if view.is_finding:
            return self._press_in_find(key)
        if key in ("ctrl l", "redraw"):
            return True
        if self.watched is None:
            return self._press_in_list(key, height)
        if key in ("?", "h", "f1"):
            view.helps = True
        elif key == "/":
            view.is_finding = True
        elif key == "esc" and view.wanted:
            view.wanted = ""
        elif key in ("b", "esc") and self.running is not None:
            self.watched.close()
            self.watched, self._next = None, 0.0
            view.chosen, view.first, view.is_held, view.wanted = None, 0, False, ""
            view.folded.clear()
        elif key in KEY_SORTS:
            view.sort = KEY_SORTS[key]
        elif key == "t":
            view.is_tree = not view.is_tree
        elif key == "l":
            view.whole_lines = not view.whole_lines
        elif key == "z":
            view.is_held = not view.is_held
        else:
            return self._press_in_table(key, height)
        return True

    def _press_in_find(self, key: str) -> bool:
        view = self.view
        if key == "enter":
            view.is_finding = False
        elif key == "esc":
            view.is_finding, view.wanted = False, ""
        elif key == "backspace":
            view.wanted = view.wanted[:-1]
        elif len(key) == 1 and len(view.wanted) < MAX_WANTED:
            view.wanted += key
        else:
            return False
        return True

    def _press_in_list(self, key: str, height: int) -> bool:
        assert self.running is not None
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -height, "page down": height}
        if key in steps:
            self.running.move(steps[key])
        elif key == "enter" and self.running.path is not None:
            try:
                self.watched = self.running.open()
            except NoRecord:  # it has ended meanwhile
                self.running.tick()
            self._next = self._drawn_at = 0.0
            self._first = True
        else:
            return False
        return True

    def _press_in_table(self, key: str, height: int) -> bool:
        assert self.watched is not None
        view, found = self.view, rows(self.watched.scene, self.view)
        if not found:
            return False
        pids = [row.process.pid for row in found]
        place = pids.index(view.chosen) if view.chosen in pids else -1
        half = max(1, height // 2)
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -half, "page down": half, "home": -len(pids)}
        steps["end"] = len(pids)
        if key in steps:
            view.chosen = pids[max(0, min(len(pids) - 1, place + steps[key]))]
        elif key == "-":
            view.folded = {row.process.pid for row in found if row.has_children and row.depth} | view.folded
        elif key == "+":
            view.folded.clear()
        elif place >= 0 and key in (" ", "enter", "left", "right"):
            self._fold(found[place].process.pid, found[place].has_children, key)
        else:
            return False
        return True

    def _fold(self, pid: int, has_children: bool, key: str) -> None:
        folded = self.view.folded
        if pid in folded and key != "left":
            folded.discard(pid)
        elif has_children and key != "right":
            folded.add(pid)


class TerminalSignals:
    """What asks us to end (`ending`), or to go on after a stop, as something that the loop can wait for.

    An exception out of a handler is lost where it falls into a callback of a weak reference, of which urwid has many.
    The second signal of a kind does what it does to any program: nothing holds us then.
    """

    def __init__(self, ending: Iterable[int]) -> None:
        self.fd, self._wake = os.pipe()
        self.ended_by: int | None = None
        self._before = {number: signal.signal(number, self._note) for number in ending}
        self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._continued)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.ended_by = number
        signal.signal(number, signal.SIG_DFL)
        os.write(self._wake, b"\0")

    def _continued(self, number: int, frame: FrameType | None) -> None:
        os.write(self._wake, b"\0")

    def close(self) -> None:
        """What was before holds again."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._wake)


def show(screen: Screen, *, colours: bool, ending: Iterable[int]) -> None:
    """Have it on this terminal until it is left; whatever happens, the terminal is as it was before.

    A signal that ends a process (`ending`) does so after that.
    """
    _come_to_the_front()
    terminal = urwid.display.raw.Screen()
    terminal.set_terminal_properties(colors=16 if colours else 1)
    loop = urwid.MainLoop(screen.sheet, PALETTE, screen=terminal, handle_mouse=False)
    signals = TerminalSignals(ending)

    def heed() -> None:
        os.read(signals.fd, 64)
        if signals.ended_by is not None:
            raise urwid.ExitMainLoop
        if _was_taken():
            terminal.stop()
            terminal.start()
            terminal.clear()

    def go_on(*_: object) -> None:
        loop.set_alarm_in(screen.tick(), go_on)

    try:
        loop.watch_file(signals.fd, heed)
        loop.set_alarm_in(0, go_on)
        loop.run()
    except OSError:
        if sys.stdout.isatty():
            raise
    finally:
        signals.close()
    if signals.ended_by not in (None, signal.SIGINT):
        signal.signal(signals.ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), signals.ended_by)


def _was_taken() -> bool:
    """Whether a shell has had the terminal since: SIGSTOP cannot be seen coming."""
    try:
        return bool(termios.tcgetattr(0)[3] & termios.ICANON)
    except termios.error:  # it went away: SIGHUP is on its way
        return False


def _come_to_the_front() -> None:
    """In the background of a shell: stop before anything is written to its terminal, until `fg`."""
    if os.tcgetpgrp(0) != os.getpgrp():
        os.kill(os.getpid(), signal.SIGTTOU)


assert set(KEY_SORTS.values()) == set(SORTS)
