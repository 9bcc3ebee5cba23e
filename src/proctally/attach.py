"""`proctally attach`: track a process tree that runs already."""

from __future__ import annotations

import os
import resource

from proctally.coverage import of_attach
from proctally.enclosure import Enclosure
from proctally.kernel.child import Signals, libc, pidfd_open, say, signal_name, stopping
from proctally.kernel.machine import Denied, Exhausted, Gone, Machine, host_machine
from proctally.kernel.proc import is_thread, text
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


def _attach(options: Options, pid: int, environment: dict[str, str], machine: Machine) -> int:
    signals = Signals(libc(), stopping())
    sampler = Sampler(
        machine,
        descriptors=_descriptors(),
        interval_ns=int(options.interval * 1e9),
        pss_budget=options.pss_budget,
        process_lines=options.process_lines,
    )
    root_fd = pidfd_open(pid)
    if is_thread(machine, pid):
        say(f"proctally: {pid} is a thread; give the id of its process\n")
        return NOTHING
    session = Session("attach", options, environment, machine, "")
    try:
        root = sampler.attach(pid, os.getpid())
    except Gone:
        say(f"proctally: there is no process {pid}\n")
        return NOTHING
    except Denied:
        say(f"proctally: nothing of process {pid} can be read by this user\n")
        return NOTHING
    if not options.name:
        session.name = text(root.command)
    sampler.emit = session.write
    try:
        session.open_explicit(pid)
    except (OSError, ValueError) as error:
        say(f"proctally: --output {options.output}: {getattr(error, 'strerror', None) or error}\n")
        return CANNOT_WRITE
    watch = Watch(machine)
    sampler.watch = watch
    if options.source in ("auto", "perf"):
        watch.attach(libc(), sampler.thread_ids)
        watch.begin()
    if options.source == "perf":
        if watch.why is not None:
            session.discard()
            say(f"proctally: --source perf: {watch.why}\n")
            return NOTHING
        sampler.ledger.only = "perf"
    enclosure = Enclosure(machine)
    enclosure.why = "a process that runs already is not moved into one"
    enclosure.look_around(pid)
    sampler.enclosure = enclosure
    session.limits = enclosure.limits
    session.write(session.header(None, pid))
    session.surroundings = around = begin(machine, environment, options, sampler.tree.add_stranger)
    session.why_no_machine = NO_DESCRIPTOR if around is None else None
    session.write(_sample(sampler, around))
    session.open_default()
    schedule = Schedule(session.started_ns, int(options.interval * 1e9))
    outcome = _follow(sampler, session, schedule, signals, root, root_fd)
    session.write(_sample(sampler, around))
    for line in () if around is None else around.lines(last=True):
        session.write(line)
    kills, where = enclosure.kills()
    if kills:
        outcome.evidence += f"; {where}'s oom_kill count rose by {kills}"
    session.end(sampler, schedule, outcome, of_attach(sampler, watch, options.interval))
    session.close()
    if around is not None:
        around.close()
    return 0


def _sample(sampler: Sampler, around: Surroundings | None) -> dict[str, Any]:
    sample = sampler.sample()
    return sample if around is None else joined(sample, around, sampler.tree.members)


def _descriptors() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass
    return max(0, min(soft if soft != resource.RLIM_INFINITY else 65536, 65536) - 64 - WATCHED_MEMBERS)


def _follow(
    sampler: Sampler, session: Session, schedule: Schedule, signals: Signals, root: Member, root_fd: int | None
) -> Outcome:
    """Sample until everything known has ended, the time is over, or a signal asks to stop."""
    clock, around = sampler.machine.monotonic_ns, session.surroundings
    duration = session.options.duration
    deadline = None if duration is None else session.started_ns + int(duration * 1e9)
    watched = {root: root_fd} if root_fd is not None else {}
    while True:
        now = clock()
        timeout = schedule.timeout(now)
        if deadline is not None:
            timeout = min(timeout, max(0, deadline - now))
        if not watched:
            timeout = min(timeout, WITHOUT_PIDFD_NS)
        soon = None if around is None else around.timeout(now, schedule.next_ns)
        timeout = timeout if soon is None else min(timeout, soon)
        fds = [] if around is None else around.fds
        for signal in signals.wait(timeout, [*watched.values(), *fds]):
            return Outcome("ended", f"stopped by signal {signal.number} ({signal_name(signal.number)})")
        now = clock()
        if deadline is not None and now >= deadline:
            return Outcome("ended", f"the duration of {duration:g} s is over")
        if session.unheard():
            return Outcome("ended", UNHEARD)
        if schedule.sample_due(now):
            session.write(_sample(sampler, around))
        elif schedule.look_due(now) or signals.ready or not watched:
            sampler.look()
        if around is not None:
            for line in around.go_on(now, schedule.next_ns, sampler.tree.members):
                session.write(line)
        if root.ended and all(member.ended for member in sampler.tree.members.values()):
            return Outcome("ended", "its root and all known members ended")
        _watch(watched, sampler)


def _watch(watched: dict[Member, int], sampler: Sampler) -> None:
    """Have the kernel tell of the end of the members that remain, once the root has ended."""
    for member in [member for member in watched if member.ended]:
        os.close(watched.pop(member))
    if not watched:
        for member in list(sampler.tree.members.values())[:WATCHED_MEMBERS]:
            if not member.ended and (fd := pidfd_open(member.pid)) is not None:
                watched[member] = fd
