"""What a run waited for, each with its share of the time and the sentence that it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from proctally.analysis.waits import MIN_READY_SECONDS, MIN_SHARE, NOTABLE_SHARE, ready_share, throttled_share
from proctally.record.values import number_at
from proctally.text.units import duration, percentage, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.report.run_facts import Facts

CPU, QUOTA, STORAGE, MEMORY, SWAP = "cpu", "quota", "storage", "memory", "swap"
HYPERVISOR, REST = "hypervisor", "rest"
ONE_CORE = 0.9  # who used less has not even kept one thread busy


@dataclass(slots=True)
class Wait:
    """What a run waited for: a code, its name, the share of the time (None: unknown), and the sentence.

    `counts`: whether the headline names it; a pressure that includes other jobs and has a better source does not count.
    """

    code: str
    what: str
    share: float | None
    text: str
    counts: bool = True


def waits(facts: Facts) -> list[Wait]:
    """What was waited for, the largest share first, what cannot be given last; what was next to nothing in one line."""
    found = [*own_waits(facts), *_machine_waits(facts)]
    told = [wait for wait in found if wait.share is None or wait.share >= MIN_SHARE]
    told.sort(key=lambda wait: (wait.share is None, not wait.counts, -(wait.share or 0.0)))
    rest = [wait.what for wait in found if wait.share is not None and wait.share < MIN_SHARE]
    if rest:
        told.append(
            Wait(REST, "next to nothing", None, f"For {', '.join(rest)}: less than {percentage(MIN_SHARE)} each.")
        )
    return told


def headline(facts: Facts) -> str:
    """What it waited for, in one sentence."""
    found = [*own_waits(facts), *_machine_waits(facts)]
    known_shares = [wait for wait in found if wait.share is not None and wait.counts]
    worth = [wait for wait in known_shares if (wait.share or 0.0) >= NOTABLE_SHARE]
    worth.sort(key=lambda wait: -(wait.share or 0.0))
    if worth:
        return "Waited for " + ", and for ".join(f"{wait.what} ({percentage(wait.share)})" for wait in worth) + "."
    if not known_shares:
        return "What it waited for is not known."
    mean = facts.mean_cores
    if facts.of_tree and mean is not None and mean < ONE_CORE:
        return (
            f"Waited for neither CPU nor storage, and used {mean:.2f} cores: else it slept (timers, the network, other"
            " processes; the kernel does not tell them apart)."
        )
    if not facts.of_tree:
        return "Nothing of note was waited for on this machine."
    return "Waited for nothing of note: it had the CPU and the storage that it asked for."


def own_waits(facts: Facts) -> list[Wait]:
    """What the job itself waited for; a free CPU and its quota come first."""
    found: list[Wait] = []
    if not facts.of_tree:
        return found
    if facts.run_delay is not None and facts.cpu is not None:
        is_long = facts.run_delay + facts.cpu > MIN_READY_SECONDS
        share = ready_share(facts.run_delay, facts.cpu) if is_long else 0.0
        text = (
            f"Its threads were ready for {duration(facts.run_delay)} without getting one: {percentage(share)} of the"
            " time in which they could have run."
        )
        found.append(Wait(CPU, "a free CPU", share, text))
    else:
        found.append(Wait(CPU, "a free CPU", None, "How long its threads were ready without a CPU is not known."))
    if facts.throttled is not None:
        periods = number_at(facts.story.summary, "waiting.periods")
        held = number_at(facts.story.summary, "waiting.throttled_periods")
        share = throttled_share(facts.throttled, facts.wall, held, periods)
        text = f"Throttled by its CPU quota for {duration(facts.throttled)}"
        if periods and held is not None:
            text += f", in {held:,.0f} of {periods:,.0f} periods"
        found.append(Wait(QUOTA, "its CPU quota", share, text + "."))
    found.append(_disk_sleep(facts))
    swap = facts.story.peak("tree.swap_bytes")
    if swap:
        found.append(
            Wait(SWAP, "swap", None, f"Up to {size(swap)} of its memory was in swap: what it needs again it waits for.")
        )
    return found


def _disk_sleep(facts: Facts) -> Wait:
    story = facts.story
    column = story.columns["tree.disk_sleep"]
    slept = [value > 0 for value in column if value == value]
    if not slept:
        return Wait(STORAGE, "storage", None, "How often its processes were in disk sleep is not known.")
    share = sum(slept) / len(slept)
    most = story.peak("tree.disk_sleep") or 0
    text = f"A process was in uninterruptible (disk) sleep in {sum(slept):,} of {len(slept):,} samples"
    return Wait(STORAGE, "storage", share, f"{text}, at most {most:,.0f} at once." if most else f"{text}.")


def _machine_waits(facts: Facts) -> list[Wait]:
    story, found = facts.story, []
    own = story.peak("cgroup.io_pressure_seconds") is not None
    for code, what, own_key, key in (
        (MEMORY, "memory", "cgroup.memory_pressure_seconds", "system.pressure.memory_some_seconds"),
        (STORAGE, "storage", "cgroup.io_pressure_seconds", "system.pressure.io_some_seconds"),
        (CPU, "CPU", "cgroup.cpu_pressure_seconds", "system.pressure.cpu_some_seconds"),
    ):
        share = story.mean(own_key if own else key)
        if share is None:
            continue
        whose, who = (
            ("in its cgroup", "some task of the job") if own else ("machine-wide", "some task, of the job or not,")
        )
        text = f"Pressure: {who} waited for {what} {percentage(min(1.0, share))} of the time."
        counts = own or code != CPU or not facts.of_tree
        found.append(Wait(code, f"{what} ({whose})", min(1.0, share), text, counts=counts))
    steal, cpus = number_at(story.summary, "system.cpu_steal_seconds"), facts.machine_cores
    if steal and cpus and facts.wall:
        share = steal / (cpus * facts.wall)
        text = f"The hypervisor took {duration(steal)} of the CPUs of this machine: {percentage(share)}."
        found.append(Wait(HYPERVISOR, "the hypervisor", share, text))
    return found
