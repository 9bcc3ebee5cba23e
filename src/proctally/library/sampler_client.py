"""The client of the sampler process, which samples the blocks of this program from outside (tracking/sidecar.py).

The sampler is a grandchild whose parent exits at once, so that any process that adopts orphans reaps it: neither its
CPU time nor its memory is ever in this process's RUSAGE_CHILDREN. A shell is the parent: it uses half a millisecond
where an interpreter uses ten.
"""

from __future__ import annotations

import os
import threading
from posix import waitpid

from proctally.linux.channel import Channel, Closed, above_standard, pair
from proctally.linux.child import pause
from proctally.linux.machine import host_machine, monotonic
from proctally.linux.proc import read_start
from proctally.linux.spawn import PLACE, python, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.spawn import Action
    from proctally.record import JsonObject

CONTROL_FD = 3
HIGH_FD = 10
SHELL = "/bin/sh"
PRELOAD = "call proctally.preload() before chroot or setuid"
INTO_BACKGROUND = '"$@" 3<&3 &'  # a shell gives /dev/null to what it puts there, unless it is told otherwise
FORK = "import os,sys;os._exit(0) if os.fork() else os.execv(sys.argv[1],sys.argv[1:])"


class SamplerClient:
    """The sampler process, which runs as long as any block is open, and the channels to it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a handler of signals may open a block while one begins
        self.users = 0  # blocks that are open
        self._is_kept = False  # by `preload`
        self._control: Channel | None = None
        self._unreaped: set[int] = set()
        self._channels: set[Channel] = set()

    def open(self, message: JsonObject, fds: tuple[int, ...], deadline: float) -> Channel:
        """The channel of a new block, which was told of. Raises OSError, NotImplementedError."""
        ours, theirs = self.pair()
        try:
            with self.lock:
                self._reap()
                message["foreign"] = sorted(self._unreaped)
                try:
                    self._send(message, (theirs.fileno(), *fds), deadline)
                    self.users += 1
                finally:
                    if not self.users:
                        self._drop_control()
        except BaseException:
            self.forget(ours)
            raise
        finally:
            self.forget(theirs)
        return ours

    def pair(self) -> tuple[Channel, Channel]:
        """Return both ends of a channel; a forked child closes them. Raises OSError."""
        ends = pair()
        self._channels.update(ends)
        return ends

    def _send(self, message: JsonObject, fds: tuple[int, ...], deadline: float) -> None:
        """To the sampler there is; to a new one where it has ended, which somebody may have wanted."""
        left = max(0.0, deadline - monotonic())
        if self._control is not None:
            try:
                self._control.send(message, left, fds)
                return
            except Closed:
                self._drop_control()
        self._start(deadline)
        assert self._control is not None
        self._control.send(message, left, fds)

    def preload(self, deadline: float) -> None:
        """Start the sampler, and keep it until this process exits. Raises OSError, NotImplementedError."""
        with self.lock:
            if self._control is None:
                self._start(deadline)
            if not self._is_kept:
                self._is_kept = True
                self.users += 1

    def adopted(self, pid: int) -> None:
        """The sampler is a child of this process, which adopts orphans: it has to be reaped."""
        self._unreaped.add(pid)

    def close(self, channel: Channel) -> None:
        """A block is over; with the last one the process ends."""
        with self.lock:
            self.forget(channel)
            self.users -= 1
            if not self.users:
                self._drop_control()
                self._reap(monotonic() + 1.0)

    def forked(self) -> None:
        """In a child that was forked: the blocks and the sampler are its parent's."""
        for channel in (*self._channels, self._control):
            if channel is not None:
                channel.close()
        self.__init__()  # type: ignore[misc]

    def forget(self, channel: Channel) -> None:
        """Close an end."""
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
        _check_place()
        start = read_start(host_machine(), pid) or 0
        argv = python("proctally.tracking.sidecar", str(pid), str(start), packages=("pynvml",))
        if os.access(SHELL, os.X_OK) and os.access(os.devnull, os.R_OK):  # without it dash refuses the background
            argv = [SHELL, "-c", INTO_BACKGROUND, "proctally", *argv]
        else:
            argv = [*argv[:4], FORK, *argv]
        ours, theirs = pair()
        self._channels.add(theirs)
        fd = null = -1
        try:
            null = _open_null()
            fd = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
            actions: list[Action] = [
                *((os.POSIX_SPAWN_DUP2, null, number) for number in range(CONTROL_FD)),
                (os.POSIX_SPAWN_DUP2, fd, CONTROL_FD),
            ]
            between = spawn(argv, os.environ, actions, setsid=True)
        except BaseException:
            ours.close()
            raise
        finally:
            for each in (fd, null):
                if each >= 0:
                    os.close(each)
            self.forget(theirs)
        self._control = ours
        self._unreaped.add(between)
        if _wait_for(between, deadline):
            self._unreaped.discard(between)


def _wait_for(pid: int, deadline: float) -> bool:
    """Whether this child was reaped, by us or by another (SIGCHLD ignored, a handler that waits for any)."""
    seconds = 0.0002
    while True:
        try:
            if waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        if monotonic() >= deadline:
            return False
        pause(seconds)
        seconds = min(0.01, seconds * 1.5)


def _check_place() -> None:
    """Raise OSError where this process cannot read the package."""
    try:
        os.close(os.open(PLACE, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        reason = f"{PLACE}: {error.strerror}; {PRELOAD}"
        raise OSError(error.errno, reason) from None


def _open_null() -> int:
    """Return a descriptor of /dev/null; where there is none, of an empty file in memory. Raises OSError."""
    try:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        fd = os.memfd_create("null")
    return above_standard(fd)


client = SamplerClient()
_forks_are_watched = False


def _watch_forks() -> None:
    global _forks_are_watched
    if not _forks_are_watched:
        _forks_are_watched = True
        os.register_at_fork(after_in_child=client.forked)
