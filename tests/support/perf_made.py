"""Records, rings and a library of perf, made up; and real jobs that are held."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections import Counter as Counts
from collections.abc import Callable
from struct import pack, unpack_from
from typing import Any

import pytest

from proctally.linux import perf, perf_attach
from proctally.linux.perf import (
    Events,
    Ring,
)

PAGE = mmap.PAGESIZE
COMM, EXIT, FORK, READ = 3, 4, 7, 8  # enum perf_event_type


# -- records -----------------------------------------------------------------------------------------------------


def header(kind: int, size: int, misc: int = 0) -> bytes:
    return pack("<IHH", kind, misc, size)


def record(kind: int, *parts: bytes, misc: int = 0) -> bytes:
    body = b"".join(parts)
    return header(kind, 8 + len(body), misc) + body


def task(kind: int, pid: int, parent: int, tid: int, ptid: int, when: int) -> bytes:
    """FORK and EXIT: `u32 pid, ppid; u32 tid, ptid; u64 time; struct sample_id` (of which we ask for the time)."""
    return record(kind, pack("<IIIIQ", pid, parent, tid, ptid, when), pack("<Q", when))


# -- the system call ---------------------------------------------------------------------------------------------


class Call:
    """What the system call was given."""

    def __init__(self, number: Any, attr: bytes, pid: Any, cpu: Any, group: Any, flags: Any) -> None:
        self.number: int = number.value
        self.attr = attr
        self.pid: int = pid.value
        self.cpu: int = cpu.value
        self.group: int = group.value
        self.flags: int = flags.value

    def word(self, at: int, size: int = 8) -> int:
        return int(unpack_from({4: "<I", 8: "<Q"}[size], self.attr, at)[0])

    @property
    def read_format(self) -> int:
        return self.word(32)

    @property
    def watermark(self) -> int:
        return self.word(48, 4)


class Library:
    """A C library whose kernel answers as it is told: an errno, or 0 for a file that can be mapped."""

    def __init__(self, answer: Callable[[Call], int]) -> None:
        self.answer = answer
        self.calls: list[Call] = []

    def syscall(self, *arguments: Any) -> int:
        call = Call(*arguments)
        self.calls.append(call)
        number = self.answer(call)
        if number:
            ctypes.set_errno(number)
            return -1
        fd = os.memfd_create("event")
        os.ftruncate(fd, PAGE + 2 * max(perf.RING_BYTES[0], PAGE))
        return fd


def fake(answer: Callable[[Call], int]) -> tuple[Library, Events]:
    library = Library(answer)
    return library, Events(library, "x86_64")


# -- a kernel that refuses ---------------------------------------------------------------------------------------


def tight(monkeypatch: pytest.MonkeyPatch, most: int, number: int = errno.EPERM, after: int = 1) -> list[int]:
    """Refuse the memory of rings larger than `most` when `after` of that size are made; the sizes that are tried."""
    tried: list[int] = []
    made = Counts[int]()

    class Tight(Ring):
        __slots__ = ()

        def __init__(self, fd: int, size: int) -> None:
            tried.append(size)
            made[size] += 1
            if size > most and made[size] > after:
                raise OSError(number, os.strerror(number))
            super().__init__(fd, size)

    monkeypatch.setattr(perf, "Ring", Tight)
    monkeypatch.setattr(perf_attach, "Ring", Tight)
    return tried


# -- attaching to threads while they make others -----------------------------------------------------------------


class Making(Library):
    """A kernel under which threads are made, as is told."""

    def __init__(self) -> None:
        super().__init__(lambda call: 0)
        self.fds: list[int] = []
        self.head = 0

    def syscall(self, *arguments: Any) -> int:
        self.fds.append(super().syscall(*arguments))
        return self.fds[-1]

    def make(self, tid: int, maker: int, when: int) -> None:
        self.write(task(FORK, 1, 1, tid, maker, when))

    def write(self, data: bytes) -> None:
        """A record in the ring of the first witness."""
        with mmap.mmap(self.fds[0], 2 * PAGE) as ring:
            ring[PAGE + self.head : PAGE + self.head + len(data)] = data
            self.head += len(data)
            ring[1024:1032] = pack("<Q", self.head)

    def counted(self) -> list[int]:
        return [call.pid for call in self.calls if call.word(8) == perf.TASK_CLOCK]


OPENED = (100, 200)  # before and after the counter of the first thread was opened
SHORT_FORK_NS = 20


# Where it is not told who inherited, the first listing is all that is opened.
def is_closed_to_new_ones(library: Making, attached: perf_attach.Attached, first: list[int]) -> None:
    assert attached.unsure
    assert attached.take_in([*first, 7, 8], lambda: 0) == 0
    assert library.counted() == first
    assert len(attached) == len(first)
    attached.close()


def without_witnesses(library: Making, after: int) -> None:
    """After so many witnesses no descriptor is left for another one."""

    def answer(call: Call) -> int:
        witnesses = sum(1 for call in library.calls if call.word(8) == perf.DUMMY)
        return errno.EMFILE if call.word(8) == perf.DUMMY and witnesses > after else 0

    library.answer = answer
