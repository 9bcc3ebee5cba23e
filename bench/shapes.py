"""More jobs of known memory: shapes.py SHAPE MIB PROCESSES SECONDS, those of tests/support/memory_shapes.py included.

Each holds its memory for about SECONDS and touches every page of it.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "tests" / "support"
if SUPPORT.is_dir():  # a copy for another user has both files in one folder
    sys.path.insert(0, str(SUPPORT))

from memory_shapes import MIB, PAGE, PRIVATE, SHAPES, fork, private, reap, touch  # noqa: E402

HUGE = 14  # MADV_HUGEPAGE


def read(area: mmap.mmap) -> int:
    """Read one byte of each page."""
    return area[0 : len(area) : PAGE].count(b"\x5a")


def part(area: mmap.mmap, which: int, parts: int) -> tuple[int, int]:
    """Return where a part of an area starts and ends."""
    return which * len(area) // parts & -PAGE, (which + 1) * len(area) // parts & -PAGE


def itself(*words: object) -> list[str]:
    return [sys.executable, "-S", "-E", os.path.abspath(__file__), *map(str, words)]


def nothing(mib: int, processes: int, seconds: float) -> None:
    time.sleep(seconds)


def grow(mib: int, processes: int, seconds: float) -> None:
    """One process grows to its size in a second."""
    area = mmap.mmap(-1, mib * MIB, flags=PRIVATE)
    for step in range(20):
        touch(area, *part(area, step, 20))
        time.sleep(0.05)
    time.sleep(seconds)


def small_exec(mib: int, processes: int, seconds: float) -> None:
    """Workers with an interpreter of their own."""
    children = [subprocess.Popen(itself("small", mib, 1, seconds)) for _ in range(processes)]
    for child in children:
        child.wait()


def idle_pool(mib: int, processes: int, seconds: float) -> None:
    """Forked workers sleep and own next to nothing."""
    area = private(mib)
    reap([fork(lambda: time.sleep(seconds)) for _ in range(processes)])
    del area


def cow_read(mib: int, processes: int, seconds: float) -> None:
    """Forked workers read what their parent filled."""
    area = private(mib)

    def work() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            read(area)
            time.sleep(0.1)

    reap([fork(work) for _ in range(processes)])


def cow_free(mib: int, processes: int, seconds: float) -> None:
    """The parent frees what its workers still hold."""
    area = private(mib)
    pids = [fork(lambda: time.sleep(seconds)) for _ in range(processes)]
    time.sleep(seconds / 2)
    area.close()
    reap(pids)


def thp(mib: int, processes: int, seconds: float) -> None:
    """Each forked worker overwrites its part of an area of huge pages."""
    area = mmap.mmap(-1, mib * MIB, flags=PRIVATE)
    area.madvise(HUGE)
    touch(area)

    def work(which: int) -> None:
        touch(area, *part(area, which, processes))
        time.sleep(seconds)

    reap([fork(lambda which=which: work(which)) for which in range(processes)])


def shared_parts(mib: int, processes: int, seconds: float) -> None:
    """Each worker writes its part of a shared area and exits: then no process maps the pages."""
    area = mmap.mmap(-1, mib * MIB)

    def work(which: int) -> None:
        touch(area, *part(area, which, processes))
        time.sleep(seconds / 2)

    reap([fork(lambda which=which: work(which)) for which in range(processes)])
    time.sleep(seconds / 2)


def file(mib: int, processes: int, seconds: float) -> None:
    """Workers map a file on disk: page cache, no anonymous memory."""
    path = f"/var/tmp/proctally-memory-{os.getpid()}"
    try:
        with open(path, "w+b", buffering=0) as out:
            for _ in range(mib):
                out.write(b"\x5a" * MIB)

            def work() -> None:
                area = mmap.mmap(out.fileno(), mib * MIB)
                read(area)
                time.sleep(seconds)

            reap([fork(work) for _ in range(processes)])
    finally:
        os.unlink(path)


def nested(mib: int, processes: int, seconds: float) -> None:
    """Each process fills its memory, forks the next one and waits for it."""
    end = time.monotonic() + seconds

    def work(left: int) -> None:
        area = private(mib)
        if left > 1:
            reap([fork(lambda: work(left - 1))])
        else:
            time.sleep(max(0.0, end - time.monotonic()))
        del area

    reap([fork(lambda: work(processes))])


def forks(mib: int, processes: int, seconds: float) -> None:
    """Twice as many forks a second as processes; each fills its memory and lives for 0.3 s."""
    end, living = time.monotonic() + seconds, []

    def work() -> None:
        area = private(mib)
        time.sleep(0.3)
        del area

    while time.monotonic() < end:
        living.append(fork(work))
        time.sleep(0.5 / processes)
        living = [pid for pid in living if os.waitpid(pid, os.WNOHANG)[0] == 0]
    reap(living)


def execs(mib: int, processes: int, seconds: float) -> None:
    """A process fills its memory and executes itself anew, again and again."""
    area = private(mib)
    time.sleep(seconds / 8)
    if processes > 1:
        words = itself("execs", mib, processes - 1, seconds)
        os.execv(words[0], words)
    del area


def spike(mib: int, seconds: float, held: float) -> None:
    area = mmap.mmap(-1, mib * MIB, flags=PRIVATE)
    time.sleep(seconds * 0.4)
    touch(area)
    time.sleep(held)
    area.close()
    time.sleep(seconds * 0.6)


def spike10(mib: int, processes: int, seconds: float) -> None:
    """Memory of 10 ms."""
    spike(mib, seconds, 0.01)


def spike100(mib: int, processes: int, seconds: float) -> None:
    """Memory of 100 ms."""
    spike(mib, seconds, 0.1)


def recycle(mib: int, processes: int, seconds: float) -> None:
    """Workers read the parent's area and map, fill and free 24 MiB all the time: many faults, no copies."""
    area = private(mib)

    def work() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            extra = private(24)
            read(area)
            time.sleep(0.02)
            extra.close()

    reap([fork(work) for _ in range(processes)])


def growing(mib: int, processes: int, seconds: float) -> None:
    """Grow evenly, and exit when all is there."""
    area, steps = mmap.mmap(-1, mib * MIB, flags=PRIVATE), 50
    for step in range(steps):
        touch(area, *part(area, step, steps))
        time.sleep(seconds / steps)


def renew(mib: int, processes: int, seconds: float) -> None:
    """So many at once, each of which grows for 0.6 to 1.5 s and exits; the next one follows."""
    end = time.monotonic() + seconds
    started, living = 0, []
    while living or time.monotonic() < end:
        while len(living) < processes and time.monotonic() < end:
            living.append(subprocess.Popen(itself("growing", mib, 1, 0.6 + started * 0.37 % 0.9)))
            started += 1
        time.sleep(0.005)
        living = [each for each in living if each.poll() is None]


def steps(mib: int, processes: int, seconds: float) -> None:
    """One process after the other, as the lines of a script."""
    renew(mib, 1, seconds)


def neighbours(mib: int, processes: int, seconds: float) -> None:
    """Four busy workers with half of the memory, and a family that copies the other half again and again."""

    def family() -> None:
        area, end = private(mib // 10), time.monotonic() + seconds
        while time.monotonic() < end:
            reap([fork(lambda: (touch(area), time.sleep(0.7))) for _ in range(4)])

    copying = fork(family)
    SHAPES["busy"](mib // 8, 4, seconds)
    reap([copying])


MORE = {
    "nothing": nothing, "grow": grow, "small-exec": small_exec, "idle-pool": idle_pool, "cow-read": cow_read,
    "cow-free": cow_free, "thp": thp, "shared-parts": shared_parts, "file": file, "nested": nested, "forks": forks,
    "execs": execs, "growing": growing, "renew": renew, "steps": steps, "spike10": spike10, "spike100": spike100,
    "recycle": recycle, "neighbours": neighbours,
}  # fmt: skip


if __name__ == "__main__":
    shape, mib, processes, seconds = sys.argv[1:]
    (SHAPES | MORE)[shape](int(mib), int(processes), float(seconds))
