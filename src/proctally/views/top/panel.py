"""The right side of a wide terminal: ten minutes of the parts of time, GPUs, and who holds memory."""

from __future__ import annotations

from proctally.analysis.time import PARTS, Time
from proctally.record.values import number, objects_at
from proctally.text.cells import columns_of, cut, sparkline
from proctally.text.units import percentage, size
from proctally.views.top.line import HEADING, LABEL, PLAIN, clipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.top.line import Line, Signs
    from proctally.views.top.scene import Process, Scene

SECONDS = 600.0
LABEL_WIDTH = 19
SHARE_WIDTH = 6
HOLDERS = 10
NAME = 32  # cells of the name of a process


def panel(scene: Scene, width: int, height: int, signs: Signs) -> list[Line]:
    """Return the blocks of the right side, an empty line between two."""
    lines: list[Line] = []
    for block in (_parts(scene, width, signs), _gpus(scene, signs), _holders(scene, signs)):
        if block:
            lines += [[], *block] if lines else block
    return [clipped(line, width, signs) for line in lines[:height]]


def _parts(scene: Scene, width: int, signs: Signs) -> list[Line]:
    cells = min(width - LABEL_WIDTH - SHARE_WIDTH, max(1, len(scene.history.cores) - 1))
    covered, spans = scene.history.parts(SECONDS, cells)
    if not covered:
        return []
    whole = Time(scene.history.parts(SECONDS)[1][0])
    times = [Time(span) for span in spans]
    text = f"{covered:.0f} s" if covered < 99.5 else f"{covered / 60:.0f} min"
    lines: list[Line] = [[(HEADING, f"last {text}")]]
    for name, words in PARTS:
        values = [time.share(name) if time.parts else None for time in times]
        share = f"{percentage(whole.share(name), 0):>{SHARE_WIDTH}}"
        graph = sparkline(values, signs.levels, 1.0)
        lines.append([(LABEL, f"{words:<{LABEL_WIDTH}}"), (name, graph), (PLAIN, share)])
    return lines


def _gpus(scene: Scene, signs: Signs) -> list[Line]:
    known = objects_at(scene.sample, "gpus")
    if not known:
        return []
    lines: list[Line] = [[(HEADING, "GPUs")]]
    for device in known:
        busy, held = number(device.get("utilization_ratio")), number(device.get("memory_used_bytes"))
        of_tree = number(device.get("tree_memory_bytes"))
        facts = [f"{percentage(busy)} busy", f"memory {size(held)}"]
        facts += [] if of_tree is None else [f"{size(of_tree)} by the tree"]
        name = signs.name(str(device.get("name") or device.get("vendor") or ""))
        label = f"{device.get('index')} {cut(name, LABEL_WIDTH - 4, signs.cut)}"
        lines.append([(LABEL, label + " " * (LABEL_WIDTH - columns_of(label))), (PLAIN, ", ".join(facts))])
    return lines


def _holders(scene: Scene, signs: Signs) -> list[Line]:
    """Return the processes that hold the most memory."""
    found = sorted(scene.processes, key=_held, reverse=True)[:HOLDERS]
    found = [process for process in found if _held(process)]
    if not found:
        return []
    lines: list[Line] = [[(HEADING, "who holds memory")]]
    for process in found:
        name = f"{cut(signs.name(process.command), NAME, signs.cut)} ({process.pid})"
        lines.append([(PLAIN, f"{size(process.figures.high):>9}  {name}")])
    return lines


def _held(process: Process) -> float:
    return process.figures.high or 0.0
