"""What to request next time: the one place for advice in a report, whatever its form. The figures are advise's."""

from __future__ import annotations

from proctally.analysis.advice import LABELS, asked, basis, more_than, quantity, request_rows
from proctally.analysis.directives import directives
from proctally.analysis.evidence import CORES, MEMORY, TIME
from proctally.record.values import section_at
from proctally.text.units import UNKNOWN, brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.analysis.advice import Advice
    from proctally.record import JsonObject
    from proctally.views.report.run_facts import Facts

SCHEDULERS = {"PBS": "pbs", "KUBERNETES": "kubernetes", "SLURM": "slurm"}  # by the start of its variables
NONE = "-"
NAMES = ("resource", "used_low", "used", "had", "request", "trial", "at_least")  # of a row, for JSON


def request(facts: Facts) -> JsonObject | None:
    """Return used, had and request of each resource, a line for a scheduler, and the basis; None of a machine."""
    runs = [facts.story.evidence]
    found = request_rows(runs)
    if not found:
        return None
    text = basis(runs, found).text
    return {
        "rows": [_row(facts, row) for row in found],
        "line": _line(facts, found),
        "basis": f"{text[0].upper()}{text[1:]}.",
    }


def memory(facts: Facts) -> tuple[float | None, str]:
    """Return the memory to request in bytes, and what that number is."""
    rows = request_rows([facts.story.evidence])
    row = next((row for row in rows if row.resource == MEMORY), None)
    if row is None or row.request is None:
        return None if row is None else row.trial, "as a trial"
    return row.request, "advised"


def _row(facts: Facts, row: Advice) -> JsonObject:
    return {
        "name": LABELS[row.resource],
        "used": _used(facts, row),
        "had": NONE if row.had is None else quantity(row.resource, row.had),
        "request": _asked(row),
        "is_request": row.request is not None,
    }


def _used(facts: Facts, row: Advice) -> str:
    wanted = facts.time.wanted_cores
    if row.resource == MEMORY and facts.memory.is_known:
        return facts.memory.short
    if row.used is None:
        return NONE
    if row.resource == TIME:
        return brief(row.used)
    used = quantity(row.resource, row.used)
    return used if row.resource != CORES or wanted is None else f"{used}, wanted {wanted:.2f}"


def _asked(each: Advice) -> str:
    """Return the request, what to try, or what is needed in any case; else that it is unknown."""
    if each.request is not None:
        return asked(each)
    if each.trial is not None:
        return f"{quantity(each.resource, each.trial)} as a trial"
    return UNKNOWN if each.at_least is None else more_than(each)


def _line(facts: Facts, rows: list[Advice]) -> str:
    """Return the request for the scheduler that it ran under, else for Slurm."""
    names = section_at(facts.story.run, "scheduler")
    known = (SCHEDULERS.get(name.partition("_")[0]) for name in names)
    scheduler = next((name for name in known if name), "slurm")
    lines = directives(rows, [scheduler], vendor=facts.story.evidence.gpu_vendor)[scheduler]
    if scheduler != "slurm":
        return "\n".join(lines)
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    return f"#SBATCH {' '.join(options)}" if options else ""


def data(facts: Facts) -> list[JsonObject]:
    """Return the advice on each resource in base units, with codes; null for what is unknown."""
    return [
        {name: getattr(row, name) for name in NAMES} | {"note": row.note.data}
        for row in request_rows([facts.story.evidence])
    ]
