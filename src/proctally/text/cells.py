"""Fit text into the cells of a terminal: width, cut, wrap, sparklines."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


# what follows a number in the same line, alone or per second
UNITS = frozenset(
    ("%", "B", "KiB", "MiB", "GiB", "TiB", "kB", "MB", "GB", "us", "ms", "s", "min", "h", "d", "days", "cores", "core")
    + ("CPUs", "W", "J", "Hz", "runs", "x")
)


def cut(text: str, width: int, mark: str = "…") -> str:
    """Return text that fits into `width` cells; `mark` ends one that was cut."""
    if columns_of(text) <= width:
        return text
    if width <= 0:
        return ""
    room, kept = width - columns_of(mark), []
    for sign in text:
        room -= columns_of(sign)
        if room < 0:
            break
        kept.append(sign)
    return "".join(kept) + mark


def cut_middle(text: str, width: int, mark: str = "…") -> str:
    """Return a name or a path that fits into `width` cells; `mark` replaces the middle of one that was cut."""
    if columns_of(text) <= width:
        return text
    room = width - columns_of(mark)
    if room < 2:
        return cut(text, width, mark)
    tail = cut(text[::-1], room // 2, "")[::-1]
    while columns_of(tail[:1]) < 1 and tail:  # a combining sign whose letter was cut away
        tail = tail[1:]
    return cut(text, room - columns_of(tail), "") + mark + tail


def fitted(text: str, width: int) -> str:
    """Return text that fills `width` cells: cut in its middle where it is longer, else with spaces at its end."""
    shown = cut_middle(text, width)
    return shown + " " * (width - columns_of(shown))


def columns_of(text: str) -> int:
    """Return the number of cells of a printable text: wide East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(0 if category(sign) in ("Mn", "Me") else 2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def sparkline(values: Sequence[float | None], levels: str, top: float | None = None) -> str:
    """Return one character of `levels` for each value, from 0 to `top` (the largest value); a space for None."""
    most = max((value for value in values if value is not None), default=0.0) if top is None else top
    last = len(levels) - 1
    return "".join(
        " " if value is None else levels[0 if most <= 0 else min(last, max(0, round(value / most * last)))]
        for value in values
    )


def bar(parts: Sequence[tuple[str, float]], width: int) -> str:
    """Return a bar of `width` cells: for each part its character, as often as its share of the sum is large."""
    whole = sum(share for _, share in parts)
    exact = [share / whole * width for _, share in parts] if whole > 0 else []
    cells = [int(each) for each in exact]
    # the cells that rounding left go to the largest remainders
    order = sorted(range(len(exact)), key=lambda place: cells[place] - exact[place])
    for place in order[: width - sum(cells)]:
        cells[place] += 1
    return "".join(sign * count for (sign, _), count in zip(parts, cells, strict=False))


def indented(text: str, before: str, width: int) -> list[str]:
    """Break text into lines of at most `width` cells; the first begins with `before`, the others are indented."""
    room = width - columns_of(before)
    first, *more = wrapped(text, room, room)
    return [(before + first).rstrip(), *(" " * columns_of(before) + line for line in more)]


def padded(rows: Sequence[Sequence[str]], left: Collection[int]) -> list[list[str]]:
    """Return the cells of a table, each as wide as its column. `left`: columns whose cells start at the left."""
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    found = []
    for row in rows:
        spaces = [" " * (width - columns_of(cell)) for cell, width in zip(row, widths, strict=True)]
        places = enumerate(zip(row, spaces, strict=True))
        found.append([cell + space if place in left else space + cell for place, (cell, space) in places])
    return found


def aligned(rows: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Return the lines of a table, as for `padded`, with two cells between columns."""
    return ["  ".join(cells).rstrip() for cells in padded(rows, left)]


def wrapped(text: str, first: int, others: int) -> list[str]:
    """Break text into lines of at most `others` cells, the first one of at most `first`.

    A number and its unit stay in one line; a word is broken where it is longer than a line.
    """
    if columns_of(text) <= first:
        return [text]
    lines: list[str] = []
    line, room = "", first
    for word in _words(text):
        longer = f"{line} {word}" if line else word
        if columns_of(longer) <= room:
            line = longer
            continue
        if line or (not lines and columns_of(word) <= others):
            lines.append(line)
            room = others
        while columns_of(word) > room:
            lines.append(cut(word, max(2, room), ""))
            word, room = word[len(lines[-1]) :], others
        line = word
    return [*lines, line]


def _words(text: str) -> list[str]:
    """Split text at spaces, but not inside `80 %`, `3 min 04 s` and `x 48`."""
    found: list[str] = []
    for word in text.split(" "):
        before = found[-1] if found else ""
        is_unit = before[-1:].isdigit() and word.rstrip(",;:.)").removesuffix("/s") in UNITS
        if is_unit or (word[:1].isdigit() and (before == "x" or before.endswith((" min", " h", " x")))):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found
