"""Mutated input for every parser and every command that reads a record, for hours: `bench/fuzz.py --help`.

A fault prints its seed, which repeats it: `--seed N --inputs 1`. It exits 1 after one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import programs  # noqa: F401  # the helpers of the tests become importable

from fuzzing import Commands, Fault, Parsers

PARTS = ("parsers", "commands")
REPORT_SECONDS = 60.0


def main() -> int:
    """Run until the inputs or the seconds are used up; return 1 if there was a fault."""
    options = argparse.ArgumentParser(description="Give mutated input to parsers and commands.")
    options.add_argument("part", choices=PARTS, nargs="*", default=PARTS)
    options.add_argument("--inputs", type=int, default=None, metavar="N", help="at most so many of each part")
    options.add_argument("--seconds", type=float, default=60.0, metavar="S", help="at most so long for each part")
    options.add_argument("--seed", type=int, default=1, help="of the first input; the next one has the next seed")
    given = options.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for part in given.part:
            if part == "parsers":
                faults += fuzzed(part, _counted(Parsers().try_one), given)
            else:
                faults += fuzzed(part, Commands(Path(folder)).try_one, given)
    return min(1, faults)


def _counted(call: Callable[[int], None]) -> Callable[[int], int]:
    def counted(seed: int) -> int:
        call(seed)
        return 1

    return counted


def fuzzed(part: str, call: Callable[[int], int], given: argparse.Namespace) -> int:
    """Call with one seed after the other; print and return the number of faults."""
    begun = reported = time.monotonic()
    done = faults = 0
    seed = given.seed
    while given.inputs is None or done < given.inputs:
        try:
            done += call(seed)
        except Fault as fault:
            faults += 1
            done += 1
            print(f"{part}: {fault}", flush=True)
        seed += 1
        now = time.monotonic()
        if now - begun >= given.seconds:
            break
        if now - reported >= REPORT_SECONDS:
            reported = now
            print(f"{part}: {done:,} inputs, {faults} faults so far", file=sys.stderr, flush=True)
    taken = time.monotonic() - begun
    print(f"{part}: {done:,} inputs, {faults} faults, {taken:.0f} s, seeds {given.seed} to {seed - 1}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
