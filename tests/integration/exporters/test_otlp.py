"""The OTLP sender against real receivers, also bad ones."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("grpc", reason="the extra otlp is not installed")
pytest.importorskip("opentelemetry.proto", reason="the extra otlp is not installed")
from daemons import free_port  # noqa: E402
from otlp_lines import BOTH, Sending, sample, totals  # noqa: E402
from otlp_receiver import RECEIVERS, Taken, odd, points  # noqa: E402
from proctally.exporters import (
    otlp_sender,  # noqa: E402
)
from proctally.exporters.otlp_sender import JSON, PROTOBUF  # noqa: E402
from tracked import until  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # several waits for a server, of at most 20 s each


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
SHORT = TAKEN.replace(b"Content-Length: 0", b"Content-Length: 9999")
BROKEN_CHUNKS = TAKEN.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"zz\r\n"


@pytest.mark.parametrize(
    "said",
    [
        answer("200 OK", b"\xff\xfe{", kind="application/json"),
        answer("200 OK", b"[" * 60000, kind="application/json"),
        answer("200 OK", b"\xff" * 100),
        answer("200 OK", partial(-5)),
        SHORT,
        BROKEN_CHUNKS,
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
    short = "HTTP status 200, but the answer stopped short"
    assert sender.sink.delivery.trouble == (short if said in (SHORT, BROKEN_CHUNKS) else None)
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


@pytest.mark.parametrize("bound", [{"requests": 3}, {"byte_count": 10000}], ids=["requests", "bytes"])
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


def test_otlp_extra_prometheus_is_missing_sender_is_loaded() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; import proctally.exporters.otlp_sender"
    subprocess.run([sys.executable, "-c", code], check=True)


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
