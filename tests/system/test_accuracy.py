"""CPU totals of the installed tracker against the kernel's own accounting, for jobs that hide their CPU time.

The job alone enters a cgroup (truth.py); what the record says is compared with what that cgroup used. It takes root,
for an ordinary user's tracker as well.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from places import SUPPORT
from sources import perf_denied
from tracked import PROCTALLY, PYTHON, User, without_name
from truth import Log, Truth, available, cpu_truth, cpuacct_truth, no_cpuacct, stolen_ns
from workloads import WORKLOADS

NO_TRUTH = available()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(NO_TRUTH is not None, reason=str(NO_TRUTH)),
]

JOBS = SUPPORT / "workloads.py"
SLACK_SECONDS = 0.02
LENGTH = 0.6  # of what the benchmark takes: there are many tests of these jobs, and the slack is absolute
ENDS_WITHIN_SECONDS = 60

# The time of reaped children is in two counters of their parent, in whole ticks; what they lack while the parent lives
# comes at once when it ends. With many parents that is much for one short interval.
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
READING_SECONDS = 1.5 * TICK_SECONDS  # the scheduler's tick, and one counter that is cut to ticks
# processes that wait for others show these in ticks, each cut by itself
LATE_SECONDS = {
    "preforked": 2 * TICK_SECONDS * 8,
    "orphan_storm": 4 * TICK_SECONDS,
    "inner_subreaper": 6 * TICK_SECONDS,
}

SEEN = [name for name, workload in WORKLOADS.items() if workload.seen]
COUNTED = [*SEEN, "sigchld_ignored"]  # by perf, that is by default
UNSEEN = ["autoreaped_1ms", "autoreaped_empty", "pid_namespace"]  # by all but a cgroup
BY_PROCFS = ("--source", "procfs")
NO_PERF = perf_denied(without_name())
ATTACHED = {"busy": 4.0, "preforked": 6.0, "two_level": 4.0}  # CPU seconds that outlast the attach


@pytest.fixture
def truth() -> Iterator[Truth]:
    with cpu_truth() as made:
        yield made


@pytest.fixture(scope="module")
def user(user: User) -> User:
    """An ordinary user, with the jobs where he can read them."""
    (user.folder / JOBS.name).write_bytes(JOBS.read_bytes())
    return user


def read_record(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["type"] for line in lines].count("summary") == 1
    assert lines[-1]["type"] == "summary"
    return [line for line in lines if line["type"] == "sample"], lines[-1]


def check_samples(samples: list[dict[str, Any]], name: str) -> None:
    assert samples
    totals = [sample["tree"]["cpu_seconds"] for sample in samples]
    assert totals == sorted(totals), "a total fell"
    assert samples[0]["tree"]["cpu_cores"] is None
    for sample in samples[1:]:
        late = READING_SECONDS + LATE_SECONDS.get(name, 0.0)
        most = (os.cpu_count() or 1) * 1.1 + late / sample["interval_seconds"]
        assert sample["tree"]["cpu_cores"] <= most, "more cores than the machine has"


def track(
    truth: Truth,
    name: str,
    record: Path,
    *options: str,
    user: User | None = None,
) -> tuple[float, dict[str, Any]]:
    """Run one job under the tracker: CPU seconds that it used in truth, and the `cpu` section of the summary.

    With the codes of its gaps as `gaps`.
    """
    seconds = LENGTH * WORKLOADS[name].seconds
    python, jobs, tracker, popen = PYTHON, JOBS, PROCTALLY, {}
    if user is not None and user.number is not None:
        python, jobs, tracker = user.python, user.folder / JOBS.name, user.proctally
        popen = {"env": user.environment, "preexec_fn": truth.give_to(user.number)}
    job = truth.enter_argv([*python, str(jobs), name, str(seconds)])
    done = subprocess.run(
        [*tracker, "run", "-q", "-i", "0.2", *options, "-o", str(record), "--", *job],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_SECONDS,
        **popen,
    )
    assert (done.returncode, done.stderr) == (0, "")
    used = truth.cpu_seconds()
    assert truth.pids() == []
    if name != "idle":
        least = 0.5 if name == "autoreaped_empty" else 0.95
        assert used >= least * seconds, "the job itself did not do what it should"
    samples, summary = read_record(record)
    check_samples(samples, name)
    total = summary["cpu"]["total_seconds"]
    assert total >= samples[-1]["tree"]["cpu_seconds"]
    return used, summary["cpu"] | {"gaps": {gap["code"] for gap in summary["gaps"] if gap["section"] == "cpu"}}


def is_within(share: float, cpu: dict[str, Any], used: float, stolen: float = 0.0) -> bool:
    """`stolen`: seconds that other machines and interrupts took meanwhile, which perf counts."""
    most = share * used + SLACK_SECONDS
    return bool(-most <= cpu["total_seconds"] - used <= most + (stolen if cpu["source"] == "perf" else 0.0))


@pytest.mark.skipif(perf_denied(0) is not None, reason=str(perf_denied(0)))
@pytest.mark.parametrize("name", COUNTED)
def test_total_as_root(truth: Truth, tmp_path: Path, name: str) -> None:
    begun = stolen_ns()
    used, cpu = track(truth, name, tmp_path / "record.jsonl")
    assert is_within(0.005, cpu, used, (stolen_ns() - begun) / 1e9)
    assert "perf" in cpu["sources"]


@pytest.mark.parametrize("name", SEEN)
def test_total_without_perf(truth: Truth, tmp_path: Path, name: str) -> None:
    used, cpu = track(truth, name, tmp_path / "record.jsonl", *BY_PROCFS)
    assert is_within(0.01, cpu, used)
    assert cpu["sources"].keys() == {"rusage", "procfs"}


@pytest.mark.skipif(NO_PERF is not None, reason=str(NO_PERF))
@pytest.mark.parametrize("name", COUNTED)
def test_total_as_ordinary_user(truth: Truth, user: User, name: str) -> None:
    begun = stolen_ns()
    used, cpu = track(truth, name, user.folder / f"{name}.jsonl", user=user)
    assert is_within(0.01, cpu, used, (stolen_ns() - begun) / 1e9)
    assert "perf" in cpu["sources"]


@pytest.mark.parametrize("name", ["busy", "orphan_storm", "preforked"])
def test_total_as_ordinary_user_without_perf(truth: Truth, user: User, name: str) -> None:
    used, cpu = track(truth, name, user.folder / f"{name}-procfs.jsonl", *BY_PROCFS, user=user)
    assert is_within(0.01, cpu, used)


@pytest.mark.skipif(no_cpuacct() is not None, reason=str(no_cpuacct()))
@pytest.mark.parametrize("name", [*UNSEEN, "sigchld_ignored", "orphan_storm", "threads"])
def test_total_in_a_cgroup_of_its_own(tmp_path: Path, name: str) -> None:
    """The truth is another hierarchy here, so that the job stays in the cgroup that was made for it."""
    with cpuacct_truth() as truth:
        used, cpu = track(truth, name, tmp_path / "record.jsonl", "--cgroup")
    assert is_within(0.005, cpu, used)
    assert (cpu["source"], cpu["coverage"]) == ("cgroup", "complete")


class TwoTruths(Truth):
    """The cgroup of one hierarchy, in which the CPU time is read, and that of another one, both entered by the job."""

    def __init__(self, first: Truth, second: Truth) -> None:
        super().__init__(first.folder)
        self.second = second

    def enter_argv(self, argv: list[str]) -> list[str]:
        return super().enter_argv(self.second.enter_argv(argv))


def test_who_leaves_the_cgroup_is_counted_elsewhere(truth: Truth, tmp_path: Path) -> None:
    """The job moves itself into other cgroups of each hierarchy: what it used there its own ones do not know."""
    with ExitStack() as stack:
        if no_cpuacct() is None:
            truth = TwoTruths(truth, stack.enter_context(cpuacct_truth()))
        used, cpu = track(truth, "busy", tmp_path / "record.jsonl", "--cgroup")
    assert is_within(0.005, cpu, used)
    assert cpu["source"] != "cgroup"
    assert cpu["sources"]["cgroup"] < used / 2
    assert "cgroup_left" not in cpu["gaps"], "another source has all"
    assert cpu["unavailable"]["cgroup"] == "cgroup_left"


def test_what_nobody_reaps_is_missing_and_never_invented(truth: Truth, tmp_path: Path) -> None:
    used, cpu = track(truth, "sigchld_ignored", tmp_path / "record.jsonl", *BY_PROCFS)
    assert cpu["total_seconds"] <= 1.01 * used + SLACK_SECONDS
    assert cpu["gaps"] & {"unreaped_unknown", "unreaped_unseen"}


@pytest.mark.parametrize("name", ATTACHED)
def test_total_of_attach(truth: Truth, tmp_path: Path, name: str) -> None:
    record = tmp_path / "record.jsonl"
    job = subprocess.Popen(truth.enter_argv([*PYTHON, str(JOBS), name, str(ATTACHED[name])]))
    try:
        while truth.cpu_seconds() < 0.3:
            assert job.poll() is None
            time.sleep(0.01)
        with Log(truth) as log:
            done = subprocess.run(
                [*PROCTALLY, "attach", "-q", "-i", "0.2", "--duration", "2", "-o", str(record), str(job.pid)],
                capture_output=True,
                text=True,
                timeout=ENDS_WITHIN_SECONDS,
            )
        assert job.poll() is None, "the job was to outlast the attach"
    finally:
        job.kill()
        job.wait()
    assert (done.returncode, done.stderr) == (0, "")
    samples, summary = read_record(record)
    check_samples(samples, name)
    first = samples[0]
    late = LATE_SECONDS.get(name, 0.0)
    total = summary["cpu"]["total_seconds"]
    assert samples[-1]["elapsed_seconds"] >= 1.9
    # until the first sample, counters were opened for every thread
    most = first["elapsed_seconds"] + SLACK_SECONDS + late
    assert first["tree"]["cpu_seconds"] <= most, "totals of an attach count from the attach"
    begin = first["at"] - first["elapsed_seconds"]
    used = log.cpu_seconds_at(summary["ended_at"]) - log.cpu_seconds_at(begin)
    assert abs(total - used) <= 0.02 * used + SLACK_SECONDS
    # every sample on the way as well, not only the last
    for sample in samples:
        used = log.cpu_seconds_at(sample["at"]) - log.cpu_seconds_at(begin)
        assert abs(sample["tree"]["cpu_seconds"] - used) <= 0.02 * used + SLACK_SECONDS + late


MIXED = """
import os, sys, time
if os.fork() == 0:  # stays root's
    held = bytearray(64 << 20)
    with open(sys.argv[1], "wb") as file:
        while True:
            file.write(held[:1 << 20])
            file.flush()
            time.sleep(0.02)
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
print("ready", flush=True)
time.sleep(60)
"""


def test_what_a_user_may_not_read_is_told(user: User, tmp_path: Path) -> None:
    """Sums of a tree that is partly of another user's say that they are not all."""
    job = subprocess.Popen(
        [*PYTHON, "-c", MIXED, str(tmp_path / "out"), str(user.number)], stdout=subprocess.PIPE, process_group=0
    )
    try:
        assert job.stdout is not None and job.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        record = user.folder / "mixed.jsonl"
        options = ["-i", "0.2", "--duration", "0.7", "-o", str(record), "--no-record"]
        done = user.call("attach", *options, str(job.pid), cwd="/")
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    lines, summary = read_record(record)
    assert done.status == 0
    # of who is not dumpable any more (it has changed its user) nobody but root may read, either
    assert summary["io"]["denied"] == 2
    assert summary["memory"]["peak_low_bytes"] > 0  # `status` may be read of every process
    assert summary["memory"]["peak_rss_bytes"] > 64 << 20, "RSS may be read of everybody"
    assert [line["tree"]["io_unread"] for line in lines if line["type"] == "sample"][-1] == 2
    assert b"without 2 processes" in done.stderr
