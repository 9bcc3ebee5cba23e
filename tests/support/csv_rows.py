"""Rows of CSV from made-up samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from proctally.cli.main import main
from proctally.record.csv import COLUMNS, Rows
from proctally.record.writer import encode

MIB = 1 << 20
NAMES = [name for name, _ in COLUMNS]
SYSTEM = [name for name in NAMES if name.startswith("system_") and "gpu" not in name]
PROCESS = [name for name in NAMES if name.startswith("process_")]
RUN: dict[str, Any] = {
    "type": "run",
    "kind": "run",
    "pid": 4711,
    "started_at": 1_700_000_000.0,
    "interval_seconds": 1.0,
}


def export(name: str, form: str, output: str, environment: dict[str, str], *, force: bool = False) -> int:
    """Return the exit status of `proctally export` with these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        return main(["export", "-f", form, "-o", output, *["--force"] * force, name])


def sample(number: int, **more: Any) -> dict[str, Any]:
    """The scripted sample of the second `number`: everything known, counters that grow by different steps."""
    line: dict[str, Any] = {
        "type": "sample",
        "at": 1_700_000_000.25 + number,
        "elapsed_seconds": 0.25 + number,
        "interval_seconds": None if number == 0 else 1.0,
        "tree": {
            "cpu_seconds": 0.01 + 1.5 * number,
            "cpu_user_seconds": 0.01 + 1.25 * number,
            "cpu_system_seconds": 0.25 * number,
            "cpu_cores": None if number == 0 else 1.5,
            "processes": 3 + number,
            "rss_bytes": 900 * MIB,
            "pss_bytes": 700 * MIB + MIB - 1,
            "read_bytes": 4096 * number,
            "write_bytes": 1_000_000 * number * number,
            "gpu_utilization_ratio": 0.55,
            "gpu_memory_bytes": 87_228_416,
            "gpu_used": 1,
        },
        "system": {
            "cpus": 8,
            "cpu_cores": None if number == 0 else 2.5,
            "cpu_user_seconds": 1000.12 + 2.25 * number,
            "cpu_system_seconds": 500.0 + 0.125 * number,
            "process_count": 345,
            "memory": {
                "free_bytes": 1000 * MIB,
                "used_bytes": 2000 * MIB + 1,
                "buffers_bytes": 100 * MIB,
                "cached_bytes": 500 * MIB,
                "active_bytes": 1500 * MIB,
                "inactive_bytes": 300 * MIB,
            },
            "disk": {
                "read_bytes": 10**12 + 1000 * number,
                "write_bytes": 10**12 + 500 * number,
                "space_total_bytes": 100_000_000_000,
                "space_free_bytes": 40_000_000_000,
                "space_used_bytes": 55_000_000_000,
            },
            "network": {"received_bytes": 7000 + 300 * number, "sent_bytes": 80 * number},
        },
        "gpus": [
            {"index": 0, "state": "ok", "utilization_ratio": 0.75, "memory_used_bytes": 3 * MIB // 2},
            {"index": 1, "state": "ok", "utilization_ratio": 0.0, "memory_used_bytes": MIB},
        ],
    }
    return merged(line, more)


def merged(line: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The line with other values: `system={"disk": None}` changes one part of a section."""
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(line.get(name), dict):
            merged(line[name], value)
        else:
            line[name] = value
    return line


def table(*samples: dict[str, Any], **run: Any) -> list[dict[str, str]]:
    """The rows of these samples, each by the names of its columns."""
    rows = Rows(RUN | run)
    return [dict(zip(NAMES, rows.row(sample).split(","), strict=True)) for sample in samples]


# -- the golden files --------------------------------------------------------------------------------------------


NO_TREE = {"tree": None}
SCRIPTS: dict[str, list[dict[str, Any]]] = {
    # all of it; the system is first read after the first sample; a late sample; GPUs that cannot be read for once
    "run": [
        RUN,
        sample(0, system=None, gpus=None),
        sample(1, system={"cpu_cores": None}),
        {"type": "process", "pid": 4712, "command": 'a,"b"\n'},
        {"type": "phase", "name": "fit", "event": "begin", "at": 1_700_000_001.5},
        sample(2, gpus=None, tree={"gpu_utilization_ratio": None, "gpu_memory_bytes": None, "gpu_used": None}),
        sample(4, interval_seconds=2.0),
        sample(5, system=None, tree={"pss_bytes": None, "read_bytes": None, "write_bytes": None}, interval_seconds=0.1),
        {"type": "summary", "exit_code": 0},
    ],
    # a machine without a GPU, and no process
    "system": [
        RUN | {"kind": "system", "pid": 1},
        sample(0, gpus=[], **NO_TREE),
        sample(1, gpus=[], **NO_TREE),
        sample(2, gpus=[], system={"disk": {"read_bytes": 5, "write_bytes": None}}, **NO_TREE),
        sample(3, gpus=[], system={"memory": None, "network": {"sent_bytes": None}}, **NO_TREE),
        {"type": "summary", "exit_code": None},
    ],
}


# -- any record --------------------------------------------------------------------------------------------------


VALUES = st.none() | st.integers(-5, 1 << 66) | st.floats() | st.booleans() | st.text(max_size=3)


def like(value: Any) -> st.SearchStrategy[Any]:
    """Anything of the form of a sample, with some of it missing, null or of another kind."""
    if isinstance(value, dict):
        parts = {name: like(part) for name, part in value.items()}
        return VALUES | st.fixed_dictionaries({}, optional=parts)
    if isinstance(value, list):
        return VALUES | st.lists(like(value[0]), max_size=3)
    return VALUES | st.just(value)


BODY = {name: value for name, value in sample(1).items() if name != "type"}
ANY_RUN = st.fixed_dictionaries(
    {"type": st.just("run")}, optional={name: like(value) for name, value in RUN.items() if name != "type"}
)
ANY_LINES = st.lists(
    st.fixed_dictionaries({"type": st.just("sample")}, optional={name: like(value) for name, value in BODY.items()})
    | st.just({"type": "process", "pid": 1}),
    max_size=5,
)


# -- export ------------------------------------------------------------------------------------------------------


def write_record(path: Path, lines: list[dict[str, Any]], torn: bytes = b"") -> bytes:
    whole = b"".join(encode(line).encode() + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole + torn)
    return whole
