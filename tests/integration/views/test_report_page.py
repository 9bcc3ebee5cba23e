"""The page of a report, made by Bokeh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import made
from examples import examples
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


def test_line_of_one_point_is_drawn_as_dot(tmp_path: Path) -> None:
    pytest.importorskip("bokeh", reason="the extra report is not installed")
    from proctally.views.report.page import page

    path = str(made.written(tmp_path / "a.jsonl", made.run(), made.sample(0.0), made.sample(1.0), made.summary(1.0)))
    assert '"name":"Scatter"' in page([collect(path)])
    assert '"name":"Scatter"' not in page([collect(str(made.whole(tmp_path / "b.jsonl", seconds=3)))])
