"""The terminal: colours, its width, and messages to stderr."""

from __future__ import annotations

import os

WIDTH, MIN_WIDTH, MAX_WIDTH = 80, 40, 200  # cells of a line: where no terminal is known, at least, at most
BOLD, DIM, RED, GREEN, YELLOW, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
VERDICT_COLOURS = {"ok": GREEN, "ended": YELLOW}  # all other verdicts are shown in red

POOR_TERMINALS = ("", "dumb", "unknown")  # values of TERM; they cannot move the cursor


def say(text: str) -> None:
    """Write text to stderr; an error is ignored."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass


def say_line(text: str) -> None:
    """Write a message to stderr as one line; control characters of names are escaped."""
    from proctally.text.escape import printable

    say(f"proctally: {printable(text)}\n")


def colour_wanted(environment: dict[str, str], fd: int = 2) -> bool:
    """Return whether what is written to this descriptor is coloured: on a terminal that has colours.

    Variables decide first, in this order: `NO_COLOR` (no-color.org), `FORCE_COLOR` (force-color.org; `0`: no colour),
    `CLICOLOR_FORCE` and `CLICOLOR` (bixense.com/clicolors).
    """
    get = environment.get
    if get("NO_COLOR"):
        return False
    if get("FORCE_COLOR"):
        return get("FORCE_COLOR") not in ("0", "false")
    if get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return get("CLICOLOR") != "0" and has_colours(get("TERM", "")) and os.isatty(fd)


class Look:
    """The look of text of several lines: its width in cells, whether it has colours and block characters."""

    __slots__ = ("blocks", "colour", "width")

    def __init__(self, width: int = WIDTH, *, blocks: bool = True, colour: bool = False) -> None:
        self.width = width
        self.blocks = blocks
        self.colour = colour

    @classmethod
    def of(cls, environment: dict[str, str], fd: int = 2) -> Look:
        """Return that of what is written to this descriptor."""
        return cls(columns(environment, fd), blocks=knows_blocks(environment), colour=colour_wanted(environment, fd))

    @property
    def mark(self) -> str:
        """The mark of a cut."""
        return "…" if self.blocks else "~"

    def paint(self, text: str, code: str) -> str:
        """Return text in a colour, where there are colours."""
        return f"{code}{text}{RESET}" if self.colour else text

    def encoded(self, text: str) -> str:
        """Return text with the characters that can be shown; others are escaped."""
        return text if self.blocks else text.encode("ascii", "backslashreplace").decode()


def columns(environment: dict[str, str], fd: int = 2) -> int:
    """Return the width of lines: that of `COLUMNS`, else of the terminal, else 80; at least 40 and at most 200."""
    width = int(text) if (text := environment.get("COLUMNS", "")).isdecimal() and len(text) < 10 else 0
    try:
        width = width or os.get_terminal_size(fd).columns
    except OSError:
        pass
    return max(MIN_WIDTH, min(width or WIDTH, MAX_WIDTH))


def knows_blocks(environment: dict[str, str]) -> bool:
    """Return whether the locale is one of UTF-8 (locale(7): LC_ALL, then LC_CTYPE, then LANG)."""
    name = next((environment[key] for key in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(key)), "")
    return "utf-8" in name.lower() or "utf8" in name.lower()


def has_colours(terminal: str) -> bool:
    """Return whether a terminal of this type, the value of `TERM`, has colours."""
    return not (terminal in POOR_TERMINALS or terminal.startswith("vt") or terminal.endswith(("-m", "-mono")))
