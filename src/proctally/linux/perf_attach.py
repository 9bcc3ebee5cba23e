"""Count a running tree with perf: one counter for each thread, opened while threads make others."""

from __future__ import annotations

import os
from errno import EACCES, EPERM, ESRCH
from fcntl import ioctl
from sys import byteorder

from proctally.linux.perf import (
    ALWAYS,
    DUMMY,
    IOC_SET_OUTPUT,
    LOWER,
    OBSERVE,
    RECORD_FORK,
    RECORD_LOST,
    RING_BYTES,
    SAMPLE_TIME,
    PerfRefused,
    Ring,
    decode,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctally.linux.perf import Events, Record


FORK_NS = 20_000_000  # a fork hands counters on at most this long before its record
REOPENINGS = 3


class Attached:
    """Counters of a tree that runs already: one for each thread there was, inherited by all that these make.

    While the snapshot is taken, threads make others. One that was made after the counter of its maker was opened has
    inherited it, and must not have one of its own; one that was made before has none yet. Which it was the FORK records
    tell, of events that count nothing and are opened before the counter: where there is no record, it was before.

    A record is written at the end of a fork (kernel: copy_process, then perf_event_fork). One that comes shortly after
    a counter was opened leaves open which it was. Then that counter is closed, and with it all that was inherited of
    it, and opened again, as is one for the new thread.
    """

    def __init__(self, events: Events, cpus: Iterable[int]) -> None:
        self._events = events
        self._counters: dict[int, int] = {}  # tid -> descriptor
        self._closed_ns = 0  # of counters that were opened again
        self._reopened: dict[int, int] = {}  # tid -> how often
        self._opened: dict[int, tuple[int, int]] = {}  # tid -> before and after its counter was opened
        self._inherited: dict[int, int] = {}  # tid -> whose counter
        self._refused: set[int] = set()  # tids without a counter: what they make inherits none
        self._witnesses: list[int] = []
        self._rings: dict[int, Ring | None] = dict.fromkeys(cpus)
        self._forks: dict[int, tuple[int, int]] = {}  # tid -> when it was made, and by which tid
        self._made: dict[int, list[int]] = {}  # tid -> when it made others
        self.denied = 0
        self.unsure = not self._rings

    def take_in(self, tids: Iterable[int], clock: Callable[[], int]) -> int:
        """Open the threads that count nowhere yet; return how many. Raises `PerfRefused` where none can be opened.

        To be called with new listings until nothing is new. `clock`: nanoseconds of CLOCK_MONOTONIC.

        Once it is not sure who inherited, nobody new is opened: what is missing is less harm than what counts twice.
        """
        self._read_forks()
        if self.unsure and self._opened:
            return 0
        first = not self._opened
        known = self._opened.keys() | self._inherited.keys() | self._refused
        new = [tid for tid in tids if tid not in known]
        for tid in new:
            if self.unsure and not first:
                break
            made = self._forks.get(tid)
            source = None if made is None else self._inherited_from(*made)
            if source is not None:
                self._inherited[tid] = source
                continue
            if tid not in self._reopened:
                self._witness(tid)
            self._open(tid, clock)
        return len(new)

    def _open(self, tid: int, clock: Callable[[], int]) -> None:
        before = clock()
        try:
            self._counters[tid] = self._events.open(tid, -1, ALWAYS)
        except PerfRefused as error:
            if error.errno not in (ESRCH, EACCES, EPERM):
                raise
            self.denied += error.errno != ESRCH
            self._refused.add(tid)
            return
        self._opened[tid] = before, clock()

    def finish(self, clock: Callable[[], int]) -> None:
        """End the snapshot: open what is closed, and close the events that record new threads."""
        for tid in self._reopened.keys() - self._opened.keys() - self._refused:
            self._open(tid, clock)
        self.settle()

    def _inherited_from(self, when: int, maker: int) -> int | None:
        """Return whose counter that thread has which this one made at this moment; None if it has none.

        Its maker may have ended since, and was made itself.
        """
        for _ in range(len(self._forks) + 1):
            if maker in self._opened:
                if self._is_doubtful(when, maker):
                    if self._reopened.get(maker, 0) < REOPENINGS:
                        self._close(maker)
                        return None
                    self.unsure = True
                return maker if when >= self._opened[maker][0] else None
            if maker in self._inherited or maker not in self._forks:
                return self._inherited.get(maker)
            when, maker = self._forks[maker]
        return None

    def _is_doubtful(self, when: int, maker: int) -> bool:
        """Return whether a fork can have started before the counter of its maker was opened, and ended after.

        Forks of one thread follow each other: only the first that ends after the opening can.
        """
        before, after = self._opened[maker]
        if not before <= when < after + FORK_NS:
            return False
        return not any(after <= earlier < when for earlier in self._made[maker])

    def _close(self, tid: int) -> None:
        """Close the counter of a thread: it, and all that have inherited of it, have none."""
        fd = self._counters.pop(tid)
        self._closed_ns += _value(fd)
        os.close(fd)
        del self._opened[tid]
        self._reopened[tid] = self._reopened.get(tid, 0) + 1
        self._inherited = {each: source for each, source in self._inherited.items() if source != tid}

    def _witness(self, tid: int) -> None:
        """Have the making of threads by this one, and by those that these make, recorded."""
        for cpu, ring in self._rings.items():
            try:
                fd = self._events.open(tid, cpu, OBSERVE, config=DUMMY, sample_type=SAMPLE_TIME)
            except PerfRefused as error:
                if error.errno != ESRCH:
                    self._blind()
                return
            self._witnesses.append(fd)
            try:
                if ring is None:
                    self._rings[cpu] = Ring(fd, RING_BYTES[0])
                else:
                    ioctl(fd, IOC_SET_OUTPUT, ring.fd)
            except OSError:
                self._blind()
                return

    def _blind(self) -> None:
        """Do without the witnesses: the counters need their descriptors more."""
        self.unsure = True
        self.settle()

    def _read_forks(self) -> None:
        records: list[Record] = []
        for ring in self._rings.values():
            if ring is not None and not decode(ring.take(), records):
                self.unsure = True
        for when, kind, _, tids in records:
            self.unsure |= kind == RECORD_LOST
            if kind == RECORD_FORK and isinstance(tids, int):
                self._forks[tids & LOWER] = when, tids >> 32
                self._made.setdefault(tids >> 32, []).append(when)

    def settle(self) -> None:
        """The snapshot is whole: what told of new threads is given back."""
        for ring in self._rings.values():
            if ring is not None:
                ring.unmap()
        for fd in self._witnesses:
            os.close(fd)
        self._rings = {}
        self._witnesses = []
        self._forks = {}
        self._made = {}

    def read(self) -> int:
        """Nanoseconds since the counters were opened, of these threads and of all they made since."""
        return self._closed_ns + sum(map(_value, self._counters.values()))

    def __len__(self) -> int:
        return len(self._counters)

    def close(self) -> None:
        """Give everything back."""
        self.settle()
        for fd in self._counters.values():
            os.close(fd)
        self._counters = {}


def _value(fd: int) -> int:
    return int.from_bytes(os.read(fd, 8), byteorder)
