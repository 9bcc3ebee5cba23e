"""The summary a person reads when the job has ended: a few aligned lines, 80 columns."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTH = 80
LABEL = 11
COMMANDS = 5
TITLE = 24
BOLD, DIM, RED, GREEN, YELLOW, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
VERDICT_COLOURS = {"ok": GREEN, "ended": YELLOW}  # the others are bad news
UNKNOWN = "unknown"


def colour_wanted(environment: dict[str, str]) -> bool:
    """Whether stderr is a terminal that is to be coloured: `NO_COLOR` (no-color.org) and a dumb one say no."""
    return os.isatty(2) and not environment.get("NO_COLOR") and environment.get("TERM", "") != "dumb"


def printable(text: str) -> str:
    """A name of a stranger for the terminal: control characters are shown, never sent."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def size(count: float | None) -> str:
    """Bytes in binary units, three digits or so."""
    if count is None:
        return UNKNOWN
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if abs(count) < 999.5 or unit == "TiB":
            break
    return f"{count:.0f} {unit}" if count >= 99.95 else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 9.9995:
        return f"{seconds:.3f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.95:
        minutes, tenths = divmod(round(seconds * 10), 600)
        return f"{minutes} min {tenths / 10:04.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min {rest:02} s"


class Page:
    """Lines with a label each."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour
        self.lines: list[str] = []

    def paint(self, text: str, code: str) -> str:
        return f"{code}{text}{RESET}" if self.colour else text

    def add(self, label: str, text: str) -> None:
        self.lines.append(f"  {self.paint(f'{label:<{LABEL}}', DIM)}{text}")


def render(name: str, summary: dict[str, Any], path: str | None, *, colour: bool, verbose: bool = False) -> str:
    """The lines, each with its newline."""
    page = Page(colour=colour)
    verdict = summary["verdict"]
    said = "" if verdict == "ok" else f": {summary['evidence']}".replace(f": {verdict} ", " ")
    title = printable(name)
    room = max(TITLE, WIDTH - len(f"proctally   {verdict}{said}"))
    title = title if len(title) <= room else title[: room - 1] + "…"
    painted = page.paint(verdict, VERDICT_COLOURS.get(verdict, RED))
    head, *more = _wrapped(said, WIDTH - len(f"proctally {title}  {verdict}"), WIDTH - 4) if said else [""]
    page.lines.append(f"{page.paint(f'proctally {title}', BOLD)}  {painted}{head}")
    page.lines += [f"    {line}" for line in more]
    page.add("wall", duration(summary["wall_seconds"]))
    if "cpu" in summary:
        _tree(page, summary)
    _machine(page, summary, of_tree="cpu" in summary)
    _tracking(page, summary)
    if path not in (None, "-"):
        page.add("record", printable(path))
    if verbose:
        _sources(page, summary)
    return "\n".join(page.lines) + "\n"


def _tree(page: Page, summary: dict[str, Any]) -> None:
    cpu, memory, io, processes = summary["cpu"], summary["memory"], summary["io"], summary["processes"]
    split = f"user {cpu['user_seconds']:.2f}, system {cpu['system_seconds']:.2f}"
    page.add("CPU", f"{duration(cpu['total_seconds'])} ({split}), by {cpu['source']}")
    limits, throttled = summary["limits"], summary["waiting"]["throttled_seconds"]
    usable = "" if limits["cpu_cores"] is None else f", of {limits['cpu_cores']:g}"
    stood = f", throttled for {duration(throttled)}" if throttled else ""
    page.add("cores", f"mean {cpu['mean_cores']:.2f}, peak {cpu['peak_cores']:.2f}{usable}{stood}")
    largest = f"largest process {size(memory['peak_process_rss_bytes'])}"
    page.add("memory", f"peak PSS {size(memory['peak_pss_bytes'])}, RSS {size(memory['peak_rss_bytes'])}, {largest}")
    if memory.get("pss_denied"):
        page.add("", _denied("PSS", memory["pss_denied"]))
    if limits["memory_bytes"] is not None:
        page.add("", f"of {size(limits['memory_bytes'])} that it may use")
    page.add("disk", f"read {size(io['read_bytes'])}, written {size(io['write_bytes'])}")
    if io.get("denied"):
        page.add("", _denied("I/O", io["denied"]))
    left = f", {processes['left']} left running" if processes["left"] else ""
    started = "started" if processes["source"] == "perf" else "seen"
    page.add("processes", f"{processes['started']:,} {started}, at most {processes['peak']:,} at once{left}")
    for label, text in zip(["counters", ""], _counters(summary.get("counters")), strict=False):
        page.add(label, text)
    for label, text in zip(["commands"] + [""] * COMMANDS, _commands(summary), strict=False):
        page.add(label, text)


def _counters(counters: dict[str, Any] | None) -> list[str]:
    """What --counters has counted."""
    known = {name: count for name, count in (counters or {}).items() if count is not None}
    said = [f"{count:,} {name.replace('_', ' ')}" for name, count in known.items()]
    return _wrapped(", ".join(said)) if said else []


def _denied(what: str, processes: int) -> str:
    return f"without {what} of {processes:,} process{'' if processes == 1 else 'es'} that this user may not read"


def _machine(page: Page, summary: dict[str, Any], *, of_tree: bool) -> None:
    """What the whole machine did; beside a tree how busy and how full it was, and its GPUs, where there are any."""
    system, gpu = summary.get("system"), summary.get("gpu")
    if system is not None:
        cores = "cores unknown"
        if system["mean_cores"] is not None:
            cores = f"mean {system['mean_cores']:.2f}, peak {system['peak_cores']:.2f} of {system['cpus']} cores busy"
        memory = f"at most {size(system['peak_memory_used_bytes'])} of {size(system['memory_total_bytes'])} used"
        if of_tree:
            page.add("machine", cores)
            page.add("", f"memory {memory}")
        else:
            used = system["cpu_seconds"]
            page.add("CPU", UNKNOWN if used is None else f"{duration(used)} of all cores")
            page.add("cores", cores.replace(" cores busy", " busy"))
            page.add("memory", memory)
            page.add("disk", f"read {size(system['disk_read_bytes'])}, written {size(system['disk_write_bytes'])}")
            received, sent = size(system["network_received_bytes"]), size(system["network_sent_bytes"])
            page.add("network", f"received {received}, sent {sent}")
    if gpu is not None:
        mean, peak = gpu["mean_utilization_ratio"], gpu["peak_utilization_ratio"]
        busy = "utilisation unknown" if mean is None else f"mean {mean:.2f} busy, peak {peak:.2f}"
        held = size(gpu["peak_tree_memory_bytes"] if of_tree else gpu["peak_memory_used_bytes"])
        page.add("GPUs", f"{busy}, memory {held}")


def _tracking(page: Page, summary: dict[str, Any]) -> None:
    tracker = summary["tracker"]
    used = summary["cpu"]["total_seconds"] if "cpu" in summary else 0.0
    share = ""
    if used >= max(0.1, tracker["cpu_seconds"]):  # of less, the start of the interpreter is all there is to see
        share = f" ({100 * tracker['cpu_seconds'] / used:.1f} %)"
    samples = f"{tracker['samples']} samples"
    if tracker["lost_samples"]:
        samples += f", {tracker['lost_samples']} lost"
    page.add("tracking", f"{tracker['cpu_seconds']:.3f} s CPU{share}, {size(tracker['peak_rss_bytes'])}, {samples}")


def _sources(page: Page, summary: dict[str, Any]) -> None:
    """What each source says, what is missing, and what the numbers cannot see."""
    missing = dict((summary.get("system") or {}).get("unavailable", {}))
    if "cpu" in summary:
        cpu = summary["cpu"]
        page.add("sources", ", ".join(f"{source} {seconds:.3f} s" for source, seconds in cpu["sources"].items()))
        missing = cpu["unavailable"] | missing
    for source, why in missing.items():
        for text in _wrapped(f"no {source}: {why}"):
            page.add("", text)
    for what in ("cpu", "memory", "io", "processes"):
        words = _wrapped(f"{what}: {summary[what]['coverage']}") if what in summary else []
        for label, text in zip(["coverage"] + [""] * len(words), words, strict=False):
            page.add(label, text)


def _wrapped(text: str, first: int = WIDTH - LABEL - 2, others: int = WIDTH - LABEL - 2) -> list[str]:
    """Lines of at most so many signs, `first` of the first one."""
    import textwrap

    if len(text) <= first:
        return [text]
    begun = textwrap.wrap(text, first, drop_whitespace=False)[0]
    return [begun.rstrip(), *textwrap.wrap(text[len(begun) :].strip(), others)]


def _commands(summary: dict[str, Any]) -> list[str]:
    """The most expensive commands, one a line, and what was too short to be seen."""
    total = summary["cpu"]["total_seconds"]
    rows = []
    told = 0.0
    for command in summary["commands"]:
        used = (command["cpu_seconds"] or 0.0) + (command.get("teardown_seconds") or 0.0)
        told += used
        if used >= 0.005:
            times = f" x {command['processes']:,}" if command["processes"] > 1 else ""
            rows.append(f"{used:>9.2f} s  {printable(command['command'])[:32]}{times}")
    del rows[COMMANDS:]
    unseen = total - told
    if unseen > 0.05 and unseen > 0.02 * total:
        told_of = "not told of single processes"
        short = "at ends of processes, or in those too short to see"
        rows.append(f"{unseen:>9.2f} s  {told_of if summary['processes']['source'] == 'perf' else short}")
    return rows
