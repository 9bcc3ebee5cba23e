"""One process tree, sampled: in which order things are read at one moment, and the face that other rooms use.

The cost of a sample grows with the processes that ran, not with those that exist: first the CPU clock of every
member, then the files of those whose clock moved. What others can change without a process running (reclaim, swap,
page sharing, parent) is refreshed at a slow pace.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE, no_process
from proctally.linux.descriptors import share
from proctally.linux.machine import NANOSECONDS, Machine, cpu_ns, host_machine
from proctally.linux.proc import Files, has_children_files, read_threads
from proctally.record import seconds
from proctally.tree.clocks import Clocks
from proctally.tree.commands import Commands
from proctally.tree.guards import KillGuard, TimeGuard
from proctally.tree.ledger import Ledger
from proctally.tree.lifecycle import Lifecycle
from proctally.tree.member import CPU, Member, ScanState
from proctally.tree.membership import Membership
from proctally.tree.memory_guard import MemoryGuard
from proctally.tree.readings import Readings
from proctally.tree.sample import ProcessLines, Samples

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from resource import struct_rusage

    from proctally.record import JsonObject
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.kills import Kills
    from proctally.tree.lifecycle import ForeignChild
    from proctally.tree.perf_source import PerfSource
    from proctally.tree.summary import TreeSummary

EXCESS_NS = 2_000_000  # above that, the total by perf is compared with what interrupts and other machines took
PROCESS_LINES = 2000


class TreeSampler:
    """Reads one tree, keeps its ledger, and makes its samples.

    `own`: the pid of this process when it is the tree's subreaper and reaps (`run`); None otherwise (`attach`).
    `children`: whether the processes below the root are members. `perf`, `enclosure`: what the kernel counts of the
    tree; `source`: the only one that CPU totals come from, None for the best. `pss_budget`: CPU time for reading PSS,
    as a share of a core; at 0 none is read. `emit(line)` receives the records of processes that ended, as dictionaries.
    `memory`: whether the memory of the tree is read as a bracket, `memory_at_once` at the first scan of a run; `time`:
    whether its threads are read. `status_ns`: minimum time between two readings of the status of one process.
    `peaks_from_now`: whether peaks of processes leave out what they held before they became members.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        own: int | None = None,
        children: bool = True,
        perf: PerfSource | None = None,
        enclosure: Enclosure | None = None,
        source: str | None = None,
        interval_ns: int = NANOSECONDS,
        descriptors: int = 512,
        pss_budget: float = 0.005,
        process_lines: int = PROCESS_LINES,
        emit: Callable[[JsonObject], None] | None = None,
        memory: bool = True,
        memory_at_once: bool = False,
        time: bool = False,
        status_ns: int = 0,
        peaks_from_now: bool = False,
    ) -> None:
        self.machine = machine
        self.perf = perf
        self.enclosure = enclosure
        self.interval_ns = interval_ns
        self.status_ns = status_ns
        self.files = files = Files(machine, descriptors)
        self.tree = tree = Membership(machine, files, own, follow=children, children_files=has_children_files(machine))
        self.state = state = ScanState(machine.monotonic_ns())
        self.ledger = ledger = Ledger(machine.tick_ns, attached=own is None, only=source)
        ledger.cpu.has_procfs = machine.procfs_missing is None
        self.commands = commands = Commands(machine)
        self.memory = memory_guard = MemoryGuard(
            tree, ledger, state, enclosure, perf, is_wanted=memory, at_once=memory_at_once, pss_ratio=pss_budget
        )
        self.time = time_guard = TimeGuard(tree, ledger, state, enclosure, is_wanted=time, interval_ns=interval_ns)
        self.kills = kills = KillGuard(tree, state, enclosure)
        self.clocks = Clocks(tree, ledger, state, interval_ns=interval_ns)
        self.readings = readings = Readings(tree, ledger, state, commands, memory_guard, kills, with_children=children)
        self.lifecycle = Lifecycle(
            tree,
            ledger,
            state,
            readings,
            memory_guard,
            time_guard,
            kills,
            commands,
            ProcessLines(machine, emit, process_lines),
            peaks_from_now=peaks_from_now,
        )
        self.samples = Samples(
            tree, ledger, state, readings, memory_guard, time_guard, enclosure, perf, interval_ns=interval_ns
        )

    # -- beginning -----------------------------------------------------------------------------------------------

    def start(self, root: int) -> Member | None:
        """Take in the root that this process has just started and holds; the job leaves out what it has used.

        Without procfs, its CPU clock alone is read. Raises `ProcessGone` when the root has exited.
        """
        self.tree.root = member = self.tree.admit_root(root, is_held=True)
        if member is None:
            return None
        self.lifecycle.enter(member, baseline=True)
        self.ledger.end_base(member)  # it has done next to nothing
        self.memory.start(member)
        # The clock of a process that runs on another CPU is brought up to date by the scheduler's tick only (kernel:
        # thread_group_cputime): so shortly after its exec, the job may not seem to have moved.
        self.state.again.add(member)
        return member

    def attach(self, root: int, tracker: int | None, *, follow_parent: bool = False) -> Member:
        """Take in a running tree; totals count from now. Raises `ProcessGone` or `AccessDenied` for its root.

        `tracker`: the pid of this process. Who attaches to a shell may be its child, and is never of the tree. None
        where this process may be a member like any other. `follow_parent`: whether to read the parent of the root too,
        which shows at the end what no scan can.
        """
        machine, tree = self.machine, self.tree
        if tracker is not None:
            tree.foreign.add(tracker)
        self.lifecycle.attached_ticks = machine.boottime_ns() // machine.tick_ns
        tree.root = member = tree.admit_root(root)
        assert member is not None
        found = [member, *tree.discover([member])]
        # an upper bound of what was before: children before their parents
        for new in reversed(found):
            self.lifecycle.enter(new, baseline=True)
        tree.keep(found)
        self.state.ran = dict.fromkeys(tree.members.values())
        if follow_parent:
            self.lifecycle.follow_parent()
        return member

    def begin(self, started_ns: int) -> None:
        """Have elapsed time count from this moment of the monotonic clock."""
        self.state.started_ns = started_ns

    def exclude(self, pid: int) -> None:
        """Never take in a process, nor what descends from it, although it is a child of this process."""
        self.tree.foreign.add(pid)

    def is_foreign(self, pid: int) -> bool:
        """Return whether a process was excluded."""
        return self.tree.foreign.has(pid)

    @property
    def has_foreign(self) -> bool:
        """True if some process was excluded."""
        return bool(self.tree.foreign.starts)

    def thread_ids(self) -> list[int]:
        """Return the threads of all members at this moment, new members included."""
        members = list(self.tree.members.values())
        tids = []
        for member in [*members, *self.lifecycle.discover(members)]:
            try:
                tids += read_threads(self.machine, member.pid)
            except UNREADABLE:
                continue
        return tids

    # -- one moment ----------------------------------------------------------------------------------------------

    def scan(self, *, between: bool = False, last: bool = False) -> None:
        """Read what there is to read now. Feeds totals and peaks; a sample is made of it by `sample`.

        `between`: a scan between two samples, for the parts of time. It leaves out status, and memory unless that is
        cheap: where memory moves fast, each scan more finds a peak that one at each sample misses. `last`: status is
        read however little time has passed.
        """
        state, tree, lifecycle = self.state, self.tree, self.lifecycle
        begun_ns = self.machine.monotonic_ns()
        begun_cpu_ns = cpu_ns(self.machine)
        tree.since_ns = state.read_ns
        with_memory = self.memory.begin(begun_ns, between=between)
        lifecycle.read_outer_parent()
        state.tick += 1
        self.files.tick = state.tick
        state.grown = False
        self.kills.poll(self.memory.reader)
        moved = self.clocks.moved()
        self._read_counters(is_idle=not (moved or last))
        ran, gone = self.readings.read_all(moved)
        if state.grown:
            # A parent shows the time of a child that it reaped after the clock of that child was read in this scan:
            # a member that is gone by now must not count as living too.
            gone += [member for member in self.readings.vanished() if member not in gone]
        for member in gone:  # before the search for others: the kernel may have given its pid to one of them
            tree.remove(member)
        state.ran.update(dict.fromkeys(ran))
        while found := lifecycle.discover(ran):
            state.ran.update(dict.fromkeys(found))
            ran += found  # all of them are asked again: any may have forked since
        lifecycle.remove(gone)
        lifecycle.settle()
        self.clocks.align(ran, self._read_counters)
        lifecycle.root_lives()
        self.time.scan(ran)
        now = self.machine.monotonic_ns()
        self.readings.refresh(self.clocks.take_turns(now))
        self.kills.see_cgroups(ran)
        if not between:
            pace_ns = 0 if last else self.status_ns
            self.readings.read_status(now, pace_ns, delays=self.time.reader is None)
        self.memory.scan(ran, begun_ns, with_memory, lifecycle.discover_now)
        state.end_ns = self.machine.monotonic_ns()
        self.samples.note_peaks()
        cost_ns = cpu_ns(self.machine) - begun_cpu_ns
        if with_memory:
            self.memory.note_cost(now, cost_ns)
        if between and self.time.reader is not None:
            self.time.reader.note_cost(cost_ns)

    def sample(self, *, last: bool = False) -> JsonObject:
        """`scan`, and the sample of this moment as the record holds it. `last`: of all that is read."""
        self.scan(last=last)
        if self.perf is not None and self.ledger.excess() > EXCESS_NS:
            self.ledger.cpu.doubtful = self.perf.doubtful_ns()
        return self.samples.make()

    def _read_counters(self, *, is_idle: bool = False) -> None:
        """Pass to the ledger what perf and the cgroup of the run count at this moment."""
        ledger, perf, enclosure = self.ledger, self.perf, self.enclosure
        ledger.cpu.room = self.lifecycle.cpus * (self.machine.monotonic_ns() - self.state.started_ns)
        if perf is not None:
            ledger.cpu.note_perf(perf.read(is_idle=is_idle), lost=perf.has_lost_processes)
        if enclosure is not None:
            ledger.cpu.note_cgroup(enclosure.used_ns(), enclosure.split_ns, left=enclosure.left)

    # -- reaping (run) -------------------------------------------------------------------------------------------

    def ended(self, pid: int) -> Member | ForeignChild | None:
        """Take the last reading of a child of this process, a zombie. Returns None when it cannot be read."""
        return self.lifecycle.ended(pid)

    def reaped(
        self, member: Member | ForeignChild | None, exit_code: int, usage: struct_rusage, io: list[int] | None
    ) -> None:
        """Take in the usage and I/O of a reaped child, unless it is excluded. `exit_code`: status, or -signal."""
        self.lifecycle.reaped(member, exit_code, usage, io)

    def reap_unseen(self, usage: struct_rusage) -> None:
        """Take in the resource usage of a reaped child after an error of proctally, when no more scans are made."""
        self.ledger.reap(usage)

    def gap_ended(self) -> None:
        """Scan after the job was stopped and continues: no interval has the time between."""
        self.time.pause()
        self.scan()
        self.samples.restart()

    def end_time(self) -> None:
        """End the parts of the time at this moment: the command has exited, and the next scan is of its helpers."""
        self.scan()
        self.time.pause()

    # -- figures -------------------------------------------------------------------------------------------------

    @property
    def members(self) -> dict[int, Member]:
        """The members by pid, zombies included, parents before children."""
        return self.tree.members

    @property
    def read_ns(self) -> int:
        """The moment of the last scan, by the monotonic clock."""
        return self.state.read_ns

    @property
    def due_ns(self) -> int | None:
        """The monotonic clock of the next scan between two samples; None without one."""
        return self.time.due_ns or self.memory.due_ns

    @property
    def total(self) -> list[int]:
        """The usage of the tree at the last sample, as an amount of the ledger; it never falls."""
        return self.ledger.best

    def cpu_seconds(self) -> float:
        """Return the CPU time of the tree at the last scan."""
        return seconds(self.ledger.advance()[CPU])

    def processes_started(self) -> int:
        """Return the processes that started: as perf lists them, and at least those that were seen."""
        roll = None if self.perf is None else self.perf.roll
        return max(self.lifecycle.started, self.samples.peak_processes, 0 if roll is None else roll.started)

    @property
    def processes_seen(self) -> int:
        """Processes that scans saw."""
        return self.lifecycle.started

    @property
    def io_known(self) -> bool:
        """True if the total of I/O is known."""
        return self.ledger.io_known is True

    @property
    def tick(self) -> int:
        """The number of the last scan, as in `Member.moved_tick`."""
        return self.state.tick

    def cpu_by_source(self) -> tuple[str, dict[str, int]]:
        """Return the source of the CPU total, and nanoseconds of CPU by each source that there is."""
        return self.ledger.choose().source, self.ledger.sources()

    def procfs_ns(self) -> int:
        """Return nanoseconds of CPU by /proc and wait4."""
        return self.ledger.procfs_cpu()

    def is_from_before(self, member: Member) -> bool:
        """Return whether a member of an attached tree is older than its tracking."""
        return self.lifecycle.is_from_before(member)

    def ancestor(self, member: Member) -> Member | None:
        """Return the nearest surviving ancestor of a process within the tree."""
        return self.tree.ancestor(member)

    def stat_bytes(self, member: Member) -> bytes:
        """Return `stat` of a member, by the descriptor that is kept open for it."""
        return self.files.stat_bytes(member, member.pid)

    def hidden_living(self) -> int:
        """Return the number of living members that this user cannot read."""
        return 0 if self.tree.hidden is None else self.tree.hidden.living()

    def command_of(self, pid: int) -> bytes:
        """The name of a member; empty for any other process."""
        member = self.tree.members.get(pid)
        return b"" if member is None else member.command

    # -- the end -------------------------------------------------------------------------------------------------

    def take_last(self, *, failed: bool) -> None:
        """Take in what perf recorded at last. `failed`: scans ended early; only sums of the kernel are whole."""
        if self.perf is not None:
            self.ledger.cpu.lost = self.perf.has_lost_processes
        if failed:
            self._read_counters()
            self.ledger.fall_back()
        elif self.ledger.cpu.wrong is not None:
            self.ledger.best[CPU] = self.ledger.total()[CPU]

    def settle_kills(self) -> Kills | None:
        """Count OOM kills to the end; None for a job without any that ended before the second scan."""
        return self.kills.settle(self.memory.reader)

    def finish(self) -> int:
        """Write the lines of the members that remain. Returns how many of them run; a zombie does not."""
        if self.tree.own is not None:
            self.memory.finish()
        return self.lifecycle.finish()

    def summary(self) -> TreeSummary:
        """Return what the summary of a record says of the tree."""
        from proctally.tree.summary import TreeSummary

        return TreeSummary(
            self.tree,
            self.ledger,
            self.state,
            self.perf,
            self.commands,
            self.readings,
            self.lifecycle,
            self.samples,
            self.memory,
            self.time,
            self.kills,
            started=self.processes_started(),
        )

    def close(self) -> None:
        """Give every descriptor back."""
        self.files.close_all()
        self.time.close()


DESCRIPTORS = 64  # maximum that a tracker inside another program keeps open
DESCRIPTORS_DIVISOR = 16
NO_TRACKER = 0  # pid of a tracker outside the tree: this process can be a member like any other


def watched(pid: int, start: int | None = None, machine: Machine | None = None) -> TreeSampler:
    """Return a sampler of a running tree, without PSS. Raises `ProcessGone` or `AccessDenied`."""
    kept = share(DESCRIPTORS_DIVISOR, DESCRIPTORS)
    sampler = TreeSampler(machine or host_machine(), descriptors=kept, pss_budget=0.0, process_lines=0, memory=False)
    try:
        root = sampler.attach(pid, NO_TRACKER)
        if not root.alive or (start is not None and root.start != start):
            raise no_process(pid)
    except BaseException:
        sampler.files.close_all()
        raise
    return sampler
