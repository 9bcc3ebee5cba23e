"""A folder of made-up records."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path
from typing import Any

import pytest

from proctally.record.writer import json_line

HOUR = 3600.0


def header(run_id: str = "0123456789abcdef", **more: Any) -> dict[str, Any]:
    run = {"type": "run", "schema": "proctally/2", "run_id": run_id, "kind": "run", "name": "job", "tags": {}}
    return run | {"started_at": 1767225600.0, "interval_seconds": 1.0, "command": ["job"]} | more


def summary(**more: Any) -> dict[str, Any]:
    figures = {"wall_seconds": 10.0, "cpu": {"total_seconds": 5.0}, "memory": {"peak_pss_bytes": 1 << 20}}
    return {"type": "summary", "verdict": "ok", "ended_at": 1767225610.0} | figures | more


def data(*found: dict[str, Any]) -> bytes:
    return b"".join(map(json_line, found))


def put(home: Path, stamp: str, run_id: str, *found: dict[str, Any], ending: str = ".jsonl", **more: Any) -> Path:
    path = home / f"{stamp}-job-{run_id[:8]}{ending}"
    content = data(header(run_id, **more), *found)
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    return path


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def said(capfd: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    out, err = capfd.readouterr()
    return out.splitlines(), err.splitlines()
