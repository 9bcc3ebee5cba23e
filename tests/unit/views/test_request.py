"""The request for the next run, as one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import made
from made import GIB, MIB, lines, reason
from proctally.views import request as module
from proctally.views.request import Recorded

TIME = {
    "running_seconds": 2.0, "ready_seconds": 7.0, "throttled_seconds": 0.0, "disk_seconds": 0.0, "asleep_seconds": 1.0,
    "wanted_cores": 1.9,
}  # fmt: skip


def text(path: Path | None = None, **changes: Any) -> str:
    summary = made.summary(**changes)
    return Recorded(summary, None if path is None else str(path)).request()


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "4 cores, 640 MiB, 2 min; from one run (more: proctally advise)"),
        ({"reason": reason("all_exited"), "verdict": "ended"}, "4 cores, 640 MiB; time unknown"),
        ({"reason": reason("block_ended"), "verdict": "ended"}, "4 cores; memory and time unknown"),
        ({"verdict": "failed", "exit_code": 3}, "unknown (ended as failed); details: proctally report"),
        ({"verdict": "failed", "exit_code": 3, "time": TIME,
          "cpu": made.summary()["cpu"] | {"mean_cores": 0.4, "peak_cores": 0.5}},
         "2 cores as a trial; memory and time unknown (ended as failed)"),
        ({"time": TIME, "cpu": made.summary()["cpu"] | {"mean_cores": 0.4, "peak_cores": 0.5}},
         "2 cores as a trial, 640 MiB; time unknown (on 2 cores about 3.0 s)"),
        ({"verdict": "timeout", "reason": reason("timeout", limit_seconds=4000)},
         "4 cores, 2 h 15 min as a trial; memory unknown"),
        ({"verdict": "oom", "limits": {"memory_bytes": GIB}},
         "4 cores, 2 GiB as a trial: it needed over 1.0 GiB; time unknown"),
    ],
)  # fmt: skip
def test_request_has_what_is_proved_a_trial_and_what_is_unknown(changes: dict[str, Any], shown: str) -> None:
    assert text(**changes) == shown


def test_request_takes_cores_from_a_record_that_is_not_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.whole(tmp_path / "a.jsonl", seconds=10)
    assert text(path).startswith("2 cores, "), "a short peak is left out"
    assert text(tmp_path / "missing").startswith("4 cores, ")
    monkeypatch.setattr(module, "MAX_RECORD_BYTES", 100)
    assert text(path).startswith("4 cores, ")
    path.write_text("{broken\n")
    assert text(path).startswith("4 cores, ")


def test_request_counts_gpus(tmp_path: Path) -> None:
    made_lines = lines(gpus=[made.gpu(0, ratio=0.5, memory=MIB) | {"tree_utilization_ratio": 0.5}])
    path = made.written(tmp_path / "a.jsonl", *made_lines)
    summary = made_lines[-1]
    assert ", 1 GPU; from one run" in Recorded(summary, str(path)).request()


def test_phase_of_a_moment_is_the_innermost_that_runs(tmp_path: Path) -> None:
    marks = [("a", "begin", 1.0), ("b", "begin", 2.0), ("b", "end", 3.0), ("a", "end", 4.0)]
    phases = [made.phase(name, event, at) | {"elapsed_seconds": at} for name, event, at in marks]
    recorded = Recorded(made.summary(), str(made.whole(tmp_path / "a.jsonl", *phases)))
    assert [recorded.phase_at(at) for at in (0.5, 1.5, 2.5, 3.5, 4.5)] == [None, "a", "b", "a", None]
