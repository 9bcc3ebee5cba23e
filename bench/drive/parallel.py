"""Four workers of joblib (loky), each with arrays of its own: parallel.py SECONDS"""

import sys
import time

import numpy
from joblib import Parallel, delayed


def work(seconds: float) -> float:
    arrays = [numpy.ones(10 << 17) for _ in range(8)]
    end, total = time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        total += sum(float(array[::512].sum()) for array in arrays)
        arrays[0] = numpy.ones(10 << 17)
        time.sleep(0.02)
    return total


if __name__ == "__main__":
    Parallel(n_jobs=4)(delayed(work)(float(sys.argv[1]) / 2) for _ in range(8))
