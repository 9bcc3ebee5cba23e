"""A scene as lines of text: pure, for any width and height, for the screen and for plain text alike.

A line is a list of pieces, each a style and its text. Names come from strangers: what is no printable character is
shown in its escaped form, and no text is ever read as markup.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proctally.analysis.memory import HeldMemory
from proctally.analysis.others import Others
from proctally.record.values import number, objects_at, value_at
from proctally.text.cells import columns_of, cut, sparkline
from proctally.text.escape import printable
from proctally.text.units import cpu_time, duration, rate, size
from proctally.views.top.scene import Figures, Process, Scene, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Line = list[tuple[str, str]]

TITLE, LABEL, PLAIN, STRONG, GRAPH, HEADING, CHOSEN, NOTE, KEYS = (
    "title", "label", "plain", "strong", "graph", "heading", "chosen", "note", "keys",
)  # fmt: skip
UNKNOWN = "-"
LABEL_WIDTH, FIGURE_WIDTH, TAIL_WIDTH = 7, 11, 36
LEAST_GRAPH, MOST_GRAPH = 8, 60
LEAST_NAME = 12
LEAST_ROWS = 3
STEADY_CORES = 0.1  # processes whose CPU differs by less do not change places
SORTS = ("cpu", "memory", "io", "pid", "name")
HELP = (
    "up down PgUp PgDn   choose a process",
    "space, enter        fold or unfold what descends from it",
    "left right          fold, unfold",
    "- +                 fold all, unfold all",
    "c m i p n           sort by CPU, memory, I/O, pid, name",
    "t                   as a tree or as a list",
    "l                   whole command lines",
    "z                   hold the picture still, or go on",
    "b                   back to the list of runs",
    "q, Ctrl-C           quit",
)


class Signs:
    """The characters that pictures are made of."""

    def __init__(self, *, ascii_only: bool) -> None:
        self.levels = "_.-=+*#@" if ascii_only else "▁▂▃▄▅▆▇█"
        self.open = "-" if ascii_only else "▾"
        self.folded = "+" if ascii_only else "▸"
        self.cut = "~" if ascii_only else "…"
        self.sort = "<" if ascii_only else "↓"


@dataclass(slots=True)
class View:
    """What the watcher has chosen to see."""

    sort: str = "cpu"
    is_tree: bool = True
    whole_lines: bool = False
    folded: set[int] = field(default_factory=set)
    chosen: int | None = None
    first: int = 0  # the row at the top
    is_held: bool = False
    helps: bool = False
    can_go_back: bool = False


@dataclass(slots=True)
class TableRow:
    """One row of the table: a process, or one with all that is folded into it."""

    process: Process
    figures: Figures
    depth: int = 0
    has_children: bool = False
    hidden: int = 0


# -- rows ------------------------------------------------------------------------------------------------------------


def rows(scene: Scene, view: View) -> list[TableRow]:
    """The rows of the table in their order. In a tree a process stands below its parent, its sums decide its place."""
    known = {process.pid: process for process in scene.processes}
    if not view.is_tree or not scene.is_whole:
        return sorted((TableRow(process, process.figures) for process in known.values()), key=_order(view.sort))
    children: dict[int | None, list[Process]] = {}
    for process in known.values():
        parent = process.parent if process.parent in known and process.parent != process.pid else None
        children.setdefault(parent, []).append(process)
    sums = _sums(known, children)
    order = _order(view.sort)

    def ranked(processes: list[Process], depth: int) -> list[TableRow]:
        found = [
            TableRow(
                process, sums[process.pid][0], depth=depth, has_children=process.pid in children,
                hidden=sums[process.pid][1] - 1,
            )
            for process in processes
        ]  # fmt: skip
        return sorted(found, key=order, reverse=True)  # they are taken from the end

    found: list[TableRow] = []
    waiting = ranked(children.get(None, []), 0)
    while waiting:
        row = waiting.pop()
        found.append(row)
        if row.process.pid not in view.folded or not row.has_children:
            row.figures, row.hidden = row.process.figures, 0
            waiting += ranked(children.get(row.process.pid, []), row.depth + 1)
    return found


def _sums(known: dict[int, Process], children: dict[int | None, list[Process]]) -> dict[int, tuple[Figures, int]]:
    """By pid what a process and all below it have together, and how many they are."""
    order = [process.pid for process in children.get(None, ())]
    for pid in order:  # it grows meanwhile: each before those below it
        order += [child.pid for child in children.get(pid, ())]
    found: dict[int, tuple[Figures, int]] = {}
    for pid in reversed(order):
        figures, count = known[pid].figures, 1
        for child in children.get(pid, ()):
            figures, count = figures + found[child.pid][0], count + found[child.pid][1]
        found[pid] = figures, count
    return found


def _order(sort: str) -> Callable[[TableRow], tuple[float | str, int]]:
    if sort == "pid":
        return lambda row: (row.process.pid, 0)
    if sort == "name":
        return lambda row: (row.process.command, row.process.pid)
    if sort == "memory":
        return lambda row: (-(row.figures.rss or 0.0), row.process.pid)
    if sort == "io":
        return lambda row: (-(row.figures.io or 0.0), row.process.pid)
    return lambda row: (-round((row.figures.cores or 0.0) / STEADY_CORES), row.process.pid)


# -- the head --------------------------------------------------------------------------------------------------------


def head(scene: Scene, width: int, signs: Signs) -> list[Line]:
    """What is told of the whole, the most important first."""
    history = scene.history
    elapsed = scene.figure("elapsed_seconds")
    since = "" if elapsed is None else f"  {duration(elapsed)}"
    end = f"  {printable(scene.identity)}{since}"
    title = cut(printable(scene.title), max(8, width - len(end)), signs.cut)
    lines: list[Line] = [[(TITLE, title), (PLAIN, end)]]
    lines.append(_graph("CPU", _cores(history.cores), history.cores, _cpu_tail(scene), width, signs))
    lines.append(_graph("mem", _memory(history.memory), history.memory, _memory_tail(scene), width, signs))
    lines.append(_graph("I/O", _rate(history.io), history.io, _io_tail(scene), width, signs))
    if scene.sources:
        told = ", ".join(f"{name} {duration(used)}" for name, used in scene.sources.items())
        lines.append(_told("total", f"CPU by {printable(told)}"))
    lines += [_told(label, text) for label, text in _facts(scene, signs) if text]
    return [clipped(line, width, signs) for line in lines]


def _told(label: str, text: str) -> Line:
    return [(LABEL, f"{label:<{LABEL_WIDTH}}"), (PLAIN, text)]


def _graph(
    label: str, figure: str, values: Iterable[float | None], tail: str, width: int, signs: Signs
) -> list[tuple[str, str]]:
    line = [(LABEL, f"{label:<{LABEL_WIDTH}}"), (STRONG, f"{figure:>{FIGURE_WIDTH}}  ")]
    room = width - LABEL_WIDTH - FIGURE_WIDTH - 4
    graph = min(MOST_GRAPH, max(LEAST_GRAPH, room - TAIL_WIDTH))
    if room < LEAST_GRAPH:
        return line
    line.append((GRAPH, sparkline(list(values)[-graph:], signs.levels).ljust(graph)))
    if room > graph + LEAST_GRAPH:
        line.append((PLAIN, f"  {tail}"))
    return line


def _cores(values: Sequence[float | None]) -> str:
    last = values[-1] if values else None
    return UNKNOWN if last is None else f"{last:.2f} cores"


def _memory(values: Sequence[float | None]) -> str:
    return size(values[-1]) if values and values[-1] is not None else UNKNOWN


def _rate(values: Sequence[float | None]) -> str:
    return rate(values[-1]) if values and values[-1] is not None else UNKNOWN


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _cpu_tail(scene: Scene) -> str:
    most = _most(scene.history.cores)
    said = [] if most is None else [f"most {most:.2f}"]
    limit = scene.cpus if scene.of_machine else number(scene.limits.get("cpu_cores"))
    if limit is not None:
        said.append(f"of {limit:g}")
    used = None if scene.of_machine else scene.figure("tree.cpu_seconds")
    if used is not None:
        said.append(f"used {duration(used)}")
    return ", ".join(said)


def _memory_tail(scene: Scene) -> str:
    most = _most(scene.history.memory)
    held = HeldMemory.of_sample(scene.sample.get("tree"))
    if held.is_known and not scene.of_machine:
        return _held_tail(scene, held, most)
    has_pss = scene.figure("tree.pss_bytes") is not None
    what = "" if scene.of_machine else "PSS " if has_pss else "RSS "
    said = [] if most is None else [f"{what}most {size(most)}"]
    limit = scene.memory_total if scene.of_machine else number(scene.limits.get("memory_bytes"))
    if limit is not None:
        said.append(f"of {size(limit)}")
    if has_pss and not scene.of_machine:
        said.append(f"RSS {size(scene.figure('tree.rss_bytes'))}")
    return ", ".join(said)


def _held_tail(scene: Scene, held: HeldMemory, most: float | None) -> str:
    """Return the lower bound where it differs, the largest upper bound, the limit and the mapped files."""
    found = [] if held.is_narrow or held.low is None else [f"at least {size(held.low)}"]
    found += [] if most is None else [f"most {size(most)}"]
    limit = number(scene.limits.get("memory_bytes"))
    found += [] if limit is None else [f"of {size(limit)}"]
    found += [f"{name} {size(value)}" for name, value in held.apart]
    return ", ".join(found)


def _io_tail(scene: Scene) -> str:
    where = "system.disk" if scene.of_machine else "tree"
    read, written = scene.figure(f"{where}.read_bytes"), scene.figure(f"{where}.write_bytes")
    if scene.of_machine:
        history = scene.history
        return "" if history.read is None else f"read {rate(history.read)}, written {rate(history.write)}"
    return "not known" if read is None and written is None else f"read {size(read)}, written {size(written)}"


def _facts(scene: Scene, signs: Signs) -> Iterable[tuple[str, str]]:
    count = scene.figure
    if count("tree.processes") is not None:
        told = (("processes", "process", "es"), ("threads", "thread", "s"))
        states = [_counted(count(f"tree.{name}"), what, several) for name, what, several in told]
        for name, what in (("running", "running"), ("disk_sleep", "waiting for disk")):
            value = count(f"tree.{name}")
            states += [] if value is None else [f"{value:.0f} {what}"]
        swap = count("tree.swap_bytes")
        yield "tree", ", ".join([*states, f"swap {size(swap)}"] if swap else states)
    charged = count("cgroup.memory_bytes")
    if charged is not None and not scene.of_machine:
        kills = count("cgroup.oom_kills")
        held = [f"memory {size(charged)}", f"most {size(count('cgroup.memory_peak_bytes'))}"]
        yield "cgroup", ", ".join([*held, f"{kills:.0f} taken by the OOM killer"] if kills else held)
    if scene.neighbours is not None:
        others = Others(scene.neighbours)
        users = ", ".join(user.text(signs.cut) for user in others.users)
        yield "others", f"{others.text_of_cores(scene.cpus)}{f': {users}' if users else ''}"
    if scene.phases:
        yield "phase", ", ".join(map(printable, scene.phases))
    yield "gpu", _gpu(scene)
    if scene.of_machine:
        yield "cores", _of_each_core(scene, signs)
    yield "host", _host(scene)


def _counted(count: float | None, what: str, several: str) -> str:
    return f"{UNKNOWN if count is None else f'{count:.0f}'} {what}{'' if count == 1 else several}"


def _of_each_core(scene: Scene, signs: Signs) -> str:
    """A sign for each core, by how busy it was."""
    return sparkline(value_at(scene.sample, "system.per_core_ratio") or [], signs.levels, top=1.0)


def _gpu(scene: Scene) -> str:
    known = objects_at(scene.sample, "gpus")
    if not known:
        return ""
    busy = total([number(device.get("utilization_ratio")) for device in known])
    held = total([number(device.get("memory_used_bytes")) for device in known])
    of_tree = scene.figure("tree.gpu_memory_bytes")
    said = [f"{len(known)} GPU{'s' if len(known) > 1 else ''}"]
    said.append("busy unknown" if busy is None else f"{busy:.2f} busy")
    said.append(f"memory {size(held)}")
    return ", ".join([*said, f"{size(of_tree)} by the tree"] if of_tree is not None else said)


def _host(scene: Scene) -> str:
    said = []
    cores, used = scene.figure("system.cpu_cores"), scene.figure("system.memory.used_bytes")
    if cores is not None and not scene.of_machine:
        of = "" if scene.cpus is None else f" of {scene.cpus:.0f}"
        said.append(f"{cores:.2f}{of} cores busy")
    if used is not None and not scene.of_machine:
        of = "" if scene.memory_total is None else f" of {size(scene.memory_total)}"
        said.append(f"memory {size(used)}{of}")
    history = scene.history
    if history.received is not None and history.sent is not None:
        said.append(f"network in {rate(history.received)}, out {rate(history.sent)}")
    load = scene.figure("system.load_1")
    if load is not None:
        said.append(f"load {load:.2f}")
    return ", ".join(said)


# -- the table -------------------------------------------------------------------------------------------------------


def _short(count: float | None) -> str:
    return UNKNOWN if count is None else size(count, short=True).replace(" ", "")


def _cores_of(row: TableRow) -> str:
    cores = row.figures.cores
    return UNKNOWN if cores is None else f"{cores:.2f}" if cores < 99.995 else f"{cores:.0f}"


def _time_of(row: TableRow) -> str:
    return UNKNOWN if row.figures.cpu_seconds is None else cpu_time(row.figures.cpu_seconds)


# heading, width, text of a row, what it sorts by, how soon it gives way to a narrow terminal
COLUMNS: tuple[tuple[str, int, Callable[[TableRow], str], str, int], ...] = (
    ("PID", 8, lambda row: str(row.process.pid), "pid", 2),
    ("S", 2, lambda row: row.process.state or UNKNOWN, "", 6),
    ("THR", 5, lambda row: UNKNOWN if row.figures.threads is None else f"{row.figures.threads:.0f}", "", 8),
    ("CPU", 7, _cores_of, "cpu", 0),
    ("TIME", 7, _time_of, "", 5),
    ("RSS", 8, lambda row: _short(row.figures.rss), "memory", 1),
    ("PSS", 8, lambda row: _short(row.figures.pss), "", 7),
    ("READ/s", 8, lambda row: _short(row.figures.read), "io", 3),
    ("WRITE/s", 8, lambda row: _short(row.figures.write), "io", 4),
)
OF_RECORDS = ("PID", "CPU", "RSS")  # what samples of a record have of single processes


def columns(
    width: int, *, of_record: bool, whole_lines: bool = False
) -> list[tuple[str, int, Callable[[TableRow], str], str, int]]:
    """The columns for which there is room beside the name; a whole command line has half of the width."""
    name = max(LEAST_NAME, width // 2) if whole_lines else LEAST_NAME
    kept = [column for column in COLUMNS if not of_record or column[0] in OF_RECORDS]
    while kept and sum(column[1] for column in kept) + name > width:
        kept.remove(max(kept, key=lambda column: column[4]))
    return kept


def table(scene: Scene, view: View, width: int, height: int, signs: Signs) -> list[Line]:
    """The heading and as many rows as fit, those around the chosen one; moves `view.first` so that it is in sight."""
    found = rows(scene, view)
    if not found:
        return []
    kept = columns(width, of_record=not scene.is_whole, whole_lines=view.whole_lines)
    room = max(1, height - 1)
    place = next((place for place, row in enumerate(found) if row.process.pid == view.chosen), None)
    if place is not None:
        view.first = min(max(view.first, place - room + 1), place)
    view.first = max(0, min(view.first, len(found) - room))
    heading = "".join(f"{_heading(name, key, view, signs):>{wide - 1}} " for name, wide, _, key, _ in kept)
    titles = f"{heading}{_heading('COMMAND', 'name', view, signs)}".ljust(width)
    lines = [clipped([(HEADING, titles)], width, signs)]
    for row in found[view.first : view.first + room]:
        figures = "".join(f"{text(row):>{wide - 1}} " for _, wide, text, _, _ in kept)
        style = CHOSEN if row.process.pid == view.chosen else PLAIN
        line = f"{figures}{_name(scene, view, row, signs)}"
        lines.append(clipped([(style, line)], width, signs))
    return lines


def _heading(name: str, key: str, view: View, signs: Signs) -> str:
    return name + signs.sort if key == view.sort and name != "WRITE/s" else name


def _name(scene: Scene, view: View, row: TableRow, signs: Signs) -> str:
    process = row.process
    name = printable(scene.line_of(process) if view.whole_lines else process.command)
    if not view.is_tree or not scene.is_whole:
        return name
    sign = " " if not row.has_children else signs.folded if row.hidden else signs.open
    hidden = f" (+{row.hidden})" if row.hidden else ""
    return f"{'  ' * min(row.depth, 20)}{sign} {name}{hidden}"


# -- the page --------------------------------------------------------------------------------------------------------


def page(scene: Scene, view: View, width: int, height: int, signs: Signs) -> list[Line]:
    """The whole screen, at most `height` lines."""
    if height <= 2 * LEAST_ROWS:
        return _body(scene, view, width, height, signs)
    lines = _body(scene, view, width, height - 1, signs)
    lines += [[] for _ in range(height - 1 - len(lines))]
    return [*lines, clipped([(KEYS, _keys(view, width))], width, signs)]


def _body(scene: Scene, view: View, width: int, height: int, signs: Signs) -> list[Line]:
    if view.helps:
        keys: list[Line] = [[(PLAIN, text)] for text in HELP if view.can_go_back or not text.startswith("b ")]
        return [clipped(line, width, signs) for line in [[(TITLE, "proctally top: keys")], *keys]][:height]
    above = head(scene, width, signs)
    if scene.ending is not None:
        return [*above[:1], *[clipped([(PLAIN, text)], width, signs) for text in scene.ending]][:height]
    notes = [clipped([(NOTE, note)], width, signs) for note in scene.notes]
    free = height - len(notes)
    del above[max(1, free - max(LEAST_ROWS, min(len(scene.processes) + 1, free // 2))) :]
    return (above + notes + table(scene, view, width, max(0, free - len(above)), signs))[:height]


def _keys(view: View, width: int) -> str:
    held = "HELD  " if view.is_held else ""
    back = "b back  " if view.can_go_back else ""
    if width < 60:
        return f"{held}q quit  {back}? help"
    return f"{held}q quit  {back}c m i p n sort  space fold  - + all  t tree  l lines  z hold  ? help"


def clipped(line: Line, width: int, signs: Signs) -> Line:
    """The line within the width; a cut is shown."""
    kept: Line = []
    room = width
    for style, text in line:
        used = columns_of(text)
        if used > room:
            kept.append((style, cut(text, room, signs.cut)))
            break
        kept.append((style, text))
        room -= used
    return kept
