"""Jobs of known memory: memory_shapes.py SHAPE MIB PROCESSES SECONDS

Each holds its memory for about SECONDS and touches every page of it. An interpreter without imports adds about 5 MiB of
anonymous memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterable

MIB = 1 << 20
PAGE = mmap.PAGESIZE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def touch(area: mmap.mmap, first: int = 0, last: int | None = None) -> None:
    """Write one byte to each page."""
    last = len(area) if last is None else last
    area[first:last:PAGE] = b"\x5a" * len(range(first, last, PAGE))


def private(mib: int) -> mmap.mmap:
    area = mmap.mmap(-1, mib * MIB, flags=PRIVATE)
    touch(area)
    return area


def fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def reap(pids: Iterable[int]) -> None:
    for pid in pids:
        os.waitpid(pid, 0)


def single(mib: int, processes: int, seconds: float) -> None:
    area = private(mib)
    time.sleep(seconds)
    del area


def busy(mib: int, processes: int, seconds: float) -> None:
    """Forked workers compute, and map a tenth of their memory anew all the time."""

    def work() -> None:
        area, extra, end = private(mib * 9 // 10), None, time.monotonic() + seconds
        while time.monotonic() < end:
            extra = private(max(1, mib // 10))
            touch(area)
            sum(range(200_000))
        del extra

    reap([fork(work) for _ in range(processes)])


def small(mib: int, processes: int, seconds: float) -> None:
    """Forked workers fill memory of their own and write to it now and then."""

    def work() -> None:
        area, end = private(mib), time.monotonic() + seconds
        while time.monotonic() < end:
            touch(area)
            time.sleep(0.1)

    reap([fork(work) for _ in range(processes)])


def cow_write(mib: int, processes: int, seconds: float) -> None:
    """Forked workers copy all that their parent filled, page by page; no RSS moves."""
    area = private(mib)

    def work() -> None:
        for part in range(20):
            touch(area, part * len(area) // 20 & -PAGE, (part + 1) * len(area) // 20 & -PAGE)
            time.sleep(seconds / 40)
        time.sleep(seconds / 2)

    reap([fork(work) for _ in range(processes)])


def cow_exit(mib: int, processes: int, seconds: float) -> None:
    """The process that filled the area exits, and its orphans hold it."""

    def middle() -> None:
        area = private(mib)
        for _ in range(processes):
            fork(lambda: time.sleep(seconds))
        time.sleep(seconds / 2)
        del area

    reap([fork(middle)])
    time.sleep(seconds / 2)


def shared(mib: int, processes: int, seconds: float) -> None:
    """Each worker writes all of one shared anonymous area."""
    area = mmap.mmap(-1, mib * MIB)

    def work() -> None:
        touch(area)
        time.sleep(seconds)

    reap([fork(work) for _ in range(processes)])


def tmpfs(mib: int, processes: int, seconds: float) -> None:
    """Write a file in /dev/shm, close it after half of the time, and map nothing."""
    path = f"/dev/shm/proctally-memory-{os.getpid()}"
    try:
        with open(path, "wb", buffering=0) as out:
            for _ in range(mib):
                out.write(b"x" * MIB)
            time.sleep(seconds / 2)
        time.sleep(seconds / 2)
    finally:
        os.unlink(path)


def memfd(mib: int, processes: int, seconds: float) -> None:
    descriptor = os.memfd_create("memory")
    for _ in range(mib):
        os.write(descriptor, b"\x5a" * MIB)
    time.sleep(seconds)


def sysv(mib: int, processes: int, seconds: float) -> None:
    """Workers write a System V segment and exit; it stays."""
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    segment = libc.shmget(0, ctypes.c_size_t(mib * MIB), 0o1600)
    try:
        reap([fork(lambda: ctypes.memset(libc.shmat(segment, None, 0), 0x5A, mib * MIB))])
        time.sleep(seconds)
    finally:
        libc.shmctl(segment, 0, None)


def vfork(mib: int, processes: int, seconds: float) -> None:
    """Start `true` by vfork as often as possible."""
    area, end = private(mib), time.monotonic() + seconds
    while time.monotonic() < end:
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    del area


def spike_child(mib: int, processes: int, seconds: float) -> None:
    """A child that lives for 50 ms between two samples."""
    time.sleep(seconds * 0.7)

    def work() -> None:
        area = private(mib)
        time.sleep(0.05)
        del area

    reap([fork(work)])
    time.sleep(seconds * 0.2)


SHAPES = {
    "single": single, "busy": busy, "small": small, "cow-write": cow_write, "cow-exit": cow_exit, "shared": shared,
    "tmpfs": tmpfs, "memfd": memfd, "sysv": sysv, "vfork": vfork, "spike-child": spike_child,
}  # fmt: skip


if __name__ == "__main__":
    shape, mib, processes, seconds = sys.argv[1:]
    SHAPES[shape](int(mib), int(processes), float(seconds))
