"""What runs had and did not use: core-hours and GiB-hours of jobs of one name."""

from __future__ import annotations

from proctally.analysis.evidence import CORES, MEMORY, Evidence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HOURS = {CORES: 3600.0, MEMORY: 3600.0 * (1 << 30)}  # an hour of a core in core-seconds, of a GiB in byte-seconds


def wasted(runs: Sequence[Evidence], resource: str) -> float | None:
    """Return the hours of a core, or of a GiB, that these runs had and did not use; None where that is unknown."""
    found = [hours for run in runs if (hours := _wasted(run, resource)) is not None]
    return sum(found) if found else None


def _wasted(run: Evidence, resource: str) -> float | None:
    had, wall = run.had(resource), run.wall()
    _, used = run.used(resource)
    if had is None or used is None or wall is None:
        return None
    return max(0.0, had - used) * wall / HOURS[resource]
