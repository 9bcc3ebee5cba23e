"""A Parquet file read back."""

from __future__ import annotations

import io
from typing import Any

from pyarrow import parquet

from proctally.record.parquet import write


def read_back(lines: list[dict[str, Any]], later: list[dict[str, Any]] | None = None) -> Any:
    """Write lines and read them. `later`: what they are when they are read once more."""
    readings = iter((lines, lines if later is None else later))

    class Out(io.BytesIO):
        pass

    out = Out()
    write(lambda: next(readings), out)  # type: ignore[arg-type]
    out.seek(0)
    return parquet.read_table(out)
