"""What other tools claim that a job held, in percent of the truth of that run.

They are those of `bench/peers.py`, each as it names the peak of memory, and a sum of RSS by psutil every 0.2 s.
"""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from memory_setting import JOB_SECONDS, Owner, Truth
from peers import INTERVAL, WHOLE_SECONDS, Peer, cache, duct_peer, from_pypi, gnu_time, prmon_peer, python_tracker_peer
from programs import Missing, Programs

MIB = 1 << 20
PSUTIL_SUM = f"""
import sys, time, psutil
output, *job = sys.argv[1:]
process, most = psutil.Popen(job), 0
while process.poll() is None:
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_info().rss
        except psutil.Error:
            pass
    most = max(most, total)
    time.sleep({INTERVAL})
open(output, "w").write(str(most))
"""


def time_claims(folder: Path) -> float:
    """The last line: a warning about the status of the command comes before it."""
    return 1024 * float((folder / "time.txt").read_text().splitlines()[-1])


def duct_claims(folder: Path) -> float:
    said = json.loads((folder / "duct_info.json").read_text())["execution_summary"]
    return float(said["peak_rss"] or 0)


def python_tracker_claims(folder: Path) -> float:
    with open(folder / "tracker.csv", newline="") as file:
        return MIB * max(float(row["memory_mib"]) for row in csv.DictReader(file))


def rust_tracker_claims(folder: Path) -> float:
    samples = [json.loads(line)["cpu"] for line in (folder / "tracker.jsonl").read_text().splitlines()]
    return MIB * max(float(cpu["process_pss_mib"] or cpu["process_rss_mib"] or 0) for cpu in samples)


def prmon_claims(folder: Path) -> float:
    """PSS is what it offers for sizing; it is in KiB."""
    return 1024 * float(json.loads((folder / "prmon.json").read_text())["Max"]["pss"])


def psutil_claims(folder: Path) -> float:
    return float((folder / "psutil.txt").read_text())


def time_peer() -> Peer:
    program = gnu_time()
    return Peer(lambda job, to: [program, "-f", "%M", "-o", str(to / "time.txt"), *job], time_claims)


def psutil_peer() -> Peer:
    python = from_pypi("python")
    return Peer(lambda job, to: [python, "-c", PSUTIL_SUM, str(to / "psutil.txt"), *job], psutil_claims)


def rust_tracker_peer() -> Peer:
    """Only where `bench/run.py peers` has built it: that takes minutes."""
    program = cache() / "rust" / "bin" / "resource-tracker"
    if not program.exists():
        raise Missing("not built; `bench/run.py peers` does that")
    words = [str(program), "-i", WHOLE_SECONDS, "-o"]
    return Peer(lambda job, to: [*words, str(to / "tracker.jsonl"), "--", *job], rust_tracker_claims)


PEERS: dict[str, Callable[[], Peer]] = {
    "GNU time": time_peer,
    "prmon": lambda: Peer(prmon_peer().argv, prmon_claims),
    "con-duct": lambda: Peer(duct_peer().argv, duct_claims),
    "RT Python": lambda: Peer(python_tracker_peer("psutil").argv, python_tracker_claims),
    "RT Rust": rust_tracker_peer,
    "psutil sum": psutil_peer,
}


class Peers:
    """Those that are here or can be installed."""

    def __init__(self, programs: Programs) -> None:
        self._folder = programs.folder
        self._found: dict[str, Peer] = {}
        for name, make in PEERS.items():
            try:
                self._found[name] = make()
            except Missing as reason:
                print(f"peers: {name} is left out: {reason}")
        self.names = list(self._found)

    def measure(self, job: list[str], owner: Owner) -> list[float | None]:
        """Percent of the truth that each claims; None where it fails."""
        return [self._share(peer, job, owner, number) for number, peer in enumerate(self._found.values())]

    def _share(self, peer: Peer, job: list[str], owner: Owner, number: int) -> float | None:
        folder = self._folder / f"peer-{number}"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        truth = Truth()
        try:
            subprocess.run(
                peer.argv(truth.job_argv(job, by_path=True), folder),
                env=owner.environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=lambda: truth.enter(truth.tracker),
                timeout=JOB_SECONDS,
            )
            truth.stop()
            return 100 * peer.claimed(folder) / truth.peak
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, IndexError, TypeError):
            return None
        finally:
            truth.close()
