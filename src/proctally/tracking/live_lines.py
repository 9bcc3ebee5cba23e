"""What exporters are told at each sample beside the record: commands so far, the largest processes, our own cost.

None of it is for the record, which has it all at its end; it costs nothing where nothing is exported.
"""

from __future__ import annotations

import os
import time

from proctally.kernel.machine import NANOSECONDS, UNREADABLE, seconds
from proctally.kernel.proc import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from proctally.enclosure import Enclosure
    from proctally.gauges import Gauges
    from proctally.kernel.machine import Machine
    from proctally.sampler import Sampler
    from proctally.surroundings import Surroundings
    from proctally.watch import Watch

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
        sampler: Sampler,
        watch: Watch | None,
        enclosure: Enclosure | None,
        around: Surroundings | None,
        late: int,
    ) -> list[dict[str, Any]]:
        """After a sample of a tree. `late`: deadlines that were missed so far."""
        sources: dict[str, bool | None] = {"procfs": True}
        if watch is not None and watch.why != "not asked for":
            sources["perf"] = watch.why is None
        if enclosure is not None and enclosure.own is not None:
            sources["cgroup"] = sample.get("cgroup") is not None
        lines = [line for line in (self._commands(sampler, watch),) if line is not None]
        lines.append(self._processes(sampler))
        lines.append({"type": "members", "processes": self._members(sample, sampler)})
        return [*lines, self._tracker(sample, sources, around, sampler.samples, late)]

    def _processes(self, sampler: Sampler) -> dict[str, Any]:
        """The gauges of the largest processes of the tree, by pid and program."""
        if self._gauges is None:
            from proctally.gauges import Gauges

            self._gauges = Gauges.beside(sampler, self._machine)
        tree = self._gauges.sample(PROCESSES)
        processes = [
            {"pid": series.pid, "exe": series.exe} | gauges._asdict() for series, gauges in tree.processes.items()
        ]
        count, rss = tree.process_count, tree.rss_bytes
        return {"type": "gauges", "processes": processes, "process_count": count, "rss_total_bytes": rss}

    def of_machine(
        self, sample: Mapping[str, Any], around: Surroundings, samples: int, late: int
    ) -> list[dict[str, Any]]:
        """After a sample of the machine alone."""
        return [self._tracker(sample, {}, around, samples, late)]

    def _tracker(
        self,
        sample: Mapping[str, Any],
        sources: dict[str, bool | None],
        around: Surroundings | None,
        samples: int,
        late: int,
    ) -> dict[str, Any]:
        """How it is with the tracker itself: the last line of a sample."""
        if around is not None:
            if around.reads_system:
                sources["system"] = sample.get("system") is not None
            if sample.get("gpus") != [] and around.reads_gpus:
                sources["gpu"] = sample.get("gpus") is not None and not sample.get("gpus_trouble")
                self._took["gpu"] = seconds(around.gpus_took_ns)
        try:
            resident = int(self._machine.read(f"{os.getpid()}/statm").split()[1]) * self._machine.page_size
        except (*UNREADABLE, OSError, ValueError, IndexError):
            resident = None
        return {
            "type": "tracker",
            "cpu_seconds": seconds(time.process_time_ns() + self._cpu_ns()),
            "rss_bytes": resident,
            "samples": samples,
            "late_samples": late,
            "sources": {
                name: {"success": success, "seconds": self._took.get(name)} for name, success in sources.items()
            },
        }

    # -- commands and processes ----------------------------------------------------------------------------------

    def _commands(self, sampler: Sampler, watch: Watch | None) -> dict[str, Any] | None:
        """CPU time by command so far; None where it is too early to sum up again."""
        begun = self._machine.monotonic_ns()
        if begun < self._commands_not_before:
            return None
        clocks = {member.pid: member.cpu - member.cpu_base for member in sampler.tree.members.values()}
        roll = None if watch is None else watch.roll
        rows = roll.so_far(clocks) if roll is not None and roll.tells_time() else _seen(sampler)
        started = sampler.started if roll is None else roll.started
        living = sum(1 for member in sampler.tree.members.values() if not member.ended)
        ranked = sorted(rows.items(), key=_cpu, reverse=True)
        told = [
            {"command": text(name), "processes": processes, "cpu_seconds": seconds(cpu_ns)}
            for name, (processes, cpu_ns) in ranked[:COMMANDS]
        ]
        rest = [row for _, row in ranked[COMMANDS:]]
        if rest:
            processes, cpu_ns = (sum(column) for column in zip(*rest, strict=True))
            told.append({"command": OTHERS, "processes": processes, "cpu_seconds": seconds(cpu_ns)})
        ended = self._machine.monotonic_ns()
        self._commands_not_before = ended + SHARE * (ended - begun)
        return {"type": "commands", "commands": told, "started": started, "ended": max(0, started - living)}

    def _members(self, sample: Mapping[str, Any], sampler: Sampler) -> list[dict[str, Any]]:
        """The processes that the sample names, each with its identity and its own totals."""
        machine, found = self._machine, []
        for entry in sample.get("top") or ():
            member = sampler.tree.members.get(entry["pid"])
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


def _seen(sampler: Sampler) -> dict[bytes, list[int]]:
    """The commands of the processes that were seen: those that ended, and those that live."""
    rows = {name: [command.processes, command.cpu_ns] for name, command in sampler.commands.items()}
    for member in sampler.tree.members.values():
        row = rows.setdefault(member.command, [0, 0])
        row[0] += 1
        row[1] += member.cpu - member.cpu_base
    return {name: row for name, row in rows.items() if row[0]}
