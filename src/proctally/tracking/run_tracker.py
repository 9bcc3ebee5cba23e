"""The tracking of `run`: perf rings, marks and the tree of a command, from its start to its summary."""

from __future__ import annotations

import os

from proctally.errors import NO_PROCFS, UNREADABLE
from proctally.linux.machine import NANOSECONDS, Machine
from proctally.linux.proc import read_children, read_stat
from proctally.record.codes import JUST_STARTED
from proctally.tracking.job import Job
from proctally.tracking.loop import Source
from proctally.tracking.marks import Marks
from proctally.tracking.session import Session
from proctally.tracking.tracker import TreeTracker
from proctally.tracking.verdict import judge, oom_kills
from proctally.tree import gaps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from proctally.record import JsonObject
    from proctally.tracking.termination import Termination
    from proctally.tracking.verdict import Outcome, Reason
    from proctally.tree.perf_source import PerfSource

REST_DIVISOR = 50

MANY_BYTES = 15_000  # of records in a second: about 100 processes
ENOUGH = 0.25  # of a ring: below it the records wait for more
WAITING_NS, CHECKING_NS = 20_000_000, 250_000_000  # least time between two choices: poll(2) or clock


class Rings(Source):
    """The rings of perf, drained before they are full.

    Every exit in the tree wakes who waits for a ring by poll(2) (kernel: perf_event_exit_event), and that takes longer
    than its records. While many processes or threads start, the rings are checked by the clock instead.
    """

    def __init__(self, perf: PerfSource) -> None:
        self._perf = perf
        self._fds = perf.fds
        self._pace_ns = perf.pace_ns
        self._due_ns: int | None = None  # the next check; None while poll(2) waits
        self._judged_ns = perf.machine.monotonic_ns()
        self._written = 0

    def fds(self, now: int) -> list[int]:
        return self._fds if self._due_ns is None else []

    def timeout(self, now: int) -> int | None:
        return None if self._due_ns is None else max(0, self._due_ns - now)

    def act(self, now: int, ready: Collection[int]) -> None:
        if self._due_ns is None:
            if any(fd in self._fds for fd in ready):
                self._perf.take()
            self._judge(now, WAITING_NS)
        elif now >= self._due_ns:
            filled = self._perf.filled()
            if filled > ENOUGH:
                self._perf.take()
            self._due_ns = now + (self._pace_ns if filled < 2 * ENOUGH else self._pace_ns // 8)
            self._judge(now, CHECKING_NS)

    def _judge(self, now: int, after_ns: int) -> None:
        """Choose between clock and poll(2) by the records of the time since the last choice."""
        elapsed = now - self._judged_ns
        if elapsed < after_ns:
            return
        written = self._perf.written()
        if (written - self._written) * NANOSECONDS < MANY_BYTES * elapsed:
            self._due_ns = None
        elif self._due_ns is None:
            self._due_ns = now + self._pace_ns
        self._written, self._judged_ns = written, now


class Marked(Marks, Source):
    """The pipe of marks as a source."""

    def __init__(self, tracker: RunTracker) -> None:
        super().__init__(tracker.used, tracker.machine.time)
        self._tracker = tracker
        self._ignored = False

    def ignore(self) -> None:
        """Only empty the pipe from now: a job that marks must not wait for its reader."""
        self._ignored = True
        self.forget()

    def act(self, now: int, ready: Collection[int]) -> None:
        """Write what was marked."""
        if self._ignored:
            if ready:
                self.drain(now)
        elif ready or self.has_waiting:
            self._tracker.mark(self.take(now))


class RunTracker(TreeTracker):
    """The tree of a command that this process starts, and what that command marks."""

    def __init__(self, session: Session, job: Job, command: list[str]) -> None:
        options = session.options
        super().__init__(
            session,
            own=job.own,
            source=options.source if options.source in ("cgroup", "perf") else None,
            descriptors=job.descriptors(),
        )
        self.machine_at_once = options.format == "csv"  # a job of a few milliseconds needs none of it
        self.command = command
        self.marks = Marked(self)
        self.termination: Termination | None = None
        if options.timeout is not None or options.max_memory is not None:
            from proctally.tracking.termination import Termination

            self.termination = Termination(options, job, self.sampler, self.enclosure)
        self._job = job
        self._began_machine = False
        self._rest_due_ns = 0
        self.foreign = children(self.machine, job.own)  # those from before: a shell that execs us leaves its own
        for pid in self.foreign:
            self.exclude(pid)

    @property
    def fired(self) -> tuple[str, Reason] | None:
        """The verdict and its reason, where proctally ended the job."""
        return None if self.termination is None else self.termination.fired

    def open_sources(self, pid: int) -> None:
        """Have the kernel count the held job, from its exec on."""
        options, perf, enclosure = self.options, self.perf, self.enclosure
        # now: of a process that has ended v1 says nothing
        enclosure.look_around(pid)
        if options.source in ("auto", "perf"):
            name = os.fsencode(os.path.basename(self.command[0]))[:15]
            commands, counters = options.commands, options.counters
            perf.open(self._job.library, pid, name, commands=commands, counters=counters, cpuset=enclosure.cpus)
            if perf.roll is not None:
                perf.roll.name_of = self.sampler.command_of
        # moving a process takes 10 ms and more: automatically only where no other source sees unreaped processes
        if options.cgroup or options.source == "cgroup" or (options.source == "auto" and perf.missing is not None):
            enclosure.enclose(pid, self._job.own, memory=options.cgroup or options.source == "cgroup")
            if enclosure.own is not None:
                enclosure.look_around(pid)
        enclosure.note_memory()

    def refused(self) -> str | None:
        """Return the message for a request that needs a source, and that is missing."""
        if self.machine.procfs_missing is not None and (needy := self._needs_procfs()) is not None:
            return f"{needy}: {NO_PROCFS[self.machine.procfs_missing]}"
        for source, code in (("perf", self.perf.missing), ("cgroup", self.enclosure.missing)):
            if self.options.source == source and code is not None:
                from proctally.text.words import missing

                return f"--source {source}: {missing(code, source)}"
        return None

    def _needs_procfs(self) -> str | None:
        """Return the option that cannot be met without procfs."""
        options = self.options
        if options.source == "procfs":
            return "--source procfs"
        if options.max_memory is not None and not options.cgroup:
            return "--max-memory"
        return "--wait-all" if options.wait_all else None

    def started(self) -> None:
        """Take the moment of the session, at which the job starts."""
        self.marks.started_ns = self.session.started_ns
        self.sampler.begin(self.session.started_ns)
        if self.termination is not None:
            self.termination.begin(self.session.started_ns)

    def start(self) -> JsonObject:
        """Start the exporter, and take the first sample."""
        self.perf.begin()
        return super().start()

    def begin_machine(self) -> None:
        """Start to read the machine: by now the job runs, and what the start of that takes does not delay it."""
        self._began_machine = True
        super().begin_machine()
        for line in () if self.host is None else self.host.lines():
            self.session.write(line)

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        """Scan or sample, and read what is due of the machine: from the first scan on."""
        scanned = self.scan(now)
        if self._began_machine:
            self.do_rest(now)
        elif scanned:
            self.begin_machine()
        return None

    def sample(self, *, last: bool = False) -> JsonObject:
        """Write a sample of this moment, and compare it with --max-memory."""
        timed = self.session.timed
        timed("cgroup", self.enclosure.check, self.pids())
        sample = self.measured(last=last)
        if not (self._began_machine or self.options.no_gpu):
            sample["gpus_skipped"] = JUST_STARTED
        timed("perf", self.perf.take)
        self.session.write(sample)
        if self.termination is not None:
            self.termination.check_memory(self.machine.monotonic_ns())
        self.export(sample)
        return sample

    def gap_ended(self) -> None:
        """Start the next interval: the job was stopped until now."""
        self.sampler.gap_ended()
        if self.host is not None:
            self.host.gap_ended()
        self.schedule.gap_ended(self.machine.monotonic_ns())

    def used(self) -> float | None:
        """Return the CPU seconds of the tree at this moment."""
        self.sampler.scan()
        return self.sampler.cpu_seconds()

    def mark(self, lines: list[JsonObject]) -> None:
        """Write the phases that start and end."""
        for line in lines:
            self.session.mark(self.sampler, line)

    def scan_rest(self) -> bool:
        """Return True if a member is left, at the cost of `1 / REST_DIVISOR` of a core: it might not be our child."""
        started = self.machine.monotonic_ns()
        if started >= self._rest_due_ns:
            self.sampler.scan(between=True)
            now = self.machine.monotonic_ns()
            self._rest_due_ns = now + (now - started) * REST_DIVISOR
        return bool(self.sampler.members)

    def finish(self) -> None:
        """Take the last sample, and what was marked until then."""
        if self.enclosure.own is not None:
            self.sampler.scan()  # those reaped last are settled
            self.enclosure.compare(self.sampler.procfs_ns())
        self.sample()
        self.mark(self.marks.last(self.machine.monotonic_ns()))
        self.ended_ns = self.ended_ns or self.sampler.read_ns  # what follows takes long on a busy machine
        self.last_machine_lines()

    def take_last(self, failed: bool) -> None:
        """Read the counters of perf to their end."""
        self.perf.take(last=True)
        self.sampler.take_last(failed=failed)

    def end(self, failed: bool) -> None:
        """Write the summary."""
        options, warnings = self.options, self.session.warnings
        if options.cgroup and self.enclosure.missing is not None:
            from proctally.text.words import missing

            warnings.append(f"--cgroup: {missing(self.enclosure.missing)}")
        if self.marks.dropped:
            dropped = self.marks.dropped
            warnings.append(
                f"{dropped} mark{' of the job was' if dropped == 1 else 's of the job were'} invalid or too many"
            )
        program = os.path.basename(self.command[0])
        client = program if program in gaps.CLIENTS else None
        if client is not None:
            warnings.append(f"{client}: is only a client; what it has others do is not counted")
        kills = oom_kills(self.enclosure, self.sampler.samples.rss_sampled, self.sampler.settle_kills())
        outcome = judge(self._job.status, fired=self.fired, kills=kills)
        left = None if failed else self.sampler.finish()
        unseen, hidden = (0, 0) if left is None else self._unseen_children()
        left = None if left is None else left + unseen
        tree = self.sampler.summary()
        if self.fired is None:
            self._warn_of_memory(tree.memory["peak_high_bytes"])
        found = gaps.of_run(
            tree,
            self.perf,
            client=client is not None,
            subreaper=self._job.subreaper,
            foreign=len(self.foreign),
            left=left or 0,
            hidden=hidden + self.sampler.hidden_living(),
        )
        self.end_record(tree, outcome, found + gaps.of_failure() if failed else found, left)

    def _unseen_children(self) -> tuple[int, int]:
        """Count the running children that no scan showed, and those of them that no listing shows.

        hidepid hides a setuid program from its own user.
        """
        if not self._job.has_children():
            return 0, 0
        members, is_foreign = self.sampler.members, self.sampler.is_foreign
        listed = children(self.machine, self._job.own)
        unseen = hidden = 0
        for pid in listed - self.foreign - members.keys():
            if is_foreign(pid):
                continue
            try:
                unseen += read_stat(self.machine, pid).state not in b"ZXx"
            except UNREADABLE:
                unseen += 1
                hidden += 1
        if not listed and not members and not self.sampler.has_foreign:
            return 1, int(self.machine.procfs_missing is None)  # this kernel has no list of children
        return unseen, hidden

    def _warn_of_memory(self, high: int | None) -> None:
        """Warn where the peak might have been above --max-memory, which fires on proved memory alone."""
        most = self.options.max_memory
        if most is not None and high is not None and high > most:
            from proctally.text.units import size

            self.session.warnings.append(f"--max-memory {size(most)}: memory might have reached {size(high)}")

    def closing(self) -> list[Callable[[], object]]:
        return [*super().closing(), self.perf.close, self.enclosure.close, self.marks.close]


def children(machine: Machine, pid: int) -> set[int]:
    """Return the children of a process; none where they cannot be read."""
    try:
        return set(read_children(machine, pid))
    except UNREADABLE:
        return set()
