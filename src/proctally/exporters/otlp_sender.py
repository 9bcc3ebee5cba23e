"""Sending over OTLP, by gRPC or HTTP: a bounded queue, retries with back-off, and a count of what was given up.

Which failures are worth another try, and after how long, is what the protocol says (opentelemetry.io/docs/specs/otlp):
429, 502, 503 and 504 with Retry-After; of gRPC the transient codes, RESOURCE_EXHAUSTED only with a RetryInfo.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from proctally.exporters.otlp import request
from proctally.exporters.sink import BackOff, ReceiverRefused, Sink, basic, credentials, one_line, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from proctally.exporters.latest import Latest
    from proctally.exporters.receiver import Answer

GRPC, PROTOBUF, JSON = "grpc", "http/protobuf", "http/json"
GRPC_PORT = 4317
PATH = "v1/metrics"
INTERVAL = 10.0  # seconds between exports, unless OTEL_METRIC_EXPORT_INTERVAL says otherwise
TIMEOUT = 10.0
PATIENCE = 2.0  # seconds for which one that refuses is asked again at the end: the tracker waits not much longer
RETRIED_STATUS = (429, 502, 503, 504)
RETRIED_CODES = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
LONGEST_RETRY = 300.0  # seconds
EXPORT = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


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
    secrets: tuple[str, ...] = ()


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
        user, password = unquote(parts.username), unquote(parts.password or "")
        found.headers["Authorization"] = basic(user, password)
        found.secrets = user, password
    found.secrets += credentials(found.headers)
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


class Receipt(NamedTuple):
    """What a receiver that accepted a request says: the points it left out, why, and what is wrong with the answer."""

    rejected: int
    why: str
    problem: str | None = None


class OverHttp:
    """One receiver over HTTP, protobuf or JSON."""

    def __init__(self, settings: Settings) -> None:
        from proctally.exporters.receiver import Receiver

        self._settings = settings
        context = None
        if settings.secure:
            import ssl

            context = ssl.create_default_context(cafile=settings.certificate)
            if settings.client_certificate is not None:
                context.load_cert_chain(settings.client_certificate, settings.client_key)
        self._receiver = Receiver(context)

    def send(self, body: bytes, timeout: float) -> Receipt:
        """Have it accept a request. Raises ReceiverRefused."""
        import gzip

        as_json = self._settings.protocol == JSON
        if as_json:
            body = _as_json(body)
        headers = {"Content-Type": "application/json" if as_json else "application/x-protobuf"}
        if self._settings.gzip:
            body = gzip.compress(body, 5)
            headers["Content-Encoding"] = "gzip"
        headers |= self._settings.headers
        answer = self._receiver.ask("POST", self._settings.endpoint, headers, body, timeout)
        if not answer.is_success:
            raise answer.refusal(_explained(answer), final=answer.status not in RETRIED_STATUS)
        return Receipt(*_rejected(answer.body, as_json="json" in answer.kind), answer.problem)

    def close(self) -> None:
        """Nothing stays open."""


def _as_json(body: bytes) -> bytes:
    from google.protobuf.json_format import MessageToJson

    message = ExportMetricsServiceRequest.FromString(body)
    return MessageToJson(message, use_integers_for_enums=True, indent=None).encode()


def _explained(answer: Answer) -> str | None:
    """Return what a google.rpc.Status says of a refusal; None for another type of body."""
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

    if "protobuf" not in answer.kind:
        return None
    try:
        return str(Status.FromString(answer.body).message)
    except DecodeError:
        return ""


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

    def send(self, body: bytes, timeout: float) -> Receipt:
        """Have it accept a request. Raises ReceiverRefused."""
        import grpc

        metadata = [(key.lower(), value) for key, value in self._settings.headers.items()]
        try:
            data = self._call(body, timeout=timeout, metadata=metadata, compression=self._compression)
        except grpc.RpcError as error:
            raise _refusal(error) from None
        except (TypeError, ValueError) as error:
            raise ReceiverRefused(f"this cannot be sent by gRPC: {error}", final=True) from None
        return Receipt(*_rejected(data, as_json=False))

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
    after = retry_info(error.trailing_metadata() or ())
    passes = code in RETRIED_CODES or (code == "RESOURCE_EXHAUSTED" and after is not None)
    return ReceiverRefused(one_line(f"gRPC status {code}", error.details() or ""), after, final=not passes)


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
                    return min(max(0.0, delay), LONGEST_RETRY)
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
        super().__init__(latest, settings.secrets)
        self._settings = settings
        self._limits = limits or OtlpLimits()
        self._back_off = BackOff(*self._limits.pauses)
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._version = -1  # of the newest state in the queue
        self._sender: OverHttp | OverGrpc | None = None

    def _run(self) -> None:
        try:
            self._sender = (OverGrpc if self._settings.protocol == GRPC else OverHttp)(self._settings)
        except (OSError, ValueError) as error:  # a certificate that cannot be read
            self._failed(reason(error))
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
        try:
            body, points = request(self.latest, self._settings.resource)
        except Exception as error:  # of values that no tracker writes: the next state might be another
            self._failed(f"a message cannot be made ({type(error).__name__}: {error})")
            return
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
            receipt = self._sender.send(body, timeout)
        except Exception as error:  # an answer can break any layer: the next one might not
            self._failed(reason(error))
            if getattr(error, "final", False):
                self._give_up()
                return None
            return self._back_off.pause(getattr(error, "after", None))
        self._back_off.tries = 0
        self._queue.popleft()
        self._bytes -= len(body)
        self.delivery.done += 1
        self._note(receipt.problem)
        if receipt.rejected > 0:
            self.delivery.dropped += min(receipt.rejected, points)
            self._note(one_line("the receiver refused some points", receipt.why))
        return None

    def _flush(self) -> None:
        """The end: what waits, and the last state, as far as there is time; what is left then is given up.

        The last state is worth more than what waits before it: that gets half of the time. A receiver that was gone
        already is tried once more, one that refuses for PATIENCE: the end of a job is not held up for an outage.
        """
        was_gone = self._back_off.tries > 0
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
