"""The helper process as the tracker sees it: asked without waiting, killed when it hangs, never waited for.

A process that hangs inside a driver may be in state D, where SIGKILL does not reach it: it is left behind.
"""

from __future__ import annotations

import os
import sys

from proctally.kernel.aside import Aside
from proctally.kernel.gpu import GpuReading, unpack
from proctally.kernel.machine import NANOSECONDS, Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

CODE = "import sys;sys.path[:]=sys.argv[5:];from proctally.kernel.gpu_helper import main;main()"
MOST_BYTES = 16 << 20  # of one answer

LIMIT_NS = NANOSECONDS  # after which a sample says that it has no answer
HANG_NS = 10 * NANOSECONDS  # after which the helper is killed
BEGIN_NS = 30 * NANOSECONDS  # the same for its first answer: without persistence mode a driver starts each GPU anew
BACK_OFF_NS = (NANOSECONDS, 10 * NANOSECONDS, 60 * NANOSECONDS)  # before the first, second, third start anew
WELL_NS = 600 * NANOSECONDS  # who served as long is forgiven the starts before


class Helper:
    """One life of the helper: its process, its socket, and what it was asked."""

    __slots__ = ("answered", "asked_ns", "incoming", "known", "number", "outgoing", "process", "socket")

    def __init__(self, process: Aside, socket: Any) -> None:
        self.process = process
        self.socket = socket
        self.known: set[int] = set()  # the members it knows
        self.number = 0
        self.asked_ns: int | None = None  # when the request was made that has no answer yet
        self.answered = False
        self.outgoing = b""
        self.incoming = b""


class HelperProcess:
    """Keeps a helper: starts it when first asked, and anew, a few times, when it ended or hung.

    `started` is called with the pid of each helper as soon as there is one. `trouble`: why there is no answer, or
    None. Who reaps children of any kind has to tell `reaped`; whom nobody reaps is reaped here.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        dev: str = "/dev",
        environment: dict[str, str] | None = None,
        started: Callable[[int], object] | None = None,
        limit_ns: int = LIMIT_NS,
        hang_ns: int = HANG_NS,
        begin_ns: int = BEGIN_NS,
        back_off_ns: tuple[int, ...] = BACK_OFF_NS,
        program: list[str] | None = None,
    ) -> None:
        self._machine = machine
        self._dev = dev
        self._environment = environment
        self._started = started
        self._limit_ns = limit_ns
        self._hang_ns = hang_ns
        self._begin_ns = begin_ns
        self._back_off_ns = back_off_ns
        self._program = program
        self._helper: Helper | None = None
        self._killed: list[Aside] = []  # those that are not reaped yet
        self._ended_ns = 0  # CPU nanoseconds of those that are
        self._failures = 0
        self._retry_ns = 0
        self._born_ns = 0
        self._closed = False
        self._reading: GpuReading | None = None  # the answer that is there and was not taken yet
        self.trouble: str | None = None

    # -- who it is -------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The helper that runs."""
        return None if self._helper is None else self._helper.process.pid

    @property
    def pids(self) -> frozenset[int]:
        """Every helper that may still be a child of this process."""
        return frozenset(process.pid for process in self._processes())

    def _processes(self) -> list[Aside]:
        return [*self._killed, *(() if self._helper is None else (self._helper.process,))]

    @property
    def fileno(self) -> int | None:
        """A descriptor that is readable when more of an answer comes.

        What is there already is received first: who waits for it and takes nothing would be woken for ever.
        """
        self._collect()
        return None if self._helper is None else self._helper.socket.fileno()

    def cpu_ns(self) -> int:
        """The CPU time of all helpers; of those that were killed and reaped by others, as last read."""
        return self._ended_ns + sum(process.cpu_ns() for process in self._processes())

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(self, members: Collection[int]) -> bool:
        """Ask for a reading, unless one is still awaited; starts the helper. False where nothing was asked."""
        now = self._machine.monotonic_ns()
        self._collect()
        if self._helper is None and not self._start(now):
            return False
        helper = self._helper
        if helper is None or helper.asked_ns is not None:
            return False
        import json

        wanted = set(members)
        helper.number += 1
        request = {
            "number": helper.number,
            "add": sorted(wanted - helper.known),
            "drop": sorted(helper.known - wanted),
        }
        helper.known = wanted
        helper.outgoing += json.dumps(request).encode() + b"\n"
        helper.asked_ns = now
        self._flush()
        return self._helper is not None

    def take(self) -> GpuReading | None:
        """The newest answer that has come since, if any. `trouble` then says why there is none."""
        self._collect()
        reading, self._reading = self._reading, None
        helper = self._helper
        if helper is not None and helper.asked_ns is not None:
            waited = self._machine.monotonic_ns() - helper.asked_ns
            if waited > (self._hang_ns if helper.answered else self._begin_ns):
                self._fail(f"the driver hung: no answer in {waited / 1e9:.1f} s, the helper was killed")
            elif waited > self._limit_ns:
                self.trouble = f"no answer from the driver in {waited / 1e9:.1f} s"
        self.reap()
        return reading

    def _collect(self) -> None:
        """Send what is left to be sent, and receive what is there."""
        self._flush()
        ended = self._receive()
        self._reading = self._answer() or self._reading
        if ended is not None and self._helper is not None:
            self._fail(ended)

    def _flush(self) -> None:
        helper = self._helper
        while helper is not None and helper.outgoing:
            import _socket

            try:
                helper.outgoing = helper.outgoing[helper.socket.send(helper.outgoing, _socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                return
            except OSError:
                self._fail("the helper ended")
                return

    def _receive(self) -> str | None:
        """Read what is there; why no more will come, or None."""
        helper = self._helper
        while helper is not None:
            try:
                data = helper.socket.recv(1 << 16)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                return "the helper ended"
            helper.incoming += data
            if len(helper.incoming) > MOST_BYTES:
                return "the helper answered without end"
        return None

    def _answer(self) -> GpuReading | None:
        helper = self._helper
        if helper is None or b"\n" not in helper.incoming:
            return None
        import json

        *lines, helper.incoming = helper.incoming.split(b"\n")
        try:
            answer = json.loads(lines[-1])
            if answer["number"] != helper.number:
                return None
            reading = unpack(answer["reading"]) if "reading" in answer else None
        except (ValueError, TypeError, KeyError) as error:
            self._fail(f"the helper answered nonsense ({type(error).__name__})")
            return None
        helper.asked_ns = None
        helper.answered = True
        helper.process.cpu_ns()  # last read, should others reap it
        self.trouble = None if reading is not None else f"a fault of the reader ({answer.get('fault')})"
        return reading

    # -- its life --------------------------------------------------------------------------------------------------

    def _start(self, now: int) -> bool:
        if self._closed or now < self._retry_ns or self._failures > len(self._back_off_ns):
            return False
        self._born_ns = now
        try:
            self._helper = self._spawn()
        except (OSError, NotImplementedError) as error:  # EAGAIN: the job has all processes that the user may have
            self._fail(f"the helper cannot be started: {getattr(error, 'strerror', None) or error}")
            return False
        if self._started is not None:
            self._started(self._helper.process.pid)
        return True

    def _spawn(self) -> Helper:
        """With the socket as its stdin."""
        import _socket

        if not sys.executable:
            raise OSError(0, "no interpreter is known")
        machine = self._machine
        arguments = [str(os.getpid()), machine.proc, machine.sys, self._dev]
        argv = [sys.executable, "-I", "-S", "-c", CODE, *arguments, *map(os.path.abspath, sys.path)]
        if self._program is not None:
            argv = [*self._program, *arguments]
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            process = Aside(
                machine,
                argv,
                os.environ if self._environment is None else self._environment,
                [
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return Helper(process, ours)

    def _fail(self, why: str) -> None:
        """This helper is of no more use. Another is started after a while, but not for ever."""
        now = self._machine.monotonic_ns()
        if now - self._born_ns > WELL_NS:
            self._failures = 0
        place = min(self._failures, len(self._back_off_ns) - 1)
        self._retry_ns = now + (self._back_off_ns[place] if self._back_off_ns else 0)
        self._failures += 1
        if self._failures > len(self._back_off_ns):
            why += ", for the last time"
        self.trouble = why
        self._kill()

    def _kill(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.socket.close()
            helper.process.kill()
            self._killed.append(helper.process)

    def reap(self) -> bool:
        """Reap the helpers that ended, without waiting; True when none is left to be reaped."""
        self._ended_ns += sum(process.cpu_ns() for process in self._killed if process.reap())
        self._killed = [process for process in self._killed if process.pid]
        return not self._killed

    def reaped(self, pid: int, cpu_ns: int | None = None) -> bool:
        """This process reaped a child: whether it was one of these, which is then known to be gone.

        `cpu_ns`: what wait4 said that it had used.
        """
        found = any(process.reaped(pid, cpu_ns) for process in self._processes())
        if found and self._helper is not None and not self._helper.process.pid:
            self._fail("the helper ended")
        self.reap()
        return found

    def close(self) -> None:
        """End it, without waiting."""
        self._closed = True
        self._kill()
        self.reap()
