"""What other trackers claim for the hostile jobs, in percent of the kernel's own accounting.

They are installed in a folder of the user's cache, from the network, so this bench runs only when it is named. Each
samples as often as proctally is told to, 5 times a second, where it can; those that take whole seconds, every second.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from programs import TESTS, Missing, Programs
from table import Head, Line, Share, Shares

from truth import available, cpu_truth
from workloads import WORKLOADS

JOBS = TESTS / "workloads.py"
INTERVAL = "0.2"
WHOLE_SECONDS = "1"
FROM_PYPI = ("psrecord", "con-duct", "resource-tracker", "psutil")
CARGO_SECONDS = 300
JOB_SECONDS = 120

# The library's own class, in a process beside the job; its other back end is taken where psutil is not found.
PYTHON_TRACKER = """
import os, sys
backend, output, *job = sys.argv[1:]
if backend == "procfs":
    sys.modules["psutil"] = None
from resource_tracker import ProcessTracker
pid = os.posix_spawn(job[0], job, os.environ)
ProcessTracker(pid=pid, interval=%s, output_file=output)
os.waitpid(pid, 0)
"""


class Peer:
    """How a tool is run on a job, and how the CPU seconds that it claims are read from what it left in a folder."""

    def __init__(self, argv: Callable[[list[str], Path], list[str]], claimed: Callable[[Path], float]) -> None:
        self.argv = argv
        self.claimed = claimed


# -- reading what they write -------------------------------------------------------------------------------------


def proctally_claims(folder: Path) -> float:
    summary = json.loads((folder / "record.jsonl").read_text().splitlines()[-1])
    return float(summary["cpu"]["total_seconds"])


def gnu_time_claims(folder: Path) -> float:
    """The last line: a warning about the status of the command comes before it."""
    return sum(float(word) for word in (folder / "time.txt").read_text().splitlines()[-1].split())


def psrecord_claims(folder: Path) -> float:
    """It writes only samples of percent of a core: each holds since the one before it."""
    total = before = 0.0
    for line in (folder / "psrecord.txt").read_text().splitlines()[1:]:
        at, percent = (float(word) for word in line.split()[:2])
        total += percent / 100 * (at - before)
        before = at
    return total


def duct_claims(folder: Path) -> float:
    """It says an average of percent of a core over the wall time, or nothing when it took no sample."""
    said = json.loads((folder / "duct_info.json").read_text())["execution_summary"]
    return float(said["average_pcpu"] or 0.0) / 100 * float(said["wall_clock_time"])


def python_tracker_claims(folder: Path) -> float:
    with open(folder / "tracker.csv", newline="") as file:
        return sum(float(row["utime"]) + float(row["stime"]) for row in csv.DictReader(file))


def rust_tracker_claims(folder: Path) -> float:
    """Each line holds the CPU seconds of its interval."""
    samples = [json.loads(line)["cpu"] for line in (folder / "tracker.jsonl").read_text().splitlines()]
    return sum(float(cpu["process_utime_secs"] or 0) + float(cpu["process_stime_secs"] or 0) for cpu in samples)


def prmon_claims(folder: Path) -> float:
    most = json.loads((folder / "prmon.json").read_text())["Max"]
    return float(most["utime"]) + float(most["stime"])


# -- finding and installing them ---------------------------------------------------------------------------------


def cache() -> Path:
    """Where peers stay installed from one run to the next."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "proctally-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def quietly(command: list[str], seconds: float) -> None:
    """Run an installer; raises Missing with the last line it said."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(str(error)) from None
    if done.returncode:
        raise Missing((done.stdout.strip().splitlines() or [f"{command[0]} failed"])[-1])


def gnu_time() -> str:
    if shutil.which("time") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quietly(["apt-get", "-qq", "install", "-y", "--no-install-recommends", "time"], 120)
    return on_path("time")


def on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"no {name} on PATH")
    return found


def from_pypi(name: str) -> str:
    """A program of the environment that holds the peers in Python; made once."""
    folder = cache() / f"python{sys.version_info.major}.{sys.version_info.minor}"
    made = folder / "installed"
    if not made.exists():
        quietly([sys.executable, "-m", "venv", "--clear", str(folder)], 120)
        pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        quietly([*pip, *FROM_PYPI], 300)
        made.touch()
    return str(folder / "bin" / name)


def from_crates(name: str) -> str:
    folder = cache() / "rust"
    program = folder / "bin" / name
    if not program.exists():
        quietly([on_path("cargo"), "install", "--quiet", "--locked", "--root", str(folder), name], CARGO_SECONDS)
    return str(program)


def time_peer() -> Peer:
    program = gnu_time()
    return Peer(lambda job, to: [program, "-f", "%U %S", "-o", str(to / "time.txt"), *job], gnu_time_claims)


def prmon_peer() -> Peer:
    program = on_path("prmon")

    def argv(job: list[str], to: Path) -> list[str]:
        files = ["--filename", str(to / "prmon.txt"), "--json-summary", str(to / "prmon.json")]
        return [program, "--interval", WHOLE_SECONDS, *files, "--", *job]

    return Peer(argv, prmon_claims)


def psrecord_peer() -> Peer:
    program = from_pypi("psrecord")

    def argv(job: list[str], to: Path) -> list[str]:
        options = ["--include-children", "--interval", INTERVAL, "--log", str(to / "psrecord.txt")]
        return [program, *options, shlex.join(job)]

    return Peer(argv, psrecord_claims)


def duct_peer() -> Peer:
    program = from_pypi("con-duct")

    def argv(job: list[str], to: Path) -> list[str]:
        options = ["-l", "NONE", "-p", str(to / "duct_"), "-c", "none", "-o", "none"]
        return [program, "run", *options, "--sample-interval", INTERVAL, "--report-interval", "1", "--", *job]

    return Peer(argv, duct_claims)


def python_tracker_peer(backend: str) -> Peer:
    python = from_pypi("python")
    code = PYTHON_TRACKER % INTERVAL
    return Peer(
        lambda job, to: [python, "-W", "ignore", "-c", code, backend, str(to / "tracker.csv"), *job],
        python_tracker_claims,
    )


def rust_tracker_peer() -> Peer:
    program = from_crates("resource-tracker")
    return Peer(
        lambda job, to: [program, "-i", WHOLE_SECONDS, "-o", str(to / "tracker.jsonl"), "--", *job],
        rust_tracker_claims,
    )


def proctally_peer(programs: Programs) -> Peer:
    def argv(job: list[str], to: Path) -> list[str]:
        return programs.tracked(*job, options=("-i", INTERVAL, "-o", str(to / "record.jsonl")))

    return Peer(argv, proctally_claims)


PEERS: dict[str, Callable[[], Peer]] = {
    "GNU time": time_peer,
    "prmon": prmon_peer,
    "psrecord": psrecord_peer,
    "con-duct": duct_peer,
    "resource-tracker (Python, psutil)": lambda: python_tracker_peer("psutil"),
    "resource-tracker (Python, procfs)": lambda: python_tracker_peer("procfs"),
    "resource-tracker (Rust)": rust_tracker_peer,
}


# -- measuring ---------------------------------------------------------------------------------------------------


def measure(programs: Programs, peer: Peer, name: str) -> Share | None:
    """One job under one tool. None: the tool failed, or left nothing that can be read."""
    folder = programs.folder / f"peer-{time.monotonic_ns()}"
    folder.mkdir()
    with cpu_truth() as truth:
        job = truth.enter_argv([programs.python, "-S", str(JOBS), name])
        try:
            subprocess.run(
                peer.argv(job, folder),
                env=programs.environment,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=JOB_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        used = truth.cpu_seconds()
    try:
        return Share(peer.claimed(folder), used)
    except (OSError, ValueError, KeyError, IndexError):
        return None


def found(programs: Programs) -> Iterator[tuple[str, Peer | Missing]]:
    """Those that are here or can be installed, and why the others are not."""
    yield "proctally", proctally_peer(programs)
    for name, make in PEERS.items():
        try:
            yield name, make()
        except Missing as reason:
            yield name, reason


def peers(programs: Programs) -> Iterator[Line]:
    reason = available()
    if reason is not None:
        raise Missing(reason)
    tools = {}
    for name, peer in found(programs):
        if isinstance(peer, Missing):
            print(f"\npeers: {name} is left out: {peer}")
        else:
            tools[name] = peer
    yield Head(list(tools))
    for name, workload in WORKLOADS.items():
        if name == "idle":  # uses nothing, so there is nothing to take a share of
            continue
        cells = [measure(programs, peer, name) for peer in tools.values()]
        measured = [cell.truth for cell in cells if cell is not None]
        yield Shares(f"{name}: {workload.description}", sum(measured) / max(1, len(measured)), cells)
