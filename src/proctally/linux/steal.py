"""Time that perf's clock counts although the job did not run: interrupts, and other machines on the same host.

The scheduler, and with it /proc, wait4 and cgroups, leaves it out (kernel: update_rq_clock_task).
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.machine import Machine

MARGIN = 2  # a job may be hit by so much more than its share


class Stolen:
    """How much of a job's time by perf may have been such time, since this object was made."""

    __slots__ = ("_before", "_machine")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._before = self._read()

    def _read(self) -> tuple[int, int] | None:
        try:
            return parse_machine(self._machine.read("stat"))
        except UNREADABLE:
            return None

    def most_ns(self, used_ns: int) -> int:
        """At most so many of these nanoseconds: the job's share of all that the machine did, with a margin."""
        now = self._read()
        if self._before is None or now is None:
            return 0
        busy, taken = (after - before for before, after in zip(self._before, now, strict=True))
        if busy <= 0 or taken <= 0:
            return 0
        share = min(1.0, MARGIN * used_ns / (busy * self._machine.tick_ns))
        return int(taken * self._machine.tick_ns * share)


def parse_machine(data: bytes) -> tuple[int, int]:
    """The first line of `/proc/stat`: ticks in which processes ran, and those of interrupts and other machines."""
    name, *fields = data.partition(b"\n")[0].split()
    if name != b"cpu" or len(fields) < 4:
        raise ValueError(f"stat: {data[:200]!r}")
    ticks = [int(field) for field in fields[:8]]
    return sum(ticks[:3]), sum(ticks[5:8])
