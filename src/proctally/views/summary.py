"""The summary a person reads when the job has ended: at most 16 aligned lines, what went wrong first."""

from __future__ import annotations

from proctally.analysis.memory import SMALLEST, HeldMemory
from proctally.analysis.time import Time
from proctally.record.codes import PARTIAL
from proctally.record.values import number_at, objects_at, section_at, value_at
from proctally.text import words
from proctally.text.cells import bar, columns_of, cut_middle, wrapped
from proctally.text.escape import printable
from proctally.text.terminal import BOLD, RED, VERDICT_COLOURS, Look
from proctally.text.units import UNKNOWN, brief, decimal, duration, percentage, size
from proctally.views import phrases
from proctally.views.summary_page import Page, busy_cores, used_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from proctally.record import JsonObject

    class Recorded(Protocol):
        """A run with its record."""

        def phase_at(self, elapsed: float) -> object: ...
        def request(self) -> str: ...


BAR = 48  # cells at most
BAR_LABEL = " "  # not that of a line that gives way
BAR_WIDTH = 60  # minimum width of a line with a bar
BLOCKS = {"running": "█", "ready": "▒", "throttled": "▓", "disk": "▞", "asleep": "░"}
ASCII = {"running": "#", "ready": "w", "throttled": "q", "disk": "d", "asleep": "."}
COMMANDS = 5
NOT_BY_SPACE = ("ok", "ended", "oom")  # verdicts that no limit of address space explains
TITLE = 16  # cells of the name of a run, where the title is long
PLAIN = Look()


def title(name: str, summary: JsonObject, look: Look = PLAIN) -> str:
    """Return how a run ended, after which time and why, as one line with its newline."""
    return _title(name, summary, look, 1 << 16)[0] + "\n"


def render(
    name: str,
    summary: JsonObject,
    path: str | None,
    look: Look = PLAIN,
    *,
    verbose: bool = False,
    recorded: Recorded | None = None,
    with_request: bool = True,
) -> str:
    """Return the lines, each with its newline.

    `path`: of the record; `recorded`: where that was read; `with_request`: what to request next time.
    """
    page = Page(look)
    page.rows.append(("title", _title(name, summary, look, look.width)))
    if "cpu" in summary:
        recorded = recorded or _recorded(summary, path)
        _tree(page, summary, recorded)
        _gpus(page, summary)
        if recorded is not None and with_request:
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
        from proctally.views import request  # not where the title is all

        return request.Recorded(summary, path)
    except Exception:
        return None


def _title(name: str, summary: JsonObject, look: Look, width: int) -> list[str]:
    verdict, but, detail = headline(summary)
    text = f"{verdict}{but}  {brief(number_at(summary, 'wall_seconds'))}{detail}"
    shown = look.encoded(printable(name))
    start = f"proctally {cut_middle(shown, max(TITLE, width - columns_of(text) - 12), look.mark)}"
    first, *more = wrapped(text, width - columns_of(start) - 2, width - 4)
    if first.startswith(verdict + but):
        colour = VERDICT_COLOURS.get(str(summary.get("verdict")), RED)
        first = look.paint(verdict, colour) + (look.paint(but, RED) if but else "") + first[len(verdict + but) :]
    return [f"{look.paint(start, BOLD)}  {first}".rstrip(), *(f"    {line}" for line in more)]


def headline(summary: JsonObject) -> tuple[str, str, str]:
    """Return the verdict, what is bad about a good one, and the detail that follows the wall time."""
    time = Time.of_summary(summary)
    return words.headline(summary, time.got(number_at(summary, "cpu.mean_cores")), certain=time.is_certain)


# -- a process tree --------------------------------------------------------------------------------------------------


def _tree(page: Page, summary: JsonObject, recorded: Recorded | None) -> None:
    cpu = section_at(summary, "cpu")
    _killed(page, summary)
    time = Time.of_summary(summary)
    if time.parts:
        page.add("time", time.text)
        if page.look.width >= BAR_WIDTH:
            signs = BLOCKS if page.look.blocks else ASCII
            page.add(BAR_LABEL, bar([(signs[part.name], part.share) for part in time.parts], min(BAR, page.room)))
    _others(page, summary, time)
    _memory(page, summary, recorded)
    page.add("cores", _cores(summary, time))
    least = "at least " if cpu.get("coverage") == PARTIAL else ""
    page.add("CPU", f"{least}{brief(number_at(cpu, 'total_seconds'))} ({phrases.user_and_system(summary)})")
    _disk(page, section_at(summary, "io"))
    _counters(page, section_at(summary, "counters"))
    _processes(page, cpu, section_at(summary, "processes"))
    page.add_list("commands", "", _commands(page, summary))
    phases = [
        f"{page.name(phase.get('name'))} {brief(number_at(phase, 'wall_seconds'))}"
        for phase in objects_at(summary, "phases")
    ]
    page.add_list("phases", "", phases)


def _cores(summary: JsonObject, time: Time) -> str:
    used, peak = (number_at(summary, f"cpu.{name}_cores") for name in ("mean", "peak"))
    limit = number_at(summary, "limits.cpu_cores")
    usable = "" if limit is None else f" of {limit:g}"
    wanted = "" if time.wanted_cores is None else f", wanted {time.wanted_cores:.2f}"
    return f"{decimal(used)}{usable} used, peak {decimal(peak)}{wanted}"


def _killed(page: Page, summary: JsonObject) -> None:
    """Add the processes that the OOM killer ended, and what held the memory before."""
    text, held = phrases.killed(summary, page.name)
    if held:
        page.add_list("killed", f"{text}; before: ", held)
    elif text:
        page.add("killed", text)


def _others(page: Page, summary: JsonObject, time: Time) -> None:
    """Add what other processes used while the job waited, where it waited notably."""
    others = phrases.others(summary, time)
    if others is not None:
        start = f"{others.text_of_cores(number_at(summary, 'system.cpus'))}: "
        width = min(phrases.NAME, page.room // 3)
        page.add_list("others", start, [user.text(page.look.mark, width, page.look.encoded) for user in others.users])
        if lack := phrases.others_lack(summary, others, time):
            page.add("", lack)


def _memory(page: Page, summary: JsonObject, recorded: Recorded | None) -> None:
    memory, limit = section_at(summary, "memory"), number_at(summary, "limits.memory_bytes")
    held = HeldMemory.of_summary(summary)
    usable = "no limit" if limit is None else f"of {size(limit)}"
    if not held.is_known:
        sums = f"peak PSS {size(memory.get('peak_pss_bytes'))}, RSS {size(memory.get('peak_rss_bytes'))}"
        page.add("memory", f"{sums}, {usable}")
        return
    apart = [(held.mapped_file, "mapped files"), (held.swap, "swap")]
    shown = [f"{size(value)} {name}" for value, name in apart if value is not None and value >= SMALLEST]
    if summary.get("verdict") == "oom" and limit is not None:
        shown, usable = [], f"{usable}: all that it might have"
    elif limit is not None and held.is_near(limit):
        usable = f"{percentage(min(1.0, (held.high or 0) / limit))} {usable}"
    each = number_at(summary, "limits.address_space_bytes")
    if each is not None and summary.get("verdict") not in NOT_BY_SPACE:
        usable += f"{' but' if limit is None else ','} {size(each)} of address space each (ulimit -v)"
    page.add("memory", ", ".join([f"{held.short} held", *shown, usable]))
    if held.parts and summary.get("verdict") != "oom":
        phase = None if held.at_seconds is None or recorded is None else recorded.phase_at(held.at_seconds)
        start = f"{phrases.moment(held.at_seconds, phase, page.name)}: "
        page.add_list("", start, phrases.holders(held.parts, held.high or 0, page.name))


def _disk(page: Page, io: JsonObject) -> None:
    read, written = number_at(io, "read_bytes"), number_at(io, "write_bytes")
    if not io.get("denied") and read is not None and written is not None and max(read, written) < SMALLEST:
        return
    denied = f", without {words.counted(io['denied'], 'process')}" if io.get("denied") else ""
    page.add("disk", f"read {size(read)}, written {size(written)}{denied}")


def _counters(page: Page, counters: JsonObject) -> None:
    known = {name: count for name, count in counters.items() if count is not None}
    if known:
        page.add("counters", ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in known.items()))


def _processes(page: Page, cpu: JsonObject, processes: JsonObject) -> None:
    started, peak, left = processes.get("started"), processes.get("peak"), processes.get("left")
    texts = []
    if started is None or peak is None:
        texts.append(f"{UNKNOWN} ({words.missing(value_at(cpu, 'unavailable.procfs'))})")
    elif started != 1 or left:
        verb = "started" if processes.get("source") == "perf" else "seen"
        texts.append(f"{started:,} {verb}, {peak:,} at once")
    texts += [f"{left:,} left running"] if left else []
    killed = words.killed_children(processes.get("killed_by"))
    texts += [killed] if killed else []
    if texts:
        page.add("processes", ", ".join(texts))


def _commands(page: Page, summary: JsonObject) -> list[str]:
    """Return the most expensive commands, and what belongs to none of them; nothing for a single command."""
    least = max(phrases.UNSEEN_SECONDS, phrases.UNSEEN_SHARE * (number_at(summary, "cpu.total_seconds") or 0.0))
    found = phrases.commands(summary, least=least)
    rows = [row.text(page.name) for row in found if (row.seconds or 0.0) >= phrases.LEAST_SECONDS]
    return rows[:COMMANDS] if len(rows) > 1 else []


# -- the machine -----------------------------------------------------------------------------------------------------


def _machine(page: Page, summary: JsonObject) -> None:
    """Add what the whole machine used."""
    system = section_at(summary, "system")
    if not system:
        return
    used = number_at(system, "cpu_seconds")
    page.add("CPU", UNKNOWN if used is None else f"{duration(used)} of all cores")
    page.add("cores", busy_cores(system))
    page.add("memory", used_memory(system))
    read, written, received, sent = (
        size(number_at(system, name))
        for name in ("disk_read_bytes", "disk_write_bytes", "network_received_bytes", "network_sent_bytes")
    )
    page.add("disk", f"read {read}, written {written}")
    page.add("network", f"received {received}, sent {sent}")


def _gpus(page: Page, summary: JsonObject) -> None:
    gpu = section_at(summary, "gpu")
    if not gpu:
        return
    mean, peak = (number_at(gpu, f"{name}_utilization_ratio") for name in ("mean", "peak"))
    busy = f"use {UNKNOWN}" if mean is None else f"mean {percentage(mean)} busy, peak {percentage(peak)}"
    held = number_at(gpu, "peak_tree_memory_bytes" if "cpu" in summary else "peak_memory_used_bytes")
    page.add("GPUs", f"{busy}, memory {size(held)}")
