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
    levels = {"cpu_cores": 0.0, "rss_bytes": 1 << 20, "pss_bytes": None}
    return figures | levels | {"read_bytes_per_second": 0.0, "write_bytes_per_second": 0.0} | more


def scene(*processes: dict[str, Any], title: str = "job", **tree: Any) -> Scene:
    made = Scene(title)
    made.is_whole = True
    made.sources = {"perf": 12.5, "procfs": 12.25}
    made.enter(sample(1.0, list(processes), **tree))
    return made


FAMILY = (told(10), told(11, 10, cpu_cores=0.2), told(12, 10, rss_bytes=9 << 20), told(13, 12, cpu_cores=0.9))


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
    del line["processes"]
    top = [{"pid": 42, "command": "job", "cpu_cores": 1.0, "rss_bytes": 1 << 20}]
    return line | {"cgroup": {"cpu_seconds": at + 1}, "top": top}


def sample(at: float = 1.0, members: list[dict[str, Any]] | None = None, **tree: Any) -> dict[str, Any]:
    levels = {"cpu_seconds": at, "cpu_cores": 1.0, "rss_bytes": 2 << 20, "pss_bytes": 1 << 20, "processes": 3}
    counted = {"read_bytes": 0, "write_bytes": 0, "threads": 3, "running": 1, "disk_sleep": 0, "swap_bytes": 0}
    line = {"type": "sample", "at": 1767225600.0 + at, "elapsed_seconds": at, "interval_seconds": 1.0}
    return line | {"tree": levels | counted | tree, "processes": members or []}
