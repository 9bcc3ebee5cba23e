"""`proctally.track()`: what a block of this program uses, sampled from a process beside it.

The sampler (sidecar.py) is a grandchild whose parent exits at once, so that whoever adopts orphans reaps it: neither
its CPU time nor its memory is ever in this process's RUSAGE_CHILDREN. What stands between is a shell, which uses half a
millisecond where an interpreter uses ten. Nothing here ever harms the program: what goes wrong with tracking is a
`TrackingWarning`, and what could not be had is None.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextvars import ContextVar

from proctally.kernel.aside import spawn
from proctally.kernel.channel import Channel, Closed, Late, Lost, above_standard, identity, pair
from proctally.kernel.machine import Machine
from proctally.kernel.proc import read_stat
from proctally.options import MIN_INTERVAL, ON, Options
from proctally.results import SECTIONS, Phase, Sample, Summary, flat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Literal, TypeVar

    from proctally.kernel.aside import Action

    Function = TypeVar("Function", bound=Callable[..., Any])
    Result = TypeVar("Result")

START_SECONDS = 10.0  # so long is waited for the sampler's first word, on a machine that is very busy
STOP_SECONDS = 5.0  # ... and so long for its last
CONTROL_FD = 3
HIGH_FD = 10
SHELL = "/bin/sh"
CODE = "import sys;sys.path+=sys.argv[3:];from proctally.sidecar import main;main()"
INTO_BACKGROUND = '"$@" 3<&3 &'  # a shell gives /dev/null to what it puts there, unless it is told otherwise
FORK = "import os,sys;os._exit(0) if os.fork() else os.execv(sys.argv[1],sys.argv[1:])"
OWN_STREAMS = ("-", "/dev/stdin", "/dev/stdout", "/dev/stderr")
OWN_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")
PASSED = ("HOME", "PATH", "XDG_STATE_HOME", "PROCTALLY_", "SLURM_", "PBS_", "LSB_", "JOB_ID", "SGE_", "OMPI_", "USER")

_current: ContextVar[Run | None] = ContextVar("proctally_run", default=None)


def _around() -> Run | None:
    """The run that a block begins in. One that has ended may still stand here: its block was left out of turn.

    That of a generator, say, which goes on as long as somebody asks it for more.
    """
    run = _current.get()
    while run is not None and (run._has_ended or not run._is_ours()):
        run = run._around
    return run


class TrackingWarning(RuntimeWarning):
    """Tracking could not do what it should; the program that is tracked goes on as if nothing were."""


# -- the process beside this one -------------------------------------------------------------------------------------


class Sampler:
    """The process beside this one, as long as any block is open, and the channels to it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a handler of signals may open a block while one begins
        self._users = 0
        self._control: Channel | None = None
        self._pid = 0  # where it became our child, because this process adopts orphans; else 0
        self._unreaped: set[int] = set()
        self._channels: set[Channel] = set()

    def open(self, message: dict[str, Any], fds: tuple[int, ...], deadline: float) -> Channel:
        """The channel of a new block, which was told of. Raises OSError, NotImplementedError."""
        ours, theirs = pair()
        self._channels |= {ours, theirs}
        try:
            with self._lock:
                self._reap()
                message["strangers"] = sorted(self._unreaped)
                try:
                    self._send(message, (theirs.fileno(), *fds), deadline)
                    self._users += 1
                finally:
                    if not self._users:
                        self._drop_control()
        except BaseException:
            self._forget(ours)
            raise
        finally:
            self._forget(theirs)
        return ours

    def _send(self, message: dict[str, Any], fds: tuple[int, ...], deadline: float) -> None:
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
            self._users -= 1
            if not self._users:
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
        start = read_stat(Machine(), pid).start
        argv = [_interpreter(), "-I", "-S", "-c", CODE, str(pid), str(start), *_paths()]
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


def _interpreter() -> str:
    """An interpreter that can be started with `-c`; what embeds one is none."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys.executable or "", os.path.join(sys.base_exec_prefix, "bin", version)]
    if not getattr(sys, "frozen", False):
        for path in candidates:
            if os.path.basename(path).startswith("python") and os.access(path, os.X_OK):
                return path
    raise OSError(0, "there is no interpreter that could be started")


def _paths() -> list[str]:
    """Where the sampler finds this package, and then what else this program finds (the binding of NVML)."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [package, *(path for path in map(os.path.abspath, sys.path) if path != package)]


_sampler = Sampler()
_forks_are_watched = False


def _watch_forks() -> None:
    global _forks_are_watched
    if not _forks_are_watched:
        _forks_are_watched = True
        os.register_at_fork(after_in_child=_sampler.forked)


# -- one block -------------------------------------------------------------------------------------------------------


class Run:
    """One tracked block: what is known of it while it runs, and all of it once it has ended.

    `id`: the identity of its record. `summary`: as in the record; until the block has ended, and where something went
    wrong, everything in it is None. `missing`: what could not be had, in words.
    """

    def __init__(self, options: Options, *, is_on: bool) -> None:
        self.id = os.urandom(16).hex()
        self.name = options.name
        self.summary = Summary()
        self.missing: list[str] = []
        self._options = options
        self._is_on = is_on
        self._pid = os.getpid()
        self._channel: Channel | None = None
        self._memory = Memory()
        self._path: str | None = None
        self._dropped = 0
        self._around: Run | None = None
        self._has_ended = False
        self._lock = threading.RLock()  # a handler of signals may mark a phase while one is marked

    # -- what it says ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """The file of its record; None where there is none, or where it is not known yet."""
        if self._path is None and self._channel is not None and self._is_ours():
            with self._lock:
                self._hear_rest()
        return self._path

    @property
    def samples(self) -> list[Sample]:
        """The samples so far, oldest first; empty where none could be had."""
        return [Sample(line) for line in self._lines() if line["type"] == "sample"]

    @property
    def phases(self) -> list[Phase]:
        """The phases so far, in the order of their begin."""
        found: list[dict[str, Any]] = []
        open_: dict[str, list[dict[str, Any]]] = {}
        for line in self._lines():
            if line["type"] != "phase":
                continue
            if line["event"] == "begin":
                found.append({"name": line["name"], "began_at": line["at"], "begin": line})
                open_.setdefault(line["name"], []).append(found[-1])
            elif open_.get(line["name"]):
                phase = open_[line["name"]].pop()
                phase["ended_at"] = line["at"]
                for name, count in (("wall_seconds", "elapsed_seconds"), ("cpu_seconds", "cpu_seconds")):
                    phase[name] = round(line[count] - phase["begin"][count], 4)
        return [Phase({name: value for name, value in phase.items() if name != "begin"}) for phase in found]

    def to_dataframe(self, library: Literal["pandas", "polars"] | None = None) -> Any:
        """The samples as a table, a column for each single value: `at`, `tree.cpu_seconds`, `system.memory.used_bytes`.

        `library`: pandas or polars; None takes the one that is installed, pandas before polars. Raises ImportError
        where it is not: neither is needed for anything else.
        """
        rows = [flat(sample.as_dict()) for sample in self.samples]
        names = dict.fromkeys(name for row in rows for name in row)
        for section in (*SECTIONS, *[name.rpartition(".")[0] for name in names]):
            names.pop(section, None)  # it was null in one of them
        columns = {name: [row.get(name) for row in rows] for name in names}
        return _frame_maker(library)(columns)

    def phase(self, name: str) -> _PhaseBlock:
        """A context manager that marks a part of the block in the record, with the CPU time it used."""
        return _PhaseBlock(self, name)

    def __repr__(self) -> str:
        return f"<proctally run {self.name or self.id[:8]}: {self.summary.verdict or 'not ended'}>"

    # -- its life ----------------------------------------------------------------------------------------------------

    def _is_ours(self) -> bool:
        """Not in a child that was forked inside the block: the run is its parent's."""
        return self._pid == os.getpid()

    def _start(self) -> None:
        """Have the sampler take the baseline. Returns when it was taken, or when that cannot be."""
        if not self._is_on:
            self._miss("everything: tracking is switched off (PROCTALLY_DISABLE)", warn=False)
            return
        deadline = time.monotonic() + START_SECONDS
        try:
            self._channel = _sampler.open(self._message(), self._memory.make(), deadline)
            self._hear(max(0.0, deadline - time.monotonic()))
        except Exception as error:
            self._let_go()
            self._miss(f"everything: {_reason(error, 'the sampler did not begin')}")
        except BaseException:
            self._let_go()
            raise

    def _message(self) -> dict[str, Any]:
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
        }

    def _hear(self, timeout: float) -> str:
        """Take one message; its type. Raises OSError."""
        assert self._channel is not None
        message, _ = self._channel.receive(timeout)
        kind: str = message["type"]
        if kind == "begun" and message["parent"] == self._pid:
            _sampler.adopted(message["pid"])
        elif kind == "record":
            self._path = message["path"]
        elif kind == "summary":
            self.summary = Summary(message["summary"])
            for warning in message["warnings"]:
                self._miss(warning)
        elif kind == "failed":
            raise OSError(0, f"the sampler failed ({message['why']})")
        return kind

    def _hear_rest(self) -> None:
        """Take what was said already."""
        try:
            while self._channel is not None:
                self._hear(0.0)
        except OSError:
            pass

    def _stop(self, verdict: str, evidence: str) -> None:
        """Have the sampler take the last sample. Returns when it was written, or when the limit is over."""
        if self._channel is None or not self._is_ours():
            return
        deadline = time.monotonic() + STOP_SECONDS
        try:
            with self._lock:
                self._channel.send({"type": "stop", "verdict": verdict, "evidence": evidence}, STOP_SECONDS)
                while self._hear(max(0.0, deadline - time.monotonic())) != "summary":
                    pass
        except Exception as error:
            self._hear_rest()
            self._miss(f"the summary: {_reason(error, f'the sampler did not answer within {STOP_SECONDS:g} s')}")
        finally:
            self._let_go()
        if self._dropped:
            self._miss(f"{self._dropped} marks of phases: the sampler did not take them")

    def _let_go(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            _sampler.close(channel)

    def _mark(self, name: str, event: str) -> None:
        """Tell of a phase; never waits."""
        if self._channel is None or not self._is_ours():
            return
        with self._lock:
            try:
                at, moment = round(time.time(), 4), time.monotonic_ns()
                self._channel.send({"type": "phase", "name": name, "event": event, "at": at, "moment": moment}, 0.0)
            except (OSError, AttributeError):
                self._dropped += 1

    def _miss(self, what: str, *, warn: bool = True) -> None:
        self.missing.append(what)
        if warn:
            import warnings

            try:
                warnings.warn(f"proctally: {what}", TrackingWarning, stacklevel=_outside())
            except TrackingWarning:  # where warnings are errors: it would end the program that is tracked
                pass

    def _lines(self) -> Iterator[dict[str, Any]]:
        from proctally.record import read

        path = self.path or self._memory.path
        if path is None or not self._is_on:
            return
        try:
            yield from read(path)
        except (OSError, ValueError) as error:
            self._miss(f"samples: the record cannot be read ({error})")


class Memory:
    """Where the lines of a run go that have no file; a descriptor that others may have closed meanwhile."""

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

    @property
    def path(self) -> str | None:
        """Where it can be read, if it can."""
        is_there = self._identity is not None and identity(self._fd) == self._identity
        return f"/proc/self/fd/{self._fd}" if is_there else None

    def __del__(self) -> None:
        if self.path is not None:
            os.close(self._fd)


class _PhaseBlock:
    """`with run.phase(name):`"""

    __slots__ = ("_name", "_run")

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self._name = str(name)

    def __enter__(self) -> None:
        self._run._mark(self._name, "begin")

    def __exit__(self, *_: object) -> None:
        self._run._mark(self._name, "end")


def _frame_maker(library: str | None) -> Callable[[dict[str, list[Any]]], Any]:
    if library not in (None, "pandas", "polars"):
        raise ValueError(f"library is {library!r}; use 'pandas' or 'polars'")
    if library != "polars":
        try:
            from pandas import DataFrame  # type: ignore[import-untyped, import-not-found, unused-ignore]

            return lambda columns: DataFrame(columns)
        except ImportError:
            if library == "pandas":
                raise ImportError("to_dataframe() needs pandas: pip install pandas") from None
    try:
        from polars import DataFrame as PolarsFrame  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        names = "polars: pip install polars" if library else "pandas or polars: pip install pandas, or polars"
        raise ImportError(f"to_dataframe() needs {names}") from None
    return lambda columns: PolarsFrame(columns, strict=False)


def _reason(error: Exception, late: str) -> str:
    if isinstance(error, Late):
        return late
    if isinstance(error, Closed) and not isinstance(error, Lost):
        return "the sampler has ended"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _outside() -> int:
    """How many frames above the caller's caller the first one lies that is none of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        level, frame = level + 1, frame.f_back
    return level


# -- what is asked for -----------------------------------------------------------------------------------------------


def track(
    interval: float = 1.0,
    name: str | None = None,
    output: str | os.PathLike[str] | None = None,
    tags: Mapping[str, str] | None = None,
    system: bool = True,
    gpu: bool = True,
    *,
    record: bool = True,
    force: bool = False,
    cloud: bool = False,
    source: Literal["auto", "perf", "procfs"] = "auto",
    pss_budget: float = 0.005,
    process_lines: int = 2000,
    done: Callable[[Run], object] | None = None,
) -> Tracked:
    """Track this process and all that descends from it: as a context manager, or as a decorator; sync or async.

    A process beside this one samples it every `interval` seconds (0.05 or more); it is left out of what it measures.
    Entering waits until the baseline was taken (about 50 ms for the first block, a few for one inside another), leaving
    until the last sample was written (a few milliseconds, 5 s at most). Totals count from begin to end of the block.

    `name`: of the record; the function's name for a decorator. `output`: where the record goes instead of its default
    place; fills in {run_id} {name} {host} {pid} {env:VAR}; an existing file is refused without `force`. `record`: False
    writes no file, `samples` are there all the same. `tags`: pairs for the record. `system`, `gpu`, `cloud`: whether
    the machine, its GPUs, its cloud are read as well. `source`: where CPU totals may come from. `pss_budget`: share of
    one core for reading PSS. `process_lines`: at most so many processes are listed in the record. `done`: called with
    the run after its end, wherever a decorated function was called.

    Raises ValueError or TypeError for what cannot be asked for. Once it runs nothing is raised any more: what goes
    wrong with tracking is a `TrackingWarning`. PROCTALLY_DISABLE=1 switches tracking off.
    """
    options = Options()
    if callable(interval):
        raise TypeError("use @proctally.track(), with parentheses")
    for what, number in (("interval", interval), ("pss_budget", pss_budget), ("process_lines", process_lines)):
        if not isinstance(number, int | float):
            raise TypeError(f"{what} is {number!r}; use a number")
    if tags is not None and not hasattr(tags, "items"):
        raise TypeError(f"tags is {tags!r}; use a dictionary")
    if done is not None and not callable(done):
        raise TypeError(f"done is {done!r}; use a function of one run")
    if not MIN_INTERVAL <= interval <= 1e8:
        raise ValueError(f"interval is {interval!r}; use {MIN_INTERVAL} seconds or more")
    if not 0 <= pss_budget <= 1:
        raise ValueError(f"pss_budget is {pss_budget!r}; use a ratio from 0 to 1")
    if process_lines < 0:
        raise ValueError(f"process_lines is {process_lines!r}; use 0 or more")
    if source not in ("auto", "perf", "procfs"):
        raise ValueError(f"source is {source!r}; use 'auto', 'perf' or 'procfs'")
    if output is not None and (os.fspath(output) in OWN_STREAMS or os.fspath(output).startswith(OWN_DESCRIPTORS)):
        raise ValueError(f"output is {output!r}: the sampler has none of this program's descriptors; give a file")
    options.interval = float(interval)
    options.name = None if name is None else str(name)
    options.output = None if output is None else os.fspath(output)
    options.tag = {str(key): str(value) for key, value in (tags or {}).items()}
    options.no_system = not system
    options.no_gpu = not gpu
    options.no_record = not record
    options.force = force
    options.cloud = cloud
    options.source = source
    options.pss_budget = pss_budget
    options.process_lines = int(process_lines)
    options.quiet = True
    return Tracked(options, done)


class Tracked:
    """What `track()` returns: a context manager for one block at a time, and a decorator for any number of calls."""

    def __init__(self, options: Options, done: Callable[[Run], object] | None) -> None:
        self._options = options
        self._done = done
        self._block: _Block | None = None

    def __enter__(self) -> Run:
        block = self._enter()
        try:
            block.start()
        except BaseException:  # Ctrl-C
            self._block = None
            raise
        return block.run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave().stop(error)

    async def __aenter__(self) -> Run:
        block = self._enter()
        try:
            await block.start_async()
        except BaseException:
            self._block = None
            raise
        return block.run

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave().stop_async(error)

    def __call__(self, function: Function) -> Function:
        """The function, each call of which is tracked by itself."""
        import functools
        import inspect

        if inspect.isasyncgenfunction(function):
            raise TypeError("an asynchronous generator cannot be tracked as a whole: use `async with` inside of it")
        name = getattr(function, "__name__", None)
        wrapper: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*arguments: Any, **named: Any) -> Any:
                async with self._again(name):
                    return await function(*arguments, **named)

        elif inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def wrapper(*arguments: Any, **named: Any) -> Any:
                with self._again(name):
                    return (yield from function(*arguments, **named))

        else:

            @functools.wraps(function)
            def wrapper(*arguments: Any, **named: Any) -> Any:
                with self._again(name):
                    return function(*arguments, **named)

        return wrapper  # type: ignore[no-any-return]

    def _again(self, name: str | None) -> Tracked:
        """The same for one more block, named so unless it has a name."""
        options = Options()
        vars(options).update(vars(self._options))
        options.name = options.name or name
        return Tracked(options, self._done)

    def _enter(self) -> _Block:
        if self._block is not None and self._block.run._is_ours():
            raise RuntimeError("this one is in use: each block needs a track() of its own")
        self._block = _Block(Run(self._options, is_on=_is_on()), self._done)
        return self._block

    def _leave(self) -> _Block:
        assert self._block is not None
        block, self._block = self._block, None
        return block


class _Block:
    """One run from its begin to its end, and what it is for those that begin inside of it."""

    __slots__ = ("_done", "_has_begun", "_is_given_up", "_lock", "run")

    def __init__(self, run: Run, done: Callable[[Run], object] | None) -> None:
        self.run = run
        self._done = done
        self._lock = threading.Lock()
        self._has_begun = self._is_given_up = False

    def start(self) -> None:
        self.run._start()
        self._entered()

    async def start_async(self) -> None:
        try:
            await _aside(self._begin)
        except BaseException:  # given up while the sampler began: it is told as soon as it has
            with self._lock:
                self._is_given_up = True
                has_begun = self._has_begun
            if has_begun:
                _in_a_thread(self._cancel)
            raise
        self._entered()

    def _begin(self) -> None:
        self.run._start()
        with self._lock:
            self._has_begun = True
            is_given_up = self._is_given_up
        if is_given_up:
            self._cancel()

    def _cancel(self) -> None:
        self.run._stop("ended", "the block was cancelled before it began")

    def stop(self, error: BaseException | None) -> None:
        self._left()
        self.run._stop(*_outcome(error))
        self._tell()

    async def stop_async(self, error: BaseException | None) -> None:
        self._left()
        await _aside(lambda: self.run._stop(*_outcome(error)))
        self._tell()

    def _entered(self) -> None:
        self.run._around = _around()
        _current.set(self.run)

    def _left(self) -> None:
        self.run._has_ended = True
        if _current.get() is self.run:
            _current.set(self.run._around)

    def _tell(self) -> None:
        if self._done is not None and self.run._is_ours():
            self._done(self.run)


def _is_on() -> bool:
    return os.environ.get("PROCTALLY_DISABLE", "").lower() not in ON


def _outcome(error: BaseException | None) -> tuple[str, str]:
    """Verdict and evidence. Of an exception its type alone is told: its text may hold what is nobody's business."""
    if error is None:
        return "ok", "the block ended"
    if isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and not error.code):
        return "ok", f"the block ended by {type(error).__name__}"
    return "failed", f"{type(error).__name__} was raised in the block"


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
