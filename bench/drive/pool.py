"""Six forked workers over an array of 450 MiB, each of which rewrites its share: pool.py SECONDS"""

import multiprocessing
import sys
import time

import numpy

WORKERS = 6
ARRAY = numpy.ones(450 << 17)


def work(which: int) -> float:
    share = numpy.array_split(ARRAY, WORKERS)[which]
    share += numpy.sqrt(share) / 2
    end, total = time.monotonic() + float(sys.argv[1]) / 2, 0.0
    while time.monotonic() < end:
        total += float(numpy.dot(share[: 1 << 20], share[-(1 << 20) :]))
        time.sleep(0.05)
    return total


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        for _ in range(2):
            pool.map(work, range(WORKERS), chunksize=1)
