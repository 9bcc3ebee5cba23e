"""The charts of a page, by Bokeh: all over one time axis, with one cursor; what looks are made of is CSS, see page.css.

Nothing of Bokeh but its models, its serialization and its one script is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from bokeh.core.properties import value
from bokeh.embed import components
from bokeh.models import (
    AdaptiveTicker,
    BoxZoomTool,
    ColumnDataSource,
    CrosshairTool,
    CustomJS,
    CustomJSHover,
    CustomJSTickFormatter,
    DatetimeTicker,
    Grid,
    HBar,
    HoverTool,
    LinearAxis,
    Plot,
    Range1d,
    Scatter,
    Span,
    Text,
    VSpan,
    WheelZoomTool,
)
from bokeh.models import Line as LineGlyph
from bokeh.resources import Resources
from numpy import array as ndarray
from numpy import isfinite, zeros

from proctally.record.schema import BYTES
from proctally.views.report.plots import UNITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.record import JsonObject
    from proctally.views.report.lanes import Bar

    Plots = JsonObject  # by the key of their place in the page

MILLISECONDS = 1000.0
HEIGHT = 190
LANE = 17
MARGIN = 40
LEFT = 70  # of every chart: one time stands at one place
HOVER = "_hover"


@dataclass(slots=True)
class Chart:
    """One chart as it is drawn: lines are (column, table, label, colour, dash), levels (label, value)."""

    key: str
    unit: str
    top: float
    lines: Sequence[tuple[str, int, str, str, str]]
    levels: Sequence[float]


class Canvas:
    """What the charts of one page share: the time axis, the cursor, the tools and the tables."""

    def __init__(
        self, wall_seconds: float, tables: Sequence[dict[str, Sequence[float]]], marks: Sequence[float]
    ) -> None:
        """`tables`: columns of the same length, one of which is `time`, in seconds; `marks`: times of phases."""
        end = max(wall_seconds, 0.001) * MILLISECONDS
        pad = end / 200
        self.time = Range1d(start=-pad, end=end + pad, bounds=(-pad, end + pad), min_interval=1, name="time")
        self.cursor = Span(dimension="height", line_width=1, line_color="#7f8993", name="cursor")
        self.tables = [
            ColumnDataSource({key: _packed(key, values) for key, values in table.items()}, name=f"table{number}")
            for number, table in enumerate(tables)
        ]
        for table in self.tables:
            table.data[HOVER] = zeros(len(table.data["time"]), dtype="float32")
        self.marks = ColumnDataSource({"x": [mark * MILLISECONDS for mark in marks]})
        self.moved = CustomJS(code="proctally.point(cb_obj.x)")
        self.time.js_on_change("start", CustomJS(code="proctally.fit()"))
        self.time.js_on_change("end", CustomJS(code="proctally.fit()"))
        self.value = {unit: CustomJSHover(code=f"return proctally.said({unit!r}, value)") for unit in (*UNITS, "time")}

    def chart(self, chart: Chart) -> Plot:
        """Lines over time."""
        plot = self._plot(HEIGHT, Range1d(start=0, end=chart.top, bounds=(0, chart.top)), chart.key)
        ticks = CustomJSTickFormatter(code=f"return proctally.tick({chart.unit!r}, tick, ticks)")
        ticker = AdaptiveTicker(desired_num_ticks=4, num_minor_ticks=0)
        if chart.unit in (BYTES, f"{BYTES}/s"):
            ticker.base, ticker.mantissas = 1024, [2**power for power in range(10)]
        plot.add_layout(LinearAxis(ticker=ticker, formatter=ticks), "left")
        plot.add_layout(Grid(dimension=1, ticker=ticker))
        for column, table, _, colour, dash in reversed(chart.lines):  # the first, the job's, over the others
            glyph = LineGlyph(x="time", y=column, line_color=colour, line_width=1.6, line_dash=dash, line_join="round")
            plot.add_glyph(self.tables[table], glyph)
            if isfinite(self.tables[table].data[column]).sum() == 1:  # a line needs two
                dot = Scatter(x="time", y=column, size=5, fill_color=colour, line_color=colour)
                plot.add_glyph(self.tables[table], dot)
        for level in chart.levels:
            plot.add_layout(Span(location=level, dimension="width", line_color="#d6455d", line_dash="dashed"))
        if len(self.tables) == 1:
            self._told(plot, chart)
        return plot

    def _told(self, plot: Plot, chart: Chart) -> None:
        """What its lines say where it is pointed at; of several runs the legends tell that."""
        under = plot.add_glyph(self.tables[0], LineGlyph(x="time", y=HOVER, line_alpha=0))
        tips = [
            ("at", "@{time}{custom}"),
            *((label, f"@{{{column}}}{{custom}}") for column, _, label, *_ in chart.lines),
        ]
        formatters = {f"@{{{column}}}": self.value[chart.unit] for column, *_ in chart.lines}
        formatters["@{time}"] = self.value["time"]
        plot.add_tools(
            HoverTool(
                mode="vline", renderers=[under], tooltips=tips, formatters=formatters, point_policy="follow_mouse",
                line_policy="nearest", attachment="horizontal",
            )
        )  # fmt: skip

    def bars(
        self, key: str, bars: Sequence[Bar], colours: Sequence[str], names: Sequence[str], told: Sequence[str]
    ) -> Plot:
        """Bars in lanes, each with a name and what is told of it when it is pointed at."""
        lanes = max((bar.lane for bar in bars), default=0) + 1
        plot = self._plot(lanes * LANE + MARGIN, Range1d(start=lanes - 0.4, end=-0.6), key)
        plot.add_layout(LinearAxis(visible=False), "left")
        begin, end = [bar.begin * MILLISECONDS for bar in bars], [bar.end * MILLISECONDS for bar in bars]
        source = ColumnDataSource(
            {
                "begin": begin, "end": end, "lane": [bar.lane for bar in bars], "colour": colours, "name": names,
                "at": begin, "fits": [""] * len(bars), "told": told,
            },
            name=f"bars-{key}",
        )  # fmt: skip
        drawn = plot.add_glyph(
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
        plot.add_tools(
            HoverTool(renderers=[drawn], tooltips=[("", "@name"), ("", "@told")], point_policy="follow_mouse")
        )
        return plot

    def _plot(self, height: int, values: Range1d, name: str) -> Plot:
        plot = Plot(
            x_range=self.time, y_range=values, height=height, sizing_mode="stretch_width", name=name,
            toolbar_location=None,
            min_border_left=LEFT, min_border_right=10, min_border_top=6, min_border_bottom=24, border_fill_color=None,
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
        plot.add_tools(drag, wheel, CrosshairTool(overlay=self.cursor))
        plot.toolbar.active_drag = drag
        plot.toolbar.active_scroll = wheel
        plot.js_on_event("mousemove", self.moved)
        return plot


def _packed(key: str, values: Sequence[float]) -> object:
    """As the page gets it: times in milliseconds, values as single floats, which is finer than a pixel."""
    return ndarray(values, dtype="float64") * MILLISECONDS if key == "time" else ndarray(values, dtype="float32")


def script() -> str:
    """The text of Bokeh's own script, without the parts for servers, widgets, tables and WebGL."""
    return str(Resources(mode="inline", components=["bokeh"]).js_raw[0])


def embedded(plots: Plots) -> tuple[str, dict[str, str]]:
    """A script element that draws all of them, and for each the element that it is drawn into."""
    if not plots:  # Bokeh refuses to draw nothing
        return "", {}
    made, places = components(plots, wrap_script=True)
    return str(made), {str(key): str(place) for key, place in places.items()}
