"""One tracked block: what is exchanged with the sampler from its start to its end, and what came of it.

Nothing here ever harms the program: what goes wrong with tracking is a `TrackingWarning`, and what is missing is None.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from contextvars import ContextVar

from proctally.errors import AlreadyClosed, TrackingWarning
from proctally.library.greenlets import wait_as_program
from proctally.library.handlers import raise_from_handler
from proctally.library.listener import Listener
from proctally.library.sampler_client import PRELOAD, client
from proctally.linux.channel import Channel, Closed, Late, Lost, above_standard, identity
from proctally.linux.machine import monotonic, this_machine
from proctally.record.codes import BLOCK_CANCELLED, BLOCK_ENDED, HELPER_FAILED, NO_ANSWER, SWITCHED_OFF, of_error
from proctally.record.objects import Sample, Summary
from proctally.record.writer import json_line
from proctally.text.escape import argument_text, printable
from proctally.tracking.config import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from io import BytesIO
    from typing import Any, TypeVar

    from proctally.record import JsonObject

    Result = TypeVar("Result")

START_SECONDS = 10.0  # maximum wait for the first message of the sampler, on a machine that is very busy
STOP_SECONDS = 5.0  # maximum wait for its last
# between it and the user
OWN_MODULES = tuple(f"proctally.library.{name}" for name in ("block", "run", "track", "listener"))
PASSED = (
    "HOME", "PATH", "XDG_STATE_HOME", "PROCTALLY_", "SLURM_", "PBS_", "LSB_", "JOB_ID", "SGE_", "OMPI_", "USER",
    "NCPUS", "KUBERNETES_SERVICE_HOST", "MY_CPU_REQUEST", "MY_MEM_REQUEST",
)  # fmt: skip

_current: ContextVar[TrackedBlock | None] = ContextVar("proctally_block", default=None)


def _around() -> TrackedBlock | None:
    """Return the block that a new one starts in. One that has ended can still be the current one: it was left out of
    turn, as that of a generator is, which continues while another asks it for more.
    """
    block = _current.get()
    while block is not None and block.is_over():
        block = block.around
    return block


class Missing(str):
    """An unknown part of a run, as text. `code`: why, as in docs/codes.md; None where there is no code for it."""

    code: str | None = None


class RunSummary(Summary):
    """The summary of a run: the fields of `summary` in docs/fields.md, None where unknown.

    `str()` of it is the text that `proctally run` prints at the end, with its newline.
    """

    def __init__(self, values: JsonObject | None = None, name: str | None = None, path: str | None = None) -> None:
        super().__init__(values)
        self._name = name
        self._path = path

    def __str__(self) -> str:
        name = self._name or "run"
        if self.verdict is None:
            return f"proctally {printable(name)}  no summary\n"
        from proctally.text.terminal import Look, columns, knows_blocks
        from proctally.views.summary import render

        environment = dict(os.environ)
        look = Look(columns(environment), blocks=knows_blocks(environment))
        return render(name, self.as_dict(), self._path, look)


class TrackedBlock:
    """One run from its start to its end, and what it is for those that start inside it.

    `missing`: what is not known, as text. `around`: the block that it started in. A copy by `pickle` has what was known
    at that moment, and is over.
    """

    def __init__(self, options: Options, *, is_on: bool, on_sample: Callable[[Sample], object] | None = None) -> None:
        self.id: str = os.urandom(16).hex()
        self.name: str | None = options.name
        self.summary: RunSummary = RunSummary(None, options.name)
        self.missing: list[Missing] = []
        self.around: TrackedBlock | None = None
        self._options = options
        self._on_sample = on_sample
        self._listener: Listener | None = None
        self._is_on = is_on
        self._pid = os.getpid()
        self._channel: Channel | None = None
        self._memory = LineStore()
        self._lines: list[JsonObject] | None = None  # of a copy
        self._path: str | None = None
        self._dropped = 0
        self._has_ended = self._is_summed_up = False
        self.lock: threading.RLock = threading.RLock()  # a handler of signals may mark a phase while one is marked
        self._starting = threading.Lock()
        self._has_begun = self._is_given_up = False

    def is_ours(self) -> bool:
        """Whether this process made it: in a child that was forked inside the block, the run is its parent's."""
        return self._pid == os.getpid()

    def is_over(self) -> bool:
        """Whether it has ended for this process, or never was one of its blocks."""
        return self._has_ended or not self.is_ours()

    def __getstate__(self) -> JsonObject:
        path = self.path
        return {
            "id": self.id, "name": self.name, "summary": self.summary, "missing": list(self.missing), "path": path,
            "lines": list(self.lines()) if path is None else None,
        }  # fmt: skip

    def __setstate__(self, state: JsonObject) -> None:
        self.__init__(Options(), is_on=True)  # type: ignore[misc]
        self.id, self.name, self.summary = state["id"], state["name"], state["summary"]
        self.missing, self._path, self._lines = state["missing"], state["path"], state["lines"]
        self._has_ended = True

    # -- start and end -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Have the sampler take the baseline, and be the current block."""
        self._open()
        self._entered()

    async def start_async(self) -> None:
        """The same in a thread, while the event loop continues."""
        try:
            await _aside(self._begin)
        except BaseException:  # given up while the sampler began: it is told as soon as it has
            with self._starting:
                self._is_given_up = True
                has_begun = self._has_begun
            if has_begun:
                _in_a_thread(self._cancel)
            raise
        self._entered()

    def _begin(self) -> None:
        self._open()
        with self._starting:
            self._has_begun = True
            is_given_up = self._is_given_up
        if is_given_up:
            self._cancel()

    def _cancel(self) -> None:
        self._close("ended", BLOCK_CANCELLED)

    def stop(self, error: BaseException | None) -> None:
        """Have the sampler take the last sample. `error`: the exception that ended the block."""
        self._left()
        self._close(*_outcome(error))

    async def stop_async(self, error: BaseException | None) -> None:
        """The same in a thread, while the event loop continues."""
        self._left()
        await _aside(lambda: self._close(*_outcome(error)))

    def _entered(self) -> None:
        self.around = _around()
        _current.set(self)

    def _left(self) -> None:
        self._has_ended = True
        if _current.get() is self:
            _current.set(self.around)

    # -- messages ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Have the sampler take the baseline; return when it is taken, or cannot be."""
        if not self._is_on:
            self.miss("everything: tracking is switched off (PROCTALLY_DISABLE)", SWITCHED_OFF, is_shown=False)
            return
        deadline = monotonic() + START_SECONDS
        try:
            self._channel = self._open_channel(deadline)
            wait_as_program(self._channel.fileno(), deadline)
            self._hear(max(0.0, deadline - monotonic()))
        except Exception as error:
            self._let_go()
            if self._listener is not None:
                self._listener.close()
            self._memory = LineStore()  # there is nothing in it
            raise_from_handler(error)
            self.miss(f"everything: {_reason(error, 'the sampler did not begin')}", _code(error))
        except BaseException:
            self._let_go()
            raise

    def _open_channel(self, deadline: float) -> Channel:
        """Hand the block over to the sampler, with what takes its lines and its samples. Raises OSError."""
        fds = self._memory.make()
        if self._on_sample is not None:
            self._listener = Listener(self._on_sample, warn)
            fds = (*fds, self._listener.fileno())
        channel = client.open(self._message(), fds, deadline)
        if self._listener is not None:
            self._listener.start()
        return channel

    def _message(self) -> JsonObject:
        around = _around()
        environment = dict(os.environ)
        if around is not None:
            environment["PROCTALLY_RUN_ID"] = around.id
        if sum(len(name) + len(value) for name, value in environment.items()) > 50_000:
            environment = {name: value for name, value in environment.items() if name.startswith(PASSED)}
        return {
            "run_id": self.id,
            "cwd": _cwd(),
            "environment": environment,
            "options": vars(self._options),
            "is_heard": self._listener is not None,
        }

    def _hear(self, timeout: float) -> None:
        """Take one message. Raises OSError or SamplerError."""
        assert self._channel is not None
        message, _ = self._channel.receive(timeout)
        kind: str = message["type"]
        if kind == "begun" and message["parent"] == self._pid:
            client.adopted(message["pid"])
        elif kind == "record":
            self._path = message["path"]
        elif kind == "summary":
            self._is_summed_up = True
            self.summary = RunSummary(message["summary"], self.name, self._path)
            for warning in message["warnings"]:
                self.miss(warning)
        elif kind == "failed":
            raise SamplerError(message["why"], message["code"])

    def _hear_rest(self) -> None:
        """Take what was said already."""
        try:
            while self._channel is not None:
                self._hear(0.0)
        except (OSError, SamplerError):
            pass

    def _close(self, verdict: str, code: str, exception: str | None = None) -> None:
        """Have the sampler take the last sample. Returns when it was written, or when the limit is over.

        `code`: the reason; `exception`: the type of what ended the block.
        """
        if self._channel is None or not self.is_ours():
            return
        deadline = monotonic() + STOP_SECONDS
        try:
            with self.lock:
                message = {"type": "stop", "verdict": verdict, "code": code, "exception": exception}
                self._channel.send(message, STOP_SECONDS)
            while not self._is_summed_up:
                wait_as_program(self._channel.fileno(), deadline)
                with self.lock:  # `path` of another thread may have received it
                    if not self._is_summed_up:
                        self._hear(max(0.0, deadline - monotonic()))
        except Exception as error:
            self._hear_rest()
            raise_from_handler(error)
            late = f"the sampler did not answer within {STOP_SECONDS:g} s"
            self.miss(f"the summary: {_reason(error, late)}", _code(error))
        finally:
            self._let_go()
        if self._listener is not None:
            self._listener.finish(deadline)
        if self._dropped:
            self.miss(f"{self._dropped} marks of phases: the sampler did not take them")

    def _let_go(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            client.close(channel)

    def check_open(self) -> None:
        """Raise AlreadyClosed after its end."""
        if self._has_ended:
            raise AlreadyClosed(f"run {self.name or self.id}: has ended; start phases inside the block")

    def mark(self, name: str, event: str) -> None:
        """Send the start or the end of a phase; never waits."""
        if self._channel is None or not self.is_ours():
            return
        with self.lock:
            try:
                machine = this_machine()  # the clocks that the sampler believes
                at, moment = round(machine.time(), 4), machine.monotonic_ns()
                self._channel.send({"type": "phase", "name": name, "event": event, "at": at, "moment": moment}, 0.0)
            except (OSError, AttributeError):
                self._dropped += 1

    def miss(self, what: str, code: str | None = None, *, is_shown: bool = True) -> None:
        """Add to what is missing, and warn of it at the line of the program that called."""
        self.missing.append(Missing(argument_text(what)))
        self.missing[-1].code = code
        if is_shown:
            warn(printable(what))

    @property
    def path(self) -> str | None:
        """The file of its record; None where there is none, or while it is not known."""
        if self._path is None and self._channel is not None and self.is_ours():
            with self.lock:
                self._hear_rest()
        return self._path

    def as_file(self) -> RecordFile:
        """Return a context manager with the path of a file that has the lines so far."""
        return RecordFile(self)

    def lines(self) -> Iterator[JsonObject]:
        """Yield the lines of the record so far; none where it cannot be read."""
        if self._lines is not None:
            yield from self._lines
        if not self._is_on:
            return
        try:
            path, opened = self.path, None
            if path is None:
                path, opened = "memory", self._memory.open()
                if opened is None:
                    return
            from proctally.record.reader import read

            yield from read(path, opened)
        except (OSError, ValueError, ImportError) as error:
            self.miss(f"samples: the record cannot be read ({error})", of_error(error))


class RecordFile:
    """A context manager: the path of the record of a block, or of a file in memory with its lines."""

    def __init__(self, block: TrackedBlock) -> None:
        self._block = block
        self._fd = -1

    def __enter__(self) -> str:
        if self._block.path is not None:
            return self._block.path
        self._fd = os.memfd_create("proctally")
        with open(self._fd, "wb", closefd=False) as file:
            file.writelines(map(json_line, self._block.lines()))
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class LineStore:
    """The lines of a run without a file, in memory; another thread may close its descriptor."""

    def __init__(self) -> None:
        self._fd = -1
        self._identity: tuple[int, int] | None = None

    def make(self) -> tuple[int, ...]:
        """Its descriptor; none where it cannot be had."""
        try:
            self._fd = above_standard(os.memfd_create("proctally"))
        except (AttributeError, OSError):
            return ()
        self._identity = identity(self._fd)
        return (self._fd,)

    def _is_there(self) -> bool:
        return self._identity is not None and identity(self._fd) == self._identity

    def open(self) -> BytesIO | None:
        """Return a file with the lines so far; None without any. The offset of the descriptor is the sampler's."""
        if not self._is_there():
            return None
        from io import BytesIO

        return BytesIO(os.pread(self._fd, os.fstat(self._fd).st_size, 0))

    def __del__(self) -> None:
        if self._is_there():
            os.close(self._fd)


class SamplerError(Exception):
    """The sampler failed to track this block: its reason, and the code of it."""

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(f"the sampler failed ({reason})")
        self.code = code


def _code(error: Exception) -> str:
    if isinstance(error, Late):
        return NO_ANSWER
    if isinstance(error, SamplerError):
        return error.code
    has_ended = isinstance(error, ImportError | Closed) and not isinstance(error, Lost)
    return HELPER_FAILED if has_ended else of_error(error)


def _reason(error: Exception, late: str) -> str:
    if isinstance(error, Late):
        return late
    if isinstance(error, Closed) and not isinstance(error, Lost):
        return "the sampler has ended"
    if isinstance(error, ImportError):
        return f"{error}; {PRELOAD}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def warn(what: str) -> None:
    """Issue a `TrackingWarning` at the line of the program that called."""
    try:
        warnings.warn(f"proctally: {what}", TrackingWarning, stacklevel=_outside())
    except TrackingWarning:  # where warnings are errors: it would end the program that is tracked
        pass


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _outside() -> int:
    """Return the level, for `warnings.warn` of the caller, of the first frame outside of these modules."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in OWN_MODULES:
        level, frame = level + 1, frame.f_back
    return level


def _outcome(error: BaseException | None) -> tuple[str, str, str | None]:
    """Return verdict, reason, and the type of the exception: its text might be secret."""
    if error is None:
        return "ok", BLOCK_ENDED, None
    is_ok = isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and not error.code)
    return "ok" if is_ok else "failed", BLOCK_ENDED, type(error).__name__


async def _aside(call: Callable[[], Result]) -> Result:
    """Do this in a thread of its own while the event loop goes on; at once where no loop of asyncio runs.

    A thread that ends, not one of the loop's executor: those stay, and would be counted in every sample.
    """
    asyncio = sys.modules.get("asyncio")
    try:
        loop = asyncio.get_running_loop() if asyncio is not None else None
    except RuntimeError:
        loop = None
    if loop is None:
        return call()
    future: Awaitable[Result] = loop.create_future()
    from contextvars import copy_context

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():  # type: ignore[attr-defined]
            future.set_exception(error) if error else future.set_result(result)  # type: ignore[attr-defined]

    def work() -> None:
        result: Any = None
        failed: BaseException | None = None
        try:
            result = context.run(call)
        except BaseException as error:
            failed = error
        try:
            loop.call_soon_threadsafe(settle, result, failed)
        except RuntimeError:  # the loop was closed meanwhile
            pass

    context = copy_context()
    _in_a_thread(work)
    return await future


def _in_a_thread(work: Callable[[], object]) -> None:
    """Do this in a thread of its own; here and now where there can be no more of them."""
    try:
        threading.Thread(target=work, daemon=True, name="proctally").start()
    except RuntimeError:
        work()
