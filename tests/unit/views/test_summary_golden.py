"""The summary of eight real jobs, at 80, 60 and 40 columns, with and without UTF-8.

With PROCTALLY_REFRESH_GOLDEN=1 the committed texts are written.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from documented import REFRESH
from places import GOLDEN
from proctally.record.catalogue import glance
from proctally.text.cells import UNITS, columns_of
from proctally.text.terminal import Look
from proctally.views.summary import render

RECORDS = sorted((GOLDEN / "summary").glob("*.jsonl"))
LOOKS = [Look(width, blocks=blocks) for width in (80, 60, 40) for blocks in (True, False)]


def lines_of(record: Path, look: Look) -> list[str]:
    past = glance(record.name)
    assert past.summary is not None
    return render(past.name, past.summary, record.name, look).splitlines()


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_summary_is_the_committed_text(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.parent)
    blocks = [
        f"== {look.width} columns, {'UTF-8' if look.blocks else 'ASCII'}\n" + "\n".join(lines_of(record, look))
        for look in LOOKS
    ]
    text = "\n\n".join(blocks) + "\n"
    golden = record.with_suffix(".txt")
    if REFRESH:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.width}{'' if look.blocks else '-ascii'}")
@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_summary_has_16_lines_that_fit(record: Path, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.parent)
    lines = lines_of(record, look)
    assert len(lines) <= 16
    assert max(map(columns_of, lines)) <= look.width
    assert look.blocks or "\n".join(lines).isascii()
    starts = [line.split()[0].rstrip(",;") for line in lines if line.startswith("    ")]
    assert not UNITS.intersection(starts), "a number and its unit stay together"
    assert any(line.startswith(("  request ", "  next ")) for line in lines)
