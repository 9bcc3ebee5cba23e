"""`proctally advise`: what to request next time, with what it rests on, and as lines for a scheduler."""

from __future__ import annotations

from proctally.analysis.advice import LABELS, basis, quantity, request_rows
from proctally.analysis.directives import LANGUAGES, SCHEDULERS, directives
from proctally.analysis.evidence import CORES, MEMORY, TIME, Evidence
from proctally.analysis.memory import bounds
from proctally.errors import NoRecord
from proctally.record.catalogue import Filter, named, past
from proctally.record.reader import Reading
from proctally.record.schema import RUNNING
from proctally.record.writer import json_line
from proctally.text.cells import columns_of, indented
from proctally.text.escape import printable
from proctally.text.markdown import escaped, fenced, table
from proctally.text.terminal import BOLD, DIM, WIDTH
from proctally.text.units import brief, exact_size, minutes
from proctally.text.words import wrong_values
from proctally.views import servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proctally.analysis.advice import Advice
    from proctally.analysis.servers import Server
    from proctally.record.catalogue import Past
    from proctally.text.terminal import Look

MOST_RUNS = 200  # of many runs the newest: old ones prove little, and each is read whole
LABEL = 11
NOTE = 24  # cells: a narrower column of notes is a line below instead
NONE = "-"
VARIABLES = {  # beginnings of variables by which a scheduler is found
    "slurm": ("SLURM_",),
    "pbs": ("PBS_",),
    "lsf": ("LSB_", "LSF_"),
    "kubernetes": ("KUBERNETES_SERVICE_HOST",),
    "nextflow": ("NXF_",),
    "snakemake": ("SNAKEMAKE_",),
}


class Found:
    """The runs, what they prove, and what was left out of the choice."""

    def __init__(self, runs: list[Evidence], left_out: list[str]) -> None:
        self.servers: list[Server] = []
        self.runs = runs
        self.left_out = left_out
        self.rows = request_rows(runs)
        self.basis = basis(runs, self.rows)

    @property
    def title(self) -> str:
        """Which runs these are."""
        names = list(dict.fromkeys(run.name for run in self.runs))
        if len(self.runs) == 1:
            return f"{names[0]} {str(self.runs[0].run.get('run_id') or '')[:8]}, {state(self.runs[0])}"
        return f"{names[0] if len(names) == 1 else f'{len(names)} names'}, {len(self.runs)} runs"

    def directives(self, names: Sequence[str], *, trial: bool = False) -> dict[str, list[str]]:
        """Return the lines for these schedulers."""
        vendors = {run.gpu_vendor for run in self.runs} - {None}
        vendor = vendors.pop() if len(vendors) == 1 else None
        return directives(self.rows, names, vendor=vendor, trial=trial)


def state(run: Evidence) -> str:
    """Return the verdict of a run; of one that ended well, whether it was throttled or starved."""
    if run.verdict != "ok":
        return run.verdict
    return "throttled" if run.throttled() else "starved" if run.starved() else run.verdict


# -- which runs ------------------------------------------------------------------------------------------------------


def chosen_runs(words: Sequence[str], wanted: Filter, environment: dict[str, str]) -> tuple[list[Past], list[str]]:
    """Return the ended jobs that are named, else those of the filter, else the last; and what was left out.

    Raises NoRecord, OSError.
    """
    if words:
        chosen = named(words, environment)
    elif wanted.is_any:
        chosen = named(["last"], environment)
    else:
        chosen = past(environment)[0]
    return ended_jobs([record for record in chosen if wanted.takes(record)])


def ended_jobs(chosen: list[Past]) -> tuple[list[Past], list[str]]:
    """Return the jobs that have ended, and what was left out. Raises NoRecord."""
    if not chosen:
        raise NoRecord("advise: no past run has this name, tag or date; list runs with proctally ls")
    jobs = [record for record in chosen if record.run.get("kind") != "system"]
    if not jobs:
        raise NoRecord(f"{chosen[0].path}: is of the whole machine, which requests nothing; name the record of a job")
    ended = [record for record in jobs if record.verdict != RUNNING]
    if not ended:
        raise NoRecord(f"{jobs[0].path}: still runs; ask again when it has ended")
    left_out = []
    if len(ended) < len(jobs):
        left_out.append(f"left out, for they still run: {len(jobs) - len(ended)} of {len(jobs)} runs")
    return ended, left_out


def found_runs(words: Sequence[str], wanted: Filter, environment: dict[str, str]) -> Found:
    """Return the runs that are requested: by words, else by the filter, else the last. Raises NoRecord, OSError."""
    ended, left_out = chosen_runs(words, wanted, environment)
    if len(ended) > MOST_RUNS:
        left_out.append(f"from the newest {MOST_RUNS} of {len(ended)} runs")
        ended = sorted(ended, key=lambda record: record.started_at, reverse=True)[:MOST_RUNS]
    names = {record.name for record in ended}
    if len(names) > 1:
        left_out.append(f"runs of {len(names)} names are taken for one kind of job (--all: a line for each name)")
    readings = [Reading(record.path) for record in ended]
    runs = [Evidence.of(reading.lines(), reading.path) for reading in readings]
    if wrong := wrong_values(sum(reading.replaced for reading in readings)):
        left_out.append(wrong)
    return Found(runs, left_out)


def schedulers(runs: Sequence[Evidence], environment: Mapping[str, str]) -> list[str]:
    """Return all schedulers: first that of the newest run, else that of this environment, else Slurm."""
    by_age = sorted(runs, key=lambda run: run.started_at, reverse=True)
    found = [run.scheduler for run in by_age if run.scheduler in SCHEDULERS][:1]
    found += [name for name, starts in VARIABLES.items() if any(key.startswith(starts) for key in environment)]
    return list(dict.fromkeys([*found[:1], *SCHEDULERS]))


# -- how it is shown -------------------------------------------------------------------------------------------------


def used(row: Advice) -> str:
    """Return what runs used, as text; of time the largest."""
    low, high = row.used_low, row.used
    if row.resource == MEMORY:
        return NONE if high is None and low is None else bounds(low, high)
    if high is None:
        return NONE
    if row.resource == TIME:
        return brief(high)
    most, least = (f"{value:.2f}" if row.resource == CORES else f"{value:g}" for value in (high, low or 0.0))
    return most if most == least else f"{least} to {most}"


def had(row: Advice) -> str:
    """Return what the newest run had, as text."""
    return NONE if row.had is None else _short(row, row.had)


def requested(row: Advice) -> str:
    """Return the request, else the trial, else a lower bound, as text."""
    value = row.trial if row.request is None else row.request
    if value is None:
        return NONE if row.at_least is None else f"> {_short(row, row.at_least)}"
    return minutes(value) if row.resource == TIME else quantity(row.resource, value)


def _short(row: Advice, value: float) -> str:
    if row.resource == TIME:
        return minutes(value)
    return exact_size(value) if row.resource == MEMORY else quantity(row.resource, value)


def as_text(found: Found, names: Sequence[str], look: Look, *, trial: bool = False) -> str:
    """Return used, had and request, what they rest on, and the lines, each from the first column on to be pasted."""
    out = [look.paint(line, BOLD) for line in indented(f"advise  {printable(found.title)}", "proctally ", look.width)]
    cells = [(LABELS[row.resource], used(row), had(row), requested(row)) for row in found.rows]
    widths = [LABEL, *(max(map(columns_of, column)) for column in list(zip(*cells, strict=True))[1:])]
    gap = 4 if look.width >= WIDTH else 2
    widths = [LABEL, max(12, widths[1]) + gap, max(3, widths[2]) + gap, max(6, widths[3]) + 2]
    head = "".join(f"{name:<{width}}" for name, width in zip(("", "USED", "HAD", "REQUEST"), widths, strict=True))
    out.append(look.paint(f"  {head}".rstrip(), DIM))
    for row, columns in zip(found.rows, cells, strict=True):
        before = "  " + "".join(f"{cell:<{width}}" for cell, width in zip(columns, widths, strict=True))
        if look.width - columns_of(before) >= NOTE:
            out += indented(printable(row.note.text), before, look.width)
        else:
            out += [before.rstrip(), *indented(printable(row.note.text), " " * 4, look.width)]
    out += indented(found.basis.text, "  ", look.width)
    notes = [f"{LABELS[row.resource]}: {note.text}" for row in found.rows for note in row.notes]
    for text in (*notes, *found.left_out):
        out += indented(printable(text), "  note: ", look.width)
    for server in found.servers:
        out += indented(servers.text(server), "  server: ", look.width)
    shown = found.directives(names, trial=trial)
    for name, lines in shown.items():
        out += ["", *([look.paint(f"{name}:", DIM)] if len(shown) > 1 else []), *lines]
    return "\n".join(out) + "\n"


def as_markdown(found: Found, names: Sequence[str], *, trial: bool = False) -> str:
    """Return a table, and a block of code for each scheduler."""
    out = [f"What to request next time for {escaped(found.title)}", ""]
    rows = [
        [LABELS[row.resource], escaped(used(row)), escaped(had(row)), escaped(requested(row)),
         escaped("; ".join(note.text for note in (row.note, *row.notes)))]
        for row in found.rows
    ]  # fmt: skip
    out += table(("", "used", "had", "request", "why"), rows, left=5)
    out += ["", *(f"- {escaped(text)}" for text in (found.basis.text, *found.left_out))]
    out += [f"- {escaped(servers.text(server))}" for server in found.servers]
    for name, text_lines in found.directives(names, trial=trial).items():
        out += ["", f"{name}:", "", *fenced(text_lines, LANGUAGES[name])]
    return "\n".join(out) + "\n"


def data_of(row: Advice) -> dict[str, object]:
    """Return a row for JSON: cores, bytes, seconds and devices."""
    return {
        "used_low": row.used_low,
        "used": row.used,
        "had": row.had,
        "request": row.request,
        "enough_evidence": row.request is not None,
        "at_least": row.at_least,
        "trial": row.trial,
        "proven": row.proven,
        "runs": row.runs,
        "other_runs": row.others,
        "why": None if row.why is None else row.why.data,
        "note": row.note.data,
        "notes": [note.data for note in row.notes],
    }


def as_json(found: Found, names: Sequence[str], *, trial: bool = False) -> str:
    """Return one object."""
    data = {
        "runs": [
            {"path": run.path, "run_id": str(run.run.get("run_id")), "name": run.name, "verdict": run.verdict}
            for run in found.runs
        ],
        "advice": {row.resource: data_of(row) for row in found.rows},
        "basis": found.basis.data,
        "notes": found.left_out,
        "servers": [servers.data(server) for server in found.servers],
        "directives": found.directives(names, trial=trial),
    }
    return json_line(data).decode()
