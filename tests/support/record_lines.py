"""Lines for a record, and what a reader of it gets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from proctally.record.reader import read


def sample(number: int, **more: Any) -> dict[str, Any]:
    return {"type": "sample", "number": number, **more}


def numbers(path: Path | str) -> list[int]:
    return [line["number"] for line in read(str(path))]


# -- trouble with the disk ---------------------------------------------------------------------------------------


def drain(read_end: int) -> bytes:
    """What is in the pipe now."""
    os.set_blocking(read_end, False)
    data = b""
    try:
        while more := os.read(read_end, 65536):
            data += more
    except BlockingIOError:
        pass
    return data


def in_lines(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]
