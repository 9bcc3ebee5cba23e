"""Sending over OTLP, by gRPC or HTTP: a bounded queue, retries with back-off, and a count of what was given up.

Which failures are worth another try, and after how long, is what the protocol says (opentelemetry.io/docs/specs/otlp):
429, 502, 503 and 504 with Retry-After; of gRPC the transient codes, RESOURCE_EXHAUSTED only with a RetryInfo.
"""

from __future__ import annotations

import random
import time
from base64 import b64encode
from collections import deque
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from proctally.exporters.otlp import request
from proctally.exporters.push import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any
    from urllib.error import HTTPError
    from urllib.request import BaseHandler

    from proctally.exporters.latest import Latest

GRPC, PROTOBUF, JSON = "grpc", "http/protobuf", "http/json"
GRPC_PORT = 4317
PATH = "v1/metrics"
INTERVAL = 10.0  # seconds between exports, unless OTEL_METRIC_EXPORT_INTERVAL says otherwise
TIMEOUT = 10.0
LONGEST_RETRY_AFTER = 300.0
PATIENCE = 2.0  # seconds for which one that refuses is asked again at the end: the tracker waits not much longer
RETRIED_STATUS = (429, 502, 503, 504)
RETRIED_CODES = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
EXPORT = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
ANSWER_BYTES = 1 << 16
REASON_CHARACTERS = 200


@dataclass(slots=True)
class Settings:
    """Where to and how. `endpoint`: a URL for HTTP, host:port for gRPC."""

    endpoint: str
    protocol: str
    secure: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    timeout: float = TIMEOUT
    interval: float = INTERVAL
    gzip: bool = False
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None
    resource: dict[str, str] = field(default_factory=dict)


def settings(otlp: str, environment: Mapping[str, str]) -> Settings:
    """What `--otlp` and the variables of OpenTelemetry say; those for metrics win over those for all signals.

    Raises ValueError for a protocol that is none, and for a header that none can be.
    """

    def variable(name: str) -> str:
        for each in ("METRICS_", ""):
            if value := environment.get(f"OTEL_EXPORTER_OTLP_{each}{name}", "").strip():
                return value
        return ""

    verbatim = False
    if otlp == "env":
        otlp = variable("ENDPOINT")
        verbatim = bool(environment.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "").strip())
    parts = urlsplit(otlp)
    protocol = variable("PROTOCOL")
    if parts.scheme in ("grpc", "grpcs"):
        protocol = GRPC
    elif not protocol:
        protocol = GRPC if parts.port == GRPC_PORT and not parts.path.strip("/") else PROTOBUF
    if protocol not in (GRPC, PROTOBUF, JSON):
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; use {GRPC}, {PROTOBUF} or {JSON}")
    found = Settings(_target(parts) if protocol == GRPC else _url(parts, verbatim), protocol)
    found.secure = parts.scheme in ("https", "grpcs")
    found.headers = pairs(variable("HEADERS"))
    for key, value in found.headers.items():
        if not (key.isascii() and key.isprintable() and value.isascii() and value.isprintable()) or " " in key:
            raise ValueError(f"OTEL_EXPORTER_OTLP_HEADERS: what {key!r} is to be cannot stand in a header")
    if parts.username is not None:
        told = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        found.headers["Authorization"] = f"Basic {b64encode(told.encode()).decode()}"
    found.timeout = _seconds(variable("TIMEOUT"), TIMEOUT)
    found.interval = _seconds(environment.get("OTEL_METRIC_EXPORT_INTERVAL", ""), INTERVAL)
    found.gzip = variable("COMPRESSION").lower() == "gzip"
    found.certificate = variable("CERTIFICATE") or None
    found.client_key = variable("CLIENT_KEY") or None
    found.client_certificate = variable("CLIENT_CERTIFICATE") or None
    found.resource = pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if environment.get("OTEL_SERVICE_NAME"):
        found.resource["service.name"] = environment["OTEL_SERVICE_NAME"]
    return found


def _target(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    return host if parts.port is not None else f"{host.rstrip(':')}:{GRPC_PORT}"


def _url(parts: SplitResult, verbatim: bool) -> str:
    path = parts.path
    if not verbatim and not path.endswith(f"/{PATH}"):
        path = f"{path.rstrip('/')}/{PATH}"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path or "/", parts.query, ""))


def pairs(text: str) -> dict[str, str]:
    """`key=value,key=value`, percent-encoded, as in OTEL_EXPORTER_OTLP_HEADERS; what has no `=` is left out."""
    found = {}
    for entry in text.split(","):
        key, equals, value = entry.partition("=")
        if equals and key.strip():
            found[unquote(key.strip())] = unquote(value.strip())
    return found


def _seconds(milliseconds: str, otherwise: float) -> float:
    try:
        value = float(milliseconds) / 1000
    except ValueError:
        return otherwise
    return value if 0 < value < 86400 else otherwise


class ReceiverRefused(Exception):
    """The receiver did not take it. `after`: seconds after which to try again; None: it never will."""

    def __init__(self, reason: str, after: float | None = None, *, final: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.final = final


class OverHttp:
    """One receiver over HTTP, protobuf or JSON."""

    def __init__(self, settings: Settings) -> None:
        from urllib.request import HTTPRedirectHandler, HTTPSHandler, build_opener

        class Stay(HTTPRedirectHandler):
            """A redirect is a refusal: followed, a POST would become a GET, and headers go to a stranger."""

            def redirect_request(self, *_: object) -> None:
                return None

        self._settings = settings
        handlers: list[BaseHandler] = [Stay()]
        if settings.secure:
            import ssl

            context = ssl.create_default_context(cafile=settings.certificate)
            if settings.client_certificate is not None:
                context.load_cert_chain(settings.client_certificate, settings.client_key)
            handlers.append(HTTPSHandler(context=context))
        self._opener = build_opener(*handlers)

    def send(self, body: bytes, timeout: float) -> tuple[int, str]:
        """Have it take a request; how many points it says it did not take, and why. Raises ReceiverRefused."""
        import gzip
        from http.client import HTTPException
        from urllib.error import HTTPError, URLError
        from urllib.request import Request

        as_json = self._settings.protocol == JSON
        if as_json:
            body = _as_json(body)
        headers = {"Content-Type": "application/json" if as_json else "application/x-protobuf"}
        if self._settings.gzip:
            body = gzip.compress(body, 5)
            headers["Content-Encoding"] = "gzip"
        headers |= {"User-Agent": "proctally", **self._settings.headers}
        deadline = time.monotonic() + timeout
        try:
            with self._opener.open(
                Request(self._settings.endpoint, body, headers, method="POST"), timeout=timeout
            ) as answer:
                return _rejected(_body(answer, deadline), as_json="json" in answer.headers.get("Content-Type", ""))
        except HTTPError as error:
            with error:
                reason = _reason(f"HTTP status {error.code}", _explained(error, deadline))
                if error.code in RETRIED_STATUS:
                    raise ReceiverRefused(reason, retry_after(error.headers.get("Retry-After"))) from None
                raise ReceiverRefused(reason, final=True) from None
        except URLError as error:
            raise ReceiverRefused(str(getattr(error.reason, "strerror", None) or error.reason)) from None
        except (OSError, HTTPException) as error:
            raise ReceiverRefused(str(getattr(error, "strerror", None) or error or type(error).__name__)) from None
        except ValueError as error:  # a name of a host, or a path, that none can be
            raise ReceiverRefused(f"this URL cannot be asked: {error}", final=True) from None

    def close(self) -> None:
        """Nothing stays open."""


def _as_json(body: bytes) -> bytes:
    from google.protobuf.json_format import MessageToJson

    message = ExportMetricsServiceRequest.FromString(body)
    return MessageToJson(message, use_integers_for_enums=True, indent=None).encode()


def _body(answer: Any, deadline: float) -> bytes:
    """The body as far as it comes in time: the status has said already whether the request was taken."""
    from http.client import HTTPException

    data = b""
    try:
        while len(data) < ANSWER_BYTES and time.monotonic() < deadline:
            more = answer.read1(ANSWER_BYTES - len(data))
            if not more:
                break
            data += more
    except (OSError, ValueError, HTTPException):
        pass
    return data


def _explained(error: HTTPError, deadline: float) -> str:
    """What a receiver says of a refusal: a google.rpc.Status, or a text."""
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

    data = _body(error, deadline)
    kind = error.headers.get("Content-Type", "")
    if "protobuf" in kind:
        try:
            return str(Status.FromString(data).message)
        except DecodeError:
            return ""
    return "" if "html" in kind else data[:REASON_CHARACTERS].decode("utf-8", "replace")


def _reason(what: str, why: str) -> str:
    """Both in one line of a bounded length."""
    return f"{what}: {' '.join(why.split())}".rstrip(": ")[:REASON_CHARACTERS]


def _rejected(data: bytes, *, as_json: bool) -> tuple[int, str]:
    """The points that an answer says were not taken, and why; one that cannot be read says nothing."""
    from google.protobuf.json_format import Parse, ParseError
    from google.protobuf.message import DecodeError

    answer = ExportMetricsServiceResponse()
    try:
        if as_json:
            Parse(data or b"{}", answer, ignore_unknown_fields=True)
        else:
            answer.ParseFromString(data)
    except (DecodeError, ParseError, ValueError, RecursionError):
        return 0, ""
    return answer.partial_success.rejected_data_points, answer.partial_success.error_message


def retry_after(header: str | None) -> float | None:
    """The seconds of a Retry-After header, a number or a date; None where there is none."""
    from email.utils import parsedate_to_datetime

    if not header:
        return None
    try:
        after = float(header)
    except ValueError:
        try:
            after = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(0.0, after), LONGEST_RETRY_AFTER) if after == after else None


class OverGrpc:
    """One receiver over gRPC."""

    def __init__(self, settings: Settings) -> None:
        import grpc

        self._settings = settings
        options = [
            ("grpc.initial_reconnect_backoff_ms", 500),
            ("grpc.max_reconnect_backoff_ms", 5000),  # else a receiver that comes back is found minutes later
            ("grpc.primary_user_agent", "proctally"),
        ]
        if settings.secure:
            credentials = grpc.ssl_channel_credentials(
                _contents(settings.certificate), _contents(settings.client_key), _contents(settings.client_certificate)
            )
            self._channel = grpc.secure_channel(settings.endpoint, credentials, options)
        else:
            self._channel = grpc.insecure_channel(settings.endpoint, options)
        self._call: Any = self._channel.unary_unary(EXPORT)  # of bytes: what waits is serialized already
        self._compression = grpc.Compression.Gzip if settings.gzip else None

    def send(self, body: bytes, timeout: float) -> tuple[int, str]:
        """Have it take a request; how many points it says it did not take, and why. Raises ReceiverRefused."""
        import grpc

        metadata = [(key.lower(), value) for key, value in self._settings.headers.items()]
        try:
            data = self._call(body, timeout=timeout, metadata=metadata, compression=self._compression)
        except grpc.RpcError as error:
            raise _refusal(error) from None
        except (TypeError, ValueError) as error:
            raise ReceiverRefused(f"this cannot be sent by gRPC: {error}", final=True) from None
        return _rejected(data, as_json=False)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _contents(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def _refusal(error: Any) -> ReceiverRefused:
    code = error.code().name
    reason = _reason(f"gRPC status {code}", error.details() or "")
    after = retry_info(error.trailing_metadata() or ())
    if code in RETRIED_CODES or (code == "RESOURCE_EXHAUSTED" and after is not None):
        return ReceiverRefused(reason, after)
    return ReceiverRefused(reason, final=True)


def retry_info(metadata: Iterable[tuple[str, bytes]]) -> float | None:
    """The delay of a google.rpc.RetryInfo in the trailing metadata of an answer; None where there is none."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
    from google.rpc.status_pb2 import Status

    for key, value in metadata:
        if key != "grpc-status-details-bin":
            continue
        try:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    delay: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
                    return min(max(0.0, delay), LONGEST_RETRY_AFTER)
        except DecodeError:
            pass
    return None


class OtlpLimits:
    """Maximum of what waits for the receiver; first and longest pause between two tries in seconds."""

    def __init__(
        self, *, requests: int = 120, byte_count: int = 16 << 20, pauses: tuple[float, float] = (1.0, 30.0)
    ) -> None:
        self.requests = requests  # at the usual interval: twenty minutes without a receiver
        self.byte_count = byte_count
        self.pauses = pauses


class Otlp(Sink):
    """One receiver: the state every so often, in the order of time, each until it is taken or given up.

    What cannot be sent waits in a queue. When that is full the oldest goes: counters are cumulative, so that what
    comes later has it, and only the points in between are missing.
    """

    name = "otlp"

    def __init__(
        self,
        latest: Latest,
        settings: Settings,
        limits: OtlpLimits | None = None,
    ) -> None:
        super().__init__(latest)
        self._settings = settings
        self._limits = limits or OtlpLimits()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._tries = 0
        self._version = -1  # of the newest state in the queue
        self._sender: OverHttp | OverGrpc | None = None

    def _run(self) -> None:
        try:
            self._sender = (OverGrpc if self._settings.protocol == GRPC else OverHttp)(self._settings)
        except (OSError, ValueError) as error:  # a certificate that cannot be read
            self.delivery.failed_by(str(error))
            return
        next_at = retry_at = 0.0
        while not self._ending.is_set():
            now = time.monotonic()
            if now >= next_at and self.latest.version != self._version and self.latest.sample is not None:
                next_at = now + self._settings.interval
                self._enqueue()
            if self._queue and now >= retry_at:
                delay = self._send(self._settings.timeout)
                retry_at = time.monotonic() + (delay or 0.0)
                continue
            due = [each for each in (next_at, retry_at if self._queue else 0.0) if each > now]
            self._wake.wait(min(due) - now if due else None)
            self._wake.clear()
        self._flush()
        self._sender.close()

    def _enqueue(self) -> None:
        """The state of now, behind what waits already."""
        self._version = self.latest.version
        body, points = request(self.latest, self._settings.resource)
        self._queue.append((body, points))
        self._bytes += len(body)
        limits = self._limits
        while len(self._queue) > 1 and (len(self._queue) > limits.requests or self._bytes > limits.byte_count):
            self._give_up()

    def _give_up(self) -> None:
        body, points = self._queue.popleft()
        self._bytes -= len(body)
        self.delivery.dropped += points

    def _send(self, timeout: float) -> float | None:
        """Try the oldest; seconds to wait before the next try, None when there is no need to."""
        assert self._sender is not None
        body, points = self._queue[0]
        try:
            rejected, why = self._sender.send(body, timeout)
        except ReceiverRefused as error:
            self.delivery.failed_by(str(error))
            if error.final:
                self._give_up()
                return None
            self._tries += 1
            first, longest = self._limits.pauses
            usual = min(longest, first * 2 ** min(self._tries - 1, 16)) * random.uniform(0.8, 1.2)
            return usual if error.after is None else max(error.after, first / 2)
        self._tries = 0
        self._queue.popleft()
        self._bytes -= len(body)
        self.delivery.succeeded()
        if rejected > 0:
            self.delivery.dropped += min(rejected, points)
            self.delivery.trouble = _reason("the receiver refused some points", why)
        return None

    def _flush(self) -> None:
        """The end: what waits, and the last state, as far as there is time; what is left then is given up.

        The last state is worth more than what waits before it: that gets half of the time. A receiver that was gone
        already is tried once more, one that refuses for PATIENCE: the end of a job is not held up for an outage.
        """
        was_gone = self._tries > 0
        if self.latest.run and self.latest.version != self._version:
            self._enqueue()
        begun = time.monotonic()
        half = (self._deadline - begun) / 2
        while self._queue:
            left = self._deadline - time.monotonic()
            if left <= 0.05:
                break
            if left <= half:
                while len(self._queue) > 1:
                    self._give_up()
            last = len(self._queue) == 1
            delay = self._send(min(self._settings.timeout, left if last else max(0.05, left - half)))
            again_at = time.monotonic() + (delay or 0.0)
            if delay is not None and (was_gone or again_at >= min(self._deadline, begun + PATIENCE)):
                break
            time.sleep(delay or 0.0)
        while self._queue:
            self._give_up()
