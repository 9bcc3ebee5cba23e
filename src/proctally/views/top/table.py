"""The table of processes: their order, and the rows that are in sight."""

from __future__ import annotations

from dataclasses import dataclass, field

from proctally.text.cells import columns_of
from proctally.text.units import cpu_time, size
from proctally.views.top.line import CHOSEN, HEADING, PLAIN, SORTED, clipped
from proctally.views.top.scene import Figures, Process, Scene

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.views.top.line import Line, Signs

    Key = Callable[[Process], float]
    Placed = tuple[Process, int, bool]  # a process, how deep it stands, and whether there are others below it

UNKNOWN = "-"
MIB = 1 << 20
LEAST_NAME = 12
STATES_FROM = 100  # cells from which on there are the state and the threads
MAX_INDENT = 20
STEADY = 0.1  # cores by which processes must differ to change places
NARROW = 0.02  # of the upper bound: memory whose bounds are closer is one figure


@dataclass(slots=True)
class View:
    """What the user has chosen to see."""

    sort: str = "cpu"
    is_tree: bool = True
    whole_lines: bool = False
    folded: set[int] = field(default_factory=set)
    chosen: int | None = None
    first: int = 0  # the row at the top
    is_held: bool = False
    helps: bool = False
    can_go_back: bool = False
    is_finding: bool = False  # whether keys go to `wanted`
    wanted: str = ""  # part of a name, or the beginning of a pid
    order: list[Placed] = field(default_factory=list)  # the last one
    made_from: tuple[object, ...] = ()  # what that was made from


@dataclass(slots=True)
class TableRow:
    """One row of the table: a process, or one with all that is folded into it."""

    process: Process
    figures: Figures
    depth: int = 0
    has_children: bool = False
    hidden: int = 0


# -- their order -----------------------------------------------------------------------------------------------------


def _cores_of(process: Process) -> float:
    return process.figures.cores or 0.0


KEYS: dict[str, Key] = {
    "cpu": _cores_of,
    "wait": lambda process: process.figures.wait or 0.0,
    "memory": lambda process: process.figures.high or 0.0,
    "io": lambda process: process.figures.io or 0.0,
}
SORTS = (*KEYS, "pid", "name")


def _order(sort: str, amounts: dict[int, float]) -> Callable[[Process], tuple[float | str, int]]:
    if sort == "pid":
        return lambda process: (process.pid, 0)
    if sort == "name":
        return lambda process: (process.command, process.pid)
    if sort in ("cpu", "wait"):
        return lambda process: (-round(amounts[process.pid] / STEADY), process.pid)
    return lambda process: (-amounts[process.pid], process.pid)


def is_tree(scene: Scene, view: View) -> bool:
    """Return whether the table is a tree: a record alone has no parents, and what is found stands in a list."""
    return view.is_tree and scene.is_whole and not view.wanted


def placed(scene: Scene, view: View) -> list[Placed]:
    """Return the processes in their order; the same list as before while nothing changes it."""
    made_from = view.sort, is_tree(scene, view), frozenset(view.folded), view.wanted
    if view.made_from[1:] != made_from or view.made_from[0] is not scene.processes:
        view.order, view.made_from = _placed(scene, view), (scene.processes, *made_from)
    return view.order


def _placed(scene: Scene, view: View) -> list[Placed]:
    """Return the processes in their order. In a tree each stands below its parent; its place is by the sums below."""
    key = KEYS.get(view.sort)
    if not is_tree(scene, view):
        processes = [process for process in scene.processes if _is_wanted(process, view.wanted)]
        amounts = {process.pid: key(process) for process in processes} if key else {}
        return [(process, 0, False) for process in sorted(processes, key=_order(view.sort, amounts))]
    known = {process.pid: process for process in scene.processes}
    children = _children(known)
    amounts = _sums(known, children, key) if key else {}
    order = _order(view.sort, amounts)
    found: list[Placed] = []
    waiting = [(process, 0) for process in sorted(children.get(None, ()), key=order, reverse=True)]
    while waiting:  # taken from the end
        process, depth = waiting.pop()
        below = children.get(process.pid)
        found.append((process, depth, below is not None))
        if below is not None and process.pid not in view.folded:
            waiting += [(child, depth + 1) for child in sorted(below, key=order, reverse=True)]
    return found


def _is_wanted(process: Process, wanted: str) -> bool:
    return not wanted or wanted.lower() in process.command.lower() or str(process.pid).startswith(wanted)


def _children(known: dict[int, Process]) -> dict[int | None, list[Process]]:
    children: dict[int | None, list[Process]] = {}
    for process in known.values():
        parent = process.parent if process.parent in known and process.parent != process.pid else None
        children.setdefault(parent, []).append(process)
    return children


def _sums(known: dict[int, Process], children: dict[int | None, list[Process]], key: Key) -> dict[int, float]:
    """Return by pid the sum of a process and all below it."""
    sums = {pid: key(process) for pid, process in known.items()}
    for pid in reversed([pid for pid in _downwards(None, children) if pid in children]):
        sums[pid] += sum(sums[child.pid] for child in children[pid])
    return sums


def _downwards(pid: int | None, children: dict[int | None, list[Process]]) -> list[int]:
    """Return the pids below one, each before those below it."""
    order = [process.pid for process in children.get(pid, ())]
    for each in order:  # it grows meanwhile
        order += [child.pid for child in children.get(each, ())]
    return order


def rows(scene: Scene, view: View) -> list[TableRow]:
    """Return all rows of the table in their order."""
    return _rows(scene, view, placed(scene, view))


def _rows(scene: Scene, view: View, shown: list[Placed]) -> list[TableRow]:
    found = []
    below: tuple[dict[int, Process], dict[int | None, list[Process]]] | None = None
    for process, depth, has_children in shown:
        row = TableRow(process, process.figures, depth, has_children)
        if has_children and process.pid in view.folded:
            if below is None:
                known = {each.pid: each for each in scene.processes}
                below = known, _children(known)
            pids = _downwards(process.pid, below[1])
            row.hidden = len(pids)
            for pid in pids:
                row.figures = row.figures + below[0][pid].figures
        found.append(row)
    return found


# -- its columns -----------------------------------------------------------------------------------------------------


def short(count: float | None) -> str:
    """Return bytes in at most five cells, such as `172M`."""
    return UNKNOWN if count is None else size(count, short=True).replace(" ", "")


def _cores(cores: float | None) -> str:
    return UNKNOWN if cores is None else f"{cores:.2f}" if cores < 99.995 else f"{cores:.0f}"


def memory(low: float | None, high: float | None) -> str:
    """Return MiB, such as `2.1` or `169..172`; from 10,000 MiB on GiB with their unit."""
    if high is None:
        return UNKNOWN
    if high >= 9999.5 * MIB:
        return short(high)
    if low is not None and high - low > NARROW * high and high >= MIB:
        digits = 0 if high >= 9.95 * MIB else 1
        return f"{low / MIB:.{digits}f}..{high / MIB:.{digits}f}"
    return f"{high / MIB:.{0 if high >= 99.95 * MIB else 1}f}"


@dataclass(frozen=True)
class Column:
    """A column: its heading, its width, the text of a row, what sorts by it, and how soon it gives way."""

    heading: str
    width: int
    text: Callable[[TableRow], str]
    sort: str
    gives_way: int


COLUMNS = (
    Column("PID", 6, lambda row: str(row.process.pid), "pid", 2),
    Column("S", 2, lambda row: row.process.state or UNKNOWN, "", 8),
    Column("THR", 5, lambda row: UNKNOWN if row.figures.threads is None else f"{row.figures.threads:.0f}", "", 9),
    Column("USED", 7, lambda row: _cores(row.figures.cores), "cpu", 0),
    Column("WAIT", 6, lambda row: _cores(row.figures.wait), "wait", 3),
    Column(
        "TIME", 6, lambda row: UNKNOWN if row.figures.cpu_seconds is None else cpu_time(row.figures.cpu_seconds), "", 5
    ),
    Column("MEMORY", 9, lambda row: memory(row.figures.low, row.figures.high), "memory", 1),
    Column("READ", 7, lambda row: short(row.figures.read), "io", 6),
    Column("WRITE", 7, lambda row: short(row.figures.write), "io", 7),
)
STATES = ("S", "THR")
OF_RECORDS = ("PID", "USED", "MEMORY")  # what samples of a record have of single processes


def columns(width: int, *, of_record: bool, whole_lines: bool = False) -> list[Column]:
    """Return the columns for which there is room beside the name; a whole command line has half of the width."""
    name = max(LEAST_NAME, width // 2) if whole_lines else LEAST_NAME
    kept = [column for column in COLUMNS if not of_record or column.heading in OF_RECORDS]
    if width < STATES_FROM:
        kept = [column for column in kept if column.heading not in STATES]
    while kept and sum(column.width for column in kept) + name > width:
        kept.remove(max(kept, key=lambda column: column.gives_way))
    return kept


# -- the table -------------------------------------------------------------------------------------------------------


def table(scene: Scene, view: View, width: int, height: int, signs: Signs) -> list[Line]:
    """Return the heading and as many rows as fit, those around the chosen one."""
    found = in_sight(scene, view, max(1, height - 1))
    if not scene.processes:
        return []
    kept = columns(width, of_record=not scene.is_whole, whole_lines=view.whole_lines)
    pid = max((len(str(row.process.pid)) for row in found), default=0)
    widths = [max(column.width, pid) if column.heading == "PID" else column.width for column in kept]
    heading: Line = [
        (SORTED if column.sort == view.sort else HEADING, f"{column.heading:>{wide}}")
        for column, wide in zip(kept, widths, strict=True)
    ]
    heading.append((SORTED if view.sort == "name" else HEADING, "  COMMAND"))
    lines = [clipped(heading, width, signs)]
    for row in found:
        figures = "".join(f"{column.text(row):>{wide}}" for column, wide in zip(kept, widths, strict=True))
        lines.append(_line(f"{figures}  {_name(scene, view, row, signs)}", row, view, width, signs))
    return lines


def low_table(scene: Scene, view: View, width: int, height: int, signs: Signs) -> list[Line]:
    """Return rows without a heading, for the smallest terminals."""
    lines = []
    for row in in_sight(scene, view, height):
        figures = f"{_cores(row.figures.cores):>6} {short(row.figures.high):>5}"
        lines.append(_line(f"{figures} {signs.name(row.process.command)}", row, view, width, signs))
    return lines


def in_sight(scene: Scene, view: View, room: int) -> list[TableRow]:
    """Return the rows in sight; moves `view.first` so that the chosen one is among them."""
    found = placed(scene, view)
    if view.chosen is not None:
        place = next((place for place, (process, *_) in enumerate(found) if process.pid == view.chosen), None)
        if place is not None:
            view.first = min(max(view.first, place - room + 1), place)
    view.first = max(0, min(view.first, len(found) - room))
    return _rows(scene, view, found[view.first : view.first + room])


def _line(text: str, row: TableRow, view: View, width: int, signs: Signs) -> Line:
    is_chosen = row.process.pid == view.chosen
    padded = text + " " * max(0, width - columns_of(text)) if is_chosen else text
    return clipped([(CHOSEN if is_chosen else PLAIN, padded)], width, signs)


def _name(scene: Scene, view: View, row: TableRow, signs: Signs) -> str:
    process = row.process
    name = signs.name(scene.line_of(process) if view.whole_lines else process.command)
    if not is_tree(scene, view):
        return name
    sign = " " if not row.has_children else signs.folded if row.hidden else signs.open
    hidden = f" (+{row.hidden})" if row.hidden else ""
    return f"{'  ' * min(row.depth, MAX_INDENT)}{sign} {name}{hidden}"
