"""`--fail-on`: limits on how far a figure may move from BASE to NEW, and whether it is beyond them."""

from __future__ import annotations

from dataclasses import dataclass

from proctally.analysis.measures import FIGURES, figure
from proctally.errors import UsageError
from proctally.record.schema import BYTES, SECONDS
from proctally.text.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.analysis.measures import Measure

VERDICT = "verdict"
TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
ROUNDING = 1e-12  # of what is compared: 1.1 - 1.0 is more than 0.1 to a computer
PASSED, FAILED, WITHIN, UNKNOWN = "passed", "failed", "within spread", "unknown"


@dataclass(slots=True)
class Gate:
    """One limit: `cpu=+10%`. `amount` is a share of BASE where `relative`, else in the unit of the figure.

    `sign`: 1 where more than that is beyond it, -1 where less is. `figure` is None for the verdict.
    """

    text: str
    figure: Measure | None
    sign: int = 1
    amount: float = 0.0
    relative: bool = False

    def is_beyond(self, base: float, new: float) -> bool:
        """Whether NEW is beyond the limit."""
        amount = abs(base) * self.amount if self.relative else self.amount
        return self.sign * (new - base) > amount + ROUNDING * max(abs(base), abs(new))


def gates(text: str) -> list[Gate]:
    """The limits in `cpu=+10%,memory=+100MB,gpu=-20%,verdict`. Raises UsageError."""
    found = [_gate(part.strip()) for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError("--fail-on: which limits? such as cpu=+10%,memory=+100MB")
    return found


def _gate(text: str) -> Gate:
    name, equals, limit = (part.strip() for part in text.partition("="))
    if text == VERDICT:
        return Gate(text, None)
    try:
        wanted = figure(name)
    except KeyError:
        known = " ".join(each.name for each in FIGURES)
        raise UsageError(f"--fail-on: there is no figure {name[:40]!r}; use {VERDICT}, or of {known}") from None
    sign = {"+": 1, "-": -1}.get(limit[:1])
    if not equals or sign is None:
        raise UsageError(f"--fail-on: {text[:60]!r} says not how far it may move; use {name}=+10% or {name}=-10%")
    amount, relative = _amount(limit[1:].strip(), wanted, text)
    return Gate(text, wanted, sign, amount, relative)


def _amount(text: str, wanted: Measure, whole: str) -> tuple[float, bool]:
    """The number, in the figure's unit or as a share, and whether it is a share."""
    where = f"--fail-on {whole[:60]}"
    if text.endswith("%"):
        return _number(text[:-1].rstrip(), where) / 100, True
    if wanted.unit == BYTES:
        return (0.0 if text == "0" else float(parse_size(text, where))), False
    if wanted.unit == SECONDS:
        number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
        scale = TIMES.get(text[len(number) :])
        if scale is None:
            raise UsageError(f"{where}: {text!r} is neither a share nor a time; use +10% or +2s (ms, s, min, h)")
        return _number(number.rstrip(), where) * scale, False
    return _number(text, where), False


def _number(text: str, where: str) -> float:
    if not text.replace(".", "", 1).isdecimal() or not text.isascii():
        raise UsageError(f"{where}: {text!r} is not a number")
    return float(text)
