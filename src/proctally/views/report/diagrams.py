"""The two diagrams of a run, for templates/diagrams.html: the wall time as a bar, memory at its peak as a bracket.

Lengths are of a box that is 1,000 wide; a diagram says in `words` what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proctally.analysis.memory import SMALLEST, HeldMemory
from proctally.analysis.time import NARROW
from proctally.text.units import brief, exact_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.analysis.memory import PeakPart
    from proctally.analysis.time import Time, TimePart

WIDTH = 1000.0
GAP = 3.0  # between neighbours
FAR = 4.0  # a limit above four requests is at the edge
EDGE = 0.96  # of the width: the place of the largest level of a bracket


@dataclass(slots=True)
class Piece:
    """A rectangle: `kind` is its class, `over` the part whose stripes cover it (a seam)."""

    kind: str
    x: float
    width: float
    over: str = ""


@dataclass(slots=True)
class Key:
    """An entry of a key: its class, the figure, what it is, and more in small."""

    kind: str
    figure: str
    text: str
    more: str = ""


@dataclass(slots=True)
class TimeBar:
    """One bar of time."""

    words: str
    pieces: list[Piece]
    key: list[Key]


@dataclass(slots=True)
class Bracket:
    """One bracket of memory: `track` is the width of the scale, `lines` are levels: (class, x)."""

    words: str
    pieces: list[Piece]
    key: list[Key]
    track: float
    lines: list[tuple[str, float]] = field(default_factory=list)


# -- time ------------------------------------------------------------------------------------------------------------


def time_bar(title: str, time: Time, scale: float = 1.0) -> TimeBar | None:
    """Return the bar of the parts; None where they are unknown. `scale`: of the whole width."""
    if not time.parts:
        return None
    width = scale * WIDTH / sum(part.share for part in time.parts)
    pieces, at, ends = [], 0.0, []
    for part in time.parts:
        ends.append((at, at + part.share * width))
        at = ends[-1][1]
        pieces.append(Piece(part.name, ends[-1][0], max(1.0, ends[-1][1] - ends[-1][0] - GAP)))
    pieces += _seams(time.parts, ends, width)
    key = [Key(part.name, f"{part.percent} %", part.words, _seconds(part, time.seconds)) for part in time.parts]
    return TimeBar(f"{title}: {time.text}", pieces, key)


def _seconds(part: TimePart, seconds: float) -> str:
    if part.high - part.low <= NARROW:
        return brief(part.share * seconds)
    return f"{part.low * seconds:.1f} to {brief(part.high * seconds)}"


def _seams(parts: Sequence[TimePart], ends: Sequence[tuple[float, float]], width: float) -> list[Piece]:
    """Return what may be of either neighbour, at most to the middle of each."""
    found = []
    for place, (left, right) in enumerate(zip(parts, parts[1:], strict=False)):
        before, after = parts[: place + 1], parts[place + 1 :]
        low = max(sum(part.low for part in before), 1 - sum(part.high for part in after)) * width
        high = min(sum(part.high for part in before), 1 - sum(part.low for part in after)) * width
        low = max(low, sum(ends[place]) / 2)
        high = min(high, sum(ends[place + 1]) / 2)
        if high - low > NARROW * width:
            found.append(Piece(left.name, low, high - low, over=right.name))
    return found


# -- memory ----------------------------------------------------------------------------------------------------------


def bracket(
    title: str, held: HeldMemory, limit: float | None, request: float | None = None, asked: str = "", most: float = 0.0
) -> Bracket | None:
    """Return the bracket of a peak; None where it is unknown.

    `asked`: what the request is, such as `advised`; `most`: bytes for which the scale has room, too.
    """
    if held.high is None:
        return None
    files = held.mapped_file or 0.0
    needed = held.high + files
    is_far = limit is not None and limit > FAR * max(request or 0.0, needed)
    levels = [most, needed, request or 0.0, 0.0 if limit is None or is_far else limit]
    unit = EDGE * WIDTH / max(*levels, 1.0)
    low = held.low or 0.0
    pieces = [Piece("held", 0.0, low * unit)]
    if not held.is_narrow:
        pieces.append(Piece("perhaps", low * unit, (held.high - low) * unit))
    key = [Key("held", held.short, "held")]
    if files * unit > 1:
        pieces.append(Piece("files", held.high * unit, files * unit))
    if files >= SMALLEST:
        key.append(Key("files", exact_size(files), "mapped files"))
    if held.swap is not None and held.swap >= SMALLEST:
        key.append(Key("none", exact_size(held.swap), "in swap"))
    drawn = Bracket("", pieces, key, WIDTH if is_far else limit * unit if limit else WIDTH)
    if request is not None:
        drawn.lines.append(("request", request * unit))
        key.append(Key("request", exact_size(request), asked))
    if limit is not None:
        drawn.lines.append(("limit", WIDTH - 2 if is_far else limit * unit))
        key.append(Key("limit", exact_size(limit), "limit, far above the scale" if is_far else "limit"))
    drawn.words = f"{title}: {', '.join(f'{each.figure} {each.text}' for each in key)}"
    return drawn


def kill_bracket(title: str, parts: Sequence[PeakPart], limit: float | None) -> Bracket | None:
    """Return the bracket of what was held before an OOM kill; None where that is unknown."""
    bytes_held = {f"{end}_bytes": sum(getattr(part, end) or 0 for part in parts) for end in ("low", "high")}
    held = HeldMemory(bytes_held, "low_bytes", "high_bytes")
    return bracket(title, held, limit) if parts else None
