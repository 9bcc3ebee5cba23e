"""Parts of documents that are generated from the code, between `<!-- name -->` and `<!-- end -->`."""

from __future__ import annotations

import os

from places import DOCS

REFRESH = os.environ.get("PROCTALLY_REFRESH_GOLDEN") == "1"


def check_part(document: str, name: str, lines: list[str]) -> None:
    """That it stands there as the code has it; PROCTALLY_REFRESH_GOLDEN=1 writes it anew."""
    path = DOCS / document
    text = path.read_text(encoding="utf-8")
    head, mark, rest = text.partition(f"<!-- {name} -->\n")
    assert mark, f"{document} has no place for {name}"
    part, end, tail = rest.partition("<!-- end -->\n")
    assert end
    wanted = "\n".join(lines) + "\n"
    if REFRESH:
        path.write_text(head + mark + wanted + end + tail, encoding="utf-8")
        part = wanted
    assert part == wanted
