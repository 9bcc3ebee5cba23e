"""What the exporter is told beside the record: who it is about, by a second truth, and that it stays cheap."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from proctally.exporters.latest import Latest
from proctally.linux.machine import Machine
from proctally.tracking.live_lines import COMMANDS, OTHERS, Live
from proctally.tree.commands import CommandUse
from proctally.tree.sampler import TreeSampler
from tracked import PYTHON, until


@pytest.fixture
def job() -> Iterator[psutil.Process]:
    """A process that has used some CPU time and sleeps."""
    code = "import time\nwhile time.process_time() < 0.06: pass\ntime.sleep(60)"
    with subprocess.Popen([*PYTHON, "-c", code]) as process:
        found = psutil.Process(process.pid)
        until(lambda: sum(found.cpu_times()[:2]) > 0.02 and found.status() == psutil.STATUS_SLEEPING, "it sleeps")
        yield found
        process.kill()


def lines(live: Live, sampler: TreeSampler) -> dict[str, dict[str, Any]]:
    sample = sampler.sample()
    return {line["type"]: line for line in live.of_tree(sample, sampler, None, None, None, 3)}


def test_processes_are_who_they_are(job: psutil.Process) -> None:
    machine = Machine()
    sampler = TreeSampler(machine)
    sampler.attach(job.pid, os.getpid())
    live = Live(machine, lambda: 5_000_000_000)
    told = lines(live, sampler)
    assert list(told) == ["commands", "gauges", "members", "tracker"], "the tracker's is the last of a sample"
    [gauges] = told["gauges"]["processes"]
    assert (gauges["pid"], gauges["exe"]) == (job.pid, os.path.basename(job.exe()))
    assert (gauges["virtual_bytes"], gauges["threads"]) == (job.memory_info().vms, 1)
    assert 0 < gauges["cpu_percent"] <= 100 * (os.cpu_count() or 1)  # at first its mean since its own start
    assert told["gauges"]["rss_total_bytes"] == gauges["rss_bytes"]
    [member] = told["members"]["processes"]
    assert member["pid"] == job.pid
    assert member["parent"] == os.getpid()
    assert member["started_at"] == pytest.approx(job.create_time(), abs=1.5)  # psutil has the boot in whole seconds
    assert lines(live, sampler)["members"]["processes"][0]["started_at"] == member["started_at"]
    times = job.cpu_times()
    assert (member["cpu_user_seconds"], member["cpu_system_seconds"]) == (times.user, times.system)
    assert member["rss_bytes"] == pytest.approx(job.memory_info().rss, abs=1 << 20)
    assert member["virtual_bytes"] == job.memory_info().vms
    assert member["threads"] == 1
    [command] = told["commands"]["commands"]
    assert command["command"] == job.name()[:15]
    assert (told["commands"]["started"], told["commands"]["ended"]) == (1, 0)
    assert told["tracker"]["cpu_seconds"] >= 5 + time.process_time() / 2
    assert told["tracker"]["late_samples"] == 3
    assert told["tracker"]["sources"]["procfs"]["success"] is True


def test_gauges_are_told_of_the_largest_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree of 100,000 processes would be 20 MB a sample."""
    monkeypatch.setattr("proctally.tracking.live_lines.PROCESSES", 1)
    machine = Machine()
    code = "import os, subprocess; subprocess.Popen(['sleep', '60']); b = b'x' * (1 << 24); os.write(1, b'x'); input()"
    with subprocess.Popen(
        [*PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        sampler = TreeSampler(machine)
        sampler.attach(process.pid, os.getpid())
        live = Live(machine, lambda: 0)
        for _ in range(2):
            told = lines(live, sampler)["gauges"]
        sample = sampler.sample()["tree"]
        os.killpg(process.pid, signal.SIGKILL)
    assert [each["pid"] for each in told["processes"]] == [process.pid]
    assert told["process_count"] == sample["processes"] == 2
    assert told["rss_total_bytes"] == sample["rss_bytes"] > told["processes"][0]["rss_bytes"] > 1 << 24
    latest = Latest()
    latest.feed(told)
    assert (len(latest.processes), latest.omitted) == (1, 1)


def test_process_that_ended_is_counted(job: psutil.Process) -> None:
    machine = Machine()
    sampler = TreeSampler(machine)
    sampler.attach(job.pid, os.getpid())
    live = Live(machine, lambda: 0)
    lines(live, sampler)
    job.kill()
    until(lambda: job.status() == psutil.STATUS_ZOMBIE, "it ended")
    time.sleep(0.05)
    told = lines(live, sampler)
    assert told["commands"]["ended"] == 1


def test_summing_up_takes_a_bounded_share(job: psutil.Process) -> None:
    clock = itertools.count(1, 1_000_000)  # each look at it takes a millisecond
    machine = Machine(monotonic_ns=lambda: next(clock))
    sampler = TreeSampler(machine)
    sampler.attach(job.pid, os.getpid())
    live = Live(machine, lambda: 0)
    told = ["commands" in lines(live, sampler) for _ in range(200)]
    assert told[0]
    assert 2 <= sum(told) <= 40


def test_what_is_told_of_commands_is_bounded_and_whole(job: psutil.Process) -> None:
    machine = Machine()
    sampler = TreeSampler(machine)
    sampler.attach(job.pid, os.getpid())
    for number in range(COMMANDS + 500):
        command = sampler.commands.uses[b"c%d" % number] = CommandUse()
        command.processes, command.cpu_ns = 1, 1_000_000_000
    told = lines(Live(machine, lambda: 0), sampler)["commands"]["commands"]
    assert len(told) == COMMANDS + 1
    assert (told[-1]["command"], told[-1]["folded"]) == (OTHERS, True)
    assert not any("folded" in entry for entry in told[:-1])
    assert sum(entry["cpu_seconds"] for entry in told) == pytest.approx(COMMANDS + 500, abs=1)


def told_of_sources(job: psutil.Process, around: object, missing: str | None, **read: Any) -> dict[str, bool | None]:
    machine = Machine()
    sampler = TreeSampler(machine)
    sampler.attach(job.pid, os.getpid())
    sample = sampler.sample() | read
    watch: Any = SimpleNamespace(missing=missing, roll=None)
    enclosure: Any = SimpleNamespace(own=object())
    lines = Live(machine, lambda: 0).of_tree(sample, sampler, watch, enclosure, around, 0)  # type: ignore[arg-type]
    return {name: source["success"] for name, source in lines[-1]["sources"].items()}


def test_source_that_could_not_be_read_is_told(job: psutil.Process) -> None:
    around = SimpleNamespace(reads_system=True, reads_gpus=True, gpus_took_ns=7)
    read = {"system": {"forks": 1}, "gpus": [{"index": 0}], "cgroup": {"memory_bytes": 1}}
    everything = dict.fromkeys(("procfs", "perf", "cgroup", "system", "gpu"), True)
    assert told_of_sources(job, around, None, **read) == everything
    for name, missing, change in (
        ("perf", "perf_paranoid", {}),
        ("system", None, {"system": None}),
        ("cgroup", None, {"cgroup": None}),
        ("gpu", None, {"gpus": None}),
        ("gpu", None, {"gpus_unavailable": "no_answer"}),
    ):
        assert told_of_sources(job, around, missing, **(read | change)) == everything | {name: False}
    left_out = told_of_sources(job, None, "not_requested", **read)
    assert left_out == {"procfs": True, "cgroup": True}, "what was not asked for neither works nor fails"
    assert "gpu" not in told_of_sources(job, around, None, **(read | {"gpus": []})), "there is none"


def test_how_long_a_source_takes_is_told_also_when_it_fails(job: psutil.Process) -> None:
    machine = Machine()
    live = Live(machine, lambda: 0)
    with pytest.raises(ZeroDivisionError):
        live.timed("procfs", lambda: time.sleep(0.02) or 1 / 0)
    sampler = TreeSampler(machine)
    sampler.attach(job.pid, os.getpid())
    assert lines(live, sampler)["tracker"]["sources"]["procfs"]["seconds"] >= 0.02
