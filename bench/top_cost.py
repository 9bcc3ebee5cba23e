"""What the live view writes to a terminal of 80 x 24, and what it uses itself: what a slow line has to carry."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

from programs import Missing, Programs
from table import Row

SETTLE_SECONDS, SECONDS, MANY_SECONDS = 6.0, 20.0, 5.0
BYTES_PER_SECOND = 3000.0
CPU_RATIO = 0.01
IDLE = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 300 & done; wait"
MANY = "i=0; while [ $i -lt 2000 ]; do sleep 300 & i=$((i+1)); done; wait"
BUSY = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (while :; do sleep 0.05; done) & done; wait"


def top_cost(programs: Programs) -> Iterator[Row]:
    """Bytes and CPU milliseconds a second, one picture a second, of a tree that sleeps and of one that forks."""
    if importlib.util.find_spec("urwid") is None:
        raise Missing("the extra top is not installed: pip install 'proctally[top]'")
    for name, script in (("12 that sleep", IDLE), ("2,000 that sleep", MANY), ("12 that fork", BUSY)):
        job = subprocess.Popen(["sh", "-c", script], start_new_session=True)
        try:
            if script == MANY:
                time.sleep(MANY_SECONDS)
            first, steady, cpu = _watched(programs.python, job.pid)
        finally:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
        how = f"{first / 1000:.1f} kB in the first {SETTLE_SECONDS:g} s; {1000 * cpu:.1f} ms of CPU a second"
        yield Row(f"bytes a second that `top` writes, a tree of {name}", steady, BYTES_PER_SECOND, how)
        if script == MANY:
            yield Row(f"share of a core that `top` uses, a tree of {name}", cpu, CPU_RATIO, how)


def _watched(python: str, pid: int) -> tuple[int, float, float]:
    """Bytes of the beginning, bytes a second after it, and CPU seconds a second."""
    viewer, terminal = pty.fork()
    if viewer == 0:
        os.environ["TERM"], os.environ["LC_ALL"] = "xterm-256color", "C.UTF-8"
        os.execv(python, [python, "-m", "proctally", "top", str(pid)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    first = _read(terminal, SETTLE_SECONDS)
    before = _cpu_seconds(viewer)
    steady = _read(terminal, SECONDS)
    used = _cpu_seconds(viewer) - before
    os.kill(viewer, signal.SIGTERM)
    _read(terminal, 1.0)
    os.waitpid(viewer, 0)
    os.close(terminal)
    return first, steady / SECONDS, used / SECONDS


def _cpu_seconds(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


def _read(fd: int, seconds: float) -> int:
    """The bytes that come in so much time."""
    found, end = 0, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            try:
                data = os.read(fd, 1 << 16)
            except OSError:  # it has ended
                break
            if not data:
                break
            found += len(data)
    return found
