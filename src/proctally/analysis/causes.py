"""Why a run proves less than the whole of a resource: codes with values, and their words."""

from __future__ import annotations

from proctally.text import words
from proctally.text.units import UNKNOWN, percentage, with_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from proctally.record import JsonObject

UNKNOWN_VALUE = "unknown"
NO_SUMMARY = "no_summary"
ENDED_EARLY = "ended_early"  # verdict, summary
PART_KILLED = "part_killed"  # summary: the OOM killer ended a process of a run that ended well
TOO_SHORT = "too_short"
THROTTLED = "throttled"  # seconds, share of the time
STARVED = "starved"  # share of the time that it was runnable, runnable threads on average
CPU_WAIT = "cpu_wait"  # share of the wall time, cores that it wanted
CPU_PRESSURE = "cpu_pressure"  # share of the time
PSS_DENIED = "pss_denied"  # the gap of the summary
MEMORY_HIGH = "memory_high"  # limit in bytes
MEMORY_PRESSURE = "memory_pressure"  # share of the time
FROM_ATTACH = "from_attach"
ONE_BLOCK = "one_block"
GPUS_NOT_READ = "gpus_not_read"
GPU_USE_UNKNOWN = "gpu_use_unknown"

WORDS = {
    UNKNOWN_VALUE: UNKNOWN,
    NO_SUMMARY: "its record has no end: it was killed with its tracker, perhaps by a scheduler, or still runs",
    ENDED_EARLY: "{ended}",
    PART_KILLED: "{kills}",
    TOO_SHORT: "too short to be sampled",
    THROTTLED: "throttled by its CPU quota for {seconds} ({share} of the time)",
    STARVED: "starved: runnable without a CPU for {share} of its time ({threads} runnable threads on average)",
    CPU_WAIT: "starved: it waited for a CPU in {share} of the time, and wanted {cores} cores",
    CPU_PRESSURE: "some of it waited for a CPU in {share} of the time",
    PSS_DENIED: "{gap}",
    MEMORY_HIGH: "at memory.high, {limit}: the kernel reclaimed its memory",
    MEMORY_PRESSURE: "some of it waited for memory in {share} of the time",
    FROM_ATTACH: "tracked from the attach on, not from its start",
    ONE_BLOCK: "a block of its program was tracked, not all of it",
    GPUS_NOT_READ: "GPUs were not read",
    GPU_USE_UNKNOWN: "the driver does not report which processes used the GPUs",
}


class Cause:
    """One cause: its code, and the values that its words show."""

    __slots__ = ("code", "values")

    def __init__(self, code: str, **values: Any) -> None:
        self.code = code
        self.values = values

    @property
    def text(self) -> str:
        """The words."""
        shown = {name: SHOWN[name](value) for name, value in self.values.items() if name in SHOWN}
        if self.code == PART_KILLED:
            shown["kills"] = words.oom_kills(self.values["summary"])
        if self.code == ENDED_EARLY:
            shown["ended"] = _ended(**self.values)
        return WORDS[self.code].format(**shown)


def _ended(verdict: str, summary: JsonObject) -> str:
    """Return the verdict and the reason; for `killed` the reason alone."""
    reason = words.reason(summary)
    return reason if verdict == "killed" else f"{verdict}: {reason}"


SHOWN = {
    "seconds": lambda value: with_unit(value, "s"),
    "limit": lambda value: with_unit(value, "By"),
    "share": lambda value: percentage(min(value, 1), 0),
    "cores": lambda value: f"{value:.2f}",
    "threads": lambda value: f"{value:.1f}",
    "gap": words.gap,
}
