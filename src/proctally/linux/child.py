"""Children and signals: subreaper, signal descriptors, pidfds, waiting.

No other module imports `_signal`, the built-in module below `signal`: the latter builds enumerations, and its import
takes 4.6 ms instead of 0.1.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore]
import os
from errno import EAGAIN
from sys import byteorder, maxsize

from proctally.errors import UNREADABLE
from proctally.linux.machine import monotonic
from proctally.linux.proc import read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from resource import struct_rusage
    from typing import Any

    from proctally.linux.c_library import CLibrary
    from proctally.linux.machine import Machine

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
SFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK  # SFD_CLOEXEC | SFD_NONBLOCK have the same values
SIGNALFD_SIGINFO_BYTES = 128  # struct signalfd_siginfo
SIGNALFD_READ_BYTES = 32 * SIGNALFD_SIGINFO_BYTES
READS_AT_ONCE = 16  # of a flood of signals, between which everything else gets its turn
RT_SIGPROCMASK = {"x86_64": 14, "aarch64": 135}  # number of rt_sigprocmask(2)
SIG_BLOCK = 0  # include/uapi/asm-generic/signal-defs.h
POLLIN = 0x001  # include/uapi/asm-generic/poll.h

LONGEST_POLL_MS = 1e9  # poll(2) takes an int

# include/uapi/asm-generic/siginfo.h. What is above 0 comes from the kernel; SI_KERNEL is also that of the terminal.
SI_KERNEL = 0x80
SI_QUEUE = -1

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
SIGURG = 23
SIGWINCH = 28

TIMERS = (0, 1, 2)  # ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF: include/uapi/linux/time.h

FAULTS = {4, 5, 6, 7, 8, 11, 31}  # SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: mistakes in a program
HARMLESS = {SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH}  # by default they end no program


def catchable() -> set[int]:
    """Return every signal that the kernel lets a program catch, also those that the C library keeps for itself.

    glibc uses 32 and 33 between the threads of one program, musl 34 too, and neither lets a program block them. For
    kill(2) they are like the others: they end a program of one thread.
    """
    return set(range(1, _signal.NSIG)) - {SIGKILL, SIGSTOP}


def stopping() -> set[int]:
    """Return the signals that end a program by default, without those that were ignored when this one started."""
    return {each for each in catchable() - HARMLESS if _signal.getsignal(each) != _signal.SIG_IGN}


def ending() -> set[int]:
    """Return the signals of `stopping()` for which a handler can be set: a fault would come back after it."""
    defaults = (_signal.SIG_DFL, _signal.default_int_handler)
    return {each for each in (stopping() & valid_signals()) - FAULTS if _signal.getsignal(each) in defaults}


def hold_signals() -> set[int]:
    """Hold back what ends a program, until a `SignalFd` of `stopping()` reads it; return the mask before."""
    held: set[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, stopping() & valid_signals())
    return held


def call_before_end(call: Callable[[], object], mask: set[int]) -> None:
    """Make this call before a signal ends this program. `mask`: what `hold_signals` returned; it is set again."""

    def end(number: int, _: object) -> None:
        call()
        default_signals((number,))
        os.kill(os.getpid(), number)

    for number in ending():
        _signal.signal(number, end)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def set_interrupt(*, raises: bool) -> None:
    """Have Ctrl-C end this program or raise KeyboardInterrupt, which the interpreter can print in an import."""
    if _signal.getsignal(SIGINT) != _signal.SIG_IGN:
        _signal.signal(SIGINT, _signal.default_int_handler if raises else _signal.SIG_DFL)


def become_subreaper(library: CLibrary | None) -> bool:
    """Have orphaned descendants come back to this process (PR_SET_CHILD_SUBREAPER, prctl(2)); False if refused."""
    return library is not None and library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def signal_names() -> dict[int, str]:
    """Return the name of each signal, such as SIGKILL, as `signal.Signals` has it: that module takes 8 ms to load."""
    found: dict[int, str] = {}
    for name, number in sorted(vars(_signal).items(), reverse=True):
        if name.startswith("SIG") and not name.startswith("SIG_"):
            found[int(number)] = name  # of two names the first one stays: SIGCHLD, not SIGCLD
    return found


class Signal:
    """One signal that arrived: its number, why (`code`), and who sent it (0: the kernel, or another namespace).

    `value`: what sigqueue(3) sent with it, as a signed long; None where it sent nothing.
    """

    __slots__ = ("code", "number", "sender", "value")

    def __init__(self, number: int, code: int, sender: int, value: int | None = None) -> None:
        self.number = number
        self.code = code
        self.sender = sender
        self.value = value


class Poller:
    """One poll object that is kept from wait to wait, and made again when the set of descriptors changed.

    `hung`: descriptors without further data; they are not polled again.
    """

    __slots__ = ("_fds", "_poll", "hung")

    def __init__(self) -> None:
        self._fds: list[int] | None = None
        self._poll: Any = None
        self.hung: set[int] = set()

    def wait(self, fds: list[int], timeout_ns: int | None) -> list[int]:
        """Return the descriptors that are ready, after at most this many nanoseconds (None: without limit)."""
        if fds != self._fds:
            self._renew(fds)
        found = self._poll.poll(None if timeout_ns is None else min(max(0, timeout_ns) / 1e6, LONGEST_POLL_MS))
        ready = []
        for fd, events in found:
            ready.append(fd)
            if not events & POLLIN:
                self.hung.add(fd)
                self._poll.unregister(fd)
        return ready

    def forget(self) -> None:
        """Poll every descriptor again: the number of a closed one can be that of another file by now."""
        self._fds = None
        self.hung.clear()

    def _renew(self, fds: list[int]) -> None:
        from select import poll

        self.hung.intersection_update(fds)
        self._poll = poll()
        for fd in fds:
            if fd not in self.hung:
                self._poll.register(fd, POLLIN)
        self._fds = list(fds)


class SignalFd:
    """Signals that are blocked and read, never handled: none is lost, and each has its sender.

    `wait` returns when one arrives, when one of the given descriptors is ready, or at the deadline.
    """

    def __init__(self, library: CLibrary | None, numbers: Iterable[int]) -> None:
        wanted = set(numbers)
        self._mask = wanted & valid_signals()
        self.previous: set[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, self._mask)
        self.fd = _signalfd(library, wanted)
        if library is not None and self.fd is not None:
            _block_internal(library, wanted - self._mask)
        self._poller = Poller()
        self._received: list[Signal] = []

    @property
    def hung(self) -> set[int]:
        """Descriptors without further data: they are not polled again."""
        return self._poller.hung

    def forget(self) -> None:
        """Poll every descriptor again, as `Poller.forget`."""
        self._poller.forget()

    def wait(self, fds: list[int], timeout_ns: int | None) -> list[int]:
        """Return the given descriptors that are ready, as `Poller.wait`, or none when a signal is there to take."""
        if self.fd is None:
            return self._wait_without_descriptor(fds, timeout_ns)
        ready = self._poller.wait([self.fd, *fds], timeout_ns)
        if self.fd in ready:
            ready.remove(self.fd)
            self._received += self._read()
        return ready

    def close(self) -> None:
        """Close the descriptor and restore the mask: signals that wait are delivered."""
        if self.fd is not None:
            os.close(self.fd)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.previous & valid_signals())

    def look(self) -> None:
        """Take in the signals that are there, without waiting."""
        if self.fd is not None:
            self._received += self._read()

    def take(self) -> list[Signal]:
        """Return the signals that came since the last call."""
        received, self._received = self._received, []
        return received

    def _read(self) -> list[Signal]:
        found: list[Signal] = []
        assert self.fd is not None
        for _ in range(READS_AT_ONCE):
            try:
                data = os.read(self.fd, SIGNALFD_READ_BYTES)
            except BlockingIOError:
                break
            for at in range(0, len(data), SIGNALFD_SIGINFO_BYTES):
                number = int.from_bytes(data[at : at + 4], byteorder)
                code = int.from_bytes(data[at + 8 : at + 12], byteorder, signed=True)
                sender = int.from_bytes(data[at + 12 : at + 16], byteorder)
                value = None
                if code == SI_QUEUE:
                    value = int.from_bytes(data[at + 48 : at + 56], byteorder, signed=True)
                found.append(Signal(number, code, sender, value))
            if len(data) < SIGNALFD_READ_BYTES:
                break
        return found

    def _wait_without_descriptor(self, fds: list[int], timeout_ns: int | None) -> list[int]:
        """Wait by sigtimedwait(2), which sees signals alone: descriptors are polled every 20 ms."""
        limit = 3600.0 if timeout_ns is None else max(0.0, timeout_ns / 1e9)
        deadline = monotonic() + limit
        while True:
            step = min(limit, 0.02) if fds else limit
            info = _signal.sigtimedwait(self._mask, max(0.0, step))
            while info is not None:
                self._received.append(Signal(info.si_signo, info.si_code, info.si_pid))
                at_once = len(self._received) < READS_AT_ONCE
                info = _signal.sigtimedwait(self._mask, 0) if at_once else None
            limit = deadline - monotonic()
            ready = self._poller.wait(fds, 0) if fds else []
            if ready or self._received or limit <= 0:
                return ready


def _signalfd(library: CLibrary | None, mask: Iterable[int]) -> int | None:
    """A descriptor for these signals, or None where the kernel or a sandbox has no signalfd(2)."""
    if library is None:
        return None
    bits = 0
    for number in mask:
        bits |= 1 << (number - 1)
    fd = library.signalfd(-1, bits.to_bytes(128, byteorder), SFD_FLAGS)
    return fd if fd >= 0 else None


def _block_internal(library: CLibrary, numbers: Iterable[int]) -> None:
    """Block signals of the C library, which it takes out of every mask. One thread needs none of them."""
    call = RT_SIGPROCMASK.get(os.uname().machine)
    if call is not None and maxsize > 1 << 32:  # a program of 32 bits has other numbers
        bits = sum(1 << (number - 1) for number in numbers)
        library.syscall(call, SIG_BLOCK, bits.to_bytes(8, byteorder), None, 8)


def queue_signal(library: CLibrary, pid: int, number: int, value: int) -> bool:
    """Send a signal with a value by sigqueue(3); False where no more can wait for this process now."""
    from proctally.linux.c_library import Long, last_errno

    return library.sigqueue(pid, number, Long(value)) == 0 or last_errno() != EAGAIN


def take_timers() -> list[tuple[float, float]]:
    """Stop the timers of setitimer(2) that exec left to this process; return (delay, interval) of each, in seconds."""
    return [_signal.setitimer(which, 0) for which in TIMERS]


def default_child_signal() -> bool:
    """Set SIGCHLD to its default, so that children wait to be reaped; True if it had been ignored."""
    ignored = _signal.getsignal(SIGCHLD) == _signal.SIG_IGN
    default_signals((SIGCHLD,))
    return bool(ignored)


def ignore_child_signal() -> None:
    """Ignore SIGCHLD: the kernel reaps each child."""
    _signal.signal(SIGCHLD, _signal.SIG_IGN)


def signals_for_exec(
    previous: set[int] | None, child_signal_ignored: bool, timers: Iterable[tuple[float, float]] = ()
) -> None:
    """Before exec: the mask and timers we were started with, and the dispositions that Python had changed.

    What SIGPIPE and SIGXFSZ were before cannot be known: the interpreter ignores both at its start.
    """
    default_signals((_signal.SIGPIPE, _signal.SIGXFSZ))
    if _signal.getsignal(SIGINT) == _signal.default_int_handler:  # it would end the child with another status
        default_signals((SIGINT,))
    if child_signal_ignored:
        ignore_child_signal()
    for which, (delay, interval) in zip(TIMERS, timers, strict=False):
        if delay:
            _signal.setitimer(which, delay, interval)
    if previous is not None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, previous & valid_signals())


def pause(seconds: float) -> None:
    """Sleep by sigtimedwait(2), which no library replaces: `time.sleep` of gevent lets other code run.

    Nor does it end at a moment of a clock, which a library can shift.
    """
    _signal.sigtimedwait((), seconds)


def pidfd_open(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where pidfd_open(2) is missing or refused."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def signal_pidfd(fd: int, number: int) -> None:
    """Send a signal by pidfd_send_signal(2). Raises OSError."""
    _signal.pidfd_send_signal(fd, number)


def valid_signals() -> set[int]:
    """Return the numbers of all signals that a program may handle."""
    return set(_signal.valid_signals())


def default_signals(numbers: Iterable[int]) -> None:
    """Set the default disposition."""
    for number in numbers:
        _signal.signal(number, _signal.SIG_DFL)


def send_signal(machine: Machine, pid: int, start: int, number: int) -> None:
    """To the process of this pid and start, to no other one; without pidfds the moment between is a risk."""
    fd = pidfd_open(pid)
    try:
        if read_stat(machine, pid).start != start:
            return
        if fd is not None:
            signal_pidfd(fd, number)
        else:
            os.kill(pid, number)
    except UNREADABLE:
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


def reap(pid: int) -> tuple[int, struct_rusage]:
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


def initial_environment() -> list[bytes]:
    """Return the entries of the environment that this process was given, byte for byte.

    `os.environ` lacks duplicates and entries without `=`, and Python sets LC_CTYPE in it where the locale is C
    (PEP 538). It is the answer where /proc/self/environ cannot be read.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            return file.read().split(b"\0")[:-1]
    except OSError:
        return [key + b"=" + value for key, value in os.environb.items()]


def name_process(name: str) -> None:
    """Set the name of this process as other programs see it (`/proc/self/comm`), where that is possible."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:
        pass
