"""Children and signals: subreaper, signal descriptors, pidfds, waiting.

prctl(2) and signalfd(2) have no door in the standard library, so they are called through ctypes. `_signal` is the
built-in module below `signal`: the latter builds enumerations at import, which costs a third of the start-up budget.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore]
import os
import time
from sys import byteorder

from proctally.kernel.machine import UNREADABLE
from proctally.kernel.proc import read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from proctally.kernel.machine import Machine

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
SFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK  # SFD_CLOEXEC | SFD_NONBLOCK have the same values
SIGNALFD_SIGINFO_BYTES = 128  # struct signalfd_siginfo

LONGEST_POLL_MS = 1e9  # poll(2) takes an int

SI_KERNEL = 0x80  # include/uapi/asm-generic/siginfo.h: the terminal, a fault, the kernel itself

SIGHUP = 1
SIGINT = 2
SIGQUIT = 3
SIGKILL = 9
SIGUSR1 = 10
SIGUSR2 = 12
SIGTERM = 15
SIGCHLD = 17
SIGCONT = 18
SIGSTOP = 19
SIGTSTP = 20
SIGTTIN = 21
SIGTTOU = 22


def libc() -> Any:
    """The C library of this process, or None where ctypes cannot load it."""
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError):
        return None


def stopping() -> tuple[int, ...]:
    """The signals that ask who tracks on its own to stop: the end of the terminal is none under nohup(1)."""
    asking = (SIGINT, SIGTERM, SIGHUP)
    return asking if _signal.getsignal(SIGHUP) != _signal.SIG_IGN else asking[:2]


def become_subreaper(library: Any) -> bool:
    """Have orphaned descendants come back to this process (PR_SET_CHILD_SUBREAPER, prctl(2)); False if refused."""
    return library is not None and library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


class Signal:
    """One signal that arrived: its number, why (`code`), and who sent it (0: the kernel, or another namespace)."""

    __slots__ = ("code", "number", "sender")

    def __init__(self, number: int, code: int, sender: int) -> None:
        self.number = number
        self.code = code
        self.sender = sender


class Signals:
    """Signals that are blocked and read, never handled: none is lost, and each says who sent it.

    `wait` returns when one arrives, when one of the given descriptors is ready, or at the deadline.
    """

    __slots__ = ("_fd", "_mask", "_select", "hung", "previous", "ready")

    def __init__(self, library: Any, numbers: Iterable[int]) -> None:
        self._mask = frozenset(numbers)
        self.previous: set[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, self._mask)
        self._fd = _signalfd(library, self._mask)
        self._select: Any = None
        self.ready = False  # whether one of the given descriptors was, when last waited for
        self.hung: set[int] = set()  # descriptors that have nothing more to say: they are no longer waited for

    def wait(self, timeout_ns: int | None, fds: Iterable[int] = ()) -> list[Signal]:
        """Signals that are there, after at most this many nanoseconds (None: without limit)."""
        if self._fd is None:
            return self._wait_without_descriptor(timeout_ns, fds)
        if timeout_ns is None or timeout_ns > 0:
            self._poll(timeout_ns, [self._fd, *fds])
        return self._read()

    def _poll(self, timeout_ns: int | None, fds: list[int]) -> None:
        if self._select is None:
            import select

            self._select = select
        poller = self._select.poll()
        for fd in fds:
            if fd not in self.hung:
                poller.register(fd, self._select.POLLIN)
        found = poller.poll(None if timeout_ns is None else min(timeout_ns / 1e6, LONGEST_POLL_MS))
        self.ready = any(fd != self._fd for fd, _ in found)
        self.hung.update(fd for fd, events in found if not events & self._select.POLLIN)

    def _read(self) -> list[Signal]:
        found: list[Signal] = []
        assert self._fd is not None
        while True:
            try:
                data = os.read(self._fd, SIGNALFD_SIGINFO_BYTES * 32)
            except BlockingIOError:
                return found
            for at in range(0, len(data), SIGNALFD_SIGINFO_BYTES):
                number = int.from_bytes(data[at : at + 4], byteorder)
                code = int.from_bytes(data[at + 8 : at + 12], byteorder, signed=True)
                sender = int.from_bytes(data[at + 12 : at + 16], byteorder)
                found.append(Signal(number, code, sender))

    def _wait_without_descriptor(self, timeout_ns: int | None, fds: Iterable[int]) -> list[Signal]:
        """Without signalfd(2): sigtimedwait(2), which sees signals alone; descriptors are then looked at by turns."""
        limit = 3600.0 if timeout_ns is None else max(0.0, timeout_ns / 1e9)
        fds = list(fds)
        found = []
        deadline = time.monotonic() + limit
        while True:
            step = min(limit, 0.02) if fds else limit
            info = _signal.sigtimedwait(self._mask, max(0.0, step))
            while info is not None:
                found.append(Signal(info.si_signo, info.si_code, info.si_pid))
                info = _signal.sigtimedwait(self._mask, 0)
            limit = deadline - time.monotonic()
            if fds:
                self._poll(0, fds)
            if found or limit <= 0 or self.ready:
                return found


def _signalfd(library: Any, mask: Iterable[int]) -> int | None:
    """A descriptor for these signals, or None where the kernel or a sandbox has no signalfd(2)."""
    if library is None:
        return None
    bits = 0
    for number in mask:
        bits |= 1 << (number - 1)
    fd = library.signalfd(-1, bits.to_bytes(128, byteorder), SFD_FLAGS)
    return fd if fd >= 0 else None


def default_child_signal() -> bool:
    """Set SIGCHLD to its default, so that children wait to be reaped; True if it had been ignored."""
    ignored = _signal.getsignal(SIGCHLD) == _signal.SIG_IGN
    _signal.signal(SIGCHLD, _signal.SIG_DFL)
    return bool(ignored)


def signals_for_exec(previous: set[int] | None, child_signal_ignored: bool) -> None:
    """Before exec: the mask we were started with, and the dispositions that Python had changed."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    if child_signal_ignored:
        _signal.signal(SIGCHLD, _signal.SIG_IGN)
    if previous is not None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, previous)


def occupy_standard_streams() -> None:
    """Where stdin, stdout or stderr is closed, put /dev/null in its place, for this process alone (close-on-exec).

    A file that is opened later would get that number, and what is said on stderr would be written into it.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def pidfd_open(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where pidfd_open(2) is missing or refused."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def send_signal(machine: Machine, pid: int, start: int, number: int) -> None:
    """To the process of this pid and start, to no other one; without pidfds the moment between is a risk."""
    fd = pidfd_open(pid)
    try:
        if read_stat(machine, pid).start != start:
            return
        if fd is not None:
            _signal.pidfd_send_signal(fd, number)
        else:
            os.kill(pid, number)
    except (*UNREADABLE, OSError):
        pass
    finally:
        if fd is not None:
            os.close(fd)


def next_ended_child() -> int | None:
    """The pid of a child that ended, left as a zombie to be looked at (WNOWAIT); None when there is none.

    Raises ChildProcessError when this process has no children at all.
    """
    info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if info is None else info.si_pid


def reap(pid: int) -> tuple[int, Any]:
    """Reap an ended child: (wait status, resource usage of it and of the children it waited for), wait4(2)."""
    _, status, usage = os.wait4(pid, 0)
    return status, usage


def stop_or_continue(pid: int) -> tuple[int | None, bool]:
    """What job control did to this child since last asked: (signal that stopped it or None, was it continued)."""
    try:
        info = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
    except ChildProcessError:
        return None, False
    if info is None:
        return None, False
    if info.si_code == os.CLD_STOPPED:
        return info.si_status, False
    return None, info.si_code == os.CLD_CONTINUED


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number itself where it has no name."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def say(text: str) -> None:
    """To stderr, whatever becomes of it."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass
