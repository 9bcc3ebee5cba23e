"""Every promise about cost and accuracy, measured: `python bench/run.py [NAME ...]` prints one markdown table.

A figure that is a ratio compares two things measured in turn within this run, so that it holds on any machine. Run it
with the interpreter beside which proctally is installed.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from accuracy import accuracy
from programs import Missing, Programs
from sample_cost import sample_cost, scaling
from table import HEAD, Row
from wrapper import end_latency, forks, record_size, rss, startup

BENCHES: dict[str, Callable[[Programs], Iterator[Row]]] = {
    "startup": startup,
    "forks": forks,
    "end_latency": end_latency,
    "rss": rss,
    "record_size": record_size,
    "sample_cost": sample_cost,
    "scaling": scaling,
    "accuracy": accuracy,
}


def main(names: list[str]) -> int:
    """0 when every target was reached, 1 when one was missed, 2 for a name that is none."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    print(f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n")
    print(HEAD, flush=True)
    missed = False
    with tempfile.TemporaryDirectory(prefix="proctally-bench-") as folder:
        programs = Programs(Path(folder))
        for name in names or BENCHES:
            try:
                for row in BENCHES[name](programs):
                    print(row, flush=True)
                    missed = missed or row.missed
            except Missing as reason:
                print(f"| {name} | | | skipped | {reason} |", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
