"""perf for one run: opened on the held job, drained in time, and what it can say at the end.

Rings where possible: the exact total and every process by its command. Else one counter: the total alone. Else
neither, and a code that says why.
"""

from __future__ import annotations

import os
from errno import EACCES, EBUSY, EMFILE, ENFILE, ENODEV, ENOENT, ENOMEM, ENOSYS, EOPNOTSUPP, EPERM

from proctally.errors import UNREADABLE
from proctally.linux.child import pause
from proctally.linux.descriptors import leave_spare
from proctally.linux.machine import NANOSECONDS
from proctally.linux.perf import (
    ALWAYS,
    COUNTERS,
    MOST_RINGS,
    Counter,
    Events,
    PerfCounters,
    PerfRefused,
    Rings,
    Unsupported,
    open_counter,
    open_rings,
)
from proctally.linux.proc import parse_cpu_list
from proctally.linux.steal import Stolen
from proctally.record import codes
from proctally.tree.perf_processes import Roll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from proctally.linux.machine import Machine
    from proctally.linux.perf_attach import Attached

LISTINGS = 20  # of a tree that makes threads faster than they can be opened; the rest may be missing
QUIET_LISTINGS = 2  # without a new thread: the first can miss one whose fork has not ended
FORKING_SECONDS = 0.002
IDLE_NS = 10 * NANOSECONDS
LATE_NS = 1_000_000  # a record may come so much later than the time it bears
BY_ERRNO = {
    ENOSYS: codes.NO_SYSCALL,
    EMFILE: codes.NO_DESCRIPTORS,
    ENFILE: codes.NO_DESCRIPTORS,
    ENOENT: codes.NO_COUNTER,
    ENODEV: codes.NO_COUNTER,
    EOPNOTSUPP: codes.NO_COUNTER,
    ENOMEM: codes.NO_LOCKED_MEMORY,
    EBUSY: codes.NO_COUNTER_LEFT,
}


class PerfSource:
    """What the kernel counts of one tree, from the exec of its root on.

    `missing`: the code that says why there is no counter; `commands_missing`: why nothing is known of single processes.
    None where there is.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.total_ns: int | None = None
        self.lost: int | None = 0
        self.broken = 0  # rings that held something else than records
        self.roll: Roll | None = None
        self.missing: str | None = codes.NOT_REQUESTED
        self.commands_missing: str | None = None
        self._rings: Rings | None = None
        self._counter: Counter | Attached | None = None
        self._counters: PerfCounters | None = None
        self._cpuset: Callable[[], Collection[int]] = set
        self._known_cpus: list[int] = []
        self._stolen: Stolen | None = None
        self._idle_ns = self._read_ns = 0
        self._is_stale = False  # whether a reading was left out after the last one
        self._late_since_ns: int | None = None
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
        self.commands_missing = self._without_rings(commands)
        try:
            events = Events(library)
            if self.commands_missing is None:
                try:
                    self._known_cpus = self._cpus()
                    self._rings = open_rings(events, pid, self._known_cpus)
                    leave_spare()
                    self.roll = Roll(pid, command, self.machine.monotonic_ns())
                except OSError as error:
                    self.close()
                    self.commands_missing = self._code_of(error)
            if self._rings is None:
                self._counter = open_counter(events, pid)
                leave_spare()
            self.missing = None
            if counters:
                self._open_counters(events, pid)
        except Unsupported:
            self.missing = codes.UNSUPPORTED
        except OSError as error:
            self.close()
            self.missing = self._code_of(error)

    def _open_counters(self, events: Events, pid: int) -> None:
        self._counters = PerfCounters(events, pid)
        try:
            leave_spare()
        except OSError:
            self._counters.close()
            self._counters = None

    def attach(self, library: Any, threads: Callable[[], list[int]]) -> None:
        """Count a tree that runs already from now on. `threads()` lists all of it at this moment."""
        from proctally.linux.perf_attach import Attached

        cpus = self._cpus()
        try:
            attached = Attached(Events(library), cpus if len(cpus) <= MOST_RINGS else ())
        except Unsupported:
            self.missing = codes.UNSUPPORTED
            return
        self.missing = None
        try:
            quiet = 0
            for _ in range(LISTINGS):
                quiet = 0 if attached.take_in(threads(), self.machine.monotonic_ns) else quiet + 1
                if quiet == QUIET_LISTINGS:
                    break
                if quiet:
                    pause(FORKING_SECONDS)
            else:
                attached.unsure = True
            attached.finish(self.machine.monotonic_ns)
            leave_spare()
        except OSError as error:
            self.missing = self._code_of(error)
        if attached.denied:
            self.missing = self._denied(library)
        if self.missing is not None or not len(attached):
            attached.close()
            return
        self.unsure = attached.unsure
        self._idle_ns = IDLE_NS
        self._counter = attached

    def _denied(self, library: Any) -> str:
        """Return the code for threads that are refused: all are, ourselves included, or those of other users."""
        try:
            os.close(Events(library).open(0, -1, ALWAYS))
        except PerfRefused as error:
            return self._code_of(error)
        return codes.OTHER_USERS

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
        except UNREADABLE:
            pass
        return sorted(cpus)

    def _without_rings(self, commands: str) -> str | None:
        if commands == "off":
            return codes.SWITCHED_OFF
        if commands == "auto" and len(self._cpus()) > MOST_RINGS:
            return codes.MANY_CPUS
        return None

    def _code_of(self, error: OSError) -> str:
        """Return the code for an error of perf_event_open(2)."""
        if error.errno in (EACCES, EPERM):
            return codes.PARANOID if self._paranoid() > 2 else codes.PERF_REFUSED
        return BY_ERRNO.get(error.errno or 0) or codes.of_error(error)

    def _paranoid(self) -> int:
        """Return kernel.perf_event_paranoid; 0 where it is unknown."""
        try:
            return int(self.machine.read("sys/kernel/perf_event_paranoid"))
        except UNREADABLE:
            return 0

    @property
    def fds(self) -> list[int]:
        """Descriptors that become ready when records should be taken."""
        return self._rings.fds if self._rings is not None else []

    def read(self, *, is_idle: bool = False) -> int | None:
        """Return nanoseconds that the tree has used since its exec; None without a counter.

        `is_idle`: whether no member ran since the last reading. Then the counters of an attached tree, one for each
        thread, are read every 10 s only: they show what runs unseen.
        """
        try:
            if self._rings is not None:
                self.total_ns = self._rings.read()
            elif self._counter is not None and not self._leaves_out(is_idle):
                self.total_ns = self._counter.read()
        except OSError:
            pass  # what was read before stands
        return self.total_ns

    def _leaves_out(self, is_idle: bool) -> bool:
        now = self.machine.monotonic_ns()
        if is_idle and now - self._read_ns < self._idle_ns:
            self._is_stale = True
            return True
        if self._is_stale and self._late_since_ns is None:
            self._late_since_ns = self._read_ns
        self._is_stale, self._read_ns = False, now
        return False

    def take_late(self) -> int | None:
        """Return since when what came with the last reading may have run, if readings were left out; else None."""
        late, self._late_since_ns = self._late_since_ns, None
        return late

    @property
    def has_lost_processes(self) -> bool:
        """Whether perf lost processes: it does not count a setuid program for ordinary users."""
        return self.roll is not None and self.roll.dropped > 0

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

    @property
    def pace_ns(self) -> int:
        """Nanoseconds between two checks of the rings; no ring is full before the next one."""
        return 0 if self._rings is None else self._rings.pace_ns

    def written(self) -> int:
        """Return the bytes of records so far."""
        return 0 if self._rings is None else self._rings.written()

    def filled(self) -> float:
        """Return the share of the fullest ring that is filled."""
        return 0.0 if self._rings is None else self._rings.filled()

    def lived(self) -> tuple[int, int] | None:
        """Return how many processes lived at once, and how many started, since the last call; None if unlisted."""
        if self._rings is None or self.roll is None:
            return None
        try:
            if self._rings.lost():
                return None
        except OSError:
            return None
        self.take()
        return self.roll.take_lived()

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
