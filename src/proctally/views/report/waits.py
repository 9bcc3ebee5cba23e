"""What a run waited for, each with its share of the time and the sentence that it rests on."""

from __future__ import annotations

from proctally.history import value_at
from proctally.report.figures import known, percent, time
from proctally.summary import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.report.figures import Facts

WORTH_SAYING = 0.05  # a share of time below which nothing is said of it in the headline
NOTHING = 0.005
ONE_CORE = 0.9  # who used less has not even kept one thread busy


class Wait:
    """What a run waited for: the share of its time (None where it cannot be given), and the sentence.

    `counts`: whether it is of the headline; what tells of others as well, and is known better, is not.
    """

    __slots__ = ("counts", "share", "text", "what")

    def __init__(self, what: str, share: float | None, text: str, *, counts: bool = True) -> None:
        self.what = what
        self.counts = counts
        self.share = share
        self.text = text


def waits(facts: Facts) -> list[Wait]:
    """What was waited for, the largest share first, what cannot be given last; what was next to nothing in one line."""
    found = [*own_waits(facts), *_machine_waits(facts)]
    told = [wait for wait in found if wait.share is None or wait.share >= NOTHING]
    told.sort(key=lambda wait: (wait.share is None, not wait.counts, -(wait.share or 0.0)))
    rest = [wait.what for wait in found if wait.share is not None and wait.share < NOTHING]
    if rest:
        told.append(Wait("next to nothing", None, f"For {', '.join(rest)}: less than {percent(NOTHING)} each."))
    return told


def headline(facts: Facts) -> str:
    """What it waited for, in one sentence."""
    found = [*own_waits(facts), *_machine_waits(facts)]
    known_shares = [wait for wait in found if wait.share is not None and wait.counts]
    worth = [wait for wait in known_shares if (wait.share or 0.0) >= WORTH_SAYING]
    worth.sort(key=lambda wait: -(wait.share or 0.0))
    if worth:
        return "Waited for " + ", and for ".join(f"{wait.what} ({percent(wait.share)})" for wait in worth) + "."
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
        wanted = facts.run_delay + facts.cpu
        share = facts.run_delay / wanted if wanted > 0.05 else 0.0
        text = (
            f"Its threads were ready for {time(facts.run_delay)} without getting one: {percent(share)} of the time in"
            " which they could have run."
        )
        found.append(Wait("a free CPU", share, text))
    else:
        found.append(Wait("a free CPU", None, "How long its threads were ready without a CPU is not known."))
    if facts.throttled is not None:
        periods = known(value_at(facts.story.summary, "waiting.periods"))
        held = known(value_at(facts.story.summary, "waiting.throttled_periods"))
        share = min(1.0, facts.throttled / facts.wall) if facts.wall else 0.0
        text = f"Held back by its CPU quota for {time(facts.throttled)}"
        if periods and held is not None:
            share = held / periods
            text += f", in {held:,.0f} of {periods:,.0f} periods"
        found.append(Wait("its CPU quota", share, text + "."))
    found.append(_disk_sleep(facts))
    swap = facts.story.peak("tree.swap_bytes")
    if swap:
        found.append(
            Wait("swap", None, f"Up to {size(swap)} of its memory was in swap: what it needs again it waits for.")
        )
    return found


def _disk_sleep(facts: Facts) -> Wait:
    story = facts.story
    column = story.columns["tree.disk_sleep"]
    slept = [value > 0 for value in column if value == value]
    if not slept:
        return Wait("storage", None, "How often its processes were in disk sleep is not known.")
    share = sum(slept) / len(slept)
    most = story.peak("tree.disk_sleep") or 0
    text = f"A process was in uninterruptible (disk) sleep in {sum(slept):,} of {len(slept):,} samples"
    return Wait("storage", share, f"{text}, at most {most:,.0f} at once." if most else f"{text}.")


def _machine_waits(facts: Facts) -> list[Wait]:
    story, found = facts.story, []
    own = story.peak("cgroup.io_pressure_seconds") is not None
    for what, own_key, key in (
        ("memory", "cgroup.memory_pressure_seconds", "system.pressure.memory_some_seconds"),
        ("storage", "cgroup.io_pressure_seconds", "system.pressure.io_some_seconds"),
        ("CPU", "cgroup.cpu_pressure_seconds", "system.pressure.cpu_some_seconds"),
    ):
        share = story.mean(own_key if own else key)
        if share is None:
            continue
        whose, who = (
            ("in its cgroup", "some task of the job") if own else ("machine-wide", "some task, of the job or not,")
        )
        text = f"Pressure: {who} waited for {what} {percent(min(1.0, share))} of the time."
        counts = own or what != "CPU" or not facts.of_tree
        found.append(Wait(f"{what} ({whose})", min(1.0, share), text, counts=counts))
    steal, cpus = known(value_at(story.summary, "system.cpu_steal_seconds")), facts.machine_cores
    if steal and cpus and facts.wall:
        share = steal / (cpus * facts.wall)
        text = f"The hypervisor took {time(steal)} of the CPUs of this machine: {percent(share)}."
        found.append(Wait("the hypervisor", share, text))
    return found
