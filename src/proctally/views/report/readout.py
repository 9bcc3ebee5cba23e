"""The controls of the time axis and the values of all charts at the cursor, in one panel that stays in sight."""

from __future__ import annotations

from proctally.text.escape import html

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.report.charts import Canvas, Chart

BUTTONS = (
    ("in", "Zoom in"),
    ("out", "Zoom out"),
    ("left", "Earlier"),
    ("right", "Later"),
    ("all", "Show all"),
)


def tools(wall_seconds: float, canvas: Canvas) -> str:
    """Return the panel for what was drawn so far."""
    if canvas.is_empty:
        return ""
    most = max(wall_seconds, 0.001) * 1000
    buttons = "".join(f'<button type="button" data-act="{act}">{label}</button>\n' for act, label in BUTTONS)
    return f"""<div class="tools" role="group" aria-label="Time axis and values of all charts">
<div class="controls">
{buttons}<input type="range" id="cursor" min="0" max="{most:.0f}" value="0" step="any"
 aria-label="Cursor: arrow keys move it by a sample">
<button type="button" data-act="theme">Dark / light</button>
</div>
<div class="readout" role="group" aria-label="Values at the cursor" tabindex="0">
<output id="at" for="cursor" aria-live="off">Point at a chart or move the slider; drag to zoom.</output>
<dl>
{"".join(map(_values, canvas.charts))}</dl></div>
</div>
<noscript><p>The charts need JavaScript; all figures and tables are here without it.</p></noscript>
"""


def _values(chart: Chart) -> str:
    low = chart.lines[1][0] if chart.band else ""
    cells, below = "", ""
    for column, table, label, colour, dash in chart.lines:
        if column == low:  # stands in the range of the first
            continue
        least = low if chart.band and not cells else ""
        cells += (
            f'<dd><span class="{dash}" style="--line:var(--chart-{colour})">{html(label)}</span>'
            f' <b class="now" data-column="{html(column)}" data-table="{table}" data-unit="{html(chart.unit)}"'
            f' data-low="{html(least)}" data-below="{html(below)}"></b></dd>'
        )
        below = column if chart.stacked else ""
    aside = ' class="aside" hidden' if chart.aside else ""
    return f"<div{aside}><dt>{html(chart.title)}</dt>{cells}</div>\n"
