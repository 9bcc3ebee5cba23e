"""The terminal: colours, its width, and messages to stderr."""

from __future__ import annotations

import os

WIDTH = 80
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


def has_colours(terminal: str) -> bool:
    """Return whether a terminal of this type, the value of `TERM`, has colours."""
    return not (terminal in POOR_TERMINALS or terminal.startswith("vt") or terminal.endswith(("-m", "-mono")))
