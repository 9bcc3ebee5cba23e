"""Conditions on past runs, such as `cpu>10`, `memory>=2GiB`, `waited>20%`, `verdict=ok` or `run.user=ada`.

A condition is a name, an operator and a value. The name is a figure of `measures.FIGURES`, a column of `proctally ls`,
`tags.KEY`, or the path of a field of the summary or, after `run.`, of the first line. An unknown value meets none.
"""

from __future__ import annotations

from operator import eq, ge, gt, le, lt, ne

from proctally.analysis.measures import BY_NAME
from proctally.analysis.time import WAITS, Time
from proctally.errors import UsageError
from proctally.record.schema import BYTES, RATIO, SECONDS, walk
from proctally.record.values import value_at
from proctally.text.nearest import did_you_mean
from proctally.text.units import parse_number, parse_size, seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from proctally.record.catalogue import Past

OPERATORS = {">=": ge, "<=": le, "!=": ne, ">": gt, "<": lt, "=": eq}
OF_RUN = ("name", "verdict", "kind")


def wanted_cores(summary: Mapping[str, object] | None) -> float | None:
    """Return the cores that a run wanted on average; None where they are unknown."""
    return Time.of_summary(summary).wanted_cores


def waited_share(summary: Mapping[str, object] | None) -> float | None:
    """Return the share of the wall time in which work was ready and had no CPU; None where it is unknown."""
    time = Time.of_summary(summary)
    return time.share(*WAITS) if time.parts else None


DERIVED: dict[str, tuple[Callable[[Mapping[str, object] | None], float | None], str]] = {
    "wanted": (wanted_cores, ""),
    "waited": (waited_share, RATIO),
}


def conditions(texts: Iterable[str]) -> list[Callable[[Past], bool]]:
    """Return a function of a past run for each text. Raises UsageError."""
    return [_condition(text) for text in texts]


def _condition(text: str) -> Callable[[Past], bool]:
    signs = [sign for sign in OPERATORS if sign in text]
    sign = min(signs, key=lambda sign: (text.index(sign), -len(sign)), default=None)
    name, _, wanted = (part.strip() for part in text.partition(sign or " "))
    typed = f"--where {text[:60]}"
    if sign is None or not name or not wanted:
        raise UsageError(f"{typed}: not a condition; use 'cpu>10', 'memory>=2GiB' or verdict=ok")
    value_of, unit = _field(name, typed)
    compare = OPERATORS[sign]
    if unit is None:
        if compare not in (eq, ne):
            raise UsageError(f"{typed}: {name} is a text; use = or !=")
        return lambda record: (found := value_of(record)) is not None and bool(compare(str(found), wanted))
    limit = _amount(wanted, unit, typed)
    return lambda record: isinstance(found := value_of(record), int | float) and bool(compare(found, limit))


def _field(name: str, typed: str) -> tuple[Callable[[Past], object], str | None]:
    """Return what reads a value of a run, and its unit; None of a text. Raises UsageError."""
    if name in OF_RUN:
        return lambda record: record.verdict if name == "verdict" else record.run.get(name), None
    if name in DERIVED:
        derive, unit = DERIVED[name]
        return lambda record: derive(record.summary), unit
    if name in BY_NAME:
        measure = BY_NAME[name]
        return lambda record: measure.of(record.summary), measure.unit
    numbers = {path: field for path, field in walk("summary") if field.type in ("int", "float")}
    texts = {f"run.{path}" for path, field in walk("run") if field.type == "str"}
    if name in numbers:
        return lambda record: value_at(record.summary, name), numbers[name].unit
    if name in texts or name.startswith("tags."):
        return lambda record: value_at(record.run, name.removeprefix("run.")), None
    known = (*OF_RUN, *DERIVED, *BY_NAME, *numbers, *texts)
    raise UsageError(f"{typed}: unknown field {name}; {did_you_mean(name, known) or 'proctally fields lists them'}")


def _amount(text: str, unit: str, typed: str) -> float:
    """Return a number in this unit. Raises UsageError."""
    if unit == BYTES:
        return 0 if text == "0" else parse_size(text, typed)
    if unit == SECONDS and (seconds := seconds_of(text)) is not None:
        return seconds
    if unit == RATIO and text.endswith("%"):
        return parse_number(text[:-1], typed) / 100
    return parse_number(text, typed)
