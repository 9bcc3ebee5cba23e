"""The figures that matter of a run, in words: what it used of what it had, what it waited for, what is not known.

Every format shows these; nothing here knows how they are shown. A record without a summary is told by its last sample.
"""

from __future__ import annotations

from time import localtime, strftime

from proctally.history import LOST, RUNNING, value_at
from proctally.report.series import number
from proctally.summary import duration, printable, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from proctally.report.series import Story

UNKNOWN = "unknown"
GOOD, BAD, NEUTRAL = "good", "bad", "neutral"
MOODS = {"ok": GOOD, "ended": NEUTRAL, RUNNING: NEUTRAL}
COVERAGE = (("cpu", "CPU"), ("memory", "memory"), ("io", "disk"), ("processes", "processes"))


class Figure:
    """One figure: what it is, its value, what is to be known with it, and the share of a limit (0 to 1, or None).

    `incomplete`: the value may not contain all; the coverage says what.
    """

    __slots__ = ("incomplete", "label", "note", "of", "ratio", "value")

    def __init__(
        self,
        label: str,
        value: str,
        note: str = "",
        ratio: float | None = None,
        of: str = "",
        *,
        incomplete: bool = False,
    ) -> None:
        self.label = label
        self.value = value
        self.note = note
        self.ratio = ratio
        self.of = of
        self.incomplete = incomplete


# -- how values are said ---------------------------------------------------------------------------------------------


def known(value: Any) -> float | None:
    """A number, None where there is none."""
    value = number(value)
    return value if value == value else None


def cores(value: float | None) -> str:
    """A number of cores."""
    return UNKNOWN if value is None else f"{value:.2f}"


def time(value: float | None) -> str:
    """Seconds as a person says them."""
    return UNKNOWN if value is None else duration(value)


def percent(share: float | None) -> str:
    """A share of 1."""
    if share is None:
        return UNKNOWN
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def said(unit: str, value: float | None) -> str:
    """A value of a chart by its unit."""
    if value is None or value != value:
        return UNKNOWN
    if unit.startswith("bytes"):
        return size(value) + unit.removeprefix("bytes")
    if unit == "ratio":
        return percent(value)
    if unit == "cores":
        return f"{value:.2f} cores"
    return f"{value:.0f} W" if unit == "watts" else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


# -- of one run ------------------------------------------------------------------------------------------------------


class Facts:
    """The numbers of a run, from its summary, or where it has none as far as its samples go. None is not known."""

    def __init__(self, story: Story) -> None:
        self.story = story
        summary = story.summary
        self.of_tree = story.run.get("kind") != "system"
        self.whole = bool(summary)
        self.verdict = story.past.verdict
        self.evidence = str(
            summary.get("evidence") or {RUNNING: "is still written", LOST: "has no end"}.get(self.verdict)
        )
        self.wall = story.wall_seconds
        self.cpu = self._value("cpu.total_seconds", "tree.cpu_seconds")
        self.peak_cores = _either(known(value_at(summary, "cpu.peak_cores")), story.peak("tree.cpu_cores"))
        self.peak_pss = _either(known(value_at(summary, "memory.peak_pss_bytes")), story.peak("tree.pss_bytes"))
        self.peak_rss = _either(known(value_at(summary, "memory.peak_rss_bytes")), story.peak("tree.rss_bytes"))
        self.largest = known(value_at(summary, "memory.peak_process_rss_bytes"))
        self.read = self._value("io.read_bytes", "tree.read_bytes")
        self.written = self._value("io.write_bytes", "tree.write_bytes")
        self.run_delay = self._value("waiting.run_delay_seconds", "tree.run_delay_seconds")
        self.throttled = self._value("waiting.throttled_seconds", "tree.throttled_seconds")
        limits = summary.get("limits") or story.run.get("limits")
        self.limit_cores = known(value_at(limits, "cpu_cores"))
        self.limit_memory = known(value_at(limits, "memory_bytes"))
        self.limits_from = str(value_at(limits, "from") or "")
        self.machine_cores = _either(known(value_at(summary, "system.cpus")), known(story.host.get("cpus_online")))
        self.machine_memory = _either(
            known(value_at(summary, "system.memory_total_bytes")), known(story.host.get("memory_bytes"))
        )

    def _value(self, path: str, field: str) -> float | None:
        """A total: that of the summary, else of the last sample."""
        return known(value_at(self.story.summary if self.whole else self.story.last, path if self.whole else field))

    @property
    def mean_cores(self) -> float | None:
        """CPU seconds per second."""
        return self.cpu / self.wall if self.cpu is not None and self.wall > 0 else None

    @property
    def peak_memory(self) -> float | None:
        """What has to be there at least: the peak of PSS as sampled, or the largest process, whichever is more."""
        return max((value for value in (self.peak_pss, self.largest) if value is not None), default=None)

    def incomplete(self, part: str) -> bool:
        """Whether a total may not contain all."""
        coverage = value_at(self.story.summary, f"{part}.coverage")
        return self.whole and isinstance(coverage, str) and coverage.startswith("all but")


def _either(first: float | None, second: float | None) -> float | None:
    return second if first is None else first


def head(facts: Facts) -> list[Figure]:
    """The figures that matter, the most asked for first."""
    found = [Figure("Wall time", time(facts.wall), "" if facts.whole else "up to the last sample")]
    if facts.of_tree:
        found += _of_tree(facts)
    else:
        found += _of_machine(facts)
    gpu = facts.story.summary.get("gpu")
    if isinstance(gpu, dict):
        mean, peak = known(gpu.get("mean_utilization_ratio")), known(gpu.get("peak_utilization_ratio"))
        held = known(gpu.get("peak_tree_memory_bytes" if facts.of_tree else "peak_memory_used_bytes"))
        memory = f"memory {size(held)}{' of the job' if facts.of_tree else ''}"
        found.append(Figure("GPU", percent(mean), f"mean, peak {percent(peak)}, sum of all; {memory}"))
    return found


def _of_tree(facts: Facts) -> list[Figure]:
    summary = facts.story.summary
    source = value_at(summary, "cpu.source")
    split = [known(value_at(summary, f"cpu.{name}_seconds")) for name in ("user", "system")]
    note = f"user {time(split[0])}, system {time(split[1])}; by {source}" if facts.whole else "so far"
    found = [Figure("CPU time", time(facts.cpu), note, incomplete=facts.incomplete("cpu"))]
    limit = facts.limit_cores
    of = "" if limit is None else f"of {limit:g} cores it may use"
    mean = facts.mean_cores
    share = mean / limit if mean is not None and limit else None
    note = f"mean, peak {cores(facts.peak_cores)}" + (f"; {percent(share)} {of}" if share is not None else "")
    found.append(Figure("Cores", cores(mean), note, share, of, incomplete=facts.incomplete("cpu")))
    found.append(_memory(facts))
    io = f"written; {size(facts.read)} read"
    found.append(Figure("Disk", size(facts.written), io, incomplete=facts.incomplete("io")))
    processes = summary.get("processes")
    if isinstance(processes, dict):
        started = known(processes.get("started"))
        word = "started" if processes.get("source") == "perf" else "seen"
        left = f"; {processes['left']} left running" if processes.get("left") else ""
        value = UNKNOWN if started is None else f"{started:,.0f}"
        note = f"{word}, at most {known(processes.get('peak')) or 0:,.0f} at once{left}"
        found.append(Figure("Processes", value, note, incomplete=facts.incomplete("processes")))
    else:
        peak = facts.story.peak("tree.processes")
        found.append(Figure("Processes", UNKNOWN if peak is None else f"{peak:,.0f}", "at most at once, so far"))
    return found


def _memory(facts: Facts) -> Figure:
    peak, limit = facts.peak_memory, _either(facts.limit_memory, facts.machine_memory)
    whose = "it may use" if facts.limit_memory is not None else "the machine has"
    share = peak / limit if peak is not None and limit else None
    of = "" if limit is None else f"of {size(limit)} that {whose}"
    parts = [f"peak; {percent(share)} {of}" if share is not None else "peak"]
    parts.append(
        f"PSS {size(facts.peak_pss)}, sum of RSS {size(facts.peak_rss)}, largest process {size(facts.largest)}"
    )
    return Figure("Memory", size(peak), "; ".join(parts), share, of)


def _of_machine(facts: Facts) -> list[Figure]:
    story, summary = facts.story, facts.story.summary.get("system")
    have = facts.machine_cores
    mean = _either(known(value_at(summary, "mean_cores")), story.mean("system.cpu_cores"))
    peak = _either(known(value_at(summary, "peak_cores")), story.peak("system.cpu_cores"))
    share = mean / have if mean is not None and have else None
    of = "" if have is None else f"of {have:g} cores"
    found = [Figure("Cores busy", cores(mean), f"mean, peak {cores(peak)}; {percent(share)} {of}", share, of)]
    used = _either(known(value_at(summary, "peak_memory_used_bytes")), story.peak("system.memory.used_bytes"))
    total = facts.machine_memory
    share = used / total if used is not None and total else None
    of = "" if total is None else f"of {size(total)}"
    found.append(Figure("Memory", size(used), f"peak of what is used; {percent(share)} {of}", share, of))
    for label, value, other, word in (
        ("Disk", "disk_write_bytes", "disk_read_bytes", ("written", "read")),
        ("Network", "network_sent_bytes", "network_received_bytes", ("sent", "received")),
    ):
        first, second = known(value_at(summary, value)), known(value_at(summary, other))
        found.append(Figure(label, size(first), f"{word[0]}; {size(second)} {word[1]}"))
    return found


# -- tables ----------------------------------------------------------------------------------------------------------


def commands(facts: Facts) -> list[dict[str, Any]]:
    """The commands by CPU time, the largest first; `cpu` contains what they used while they ended."""
    found = facts.story.summary.get("commands")
    rows = []
    for command in found if isinstance(found, list) else []:
        if isinstance(command, dict):
            used, end = known(command.get("cpu_seconds")), known(command.get("teardown_seconds"))
            rows.append(
                {
                    "command": str(command.get("command")),
                    "processes": known(command.get("processes")),
                    "cpu": None if used is None else used + (end or 0.0),
                    "wall": known(command.get("wall_seconds")),
                    "rss": known(command.get("peak_rss_bytes")),
                }
            )
    return sorted(rows, key=lambda row: -(row["cpu"] or 0.0))


def host(facts: Facts) -> list[tuple[str, str]]:
    """What the machine is, a line each; what is not known is left out."""
    have = facts.story.host
    cpus, physical, sockets = (known(have.get(name)) for name in ("cpus_online", "cpu_physical_cores", "cpu_sockets"))
    cpu = [str(have["cpu_model"])] if have.get("cpu_model") else []
    if cpus is not None:
        cpu.append(
            f"{cpus:g} CPUs"
            + (
                ""
                if physical is None
                else f", {physical:g} cores in {sockets or 0:g} socket{'' if sockets == 1 else 's'}"
            )
        )
    kernel = [str(have[name]) for name in ("distribution", "kernel_release", "architecture") if have.get(name)]
    memory = [size(known(have["memory_bytes"]))] if known(have.get("memory_bytes")) else []
    if known(have.get("swap_bytes")):
        memory.append(f"swap {size(known(have['swap_bytes']))}")
    storage = have.get("storage")
    disks = [
        " ".join(str(disk[name]) for name in ("name", "type", "model") if disk.get(name))
        + f" {size(known(disk.get('capacity_bytes')))}"
        for disk in (storage if isinstance(storage, list) else [])
        if isinstance(disk, dict)
    ]
    gpus = have.get("gpus")
    cards = [str(gpu.get("name")) for gpu in (gpus if isinstance(gpus, list) else []) if isinstance(gpu, dict)]
    inside = [str(have[name]) for name in ("container", "virtualization") if have.get(name)]
    cloud = have.get("cloud")
    rented = [str(value) for value in cloud.values() if value] if isinstance(cloud, dict) else []
    rows = [("host", [str(have["hostname"])] if have.get("hostname") else []), ("system", kernel), ("CPU", cpu)]
    rows += [("memory", memory), ("storage", disks), ("GPUs", cards), ("inside of", inside), ("cloud", rented)]
    return [(label, ", ".join(values)) for label, values in rows if values]


def tracker(facts: Facts) -> list[str]:
    """What the tracking itself cost."""
    cost = facts.story.summary.get("tracker")
    if not isinstance(cost, dict):
        return [f"{facts.story.samples:,} samples; what it cost is said at the end of a record, which is missing."]
    used = known(cost.get("cpu_seconds"))
    share = (
        f" ({percent(used / facts.cpu)} of the job's)" if used is not None and facts.cpu and facts.cpu >= 0.1 else ""
    )
    samples, late, lost = (known(cost.get(name)) or 0 for name in ("samples", "late_samples", "lost_samples"))
    return [
        f"{time(used)} of CPU{share}, {size(known(cost.get('peak_rss_bytes')))} of memory",
        f"{samples:,.0f} samples, {late:,.0f} late, {lost:,.0f} lost",
    ]


def unseen(facts: Facts) -> list[str]:
    """What the numbers cannot see."""
    summary = facts.story.summary
    found = []
    if not facts.whole:
        found.append(
            "The record has no end"
            + (" yet: it is still written." if facts.verdict == RUNNING else ": whatever wrote it was ended.")
            + " Totals are those of its last sample; processes that lived then are not listed."
        )
    for part, word in COVERAGE:
        coverage = value_at(summary, f"{part}.coverage")
        if isinstance(coverage, str):
            found.append(f"{word}: {coverage}")
    for where in ("cpu", "system"):
        missing = value_at(summary, f"{where}.unavailable")
        for what, why in (missing if isinstance(missing, dict) else {}).items():
            found.append(f"no {what}: {why}")
    troubles = facts.story.host.get("troubles")
    for what, why in (troubles if isinstance(troubles, dict) else {}).items():
        found.append(f"{what}: {why}")
    if facts.of_tree:
        found.append("network: Linux counts no traffic per process; what is shown is the machine's")
    else:
        found.append("processes: this is the machine as a whole; who did what is not in the record")
    return found


# -- several runs ----------------------------------------------------------------------------------------------------


def labels(facts: Sequence[Facts]) -> list[str]:
    """A name for each run that tells it from the others."""
    return [f"{one.story.title} {str(one.story.run.get('run_id') or n + 1)[:8]}" for n, one in enumerate(facts)]


def side_by_side(facts: Sequence[Facts]) -> list[tuple[str, list[str]]]:
    """The figures of several runs, a row each."""
    began = [strftime("%Y-%m-%d %H:%M", localtime(one.story.past.started_at)) for one in facts]
    rows = [("begun", began), ("verdict", [printable(one.verdict) for one in facts])]
    rows.append(("wall", [time(one.wall) for one in facts]))
    rows.append(("CPU time", [time(one.cpu) for one in facts]))
    rows.append(("cores, mean", [cores(one.mean_cores) for one in facts]))
    rows.append(("cores, peak", [cores(one.peak_cores) for one in facts]))
    rows.append(("memory, peak", [size(one.peak_memory) for one in facts]))
    rows.append(("disk read", [size(one.read) for one in facts]))
    rows.append(("disk written", [size(one.written) for one in facts]))
    rows.append(("waited for a CPU", [time(one.run_delay) for one in facts]))
    return rows
