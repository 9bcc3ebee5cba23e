"""The summary a person reads when the job has ended: a few aligned lines, 80 columns."""

from __future__ import annotations

from proctally.analysis.memory import HeldMemory, PeakPart
from proctally.analysis.time import Time
from proctally.record.codes import ALL_EXITED, DURATION_OVER, READERS_GONE, STOPPED
from proctally.record.values import objects_at
from proctally.text import words
from proctally.text.cells import columns_of, cut, wrapped
from proctally.text.escape import printable
from proctally.text.terminal import BOLD, DIM, RED, RESET, VERDICT_COLOURS, WIDTH
from proctally.text.units import UNKNOWN, duration, percentage, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject

LABEL = 11
TEXT = WIDTH - LABEL - 2
COMMANDS = 5
ATTACHED = (ALL_EXITED, DURATION_OVER, READERS_GONE, STOPPED)  # reasons that of all trees only an attached one has
TITLE = 24
NAME = 24  # cells of a name at the peak


class Page:
    """Lines with a label each."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour
        self.lines: list[str] = []

    def paint(self, text: str, code: str) -> str:
        return f"{code}{text}{RESET}" if self.colour else text

    def add(self, label: str, text: str) -> None:
        self.lines.append(f"  {self.paint(f'{label:<{LABEL}}', DIM)}{text}")


def title(name: str, summary: JsonObject) -> str:
    """Return the verdict with its reason as one line, with its newline."""
    return f"proctally {printable(name)}  {summary['verdict']}{words.after_verdict(summary)}\n"


def render(name: str, summary: JsonObject, path: str | None, *, colour: bool, verbose: bool = False) -> str:
    """The lines, each with its newline."""
    page = Page(colour=colour)
    verdict = summary["verdict"]
    reason = words.after_verdict(summary)
    shown = printable(name)
    room = max(TITLE, WIDTH - len(f"proctally   {verdict}{reason}"))
    shown = cut(shown, room)
    painted = page.paint(verdict, VERDICT_COLOURS.get(verdict, RED))
    head, *more = wrapped(reason, WIDTH - len(f"proctally {shown}  {verdict}"), WIDTH - 4) if reason else [""]
    page.lines.append(f"{page.paint(f'proctally {shown}', BOLD)}  {painted}{head}")
    page.lines += [f"    {line}" for line in more]
    page.add("wall", duration(summary["wall_seconds"]))
    parts = Time.of_summary(summary).text
    for label, text in zip(["time", "", ""], wrapped(parts, TEXT, TEXT) if parts else (), strict=False):
        page.add(label, text)
    if "cpu" in summary:
        _tree(page, summary)
    _machine(page, summary, of_tree="cpu" in summary)
    _tracking(page, summary)
    if path not in (None, "-"):
        page.add("record", printable(path))
    if verbose:
        _sources(page, summary)
    return "\n".join(page.lines) + "\n"


def _tree(page: Page, summary: JsonObject) -> None:
    cpu, memory, io, processes = summary["cpu"], summary["memory"], summary["io"], summary["processes"]
    split = f"user {cpu['user_seconds']:.2f}, system {cpu['system_seconds']:.2f}"
    page.add("CPU", f"{duration(cpu['total_seconds'])} ({split}), by {cpu['source']}")
    limits, throttled = summary["limits"], summary["waiting"]["throttled_seconds"]
    usable = "" if limits["cpu_cores"] is None else f", of {limits['cpu_cores']:g}"
    stood = f", throttled for {duration(throttled)}" if throttled else ""
    page.add("cores", f"mean {cpu['mean_cores']:.2f}, peak {cpu['peak_cores']:.2f}{usable}{stood}")
    held = HeldMemory.of_summary(summary)
    if held.is_known:
        _held(page, held, limits["memory_bytes"])
    else:
        _sums(page, memory, limits["memory_bytes"])
    for text in _oom_kills(memory):
        page.add("OOM kills", text)
    page.add("disk", f"read {size(io['read_bytes'])}, written {size(io['write_bytes'])}")
    if io.get("denied"):
        page.add("", _denied("I/O", io["denied"]))
    left = f", {processes['left']} left running" if processes["left"] else ""
    started = "started" if processes["source"] == "perf" else "seen"
    if processes["started"] is None or processes["peak"] is None:
        page.add("processes", f"{UNKNOWN}{left}")
        for text in wrapped(words.missing(cpu["unavailable"].get("procfs")), TEXT, TEXT):
            page.add("", text)
    else:
        page.add("processes", f"{processes['started']:,} {started}, at most {processes['peak']:,} at once{left}")
    killed = words.killed_children(processes.get("killed_by"))
    if killed:
        page.add("", cut(killed, TEXT))
    for label, text in zip(["counters", ""], _counters(summary.get("counters")), strict=False):
        page.add(label, text)
    for label, text in zip(["commands"] + [""] * COMMANDS, _commands(summary), strict=False):
        page.add(label, text)


def _held(page: Page, held: HeldMemory, limit: float | None) -> None:
    """Add the peak with its bounds, what makes them wide, what is apart, and the largest parts."""
    usable = "" if limit is None else f", of {size(limit)} that it may use"
    page.add("memory", f"{held.text}{usable}")
    for text in wrapped(f"wide: {held.cause}", TEXT, TEXT) if held.cause else ():
        page.add("", text)
    if held.apart:
        page.add("", ", ".join(f"{name} {size(value)}" for name, value in held.apart))
    if held.parts:
        page.add("", _parts(held))


def _parts(held: HeldMemory) -> str:
    """Return the largest parts of the peak that one line has room for."""
    shown = [f"{cut(part.name, NAME)} {part.text}" for part in held.parts]
    for count in range(len(shown), 1, -1):
        text = f"at the peak: {', '.join(shown[:count])}{'' if count == len(shown) else ', …'}"
        if columns_of(text) <= TEXT:
            return text
    return f"at the peak: {shown[0]}{'' if len(shown) == 1 else ', …'}"


def _oom_kills(memory: JsonObject) -> list[str]:
    """Return the first OOM kill with what held the memory before it, as one line."""
    ooms = objects_at(memory, "ooms")
    if not ooms:
        return []
    first = ooms[0]
    parts = [PeakPart(entry) for entry in objects_at(first, "at_peak")]
    more = f", {sum(entry['count'] for entry in ooms):,} in all" if len(ooms) > 1 else ""
    held = ", ".join(f"{cut(part.name, NAME)} {part.text}" for part in parts[:2])
    before = f"; before it {held}" if held else ""
    return [cut(f"at {duration(first['elapsed_seconds'])}{more}{before}", TEXT)]


def _sums(page: Page, memory: JsonObject, limit: float | None) -> None:
    """Add the memory of an older record, which has sums alone."""
    largest = f"largest process {size(memory['peak_process_rss_bytes'])}"
    page.add("memory", f"peak PSS {size(memory['peak_pss_bytes'])}, RSS {size(memory['peak_rss_bytes'])}, {largest}")
    if memory.get("pss_denied"):
        page.add("", _denied("PSS", memory["pss_denied"]))
    if limit is not None:
        page.add("", f"of {size(limit)} that it may use")


def _counters(counters: JsonObject | None) -> list[str]:
    """What --counters has counted."""
    known = {name: count for name, count in (counters or {}).items() if count is not None}
    said = [f"{count:,} {name.replace('_', ' ')}" for name, count in known.items()]
    return wrapped(", ".join(said), TEXT, TEXT) if said else []


def _denied(what: str, processes: int) -> str:
    return f"without {what} of {processes:,} process{'' if processes == 1 else 'es'} that this user may not read"


def _machine(page: Page, summary: JsonObject, *, of_tree: bool) -> None:
    """What the whole machine did; beside a tree how busy and how full it was, and its GPUs, where there are any."""
    system, gpu = summary.get("system"), summary.get("gpu")
    if system is not None:
        cores = None
        if system["mean_cores"] is not None:
            cores = f"mean {system['mean_cores']:.2f}, peak {system['peak_cores']:.2f} of {system['cpus']}"
        memory = f"at most {size(system['peak_memory_used_bytes'])} of {size(system['memory_total_bytes'])} used"
        if of_tree:
            page.add("machine", f"cores {UNKNOWN}" if cores is None else f"{cores} cores busy")
            page.add("", f"memory {memory}")
        else:
            used = system["cpu_seconds"]
            page.add("CPU", UNKNOWN if used is None else f"{duration(used)} of all cores")
            page.add("cores", UNKNOWN if cores is None else f"{cores} busy")
            page.add("memory", memory)
            page.add("disk", f"read {size(system['disk_read_bytes'])}, written {size(system['disk_write_bytes'])}")
            received, sent = size(system["network_received_bytes"]), size(system["network_sent_bytes"])
            page.add("network", f"received {received}, sent {sent}")
    if gpu is not None:
        mean, peak = gpu["mean_utilization_ratio"], gpu["peak_utilization_ratio"]
        busy = "utilisation unknown" if mean is None else f"mean {mean:.2f} busy, peak {peak:.2f}"
        held = size(gpu["peak_tree_memory_bytes"] if of_tree else gpu["peak_memory_used_bytes"])
        page.add("GPUs", f"{busy}, memory {held}")


def _tracking(page: Page, summary: JsonObject) -> None:
    tracker = summary["tracker"]
    used = summary["cpu"]["total_seconds"] if "cpu" in summary else 0.0
    of_job = ""
    if used >= max(0.1, tracker["cpu_seconds"]):  # of less, the start of the interpreter is all there is to see
        of_job = f" ({percentage(tracker['cpu_seconds'] / used, 1)})"
    samples = f"{tracker['samples']} samples"
    if tracker["lost_samples"]:
        samples += f", {tracker['lost_samples']} lost"
    page.add("tracking", f"{tracker['cpu_seconds']:.3f} s CPU{of_job}, {size(tracker['peak_rss_bytes'])}, {samples}")


def _sources(page: Page, summary: JsonObject) -> None:
    """Add the total of each source, which ones are missing, and what the totals do not contain."""
    missing = dict((summary.get("system") or {}).get("unavailable", {}))
    if "cpu" in summary:
        cpu, memory = summary["cpu"], summary["memory"]
        if HeldMemory.of_summary(summary).is_known:
            sums = f"PSS {size(memory['peak_pss_bytes'])}, RSS {size(memory['peak_rss_bytes'])}"
            page.add("sums", f"{sums}; largest process {size(memory['peak_process_rss_bytes'])}")
        page.add("sources", ", ".join(f"{source} {seconds:.3f} s" for source, seconds in cpu["sources"].items()))
        missing = cpu["unavailable"] | missing
    for source, code in missing.items():
        for text in wrapped(f"no {source}: {words.missing(code, source)}", TEXT, TEXT):
            page.add("", text)
    found = [f"{title}: {text}" for title, text in words.sections(summary)]
    if "cpu" in summary and summary["reason"]["code"] in ATTACHED:
        found.append("totals count from the attach")
    for entry in found:
        lines = wrapped(entry, TEXT, TEXT)
        for label, text in zip(["coverage"] + [""] * len(lines), lines, strict=False):
            page.add(label, text)


def _commands(summary: JsonObject) -> list[str]:
    """The most expensive commands, one a line, and what was too short to be seen."""
    total = summary["cpu"]["total_seconds"]
    rows = []
    shown = 0.0
    for command in summary["commands"]:
        used = (command["cpu_seconds"] or 0.0) + (command.get("teardown_seconds") or 0.0)
        shown += used
        if used >= 0.005:
            times = f" x {command['processes']:,}" if command["processes"] > 1 else ""
            rows.append(f"{used:>9.2f} s  {cut(printable(command['command']), 32)}{times}")
    del rows[COMMANDS:]
    unseen = total - shown
    if unseen > 0.05 and unseen > 0.02 * total:
        by_perf = summary["processes"]["source"] == "perf"
        where = "not attributed to a command" if by_perf else "in processes too short to sample, or at their exit"
        rows.append(f"{unseen:>9.2f} s  {where}")
    return rows
