"""No procfs, or that of another pid namespace: other sources carry on, and what needs procfs says so in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from namespaces import MOUNTS, PIDS, WITHOUT_PROC, inside, proctally_inside, unavailable
from proctally.errors import NO_PROCFS

REASON = unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

BUSY = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
PLACES = pytest.mark.parametrize(
    ("place", "code"), [(PIDS, "procfs_foreign"), (WITHOUT_PROC, "procfs_missing")], ids=["foreign", "missing"]
)
EVERY_CALL = """
import os, sys
MOVES = {"umount": "umount -l /proc", "exchange": "unshare -pf mount -t proc proc /proc"}
from proctally import Tree, gauges, preload, process, processes, system, track
from proctally.errors import NoProcfs
own = os.getpid()
makers = [(Tree, "sample"), (gauges.Gauges, "sample"), (processes.CumulativeTracker, "update"),
          (processes.DeltaTracker, "update"), (lambda pid: processes.DeltaTracker(pid, children=True), "update"),
          (lambda pid: processes.Scanner(), "scan")]
calls = [lambda make=make, name=name: getattr(make(own), name)() for make, name in makers]
calls += [processes.pids, processes.scan, processes.children_map, processes.parent_map]
calls += [lambda name=name: getattr(processes, name)(own)
          for name in ("snapshot", "snapshot_tree", "snapshot_tree_from_scan", "tree_pids", "descendants")]
calls += [lambda: processes.is_descendant(own, 1)]
calls += [lambda name=name: getattr(process, name)(own)
          for name in process.__all__ if name[0].islower() and name != "cpu_time"]
move = sys.argv[1:]
if move:
    for call in calls:
        call()
    monitor = system.Monitor()
    monitor.stats()
    calls += [lambda tracker=make(own), name=name: getattr(tracker, name)() for make, name in makers]
    calls += [system.disk_spaces]
    preload()
    if move[0] in MOVES:
        os.system(MOVES[move[0]])
    else:
        os.chroot(move[0])
        os.chdir("/")
for call in calls:
    try:
        print("answered", call())
    except NoProcfs as error:
        print(error.code)
    except Exception as error:
        print(repr(error))
if move:
    print(system.stats().processes, monitor.stats().processes)
with track(record=False) as run:
    sum(range(300_000))
print(run.summary.cpu.total_seconds, len(run.samples))
"""


def run_there(place: tuple[str, ...], record: Path, *options: str, job: str = BUSY) -> dict[str, Any]:
    """Return the summary of a job there that exits with 3."""
    done = proctally_inside(place, "run", "-o", str(record), *options, "--", "sh", "-c", f"{job}; exit 3")
    assert done.returncode == 3, done.stderr
    assert "fault" not in done.stderr
    found: dict[str, Any] = json.loads(record.read_text().splitlines()[-1])
    assert found["type"] == "summary"
    return found


@PLACES
def test_run_without_procfs_has_cpu_time_alone(tmp_path: Path, place: tuple[str, ...], code: str) -> None:
    summary = run_there(place, tmp_path / "record")
    cpu, processes = summary["cpu"], summary["processes"]
    assert 0.01 < cpu["total_seconds"] < 5.0
    assert cpu["total_seconds"] == cpu["sources"][cpu["source"]]
    assert cpu["source"] in ("rusage", "perf") and "procfs" not in cpu["sources"]
    assert cpu["unavailable"]["procfs"] == code
    assert [gap["code"] for gap in summary["gaps"] if gap["section"] == "machine"] == [code]
    assert not [gap for gap in summary["gaps"] if gap["section"] in ("memory", "processes", "time")]
    memory = summary["memory"]
    assert (memory["coverage"], memory["peak_high_bytes"]) == ("unknown", None)
    assert memory["peak_process_rss_bytes"] is None, "the mark of a small program is that of its launcher"
    assert (processes["coverage"], processes["started"], processes["peak"]) == ("unknown", None, None)
    assert processes["left"] == 0
    assert {command["command"] for command in summary["commands"]} <= {"sh"}


@PLACES
def test_samples_without_procfs_show_no_strangers(tmp_path: Path, place: tuple[str, ...], code: str) -> None:
    record = tmp_path / "record"
    run_there(place, record, "-i", "0.1", job=f"{BUSY}; sleep 0.4")
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    trees = [line["tree"] for line in lines if line["type"] == "sample"]
    assert len(trees) > 2 and trees[-1]["cpu_seconds"] > 0.01
    assert {tree[name] for tree in trees for name in ("processes", "threads", "rss_bytes", "pss_bytes")} == {None}
    assert not [line for line in lines if line["type"] == "process" or line.get("top")]


def test_io_of_a_run_in_another_pid_namespace_is_complete(tmp_path: Path) -> None:
    """The kernel adds the I/O of what is reaped here to `/proc/self/io`, which is ours there too."""
    summary = run_there(PIDS, tmp_path / "record", job="head -c 100000 /dev/zero > /dev/null")
    assert summary["io"]["coverage"] in ("complete", "partial")
    assert summary["io"]["read_chars"] > 100_000


@PLACES
def test_summary_says_why_there_are_no_processes(place: tuple[str, ...], code: str) -> None:
    done = proctally_inside(place, "run", "--no-record", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert NO_PROCFS[code] in " ".join(done.stderr.split())


@PLACES
@pytest.mark.parametrize("option", ["--source=procfs", "--max-memory=1G", "--wait-all"])
def test_option_that_needs_procfs_is_refused(place: tuple[str, ...], code: str, option: str) -> None:
    done = proctally_inside(place, "run", "--no-record", option, "--", "echo", "started")
    name = "--source procfs" if "source" in option else option.partition("=")[0]
    assert (done.returncode, done.stdout, done.stderr) == (125, "", f"proctally: {name}: {NO_PROCFS[code]}\n")


def test_job_gets_no_descriptor_of_another_process_to_mark_in() -> None:
    done = proctally_inside(PIDS, "run", "-q", "--no-record", "--", "sh", "-c", "echo ${PROCTALLY_MARKS-none}")
    assert done.stdout == "none\n"


@PLACES
@pytest.mark.parametrize("command", ["attach --no-record", "top --plain", "serve --listen 127.0.0.1:0"])
def test_command_that_needs_procfs_refuses(place: tuple[str, ...], code: str, command: str) -> None:
    script = f'sleep 9 & "$0" -m proctally {command} $!; status=$?; kill $!; exit $status'
    done = inside(place, "sh", "-c", script, sys.executable)
    assert (done.returncode, done.stderr) == (1, f"proctally: {NO_PROCFS[code]}\n")


@PLACES
def test_library_refuses_what_needs_procfs(place: tuple[str, ...], code: str) -> None:
    done = inside(place, sys.executable, "-c", EVERY_CALL)
    *said, used = done.stdout.splitlines()
    assert len(said) > 35 and set(said) == {code}
    assert used == "None 0"
    assert NO_PROCFS[code] in done.stderr


@pytest.mark.parametrize("move", ["umount", "exchange", "empty", "proc"])
def test_library_refuses_when_procfs_goes(tmp_path: Path, move: str) -> None:
    """After chroot(2) or umount(2) no process has ended, and no listing is empty, nor of another pid namespace."""
    is_mount = move in ("umount", "exchange")
    code = "procfs_foreign" if move == "exchange" else "procfs_missing"
    if not is_mount:
        (tmp_path / "proc").mkdir()
        move = str(tmp_path / "proc" if move == "empty" else tmp_path)  # without a directory /proc, or with one
    private = (*MOUNTS, 'mount --make-rprivate / && exec "$0" "$@"')
    done = inside(private, sys.executable, "-c", EVERY_CALL, move)
    *said, processes, used = done.stdout.splitlines()
    assert len(said) > 40 and set(said) == {code}, done.stderr
    assert processes == "None None"
    total, samples = used.split()
    if is_mount:  # for the sampler too
        assert (total, samples) == ("None", "0")
    else:
        assert float(total) > 0 and int(samples) > 0


def test_system_without_procfs_counts_no_processes() -> None:
    code = """
from proctally import system
from proctally.errors import NoProcfs
print(system.stats().processes)
try:
    system.disk_spaces()
except NoProcfs as error:
    print(error.code)
"""
    assert inside(WITHOUT_PROC, sys.executable, "-c", code).stdout.split() == ["None", "procfs_missing"]


def test_system_without_procfs_refuses() -> None:
    done = proctally_inside(WITHOUT_PROC, "system", "--no-record", "--duration", "0.2")
    assert (done.returncode, done.stderr) == (1, f"proctally: {NO_PROCFS['procfs_missing']}\n")


def test_exporter_is_no_part_of_a_run_without_procfs(tmp_path: Path) -> None:
    """A helper process is not told from the job by procfs there."""
    summary = run_there(PIDS, tmp_path / "record", f"--textfile={tmp_path / 'metrics.prom'}", job="sleep 0.3")
    assert summary["cpu"]["sources"]["rusage"] < 0.05
    assert summary["processes"]["left"] == 0
