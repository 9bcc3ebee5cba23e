"""The figures of a tree at its end, of which the summary of a record and its gaps are made."""

from __future__ import annotations

from proctally.record import seconds
from proctally.text.escape import decode_name
from proctally.tree.commands import CommandUse
from proctally.tree.member import CPU
from proctally.tree.perf_processes import NO_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.tree.commands import Commands
    from proctally.tree.guards import KillGuard, TimeGuard
    from proctally.tree.ledger import Ledger
    from proctally.tree.lifecycle import Lifecycle
    from proctally.tree.member import ScanState
    from proctally.tree.membership import Membership
    from proctally.tree.memory_guard import MemoryGuard
    from proctally.tree.perf_source import PerfSource
    from proctally.tree.readings import Readings
    from proctally.tree.sample import Samples


class TreeSummary:
    """Figures of one tree; they stay as they are when the tree runs on.

    `total`: an amount of the ledger. `started`: processes that started, `seen` those that scans saw. `ignorers`:
    processes that are known to ignore SIGCHLD. `io_unread`: why I/O of processes could not be read, by pid;
    `io_missing`: how many of them are not in the totals: of a process that is reaped here, all I/O is counted then.
    `faults`: errors of proctally that ended a part, by its name. `procfs_missing`: the code that says why no process
    could be read. `memory_gaps`: code, count, bytes. `time_gaps`: code, count, bounds in nanoseconds.
    """

    def __init__(
        self,
        tree: Membership,
        ledger: Ledger,
        state: ScanState,
        perf: PerfSource | None,
        commands: Commands,
        readings: Readings,
        lifecycle: Lifecycle,
        samples: Samples,
        memory: MemoryGuard,
        time: TimeGuard,
        kills: KillGuard,
        *,
        started: int,
    ) -> None:
        self.own = tree.own
        self.procfs_missing = tree.machine.procfs_missing
        self.ledger = ledger
        self.perf = perf
        self.total = ledger.best
        self.read_ns = state.read_ns
        self.samples = samples.count
        self.peak_cores = samples.peak_cores
        self.peak_processes = samples.peak_processes
        self.peak_rss = samples.peak_rss
        self.peak_pss = samples.peak_pss
        self.peak_process_rss = memory.peak_process_rss
        self.pss_denied = memory.pss_denied
        self.memory = memory.summary()
        self.memory_gaps = memory.gaps()
        self.time = time.summary()
        self.time_gaps = time.gaps()
        guards = (("memory", memory), ("time", time), ("kills", kills))
        self.faults = {name: guard.fault for name, guard in guards if guard.fault}
        self.kills = kills.reader
        self.oom_elsewhere = 0 if self.kills is None else self.kills.elsewhere()
        self.delay_incomplete = readings.delay_incomplete
        self.ignorers = len(readings.ignores_children)
        self.io_unread = readings.io_unread
        self.io_missing = len(self.io_unread if tree.own is None else self.io_unread.keys() & tree.members.keys())
        self.seen = lifecycle.started
        self.started = started
        self.outside = lifecycle.outside
        self.adopted = lifecycle.adopted
        self.cpus = lifecycle.cpus
        self.root_seen_ns = lifecycle.root_seen_ns
        self.root_waiters = lifecycle.root_waiters
        self.uses = commands.uses
        self._tree = tree
        self._commands = commands

    def commands(self, now: int) -> list[JsonObject]:
        """Return the most expensive commands first: by perf, of every process; else of those that were seen.

        `now`: the monotonic clock.
        """
        seen = self._commands.largest()
        perf, root = self.perf, self._tree.root
        if perf is None or perf.roll is None:
            return seen if self.procfs_missing is None else []
        clocks = {member.pid: member.cpu for member in self._tree.members.values()}
        roll, used, total_ns = perf.roll, perf.total_ns or 0, self.total[CPU]
        whole = not (perf.lost or roll.dropped or roll.strays)
        root_ns = None if root is None or whole or not roll.tells_time() else root.cpu - root.cpu_base
        tallies = roll.commands(used, now, clocks, root_ns)
        resident = {name: use.peak_rss for name, use in self.uses.items()}
        teardowns = roll.teardowns(total_ns - used, total_ns, None if whole else resident)
        if teardowns.get(NO_NAME):
            tallies.setdefault(NO_NAME, CommandUse()).cpu_ns += teardowns.pop(NO_NAME)
        peaks = {command["command"]: command["peak_rss_bytes"] for command in seen}
        sampled = None if roll.tells_time() else {entry["command"]: entry["cpu_seconds"] for entry in seen}
        found = sorted(tallies.items(), key=lambda item: item[1].cpu_ns, reverse=True)
        if sampled is not None:
            found.sort(key=lambda item: sampled.get(decode_name(item[0]), 0.0), reverse=True)
        return [
            {
                "command": decode_name(name),
                "processes": tally.processes,
                "cpu_seconds": seconds(tally.cpu_ns) if sampled is None else sampled.get(decode_name(name)),
                "teardown_seconds": seconds(teardowns.get(name, 0)) if sampled is None else None,
                "wall_seconds": seconds(tally.wall_ns),
                "peak_rss_bytes": peaks.get(decode_name(name)),
            }
            for name, tally in found
        ]
