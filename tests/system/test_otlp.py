"""A run that exports to a real OTLP receiver."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("grpc", reason="the extra otlp is not installed")
pytest.importorskip("opentelemetry.proto", reason="the extra otlp is not installed")
from daemons import free_port  # noqa: E402
from otlp_lines import BOTH, series, the_points, totals  # noqa: E402
from otlp_receiver import RECEIVERS, Taken, attributes, odd, points  # noqa: E402
from tracked import PROCTALLY, Puppet, environment, record, run, until, whole  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # several waits for a server, of at most 20 s each

BUSY = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done"


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


def test_what_a_receiver_says_is_one_line_without_control_characters(tmp_path: Path) -> None:
    taken = Taken()
    taken.answers = [("INVALID_ARGUMENT", None)] * 9
    taken.details = "bad\x1b[31m\nred"
    env = environment(tmp_path)
    with RECEIVERS["grpc"](taken) as url, held(tmp_path, "cat $HOLD", "-q", "--otlp", url, env=env):
        until(lambda: taken.times, "the first try")
    first, second, rest = (tmp_path / "said").read_text().split("\n")
    assert first == rf"proctally: --otlp {url}: gRPC status INVALID_ARGUMENT: bad\x1b[31m red"
    assert second.endswith(" points were given up; check that the receiver answers and accepts them")
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
        assert f"--otlp {url}: Remote end closed connection without response" in puppet.stderr().decode()


def test_receiver_that_is_gone_is_told_of_after_the_job(tmp_path: Path) -> None:
    begun = time.monotonic()
    port = free_port()
    done = run(tmp_path, "-q", "--otlp", f"http://ada:pw@127.0.0.1:{port}", "--", "sh", "-c", "exit 3")
    took = time.monotonic() - begun
    assert done.status == 3
    told = done.stderr.decode().splitlines()
    if took > 2.9:  # beside much other load: the tracker did not wait for it any longer
        assert "did not say the last in time" in told[0]
        return
    option = f"proctally: --otlp http://***@127.0.0.1:{port}: "
    assert told[0] == f"{option}Connection refused"
    assert re.fullmatch(re.escape(option) + r"\d+ points were given up; check that the receiver .*", told[1])


def test_receiver_that_was_busy_at_the_end_is_asked_once_more(tmp_path: Path) -> None:
    taken = Taken()
    taken.answers = [(503, None)]
    with RECEIVERS["http"](taken) as url:
        run(tmp_path, "-q", "--otlp", url, "--", "true")
        until(lambda: taken.requests, "the last")
    assert points(taken.metrics()["proctally.run.state"][0])[("ok",)] == 1
