"""What a request rests on, and why a run proves less than the whole of a resource: codes with values, and their words.

Values are in the unit of the resource: cores, bytes, seconds. `unit` is that of the values `used`, `below`, `limit`,
`next` and `more` beside it.
"""

from __future__ import annotations

from proctally.analysis.memory import between_bounds
from proctally.text import words
from proctally.text.units import UNKNOWN, brief, exact_size, minutes, one_unit, percentage, with_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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

# what a request rests on
SUFFICES = "suffices"  # cores
PARTS = "parts"  # held, mapped_file, kernel, swap, more, unit
MORE = "more"  # more, unit
SPREAD = "spread"  # below, more, unit
TOO_WIDE = "too_wide"  # more, unit
BUSY = "busy"  # gpus

# what a trial rests on
WANTED = "wanted"  # cores
TWICE_LIMIT = "twice_limit"  # limit, unit
STARVED_TIME = "starved_time"  # cores, about

# what else is notable
AS_FAR = "as_far"
ALL_USED = "all_used"  # cores
WIDE = "wide"  # low, high, gap
UNCLAIMED = "unclaimed"  # bytes
DROPPABLE = "droppable"  # bytes
GAP = "gap"  # gap
OF_BLOCK = "of_block"
WAITED = "waited"
GPUS_HELD = "gpus_held"  # gpus, held
GPUS_PARTLY = "gpus_partly"
LEFT_OUT = "left_out"  # runs, why: causes
LARGEST_CUT = "largest_cut"
OUTLIER = "outlier"  # used, next, unit
BASIS = "basis"  # runs, next: code of the next step

WORDS = {
    UNKNOWN_VALUE: UNKNOWN,
    NO_SUMMARY: "its record has no end: it was killed with its tracker, perhaps by a scheduler, or still runs",
    ENDED_EARLY: "{ended}",
    PART_KILLED: "{kills}",
    TOO_SHORT: "too short to be sampled",
    THROTTLED: "throttled by its CPU quota for {seconds} ({share} of the time)",
    STARVED: "starved: runnable without a CPU for {share} of its time ({threads} runnable threads on average)",
    CPU_WAIT: "starved: it waited for a CPU in {share} of the time, and wanted {cores} core{s}",
    CPU_PRESSURE: "some of it waited for a CPU in {share} of the time",
    PSS_DENIED: "{gap}",
    MEMORY_HIGH: "at memory.high, {limit}: the kernel reclaimed its memory",
    MEMORY_PRESSURE: "some of it waited for memory in {share} of the time",
    FROM_ATTACH: "tracked from the attach on, not from its start",
    ONE_BLOCK: "a block of its program was tracked, not all of it",
    GPUS_NOT_READ: "GPUs were not read",
    GPU_USE_UNKNOWN: "the driver does not report which processes used the GPUs",
    SUFFICES: "{cores} suffice within 5 %",
    PARTS: "{parts}",
    MORE: "{more} more",
    SPREAD: "95 % stay below {below}; {more} more",
    TOO_WIDE: "they spread too far: twice the largest, a guess; {more} more",
    BUSY: "{gpus} busy",
    WANTED: "trial: it wanted {cores}",
    TWICE_LIMIT: "trial: twice its limit of {limit}",
    STARVED_TIME: "starved: on {cores} core{s} about {about}",
    AS_FAR: "as far as it went",
    ALL_USED: "it used all it had ({cores} core{s}): whether more make it faster is unknown",
    WIDE: "it held {bounds}",
    UNCLAIMED: "{bytes} of it is shared memory that might belong to another job",
    DROPPABLE: "the kernel can drop the {bytes} of mapped files, and read them again",
    GAP: "{gap}",
    OF_BLOCK: "of the tracked block: what its program does elsewhere may need more",
    WAITED: "it waited for CPUs: with more of them it may take less",
    GPUS_HELD: "it held memory on {held} and used {gpus}",
    GPUS_PARTLY: "the use of some is unknown at times",
    LEFT_OUT: "{runs} too little of it: {why}",
    LARGEST_CUT: "no request: a run that used more than all others had less than it needed",
    OUTLIER: "one run used {used}, no other more than {next}",
    BASIS: "from {basis}",
}

FREE_MACHINE, NO_QUOTA, MORE_MEMORY, MORE_TIME = "free_machine", "no_quota", "more_memory", "more_time"
TO_ITS_END, FROM_START, MORE_RUNS = "to_its_end", "from_start", "more_runs"
NEXT = {
    FREE_MACHINE: "on a free machine",
    NO_QUOTA: "with more CPU quota",
    MORE_MEMORY: "with more memory",
    MORE_TIME: "with more time",
    TO_ITS_END: "to its end",
    FROM_START: "from its start, as a command of proctally run",
}
BY_CAUSE = {
    CPU_WAIT: FREE_MACHINE,
    STARVED: FREE_MACHINE,
    STARVED_TIME: FREE_MACHINE,
    CPU_PRESSURE: FREE_MACHINE,
    THROTTLED: NO_QUOTA,
    PART_KILLED: MORE_MEMORY,
    MEMORY_HIGH: MORE_MEMORY,
    MEMORY_PRESSURE: MORE_MEMORY,
    NO_SUMMARY: TO_ITS_END,
    FROM_ATTACH: FROM_START,
    ONE_BLOCK: FROM_START,
}
BY_VERDICT = {"oom": MORE_MEMORY, "limit": MORE_MEMORY, "timeout": MORE_TIME}


class Cause:
    """One cause: its code, and the values that its words show."""

    __slots__ = ("code", "values")

    def __init__(self, code: str, **values: Any) -> None:
        self.code = code
        self.values = values

    @property
    def next_step(self) -> str | None:
        """Code of what gives better evidence; None where that is unknown."""
        if self.code == ENDED_EARLY:
            return BY_VERDICT.get(self.values["verdict"], TO_ITS_END)
        return BY_CAUSE.get(self.code)

    @property
    def shown(self) -> dict[str, str]:
        """Its values as text."""
        values = self.values
        shown = {name: SHOWN[name](value) for name, value in values.items() if name in SHOWN}
        shown["s"] = "" if values.get("cores") == 1 else "s"  # of the noun behind a number of cores
        if "unit" in values:
            show = exact_size if values["unit"] == "By" else minutes
            shown |= {name: show(values[name]) for name in ("used", "next", "below", "limit", "more") if name in values}
        if self.code in MADE:
            shown |= MADE[self.code](**values)
        return shown

    @property
    def text(self) -> str:
        """The words."""
        return WORDS[self.code].format(**self.shown)

    @property
    def data(self) -> JsonObject:
        """Return code, values and words for JSON."""
        values = {name: value for name, value in self.values.items() if name not in ("summary", "why")}
        step = {"next_step": self.next_step} if self.next_step else {}
        return {"code": self.code, **values, **step, "text": self.text}


def reasons(found: list[Cause]) -> str:
    """Return the words of causes, each once; of many the first."""
    different = list(dict.fromkeys(cause.text for cause in found))
    rest = len(different) - REASONS
    return "; ".join(different[:REASONS]) + (f"; and {rest} other reasons" if rest > 0 else "")


def _ended(verdict: str, summary: JsonObject) -> dict[str, str]:
    """Return the verdict and the reason; for `killed` the reason alone."""
    reason = words.reason(summary)
    return {"ended": reason if verdict == "killed" else f"{verdict}: {reason}"}


def _memory_parts(unit: str, **parts: float | None) -> dict[str, str]:
    """Return what a request of memory is the sum of, such as `58 held, 9 of files, 32 MiB more`."""
    least = SMALLEST_PART * sum(value or 0 for value in parts.values())
    named = [(value, OF_MEMORY[name]) for name, value in parts.items() if value and value >= least]
    unknown = " and ".join(OF_MEMORY[name].removeprefix("of ") for name, value in parts.items() if value is None)
    return {"parts": one_unit(named) + (f"; {unknown} unknown" if unknown else "")}


def _basis(runs: int, next: str | None) -> dict[str, str]:  # noqa: A002
    """Return from how many runs a request is, and the next step."""
    count = "one run" if runs == 1 else f"{runs} runs"
    if next in NEXT:
        good = "not a good one" if runs == 1 else "not all of them good"
        return {"basis": f"{count}, {good}: run it once {NEXT[next]}, then ask again"}
    return {"basis": f"{count}: more of them show how it varies (proctally run --repeat 5)" if next else count}


REASONS = 2
SMALLEST_PART = 0.005  # of a request of memory: below it a part is not shown
OF_MEMORY = {"held": "held", "mapped_file": "of files", "kernel": "of kernel", "swap": "of swap", "more": "more"}
SHOWN: dict[str, Callable[..., str]] = {
    "seconds": lambda value: with_unit(value, "s"),
    "about": lambda value: f"{value:.0f} s" if 10 <= value < 59.5 else brief(value),
    "limit": lambda value: with_unit(value, "By"),
    "bytes": exact_size,
    "share": lambda value: percentage(min(value, 1), 0),
    "cores": lambda value: f"{value:g}" if value >= 1 and value == int(value) else f"{value:.2f}",
    "gpus": lambda value: f"{value:g}",
    "held": lambda value: f"{value:g}",
    "threads": lambda value: f"{value:.1f}",
    "gap": words.gap,
    "runs": lambda value: "1 run tells" if value == 1 else f"{value} runs tell",
    "why": reasons,
}
MADE: dict[str, Callable[..., dict[str, str]]] = {
    PART_KILLED: lambda summary: {"kills": words.oom_kills(summary)},
    ENDED_EARLY: _ended,
    PARTS: _memory_parts,
    BASIS: _basis,
    WIDE: lambda low, high, gap: {"bounds": f"{between_bounds(low, high)}: {words.gap(gap)}"},
}
