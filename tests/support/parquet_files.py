"""A Parquet file read back."""

from __future__ import annotations

import io
from typing import Any

from pyarrow import parquet

from proctally.record.parquet import write


def read_back(lines: list[dict[str, Any]]) -> Any:
    class Out(io.BytesIO):
        pass

    out = Out()
    write(lines, out)  # type: ignore[arg-type]
    out.seek(0)
    return parquet.read_table(out)
