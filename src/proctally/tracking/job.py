"""The job: start it, forward what was meant for it, adopt and reap what it leaves, and its exit status.

The child is held before it execs, so that what is set up for it (and its own baseline) is in place before the job's
first instruction. Everything the job can see is given back before that: signal mask and dispositions, limits.
"""

from __future__ import annotations

import os
from errno import EACCES, ENAMETOOLONG, ENODEV, ENOENT, ENOEXEC, ENOTDIR, ESTALE, ETIMEDOUT

from proctally.errors import CannotStart
from proctally.linux.c_library import execve, libc
from proctally.linux.child import (
    SI_KERNEL,
    SIGCONT,
    SIGHUP,
    SIGKILL,
    SIGSTOP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    Signal,
    SignalFd,
    become_subreaper,
    catchable,
    default_child_signal,
    initial_environment,
    next_ended_child,
    queue_signal,
    reap,
    signals_for_exec,
    stop_or_continue,
    take_timers,
)
from proctally.linux.descriptors import get_limits, raise_limit, set_limits
from proctally.linux.machine import monotonic
from proctally.linux.proc import OwnIo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from proctally.linux.c_library import CLibrary
    from proctally.linux.machine import Machine

EMPTY = "''"  # in a message: a command without a name
STOPS = (SIGTSTP, SIGTTIN, SIGTTOU)
RELAY_SECONDS = 1.0  # maximum time between a signal and the same one of a relay
TO_LEADER = (SIGHUP, SIGCONT)
STOP_SECONDS = 10.0  # so long a job may take to stop itself after Ctrl-Z; later, somebody else has stopped it
NOT_FOUND = 127
NOT_EXECUTABLE = 126
SKIPPED = (ENOTDIR, ENAMETOOLONG, ENODEV, ESTALE, ETIMEDOUT)  # of a directory of PATH, as in execvp(3)
HELD = b"+"  # what the held child writes when it waits
# Variables for the process with this pid: sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5). Where
# LISTEN_PIDFDID is set, it is checked too.
MEANT_FOR_ONE = (b"LISTEN_PID", b"WATCHDOG_PID", b"SYSTEMD_EXEC_PID")
ALSO_BY_PIDFD = b"LISTEN_PIDFDID="


class Reaped:
    """A child that was reaped: what was seen of it, its wait status, resource usage, and the seven counters of I/O.

    `usage` and `io` hold its own and that of all it had waited for; `io` is None where the kernel keeps none.
    """

    __slots__ = ("io", "pid", "seen", "status", "usage")

    def __init__(self, pid: int, seen: Any, status: int, usage: Any, io: list[int] | None) -> None:
        self.pid = pid
        self.seen = seen
        self.status = status
        self.usage = usage
        self.io = io


class Relay:
    """A process that passes signals on to this one, which can have received them too (`run --repeat`); pid 0: none."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._received: dict[int, list[float]] = {}  # by number: when a signal came from another process

    def is_double(self, signal: Signal) -> bool:
        """Return whether a signal came before: it was sent to the process group."""
        if not self.pid or signal.code > 0:
            return False
        moments = self._received.setdefault(signal.number, [])
        if signal.sender != self.pid:
            moments.append(monotonic())
            return False
        return bool(moments) and monotonic() - moments.pop() < RELAY_SECONDS


class Job:
    """One command and what becomes of it.

    `hold` forks a child that waits; `release` lets it exec. Then `signals` has all that arrives. `relay`: pid of a
    process that passes signals on.
    """

    def __init__(self, library: Any, machine: Machine, relay: int = 0) -> None:
        self.own = os.getpid()
        self.library = library
        self.child_signal_ignored = default_child_signal()
        self.signals = SignalFd(library, catchable())
        self._timers = take_timers()
        self.subreaper = become_subreaper(library)
        self.pid = 0
        self.status: int | None = None
        self._limit = get_limits()
        self._io = OwnIo(machine)
        self._gate = -1
        self._report = -1
        self._asked_to_stop: float | None = None
        self._stopped_by: int | None = None
        self._relay = Relay(relay)

    # -- start ---------------------------------------------------------------------------------------------------

    def descriptors(self) -> int:
        """Raise our limit of open files; return how many can be kept. The job gets its own limit back."""
        return raise_limit()

    def hold(self, command: Sequence[str], variables: dict[str, str], environment: list[bytes]) -> int:
        """Fork the child that will become the job; it waits for `release`.

        `variables`: they have the PATH of the command; `environment`: the entries that it gets.
        """
        candidates = _candidates(command[0], variables)
        gate, self._gate = os.pipe()
        self._report, report = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._become(candidates, list(command), environment, gate, report)
            finally:
                os._exit(NOT_EXECUTABLE)
        os.close(gate)
        os.close(report)
        return self.pid

    def _become(
        self, candidates: list[str], command: list[str], environment: list[bytes], gate: int, report: int
    ) -> None:
        """In the child: be as this process was started, wait for the gate, become the command or say why not."""
        set_limits(self._limit)
        signals_for_exec(self.signals.previous, self.child_signal_ignored, self._timers)
        os.close(self._gate)
        become = _prepared(self.library, candidates, command, _passed_on(environment, self.own))
        os.write(report, HELD)
        os.read(gate, 1)
        number = become()
        os.write(report, str(number).encode())

    def wait_until_held(self) -> None:
        """Wait until the child has nothing left to do before it execs: its marks of memory no longer rise."""
        os.read(self._report, len(HELD))

    def give_up(self) -> None:
        """End the held child: the job does not start."""
        os.kill(self.pid, SIGKILL)
        os.waitpid(self.pid, 0)

    def release(self) -> None:
        """Let the child exec, and wait until it has. Raises `CannotStart`."""
        os.close(self._gate)  # the end of the pipe is the word; a tracker that died says it as well
        answer = os.read(self._report, 16)
        os.close(self._report)
        if answer:
            os.waitpid(self.pid, 0)
            number = int(answer)
            raise CannotStart(status_of_failure(number), os.strerror(number))

    # -- while it runs -------------------------------------------------------------------------------------------

    def reap(self, before: Callable[[int], Any], after: Callable[[Reaped], None]) -> bool:
        """Reap every child that has ended; False when this process has no children left.

        `before(pid)` is called while it is a zombie and can be read; its answer comes back to `after` as `seen`.
        """
        while True:
            try:
                pid = next_ended_child()
            except ChildProcessError:
                return False
            if pid is None:
                return True
            seen = before(pid)
            io_before = self._io.read()
            status, usage = reap(pid)
            io = self._io.growth(io_before)
            if pid == self.pid:
                self.status = status
            after(Reaped(pid, seen, status, usage, io))

    def has_children(self) -> bool:
        """Return True if this process has a child, running or exited."""
        try:
            next_ended_child()
        except ChildProcessError:
            return False
        return True

    def forward(self, signal: Signal, is_member: Callable[[int], bool]) -> bool:
        """Pass a signal on to the job that was meant for it; False where the job's queue is full for now.

        What the terminal sends (SI_KERNEL) reaches the whole process group, and so the job. A hangup and what follows
        it reach only the leader of the session: if that is proctally, it forwards them. Other signals of the kernel are
        about this process. A signal that a member of the tree sends to us (`kill 0`, `kill $PPID`) does not come back.
        """
        if signal.number in STOPS:
            self._asked_to_stop = monotonic()
        elif signal.number == SIGCONT:
            self._asked_to_stop = None
        if self.status is not None or self._relay.is_double(signal):
            return True
        for_leader = signal.code == SI_KERNEL and signal.number in TO_LEADER and os.getsid(0) == self.own
        if signal.code > 0 and not for_leader:
            return True
        if signal.sender and (signal.sender == self.own or is_member(signal.sender)):
            return True
        if signal.value is not None:
            return queue_signal(self.library, self.pid, signal.number, signal.value)
        self.signal(signal.number)
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the command itself; it is our child and not reaped yet, so its pid is its own.

        The kernel refuses it where the command became another user's.
        """
        if self.status is None:
            try:
                os.kill(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    def wants_to_stop(self) -> bool:
        """Whether the job was stopped by what also came to us (Ctrl-Z): then we stop with it, and not before."""
        if self.status is not None:
            return False
        stopped_by, continued = stop_or_continue(self.pid)
        if stopped_by is not None or continued:
            self._stopped_by = stopped_by
        if self._stopped_by is None or self._asked_to_stop is None:
            return False
        return monotonic() - self._asked_to_stop < STOP_SECONDS

    def stop(self) -> None:
        """Stop; returns when this process was continued."""
        self._asked_to_stop = None
        self._stopped_by = None
        os.kill(self.own, SIGSTOP)


def exit_status(status: int) -> int:
    """The exit status of a wrapper for this wait status: the command's own, or 128 and the signal's number."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def exit_or_signal(status: int) -> int:
    """The exit status, or minus the number of the signal that ended it."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _candidates(program: str, environment: dict[str, str]) -> list[str]:
    """The paths at which execvp(3) would look for this program."""
    if "/" in program or not program:
        return [program]
    path = environment.get("PATH", os.defpath)
    return [os.path.join(folder or ".", program) for folder in path.split(os.pathsep)]


def _passed_on(environment: list[bytes], own: int) -> list[bytes]:
    """Return the environment in the child: variables for the process `own`, its parent, are for the job."""
    follow = {b"%s=%d" % (name, own): b"%s=%d" % (name, os.getpid()) for name in MEANT_FOR_ONE}
    ours = b"LISTEN_PID=%d" % own in environment
    return [follow.get(entry, entry) for entry in environment if not (ours and entry.startswith(ALSO_BY_PIDFD))]


def _prepared(
    library: CLibrary | None, candidates: list[str], command: list[str], environment: list[bytes]
) -> Callable[[], int]:
    """Return a function that execs the first candidate it can, or else returns an error number.

    As with execvp(3), the shell runs a file without a format.
    """
    attempts = _attempts(library, candidates, command, environment)

    def become() -> int:
        worst = ENOENT
        for path, number in zip(candidates, attempts, strict=True):
            if number == ENOEXEC:
                return next(_attempts(library, ["/bin/sh"], ["/bin/sh", path, *command[1:]], environment))
            if number == EACCES:
                worst = EACCES
            elif number != ENOENT and (number not in SKIPPED or "/" in command[0]):
                return number
        return worst

    return become


def _attempts(library: CLibrary | None, paths: list[str], words: list[str], environment: list[bytes]) -> Iterator[int]:
    """Return an iterator that execs each path; it yields the error numbers."""
    if library is not None:
        return execve(library, list(map(os.fsencode, paths)), list(map(os.fsencode, words)), environment)
    pairs = dict(entry.split(b"=", 1) for entry in environment if b"=" in entry[1:])

    def attempt(path: str) -> int:
        try:
            os.execve(path, words, pairs)
        except OSError as error:
            return error.errno or ENOENT
        except ValueError:  # Python refuses an empty name by itself
            return ENOENT

    return map(attempt, paths)


def execute_instead(command: list[str], variables: dict[str, str]) -> tuple[int, str]:
    """Become the command, without tracking it; returns (exit status, reason) only when that fails."""
    signals_for_exec(None, False)
    number = _prepared(libc(), _candidates(command[0], variables), command, initial_environment())()
    return status_of_failure(number), os.strerror(number)


def status_of_failure(number: int) -> int:
    """The exit status that says why a command could not be executed: 127 not found, 126 not executable."""
    return NOT_FOUND if number == ENOENT else NOT_EXECUTABLE
