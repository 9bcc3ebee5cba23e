"""CPU totals of jobs that easily lead to a wrong one (`support/cpu_jobs.c`), against the kernel's own accounting.

The bench `figures` has all of these jobs, as root and as an ordinary user, at rest and beside load. Programs that
others wrote are in `test_cpu_programs.py`. Rules that need no real process are unit tests: `test_ledger.py` (double
counts, sources), `test_hidden.py` (cores), `test_gaps.py` (what a total lacks), `test_outer_parent.py` (ends of an
attach), `test_perf_processes.py` (names and counts).
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compiled import NO_COMPILER
from cpu_totals import (
    SLACK_SECONDS,
    attach_and_check,
    attached_right,
    bounded,
    check_cores,
    gaps_of,
    run_and_check,
    summary_of,
)
from hidden_proc import hidepid
from tracked import PROCTALLY, environment, ordinary_user, state, until
from truth import Truth, available, cpu_truth, cpuacct_truth, no_cpuacct

NO_TRUTH = available()
pytestmark = [
    pytest.mark.skipif(NO_TRUTH is not None, reason=str(NO_TRUTH)),
    pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER)),
    pytest.mark.timeout(60),
]

PROCFS = ["--source", "procfs"]
CHAINS = ["chain 200 4", "chain_back 200 4", "chain_exec 120 4"]


@pytest.fixture
def truth() -> Iterator[Truth]:
    with cpu_truth() as made:
        yield made


def summary_of_run(truth: Truth, cpu_jobs: str, folder: Path, job: str, *options: str) -> dict[str, Any]:
    return run_and_check(truth, folder, [cpu_jobs, *job.split()], *options)


@pytest.mark.parametrize("job", CHAINS)
def test_run_of_collapsing_chain_counts_once(truth: Truth, cpu_jobs: str, tmp_path: Path, job: str) -> None:
    summary, used = summary_of_run(truth, cpu_jobs, tmp_path, job, "-i", "0.05", *PROCFS), truth.cpu_seconds()
    assert summary["cpu"]["total_seconds"] == pytest.approx(used, rel=0.005, abs=SLACK_SECONDS)


@pytest.mark.parametrize("job", CHAINS)
def test_attach_to_collapsing_chain_counts_once(truth: Truth, cpu_jobs: str, tmp_path: Path, job: str) -> None:
    summary, used = attach_and_check(truth, tmp_path, [cpu_jobs, *job.split()], 0.05, *PROCFS)
    total = summary["cpu"]["total_seconds"]
    assert 0.97 * used - SLACK_SECONDS <= total <= 1.005 * used + SLACK_SECONDS


ORDINARY = (
    """
main_exits 2 10;exec_chain 20 3;clone_parent 2 20;subreaper 2 20;subreaper_leaves 2 20;vfork_exit 300 0;vfork_exec 50 0
forks 200 0;kill_children 5 10;kill_root 1 40;fill 4 32;big_forks 10 50;outlive 1 20;stopped 2 20
""".strip()
    .replace("\n", ";")
    .split(";")
)


def test_run_of_ordinary_jobs_is_right(truth: Truth, cpu_jobs: str, tmp_path: Path) -> None:
    """Many at once, in one run: each has a total of its own way to be wrong."""
    script = " ".join(f"{cpu_jobs} {job} &" for job in ORDINARY) + " wait; sleep 0.1"
    summary = run_and_check(truth, tmp_path, ["/bin/sh", "-c", script])
    used, cpu = truth.cpu_seconds(), summary["cpu"]
    assert used > 0.3
    assert cpu["total_seconds"] == pytest.approx(used, rel=0.005, abs=SLACK_SECONDS)
    assert summary["processes"]["left"] == 0
    if "perf" in cpu["sources"]:
        assert cpu["coverage"] == "complete"


def together(cpu_jobs: str, *jobs: str) -> list[str]:
    """A shell that runs these jobs beside each other."""
    return ["/bin/sh", "-c", "".join(f"{cpu_jobs} {job} & " for job in jobs) + "wait"]


def test_run_of_large_processes_that_are_not_reaped_is_bounded(truth: Truth, cpu_jobs: str, tmp_path: Path) -> None:
    """Rows A7 and C8. No source but a cgroup has the release of their memory, nor what they wrote."""
    job = together(cpu_jobs, "big_ignored 10 100", "io_ignored 10")
    summary = run_and_check(truth, tmp_path, job, "--commands", "on")
    assert bounded(summary, truth.cpu_seconds()), (truth.cpu_seconds(), summary["cpu"], summary["gaps"])
    assert gaps_of(summary).keys() & {"unreaped", "unreaped_unseen"}
    assert gaps_of(summary, "io")["unreaped_unseen"]["count"] >= 1
    if summary["processes"]["source"] == "perf":
        seen = summary["io"]["write_bytes"] // (1 << 20)  # each of the 10 that a scan saw wrote 1 MiB
        assert 10 - seen <= gaps_of(summary, "io")["unreaped"]["count"] <= 20


def test_run_where_no_process_waits_is_bounded_by_procfs(truth: Truth, cpu_jobs: str, tmp_path: Path) -> None:
    """Rows A7 to A9. What exits between two scans is in no file; which processes wait for none is in theirs."""
    job = together(cpu_jobs, "big_ignored 10 100", "nocldwait 10 10", "ignore 4 10")
    summary = run_and_check(truth, tmp_path, job, *PROCFS)
    assert bounded(summary, truth.cpu_seconds()), (truth.cpu_seconds(), summary["cpu"], summary["gaps"])
    assert gaps_of(summary)["unreaped_unseen"]["count"] >= 1
    assert gaps_of(summary, "io")["unreaped_unseen"]["count"] >= 1


@pytest.mark.skipif(no_cpuacct() is not None, reason=str(no_cpuacct()))
def test_a_cgroup_of_its_own_has_what_no_process_waits_for(cpu_jobs: str, tmp_path: Path) -> None:
    """Rows A7 to A9 and A14, in the only source that has all of it."""
    job = together(cpu_jobs, "big_ignored 10 100", "nocldwait 10 10", "ignore 4 10", "threads_detached 1000 0")
    with cpuacct_truth() as truth:
        summary = run_and_check(truth, tmp_path, job, "--cgroup")
        used, cpu = truth.cpu_seconds(), summary["cpu"]
    assert cpu["total_seconds"] == pytest.approx(used, rel=0.005, abs=SLACK_SECONDS)
    assert (cpu["source"], cpu["coverage"]) == ("cgroup", "complete")


@pytest.mark.skipif(no_cpuacct() is not None, reason=str(no_cpuacct()))
def test_a_cgroup_of_its_own_blames_no_process_for_threads(cpu_jobs: str, tmp_path: Path) -> None:
    """Row B9. What the ends of threads cost is in the cgroup alone, as is what an unreaped process used."""
    with cpuacct_truth() as truth:
        job = together(cpu_jobs, *["threads_detached 4000 0"] * 4)
        summary = run_and_check(truth, tmp_path, job, "--cgroup", "--commands", "on")
    if summary["processes"]["source"] == "perf":
        assert "unreaped" not in gaps_of(summary, "io")


def test_run_where_no_process_waits_is_counted_by_perf(truth: Truth, cpu_jobs: str, tmp_path: Path) -> None:
    summary = summary_of_run(truth, cpu_jobs, tmp_path, "nocldwait 20 10")
    cpu = summary["cpu"]
    if "perf" not in cpu["sources"]:
        pytest.skip("no perf here")
    assert cpu["total_seconds"] == pytest.approx(truth.cpu_seconds(), rel=0.01, abs=SLACK_SECONDS)
    assert (cpu["source"], cpu["coverage"]) == ("perf", "partial")
    found = gaps_of(summary)
    assert bounded(summary, truth.cpu_seconds()), (truth.cpu_seconds(), summary["cpu"], summary["gaps"])
    assert "unreaped" in found
    assert found["split_unknown"]["low_seconds"] > 0.1


@pytest.mark.parametrize("job", ["threads_detached 2000 0", "threads 2000 0.05"])
def test_run_of_many_threads_names_what_their_ends_cost(
    truth: Truth, cpu_jobs: str, tmp_path: Path, job: str, stolen: Callable[[], float]
) -> None:
    """Rows A14 and A15."""
    summary = summary_of_run(truth, cpu_jobs, tmp_path, job, "--commands", "on")
    if summary["processes"]["source"] != "perf":
        pytest.skip("no perf here")
    assert summary["cpu"]["coverage"] == "partial"
    ended = gaps_of(summary)["threads_ended"]
    assert ended["count"] == 2000
    used, total = truth.cpu_seconds(), summary["cpu"]["total_seconds"]
    assert total <= 1.005 * used + SLACK_SECONDS
    assert used <= total + ended["high_seconds"]
    assert "unreaped" not in gaps_of(summary) | gaps_of(summary, "io")


@pytest.mark.parametrize("source", ["auto", "procfs"])
def test_attach_to_orphans_that_no_scan_sees(truth: Truth, cpu_jobs: str, tmp_path: Path, source: str) -> None:
    """Row A6 by procfs, row B7 by perf."""
    job = [cpu_jobs, "chain_orphans", "60", "5"]
    summary, used = attach_and_check(truth, tmp_path, job, 0.2, "--source", source)
    cpu = summary["cpu"]
    assert "orphans_unseen" in gaps_of(summary)
    assert bounded(summary, used), (used, cpu, summary["gaps"])
    if "perf" in cpu["sources"]:
        assert cpu["total_seconds"] == pytest.approx(used, rel=0.03, abs=SLACK_SECONDS)
        assert cpu["source"] == "perf"


@pytest.mark.parametrize("job", ["forks 60 10", "big_forks 40 100", "threads_forked 1"])
def test_attach_adds_what_was_used_after_the_last_scan(truth: Truth, cpu_jobs: str, tmp_path: Path, job: str) -> None:
    """Rows A11 and A13. The root ends between two scans.

    perf lacks half of what big forks use, the parent of the root shows it. Of threads that fork, perf counts too much.
    """
    summary, used = attach_and_check(truth, tmp_path, [cpu_jobs, *job.split()], 5)
    cpu = summary["cpu"]
    if "perf" not in cpu["sources"]:
        pytest.skip("no perf here")
    assert attached_right(cpu["total_seconds"], used), (used, cpu)
    assert cpu["source"] in ("procfs", "procfs+perf")


def test_attach_to_killed_orphans_has_no_split(truth: Truth, cpu_jobs: str, tmp_path: Path) -> None:
    """Row B8. Their user and system time is known in ticks of 10 ms, and each used less."""
    summary, used = attach_and_check(truth, tmp_path, [cpu_jobs, "chain_killed", "40", "6"], 0.2)
    cpu = summary["cpu"]
    if "perf" not in cpu["sources"]:
        pytest.skip("no perf here")
    assert attached_right(cpu["total_seconds"], used), (used, cpu)
    missing = cpu["total_seconds"] - cpu["user_seconds"] - cpu["system_seconds"]
    assert missing > 0.5 * used
    assert gaps_of(summary)["split_unknown"]["low_seconds"] == pytest.approx(missing, abs=0.001)


def run_of_crowd(truth: Truth, folder: Path, script: str, size: int, *, stopped: bool) -> dict[str, Any]:
    """Return the summary of a shell script that waits for a line and then has a crowd of this size, until stdin ends.

    `stopped`: the tracker is stopped while the crowd is made.
    """
    record = folder / "record.jsonl"
    options = ["-q", "-i", "0.1", "--no-system", "--no-gpu", "--commands", "on", "-o", str(record)]
    command = [*PROCTALLY, "run", *options, "--", *truth.enter_argv(["/bin/sh", "-c", f"read ready; {script}"])]

    def counts() -> list[int]:
        text = record.read_text() if record.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line["tree"]["processes"] for line in lines if line["type"] == "sample"]

    with subprocess.Popen(command, env=environment(folder), stdin=subprocess.PIPE) as tracker:
        assert tracker.stdin is not None
        try:
            until(counts, "the first sample")
            if stopped:
                tracker.send_signal(signal.SIGSTOP)
                until(lambda: state(tracker.pid) == "T", "the tracker is stopped")
            tracker.stdin.write(b"\n")
            tracker.stdin.flush()
            until(lambda: len(truth.pids()) > size, "the crowd is there")
            tracker.send_signal(signal.SIGCONT)
            until(lambda: max(counts()) > size, "a sample has the crowd")
        finally:
            tracker.send_signal(signal.SIGCONT)
            tracker.communicate(timeout=30)
    assert tracker.returncode == 0
    check_cores(record)
    return summary_of(record)


def test_no_fewer_processes_started_than_lived_at_once(truth: Truth, cpu_jobs: str, tmp_path: Path) -> None:
    """Row B6. The tracker is stopped and a ring is full, so that perf loses the records of the crowd."""
    summary = run_of_crowd(truth, tmp_path, f"{cpu_jobs} crowd 200 4000; true", 200, stopped=True)
    processes = summary["processes"]
    assert 202 <= processes["peak"] <= processes["started"]
    assert summary["cpu"]["total_seconds"] == pytest.approx(truth.cpu_seconds(), rel=0.005, abs=SLACK_SECONDS)
    if processes["source"] != "perf":
        pytest.skip("no perf here")
    assert gaps_of(summary, "processes").keys() & {"lost_records", "lost_unknown"}
    assert all(entry["command"] for entry in summary["commands"])
    used = {entry["command"]: entry["cpu_seconds"] + entry["teardown_seconds"] for entry in summary["commands"]}
    assert used["sh"] < 0.05 < sum(used.values())


def test_a_setuid_program_of_root_started_as_many_as_lived(truth: Truth, tmp_path: Path, cpu_jobs: str) -> None:
    """Row B5. perf stops counting what executes a setuid program of another user, for root as well."""
    with ordinary_user() as user:
        if user is None or user.number is None:
            pytest.skip("no ordinary user")
        suid = user.folder / "suid"
        shutil.copy(cpu_jobs, suid)
        os.chown(suid, user.number, user.number)
        suid.chmod(0o4755)
        script = f"exec 3<&0; {suid} crowd 4 0 <&3 & {cpu_jobs} crowd 4 0; wait"
        summary = run_of_crowd(truth, tmp_path, script, 10, stopped=False)
    processes = summary["processes"]
    assert 11 <= processes["peak"] <= processes["started"]
    if processes["source"] == "perf":
        assert gaps_of(summary, "processes")["setuid"]["count"] >= 1


def test_a_setuid_program_that_hidepid_hides(tmp_path: Path, cpu_jobs: str) -> None:
    """perf stops counting it, no listing shows it, and no other command used its CPU time."""
    with ordinary_user() as user:
        if user is None:
            pytest.skip("no interpreter for an ordinary user")
        suid, record = user.folder / "suid", user.folder / "record.jsonl"
        shutil.copy(cpu_jobs, suid)
        suid.chmod(0o4755)

        def become_user() -> None:
            hidepid("invisible")()
            user.become()

        script = f"{suid} forks 4 75; {suid} burn 1 1000 & sleep 0.3"
        options = ["-q", "-i", "0.2", "--no-system", "--no-gpu", "-o", str(record)]
        command = [*user.proctally, "run", *options, "--", "/bin/sh", "-c", script]
        subprocess.run(command, env=user.environment, cwd=user.folder, preexec_fn=become_user, check=True, timeout=30)
        summary = summary_of(record)
        check_cores(record)
    assert summary["processes"]["left"] == 1
    assert summary["processes"]["started"] >= 4
    assert "hidden" in gaps_of(summary)
    assert gaps_of(summary)["left_running"]["count"] == 1
    assert all(entry["command"] for entry in summary["commands"])
    if summary["processes"]["source"] == "perf":
        used = {entry["command"]: entry["cpu_seconds"] + entry["teardown_seconds"] for entry in summary["commands"]}
        assert used["sh"] + used["sleep"] < 0.05
        assert summary["commands"][-1]["unlisted"] is True
        assert used["(not in the list)"] > 0.2
        assert "setuid" in gaps_of(summary)
