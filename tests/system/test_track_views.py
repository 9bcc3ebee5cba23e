"""`proctally.track()`: samples as they are taken, the report and the statistics of a run."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from pathlib import Path

import pytest

import proctally
from proctally.record.objects import Sample
from track_samplers import samplers
from tracked import until


def listening() -> bool:
    return any(thread.name == "proctally samples" for thread in threading.enumerate())


# -- samples as they are taken -----------------------------------------------------------------------------------------


def test_on_sample_is_called_with_each_sample(home: Path) -> None:
    seen: list[Sample] = []
    with proctally.track(interval=0.05, on_sample=seen.append) as run:
        until(lambda: len(seen) >= 4, "four samples while the block is open")
    assert [each.as_dict() for each in seen] == [each.as_dict() for each in run.samples]
    assert seen[-1].tree.cpu_seconds == run.summary.cpu.total_seconds and not run.missing


def test_on_sample_error_is_one_warning(home: Path) -> None:
    seen: list[Sample] = []

    def fail(sample: Sample) -> None:
        seen.append(sample)
        raise SystemExit("no")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with proctally.track(interval=0.05, on_sample=fail) as run:
            until(lambda: len(seen) >= 3, "further samples")
    assert [str(each.message) for each in caught] == [
        "proctally: on_sample: SystemExit: no; it is called with further samples"
    ]
    assert run.summary.verdict == "ok" and len(seen) == len(run.samples)


def test_on_sample_that_hangs_holds_the_end_for_seconds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proctally.library.block.STOP_SECONDS", 0.5)
    before, released = time.monotonic(), threading.Event()
    with proctally.track(interval=0.05, on_sample=lambda _: released.wait(20)) as run:
        pass
    assert time.monotonic() - before < 6 and run.summary.verdict == "ok" and listening()
    released.set()
    until(lambda: not listening(), "the thread has ended")


def test_on_sample_thread_ends_with_the_sampler(home: Path) -> None:
    seen: list[Sample] = []
    tracked = proctally.track(interval=0.05, on_sample=seen.append)
    with pytest.warns(proctally.TrackingWarning, match="the sampler has ended"), tracked as run:
        until(lambda: len(seen) >= 2, "two samples")
        os.kill(samplers(os.getpid())[0], signal.SIGKILL)
    assert run.summary.verdict is None and not listening()


def test_on_sample_is_not_called_in_a_fork(home: Path) -> None:
    seen: list[int] = []
    read, write = os.pipe()
    with proctally.track(interval=0.05, on_sample=lambda _: seen.append(os.getpid())):
        if (child := os.fork()) == 0:
            before = len(seen)
            time.sleep(0.3)
            os.write(write, b"%d" % (len(seen) - before))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert os.read(read, 9) == b"0" and set(seen) == {os.getpid()} and len(seen) >= 4


def test_no_thread_is_left_to_be_had(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("proctally.library.listener.threading.Thread.start", refuse)
    tracked = proctally.track(interval=0.05, on_sample=print)
    with pytest.warns(proctally.TrackingWarning, match="on_sample: can't start new thread"), tracked as run:
        pass
    assert run.summary.verdict == "ok"


# -- report and statistics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
def test_report_is_the_page(home: Path, tmp_path: Path, record: bool) -> None:
    with proctally.track(interval=0.05, name="<fit>", record=record) as run:
        time.sleep(0.15)
    page = run.report()
    assert page.startswith("<!doctype html>") and "&lt;fit&gt;" in page
    place = tmp_path / "page.html"
    place.write_text("before")
    assert run.report(place) == str(place)
    assert place.read_text().startswith("<!doctype html>")


def test_report_without_a_record_or_its_package(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCTALLY_DISABLE", "1")
    with proctally.track() as run:
        pass
    assert run.stats() == {}
    with pytest.raises(ValueError, match="does not begin as a record does|is not a record"):
        run.report()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install 'proctally\\[report\\]'"):
        run.report()


def test_stats_are_of_the_samples(home: Path) -> None:
    with proctally.track(interval=0.05) as run:
        time.sleep(0.2)
    cores = [sample.tree.cpu_cores for sample in run.samples if sample.tree.cpu_cores is not None]
    found = run.stats()["tree.cpu_cores"]
    assert (found.samples, found.least, found.most, found.last) == (len(cores), min(cores), max(cores), cores[-1])
    assert found.mean == pytest.approx(sum(cores) / len(cores))
    assert run.stats()["tree.cpu_seconds"].last == run.summary.cpu.total_seconds
    until(lambda: not samplers(os.getpid()), "the sampler has ended")
