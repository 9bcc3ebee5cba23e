"""What `diff` and `advise` take: a day at 1 Hz, and many runs. The records are a real one, its samples repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from programs import Programs
from table import Row

DAY = 86_400
MANY, SAMPLES = 100, 600
WIDE = 1_000


def decide_cost(_: Programs) -> Iterator[Row]:
    """Seconds of wall time, the best of three, of the whole command."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"PROCTALLY_HOME": home}
        command = [sys.executable, "-m", "proctally"]
        subprocess.run(
            [*command, "run", "-q", "-n", "seed", "-i", "0.1", "--", "sleep", "1"], env=environment, check=True
        )
        seed = [json.loads(line) for line in next((Path(home) / "runs").iterdir()).read_text().splitlines()]
        repeated(home, seed, "day", DAY, 1)
        repeated(home, seed, "many", SAMPLES, MANY)
        repeated(home, seed, "wide", 2, WIDE)

        def best(*arguments: str) -> float:
            taken = []
            for _ in range(3):
                begun = time.monotonic()
                subprocess.run([*command, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
                taken.append(time.monotonic() - begun)
            return min(taken)

        yield Row("s for advise of a day at 1 Hz", best("advise", "name:day"), None, f"{DAY:,} samples")
        yield Row(
            "s for advise of 100 runs", best("advise", "name:many"), None, f"{MANY} runs of {SAMPLES} samples each"
        )
        yield Row("s for advise --all", best("advise", "--all"), None, "of all these records and 1,000 short ones")
        yield Row(
            "s for diff of 1,000 runs with one", best("diff", "name:wide", "name:day"), None, "the two ends of each"
        )


def repeated(home: str, seed: list[dict[str, Any]], name: str, samples: int, records: int) -> None:
    """Records of that name with so many samples each."""
    first, last = seed[0] | {"name": name}, seed[-1]
    sample = [line for line in seed if line["type"] == "sample"][-2]
    lines = [
        json.dumps(sample | {"elapsed_seconds": float(index), "interval_seconds": 1.0 if index else None})
        for index in range(samples)
    ]
    for number in range(records):
        path = Path(home) / "runs" / f"20261121T000000Z-{name}-{number:08x}.jsonl"
        run_id = {"run_id": f"{name.encode().hex()}{number:024x}"}
        end = json.dumps(last | run_id | {"wall_seconds": 60.0 + number % 7})
        path.write_text("\n".join([json.dumps(first | run_id), *lines, end]) + "\n")
