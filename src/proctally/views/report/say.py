"""A run in two sentences made from codes: what went wrong first, at most 240 signs."""

from __future__ import annotations

from proctally.analysis.time import WAITS, Time
from proctally.analysis.waits import NOTABLE_SHARE
from proctally.record.values import value_at, was_killed
from proctally.text import words
from proctally.text.cells import cut
from proctally.text.units import brief, cores, percentage, size
from proctally.views import phrases, summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.report.run_facts import Facts

MOST = 240
NAME = 20  # cells of the name of another user and command
DID = {  # by part of the wall time, where its share is notable
    "ready": "waited for a CPU {} % of the time",
    "throttled": "was held by its CPU quota {} %",
    "disk": "waited for storage {} %",
    "asleep": "slept {} %",
}
MOSTLY = 0.5  # of the wall: a job that slept longer did little else


def sentences(facts: Facts) -> list[str]:
    """Return the two sentences; of a record without an end, and of the whole machine, what is known."""
    bad = _bad(facts)
    memory = _memory(facts)
    verb = "was tracked for" if facts.story.run.get("kind") == "attach" else "ran"
    did = "It " + _joined([f"{verb} {brief(facts.wall)}", *_busy(facts), *_waits(facts.time)])
    if bad:
        found = [bad, _joined([did, memory], "; ")]
    else:
        found = [did + _because(facts), _joined([memory, _killed(facts)], "; ")]
    texts = [_sentence(text) for text in found if text]
    if len(" ".join(texts)) > MOST:
        texts = [_sentence(bad), _sentence(did)] if bad else [_sentence(did), *texts[1:]]
    return texts if len(" ".join(texts)) <= MOST else [cut(texts[0], MOST)]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _joined(texts: list[str], mark: str = ", ") -> str:
    """Join texts; the last one with `and`, where they are parts of one sentence."""
    texts = [text for text in texts if text]
    if mark != ", " or len(texts) < 2:
        return mark.join(texts)
    return f"{mark.join(texts[:-1])} and {texts[-1]}"


def _bad(facts: Facts) -> str:
    """Return what went wrong, worst first; empty where nothing did."""
    if not facts.whole:
        return "" if facts.verdict == "running" else facts.reason
    end = facts.story.summary
    verdict, but, detail = summary.headline(end)
    if facts.verdict == "oom":
        text, _ = phrases.killed(end)
        return f"killed for memory{detail}{f': {text}' if text else ''}"
    if was_killed(end):
        text, held = phrases.killed(end)
        how = f"{text}; before: {held[0]}" if held else text
        return f"{_plain(but) or verdict}: {how}"
    if facts.verdict not in ("ok", "ended"):
        return f"{verdict}{detail}"
    if but:
        return f"{_plain(but)}{detail}{_because(facts)}"
    limit = facts.limit_memory
    if limit is not None and facts.memory.is_near(limit):
        high = percentage(min(1.0, (facts.memory.high or 0.0) / limit))
        return f"its memory came near its limit: {facts.memory.short}, {high} of {size(limit)}"
    return ""


def _killed(facts: Facts) -> str:
    """Return which children a signal ended, or that nothing was killed; empty where the OOM kills are unknown."""
    end = facts.story.summary
    children = words.killed_children(value_at(end, "processes.killed_by"))
    is_known = value_at(end, "memory.oom_kills") is not None
    return children or ("nothing was killed" if is_known else "")


def _plain(but: str) -> str:
    return but.removeprefix(", ").removeprefix("but ").removeprefix("and ")


def _busy(facts: Facts) -> list[str]:
    mean, limit = facts.mean_cores, facts.limit_cores if facts.of_tree else facts.machine_cores
    if mean is None:
        return []
    return [f"kept {mean:.2f} {'cores' if limit is None else f'of {cores(limit)}'} busy"]


def _waits(time: Time) -> list[str]:
    """Return the waits that are notable, else that it slept where it mostly did."""
    found = [part for part in time.parts if part.name in DID and part.name != "asleep"]
    found = sorted((part for part in found if part.share >= NOTABLE_SHARE), key=lambda part: -part.share)[:2]
    if not found or time.share("asleep") >= MOSTLY:
        found = [part for part in time.parts if part.name == "asleep" and part.share >= MOSTLY] + found[:1]
    return [DID[part.name].format(part.percent) for part in found]


def _because(facts: Facts) -> str:
    """Return because of what it waited for a CPU most."""
    ready, throttled = (facts.time.share(name) for name in WAITS)
    if throttled > ready:
        return ", because of its CPU quota"
    others = phrases.others(facts.story.summary, facts.time)
    if facts.time.bounds("ready")[0] < NOTABLE_SHARE or others is None:
        return ""
    return f", because others used the machine ({others.users[0].text(width=NAME)} cores)"


def _memory(facts: Facts) -> str:
    held, limit = facts.memory, facts.limit_memory
    if not facts.of_tree or held.high is None:
        return ""
    if limit is not None and held.is_near(limit):
        return ""
    return f"memory stayed below {size(held.high)}{'' if limit is None else f' of {size(limit)}'}"


def is_bad(facts: Facts) -> bool:
    """Return whether a process was killed for memory, or the job itself did not end well."""
    return was_killed(facts.story.summary) or facts.verdict not in ("ok", "ended", "running")
