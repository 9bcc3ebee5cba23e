"""What to request next time: the one place for advice in a report, whatever its form. The figures are advise's."""

from __future__ import annotations

from proctally.analysis.advice import advice_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.report.run_facts import Facts


def next_time(facts: Facts) -> list[str]:
    """What to request next time by this run alone, a line each; empty of a record of the whole machine."""
    if not facts.of_tree:
        return []
    found = advice_lines([facts.story.evidence])
    evidence = facts.story.evidence
    slowed = [what for what, by in (("a free CPU", evidence.starved()), ("its CPU quota", evidence.throttled())) if by]
    if slowed:
        found.append(f"it waited for {' and '.join(slowed)}: with more of it, it would have been faster")
    if facts.verdict == "failed":
        found.append("it failed: a run that comes to its end may need more")
    if facts.story.run.get("kind") == "attach":
        found.append("measured from the attach on only")
    return [*found, f"as lines for a scheduler, and by more runs than this one: {_command(facts)}"]


def _command(facts: Facts) -> str:
    """What to type for more; a name that a shell or a terminal might take for something else is left out."""
    past = facts.story.past
    if past.name and all(sign.isascii() and (sign.isalnum() or sign in "._-") for sign in past.name):
        return f"proctally advise --name {past.name}"
    return "proctally advise --name NAME"
