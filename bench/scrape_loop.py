"""Scrapes of an exporter: `python scrape_loop.py PROCESSES SCRAPES AFTER_SAMPLE`.

Prints the bytes of an answer, the CPU milliseconds that the exporter used for a sample and its scrapes, and the
milliseconds of each scrape. The connection stays open, as that of Prometheus does.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import sys
import time
from typing import Any

from proctally.linux.machine import Machine
from proctally.tracking.config import Options
from proctally.tracking.exporting import Exports, Outlets

ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
PAUSE = 0.1
RENDERED = 0.05  # after this, what a sample changes has been made


def gauges(count: int, number: int) -> dict[str, Any]:
    """What is told of each process at one sample."""
    return {
        "type": "gauges",
        "process_count": count,
        "rss_total_bytes": count * 4096,
        "processes": [
            {
                "pid": 100000 + pid,
                "exe": f"/usr/lib/some-package/bin/worker-{pid % 7}",
                "rss_bytes": 4096 * (pid + number),
                "rss_limit_bytes": None,
                "virtual_bytes": 1 << 30,
                "threads": 1 + pid % 5,
                "cpu_percent": 0.5 * pid,
                "system_cpu_percent": 0.1 * pid,
                "user_cpu_percent": 0.4 * pid,
            }
            for pid in range(count)
        ],
    }


def sample(number: int) -> dict[str, Any]:
    """One sample of the tree."""
    tree = {"cpu_seconds": float(number), "rss_bytes": 4096 * number, "processes": 300, "threads": 900}
    return {"type": "sample", "at": time.time(), "elapsed_seconds": float(number), "tree": tree, "gpus": []}


def main(arguments: list[str]) -> int:
    processes, scrapes, after_sample = map(int, arguments)
    if importlib.util.find_spec("prometheus_client") is None:
        return 1
    options = Options()
    options.serve = "127.0.0.1:0"
    outlets = Outlets(options, dict(os.environ), {})
    assert outlets.address is not None
    host, _, port = outlets.address.rpartition(":")
    exports = Exports(Machine(), dict(os.environ), outlets)
    exports.write({"type": "run", "run_id": "r", "name": "n", "started_at": 1.0, "command": ["c"]})
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    took, size = [], 0
    for number in range(scrapes + 5):
        begun_ns = exports.cpu_ns() if number == 5 else 0
        if begun_ns:
            used_ns = begun_ns
        exports.write(sample(number))
        exports.write(gauges(processes, number))
        exports.write({"type": "tracker", "cpu_seconds": 0.1, "samples": number, "late_samples": 0, "sources": {}})
        time.sleep(0.002 if after_sample else RENDERED)
        begun = time.perf_counter()
        connection.request("GET", "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"})
        size = len(connection.getresponse().read())
        took.append((time.perf_counter() - begun) * 1000)
        time.sleep(PAUSE)
    cpu_ms = (exports.cpu_ns() - used_ns) / scrapes / 1e6
    exports.finish()
    print(size, cpu_ms, *took[5:], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
