"""When the other processes of the machine are read: while a job waits for CPUs; and their means over a run."""

from __future__ import annotations

import os

from proctally.analysis.waits import CROWDED_SHARE, STARVED_SHARE
from proctally.record.codes import PARTIAL
from proctally.record.values import number_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.host.neighbours import NeighbourReader
    from proctally.record import JsonObject
    from proctally.tree.sampler import TreeSampler

MAX_GROUPS = 200  # users and commands that are summed up


class Neighbours:
    """The other processes of one run. `pauses`: whether others are served between two parts of a reading.

    `fault`: an error of proctally, after which none are read.
    """

    def __init__(self, sampler: TreeSampler, *, pauses: bool = True) -> None:
        self.fault: Exception | None = None
        self._sampler = sampler
        self._pauses = pauses
        self._reader: NeighbourReader | None = None  # from the first wait on
        self._own = os.getpid()
        self._ready: float | None = 0.0  # seconds so far in which the tree, or else its threads, waited for a CPU
        self._pressure: tuple[float, float] | None = None  # elapsed seconds, and those of CPU pressure
        self._seconds = self._core_seconds = 0.0
        self._is_partial = False
        self._groups: dict[tuple[str, str], list[float]] = {}

    def _is_ours(self, pid: int) -> bool:
        return pid == self._own or pid in self._sampler.members or self._sampler.is_foreign(pid)

    def note(self, sample: JsonObject) -> None:
        """Take in a sample: add what was read since the last one, and have more read where the job waits."""
        found = None if self._reader is None else self._reader.take()
        if found is not None:
            sample["neighbours"] = found
            self._add(found)
        if self._is_waiting(sample) and self.fault is None:
            if self._reader is None:
                from proctally.host.neighbours import NeighbourReader

                self._reader = NeighbourReader(self._sampler.machine, self._is_ours, pauses=self._pauses)
            self._reader.want()

    def _is_waiting(self, sample: JsonObject) -> bool:
        """Return whether the job waited for a CPU in this interval, or others crowd the machine."""
        interval = sample["interval_seconds"]
        ready, before = number_at(sample, "tree.time.ready_seconds"), self._ready
        if ready is None:
            ready = number_at(sample, "tree.run_delay_seconds")
        self._ready = ready
        waited = 0.0 if ready is None or before is None else ready - before
        is_crowded = self._is_crowded(sample)
        return is_crowded or (waited > 0 and waited >= STARVED_SHARE * interval)

    def _is_crowded(self, sample: JsonObject) -> bool:
        stalled, elapsed = number_at(sample, "system.pressure.cpu_some_seconds"), sample["elapsed_seconds"]
        if stalled is None:
            return False
        before, self._pressure = self._pressure, (elapsed, stalled)
        busy, used = number_at(sample, "system.cpu_cores"), number_at(sample, "tree.cpu_cores")
        if before is None or busy is None or used is None:
            return False
        return stalled - before[1] >= CROWDED_SHARE * (elapsed - before[0]) and busy >= 2 * used

    def timeout(self, now: int) -> int | None:
        """Return the nanoseconds until there is something to read; None while there is nothing."""
        return None if self._reader is None or self.fault is not None else self._reader.timeout(now)

    def step(self, now: int) -> None:
        """Read a part, if that is due. An error ends the reading and nothing else."""
        if self._reader is not None and self.fault is None:
            try:
                self._reader.step(now)
            except Exception as error:
                self.fault = error

    def _add(self, found: JsonObject) -> None:
        seconds = found["interval_seconds"]
        self._seconds += seconds
        self._core_seconds += seconds * found["cpu_cores"]
        self._is_partial |= found["coverage"] == PARTIAL
        for entry in found["largest"]:
            group = self._groups.setdefault((entry["user"], entry["command"]), [0.0, 0, 0])
            group[0] += seconds * entry["cpu_cores"]
            group[1] = max(group[1], entry["processes"])
            group[2] = max(group[2], entry["rss_bytes"])
        while len(self._groups) > MAX_GROUPS:
            del self._groups[min(self._groups, key=lambda key: self._groups[key][0])]

    def summary(self) -> JsonObject | None:
        """Return the means over all intervals in which others were read; None without one."""
        seconds = self._seconds
        if not seconds:
            return None
        from proctally.host.neighbours import section

        means = {key: [group[0] / seconds, *group[1:]] for key, group in self._groups.items()}
        return section(seconds, self._core_seconds / seconds, means, is_partial=self._is_partial)
