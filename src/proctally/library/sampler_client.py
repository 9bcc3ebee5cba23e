"""The client of the sampler process, which samples the blocks of this program from outside (tracking/sidecar.py).

The sampler is a grandchild whose parent exits at once, so that any process that adopts orphans reaps it: neither its
CPU time nor its memory is ever in this process's RUSAGE_CHILDREN. A shell is the parent: it uses half a millisecond
where an interpreter uses ten.
"""

from __future__ import annotations

import os
import threading
import time

from proctally.linux.channel import Channel, Closed, pair
from proctally.linux.machine import host_machine
from proctally.linux.proc import read_stat
from proctally.linux.spawn import python, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.spawn import Action
    from proctally.record import JsonObject

CONTROL_FD = 3
HIGH_FD = 10
SHELL = "/bin/sh"
INTO_BACKGROUND = '"$@" 3<&3 &'  # a shell gives /dev/null to what it puts there, unless it is told otherwise
FORK = "import os,sys;os._exit(0) if os.fork() else os.execv(sys.argv[1],sys.argv[1:])"


class SamplerClient:
    """The sampler process, which runs as long as any block is open, and the channels to it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a handler of signals may open a block while one begins
        self.users = 0  # blocks that are open
        self._control: Channel | None = None
        self._unreaped: set[int] = set()
        self._channels: set[Channel] = set()

    def open(self, message: JsonObject, fds: tuple[int, ...], deadline: float) -> Channel:
        """The channel of a new block, which was told of. Raises OSError, NotImplementedError."""
        ours, theirs = pair()
        self._channels |= {ours, theirs}
        try:
            with self._lock:
                self._reap()
                message["foreign"] = sorted(self._unreaped)
                try:
                    self._send(message, (theirs.fileno(), *fds), deadline)
                    self.users += 1
                finally:
                    if not self.users:
                        self._drop_control()
        except BaseException:
            self._forget(ours)
            raise
        finally:
            self._forget(theirs)
        return ours

    def _send(self, message: JsonObject, fds: tuple[int, ...], deadline: float) -> None:
        """To the sampler there is; to a new one where it has ended, which somebody may have wanted."""
        left = max(0.0, deadline - time.monotonic())
        if self._control is not None:
            try:
                self._control.send(message, left, fds)
                return
            except Closed:
                self._drop_control()
        self._start(deadline)
        assert self._control is not None
        self._control.send(message, left, fds)

    def adopted(self, pid: int) -> None:
        """The sampler is a child of this process, which adopts orphans: it has to be reaped."""
        self._unreaped.add(pid)

    def close(self, channel: Channel) -> None:
        """A block is over; with the last one the process ends."""
        with self._lock:
            self._forget(channel)
            self.users -= 1
            if not self.users:
                self._drop_control()
                self._reap(time.monotonic() + 1.0)

    def forked(self) -> None:
        """In a child that was forked: the blocks and the sampler are its parent's."""
        for channel in (*self._channels, self._control):
            if channel is not None:
                channel.close()
        self.__init__()  # type: ignore[misc]

    def _forget(self, channel: Channel) -> None:
        self._channels.discard(channel)
        channel.close()

    def _drop_control(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.end()

    def _reap(self, deadline: float = 0.0) -> None:
        """Reap what became our children, by their pids, and wait for them no longer than until then."""
        for pid in list(self._unreaped):
            if _wait_for(pid, deadline):
                self._unreaped.discard(pid)

    def _start(self, deadline: float) -> None:
        import fcntl

        _watch_forks()
        pid = os.getpid()
        start = read_stat(host_machine(), pid).start
        argv = python("proctally.tracking.sidecar", str(pid), str(start), packages=("pynvml",))
        if os.access(SHELL, os.X_OK):
            argv = [SHELL, "-c", INTO_BACKGROUND, "proctally", *argv]
        else:
            argv = [*argv[:4], FORK, *argv]
        ours, theirs = pair()
        self._channels.add(theirs)
        fd = -1
        try:
            fd = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
            actions: list[Action] = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
                (os.POSIX_SPAWN_DUP2, fd, CONTROL_FD),
            ]
            between = spawn(argv, os.environ, actions, setsid=True)
        except BaseException:
            ours.close()
            raise
        finally:
            if fd >= 0:
                os.close(fd)
            self._forget(theirs)
        self._control = ours
        self._unreaped.add(between)
        if _wait_for(between, deadline):
            self._unreaped.discard(between)


def _wait_for(pid: int, deadline: float) -> bool:
    """Whether this child was reaped, by us or by another (SIGCHLD ignored, a handler that waits for any)."""
    pause = 0.0002
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(0.01, pause * 1.5)


client = SamplerClient()
_forks_are_watched = False


def _watch_forks() -> None:
    global _forks_are_watched
    if not _forks_are_watched:
        _forks_are_watched = True
        os.register_at_fork(after_in_child=client.forked)
