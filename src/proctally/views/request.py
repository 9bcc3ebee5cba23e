"""Additions of a record to its summary: the request for the next run, and the phase of a moment."""

from __future__ import annotations

import math
import os

from proctally.analysis import causes
from proctally.analysis.advice import LABELS, quantity, request_rows
from proctally.analysis.evidence import CORES, GPUS, MEMORY, TIME, Evidence
from proctally.errors import NoRecord
from proctally.record import codes
from proctally.record.values import number, number_at, value_at
from proctally.text.units import minutes, size
from proctally.text.words import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.analysis.advice import Advice
    from proctally.record import JsonObject

MAX_RECORD_BYTES = 8 << 20  # of a larger record, which takes more than 0.2 s to read, the summary alone counts
ATTACHED = (codes.ALL_EXITED, codes.DURATION_OVER, codes.READERS_GONE, codes.STOPPED)
TRACKED = (
    codes.BLOCK_ENDED, codes.BLOCK_CANCELLED, codes.BLOCK_LEFT, codes.PROGRAM_EXITED, codes.PROGRAM_REPLACED,
)  # fmt: skip
GOOD = ("ok", "ended")  # verdicts that explain nothing that is unknown
NOUNS = {CORES: "core", GPUS: "GPU"}
ENDS = 2  # samples of a run without one between its start and its end: the summary has all of them
KINDS = dict.fromkeys(ATTACHED, "attach") | dict.fromkeys(TRACKED, "track")  # of a tree, by the reason of its end


class Recorded:
    """A run with its record. `evidence`: what it proves; without a record that is small enough, its summary alone."""

    def __init__(self, summary: JsonObject, path: str | None) -> None:
        self.summary = summary
        self.evidence = Evidence()
        self._phases: list[JsonObject] = []
        if path is not None and (number_at(summary, "tracker.samples") or 0) > ENDS:
            self._read(os.path.expanduser(path))
        if self.evidence.summary is None:
            kind = KINDS.get(value_at(summary, "reason.code"), "")
            self.evidence = Evidence.of([{"type": "run", "kind": kind}, summary])

    def _read(self, path: str) -> None:
        from proctally.record.reader import Reading

        try:
            if os.path.isfile(path) and os.path.getsize(path) <= MAX_RECORD_BYTES:
                for line in Reading(path).lines():
                    self.evidence.take(line)
                    if line["type"] == "phase":
                        self._phases.append(line)
        except (NoRecord, OSError):
            pass

    def phase_at(self, elapsed: float) -> object:
        """Return the name of the phase that started last before a moment and had not ended; None without one."""
        running: list[object] = []
        for line in self._phases:
            if (number(line.get("elapsed_seconds")) or 0.0) > elapsed:
                break
            name = line.get("name")
            if line.get("event") == "begin":
                running.append(name)
            elif name in running:
                running.remove(name)
        return running[-1] if running else None

    def request(self) -> str:
        """Return what to request for the next run as one line of text."""
        return request(self.evidence)


def request(run: Evidence) -> str:
    """Return cores, memory and time to request as one line of text, what is a trial, and what is unknown."""
    found = request_rows([run])
    known = [text for each in found if (text := _asked(each))]
    unknown = [LABELS[each.resource] for each in found if each.request is None and each.trial is None]
    proved = any(each.request is not None for each in found)
    why = "" if proved or run.verdict in GOOD else f" (ended as {run.verdict})"
    if not known:
        return f"unknown{why}; details: proctally report"
    text = ", ".join(known)
    memory = next(each for each in found if each.resource == MEMORY)
    if memory.trial is not None and memory.at_least is not None:
        text += f": it needed over {size(memory.at_least)}"
    if unknown:
        return f"{text}; {' and '.join(unknown)} unknown{why or _without_waits(found)}"
    is_trial = any(each.request is None and each.trial is not None for each in found)
    return text if is_trial else f"{text}; from one run (more: proctally advise)"


def _asked(advice: Advice) -> str:
    """Return the request or the trial of one resource; empty without one."""
    value = advice.request if advice.request is not None else advice.trial
    if value is None:
        return ""
    if advice.resource in (CORES, GPUS):
        shown = counted(math.ceil(value), NOUNS[advice.resource])
    else:
        shown = minutes(value) if advice.resource == TIME else quantity(advice.resource, value)
    return shown if advice.request is not None else f"{shown} as a trial"


def _without_waits(found: list[Advice]) -> str:
    """Return about how long a starved run takes on the cores that it wanted."""
    note = next(each.note for each in found if each.resource == TIME)
    if note.code != causes.STARVED_TIME:
        return ""
    return f" (on {counted(note.values['cores'], NOUNS[CORES])} about {note.shown['about']})"
