"""`proctally run`: start a command, track it, pass on its exit status."""

from __future__ import annotations

import os
import resource

from proctally import coverage
from proctally.enclosure import Enclosure
from proctally.ending import Ending
from proctally.job import CannotStart, Job, Reaped, as_started, exit_or_signal, exit_status
from proctally.kernel.child import SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, libc, say
from proctally.kernel.machine import UNREADABLE, host_machine
from proctally.kernel.proc import read_children, read_stat
from proctally.ledger import CPU
from proctally.marks import VARIABLE, Marks
from proctally.options import NOT_PASSED_ON, UsageError
from proctally.record import mask
from proctally.sampler import Sampler
from proctally.session import Schedule, Session
from proctally.verdict import judge
from proctally.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from proctally.options import Options
    from proctally.surroundings import Surroundings
    from proctally.verdict import Outcome

CANNOT_RUN = 125
TIMED_OUT = 124
SOON_NS = 200_000_000  # how often is looked, with --wait-all, for members that are not children of ours
MEMBER_DEPTH = 64
NOT_YET = "the job has just begun"
LAUNCHER_SLACK = 1 << 19  # the held child makes a few pages of its own before it execs


class Runner:
    """One run from its start to its summary."""

    def __init__(self, options: Options, command: list[str], environment: dict[str, str]) -> None:
        self.options = options
        self.command = command
        self.failed = False
        self.machine = host_machine()
        self.library = libc()
        self.job = Job(self.library)
        self.watch = Watch(self.machine)
        self.enclosure = Enclosure(self.machine)
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
        self.sampler.pss_wanted_above = options.max_memory
        self.marks = Marks(self._used, self.machine.time)
        self._looked_around = False
        self._schedule: Schedule | None = None
        self.surroundings: Surroundings | None = None  # from the first look on: a job of a few ms needs none of it
        self.ending = Ending(options, self.job, self.sampler, self.enclosure)
        self.strangers = (
            self._children()
        )  # those it had before (a shell that execs us leaves its own): none of the tree
        for pid in self.strangers:
            self.sampler.tree.add_stranger(pid)

    def _children(self) -> set[int]:
        """The children of this process."""
        try:
            return set(read_children(self.machine, self.job.own))
        except UNREADABLE:
            return set()

    def main(self) -> int:
        """The exit status."""
        job, session = self.job, self.session
        try:
            pid = job.hold(self.command, self._job_environment())
        except OSError as error:
            say(f"proctally: cannot start a process: {error.strerror}\n")
            return CANNOT_RUN
        try:
            session.open_outlets(pid)
        except UsageError as error:
            job.give_up()
            say(f"proctally: {error}\n")
            return CANNOT_RUN
        try:
            session.open_explicit(pid)
        except (OSError, ValueError) as error:
            job.give_up()
            say(f"proctally: --output {self.options.output}: {getattr(error, 'strerror', None) or error}\n")
            return CANNOT_RUN
        self._try(self._open_sources, pid)
        for source, why in (("perf", self.watch.why), ("cgroup", self.enclosure.why)):
            if self.options.source == source and why is not None:
                job.give_up()
                session.discard()
                self.enclosure.close()
                say(f"proctally: --source {source}: {why}\n")
                return CANNOT_RUN
        self._try(self.sampler.start, pid, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + LAUNCHER_SLACK)
        session.start()
        self.sampler.started_ns = self.marks.started_ns = session.started_ns
        self.ending.begin(session.started_ns)
        try:
            job.release()
        except CannotStart as error:
            session.discard()
            self.enclosure.close()
            say(f"proctally: {self.command[0]}: {error.reason}\n")
            return error.status
        self._track(pid)
        fired = self.ending.fired
        if fired is not None and fired[0] == "timeout":
            return TIMED_OUT
        return exit_status(SIGKILL if job.status is None else job.status)

    def _job_environment(self) -> dict[str, str]:
        environment = as_started(self.session.environment)
        passed_on = {
            key: value
            for key, value in environment.items()
            if not (key.startswith("PROCTALLY_") and key[10:] in NOT_PASSED_ON)
        }
        given = {"PROCTALLY_RUN_ID": self.session.run_id}
        if self.marks.path is not None:
            given[VARIABLE] = self.marks.path
        return passed_on | given

    def _open_sources(self, pid: int) -> None:
        """Have the kernel count the held job, from its exec on."""
        options, watch, enclosure = self.options, self.watch, self.enclosure
        if options.source in ("cgroup", "perf"):
            self.sampler.ledger.only = options.source
        self.sampler.watch = watch
        self.sampler.enclosure = enclosure
        # now: of a process that has ended v1 says nothing
        enclosure.look_around(pid)
        self.session.limits = enclosure.limits
        if options.source in ("auto", "perf"):
            name = os.fsencode(os.path.basename(self.command[0]))[:15]
            commands, counters = options.commands, options.counters
            watch.open(self.library, pid, name, commands=commands, counters=counters, cpuset=enclosure.cpus)
        # moving a process takes 10 ms and more: by itself only where nothing else sees what nobody waits for
        if options.cgroup or options.source == "cgroup" or (options.source == "auto" and watch.why is not None):
            enclosure.enclose(pid, self.job.own)
            if enclosure.own is not None:
                enclosure.look_around(pid)

    def _track(self, pid: int) -> None:
        """From the exec to the last line. Nothing that goes wrong here reaches the job, or keeps its end from us."""
        session = self.session
        self._schedule = schedule = Schedule(session.started_ns, int(self.options.interval * 1e9))
        self._try(self.watch.begin)
        self._try(session.start_exports, self.sampler.tree.add_stranger)
        session.write(session.header(mask(self.command), pid))
        if self.options.format == "csv":
            self._try(self._look_around)
        first = self._sample()
        session.open_default()
        self._try(self._export, first)
        self._follow(schedule)
        if self.enclosure.own is not None:
            self._try(self.sampler.look)  # those reaped last are settled
            self._try(self.enclosure.compare, self.sampler.ledger.procfs_cpu())
        self._sample()
        self._hear(self.marks.last)
        self._try(self._last_lines)
        self._tried(self._take_last)
        self._tried(self._end, schedule)
        self._tried(session.close)
        if self.surroundings is not None:
            self._tried(self.surroundings.close)
        self._tried(self.watch.close)
        self._tried(self.enclosure.close)
        self._tried(self.marks.close)

    def _take_last(self) -> None:
        self.watch.take(last=True)
        if self.failed:
            # only what the kernel itself sums up is whole
            ledger = self.sampler.ledger
            ledger.only = ledger.only or "rusage"
            self.sampler.read_counters()
            self.sampler.best[CPU] = ledger.total()[CPU]

    def _try(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Do something of the tracking. Whatever goes wrong with it ends the tracking and never reaches the job."""
        if self.failed:
            return None
        try:
            return call(*arguments, **named)
        except Exception as error:
            self.failed = True
            self.session.warnings.append(
                f"tracking ended before the command did, by a fault of its own ({_said(error)})"
            )
            if self.options.verbose:
                self.session.warnings.append(_where(error))
            return None

    def _tried(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Do something of the end, also when tracking has failed before."""
        try:
            call(*arguments)
        except Exception as error:
            say(f"proctally: a fault of its own at the end ({_said(error)})\n")

    def _sample(self) -> dict[str, Any] | None:
        timed = self.session.timed
        self._try(timed, "cgroup", self.enclosure.check, self.sampler.tree.members)
        sample: dict[str, Any] | None = self._try(self._whole_sample)
        self._try(timed, "perf", self.watch.take)
        if sample is not None:
            self.session.write(sample)
            self.ending.check_memory(self.machine.monotonic_ns())
            self._try(self._export, sample)
        return sample

    def _export(self, sample: dict[str, Any] | None) -> None:
        """Tell the exporter, where there is one, what is not in the record."""
        live, schedule = self.session.live, self._schedule
        if live is not None and schedule is not None and sample is not None:
            lines = live.of_tree(sample, self.sampler, self.watch, self.enclosure, self.surroundings, schedule.late)
            self.session.tell(lines)

    def _whole_sample(self) -> dict[str, Any]:
        sample: dict[str, Any] = self.session.timed("procfs", self.sampler.sample)
        if self.surroundings is None:
            return sample if self._looked_around or self.options.no_gpu else sample | {"gpus_skipped": NOT_YET}
        from proctally.surroundings import joined

        whole: dict[str, Any] = self.session.timed(
            "system", joined, sample, self.surroundings, self.sampler.tree.members
        )
        return whole

    def _look_around(self) -> None:
        """Begin to read the machine: by now the job runs, and what it takes to begin with is not in its way."""
        from proctally.surroundings import NO_DESCRIPTOR, begin

        self._looked_around = True
        stranger = self.sampler.tree.add_stranger
        self.surroundings = begin(self.machine, self.session.environment, self.options, stranger)
        self.session.surroundings = self.surroundings
        if self.surroundings is None:
            self.session.why_no_machine = NO_DESCRIPTOR
            return
        for line in self.surroundings.lines():
            self.session.write(line)

    def _last_lines(self) -> None:
        if self.surroundings is not None:
            for line in self.surroundings.lines(last=True):
                self.session.write(line)

    # -- while it runs -------------------------------------------------------------------------------------------

    def _follow(self, schedule: Schedule) -> None:
        job, sampler, clock = self.job, self.sampler, self.machine.monotonic_ns
        last: int | None = None
        while True:
            signals = job.wait(self._timeout(schedule), self._descriptors())
            if job.signals.ready:
                self._try(self.watch.take)
                self._hear(self.marks.take)
            child = False
            for signal in signals:
                child |= signal.number == SIGCHLD
                if job.status is not None and signal.number in (SIGINT, SIGTERM, SIGHUP, SIGQUIT):
                    # --wait-all: whoever is told to end waits no longer than what was told the same needs to end
                    last = min(last or clock() + SOON_NS, clock() + SOON_NS)
                job.forward(signal, self._is_member)
            ended = self._reap() if child or job.status is not None else False
            if ended or (last is not None and clock() >= last):
                return
            if self.ending.act(clock()):
                return
            if signals and job.wants_to_stop():
                self._sample()
                job.stop()
                self._try(sampler.gap_ended)
                if self.surroundings is not None:
                    self.surroundings.gap_ended()
                schedule.gap_ended(clock())
                continue
            now = clock()
            if schedule.sample_due(now):
                self._sample()
            elif schedule.look_due(now):
                self._try(sampler.look)
            elif not self._looked_around:
                continue  # woken before the first look
            self._try(self._go_on, schedule, now)

    def _descriptors(self) -> list[int]:
        around = [] if self.surroundings is None else self.surroundings.fds
        return self.watch.fds + around + self.marks.fds(self.machine.monotonic_ns())

    def _hear(self, take: Callable[[int], list[dict[str, Any]]]) -> None:
        """What the job marked. When tracking has failed it is read all the same, so that nobody waits for us."""
        now = self.machine.monotonic_ns()
        if self.failed:
            self.marks.drain(now)
        for line in self._try(take, now) or ():
            self.session.write(line)

    def _used(self) -> float | None:
        """CPU seconds of the tree by now."""
        self.sampler.look()
        return self.sampler.cpu_seconds()

    def _go_on(self, schedule: Schedule, now: int) -> None:
        if not self._looked_around:
            self._look_around()
        elif self.surroundings is not None:
            for line in self.surroundings.go_on(now, schedule.next_ns, self.sampler.tree.members):
                self.session.write(line)

    def _timeout(self, schedule: Schedule) -> int:
        """Nanoseconds until something is to be done."""
        now = self.machine.monotonic_ns()
        timeout = schedule.timeout(now)
        due = self.ending.due()
        if due is not None:
            timeout = min(timeout, max(0, due - now))
        if self.surroundings is not None:
            soon = self.surroundings.timeout(now, schedule.next_ns)
            timeout = timeout if soon is None else min(timeout, soon)
        deaf = self.marks.timeout(now)
        timeout = timeout if deaf is None else min(timeout, deaf)
        return timeout if self.job.status is None else min(timeout, SOON_NS // 4)

    def _reap(self) -> bool:
        """Reap what ended; True when nothing is left to wait for."""
        children = self.job.reap(self._zombie, self._reaped)
        if self.job.status is None:
            return False
        if not (self.options.wait_all or self.ending.fired) or not children:
            return True
        self._try(self.sampler.look)
        return self._only_strangers() if self.failed else not self.sampler.tree.members

    def _only_strangers(self) -> bool:
        """Whether the children that are left are none of the tree: helper processes of ours."""
        return all(map(self.sampler.tree.is_stranger, self._children()))

    def _zombie(self, pid: int) -> Any:
        return self._try(self.sampler.ended, pid)

    def _reaped(self, child: Reaped) -> None:
        for helpers in (self.surroundings, self.session.exports):
            if helpers is not None:
                helpers.reaped(child.pid, round((child.usage.ru_utime + child.usage.ru_stime) * 1e9))
        if self.failed and not self.sampler.tree.is_stranger(child.pid):
            self.sampler.ledger.reap(child.usage)
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

    def _end(self, schedule: Schedule) -> None:
        if self.options.cgroup and self.enclosure.own is None and self.enclosure.why is not None:
            self.session.warnings.append(f"--cgroup: it had no cgroup of its own: {self.enclosure.why}")
        if self.marks.dropped:
            self.session.warnings.append(f"{self.marks.dropped} marks of the job were no marks, or too many")
        program = os.path.basename(self.command[0])
        client = program if program in coverage.CLIENTS else None
        if client is not None:
            self.session.warnings.append(f"{client} is only a client: what it has others do is not counted")
        said = coverage.of_run(
            self.sampler,
            self.watch,
            self.enclosure,
            client=client,
            subreaper=self.job.subreaper,
            strangers=len(self.strangers),
        )
        if self.failed:
            said = {what: f"{words}; tracking ended before, by a fault of its own" for what, words in said.items()}
            said = {what: words.replace("complete;", "incomplete;") for what, words in said.items()}
        self.session.end(self.sampler, schedule, self._outcome(), said, whole=not self.failed)

    def _outcome(self) -> Outcome:
        kills, where = self.enclosure.kills()
        memory = ""
        if kills:
            from proctally.summary import size

            limit = self.enclosure.limits.memory_bytes
            memory = "" if limit is None else f" at a limit of {size(limit)}"
            memory += f", last sample {size(self.sampler.rss_sampled)}"
        return judge(self.job.status, fired=self.ending.fired, kills=kills, kills_where=where, memory=memory)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _where(error: Exception) -> str:
    """The lines of our own code that led to a fault; what formats tracebacks may not be loadable by then."""
    frame = error.__traceback__
    lines = []
    while frame is not None:
        lines.append(f"{os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}")
        frame = frame.tb_next
    return "at " + " ".join(lines)


def run(options: Options, command: list[str], environment: dict[str, str]) -> int:
    """Run a command and track it; the exit status is its own."""
    try:
        runner = Runner(options, command, environment)
    except OSError as error:
        say(f"proctally: cannot begin: {error.strerror}\n")
        return CANNOT_RUN
    return runner.main()
