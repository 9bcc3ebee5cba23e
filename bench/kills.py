"""Many runs at once, and trackers that get a signal at a random moment: no job is harmed, no process is left.

`python bench/kills.py [--runs 200] [--kills 100] [--seed N]` prints what went wrong, and exits 1 if anything did.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

STATUS = 7
SIGNALS = (signal.SIGKILL, signal.SIGABRT, signal.SIGALRM, signal.SIGRTMIN + 1, signal.SIGTERM)
EARLY_EVERY = 5  # one of so many signals comes at a moment after the start of the tracker, the others of the job
EARLY_SECONDS = 0.2  # latest moment after the start of a tracker
JOB_SECONDS = 0.18  # latest moment after the start of a job: it takes 0.15 s
AT_ONCE = 8
PATIENCE_SECONDS = 60.0

# It writes that it starts, a byte to stdout too, and that it ends: in spite of every signal that can be caught.
JOB = f"""
import os, signal, sys, time
for number in {[int(number) for number in SIGNALS if number != signal.SIGKILL]}:
    signal.signal(number, lambda *_: None)
said = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(said, b"begin ")
os.write(1, b"+")
if os.fork() == 0:
    time.sleep(0.15)
    os._exit(0)
time.sleep(0.1)
os.wait()
os.write(said, b"end")
os._exit({STATUS})
"""


class Tracked:
    """A tracker and its job, in a session of their own."""

    def __init__(self, home: Path, said: Path) -> None:
        self.said = said
        job = [sys.executable, "-S", "-E", "-c", JOB, str(said)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proctally", "run", "-q", "--", *job],
            env=os.environ | {"PROCTALLY_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def await_job(self) -> None:
        """Wait until the job runs, or cannot."""
        assert self.process.stdout is not None
        self.process.stdout.read(1)

    def words(self) -> str:
        """Return what the job said."""
        return self.said.read_text() if self.said.exists() else ""

    def is_left(self) -> bool:
        """Return True if a process of the session runs."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] not in (b"Z", b"X"):
                return True
        return False

    def trouble(self, number: int = 0) -> str | None:
        """Return what is wrong with its end, after this signal."""
        status = self.process.wait(PATIENCE_SECONDS)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.is_left():
            if time.monotonic() > deadline:
                return "a process is left"
            time.sleep(0.01)
        assert self.process.stdout is not None
        self.process.stdout.close()
        words = self.words()
        if words == "begin " or (not number and not words):
            return f"the job did not come to its end (it said {words!r})"
        if words and number != signal.SIGKILL and status != STATUS:
            return f"status {status} of a job that exited with {STATUS}"
        return None


def in_parallel(folder: Path, runs: int) -> list[str]:
    """Return what went wrong with so many runs at once."""
    trackers = [Tracked(folder / "parallel", folder / f"parallel-{each}") for each in range(runs)]
    found = [trouble for tracker in trackers if (trouble := tracker.trouble())]
    records = list((folder / "parallel/runs").glob("*.jsonl"))
    if len(records) != runs:
        found.append(f"{len(records)} records of {runs} runs")
    for path in records:
        summary = json.loads(path.read_text().splitlines()[-1])
        if (summary.get("type"), summary.get("exit_code")) != ("summary", STATUS):
            found.append(f"{path.name} has no summary of that status")
    return found


def killed(folder: Path, kills: int, seed: int) -> tuple[list[str], int]:
    """Return what went wrong with trackers that got a signal, and how many of their jobs ran by then."""
    chance = random.Random(seed)
    moments = [chance.random() for _ in range(kills)]

    def kill(each: int) -> tuple[str | None, bool]:
        tracker = Tracked(folder / "killed", folder / f"killed-{each}")
        is_early = each % EARLY_EVERY == 0
        if not is_early:
            tracker.await_job()
        time.sleep(moments[each] * (EARLY_SECONDS if is_early else JOB_SECONDS))
        number = SIGNALS[each % len(SIGNALS)]
        has_job = tracker.words() == "begin "
        tracker.process.send_signal(number)
        trouble = tracker.trouble(number)
        return trouble and f"signal {int(number)}: {trouble}", has_job

    with ThreadPoolExecutor(AT_ONCE) as threads:
        ends = list(threads.map(kill, range(kills)))
    return [trouble for trouble, _ in ends if trouble], sum(has_job for _, has_job in ends)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        troubles = in_parallel(Path(name), options.runs)
        print(f"{options.runs} runs at once: {time.monotonic() - started:.1f} s, {len(troubles)} failed")
        killed_troubles, running = killed(Path(name), options.kills, options.seed)
        how = f"{options.kills} signals (seed {options.seed}), {running} while the job ran"
        print(f"{how}: {len(killed_troubles)} failed")
    print("\n".join([*troubles, *killed_troubles]))
    return bool(troubles or killed_troubles)


if __name__ == "__main__":
    sys.exit(main())
