"""perf for one run: opened on the held job, drained in time, and what it can say at the end.

Rings where they can be had: the exact total and every process by its command. Else one counter: the total alone. Else
neither, and why.
"""

from __future__ import annotations

import os

from proctally.kernel.cgroup import parse_cpu_list
from proctally.kernel.machine import UNREADABLE, leave_spare
from proctally.kernel.perf import (
    ALWAYS,
    COUNTERS,
    MOST_RINGS,
    Attached,
    Counter,
    Counters,
    Events,
    Refused,
    Rings,
    Unavailable,
    explain,
    open_counter,
    open_rings,
)
from proctally.kernel.stolen import Stolen
from proctally.roll import Roll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from proctally.kernel.machine import Machine

LISTINGS = 20  # of a tree that makes threads faster than they can be opened; the rest is missing
LATE_NS = 1_000_000  # a record may come so much later than the time it bears


class Watch:
    """What the kernel counts of one tree, from the exec of its root on.

    `why`: why there is no counter; `why_no_commands`: why nothing is known of single processes. None where there is.
    """

    __slots__ = (
        "_counter",
        "_counters",
        "_cpuset",
        "_known_cpus",
        "_rings",
        "_stolen",
        "broken",
        "lost",
        "machine",
        "roll",
        "total_ns",
        "unsure",
        "why",
        "why_no_commands",
    )

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.total_ns: int | None = None
        self.lost: int | None = 0
        self.broken = 0  # rings that held something else than records
        self.roll: Roll | None = None
        self.why: str | None = "not asked for"
        self.why_no_commands: str | None = None
        self._rings: Rings | None = None
        self._counter: Counter | Attached | None = None
        self._counters: Counters | None = None
        self._cpuset: Callable[[], Collection[int]] = set
        self._known_cpus: list[int] = []
        self._stolen: Stolen | None = None
        self.unsure = False  # whether threads that were made during an attach may be missing

    def open(
        self,
        library: Any,
        pid: int,
        command: bytes,
        *,
        commands: str,
        counters: bool,
        cpuset: Callable[[], Collection[int]] = set,
    ) -> None:
        """Count this held child from its exec on.

        `commands`: auto, on or off, whether each process is to be known; `counters`: more than its time, too;
        `cpuset`: tells the only CPUs on which it can run at this moment, where that is known.
        """
        self._cpuset = cpuset
        self.why_no_commands = self._without_rings(commands)
        try:
            events = Events(library)
            if self.why_no_commands is None:
                try:
                    self._known_cpus = self._cpus()
                    self._rings = open_rings(events, pid, self._known_cpus)
                    leave_spare()
                    self.roll = Roll(pid, command, self.machine.monotonic_ns())
                except OSError as error:
                    self.close()
                    self.why_no_commands = self._explain(error)
            if self._rings is None:
                self._counter = open_counter(events, pid)
                leave_spare()
            self.why = None
            if counters:
                self._open_counters(events, pid)
        except Unavailable as reason:
            self.why = str(reason)
        except OSError as error:
            self.close()
            self.why = self._explain(error)

    def _open_counters(self, events: Events, pid: int) -> None:
        self._counters = Counters(events, pid)
        try:
            leave_spare()
        except OSError:
            self._counters.close()
            self._counters = None

    def attach(self, library: Any, threads: Callable[[], list[int]]) -> None:
        """Count a tree that runs already from now on. `threads()` lists all of it at this moment."""
        cpus = self._cpus()
        try:
            attached = Attached(Events(library), cpus if len(cpus) <= MOST_RINGS else ())
        except Unavailable as reason:
            self.why = str(reason)
            return
        self.why = None
        try:
            for _ in range(LISTINGS):
                if not attached.take_in(threads(), self.machine.monotonic_ns):
                    break
            leave_spare()
        except OSError as error:
            self.why = self._explain(error)
        attached.settle()
        if attached.denied:
            self.why = self._denied(library)
        if self.why is not None or not len(attached):
            attached.close()
            return
        self.unsure = attached.unsure
        self._counter = attached

    def _denied(self, library: Any) -> str:
        """Why threads of others are refused: all are, ourselves included, or those of other users."""
        try:
            os.close(Events(library).open(0, -1, ALWAYS))
        except Refused as error:
            return self._explain(error)
        return "refused for some of its threads: those of other users need CAP_PERFMON"

    def _cpus(self) -> list[int]:
        """The CPUs on which the job may run, also after it has widened its own mask: all that are online.

        In a container that list may be made up (LXCFS); where we may run ourselves, the kernel itself says.
        """
        of_cpuset = self._cpuset()
        if of_cpuset:
            return sorted(of_cpuset)
        cpus = set(os.sched_getaffinity(0))
        try:
            cpus |= parse_cpu_list(self.machine.read_sys("devices/system/cpu/online"))
        except (*UNREADABLE, OSError, ValueError):
            pass
        return sorted(cpus)

    def _without_rings(self, commands: str) -> str | None:
        if commands == "off":
            return "switched off"
        count = len(self._cpus())
        if commands == "auto" and count > MOST_RINGS:
            return f"with {count} CPUs every fork would take {2 * count} us longer: ask for it by --commands on"
        return None

    def _explain(self, error: OSError) -> str:
        try:
            paranoid = int(self.machine.read("sys/kernel/perf_event_paranoid"))
        except (*UNREADABLE, OSError, ValueError):
            paranoid = None
        return explain(error, paranoid)

    @property
    def fds(self) -> list[int]:
        """Descriptors that become ready when records should be taken."""
        return self._rings.fds if self._rings is not None else []

    def read(self) -> int | None:
        """Nanoseconds that the tree has used since its exec; None without a counter."""
        try:
            if self._rings is not None:
                self.total_ns = self._rings.read()
            elif self._counter is not None:
                self.total_ns = self._counter.read()
        except OSError:
            pass  # what was read before stands
        return self.total_ns

    def begin(self) -> None:
        """The job runs: from now on time is taken from it by others."""
        if self._rings is not None or self._counter is not None:
            self._stolen = Stolen(self.machine)

    def doubtful_ns(self) -> int:
        """So many nanoseconds of the total may have been taken by interrupts and other machines."""
        return 0 if self._stolen is None else self._stolen.most_ns(self.total_ns or 0)

    def take(self, *, last: bool = False) -> None:
        """Take the records that are there, before their room is used up. `last`: nothing more will happen."""
        if self._rings is None or self.roll is None:
            return
        horizon = None if last else self.machine.monotonic_ns() - LATE_NS
        self.roll.take(self._rings.drain(horizon))
        self.broken = self._rings.broken
        if last:
            self.lost = self._rings.lost()

    def new_cpus(self) -> list[int]:
        """CPUs that were not there at the start: what was forked on them is in no record."""
        return [cpu for cpu in self._cpus() if cpu not in self._known_cpus] if self._known_cpus else []

    def counters(self) -> dict[str, int | None]:
        """What else was counted since the exec, by name; None where it was not asked for, or cannot be had."""
        return dict.fromkeys(name for name, *_ in COUNTERS) if self._counters is None else self._counters.read()

    def close(self) -> None:
        """Give everything back to the kernel."""
        if self._rings is not None:
            self._rings.close()
        if self._counter is not None:
            self._counter.close()
        if self._counters is not None:
            self._counters.close()
        self._rings = self._counter = self._counters = None
