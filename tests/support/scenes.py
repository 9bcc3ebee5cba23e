"""Made-up scenes and records for the live view."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from proctally.record.writer import json_line
from proctally.views.top.scene import Scene
from writing import held

EVIL = "\x1b]0;owned\x07\x1b[2J[red]bold[/]<b>\n\r\x9b31m"


def told(pid: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    figures = {"pid": pid, "parent": parent, "command": f"p{pid}", "state": "S", "threads": 1, "cpu_seconds": 1.0}
    held = {"memory_low_bytes": 1 << 20, "memory_high_bytes": 1 << 20}
    levels = {"cpu_cores": 0.0, "wait_cores": 0.0, "rss_bytes": 2 << 20} | held
    return figures | levels | {"read_bytes_per_second": 0.0, "write_bytes_per_second": 0.0} | more


def scene(*processes: dict[str, Any], name: str = "job", **tree: Any) -> Scene:
    made = Scene(name)
    made.is_whole = True
    made.enter(sample(1.0, **tree))
    made.show(list(processes))
    return made


FAMILY = (
    told(10), told(11, 10, cpu_cores=0.2), told(12, 10, memory_high_bytes=9 << 20), told(13, 12, cpu_cores=0.9),
)  # fmt: skip


def training() -> Scene:
    """A job of two processes that computes, waits for a CPU and for storage, beside others and a GPU."""
    made = Scene("train", "python3 train.py --data /data/set.parquet", "8c1f0b7e", root=5312, is_whole=True)
    made.limits, made.cpus = {"cpu_cores": 2.0, "memory_bytes": 512 << 20}, 2.0
    made.phases = {"load": 0.5, "fit": 12.0}
    user = {"processes": 1, "rss_bytes": 1 << 20}
    largest = [user | {"user": "ci", "command": "python", "cpu_cores": 0.12}]
    largest.append(user | {"user": "root", "command": "cc1", "cpu_cores": 0.07})
    gpu = {"index": 0, "name": "NVIDIA H200", "utilization_ratio": 0.83, "memory_used_bytes": 9 << 30}
    for at in range(90):
        cores = min(1.88, 0.4 + 0.2 * at) if at < 89 else 1.81
        parts = {"running": 0.86, "ready": 0.12, "throttled": 0.0, "disk": 0.0, "asleep": 0.02}
        time_of = {f"{part}_seconds": share * at for part, share in parts.items()}
        held = {"memory_low_bytes": 25 << 20, "memory_high_bytes": 26 << 20}
        if at > 9:
            held = {"memory_low_bytes": 165 << 20, "memory_high_bytes": 172 << 20}
        tree = held | {
            "mapped_file_bytes": 36 << 20,
            "run_delay_seconds": 0.15 * at,
            "time": time_of,
            "cpu_cores": cores,
        }
        line = sample(at + 0.4, **tree) | {"gpus": [gpu | {"tree_memory_bytes": 8 << 30}]}
        line["neighbours"] = {"interval_seconds": 1.0, "cpu_cores": 0.19, "largest": largest}
        made.enter(line)
    held = {"memory_low_bytes": 169 << 20, "memory_high_bytes": 172 << 20}
    root = told(
        5312, command="python3", cpu_cores=1.81, wait_cores=0.15, cpu_seconds=14.9, state="R", threads=9, **held
    )
    mark = told(5318, 5312, command="proctally mark", cpu_seconds=0.0)
    made.show([root, mark | dict.fromkeys(("memory_low_bytes", "memory_high_bytes"), 2_200_000)])
    return made


def header(**more: Any) -> dict[str, Any]:
    run = {"type": "run", "schema": "proctally/2", "run_id": "ab" * 16, "kind": "run", "name": "job", "tags": {}}
    limits = {"cpu_cores": 2.0, "memory_bytes": 1 << 30}
    return (
        run
        | {"started_at": time.time(), "interval_seconds": 1.0, "command": ["job", "-x"], "pid": 42}
        | {"limits": limits}
        | more
    )


class Written:
    """A record that is written as the test wants it, and held as a tracker holds it."""

    def __init__(self, path: Path, **more: Any) -> None:
        self.path = path
        self._held = held(path)
        self.add(header(**more))

    def add(self, *lines: dict[str, Any]) -> None:
        self.raw(b"".join(map(json_line, lines)))

    def raw(self, data: bytes) -> None:
        self._held.write(data)

    def leave(self) -> None:
        """End as a tracker that is killed."""
        self._held.close()


def of_record(at: float, **tree: Any) -> dict[str, Any]:
    line = sample(at, **tree)
    top = [{"pid": 42, "command": "job", "cpu_cores": 1.0, "rss_bytes": 1 << 20}]
    return line | {"cgroup": {"cpu_seconds": at + 1}, "top": top}


def sample(at: float = 1.0, **tree: Any) -> dict[str, Any]:
    levels = {"cpu_seconds": at, "cpu_cores": 1.0, "rss_bytes": 2 << 20, "pss_bytes": 1 << 20, "processes": 3}
    counted = {"read_bytes": 0, "write_bytes": 0, "threads": 3, "running": 1, "disk_sleep": 0, "swap_bytes": 0}
    line = {"type": "sample", "at": 1767225600.0 + at, "elapsed_seconds": at, "interval_seconds": 1.0}
    return line | {"tree": levels | counted | tree}
