"""OTLP against a real receiver, over both protocols: what arrives, and what happens when it is slow, full or gone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc", reason="the extra otlp is not installed")
pytest.importorskip("opentelemetry.proto", reason="the extra otlp is not installed")

from daemons import free_port  # noqa: E402
from documented import check_part  # noqa: E402
from otlp_receiver import RECEIVERS, Taken, attributes, odd, points  # noqa: E402
from proctally.exports import Outlets  # noqa: E402
from proctally.options import Options  # noqa: E402
from proctally.outputs import otlp, otlp_sender  # noqa: E402
from proctally.outputs.latest import Delivery, Latest  # noqa: E402
from proctally.outputs.otlp import COUNTER, GAUGE, INSTRUMENTS, PROCESS, SCHEMA_URL, Instrument, request  # noqa: E402
from proctally.outputs.otlp_sender import GRPC, JSON, PROTOBUF, Otlp, retry_after, retry_info, settings  # noqa: E402
from tracked import PROCTALLY, Puppet, environment, record, run, until, whole  # noqa: E402

BOTH = pytest.mark.parametrize("protocol", RECEIVERS)
BUSY = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done"
RUN = {
    "type": "run", "run_id": "r1", "name": "job", "kind": "run", "started_at": 1000.0, "version": "1",
    "command": ["/usr/bin/train", "--password", "***"], "user": "u", "tags": {"lr": "0.1"},
    "scheduler": {"SLURM_JOB_ID": "7"}, "limits": {},
}  # fmt: skip


def sample(at: float, cpu: float) -> dict[str, Any]:
    return {
        "type": "sample",
        "at": at,
        "elapsed_seconds": at - 1000,
        "tree": {"cpu_seconds": cpu, "cpu_user_seconds": cpu, "rss_bytes": 4096, "processes": 1},
        "system": None,
        "gpus": None,
    }


class Sending:
    """A sender with a state to send, as the exporter has it."""

    def __init__(self, url: str, *, variables: dict[str, str] | None = None, **more: Any) -> None:
        self.latest = Latest()
        self.latest.feed(RUN)
        told = settings(url, {"OTEL_METRIC_EXPORT_INTERVAL": "50"} | (variables or {}))
        self.sink = Otlp(self.latest, told, back_off=(0.05, 0.2), **more)
        self.cpu = 0.0

    def say(self, times: int = 1) -> None:
        for _ in range(times):
            self.cpu += 1.0
            self.latest.feed(sample(1000 + self.cpu, self.cpu))
            self.sink.sampled()
            if times > 1:
                time.sleep(0.06)

    def end(self, seconds: float = 5.0) -> None:
        self.sink.end(time.monotonic() + seconds)
        assert self.sink.join(seconds + 1)


@contextmanager
def sending(protocol: str, taken: Taken, **more: Any) -> Iterator[Sending]:
    with RECEIVERS[protocol](taken) as url:
        sender = Sending(url, **more)
        sender.sink.start()
        try:
            yield sender
        finally:
            if not sender.sink._ending.is_set():
                sender.end(0.2)


def totals(taken: Taken) -> list[float]:
    """The CPU time of the tree in each request."""
    return [
        points(metric)[()]
        for each in taken.requests
        for metric in each.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "proctally.job.cpu.consumption"
    ]


@contextmanager
def held(home: Path, script: str, *options: str, env: dict[str, str]) -> Iterator[None]:
    """A run of a script that waits in `cat $HOLD` for the end of the block; what it says is in `said`."""
    hold = home / "hold"
    os.mkfifo(hold)
    command = [*PROCTALLY, "run", *options, "--", "sh", "-c", script]
    with (home / "said").open("wb") as said:
        process = subprocess.Popen(command, env=env | {"HOLD": str(hold)}, stderr=said)
    try:
        yield
        hold.write_bytes(b"")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


@BOTH
def test_what_a_run_sends(tmp_path: Path, protocol: str) -> None:
    taken = Taken()
    with RECEIVERS[protocol](taken) as url:
        env = environment(
            tmp_path,
            OTEL_METRIC_EXPORT_INTERVAL="100",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test,odd=a%2Cb",
            OTEL_SERVICE_NAME="mine",
            OTEL_EXPORTER_OTLP_HEADERS="x-token=one%20two",
        )
        script = f"{BUSY}; cat $HOLD; {BUSY}"
        with held(tmp_path, script, "-i", "0.1", "-n", "job", "--tag", "lr=0.1", "--otlp", url, env=env):
            until(lambda: len(taken.requests) > 2, "three while it runs")
    assert "proctally: " not in (tmp_path / "said").read_text()
    summary = whole(record(tmp_path))
    metrics = taken.metrics()
    total = points(metrics["proctally.job.cpu.consumption"][0])[()]
    assert total == pytest.approx(summary["cpu"]["total_seconds"], abs=1e-6)
    assert total > 0.02
    assert points(metrics["proctally.run.state"][0])[("ok",)] == 1
    assert sum(points(metrics["proctally.run.state"][0]).values()) == 1
    assert totals(taken) == sorted(totals(taken)), "a total fell"
    own = attributes(taken.requests[-1].resource_metrics[0].resource)
    assert own["service.name"] == "mine"
    assert own["service.instance.id"] == own["proctally.run.id"] == record(tmp_path)[0]["run_id"]
    assert own["host.name"] == os.uname().nodename
    assert own["proctally.tag.lr"] == "0.1"
    assert own["odd"] == "a,b"
    assert taken.headers[-1]["x-token"] == "one two"


@BOTH
def test_processes_are_resources_of_their_own(tmp_path: Path, protocol: str) -> None:
    taken = Taken()
    with RECEIVERS[protocol](taken) as url:
        env = environment(tmp_path, OTEL_METRIC_EXPORT_INTERVAL="100")
        with held(tmp_path, f"{BUSY}; exec cat $HOLD", "-i", "0.1", "--otlp", url, env=env):
            until(lambda: len(taken.requests) > 2 and '"cat"' in str(taken.requests[-1]), "it is another now")
    root = record(tmp_path)[0]["pid"]
    found = [
        block
        for each in taken.requests
        for block in each.resource_metrics
        if attributes(block.resource).get("process.pid") == root
    ]
    assert found
    first, last = found[0], found[-1]
    assert attributes(first.resource)["process.creation.time"] == attributes(last.resource)["process.creation.time"]
    metric = next(metric for metric in last.scope_metrics[0].metrics if metric.name == "process.cpu.time")
    assert set(points(metric)) == {("user",), ("system",)}
    assert 0.02 < sum(points(metric).values()) < 20
    assert metric.sum.is_monotonic


GPU = {
    "index": 1, "vendor": "nvidia", "name": "H200", "uuid": "GPU-1", "driver_version": "570", "utilization_ratio": 0.5,
    "memory_used_bytes": 25, "memory_total_bytes": 100, "energy_joules": 7.0, "power_watts": 300.0, "fan_ratio": 0.25,
    "temperature_celsius": 40, "ecc_corrected": 3, "ecc_uncorrected": 4, "sm_clock_hertz": 1_980_000_000,
    "tree_memory_bytes": 20, "tree_utilization_ratio": 0.4,
    "mig_instances": [{"index": 0, "uuid": "MIG-1", "name": "1g", "memory_used_bytes": 5, "memory_total_bytes": 10}],
}  # fmt: skip
MEMBER = {
    "parent": 1, "command": "sh", "started_at": 999.5, "cpu_user_seconds": 1.5, "cpu_system_seconds": 0.5,
    "rss_bytes": 10, "virtual_bytes": 20, "threads": 2, "minor_faults": 30, "major_faults": 1, "read_bytes": 40,
    "write_bytes": 50,
}  # fmt: skip
EVERYTHING = (
    {"type": "host", "booted_at": 500.0, "kernel_release": "6.1", "distribution": "Debian 12", "container": None},
    {"type": "devices", "cpus": 8, "memory": {"total_bytes": 1000, "swap_total_bytes": 90}},
    sample(1001, 1.5) | {
        "system": {
            "cpu_user_seconds": 11.0, "cpu_system_seconds": 12.0, "cpu_iowait_seconds": 13.0,
            "cpu_softirq_seconds": 14.0, "cpu_steal_seconds": 15.0, "process_count": 16, "forks": 17,
            "memory": {"used_bytes": 300, "free_bytes": 200, "available_bytes": 600, "buffers_bytes": 50,
                       "cached_bytes": 450, "swap_used_bytes": 30},
            "disk": {"read_bytes": 21, "write_bytes": 22, "space_used_bytes": 23, "space_free_bytes": 24},
            "network": {"received_bytes": 25, "sent_bytes": 26},
            "pressure": {"cpu_some_seconds": 27.0, "io_full_seconds": 28.0},
        },
        "gpus": [GPU, GPU | {"index": 2, "uuid": "GPU-2", "energy_joules": 8}],
        "cgroup": {"memory_bytes": 31, "memory_peak_bytes": 32, "cpu_pressure_seconds": 33.0, "oom_kills": 2},
    },
    {"type": "commands", "started": 3, "ended": 1, "commands": [
        {"command": "sh", "processes": 2, "cpu_seconds": 1.0}, {"command": "cc", "processes": 1, "cpu_seconds": 0.5}]},
    {"type": "members", "processes": [
        MEMBER | {"pid": 7}, MEMBER | {"pid": 8}, MEMBER | {"pid": 7, "started_at": 1.5}]},
    {"type": "tracker", "cpu_seconds": 1, "rss_bytes": 2, "samples": 3, "late_samples": 4,
     "sources": {"procfs": {"success": True, "seconds": 0.1}, "gpu": {"success": False, "seconds": None}}},
)  # fmt: skip


def sent(*lines: dict[str, Any], more: dict[str, str] | None = None) -> Any:
    """The request after these lines."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    latest = Latest()
    latest.deliveries["otlp"] = Delivery()
    for line in (RUN, *lines):
        latest.feed(line)
    body, count = request(latest, more or {})
    message = ExportMetricsServiceRequest.FromString(body)
    assert count == len(series(message))
    return message


def series(message: Any) -> list[tuple[str, str, tuple[str, ...], float]]:
    """Instance, name, values of the attributes, and value of every point."""
    return [
        (attributes(block.resource)["service.instance.id"], metric.name, key, value)
        for block in message.resource_metrics
        for metric in block.scope_metrics[0].metrics
        for key, value in points(metric).items()
    ]


def test_what_every_request_has() -> None:
    message = sent(*EVERYTHING)
    for block in message.resource_metrics:
        scope = block.scope_metrics[0]
        assert block.schema_url == scope.schema_url == SCHEMA_URL
        assert (scope.scope.name, scope.scope.version) == ("proctally", "1")
        begun = attributes(block.resource).get("process.creation.time")
        for metric in scope.metrics:
            for point in metric.sum.data_points or metric.gauge.data_points:
                assert point.time_unix_nano == 1001 * 10**9
                if not metric.HasField("sum"):
                    continue
                assert metric.sum.aggregation_temporality == 2, "cumulative"
                of_boot = metric.sum.is_monotonic and metric.name.startswith(("system.", "hw.", "proctally.system."))
                if begun is None:
                    assert point.start_time_unix_nano == (500 if of_boot else 1000) * 10**9
                else:
                    assert begun in ("1970-01-01T00:16:39.500000+00:00", "1970-01-01T00:00:01.500000+00:00")
                    assert point.start_time_unix_nano in (999_500_000_000, 1_500_000_000)
    assert "--password" not in str(message), "a command line is not exported"


def test_counters_begin_before_they_are_read_also_when_the_clock_was_set_back() -> None:
    for metric in sent(EVERYTHING[0], sample(400, 1.5)).resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.sum.data_points:
            assert point.start_time_unix_nano == point.time_unix_nano == 400 * 10**9


def test_values_arrive_where_the_conventions_have_them() -> None:
    found = {(name, key): value for instance, name, key, value in series(sent(*EVERYTHING)) if instance == "r1"}
    first = ("GPU-1", "gpu1", "H200", "nvidia", "570")
    expected = {
        ("system.cpu.time", ("user",)): 11, ("system.cpu.time", ("system",)): 12, ("system.cpu.time", ("iowait",)): 13,
        ("system.cpu.time", ("interrupt",)): 14, ("system.cpu.time", ("steal",)): 15,
        ("system.cpu.logical.count", ()): 8, ("system.process.count", ()): 16, ("system.process.created", ()): 17,
        ("system.memory.usage", ("used",)): 400, ("system.memory.usage", ("free",)): 200,
        ("system.memory.usage", ("buffers",)): 50, ("system.memory.usage", ("cached",)): 450,
        ("system.memory.limit", ()): 1000, ("system.memory.linux.available", ()): 600,
        ("system.paging.usage", ("used",)): 30, ("system.paging.usage", ("free",)): 60,
        ("system.disk.io", ("read",)): 21, ("system.disk.io", ("write",)): 22,
        ("system.filesystem.usage", ("used",)): 23, ("system.filesystem.usage", ("free",)): 24,
        ("system.network.io", ("receive",)): 25, ("system.network.io", ("transmit",)): 26,
        ("proctally.system.pressure.time", ("cpu", "some")): 27, ("proctally.system.pressure.time", ("io", "full")): 28,
        ("proctally.job.memory.usage", ("cgroup",)): 31, ("proctally.job.memory.peak", ("cgroup",)): 32,
        ("proctally.job.pressure.time", ("cpu", "some")): 33, ("proctally.job.oom_kill.count", ()): 2,
        ("proctally.command.cpu.time", ("cc",)): 0.5, ("proctally.command.process.started", ("sh",)): 2,
        ("hw.gpu.utilization", (*first, "general")): 0.5, ("hw.gpu.memory.utilization", first): 0.25,
        ("hw.gpu.memory.usage", first): 25, ("hw.gpu.memory.limit", first): 100,
        ("hw.gpu.memory.usage", ("MIG-1", "gpu1:0", "1g", "nvidia", "570", "GPU-1")): 5,
        ("hw.gpu.memory.limit", ("MIG-1", "gpu1:0", "1g", "nvidia", "570", "GPU-1")): 10,
        ("hw.energy", (*first, "gpu")): 7, ("hw.power", (*first, "gpu")): 300,
        ("hw.fan.speed_ratio", (*first, "gpu")): 0.25,
        ("hw.temperature", (*first, "gpu")): 40, ("hw.errors", (*first, "gpu", "corrected")): 3,
        ("hw.errors", (*first, "gpu", "uncorrected")): 4, ("proctally.gpu.clock", (*first, "sm")): 1_980_000_000,
        ("proctally.job.gpu.memory.usage", first): 20, ("proctally.job.gpu.utilization", first): 0.4,
        ("proctally.source.success", ("procfs",)): 1, ("proctally.source.success", ("gpu",)): 0,
        ("proctally.tracker.cpu.time", ()): 1, ("proctally.tracker.memory.usage", ()): 2,
        ("proctally.tracker.sample.count", ()): 3, ("proctally.tracker.sample.missed", ()): 4,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    assert ("proctally.source.duration", ("gpu",)) not in found, "what is not known is left out"
    assert ("proctally.gpu.clock", (*first, "memory")) not in found


def test_summary_has_the_last_word_but_no_counter_falls_for_it() -> None:
    summary = {
        "type": "summary", "ended_at": 1002.0, "verdict": "failed", "exit_code": 3, "cpu": {"total_seconds": 4.0},
        "memory": {"peak_rss_bytes": 77}, "wall_seconds": 2.0,
    }  # fmt: skip
    found = {(name, key): value for _, name, key, value in series(sent(sample(1001, 5.0), summary))}
    assert found["proctally.job.cpu.consumption", ()] == 5.0
    assert found["proctally.job.memory.peak", ("rss",)] == 77
    assert found["proctally.run.duration", ()] == 2.0
    assert found["proctally.run.exit.code", ()] == 3
    assert [key for (name, key), value in found.items() if name == "proctally.run.state" and value] == [("failed",)]


def test_memory_that_is_used_without_what_is_available() -> None:
    """A kernel before 3.14, or a container that hides it."""
    old = {"type": "sample", "at": 1001.0, "system": {"memory": {"used_bytes": 300, "free_bytes": 200}}}
    found = {(name, key): value for _, name, key, value in series(sent(EVERYTHING[1], old))}
    assert found["system.memory.usage", ("used",)] == 300


def test_no_series_stands_twice() -> None:
    """Also not where an instance (`service.instance.id`) and the attributes of a point are all that is told apart."""
    found = [each[:3] for each in series(sent(*EVERYTHING))]
    assert len(found) == len(set(found))
    assert len({instance for instance, *_ in found}) == 4, "the run, and three processes"


def as_prometheus(instrument: Instrument) -> str:
    """The name that Prometheus 3.15 and the collector's exporters make of it (by default, as observed)."""
    unit = {"s": "seconds", "By": "bytes", "J": "joules", "W": "watts", "Cel": "celsius", "Hz": "hertz"}
    words = [word for word in re.split("[^A-Za-z0-9]+", instrument.name) if word]
    words += [unit[instrument.unit]] if instrument.unit in unit else []
    if instrument.kind == COUNTER:
        words = [word for word in words if word != "total"] + ["total"]
    if instrument.kind == GAUGE and instrument.unit == "1":
        words = [word for word in words if word != "ratio"] + ["ratio"]
    return "_".join(words)


def test_names_stay_apart_and_true_in_prometheus() -> None:
    names = [as_prometheus(each) for each in INSTRUMENTS + PROCESS]
    assert len(names) == len(set(names))
    assert "process_cpu_time_seconds_total" in names
    for name in names:
        assert not name.endswith("_ratio") or re.search("utilization|speed", name), f"{name} is no ratio"


def test_kinds_units_and_attributes_are_those_of_the_conventions() -> None:
    lines = (Path(__file__).parent / "golden/semconv.txt").read_text(encoding="utf-8").splitlines()[1:]
    conventions = {name: rest for name, *rest in (line.split(" | ") for line in lines)}
    own = [each for each in INSTRUMENTS + PROCESS if not each.name.startswith("proctally.")]
    assert {each.name for each in own} == set(conventions)
    hardware = {"hw.vendor", "hw.model", "hw.driver_version", "hw.type"}  # of a GPU, also where it is not asked for
    for each in own:
        kind, unit, keys, value = conventions[each.name]
        assert (each.kind, each.unit) == (kind, unit)
        assert {key.removesuffix("!") for key in keys.split() if key.endswith("!")} <= set(each.attributes)
        known = {key.removesuffix("!") for key in keys.split()} | (hardware if each.name.startswith("hw.") else set())
        assert set(each.attributes) <= known
        for block in sent(*EVERYTHING).resource_metrics:
            for metric in block.scope_metrics[0].metrics:
                if metric.name == each.name:
                    data = metric.sum.data_points or metric.gauge.data_points
                    assert {point.WhichOneof("value") for point in data} == {f"as_{value}"}


def test_resource_is_the_run_on_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tmp_path / "machine-id"
    monkeypatch.setattr(otlp, "MACHINE_IDS", (str(tmp_path / "none"), str(ids)))
    ids.write_text("0123456789abcdef0123456789abcdef\n")
    own = attributes(sent(*EVERYTHING).resource_metrics[0].resource)
    assert own == {
        "service.name": "proctally", "service.version": "1", "service.instance.id": "r1", "proctally.run.id": "r1",
        "host.name": os.uname().nodename, "host.id": "0123456789abcdef0123456789abcdef", "host.arch": own["host.arch"],
        "os.type": "linux", "os.version": "6.1", "os.description": "Debian 12", "proctally.run.name": "job",
        "proctally.run.kind": "run", "proctally.run.user": "u", "proctally.run.command": "train",
        "proctally.tag.lr": "0.1", "proctally.scheduler.slurm_job_id": "7",
    }  # fmt: skip
    cloud = {"provider": "alibaba", "instance_id": "i-1", "instance_type": "t", "region": "r", "zone": "z"}
    own = attributes(sent(EVERYTHING[0] | {"cloud": cloud}, sample(1001, 1.0)).resource_metrics[0].resource)
    assert (own["host.id"], own["host.type"], own["cloud.provider"]) == ("i-1", "t", "alibaba_cloud")
    ids.write_text("uninitialized\n")
    assert otlp.machine_id(EVERYTHING[0]) is None
    ids.write_text("0123456789abcdef0123456789abcdef\n")
    assert otlp.machine_id(EVERYTHING[0] | {"container": "docker"}) is None, "the id of an image is no host's"
    assert otlp.machine_id({}) is None, "not known yet whether this is a container"


def test_tags_are_bounded() -> None:
    own = attributes(sent(RUN | {"tags": {str(place): "x" for place in range(99)}}).resource_metrics[0].resource)
    assert sum(key.startswith("proctally.tag.") for key in own) == 20


def test_what_the_user_says_of_the_resource_wins_and_is_not_cut() -> None:
    more = {"service.name": "mine", "url.full": "x" * 300, "odd": "\udcff", "service.version": "9"}
    message = sent(*EVERYTHING, more=more)
    own = attributes(message.resource_metrics[0].resource)
    assert (own["service.name"], own["url.full"], own["odd"]) == ("mine", "x" * 300, "\\udcff")
    assert message.resource_metrics[0].scope_metrics[0].scope.version == "1"


@pytest.mark.parametrize(("part", "table"), [("otlp", INSTRUMENTS), ("process", PROCESS)], ids=["run", "process"])
def test_document_has_every_metric(part: str, table: tuple[Instrument, ...]) -> None:
    lines = ["| metric | instrument | unit | attributes | meaning |", "|---|---|---|---|---|"]
    for each in table:
        keys = ", ".join(f"`{key}`" for key in each.attributes)
        lines.append(f"| `{each.name}` | {each.kind} | `{each.unit}` | {keys} | {each.help} |")
    check_part("exporters.md", part, lines)


def filled(*sections: str) -> dict[str, Any]:
    """Lines in which every value of these sections that an instrument asks for is known."""
    lines: dict[str, Any] = {"at": 1001.0, "elapsed_seconds": 1.0, "tree": None, "system": None, "cgroup": None}
    for each in INSTRUMENTS:
        paths = ((each.source,),) if isinstance(each.source, str) else each.source
        for alternatives, *_ in () if callable(paths) else paths:
            for path in alternatives.split("|"):
                section, *names = path.split(".")
                if section not in sections or not names:
                    continue
                holder = lines[section] = lines.get(section) or {}
                for name in names[:-1]:
                    holder = holder.setdefault(name, {})
                holder[names[-1]] = 1
    return lines


def counted(*sections: str, gpus: int = 0, commands: int = 0, processes: int = 0) -> int:
    """The series of a push, one `target_info` for each resource included."""
    known = filled(*sections)
    devices = known.pop("devices", {})
    sources = {"tree": 2, "system": 1, "cgroup": 1}  # procfs and perf; a GPU is one more
    number = sum(sources.get(section, 0) for section in sections) + bool(gpus)
    tracker = {"cpu_seconds": 1, "rss_bytes": 1, "samples": 1, "late_samples": 0} | {
        "sources": {str(place): {"success": True, "seconds": 1} for place in range(number)}
    }
    if "system" in sections:
        devices = devices | {"cpus": 1, "memory": {"total_bytes": 1, "swap_total_bytes": 1}}
        known["system"]["memory"] |= dict.fromkeys(
            ("used_bytes", "free_bytes", "buffers_bytes", "cached_bytes", "available_bytes", "swap_used_bytes"), 1
        )
    if "tree" in sections:
        known["tree"] |= {"rss_bytes": 1, "pss_bytes": 1}
    gpu = {key: value for key, value in GPU.items() if key != "mig_instances"}
    gpu |= {"graphics_clock_hertz": 1, "memory_clock_hertz": 1}
    if "tree" not in sections:
        gpu = {key: value for key, value in gpu.items() if not key.startswith("tree_")}
    names = [{"command": str(place), "processes": 1, "cpu_seconds": 1.0} for place in range(commands)]
    message = sent(
        {"type": "devices"} | devices,
        {"type": "sample"} | known | {"gpus": [gpu | {"uuid": str(place)} for place in range(gpus)]},
        *([{"type": "commands", "started": 1, "ended": 0, "commands": names}] if "tree" in sections else []),
        {"type": "members", "processes": [MEMBER | {"pid": place} for place in range(processes)]},
        {"type": "tracker"} | tracker,
    )
    return len(series(message)) + len(message.resource_metrics)


def the_points() -> dict[str, int]:
    machine, job, both = counted("system"), counted("tree", commands=1), counted("tree", "system", commands=1)
    return {
        "`proctally system`": machine,
        "a run with `--no-system`, one command": job,
        "a run with the machine, one command": both,
        "each further command, up to 50": counted("tree", commands=2) - job,
        "each of the three largest processes (`process.*`)": counted("tree", commands=1, processes=1) - job,
        "a cgroup of the run's own": counted("tree", "cgroup", commands=1) - job,
        "each GPU of a machine": counted("system", gpus=2) - counted("system", gpus=1),
        "each GPU of a run": counted("tree", gpus=2) - counted("tree", gpus=1),
    }


def test_arithmetic_of_a_fleet_is_that_of_what_is_sent() -> None:
    told = the_points()
    rows = ["| what is exported | series |", "|---|---:|", *(f"| {what} | {count} |" for what, count in told.items())]
    check_part("fleet.md", "points", rows)
    machine, job, both = (told[key] for key in list(told)[:3])
    process, gpu = told["each of the three largest processes (`process.*`)"], told["each GPU of a machine"]
    rows = ["| 10,000 hosts | series at once | new ones a day | values a second |", "|---|---:|---:|---:|"]
    for what, each, at_once, daily in (
        ("machines", machine, 10_000, 0),
        ("machines with 8 GPUs each", machine + 8 * gpu, 10_000, 0),
        ("jobs, `--no-system`, without `process.*`", job, 20_000, 200_000),
        ("jobs, `--no-system`, three processes each", job + 3 * process, 20_000, 200_000),
        ("jobs with the machine, without `process.*`", both, 20_000, 200_000),
    ):
        rows.append(f"| {what} | {each * at_once:,} | {each * daily:,} | {each * at_once // 10:,} |")
    check_part("fleet.md", "fleet", rows)


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        (("run", "--no-system", "sleep", "60"), "a run with `--no-system`, one command"),
        (("run", "sleep", "60"), "a run with the machine, one command"),
        (("system", "--no-record"), "`proctally system`"),
    ],
    ids=["no-system", "run", "system"],
)
def test_a_real_push_is_as_large_as_the_arithmetic_says(tmp_path: Path, arguments: tuple[str, ...], row: str) -> None:
    import gzip

    taken = Taken()
    with RECEIVERS["http"](taken) as url:
        env = environment(tmp_path, OTEL_METRIC_EXPORT_INTERVAL="100", PROCTALLY_OTLP=url, PROCTALLY_INTERVAL="0.1")
        with subprocess.Popen([*PROCTALLY, *arguments], env=env | {"PROCTALLY_NO_GPU": "1"}, stderr=-3) as process:
            until(lambda: len(taken.requests) > 2, "three of them")
            process.terminate()
    pushed = taken.requests[2]
    own = [f"{name} {key}" for instance, name, key, _ in series(pushed) if "/" not in instance]
    own = [each for each in own if not re.search("cgroup|oom_kill|job.pressure", each)]  # the test's may have one
    most = the_points()[row]
    assert most - 8 <= len(own) + 1 <= most, "a kernel without PSI has 5 less, without perf 2, without a quota 1"
    assert 1200 < len(gzip.compress(pushed.SerializeToString(), 5)) < 3500


@BOTH
def test_a_refusal_that_may_pass_is_tried_again_after_the_time_it_says(protocol: str) -> None:
    taken = Taken()
    taken.answers = [(429, 0.4)] if protocol == "http" else [("RESOURCE_EXHAUSTED", 0.4)]
    with sending(protocol, taken) as sender:
        sender.say()
        until(lambda: taken.requests, "the second try")
        assert taken.times[1] - taken.times[0] >= 0.38, "by itself it would be 0.05"
        assert sender.sink.delivery.dropped == 0
        assert sender.sink.delivery.failed == 1


@BOTH
def test_back_off_grows_and_nothing_is_lost(protocol: str) -> None:
    taken = Taken()
    codes = ("UNAVAILABLE", "ABORTED", "DATA_LOSS", "CANCELLED", "OUT_OF_RANGE", "DEADLINE_EXCEEDED")
    taken.answers = [(answer, None) for answer in ((503, 502, 504, 429) if protocol == "http" else codes)]
    with sending(protocol, taken) as sender:
        sender.say()
        until(lambda: taken.requests, "the try after these")
        gaps = [after - before for before, after in zip(taken.times, taken.times[1:], strict=False)]
        assert all(0.03 < gap < 5 for gap in gaps[:4])
        assert gaps[2] > gaps[0]
        assert totals(taken)[0] == 1.0
        assert sender.sink.delivery.dropped == 0


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        ("http", (400, None)),
        ("http", (500, None)),
        ("http", (401, 1)),
        ("grpc", ("INVALID_ARGUMENT", None)),
        ("grpc", ("RESOURCE_EXHAUSTED", None)),
    ],
)
def test_a_final_refusal_is_not_tried_again(protocol: str, answer: tuple[Any, float | None]) -> None:
    taken = Taken()
    taken.answers = [answer]
    with sending(protocol, taken) as sender:
        sender.say()
        until(lambda: taken.times, "the first try")
        until(lambda: sender.sink.delivery.dropped, "what was refused is counted")
        sender.say()
        until(lambda: taken.requests, "the next one")
        assert len(taken.times) == 2
        assert totals(taken) == [2.0]


@BOTH
def test_receiver_that_refuses_some_points_is_believed(protocol: str) -> None:
    taken = Taken()
    taken.rejected = 3
    with sending(protocol, taken) as sender:
        sender.say()
        until(lambda: sender.sink.delivery.done, "one is taken")
        assert sender.sink.delivery.dropped == 3


def answer(status: str, body: bytes = b"", *headers: str, kind: str = "application/x-protobuf") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def partial(count: int, message: str = "") -> bytes:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    told = ExportMetricsServiceResponse()
    told.partial_success.rejected_data_points = count
    told.partial_success.error_message = message
    return told.SerializeToString()


TAKEN = answer("200 OK")


@pytest.mark.parametrize(
    "said",
    [
        answer("200 OK", b"\xff\xfe{", kind="application/json"),
        answer("200 OK", b"[" * 60000, kind="application/json"),
        answer("200 OK", b"\xff" * 100),
        answer("200 OK", partial(-5)),
        answer("200 OK").replace(b"Content-Length: 0", b"Content-Length: 9999"),
        answer("200 OK").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"zz\r\n",
        answer("202 Accepted"),
    ],
    ids=["utf8", "deep", "protobuf", "negative", "short", "chunked", "accepted"],
)
def test_what_the_status_says_was_taken_was_taken(said: bytes) -> None:
    taken = Taken()
    with odd(taken, said) as url:
        sender = Sending(url)
        sender.sink.start()
        sender.say()
        until(lambda: sender.sink.delivery.done, "it is believed")
        sender.say()
        until(lambda: sender.sink.delivery.done == 2, "and goes on")
        sender.end()
    assert sender.sink.delivery.trouble is None
    assert (sender.sink.delivery.failed, sender.sink.delivery.dropped) == (0, 0)
    assert len(taken.times) == 2


def test_endless_answer_is_left() -> None:
    taken = Taken()
    said = answer("200 OK").replace(b"Content-Length: 0", b"X: y")
    for endless, patience in ((b"x" * 65536, "10000"), (b"x", "300")):
        with odd(taken, said, endless=endless) as url:
            sender = Sending(url, variables={"OTEL_EXPORTER_OTLP_TIMEOUT": patience})
            sender.sink.start()
            sender.say()
            until(lambda told=sender.sink.delivery: told.done, "it is enough", 5)
            sender.end()


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        answer("429 Later", b"", "Retry-After: Wed, 99999999999999999999 Oct 2015 07:28:00 GMT"),
        answer("503 Later", b"", "Retry-After: Wed, 21 Oct 2015 07:28:00 +999999999999999"),
    ],
    ids=["ssh", "nothing", "headers", "date", "zone"],
)
def test_receiver_that_talks_nonsense_is_asked_again(said: bytes) -> None:
    taken = Taken()
    with odd(taken, said, TAKEN) as url:
        sender = Sending(url)
        sender.sink.start()
        sender.say()
        until(lambda: sender.sink.delivery.done, "the second try")
        assert sender.sink.delivery.failed == 1
        sender.end()
    assert sender.sink.delivery.dropped == 0


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        (answer("301 Moved", b"", "Location: /other"), "HTTP status 301"),
        (answer("302 Found", b"", "Location: /other"), "HTTP status 302"),
        (answer("307 Moved", b"", "Location: /other"), "HTTP status 307"),
        (answer("404 No", b"switch\n it on", kind="text/plain"), "HTTP status 404: switch it on"),
        (answer("400 No", b"\x12\x05no id"), "HTTP status 400: no id"),
        (answer("400 No", b"\xff\xff"), "HTTP status 400"),
        (answer("403 No", b"<html><body>", kind="text/html"), "HTTP status 403"),
        (answer("400 No", b"x" * 5000, kind="text/plain"), f"HTTP status 400: {'x' * 183}"),
    ],
    ids=["301", "302", "307", "text", "status", "neither", "html", "long"],
)
def test_refusal_is_explained_and_a_redirect_is_one(said: bytes, trouble: str) -> None:
    taken = Taken()
    with odd(taken, said) as url:
        sender = Sending(url)
        sender.sink.start()
        sender.say()
        until(lambda: sender.sink.delivery.dropped, "it is refused")
        assert sender.sink.delivery.trouble == trouble
        sender.end()
    assert set(taken.paths) == {"POST"}, "a redirect was followed, without what was to be sent"
    assert sender.sink.delivery.done == 0


@pytest.mark.parametrize(("protocol", "told"), [("http", 2**63 - 1), ("grpc", 2**63 - 1), ("grpc", -7)])
def test_no_more_points_are_refused_than_were_sent(protocol: str, told: int) -> None:
    taken = Taken()
    taken.rejected = told
    with sending(protocol, taken) as sender:
        sender.say()
        until(lambda: sender.sink.delivery.done, "one is taken")
        sent = sum(len(points(metric)) for each in taken.metrics().values() for metric in each)
        assert sender.sink.delivery.dropped == (sent if told > 0 else 0)
        sender.say()
        until(lambda: len(taken.requests) == 2, "the next one has that number")


def test_why_points_were_refused_is_told() -> None:
    taken = Taken()
    with odd(taken, answer("200 OK", partial(2, "too\nold"))) as url:
        sender = Sending(url)
        sender.sink.start()
        sender.say()
        until(lambda: sender.sink.delivery.dropped == 2, "it is counted")
        until(lambda: sender.sink.delivery.trouble, "it is told")
        assert sender.sink.delivery.trouble == "the receiver refused some points: too old"
        sender.end()


@pytest.mark.parametrize("seconds", [2**62, -(2**62), -1])
def test_retry_info_of_any_size_is_understood(seconds: int) -> None:
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    info, status = RetryInfo(), Status()
    info.retry_delay.seconds = seconds
    status.details.add().Pack(info)
    told = retry_info([("other", "x"), ("grpc-status-details-bin", status.SerializeToString())])
    assert told == (300 if seconds > 0 else 0)


@pytest.mark.parametrize("url", ["http://a..b:1", f"http://{'a' * 70}:1", "http://127.0.0.1:1/\u20ac"])
def test_url_that_cannot_be_asked_is_a_refusal(url: str) -> None:
    sender = Sending(url)
    sender.sink.start()
    sender.say()
    until(lambda: sender.sink.delivery.dropped, "it is given up")
    sender.say()
    until(lambda: sender.sink.delivery.failed == 2, "and tried with the next")
    assert "cannot be asked" in (sender.sink.delivery.trouble or "")
    sender.end(0.2)


@BOTH
def test_receiver_that_takes_and_never_answers(protocol: str) -> None:
    taken = Taken()
    taken.slow = 0.6
    with sending(protocol, taken, variables={"OTEL_EXPORTER_OTLP_TIMEOUT": "100"}) as sender:
        sender.say()
        until(lambda: sender.sink.delivery.failed >= 2, "it is given up, and tried again")
        begun = time.monotonic()
        sender.end(0.3)
        assert time.monotonic() - begun < 0.6
    assert sender.sink.delivery.done == 0
    assert sender.sink.delivery.dropped


def test_last_state_goes_before_what_waits_when_there_is_no_time() -> None:
    taken = Taken()
    with sending("http", taken) as sender:
        taken.slow = 0.1
        for _ in range(30):
            sender.say()
            sender.sink._enqueue()
        sender.cpu = 99.0
        sender.say()
        sender.end(1.2)
        assert totals(taken)[-1] == 100.0
        assert totals(taken) == sorted(totals(taken))
        assert len(totals(taken)) >= 2, "half of the time is theirs that waited"
        assert sender.sink.delivery.dropped


def test_what_a_receiver_says_is_one_line_without_control_characters(tmp_path: Path) -> None:
    taken = Taken()
    taken.answers = [("INVALID_ARGUMENT", None)] * 9
    taken.details = "bad\x1b[31m\nred"
    env = environment(tmp_path)
    with RECEIVERS["grpc"](taken) as url, held(tmp_path, "cat $HOLD", "-q", "--otlp", url, env=env):
        until(lambda: taken.times, "the first try")
    first, second, rest = (tmp_path / "said").read_text().split("\n")
    assert first == r"proctally: --otlp: gRPC status INVALID_ARGUMENT: bad\x1b[31m red"
    assert second.endswith(" points were given up")
    assert not rest


def test_end_is_later_than_the_last_sample_also_of_a_tracker_that_is_killed(tmp_path: Path) -> None:
    """A receiver such as Prometheus refuses a second value for the same moment: the run would go on for ever."""
    taken = Taken()
    with RECEIVERS["http"](taken) as url:
        env = environment(tmp_path, OTEL_METRIC_EXPORT_INTERVAL="50", PROCTALLY_OTLP=url, PROCTALLY_INTERVAL="0.1")
        command = [*PROCTALLY, "run", "sh", "-c", "echo $$; exec sleep 60"]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            job = int(process.stdout.readline())
            until(lambda: len(taken.requests) > 1, "it runs")
            process.kill()
            os.kill(job, signal.SIGKILL)
        until(lambda: points(taken.metrics()["proctally.run.state"][0])[("lost",)], "it is told")
    times = [each.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0] for each in taken.requests]
    assert len({point.time_unix_nano for point in times}) == len(taken.requests)
    assert max(times, key=lambda point: point.time_unix_nano) == times[-1]


def test_last_state_is_sent_once() -> None:
    taken = Taken()
    with sending("http", taken) as sender:
        sender.say()
        until(lambda: sender.sink.delivery.done, "it is told")
        sender.end()
    assert len(taken.requests) == 1


@BOTH
def test_slow_receiver_holds_nothing_up(protocol: str) -> None:
    taken = Taken()
    taken.slow = 0.3
    with sending(protocol, taken) as sender:
        begun = time.monotonic()
        for _ in range(200):
            sender.say()
        assert time.monotonic() - begun < 0.5, "saying something waits for the receiver"
        until(lambda: totals(taken)[-1:] == [200.0], "it is told the newest")
        assert sender.sink.delivery.dropped == 0, "what was never queued was not dropped"


def test_interval_is_kept_and_the_end_does_not_wait_for_it() -> None:
    taken = Taken()
    with sending("http", taken, variables={"OTEL_METRIC_EXPORT_INTERVAL": "60000"}) as sender:
        sender.say()
        until(lambda: taken.requests, "the first, at once")
        sender.say(4)
        assert totals(taken) == [1.0]
        sender.end()
    assert totals(taken) == [1.0, 5.0]


@BOTH
def test_receiver_gone_and_back(protocol: str) -> None:
    port, taken = free_port(), Taken()
    sender = Sending(f"{'grpc' if protocol == 'grpc' else 'http'}://127.0.0.1:{port}")
    sender.sink.start()
    with RECEIVERS[protocol](taken, port):
        sender.say()
        until(lambda: taken.requests, "the first")
    sender.say(4)
    until(lambda: sender.sink.delivery.failed, "nobody there")
    again = Taken()
    with RECEIVERS[protocol](again, port):
        until(lambda: len(again.requests) >= 4, "what waited")
        assert totals(again)[:4] == [2.0, 3.0, 4.0, 5.0], "in the order of time, none left out"
        sender.end()
    assert sender.sink.delivery.dropped == 0
    assert sender.sink.delivery.trouble is None


@pytest.mark.parametrize("bound", [{"kept_requests": 3}, {"kept_bytes": 10000}], ids=["requests", "bytes"])
def test_queue_is_bounded_and_what_is_dropped_is_counted_and_told(bound: dict[str, int]) -> None:
    port, taken = free_port(), Taken()
    sender = Sending(f"http://127.0.0.1:{port}", **bound)
    sender.sink.start()
    sender.say(8)
    until(lambda: sender.sink.delivery.dropped, "the oldest was given up")
    dropped = sender.sink.delivery.dropped
    with RECEIVERS["http"](taken, port):
        until(lambda: taken.requests, "it is back")
        sender.say()
        sender.end()
    assert totals(taken)[-1] == 9.0
    assert totals(taken)[0] > 1.0, "the oldest is missing"
    assert points(taken.metrics()["proctally.exporter.point.dropped"][0])[("otlp",)] == dropped


def test_end_does_not_wait_for_a_receiver_that_is_gone() -> None:
    sender = Sending(f"http://127.0.0.1:{free_port()}")
    sender.sink.start()
    sender.say()
    begun = time.monotonic()
    sender.end(0.5)
    assert time.monotonic() - begun < 1.0
    assert sender.sink.delivery.dropped


def test_end_asks_one_that_refuses_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_sender, "PATIENCE", 0.5)
    taken = Taken()
    taken.answers = [(503, None)] * 99
    with sending("http", taken) as sender:
        sender.latest.feed(sample(1001, 1.0))  # which it is not told: the end is the first to ask
        begun = time.monotonic()
        sender.end(10.0)
        assert time.monotonic() - begun < 5
    assert len(taken.times) > 1
    assert sender.sink.delivery.dropped


@pytest.mark.parametrize("protocol", [PROTOBUF, JSON])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_http_speaks_protobuf_and_json(protocol: str, compression: str) -> None:
    taken = Taken()
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_COMPRESSION": compression}
    with sending("http", taken, variables=variables) as sender:
        sender.say()
        until(lambda: taken.requests, "one")
    assert totals(taken)[0] == 1.0
    assert taken.paths[0] == "/v1/metrics"
    assert (taken.headers[0].get("content-encoding") == "gzip") == (compression == "gzip")
    assert taken.headers[0]["content-type"] == ("application/json" if protocol == JSON else "application/x-protobuf")


@pytest.mark.parametrize(
    ("url", "variables", "protocol", "endpoint"),
    [
        ("http://h:4318", {}, PROTOBUF, "http://h:4318/v1/metrics"),
        ("http://h:4318/", {}, PROTOBUF, "http://h:4318/v1/metrics"),
        ("http://h:9090/api/v1/otlp", {}, PROTOBUF, "http://h:9090/api/v1/otlp/v1/metrics"),
        ("http://h:9090/api/v1/otlp/v1/metrics", {}, PROTOBUF, "http://h:9090/api/v1/otlp/v1/metrics"),
        ("http://h:4317", {}, GRPC, "h:4317"),
        ("grpc://h", {}, GRPC, "h:4317"),
        ("grpcs://[::1]:9", {}, GRPC, "[::1]:9"),
        ("http://h:4317", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, JSON, "http://h:4317/v1/metrics"),
        ("http://h:1", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
                        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, GRPC, "h:1"),
        ("env", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318/x"}, PROTOBUF, "http://h:4318/x/v1/metrics"),
        ("env", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h/x"},
         PROTOBUF, "http://h/x"),
        ("http://u:p%20q@h:1", {}, PROTOBUF, "http://h:1/v1/metrics"),
    ],
)  # fmt: skip
def test_where_to(url: str, variables: dict[str, str], protocol: str, endpoint: str) -> None:
    found = settings(url, variables)
    assert (found.protocol, found.endpoint) == (protocol, endpoint)
    assert found.secure == url.startswith("grpcs")
    if "@" in url:
        assert found.headers == {"Authorization": "Basic dTpwIHE="}


def test_times_of_the_variables_are_milliseconds() -> None:
    found = settings("http://h", {"OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_METRIC_EXPORT_INTERVAL": "x"})
    assert found.timeout == 2.5
    assert found.interval == 10.0


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("3") == 3
    assert retry_after("1e9") == 300
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after(None) is retry_after("soon") is retry_after("nan") is None


@pytest.mark.parametrize("url", ["ftp://h:1", "h:4317", "http://", "http://h:x", "env"])
def test_malformed_endpoint_is_said_before_the_job(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, "--otlp", url, "--", "touch", str(tmp_path / "ran"))
    assert done.status == 125
    assert done.stderr.startswith(b"proctally: --otlp")
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "ran").exists()


def test_unknown_protocol_is_said_before_the_job(tmp_path: Path) -> None:
    env = environment(tmp_path, OTEL_EXPORTER_OTLP_PROTOCOL="thrift")
    done = run(tmp_path, "--otlp", "http://127.0.0.1:1", "--", "touch", str(tmp_path / "ran"), env=env)
    assert done.status == 125
    assert b"OTEL_EXPORTER_OTLP_PROTOCOL is 'thrift'" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["CERTIFICATE", "CLIENT_KEY", "METRICS_CLIENT_CERTIFICATE"])
def test_certificate_that_is_not_there_is_said_before_the_job(tmp_path: Path, name: str) -> None:
    env = environment(tmp_path, **{f"OTEL_EXPORTER_OTLP_{name}": str(tmp_path / "none")})
    done = run(tmp_path, "--otlp", "https://127.0.0.1:1", "--", "touch", str(tmp_path / "ran"), env=env)
    assert done.status == 125
    assert done.stderr.decode() == f"proctally: OTEL_EXPORTER_OTLP_{name}: {tmp_path}/none cannot be read\n"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("flag", "variables", "target", "secure"),
    [
        ("env", {"ENDPOINT": "h:1", "PROTOCOL": "grpc"}, "h:1", True),
        ("env", {"ENDPOINT": "h:1", "METRICS_PROTOCOL": "grpc", "INSECURE": "True"}, "h:1", False),
        ("env", {"ENDPOINT": "x:1", "METRICS_ENDPOINT": "h:1", "PROTOCOL": "grpc", "INSECURE": "no"}, "h:1", True),
        ("h:1", {"PROTOCOL": "grpc", "METRICS_INSECURE": "true", "INSECURE": "false"}, "h:1", False),
        ("env", {"ENDPOINT": " http://h:1 ", "METRICS_ENDPOINT": " ", "PROTOCOL": "grpc"}, "h:1", False),
        ("env", {"ENDPOINT": "https://h", "PROTOCOL": "grpc", "INSECURE": "true"}, "h:4317", True),
        ("env", {"ENDPOINT": "http://h:1/", "METRICS_ENDPOINT": " "}, "http://h:1/v1/metrics", False),
    ],
)
def test_where_to_by_the_variables(flag: str, variables: dict[str, str], target: str, secure: bool) -> None:
    env = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    options = Options()
    options.otlp = flag
    told = settings(Outlets(options, env, {}).config()["otlp"], env)
    assert (told.endpoint, told.secure) == (target, secure)


@pytest.mark.parametrize("headers", ["x=a%0Ab", "x=%E2%82%AC", "x%20y=1", "x=%00", "=,x%3A%0d=1"])
@pytest.mark.parametrize("url", ["http://h", "grpc://h"])
def test_header_that_none_can_be_is_said_without_its_value(url: str, headers: str) -> None:
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_HEADERS: what '.*' is to be cannot stand in a header"):
        settings(url, {"OTEL_EXPORTER_OTLP_HEADERS": headers})


@BOTH
def test_headers_are_sent(protocol: str) -> None:
    taken = Taken()
    told = "Authorization=Bearer%20a%2Cb, x-Scope-OrgID = fleet ,nothing, empty="
    with sending(protocol, taken, variables={"OTEL_EXPORTER_OTLP_HEADERS": told}) as sender:
        sender.say()
        until(lambda: taken.requests, "one")
    assert taken.headers[0]["authorization"] == "Bearer a,b"
    assert taken.headers[0]["x-scope-orgid"] == "fleet"
    assert taken.headers[0]["empty"] == ""
    assert "nothing" not in taken.headers[0]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files of a key and of a certificate that it signed itself."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    key, certificate = (str(tmp_path_factory.mktemp("tls") / name) for name in ("key", "certificate"))
    told = [
        "-subj",
        "/CN=x",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-days",
        "2",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *told]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


@BOTH
def test_tls_with_certificates_of_both_sides(protocol: str, tls: tuple[str, str]) -> None:
    names = {"CLIENT_KEY": tls[0], "CLIENT_CERTIFICATE": tls[1], "CERTIFICATE": tls[1]}
    taken = Taken()
    with RECEIVERS[protocol](taken, tls=tls) as url:
        sender = Sending(url, variables={f"OTEL_EXPORTER_OTLP_{name}": path for name, path in names.items()})
        sender.sink.start()
        sender.say()
        until(lambda: taken.requests, "one")
        sender.end()
    assert sender.sink.delivery.failed == 0


@BOTH
def test_receiver_that_nobody_vouches_for_gets_nothing(protocol: str, tls: tuple[str, str]) -> None:
    taken = Taken()
    with RECEIVERS[protocol](taken, tls=tls) as url:
        for told, trouble in ((url, r"CERTIFICATE_VERIFY_FAILED|UNAVAILABLE"), (url.replace("s://", "://"), ".")):
            sender = Sending(told)
            sender.sink.start()
            sender.say()
            until(lambda told=sender.sink.delivery: told.failed, "it is refused")
            assert re.search(trouble, sender.sink.delivery.trouble or "")
            sender.end(0.3)
            assert sender.sink.delivery.done == 0
            assert sender.sink.delivery.dropped
    assert not taken.requests


@pytest.mark.parametrize("url", ["http://nosuch.invalid:1", "grpc://nosuch.invalid:1"])
def test_name_of_a_host_that_is_none(url: str) -> None:
    sender = Sending(url)
    sender.sink.start()
    sender.say()
    until(lambda: sender.sink.delivery.failed, "it is told")
    assert sender.sink.delivery.dropped == 0, "it may be known later"
    sender.end(0.2)


def test_disabled_by_the_variable(tmp_path: Path) -> None:
    taken = Taken()
    with RECEIVERS["http"](taken) as url:
        run(tmp_path, "--otlp", url, "--", "true", env=environment(tmp_path, OTEL_SDK_DISABLED="true"))
    assert not taken.times


def test_end_of_a_job_is_not_held_up_for_an_outage(tmp_path: Path) -> None:
    taken = Taken()
    with odd(taken, b"") as url, Puppet(tmp_path, "-i", "0.1", "--otlp", url) as puppet:
        until(lambda: taken.times, "it was tried")
        begun = time.monotonic()
        assert puppet.exit(0) == 0
        assert time.monotonic() - begun < 1.5
        assert b"proctally: --otlp: Remote end closed connection without response" in puppet.stderr()


def test_receiver_that_is_gone_is_told_of_after_the_job(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run(tmp_path, "-q", "--otlp", f"http://127.0.0.1:{free_port()}", "--", "sh", "-c", "exit 3")
    took = time.monotonic() - begun
    assert done.status == 3
    told = done.stderr.decode().splitlines()
    if took > 2.9:  # beside much other load: the tracker did not wait for it any longer
        assert "did not say the last in time" in told[0]
        return
    assert told[0] == "proctally: --otlp: Connection refused"
    assert re.fullmatch(r"proctally: --otlp: \d+ points were given up", told[1])


def test_receiver_that_was_busy_at_the_end_is_asked_once_more(tmp_path: Path) -> None:
    taken = Taken()
    taken.answers = [(503, None)]
    with RECEIVERS["http"](taken) as url:
        run(tmp_path, "-q", "--otlp", url, "--", "true")
        until(lambda: taken.requests, "the last")
    assert points(taken.metrics()["proctally.run.state"][0])[("ok",)] == 1
