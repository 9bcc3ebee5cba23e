"""OTLP messages, made from lines of a run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from places import GOLDEN

pytest.importorskip("grpc", reason="the extra otlp is not installed")
pytest.importorskip("opentelemetry.proto", reason="the extra otlp is not installed")

import pytest

from documented import check_part  # noqa: E402
from otlp_lines import GPU, MEMBER, RUN, Sending, sample, sent, series, the_points  # noqa: E402
from otlp_receiver import (  # noqa: E402
    attributes,  # noqa: E402
)
from proctally.exporters import (
    otlp,  # noqa: E402
)
from proctally.exporters.latest import described  # noqa: E402
from proctally.exporters.otlp import COUNTER, GAUGE, INSTRUMENTS, PROCESS, SCHEMA_URL, Instrument  # noqa: E402
from proctally.exporters.otlp_sender import (  # noqa: E402
    GRPC,
    JSON,
    PROTOBUF,
    retry_info,
    settings,
)
from proctally.exporters.receiver import retry_after  # noqa: E402
from proctally.record import schema  # noqa: E402
from tracked import until  # noqa: E402

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


@pytest.fixture(autouse=True)
def no_machine_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "MACHINE_IDS", ())


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


@pytest.mark.parametrize("bad", [-18889465931478580723712, 1 << 63, 1 << 1100, float("nan"), float("inf")])
def test_one_bad_value_costs_itself(bad: object) -> None:
    memory = {"used_bytes": 300, "free_bytes": 200, "swap_used_bytes": bad, "buffers_bytes": bad}
    lines = EVERYTHING[1], sample(1001, 1.5) | {"system": {"memory": memory, "forks": bad, "cpu_user_seconds": 11.0}}
    good = (
        EVERYTHING[1],
        sample(1001, 1.5) | {"system": {"memory": {"used_bytes": 300, "free_bytes": 200}, "cpu_user_seconds": 11.0}},
    )
    assert sorted(series(sent(*lines))) == sorted(series(sent(*good)))


def test_a_boot_before_1970_ends_no_export() -> None:
    assert series(sent({"type": "host", "booted_at": -5.0}, sample(1001, 1.5)))


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


def test_kinds_and_units_are_those_of_the_fields() -> None:
    for each in INSTRUMENTS:
        paths = each.source if isinstance(each.source, tuple) else [(each.source,)]
        for found in filter(None, (described(path) for path, *_ in paths)):
            assert (each.kind == COUNTER) == (found.kind == schema.COUNTER), each.name
            assert each.unit == (found.unit or each.unit), each.name


def test_kinds_units_and_attributes_are_those_of_the_conventions() -> None:
    lines = (GOLDEN / "semconv.txt").read_text(encoding="utf-8").splitlines()[1:]
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


@pytest.mark.parametrize("headers", ["x=a%0Ab", "x=%E2%82%AC", "x%20y=1", "x=%00", "=,x%3A%0d=1"])
@pytest.mark.parametrize("url", ["http://h", "grpc://h"])
def test_header_that_none_can_be_is_said_without_its_value(url: str, headers: str) -> None:
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_HEADERS: what '.*' is to be cannot stand in a header"):
        settings(url, {"OTEL_EXPORTER_OTLP_HEADERS": headers})
