"""Records that are made up, line by line or whole: what cannot be had from a run here.

Such as one of a day, with GPUs, throttled, with gaps or hostile names.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from proctally.record.codes import ALL_EXITED, EXIT_STATUS, MEMORY_LIMIT, OOM_KILLED, SIGNALLED, TIMED_OUT
from proctally.record.field_types import TypeFilter
from proctally.record.schema1 import GAP, REASON

START = 1_795_000_000.0
GIB, MIB = 1 << 30, 1 << 20
CODES = {
    "killed": SIGNALLED,
    "oom": OOM_KILLED,
    "timeout": TIMED_OUT,
    "limit": MEMORY_LIMIT,
    "ended": ALL_EXITED,
}  # by verdict


def admitted(*lines: dict[str, Any]) -> list[dict[str, Any]]:
    """Return copies of lines as the reader yields them."""
    return [TypeFilter().admit(copy.deepcopy(line)) for line in lines]


def reason(code: str, **values: Any) -> dict[str, Any]:
    """The `reason` of a summary."""
    return dict.fromkeys(REASON) | {"code": code} | values


def gap(section: str, code: str, **values: Any) -> dict[str, Any]:
    """An entry of the `gaps` of a summary."""
    return dict.fromkeys(GAP) | {"section": section, "code": code} | values


# -- one line ---------------------------------------------------------------------------------------------------------


def run(**more: Any) -> dict[str, Any]:
    return {
        "type": "run", "schema": "proctally/2", "version": "0", "run_id": "0123456789abcdef" * 2, "parent_run_id": None,
        "kind": "run", "name": "made", "command": ["make", "-j4"], "cwd": "/home/some", "user": "somebody", "pid": 7,
        "started_at": START, "interval_seconds": 1.0,
        "limits": {"cpu_cores": 4, "memory_bytes": 1 << 30, "memory_high_bytes": None, "from": "cgroup"},
        "scheduler": None, "allocation": None, "tags": {},
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


def bounds(low: int | None, high: int | None, **more: Any) -> dict[str, Any]:
    """Return the memory of a sample with its bounds, to add to `tree`."""
    apart = {"mapped_file_bytes": 36 * MIB, "kernel_bytes": 3 * MIB}
    return {"memory_low_bytes": low, "memory_high_bytes": high} | apart | more


def bounded_summary(low: int | None, high: int | None, wall: float = 10.0, **more: Any) -> dict[str, Any]:
    """Return a summary with bounds of memory. `more`: what else its memory has."""
    end = summary(wall)
    parts = [
        {"pid": 8, "command": "cc1", "low_bytes": 100 * MIB, "high_bytes": 110 * MIB, "kind": "private"},
        {"pid": 9, "command": "sh", "low_bytes": 2 * MIB, "high_bytes": 20 * MIB, "kind": "family"},
        {"pid": None, "command": None, "low_bytes": 0, "high_bytes": 9 * MIB, "kind": "shared"},
    ]
    end["memory"] |= {
        "peak_low_bytes": low, "peak_high_bytes": high, "at_seconds": 4.0, "mapped_file_bytes": 36 * MIB,
        "kernel_bytes": 3 * MIB, "swap_bytes": 0, "unclaimed_shmem_bytes": 9 * MIB, "at_peak": parts,
        "source": "surroundings",
    } | more  # fmt: skip
    return end


def process(pid: int, began: float, ended: float | None, cpu: float | None, **more: Any) -> dict[str, Any]:
    return {
        "type": "process", "pid": pid, "start_ticks": pid, "parent": 1, "command": f"job{pid}",
        "started_at": START + began,
        "ended_at": None if ended is None else START + ended, "cpu_seconds": cpu, "peak_rss_bytes": 5 * MIB,
        "read_bytes": 0, "write_bytes": 0, "exit": 0,
    } | more  # fmt: skip


def phase(name: str, event: str, at: float, cpu: float | None = None) -> dict[str, Any]:
    return {"type": "phase", "name": name, "event": event, "at": START + at, "cpu_seconds": cpu}


def summary(wall: float = 10.0, **more: Any) -> dict[str, Any]:
    return {
        "type": "summary", "ended_at": START + wall, "wall_seconds": wall, "exit_code": 0, "signal": None,
        "verdict": "ok", "reason": reason(EXIT_STATUS), "gaps": [],
        "cpu": {
            "total_seconds": 2 * wall, "user_seconds": 1.5 * wall, "system_seconds": 0.5 * wall, "mean_cores": 2.0,
            "peak_cores": 3.5, "source": "rusage", "sources": {}, "unavailable": {"cgroup": "not_requested"},
            "coverage": "complete",
        },
        "memory": {
            "peak_pss_bytes": 400 * MIB, "peak_rss_bytes": 600 * MIB, "peak_process_rss_bytes": 512 * MIB,
            "cgroup_peak_bytes": 900 * MIB, "coverage": "complete",
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


# -- one record ------------------------------------------------------------------------------------------------------


def lines(
    *,
    name: str = "job",
    kind: str = "run",
    wall: float = 100.0,
    cores: list[float] | None = None,
    memory: int | None = GIB,
    process: int | None = None,
    verdict: str = "ok",
    why: dict[str, Any] | None = None,
    exit_code: int | None = None,
    signal: int | None = None,
    gaps: Sequence[dict[str, Any]] = (),
    number: int = 0,
    limits: dict[str, Any] | None = None,
    waiting: dict[str, Any] | None = None,
    commands: dict[str, float] | None = None,
    gpus: list[dict[str, Any]] | None = None,
    swap: int = 0,
    end: bool = True,
    **more: dict[str, Any],
) -> list[dict[str, Any]]:
    """The lines of one record. `cores`: busy cores, over equal intervals; `more`: what else the summary has.

    `why`: values of the reason. A section with a gap is partial.
    """
    partial = {each["section"] for each in gaps}

    def completeness(section: str) -> str:
        return "partial" if section in partial else "complete"

    cores = [1.0] * 10 if cores is None else cores
    step = wall / max(1, len(cores))
    mean = sum(cores) / max(1, len(cores))
    limits = {"cpu_cores": 8, "memory_bytes": None, "memory_high_bytes": None, "from": None} | (limits or {})
    started = START + 1000 * number
    found = [
        run(
            run_id=f"{crc32(f'{name}{number}'.encode()):08x}{number:08x}",
            kind=kind,
            name=name,
            command=[name],
            started_at=started,
            interval_seconds=step,
            limits=limits,
        )
    ]
    used = 0.0
    for index, busy in enumerate([0.0, *cores]):
        used += busy * step
        tree = {
            "cpu_seconds": used,
            "cpu_cores": busy if index else None,
            "pss_bytes": memory,
            "swap_bytes": swap,
            "run_delay_seconds": (waiting or {}).get("run_delay_seconds", 0.0),
            "throttled_seconds": (waiting or {}).get("throttled_seconds"),
        }
        line = sample(index * step, at=started + index * step, system=None, gpus=gpus)
        found.append(line | {"interval_seconds": step if index else None, "tree": tree})
    if not end:
        return found
    waits = {"run_delay_seconds": 0.0, "throttled_seconds": None, "throttled_periods": None, "periods": None}
    ended = summary(
        wall,
        ended_at=started + wall,
        exit_code=0 if verdict == "ok" else exit_code,
        signal=signal,
        verdict=verdict,
        reason=reason(CODES.get(verdict, EXIT_STATUS)) | (why or {}),
        gaps=list(gaps),
        cpu={
            "total_seconds": wall * mean,
            "user_seconds": 0.9 * wall * mean,
            "system_seconds": 0.1 * wall * mean,
            "mean_cores": mean,
            "peak_cores": max(cores, default=0.0),
            "source": "perf",
            "coverage": completeness("cpu"),
        },
        memory={
            "peak_pss_bytes": memory,
            "peak_rss_bytes": memory,
            "peak_process_rss_bytes": memory // 2 if process is None and memory is not None else process,
            "cgroup_peak_bytes": 100 * GIB,  # page cache: nobody is to plan with it
            "coverage": completeness("memory"),
        },
        io={
            "read_bytes": 1000,
            "write_bytes": 2000,
            "read_chars": 1,
            "write_chars": 2,
            "coverage": completeness("io"),
        },
        processes={"started": 3, "source": "perf", "peak": 2, "left": 0, "coverage": completeness("processes")},
        commands=[
            {"command": command, "processes": 1, "cpu_seconds": seconds, "teardown_seconds": 0.0}
            for command, seconds in (commands or {name: wall * mean}).items()
        ],
        waiting=waits | (waiting or {}),
        limits=limits,
        system=None,
        tracker={"cpu_seconds": 0.1, "peak_rss_bytes": 12 * MIB, "samples": len(cores) + 1},
    )
    return [*found, ended | more]


def bounded(made: list[dict[str, Any]], low: int | None, high: int | None, **more: Any) -> list[dict[str, Any]]:
    """Return the lines with bounds of memory in the summary and in each sample. `more`: what else the summary has."""
    apart = ("mapped_file_bytes", "kernel_bytes")
    for line in made:
        if line["type"] == "sample":
            line["tree"] |= {"memory_low_bytes": low, "memory_high_bytes": high, "processes": 2}
            line["tree"] |= {name: more.get(name) for name in apart}
        elif line["type"] == "summary":
            line["memory"] |= {"peak_low_bytes": low, "peak_high_bytes": high} | more
    return made


def record(directory: Path, **made: Any) -> Path:
    """One of them as a file in the default place of `PROCTALLY_HOME=directory`."""
    number, name = made.get("number", 0), made.get("name", "job")
    path = directory / "runs" / f"20261121T{number:06}Z-job-{crc32(f'{name}{number}'.encode()):08x}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return written(path, *lines(**made))


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
