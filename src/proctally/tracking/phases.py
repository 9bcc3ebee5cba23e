"""Figures of each phase of a job: wall and CPU time, memory at its peak, parts of the wall time."""

from __future__ import annotations

from proctally.tree.phase_peaks import PhasePeak

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.tree.sampler import TreeSampler
    from proctally.tree.time import Mark, Sums
    from proctally.tree.time_scan import TimeScan

MOST = 100  # names that a summary lists
BEGIN = "begin"


class Open:
    """A phase that has not ended: its first line, and the moment of the scan at it."""

    __slots__ = ("line", "mark", "peak")

    def __init__(self, line: JsonObject, mark: Mark | None, peak: PhasePeak) -> None:
        self.line = line
        self.mark = mark
        self.peak = peak


class Total:
    """All phases of one name. `spans`: those whose parts can still change by late run delay."""

    __slots__ = ("count", "cpu_seconds", "peak", "spans", "sums", "wall_seconds")

    def __init__(self) -> None:
        self.count = 0
        self.wall_seconds = 0.0
        self.cpu_seconds: float | None = 0.0
        self.peak = PhasePeak(None)
        self.spans: list[tuple[Mark, Mark]] = []
        self.sums: Sums | None = None


class Phases:
    """The phases of one tree, by name, in the order of their first start."""

    __slots__ = ("_open", "_sampler", "_totals")

    def __init__(self, sampler: TreeSampler) -> None:
        self._sampler = sampler
        self._open: dict[str, Open] = {}
        self._totals: dict[str, Total] = {}

    def take(self, line: JsonObject) -> None:
        """Take in a `phase` line. The tree was scanned for it."""
        if line["event"] == BEGIN:
            self._begin(line)
        else:
            self._end(line)

    def _begin(self, line: JsonObject) -> None:
        name, sampler = line["name"], self._sampler
        if name in self._open or (name not in self._totals and len(self._totals) >= MOST):
            return
        self._totals.setdefault(name, Total())
        time = sampler.time.reader
        self._open[name] = Open(line, None if time is None else time.mark(), sampler.memory.open_phase())

    def _end(self, line: JsonObject) -> None:
        phase = self._open.pop(line["name"], None)
        if phase is None:
            return
        sampler, total, first = self._sampler, self._totals[line["name"]], phase.line
        sampler.memory.close_phase(phase.peak)
        total.count += 1
        total.peak.add(phase.peak)
        total.wall_seconds += line["elapsed_seconds"] - first["elapsed_seconds"]
        if total.cpu_seconds is not None and line["cpu_seconds"] is not None and first["cpu_seconds"] is not None:
            total.cpu_seconds += line["cpu_seconds"] - first["cpu_seconds"]
        else:
            total.cpu_seconds = None
        time = sampler.time.reader
        if time is not None:
            self._fold(total, time)
            start, end = phase.mark or time.start, time.mark()
            if total.spans and total.spans[-1][1] is start:  # thousands can start and end between two scans
                start = total.spans.pop()[0]
            total.spans.append((start, end))

    def _fold(self, total: Total, time: TimeScan, *, last: bool = False) -> None:
        """Sum up the spans that nothing can change, so that a phase of many repetitions takes little memory."""
        rest = []
        for start, end in total.spans:
            if last or end.sums is not None:
                sums = time.between(start, end)
                total.sums = sums if total.sums is None else [a + b for a, b in zip(total.sums, sums, strict=True)]
            else:
                rest.append((start, end))
        total.spans = rest

    def _parts(self, total: Total) -> JsonObject | None:
        time = self._sampler.time.reader
        if time is None:
            return None
        self._fold(total, time, last=True)
        return None if total.sums is None else time.parts_of(total.sums)

    def summary(self) -> list[JsonObject]:
        """Return the phases that have ended, by name."""
        return [self._described(name, total) for name, total in self._totals.items() if total.count]

    def _described(self, name: str, total: Total) -> JsonObject:
        return {
            "name": name,
            "count": total.count,
            "wall_seconds": round(total.wall_seconds, 4),
            "cpu_seconds": None if total.cpu_seconds is None else round(total.cpu_seconds, 4),
            "peak_low_bytes": total.peak.low,
            "peak_high_bytes": total.peak.high,
            "time": self._sampler.time.call(self._parts, total),
        }
