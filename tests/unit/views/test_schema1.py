"""Views of the records of schema 1: each shows how the run ended and what its totals do not contain."""

from __future__ import annotations

from pathlib import Path

import pytest

from places import GOLDEN
from proctally.analysis.advice import advise_on
from proctally.analysis.comparison import Diff, Side
from proctally.analysis.evidence import Evidence
from proctally.record.catalogue import glance
from proctally.record.reader import lines
from proctally.text import words
from proctally.views.diff import as_json, as_text
from proctally.views.report.run_facts import Facts
from proctally.views.report.series import collect
from proctally.views.report.text import text
from proctally.views.summary import render

RECORDS = sorted((GOLDEN / "schema1").glob("*.jsonl"))


def flat(shown: str) -> str:
    return "".join(shown.split())


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_views_of_schema_1_show_reason_and_gaps(path: Path) -> None:
    past = glance(str(path))
    summary = past.summary
    assert summary is not None
    verbose = flat(render("job", summary, None, verbose=True))
    report = flat(text([Facts(collect(str(path)))], blocks=False))
    assert flat(words.reason(summary)) in report
    assert all(flat(text) in verbose for text in words.headline(summary))
    gaps = [words.gap(gap) for gap in summary["gaps"]]
    missing = (summary.get("cpu") or {}).get("unavailable", {}).items()
    for shown in (*gaps, *(f"no {source}: {words.missing(code, source)}" for source, code in missing)):
        assert flat(shown) in report
        assert flat(shown) in verbose


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_decisions_on_schema_1_need_no_sentence(path: Path) -> None:
    found = Diff(*(Side(title, "x", [glance(str(path))]) for title in ("BASE", "NEW")), [])
    assert as_text(found, verbose=True, colour=False)
    assert '"claim":"' not in as_json(found)
    evidence = Evidence.of(lines(str(path)))
    cut = evidence.cut()
    whole = evidence.verdict == "ok" or path.stem in ("attach", "attach_tree")
    assert (cut is None) == whole
    assert all(advice.note.text for advice in advise_on([evidence]).values())
