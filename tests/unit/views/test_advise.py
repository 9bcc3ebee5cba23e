"""Which runs `advise` counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from made import record
from proctally.analysis.evidence import TIME
from proctally.record.catalogue import Filter
from proctally.views.advise import found_runs

# -- the command -----------------------------------------------------------------------------------------------------


def test_of_many_runs_the_newest_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        record(tmp_path, name="train", number=number, wall=100.0 * (5 - number))
    monkeypatch.setattr("proctally.views.advise.MOST_RUNS", 2)
    found = found_runs([], Filter(name="train"), {"PROCTALLY_HOME": str(tmp_path)})
    assert found.told == ["from the newest 2 of 5 runs"]
    assert [(row.runs, row.used) for row in found.rows if row.resource == TIME] == [(2, 200.0)]
