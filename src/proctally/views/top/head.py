"""The head of the live view: what it is, where the time goes, cores, memory, disk and others."""

from __future__ import annotations

from proctally.analysis.memory import SMALLEST, HeldMemory
from proctally.analysis.others import Others
from proctally.analysis.time import WAITS, Time
from proctally.record.values import number, number_at, objects_at, value_at
from proctally.text.cells import bar, columns_of, cut, sparkline
from proctally.text.units import UNKNOWN, brief, percentage, rate, short_time, size
from proctally.views.top.line import (
    BAD,
    GRAPH,
    LABEL,
    LABEL_WIDTH,
    PLAIN,
    TITLE,
    Signs,
    apart,
    clipped,
    labelled,
)  # fmt: skip
from proctally.views.top.scene import Scene, total
from proctally.views.top.table import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.views.top.line import Line

WINDOW_SECONDS = 60.0  # of the bar
BAR = 60  # cells at most
BAR_WIDTH = 60  # least width of a screen with a bar or a graph
FIGURES_WIDTH = 42  # cells for the words beside a graph
MIN_GRAPH, MAX_GRAPH = 8, 60
GAP = "   "
MIN_COMMAND = 8  # cells of a command line
FAR = 4.0  # times the largest value: a limit above it is not drawn
RUN_ID_WIDTH = 100  # least width of a screen with the id of the run
LOW_WIDTH = 40  # maximum width of the lines of the smallest terminals


class Entry:
    """A line of the head; of those that find no room the one with the largest `rank` goes first."""

    def __init__(self, rank: int, line: Line) -> None:
        self.rank = rank
        self.line = line


def head(scene: Scene, width: int, signs: Signs, most: int = 1 << 16, *, has_panel: bool = False) -> list[Line]:
    """Return at most `most` lines, those that matter least left out. `has_panel`: whether GPUs stand beside."""
    entries = [Entry(0, _title(scene, width, signs)), *_time(scene, width, signs)]
    history = scene.history
    for rank, label, values, limit, text in (
        (2, "cores", history.cores, scene.usable_cores, _cores(scene)),
        (3, "memory", history.memory, scene.usable_memory, _memory(scene)),
        (6, "disk", history.io, None, f"read {rate(history.read)}, written {rate(history.write)}"),
    ):
        entries.append(Entry(rank, _graph(label, values, limit, text, width, signs)))
    entries += [
        Entry(rank, labelled(label, text)) for rank, label, text in _facts(scene, signs, has_panel=has_panel) if text
    ]
    for _ in range(len(entries) - max(1, most)):
        entries.remove(max(entries, key=lambda entry: entry.rank))
    return [clipped(entry.line, width, signs) for entry in entries]


def _title(scene: Scene, width: int, signs: Signs) -> Line:
    """Return the name, the command and facts at the right; those that matter least give way to the name."""
    elapsed = scene.figure("elapsed_seconds")
    facts = [f"run {signs.name(scene.run_id)}"] if scene.run_id and width >= RUN_ID_WIDTH else []
    facts += [] if scene.root is None else [f"pid {scene.root}"]
    facts += [] if elapsed is None else [f"{scene.since} {brief(elapsed)}"]
    facts += [f"phase {_phase(scene, signs)}"] if scene.phases else []
    name = cut(signs.name(scene.name), width // 2, signs.cut)
    while len(facts) > 1 and columns_of(name) + columns_of(GAP.join(facts)) >= width:
        del facts[0]
    end = GAP.join(facts)
    room = width - columns_of(name) - columns_of(end) - 2 * len(GAP)
    command = cut(signs.name(scene.command), room, signs.cut) if room >= MIN_COMMAND else ""
    return apart([(TITLE, name), (PLAIN, f"  {command}".rstrip())], end, width)


def _phase(scene: Scene, signs: Signs) -> str:
    """Return the innermost open phase and for how long it has been open."""
    name, started = list(scene.phases.items())[-1]
    elapsed = scene.figure("elapsed_seconds")
    since = "" if started is None or elapsed is None else f" {brief(max(0.0, elapsed - started))}"
    return f"{cut(signs.name(name), 24, signs.cut)}{since}"


def recent(scene: Scene) -> tuple[Time, float]:
    """Return the parts of the last minute, and the seconds that they are of."""
    covered, spans = scene.history.parts(WINDOW_SECONDS)
    return Time(spans[0] if spans else None), covered


def _time(scene: Scene, width: int, signs: Signs) -> list[Entry]:
    time, covered = recent(scene)
    if not time.parts:
        return []
    line = apart(labelled("time", time.text), f"last {covered:.0f} s", width)
    entries = [Entry(1, line)]
    if width >= BAR_WIDTH:
        entries.append(Entry(5, [(LABEL, " " * LABEL_WIDTH), *parts_bar(time, min(BAR, width - LABEL_WIDTH), signs)]))
    return entries


def parts_bar(time: Time, cells: int, signs: Signs) -> Line:
    """Return a bar of the parts, each in its own style."""
    whole = bar([(signs.parts[part.name], part.share) for part in time.parts], cells)
    return [(part.name, sign * whole.count(sign)) for part in time.parts if (sign := signs.parts[part.name])]


def _graph(
    label: str, values: Iterable[float | None], limit: float | None, text: str, width: int, signs: Signs
) -> Line:
    """Return a line with a graph from 0 to the limit, or to the largest value where that is far below the limit."""
    if width < BAR_WIDTH:
        return labelled(label, text)
    cells = min(MAX_GRAPH, max(MIN_GRAPH, width - LABEL_WIDTH - FIGURES_WIDTH - 2))
    seen = list(values)[-cells:]
    most = max((value for value in seen if value is not None), default=0.0)
    top = max(most, limit) if limit and limit <= FAR * most else most
    graph = sparkline(seen, signs.levels, top).ljust(cells)
    return [(LABEL, f"{label:<{LABEL_WIDTH}}"), (GRAPH, graph), (PLAIN, f"  {text}")]


def _cores(scene: Scene) -> str:
    history = scene.history
    used = history.cores[-1] if history.cores else None
    of = "" if scene.usable_cores is None else f" of {scene.usable_cores:g}"
    wanted = "" if history.wanted is None else f", wanted {history.wanted:.2f}"
    peak = "" if history.peak is None else f", peak {history.peak:.2f}"
    return f"{UNKNOWN if used is None else f'{used:.2f}'}{of} used{wanted}{peak}"


def _memory(scene: Scene) -> str:
    """Return the bounds of what is held, the limit and its share, and mapped files."""
    history, limit = scene.history, scene.usable_memory
    held = HeldMemory.of_sample(scene.sample.get("tree"))
    high = history.memory[-1] if history.memory else None
    text = held.short if held.is_known else size(high)
    unit = text.rpartition(" ")[2]
    if limit:
        text += f" of {_in(unit, limit)}" + ("" if high is None else f" ({percentage(high / limit)})")
    files = held.mapped_file
    return text if files is None or files < SMALLEST else f"{text}, files {_in(unit, files)}"


def _in(unit: str, count: float) -> str:
    """Return bytes, without their unit where that is the one before."""
    return size(count).removesuffix(f" {unit}")


def _facts(scene: Scene, signs: Signs, *, has_panel: bool) -> Iterable[tuple[int, str, str]]:
    """Return further lines: a rank, a label and the text."""
    if scene.neighbours is not None:
        others = Others(scene.neighbours)
        users = ", ".join(user.text(signs.cut, encoded=signs.name) for user in others.users)
        yield 4, "others", f"{others.text_of_cores(scene.cpus)}{f': {users}' if users else ''}"
    yield 7, "GPUs", "" if has_panel else _gpus(scene)
    if scene.of_machine:
        history = scene.history
        if history.received is not None and history.sent is not None:
            yield 8, "network", f"received {rate(history.received)}, sent {rate(history.sent)}"
        yield 9, "each", sparkline(value_at(scene.sample, "system.per_core_ratio") or [], signs.levels, top=1.0)


def _gpus(scene: Scene) -> str:
    """Return the use of all GPUs in one line; nothing where there is none."""
    known = objects_at(scene.sample, "gpus")
    if not known:
        return ""
    busy = total([number(device.get("utilization_ratio")) for device in known])
    held = total([number(device.get("memory_used_bytes")) for device in known])
    of_tree = scene.figure("tree.gpu_memory_bytes")
    found = [f"{len(known)} GPU{'s' if len(known) > 1 else ''}"]
    found.append("busy unknown" if busy is None else f"{busy:.2f} busy")
    found.append(f"memory {size(held)}")
    return ", ".join([*found, f"{size(of_tree)} by the tree"] if of_tree is not None else found)


def bad_news(scene: Scene) -> list[Line]:
    """Return what went wrong already."""
    kills = number_at(scene.sample, "cgroup.oom_kills")
    if not kills or scene.of_machine:
        return []
    return [[(BAD, f"{kills:.0f} {'process was' if kills == 1 else 'processes were'} killed for memory")]]


def low_head(scene: Scene, width: int, signs: Signs) -> list[Line]:
    """Return three lines for the smallest terminals: what it is, cores, memory."""
    wide = min(width, LOW_WIDTH)
    elapsed = scene.figure("elapsed_seconds")
    end = "" if elapsed is None else short_time(elapsed)
    name = cut(signs.name(scene.name), max(4, wide - columns_of(end) - 1), signs.cut)
    if scene.phases:
        phase = GAP.join([signs.name(list(scene.phases)[-1]), end])
        end = phase if columns_of(name) + columns_of(phase) < wide else end
    history, limit = scene.history, scene.usable_memory
    used = history.cores[-1] if history.cores else None
    cores = (
        f"{'-' if used is None else f'{used:.2f}'}{'' if scene.usable_cores is None else f'/{scene.usable_cores:g}'}"
    )
    time, _ = recent(scene)
    waited = f"wait {round(100 * time.share(*WAITS))}%" if time.parts else ""
    held = history.memory[-1] if history.memory else None
    of = f" of {short(limit)}" if limit else ""
    share = f"{round(100 * held / limit)}%" if limit and held is not None else ""
    lines: list[Line] = [
        apart([(TITLE, name)], end, wide),
        apart([(LABEL, "cpu "), (PLAIN, cores)], waited, wide),
        apart([(LABEL, "mem "), (PLAIN, f"{short(held)}{of}")], share, wide),
    ]
    return [clipped(line, width, signs) for line in lines]
