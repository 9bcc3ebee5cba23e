"""Servers on the loopback that answer a push as none should: by table, for HTTP and for gRPC.

Each row has what the server does and what the user is told of it (a regular expression; None: nothing is wrong).
"""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

Act = Callable[[socket.socket], None]
DRIP_SECONDS = 0.4
DAY = 86400
LATE = "no answer in time"


class Row(NamedTuple):
    """What a server does with a connection, what is said of it, and the scheme under which it is asked."""

    act: Act | str
    told: str | None
    scheme: str


def row(act: Act | str, told: str | None, scheme: str = "http") -> Row:
    return Row(act, told, scheme)


# -- what a server does ----------------------------------------------------------------------------------------------


def answer(status: str, *headers: str, body: bytes = b"", length: str | None = None) -> bytes:
    """A whole answer. `length`: what Content-Length says; "" leaves it out."""
    said = str(len(body)) if length is None else length
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain", *headers, *([f"Content-Length: {said}"] if said else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def says(data: bytes, *, then: bytes = b"", drip: bytes = b"") -> Act:
    """Reads the request, sends `data`, then `then` without end, or `drip` byte by byte, again and again."""

    def act(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(data)
        while then:
            connection.sendall(then)
        for place in range(1 << 30 if drip else 0):
            connection.sendall(drip[place % len(drip) : place % len(drip) + 1])
            time.sleep(DRIP_SECONDS)

    return act


def repeats(connection: socket.socket) -> None:
    """Refuses, with all that it was sent."""
    connection.sendall(answer("400 X", body=heard(connection)))


def heard(connection: socket.socket) -> bytes:
    """Read a request to its end; its head."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(1 << 16)
        if not more:
            raise OSError("closed")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0) - len(body)
    while left > 0:
        more = connection.recv(1 << 16)
        if not more:
            raise OSError("closed")
        left -= len(more)
    return head


def is_silent(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def closes(connection: socket.socket) -> None:
    pass


def speaks_first(connection: socket.socket) -> None:
    """Plain text after the first bytes of a handshake."""
    connection.recv(1 << 16)
    connection.sendall(answer("400 X"))


def resets(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


REFUSED, NEVER_ACCEPTED = "refused", "never accepted"
SHORT = r"HTTP status 200, but the answer stopped short"
LONG = r"HTTP status 200, but the answer has more than \d+ bytes"
SLOW = r"HTTP status 200, but the answer did not end in time"

HTTP: dict[str, Row] = {
    "refused": row(REFUSED, "Connection refused"),
    "never accepted": row(NEVER_ACCEPTED, LATE),
    "silent": row(is_silent, LATE),
    "closed": row(closes, "Connection reset|closed connection|Broken pipe"),
    "closed after the request": row(says(b""), "closed connection without response"),
    "reset": row(resets, "Connection reset|Broken pipe"),
    "200": row(says(answer("200 OK")), None),
    "202": row(says(answer("202 Accepted")), None),
    "204": row(says(answer("204 No Content", length="")), None),
    "301 to itself": row(says(answer("301 Moved", "Location: /")), "HTTP status 301"),
    "302 to another host": row(says(answer("302 Found", "Location: http://127.0.0.2:1/x")), "HTTP status 302"),
    "303 to a file": row(says(answer("303 See", "Location: file:///etc/passwd")), "HTTP status 303"),
    "307 to itself": row(says(answer("307 Temporary", "Location: /")), "HTTP status 307"),
    "400": row(says(answer("400 X", body=b"no such\r\nthing")), "HTTP status 400: no such thing"),
    "401": row(says(answer("401 X", "WWW-Authenticate: Basic")), "HTTP status 401"),
    "404": row(says(answer("404 X")), "HTTP status 404"),
    "429 for a day": row(says(answer("429 X", f"Retry-After: {DAY}")), "HTTP status 429"),
    "500": row(says(answer("500 X")), "HTTP status 500"),
    "503": row(says(answer("503 X")), "HTTP status 503"),
    "503 for a nonsense time": row(says(answer("503 X", "Retry-After: soon\xe9")), "HTTP status 503"),
    "garbage": row(says(bytes(range(256)) * 8), "the answer is not HTTP"),
    "another protocol": row(says(b"hello world\r\n"), "the answer is not HTTP"),
    "HTTP/0.9": row(says(b"<html>it works</html>"), "the answer is not HTTP"),
    "status 999999": row(says(answer("999999 X")), "the answer is not HTTP"),
    "status line of 200 kB": row(says(answer("200 " + "x" * 200_000)), "the answer is not HTTP"),
    "5,000 headers": row(says(answer("200 OK", *(f"X-{n}: y" for n in range(5000)))), "the answer is not HTTP"),
    "endless 100": row(says(b"", then=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "the answer is not HTTP"),
    "short body": row(says(answer("200 OK", length="9999", body=b"x")), SHORT),
    "negative length": row(says(answer("200 OK", length="-5", body=b"")), None),
    "missing length": row(says(answer("200 OK", length="", body=b"")), None),
    "broken chunks": row(says(answer("200 OK", "Transfer-Encoding: chunked", length="", body=b"zz\r\n")), SHORT),
    "a byte of the head each 0.4 s": row(says(b"", drip=answer("200 OK")), LATE),
    "a byte of the body each 0.4 s": row(says(answer("200 OK", length="9999"), drip=b"x"), SLOW),
    "a chunk each 0.4 s": row(
        says(answer("200 OK", "Transfer-Encoding: chunked", length=""), drip=b"1\r\nx\r\n"), SLOW
    ),
    "4 GB of body": row(says(answer("200 OK", length=str(4 << 30)), then=b"x" * 65536), LONG),
    "broken JSON": row(says(answer("200 OK", "Content-Type: application/json", body=b"[" * 60000)), None),
    "broken protobuf": row(says(answer("200 OK", "Content-Type: application/x-protobuf", body=b"\xff" * 99)), None),
    "ESC in reason and body": row(says(answer("400 \x1b[31m", body=b"\x1b[31mred")), r"HTTP status 400: \\x1b\[31mred"),
    "all that it was sent": row(repeats, r"HTTP status 400: .* /\S+ HTTP/1.1"),
    "a certificate that it signed itself": row(is_silent, "certificate verify failed", "https"),
    "plain text where TLS was expected": row(speaks_first, "wrong version number", "https"),
}


# -- gRPC ------------------------------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


GRPC_HEADERS = b"\x88\x0f\x10\x10application/grpc"  # :status 200, content-type
BEGUN = frame(4, 0, 0, b"") + frame(1, 4, 1, GRPC_HEADERS)


def speaks(*data: bytes, then: bytes = b"") -> Act:
    """HTTP/2: sends `data` after the preface of the client, and then `then` without end."""

    def act(connection: socket.socket) -> None:
        connection.recv(24)
        connection.sendall(b"".join(data))
        while then:
            connection.sendall(then)
        is_silent(connection)

    return act


class Code(NamedTuple):
    """How a true server of gRPC answers; a name of a code, or the bytes of an answer; None: it never answers."""

    code: str | bytes | None
    details: str = ""
    retry_after: float | None = None


GRPC: dict[str, Row | tuple[Code, str | None]] = {
    "refused": row(REFUSED, "gRPC status UNAVAILABLE", "grpc"),
    "never accepted": row(NEVER_ACCEPTED, LATE, "grpc"),
    "silent": row(is_silent, LATE, "grpc"),
    "closed": row(closes, "gRPC status UNAVAILABLE", "grpc"),
    "reset": row(resets, "gRPC status UNAVAILABLE", "grpc"),
    "garbage": row(says(bytes(range(256)) * 8), LATE + "|gRPC status UNAVAILABLE", "grpc"),
    "HTTP/1.1": row(speaks(answer("503 X")), "gRPC status UNAVAILABLE|" + LATE, "grpc"),
    "a message of 4 GB": row(
        speaks(BEGUN, frame(0, 0, 1, b"\0\xff\xff\xff\xff"), then=frame(0, 0, 1, b"x" * 16384)),
        "gRPC status", "grpc",
    ),
    "a certificate that it signed itself": row(is_silent, "gRPC status UNAVAILABLE", "grpcs"),
    "plain text where TLS was expected": row(speaks_first, "gRPC status UNAVAILABLE", "grpcs"),
    "silent after the call": (Code(None), LATE),
    "UNAVAILABLE": (Code("UNAVAILABLE", "later"), "gRPC status UNAVAILABLE: later"),
    "RESOURCE_EXHAUSTED for a day": (Code("RESOURCE_EXHAUSTED", "", DAY), "gRPC status RESOURCE_EXHAUSTED"),
    "ESC in the details": (Code("INVALID_ARGUMENT", "bad\x1b[31m\nred"), r"INVALID_ARGUMENT: bad\\x1b\[31m red"),
    "broken protobuf": (Code(b"\xff" * 99), None),
}  # fmt: skip

TOLD = {f"http {name}": row.told for name, row in HTTP.items()} | {f"grpc {name}": row[1] for name, row in GRPC.items()}


# -- the servers -----------------------------------------------------------------------------------------------------


@contextmanager
def certified(folder: Path) -> Iterator[ssl.SSLContext | None]:
    """TLS with a certificate that nobody vouches for; None without openssl(1)."""
    key, certificate = folder / "key", folder / "certificate"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-subj", "/CN=127.0.0.1", "-days", "2", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        yield None
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    yield context


@contextmanager
def server(act: Act | str, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that treats each connection like this; its port."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=0 if act == NEVER_ACCEPTED else 64)
    port = listening.getsockname()[1]
    full = []
    if act == REFUSED:
        listening.close()
    elif act == NEVER_ACCEPTED:
        for _ in range(2):  # a backlog of 0 holds one; what comes then has no answer to its SYN
            full.append(socket.socket())
            full[-1].setblocking(False)
            full[-1].connect_ex(("127.0.0.1", port))
    else:
        assert callable(act)
        threading.Thread(target=_accept, args=(listening, act, tls), daemon=True).start()
    try:
        yield port
    finally:
        for each in full:
            each.close()
        if act != REFUSED:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()


def _accept(listening: socket.socket, act: Act, tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_treat, args=(connection, act, tls), daemon=True).start()


def _treat(connection: socket.socket, act: Act, tls: ssl.SSLContext | None) -> None:
    with connection:
        try:
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            act(connection)
        except (OSError, ValueError):
            pass


@contextmanager
def receiver(name: str, tls: ssl.SSLContext | None, user: str) -> Iterator[str]:
    """The receiver of that name in HTTP ("http ...") or GRPC ("grpc ..."); its URL, with a user and a password."""
    protocol, _, kind = name.partition(" ")
    what = HTTP[kind] if protocol == "http" else GRPC[kind]
    if isinstance(what, Row):
        is_secure = what.scheme.endswith("s") and what.act is is_silent
        with server(what.act, tls if is_secure else None) as port:
            yield f"{what.scheme}://{user}@127.0.0.1:{port}"
    else:
        with grpc_server(what[0]) as port:
            yield f"grpc://{user}@127.0.0.1:{port}"


@contextmanager
def grpc_server(said: Code) -> Iterator[int]:
    """A true server of gRPC that answers each call like this; its port."""
    ended = threading.Event()

    def export(_: bytes, context: Any) -> bytes:
        if said.code is None:
            ended.wait(60)
        if not isinstance(said.code, str):
            return said.code or b""
        number = getattr(grpc.StatusCode, said.code)
        if said.retry_after is not None:
            info = RetryInfo()
            info.retry_delay.FromSeconds(int(said.retry_after))
            status = Status(code=number.value[0])
            status.details.add().Pack(info)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(number, said.details)
        return b""

    handler = grpc.unary_unary_rpc_method_handler(export)
    running = grpc.server(ThreadPoolExecutor(4))
    service = "opentelemetry.proto.collector.metrics.v1.MetricsService"
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield port
    finally:
        ended.set()
        running.stop(0).wait()
