"""The job: start it, forward what was meant for it, adopt and reap what it leaves, and its exit status.

The child is held before it execs, so that what is set up for it (and its own baseline) is in place before the job's
first instruction. Everything the job can see is given back before that: signal mask and dispositions, limits.
"""

from __future__ import annotations

import os
from errno import EACCES, ENOENT, ENOEXEC, ENOTDIR
from time import monotonic

from proctally.errors import CannotStart
from proctally.linux.child import (
    SI_KERNEL,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGQUIT,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGUSR1,
    SIGUSR2,
    Signal,
    SignalFd,
    become_subreaper,
    default_child_signal,
    initial_environment,
    next_ended_child,
    reap,
    signals_for_exec,
    stop_or_continue,
)
from proctally.linux.descriptors import get_limits, raise_limit, set_limits
from proctally.linux.proc import OwnIo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from proctally.linux.machine import Machine

STOPS = (SIGTSTP, SIGTTIN, SIGTTOU)
FORWARDED = (SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGINT, SIGQUIT, SIGCONT, SIGTSTP)
TO_LEADER = (SIGHUP, SIGCONT)
STOP_SECONDS = 10.0  # so long a job may take to stop itself after Ctrl-Z; later, somebody else has stopped it
WATCHED = (*FORWARDED, SIGTTIN, SIGTTOU, SIGCHLD)
NOT_FOUND = 127
NOT_EXECUTABLE = 126


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


class Job:
    """One command and what becomes of it.

    `hold` forks a child that waits; `release` lets it exec. Then `signals` has all that arrives.
    """

    def __init__(self, library: Any, machine: Machine) -> None:
        self.own = os.getpid()
        self.library = library
        self.child_signal_ignored = default_child_signal()
        self.signals = SignalFd(library, WATCHED)
        self.subreaper = become_subreaper(library)
        self.pid = 0
        self.status: int | None = None
        self._limit = get_limits()
        self._io = OwnIo(machine)
        self._gate = -1
        self._report = -1
        self._asked_to_stop: float | None = None
        self._stopped_by: int | None = None

    # -- start ---------------------------------------------------------------------------------------------------

    def descriptors(self) -> int:
        """Raise our limit of open files; return how many can be kept. The job gets its own limit back."""
        return raise_limit()

    def hold(self, command: Sequence[str], environment: dict[str, str]) -> int:
        """Fork the child that will become the job; it waits for `release`."""
        candidates = _candidates(command[0], environment)
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
        self, candidates: list[str], command: list[str], environment: dict[str, str], gate: int, report: int
    ) -> None:
        """In the child: be as this process was started, wait for the gate, become the command or say why not."""
        set_limits(self._limit)
        signals_for_exec(self.signals.previous, self.child_signal_ignored)
        os.close(self._gate)
        os.read(gate, 1)
        number = _execute(candidates, command, environment)
        os.write(report, str(number).encode())

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

    def forward(self, signal: Signal, is_member: Callable[[int], bool]) -> None:
        """Pass a signal on to the job that was meant for it.

        What the terminal sends (SI_KERNEL) goes to the whole process group and reached the job by itself, except that
        one that hangs up tells the leader of its session alone, which the job would be without us. What a
        member of the tree sent to us (`kill 0`, `kill $PPID`) came from the job and does not go back.
        """
        if signal.number in STOPS:
            self._asked_to_stop = monotonic()
        elif signal.number == SIGCONT:
            self._asked_to_stop = None
        if signal.number not in FORWARDED or self.status is not None:
            return
        if signal.code == SI_KERNEL and not (signal.number in TO_LEADER and os.getsid(0) == self.own):
            return
        if signal.sender and (signal.sender == self.own or is_member(signal.sender)):
            return
        try:
            os.kill(self.pid, signal.number)
        except ProcessLookupError:
            pass
        except PermissionError:  # the job became another user's
            pass

    def signal(self, number: int) -> None:
        """Send a signal to the command itself; it is our child and not reaped yet, so its pid is its own."""
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


def _execute(candidates: list[str], command: list[str], environment: dict[str, str]) -> int:
    """exec the first that can be; the error number when none can. As execvp(3), the shell runs what has no format."""
    worst = ENOENT
    for path in candidates:
        try:
            os.execve(path, command, environment)
        except OSError as error:
            number = error.errno or ENOENT
        except ValueError:  # Python refuses an empty name by itself
            number = ENOENT
        if number == ENOEXEC:
            try:
                os.execve("/bin/sh", ["/bin/sh", path, *command[1:]], environment)
            except OSError as error:
                return error.errno or ENOEXEC
        if number == EACCES:
            worst = EACCES
        elif number not in (ENOENT, ENOTDIR):
            return number
    return worst


def execute_instead(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Become the command, without tracking it; returns (exit status, reason) only when that fails."""
    signals_for_exec(None, False)
    number = _execute(_candidates(command[0], environment), command, initial_environment(environment))
    return status_of_failure(number), os.strerror(number)


def status_of_failure(number: int) -> int:
    """The exit status that says why a command could not be executed: 127 not found, 126 not executable."""
    return NOT_FOUND if number in (ENOENT, ENOTDIR) else NOT_EXECUTABLE
