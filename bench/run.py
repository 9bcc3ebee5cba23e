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
from build import build_bench
from decide_cost import decide_cost
from diff_simulated import diff_simulated
from figures import chains, figures
from library_cost import library_cost
from listing_cost import listing_cost
from peers import peers
from programs import Missing, Programs
from record_bounds import record_bounds
from report_cost import report_cost
from sample_cost import sample_cost, scaling
from scrape_cost import scrape_cost
from system_cost import system_cost
from table import HEAD, Line, Row
from top_cost import top_cost
from track_cost import track_cost
from tracker_cost import tracker_cost
from wall_time import wall_time
from wrapper import end_latency, forks, record_size, rss, startup

BENCHES: dict[str, Callable[[Programs], Iterator[Line]]] = {
    "startup": startup,
    "forks": forks,
    "end_latency": end_latency,
    "rss": rss,
    "record_size": record_size,
    "sample_cost": sample_cost,
    "scaling": scaling,
    "system_cost": system_cost,
    "library_cost": library_cost,
    "track_cost": track_cost,
    "tracker_cost": tracker_cost,
    "scrape_cost": scrape_cost,
    "listing_cost": listing_cost,
    "decide_cost": decide_cost,
    "diff_simulated": diff_simulated,
    "top_cost": top_cost,
    "report_cost": report_cost,
    "record_bounds": record_bounds,
    "build": build_bench,
    "accuracy": accuracy,
    "figures": figures,
    "chains": chains,
    "wall_time": wall_time,
    "peers": peers,
}
WHEN_NAMED = ("peers", "figures", "chains", "diff_simulated", "record_bounds")  # take the network, or many minutes


class Skipped:
    """A bench that this machine cannot run."""

    missed = False

    def __init__(self, name: str, reason: Missing) -> None:
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"| {self.name} | | | skipped | {self.reason} |"


def lines_of(name: str, programs: Programs) -> Iterator[Line]:
    try:
        yield from BENCHES[name](programs)
    except Missing as reason:
        yield Skipped(name, reason)


def main(names: list[str]) -> int:
    """0 when every target was reached, 1 when one was missed, 2 for a name that is none."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    print(f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    missed = False
    table: type | None = None  # what the lines of the table are that was printed last
    with tempfile.TemporaryDirectory(prefix="proctally-bench-") as folder:
        programs = Programs(Path(folder))
        for name in names or [name for name in BENCHES if name not in WHEN_NAMED]:
            for line in lines_of(name, programs):
                if isinstance(line, Row | Skipped) and table is not Row:
                    print(f"\n{HEAD}")
                table = Row if isinstance(line, Row | Skipped) else type(line)
                print(line, flush=True)
                missed = missed or line.missed
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
