"""Fit text into the cells of a terminal: width, cut, wrap, sparklines."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def cut(text: str, width: int, mark: str = "…") -> str:
    """Return text that fits into `width` cells; `mark` ends one that was cut."""
    if columns_of(text) <= width:
        return text
    if width <= 0:
        return ""
    room, kept = width - 1, []
    for sign in text:
        room -= columns_of(sign)
        if room < 0:
            break
        kept.append(sign)
    return "".join(kept) + mark


def fitted(text: str, width: int) -> str:
    """Return text that fills `width` cells: cut where it is longer, else with spaces at its end."""
    shown = cut(text, width)
    return shown + " " * (width - columns_of(shown))


def columns_of(text: str) -> int:
    """Return the number of cells of a printable text; wide East Asian characters take two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def sparkline(values: Sequence[float | None], levels: str, top: float | None = None) -> str:
    """Return one character of `levels` for each value, from 0 to `top` (the largest value); a space for None."""
    most = max((value for value in values if value is not None), default=0.0) if top is None else top
    last = len(levels) - 1
    return "".join(
        " " if value is None else levels[0 if most <= 0 else min(last, max(0, round(value / most * last)))]
        for value in values
    )


def indented(text: str, before: str, width: int) -> list[str]:
    """Break text into lines of at most `width` characters; the first begins with `before`, the others are indented."""
    import textwrap

    return textwrap.wrap(text, width, initial_indent=before, subsequent_indent=" " * len(before)) or [before.rstrip()]


def wrapped(text: str, first: int, others: int) -> list[str]:
    """Break text into lines of at most `others` characters, the first one of at most `first`."""
    import textwrap

    if len(text) <= first:
        return [text]
    start = textwrap.wrap(text, first, drop_whitespace=False)[0]
    return [start.rstrip(), *textwrap.wrap(text[len(start) :].strip(), others)]
