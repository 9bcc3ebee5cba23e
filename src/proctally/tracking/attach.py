"""`proctally attach`: track a running process tree. The helper process of `proctally.track()` does the same."""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE, AccessDenied, CannotStart, NoDescriptors, NoProcfs, ProcessGone
from proctally.linux.c_library import libc
from proctally.linux.child import SignalFd, pidfd_open, stopping
from proctally.linux.descriptors import raise_limit
from proctally.linux.machine import Machine, host_machine
from proctally.linux.proc import is_thread
from proctally.record.codes import ALL_EXITED, ALREADY_RUNNING
from proctally.text.escape import decode_name
from proctally.text.terminal import say_line
from proctally.tracking.loop import Loop, Source
from proctally.tracking.session import Ended, Session
from proctally.tracking.tracker import Ends, TreeTracker
from proctally.tracking.verdict import Outcome, oom_kills, reason
from proctally.tree.gaps import of_attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from proctally.tracking.config import Options
    from proctally.tree.member import Member

NOTHING = 1
WITHOUT_PIDFD_NS = 20_000_000  # interval of scans for exits where the kernel has no pidfds
WATCHED_MEMBERS = 64


def attach(options: Options, pid: int, environment: dict[str, str]) -> Ended:
    """Track a running process tree until it exits, or until a signal or the duration ends it."""
    machine = host_machine()
    try:
        return _attach(options, pid, environment, machine)
    except (NoDescriptors, MemoryError) as error:
        say_line(f"cannot go on: {getattr(error, 'strerror', None) or 'out of memory'}")
        return Ended(NOTHING)


def command_name(machine: Machine, pid: int) -> str:
    """Return the name of a process. Raises `ProcessGone` or `AccessDenied`."""
    return decode_name(machine.read(f"{pid}/comm").removesuffix(b"\n"))


class AttachTracker(TreeTracker):
    """A running tree, from the moment at which its totals start to the last line of its record.

    The steps in their order: `take_in`, `count`, `begin`; then `act` as the loop calls it; `end`, and `close`.
    """

    def __init__(self, session: Session, pid: int, *, descriptors: int, slower_ns: int = 0) -> None:
        source = "perf" if session.options.source == "perf" else None
        super().__init__(session, descriptors=descriptors, source=source, slower_ns=slower_ns)
        self.pid = pid
        self.root: Member | None = None

    def take_in(self) -> None:
        """Take in the tree: totals count from now. Raises `ProcessGone` or `AccessDenied`."""
        self.root = self.sampler.attach(self.pid, os.getpid(), follow_parent=True)

    def count(self) -> str | None:
        """Have perf count it, if requested. Returns a code where perf is the only source and is missing."""
        source = self.options.source
        if source in ("auto", "perf"):
            self.perf.attach(libc(), self.sampler.thread_ids)
            self.perf.begin()
        return self.perf.missing if source == "perf" else None

    def begin(self, command: list[str] | None, pid: int) -> None:
        """Write the first lines of a record, a sample among them, and open the default one."""
        self.enclosure.missing = ALREADY_RUNNING
        self.enclosure.look_around(pid)
        super().begin(command, pid)

    def has_ended(self, exited: set[Member]) -> bool:
        """Return True if its root and all known members have exited. `exited`: those whose pidfds show it."""
        members = self.sampler.members.values() if self.root is None else [self.root, *self.sampler.members.values()]
        return all(member.ended or member in exited for member in members)

    def end(self, outcome: Outcome) -> None:
        """Take the last sample and write the last lines."""
        self.sample(last=True)
        self.ended_ns = self.sampler.read_ns
        self.last_machine_lines()
        outcome.reason |= oom_kills(self.enclosure, self.sampler.samples.rss_sampled, self.sampler.settle_kills()) or {}
        left = self.sampler.finish()
        tree = self.sampler.summary()
        self.end_record(tree, outcome, of_attach(tree, self.perf, self.options.interval), left)

    def closing(self) -> list[Callable[[], object]]:
        return [*super().closing(), self.perf.close, self.sampler.close, self.machine.close]


class Exits(Source):
    """The members of a tree, watched by their pidfds: a scan when one exits, and the outcome when all have."""

    def __init__(self, tracker: AttachTracker, root_fd: int | None) -> None:
        assert tracker.root is not None
        self._tracker = tracker
        self._watched = {tracker.root: root_fd} if root_fd is not None else {}
        self._exited: set[Member] = set()  # also those whose state cannot be read

    def fds(self, now: int) -> list[int]:
        return [*self._watched.values(), *self._tracker.fds(now)]

    def timeout(self, now: int) -> int:
        timeout = self._tracker.timeout(now)
        return timeout if self._watched else min(timeout, WITHOUT_PIDFD_NS)

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        self._exited.update(member for member, fd in self._watched.items() if fd in ready)
        self._tracker.scan(now, woken=bool(ready) or not self._watched)
        self._tracker.do_rest(now)
        if self._tracker.has_ended(self._exited):
            return Outcome("ended", reason(ALL_EXITED))
        self._watch()
        return None

    def _watch(self) -> None:
        """Open pidfds of the members that remain, once the root has exited."""
        for member in [member for member in self._watched if member.ended or member in self._exited]:
            os.close(self._watched.pop(member))
        if not self._watched:
            for member in list(self._tracker.sampler.members.values())[:WATCHED_MEMBERS]:
                if not (member.ended or member in self._exited) and (fd := pidfd_open(member.pid)) is not None:
                    self._watched[member] = fd


def _attach(options: Options, pid: int, environment: dict[str, str], machine: Machine) -> Ended:
    signals = SignalFd(libc(), stopping())
    descriptors = max(0, raise_limit() - WATCHED_MEMBERS)
    root_fd = pidfd_open(pid)
    if is_thread(machine, pid):
        say_line(f"process {pid}: is a thread; give the id of its process")
        return Ended(NOTHING)
    try:
        session = Session("attach", options, environment, machine, command_name(machine, pid))
        tracker = AttachTracker(session, pid, descriptors=descriptors)
        tracker.take_in()
    except ProcessGone:
        say_line(f"process {pid}: No such process")
        return Ended(NOTHING)
    except NoProcfs as error:
        say_line(str(error.strerror))
        return Ended(NOTHING)
    except AccessDenied:
        say_line(f"process {pid}: Permission denied")
        return Ended(NOTHING)
    except UNREADABLE as error:
        say_line(f"process {pid}: {getattr(error, 'strerror', None) or error}")
        return Ended(NOTHING)
    try:
        session.open(pid)
    except CannotStart as error:
        say_line(str(error))
        return Ended(error.exit_status)
    refused = tracker.count()
    if refused is not None:
        from proctally.text.words import missing

        session.discard()
        say_line(f"--source perf: {missing(refused, 'perf')}")
        return Ended(NOTHING)
    tracker.begin(None, pid)
    tracker.end(Loop(machine.monotonic_ns, signals, [Ends(session, signals), Exits(tracker, root_fd)]).run())
    tracker.close()
    return session.ended(NOTHING if session.cannot_serve() else 0)
