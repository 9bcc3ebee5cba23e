"""A CPU-bound Python program that tracks itself: `python track_program.py THREADS PAIRS SECONDS`.

One line of JSON: of each pair wall and CPU seconds of the same work, bare and tracked at 10 Hz; the share of a core
that the sampler took in a long block; how long the first block, and one inside another, took to begin and to end.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import proctally

INTERVAL = 0.1


def work(rounds: int) -> None:
    total = 0
    for number in range(rounds):
        total += number & 7


def timed(threads: int, rounds: int) -> tuple[float, float]:
    """Wall and CPU seconds that so many threads take for the same work, each its part."""
    parts = [threading.Thread(target=work, args=(rounds // threads,)) for _ in range(threads)]
    begun, used = time.perf_counter(), time.process_time()
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    return time.perf_counter() - begun, time.process_time() - used


def begin_and_end(interval: float) -> tuple[float, float]:
    tracked = proctally.track(interval=interval)
    begun = time.perf_counter()
    tracked.__enter__()
    entered = time.perf_counter()
    time.sleep(0.2)
    leaving = time.perf_counter()
    tracked.__exit__(None, None, None)
    return entered - begun, time.perf_counter() - leaving


def main(threads: int, pairs: int, seconds: float) -> None:
    rounds = 200_000
    rounds = int(rounds * seconds / timed(threads, rounds)[1])
    firsts = [begin_and_end(INTERVAL) for _ in range(5)]
    found = []
    for number in range(pairs):
        taken: dict[bool, tuple[float, float]] = {}
        for is_tracked in (True, False) if number % 2 else (False, True):
            if is_tracked:
                with proctally.track(interval=INTERVAL):
                    taken[True] = timed(threads, rounds)
            else:
                taken[False] = timed(threads, rounds)
        found.append((taken[False], taken[True]))
    # inside of another the sampler runs already: what it tells of itself has no start in it
    with proctally.track(interval=3600, system=False, gpu=False):
        inner = [begin_and_end(INTERVAL) for _ in range(5)]
        with proctally.track(interval=INTERVAL) as run:
            for _ in range(8):
                timed(threads, rounds)
    share = run.summary.tracker.cpu_seconds / run.summary.wall_seconds
    late = run.summary.tracker.late_samples
    print(json.dumps({"pairs": found, "share": share, "late": late, "firsts": firsts, "inner": inner}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
