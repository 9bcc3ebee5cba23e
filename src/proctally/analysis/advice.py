"""What to request next time, from what one or several runs prove: numbers and codes, without sentences.

Memory and time get more than runs used, since a run that has too little of them is killed: at least what any run
used, at least what the next one stays below with 95 % as far as these runs spread (statistics.py), and a part on top
for what runs do not show. Cores and GPUs get no more: a run with too few is slower.
"""

from __future__ import annotations

import math

from proctally.analysis import causes
from proctally.analysis.causes import Cause
from proctally.analysis.evidence import CORES, GPUS, MEMORY, RESOURCES, TIME, Evidence
from proctally.text.units import clock, with_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.analysis.evidence import Proof

MIB, GIB = 1 << 20, 1 << 30
ALONE = {MEMORY: 0.25, TIME: 0.50}  # above a single run, of which no spread is known
ALWAYS = {MEMORY: 0.10, TIME: 0.10}  # above what many runs prove: peaks between samples; slower machines and disks
LEAST = {MEMORY: 32 * MIB, TIME: 60.0}  # minimum of that: the tracker and page tables; starting and ending
WIDEST = 2.0  # times the largest run at most: beyond it runs are not alike, and their spread proves nothing
UNITS = {CORES: "1", MEMORY: "By", TIME: "s", GPUS: "1"}
OUTLIER = 1.5
ENOUGH_FOR_OUTLIERS = 4


class Advice:
    """What was used, what was there, and what to request of one resource, in cores, bytes, seconds or devices.

    `used_low`, `used`: what these runs used, at least and at most (of memory without mapped files and kernel memory);
    `had`: what the newest run had; each None where it is unknown. `request`: None where the evidence is not enough;
    `why`: why it is not; `at_least`: then the minimum that is needed; `trial`: what to try then, which no run proves.
    `note`: what request or trial rest on, else `why`; `notes`: what else is notable. `proven`: the most that a run
    needed which had all it needed; `runs`: number of such runs; `others`: number of runs that prove nothing of it.
    """

    __slots__ = (
        "at_least", "had", "note", "notes", "others", "proven", "request", "resource", "runs", "trial", "used",
        "used_low", "why",
    )  # fmt: skip

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.used_low: float | None = None
        self.used: float | None = None
        self.had: float | None = None
        self.request: float | None = None
        self.at_least: float | None = None
        self.trial: float | None = None
        self.why: Cause | None = None
        self.note = Cause(causes.UNKNOWN_VALUE)
        self.notes: list[Cause] = []
        self.proven: float | None = None
        self.runs = 0
        self.others = 0

    @property
    def whole(self) -> int | None:
        """The request as a whole number: of cores, bytes, seconds, devices."""
        return None if self.request is None else math.ceil(self.request)


def request_rows(runs: Sequence[Evidence]) -> list[Advice]:
    """Return a row each for cores, memory and time, and for GPUs where there were any; of the whole machine none."""
    jobs = [run for run in runs if run.kind != "system"]
    rows = advise_on(jobs).values() if jobs else ()
    return [row for row in rows if row.resource != GPUS or any(run.saw_gpus for run in jobs)]


def basis(runs: Sequence[Evidence], rows: Sequence[Advice]) -> Cause:
    """Return from how many runs these rows are, and the next step: what ended a run comes before what slowed it."""
    steps = [step for row in rows if row.why is not None and (step := row.why.next_step) is not None]
    alone = causes.MORE_RUNS if len(runs) == 1 else None
    return Cause(causes.BASIS, runs=len(runs), next=steps[-1] if steps else alone)


def advise_on(runs: Sequence[Evidence]) -> dict[str, Advice]:
    """Return the advice on each of `cores`, `memory`, `time` and `gpus` from what these runs prove."""
    newest = sorted(runs, key=lambda run: run.started_at, reverse=True)
    found = {}
    for resource in RESOURCES:
        advice = _advice(resource, [run.proof(resource) for run in runs])
        bounds = [run.used(resource) for run in runs]
        advice.used_low = min((low for low, _ in bounds if low is not None), default=None)
        advice.used = max((high for _, high in bounds if high is not None), default=None)
        advice.had = next((had for run in newest if (had := run.had(resource)) is not None), None)
        found[resource] = advice
    return found


def _advice(resource: str, proofs: Sequence[Proof]) -> Advice:
    advice = Advice(resource)
    complete = [proof for proof in proofs if proof.complete]
    whole = [proof.value for proof in complete if proof.value is not None]
    cut = [proof for proof in proofs if not proof.complete]
    advice.runs, advice.others = len(whole), len(cut)
    advice.proven = max(whole, default=None)
    bounds = [proof.value for proof in cut if proof.value is not None]
    most = max(bounds, default=None)
    if advice.proven is None or (most is not None and _needs_more(resource, most, advice.proven)):
        least = [proof.least for proof in cut if proof.value is not None]
        advice.at_least = max((value for value in (*least, advice.proven) if value), default=None)
        if resource == CORES and advice.at_least is not None:
            advice.at_least = round(advice.at_least, 2) or None
        _without_request(advice, cut)
        return advice
    if resource in ALONE:
        _with_more(advice, max(complete, key=lambda proof: proof.value or 0), whole)
    elif resource == CORES:
        advice.request = max(_rounded(CORES, round(advice.proven, 6)), 1)
        advice.note = Cause(causes.SUFFICES, cores=round(advice.proven, 2))
    else:
        advice.request = advice.proven
        advice.note = Cause(causes.BUSY, gpus=advice.proven)
    advice.notes += _notes(resource, proofs, whole, cut)
    return advice


def _needs_more(resource: str, bound: float, proven: float) -> bool:
    """Whether a run that was cut off used more than every one that was not."""
    if resource == CORES:
        return math.ceil(bound) > math.ceil(proven)
    return bound > proven if resource == GPUS else bound >= proven


def _without_request(advice: Advice, cut: Sequence[Proof]) -> None:
    """Fill in the trial, and why there is no request: the run that needed most first."""
    known = cut if advice.proven is None else [proof for proof in cut if proof.value is not None]
    ordered = sorted(known, key=lambda proof: proof.value or 0, reverse=True)
    trials = [proof.trial for proof in cut if proof.trial is not None]
    reason = {proof.why.text: proof.why for proof in ordered if proof.why is not None}
    if reason:
        advice.why, *advice.notes = reason.values()
        advice.note = advice.why
    if trials:
        trial, advice.note = max(trials, key=lambda pair: pair[0])
        advice.trial = _rounded(advice.resource, trial)
    if advice.proven is not None:
        advice.notes.append(Cause(causes.LARGEST_CUT))


def _with_more(advice: Advice, largest: Proof, whole: Sequence[float]) -> None:
    """Fill in memory or time."""
    resource, most = advice.resource, max(whole)
    unit, bound = UNITS[resource], None
    if len(whole) > 1:
        from proctally.analysis.statistics import next_below

        bound = next_below(whole)
    below = most if bound is None else min(max(most, bound), WIDEST * most)
    share = ALONE[resource] if bound is None else ALWAYS[resource]
    more = max(share * below, LEAST[resource])
    advice.request = _rounded(resource, below + more)
    if bound is None:
        advice.note = Cause(causes.PARTS if largest.parts else causes.MORE, **largest.parts, more=more, unit=unit)
    elif bound > WIDEST * most:
        advice.note = Cause(causes.TOO_WIDE, more=more, unit=unit)
    else:
        advice.note = Cause(causes.SPREAD, below=below, more=more, unit=unit)


def _rounded(resource: str, value: float) -> float:
    """Up to steps in which people ask for it: whole cores, memory by 1, 16 or 256 MiB, time by 1, 5 or 30 minutes."""
    if resource == CORES:
        step = 1
    elif resource == MEMORY:
        step = MIB if value < GIB else 16 * MIB if value < 64 * GIB else 256 * MIB
    else:
        step = 60 if value <= 3600 else 300 if value <= 86400 else 1800
    return math.ceil(value / step) * step


def _notes(resource: str, proofs: Sequence[Proof], whole: Sequence[float], cut: Sequence[Proof]) -> list[Cause]:
    complete = sorted((proof for proof in proofs if proof.complete), key=lambda proof: proof.value or 0)
    notes = list({note.code: note for proof in complete for note in proof.notes}.values())  # those of the largest run
    if cut:
        notes.append(Cause(causes.LEFT_OUT, runs=len(cut), why=[proof.why for proof in cut if proof.why is not None]))
    ordered = sorted(whole)
    if len(ordered) >= ENOUGH_FOR_OUTLIERS and ordered[-1] > OUTLIER * ordered[-2] and resource in ALONE:
        notes.append(Cause(causes.OUTLIER, used=ordered[-1], next=ordered[-2], unit=UNITS[resource]))
    return notes


# -- as text ---------------------------------------------------------------------------------------------------------

LABELS = {CORES: "cores", MEMORY: "memory", TIME: "time", GPUS: "GPUs"}
NOT_ENOUGH = "not enough evidence"


def quantity(resource: str, value: float) -> str:
    """Return a value of a resource as text: `2`, `1.25 GiB`, `0:10:00`."""
    if resource in (CORES, GPUS):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return clock(value) if resource == TIME else with_unit(value, UNITS[resource])


def asked(advice: Advice) -> str:
    """Return the request as text: `2`, `1.25 GiB`, or what is known where there is none."""
    if advice.request is not None:
        return quantity(advice.resource, advice.request)
    needed = "" if advice.at_least is None else f": {more_than(advice)} needed"
    trial = "" if advice.trial is None else f"; as a trial {quantity(advice.resource, advice.trial)}"
    return f"{NOT_ENOUGH}{needed}{trial}"


def more_than(advice: Advice) -> str:
    """Return the least that is needed in any case, as text."""
    assert advice.at_least is not None
    word = "at least" if advice.resource in (CORES, GPUS) else "more than"
    value = advice.at_least
    shown = with_unit(value, "s") if advice.resource == TIME else quantity(advice.resource, value)
    return f"{word} {shown}"
