"""What the library costs: one process against the bare calls, a scan against psutil, and the import."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from programs import Missing, Programs
from table import Row

COUNT = 1000
ASKED = ["ppid", "cpu_times", "memory_info"]
ROUNDS = 15
CALLS = 2000


def library_cost(programs: Programs) -> Iterator[Row]:
    """Each ratio is the median over rounds in which both were timed, one right after the other."""
    from proctally import process

    pid = os.getppid()

    def bare() -> None:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        os.read(fd, 4096)
        os.close(fd)

    for name, call, target in (
        ("cpu_time", process.cpu_time, 1.3),
        ("cpu_time_with_children", process.cpu_time_with_children, None),
        ("liveness", process.liveness, None),
        ("rss_bytes", process.rss_bytes, None),
    ):
        yield _row(f"{name} / bare open, read, close", lambda call=call: call(pid), bare, CALLS, target)
    yield from _scans(programs)
    yield from _import(programs)


def _scans(programs: Programs) -> Iterator[Row]:
    try:
        import psutil
    except ImportError:
        raise Missing("no psutil to compare a scan with") from None
    from proctally import processes

    def fresh() -> None:
        psutil.process_iter.cache_clear()
        again()

    def again() -> None:
        for process in psutil.process_iter(ASKED):
            assert process.info

    scanner = processes.Scanner()
    with programs.tree(COUNT, 0.0) as root:
        if len(processes.scan()) < COUNT:
            raise Missing(f"fewer than {COUNT} processes to scan")
        again()
        scanner.scan()
        name = f"{COUNT} processes"
        # psutil keeps its processes from one call to the next, as a Scanner does: first calls go with first calls
        yield _row(f"scan of {name} / a first psutil.process_iter", processes.scan, fresh, 1, 0.25)
        yield _row("the same / a repeated psutil.process_iter", processes.scan, again, 1, None)
        yield _row("a Scanner's repeated scan / a repeated psutil.process_iter", scanner.scan, again, 1, 0.15)
        yield _row(f"snapshot_tree of {name} / scan", lambda: processes.snapshot_tree(root), processes.scan, 1, None)


def _import(programs: Programs) -> Iterator[Row]:
    def start(statement: str) -> float:
        begun = time.perf_counter()
        subprocess.run([programs.python, "-c", statement], check=True)
        return (time.perf_counter() - begun) * 1e3

    pairs = [(start("import proctally"), start("pass")) for _ in range(2 * ROUNDS)]
    how = f"{median(ours for ours, _ in pairs):.1f} and {median(bare for _, bare in pairs):.1f} ms"
    yield Row("ms, `import proctally` over a bare interpreter", median(a - b for a, b in pairs), 5.0, how)


def _row(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], calls: int, target: float | None) -> Row:
    pairs = [(_micros(ours, calls), _micros(theirs, calls)) for _ in range(ROUNDS)]
    mine, other = median(a for a, _ in pairs), median(b for _, b in pairs)
    return Row(name, median(a / b for a, b in pairs), target, f"{mine:.4g} us, {other:.4g} us")


def _micros(call: Callable[[], Any], calls: int) -> float:
    begun = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - begun) / 1e3 / calls
