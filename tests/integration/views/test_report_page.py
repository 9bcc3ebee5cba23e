"""The page of a report, made by Bokeh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import made
from examples import examples
from made import MIB
from proctally.views.report.series import collect
from strange_lines import strange_records, told

# -- records that are not as they should be --------------------------------------------------------------------------


@settings(deadline=None, max_examples=examples(5))
@given(strange_records())
def test_anything_may_stand_in_a_record_that_becomes_a_page(lines: list[dict[str, Any]]) -> None:
    pytest.importorskip("bokeh", reason="the extra report is not installed")
    from proctally.views.report.page import page

    with told(lines) as one:
        assert "<script>alert" not in page([one.story])
        page([one.story, one.story]).encode()


def test_page_of_runs_without_charts(tmp_path: Path) -> None:
    pytest.importorskip("bokeh", reason="the extra report is not installed")
    from proctally.views.report.page import page

    path = str(made.written(tmp_path / "a.jsonl", made.run(), made.summary(1.0)))
    assert page([collect(path), collect(path)]).count("<html") == 1


def written(path: Path, count: int, *, limit: int = 1 << 30, peak: int | None = None) -> str:
    """Return the page of a run whose memory grows by 1 MiB a second up to 100 + `count` MiB."""
    pytest.importorskip("bokeh", reason="the extra report is not installed")
    from proctally.views.report.page import page

    samples = [
        made.sample(float(n), made.bounds((99 + n) * MIB, (100 + n) * MIB, run_delay_seconds=0)) for n in range(count)
    ]
    end = made.bounded_summary(peak, peak, float(count)) if peak else made.summary(float(count))
    limits = {"cpu_cores": 4, "memory_bytes": limit, "from": "cgroup"}
    return page([collect(str(made.written(path, made.run(limits=limits), *samples, end | {"limits": limits})))])


def test_flat_charts_are_words(tmp_path: Path) -> None:
    text = written(tmp_path / "a.jsonl", 50)
    assert "<li>Cores: used 2.00 cores throughout.</li>" in text
    assert "<li>Processes: processes 3, threads 5 throughout.</li>" in text
    assert 'id="chart-cpu"' not in text
    assert 'id="chart-memory"' in text
    lone = made.whole(tmp_path / "b.jsonl", made.process(1, 0, 5, 2.0))
    from proctally.views.report.page import page

    assert "<li>Processes: 1, job1, pid 1: 5.000 s" in page([collect(str(lone))])


def test_limit_near_the_peak_is_drawn(tmp_path: Path) -> None:
    assert "it can use 160 MiB</li>" in written(tmp_path / "a.jsonl", 50, limit=160 * MIB)
    assert "it can use 1.0 GiB (above the chart)</li>" in written(tmp_path / "b.jsonl", 50)


def test_peak_between_samples_is_shown(tmp_path: Path) -> None:
    spike = "between two samples"
    assert f"peak at most 180 MiB, {spike}" in written(tmp_path / "a.jsonl", 50, peak=180 * MIB)
    assert spike not in written(tmp_path / "b.jsonl", 50, peak=149 * MIB)


def test_samples_travel_in_the_page_where_they_are_thinned(tmp_path: Path) -> None:
    assert 'id="samples0"' not in written(tmp_path / "a.jsonl", 2000)
    assert 'id="samples0" data-rows="2001"' in written(tmp_path / "b.jsonl", 2001)
