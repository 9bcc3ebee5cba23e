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


class Attached:
    """Counters of a tree that runs already: one for each thread there was, inherited by all that these make.

    While the snapshot is taken, threads make others. One that was made after the counter of its maker was opened has
    inherited it, and must not have one of its own; one that was made before has none yet. Which it was the FORK records
    tell, of events that count nothing and are opened before the counter: where there is no record, it was before.
    """

    def __init__(self, events: Events, cpus: Iterable[int]) -> None:
        self._events = events
        self._counters: list[int] = []
        self._opened: dict[int, tuple[int, int]] = {}  # tid -> before and after its counter was opened
        self._inherited: set[int] = set()
        self._witnesses: list[int] = []
        self._rings: dict[int, Ring | None] = dict.fromkeys(cpus)
        self._forks: dict[int, tuple[int, int]] = {}  # tid -> when it was made, and by which tid
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
        new = [tid for tid in tids if tid not in self._opened and tid not in self._inherited]
        for tid in new:
            if self.unsure and not first:
                break
            made = self._forks.get(tid)
            if made is not None and self._has_inherited(*made):
                self._inherited.add(tid)
                continue
            self._witness(tid)
            before = clock()
            try:
                self._counters.append(self._events.open(tid, -1, ALWAYS))
            except PerfRefused as error:
                if error.errno not in (ESRCH, EACCES, EPERM):
                    raise
                self.denied += error.errno != ESRCH
                self._inherited.add(tid)  # not to be asked again
                continue
            self._opened[tid] = before, clock()
        return len(new)

    def _has_inherited(self, when: int, maker: int) -> bool:
        """Whether what this thread made at this moment counts already; it may have ended since, and was made itself."""
        for _ in range(len(self._forks) + 1):
            if maker in self._opened:
                before, after = self._opened[maker]
                self.unsure |= before <= when < after
                return when >= before
            if maker in self._inherited or maker not in self._forks:
                return maker in self._inherited
            when, maker = self._forks[maker]
        return False

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

    def read(self) -> int:
        """Nanoseconds since the counters were opened, of these threads and of all they made since."""
        return sum(int.from_bytes(os.read(fd, 8), byteorder) for fd in self._counters)

    def __len__(self) -> int:
        return len(self._counters)

    def close(self) -> None:
        """Give everything back."""
        self.settle()
        for fd in self._counters:
            os.close(fd)
        self._counters = []
