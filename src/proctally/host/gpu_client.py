"""The client of the GPU helper: asks without waiting, kills a helper that hangs, starts it again a few times."""

from __future__ import annotations

import os

from proctally.linux.gpu import GpuReading, unpack
from proctally.linux.machine import NANOSECONDS, Machine
from proctally.linux.spawn import HelperClient, python
from proctally.record.codes import HELPER_FAILED, NO_ANSWER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MAX_BYTES = 16 << 20  # of one answer
LATE_NS = NANOSECONDS  # after which a sample says that it has no answer
FIRST_HANG_NS = 30 * NANOSECONDS  # for the first answer: without persistence mode a driver starts each GPU
WELL_NS = 600 * NANOSECONDS  # a helper that ran this long resets the number of starts


class GpuLimits:
    """Maximum wait for an answer; pauses before a helper is started again."""

    def __init__(
        self,
        *,
        late_ns: int = LATE_NS,
        hang_ns: int = 10 * NANOSECONDS,
        pauses_ns: tuple[int, ...] = (NANOSECONDS, 10 * NANOSECONDS, 60 * NANOSECONDS),
    ) -> None:
        self.late_ns = late_ns  # after which a sample says that it has no answer
        self.hang_ns = hang_ns  # after which the helper is killed
        self.pauses_ns = pauses_ns  # before the second, third, fourth start


class GpuPoller(HelperClient):
    """Keeps a helper: starts it when first asked, and a few times again, when it ended or hung.

    `missing`: the code that says why there is no answer, or None.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        dev: str = "/dev",
        environment: dict[str, str] | None = None,
        started: Callable[[int], object] | None = None,
        limits: GpuLimits | None = None,
    ) -> None:
        super().__init__(machine, environment, started)
        self._dev = dev
        self._limits = limits or GpuLimits()
        self._known: set[int] = set()  # the members that the helper knows
        self._number = 0
        self._asked_ns: int | None = None  # when the request was made that has no answer yet
        self._answered = False
        self._outgoing = b""
        self._failures = 0
        self._retry_ns = 0
        self._born_ns = 0
        self._closed = False
        self._reading: GpuReading | None = None  # the answer that is there and was not taken yet
        self.missing: str | None = None

    def command(self) -> list[str]:
        """Return the command line of the helper. Raises OSError."""
        arguments = (str(os.getpid()), self.machine.proc, self.machine.sys, self._dev)
        return python("proctally.host.gpu_helper", *arguments, packages=("pynvml",))

    @property
    def fileno(self) -> int | None:
        """A descriptor that is readable when more of an answer comes.

        What is there is received first: a caller that waits for it and takes nothing would be woken endlessly.
        """
        self._collect()
        return super().fileno

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(self, members: Collection[int]) -> bool:
        """Ask for a reading, unless one is still awaited; starts the helper. False where nothing was asked."""
        now = self.machine.monotonic_ns()
        self._collect()
        if (self.helper is None and not self._start(now)) or self._asked_ns is not None:
            return False
        import json

        wanted = set(members)
        self._number += 1
        request = {
            "number": self._number,
            "add": sorted(wanted - self._known),
            "drop": sorted(self._known - wanted),
        }
        self._known = wanted
        self._outgoing += json.dumps(request).encode() + b"\n"
        self._asked_ns = now
        self._flush()
        return self.helper is not None

    def take(self) -> GpuReading | None:
        """The newest answer that has come since, if any. `missing` then says why there is none."""
        self._collect()
        reading, self._reading = self._reading, None
        if self.helper is not None and self._asked_ns is not None:
            waited = self.machine.monotonic_ns() - self._asked_ns
            if waited > (self._limits.hang_ns if self._answered else FIRST_HANG_NS):
                self._fail(NO_ANSWER)
            elif waited > self._limits.late_ns:
                self.missing = NO_ANSWER
        self.reap()
        return reading

    def _collect(self) -> None:
        """Send what is left to be sent, and receive what is there."""
        self._flush()
        goes_on = self.helper is not None and self.helper.receive(MAX_BYTES)
        self._reading = self._answer() or self._reading
        if not goes_on and self.helper is not None:
            self._fail(HELPER_FAILED)

    def _flush(self) -> None:
        try:
            while self.helper is not None and self._outgoing:
                self._outgoing = self._outgoing[self.helper.send(self._outgoing) :]
        except BlockingIOError:
            pass
        except OSError:
            self._fail(HELPER_FAILED)

    def _answer(self) -> GpuReading | None:
        helper = self.helper
        if helper is None or b"\n" not in helper.incoming:
            return None
        import json

        *lines, helper.incoming = helper.incoming.split(b"\n")
        try:
            answer = json.loads(lines[-1])
            if answer["number"] != self._number:
                return None
            reading = unpack(answer["reading"]) if "reading" in answer else None
        except (ValueError, TypeError, KeyError):
            self._fail(HELPER_FAILED)
            return None
        self._asked_ns = None
        self._answered = True
        helper.cpu_ns()  # last read, should others reap it
        self.missing = None if reading is not None else HELPER_FAILED
        return reading

    # -- its life --------------------------------------------------------------------------------------------------

    def _start(self, now: int) -> bool:
        if self._closed or now < self._retry_ns or self._failures > len(self._limits.pauses_ns):
            return False
        self._born_ns = now
        self._known = set()
        self._number = 0
        self._asked_ns = None
        self._answered = False
        self._outgoing = b""
        try:
            self.begin(self.command())
        except (OSError, NotImplementedError):  # EAGAIN: the job has all processes that the user may have
            self._fail(HELPER_FAILED)
            return False
        return True

    def _fail(self, code: str) -> None:
        """This helper is of no more use. Another is started after a pause, a limited number of times."""
        now = self.machine.monotonic_ns()
        if now - self._born_ns > WELL_NS:
            self._failures = 0
        pauses = self._limits.pauses_ns
        self._retry_ns = now + pauses[min(self._failures, len(pauses) - 1)]
        self._failures += 1
        self.missing = code
        self.drop()

    def reaped(self, pid: int, cpu_ns: int | None = None) -> bool:
        """Return True if the child that was reaped is one of these; the one that is asked has then failed."""
        found = super().reaped(pid, cpu_ns)
        if found and self.helper is not None and not self.helper.pid:
            self._fail(HELPER_FAILED)
        self.reap()
        return found

    def close(self) -> None:
        """End it, without waiting."""
        self._closed = True
        super().close()
