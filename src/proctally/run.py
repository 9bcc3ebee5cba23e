"""`proctally run`: start a command, track it, pass on its exit status."""

from __future__ import annotations

import os
import resource

from proctally.job import CannotStart, Job, Reaped, as_started, exit_or_signal, exit_status
from proctally.kernel.child import SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, libc, say, signal_name
from proctally.kernel.machine import UNREADABLE, host_machine
from proctally.kernel.proc import read_children, read_stat
from proctally.options import NOT_PASSED_ON
from proctally.record import mask
from proctally.sampler import Sampler
from proctally.session import Outcome, Schedule, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from proctally.options import Options

CANNOT_RUN = 125
SOON_NS = 200_000_000  # how often is looked, with --wait-all, for members that are not children of ours
MEMBER_DEPTH = 64
# commands whose work is done by a daemon, or on another machine
CLIENTS = ("docker", "srun", "sbatch", "qsub", "ssh", "kubectl", "systemd-run")
LAUNCHER_SLACK = 1 << 19  # the held child makes a few pages of its own before it execs


class Runner:
    """One run from its start to its summary."""

    def __init__(self, options: Options, command: list[str], environment: dict[str, str]) -> None:
        self.options = options
        self.command = command
        self.failed = False
        self.machine = host_machine()
        self.job = Job(libc())
        self.session = Session("run", options, environment, self.machine, os.path.basename(command[0]))
        self.sampler = Sampler(
            self.machine,
            own=self.job.own,
            descriptors=self.job.descriptors(),
            interval_ns=int(options.interval * 1e9),
            pss_budget=options.pss_budget,
            process_lines=options.process_lines,
            emit=self.session.write,
        )
        self.strangers = self._children_before()
        for pid in self.strangers:
            self.sampler.tree.add_stranger(pid)

    def _children_before(self) -> set[int]:
        """Children that this process had before (a shell that execs us leaves its own): none of the tree."""
        try:
            return set(read_children(self.machine, self.job.own))
        except UNREADABLE:
            return set()

    def main(self) -> int:
        """The exit status."""
        job, session = self.job, self.session
        job_environment = as_started(session.environment)
        job_environment = {
            key: value
            for key, value in job_environment.items()
            if not (key.startswith("PROCTALLY_") and key[10:] in NOT_PASSED_ON)
        }
        job_environment["PROCTALLY_RUN_ID"] = session.run_id
        try:
            pid = job.hold(self.command, job_environment)
        except OSError as error:
            say(f"proctally: cannot start a process: {error.strerror}\n")
            return CANNOT_RUN
        try:
            session.open_explicit(pid)
        except (OSError, ValueError) as error:
            job.give_up()
            say(f"proctally: --output {self.options.output}: {getattr(error, 'strerror', None) or error}\n")
            return CANNOT_RUN
        self._try(self.sampler.start, pid, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + LAUNCHER_SLACK)
        session.start()
        try:
            job.release()
        except CannotStart as error:
            session.discard()
            say(f"proctally: {self.command[0]}: {error.reason}\n")
            return error.status
        schedule = Schedule(session.started_ns, int(self.options.interval * 1e9))
        session.write(session.header(mask(self.command), pid))
        self._sample()
        session.open_default()
        self._follow(schedule)
        self._sample()
        assert job.status is not None
        self._try(self._end, schedule, self._outcome(job.status))
        try:
            session.close()
        except Exception as error:
            say(f"proctally: the summary could not be shown ({type(error).__name__}: {error})\n")
        return exit_status(job.status)

    def _end(self, schedule: Schedule, outcome: Outcome) -> None:
        self.session.end(self.sampler, schedule, outcome, self._coverage())

    def _try(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Do something of the tracking. Whatever goes wrong with it ends the tracking and never reaches the job."""
        if self.failed:
            return None
        try:
            return call(*arguments)
        except Exception as error:
            self.failed = True
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            self.session.warnings.append(f"tracking ended before the command did, by a fault of its own ({reason})")
            if self.options.verbose:
                from traceback import format_exc

                self.session.warnings.append(format_exc())
            return None

    def _sample(self) -> None:
        sample = self._try(self.sampler.sample)
        if sample is not None:
            self.session.write(sample)

    # -- while it runs -------------------------------------------------------------------------------------------

    def _follow(self, schedule: Schedule) -> None:
        job, sampler, clock = self.job, self.sampler, self.machine.monotonic_ns
        ended = False
        last: int | None = None
        while not ended:
            timeout = schedule.timeout(clock())
            signals = job.wait(min(timeout, SOON_NS // 4) if job.status is not None else timeout)
            child = False
            for signal in signals:
                child |= signal.number == SIGCHLD
                if job.status is not None and signal.number in (SIGINT, SIGTERM, SIGHUP, SIGQUIT):
                    # --wait-all: whoever is told to end waits no longer than what was told the same needs to end
                    last = min(last or clock() + SOON_NS, clock() + SOON_NS)
                job.forward(signal, self._is_member)
            if child or job.status is not None:
                ended = self._reap()
            if ended or (last is not None and clock() >= last):
                return
            if signals and job.wants_to_stop():
                self._sample()
                job.stop()
                self._try(sampler.gap_ended)
                schedule.gap_ended(clock())
                continue
            now = clock()
            if schedule.sample_due(now):
                self._sample()
            elif schedule.look_due(now):
                self._try(sampler.look)

    def _reap(self) -> bool:
        """Reap what ended; True when nothing is left to wait for."""
        children = self.job.reap(self._zombie, self._reaped)
        if self.job.status is None:
            return False
        if not self.options.wait_all or not children:
            return True
        self._try(self.sampler.look)
        return not self.sampler.tree.members and not self.failed

    def _zombie(self, pid: int) -> Any:
        return self._try(self.sampler.ended, pid)

    def _reaped(self, child: Reaped) -> None:
        self._try(self.sampler.reaped, child.seen, exit_or_signal(child.status), child.usage, child.io)

    def _is_member(self, pid: int) -> bool:
        """Whether a process is of the tree, also one that was not seen yet."""
        for _ in range(MEMBER_DEPTH):
            if pid in self.sampler.tree.members:
                return True
            child = pid
            try:
                pid = read_stat(self.machine, pid).ppid
            except UNREADABLE:
                return False
            if pid == self.job.own:
                return not self.sampler.tree.is_stranger(child)
            if pid <= 1:
                return False
        return False

    # -- the end -------------------------------------------------------------------------------------------------

    def _outcome(self, status: int) -> Outcome:
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            core = ", core dumped" if os.WCOREDUMP(status) else ""
            return Outcome("killed", f"killed by signal {number} ({signal_name(number)}){core}", None, number)
        code = os.WEXITSTATUS(status)
        return Outcome("ok" if code == 0 else "failed", f"exit status {code}", code)

    def _coverage(self) -> dict[str, str]:
        """What each total may not contain, in words."""
        sampler, job = self.sampler, self.job
        cpu = []
        ignorers = len(sampler.ignores_children)
        if ignorers:
            cpu.append(f"what children of {ignorers} processes that ignore SIGCHLD used after they were last seen")
        else:
            cpu.append("children that nobody waits for (SIGCHLD ignored, or set to be), of which none was seen")
        client = os.path.basename(self.command[0])
        if client in CLIENTS:
            cpu.append(f"what {client} has others do: it is only their client")
            self.session.warnings.append(f"{client} is only a client: what it has others do is not counted")
        if not job.subreaper:
            cpu.append("orphans after they were last seen: becoming a subreaper was refused")
        coverage = {"cpu": "all but " + "; ".join(cpu)}
        foreign = []
        if self.strangers:
            foreign.append(f"{len(self.strangers)} children from before the start are left out, not all they leave")
        if job.own == 1:
            foreign.append("as process 1, strangers that were adopted may be counted")
        if foreign:
            coverage["cpu"] += ". " + "; ".join(foreign)
        io = []
        if sampler.io_denied:
            io.append(f"{len(sampler.io_denied)} processes whose io is denied, until they were reaped")
        io.append(cpu[0])
        coverage["io"] = "all but " + "; ".join(io) if sampler.ledger.io_known else "not available from this kernel"
        coverage["memory"] = sampler.memory_coverage()
        coverage["processes"] = "seen or reaped: those of less than an interval that others waited for are missing"
        return coverage


def run(options: Options, command: list[str], environment: dict[str, str]) -> int:
    """Run a command and track it; the exit status is its own."""
    try:
        runner = Runner(options, command, environment)
    except OSError as error:
        say(f"proctally: cannot begin: {error.strerror}\n")
        return CANNOT_RUN
    return runner.main()
