"""CSV columns and the readings they come from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from captured import unpack
from csv_rows import SYSTEM, sample, table
from proctally.host.derive import derive, derive_cpu
from proctally.host.gpus import LEVELS
from proctally.linux.system import Cpu, SystemReader
from proctally.record.schema import fields
from proctally.record.writer import encode

# -- where the values come from ----------------------------------------------------------------------------------


def test_the_names_are_those_of_the_readers(tmp_path: Path) -> None:
    """Every column of the system is filled from what the readers make of a captured machine."""
    machine, clock = unpack("server", tmp_path)
    space = os.statvfs_result((4096, 4096, 1000, 500, 400, 10, 5, 5, 0, 255))
    reader = SystemReader(machine, statvfs=lambda _: space)
    before = reader.read()
    clock.advance(2.0)
    times = (tmp_path / "proc/stat").read_text()
    (tmp_path / "proc/stat").write_text(times.replace("cpu  1000", "cpu  1100"))
    now = reader.read()
    first, second = (
        {"type": "sample", "at": 1.0, "interval_seconds": None, "system": json.loads(encode(derive(None, before)))},
        {"type": "sample", "at": 3.0, "interval_seconds": 2.0, "system": json.loads(encode(derive(before, now)))},
    )
    for row in table(first, second, kind="system"):
        assert [name for name in SYSTEM if row[name] == ""] == []


def test_the_names_are_those_of_the_tree() -> None:
    known = {field.name for field in fields() if field.scope == "tree"}
    of_gpus = {"gpu_utilization_ratio", "gpu_memory_bytes", "gpu_used"}
    used = {name for name in sample(0)["tree"] if name not in of_gpus}
    assert used <= known
    assert {"utilization_ratio", "memory_used_bytes"} <= set(LEVELS)


# -- the CPU, from ticks to the column ---------------------------------------------------------------------------


def cpu(total: int, idle: int, cores: int = 1) -> Cpu:
    """All cores together: so many ticks, of which so many were idle."""
    made = Cpu()
    made.all = (total - idle, 0, 0, idle, 0, 0, 0, 0)
    made.cores = dict.fromkeys(range(cores), made.all)
    return made


@pytest.mark.parametrize(
    ("before", "now", "usage"),
    [
        (cpu(0, 0), cpu(1600, 1600), "0.0000"),
        (cpu(0, 0), cpu(1600, 0), "1.0000"),
        (cpu(0, 0), cpu(1600, 800), "0.5000"),
        (cpu(100, 50), cpu(100, 50), ""),
        (cpu(0, 0, 4), cpu(1000, 1, 4), "3.9960"),
        (cpu(0, 0, 4), cpu(1000, 0, 4), "4.0000"),
    ],
    ids=["all idle", "fully busy", "half busy", "no time passed", "not forced to the cores", "all cores"],
)
def test_utilization(before: Cpu, now: Cpu, usage: str) -> None:
    first, second = ({"system": derive_cpu(last, next, 100, 10.0)} for last, next in ((None, before), (before, now)))
    rows = table(first, second)
    assert [row["system_cpu_usage"] for row in rows] == ["0.0000", usage]
    assert (rows[0]["system_utime"], rows[0]["system_stime"]) == ("0.000", "0.000")


def test_one_core_is_never_more_than_busy() -> None:
    ratios = derive_cpu(cpu(0, 0), cpu(1000, 0), 100, 10.0)["per_core_ratio"]
    assert ratios == [1.0]
