"""An error of proctally in one part of the tracking costs that part alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakeroot import INIT, FakeHost
from proctally.tree.kills import Kills
from proctally.tree.sampler import TreeSampler

ROOT = 100


@pytest.mark.parametrize("method", ["__init__", "see", "poll"])
def test_error_of_the_kills_costs_the_kills_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Kills, method, fails)
    host = FakeHost(tmp_path)
    host.spawn(ROOT, INIT)
    enclosure: Any = SimpleNamespace(
        found={}, memory_before=None, memory_left=False, left=False, split_ns=None, counts_kills=True,
        used_ns=lambda: None, throttled=lambda: None, kills=lambda: (0, "cgroup"), is_own=lambda _: False,
        sample=lambda: None,
    )  # fmt: skip
    sampler = TreeSampler(host.machine(), enclosure=enclosure, memory=False)
    sampler.attach(ROOT, None)
    for _ in range(3):
        host.advance(1)
        host.run(ROOT, user=0.5)
        sample = sampler.sample()
    assert sample["tree"]["cpu_seconds"] == pytest.approx(1.5, abs=0.01)
    assert sampler.settle_kills() is None
    summary = sampler.summary()
    assert (summary.kills, list(summary.faults)) == (None, ["kills"])
