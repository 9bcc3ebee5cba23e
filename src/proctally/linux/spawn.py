"""Helper processes: started for what may hang, killed when they do, never waited for.

A process that hangs inside a driver may be in state D, where SIGKILL does not reach it: it is left behind.
"""

from __future__ import annotations

import os
import sys
from posix import posix_spawn

from proctally.linux.child import SIGKILL, SIGSTOP, pidfd_open, signal_pidfd, valid_signals
from proctally.linux.descriptors import no_file
from proctally.linux.machine import NANOSECONDS, Machine, clock_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Action = tuple[int, ...] | tuple[int, int, str, int, int]

PLACE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def python(module: str, *arguments: str, packages: Sequence[str] = ()) -> list[str]:
    """Return the command that runs `main()` of a module of proctally in an isolated interpreter.

    No environment variable, no `site` and no module of the tracked program reaches it: behind the standard library it
    finds this package, and what is in the same folders as `packages`. Raises OSError where there is no interpreter.
    """
    names = [name + suffix for name in packages for suffix in ("", ".py")]
    folders = [
        path for path in filter(os.path.isabs, sys.path) if any(os.path.exists(f"{path}/{name}") for name in names)
    ]
    code = f"import sys;sys.path+={[*dict.fromkeys([PLACE, *folders])]!a};from {module} import main;main()"
    return [_interpreter(), "-I", "-S", "-c", code, *arguments]


def _interpreter() -> str:
    """Return an interpreter that can be started with `-c`; a program that embeds one cannot."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not getattr(sys, "frozen", False):
        for path in (sys.executable or "", os.path.join(sys.base_exec_prefix, "bin", version)):
            if os.path.basename(path).startswith("python") and os.access(path, os.X_OK):
                return path
    raise OSError(0, "there is no interpreter that could be started")


class Helper:
    """One helper process and its socket, from its start until it is reaped; `pid` is then 0.

    `incoming`: what it sent, as far as it was received.
    """

    def __init__(
        self,
        machine: Machine,
        argv: list[str],
        environment: Mapping[str, str],
        *,
        end: int = 0,
        stdout: int | None = None,
    ) -> None:
        """Start it in its own process group, with default signals: Ctrl-C does not reach it.

        The socket is its descriptor `end`, and `stdout` may be another one of ours; the other standard streams are
        /dev/null. It has no other descriptor: no pipe of the user stays open because it hangs. Raises OSError or
        NotImplementedError.
        """
        from proctally.linux.channel import stream_pair

        self.incoming = b""
        self._machine = machine
        self._cpu_ns = 0
        self._is_killed = False
        self._socket, theirs = stream_pair()
        streams = {end: theirs.fileno()} | ({} if stdout is None else {1: stdout})
        actions: list[Action] = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in streams.items()]
        path, flags = no_file(argv[0])
        actions += [(os.POSIX_SPAWN_OPEN, number, path, flags, 0) for number in range(3) if number not in streams]
        try:
            self.pid = spawn(argv, environment, actions, setpgroup=0)
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._pidfd = pidfd_open(self.pid)

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def send(self, data: bytes) -> int:
        """Send at once what is taken; return how many bytes. Raises BlockingIOError, OSError."""
        from proctally.linux.channel import send

        return send(self._socket, data)

    def end_of_lines(self) -> bool:
        """Send the end of what it reads; return False when it is gone."""
        from proctally.linux.channel import end_sending

        return end_sending(self._socket)

    def receive(self, max_bytes: int) -> bool:
        """Receive what is there; return False when no more will come, or when it is above the limit."""
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.incoming += data
            if not data or len(self.incoming) > max_bytes:
                return False

    def hang_up(self) -> None:
        """Close the socket; the process may go on."""
        self._socket.close()

    def cpu_ns(self) -> int:
        """Return the CPU time it used; the last reading where another part of the program reaped it."""
        if self.pid and self._machine.clock_gettime_ns is not None:
            self._cpu_ns = max(self._cpu_ns, self._machine.clocks([clock_id(self.pid)])[0] or 0)
        return self._cpu_ns

    def kill(self) -> None:
        """Send SIGKILL; it still has to be reaped."""
        if not self.pid or self._is_killed:
            return
        self._is_killed = True
        self.cpu_ns()
        try:
            if self._pidfd is not None:
                signal_pidfd(self._pidfd, SIGKILL)
            else:
                os.kill(self.pid, SIGKILL)
        except OSError:
            pass
        self._close_pidfd()

    def reap(self) -> bool:
        """Reap it if it exited, without waiting; return True when it is gone."""
        if self.pid:
            try:
                pid, _, usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:  # another part of the program did
                self._gone(None)
            else:
                if pid:
                    self._gone(round((usage.ru_utime + usage.ru_stime) * NANOSECONDS))
        return not self.pid

    def reaped(self, pid: int, cpu_ns: int | None = None) -> bool:
        """Return True if the child that was reaped is this one. `cpu_ns`: the CPU time by wait4(2)."""
        if not pid or pid != self.pid:
            return False
        self._gone(cpu_ns)
        return True

    def _gone(self, cpu_ns: int | None) -> None:
        self.pid = 0
        if cpu_ns is not None:
            self._cpu_ns = cpu_ns
        self._close_pidfd()

    def _close_pidfd(self) -> None:
        fd, self._pidfd = self._pidfd, None
        if fd is not None:
            os.close(fd)


class HelperClient:
    """Helpers of one kind, one at a time, and what they have in common.

    `helper`: the one that is asked. `started` is called with the pid of each. A process that reaps children of any kind
    has to call `reaped`; others call `reap`.
    """

    def __init__(
        self,
        machine: Machine,
        environment: Mapping[str, str] | None = None,
        started: Callable[[int], object] | None = None,
    ) -> None:
        self.machine = machine
        self.environment = environment
        self.helper: Helper | None = None
        self._started = started
        self._left: list[Helper] = []  # those that are not asked any longer, until they are reaped
        self._left_ns = 0  # CPU time of those that were reaped

    def begin(self, argv: list[str], *, end: int = 0, stdout: int | None = None) -> Helper:
        """Start a helper. Raises OSError or NotImplementedError."""
        environment = os.environ if self.environment is None else self.environment
        if self.machine.has_wrong_clocks:  # by a library that would shift those of the helper too
            environment = {name: value for name, value in environment.items() if name != "LD_PRELOAD"}
        self.helper = Helper(self.machine, argv, environment, end=end, stdout=stdout)
        if self._started is not None:
            self._started(self.helper.pid)
        return self.helper

    def drop(self, *, kill: bool = True) -> None:
        """Close the socket of the helper and end it, or leave it to its end; `reap` reaps it."""
        helper, self.helper = self.helper, None
        if helper is not None:
            helper.hang_up()
            if kill:
                helper.kill()
            self._left.append(helper)

    @property
    def pid(self) -> int:
        """The helper that is asked, or 0."""
        return 0 if self.helper is None else self.helper.pid

    @property
    def pids(self) -> frozenset[int]:
        """Every helper that may still be a child of this process: none of them belongs to the tree."""
        return frozenset(each.pid for each in self._all() if each.pid)

    @property
    def fileno(self) -> int | None:
        """A descriptor that is readable when an answer is there; another one after each start."""
        return None if self.helper is None else self.helper.fileno()

    def cpu_ns(self) -> int:
        """Return the CPU time of all helpers; as last read where another part of the program reaped one."""
        return self._left_ns + sum(each.cpu_ns() for each in self._all())

    def reap(self) -> bool:
        """Reap those that were dropped and exited, without waiting; return True when none is left."""
        self._left_ns += sum(each.cpu_ns() for each in self._left if each.reap())
        self._left = [each for each in self._left if each.pid]
        return not self._left

    def reaped(self, pid: int, cpu_ns: int | None = None) -> bool:
        """Return True if the child that was reaped is one of these. `cpu_ns`: the CPU time by wait4(2)."""
        return any(each.reaped(pid, cpu_ns) for each in self._all())

    def close(self) -> None:
        """End the helper, without waiting for it."""
        self.drop()
        self.reap()

    def _all(self) -> list[Helper]:
        return self._left if self.helper is None else [*self._left, self.helper]


def spawn(argv: list[str], environment: Mapping[str, str], actions: list[Action], **place: int) -> int:
    """Start a program with default signals and, standard streams and `actions` aside, none of our descriptors; its pid.

    `place`: `setpgroup=0` or `setsid=True`. Raises OSError or NotImplementedError.
    """
    # what an action has just made there is not ours any more
    made = {action[2] if action[0] == os.POSIX_SPAWN_DUP2 else action[1] for action in actions}
    return posix_spawn(  # gevent replaces that of `os`, and would reap the child
        argv[0],
        argv,
        environment,
        file_actions=[*actions, *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited() if fd not in made)],
        setsigmask=(),
        setsigdef=sorted(valid_signals() - {SIGKILL, SIGSTOP}),
        **place,  # type: ignore[arg-type]
    )


def _inherited() -> list[int]:
    """The descriptors that a child would have, standard streams aside.

    Those at or above the soft limit are left out: a program may have lowered that below what it has open, and
    posix_spawn(3) refuses to close them (`__spawn_valid_fd` in glibc).
    """
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return []
    limit = os.sysconf("SC_OPEN_MAX")
    found = []
    for name in names:
        try:
            fd = int(name)
            if fd > 2 and (limit < 0 or fd < limit) and os.get_inheritable(fd):
                found.append(fd)
        except OSError:  # the descriptor of the listing itself
            pass
    return sorted(found)
