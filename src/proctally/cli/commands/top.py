"""`proctally top`: the live view."""

from __future__ import annotations

import os
import shutil

from proctally.cli.options import parse
from proctally.cli.streams import write_stdout
from proctally.errors import CannotShow, NoProcess, NoRecord, UsageError, require
from proctally.linux.child import ending, set_interrupt
from proctally.record.catalogue import one
from proctally.text.terminal import POOR_TERMINALS, colour_wanted, knows_blocks
from proctally.views.top.chooser import NONE, Running
from proctally.views.top.followed import Followed
from proctally.views.top.line import Signs
from proctally.views.top.table import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.tracking.config import Options
    from proctally.tracking.live_tree import LiveTree
    from proctally.views.top.sampled import Living

HELP = """\
proctally top [options] [PID|RECORD]

A live view: with a PID of its process tree, which is sampled from then on; with a record that is still written (a file,
an id, last) of that run; without, of a run to choose from those of yours that are running. The key ? lists the keys.
Where stdin or stdout is no terminal it is plain text, a block for each interval.

{options}

Exit status: 0, 1 when there is nothing to show, or not any more, 2 for a mistake in the options.
"""

MOST_PID_DIGITS = 7
PLAIN_WIDTH = 100
PLAIN_ROWS = 20
WITHOUT_BLOCKS = ("linux", "vt100", "vt220")  # their fonts lack the signs of which graphs are made


def call(arguments: list[str]) -> int:
    """Show the live view and return the exit status. Raises UsageError, HelpAsked, CannotShow, OSError."""
    options, words = parse("top", arguments, {}, to_first_word=False)
    return top(options, words, dict(os.environ))


def top(options: Options, words: list[str], environment: dict[str, str]) -> int:
    """Show a process, a run, or the runs to choose from; the exit status. Raises CannotShow, UsageError, OSError."""
    if len(words) > 1:
        raise UsageError(f"top: expected one PID or record, got {len(words)}; use proctally top [options] [PID|RECORD]")
    if options.count == 0:
        raise UsageError("--count 0: not a number of pictures; use 1 or more")
    on_terminal = not options.plain and _is_terminal(environment)
    if on_terminal:
        require("urwid", "top", "the live view", "as plain text: proctally top --plain")
    try:
        return _top(options, words, environment, on_terminal)
    except KeyboardInterrupt:
        return 0


def _top(options: Options, words: list[str], environment: dict[str, str], on_terminal: bool) -> int:
    watched = None if not words else _watched(words[0], options, environment)
    running = Running(environment, _run_tree) if watched is None else None
    view = View(options.sort)
    signs = Signs(ascii_only=not _has_blocks(environment))
    try:
        if on_terminal:
            from proctally.views.top.screen import Screen, show

            screen = Screen(
                watched,
                running,
                interval=options.interval,
                view=view,
                signs=signs,
                duration=options.duration,
                count=options.count,
            )
            show(screen, colours=colour_wanted(environment, 1), ending=ending())
            watched = screen.watched
            return 0
        if watched is None:
            assert running is not None
            return _list(running)
        from proctally.views.top.plain import write_blocks

        set_interrupt(raises=True)
        width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns
        rows = PLAIN_ROWS if options.limit is None else options.limit
        is_well = write_blocks(
            watched,
            write_stdout,
            interval=options.interval,
            view=view,
            signs=signs,
            width=width,
            rows=rows,
            duration=options.duration,
            count=options.count,
        )
        if not is_well:
            raise CannotShow(f"{words[0]}: nothing is written any more: stopped, or its tracker was killed")
        return 0
    finally:
        if watched is not None:
            watched.close()


def _watched(word: str, options: Options, environment: dict[str, str]) -> Living | Followed:
    """A process that lives, else a record. Raises CannotShow, NoRecord."""
    if word.isascii() and word.isdecimal() and len(word) <= MOST_PID_DIGITS:
        from proctally.tracking.live_tree import LiveTree
        from proctally.views.top.sampled import Living

        try:
            return Living(LiveTree(int(word), options.interval))
        except NoProcess as error:
            try:
                path = one(word, environment)
            except NoRecord:
                raise error from None
    else:
        path = one(word, environment)
    return Followed(path, word, _run_tree)


def _run_tree(root: int, started_at: float) -> LiveTree:
    """Return the processes of a run on this machine. Raises NoProcess."""
    from proctally.tracking.live_tree import LiveTree

    return LiveTree(root, 1.0, started_at=started_at)


def _list(running: Running) -> int:
    if not running.records:
        remedy = "see the last one by proctally report last" if running.last else "start one by proctally run"
        raise CannotShow(f"{NONE}; {remedy}")
    return write_stdout("".join(f"{line}\n" for line in running.lines()))


def _is_terminal(environment: dict[str, str]) -> bool:
    return os.isatty(0) and os.isatty(1) and environment.get("TERM", "") not in POOR_TERMINALS


def _has_blocks(environment: dict[str, str]) -> bool:
    return knows_blocks(environment) and environment.get("TERM") not in WITHOUT_BLOCKS
