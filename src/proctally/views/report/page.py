"""A record as one HTML file that needs nothing else: head, charts, tables, and the one script of the charts."""

from __future__ import annotations

import json
import time
from importlib import resources

from proctally.record import __version__
from proctally.record.values import number
from proctally.text.escape import html
from proctally.text.units import duration
from proctally.views.report import charts, head, lanes, overlay, tables
from proctally.views.report.decimate import thin
from proctally.views.report.drawings import drawings
from proctally.views.report.plots import PLOTS
from proctally.views.report.run_facts import Facts
from proctally.views.report.series import Story, lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

BUCKETS = 2000  # spans of time with two rows each, twice what a screen has room for
MOST_MARKS = 60


def page(stories: Sequence[Story]) -> str:
    """The page of one run, or of several laid over each other."""
    facts = [Facts(story) for story in stories]
    wall = max(story.wall_seconds for story in stories)
    canvas = charts.Canvas(wall, [_columns(story) for story in stories], _marks(stories))
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
{_own("page.css")}</style>
</head>
<body>
<a class="skip" href="#charts">Skip to the charts</a>
{body}
<footer>Made by proctally {html(__version__)}, {html(made)}. Charts by Bokeh (BSD-3-Clause). This file needs no
network.</footer>
<script type="application/json" id="facts">{json.dumps({"started_at": started})}</script>
<script>
{_own("page.js")}</script>
<script>
{charts.script()}
</script>
{drawn}
</body>
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
{_thinned(story)}
{head.tools(story.wall_seconds)}
{drawings(facts, canvas, plots)}</section>
{tables.memory(facts)}{tables.commands(facts)}{tables.phases(story)}{tables.ground(facts)}</main>"""


def _thinned(story: Story) -> str:
    if len(story.times) <= 2 * BUCKETS:
        return ""
    span = duration(story.wall_seconds / BUCKETS)
    told = f"{story.samples:,} samples: of each {span} the smallest and the largest value are drawn."
    return f'<p class="small soft">{html(told)}</p>'


def _columns(story: Story) -> dict[str, Sequence[float]]:
    """What any chart of this run shows, thinned."""
    wanted = {line.key for plot in PLOTS for line in lines_of(story, plot)}
    times, columns = thin(story.times, {key: story.columns[key] for key in wanted}, BUCKETS)
    return {"time": times, **columns}


def _marks(stories: Sequence[Story]) -> list[float]:
    """The times at which phases of the one run begin and end, as long as they can be told apart."""
    if len(stories) > 1:
        return []
    marks = sorted({moment for bar in lanes.of_phases(stories[0]) for moment in (bar.begin, bar.end)})
    return marks if len(marks) <= MOST_MARKS else []
