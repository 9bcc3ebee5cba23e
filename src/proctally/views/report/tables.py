"""The tables of a page: commands, phases, the machine, the cost of tracking, what the numbers cannot see."""

from __future__ import annotations

from proctally.history import value_at
from proctally.report import figures
from proctally.report.markup import bullets, said, section, table
from proctally.summary import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.report.figures import Facts
    from proctally.report.series import Story

MOST_COMMANDS = 50
BAR = 110  # pixels


def commands(facts: Facts) -> str:
    """The commands by exact CPU time, as far as the source is exact."""
    found = figures.commands(facts)
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
                bar + said(row["command"]),
                said(figures.UNKNOWN if used is None else f"{used:,.3f}"),
                said(figures.percent(used / total) if used is not None and total else ""),
                "" if row["processes"] is None else f"{row['processes']:,.0f}",
                said(figures.time(row["wall"])),
                said(size(row["rss"])),
            ]
        )
    exact = value_at(facts.story.summary, "processes.source") == "perf"
    how = "every process counted, however short" if exact else "of processes that were seen; short ones may be missing"
    more = f" {len(found) - MOST_COMMANDS:,} more used less." if len(found) > MOST_COMMANDS else ""
    heads = ["Command", "CPU s", "Share", "Processes", "Lives, sum", "Largest RSS"]
    return section(
        "commands", "Commands by CPU time", table("Commands by CPU time", f"Name after exec; {how}.{more}", heads, rows)
    )


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
                said(phase["name"]) + (" (not ended)" if end is None else ""),
                said(figures.time(phase["begin"])),
                said(figures.time(wall)),
                said(figures.time(used)),
                said(figures.cores(used / wall if used is not None and wall > 0 else None)),
            ]
        )
    left = f"{story.phases_left_out:,} more are left out." if story.phases_left_out else ""
    return section("phases", "Phases", table("Phases", left, ["Phase", "From", "Wall", "CPU", "Mean cores"], rows))


def ground(facts: Facts) -> str:
    """What everything above stands on: the machine, the cost of tracking, what cannot be seen."""
    rows = figures.host(facts)
    if facts.limits_from:
        rows.append(("limits", f"from {facts.limits_from}"))
    machine = "".join(f"<dt>{said(label)}</dt><dd>{said(text)}</dd>" for label, text in rows)
    return f"""<div class="two"><div>{section("host", "Machine", f'<dl class="facts">{machine}</dl>')}
{section("cost", "What tracking cost", bullets(figures.tracker(facts)))}</div>
{section("unseen", "What the numbers cannot see", bullets(figures.unseen(facts)))}</div>
<p class="small soft">Record: <code>{said(facts.story.past.path)}</code></p>
"""
