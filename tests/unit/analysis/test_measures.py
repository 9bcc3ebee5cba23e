"""The table of figures against the table of fields, and what it says of a summary."""

from __future__ import annotations

from typing import Any

import pytest

from proctally.analysis.measures import BY_NAME, FIGURES, figure
from proctally.record.schema import BYTES, field


def test_figure_has_one_unit() -> None:
    for each in FIGURES:
        assert {field(f"summary.{path}").unit for group in each.paths for path in group} == {each.unit}, each.name
        assert each.help
    assert (figure("cores").unit, figure("gpu").unit, figure("pss").unit) == ("{cpu}", "1", BYTES)


def test_names_are_of_one_figure() -> None:
    assert len(BY_NAME) == len(FIGURES)
    assert all(name == name.lower() and "=" not in name and "," not in name for name in BY_NAME)


@pytest.mark.parametrize(
    "summary",
    [None, {}, {"memory": None}, {"memory": []}, {"memory": {"peak_pss_bytes": None}}],
)
def test_what_is_not_known_is_none(summary: Any) -> None:
    assert figure("memory").of(summary) is None
