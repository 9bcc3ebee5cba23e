"""Many trackers at once, forked from one interpreter: `python many_trackers.py FOLDER NUMBER,... COMMAND ...`.

Each has the default place of its records in FOLDER/NUMBER. It says their pids, a line each, then a line `NUMBER STATUS`
for each, once all have ended.
"""

import os
import sys

import proctally.host.sampler
import proctally.tracking.attach
import proctally.tracking.summary
import proctally.tracking.system  # noqa: F401
from proctally.cli.main import main


def fork(folder: str, number: str, words: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        os.environ["PROCTALLY_HOME"] = f"{folder}/{number}"
        status = 99
        try:
            status = main(words)
        finally:
            os._exit(status)
    return pid


def start() -> None:
    folder, numbers, *words = sys.argv[1:]
    pids = {number: fork(folder, number, words) for number in numbers.split(",")}
    for pid in pids.values():
        print(pid, flush=True)
    for number, pid in pids.items():
        print(number, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    start()
