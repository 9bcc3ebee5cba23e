"""What runs beside a job: the exporter of its tracker, busy processes of other jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def exporter(parent: int) -> int | None:
    """The exporter among the children of a tracker."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    for pid in map(int, children):
        try:
            if b"proctally.exporters.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        except (FileNotFoundError, ProcessLookupError):
            pass
    return None


@contextmanager
def busy_processes(count: int, cpu: int | None = None) -> Iterator[None]:
    """So many processes that compute all the time, on one CPU if it is named."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            while True:
                pass
        pids.append(pid)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
