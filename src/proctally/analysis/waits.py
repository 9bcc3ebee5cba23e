"""Waiting for a CPU: which share of its time a run had none, and above which shares it counts as slowed."""

from __future__ import annotations

THROTTLED_SHARE = 0.05  # of the periods of a CPU quota, or of the wall time
STARVED_SHARE = 0.10  # of the wall time; of records without its parts, of the time in which it could run ...
STARVED_CORES = 0.05  # ... and this many cores more it could have used on average: what hardly runs always waits
CROWDED_SHARE = 0.50  # of the time in which some task of the machine waited for a CPU
PRESSED_SHARE = 0.05  # of the time in which some task waited for memory
NOTABLE_SHARE = 0.05  # of the time: what a headline names
MIN_SHARE = 0.005  # below it a wait is next to nothing


def is_starved(share: float, unmet_cores: float) -> bool:
    """Return whether a job was starved: it waited for a share of the time, and lacked this many cores on average."""
    return share >= STARVED_SHARE and unmet_cores >= STARVED_CORES


def ready_share(delay: float, used: float) -> float:
    """Return the share of the time in which threads could run that they had no CPU, from seconds without and with."""
    return delay / (delay + used) if delay + used > 0 else 0.0


def throttled_share(seconds: float, wall: float | None, hit: float | None, periods: float | None) -> float:
    """Return the share of the periods of a CPU quota with throttling; of the wall time where they are unknown."""
    if hit is not None and periods:
        return hit / periods
    return min(1.0, seconds / wall) if wall else 0.0
