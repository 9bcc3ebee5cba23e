"""Sums of the processes of each command."""

from __future__ import annotations

from proctally.record import seconds
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.linux.machine import Machine
    from proctally.record import JsonObject
    from proctally.tree.member import Member


class CommandUse:
    """The sums of all processes of one name.

    `wall_ns`: their lifetimes; `peak_rss`: bytes of the largest one seen; `threads_ended`: before their processes.
    """

    __slots__ = ("cpu_ns", "peak_rss", "processes", "threads_ended", "wall_ns")

    def __init__(self) -> None:
        self.processes = 0
        self.cpu_ns = 0
        self.wall_ns = 0
        self.peak_rss = 0
        self.threads_ended = 0


class Commands:
    """The commands of one tree, as scans saw them. `uses`: the sums of processes that exited, by name."""

    __slots__ = ("machine", "uses")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.uses: dict[bytes, CommandUse] = {}

    def add(self, name: bytes) -> None:
        """Note that a process has this name."""
        self.uses.setdefault(name, CommandUse())

    def count(self, member: Member, since_ticks: int) -> None:
        """Add a process that exited, or that tracking leaves. `since_ticks`: boot time at which tracking started."""
        use = self.uses.setdefault(member.command, CommandUse())
        use.processes += 1
        use.cpu_ns += member.cpu - member.cpu_base
        started_ns = max(member.start, since_ticks) * self.machine.tick_ns
        use.wall_ns += max(0, self.machine.boottime_ns() - started_ns)
        use.peak_rss = max(use.peak_rss, member.peak_rss)

    def so_far(self, members: Iterable[Member]) -> dict[bytes, list[int]]:
        """Return processes and CPU nanoseconds by name: of those that exited, and of the living `members`."""
        rows = {name: [use.processes, use.cpu_ns] for name, use in self.uses.items()}
        for member in members:
            row = rows.setdefault(member.command, [0, 0])
            row[0] += 1
            row[1] += member.cpu - member.cpu_base
        return {name: row for name, row in rows.items() if row[0]}

    def largest(self) -> list[JsonObject]:
        """Return the commands of the summary, by the CPU time of their processes."""
        found = sorted(self.uses.items(), key=_cpu_ns, reverse=True)
        return [
            {
                "command": decode_name(name),
                "processes": use.processes,
                "cpu_seconds": seconds(use.cpu_ns),
                "teardown_seconds": 0.0,
                "wall_seconds": seconds(use.wall_ns),
                "peak_rss_bytes": use.peak_rss or None,
            }
            for name, use in found
            if use.processes
        ]


def _cpu_ns(item: tuple[bytes, CommandUse]) -> int:
    return item[1].cpu_ns
