"""The two diagrams of each run as SVG, from the same template as in the page; and that as PNG."""

from __future__ import annotations

from proctally.text.cells import cut, cut_middle
from proctally.text.units import brief
from proctally.views import summary
from proctally.views.report import head
from proctally.views.report.markup import plain_style, rendered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.record import JsonObject
    from proctally.views.report.run_facts import Facts

LINE = 118  # cells of a line of text
TITLE = 30  # cells of a name
BAR, BRACKET, TEXT = 52, 66, 24  # heights of a row
TOP, BETWEEN = 46, 24
SCALE = 2  # pixels of a PNG for one of the SVG


def svg(runs: Sequence[Facts]) -> str:
    """Return the diagrams of these runs under each other."""
    drawn: list[JsonObject] = []
    top = 10
    for facts in runs:
        one = _run(facts)
        drawn.append(one | {"top": top})
        top += one["height"] + BETWEEN
    title = "; ".join(one["title"] for one in drawn)
    return rendered("image.svg", runs=drawn, height=top, title=title, style=plain_style())


def png(runs: Sequence[Facts]) -> bytes:
    """Return the same in pixels; needs resvg-py."""
    from resvg_py import svg_to_bytes

    return bytes(svg_to_bytes(svg_string=svg(runs), zoom=SCALE))


def _run(facts: Facts) -> JsonObject:
    verdict, but, _ = summary.headline(facts.story.summary) if facts.whole else (facts.verdict, "", "")
    rows: list[JsonObject] = []
    height = TOP

    def add(room: int, **row: object) -> None:
        nonlocal height
        rows.append({"bar": None, "bracket": None, "text": "", "soft": False} | row | {"top": height})
        height += room

    time, memory = head.time_of(facts), head.memory(facts)
    if time and time["bar"]:
        add(BAR, bar=time["bar"])
        add(TEXT, text=cut(facts.time.text, LINE))
    if memory and memory["bracket"]:
        add(BRACKET, bracket=memory["bracket"])
        add(TEXT, text=cut(", ".join(f"{key.figure} {key.text}" for key in memory["bracket"].key), LINE))
        for line in memory["lines"]:
            add(TEXT, text=cut(line, LINE), soft=True)
    name = cut_middle(facts.story.title, TITLE)
    return {"title": f"{name} · {verdict}{but} · {brief(facts.wall)}", "rows": rows, "height": height}
