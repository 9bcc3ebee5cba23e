"""Quantities as a person reads them beside each other: one unit for all that is compared."""

from __future__ import annotations

SCALES = {
    "s": ((2 * 86400, 86400, "days"), (7200, 3600, "h"), (600, 60, "min"), (0, 1, "s")),
    "By": ((1 << 40, 1 << 40, "TiB"), (1 << 30, 1 << 30, "GiB"), (1 << 20, 1 << 20, "MiB"), (1 << 10, 1 << 10, "KiB"),
           (0, 1, "B")),
    "1": ((0, 1, ""),),
}  # fmt: skip
NOTHING = 1e-9  # in seconds, bytes or a count: no ratio is taken of less
MOST_PERCENT = 10  # beyond ten times as much it is told in times


def scale(unit: str, most: float) -> tuple[int, str]:
    """By what values of this unit (of figures.py) are divided when the largest is so large, and their unit then."""
    return next((factor, name) for least, factor, name in SCALES[unit] if abs(most) >= least)


def number(value: float, *beside: float) -> str:
    """Three digits or more, no power of ten; no fraction where neither it nor any of those `beside` it has one."""
    if all(each == int(each) for each in (value, *beside)):
        return f"{value:,.0f}"
    most = max(abs(each) for each in (value, *beside))
    return f"{value:,.{0 if most >= 1000 else 1 if most >= 100 else 2 if most >= 10 else 3}f}"


def with_unit(value: float, unit: str) -> str:
    """One value with its unit: `1.25 GiB`."""
    factor, name = scale(unit, value)
    return f"{number(value / factor)} {name}".strip()


def percent(base: float, new: float) -> str:
    """From one to the other: `+12.5 %`, `x 12.0`, `=`."""
    if base == new:
        return "="
    if base <= NOTHING:
        return "from 0"
    ratio = new / base
    return f"{100 * (ratio - 1):+.1f} %" if ratio < MOST_PERCENT else f"x {ratio:,.1f}"
