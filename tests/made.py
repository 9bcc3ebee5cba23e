"""Records that are made up: for runs that cannot be had here, such as one of ten hours, with GPUs, or throttled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

START = 1_795_000_000.0
GIB, MIB = 1 << 30, 1 << 20


def lines(
    *,
    name: str = "job",
    kind: str = "run",
    wall: float = 100.0,
    cores: list[float] | None = None,
    memory: int | None = GIB,
    process: int | None = None,
    verdict: str = "ok",
    evidence: str = "exit status 0",
    number: int = 0,
    limits: dict[str, Any] | None = None,
    waiting: dict[str, Any] | None = None,
    commands: dict[str, float] | None = None,
    gpus: list[dict[str, Any]] | None = None,
    swap: int = 0,
    end: bool = True,
    **more: dict[str, Any],
) -> list[dict[str, Any]]:
    """The lines of one record. `cores`: busy cores, over equal intervals; `more`: what else stands in the summary."""
    cores = [1.0] * 10 if cores is None else cores
    step = wall / max(1, len(cores))
    mean = sum(cores) / max(1, len(cores))
    limits = {"cpu_cores": 8, "memory_bytes": None, "memory_high_bytes": None, "from": None} | (limits or {})
    started = START + 1000 * number
    found: list[dict[str, Any]] = [
        {
            "type": "run",
            "schema": "proctally/1",
            "run_id": f"{crc32(f'{name}{number}'.encode()):08x}{number:08x}",
            "kind": kind,
            "name": name,
            "command": [name],
            "started_at": started,
            "interval_seconds": step,
            "limits": limits,
            "tags": {},
        }
    ]
    used = 0.0
    for index, busy in enumerate([0.0, *cores]):
        used += busy * step
        found.append(
            {
                "type": "sample",
                "at": started + index * step,
                "elapsed_seconds": index * step,
                "interval_seconds": step if index else None,
                "tree": {
                    "cpu_seconds": used,
                    "cpu_cores": busy if index else None,
                    "pss_bytes": memory,
                    "swap_bytes": swap,
                    "run_delay_seconds": (waiting or {}).get("run_delay_seconds", 0.0),
                    "throttled_seconds": (waiting or {}).get("throttled_seconds"),
                },
                "gpus": gpus,
            }
        )
    if not end:
        return found
    waits = {"run_delay_seconds": 0.0, "throttled_seconds": None, "throttled_periods": None, "periods": None}
    found.append(
        {
            "type": "summary",
            "ended_at": started + wall,
            "wall_seconds": wall,
            "exit_code": 0 if verdict == "ok" else None,
            "signal": None,
            "verdict": verdict,
            "evidence": evidence,
            "cpu": {
                "total_seconds": wall * mean,
                "user_seconds": 0.9 * wall * mean,
                "system_seconds": 0.1 * wall * mean,
                "mean_cores": mean,
                "peak_cores": max(cores, default=0.0),
                "source": "perf",
                "coverage": "complete",
            },
            "memory": {
                "peak_pss_bytes": memory,
                "peak_rss_bytes": memory,
                "peak_process_rss_bytes": memory // 2 if process is None and memory is not None else process,
                "cgroup_peak_bytes": 100 * GIB,  # page cache: nobody is to plan with it
                "coverage": "peaks as sampled; the largest process by its high-water mark",
            },
            "io": {"read_bytes": 1000, "write_bytes": 2000, "read_chars": 1, "write_chars": 2, "coverage": "complete"},
            "processes": {"started": 3, "source": "perf", "peak": 2, "left": 0, "coverage": "complete"},
            "commands": [
                {"command": command, "processes": 1, "cpu_seconds": seconds, "teardown_seconds": 0.0}
                for command, seconds in (commands or {name: wall * mean}).items()
            ],
            "waiting": waits | (waiting or {}),
            "counters": None,
            "limits": limits,
            "cgroup": None,
            "system": None,
            "gpu": None,
            "tracker": {"cpu_seconds": 0.1, "peak_rss_bytes": 12 * MIB, "samples": len(cores) + 1},
        }
        | more
    )
    return found


def record(directory: Path, **made: Any) -> Path:
    """One of them as a file in the default place of `PROCTALLY_HOME=directory`."""
    number, name = made.get("number", 0), made.get("name", "job")
    path = directory / "runs" / f"20261121T{number:06}Z-job-{crc32(f'{name}{number}'.encode()):08x}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines(**made)), encoding="utf-8")
    return path


def gpu(number: int, *, ratio: float | None = 0.0, memory: int | None = 0, vendor: str = "nvidia") -> dict[str, Any]:
    """An entry of `gpus` in a sample."""
    return {
        "index": number,
        "uuid": f"GPU-{number}",
        "vendor": vendor,
        "tree_utilization_ratio": ratio,
        "tree_memory_bytes": memory,
        "tree_processes": None if memory is None else int(memory > 0),
    }
