"""`track` in this program."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import proctally
from proctally.library import block, sampler_client
from proctally.linux.channel import pair
from proctally.linux.machine import host_machine
from proctally.record import objects
from proctally.record.reader import read
from proctally.record.writer import RecordWriter
from proctally.text.terminal import Look
from proctally.tracking import sidecar
from proctally.tracking.attach import AttachTracker
from proctally.tracking.config import Options
from proctally.tracking.session import Session
from proctally.views.summary import render
from track_samplers import samplers
from tracked import parent, records, samples, until, whole

# -- the sampler -----------------------------------------------------------------------------------------------------


def test_without_a_shell(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_client, "SHELL", "/nowhere/sh")
    with proctally.track(interval=0.1) as run:
        (pid,) = samplers(os.getpid())
        assert parent(pid) != os.getpid()
    assert run.missing == [] and run.summary.cpu.total_seconds is not None


# -- the target, whatever happens to it ------------------------------------------------------------------------------


def test_stopped_sampler_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "STOP_SECONDS", 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # must not end the block either
        with proctally.track(interval=0.05) as run:
            (pid,) = samplers(os.getpid())
            os.kill(pid, signal.SIGSTOP)
            with run.phase("unheard"):
                pass
            begin = time.monotonic()
        took = time.monotonic() - begin
        os.kill(pid, signal.SIGCONT)
    assert 0.3 <= took < 1.5
    assert run.summary.cpu.total_seconds is None
    assert "did not answer within 0.3 s" in run.missing[0]


def test_block_that_fails_gives_all_back(home: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """Its sampler goes on with the blocks of others."""

    def descriptors() -> list[str]:
        paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return sorted(os.readlink(path) for path in paths if os.path.lexists(path))

    before = descriptors()
    ours, theirs = pair()
    spare = RecordWriter(os.memfd_create("spare"), "memory")
    session = Session("track", Options(), dict(os.environ), host_machine(), "sleep", spare=spare)
    tracker = AttachTracker(session, sleeper.pid, descriptors=100)
    block = sidecar.Block(theirs, tracker)
    block.begin()
    assert len(descriptors()) > len(before) + 5
    block.fail(RuntimeError("wrong"))
    told = [ours.receive(1.0)[0] for _ in range(3)]
    assert [message["type"] for message in told] == ["begun", "record", "failed"]
    assert told[-1]["why"] == "RuntimeError: wrong"
    ours.close()
    assert descriptors() == before


def test_no_descriptor_is_left(home: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            while True:
                try:
                    taken.append(os.dup(0))
                except OSError:
                    break
            with proctally.track() as run:
                pass
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert run.summary.cpu.total_seconds is None
    assert any(each.category is proctally.TrackingWarning for each in caught)


# -- several at once -------------------------------------------------------------------------------------------------


def test_task_that_is_cancelled_while_it_begins(home: Path) -> None:
    async def work() -> None:
        async with proctally.track():
            raise AssertionError("it was cancelled before")

    async def main() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until(lambda: not samplers(os.getpid()) and sampler_client.client.users == 0, "nothing is left of it", 5.0)


def test_no_more_threads(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop waits then; nothing is raised in the program."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> proctally.Run:
        async with proctally.track(interval=0.05) as run:
            await asyncio.sleep(0)
        return run

    monkeypatch.setattr(threading.Thread, "start", start)
    run = asyncio.run(main())
    assert (run.summary.verdict, run.missing) == ("ok", [])


def test_handler_of_signals_that_marks_a_phase(home: Path) -> None:
    """It runs between any two steps of what the program does, the marking of a phase included."""
    with (
        proctally.track(interval=0.1) as run,
        run._block.lock,
        sampler_client.client.lock,
    ):  # where it finds the program
        old = signal.signal(signal.SIGALRM, lambda *_: handled())
        begun = []

        def handled() -> None:
            with run.phase("handled"), proctally.track(interval=0.1) as inner:
                begun.append((len(run.samples), inner))

        signal.setitimer(signal.ITIMER_REAL, 0.001)
        until(lambda: begun, "the handler has run", 5)
        signal.signal(signal.SIGALRM, old)
    assert [phase.name for phase in run.phases] == ["handled"]
    assert begun[0][1].summary.verdict == "ok"


def test_interrupt_while_it_begins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    tracked = proctally.track(interval=0.05)
    with monkeypatch.context() as patch:
        patch.setattr(block.TrackedBlock, "_hear", interrupted)
        with pytest.raises(KeyboardInterrupt), tracked:
            pass
    assert sampler_client.client.users == 0
    with tracked as run:
        pass
    assert run.summary.verdict == "ok", "it is not taken to be in use"


# -- its ends, and what it says --------------------------------------------------------------------------------------


def test_decorated(home: Path) -> None:
    ended: list[proctally.Run] = []

    @proctally.track(interval=0.05, done=ended.append)
    def add(one: int, other: int = 2) -> int:
        """Sums."""
        return one + other

    @proctally.track(interval=0.05, name="counted", done=ended.append)
    def count(upto: int) -> Iterator[int]:
        yield from range(upto)

    assert add.__doc__ == "Sums."
    assert [add(1), add(1, other=5)] == [3, 6]
    assert list(count(3)) == [0, 1, 2]
    assert [run.name for run in ended] == ["add", "add", "counted"]
    assert all(run.summary.verdict == "ok" for run in ended)
    assert [lines[0]["name"] for lines in records(home)] == ["add", "add", "counted"]


def test_header_and_output(home: Path) -> None:
    output = home / "{name}-{pid}.jsonl"
    with proctally.track(name="fit", output=output, tags={"seed": "1"}, interval=0.5, system=False) as run:
        pass
    assert run.path == str(home / f"fit-{os.getpid()}.jsonl")
    lines = list(read(run.path))
    assert lines[0]["run_id"] == run.id
    assert lines[0]["tags"] == {"seed": "1"}
    assert lines[0]["pid"] == os.getpid()
    assert lines[0]["interval_seconds"] == 0.5
    assert lines[0]["cwd"] == os.getcwd()
    assert lines[0]["command"]
    assert all(sample["system"] is None for sample in samples(lines))
    assert whole(lines)["verdict"] == "ok"
    with (
        pytest.warns(proctally.TrackingWarning, match="File exists; use force=True"),
        proctally.track(output=run.path) as again,
    ):
        pass
    assert again.summary.verdict == "ok"
    assert again.path is not None and again.path != run.path, "it went to the default place"


def test_output_is_relative_to_where_the_program_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    with proctally.track(output="here.jsonl"):
        pass
    assert whole(list(read(str(home / "here.jsonl"))))


def test_warning_is_at_the_line_of_the_program(home: Path) -> None:
    there = home / "there"
    there.touch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with proctally.track(output=there):
            pass
        proctally.track(output=there)(int)()
    assert [each.filename for each in caught] == [__file__, __file__]
    assert all(each.category is proctally.TrackingWarning for each in caught)


def test_summary_as_text_is_that_of_the_command(home: Path) -> None:
    with proctally.track(name="fit", interval=0.05) as run:
        assert str(run.summary) == "proctally fit  no summary\n"
        sum(range(100_000))
    text = str(run.summary)
    assert text == render("fit", run.summary.as_dict(), run.path, Look.of(os.environ | {"NO_COLOR": "1"}))
    assert text.startswith("proctally fit  ok")
    assert f"\n  record     {run.path}\n" in text


def test_reprs_are_one_short_line(home: Path) -> None:
    with proctally.track(name="n" * 500, interval=0.05) as run:
        pass
    for shown in (run, run.summary, run.samples[0], run.summary.cpu, proctally.track()):
        assert len(repr(shown)) < 200
        assert "\n" not in repr(shown)


def test_summary_before_the_end_is_none(home: Path) -> None:
    with proctally.track() as run:
        assert run.summary.cpu.total_seconds is None
        assert run.summary.verdict is None
        with pytest.raises(AttributeError):
            run.summary.nothing  # noqa: B018
    assert run.summary.cpu.total_seconds is not None
    assert run.summary.cpu.as_dict()["source"] == run.summary.cpu.source
    assert run.summary.limits.cpu_cores >= 1
    assert objects.Summary({"cpu": None}).cpu.total_seconds is None, "nor is a section that is null in a record"
    assert run.samples[0].system.memory.used_bytes > 0
    assert run.samples[-1].top[0].pid == os.getpid()


# -- use after the end, copies, start and stop -----------------------------------------------------------------------


def test_phase_after_end_is_an_error(home: Path) -> None:
    with proctally.track(record=False) as run:
        early = run.phase("early")
        open_ = run.phase("open")
        open_.__enter__()
    open_.__exit__()  # leaving is no use
    for use in (lambda: run.phase("late"), early.__enter__):
        with pytest.raises(proctally.AlreadyClosed, match="has ended"):
            use()
    assert [phase.name for phase in run.phases] == ["open"]


def test_start_and_stop_are_a_block(home: Path) -> None:
    tracked = proctally.track(interval=0.05, name="steps", record=False)
    with pytest.raises(proctally.AlreadyClosed, match="no block is open"):
        tracked.stop()
    run = tracked.start()
    with pytest.raises(RuntimeError, match="in use"):
        tracked.start()
    assert tracked.stop() is run
    assert (run.name, run.summary.verdict, run.missing) == ("steps", "ok", [])
    with pytest.raises(proctally.AlreadyClosed):
        tracked.stop()
    failed = tracked.start()
    tracked.stop(KeyError("x"))
    assert failed.summary.as_dict()["reason"]["exception"] == "KeyError"
    with tracked as ended:
        tracked.stop()
    assert ended.summary.verdict == "ok", "leaving it is no second end"


@pytest.mark.parametrize("is_recorded", [True, False])
def test_run_can_be_pickled_and_copied(home: Path, is_recorded: bool) -> None:
    with proctally.track(interval=0.05, record=is_recorded) as run:
        with run.phase("fit"):
            time.sleep(0.1)
        until(lambda: run.phases and run.phases[0].ended_at, "the sampler has written the phase")
        early = pickle.loads(pickle.dumps(run))
    with pytest.warns(proctally.TrackingWarning), proctally.track(output=__file__) as troubled:
        pass
    assert early.summary.verdict is None and [phase.name for phase in early.phases] == ["fit"]
    for copied in (pickle.loads(pickle.dumps(run)), copy.deepcopy(run), copy.copy(run)):
        assert (copied.id, copied.name, copied.path) == (run.id, run.name, run.path)
        assert copied.summary == run.summary and str(copied.summary) == str(run.summary)
        assert copied.samples == run.samples and len(copied.samples) >= 2
        assert copied.phases == run.phases and copied.missing == run.missing
        with pytest.raises(proctally.AlreadyClosed):
            copied.phase("late")
    assert pickle.loads(pickle.dumps(troubled)).missing == troubled.missing
    assert pickle.loads(pickle.dumps(troubled)).missing[0].code == troubled.missing[0].code


@pytest.mark.parametrize(
    ("name", "text"), [("x\ud800", "x\\ud800"), ("x\udcff", "x\\xff"), ("\udfff\udcff", "\\udfff\\xff")]
)
def test_names_of_lone_surrogates_become_text(home: Path, name: str, text: str) -> None:
    with proctally.track(name=name, tags={name: name}) as run, run.phase(name):
        pass
    assert run.missing == []
    lines = records(home)[0]
    assert (run.name, lines[0]["name"], lines[0]["tags"], run.phases[0].name) == (text, text, {text: text}, text)
    assert str(run.summary).startswith("proctally ")


def test_output_of_any_bytes_is_a_file(home: Path) -> None:
    path = os.fsencode(home) + b"/\xff.jsonl"
    with proctally.track(output=path) as run:
        pass
    assert (run.missing, run.path) == ([], os.fsdecode(path)) and os.path.exists(path)


def test_warning_of_hostile_path_is_printable(home: Path) -> None:
    with warnings.catch_warnings(record=True) as caught, proctally.track(output=f"{home}/\x1b[31m\ud800\n\0") as run:
        pass
    assert str(caught[0].message).isprintable()
    run.missing[0].encode()


def test_missing_has_code(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCTALLY_DISABLE", "1")
    with proctally.track() as off:
        pass
    monkeypatch.delenv("PROCTALLY_DISABLE")
    monkeypatch.setattr(sampler_client, "PLACE", str(home / "none"))
    with pytest.warns(proctally.TrackingWarning, match="preload"), proctally.track() as lost:
        pass
    assert [off.missing[0].code, lost.missing[0].code, len(lost.missing)] == ["switched_off", "ENOENT", 1]
    assert lost.samples == [] and len(lost.missing) == 1


def test_error_without_text_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(block, "wait_as_program", fail)
    with pytest.warns(proctally.TrackingWarning, match="everything: TimeoutError"), proctally.track():
        pass


@pytest.mark.parametrize("seconds", [0.0, 0.001])  # in the call, and in the wait for a message
def test_exception_of_a_signal_handler_is_raised(home: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    def fail(*_: object) -> None:
        raise TimeoutError("of the program")

    def interrupt(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds) if seconds else os.kill(os.getpid(), signal.SIGALRM)

    monkeypatch.setattr(block, "wait_as_program", interrupt)
    previous = signal.signal(signal.SIGALRM, fail)
    try:
        with pytest.raises(TimeoutError, match="of the program"), proctally.track(record=False):
            time.sleep(1)
            pytest.fail("the block began")
    finally:
        signal.signal(signal.SIGALRM, previous)
