"""The charts of a page, by Bokeh: all over one time axis; cursor and values are elements of the page, see page.js.

Nothing of Bokeh but its models, its serialization and its one script is loaded.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from bokeh.core.properties import value
from bokeh.embed import components
from bokeh.models import (
    AdaptiveTicker,
    BoxZoomTool,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    DatetimeTicker,
    Grid,
    HBar,
    LinearAxis,
    Plot,
    Range1d,
    Scatter,
    Span,
    Text,
    VArea,
    VSpan,
    WheelZoomTool,
)
from bokeh.models import Line as LineGlyph
from bokeh.resources import Resources

from proctally.record.schema import BYTES
from proctally.views.report import lanes, payload
from proctally.views.report.decimate import thin
from proctally.views.report.plots import PARTS, PLOTS
from proctally.views.report.series import MAX_ROWS, is_flat, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proctally.record import JsonObject
    from proctally.views.report.lanes import Bar
    from proctally.views.report.series import Story

    Plots = JsonObject  # by the key of their place in the page

MILLISECONDS = 1000.0
HEIGHT = 130
LANE = 15
MARGIN = 34
LEFT = 70  # of every chart: one time stands at one place
BUCKETS = 1000  # spans of time with two rows each, twice what a screen has room for
MAX_DOTS = 300  # samples in sight, up to which each has a dot
MAX_MARKS = 60
SHARES = "tree.time."  # columns whose means are drawn where there are more samples than pixels; page.js does the same
MAIN = [line.key for plot in PLOTS for line in plot.lines if line.main]
# name of a colour in CSS: its value on light and on dark
PALETTE = {
    "computing": ("#1f6fb5", "#5aa2e6"), "ready": ("#c2410c", "#f0884a"), "memory": ("#0f766e", "#3fb8a9"),
    "disk": ("#7b3fa6", "#bb8fe3"), "throttled": ("#8a6100", "#d9b23a"), "green": ("#17723d", "#5fcf8e"),
    "pink": ("#a8457f", "#e58fc0"), "asleep": ("#7d8792", "#7f8a96"), "limit": ("#b3263e", "#ff8a9b"),
}  # fmt: skip
HATCHES = {"ready": "right_diagonal_line", "disk": "dot"}  # parts differ by more than their colours


@dataclass(slots=True)
class Chart:
    """One chart as it is drawn: lines are (column, table, label, colour, dash); `colour`: a key of PALETTE.

    `levels`: (value, colour) of lines across. `band`: whether the second line is the lower bound of the first, else
    `filled`: whether the area under the first line is. `stacked`: whether each line stands on the one before. `aside`:
    whether it is folded at first.
    """

    key: str
    title: str
    unit: str
    top: float
    lines: Sequence[tuple[str, int, str, str, str]]
    levels: Sequence[tuple[float, str]] = ()
    band: bool = False
    filled: bool = False
    stacked: bool = False
    aside: bool = False


class Canvas:
    """What the charts of one page share: the time axis and the tables.

    `charts`: those of lines that were drawn so far; `is_empty`: whether nothing was drawn.
    """

    def __init__(self, stories: Sequence[Story]) -> None:
        end = max(*(story.wall_seconds for story in stories), 0.001) * MILLISECONDS
        pad = end / 200
        self.charts: list[Chart] = []
        self.is_empty = True
        self.is_one = len(stories) == 1
        self.time = Range1d(start=-pad, end=end + pad, bounds=(-pad, end + pad), min_interval=1, name="time")
        self.time.js_on_change("start", CustomJS(code="proctally.fit()"))
        self.time.js_on_change("end", CustomJS(code="proctally.fit()"))
        self.payload = ""
        self.takes_all = sum(len(story.times) for story in stories) <= MAX_ROWS
        self.tables = [self._table(number, story) for number, story in enumerate(stories)]
        marks = _marks(stories[0]) if self.is_one else []
        self.marks = ColumnDataSource({"x": [mark * MILLISECONDS for mark in marks]})

    def _table(self, number: int, story: Story) -> ColumnDataSource:
        """Return the rows that are drawn at first; where they are not all, these travel in the payload."""
        columns = _columns(story) if self.is_one else {key: story.columns[key] for key in MAIN if story.peak(key)}
        shares = [key for key in columns if key.startswith(SHARES)]
        times, thinned = thin(story.times, columns, BUCKETS, means=shares)
        if len(times) < len(story.times) and self.takes_all:
            self.payload += payload.element(number, story.times, columns)
        data = {key: array("f", column) for key, column in thinned.items()}
        data["time"] = array("d", [time * MILLISECONDS for time in times])
        return ColumnDataSource(data, name=f"table{number}")

    def chart(self, chart: Chart) -> Plot:
        """Return a chart of lines over time."""
        self.charts.append(chart)
        plot = self._plot(HEIGHT, Range1d(start=0, end=chart.top, bounds=(0, chart.top)), chart.key)
        ticks = CustomJSTickFormatter(code=f"return proctally.tick({chart.unit!r}, tick, ticks)")
        ticker = AdaptiveTicker(desired_num_ticks=3, num_minor_ticks=0)
        if chart.unit in (BYTES, f"{BYTES}/s"):
            ticker.base, ticker.mantissas = 1024, [2**power for power in range(10)]
        plot.add_layout(LinearAxis(ticker=ticker, formatter=ticks), "left")
        plot.add_layout(Grid(dimension=1, ticker=ticker))
        for level, colour in chart.levels:
            line = Span(location=level, dimension="width", line_dash="dashed", level="underlay", tags=[colour])
            line.line_color = PALETTE[colour][0]
            plot.add_layout(line)
        for area, table in _areas(chart):
            plot.add_glyph(self.tables[table], area)
        for column, table, _, colour, dash in () if chart.stacked else reversed(chart.lines):  # the first on top
            ink, tags = PALETTE[colour][0], [colour]
            source = self.tables[table]
            line = LineGlyph(x="time", y=column, line_color=ink, line_width=1.6, line_dash=dash, tags=tags)
            plot.add_glyph(source, line)
            dot = Scatter(x="time", y=column, size=4, fill_color=ink, line_color=ink, tags=tags)
            plot.add_glyph(source, dot, name=f"dots{table}", visible=len(source.data["time"]) <= MAX_DOTS)
        return plot

    def bars(
        self, key: str, bars: Sequence[Bar], colours: Sequence[str], names: Sequence[str], shown: Sequence[str]
    ) -> Plot:
        """Return bars in lanes, each with a name and the text that the page shows at the cursor."""
        count = max((bar.lane for bar in bars), default=0) + 1
        plot = self._plot(count * LANE + MARGIN, Range1d(start=count - 0.4, end=-0.6), key)
        plot.add_layout(LinearAxis(visible=False), "left")
        begin, end = [bar.begin * MILLISECONDS for bar in bars], [bar.end * MILLISECONDS for bar in bars]
        source = ColumnDataSource(
            {
                "begin": begin, "end": end, "lane": [bar.lane for bar in bars], "colour": colours, "name": names,
                "at": begin, "fits": [""] * len(bars), "shown": shown,
            },
            name=f"bars-{key}",
        )  # fmt: skip
        plot.add_glyph(
            source,
            HBar(
                y="lane", left="begin", right="end", height=0.86, fill_color="colour", line_color="colour",
                line_width=1,
            ),
        )  # fmt: skip
        plot.add_glyph(
            source,
            Text(
                x="at", y="lane", text="fits", x_offset=4, text_color="#ffffff", text_font_size="11px",
                text_baseline="middle", text_font=value("system-ui, sans-serif"),
            ),
        )  # fmt: skip
        return plot

    def _plot(self, height: int, values: Range1d, name: str) -> Plot:
        self.is_empty = False
        plot = Plot(
            x_range=self.time, y_range=values, height=height, sizing_mode="stretch_width", name=name,
            toolbar_location=None,
            min_border_left=LEFT, min_border_right=10, min_border_top=6, min_border_bottom=22, border_fill_color=None,
            background_fill_color=None, outline_line_color=None, output_backend="canvas",
        )  # fmt: skip
        ticker = DatetimeTicker(desired_num_ticks=6)
        axis = LinearAxis(
            ticker=ticker, formatter=CustomJSTickFormatter(code="return proctally.tick('time', tick, ticks)")
        )
        plot.add_layout(axis, "below")
        plot.add_layout(Grid(dimension=0, ticker=ticker))
        if self.marks.data["x"]:
            plot.add_glyph(self.marks, VSpan(x="x", line_color="#9b6dd6", line_dash="dotted", line_alpha=0.7))
        drag = BoxZoomTool(dimensions="width", name="gesture")
        wheel = WheelZoomTool(dimensions="width", modifiers={"ctrl": True}, name="gesture")
        plot.add_tools(drag, wheel)
        plot.toolbar.active_drag = drag
        plot.toolbar.active_scroll = wheel
        return plot


def _marks(story: Story) -> list[float]:
    """Return the times at which phases begin and end, as long as they can be told apart."""
    marks = sorted({moment for bar in lanes.of_phases(story) for moment in (bar.begin, bar.end)})
    return marks if len(marks) <= MAX_MARKS else []


def _columns(story: Story) -> dict[str, array[float]]:
    """Return what the charts of one run show: of the parts of the time each on top of those before."""
    found = {}
    for plot, rows in shown(story)[0]:
        below = array("f", bytes(4 * len(story.times)))
        for line in () if is_flat(story, plot, rows) else rows:
            found[line.key] = story.columns[line.key]
            if plot.key == PARTS:  # an interval with more than its time, since a part came late, is cut
                pairs = zip(story.columns[line.key], below, strict=True)
                below = found[line.key] = array("f", [min(part + under, plot.most) for part, under in pairs])
    return found


def _areas(chart: Chart) -> Iterator[tuple[VArea, int]]:
    """Yield the areas of a chart with their tables."""
    if chart.band:
        (high, table, _, colour, _), (low, *_) = chart.lines[:2]
        yield _area(0, low, colour, 0.30), table
        yield _area(low, high, colour, 0.30, hatch="right_diagonal_line"), table
    elif chart.filled:
        column, table, _, colour, _ = chart.lines[0]
        yield _area(0, column, colour, 0.16), table
    elif chart.stacked:
        below: str | int = 0
        for column, table, _, colour, _ in chart.lines:
            yield _area(below, column, colour, 0.85, hatch=HATCHES.get(colour)), table
            below = column


def _area(low: str | int, high: str, colour: str, alpha: float, hatch: str | None = None) -> VArea:
    area = VArea(x="time", y1=low, y2=high, fill_color=PALETTE[colour][0], fill_alpha=alpha, tags=[colour])
    if hatch:
        area.hatch_pattern, area.hatch_color, area.hatch_alpha, area.hatch_scale = hatch, "#ffffff", 0.5, 6
    return area


def style() -> str:
    """Return the colours of the charts as CSS."""
    light, dark = ("".join(f" --chart-{name}: {pair[n]};" for name, pair in PALETTE.items()) for n in (0, 1))
    return (
        f":root {{{light} }}\n"
        f'@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{{dark} }} }}\n'
        f'@media screen {{ :root[data-theme="dark"] {{{dark} }} }}\n'
    )


def script() -> str:
    """Return the text of Bokeh's own script, without the parts for servers, widgets, tables and WebGL."""
    return str(Resources(mode="inline", components=["bokeh"]).js_raw[0])


def embedded(plots: Plots) -> tuple[str, dict[str, str]]:
    """Return a script element that draws all of them, and for each the element that it is drawn into."""
    if not plots:  # Bokeh refuses to draw nothing
        return "", {}
    made, places = components(plots, wrap_script=True)
    return str(made), {str(key): str(place) for key, place in places.items()}
