"""`proctally advise`: what to request next time, with what it rests on, and as lines for a scheduler."""

from __future__ import annotations

from proctally.analysis.advice import LABELS, asked, request_rows
from proctally.analysis.directives import LANGUAGES, directives
from proctally.analysis.evidence import Evidence
from proctally.errors import NoRecord
from proctally.record.catalogue import Filter, named, past
from proctally.record.reader import Reading
from proctally.record.schema import RUNNING
from proctally.record.writer import json_line
from proctally.text.cells import indented
from proctally.text.escape import printable
from proctally.text.markdown import escaped, fenced, table
from proctally.text.terminal import BOLD, DIM, RESET, WIDTH, YELLOW
from proctally.text.words import wrong_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


MOST_RUNS = 200  # of many runs the newest: what was long ago says little, and each is read whole
LABEL = 9


class Found:
    """The runs, what they prove, and what is to be told of the choice."""

    def __init__(self, runs: list[Evidence], told: list[str]) -> None:
        self.runs = runs
        self.told = told
        self.rows = request_rows(runs)

    @property
    def title(self) -> str:
        """Which runs these are."""
        names = list(dict.fromkeys(run.name for run in self.runs))
        if len(self.runs) == 1:
            return f"{names[0]} {str(self.runs[0].run.get('run_id') or '')[:8]}, {self.runs[0].verdict}"
        return f"{names[0] if len(names) == 1 else f'{len(names)} names'}, {len(self.runs)} runs"

    def directives(self, names: Sequence[str]) -> dict[str, list[str]]:
        """The lines for these schedulers."""
        vendors = {run.gpu_vendor for run in self.runs} - {None}
        vendor = vendors.pop() if len(vendors) == 1 else None
        return directives(self.rows, names, vendor=vendor)


# -- which runs ------------------------------------------------------------------------------------------------------


def found_runs(words: Sequence[str], wanted: Filter, environment: dict[str, str]) -> Found:
    """The runs that are asked for: by words, else by the filter, else the last. Raises NoRecord, OSError."""
    told: list[str] = []
    if words:
        chosen = named(words, environment)
    elif wanted.is_any:
        chosen = named(["last"], environment)
    else:
        chosen = past(environment)[0]
    chosen = [record for record in chosen if wanted.takes(record)]
    if not chosen:
        raise NoRecord("no past run is so named, tagged or dated; proctally ls lists them")
    jobs = [record for record in chosen if record.run.get("kind") != "system"]
    if not jobs:
        raise NoRecord(f"{chosen[0].path}: is of the whole machine, which requests nothing; name the record of a job")
    ended = [record for record in jobs if record.verdict != RUNNING]
    if not ended:
        raise NoRecord(f"{jobs[0].path}: still runs; ask again when it has ended")
    if len(ended) < len(jobs):
        told.append(f"left out, for they still run: {len(jobs) - len(ended)} of {len(jobs)} runs")
    if len(ended) > MOST_RUNS:
        told.append(f"from the newest {MOST_RUNS} of {len(ended)} runs")
        ended = sorted(ended, key=lambda record: record.started_at, reverse=True)[:MOST_RUNS]
    names = {record.name for record in ended}
    if len(names) > 1:
        told.append(f"runs of {len(names)} names are taken for one kind of job")
    readings = [Reading(record.path) for record in ended]
    runs = [Evidence.of(reading.lines(), reading.path) for reading in readings]
    if wrong := wrong_values(sum(reading.replaced for reading in readings)):
        told.append(wrong)
    return Found(runs, told)


# -- how it is told --------------------------------------------------------------------------------------------------


def as_text(found: Found, names: Sequence[str], *, colour: bool) -> str:
    """The advice, and the lines at the edge, so that they can be taken as they are."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{RESET}" if colour else text

    out = [paint(f"proctally advise  {printable(found.title)}", BOLD)]
    for each in found.rows:
        request = asked(each)
        painted = paint(request, YELLOW if each.request is None else BOLD)
        out.append(f"  {paint(f'{LABELS[each.resource]:<{LABEL}}', DIM)}{painted}")
        for text in (each.note.text, *(f"note: {note.text}" for note in each.notes)):
            out += indented(printable(text), " " * (LABEL + 2), WIDTH)
    out += [paint(f"  note: {text}", YELLOW) for text in found.told]
    for name, text_lines in found.directives(names).items():
        out += ["", paint(f"{name}:", DIM), *text_lines]
    return "\n".join(out) + "\n"


def as_markdown(found: Found, names: Sequence[str]) -> str:
    """A table, and a block of code for each scheduler."""
    out = [f"What to request next time for {escaped(found.title)}", ""]
    rows = []
    for each in found.rows:
        why = "; ".join(note.text for note in (each.note, *each.notes))
        rows.append([LABELS[each.resource], escaped(asked(each)), escaped(why)])
    out += table(("", "request", "why"), rows, left=3)
    out += ["", *(f"- {escaped(text)}" for text in found.told)] if found.told else []
    for name, text_lines in found.directives(names).items():
        out += ["", f"{name}:", "", *fenced(text_lines, LANGUAGES[name])]
    return "\n".join(out) + "\n"


def as_json(found: Found, names: Sequence[str]) -> str:
    """One object; cores, bytes, seconds and devices."""
    said = {
        "runs": [
            {"path": run.path, "run_id": str(run.run.get("run_id")), "name": run.name, "verdict": run.verdict}
            for run in found.runs
        ],
        "advice": {
            each.resource: {
                "request": each.request,
                "enough_evidence": each.request is not None,
                "at_least": each.at_least,
                "trial": each.trial,
                "used_low": each.used_low,
                "used": each.used,
                "had": each.had,
                "proven": each.proven,
                "runs": each.runs,
                "other_runs": each.others,
                "why": None if each.why is None else each.why.data,
                "note": each.note.data,
                "notes": [note.data for note in each.notes],
            }
            for each in found.rows
        },
        "notes": found.told,
        "directives": found.directives(names),
    }
    return json_line(said).decode()
