"""The figures that matter of a run, in words: what it used of what it had, what it waited for, what is not known.

Every format shows these; nothing here knows how they are shown. A record without a summary is told by its last sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import localtime, strftime

from proctally.analysis.comparison import Diff, Side
from proctally.analysis.measures import figure
from proctally.analysis.memory import HeldMemory
from proctally.analysis.others import Others
from proctally.analysis.time import Time
from proctally.analysis.waits import MIN_SHARE
from proctally.record import codes
from proctally.record.schema import BYTES, CORES, RATIO, RUNNING, WATTS
from proctally.record.values import number, number_at, objects_at, section_at, value_at
from proctally.text import words
from proctally.text.escape import printable
from proctally.text.units import UNKNOWN, brief, cores, decimal, duration, percentage, rate, size
from proctally.views import phrases
from proctally.views.request import request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.record import JsonObject
    from proctally.views.report.series import Story

SINCE = {  # kinds of records whose totals do not start with the job
    "attach": "totals count from the attach on",
    "track": "totals count from the start of the block",
}


RESOURCES = {"cpu": "a CPU", "memory": "memory", "io": "storage"}  # by the name of their pressure
PEAKS = {  # of a record without a summary: name in a summary, and the column that has its values
    "peak_low_bytes": "tree.memory_low_bytes",
    "peak_high_bytes": "tree.memory_high_bytes",
    "mapped_file_bytes": "tree.mapped_file_bytes",
    "peak_pss_bytes": "tree.pss_bytes",
    "peak_rss_bytes": "tree.rss_bytes",
}


@dataclass(slots=True)
class Headline:
    """One figure: what it is, its value, and a note. `incomplete`: it may not contain all; the coverage says what."""

    label: str
    value: str
    note: str = ""
    incomplete: bool = False


# -- how values are said ---------------------------------------------------------------------------------------------


def said(unit: str, value: float | None) -> str:
    """A value of a chart by its unit."""
    if value is None or value != value:
        return UNKNOWN
    if unit == BYTES:
        return size(value)
    if unit == f"{BYTES}/s":
        return rate(value)
    if unit == RATIO:
        return percentage(value)
    if unit == CORES:
        return f"{decimal(value)} cores"
    return f"{value:.0f} W" if unit == WATTS else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


# -- of one run ------------------------------------------------------------------------------------------------------


class Facts:
    """The numbers of a run, from its summary, or where it has none as far as its samples go. None is not known."""

    def __init__(self, story: Story) -> None:
        self.story = story
        summary = story.summary
        self.of_tree = story.run.get("kind") != "system"
        self.whole = bool(summary)
        self.verdict = story.past.verdict
        self.wall = story.wall_seconds
        cut_short = "its end is missing" + (f": cut short at {brief(self.wall)}" if self.wall else "")
        unfinished = "the record is still written" if self.verdict == RUNNING else cut_short
        self.reason = words.reason(summary) if self.whole else unfinished
        self.cpu = self._value("cpu.total_seconds", "tree.cpu_seconds")
        self.peak_cores = _either(number_at(summary, "cpu.peak_cores"), story.peak("tree.cpu_cores"))
        peaks = summary
        if not section_at(summary, "memory"):
            peaks = {"memory": {name: story.peak(path) for name, path in PEAKS.items()}}
        self.memory = HeldMemory.of_summary(peaks)
        self.peak_memory = number(figure("memory").of(peaks))
        self.peak_pss = number_at(peaks, "memory.peak_pss_bytes")
        self.peak_rss = number_at(peaks, "memory.peak_rss_bytes")
        self.largest = number_at(peaks, "memory.peak_process_rss_bytes")
        self.read = self._value("io.read_bytes", "tree.read_bytes")
        self.written = self._value("io.write_bytes", "tree.write_bytes")
        self.run_delay = self._value("waiting.run_delay_seconds", "tree.run_delay_seconds")
        self.throttled = self._value("waiting.throttled_seconds", "tree.throttled_seconds")
        self.time = Time.of_summary(summary)
        limits = summary.get("limits") or story.run.get("limits")
        self.limit_cores = number_at(limits, "cpu_cores")
        self.limit_memory = number_at(limits, "memory_bytes")
        self.limits_from = str(value_at(limits, "from") or "")
        self.machine_cores = _either(number_at(summary, "system.cpus"), number(story.host.get("cpus_online")))
        self.machine_memory = _either(
            number_at(summary, "system.memory_total_bytes"), number(story.host.get("memory_bytes"))
        )

    def _value(self, path: str, field: str) -> float | None:
        """A total: that of the summary, else of the last sample."""
        return number_at(self.story.summary if self.whole else self.story.last, path if self.whole else field)

    @property
    def mean_cores(self) -> float | None:
        """CPU seconds per second."""
        return self.cpu / self.wall if self.cpu is not None and self.wall > 0 else None

    def phase_at(self, elapsed: float | None) -> object:
        """Return the name of the phase that began last before a moment and had not ended; None without one."""
        if elapsed is None:
            return None
        going = [one for one in self.story.phases if one["begin"] <= elapsed and not (one["end"] or elapsed) < elapsed]
        return max(going, key=lambda one: one["begin"])["name"] if going else None

    def request(self) -> str:
        """Return what to request for the next run as one line of text; empty for the whole machine."""
        return request(self.story.evidence) if self.of_tree else ""

    def incomplete(self, part: str) -> bool:
        """Return whether the total of a section does not contain all."""
        return bool(value_at(self.story.summary, f"{part}.coverage") == codes.PARTIAL)


def _either(first: float | None, second: float | None) -> float | None:
    return second if first is None else first


def head(facts: Facts) -> list[Headline]:
    """Return the figures that matter apart from time and memory, the most wanted first."""
    found = _of_tree(facts) if facts.of_tree else _of_machine(facts)
    gpu = section_at(facts.story.summary, "gpu")
    if gpu:
        mean, peak = number(gpu.get("mean_utilization_ratio")), number(gpu.get("peak_utilization_ratio"))
        held = number(gpu.get("peak_tree_memory_bytes" if facts.of_tree else "peak_memory_used_bytes"))
        memory = f"memory {size(held)}{' of the job' if facts.of_tree else ''}"
        found.append(Headline("GPU", percentage(mean), f"mean, peak {percentage(peak)}, sum of all; {memory}"))
    elif facts.of_tree and (others := Others(facts.story.summary.get("others"))).users:
        users = ", ".join(user.text() for user in others.users[:2])
        found.append(Headline("Neighbours", others.text_of_cores(None), users))
    return found


def _of_tree(facts: Facts) -> list[Headline]:
    summary = facts.story.summary
    note = phrases.user_and_system(summary) if facts.whole else "so far"
    found = [Headline("CPU time", brief(facts.cpu), note, incomplete=facts.incomplete("cpu"))]
    of = "" if facts.limit_cores is None else f" of {facts.limit_cores:g}"
    note = f"peak {decimal(facts.peak_cores)}{of}"
    found.append(Headline("Cores", decimal(facts.mean_cores), note, incomplete=facts.incomplete("cpu")))
    io = f"written; {size(facts.read)} read"
    found.append(Headline("Disk", size(facts.written), io, incomplete=facts.incomplete("io")))
    processes = section_at(summary, "processes")
    if processes:
        started = number(processes.get("started"))
        word = "started" if processes.get("source") == "perf" else "seen"
        left = f"; {processes['left']} left running" if processes.get("left") else ""
        value = UNKNOWN if started is None else f"{started:,.0f}"
        note = f"{word}, {number(processes.get('peak')) or 0:,.0f} at once{left}"
        found.append(Headline("Processes", value, note, incomplete=facts.incomplete("processes")))
    else:
        peak = facts.story.peak("tree.processes")
        found.append(Headline("Processes", UNKNOWN if peak is None else f"{peak:,.0f}", "at most at once, so far"))
    return found


def _of_machine(facts: Facts) -> list[Headline]:
    story, summary = facts.story, facts.story.summary.get("system")
    mean = _either(number_at(summary, "mean_cores"), story.mean("system.cpu_cores"))
    peak = _either(number_at(summary, "peak_cores"), story.peak("system.cpu_cores"))
    of = "" if facts.machine_cores is None else f" of {facts.machine_cores:g}"
    found = [
        Headline("Wall time", duration(facts.wall), "" if facts.whole else "up to the last sample"),
        Headline("Cores busy", decimal(mean), f"peak {decimal(peak)}{of}"),
    ]
    used = _either(number_at(summary, "peak_memory_used_bytes"), story.peak("system.memory.used_bytes"))
    found.append(Headline("Memory", size(used), f"peak of what is used, of {size(facts.machine_memory)}"))
    for label, value, other, word in (
        ("Disk", "disk_write_bytes", "disk_read_bytes", ("written", "read")),
        ("Network", "network_sent_bytes", "network_received_bytes", ("sent", "received")),
    ):
        first, second = number_at(summary, value), number_at(summary, other)
        found.append(Headline(label, size(first), f"{word[0]}; {size(second)} {word[1]}"))
    return found


# -- tables ----------------------------------------------------------------------------------------------------------


def others(facts: Facts) -> list[str]:
    """Return what other jobs used while this one waited for a CPU, and then the largest users, a line each."""
    found = Others(facts.story.summary.get("others"))
    if not found.users:
        return []
    used = found.text_of_cores(facts.machine_cores)
    lack = phrases.others_lack(facts.story.summary, found, facts.time)
    users = (user.text(with_memory=True) for user in found.users)
    return [f"used {used} while it waited:", *users, *([lack] if lack else [])]


def pressure(facts: Facts) -> list[str]:
    """Return the pressure of its cgroup, else of the machine, and what the hypervisor took, a line each."""
    story, found = facts.story, []
    own = story.peak("cgroup.io_pressure_seconds") is not None
    who = "some task of its cgroup" if own else "some task of the machine, of the job or not,"
    for what in ("cpu", "memory", "io"):
        share = story.mean(f"cgroup.{what}_pressure_seconds" if own else f"system.pressure.{what}_some_seconds")
        if share is not None and share >= MIN_SHARE:
            found.append(f"{who} waited for {RESOURCES[what]} {percentage(min(1.0, share))} of the time")
    steal, cpus = number_at(story.summary, "system.cpu_steal_seconds"), facts.machine_cores
    if steal and cpus and facts.wall:
        found.append(f"the hypervisor took {percentage(min(1.0, steal / (cpus * facts.wall)))} of the CPUs")
    return found


def host(facts: Facts) -> list[tuple[str, str]]:
    """What the machine is, a line each; what is not known is left out."""
    have = facts.story.host
    cpus, physical, sockets = (number(have.get(name)) for name in ("cpus_online", "cpu_physical_cores", "cpu_sockets"))
    cpu = [str(have["cpu_model"])] if have.get("cpu_model") else []
    if cpus is not None:
        cpu.append(
            cores(cpus, "CPU")
            + (
                ""
                if physical is None
                else f", {cores(physical)}"
                + (f" in {sockets:g} socket{'' if sockets == 1 else 's'}" if sockets else "")
            )
        )
    kernel = [str(have[name]) for name in ("distribution", "kernel_release", "architecture") if have.get(name)]
    memory = [size(number(have["memory_bytes"]))] if number(have.get("memory_bytes")) else []
    if number(have.get("swap_bytes")):
        memory.append(f"swap {size(number(have['swap_bytes']))}")
    disks = [
        " ".join(str(disk[name]) for name in ("name", "type", "model") if disk.get(name))
        + f" {size(number(disk.get('capacity_bytes')))}"
        for disk in objects_at(have, "storage")
    ]
    cards = [str(gpu.get("name")) for gpu in objects_at(have, "gpus")]
    inside = [str(have[name]) for name in ("container", "virtualization") if have.get(name)]
    rented = [str(value) for value in section_at(have, "cloud").values() if value]
    rows = [("host", [str(have["hostname"])] if have.get("hostname") else []), ("system", kernel), ("CPU", cpu)]
    rows += [("memory", memory), ("storage", disks), ("GPUs", cards), ("inside of", inside), ("cloud", rented)]
    return [(label, ", ".join(values)) for label, values in rows if values]


def tracker(facts: Facts) -> list[str]:
    """What the tracking itself cost."""
    cost = section_at(facts.story.summary, "tracker")
    if not cost:
        return [f"{facts.story.samples:,} samples; what it cost is said at the end of a record, which is missing."]
    used = number(cost.get("cpu_seconds"))
    share = ""
    if used is not None and facts.cpu is not None and facts.cpu >= 0.1:
        share = f" ({percentage(used / facts.cpu)} of the job's)"
    samples, late, lost = (number(cost.get(name)) or 0 for name in ("samples", "late_samples", "lost_samples"))
    return [
        f"{duration(used)} of CPU{share}, {size(number(cost.get('peak_rss_bytes')))} of memory",
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
    if facts.story.replaced:
        found.append(f"the record has {words.wrong_values(facts.story.replaced)}")
    since = SINCE.get(str(facts.story.run.get("kind")))
    found += [] if since is None else [since]
    whole = _complete(summary)
    found += [f"complete: {', '.join(whole)}"] if whole else []
    sections = words.sections(summary)
    found += [f"{title}: {text}" for title, text in sections if title not in whole]
    for path, start in (("cpu", "no "), ("system", "no "), ("host", "")):
        missing = section_at(facts.story.host if path == "host" else summary.get(path), "unavailable")
        for what, code in missing.items():
            found.append(f"{start}{what}: {words.missing(code, what)}")
    if facts.of_tree:
        found.append("network: Linux counts no traffic per process; what is shown is the machine's")
    else:
        found.append("processes: this is the machine as a whole; who did what is not in the record")
    return found


def _complete(summary: JsonObject) -> list[str]:
    """Return the titles of the sections that lack nothing; memory is sampled in any case."""
    titles = words.SECTIONS
    with_gap = {gap.get("section") for gap in objects_at(summary, "gaps")} | {codes.MEMORY}
    return [
        title
        for name, title in titles.items()
        if name not in with_gap and value_at(summary, f"{name}.coverage") == codes.COMPLETE
    ]


# -- several runs ----------------------------------------------------------------------------------------------------


def labels(facts: Sequence[Facts]) -> list[str]:
    """A name for each run that tells it from the others."""
    return [f"{one.story.title} {one.story.past.short_id or n + 1}" for n, one in enumerate(facts)]


def compared(facts: Sequence[Facts], split: int) -> Diff | None:
    """Return the comparison of the first `split` runs with the others; None where there are no two sides of it."""
    pasts = [one.story.past for one in facts]
    base, new = Side("BASE", "", pasts[:split]), Side("NEW", "", pasts[split:])
    return Diff(base, new, []) if base.counted and new.counted else None


def together(facts: Sequence[Facts]) -> Side:
    """Return all runs as one group."""
    return Side("", "", [one.story.past for one in facts])


def side_by_side(facts: Sequence[Facts]) -> list[tuple[str, list[str]]]:
    """The figures of several runs, a row each."""
    began = [strftime("%Y-%m-%d %H:%M", localtime(one.story.past.started_at)) for one in facts]
    rows = [("begun", began), ("verdict", [printable(one.verdict) for one in facts])]
    rows.append(("wall", [duration(one.wall) for one in facts]))
    rows.append(("CPU time", [duration(one.cpu) for one in facts]))
    rows.append(("cores, mean", [decimal(one.mean_cores) for one in facts]))
    rows.append(("cores, peak", [decimal(one.peak_cores) for one in facts]))
    peaks = [one.memory.short if one.memory.is_known else size(one.peak_memory) for one in facts]
    rows.append(("memory, peak", peaks))
    rows.append(("disk read", [size(one.read) for one in facts]))
    rows.append(("disk written", [size(one.written) for one in facts]))
    if any(one.time.parts for one in facts):
        rows.append(("where the time went", [one.time.text or UNKNOWN for one in facts]))
    return rows
