"""What a scrape costs: the exporter is told of a tree of 300 processes, with gauges of each, and asked for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from statistics import median

from programs import HERE, Missing, Programs
from table import Row

PROCESSES = 300
SCRAPE_MS = 15.0


def scrape_cost(programs: Programs, scrapes: int = 100) -> Iterator[Row]:
    """Milliseconds from the request to the end of the answer, the median: right after a sample, and between two."""
    for name, after_sample in (("right after a sample", "1"), ("between two samples", "0")):
        command = [programs.python, str(HERE / "scrape_loop.py"), str(PROCESSES), str(scrapes), after_sample]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise Missing("the extra prometheus is not installed: pip install 'proctally[prometheus]'")
        size, cpu, *took = (float(line) for line in done.stdout.split())
        how = f"{size / 1000:.0f} kB compressed, worst {max(took):.2f}; the exporter used {cpu:.1f} ms of CPU a sample"
        yield Row(f"ms of a scrape, {PROCESSES} processes, {name}", median(took), SCRAPE_MS, how)
