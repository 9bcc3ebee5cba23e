"""What a sample of the whole machine costs: `python system_loop.py SAMPLES [PROC SYS]`.

One line with the CPU nanoseconds of each sample. A program of its own, so that nothing of the bench is in its memory
or on its clock.
"""

from __future__ import annotations

import os
import sys
import time

from proctally.host.derive import derive
from proctally.linux.machine import Machine
from proctally.linux.system import SystemReader, SystemReading

PAUSE = 0.005  # so that there is something new to read


def same_size(_: str) -> os.statvfs_result:
    """Mount points of a captured machine are no places of this one."""
    return os.statvfs("/")


def main(arguments: list[str]) -> int:
    samples, roots = int(arguments[0]), arguments[1:]
    machine = Machine(roots[0], sys=roots[1]) if roots else Machine()
    reader = SystemReader(machine, statvfs=same_size)
    before: SystemReading | None = None
    for _ in range(samples + 1):
        time.sleep(PAUSE)
        start = time.process_time_ns()
        now = reader.read()
        derive(before, now)
        print(time.process_time_ns() - start)
        before = now
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
