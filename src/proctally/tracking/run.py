"""`proctally run`: start a command, track it, pass on its exit status."""

from __future__ import annotations

import os

from proctally.errors import NO_PROCFS, UNREADABLE, CannotStart
from proctally.linux.c_library import libc
from proctally.linux.child import SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, initial_environment
from proctally.linux.machine import Machine, host_machine
from proctally.linux.proc import read_children, read_stat
from proctally.record.codes import JUST_STARTED
from proctally.text.escape import argument_text
from proctally.text.secrets import mask
from proctally.text.terminal import say
from proctally.tracking.config import NOT_PASSED_ON
from proctally.tracking.job import Job, Reaped, exit_or_signal, exit_status
from proctally.tracking.loop import Loop, Source
from proctally.tracking.marks import VARIABLE, Marks
from proctally.tracking.session import Ended, Session
from proctally.tracking.tracker import TreeTracker, said
from proctally.tracking.verdict import judge, oom_kills
from proctally.tree import gaps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar, TypeVarTuple

    from proctally.record import JsonObject
    from proctally.tracking.config import Options
    from proctally.tracking.termination import Termination
    from proctally.tracking.verdict import Outcome, Reason
    from proctally.tree.lifecycle import ForeignChild
    from proctally.tree.member import Member
    from proctally.tree.perf_source import PerfSource

    Arguments = TypeVarTuple("Arguments")
    Result = TypeVar("Result")

CANNOT_RUN = 125
TIMED_OUT = 124
SOON_NS = 200_000_000  # maximum wait, with --wait-all, for the exit of members that are not children of ours
REST_DIVISOR = 50
MEMBER_DEPTH = 64


class Rings(Source):
    """The rings of perf, drained before they are full."""

    def __init__(self, perf: PerfSource) -> None:
        self._perf = perf
        self._fds = perf.fds

    def fds(self, now: int) -> list[int]:
        return self._fds

    def act(self, now: int, ready: Collection[int]) -> None:
        if any(fd in self._fds for fd in ready):
            self._perf.take()


class Marked(Marks, Source):
    """The pipe of marks as a source."""

    def __init__(self, tracker: RunTracker) -> None:
        super().__init__(tracker.used, tracker.machine.time)
        self._tracker = tracker
        self._ignored = False

    def ignore(self) -> None:
        """Only empty the pipe from now: a job that marks must not wait for its reader."""
        self._ignored = True

    def act(self, now: int, ready: Collection[int]) -> None:
        """Write what was marked."""
        if ready and self._ignored:
            self.drain(now)
        elif ready:
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
            self.read_machine(now)
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
            warnings.append(f"{self.marks.dropped} marks of the job were no marks, or too many")
        program = os.path.basename(self.command[0])
        client = program if program in gaps.CLIENTS else None
        if client is not None:
            warnings.append(f"{client} is only a client: what it has others do is not counted")
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


class Runner(Source):
    """The job from its start to its end: signals, reaping, its exit status.

    Everything else is tracking, reached through `guarded` and `last`: an error there never reaches the job.
    """

    def __init__(self, options: Options, command: list[str], environment: dict[str, str]) -> None:
        self.options = options
        self.command = command
        self.error: Exception | None = None  # of proctally, after which nothing is tracked
        self.machine = machine = host_machine()
        self.job = Job(libc(), machine)
        name = argument_text(os.path.basename(command[0])) or "run"
        self.session = Session("run", options, environment, machine, name)
        self.tracker = RunTracker(self.session, self.job, command)
        ends = self.tracker.termination
        self._ends = (self,) if ends is None else (self, ends)
        self._loop = Loop(machine.monotonic_ns, self.job.signals, self._ends, urgent=self._ends, fault=self._fault)
        self._gives_up_ns: int | None = None  # moment at which --wait-all ends after a signal

    def main(self) -> Ended:
        """Track the command to its end."""
        job, session, tracker = self.job, self.session, self.tracker
        try:
            pid = job.hold(self.command, self._job_environment())
        except OSError as error:
            say(f"proctally: cannot start a process: {error.strerror}\n")
            return Ended(CANNOT_RUN)
        try:
            session.open(pid)
        except CannotStart as error:
            job.give_up()
            say(f"proctally: {error}\n")
            return Ended(CANNOT_RUN)
        self.guarded(tracker.open_sources, pid)
        refused = tracker.refused()
        if refused is not None:
            job.give_up()
            self._discard()
            say(f"proctally: {refused}\n")
            return Ended(CANNOT_RUN)
        self.guarded(tracker.sampler.start, pid)
        session.start()
        tracker.started()
        try:
            job.release()
        except CannotStart as error:
            self._discard()
            say(f"proctally: {self.command[0]}: {error.reason}\n")
            return Ended(error.exit_status)
        self._track(pid)
        if tracker.fired is not None and tracker.fired[0] == "timeout":
            return session.ended(TIMED_OUT)
        return session.ended(exit_status(SIGKILL if job.status is None else job.status))

    def _discard(self) -> None:
        self.session.discard()
        self.tracker.enclosure.close()

    def _job_environment(self) -> dict[str, str]:
        environment = initial_environment(self.session.environment)
        passed_on = {
            key: value
            for key, value in environment.items()
            if not (key.startswith("PROCTALLY_") and key[10:] in NOT_PASSED_ON)
        }
        given = {"PROCTALLY_RUN_ID": self.session.run_id}
        if self.tracker.marks.path is not None and self.machine.procfs_missing is None:
            given[VARIABLE] = self.tracker.marks.path
        return passed_on | given

    def _track(self, pid: int) -> None:
        """Track from the exec to the last line."""
        session, tracker = self.session, self.tracker
        session.write(session.header(mask(self.command), pid, tracker.enclosure.limits))
        first = self.guarded(tracker.start)
        session.open_default()
        if first is not None:
            self.guarded(tracker.export, first)
        if self.error is None:
            self._loop.replace([Rings(tracker.perf), tracker.marks, *self._ends, tracker])
        self._loop.run()
        if not (self.options.wait_all or self.tracker.fired):
            self.last(self._await_helpers)
        self.guarded(tracker.finish)
        self.last(tracker.take_last, self.error is not None)
        self.last(tracker.end, self.error is not None)
        for step in tracker.closing():
            self.last(step)

    # -- the guard -----------------------------------------------------------------------------------------------

    def guarded(self, call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result | None:
        """Do something of the tracking. An error ends the tracking and never reaches the job."""
        if self.error is None:
            try:
                return call(*arguments)
            except Exception as error:
                self._fail(error)
        return None

    def last(self, call: Callable[[*Arguments], object], *arguments: *Arguments) -> None:
        """Do a step of the end, also after an error of the tracking."""
        try:
            call(*arguments)
        except Exception as error:
            say(f"proctally: a fault of its own at the end ({said(error)})\n")

    def _fault(self, source: Source, error: Exception) -> None:
        if source in self._ends:
            raise error
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End the tracking: the job alone remains."""
        if self.error is not None:
            return
        self.error = error
        self.tracker.marks.ignore()
        self._loop.replace([*self._ends, self.tracker.marks])
        warnings = self.session.warnings
        warnings.append(f"tracking ended before the command did, by a fault of its own ({said(error)})")
        if self.options.verbose:
            warnings.append(_where(error))

    # -- while it runs -------------------------------------------------------------------------------------------

    def timeout(self, now: int) -> int | None:
        """Return the nanoseconds until members are looked for that are not children of this process."""
        return None if self.job.status is None else SOON_NS // 4

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        """Forward signals, reap, stop with the job; return its outcome once nothing is left to wait for."""
        job, clock = self.job, self.machine.monotonic_ns
        signals = job.signals.take()
        child = False
        for signal in signals:
            child |= signal.number == SIGCHLD
            if job.status is not None and signal.number in (SIGINT, SIGTERM, SIGHUP, SIGQUIT):
                # --wait-all: wait no longer than members that got the same signal need to exit
                self._gives_up_ns = min(self._gives_up_ns or clock() + SOON_NS, clock() + SOON_NS)
            job.forward(signal, self._is_member)
        ended = self._reap() if child or job.status is not None else False
        if ended or (self._gives_up_ns is not None and clock() >= self._gives_up_ns):
            return judge(job.status)
        if signals and job.wants_to_stop():
            self.guarded(self.tracker.sample)
            job.stop()
            self.guarded(self.tracker.gap_ended)
        return None

    def _reap(self) -> bool:
        """Reap what ended; True when nothing is left to wait for."""
        remain = self.job.reap(self._zombie, self._reaped)
        if self.job.status is None:
            return False
        if not (self.options.wait_all or self.tracker.fired) or not remain:
            return True
        is_member_left = self.guarded(self.tracker.scan_rest)
        return self._is_only_foreign_left() if self.error is not None else not is_member_left

    def _is_only_foreign_left(self) -> bool:
        """Return True if the children that are left are helper processes of proctally."""
        return all(map(self.tracker.sampler.is_foreign, children(self.machine, self.job.own)))

    def _zombie(self, pid: int) -> Member | ForeignChild | None:
        return self.guarded(self.tracker.sampler.ended, pid)

    def _reaped(self, child: Reaped) -> None:
        sampler = self.tracker.sampler
        for helpers in (self.tracker.host, self.session.exports):
            if helpers is not None:
                helpers.reaped(child.pid, round((child.usage.ru_utime + child.usage.ru_stime) * 1e9))
        if self.error is not None and not sampler.is_foreign(child.pid):
            sampler.reap_unseen(child.usage)
        self.guarded(sampler.reaped, child.seen, exit_or_signal(child.status), child.usage, child.io)

    def _is_member(self, pid: int) -> bool:
        """Return True if a process is of the tree, also one that no scan saw yet."""
        sampler = self.tracker.sampler
        for _ in range(MEMBER_DEPTH):
            if pid in sampler.members:
                return True
            child = pid
            try:
                pid = read_stat(self.machine, pid).ppid
            except UNREADABLE:
                return False
            if pid == self.job.own:
                return not sampler.is_foreign(child)
            if pid <= 1:
                return False
        return False

    def _await_helpers(self) -> None:
        """Reap helpers that exit just after the command; the wall time stays that of the command."""
        ended_ns = self.machine.monotonic_ns()
        if not self.job.has_children():
            return
        from proctally.tracking.helpers import Helpers

        tracker, signals = self.tracker, self.job.signals
        sampler = tracker.sampler
        helpers = Helpers(self.machine, sampler.members, sampler.read_ns)
        while timeout := helpers.timeout(
            pid for pid in children(self.machine, self.job.own) if not sampler.is_foreign(pid)
        ):
            if tracker.ended_ns is None:
                tracker.ended_ns = ended_ns
                self.guarded(sampler.end_time)
            signals.wait([], timeout)
            if any(signal.number != SIGCHLD for signal in signals.take()):
                return
            self._reap()


def children(machine: Machine, pid: int) -> set[int]:
    """Return the children of a process; none where they cannot be read."""
    try:
        return set(read_children(machine, pid))
    except UNREADABLE:
        return set()


def _where(error: Exception) -> str:
    """The lines of our own code that led to a fault; what formats tracebacks may not be loadable by then."""
    frame = error.__traceback__
    lines = []
    while frame is not None:
        lines.append(f"{os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}")
        frame = frame.tb_next
    return "at " + " ".join(lines)


def run(options: Options, command: list[str], environment: dict[str, str]) -> Ended:
    """Run a command and track it; the exit status is its own."""
    try:
        runner = Runner(options, command, environment)
    except OSError as error:
        say(f"proctally: cannot begin: {error.strerror}\n")
        return Ended(CANNOT_RUN)
    return runner.main()
