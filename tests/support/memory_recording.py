"""Recorded runs: what a tracker passed to the memory model, and the truth.

`golden/memory/JOB-SETTING.jsonl.gz`, one event a line: its name and its values. Sizes are in KiB, faults in pages.

    start        the levels before the job, `cpus`, `page`, the job and its options
    enter        number, pid, start ticks, command, program (a number), number of the parent or null
    update       number, program, [peak, anon, file, shmem, tables, swap, hugetlb], faults, threads
    fade, leave  number
    neighbours   [pid, start ticks, RssAnon, faults] of each, or null where they are hidden
    bracket      anonymous level before the scan; anonymous, shared and huge level after it; claimed
    read         program: a whole reading of this family starts
    take         program; [number, faults, Pss_Anon, Pss_File, Pss_Shmem, Anonymous, private and shared hugetlb] each
    settle       seconds; truth before and after the scan
    finish       ru_maxrss of the largest process, mark of the launcher, the largest truth as sampled every 20 ms

The truth is `total_rss` + `total_shmem` of a v1 memory cgroup around the job. Settings: `readable` (a cgroup around
tracker and job, whose counters and processes are read), `neighbours` (the same, with other processes in it that hold
and move memory), `hidden` (the machine's counters, no other process).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from places import GOLDEN
from proctally.linux.memory_levels import MemoryLevels
from proctally.linux.proc_memory import Rollup
from proctally.tree.memory import MemoryModel
from proctally.tree.memory_families import Family, ProcessMemory
from proctally.tree.memory_moments import Bracket
from proctally.tree.memory_pss import snapshot

FOLDER = GOLDEN / "memory"
KIB = 1024
MIB = 1 << 20


class Scan:
    """One scan of a recording: its last bracket, the truth before and after it."""

    def __init__(self, seconds: float, bracket: Bracket, truth: tuple[int, int], processes: int) -> None:
        self.seconds = seconds
        self.bracket = bracket
        self.least, self.most = sorted(truth)
        self.processes = processes

    def is_right(self) -> bool:
        """Return whether the truth is in the bracket, within 2 % + 1 MiB."""
        return 0.98 * self.bracket.low - MIB <= self.most and self.least <= 1.02 * self.bracket.high + MIB

    def is_wide(self) -> bool:
        return self.bracket.high - self.bracket.low > 0.1 * self.bracket.low + 8 * MIB


class Recording:
    """A recorded run, played into a model.

    `scans`: those that saw a process; `truth`: the largest as sampled.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name.removesuffix(".jsonl.gz")
        self.job, _, self.setting = self.name.rpartition("-")
        self.scans: list[Scan] = []
        self.truth = 0
        self._processes: dict[int | None, ProcessMemory] = {}
        self._reading: tuple[Family, list[tuple[ProcessMemory, int, int]]] | None = None
        self._page = 0
        for line in gzip.decompress(path.read_bytes()).splitlines():
            name, *values = json.loads(line)
            getattr(self, f"_{name}")(*values)

    def wide(self) -> list[float]:
        """Return the moments of wide scans, after the first second."""
        return [scan.seconds for scan in self.scans if scan.seconds > 0.9 and scan.is_wide()]

    def _start(self, about: dict[str, Any]) -> None:
        self._page = about["page"]
        start = MemoryLevels(about["anon"] * KIB, about["shmem"] * KIB, about["huge"] * KIB)
        before = about["anon_before"] * KIB
        self.model = MemoryModel(about["cpus"], start=start, anon_before=before, page_size=self._page)

    def _enter(self, number: int, pid: int, start: int, command: str, program: int, parent: int | None) -> None:
        self._processes[number] = self.model.enter(
            pid, start, command.encode(), b"%d" % program, self._processes.get(parent), is_root=not self._processes
        )

    def _update(self, number: int, program: int, sizes: list[int], faults: int, threads: int) -> None:
        peak, anon, file, shmem, tables, swap, hugetlb = (size * KIB for size in sizes)
        self.model.update(
            self._processes[number],
            b"%d" % program,
            (peak, anon, file, shmem, tables, swap, hugetlb),
            faults * self._page,
            threads,
        )

    def _fade(self, number: int) -> None:
        self.model.fade(self._processes[number])

    def _leave(self, number: int) -> None:
        self.model.leave(self._processes[number])

    def _neighbours(self, others: list[list[int]] | None) -> None:
        readings = None
        if others is not None:
            readings = {(pid, start): (anon * KIB, faults * self._page) for pid, start, anon, faults in others}
        self.model.neighbours(readings)

    def _bracket(self, anon_before: int, anon: int, shmem: int, huge: int, claimed: int) -> None:
        self.model.bracket(anon_before * KIB, MemoryLevels(anon * KIB, shmem * KIB, huge * KIB), claimed * KIB)

    def _read(self, program: int) -> None:
        family = self.model.families[b"%d" % program]
        self._reading = family, snapshot(family)

    def _take(self, program: int, readings: list[list[int]]) -> None:
        assert self._reading is not None
        family, first = self._reading
        self.model.take(
            family,
            first,
            {
                self._processes[number]: (faults * self._page, Rollup(*(size * KIB for size in sizes)))
                for number, faults, *sizes in readings
            },
        )

    def _settle(self, seconds: float, before: int, after: int) -> None:
        self.model.settle(seconds)
        assert self.model.last is not None
        if self.model.members:
            truth = before * KIB, after * KIB
            self.scans.append(Scan(seconds, self.model.last, truth, len(self.model.members)))

    def _finish(self, maxrss: int, floor: int, truth: int) -> None:
        self.model.peaks.finish(maxrss * KIB, floor * KIB)
        self.truth = truth * KIB


def recordings() -> Iterator[Recording]:
    """Play every recording."""
    for path in sorted(FOLDER.glob("*.jsonl.gz")):
        yield Recording(path)
