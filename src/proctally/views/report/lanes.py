"""Who ran when: bars in as few lanes as there is room for, those that matter most first."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from proctally.record.values import number_or_nan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.record import JsonObject
    from proctally.views.report.series import Story

MOST_BARS = 600
MOST_LANES = 12
# mean cores over its life from which a bar has the shade of its place
SHADES = (
    (0.0, "idle (below 5 % of a core)"),
    (0.05, "5 to 25 %"),
    (0.25, "25 to 75 %"),
    (0.75, "75 % of a core or more"),
    (1.25, "more than one core"),
)


@dataclass(slots=True)
class Bar:
    """One process or phase: when (seconds since the start), in which lane, how much CPU, and its line."""

    begin: float
    end: float
    cores: float | None
    line: JsonObject
    lane: int = 0

    @property
    def shade(self) -> int | None:
        """The place in SHADES; None where the CPU time is unknown."""
        return None if self.cores is None else max(n for n, (low, _) in enumerate(SHADES) if self.cores >= low)


def of_processes(story: Story) -> list[Bar]:
    """The processes that find room."""
    origin, end = number_or_nan(story.run.get("started_at")), story.wall_seconds
    bars = []
    for line in story.processes:
        began, ended = number_or_nan(line.get("started_at")) - origin, number_or_nan(line.get("ended_at")) - origin
        began, ended = max(0.0, began), min(end, ended) if ended == ended else end
        if began != began or ended < began:
            continue
        used = number_or_nan(line.get("cpu_seconds"))
        life = max(ended - began, 0.01)  # started_at is known to a tick
        bars.append(Bar(began, ended, used / life if used >= 0 else None, line))
    return placed(bars)


def of_phases(story: Story) -> list[Bar]:
    """The phases; one that was not ended goes on to the end."""
    end = story.wall_seconds
    bars = []
    for phase in story.phases:
        begin = min(max(0.0, phase["begin"]), end)
        until = end if phase["end"] is None else min(max(begin, phase["end"]), end)
        bars.append(Bar(begin, until, None, phase))
    return placed(sorted(bars, key=lambda bar: (bar.begin, -bar.end)))


def placed(bars: Iterable[Bar]) -> list[Bar]:
    """Each in the first lane where nothing is at its time, as long as there is one; in order of their begin."""
    lanes: list[list[tuple[float, float]]] = []
    kept: list[Bar] = []
    for bar in bars:
        lane = next((n for n, taken in enumerate(lanes) if _free(taken, bar)), len(lanes))
        if lane >= MOST_LANES or len(kept) >= MOST_BARS:
            continue
        if lane == len(lanes):
            lanes.append([])
        insort(lanes[lane], (bar.begin, bar.end))
        bar.lane = lane
        kept.append(bar)
    return sorted(kept, key=lambda bar: bar.begin)


def _free(taken: list[tuple[float, float]], bar: Bar) -> bool:
    place = bisect_left(taken, (bar.begin, bar.end))
    before = place == 0 or taken[place - 1][1] <= bar.begin
    return before and (place == len(taken) or taken[place][0] >= bar.end)
