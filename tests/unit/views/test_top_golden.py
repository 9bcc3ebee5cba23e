"""Pages of `top` at five sizes, with and without UTF-8.

With PROCTALLY_REFRESH_GOLDEN=1 the committed texts are written.
"""

from __future__ import annotations

import pytest

from documented import REFRESH
from places import GOLDEN
from proctally.text.cells import columns_of
from proctally.views.top.layout import page
from proctally.views.top.table import View
from scenes import told, training
from top_views import ASCII, BLOCKS, text

SIZES = [(20, 5), (40, 12), (80, 24), (120, 40), (200, 50)]


@pytest.mark.parametrize(("width", "height"), SIZES, ids=str)
def test_page_is_the_committed_text(width: int, height: int) -> None:
    pages = []
    for signs in (BLOCKS, ASCII):
        scene = training()
        wide = told(5320, 5312, command="変な名前\x1b[31m<b>", wait_cores=None, read_bytes_per_second=3.2e6)
        scene.show([*scene.rows, wide])
        lines = text(page(scene, View(), width, height, signs))
        assert len(lines) == height
        assert max(map(columns_of, lines)) <= width
        assert signs is BLOCKS or "".join(lines).isascii()
        pages.append("\n".join(line.rstrip() for line in lines))
    golden = GOLDEN / "top" / f"{width}x{height}.txt"
    found = f"\n{'=' * width}\n".join(pages) + "\n"
    if REFRESH:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")
