"""When other processes are read: while a job waits for CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeroot import FakeHost
from proctally.host import neighbours
from proctally.tracking.neighbours import Neighbours
from proctally.tree.sampler import TreeSampler

OWN = 77


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(neighbours, "read_user_names", lambda: {os.getuid(): "ci"})
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(200, 1, comm=b"cc1")
    return host


@pytest.fixture
def watch(host: FakeHost) -> Iterator[Neighbours]:
    sampler = TreeSampler(host.machine(), own=OWN)
    yield Neighbours(sampler)
    sampler.close()


def line(elapsed: float, ready: float | None = 0.0, *, delay: float = 0.0, stalled: float = 0.0) -> dict[str, Any]:
    tree = {"cpu_cores": 0.5, "run_delay_seconds": delay, "time": None if ready is None else {"ready_seconds": ready}}
    system = {"cpu_cores": 1.9, "pressure": {"cpu_some_seconds": stalled}}
    return {"interval_seconds": 1.0, "elapsed_seconds": elapsed, "tree": tree, "system": system}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, False), ({"ready": 0.09}, False), ({"ready": 0.11}, True), ({"stalled": 0.4}, False),
        ({"stalled": 0.6}, True), ({"ready": None, "delay": 0.2}, True),
    ],
)  # fmt: skip
def test_neighbours_are_wanted_while_the_job_waits(
    host: FakeHost, watch: Neighbours, changes: dict[str, Any], wanted: bool
) -> None:
    watch.note(line(1.0, **{name: None if value is None else 0.0 for name, value in changes.items()}))
    watch.note(line(2.0, **changes))
    assert (watch.timeout(host.now_ns) is not None) == wanted


def test_summary_has_the_means_of_neighbours(host: FakeHost, watch: Neighbours) -> None:
    assert watch.summary() is None
    sample = line(1.0)
    for at in range(2, 40):
        host.advance(0.5)
        host.run(200, user=0.25)
        watch.step(host.now_ns)
        watch.note(sample := line(at, float(at)))
        if "neighbours" in sample:
            break
    assert sample["neighbours"]["largest"][0]["command"] == "cc1"
    summary = watch.summary()
    assert summary == sample["neighbours"]


def test_fault_of_neighbours_ends_nothing_else(
    host: FakeHost, watch: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "scan", lambda _: 1 // 0)
    watch.note(line(1.0))
    watch.note(line(2.0, 1.0))
    watch.step(host.now_ns)
    assert isinstance(watch.fault, ZeroDivisionError) and watch.timeout(host.now_ns) is None
    watch.note(line(3.0, 2.0))
