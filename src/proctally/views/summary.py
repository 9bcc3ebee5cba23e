"""The summary a person reads when the job has ended: at most 16 aligned lines, what went wrong first."""

from __future__ import annotations

from proctally.analysis.memory import SMALLEST, HeldMemory, PeakPart
from proctally.analysis.others import Others
from proctally.analysis.time import READY, WAITS, Time
from proctally.analysis.waits import NOTABLE_SHARE
from proctally.record.codes import PARTIAL, WHOLE_MACHINE
from proctally.record.values import number_at, objects_at
from proctally.text import words
from proctally.text.cells import bar, columns_of, cut_middle, wrapped
from proctally.text.escape import printable
from proctally.text.terminal import BOLD, RED, VERDICT_COLOURS, Look
from proctally.text.units import UNKNOWN, brief, duration, percentage, size
from proctally.views.summary_page import NAME, Page, busy_cores, used_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.record import JsonObject
    from proctally.views.request import Recorded

BAR = 48  # cells at most
BAR_LABEL = " "  # not that of a line that gives way
BAR_WIDTH = 60  # minimum width of a line with a bar
BLOCKS = {"running": "█", "ready": "▒", "throttled": "▓", "disk": "▞", "asleep": "░"}
ASCII = {"running": "#", "ready": "w", "throttled": "q", "disk": "d", "asleep": "."}
COMMANDS = 5
TITLE = 16  # cells of the name of a run, where the title is long
LARGE = 0.1  # of the peak of memory: a part from here on has its pid
MOST = 0.5  # of the memory before an OOM kill: the process that held it is the one that the kernel ended
PLAIN = Look()


def title(name: str, summary: JsonObject, look: Look = PLAIN) -> str:
    """Return how a run ended, after which time and why, as one line with its newline."""
    return _title(name, summary, look, 1 << 16)[0] + "\n"


def render(name: str, summary: JsonObject, path: str | None, look: Look = PLAIN, *, verbose: bool = False) -> str:
    """Return the lines, each with its newline. `path`: of the record."""
    page = Page(look)
    page.rows.append(("title", _title(name, summary, look, look.width)))
    if "cpu" in summary:
        recorded = _recorded(summary, path)
        _tree(page, summary, recorded)
        _gpus(page, summary)
        if recorded is not None:
            page.add("request", recorded.request())
    else:
        _machine(page, summary)
        _gpus(page, summary)
    has_record = path not in (None, "-")
    if "cpu" not in summary and has_record:
        page.add("next", "proctally report")
    if has_record:
        page.add("record", printable(str(path)), whole=True)
    lines = page.lines()
    if verbose:
        from proctally.views.details import details

        more = Page(look)
        details(more, summary)
        lines += more.lines(most=1 << 16)
    return "".join(f"{look.encoded(line)}\n" for line in lines)


def _recorded(summary: JsonObject, path: str | None) -> Recorded | None:
    """Return the run with its record; None where a module is that of the program which tracks itself."""
    try:
        from proctally.views.request import Recorded  # not where the title is all

        return Recorded(summary, path)
    except Exception:
        return None


def _title(name: str, summary: JsonObject, look: Look, width: int) -> list[str]:
    verdict, but, detail = words.headline(summary, _got(summary))
    text = f"{verdict}{but}  {brief(summary['wall_seconds'])}{detail}"
    shown = look.encoded(printable(name))
    start = f"proctally {cut_middle(shown, max(TITLE, width - columns_of(text) - 12), look.mark)}"
    first, *more = wrapped(text, width - columns_of(start) - 2, width - 4)
    if first.startswith(verdict + but):
        colour = VERDICT_COLOURS.get(str(summary["verdict"]), RED)
        first = look.paint(verdict, colour) + (look.paint(but, RED) if but else "") + first[len(verdict + but) :]
    return [f"{look.paint(start, BOLD)}  {first}".rstrip(), *(f"    {line}" for line in more)]


def _got(summary: JsonObject) -> float | None:
    """Return the share of the wanted CPU time that a starved run had; None for any other run."""
    time, used = Time.of_summary(summary), number_at(summary, "cpu.mean_cores")
    if used is None or not time.wanted_cores or not time.is_starved(used, *WAITS):
        return None
    return used / time.wanted_cores


# -- a process tree --------------------------------------------------------------------------------------------------


def _tree(page: Page, summary: JsonObject, recorded: Recorded | None) -> None:
    cpu, processes = summary["cpu"], summary["processes"]
    _killed(page, summary)
    time = Time.of_summary(summary)
    if time.parts:
        page.add("time", time.text)
        if page.look.width >= BAR_WIDTH:
            signs = BLOCKS if page.look.blocks else ASCII
            page.add(BAR_LABEL, bar([(signs[part.name], part.share) for part in time.parts], min(BAR, page.room)))
    _others(page, summary, time)
    _memory(page, summary, recorded)
    limits = summary["limits"]
    usable = "" if limits["cpu_cores"] is None else f" of {limits['cpu_cores']:g}"
    wanted = "" if time.wanted_cores is None else f", wanted {time.wanted_cores:.2f}"
    page.add("cores", f"{cpu['mean_cores']:.2f}{usable} used, peak {cpu['peak_cores']:.2f}{wanted}")
    total = cpu["total_seconds"]
    user, system = (f"{cpu[part]:.{1 if total >= 0.0995 else 3}f}" for part in ("user_seconds", "system_seconds"))
    least = "at least " if cpu.get("coverage") == PARTIAL else ""
    page.add("CPU", f"{least}{brief(total)} (user {user}, system {system})")
    _disk(page, summary["io"])
    _counters(page, summary.get("counters"))
    _processes(page, cpu, processes)
    page.add_list("commands", "", _commands(page, summary))
    phases = [f"{page.name(phase['name'])} {brief(phase['wall_seconds'])}" for phase in objects_at(summary, "phases")]
    page.add_list("phases", "", phases)


def _killed(page: Page, summary: JsonObject) -> None:
    """Add the processes that the OOM killer ended, and what held the memory before."""
    reason = summary["reason"]
    count, ooms = reason.get("oom_kills"), objects_at(summary, "memory.ooms")
    if not count:
        return
    parts = [PeakPart(entry) for entry in objects_at(ooms[0], "at_peak")] if ooms else []
    held = sum(part.high or 0 for part in parts)
    if reason.get("oom_place") == WHOLE_MACHINE:
        page.add("killed", f"{words.counted(count, 'process')} {words.OOM_PLACES[WHOLE_MACHINE]}")
    elif count == 1 and parts and (parts[0].high or 0) >= MOST * held:
        with_pid = "" if parts[0].pid is None else f" ({parts[0].pid})"
        page.add("killed", f"{page.name(parts[0].name)}{with_pid} with {parts[0].text}, by the kernel's OOM killer")
    else:
        killed = f"{words.counted(count, 'process')} by the kernel's OOM killer"
        if parts:
            page.add_list("killed", f"{killed}; before: ", _parts(page, parts, held))
        else:
            page.add("killed", killed)


def _others(page: Page, summary: JsonObject, time: Time) -> None:
    """Add what other processes used while the job waited, where it waited notably."""
    others = Others(summary.get("others"))
    if not others.users or (time.parts and time.share(READY) < NOTABLE_SHARE):
        return
    start = f"{others.text_of_cores(number_at(summary, 'system.cpus'))}: "
    width = min(NAME, page.room // 3)
    page.add_list("others", start, [user.text(page.look.mark, width, page.look.encoded) for user in others.users])


def _memory(page: Page, summary: JsonObject, recorded: Recorded | None) -> None:
    memory, limit = summary["memory"], summary["limits"]["memory_bytes"]
    held = HeldMemory.of_summary(summary)
    usable = "no limit" if limit is None else f"of {size(limit)}"
    if not held.is_known:
        sums = f"peak PSS {size(memory['peak_pss_bytes'])}, RSS {size(memory['peak_rss_bytes'])}"
        page.add("memory", f"{sums}, {usable}")
        return
    apart = [(held.mapped_file, "mapped files"), (held.swap, "swap")]
    shown = [f"{size(value)} {name}" for value, name in apart if value is not None and value >= SMALLEST]
    if summary["verdict"] == "oom" and limit is not None:
        shown, usable = [], f"{usable}: all that it might have"
    elif limit is not None and held.is_near(limit):
        usable = f"{percentage(min(1.0, (held.high or 0) / limit))} {usable}"
    page.add("memory", ", ".join([f"{held.short} held", *shown, usable]))
    if held.parts and summary["verdict"] != "oom":
        at = "at the peak" if held.at_seconds is None else f"at {brief(held.at_seconds)}"
        phase = None if held.at_seconds is None or recorded is None else recorded.phase_at(held.at_seconds)
        where = "" if phase is None else f" in {page.name(phase)}"
        page.add_list("", f"{at}{where}: ", _parts(page, held.parts, held.high or 0))


def _parts(page: Page, parts: Iterable[PeakPart], held: float) -> list[str]:
    """Return the parts of the memory; a large one with its pid."""
    shown = []
    for part in parts:
        with_pid = f" ({part.pid})" if part.pid is not None and (part.high or 0) >= LARGE * held else ""
        shown.append(f"{page.name(part.name)}{with_pid} {part.text}")
    return shown


def _disk(page: Page, io: JsonObject) -> None:
    read, written = io["read_bytes"], io["write_bytes"]
    if not io.get("denied") and None not in (read, written) and max(read, written) < SMALLEST:
        return
    denied = f", without {words.counted(io['denied'], 'process')}" if io.get("denied") else ""
    page.add("disk", f"read {size(read)}, written {size(written)}{denied}")


def _counters(page: Page, counters: JsonObject | None) -> None:
    known = {name: count for name, count in (counters or {}).items() if count is not None}
    if known:
        page.add("counters", ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in known.items()))


def _processes(page: Page, cpu: JsonObject, processes: JsonObject) -> None:
    started, peak = processes["started"], processes["peak"]
    texts = []
    if started is None or peak is None:
        texts.append(f"{UNKNOWN} ({words.missing(cpu['unavailable'].get('procfs'))})")
    elif started != 1 or processes["left"]:
        verb = "started" if processes["source"] == "perf" else "seen"
        texts.append(f"{started:,} {verb}, {peak:,} at once")
    texts += [f"{processes['left']:,} left running"] if processes["left"] else []
    killed = words.killed_children(processes.get("killed_by"))
    texts += [killed] if killed else []
    if texts:
        page.add("processes", ", ".join(texts))


def _commands(page: Page, summary: JsonObject) -> list[str]:
    """Return the most expensive commands, and what belongs to none of them; nothing for a single command."""
    total, shown, rows = summary["cpu"]["total_seconds"], 0.0, []
    for command in summary["commands"]:
        used = (command["cpu_seconds"] or 0.0) + (command.get("teardown_seconds") or 0.0)
        shown += used
        if used >= 0.005:
            times = f" x {command['processes']:,}" if command["processes"] > 1 else ""
            rows.append((used, f"{brief(used)} {page.name(command['command'])}{times}"))
    unseen = total - shown
    if unseen > 0.05 and unseen > 0.02 * total:
        by_perf = summary["processes"]["source"] == "perf"
        rows.append((unseen, f"{brief(unseen)} {'not attributed' if by_perf else 'too short to sample'}"))
    rows.sort(key=lambda row: -row[0])
    return [text for _, text in rows[:COMMANDS]] if len(rows) > 1 else []


# -- the machine -----------------------------------------------------------------------------------------------------


def _machine(page: Page, summary: JsonObject) -> None:
    """Add what the whole machine used."""
    system = summary.get("system")
    if system is None:
        return
    used = system["cpu_seconds"]
    page.add("CPU", UNKNOWN if used is None else f"{duration(used)} of all cores")
    page.add("cores", busy_cores(system))
    page.add("memory", used_memory(system))
    page.add("disk", f"read {size(system['disk_read_bytes'])}, written {size(system['disk_write_bytes'])}")
    received, sent = size(system["network_received_bytes"]), size(system["network_sent_bytes"])
    page.add("network", f"received {received}, sent {sent}")


def _gpus(page: Page, summary: JsonObject) -> None:
    gpu = summary.get("gpu")
    if gpu is None:
        return
    mean, peak = gpu["mean_utilization_ratio"], gpu["peak_utilization_ratio"]
    busy = f"use {UNKNOWN}" if mean is None else f"mean {percentage(mean)} busy, peak {percentage(peak)}"
    held = gpu["peak_tree_memory_bytes"] if "cpu" in summary else gpu["peak_memory_used_bytes"]
    page.add("GPUs", f"{busy}, memory {size(held)}")
