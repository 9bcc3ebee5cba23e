"""What to request next time, from what one or many runs prove: a number with its reasons, or why there is none.

Memory and time are asked for with head-room, since a run that has too little of them is killed: at least what any run
used, at least what the next one stays below with 95 % as far as these runs spread (statistics.py), and a part on top
for what runs do not show. Cores and GPUs are asked for without: who has too few is slower.
"""

from __future__ import annotations

import math

from proctally.analysis.evidence import CORES, GPUS, MEMORY, RESOURCES, SLOWER, TIME, Evidence
from proctally.text.units import UNKNOWN, clock, percentage, with_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proctally.analysis.evidence import Proof

MIB, GIB = 1 << 20, 1 << 30
ALONE = {MEMORY: 0.25, TIME: 0.50}  # above a single run, of which no spread is known
ALWAYS = {MEMORY: 0.10, TIME: 0.10}  # above what many runs tell: peaks between samples; slower machines and disks
LEAST = {MEMORY: 32 * MIB, TIME: 60.0}  # ... and at least so much: the tracker and page tables; starting and ending
WIDEST = 2.0  # so many times the largest run at most: beyond it runs are not alike, and their spread tells nothing
WHY = {
    MEMORY: "for peaks between samples, page tables and the tracker",
    TIME: "for slower machines and disks",
}
UNITS = {CORES: "1", MEMORY: "By", TIME: "s", GPUS: "1"}
OUTLIER = 1.5
ENOUGH_FOR_OUTLIERS = 4
REASONS = 2


class Advice:
    """What to request of one resource, in cores, bytes, seconds or devices; None where the evidence is not enough.

    `used`: the most that a run used which had all it needed; `at_least`: what is needed in any case, where there is no
    request; `trial`: what to try then, which no run proves; `basis`: what the request rests on, or what is missing;
    `runs`: how many runs it rests on, `others`: how many prove nothing of it.
    """

    __slots__ = ("at_least", "basis", "notes", "others", "request", "resource", "runs", "trial", "used")

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.request: float | None = None
        self.used: float | None = None
        self.at_least: float | None = None
        self.trial: float | None = None
        self.basis = ""
        self.notes: list[str] = []
        self.runs = 0
        self.others = 0

    @property
    def whole(self) -> int | None:
        """The request as a whole number: of cores, bytes, seconds, devices."""
        return None if self.request is None else math.ceil(self.request)


def advise_on(runs: Sequence[Evidence]) -> dict[str, Advice]:
    """The advice on each of `cores`, `memory`, `time` and `gpus` from what these runs prove."""
    return {resource: _advice(resource, [run.proof(resource) for run in runs]) for resource in RESOURCES}


def _advice(resource: str, proofs: Sequence[Proof]) -> Advice:
    advice = Advice(resource)
    complete = [proof for proof in proofs if proof.complete]
    whole = [proof.value for proof in complete if proof.value is not None]
    cut = [proof for proof in proofs if not proof.complete]
    advice.runs, advice.others = len(whole), len(cut)
    advice.used = max(whole, default=None)
    bounds = [proof.value for proof in cut if proof.value is not None]
    most = max(bounds, default=None)
    if advice.used is None or (most is not None and _needs_more(resource, most, advice.used)):
        advice.at_least = max((value for value in (most, advice.used) if value), default=None)
        if resource == CORES and advice.at_least is not None:
            advice.at_least = round(advice.at_least, 2) or None
        trials = [proof.trial for proof in cut if proof.trial is not None]
        advice.trial = _rounded(resource, max(trials)) if trials else None
        telling = cut if advice.used is None else [each for each in cut if each.value is not None]
        telling = sorted(telling, key=lambda proof: proof.value or 0, reverse=True)
        advice.basis = _reasons(telling, of_all=advice.used is None)
        return advice
    if resource in ALONE:
        largest = max(complete, key=lambda proof: proof.value or 0)
        _with_head_room(advice, whole, largest.parts)
    else:
        _without(advice, whole)
    advice.notes += _notes(resource, proofs, whole, cut)
    return advice


def _needs_more(resource: str, bound: float, used: float) -> bool:
    """Whether a run that was cut off used more than every one that was not."""
    if resource == CORES:
        return math.ceil(bound) > math.ceil(used)
    return bound > used if resource == GPUS else bound >= used


def _reasons(proofs: Sequence[Proof], *, of_all: bool) -> str:
    """Return the reasons, each once, the most telling first."""
    different = list(dict.fromkeys(UNKNOWN if proof.why is None else proof.why.text for proof in proofs))
    said = "; ".join(different[:REASONS])
    if len(different) > REASONS:
        said += f"; and {len(different) - REASONS} other reasons"
    if len(proofs) > 1 and of_all:
        return f"{len(proofs)} runs, none with all it needed: {said}"
    return said if of_all else f"a run that used more than all others had not all it needed: {said}"


def _with_head_room(advice: Advice, whole: Sequence[float], parts: str) -> None:
    """Fill in memory or time. `parts`: how the largest value is made up."""
    resource, most = advice.resource, max(whole)
    unit, bound = UNITS[resource], None
    largest = f"{with_unit(most, unit)} in the one run{f' ({parts})' if parts else ''}"
    below = most
    if len(whole) > 1:
        from proctally.analysis.statistics import Group, next_below

        bound = next_below(whole)
    if bound is not None:
        below = min(max(most, bound), WIDEST * most)
        group = Group(whole)
        largest = (
            f"{with_unit(most, unit)} in the largest of {len(whole)} runs"
            f" ({f'{parts}; ' if parts else ''}median {with_unit(group.median, unit)})"
        )
    share = ALONE[resource] if bound is None else ALWAYS[resource]
    extra = max(share * below, LEAST[resource])
    said = percentage(share, 0) if extra > LEAST[resource] else with_unit(LEAST[resource], unit)
    advice.request = _rounded(resource, below + extra)
    if bound is None:
        advice.basis = f"{largest}; {said} above it, for one run tells nothing of the spread"
        return
    spread = "which is more than the next one needs with 95 %"
    if bound > most:
        spread = f"with 95 % the next one stays below {with_unit(below, unit)}, as these spread"
    if bound > WIDEST * most:
        spread = f"they spread so far that {WIDEST:g} x the largest is a guess"
    advice.basis = f"{largest}; {spread}; {said} above that {WHY[resource]}"


def _without(advice: Advice, whole: Sequence[float]) -> None:
    """Cores and GPUs: what the run needed that needed most."""
    most = max(whole)
    advice.request = math.ceil(round(most * 10, 6)) / 10 if advice.resource == CORES else most
    runs = "the run" if len(whole) == 1 else f"the one of {len(whole)} runs that needs most"
    if advice.resource == GPUS:
        advice.basis = f"{most:g} used by {runs}"
        return
    advice.request = max(advice.request, 0.1)
    longer = f"on {most:.2f} cores {runs} takes at most {percentage(SLOWER, 0)} longer than it did"
    advice.basis = f"{longer}; no head-room, since too few only slow it"


def _rounded(resource: str, value: float) -> float:
    """Up to steps in which people ask for it: whole cores, memory by 1, 16 or 256 MiB, time by 1, 5 or 30 minutes."""
    if resource == CORES:
        step = 1
    elif resource == MEMORY:
        step = MIB if value < GIB else 16 * MIB if value < 64 * GIB else 256 * MIB
    else:
        step = 60 if value <= 3600 else 300 if value <= 86400 else 1800
    return math.ceil(value / step) * step


def _notes(resource: str, proofs: Sequence[Proof], whole: Sequence[float], cut: Sequence[Proof]) -> list[str]:
    said = list(dict.fromkeys(note for proof in proofs if proof.complete for note in proof.notes))
    if cut:
        words = "1 run tells" if len(cut) == 1 else f"{len(cut)} runs tell"
        said.append(f"{words} too little of it: {_reasons(cut, of_all=True)}")
    ordered = sorted(whole)
    if len(ordered) >= ENOUGH_FOR_OUTLIERS and ordered[-1] > OUTLIER * ordered[-2] and resource in ALONE:
        unit = UNITS[resource]
        said.append(f"one run used {with_unit(ordered[-1], unit)}, no other more than {with_unit(ordered[-2], unit)}")
    return said


# -- in words --------------------------------------------------------------------------------------------------------

LABELS = {CORES: "cores", MEMORY: "memory", TIME: "time", GPUS: "GPUs"}
NOT_ENOUGH = "not enough evidence"


def quantity(resource: str, value: float) -> str:
    """A value of a resource as a person reads it."""
    if resource in (CORES, GPUS):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return clock(value) if resource == TIME else with_unit(value, UNITS[resource])


def asked(advice: Advice) -> str:
    """The request in words: `2`, `1.25 GiB`, or what is known where there is none."""
    if advice.request is not None:
        value = advice.whole if advice.resource == CORES else advice.request
        return quantity(advice.resource, value or 0)
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


def is_of_interest(advice: Advice, runs: Iterable[Evidence]) -> bool:
    """Whether it is told: of GPUs only where the machine has any."""
    return advice.resource != GPUS or any(run.saw_gpus for run in runs)


def advice_lines(runs: Sequence[Evidence]) -> list[str]:
    """For the head of a report: what to request next time, a line for each resource, in plain text.

    `runs`: what their records prove (`Evidence.of(lines)`, or `take` for each line of one that is read anyway). Records
    of the whole machine prove nothing: none for them.
    """
    jobs = [run for run in runs if run.kind != "system"]
    found = advise_on(jobs).values() if jobs else ()
    return [f"{LABELS[each.resource]}: {asked(each)} ({each.basis})" for each in found if is_of_interest(each, jobs)]
