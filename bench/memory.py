"""Memory as a bracket, against a memory cgroup around the job: `python bench/memory.py [OPTIONS]`.

Shapes of known memory and real programs run under `proctally run`, each in three settings (`--way`):

alone       the enclosing cgroup can be read, and nothing else is in it
hidden      as in a container: no cgroup can be read, and the processes of others are hidden
neighbours  four busy workers and a family that copies hold and move 640 MiB in the same cgroup

The truth is anonymous + shared pages of a cgroup that holds the job alone, read every 20 ms. It exits 1 when a limit is
missed. It takes root, or a writable memory cgroup.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from memory_peers import Peers
from memory_programs import PROGRAMS
from memory_setting import ALONE, HIDDEN, WAYS, Owner, Truth, load, ordinary, root, setting, track
from programs import Missing, Programs

MIB = 1 << 20
OFF_RATIO, OFF_BYTES = 0.02, MIB  # how far the truth may lie outside of a bracket
WIDE_RATIO, WIDE_BYTES = 0.1, 8 * MIB
FIRST_SECONDS = 1.0  # in which first readings are done ...
FORKING_RATIO = 9 / 8  # ... once there are no more processes than this, of those before
EARLY_SECONDS = 0.1  # by how much a sample can be closer to the one before
OUTSIDE_RATIO = 0.01  # of the samples of a way
ADVISE_FACTOR, ADVISE_BYTES = 1.5, 64 * MIB
SLOWER_RATIO = 0.05
PAIRS = 3
MAX_WIDE_JOBS = 3  # in a setting where the surroundings do not bound the job ...
RENEWING = {
    "busy",
    "cow-write",
    "idle-pool",
    "shared-parts",
    "recycle",
    "thp",
    "forks",
    "numpy",
    "chromium",
    "gunicorn",
}

# shape: MiB, processes, seconds
SHAPES: dict[str, tuple[int, int, float]] = {
    "nothing": (0, 1, 4), "single": (300, 1, 4), "grow": (2048, 1, 4), "busy": (100, 16, 6), "small": (8, 60, 6),
    "small-exec": (8, 60, 6), "idle-pool": (64, 150, 5), "tmpfs": (200, 1, 4), "cow-read": (300, 8, 4),
    "cow-write": (200, 4, 6), "cow-free": (300, 4, 4), "cow-exit": (300, 4, 4), "thp": (512, 4, 4),
    "shared": (256, 8, 4), "shared-parts": (256, 8, 4), "memfd": (256, 1, 4), "sysv": (128, 1, 4),
    "file": (256, 8, 4), "nested": (20, 8, 5), "vfork": (300, 1, 4), "forks": (20, 10, 5), "execs": (50, 8, 6),
    "spike10": (400, 1, 4), "spike100": (400, 1, 4), "spike-child": (400, 1, 4), "recycle": (400, 6, 6),
    "renew": (60, 6, 6), "steps": (300, 1, 6), "workers": (2, 300, 6),
}  # fmt: skip
SAME_AS = {"workers": "small"}

Command = Callable[[Owner], list[str]]


class Result:
    """One job in one setting: what is true, what proctally says, and which limits are missed."""

    def __init__(self, name: str, way: str, truth: Truth, lines: list[dict[str, Any]]) -> None:
        memory = lines[-1]["memory"]
        self.name, self.way = name, way
        self.spare = truth.foreign_moved if way == HIDDEN else 0
        self.truth = truth.peak
        self.low, self.high = memory["peak_low_bytes"], memory["peak_high_bytes"]
        trees = [line["tree"] for line in lines if line["type"] == "sample"]
        self.mapped = max(part.get("mapped_file_bytes") or 0 for part in (memory, *trees))  # `advise` takes any moment
        self.kernel = memory["kernel_bytes"] or 0
        self.source = memory["source"]
        self.gaps = {gap["code"]: gap for gap in lines[-1]["gaps"] if gap["section"] == "memory"}
        self.samples = self.unknown = self.outside = self.wide = 0
        self.worst = ""
        self._processes, self._ready = 0, 0.0  # the most so far, and from when on their first readings are done
        for sample in lines:
            if sample["type"] == "sample" and sample["tree"]["processes"]:
                self._judge(sample, truth)
        self.tracker_cores = lines[-1]["tracker"]["cpu_seconds"] / max(lines[-1]["wall_seconds"], 0.001)
        self.wall = lines[-1]["wall_seconds"]
        self.advised: int | None = None
        self.slower: float | None = None  # wall under the advised limit, as a ratio
        self.killed = 0
        self.peers: list[float | None] = []  # percent of the truth that other tools claim

    def _judge(self, sample: dict[str, Any], truth: Truth) -> None:
        low, high = sample["tree"]["memory_low_bytes"], sample["tree"]["memory_high_bytes"]
        if low is None or high is None:
            self.unknown += sample["elapsed_seconds"] >= FIRST_SECONDS
            return
        self.samples += 1
        least, most = truth.around(sample["at"])
        if not lies_within(least, most, low, high):
            self.outside += 1
            held = f"{least >> 20} to {most >> 20}"
            self.worst = f"at {sample['elapsed_seconds']:.2f} s [{low >> 20}, {high >> 20}] of {held}"
        count, elapsed = sample["tree"]["processes"], sample["elapsed_seconds"]
        if count > self._processes * FORKING_RATIO:
            self._processes, self._ready = count, elapsed + FIRST_SECONDS
        if elapsed >= self._ready - EARLY_SECONDS:
            slack = self.spare + most - least + truth.fall(sample["at"])
            self.wide += is_wide(low, high - slack, most)

    @property
    def is_narrow(self) -> bool:
        return None not in (self.low, self.high) and not is_wide(self.low, self.high - self.spare, self.truth)

    @property
    def explained(self) -> bool:
        """Whether a gap names bytes."""
        return any(gap.get("high_bytes") is not None for gap in self.gaps.values())

    def misses(self) -> Iterator[str]:
        """What is wrong with this job by itself."""
        if self.low is None or self.high is None:
            yield "no bracket"
            return
        if not lies_within(self.truth, self.truth, self.low, self.high):
            yield "peak outside"
        if self.outside and "late_look" not in self.gaps:
            yield f"sample outside, no late_look ({self.worst})"
        if self.unknown:
            yield f"{self.unknown} samples without a bracket"
        if not self.is_narrow and not self.explained:
            yield "wide without a gap"
        if self.wide and (self.way == ALONE or self.name not in RENEWING):
            yield "wide"
        if self.advised is None:
            yield "no advice"
        elif self.advised < self.truth:
            yield "advice below the truth"
        elif self.is_narrow and self.advised > ADVISE_FACTOR * (self.truth + self.mapped) + ADVISE_BYTES:
            yield "advice too high"
        if self.killed:
            yield f"{self.killed} killed under the advised limit"
        elif self.slower is not None and self.slower > 1 + SLOWER_RATIO:
            yield "slower under the advised limit"

    def as_json(self) -> dict[str, Any]:
        own = vars(self)
        return own | {"gaps": list(self.gaps.values()), "misses": list(self.misses())}

    def cells(self) -> list[str]:
        """The row of the table, sizes in MiB."""
        gaps = [f"{code} {amount(gap)}".strip() for code, gap in self.gaps.items()]
        slower = "" if self.slower is None or self.killed else f"{self.slower:.2f}"
        return [
            self.name, mib(self.truth), f"{mib(self.low)}, {mib(self.high)}",
            f"{self.outside} / {self.wide} / {self.samples}", mib(self.advised), mib(self.mapped), slower,
            *("" if share is None else f"{share:.0f} %" for share in self.peers),
            self.source or "", ", ".join(gaps), "; ".join(self.misses()),
        ]  # fmt: skip


def lies_within(least: int, most: int, low: int, high: int) -> bool:
    """Whether some truth of a moment lies in a bracket, but for 2 % and 1 MiB."""
    return low * (1 - OFF_RATIO) - OFF_BYTES <= most and least <= high * (1 + OFF_RATIO) + OFF_BYTES


def is_wide(low: int, high: int, truth: int) -> bool:
    return high - low > WIDE_RATIO * truth + WIDE_BYTES


def mib(size: int | None) -> str:
    return "" if size is None else f"{size / MIB:.0f}"


def amount(gap: dict[str, Any]) -> str:
    """Bytes of a gap in MiB, else its count."""
    if gap.get("high_bytes") is not None:
        return mib(gap["high_bytes"])
    return "" if gap.get("count") is None else f"({gap['count']})"


# -- measuring ---------------------------------------------------------------------------------------------------


def shape_command(name: str) -> Command:
    words = [SAME_AS.get(name, name), *map(str, SHAPES[name])]
    return lambda owner: [owner.python, "-S", "-E", str(owner.shapes), *words]


def advised(programs: Programs, record: Path) -> int | None:
    """Bytes that `advise` requests after this run."""
    command = [programs.proctally, "advise", "-f", "json", str(record)]
    done = subprocess.run(command, capture_output=True, text=True, env=programs.environment)
    if done.returncode:
        return None
    request = json.loads(done.stdout)["advice"]["memory"]["request"]
    return None if request is None else int(request)


def measure(programs: Programs, name: str, way: str, owner: Owner, given: argparse.Namespace) -> Result:
    """One job in one setting; raises Missing when it cannot be run."""
    command = commands()[name](owner)
    record = owner.folder / "memory.jsonl"
    options = ("-i", str(given.interval))
    with setting(way) as truth:
        track(truth, way, owner, command, record, options)
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    if given.keep:
        Path(given.keep).mkdir(parents=True, exist_ok=True)
        stem = f"{name}-{way}-{owner.name}"
        Path(given.keep, f"{stem}.jsonl").write_bytes(record.read_bytes())
        Path(given.keep, f"{stem}.truth").write_text(truth.as_text())
    result = Result(name, way, truth, lines)
    result.advised = advised(programs, record)
    if given.repeat and result.advised is not None:
        repeat(result, lambda limit: timed(way, owner, command, record, limit))
    return result


def timed(way: str, owner: Owner, command: list[str], record: Path, limit: int | None) -> tuple[float, int]:
    """Run a job again; return its wall seconds and how many of its processes the kernel killed for memory."""
    with setting(way) as truth:
        if limit is not None:
            truth.limit(limit)
        try:
            track(truth, way, owner, command, record, ())
        except Missing:
            return math.inf, max(1, truth.oom_kills())
        wall = json.loads(record.read_text(encoding="utf-8").splitlines()[-1])["wall_seconds"]
        return wall, truth.oom_kills()


def repeat(result: Result, run: Callable[[int | None], tuple[float, int]]) -> None:
    """Run a job under its advised limit; where that is slower, in more pairs, the best of each side."""
    free, limited = result.wall, math.inf
    for pair in range(PAIRS):
        if pair:
            free = min(free, run(None)[0])
        wall, result.killed = run(result.advised)
        limited = min(limited, wall)
        result.slower = limited / free
        if result.killed or result.slower <= 1 + SLOWER_RATIO:
            return


def commands() -> dict[str, Command]:
    return {name: shape_command(name) for name in SHAPES} | PROGRAMS


# -- the table ---------------------------------------------------------------------------------------------------


def head(peers: Iterable[str]) -> str:
    names = ["job", "truth", "peak low, high", "outside / wide / samples", "advise", "mapped", "under limit"]
    names += [*peers, "source", "gaps", "missed"]
    return f"| {' | '.join(names)} |\n|---|{'---:|' * (len(names) - 4)}---|---|---|"


def table(way: str, owner: Owner, programs: Programs, given: argparse.Namespace, peers: Peers | None) -> bool:
    """Print the table of one setting; return whether a limit was missed."""
    print(f"\n{way}, as {owner.name}; MiB\n\n{head(peers.names if peers and way == ALONE else ())}", flush=True)
    results, missed = [], False
    for name in given.jobs:
        try:
            result = measure(programs, name, way, owner, given)
            if peers and way == ALONE:
                result.peers = peers.measure(commands()[name](owner), owner)
        except (Missing, OSError) as reason:
            print(f"| {name} | skipped: {reason} |", flush=True)
            continue
        results.append(result)
        print(f"| {' | '.join(result.cells())} |", flush=True)
        missed = missed or any(result.misses())
        if given.json:
            with open(given.json, "a", encoding="utf-8") as out:
                entry = result.as_json() | {"user": owner.name, "load": given.load}
                out.write(json.dumps(entry) + "\n")
    samples, outside = sum(each.samples for each in results), sum(each.outside for each in results)
    wide = [each.name for each in results if each.wide]
    late = outside > OUTSIDE_RATIO * samples
    many = way != ALONE and len(wide) > MAX_WIDE_JOBS
    print(
        f"\n{outside} of {samples} samples outside{' MISSED' if late else ''};"
        f" wide: {', '.join(wide) or 'none'}{' MISSED' if many else ''}",
        flush=True,
    )
    return missed or late or many


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, action="append", help="only this setting; may be repeated")
    parser.add_argument("--user", help="job and tracker are this user's (default: root's)")
    parser.add_argument("--load", type=int, default=0, help="busy loops beside everything")
    parser.add_argument("--jobs", help="names, by commas; `shapes` and `programs` stand for all of a kind")
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--repeat", action="store_true", help="run each job again under the advised limit")
    parser.add_argument("--peers", action="store_true", help="what other tools claim, with `alone` as root (network)")
    parser.add_argument("--json", help="append one line for each job to this file")
    parser.add_argument("--keep", help="a folder for records and truths")
    given = parser.parse_args()
    names = commands()
    kinds = {"shapes": list(SHAPES), "programs": list(PROGRAMS)}
    given.jobs = [each for name in (given.jobs or "shapes,programs").split(",") for each in kinds.get(name, [name])]
    for name in given.jobs:
        if name not in names:
            parser.error(f"no job {name}; there are: {', '.join(names)}")
    return given


def main() -> int:
    """0 when every limit was kept, 1 when one was missed."""
    given = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended, what was made removed
    print(f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load {given.load}")
    missed = False
    with tempfile.TemporaryDirectory(prefix="proctally-bench-") as folder:
        programs = Programs(Path(folder))
        with ordinary(given.user) if given.user else nullcontext(root(programs)) as owner, load(given.load):
            peers = Peers(programs) if given.peers and not given.user else None
            for way in given.way or WAYS:
                missed = table(way, owner, programs, given, peers) or missed
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
