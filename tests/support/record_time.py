"""Records real jobs with the truth of a scheduler trace: `record_time.py CPU_JOBS [NAME ...] > recorded_time.jsonl`

Takes root, tracefs, and a v1 `cpu` hierarchy for the quotas. CPU_JOBS: the compiled `cpu_jobs.c`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPIN = "while :; do :; done"
NAPS = """
import time
end = time.monotonic() + 2
while time.monotonic() < end:
    time.sleep(0.005)
"""
FSYNC = """
import os, tempfile
with tempfile.TemporaryFile(dir="/var/tmp") as file:
    for _ in range(1500):
        file.write(bytes(65536))
        file.flush()
        os.fsync(file.fileno())
"""
PING_PONG = """
import os
here, there = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    while os.read(here[0], 1):
        os.write(there[1], b"x")
for _ in range(40000):
    os.write(here[1], b"x")
    os.read(there[0], 1)
os.kill(child, 9)
os.wait()
"""
TOGETHER = """
import os, time
def burn():
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
for _ in range(4):
    if os.fork() == 0:
        burn()
        os._exit(0)
    start = time.process_time()
    while time.process_time() < start + 0.2:
        pass
    os.wait()
    time.sleep(0.6)
"""
PIPELINE = "dd if=/dev/zero bs=64k count=8000 2>/dev/null | cat | md5sum >/dev/null"
BUILD = "for i in 1 2 3 4 5; do { sleep 0.2; /bin/true; gzip -c /usr/bin/perf >/dev/null; } & sleep 0.3; done; wait"
TIMEOUT = ["timeout", "2.5"]


def jobs(cpu_jobs: str) -> dict[str, list[str]]:
    python = [sys.executable, "-S", "-c"]
    return {
        "pinned": ["taskset", "-c", "0", *TIMEOUT, "sh", "-c", SPIN],
        "quota 20 %": [*TIMEOUT, "sh", "-c", SPIN],
        "quota 100 %": [cpu_jobs, "main_exits", "1", "400"],
        "sleep": ["sh", "-c", "for i in 1 2 3 4 5; do sleep 0.3; done"],
        "fsync": [*python, FSYNC],
        "fsync accounted": [*python, FSYNC],
        "vfork": [cpu_jobs, "vfork_exec", "800"],
        "forks": [cpu_jobs, "forks", "60", "12"],
        "pipeline": ["sh", "-c", PIPELINE],
        "together": [*python, TOGETHER],
        "threads": [cpu_jobs, "main_exits", "1", "300"],
        "naps": [*python, NAPS],
        "stopped": [cpu_jobs, "stopped", "100", "5"],
        "ping-pong": [*python, PING_PONG],
        "build": ["sh", "-c", BUILD],
    }


@contextmanager
def quota(percent: int | None) -> Iterator[Path | None]:
    if percent is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="proctally-quota-", dir="/sys/fs/cgroup/cpu"))
    try:
        (folder / "cpu.cfs_quota_us").write_text(str(percent * 1000))
        yield folder
    finally:
        folder.rmdir()


@contextmanager
def accounting(on: bool) -> Iterator[None]:
    switch = Path("/proc/sys/kernel/task_delayacct")
    before = switch.read_text()
    if on:
        switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text(before)


def record(argv: list[str], cgroup: Path | None) -> dict[str, Any]:
    """In a process of its own: a subreaper takes all orphans, and all its children, for the job."""
    options = [] if cgroup is None else ["--cgroup", str(cgroup)]
    command = [sys.executable, str(Path(__file__).with_name("timed.py")), *options, *argv]
    line: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1]
    )
    return line


def main() -> None:
    cpu_jobs, *names = sys.argv[1:]
    for name, argv in jobs(cpu_jobs).items():
        if names and name not in names:
            continue
        percent = int(name.split()[1]) if name.startswith("quota") else None
        spinners = [subprocess.Popen(["taskset", "-c", "0", "sh", "-c", SPIN]) for _ in range(3 * (name == "pinned"))]
        try:
            with quota(percent) as cgroup, accounting(name.endswith("accounted")):
                line = record(argv, cgroup)
        finally:
            for spinner in spinners:
                spinner.kill()
                spinner.wait()
        del line["command"]
        print(json.dumps({"name": name, **line}), flush=True)


if __name__ == "__main__":
    main()
