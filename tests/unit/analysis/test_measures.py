"""The table of figures against the table of fields, and what it says of a summary."""

from __future__ import annotations

from typing import Any

import pytest

from made import GIB, lines
from proctally.figures import BY_NAME, BYTES, FIGURES, NUMBER, SECONDS, figure, peak_memory
from proctally.listing import KEYS
from proctally.model import fields


def test_every_figure_is_a_field_of_a_summary_in_its_unit() -> None:
    known = {f"{field.scope}.{field.name}": field.unit for field in fields()}
    for each in FIGURES:
        for path in each.paths:
            name = ".".join(("summary", *path))
            assert name in known, name
            assert known[name] == each.unit, name
        assert each.unit in (SECONDS, BYTES, NUMBER)
        assert each.help


def test_names_are_of_one_figure() -> None:
    assert len(BY_NAME) == len(FIGURES)
    assert all(name == name.lower() and "=" not in name and "," not in name for name in BY_NAME)


def test_memory_is_the_larger_of_two_and_never_that_of_the_cgroup() -> None:
    summary = lines(memory=3 * GIB, process=2 * GIB)[-1]
    assert peak_memory(summary) == 3 * GIB
    assert summary["memory"]["cgroup_peak_bytes"] > 3 * GIB
    assert peak_memory(lines(memory=2 * GIB, process=3 * GIB)[-1]) == 3 * GIB
    assert peak_memory({"memory": {"peak_pss_bytes": None, "peak_process_rss_bytes": 5}}) == 5
    assert KEYS["memory"] is not None


@pytest.mark.parametrize(
    "summary",
    [None, {}, {"memory": None}, {"memory": []}, {"memory": {"peak_pss_bytes": None}},
     {"memory": {"peak_pss_bytes": "1"}}, {"memory": {"peak_pss_bytes": True}},
     {"memory": {"peak_pss_bytes": float("nan")}}, {"memory": {"peak_pss_bytes": float("inf")}}],
)  # fmt: skip
def test_what_is_not_known_is_none(summary: Any) -> None:
    assert figure("memory").of(summary) is None
    assert peak_memory(summary) is None
