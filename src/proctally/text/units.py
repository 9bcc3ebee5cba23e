"""Units in text: show sizes, times and counts, and parse those that users type.

The `z` of a format shows what rounds to zero without a sign.
"""

from __future__ import annotations

from proctally.errors import UsageError

UNKNOWN = "unknown"
NAN = float("nan")
MAX_NUMBER = 2.0**64  # from here on a value of a record is a mistake: the kernel's widest counters are smaller
MAX_SIZE = 2.0**63  # of a count of bytes, which is signed in C
MAX_SECONDS = 1e8  # maximum of a time that a user gives
SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}  # units of times

SCALES = {
    "s": ((2 * 86400, 86400, "days"), (7200, 3600, "h"), (600, 60, "min"), (0, 1, "s")),
    "By": ((1 << 40, 1 << 40, "TiB"), (1 << 30, 1 << 30, "GiB"), (1 << 20, 1 << 20, "MiB"), (1 << 10, 1 << 10, "KiB"),
           (0, 1, "B")),
}  # fmt: skip
PLAIN = ((0, 1, ""),)  # of ratios and of what is counted


def scale(unit: str, most: float) -> tuple[int, str]:
    """Return the divisor and the name of the display unit for values of a unit up to `most`."""
    return next((factor, name) for least, factor, name in SCALES.get(unit, PLAIN) if abs(most) >= least)


def number(value: float, *others: float) -> str:
    """Format with three digits or more and no power of ten; no fraction where no value has one."""
    if all(each == int(each) for each in (value, *others)):
        return f"{value:z,.0f}"
    most = max(abs(each) for each in (value, *others))
    return f"{value:z,.{0 if most >= 1000 else 1 if most >= 100 else 2 if most >= 10 else 3}f}"


def decimal(value: float | None) -> str:
    """Format a number of cores with two digits behind the point."""
    return UNKNOWN if value is None else f"{value:.2f}"


def cores(count: float, noun: str = "core") -> str:
    """Format a number of cores that may be a part of one, such as `1 core` or `2.5 cores`."""
    return f"{count:g} {noun}{'' if count == 1 else 's'}"


def with_unit(value: float, unit: str) -> str:
    """Format one value with its unit, such as `1.25 GiB`."""
    factor, name = scale(unit, value)
    return f"{number(value / factor)} {name}".strip()


def percentage(value: float | None, digits: int | None = None) -> str:
    """Format a share of 1 as a percentage; small ones with a digit behind the point."""
    if value is None:
        return UNKNOWN
    digits = (0 if value >= 0.0995 or value == 0 else 1) if digits is None else digits
    return f"{100 * value:z.{digits}f} %"


def share_between(low: float, high: float) -> str:
    """Format two bounds of a share of 1 in whole percent: `71 to 97 %`, or `71 %`."""
    least, most = round(100 * low), round(100 * high)
    return percentage(high) if least == most else f"{least} to {most} %"


def rate(count: float | None) -> str:
    """Format bytes per second."""
    return f"{size(count)}/s"


def size(count: float | None, *, short: bool = False) -> str:
    """Format bytes in binary units with about three digits; `short`: `1.2 G` for `1.2 GiB`."""
    if count is None:
        return UNKNOWN
    if abs(count) < 1024:
        return f"{count:z.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if abs(count) < 999.5 or unit == "TiB":
            break
    unit = unit[0] if short else unit
    return f"{count:.0f} {unit}" if count >= 99.95 else f"{count:.1f} {unit}"


def between(low: float, high: float, form: str) -> str:
    """Format two bounds in bytes with three digits, in one unit where possible: `0.90 to 1.20 GiB`."""
    factor, unit = _binary(high)
    least, most = low / factor, high / factor
    if least < 0.1:
        return f"{form.format(exact_size(low), _three(most))} {unit}"
    return f"{form.format(_three(least, most), _three(most, least))} {unit}"


def exact_size(count: float) -> str:
    """Format bytes with three digits, such as `1.71 GiB`."""
    factor, unit = _binary(count)
    return f"{_three(count / factor)} {unit}"


def one_unit(named: list[tuple[float, str]]) -> str:
    """Format bytes with their names, the unit once where one suits all: `58 held, 9 of files, 32 MiB more`."""
    factor, unit = _binary(max((value for value, _ in named), default=0))
    if any(value < 0.1 * factor for value, _ in named):
        return ", ".join(f"{exact_size(value)} {name}" for value, name in named)
    *numbers, last = (_three(value / factor) for value, _ in named)
    return ", ".join(f"{value} {name}" for value, (_, name) in zip((*numbers, f"{last} {unit}"), named, strict=True))


def _binary(count: float) -> tuple[int, str]:
    """Return the divisor and the name of the unit that shows bytes with at most three digits before the point."""
    for power, unit in enumerate(("B", "KiB", "MiB", "GiB")):
        if count < 999.5 * 1024**power:
            return 1024**power, unit
    return 1024**4, "TiB"


def _three(value: float, *others: float) -> str:
    """Format with three digits; no fraction where no value has one."""
    whole = all(each == int(each) for each in (value, *others))
    return f"{value:z.{0 if value >= 99.95 or whole else 1 if value >= 9.995 else 2}f}"


def duration(seconds: float | None, *, tenths: bool = True) -> str:
    """Format a duration, such as `3 min 04.2 s`; without `tenths`, `3 min 04 s`."""
    if seconds is None:
        return UNKNOWN
    if not tenths and seconds < 3599.5:
        minutes, whole = divmod(round(seconds), 60)
        return f"{minutes} min {whole:02} s" if minutes else f"{whole} s"
    if seconds < 9.9995:
        return f"{seconds:z.3f} s"
    if seconds < 59.95:
        return f"{seconds:z.1f} s"
    if seconds < 3599.95:
        minutes, count = divmod(round(seconds * 10), 600)
        return f"{minutes} min {count / 10:04.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min {rest:02} s"


def brief(seconds: float | None) -> str:
    """Format a duration with two or three digits, such as `0.042 s`, `6.2 s` or `1 min 44 s`."""
    if seconds is not None and seconds < 59.95:
        return f"{seconds:.{1 if seconds >= 0.0995 else 3}f} s"
    return duration(seconds, tenths=False)


def minutes(seconds: float) -> str:
    """Format whole minutes without seconds, such as `2 min` or `1 h 05 min`; any other duration as `brief` does."""
    if seconds % 60 or not seconds:
        return brief(seconds)
    hours, rest = divmod(int(seconds) // 60, 60)
    return f"{hours} h {rest:02} min" if hours else f"{rest} min"


def parse_number(text: str, typed: str) -> float:
    """Return a finite number; `typed`: what the user typed, for the error. Raises UsageError."""
    try:
        value = float(text)
    except ValueError:
        value = NAN
    if value - value != 0:  # NaN, infinite
        raise UsageError(f"{typed}: not a number; use one such as 0.5")
    return value


def seconds_of(text: str) -> float | None:
    """Return the seconds of a number with a unit of `TIMES` (without one: seconds); None for any other text."""
    number = text.rstrip(LETTERS)
    scale = TIMES.get(text[len(number) :] or "s")
    try:
        value = float(number)
    except ValueError:
        return None
    return None if scale is None or value - value != 0 else value * scale


def parse_seconds(text: str, typed: str, least: float | None = None) -> float:
    """Return seconds, at least `least` (None: above 0), from a text as for `seconds_of`. Raises UsageError."""
    value = seconds_of(text)
    if value is None:
        raise UsageError(f"{typed}: not a time; use a number with ms, s, m, h or d, such as 0.5 or 10m")
    if value < (least or 0.0) or value <= 0:
        raise UsageError(f"{typed}: too short; use {'a time above 0' if least is None else f'{least} s or more'}")
    if value > MAX_SECONDS:
        raise UsageError(f"{typed}: too long; use at most {MAX_SECONDS:.0f} s")
    return value


def parse_size(text: str, typed: str, least: int = 1) -> int:
    """Return bytes: `2G` and `2GiB` use powers of 1024, `2GB` powers of 1000. Raises UsageError."""
    number = text.rstrip("iBbKkMmGgTt").strip()
    unit = text[len(number) :].strip().lower()
    base = 1000 if len(unit) == 2 else 1024
    power = SIZE_POWERS.get(unit[:1].replace("b", ""))
    value = NAN
    if power is not None and unit[1:] in ("", "b", "ib") and (power > 0 or len(unit) < 2):
        try:
            value = float(number) * base**power
        except ValueError:
            pass
    if value - value != 0:
        raise UsageError(f"{typed}: not a size; use 500MB or 2GiB")
    if value < least:
        raise UsageError(f"{typed}: too small; use {'a size above 0' if least == 1 else f'{size(least)} or more'}")
    if value >= MAX_SIZE:
        raise UsageError(f"{typed}: too large; use less than {size(MAX_SIZE)}")
    return int(value)


def clock(seconds: float) -> str:
    """Format hours, minutes and seconds, rounded up: `26:05:00`."""
    minutes, rest = divmod(int(-(-seconds // 1)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def job_time(seconds: int, *, days: bool) -> str:
    """Format `HH:MM:SS`; with `days`, a day or more as `D-HH:MM:SS`."""
    minutes, rest = divmod(seconds, 60)
    whole, minutes = divmod(minutes, 60)
    if days and whole >= 24:
        return f"{whole // 24}-{whole % 24:02}:{minutes:02}:{rest:02}"
    return f"{whole:02}:{minutes:02}:{rest:02}"


def cpu_time(seconds: float) -> str:
    """Format the CPU time of a process in a table: `59.9`, `12:34` or `123h45`."""
    if seconds < 59.95:
        return f"{seconds:z.1f}"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}" if seconds < 3599.5 else f"{minutes // 60}h{minutes % 60:02}"


def short_time(seconds: float) -> str:
    """Format seconds in at most eight characters."""
    if seconds < 99.95:
        return f"{seconds:z.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 100:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h" if days < 100 else f"{days} d"
