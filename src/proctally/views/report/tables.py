"""The tables of a page: commands, phases, the machine, the cost of tracking, what the numbers cannot see."""

from __future__ import annotations

from proctally.record.values import value_at
from proctally.text.escape import html
from proctally.text.units import UNKNOWN, duration, percentage, size
from proctally.views.report import run_facts
from proctally.views.report.markup import bullets, section, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.report.run_facts import Facts
    from proctally.views.report.series import Story

MOST_COMMANDS = 50
BAR = 110  # pixels


def commands(facts: Facts) -> str:
    """The commands by exact CPU time, as far as the source is exact."""
    found = run_facts.commands(facts)
    if not found:
        return ""
    most = max((row["cpu"] or 0.0) for row in found) or 1.0
    total = facts.cpu or 0.0
    rows = []
    for row in found[:MOST_COMMANDS]:
        used = row["cpu"]
        width = 0 if used is None else BAR * used / most
        bar = f'<span class="bar" style="width:{width:.0f}px" aria-hidden="true"></span>'
        rows.append(
            [
                bar + html(row["command"]),
                html(UNKNOWN if used is None else f"{used:,.3f}"),
                html(percentage(used / total) if used is not None and total else ""),
                "" if row["processes"] is None else f"{row['processes']:,.0f}",
                html(duration(row["wall"])),
                html(size(row["rss"])),
            ]
        )
    exact = value_at(facts.story.summary, "processes.source") == "perf"
    how = "every process counted, however short" if exact else "of processes that were seen; short ones may be missing"
    more = f" {len(found) - MOST_COMMANDS:,} more used less." if len(found) > MOST_COMMANDS else ""
    heads = ["Command", "CPU s", "Share", "Processes", "Lives, sum", "Largest RSS"]
    return section(
        "commands", "Commands by CPU time", table("Commands by CPU time", f"Name after exec; {how}.{more}", heads, rows)
    )


def memory(facts: Facts) -> str:
    """Return the largest parts of the memory at the peak."""
    parts = facts.memory.parts
    if not parts:
        return ""
    at = "" if facts.memory.at_seconds is None else f"At {duration(facts.memory.at_seconds)}. "
    rows = [[html(part.name), "" if part.pid is None else str(part.pid), html(part.text)] for part in parts]
    caption = f"{at}Anonymous and shared memory of the largest parts."
    heads = ["Part", "Pid", "Memory"]
    return section("memory", "Memory at the peak", table("Memory at the peak", caption, heads, rows))


def phases(story: Story) -> str:
    """The phases in the order of their begin."""
    if not story.phases:
        return ""
    rows = []
    for phase in sorted(story.phases, key=lambda phase: phase["begin"]):
        end, used = phase["end"], phase["used"]
        wall = (story.wall_seconds if end is None else end) - phase["begin"]
        rows.append(
            [
                html(phase["name"]) + (" (not ended)" if end is None else ""),
                html(duration(phase["begin"])),
                html(duration(wall)),
                html(duration(used)),
                html(run_facts.cores(used / wall if used is not None and wall > 0 else None)),
            ]
        )
    left = f"{story.phases_left_out:,} more are left out." if story.phases_left_out else ""
    return section("phases", "Phases", table("Phases", left, ["Phase", "From", "Wall", "CPU", "Mean cores"], rows))


def ground(facts: Facts) -> str:
    """What everything above stands on: the machine, the cost of tracking, what cannot be seen."""
    rows = run_facts.host(facts)
    if facts.limits_from:
        rows.append(("limits", f"from {facts.limits_from}"))
    machine = "".join(f"<dt>{html(label)}</dt><dd>{html(text)}</dd>" for label, text in rows)
    return f"""<div class="two"><div>{section("host", "Machine", f'<dl class="facts">{machine}</dl>')}
{section("cost", "What tracking cost", bullets(run_facts.tracker(facts)))}</div>
{section("unseen", "What the numbers cannot see", bullets(run_facts.unseen(facts)))}</div>
<p class="small soft">Record: <code>{html(facts.story.past.path)}</code></p>
"""
