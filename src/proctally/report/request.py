"""What to request next time: the one place for advice in a report, whatever its form."""

from __future__ import annotations

from proctally.report.figures import time
from proctally.report.waits import WORTH_SAYING, own_waits
from proctally.summary import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.report.figures import Facts

STOPPED = ("oom", "limit", "timeout", "killed")


def next_time(facts: Facts) -> list[str]:
    """What to request next time: the place for advice. What was measured, without head-room."""
    if not facts.of_tree:
        return []
    if facts.verdict in STOPPED:
        return [f"Not enough evidence: it was stopped ({facts.verdict}), so what it would have used is not known."]
    if not facts.whole:
        return ["Not enough evidence: the record has no end."]
    found = []
    if facts.peak_memory is not None:
        found.append(f"memory: {size(facts.peak_memory)} was its peak")
    if facts.mean_cores is not None and facts.peak_cores is not None:
        found.append(f"cores: {facts.mean_cores:.2f} on average, {facts.peak_cores:.2f} at its peak")
    found.append(f"time: {time(facts.wall)}")
    held_back = [wait.what for wait in own_waits(facts)[:2] if (wait.share or 0.0) >= 2 * WORTH_SAYING]
    if held_back:
        found.append(f"it waited for {' and '.join(held_back)}: with more of it, it would have been faster")
    if facts.verdict == "failed":
        found.append("it failed: a run that comes to its end may need more")
    if facts.story.run.get("kind") == "attach":
        found.append("measured from the attach on only")
    return [*found, "measured in this one run, without head-room"]
