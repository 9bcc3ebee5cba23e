"""`proctally attach`: track a process tree that runs already. `proctally.track()` does the same from beside it."""

from __future__ import annotations

import os
import resource

from proctally.coverage import of_attach
from proctally.enclosure import Enclosure
from proctally.kernel.child import Signals, libc, pidfd_open, say, signal_name, stopping
from proctally.kernel.machine import Denied, Exhausted, Gone, Machine, host_machine
from proctally.kernel.proc import is_thread, text
from proctally.options import UsageError
from proctally.sampler import Sampler
from proctally.session import Schedule, Session
from proctally.surroundings import NO_DESCRIPTOR, begin, joined
from proctally.verdict import UNHEARD, Outcome
from proctally.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from proctally.options import Options
    from proctally.surroundings import Surroundings
    from proctally.tree import Member

NOTHING = 1
USAGE = 2
CANNOT_WRITE = 1
WITHOUT_PIDFD_NS = 20_000_000  # how often is looked where the kernel does not tell of an end
WATCHED_MEMBERS = 64


def attach(options: Options, pid: int, environment: dict[str, str]) -> int:
    """Track the tree of this process until it ended, or until it is to stop; the exit status."""
    machine = host_machine()
    try:
        return _attach(options, pid, environment, machine)
    except (Exhausted, MemoryError) as error:
        say(f"proctally: cannot go on: {getattr(error, 'strerror', None) or 'out of memory'}\n")
        return NOTHING


class Attachment:
    """One tree that runs already, from the moment on that its totals count to the last line of its record.

    The steps in their order: `take_in`, `count`, `begin`; then `go_on` whenever `timeout` is over or one of `fds` is
    ready, until somebody has an outcome; `end`, and `close`.
    """

    __slots__ = (
        "_around_ns",
        "around",
        "around_every_ns",
        "enclosure",
        "machine",
        "options",
        "pid",
        "root",
        "sampler",
        "schedule",
        "session",
        "watch",
    )

    def __init__(
        self, kind: str, options: Options, environment: dict[str, str], machine: Machine, pid: int, *, descriptors: int
    ) -> None:
        self.options = options
        self.machine = machine
        self.pid = pid
        self.sampler = Sampler(
            machine,
            descriptors=descriptors,
            interval_ns=int(options.interval * 1e9),
            pss_budget=options.pss_budget,
            process_lines=options.process_lines,
        )
        self.session = Session(kind, options, environment, machine, "")
        self.watch = Watch(machine)
        self.enclosure = Enclosure(machine)
        self.around: Surroundings | None = None
        self.around_every_ns = 0  # the machine is read no oftener than this; in samples between it is null
        self._around_ns = 0
        self.root: Member | None = None
        self.schedule = Schedule(self.session.started_ns, self.sampler.interval_ns)

    def take_in(self) -> None:
        """Take in the tree: totals count from now. Raises `Gone` or `Denied`."""
        self.root = self.sampler.attach(self.pid, os.getpid())
        if not self.options.name:
            self.session.name = text(self.root.command)
        self.sampler.emit = self.session.write

    def count(self) -> str | None:
        """Have perf count it, if that is wanted; why it cannot where it was asked for alone."""
        source = self.options.source
        self.sampler.watch = self.watch
        if source in ("auto", "perf"):
            self.watch.attach(libc(), self.sampler.thread_ids)
            self.watch.begin()
        if source == "perf":
            if self.watch.why is not None:
                return self.watch.why
            self.sampler.ledger.only = "perf"
        return None

    def begin(self, command: list[str] | None = None) -> None:
        """Write what stands at the beginning of a record, the first sample included, and open the default one."""
        session, enclosure = self.session, self.enclosure
        enclosure.why = "a process that runs already is not moved into one"
        enclosure.look_around(self.pid)
        self.sampler.enclosure = enclosure
        session.limits = enclosure.limits
        stranger = self.sampler.tree.add_stranger
        session.start_exports(stranger)
        session.announce()
        session.write(session.header(command, self.pid))
        session.surroundings = self.around = begin(self.machine, session.environment, self.options, stranger)
        session.why_no_machine = NO_DESCRIPTOR if self.around is None else None
        self.schedule = Schedule(session.started_ns, self.sampler.interval_ns)
        first = self.sample()
        session.open_default()
        self._export(first)

    def sample(self, *, last: bool = False) -> dict[str, Any]:
        """One sample, into the record."""
        session = self.session
        sample: dict[str, Any] = session.timed("procfs", self.sampler.sample)
        now = self.sampler.read_ns
        if self.around is not None and (last or now >= self._around_ns):
            self._around_ns = now + self.around_every_ns
            sample = session.timed("system", joined, sample, self.around, self.sampler.tree.members)
        session.write(sample)
        self._export(sample)
        return sample

    def _export(self, sample: dict[str, Any]) -> None:
        """Tell the exporter, where there is one, what is not in the record."""
        session, sampler = self.session, self.sampler
        if session.live is not None:
            watch, enclosure, late = sampler.watch, sampler.enclosure, self.schedule.late
            session.tell(session.live.of_tree(sample, sampler, watch, enclosure, self.around, late))

    def _around_next_ns(self) -> int:
        """When the machine is read the next time."""
        return max(self.schedule.next_ns, self._around_ns)

    def timeout(self, now: int) -> int:
        """Nanoseconds until something is to be read."""
        timeout = self.schedule.timeout(now)
        soon = None if self.around is None else self.around.timeout(now, self._around_next_ns())
        return timeout if soon is None else min(timeout, soon)

    @property
    def fds(self) -> list[int]:
        """Descriptors that are ready when there is something to take."""
        return [] if self.around is None else self.around.fds

    def go_on(self, now: int, *, woken: bool = False) -> None:
        """Do what is due. `woken`: something may have happened to the tree."""
        if self.schedule.sample_due(now):
            self.sample()
        elif self.schedule.look_due(now) or woken:
            self.sampler.look()
        if self.around is not None:
            for line in self.around.go_on(now, self._around_next_ns(), self.sampler.tree.members):
                self.session.write(line)

    def has_ended(self) -> bool:
        """Whether its root and everybody else who is known of it have ended."""
        ended = self.root is None or self.root.ended
        return ended and all(member.ended for member in self.sampler.tree.members.values())

    def end(self, outcome: Outcome, since: str = "the attach") -> None:
        """Take the last sample and write the last lines. `since`: what totals count from, in words."""
        session = self.session
        self.sample(last=True)
        session.ended_ns = self.sampler.read_ns
        for line in () if self.around is None else self.around.lines(last=True):
            session.write(line)
        kills, where = self.enclosure.kills()
        if kills:
            outcome.evidence += f"; {where}'s oom_kill count rose by {kills}"
        coverage = of_attach(self.sampler, self.watch, self.options.interval, since)
        session.end(self.sampler, self.schedule, outcome, coverage)

    def close(self) -> None:
        """Give everything back, and say what is to be said."""
        self.session.close()
        if self.around is not None:
            self.around.close()
        self.watch.close()
        self.sampler.close()
        self.machine.close()


def _attach(options: Options, pid: int, environment: dict[str, str], machine: Machine) -> int:
    signals = Signals(libc(), stopping())
    descriptors = raise_descriptors()
    root_fd = pidfd_open(pid)
    if is_thread(machine, pid):
        say(f"proctally: {pid} is a thread; give the id of its process\n")
        return NOTHING
    attachment = Attachment("attach", options, environment, machine, pid, descriptors=descriptors)
    try:
        attachment.take_in()
    except Gone:
        say(f"proctally: there is no process {pid}\n")
        return NOTHING
    except Denied:
        say(f"proctally: nothing of process {pid} can be read by this user\n")
        return NOTHING
    try:
        attachment.session.open_outlets(pid)
    except UsageError as error:
        say(f"proctally: {error}\n")
        return USAGE
    try:
        attachment.session.open_explicit(pid)
    except (OSError, ValueError) as error:
        say(f"proctally: --output {options.output}: {getattr(error, 'strerror', None) or error}\n")
        return CANNOT_WRITE
    refused = attachment.count()
    if refused is not None:
        attachment.session.discard()
        say(f"proctally: --source perf: {refused}\n")
        return NOTHING
    attachment.begin()
    attachment.end(_follow(attachment, signals, root_fd))
    attachment.close()
    return NOTHING if attachment.session.cannot_serve() else 0


def raise_descriptors() -> int:
    """Have as many descriptors as this process may; how many of them are for the processes of trees."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass
    return max(0, min(soft if soft != resource.RLIM_INFINITY else 65536, 65536) - 64 - WATCHED_MEMBERS)


def _follow(attachment: Attachment, signals: Signals, root_fd: int | None) -> Outcome:
    """Sample until everything known has ended, the time is over, or a signal asks to stop."""
    session, root = attachment.session, attachment.root
    clock = attachment.machine.monotonic_ns
    duration = session.options.duration
    deadline = None if duration is None else session.started_ns + int(duration * 1e9)
    assert root is not None
    watched = {root: root_fd} if root_fd is not None else {}
    while True:
        now = clock()
        timeout = attachment.timeout(now)
        if deadline is not None:
            timeout = min(timeout, max(0, deadline - now))
        if not watched:
            timeout = min(timeout, WITHOUT_PIDFD_NS)
        for signal in signals.wait(timeout, [*watched.values(), *attachment.fds]):
            return Outcome("ended", f"stopped by signal {signal.number} ({signal_name(signal.number)})")
        now = clock()
        if deadline is not None and now >= deadline:
            return Outcome("ended", f"the duration of {duration:g} s is over")
        if session.unheard():
            return Outcome("ended", UNHEARD)
        attachment.go_on(now, woken=signals.ready or not watched)
        if attachment.has_ended():
            return Outcome("ended", "its root and all known members ended")
        _watch(watched, attachment.sampler)


def _watch(watched: dict[Member, int], sampler: Sampler) -> None:
    """Have the kernel tell of the end of the members that remain, once the root has ended."""
    for member in [member for member in watched if member.ended]:
        os.close(watched.pop(member))
    if not watched:
        for member in list(sampler.tree.members.values())[:WATCHED_MEMBERS]:
            if not member.ended and (fd := pidfd_open(member.pid)) is not None:
                watched[member] = fd
