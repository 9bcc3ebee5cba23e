"""The terminal: colours, its width, and messages to stderr."""

from __future__ import annotations

import os

WIDTH = 80
BOLD, DIM, RED, GREEN, YELLOW, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
VERDICT_COLOURS = {"ok": GREEN, "ended": YELLOW}  # all other verdicts are shown in red


def say(text: str) -> None:
    """Write text to stderr; an error is ignored."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass


def colour_wanted(environment: dict[str, str]) -> bool:
    """Return whether stderr is a terminal that shows colours, and `NO_COLOR` (no-color.org) is not set."""
    return os.isatty(2) and not environment.get("NO_COLOR") and environment.get("TERM", "") != "dumb"
