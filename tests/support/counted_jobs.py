"""Jobs that perf counts, and what their records say."""

from __future__ import annotations

import os
from typing import Any

from compiled import NO_COMPILER
from proctally.linux import perf
from proctally.linux.c_library import libc
from proctally.linux.perf import Events, PerfRefused, Unsupported
from tracked import (
    Done,
)

SLACK_SECONDS = 0.02
RINGS = ("--commands", "on")  # by themselves with few CPUs only


def no_perf() -> str | None:
    """None, or in one line why there are no counters here."""
    try:
        os.close(Events(libc()).open(0, -1, perf.OURS))
    except (Unsupported, PerfRefused) as reason:
        return f"no perf: {reason!r}"
    return None


NO_PERF = no_perf() or NO_COMPILER


def right(total: float, used: float, stolen: float = 0.0, processes: int = 1) -> bool:
    """Within 1 % and 20 ms; perf has up to 1 ms less of each process more, whose memory is given back uncounted."""
    least = 0.99 * used - SLACK_SECONDS - 0.001 * (processes - 1)
    return least <= total <= 1.01 * used + SLACK_SECONDS + stolen


def commands(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {command["command"]: command for command in summary["commands"]}


def ran(done: Done, status: int = 0) -> dict[str, Any]:
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.status == status, done.stderr.decode()
    return done.summary()


def forks(done: Done) -> tuple[int, float]:
    """How many processes the program says there were, and their CPU seconds."""
    count, seconds = done.stdout.split()
    return int(count), float(seconds)
