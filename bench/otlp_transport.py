"""OTLP carried by proctally and by the official exporters, against the receivers of tests/support/misbehaving.py.

    python -m venv V; V/bin/pip install . opentelemetry-exporter-otlp-proto-http opentelemetry-exporter-otlp-proto-grpc
    V/bin/python bench/otlp_transport.py

Each cell is an interpreter of its own that sends one point with a timeout of 3 s: how long that took, its memory, and
what its caller learns. The official exporter over HTTP is guarded: a session that raises at a redirect and bounds the
body, and RLIMIT_AS. The last lines are the time and the memory of a start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TIMEOUT = 3.0
BODY_BYTES = 1 << 16
MEMORY_BYTES = 2 << 30
WAYS = ("ours", "official", "guarded")
STARTS = 15
Send = Callable[[], str]


def ours(url: str) -> Send:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    from proctally.exporters.otlp_sender import OverGrpc, OverHttp, settings
    from proctally.exporters.sink import ReceiverRefused

    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "x"
    metric.gauge.data_points.add().as_int = 1
    over = (OverGrpc if url.startswith("grpc") else OverHttp)(settings(url, {}))
    body = message.SerializeToString()

    def send() -> str:
        try:
            receipt = over.send(body, TIMEOUT)
        except ReceiverRefused as error:
            return f"{error}"
        return receipt.problem or "SUCCESS"

    return send


def official(url: str, guarded: bool = False) -> Send:
    import logging

    from opentelemetry.sdk.metrics.export import (
        Gauge,
        Metric,
        MetricsData,
        NumberDataPoint,
        ResourceMetrics,
        ScopeMetrics,
    )
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    logging.disable()  # the only place where a reason is
    point = NumberDataPoint({}, 0, time.time_ns(), 1)
    scope = ScopeMetrics(InstrumentationScope("x"), [Metric("x", "", "1", Gauge([point]))], "")
    data = MetricsData([ResourceMetrics(Resource({}), [scope], "")])
    if url.startswith("grpc"):
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc

        exporter = Grpc(url.replace("grpc", "http"), insecure=url.startswith("grpc:"), timeout=TIMEOUT)  # type: ignore
    else:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http

        exporter = Http(f"{url}/v1/metrics", timeout=TIMEOUT, session=_session() if guarded else None)  # type: ignore
    return lambda: exporter.export(data).name


def _session() -> object:
    import resource

    import requests

    class Guarded(requests.Session):
        def request(self, *arguments: object, **more: object) -> requests.Response:  # type: ignore[override]
            deadline = time.monotonic() + TIMEOUT
            answer = super().request(*arguments, **more, stream=True)  # type: ignore[arg-type]
            if 300 <= answer.status_code < 400:
                raise OSError(f"HTTP status {answer.status_code}")
            body = b""
            while len(body) <= BODY_BYTES and time.monotonic() < deadline and (part := answer.raw.read1(1024)):
                body += part
            vars(answer)["_content"] = body
            return answer

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    return Guarded()


def child(way: str, url: str, *, start_alone: bool) -> None:
    """Get ready and send one point; print the seconds, the MiB and the result as JSON."""
    send = ours(url) if way == "ours" else official(url, way == "guarded")
    begun = time.monotonic()
    try:
        result = "" if start_alone else send()
    except Exception as error:
        result = f"raises {type(error).__name__}"
    status = Path("/proc/self/status").read_text(encoding="ascii")
    mib = int(status.partition("VmHWM:")[2].split()[0]) >> 10
    print(json.dumps([time.monotonic() - begun, mib, result]), flush=True)
    os._exit(0)


def cell(way: str, url: str) -> str:
    command = [sys.executable, __file__, way, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            seconds, mib, result = json.loads(process.communicate(timeout=15)[0])
        except subprocess.TimeoutExpired:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            process.kill()
            return f"no end in 15 s, {int(status.partition('VmRSS:')[2].split()[0]) >> 10} MiB"
        except ValueError:
            return "crashed"
    memory = f", {mib} MiB" if mib > 100 else ""
    return f"{seconds:.1f} s{memory}: {result[:60]}"


def start(way: str, url: str) -> str:
    """The least time of an interpreter that gets ready to send, and its memory."""
    times = []
    for _ in range(STARTS):
        begun = time.monotonic()
        said = subprocess.run([sys.executable, __file__, way, url, "start"], stdout=subprocess.PIPE, check=True).stdout
        times.append(time.monotonic() - begun)
    return f"{1000 * min(times):.0f} ms, {json.loads(said)[1]} MiB"


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
    from misbehaving import TOLD, certified, receiver

    print(f"| receiver | {' | '.join(WAYS)} |", "|---|---|---|---|", sep="\n")
    with tempfile.TemporaryDirectory() as folder, certified(Path(folder)) as tls, ThreadPoolExecutor(3) as pool:
        for name in TOLD:
            ways = WAYS if name.startswith("http") else WAYS[:2]
            with receiver(name, tls, "u:p") as url:
                cells = pool.map(cell, ways, [url.replace("u:p@", "")] * len(ways))
                print(f"| {name} | {' | '.join(each.replace('|', ' ') for each in cells)} |", flush=True)
    for url in ("http://127.0.0.1:1", "grpc://127.0.0.1:1"):
        print(f"| start, {url[:4]} | {start('ours', url)} | {start('official', url)} | |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        child(sys.argv[1], sys.argv[2], start_alone=bool(sys.argv[3:]))
    main()
