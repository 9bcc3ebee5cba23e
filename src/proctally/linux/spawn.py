"""A process of ours beside the job: started for what may hang, killed when it does, never waited for.

One that hangs inside a driver may be in state D, where SIGKILL does not reach it: it is left behind.
"""

from __future__ import annotations

import os

from proctally.kernel.child import SIGKILL, pidfd_open
from proctally.kernel.machine import NANOSECONDS, Machine, clock_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Action = tuple[int, ...] | tuple[int, int, str, int, int]


class Aside:
    """One such process, from its start until it is reaped. `pid` is then 0.

    Who reaps children of any kind has to tell `reaped`; whom nobody reaps, `reap` does.
    """

    __slots__ = ("_cpu_ns", "_is_killed", "_machine", "_pidfd", "pid")

    def __init__(
        self, machine: Machine, argv: list[str], environment: Mapping[str, str], actions: list[Action]
    ) -> None:
        """Start it, in a group of its own and with default signals: Ctrl-C does not reach it.

        `actions`: file actions of posix_spawn(3) for its standard streams. It has nothing else of ours or of the job:
        no pipe of the user's stays open because it hangs. Raises OSError or NotImplementedError.
        """
        self._machine = machine
        self._cpu_ns = 0
        self._is_killed = False
        self.pid = spawn(argv, environment, actions, setpgroup=0)
        self._pidfd = pidfd_open(self.pid)

    def cpu_ns(self) -> int:
        """The CPU time it used; where others reaped it without saying how much, as last read."""
        if self.pid and self._machine.clock_gettime_ns is not None:
            self._cpu_ns = max(self._cpu_ns, self._machine.clocks([clock_id(self.pid)])[0] or 0)
        return self._cpu_ns

    def kill(self) -> None:
        """Have it end; it still has to be reaped."""
        if not self.pid or self._is_killed:
            return
        self._is_killed = True
        self.cpu_ns()
        try:
            if self._pidfd is not None:
                import _signal  # type: ignore[import-not-found, unused-ignore]

                _signal.pidfd_send_signal(self._pidfd, SIGKILL)
            else:
                os.kill(self.pid, SIGKILL)
        except OSError:
            pass
        self._let_go()

    def reap(self) -> bool:
        """Reap it if it ended, without waiting; whether it is gone."""
        if self.pid:
            try:
                ended, _, usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else did
                self._gone(None)
            else:
                if ended:
                    self._gone(round((usage.ru_utime + usage.ru_stime) * NANOSECONDS))
        return not self.pid

    def reaped(self, pid: int, cpu_ns: int | None = None) -> bool:
        """A child of this process was reaped: whether it was this one. `cpu_ns`: what wait4 said that it had used."""
        if not pid or pid != self.pid:
            return False
        self._gone(cpu_ns)
        return True

    def _gone(self, cpu_ns: int | None) -> None:
        self.pid = 0
        if cpu_ns is not None:
            self._cpu_ns = cpu_ns
        self._let_go()

    def _let_go(self) -> None:
        fd, self._pidfd = self._pidfd, None
        if fd is not None:
            os.close(fd)


def spawn(argv: list[str], environment: Mapping[str, str], actions: list[Action], **place: int) -> int:
    """Start a program with default signals and, standard streams and `actions` aside, none of our descriptors; its pid.

    `place`: `setpgroup=0` or `setsid=True`. Raises OSError or NotImplementedError.
    """
    import _signal  # type: ignore[import-not-found, unused-ignore]

    # what an action has just made there is not ours any more
    made = {action[2] if action[0] == os.POSIX_SPAWN_DUP2 else action[1] for action in actions}
    return os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=[*actions, *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited() if fd not in made)],
        setsigmask=(),
        setsigdef=sorted(_signal.valid_signals() - {SIGKILL, _signal.SIGSTOP}),
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
