"""What to request next time: the one place for advice in a report, whatever its form. The figures are advise's."""

from __future__ import annotations

from proctally.analysis.advice import LABELS, basis, request_rows
from proctally.analysis.directives import MARKS, SCHEDULERS, directives
from proctally.analysis.evidence import CORES, MEMORY
from proctally.views import advise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.analysis.advice import Advice
    from proctally.record import JsonObject
    from proctally.views.report.run_facts import Facts

TRIAL = "as a trial"
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
        "lines": _lines(facts, found),
        "basis": f"{text[0].upper()}{text[1:]}.",
    }


def memory(facts: Facts) -> tuple[float | None, str]:
    """Return the memory to request in bytes, and what that number is."""
    rows = request_rows([facts.story.evidence])
    row = next((row for row in rows if row.resource == MEMORY), None)
    if row is None or row.request is None:
        return None if row is None else row.trial, TRIAL
    return row.request, "advised"


def _row(facts: Facts, row: Advice) -> JsonObject:
    wanted = facts.time.wanted_cores
    used, asked = advise.used(row), advise.requested(row)
    return {
        "name": LABELS[row.resource],
        "used": used if row.resource != CORES or wanted is None else f"{used}, wanted {wanted:.2f}",
        "had": advise.had(row),
        "request": asked if row.request is not None or row.trial is None else f"{asked} {TRIAL}",
        "is_request": row.request is not None,
    }


def _lines(facts: Facts, rows: list[Advice]) -> list[str]:
    """Return the request for the scheduler that it ran under, else for Slurm: its options in one line, and trials."""
    known = facts.story.evidence.scheduler
    scheduler = known if known in SCHEDULERS else "slurm"
    asked = [row for row in rows if row.request is not None or row.trial is not None]
    lines = directives(asked, [scheduler], vendor=facts.story.evidence.gpu_vendor)[scheduler]
    mark = MARKS.get(scheduler, "")
    options = [line.removeprefix(mark) for line in lines if mark and line.startswith(mark)]
    rest = [line for line in lines if not mark or not line.startswith(mark)]
    return [*([mark + " ".join(options)] if options else []), *rest]


def data(facts: Facts) -> list[JsonObject]:
    """Return the advice on each resource in base units, with codes; null for what is unknown."""
    return [
        {name: getattr(row, name) for name in NAMES} | {"note": row.note.data}
        for row in request_rows([facts.story.evidence])
    ]
