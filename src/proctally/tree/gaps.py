"""What the totals of a summary may not contain, as codes with the numbers that are known.

A section is complete only when it has no gap: `coverage` derives that from the gaps alone.
"""

from __future__ import annotations

from proctally.record import codes, seconds
from proctally.record.codes import CPU, IO, MACHINE, MEMORY, PROCESSES, TIME
from proctally.tree.perf_processes import THREAD_END_NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.linux.machine import Machine
    from proctally.tree import bounds
    from proctally.tree.cpu_sources import Choice
    from proctally.tree.perf_source import PerfSource
    from proctally.tree.summary import TreeSummary

    Gap = dict[str, "str | int | float | None"]


UNREAPED_NS = 20_000_000  # excess of a counter over wait4 that needs no explanation ...
UNREAPED_DIVISOR = 200  # ... and the same as a part of the total
SPLIT_NS, SPLIT_DIVISOR = 20_000_000, 50  # tolerated part of a total without user and system time
THREADS_NS, THREADS_DIVISOR = 5_000_000, 200  # what ends of threads cost is a gap above this
# commands whose work is done by a daemon, or on another machine
CLIENTS = ("docker", "srun", "sbatch", "qsub", "ssh", "kubectl", "systemd-run")


def gap(
    section: str,
    code: str,
    *,
    count: int | None = None,
    low_seconds: float | None = None,
    high_seconds: float | None = None,
    high_bytes: int | None = None,
) -> Gap:
    """Return one entry of `summary.gaps`; None is unknown."""
    return {
        "section": section,
        "code": code,
        "count": count,
        "low_seconds": low_seconds,
        "high_seconds": high_seconds,
        "low_bytes": None,
        "high_bytes": high_bytes,
    }


# code of a gap of the machine: the sections of which nothing is known then
UNKNOWN_SECTIONS = {
    codes.PROCFS_MISSING: (MEMORY, IO, PROCESSES),
    codes.PROCFS_FOREIGN: (MEMORY, PROCESSES),  # `/proc/self/io` is still that of this process
}


def coverage(gaps: Iterable[Gap]) -> dict[str, str]:
    """Return the completeness of each total; it may be complete without its user and system time."""
    found = dict.fromkeys((CPU, MEMORY, IO, PROCESSES), codes.COMPLETE)
    for each in gaps:
        section = each["section"]
        if section == MACHINE:
            found.update(dict.fromkeys(UNKNOWN_SECTIONS.get(str(each["code"]), ()), codes.UNKNOWN))
        if section in found and found[section] != codes.UNKNOWN and each["code"] != codes.SPLIT_UNKNOWN:
            found[section] = codes.UNKNOWN if each["code"] == codes.IO_UNAVAILABLE else codes.PARTIAL
    return found


def of_run(
    tree: TreeSummary, perf: PerfSource, *, client: bool, subreaper: bool, foreign: int, left: int, hidden: int = 0
) -> list[Gap]:
    """Return the gaps of a `run`.

    `client`: the command has others do its work; `foreign`: children from before; `left`: members that live on, of
    which no listing shows `hidden`.
    """
    found = _run_cpu(tree, perf) + _split(tree)
    if client:
        found.append(gap(CPU, codes.CLIENT_ONLY))
    if not subreaper and tree.ledger.choose().source in ("rusage", "procfs"):
        found.append(gap(CPU, codes.NO_SUBREAPER))
    if foreign:
        found.append(gap(CPU, codes.EARLIER_CHILDREN, count=foreign))
    if tree.own == 1 and tree.adopted:
        found.append(gap(CPU, codes.ADOPTED_UNRELATED, count=tree.adopted))
    if left:
        found.append(gap(CPU, codes.LEFT_RUNNING, count=left))
    if hidden:
        found.append(gap(CPU, codes.HIDDEN, count=hidden))
    if tree.procfs_missing is not None:  # one gap of the machine says it all
        return found + (_run_io(tree, perf, subreaper=subreaper) if tree.ledger.io_known else [])
    found += _run_io(tree, perf, subreaper=subreaper) + _memory(tree)
    return found + _processes(perf) + _time(tree)


def of_attach(tree: TreeSummary, perf: PerfSource, interval_seconds: float) -> list[Gap]:
    """Return the gaps of an `attach`, or of a block of `track`: of a tree that existed before."""
    from proctally.tree import bounds

    found = [gap(CPU, codes.LAST_MOMENTS, high_seconds=_seconds(bounds.of_last_moments(tree)))]
    if perf.total_ns is None or _is_excess(tree.ledger.choose()):
        found.append(gap(CPU, codes.ORPHANS_UNSEEN))
    if perf.unsure:
        found.append(gap(CPU, codes.ATTACH_THREADS))
    found += _split(tree)
    if tree.ledger.io_known:
        found.append(gap(IO, codes.LAST_MOMENTS, high_seconds=interval_seconds))
    else:
        found.append(gap(IO, codes.IO_UNAVAILABLE))
    found += _io_unread(tree)
    found.append(gap(MEMORY, codes.LAST_MOMENTS))  # of a process that exits, the high-water mark is the last one read
    return [*found, *_memory(tree), gap(PROCESSES, codes.PROCESSES_SAMPLED), *_time(tree)]


def of_machine(machine: Machine, silent: int = 0) -> list[Gap]:
    """Return the gaps of this machine. `silent`: files that a daemon serves and does not answer for."""
    found = []
    if machine.procfs_missing is not None:
        found.append(gap(MACHINE, machine.procfs_missing))
    if machine.has_wrong_clocks:
        found.append(gap(MACHINE, codes.CLOCK_DISBELIEVED))
    if silent:
        found.append(gap(MACHINE, codes.FILE_SERVED, count=silent))
    return found


def of_failure() -> list[Gap]:
    """Return what an error of proctally, after which nothing more was tracked, adds."""
    return [gap(section, codes.TRACKING_FAILED) for section in (CPU, IO, MEMORY, PROCESSES)]


def _run_cpu(tree: TreeSummary, perf: PerfSource) -> list[Gap]:
    ledger = tree.ledger
    choice = ledger.choose()
    if ledger.cpu.wrong is not None:
        return [gap(CPU, codes.SOURCE_WRONG, count=1)]
    if choice.source == "cgroup":
        return [gap(CPU, codes.CGROUP_LEFT)] if ledger.cpu.left else []
    if perf.total_ns is None:
        return [_unreaped(tree, CPU)]
    found = _unwaited(tree, perf, choice)
    found += _threads_ended(perf, choice.total_ns)
    if _dropped(perf):
        found.append(gap(CPU, codes.SETUID, count=_dropped(perf)))
    return found


def _unwaited(tree: TreeSummary, perf: PerfSource, choice: Choice) -> list[Gap]:
    """Return the gaps of unreaped processes, where perf counts."""
    ledger, surplus = tree.ledger, choice.surplus_ns
    by_perf, excess = "perf" in (ledger.cpu.only, choice.source), _is_excess(choice)
    if not (by_perf or excess or tree.ignorers):
        return []
    from proctally.tree import bounds

    exits = bounds.of_exits(tree, perf)
    if ledger.cpu.only == "perf":
        return [gap(CPU, codes.TEARDOWN, high_seconds=None if exits is None else seconds(exits.all_ns))]
    if by_perf:
        found = [gap(CPU, codes.UNREAPED, low_seconds=0.0, high_seconds=_high(exits, 0))]
    elif excess and ledger.cpu.lost:
        found = [gap(CPU, codes.UNREAPED, low_seconds=seconds(surplus))]
    elif excess and not tree.ignorers:
        # the clock of perf runs during interrupts and stolen time, so that a small surplus proves nothing
        found = [gap(CPU, codes.UNREAPED, low_seconds=0.0, high_seconds=_high(exits, surplus))]
    else:  # what perf has seen of them may be hidden behind what it lacks of all others
        count = tree.ignorers
        found = [gap(CPU, codes.UNREAPED_UNSEEN, count=count, high_seconds=_high(exits, surplus))]
    if exits is not None and exits.large:
        found.append(gap(CPU, codes.TEARDOWN, count=exits.large, high_seconds=seconds(exits.large_ns)))
    return found


def _is_excess(choice: Choice) -> bool:
    return choice.surplus_ns > UNREAPED_NS + choice.total_ns // UNREAPED_DIVISOR


def _split(tree: TreeSummary) -> list[Gap]:
    """Return the gap of a total that has no user and system time, as far as that matters."""
    total, user, system = tree.total[:3]
    without = total - user - system
    if without <= max(SPLIT_NS, total // SPLIT_DIVISOR):
        return []
    return [gap(CPU, codes.SPLIT_UNKNOWN, low_seconds=seconds(without), high_seconds=seconds(without))]


def _high(exits: bounds.Exits | None, surplus_ns: int) -> float | None:
    """Return the seconds that small unreaped processes may have used beyond the total."""
    return None if exits is None else seconds(surplus_ns + exits.small_ns)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else seconds(nanoseconds)


def _threads_ended(perf: PerfSource, total_ns: int) -> list[Gap]:
    """Return the gap of the CPU time that threads use after their last accounting."""
    most = 0 if perf.roll is None else perf.roll.threads_ended * THREAD_END_NS
    if most <= max(THREADS_NS, total_ns // THREADS_DIVISOR):
        return []
    assert perf.roll is not None
    return [gap(CPU, codes.THREADS_ENDED, count=perf.roll.threads_ended, high_seconds=seconds(most))]


def _dropped(perf: PerfSource) -> int:
    """Return how many processes perf may have lost: it does not count a setuid program for ordinary users."""
    return 0 if perf.roll is None else perf.roll.dropped


def _unreaped(tree: TreeSummary, section: str) -> Gap:
    """Return the gap of processes that no parent may have waited for, where perf does not count them."""
    if tree.ignorers:
        return gap(section, codes.UNREAPED_UNSEEN, count=tree.ignorers)
    return gap(section, codes.UNREAPED_UNKNOWN)


def _run_io(tree: TreeSummary, perf: PerfSource, *, subreaper: bool) -> list[Gap]:
    ledger = tree.ledger
    if not ledger.io_known:
        return [gap(IO, codes.IO_UNAVAILABLE), *_io_unread(tree)]
    found = []
    counted = max(ledger.cpu.enclosed or 0, (perf.total_ns or 0) - ledger.cpu.doubtful) - ledger.procfs_cpu()
    if perf.roll is not None:
        counted -= perf.roll.threads_ended * THREAD_END_NS
    if tree.ignorers or (ledger.cpu.enclosed is None and perf.total_ns is None):
        found.append(_unreaped(tree, IO))
        unseen = 0 if perf.roll is None else perf.roll.started - tree.seen
        if unseen > 0 and tree.ignorers:
            found.append(gap(IO, codes.UNREAPED, count=unseen))
    elif counted > UNREAPED_NS and not _all_reaped(tree, perf):
        found.append(gap(IO, codes.UNREAPED))
    if not subreaper:
        found.append(gap(IO, codes.NO_SUBREAPER))
    return found + _io_unread(tree)


def _all_reaped(tree: TreeSummary, perf: PerfSource) -> bool:
    """Return True if this process reaped all processes of the tree."""
    roll = perf.roll
    return roll is not None and not perf.lost and not roll.dropped and roll.started <= tree.ledger.waited


def _io_unread(tree: TreeSummary) -> list[Gap]:
    reasons = list(tree.io_unread.values())
    return [gap(IO, code, count=reasons.count(code)) for code in sorted(set(reasons))]


def _memory(tree: TreeSummary) -> list[Gap]:
    found = [gap(MEMORY, code, count=count, high_bytes=size) for code, count, size in tree.memory_gaps]
    if tree.oom_elsewhere:
        found.append(gap(MACHINE, codes.OOM_ELSEWHERE, count=tree.oom_elsewhere))
    return found


def _time(tree: TreeSummary) -> list[Gap]:
    """Return what the run delay and the parts of the wall time lack."""
    if not tree.ledger.delay_known:
        return [gap(TIME, codes.DELAY_UNAVAILABLE)]
    if "time" in tree.faults:
        return [gap(TIME, codes.TRACKING_FAILED)]
    found = [
        gap(TIME, code, count=count, low_seconds=_rounded(low_ns), high_seconds=_rounded(high_ns))
        for code, count, low_ns, high_ns in tree.time_gaps
    ]
    if tree.delay_incomplete and not any(each["code"] == codes.DELAY_SAMPLED for each in found):
        found.append(gap(TIME, codes.DELAY_SAMPLED))
    return found


def _rounded(nanoseconds: float) -> float:
    return seconds(round(nanoseconds))


def _processes(perf: PerfSource) -> list[Gap]:
    roll = perf.roll
    if roll is None:
        return [gap(PROCESSES, codes.PROCESSES_SAMPLED)]
    found = []
    if perf.lost is None:
        found.append(gap(PROCESSES, codes.LOST_UNKNOWN))
    if perf.lost:
        found.append(gap(PROCESSES, codes.LOST_RECORDS, count=perf.lost))
    elif roll.strays:
        found.append(gap(PROCESSES, codes.FORKS_UNSEEN, count=roll.strays))
    if perf.broken:
        found.append(gap(PROCESSES, codes.BUFFERS_UNREADABLE, count=perf.broken))
    if perf.new_cpus():
        found.append(gap(PROCESSES, codes.NEW_CPUS, count=len(perf.new_cpus())))
    if _dropped(perf):
        found.append(gap(PROCESSES, codes.SETUID, count=_dropped(perf)))
    if not roll.tells_time() and not perf.lost:
        found.append(gap(PROCESSES, codes.COMMAND_TIME_SAMPLED))
    elif roll.unread():
        found.append(gap(PROCESSES, codes.THREAD_TIME_MERGED, count=roll.unread()))
    return found
