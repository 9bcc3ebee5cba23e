"""A record as one HTML file that needs nothing else: head, charts, tables, and the one script of the charts."""

from __future__ import annotations

import json
import time
from importlib import resources

from proctally.record import __version__
from proctally.record.values import number
from proctally.text.escape import html
from proctally.views.report import charts, head, overlay, tables
from proctally.views.report.drawings import drawings
from proctally.views.report.run_facts import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.views.report.series import Story


def page(stories: Sequence[Story]) -> str:
    """The page of one run, or of several laid over each other."""
    facts = [Facts(story) for story in stories]
    canvas = charts.Canvas(stories)
    plots: charts.Plots = {}
    if len(stories) == 1:
        title, body = stories[0].title, _one(facts[0], canvas, plots)
        started = number(stories[0].run.get("started_at"))
    else:
        title, body = f"{len(stories)} runs", overlay.body(facts, canvas, plots)
        started = None
    drawn, places = charts.embedded(plots)
    for key, place in places.items():
        body = body.replace(f"<!--chart {key}-->", place)
    scripts = f"""<script type="application/json" id="facts">{json.dumps({"started_at": started})}</script>
<script>
{_own("page.js")}</script>
<script>
{charts.script()}
</script>
{canvas.payload}{drawn}
"""
    made = time.strftime("%Y-%m-%d %H:%M %Z")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="proctally {html(__version__)}">
<title>{html(title)} - proctally report</title>
<link rel="icon" href="data:,">
<style>
{_own("page.css")}{_own("charts.css")}{charts.style()}</style>
</head>
<body>
<a class="skip" href="#charts">Skip to the charts</a>
{body}
<footer>Made by proctally {html(__version__)}, {html(made)}. Charts by Bokeh (BSD-3-Clause). This file needs no
network.</footer>
{scripts if plots else ""}</body>
</html>
"""


def _own(name: str) -> str:
    return resources.files("proctally.views.report").joinpath(name).read_text(encoding="utf-8")


def _one(facts: Facts, canvas: charts.Canvas, plots: charts.Plots) -> str:
    story = facts.story
    return f"""<header>{head.title(facts)}</header>
<main>
{head.figures_that_matter(facts)}
<div class="two">{head.what_it_waited_for(facts)}{head.what_to_request(facts)}</div>
<section aria-labelledby="charts"><h2 id="charts" tabindex="-1">Over time</h2>
{drawings(facts, canvas, plots)}</section>
{tables.memory(facts)}{tables.commands(facts)}{tables.phases(story)}{tables.ground(facts)}</main>"""
