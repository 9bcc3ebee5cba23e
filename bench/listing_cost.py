"""What `ls` takes where many runs lie. The records are copies of a real one, with other ids and other numbers."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from programs import Programs
from table import Row

PLAIN, MINUTE = 5_000, 60
ZIPPED, TEN_MINUTES = 1_000, 600
MOST_SECONDS = 1.0
VARIANTS = 20  # of the samples: each record has those of one


def listing_cost(_: Programs) -> Iterator[Row]:
    """Seconds of wall time, the best of three, of the whole command."""
    for count, samples, zipped in ((PLAIN, MINUTE, False), (ZIPPED, TEN_MINUTES, True)):
        with tempfile.TemporaryDirectory() as home:
            environment = os.environ | {"PROCTALLY_HOME": home}
            size = copies(home, environment, count, samples, zipped=zipped)
            for command, limit in (("ls", MOST_SECONDS), ("ls --json", None), ("rm --older-than 9w --dry-run", None)):
                taken = best([sys.executable, "-m", "proctally", *command.split()], environment)
                what = f"{samples} samples, {size:,.0f} KiB each{', gzip' if zipped else ''}"
                yield Row(f"s for {command} of {count:,} runs", taken, None if zipped else limit, what)


def best(command: list[str], environment: dict[str, str]) -> float:
    """Of three."""
    taken = []
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.monotonic() - begun)
    return min(taken)


def copies(home: str, environment: dict[str, str], count: int, samples: int, *, zipped: bool) -> float:
    """Make them; how large one is, in KiB."""
    program = [sys.executable, "-m", "proctally", "run", "-q", "-i", "0.1", "--", "sh", "-c", "sleep 1; ls /; sleep 1"]
    subprocess.run(program, env=environment, check=True, stdout=subprocess.DEVNULL)
    (path,) = (Path(home) / "runs").iterdir()
    seed = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    noise = random.Random(1)
    sample = [line for line in seed if line["type"] == "sample"][-2]
    other = [line for line in seed[1:-1] if line["type"] != "sample"]
    bodies = []
    for _ in range(VARIANTS):
        lines = [*other, *(varied(sample, noise) for _ in range(samples))]
        bodies.append("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())
    for number in range(count):
        run = seed[0] | {"run_id": f"{number:08x}{'0' * 24}", "started_at": 1_790_000_000.0 + 60 * number}
        end = seed[-1] | {"run_id": run["run_id"]}
        first, last = (json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in (run, end))
        data = first + bodies[number % VARIANTS] + last
        made = path.with_name(f"20260921T000000Z-sh-{number:08x}.jsonl{'.gz' if zipped else ''}")
        made.write_bytes(gzip.compress(data, 6) if zipped else data)
    return made.stat().st_size / 1024


def varied(value: Any, noise: random.Random) -> Any:
    """The same with other numbers, as samples differ."""
    if isinstance(value, dict):
        return {key: varied(each, noise) for key, each in value.items()}
    if isinstance(value, list):
        return [varied(each, noise) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float) or not value:
        return value
    changed = value * (1 + noise.random() / 10)
    return int(changed) if isinstance(value, int) else round(changed, 4)
