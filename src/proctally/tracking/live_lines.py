"""What exporters are told at each sample beside the record: commands so far, the largest processes, our own cost.

None of it is for the record, which has it all at its end; it costs nothing where nothing is exported.
"""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE
from proctally.linux.machine import NANOSECONDS, process_cpu_ns
from proctally.record import seconds
from proctally.record.codes import NOT_REQUESTED
from proctally.text.escape import decode_name
from proctally.tree.perf_processes import NO_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from proctally.gauges import Gauges
    from proctally.host.sampler import HostSampler
    from proctally.linux.machine import Machine
    from proctally.record import JsonObject
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.perf_source import PerfSource
    from proctally.tree.sampler import TreeSampler

    Result = TypeVar("Result")

COMMANDS = 1000  # of so many the exporter is told, those with the most CPU time
SHARE = 100  # summing up commands takes at most one part in so many of the time
OTHERS = "other"
PROCESSES = 1000  # of which gauges are told, the largest


class Live:
    """Lines for the exporter alone."""

    def __init__(self, machine: Machine, cpu_ns: Callable[[], int]) -> None:
        """`cpu_ns`: CPU time of the helper processes."""
        self._machine = machine
        self._cpu_ns = cpu_ns
        self._booted = machine.start_unix(0)  # read once: the start of a process is part of what it is known by
        self._took: dict[str, float] = {}
        self._commands_not_before = 0
        self._gauges: Gauges | None = None

    def timed(self, source: str, call: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Do this, and remember how long it took."""
        begun = self._machine.monotonic_ns()
        try:
            return call(*arguments, **named)
        finally:
            self._took[source] = seconds(self._machine.monotonic_ns() - begun)

    def of_tree(
        self,
        sample: Mapping[str, Any],
        sampler: TreeSampler,
        perf: PerfSource | None,
        enclosure: Enclosure | None,
        host: HostSampler | None,
        late: int,
    ) -> list[JsonObject]:
        """After a sample of a tree. `late`: deadlines that were missed so far."""
        sources: dict[str, bool | None] = {"procfs": True}
        if perf is not None and perf.missing != NOT_REQUESTED:
            sources["perf"] = perf.missing is None
        if enclosure is not None and enclosure.own is not None:
            sources["cgroup"] = sample.get("cgroup") is not None
        lines = [line for line in (self._commands(sampler, perf),) if line is not None]
        lines.append(self._processes(sampler))
        lines.append({"type": "members", "processes": self._members(sample, sampler)})
        return [*lines, self._tracker(sample, sources, host, sampler.samples.count, late)]

    def _processes(self, sampler: TreeSampler) -> JsonObject:
        """The gauges of the largest processes of the tree, by pid and program."""
        if self._gauges is None:
            from proctally.gauges import Gauges

            self._gauges = Gauges.beside(sampler, self._machine)
        tree = self._gauges.sample(PROCESSES)
        processes = [
            {"pid": series.pid, "exe": series.exe} | gauges._asdict() for series, gauges in tree.members.items()
        ]
        count, rss = tree.processes, tree.rss_bytes
        return {"type": "gauges", "processes": processes, "process_count": count, "rss_total_bytes": rss}

    def of_machine(self, sample: Mapping[str, Any], host: HostSampler, samples: int, late: int) -> list[JsonObject]:
        """After a sample of the machine alone."""
        return [self._tracker(sample, {}, host, samples, late)]

    def _tracker(
        self,
        sample: Mapping[str, Any],
        sources: dict[str, bool | None],
        host: HostSampler | None,
        samples: int,
        late: int,
    ) -> JsonObject:
        """How it is with the tracker itself: the last line of a sample."""
        if host is not None:
            if host.reads_system:
                sources["system"] = sample.get("system") is not None
            if sample.get("gpus") != [] and host.reads_gpus:
                sources["gpu"] = sample.get("gpus") is not None and not sample.get("gpus_unavailable")
                self._took["gpu"] = seconds(host.gpus_took_ns)
        try:
            resident = int(self._machine.read(f"{os.getpid()}/statm").split()[1]) * self._machine.page_size
        except (*UNREADABLE, IndexError):
            resident = None
        return {
            "type": "tracker",
            "cpu_seconds": seconds(process_cpu_ns(self._machine) + self._cpu_ns()),
            "rss_bytes": resident,
            "samples": samples,
            "late_samples": late,
            "sources": {
                name: {"success": success, "seconds": self._took.get(name)} for name, success in sources.items()
            },
        }

    # -- commands and processes ----------------------------------------------------------------------------------

    def _commands(self, sampler: TreeSampler, perf: PerfSource | None) -> JsonObject | None:
        """CPU time by command so far; None where it is too early to sum up again."""
        begun = self._machine.monotonic_ns()
        if begun < self._commands_not_before:
            return None
        members = sampler.members.values()
        clocks = {member.pid: member.cpu - member.cpu_base for member in members}
        roll = None if perf is None else perf.roll
        rows = roll.so_far(clocks) if roll is not None and roll.tells_time() else sampler.commands.so_far(members)
        started = sampler.processes_started()
        nameless = rows.pop(NO_NAME, None)
        living = sum(1 for member in members if not member.ended)
        ranked = sorted(rows.items(), key=_cpu, reverse=True)
        told = [
            {"command": decode_name(name), "processes": processes, "cpu_seconds": seconds(cpu_ns)}
            for name, (processes, cpu_ns) in ranked[:COMMANDS]
        ]
        rest = [row for _, row in ranked[COMMANDS:]] + ([] if nameless is None else [nameless])
        if rest:
            processes, cpu_ns = (sum(column) for column in zip(*rest, strict=True))
            told.append({"command": OTHERS, "folded": True, "processes": processes, "cpu_seconds": seconds(cpu_ns)})
        ended = self._machine.monotonic_ns()
        self._commands_not_before = ended + SHARE * (ended - begun)
        return {"type": "commands", "commands": told, "started": started, "ended": max(0, started - living)}

    def _members(self, sample: Mapping[str, Any], sampler: TreeSampler) -> list[JsonObject]:
        """The processes that the sample names, each with its identity and its own totals."""
        machine, found = self._machine, []
        for entry in sample.get("top") or ():
            member = sampler.members.get(entry["pid"])
            if member is None:
                continue
            stat, io = member.stat, member.io
            found.append(
                {
                    "pid": member.pid,
                    "parent": member.ppid,
                    "command": entry["command"],
                    "started_at": round(self._booted + member.start * machine.tick_ns / NANOSECONDS, 2),
                    "cpu_user_seconds": stat.user * machine.tick_ns / NANOSECONDS,
                    "cpu_system_seconds": stat.system * machine.tick_ns / NANOSECONDS,
                    "rss_bytes": entry["rss_bytes"],
                    "virtual_bytes": stat.vsize,
                    "threads": member.threads,
                    "minor_faults": stat.minor_faults,
                    "major_faults": stat.major_faults,
                    "read_bytes": None if io is None else io[4],
                    "write_bytes": None if io is None else io[5],
                }
            )
        return found


def _cpu(item: tuple[bytes, list[int]]) -> int:
    return item[1][1]
