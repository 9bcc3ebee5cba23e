"""A scene as lines of text: pure, for any width and height, for the screen and for plain text alike."""

from __future__ import annotations

from proctally.views.top.head import bad_news, head, low_head
from proctally.views.top.line import KEYS, NOTE, PLAIN, TITLE, Signs, apart, clipped, columns_of_line
from proctally.views.top.panel import panel
from proctally.views.top.scene import Scene
from proctally.views.top.table import View, low_table, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.top.line import Line

LOW_WIDTH, LOW_HEIGHT = 40, 8  # below these the view has its smallest form
LEAST_ROWS = 3
PANEL_WIDTH, PANEL_FROM, PANEL_HEIGHT = 70, 160, 20
HELP = (
    "up down PgUp PgDn   choose a process",
    "space, enter        fold or unfold its children",
    "left right          fold, unfold",
    "- +                 fold all, unfold all",
    "c w m i p n         sort by CPU, wait, memory, I/O, pid, name",
    "/                   find by name or pid; Esc shows all again",
    "t                   as a tree or as a list",
    "l                   whole command lines",
    "z                   hold the picture still, or go on",
    "b                   back to the list of runs",
    "q, Ctrl-C           quit",
)
ITEMS = ("c m i w sort", "space fold", "/ find", "t list", "l lines", "z hold")


def page(scene: Scene, view: View, width: int, height: int, signs: Signs) -> list[Line]:
    """Return the whole screen, at most `height` lines."""
    if view.helps:
        return _help(view, width, height, signs)
    is_low = width < LOW_WIDTH or height < LOW_HEIGHT
    room = max(1, height - 1) if height > LEAST_ROWS else height
    body = _low(scene, view, width, room, signs) if is_low else _body(scene, view, width, room, signs)
    if room == height:
        return body
    return [*body, *([] for _ in range(room - len(body))), clipped(_keys(view, width), width, signs)]


def _help(view: View, width: int, height: int, signs: Signs) -> list[Line]:
    lines: list[Line] = [[(TITLE, "proctally top: keys")]]
    lines += [[(PLAIN, text)] for text in HELP if view.can_go_back or not text.startswith("b ")]
    return [clipped(line, width, signs) for line in lines][:height]


def _low(scene: Scene, view: View, width: int, height: int, signs: Signs) -> list[Line]:
    above = low_head(scene, width, signs)
    if scene.ending is not None:
        return [*above[:1], *_ending(scene, width, signs)][:height]
    return (above + low_table(scene, view, width, max(0, height - len(above)), signs))[:height]


def _ending(scene: Scene, width: int, signs: Signs) -> list[Line]:
    return [clipped([(PLAIN, text)], width, signs) for text in scene.ending or ()]


def _body(scene: Scene, view: View, width: int, height: int, signs: Signs) -> list[Line]:
    if scene.ending is not None:
        return [*head(scene, width, signs, 1), *_ending(scene, width, signs)][:height]
    beside = panel(scene, PANEL_WIDTH, height - 1, signs) if width >= PANEL_FROM and height >= PANEL_HEIGHT else []
    left = width - PANEL_WIDTH - 2 if beside else width
    notes = [clipped(line, left, signs) for line in [*bad_news(scene), *([(NOTE, note)] for note in scene.notes)]]
    free = height - len(notes)
    most = max(1, free - max(LEAST_ROWS, min(len(scene.processes) + 1, free // 2)))
    above = head(scene, left, signs, most, has_panel=bool(beside))
    if beside:  # its first line is as wide as the screen
        above[0] = head(scene, width, signs, 1)[0]
    lines = (above + notes + table(scene, view, left, max(0, free - len(above)), signs))[:height]
    for place, line in enumerate(beside, 1):
        lines += [[] for _ in range(place + 1 - len(lines))]
        lines[place] = [*lines[place], (PLAIN, " " * (left + 2 - columns_of_line(lines[place]))), *line]
    return lines


def _keys(view: View, width: int) -> Line:
    if view.is_finding or view.wanted:
        what = f"find: {view.wanted}{'_' if view.is_finding else ''}"
        return apart([(KEYS, what)], "Esc all" if not view.is_finding else "Enter ok  Esc all", width, KEYS)
    start = ["HELD", "z go on"] if view.is_held else []
    if width < LOW_WIDTH:
        return apart([(KEYS, "  ".join([*start[:1], "q quit"]))], "? help", width, KEYS)
    items = [
        *start,
        "q quit",
        *(["b runs"] if view.can_go_back else []),
        *ITEMS[: -1 if view.is_held else None],
        "? help",
    ]
    while len("  ".join(items)) > width:
        del items[-2]
    return [(KEYS, "  ".join(items))]
