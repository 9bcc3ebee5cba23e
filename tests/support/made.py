"""Made-up records: what cannot be had from a run here (a day, GPUs, gaps, hostile names), line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

START = 1_790_000_000.0
MIB = 1 << 20


def run(**more: Any) -> dict[str, Any]:
    return {
        "type": "run", "schema": "proctally/1", "version": "0", "run_id": "0123456789abcdef" * 2, "parent_run_id": None,
        "kind": "run", "name": "made", "command": ["make", "-j4"], "cwd": "/home/some", "user": "somebody", "pid": 7,
        "started_at": START, "interval_seconds": 1.0,
        "limits": {"cpu_cores": 4, "memory_bytes": 1 << 30, "memory_high_bytes": None, "from": "cgroup"},
        "scheduler": None, "tags": {},
    } | more  # fmt: skip


def sample(elapsed: float, tree: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A sample at 1 Hz; `tree` adds to what every sample has of the tree."""
    levels = {
        "cpu_seconds": elapsed * 2, "cpu_cores": 2.0 if elapsed else None, "processes": 3, "threads": 5, "running": 2,
        "disk_sleep": 0, "run_delay_seconds": elapsed / 10, "rss_bytes": 300 * MIB, "pss_bytes": 200 * MIB,
        "swap_bytes": 0, "read_bytes": 0, "write_bytes": int(elapsed * MIB), "throttled_seconds": None,
    }  # fmt: skip
    system = {
        "cpu_cores": 2.5, "memory": {"used_bytes": 2 << 30, "cached_bytes": 1 << 30, "swap_used_bytes": 0},
        "disk": {"read_bytes": 5000, "write_bytes": int(9000 + elapsed * 2 * MIB)},
        "network": {"received_bytes": int(elapsed * 1000), "sent_bytes": 77},
        "pressure": {
            "cpu_some_seconds": 100 + elapsed / 2, "memory_some_seconds": 1.0, "memory_full_seconds": 1.0,
            "io_some_seconds": 3.0, "io_full_seconds": 3.0,
        },
    }  # fmt: skip
    return {
        "type": "sample", "at": START + elapsed, "elapsed_seconds": elapsed,
        "interval_seconds": 1.0 if elapsed else None, "tree": levels | (tree or {}), "system": system, "gpus": [],
        "cgroup": None, "top": [],
    } | more  # fmt: skip


def process(pid: int, began: float, ended: float | None, cpu: float | None, **more: Any) -> dict[str, Any]:
    return {
        "type": "process", "pid": pid, "start": pid, "parent": 1, "command": f"job{pid}", "started_at": START + began,
        "ended_at": None if ended is None else START + ended, "cpu_seconds": cpu, "peak_rss_bytes": 5 * MIB,
        "read_bytes": 0, "write_bytes": 0, "exit": 0,
    } | more  # fmt: skip


def phase(name: str, event: str, at: float, cpu: float | None = None) -> dict[str, Any]:
    return {"type": "phase", "name": name, "event": event, "at": START + at, "cpu_seconds": cpu}


def summary(wall: float = 10.0, **more: Any) -> dict[str, Any]:
    return {
        "type": "summary", "ended_at": START + wall, "wall_seconds": wall, "exit_code": 0, "signal": None,
        "verdict": "ok", "evidence": "exit status 0",
        "cpu": {
            "total_seconds": 2 * wall, "user_seconds": 1.5 * wall, "system_seconds": 0.5 * wall, "mean_cores": 2.0,
            "peak_cores": 3.5, "source": "rusage", "sources": {}, "unavailable": {"cgroup": "not asked for"},
            "coverage": "complete",
        },
        "memory": {
            "peak_pss_bytes": 400 * MIB, "peak_rss_bytes": 600 * MIB, "peak_process_rss_bytes": 512 * MIB,
            "cgroup_peak_bytes": 900 * MIB, "coverage": "peaks as sampled",
        },
        "io": {"read_bytes": 0, "write_bytes": 10 * MIB, "read_chars": 1, "write_chars": 1, "coverage": "complete"},
        "processes": {"started": 120, "source": "perf", "peak": 9, "left": 0, "coverage": "complete"},
        "commands": [
            {"command": "ld", "processes": 1, "cpu_seconds": 4.0, "teardown_seconds": 0.5, "wall_seconds": 50.0,
             "peak_rss_bytes": 9 * MIB},
            {"command": "cc1", "processes": 80, "cpu_seconds": 12.0, "teardown_seconds": None, "wall_seconds": 20.0,
             "peak_rss_bytes": 40 * MIB},
        ],
        "waiting": {"run_delay_seconds": 1.0, "throttled_seconds": None, "throttled_periods": None, "periods": None},
        "limits": {"cpu_cores": 4, "memory_bytes": 1 << 30, "from": "cgroup"},
        "system": {"unavailable": {}, "cpus": 8, "memory_total_bytes": 16 << 30, "cpu_steal_seconds": 0.0},
        "gpu": None,
        "tracker": {
            "cpu_seconds": 0.2, "peak_rss_bytes": 12 * MIB, "samples": 11, "late_samples": 0, "lost_samples": 0,
        },
    } | more  # fmt: skip


def written(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def whole(path: Path, *between: dict[str, Any], seconds: int = 10, end: dict[str, Any] | None = None) -> Path:
    """A record of some seconds at 1 Hz with its two ends."""
    samples = [sample(float(second)) for second in range(seconds + 1)]
    return written(path, run(), *samples, *between, summary(float(seconds)) if end is None else end)
