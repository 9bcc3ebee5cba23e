"""`proctally run`: start a command, track it, pass on its exit status."""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE, CannotStart
from proctally.linux.c_library import libc
from proctally.linux.child import SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, initial_environment, reap
from proctally.linux.descriptors import address_space
from proctally.linux.machine import host_machine
from proctally.linux.proc import read_stat
from proctally.text.escape import argument_text
from proctally.text.secrets import mask
from proctally.text.terminal import say_line
from proctally.tracking.config import NOT_PASSED_ON
from proctally.tracking.job import EMPTY, Job, Reaped, exit_or_signal, exit_status
from proctally.tracking.loop import Loop, Source
from proctally.tracking.marks import VARIABLE
from proctally.tracking.run_tracker import Rings, RunTracker, children
from proctally.tracking.session import Ended, Session
from proctally.tracking.tracker import said
from proctally.tracking.verdict import judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar, TypeVarTuple

    from proctally.linux.child import Signal
    from proctally.tracking.config import Options
    from proctally.tracking.verdict import Outcome
    from proctally.tree.lifecycle import ForeignChild
    from proctally.tree.member import Member

    Arguments = TypeVarTuple("Arguments")
    Result = TypeVar("Result")

CANNOT_RUN = 125
TIMED_OUT = 124
SOON_NS = 200_000_000  # maximum wait, with --wait-all, for the exit of members that are not children of ours
AGAIN_NS = 5_000_000  # interval of attempts to send a signal that does not fit into the job's queue
MOST_UNSENT = 1 << 16  # of these signals; the kernel keeps no more of them, by default
MEMBER_DEPTH = 64
RESERVE_BYTES = 1 << 21  # untouched address space, freed for the end when memory is short: above an arena of Python


class Runner(Source):
    """The job from its start to its end: signals, reaping, its exit status.

    Everything else is tracking, reached through `guarded` and `last`: an error there never reaches the job.
    """

    def __init__(self, options: Options, command: list[str], environment: dict[str, str]) -> None:
        self.options = options
        self.command = command
        self.error: Exception | None = None  # of proctally, after which nothing is tracked
        self._reserve = bytes(RESERVE_BYTES)
        self.machine = machine = host_machine()
        self.job = Job(libc(), machine, relay=os.getppid() if options.repeat else 0)
        name = argument_text(os.path.basename(command[0])) or "run"
        self.session = Session("run", options, environment, machine, name)
        self.tracker = RunTracker(self.session, self.job, command)
        ends = self.tracker.termination
        self._ends = (self,) if ends is None else (self, ends)
        self._loop = Loop(machine.monotonic_ns, self.job.signals, self._ends, urgent=self._ends, fault=self._fault)
        self._gives_up_ns: int | None = None  # moment at which --wait-all ends after a signal
        self._unsent: list[Signal] = []
        self._is_forwarding = False
        self._has_child_ended = False

    def main(self) -> Ended:
        """Track the command to its end."""
        job, tracker = self.job, self.tracker
        try:
            ended = self._start()
        except Exception as error:
            self._reserve = b""
            if job.pid:
                self.last(job.give_up)
                self.last(self._discard)
            return _cannot_begin(error)
        if ended is not None:
            return ended
        self._track(job.pid)
        if tracker.fired is not None and tracker.fired[0] == "timeout":
            return self.session.ended(TIMED_OUT)
        return self.session.ended(exit_status(SIGKILL if job.status is None else job.status))

    def _start(self) -> Ended | None:
        """Start the command; return None, or the end of a run that cannot start."""
        job, session, tracker = self.job, self.session, self.tracker
        try:
            pid = job.hold(self.command, session.environment, self._job_environment())
        except OSError as error:
            say_line(f"cannot start a process: {error.strerror}")
            return Ended(CANNOT_RUN)
        try:
            session.open(pid)
        except CannotStart as error:
            job.give_up()
            say_line(str(error))
            return Ended(CANNOT_RUN)
        self.guarded(tracker.open_sources, pid)
        refused = tracker.refused()
        if refused is not None:
            job.give_up()
            self._discard()
            say_line(refused)
            return Ended(CANNOT_RUN)
        job.wait_until_held()
        self.guarded(tracker.sampler.start, pid)
        session.start()
        tracker.started()
        try:
            job.release()
        except CannotStart as error:
            self._discard()
            say_line(f"{self.command[0] or EMPTY}: {error.reason}")
            return Ended(error.exit_status)
        return None

    def _discard(self) -> None:
        self.session.discard()
        self.tracker.enclosure.close()

    def _job_environment(self) -> list[bytes]:
        given = {"PROCTALLY_RUN_ID": self.session.run_id}
        if self.tracker.marks.path is not None and self.machine.procfs_missing is None:
            given[VARIABLE] = self.tracker.marks.path
        dropped = {name.encode() for name in (*given, *(f"PROCTALLY_{name}" for name in NOT_PASSED_ON))}
        passed_on = [entry for entry in initial_environment() if entry.partition(b"=")[0] not in dropped]
        return passed_on + [f"{name}={value}".encode() for name, value in given.items()]

    def _track(self, pid: int) -> None:
        """Track from the exec to the last line."""
        session, tracker = self.session, self.tracker
        self.machine.attend = self._attend
        tracker.enclosure.limits.address_space_bytes = address_space()
        self.always(lambda: session.write(session.header(mask(self.command), pid, tracker.enclosure.limits)))
        first = self.guarded(tracker.start)
        self.always(session.open_default)
        if first is not None:
            self.guarded(tracker.export, first)
        if self.error is None:
            self._loop.replace([Rings(tracker.perf), tracker.marks, *self._ends, tracker])
        try:
            self._loop.run()
        except Exception as error:  # in signals or reaping: only the exit status of the job is left to do
            self._fail(error)
            self.last(self._await_job)
        else:
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
        return self.always(call, *arguments) if self.error is None else None

    def always(self, call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result | None:
        """Do the same also after an error of the tracking."""
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
            say_line(f"tracking: ended by a fault of its own at the end ({said(error)})")

    def _fault(self, source: Source, error: Exception) -> None:
        if source in self._ends:
            raise error
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End the tracking: the job alone remains."""
        self._reserve = b""
        if self.error is not None:
            return
        self.error = error
        self.tracker.marks.ignore()
        self._loop.replace([*self._ends, self.tracker.marks])
        warnings = self.session.warnings
        warnings.append(f"tracking: ended before the command did, by a fault of its own ({said(error)})")
        if self.options.verbose:
            warnings.append(_where(error))

    # -- while it runs -------------------------------------------------------------------------------------------

    def timeout(self, now: int) -> int | None:
        """Return the nanoseconds until members are looked for that are not children of this process."""
        if self.job.status is None:
            return 0 if self._has_child_ended else AGAIN_NS if self._unsent else None
        return SOON_NS // 4

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        """Forward signals, reap, stop with the job; return its outcome once nothing is left to wait for."""
        job, clock = self.job, self.machine.monotonic_ns
        signals = job.signals.take()
        for signal in signals:
            if job.status is not None and signal.number in (SIGINT, SIGTERM, SIGHUP, SIGQUIT):
                # --wait-all: wait no longer than members that got the same signal need to exit
                self._gives_up_ns = min(self._gives_up_ns or clock() + SOON_NS, clock() + SOON_NS)
        self._forward(signals)
        child, self._has_child_ended = self._has_child_ended, False
        ended = self._reap() if child or job.status is not None else False
        if ended or (self._gives_up_ns is not None and clock() >= self._gives_up_ns):
            return judge(job.status)
        if (signals or child) and job.wants_to_stop():
            self.guarded(self.tracker.sample)
            self._attend()
            if job.wants_to_stop():  # what came in the meantime can have continued it
                job.stop()
            self.guarded(self.tracker.gap_ended)
        return None

    def _attend(self) -> None:
        """Forward what has come, in the middle of a long step; to reap would change what that step looks at."""
        if self.job.status is None and not self._is_forwarding:
            self.job.signals.look()
            self._forward(self.job.signals.take())

    def _forward(self, signals: list[Signal]) -> None:
        """Forward signals, and those for which there was no room: they stay in their order, and no other waits."""
        if not (signals or self._unsent):
            return
        self._has_child_ended |= any(signal.number == SIGCHLD for signal in signals)
        members: dict[int, bool] = {}  # by sender: of a flood most are of one

        def is_member(pid: int) -> bool:
            if pid not in members:
                members[pid] = self._is_member(pid)
            return members[pid]

        unsent: list[Signal] = []
        self._is_forwarding = True  # to look at a sender reads files
        for signal in self._unsent + signals:
            if (unsent and signal.value is not None) or not self.job.forward(signal, is_member):
                unsent.append(signal)
        self._unsent, self._is_forwarding = unsent[:MOST_UNSENT], False

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

    def _await_job(self) -> None:
        if self.job.status is None:
            self.job.status, usage = reap(self.job.pid)
            self.tracker.sampler.reap_unseen(usage)

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
    except Exception as error:
        return _cannot_begin(error)
    return runner.main()


def _cannot_begin(error: Exception) -> Ended:
    say_line(f"cannot begin: {getattr(error, 'strerror', None) or said(error)}")
    return Ended(CANNOT_RUN)
