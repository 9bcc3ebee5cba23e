"""The figures of a run that are compared and decided by: one table of where each stands in a summary and what it is.

An unknown figure is None. `memory` is the upper bound of the peak; in an older record without it, the larger of the sum
of PSS and the largest process; never `memory.peak` of a cgroup, which contains the page cache.
"""

from __future__ import annotations

from proctally.record.schema import field
from proctally.record.values import number_at, value_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LESS, EITHER = "less", ""  # which of two is the better one
TREE, MACHINE = "tree", "machine"  # of the job, or of all that the machine did meanwhile


class Measure:
    """One figure: its name, where it is in a summary, its unit of the table of fields, and which way is better.

    `paths`: groups, of which the first that is known counts; of a group the largest. `scope`: `tree` or `machine`.
    """

    __slots__ = ("better", "help", "name", "paths", "scope", "unit")

    def __init__(self, name: str, paths: str, better: str, scope: str, text: str) -> None:
        self.name = name
        self.paths = tuple(tuple(group.split()) for group in paths.split("|"))
        self.unit = field(f"summary.{self.paths[0][0]}").unit
        self.better = better
        self.scope = scope
        self.help = text

    def of(self, summary: Mapping[str, object] | None) -> float | None:
        """Its value in a summary, in its unit; None where it is not known."""
        for group in self.paths:
            known: list[float] = [value for path in group if (value := value_at(summary, path)) is not None]
            if known:
                return max(known)
        return None


# name, where, better, scope, meaning
FIGURES = tuple(
    Measure(*row)
    for row in (
        ("wall", "wall_seconds", LESS, TREE, "time from start to end"),
        ("cpu", "cpu.total_seconds", LESS, TREE, "CPU time of the tree"),
        ("user", "cpu.user_seconds", LESS, TREE, "its user part"),
        ("system", "cpu.system_seconds", LESS, TREE, "its kernel part"),
        ("cores", "cpu.mean_cores", EITHER, TREE, "mean busy cores"),
        ("peak-cores", "cpu.peak_cores", EITHER, TREE, "most busy cores over an interval"),
        ("memory", "memory.peak_high_bytes|memory.peak_pss_bytes memory.peak_process_rss_bytes", LESS, TREE,
         "peak of anonymous and shared memory, upper bound; of older records the larger of pss and process"),
        ("memory-low", "memory.peak_low_bytes", LESS, TREE, "the same, lower bound"),
        ("pss", "memory.peak_pss_bytes", LESS, TREE, "peak of the sum of PSS, as sampled"),
        ("rss", "memory.peak_rss_bytes", LESS, TREE, "peak of the sum of RSS, as sampled"),
        ("process", "memory.peak_process_rss_bytes", LESS, TREE, "high-water mark of the largest process"),
        ("read", "io.read_bytes", LESS, TREE, "bytes read from storage"),
        ("write", "io.write_bytes", LESS, TREE, "bytes written to storage"),
        ("read-chars", "io.read_chars", LESS, TREE, "bytes asked of read(2) and its like"),
        ("write-chars", "io.write_chars", LESS, TREE, "bytes given to write(2) and its like"),
        ("processes", "processes.started", EITHER, TREE, "processes started"),
        ("peak-processes", "processes.peak", EITHER, TREE, "most processes at once"),
        ("run-delay", "waiting.run_delay_seconds", LESS, TREE, "time that was ready to run and had no CPU"),
        ("throttled", "waiting.throttled_seconds", LESS, TREE, "time held back by a CPU quota"),
        ("cpu-pressure", "cgroup.cpu_pressure_seconds", LESS, TREE, "time some task waited for a CPU"),
        ("memory-pressure", "cgroup.memory_pressure_seconds", LESS, TREE, "time some task waited for memory"),
        ("io-pressure", "cgroup.io_pressure_seconds", LESS, TREE, "time some task waited for storage"),
        ("page-faults", "counters.page_faults", LESS, TREE, "page faults (--counters)"),
        ("switches", "counters.context_switches", LESS, TREE, "context switches (--counters)"),
        ("cycles", "counters.cycles", LESS, TREE, "CPU cycles in user mode (--counters)"),
        ("instructions", "counters.instructions", LESS, TREE, "instructions in user mode (--counters)"),
        ("gpu", "gpu.mean_utilization_ratio", EITHER, TREE, "mean use of GPUs, summed, whoever used them"),
        ("gpu-memory", "gpu.peak_tree_memory_bytes", LESS, TREE, "peak memory of the tree on GPUs"),
        ("machine-cpu", "system.cpu_seconds", EITHER, MACHINE, "CPU time of the whole machine meanwhile"),
        ("machine-cores", "system.mean_cores", EITHER, MACHINE, "mean busy cores of the machine"),
        ("machine-memory", "system.peak_memory_used_bytes", EITHER, MACHINE, "most memory used of the machine"),
        ("machine-read", "system.disk_read_bytes", EITHER, MACHINE, "bytes read from all disks"),
        ("machine-write", "system.disk_write_bytes", EITHER, MACHINE, "bytes written to all disks"),
        ("machine-received", "system.network_received_bytes", EITHER, MACHINE, "bytes received"),
        ("machine-sent", "system.network_sent_bytes", EITHER, MACHINE, "bytes sent"),
        ("machine-iowait", "system.cpu_iowait_seconds", EITHER, MACHINE, "time idle with a request open"),
        ("machine-steal", "system.cpu_steal_seconds", EITHER, MACHINE, "time that a hypervisor took"),
    )
)  # fmt: skip


def command_seconds(row: object) -> float | None:
    """Return the CPU seconds of a row of `commands`, with what its processes used while they exited."""
    used = number_at(row, "cpu_seconds")
    return None if used is None else used + (number_at(row, "teardown_seconds") or 0.0)


BY_NAME = {figure.name: figure for figure in FIGURES}


def figure(name: str) -> Measure:
    """The figure of this name. Raises KeyError."""
    return BY_NAME[name]
