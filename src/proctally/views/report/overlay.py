"""Several runs laid over each other: their figures side by side, and a chart for each thing to compare."""

from __future__ import annotations

from proctally.text.escape import html
from proctally.views.report import charts, run_facts, waits
from proctally.views.report.drawings import COLOURS, HEAD_ROOM, entry, framed, spoken
from proctally.views.report.markup import bullets, table
from proctally.views.report.plots import PLOTS
from proctally.views.report.readout import tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.views.report.run_facts import Facts

DASHES = ("solid", "dashed", "dotted")


def body(facts: Sequence[Facts], canvas: charts.Canvas, plots: charts.Plots) -> str:
    """The page's body; each chart is added to `plots` by its key."""
    names = run_facts.labels(facts)
    styles = [(COLOURS[n % len(COLOURS)], DASHES[n // len(COLOURS) % len(DASHES)]) for n in range(len(facts))]
    parts = []
    for plot in PLOTS:
        for line in plot.lines:
            there = [n for n, one in enumerate(facts) if line.main and one.story.peak(line.key)]
            if there:
                key = line.key.replace(".", "-")
                peak = max(facts[n].story.peak(line.key) or 0.0 for n in there)
                lines = [(line.key, n, names[n], *styles[n]) for n in there]
                plots[key] = canvas.chart(charts.Chart(key, line.main, plot.unit, plot.most or peak * HEAD_ROOM, lines))
                legend = [entry(names[n], *styles[n], spoken(facts[n].story, plot, line)) for n in there]
                parts.append(framed(key, line.main, legend, plot.note))
    heads = ["Figure", *(_swatch(colour) + html(name) for name, (colour, _) in zip(names, styles, strict=True))]
    rows = [[html(label), *map(html, values)] for label, values in run_facts.side_by_side(facts)]
    ends = "".join(_end(one, name) for one, name in zip(facts, names, strict=True))
    return f"""<header><h1>{len(facts)} runs, laid over each other</h1>
<p class="soft">Each from its own start.</p></header>
<main>
{table("Figures of the runs", "", heads, rows)}
<section aria-labelledby="charts"><h2 id="charts" tabindex="-1">Over time</h2>
{tools(max(one.wall for one in facts), canvas)}
<div class="charts">{"".join(parts)}</div></section>
{ends}</main>"""


def _swatch(colour: str) -> str:
    return f'<span class="bar" style="width:14px;background:var(--chart-{colour})" aria-hidden="true"></span>'


def _end(facts: Facts, name: str) -> str:
    return f"""<section><h2>{html(name)}</h2><p>{html(waits.headline(facts))}</p>
<p class="soft small">What its numbers cannot see:</p>{bullets(run_facts.unseen(facts))}</section>
"""
