"""A record as one HTML file that needs nothing else: first screen, charts, tables, and the one script of the charts."""

from __future__ import annotations

import json
import time

from markupsafe import Markup

from proctally.record import __version__
from proctally.record.values import number
from proctally.views.report import charts, head, overlay, request, run_facts, say, tables
from proctally.views.report.drawings import drawings
from proctally.views.report.markup import own, rendered
from proctally.views.report.run_facts import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.record import JsonObject
    from proctally.views.report.series import Story


def page(stories: Sequence[Story], split: int = 0) -> str:
    """The page of one run, or of several; the first `split` of them are compared with the others."""
    facts = [Facts(story) for story in stories]
    common: JsonObject = {
        "version": __version__,
        "made": time.strftime("%Y-%m-%d %H:%M %Z"),
        "style": own("page.css") + own("charts.css") + Markup(charts.style()),
        "charts": _charts(facts),
    }
    if len(facts) == 1:
        return rendered("run.html", **common, **_one(facts[0]))
    return rendered("overlay.html", **common, **overlay.view(facts, split))


def _one(facts: Facts) -> JsonObject:
    return {
        "title": facts.story.title,
        "head": head.head(facts),
        "say": " ".join(say.sentences(facts)),
        "time": head.time_of(facts),
        "memory": head.memory(facts),
        "request": request.request(facts),
        "figures": head.figures(facts),
        "commands": tables.commands(facts),
        "machine": tables.machine(facts),
        "unseen": run_facts.unseen(facts),
        "cost": run_facts.tracker(facts),
        "path": facts.story.past.path,
    }


# -- charts ----------------------------------------------------------------------------------------------------------


def _charts(facts: Sequence[Facts]) -> JsonObject:
    """Return the fragment of the charts, and the scripts that draw them; none where there is nothing to draw."""
    is_one = len(facts) == 1
    lines = overlay.lines(facts)
    canvas = charts.Canvas([facts[0].story] if is_one else [story for _, story in lines])
    plots: charts.Plots = {}
    body = drawings(facts[0], canvas, plots) if is_one else overlay.charts_of(lines, canvas, plots)
    drawn, places = charts.embedded(plots)
    for key, place in places.items():
        body = body.replace(f"<!--chart {key}-->", place)
    started = number(facts[0].story.run.get("started_at")) if is_one else None
    scripts = f"""<script type="application/json" id="facts">{json.dumps({"started_at": started})}</script>
<script>
{own("page.js")}</script>
<script>
{charts.script()}
</script>
{canvas.payload}{drawn}"""
    return {"fragment": Markup(body), "scripts": Markup(scripts if plots else "")}
