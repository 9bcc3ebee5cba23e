"""A receiver of OTLP metrics on loopback, over gRPC and over HTTP, that answers as it is told to."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import Parse
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

SERVICE = "opentelemetry.proto.collector.metrics.v1.MetricsService"


class Taken:
    """What came in, in order. `answers`: what is said to the next ones, in order; then everything is taken.

    An answer is the status of HTTP or the name of a code of gRPC, with the seconds after which to try again, or the
    seconds for which nothing is said at all.
    """

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.times: list[float] = []  # when each came, also those that were refused
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[tuple[Any, float | None]] = []
        self.slow = 0.0
        self.rejected = 0
        self.details = "told so"
        self._lock = threading.Lock()

    def next(self, request: ExportMetricsServiceRequest, headers: dict[str, str]) -> tuple[Any, float | None] | None:
        """Note it; how to refuse it, None to take it."""
        with self._lock:
            self.times.append(time.monotonic())
            self.headers.append(headers)
            refusal = self.answers.pop(0) if self.answers else None
            slow = self.slow
        if slow:
            time.sleep(slow)
        if refusal is None:
            with self._lock:
                self.requests.append(request)
        return refusal

    def answer(self) -> ExportMetricsServiceResponse:
        answer = ExportMetricsServiceResponse()
        answer.partial_success.rejected_data_points = self.rejected
        return answer

    def metrics(self) -> dict[str, list[Any]]:
        """Of the newest: by name, every metric of that name."""
        found: dict[str, list[Any]] = {}
        for block in self.requests[-1].resource_metrics:
            for scope in block.scope_metrics:
                for metric in scope.metrics:
                    found.setdefault(metric.name, []).append(metric)
        return found


def points(metric: Any) -> dict[tuple[str, ...], float]:
    """Values by the values of the attributes."""
    found = metric.sum.data_points or metric.gauge.data_points
    return {
        tuple(pair.value.string_value for pair in point.attributes): (
            point.as_double if point.WhichOneof("value") == "as_double" else point.as_int
        )
        for point in found
    }


def attributes(resource: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in resource.attributes}


@contextmanager
def over_http(taken: Taken, port: int = 0, tls: tuple[str, str] | None = None) -> Iterator[str]:
    """A receiver; its URL. `tls`: files of its key and certificate, which a client is to have as well."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            kind = self.headers["Content-Type"]
            if kind == "application/json":
                request = Parse(body, ExportMetricsServiceRequest())
            else:
                assert kind == "application/x-protobuf"
                request = ExportMetricsServiceRequest.FromString(body)
            taken.paths.append(self.path)
            refusal = taken.next(request, {key.lower(): value for key, value in self.headers.items()})
            status, after = refusal or (200, None)
            data = taken.answer().SerializeToString() if status == 200 else b""
            self.send_response(status)
            if after is not None:
                self.send_header("Retry-After", str(after))
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls[1], tls[0])
        context.load_verify_locations(tls[1])
        context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def over_grpc(taken: Taken, port: int = 0, tls: tuple[str, str] | None = None) -> Iterator[str]:
    """A receiver; its URL. `tls` as above."""

    def export(request: ExportMetricsServiceRequest, context: Any) -> ExportMetricsServiceResponse:
        headers = dict(context.invocation_metadata())
        refusal = taken.next(request, headers)
        if refusal is not None:
            code, after = refusal
            number = getattr(grpc.StatusCode, code)
            if after is not None:
                info = RetryInfo()
                info.retry_delay.FromNanoseconds(int(after * 1e9))
                status = Status(code=number.value[0], message="told so")
                status.details.add().Pack(info)
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(number, taken.details)
        return taken.answer()

    handler = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=ExportMetricsServiceRequest.FromString,
        response_serializer=ExportMetricsServiceResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
    if tls is None:
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        key, certificate = (Path(path).read_bytes() for path in tls)
        credentials = grpc.ssl_server_credentials([(key, certificate)], certificate, require_client_auth=True)
        bound = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    assert bound
    server.start()
    try:
        yield f"{'grpc' if tls is None else 'grpcs'}://127.0.0.1:{bound}"
    finally:
        server.stop(0).wait()


@contextmanager
def odd(taken: Taken, *answers: bytes, endless: bytes = b"") -> Iterator[str]:
    """What speaks HTTP as no receiver does: each of these to one request, the last one to all others; its URL.

    `endless`: what follows the answer, again and again, until the other side has enough.
    """
    listening = socket.create_server(("127.0.0.1", 0))

    def answer_all() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            taken.times.append(time.monotonic())
            with connection:
                try:
                    head, _, body = connection.recv(1 << 16).partition(b"\r\n\r\n")
                    taken.paths.append(head.split(b" ")[0].decode())
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    while len(body) < length:
                        body += connection.recv(1 << 16)
                    connection.sendall(answers[min(len(taken.times), len(answers)) - 1])
                    while endless:
                        connection.sendall(endless)
                except (OSError, ValueError, IndexError):
                    pass

    threading.Thread(target=answer_all, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


Receiver = Callable[..., Any]
RECEIVERS: dict[str, Receiver] = {"http": over_http, "grpc": over_grpc}
