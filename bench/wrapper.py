"""What the wrapper adds to a job: at its start, at each fork, at its end, in memory and on disk."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median

from programs import Programs
from table import Row


def wall(command: list[str], environment: dict[str, str]) -> float:
    """Seconds from before the start of a command until it has been waited for."""
    begin = time.perf_counter()
    status = os.waitpid(os.posix_spawn(command[0], command, environment), 0)[1]
    assert status == 0, command
    return time.perf_counter() - begin


def startup(programs: Programs, pairs: int = 40) -> Iterator[Row]:
    ours, bare = [], []
    for _ in range(pairs + 1):
        ours.append(wall(programs.tracked("true"), programs.environment))
        bare.append(wall([programs.python, "-c", "pass"], programs.environment))
    ratio = median(a / b for a, b in zip(ours[1:], bare[1:], strict=True))
    how = f"median of {pairs} pairs; {median(ours[1:]) * 1e3:.1f} ms, {median(bare[1:]) * 1e3:.1f} ms"
    yield Row("`proctally run -q -- true` / `python -c pass`", ratio, 2.5, how)


def forks(programs: Programs, pairs: int = 11, count: int = 10_000) -> Iterator[Row]:
    def seconds(command: list[str]) -> float:
        done = subprocess.run(command, env=programs.environment, stdout=subprocess.PIPE, text=True, check=True)
        return float(done.stdout)

    job = [programs.compiled("forks"), str(count)]
    said = programs.folder / "forks.json"
    bare, ours, summaries = [], [], []
    for _ in range(pairs):
        bare.append(seconds(job))
        ours.append(seconds(programs.tracked(*job, options=("--summary-json", str(said)))))
        summaries.append(json.loads(said.read_text()))
    ratio = median(a / b for a, b in zip(ours, bare, strict=True))
    each = median(a - b for a, b in zip(ours, bare, strict=True)) / count * 1e6
    how = f"median of {pairs} pairs of {count} forks; {median(bare) / count * 1e6:.0f} us a bare one, ratio {ratio:.3f}"
    yield Row("us that tracking adds to a bare fork", each, 20.0, how)
    cost = median(each["tracker"]["cpu_seconds"] / each["processes"]["started"] for each in summaries)
    rate = median(each["processes"]["started"] / each["wall_seconds"] for each in summaries)
    how = f"its CPU for one start, {cost * 1e6:.1f} us at {rate:.0f} starts a second, its own start included"
    yield Row("share of a core that proctally takes at 6000 process starts a second", cost * 6000, 0.08, how)


def end_latency(programs: Programs, pairs: int = 21) -> Iterator[Row]:
    def seconds(command: list[str]) -> float:
        with subprocess.Popen(command, env=programs.environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.wait()
            ended = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            return (ended - int(process.stdout.read())) / 1e9

    job = [programs.compiled("last_act"), "0.3"]
    bare, ours = [], []
    for _ in range(pairs):
        bare.append(seconds(job))
        ours.append(seconds(programs.tracked(*job)))
    how = f"median of {pairs}, worst {max(ours) * 1e3:.1f} ms; bare {median(bare) * 1e3:.2f} ms"
    yield Row("ms from the last act of the job to the end of the wrapper", median(ours) * 1e3, 20.0, how)


def high_water(pid: int) -> int | None:
    """`VmHWM` of a process in bytes: of its own address space since its exec, unlike what wait4 says."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def rss(programs: Programs, count: int = 300, seconds: int = 6) -> Iterator[Row]:
    record = programs.folder / "rss.jsonl"
    job = [programs.compiled("children"), str(count), "20", str(seconds)]
    command = programs.tracked(*job, options=("-i", "0.2", "-o", str(record)))
    with subprocess.Popen(command, env=programs.environment, stdout=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, high_water(process.pid) or 0)
            time.sleep(0.02)
    claimed = json.loads(record.read_text().splitlines()[-1])["tracker"]["peak_rss_bytes"]
    how = f"VmHWM, polled; its own summary says {claimed / (1 << 20) if claimed else float('nan'):.1f}"
    yield Row(f"MiB, peak RSS of proctally with {count} processes", peak / (1 << 20), 20.0, how)


def record_size(programs: Programs) -> Iterator[Row]:
    job = [programs.compiled("children"), "5", "20", "4"]
    for what, options, most in (("", ("--no-system", "--no-gpu"), 1200.0), (", the machine beside it", (), 2300.0)):
        record = programs.folder / f"size{len(options)}.jsonl"
        command = programs.tracked(*job, options=("-i", "0.1", "-o", str(record), *options))
        subprocess.run(command, env=programs.environment, stdout=subprocess.DEVNULL, check=True)
        lines = record.read_bytes().splitlines(keepends=True)
        sizes = [len(line) for line in lines if json.loads(line)["type"] == "sample"]
        how = f"mean of {len(sizes)}, largest {max(sizes)}; whole record {record.stat().st_size}"
        yield Row(f"bytes a sample of a tree of 6{what}", mean(sizes), most, how)
