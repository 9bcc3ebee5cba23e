"""The sections below the charts: commands, the machine and its neighbours, what the numbers cannot see, the cost."""

from __future__ import annotations

from proctally.record.values import number_at, value_at
from proctally.text.units import UNKNOWN, percentage, size
from proctally.views import phrases
from proctally.views.report import run_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.views.report.run_facts import Facts

MOST_COMMANDS = 6  # others are folded
HEADS = ("Command", "CPU s", "Share", "Processes", "Largest RSS")


def commands(facts: Facts) -> JsonObject:
    """Return the commands by CPU time; the rows sum to the CPU time of the run."""
    found = phrases.commands(facts.story.summary, least=phrases.LEAST_SECONDS)
    total = max(facts.cpu or 0.0, sum(row.seconds or 0.0 for row in found))
    rows = [_row(row, total) for row in found]
    exact = value_at(facts.story.summary, "processes.source") == "perf"
    how = "every process counts, however short" if exact else "of processes that were seen; short ones may be missing"
    return {
        "heads": HEADS,
        "rows": rows[:MOST_COMMANDS],
        "folded": rows[MOST_COMMANDS:],
        "note": f"By name after exec; {how}. Shares are of the CPU time.",
    }


def _row(row: phrases.CommandTime, total: float) -> list[str]:
    return [
        row.title,
        UNKNOWN if row.seconds is None else f"{row.seconds:,.3f}",
        "" if row.seconds is None or not total else percentage(row.seconds / total),
        "" if row.processes is None else f"{row.processes:,.0f}",
        "" if row.line is None else size(number_at(row.line, "peak_rss_bytes")),
    ]


def machine(facts: Facts) -> JsonObject:
    """Return what the machine is, and who else used it."""
    rows = run_facts.host(facts)
    if facts.limits_from:
        rows.append(("limits", f"from {facts.limits_from}"))
    return {"rows": rows, "pressure": run_facts.pressure(facts), "others": run_facts.others(facts)}
