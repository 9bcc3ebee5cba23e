"""What a sample costs in proctally: `python sampler_loop.py PID SAMPLES INTERVAL`.

The counterpart of reference.c: the same arguments, and the same output of one line with the CPU nanoseconds of each
sample. A program of its own, so that nothing of the bench is in its memory or on its clock.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator

from proctally.linux.machine import host_machine
from proctally.tree.sampler import TreeSampler

RESERVED_DESCRIPTORS = 64


# The one place of the benches that knows the library.
def measure_sampler(root_pid: int, samples: int, interval: float) -> Iterator[float]:
    """CPU seconds of each sample of the tree below this process, one every `interval` seconds."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    descriptors = hard - RESERVED_DESCRIPTORS
    sampler = TreeSampler(host_machine(), descriptors=descriptors)
    sampler.attach(root_pid, os.getpid())
    due = time.monotonic()
    for _ in range(samples):
        time.sleep(max(0.0, due - time.monotonic()))
        before = time.process_time()
        sampler.sample()
        yield time.process_time() - before
        due += interval


def main(arguments: list[str]) -> int:
    pid, samples, interval = int(arguments[0]), int(arguments[1]), float(arguments[2])
    for seconds in measure_sampler(pid, samples, interval):
        print(round(seconds * 1e9), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
