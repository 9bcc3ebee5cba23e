"""The first screen of a run: verdict, where the time went, memory at its peak, what to request, figures."""

from __future__ import annotations

import shlex
import time
from itertools import accumulate

from proctally.analysis.memory import SPIKE, PeakPart
from proctally.analysis.time import Time
from proctally.record.codes import COMPLETE
from proctally.record.values import number_at, objects_at, section_at, value_at
from proctally.text.cells import cut_middle
from proctally.text.secrets import mask_recorded
from proctally.text.units import UNKNOWN, brief, size
from proctally.text.words import counted
from proctally.views import phrases, summary
from proctally.views.report import diagrams, request, run_facts, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.views.report.run_facts import Facts

MAX_COMMAND = 1 << 18  # characters of a command line
LINE = 90  # cells of a command in one line
MOST_PHASES = 8  # at once; others are folded
MOST_KILLS = 3  # with a diagram each
GOOD, WARN, BAD, NEUTRAL = "good", "warn", "bad", "neutral"


def head(facts: Facts) -> JsonObject:
    """Return what ran, how it ended, where and when."""
    run, story = facts.story.run, facts.story
    verdict, but, _ = summary.headline(story.summary) if facts.whole else (facts.verdict, "", "")
    command = run.get("command") or []
    shown = [word for word, end in zip(command, accumulate(map(len, command)), strict=True) if end <= MAX_COMMAND]
    whole = shlex.join(mask_recorded(shown) or []) + (" ..." if len(shown) < len(command) else "")
    where = [
        cut_middle(whole, LINE),
        time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(story.past.started_at)),
        f"host {story.host['hostname']}" if story.host.get("hostname") else "",
        f"{run.get('kind')} {story.past.short_id}",
    ]
    more = [
        f"ended: {facts.reason}",
        f"user {run['user']}" if run.get("user") else "",
        f"in {run['cwd']}" if run.get("cwd") else "",
        f"run {run.get('run_id')}",
        *(f"{key}={value}" for key, value in section_at(run, "tags").items()),
    ]
    good = facts.verdict == "ok" and not but
    mood = BAD if say.is_bad(facts) else GOOD if good else NEUTRAL if facts.verdict in ("ended", "running") else WARN
    return {
        "verdict": verdict + but,
        "mood": mood,
        "line": " · ".join(fact for fact in where if fact),
        "command": whole,
        "more": " · ".join(fact for fact in more if fact),
    }


def time_of(facts: Facts) -> JsonObject | None:
    """Return the bar of the run, and those of its phases; None for the whole machine."""
    if not facts.of_tree:
        return None
    rows = phases(facts)
    return {
        "wall": brief(facts.wall),
        "bar": diagrams.time_bar("Whole run", facts.time),
        "unknown": "Unknown: the record has no parts of its wall time.",
        "phases": rows[:MOST_PHASES],
        "folded": rows[MOST_PHASES:],
    }


def phases(facts: Facts) -> list[JsonObject]:
    """Return the phases: as the summary has them, else one by one as far as they were seen."""
    rows = [_phase(one) for one in objects_at(facts.story.summary, "phases")]
    return rows or [_seen_phase(facts, one) for one in facts.story.phases]


def _phase(one: JsonObject) -> JsonObject:
    wall, used = number_at(one, "wall_seconds"), number_at(one, "cpu_seconds")
    return _phase_row(str(one.get("name")), wall, used, Time(one.get("time")))


def _seen_phase(facts: Facts, one: JsonObject) -> JsonObject:
    end = facts.wall if one["end"] is None else one["end"]
    name = one["name"] + (" (not ended)" if one["end"] is None else "")
    return _phase_row(name, end - one["begin"], one["used"], Time(None))


def _phase_row(name: str, wall: float | None, used: float | None, parts: Time) -> JsonObject:
    busy = "-" if used is None or not wall else f"{used / wall:.2f} cores"
    return {
        "name": name,
        "seconds": wall,
        "wall": UNKNOWN if wall is None else brief(wall),
        "cores": busy,
        "time": parts.text,
        "bar": diagrams.time_bar(f"Phase {name}", parts),
    }


def memory(facts: Facts) -> JsonObject | None:
    """Return the bracket of the peak, who held it, and the same at the first kills; None for the whole machine."""
    if not facts.of_tree:
        return None
    held, asked = facts.memory, request.memory(facts)
    drawn = diagrams.bracket("Memory at its peak", held, facts.limit_memory, *asked)
    lines = []
    if drawn is None:
        lines.append(f"Peak {size(facts.peak_memory)}; bounds are unknown")
    if held.parts:
        start = phrases.moment(held.at_seconds, facts.phase_at(held.at_seconds))
        parts = ", ".join(phrases.holders(held.parts, held.high or 0.0))
        lines.append(f"{start[0].upper()}{start[1:]}: {parts}.")
    if any(part.kind == SPIKE for part in held.parts):
        lines.append("Briefly: between two scans, by the high-water mark of the process.")
    if held.high is not None and not held.is_narrow:
        cause = f": {held.cause}" if held.cause else ""
        lines.append(f"Hatched: between what is certain and what cannot be excluded{cause}.")
    return {"bracket": drawn, "lines": lines, "kills": _kills(facts)}


def _kills(facts: Facts) -> list[JsonObject]:
    """Return the first kills with what was held before each."""
    found = []
    for each in objects_at(facts.story.summary, "memory.ooms")[:MOST_KILLS]:
        parts = [PeakPart(entry) for entry in objects_at(each, "at_peak")]
        limit, count = number_at(each, "limit_bytes"), number_at(each, "count")
        title = f"Before {counted(count, 'process')} {'was' if count == 1 else 'were'} killed"
        title += f" at {brief(number_at(each, 'elapsed_seconds'))}"
        held = sum(part.high or 0.0 for part in parts)
        found.append(
            {
                "title": title,
                "bracket": diagrams.kill_bracket(title, parts, limit),
                "held": ", ".join(phrases.holders(parts, held)),
            }
        )
    return found


def figures(facts: Facts) -> list[JsonObject]:
    """Return the figures that matter, and how complete they are."""
    found = run_facts.head(facts)
    rows: list[JsonObject] = [
        {
            "label": each.label,
            "value": f"at least {each.value}" if each.incomplete else each.value,
            "note": each.note,
        }
        for each in found
    ]
    partial = [title for title in ("cpu", "memory", "io", "processes") if facts.incomplete(title)]
    notes = counted(len(run_facts.unseen(facts)), "note")
    known = value_at(facts.story.summary, "cpu.coverage") == COMPLETE or not facts.of_tree
    state = UNKNOWN if not facts.whole else "partial" if partial or not known else "complete"
    return [*rows, {"label": "Coverage", "value": state, "note": f"{notes} below"}]
