"""Whether this machine lets a user have the sources that tests need; in one line why not."""

from __future__ import annotations

import os
import signal

from proctally.linux import perf
from proctally.linux.c_library import libc


def perf_denied(user: int) -> str | None:
    """None, or why this user may not count a child of his own with rings."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        try:
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            os.write(write_end, _try_rings().encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    return said or None


def _try_rings() -> str:
    library = libc()
    library.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: setuid(2) has taken it away, and perf then refuses
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        perf.open_rings(perf.Events(library), child, sorted(os.sched_getaffinity(0))).close()
    except (perf.PerfRefused, perf.Unsupported) as reason:
        return f"perf is not available to this user: {reason!r}"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return ""
