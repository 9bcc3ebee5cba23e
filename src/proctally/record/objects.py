"""The figures of a run that are compared and decided by: one table of where each stands in a summary and what it is.

A figure that is not known is None. `memory` is the one to plan with: the sum of PSS as sampled, or the largest process
by its high-water mark, whichever is more; never `memory.peak` of a cgroup, which has the page cache in it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeGuard

LESS, MORE, EITHER = "less", "more", ""  # which of two is the better one
TREE, MACHINE = "tree", "machine"  # of the job, or of all that the machine did meanwhile
LARGEST = 1e30  # beyond it a value is a mistake, and its square no number
SECONDS, BYTES, NUMBER = "s", "By", "1"


class Figure:
    """One figure: its name, where it stands in a summary, its unit (as in model.py), and which way is better.

    `paths`: of several the largest that is known. `scope`: `tree` or `machine`.
    """

    __slots__ = ("better", "help", "name", "paths", "scope", "unit")

    def __init__(self, name: str, paths: str, unit: str, better: str, scope: str, text: str) -> None:
        self.name = name
        self.paths = tuple(tuple(path.split(".")) for path in paths.split())
        self.unit = unit
        self.better = better
        self.scope = scope
        self.help = text

    def of(self, summary: Mapping[str, Any] | None) -> float | None:
        """Its value in a summary, in its unit; None where it is not known."""
        known = [value for value in (_number(summary, path) for path in self.paths) if value is not None]
        return max(known, default=None)


# name, where, unit, better, scope, meaning
FIGURES = tuple(
    Figure(*row)
    for row in (
        ("wall", "wall_seconds", SECONDS, LESS, TREE, "time from start to end"),
        ("cpu", "cpu.total_seconds", SECONDS, LESS, TREE, "CPU time of the tree"),
        ("user", "cpu.user_seconds", SECONDS, LESS, TREE, "its user part"),
        ("system", "cpu.system_seconds", SECONDS, LESS, TREE, "its kernel part"),
        ("cores", "cpu.mean_cores", NUMBER, EITHER, TREE, "mean busy cores"),
        ("peak-cores", "cpu.peak_cores", NUMBER, EITHER, TREE, "most busy cores over an interval"),
        ("memory", "memory.peak_pss_bytes memory.peak_process_rss_bytes", BYTES, LESS, TREE,
         "the larger of pss and process"),
        ("pss", "memory.peak_pss_bytes", BYTES, LESS, TREE, "peak of the sum of PSS, as sampled"),
        ("rss", "memory.peak_rss_bytes", BYTES, LESS, TREE, "peak of the sum of RSS, as sampled"),
        ("process", "memory.peak_process_rss_bytes", BYTES, LESS, TREE, "high-water mark of the largest process"),
        ("read", "io.read_bytes", BYTES, LESS, TREE, "bytes read from storage"),
        ("write", "io.write_bytes", BYTES, LESS, TREE, "bytes written to storage"),
        ("read-chars", "io.read_chars", BYTES, LESS, TREE, "bytes asked of read(2) and its like"),
        ("write-chars", "io.write_chars", BYTES, LESS, TREE, "bytes given to write(2) and its like"),
        ("processes", "processes.started", NUMBER, EITHER, TREE, "processes started"),
        ("peak-processes", "processes.peak", NUMBER, EITHER, TREE, "most processes at once"),
        ("run-delay", "waiting.run_delay_seconds", SECONDS, LESS, TREE, "time that was ready to run and had no CPU"),
        ("throttled", "waiting.throttled_seconds", SECONDS, LESS, TREE, "time held back by a CPU quota"),
        ("cpu-pressure", "cgroup.cpu_pressure_seconds", SECONDS, LESS, TREE, "time some task waited for a CPU"),
        ("memory-pressure", "cgroup.memory_pressure_seconds", SECONDS, LESS, TREE, "time some task waited for memory"),
        ("io-pressure", "cgroup.io_pressure_seconds", SECONDS, LESS, TREE, "time some task waited for storage"),
        ("page-faults", "counters.page_faults", NUMBER, LESS, TREE, "page faults (--counters)"),
        ("switches", "counters.context_switches", NUMBER, LESS, TREE, "context switches (--counters)"),
        ("cycles", "counters.cycles", NUMBER, LESS, TREE, "CPU cycles in user mode (--counters)"),
        ("instructions", "counters.instructions", NUMBER, LESS, TREE, "instructions in user mode (--counters)"),
        ("gpu", "gpu.mean_utilization_ratio", NUMBER, EITHER, TREE, "mean use of GPUs, summed, whoever used them"),
        ("gpu-memory", "gpu.peak_tree_memory_bytes", BYTES, LESS, TREE, "peak memory of the tree on GPUs"),
        ("machine-cpu", "system.cpu_seconds", SECONDS, EITHER, MACHINE, "CPU time of the whole machine meanwhile"),
        ("machine-cores", "system.mean_cores", NUMBER, EITHER, MACHINE, "mean busy cores of the machine"),
        ("machine-memory", "system.peak_memory_used_bytes", BYTES, EITHER, MACHINE, "most memory used of the machine"),
        ("machine-read", "system.disk_read_bytes", BYTES, EITHER, MACHINE, "bytes read from all disks"),
        ("machine-write", "system.disk_write_bytes", BYTES, EITHER, MACHINE, "bytes written to all disks"),
        ("machine-received", "system.network_received_bytes", BYTES, EITHER, MACHINE, "bytes received"),
        ("machine-sent", "system.network_sent_bytes", BYTES, EITHER, MACHINE, "bytes sent"),
        ("machine-iowait", "system.cpu_iowait_seconds", SECONDS, EITHER, MACHINE, "time idle with a request open"),
        ("machine-steal", "system.cpu_steal_seconds", SECONDS, EITHER, MACHINE, "time that a hypervisor took"),
    )
)  # fmt: skip
BY_NAME = {figure.name: figure for figure in FIGURES}


def figure(name: str) -> Figure:
    """The figure of this name. Raises KeyError."""
    return BY_NAME[name]


def peak_memory(summary: Mapping[str, Any] | None) -> int | None:
    """The figure `memory`: bytes."""
    value = BY_NAME["memory"].of(summary)
    return None if value is None else int(value)


def _number(value: Any, path: tuple[str, ...]) -> float | None:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value if is_number(value) and value >= 0 else None


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether this is a number that can be calculated with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
