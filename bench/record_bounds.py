"""What the commands take of memory and CPU time with records that are large, or made to take much."""

from __future__ import annotations

import fcntl
import json
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from programs import Programs
from table import Row

MOST_MIB = 300
BOMB_SECONDS = 10.0
MIB = 1 << 20
START = 1_790_000_000.0
MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
assert done.returncode in (0, 1, 2), done
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
"""  # from a small process: what forks counts in the peak of its child
LIVE = "top --plain --count 1 RECORD"
COMMANDS = (
    "ls", "ls --json", "rm --dry-run", "diff RECORD BASE", "diff -f json RECORD BASE", "diff name:job BASE",
    "advise RECORD", "advise -n job", "report -f html -o - RECORD", "report -f text RECORD",
    "export -f csv RECORD", "export -f jsonl RECORD", "export -f parquet RECORD",
    "export -f csv --every 60 RECORD", "export -f jsonl --every 1000000 RECORD",
    "export -f parquet --every 1000000 RECORD",
)  # fmt: skip
Lines = Iterator[dict[str, Any]]


def record_bounds(programs: Programs) -> Iterator[Row]:
    """Two rows for each record: the command that takes most memory, with all others, and the one that takes longest."""
    base = programs.folder / "base.jsonl"
    write(base, [run("f" * 32), summary()])
    for name, (lines, limit) in RECORDS.items():
        home = programs.folder / name.replace(" ", "-")
        (home / "runs").mkdir(parents=True)
        path = home / "runs" / "20260921T000000Z-job-00000000.jsonl"
        write(path, chain(lines(), [sample(1_000_000)]))
        found = {}
        with path.open("rb") as held:  # as its writer does
            fcntl.flock(held, fcntl.LOCK_EX)
            found[LIVE] = measured(programs, LIVE, home, path, base)
        write(path, [summary()])
        path = packed(path) if name == BOMB else copied(path) if name == RUNS else path
        found |= {command: measured(programs, command, home, path, base) for command in COMMANDS}
        size = sum(each.stat().st_size for each in path.parent.iterdir()) / 1e6
        for each in path.parent.iterdir():
            each.unlink()
        all_of_them = "; ".join(f"{command} {mib:.0f} MiB {took:.1f} s" for command, (mib, took) in found.items())
        yield Row(f"MiB, peak RSS with {name}", max(mib for mib, _ in found.values()), MOST_MIB, all_of_them)
        took, slowest = max((took, command) for command, (_, took) in found.items())
        yield Row(f"s of CPU with {name}", took, limit, f"{slowest}; {size:.0f} MB of record")


def measured(programs: Programs, command: str, home: Path, path: Path, base: Path) -> tuple[float, float]:
    """MiB at the peak, and seconds of CPU; it may refuse the record."""
    words = [{"RECORD": str(path), "BASE": str(base)}.get(word, word) for word in command.split()]
    done = subprocess.run(
        [programs.python, "-c", MEASURE, programs.python, "-m", "proctally", *words],
        env=programs.environment | {"PROCTALLY_HOME": str(home)}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    kib, seconds = map(float, done.stdout.split())
    return kib / 1024, seconds


# -- records ---------------------------------------------------------------------------------------------------------


def write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Add lines."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines)


def packed(path: Path) -> Path:
    """The same, with a second line of 4 GiB, compressed by gzip."""
    first, rest = path.read_bytes().split(b"\n", 1)
    made = path.with_suffix(".jsonl.gz")
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with made.open("wb") as file:
        for block in (first + b"\n", *[b"x" * MIB] * 4096, b"\n" + rest):
            file.write(packer.compress(block))
        file.write(packer.flush())
    path.unlink()
    return made


def copied(path: Path) -> Path:
    """The same as many runs, in one folder."""
    first, rest = path.read_text().split("\n", 1)
    for number in range(1, 200):
        line = json.loads(first) | {"run_id": f"{number:032x}", "started_at": START + number}
        path.with_name(f"20260921T000000Z-job-{number:08x}.jsonl").write_text(f"{json.dumps(line)}\n{rest}")
    return path


def run(run_id: str = "0" * 32, **more: Any) -> dict[str, Any]:
    known = {"type": "run", "schema": "proctally/2", "run_id": run_id, "kind": "run", "name": "job", "pid": 7}
    return known | {"started_at": START, "interval_seconds": 1.0, "command": ["job"], "tags": {}} | more


def sample(second: int, **more: Any) -> dict[str, Any]:
    return {"type": "sample", "elapsed_seconds": second} | more


def summary() -> dict[str, Any]:
    figures = {"wall_seconds": 10.0, "cpu": {"total_seconds": 5.0}, "memory": {"peak_low_bytes": MIB}}
    return {"type": "summary", "verdict": "ok", "ended_at": START + 10} | figures


def samples() -> Lines:
    yield run()
    for second in range(800_000):
        yield sample(second, interval_seconds=1, tree={"cpu_cores": second * 7919 % 99_991 / 1e4})


def processes() -> Lines:
    yield run()
    for pid in range(100_000):
        told = {"pid": pid, "start_ticks": pid, "parent": 1, "command": f"worker{pid}", "started_at": START}
        yield {"type": "process", "ended_at": START + pid, "cpu_seconds": 1.0, "peak_rss_bytes": MIB, "exit": 0} | told


def members() -> Lines:
    yield run()
    for second in range(3):
        told = [
            {"pid": pid, "command": f"worker{pid}", "cpu_cores": 0.5, "rss_bytes": MIB}
            for pid in range(100_000 * second, 100_000 * (second + 1))
        ]
        yield sample(second, top=told)


def many_members() -> Lines:
    yield run()
    for second in range(100_000):
        told = [
            {"pid": pid, "command": f"worker{pid}", "cpu_cores": 0.5, "rss_bytes": MIB}
            for pid in range(10 * second, 10 * second + 10)
        ]
        yield sample(second, top=told)


def marks() -> Lines:
    yield run()
    for number in range(200_000):
        event = "end" if number % 2 else "begin"
        yield {"type": "phase", "name": f"step {number // 2}", "event": event, "at": START + number}


def open_phases() -> Lines:
    yield run()
    for number in range(200_000):
        yield {"type": "phase", "name": f"step {number} {'x' * 1000}", "event": "begin", "at": START + number}


def long_arguments() -> Lines:
    yield run(command=["\U0001f600" * 400_000] * 9 + ["--token=x"])
    yield sample(1)


def short_arguments() -> Lines:
    yield run(command=["\U0001f600"] * 1_000_000 + ["--token=x"])
    yield sample(1)


def unknown_fields() -> Lines:
    yield run()
    for second in range(2_000):
        yield sample(second, **{f"field {second} {number}": "\U0001f600" * 10 for number in range(900)})


def unknown_texts() -> Lines:
    yield run()
    for second in range(20):
        yield sample(second, **{f"field {second} {number}": "\U0001f600" * 16_000 for number in range(200)})


def cores() -> Lines:
    yield run()
    for second in range(4):
        yield sample(second, interval_seconds=1.0, system={"per_core_ratio": [0.123] * 1_000_000})


BOMB, RUNS = "4 GiB in one line, gzip", "200 runs with 2 MiB of arguments"
RECORDS: dict[str, tuple[Callable[[], Lines], float | None]] = {
    "800,000 samples": (samples, None),
    "100,000 processes": (processes, None),
    "100,000 members in a sample": (members, None),
    "1,000,000 members of 100,000 samples": (many_members, None),
    "200,000 marks": (marks, None),
    "200,000 open phases": (open_phases, None),
    "arguments of 15 MB": (long_arguments, None),
    "1,000,000 arguments": (short_arguments, None),
    "1,800,000 unknown fields": (unknown_fields, None),
    "unknown texts of 256 MB": (unknown_texts, None),
    "1,000,000 cores": (cores, None),
    BOMB: (lambda: iter([run()]), BOMB_SECONDS),
    RUNS: (lambda: iter([run(command=["\U0001f600" * 100_000] * 5), sample(1)]), None),
}
