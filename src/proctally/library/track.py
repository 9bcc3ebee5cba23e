"""`proctally.track()`: what a block of this program uses, sampled by a helper process (sampler_client.py)."""

from __future__ import annotations

import os

from proctally.errors import AlreadyClosed
from proctally.library.block import START_SECONDS, TrackedBlock, warn
from proctally.library.handlers import raise_from_handler
from proctally.library.run import Run
from proctally.library.sampler_client import client
from proctally.linux.machine import monotonic
from proctally.text.escape import argument_text
from proctally.tracking.config import MIN_INTERVAL, ON, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Literal, TypeVar

    from proctally.record.objects import Sample

    Function = TypeVar("Function", bound=Callable[..., Any])

OWN_STREAMS = ("-", "/dev/stdin", "/dev/stdout", "/dev/stderr")
OWN_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")


def track(
    interval: float = 1.0,
    name: str | None = None,
    output: str | bytes | os.PathLike[str] | None = None,
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
    on_sample: Callable[[Sample], object] | None = None,
) -> Tracked:
    """Track this process and all its descendants: as a context manager or as a decorator; sync or async.

    A helper process samples it every `interval` seconds (0.05 or more) and is not part of what it measures. Entering
    waits until the baseline is taken (about 50 ms for the first block, a few for one inside another), leaving until the
    last sample is written (a few milliseconds, 5 s at most). Totals count from start to end of the block.

    `name`: of the record; by default the name of a decorated function. `output`: the file of the record instead of the
    default directory; it fills in {run_id} {name} {host} {pid} {env:VAR}, and an existing file is refused without
    `force`. `record`: False writes no file; `samples` are there all the same. `tags`: pairs for the record. `system`,
    `gpu`, `cloud`: whether the machine, its GPUs, its cloud are read as well. `source`: the allowed sources of CPU
    totals. `pss_budget`: share of one core for reading PSS. `process_lines`: maximum number of processes in the record.
    `done`: is called with the run after its end, also for each call of a decorated function. `on_sample`: is called
    with each sample (those of `samples`) in a separate thread of this process. An exception in it is one warning, and
    it is called with the next sample. The end of the block waits for it, at most 5 s.

    Raises ValueError or TypeError for a wrong argument. Nothing is raised later: what goes wrong with tracking is a
    `TrackingWarning`. PROCTALLY_DISABLE=1 switches tracking off.
    """
    _check(interval, tags, source, pss_budget, process_lines)
    for what, function in (("done", done), ("on_sample", on_sample)):
        if function is not None and not callable(function):
            raise TypeError(f"{what} is {function!r}; use a function")
    options = Options()
    options.interval = float(interval)
    options.name = None if name is None else argument_text(str(name))
    options.output = None if output is None else _own_file(output)
    options.tag = {argument_text(str(key)): argument_text(str(value)) for key, value in (tags or {}).items()}
    options.no_system = not system
    options.no_gpu = not gpu
    options.no_record = not record
    options.force = force
    options.cloud = cloud
    options.source = source
    options.pss_budget = pss_budget
    options.process_lines = int(process_lines)
    options.quiet = True
    return Tracked(options, done, on_sample)


def preload() -> None:
    """Start the sampler of `track` now, and load all that a block needs later.

    Call it before chroot(2), before setuid(2) to a user that cannot read proctally, or to have the first block start
    within a few milliseconds. The sampler (14 MiB, idle) stays until this process exits; a forked child has its own.
    Failure is a `TrackingWarning`. PROCTALLY_DISABLE=1 switches it off.
    """
    if not _is_on():
        return
    try:
        client.preload(monotonic() + START_SECONDS)
        tracked = track(record=False, system=False, gpu=False)
        with tracked as run, run.phase("preload"):
            pass
        # what these import is there later
        str(run.summary)
        list(run.samples)
        tracked(preload)
    except Exception as error:
        raise_from_handler(error)
        warn(f"preload: {getattr(error, 'strerror', None) or error}")


class Tracked:
    """The result of `track()`: a context manager for one block at a time, and a decorator for any number of calls.

    `start` and `stop` are for a block that no `with` can enclose.
    """

    def __init__(
        self,
        options: Options,
        done: Callable[[Run], object] | None,
        on_sample: Callable[[Sample], object] | None = None,
    ) -> None:
        self._options = options
        self._done = done
        self._on_sample = on_sample
        self._active: tuple[TrackedBlock, Run] | None = None

    def __enter__(self) -> Run:
        block, run = self._enter()
        try:
            block.start()
        except BaseException:  # Ctrl-C
            self._active = None
            raise
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._active is not None:  # `stop` may have ended it
            self.stop(error)

    def start(self) -> Run:
        """Start a block without `with`; `stop` ends it. Raises RuntimeError while another one is open."""
        return self.__enter__()

    def stop(self, error: BaseException | None = None) -> Run:
        """End the block and return its run. Raises `AlreadyClosed` where none is open.

        `error`: the exception that ended it; the verdict is then `failed`.
        """
        block, run = self._leave()
        block.stop(error)
        self._report(block, run)
        return run

    async def __aenter__(self) -> Run:
        block, run = self._enter()
        try:
            await block.start_async()
        except BaseException:
            self._active = None
            raise
        return run

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._active is not None:
            block, run = self._leave()
            await block.stop_async(error)
            self._report(block, run)

    def __call__(self, function: Function) -> Function:
        """Return the function with each call tracked as a run. Raises TypeError for an asynchronous generator."""
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

    def __repr__(self) -> str:
        return f"<proctally.track of {(self._options.name or 'a block')[:60]!r}>"

    def _again(self, name: str | None) -> Tracked:
        """The same for one more block, named so unless it has a name."""
        options = Options()
        vars(options).update(vars(self._options))
        options.name = options.name or name
        return Tracked(options, self._done, self._on_sample)

    def _enter(self) -> tuple[TrackedBlock, Run]:
        if self._active is not None and self._active[0].is_ours():
            raise RuntimeError("this one is in use: each block needs a track() of its own")
        block = TrackedBlock(self._options, is_on=_is_on(), on_sample=self._on_sample)
        self._active = block, Run(block)
        return self._active

    def _leave(self) -> tuple[TrackedBlock, Run]:
        if self._active is None:
            raise AlreadyClosed("track(): no block is open; call start()")
        active, self._active = self._active, None
        return active

    def _report(self, block: TrackedBlock, run: Run) -> None:
        if self._done is not None and block.is_ours():
            self._done(run)


def _check(interval: float, tags: object, source: str, pss_budget: float, process_lines: float) -> None:
    """Raise ValueError or TypeError for a wrong argument of `track`."""
    if callable(interval):
        raise TypeError("use @proctally.track(), with parentheses")
    for what, number in (("interval", interval), ("pss_budget", pss_budget), ("process_lines", process_lines)):
        if not isinstance(number, int | float):
            raise TypeError(f"{what} is {number!r}; use a number")
    if tags is not None and not hasattr(tags, "items"):
        raise TypeError(f"tags is {tags!r}; use a dictionary")
    if not MIN_INTERVAL <= interval <= 1e8:
        raise ValueError(f"interval is {interval!r}; use {MIN_INTERVAL} seconds or more")
    if not 0 <= pss_budget <= 1:
        raise ValueError(f"pss_budget is {pss_budget!r}; use a ratio from 0 to 1")
    if process_lines < 0:
        raise ValueError(f"process_lines is {process_lines!r}; use 0 or more")
    if source not in ("auto", "perf", "procfs"):
        raise ValueError(f"source is {source!r}; use 'auto', 'perf' or 'procfs'")


def _own_file(output: str | bytes | os.PathLike[str]) -> str:
    path = os.fsdecode(output)
    if path in OWN_STREAMS or path.startswith(OWN_DESCRIPTORS):
        raise ValueError(f"output is {output!r}: the sampler has none of this program's descriptors; give a file")
    return path


def _is_on() -> bool:
    return os.environ.get("PROCTALLY_DISABLE", "").lower() not in ON
