"""Sections of a summary: those of a tree, and the limits around it."""

from __future__ import annotations

from proctally.record import seconds
from proctally.record.codes import CGROUP_LEFT
from proctally.tree.gaps import coverage
from proctally.tree.member import CPU, DELAY, IO, IO_FIELDS, SYSTEM, USER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.cgroup import CgroupLimits, CpuStat
    from proctally.record import JsonObject
    from proctally.tracking.phases import Phases
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.gaps import Gap
    from proctally.tree.summary import TreeSummary

COMMANDS_KEPT = 50
OTHERS = "(others)"
UNLISTED = "(not in the list)"


def of_tree(
    tree: TreeSummary,
    enclosure: Enclosure,
    cgroup: JsonObject | None,
    *,
    wall_ns: int,
    now: int,
    gaps: list[Gap],
    left: int | None,
    system_missing: str | None,
    phases: Phases | None,
) -> JsonObject:
    """Return the sections of a tree. `cgroup`: the section of that name; `now`: the monotonic clock.

    `left`: processes that live on; `system_missing`: code, why the machine was not read.
    """
    covered, perf, has_procfs = coverage(gaps), tree.perf, tree.procfs_missing is None
    return {
        "cpu": _cpu(tree, wall_ns, enclosure, system_missing) | {"coverage": covered["cpu"]},
        "memory": _memory(tree, enclosure, cgroup) | {"coverage": covered["memory"]},
        "io": _io(tree) | {"coverage": covered["io"]},
        "processes": {
            "started": tree.started if has_procfs else None,
            "source": "procfs" if perf is None or perf.roll is None else "perf",
            "peak": tree.peak_processes if has_procfs else None,
            "left": left,
            "killed_by": None if tree.kills is None else tree.kills.killed_by() or None,
            "coverage": covered["processes"],
        },
        "commands": folded(tree.commands(now)),
        "time": tree.time,
        "phases": [] if phases is None else phases.summary(),
        "waiting": _waiting(tree, enclosure.throttled()),
        "counters": None if perf is None else perf.counters(),
    }


def limits(found: CgroupLimits) -> JsonObject:
    """Return the `limits` section of a header and of a summary."""
    said = [words for words in (found.cpu_from, found.memory_from) if words]
    return {
        "cpu_cores": found.cpu_cores,
        "memory_bytes": found.memory_bytes,
        "memory_high_bytes": found.memory_high_bytes,
        "address_space_bytes": found.address_space_bytes,
        "from": "; ".join(said) or None,
    }


def _cpu(tree: TreeSummary, wall_ns: int, enclosure: Enclosure, system_missing: str | None) -> JsonObject:
    total, ledger = tree.total, tree.ledger
    mean = total[CPU] / wall_ns if wall_ns else 0.0
    return {
        "total_seconds": seconds(total[CPU]),
        "user_seconds": seconds(total[USER]),
        "system_seconds": seconds(total[SYSTEM]),
        "mean_cores": round(mean, 4),
        "peak_cores": round(max(tree.peak_cores or 0.0, mean), 4),
        "source": ledger.choose().source,
        "sources": {source: seconds(max(0, used)) for source, used in ledger.sources().items()},
        "unavailable": _unavailable(tree, enclosure, system_missing),
    }


def folded(listed: list[JsonObject]) -> list[JsonObject]:
    """The largest, and one for all others, so that nothing is missing of their sums; then the nameless."""
    nameless = [command | {"command": UNLISTED, "unlisted": True} for command in listed if not command["command"]]
    listed = [command for command in listed if command["command"]]
    kept, rest = listed[:COMMANDS_KEPT], listed[COMMANDS_KEPT:]
    if rest:
        sums = ("processes", "cpu_seconds", "teardown_seconds", "wall_seconds")
        others: JsonObject = {name: round(sum(command[name] or 0 for command in rest), 4) for name in sums}
        peaks = [command["peak_rss_bytes"] for command in rest if command["peak_rss_bytes"] is not None]
        kept.append({"command": OTHERS, "folded": True} | others | {"peak_rss_bytes": max(peaks, default=None)})
    return kept + nameless


def _memory(tree: TreeSummary, enclosure: Enclosure, cgroup: JsonObject | None) -> JsonObject:
    return tree.memory | {
        "peak_pss_bytes": tree.peak_pss,
        "peak_rss_bytes": tree.peak_rss,
        "peak_process_rss_bytes": tree.peak_process_rss,
        "cgroup_peak_bytes": None if cgroup is None else cgroup["memory_peak_bytes"],
        "pss_denied": tree.pss_denied,
        **_oom_kills(tree, enclosure),
    }


def _waiting(tree: TreeSummary, throttled: CpuStat | None) -> JsonObject:
    throttled_ns = None if throttled is None else throttled.throttled_ns
    return {
        "run_delay_seconds": seconds(tree.total[DELAY]) if tree.ledger.delay_known else None,
        "throttled_seconds": None if throttled_ns is None else seconds(throttled_ns),
        "throttled_periods": None if throttled is None else throttled.throttled_periods,
        "periods": None if throttled is None else throttled.periods,
    }


def _oom_kills(tree: TreeSummary, enclosure: Enclosure) -> JsonObject:
    """Return OOM kills of the tree, and what held the memory; None where no cgroup around it counts them."""
    kills = tree.kills
    if kills is not None and kills.counts.counts:
        return {"oom_kills": kills.counts.total, "ooms": kills.ooms}
    known = enclosure.counts_kills and "kills" not in tree.faults
    return {"oom_kills": 0 if known else None, "ooms": []}


def _io(tree: TreeSummary) -> JsonObject:
    total = tree.total[IO:] if tree.ledger.io_known else [None] * IO_FIELDS
    return {"read_bytes": total[4], "write_bytes": total[5], "read_chars": total[0], "write_chars": total[1]} | {
        "denied": tree.io_missing
    }


def _unavailable(tree: TreeSummary, enclosure: Enclosure, system_missing: str | None) -> dict[str, str]:
    """Return the code of each source that is missing."""
    perf = tree.perf
    found: dict[str, str | None] = {"system": system_missing, "procfs": tree.procfs_missing}
    if perf is not None:
        found |= {"perf": perf.missing, "commands": None if perf.missing else perf.commands_missing}
    found["cgroup"] = enclosure.missing or (CGROUP_LEFT if enclosure.left else None)
    found["memory_cgroup"] = enclosure.missing_memory
    found["limits"] = enclosure.limits_missing
    return {source: code for source, code in found.items() if code is not None}
