"""What the totals of a summary may not contain, in words: "complete", or "all but ..."."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.enclosure import Enclosure
    from proctally.sampler import Sampler
    from proctally.watch import Watch

UNREAPED_NS = 20_000_000  # so much more than wait4 perf may count, by its clock, where everything is reaped
LAST_MOMENTS = "the last moments (about 50 us, and giving back its memory) of each process"
# commands whose work is done by a daemon, or on another machine
CLIENTS = ("docker", "srun", "sbatch", "qsub", "ssh", "kubectl", "systemd-run")


def of_run(
    sampler: Sampler, watch: Watch, enclosure: Enclosure, *, client: str | None, subreaper: bool, strangers: int
) -> dict[str, str]:
    """For `run`. `client`: the name of a command that has others do its work; `strangers`: children from before."""
    cpu, io = _run_cpu(sampler, watch), _run_io(sampler, watch, subreaper=subreaper)
    if client is not None:
        cpu.append(f"what {client} has others do: it is only their client")
    if not subreaper and _source(sampler) in ("rusage", "procfs"):
        cpu.append("orphans after they were last seen: becoming a subreaper was refused")
    foreign = []
    if enclosure.left is not None:
        foreign.append(f"its cgroup has not all: {enclosure.left}")
    if strangers:
        foreign.append(f"{strangers} children from before the start are left out, not all they leave")
    if sampler.own == 1:
        foreign.append("as process 1, strangers that were adopted may be counted")
    return {
        "cpu": "; ".join([_all_but(cpu), *foreign]),
        "io": _all_but(io) if sampler.ledger.io_known else "not available from this kernel",
        "memory": sampler.memory_coverage(),
        "processes": _processes(watch),
    }


def of_attach(sampler: Sampler, watch: Watch, interval: float, since: str = "the attach") -> dict[str, str]:
    """For `attach`, and for a block of `track`: for all that ran already. `since`: what totals count from, in words."""
    unseen = f"up to {interval:g} s at the end of a process whose parent is outside the tree, or did not wait for it"
    cpu, io = [unseen], [unseen]
    if watch.total_ns is not None:
        cpu = [LAST_MOMENTS]
        if watch.unsure:
            cpu.append("threads that were made during the attach")
    if sampler.io_denied:
        io.append(f"{len(sampler.io_denied)} processes whose io is denied")
    known = sampler.ledger.io_known
    return {
        "cpu": f"since {since}, {_all_but(cpu)}",
        "io": f"since {since}, {_all_but(io)}" if known else "denied, or not available from this kernel",
        "memory": sampler.memory_coverage(),
        "processes": "those seen: what began and ended between two samples is missing",
    }


def _all_but(missing: Sequence[str]) -> str:
    return "all but " + "; ".join(missing) if missing else "complete"


def _source(sampler: Sampler) -> str:
    return sampler.ledger.source()


def _run_cpu(sampler: Sampler, watch: Watch) -> list[str]:
    ledger = sampler.ledger
    source = _source(sampler)
    missing = []
    if source == "cgroup":
        return ["what was used outside of its cgroup"] if ledger.left else []
    if watch.total_ns is None:
        return [_unwaited(sampler)]
    if ledger.only == "perf" or source == "perf":
        alone = "" if ledger.only == "perf" else ": perf alone has seen those that nobody waited for"
        if alone == "" or ledger.excess() > UNREAPED_NS:
            missing.append(LAST_MOMENTS + alone)
    elif sampler.ignores_children:
        # what perf has seen of them may be hidden behind what it lacks of all others
        missing.append(_unwaited(sampler))
    elif ledger.excess() > UNREAPED_NS:
        more = f"{ledger.excess() / 1e9:.3f} s"
        why = "its clock goes on while interrupts and other machines have the CPU"
        missing.append(f"perhaps {more} that perf alone counted: {why}")
    if _dropped(watch):
        waited = "" if ledger.only == "perf" else ", as far as nobody waited for them"
        missing.append(
            f"what {_dropped(watch)} processes used that may have executed a program with rights of its own{waited}"
        )
    return missing


def _dropped(watch: Watch) -> int:
    """Processes that perf may have lost: a setuid program, or an unreadable one, is not counted for ordinary users."""
    return 0 if watch.roll is None else watch.roll.dropped


def _unwaited(sampler: Sampler) -> str:
    ignorers = len(sampler.ignores_children)
    if ignorers:
        return f"what children of {ignorers} processes that ignore SIGCHLD used after they were last seen"
    return "children that nobody waits for (SIGCHLD ignored, or set to be), of which none was seen"


def _run_io(sampler: Sampler, watch: Watch, *, subreaper: bool) -> list[str]:
    ledger = sampler.ledger
    missing = []
    whole = max(ledger.enclosed or 0, (watch.total_ns or 0) - ledger.doubtful)
    if sampler.ignores_children or (ledger.enclosed is None and watch.total_ns is None):
        missing.append(_unwaited(sampler))
    elif whole - ledger.procfs_cpu() > UNREAPED_NS:
        missing.append("processes that nobody waited for, after they were last seen")
    if not subreaper:
        missing.append("orphans after they were last seen: becoming a subreaper was refused")
    if sampler.io_denied:
        missing.append(f"{len(sampler.io_denied)} processes whose io is denied, until they were reaped")
    return missing


def _processes(watch: Watch) -> str:
    roll = watch.roll
    if roll is None:
        why = watch.why or watch.why_no_commands
        return f"seen or reaped: those of less than an interval that others waited for are missing ({why})"
    missing = []
    if watch.lost:
        missing.append(f"what {watch.lost} lost records of perf would have told")
    elif roll.strays:
        missing.append(f"processes of {roll.strays} threads whose fork was not told")
    if watch.broken:
        missing.append(f"what {watch.broken} unreadable buffers of perf would have told")
    if watch.new_cpus():
        missing.append(f"what was forked on {len(watch.new_cpus())} CPUs that came online meanwhile")
    if _dropped(watch):
        missing.append(
            f"what {_dropped(watch)} processes started that may have executed a program with rights of its own"
        )
    if not roll.tells_time() and not watch.lost:
        missing.append("the CPU time of single processes, which this kernel does not tell: commands have it as sampled")
    elif roll.unread():
        missing.append(f"the CPU time of {roll.unread()} threads, which stands with the command itself")
    said = _all_but(missing)
    return said if watch.lost is not None else f"{said}, unless records were lost: this kernel does not say"
