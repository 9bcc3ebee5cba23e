"""Cores in use, or wanted, and for how long: how many of them are enough."""

from __future__ import annotations

from math import inf

from proctally.text.units import MAX_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_STEPS = 4_000  # at 64 cores, steps of 0.03
SLOWER = 0.05  # so much longer a run may take on the cores that are advised


class Loads:
    """Cores and seconds of the intervals of a run, in at most so many steps that many of them take little memory."""

    __slots__ = ("_step", "_steps", "peak")

    def __init__(self) -> None:
        self.peak: float | None = None  # most cores over an interval
        self._step = 1e-9  # cores
        self._steps: dict[int, tuple[float, float]] = {}  # core seconds and seconds

    def add(self, cores: float, seconds: float) -> None:
        """Take the next interval."""
        cores = min(cores, MAX_NUMBER)  # of a tiny interval, it can be infinite
        self.peak = cores if self.peak is None else max(self.peak, cores)
        self._enter(int(cores / self._step), cores * seconds, seconds)
        while len(self._steps) > MAX_STEPS:
            self._step *= 2
            finer, self._steps = self._steps, {}
            for place, (work, time) in finer.items():
                self._enter(place // 2, work, time)

    def _enter(self, place: int, work: float, time: float) -> None:
        before = self._steps.get(place, (0.0, 0.0))
        self._steps[place] = before[0] + work, before[1] + time

    def _busiest(self, usable: float) -> Iterator[tuple[float, float]]:
        """Yield cores, at most the usable ones, and seconds, from the most cores to the fewest."""
        for _, (work, time) in sorted(self._steps.items(), reverse=True):
            yield min(work / time, usable), time

    def _seconds(self) -> float:
        return sum(time for _, time in self._steps.values())

    def sufficient(self, usable: float = inf) -> float:
        """Return the fewest cores on which this work takes at most 5 % longer.

        What ran on more cores than N at a time is done later by N of them. So the time grows by at most
        sum((cores - N) x seconds) / N over the intervals with more than N; that is at most 5 % of all for every N that
        is no less than S / (T + 5 % of all), where S and T sum the core seconds and seconds of the k busiest
        intervals, for each k.
        """
        whole = self._seconds()
        work = time = need = 0.0
        for cores, seconds in self._busiest(usable):
            work += cores * seconds
            time += seconds
            need = max(need, work / (time + SLOWER * whole))
        return need

    def percentile(self, part: float, usable: float = inf) -> float:
        """Return the cores that were enough for a part of the seconds."""
        rest = (1 - part) * self._seconds()
        for cores, seconds in self._busiest(usable):
            rest -= seconds
            if rest < 0:
                return cores
        return 0.0
