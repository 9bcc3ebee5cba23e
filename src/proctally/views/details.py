"""Details of a run that its summary shows with `-v`: tracking, machine, sources, and what the totals lack."""

from __future__ import annotations

from proctally.analysis.memory import HeldMemory
from proctally.record.values import objects_at
from proctally.text import words
from proctally.text.units import brief, percentage, size
from proctally.views.request import ATTACHED
from proctally.views.summary_page import Page, busy_cores, used_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject

PATH = 40  # cells of the path of a cgroup
LEAST_SECONDS = 0.1  # of a job that used less, the start of the interpreter would be the whole cost


def details(page: Page, summary: JsonObject) -> None:
    """Add the lines of `-v`."""
    system = summary.get("system") or {}
    missing = dict(system.get("unavailable", {}))
    if "cpu" in summary:
        _memory(page, summary)
        _kills(page, summary)
        _waiting(page, summary["waiting"])
        if system:
            page.add("machine", f"{busy_cores(system)}, memory {used_memory(system)}")
        missing = summary["cpu"]["unavailable"] | missing
    _tracking(page, summary)
    if "cpu" in summary:
        cpu = summary["cpu"]
        by_source = ", ".join(f"{source} {seconds:.3f} s" for source, seconds in cpu["sources"].items())
        page.add("sources", f"{by_source}; total by {cpu['source']}")
    for source, code in missing.items():
        page.add("", f"no {source}: {words.missing(code, source)}")
    sections = words.sections(summary)
    found = [f"{title}: {text}" for title, text in sections]
    if "cpu" in summary and summary["reason"]["code"] in ATTACHED:
        found.append("totals count from the attach")
    for entry in found:
        page.add("coverage", entry)


def _memory(page: Page, summary: JsonObject) -> None:
    """Add what makes the bounds of the peak wide, the kernel's part, and the sums."""
    memory, held = summary["memory"], HeldMemory.of_summary(summary)
    kernel = [] if held.kernel is None else [f"kernel {size(held.kernel)}"]
    sums = f"sampled sums: PSS {size(memory['peak_pss_bytes'])}, RSS {size(memory['peak_rss_bytes'])}"
    largest = f"high-water mark of the largest process: {size(memory['peak_process_rss_bytes'])}"
    page.add("memory", "; ".join([*kernel, sums, largest]))
    if held.cause:
        page.add("", f"wide: {held.cause}")
    if memory.get("pss_denied"):
        page.add("", f"PSS without {words.counted(memory['pss_denied'], 'process')} (denied)")


def _kills(page: Page, summary: JsonObject) -> None:
    """Add where and when the OOM killer ended processes."""
    for each in objects_at(summary, "memory.ooms"):
        limit = "" if each["limit_bytes"] is None else f" (limit {size(each['limit_bytes'])})"
        count = words.counted(each["count"], "process")
        page.add("killed", f"{count} at {brief(each['elapsed_seconds'])} in {page.name(each['cgroup'], PATH)}{limit}")


def _waiting(page: Page, waiting: JsonObject) -> None:
    """Add the sums over threads and CPUs; parts of the wall time are in the line `time`."""
    delay, throttled = waiting["run_delay_seconds"], waiting["throttled_seconds"]
    texts = [] if not delay else [f"{brief(delay)} of threads for a CPU"]
    texts += [f"{brief(throttled)} of CPUs by the quota"] if throttled else []
    if texts:
        page.add("waited", ", ".join(texts))


def _tracking(page: Page, summary: JsonObject) -> None:
    tracker = summary["tracker"]
    used = summary["cpu"]["total_seconds"] if "cpu" in summary else 0.0
    of_job = ""
    if used >= max(LEAST_SECONDS, tracker["cpu_seconds"]):
        of_job = f" ({percentage(tracker['cpu_seconds'] / used, 1)})"
    samples = words.counted(tracker["samples"], "sample")
    if tracker["lost_samples"]:
        samples += f", {tracker['lost_samples']} lost"
    page.add("tracking", f"{tracker['cpu_seconds']:.3f} s CPU{of_job}, {size(tracker['peak_rss_bytes'])}, {samples}")
