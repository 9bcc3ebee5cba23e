"""The HTTP endpoint, asked by hand."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
from daemons import answers, get  # noqa: E402
from proctally.exporters.endpoint import CONNECTIONS, Handler, Server, Texts  # noqa: E402
from proctally.exporters.latest import Latest  # noqa: E402
from proctally.exporters.prometheus import Exposition  # noqa: E402
from tracked import PATIENCE, until  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # several waits for a server, of at most 20 s each


# -- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint() -> Iterator[tuple[Server, str]]:
    """A server in this process, and its address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = Server(listening, Texts(Exposition(Latest())))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.shutdown()
        server.server_close()


def connected(url: str, number: int) -> list[socket.socket]:
    parts = urllib.parse.urlsplit(url)
    return [socket.create_connection((parts.hostname, parts.port)) for _ in range(number)]


def test_slow_clients_keep_nobody_else_out(endpoint: tuple[Server, str]) -> None:
    server, url = endpoint
    half = connected(url, 1000)
    try:
        for each in half[-CONNECTIONS:]:
            each.sendall(b"GET /metrics HTT")
        begun = time.monotonic()
        assert "proctally_run_state" in get(f"{url}/metrics")
        assert time.monotonic() - begun < 2
        assert len(server.requests) <= CONNECTIONS
        assert _is_closed(half[0])
    finally:
        for each in half:
            each.close()
    until(lambda: not server.requests, "they are given up")


def test_who_asks_stays_connected(endpoint: tuple[Server, str]) -> None:
    server, url = endpoint
    asking = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
    try:
        asking.connect()
        idle = connected(url, CONNECTIONS - 1)
        until(lambda: len(server.requests) == CONNECTIONS, "all places are taken")
        first = asking.sock
        asking.request("GET", "/metrics")
        assert asking.getresponse().read()
        idle += connected(url, CONNECTIONS - 1)
        until(lambda: all(map(_is_closed, idle[: CONNECTIONS - 1])), "the idle ones are closed")
        asking.request("GET", "/metrics")
        assert asking.getresponse().read()
        assert asking.sock is first
    finally:
        for each in (asking, *idle):
            each.close()


def test_a_thread_that_cannot_be_had_costs_one_connection(
    endpoint: tuple[Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = endpoint

    def without(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", without)
        for _ in range(CONNECTIONS + 1):
            assert not answers(f"{url}/metrics")
    assert not server.requests
    assert answers(f"{url}/metrics")


def test_connection_that_says_nothing_is_closed(endpoint: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < Handler.timeout < 60
    monkeypatch.setattr(Handler, "timeout", 0.05)
    [idle] = connected(endpoint[1], 1)
    with idle:
        until(lambda: _is_closed(idle), "it is given up")


@pytest.mark.parametrize(
    "said",
    [
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        bytes(70_000),
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=x.1\r\nConnection: close\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n",
        b"GET http://[/metrics HTTP/1.1\r\nConnection: close\r\n\r\n",
    ],
    ids=["url", "headers", "tls", "nul", "version", "short", "accept", "length", "address"],
)
def test_endpoint_request_is_hostile_next_scrape_is_answered(
    endpoint: tuple[Server, str], monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(Handler, "timeout", 0.3)  # of what waits for the end of a line
    server, url = endpoint
    [connection] = connected(url, 1)
    with connection:
        connection.settimeout(PATIENCE)
        try:
            connection.sendall(said)
            while connection.recv(1 << 16):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert "proctally_run_state" in get(f"{url}/metrics")
    until(lambda: not server.requests, "none is left open")


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


# -- Prometheus ------------------------------------------------------------------------------------------------------
