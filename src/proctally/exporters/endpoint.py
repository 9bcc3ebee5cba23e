"""What Prometheus scrapes: `/metrics` over HTTP on a socket that somebody else bound.

The text is made once for a state, whoever asks how often: a scrape is answered from memory where it can be.
"""

from __future__ import annotations

import gzip
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn

from prometheus_client.exposition import choose_encoder, gzip_accepted

from proctally.exporters.prometheus import OPENMETRICS, TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.exporters.latest import Latest
    from proctally.exporters.prometheus import Exposition

    Request = socket.socket | tuple[bytes, socket.socket]  # as socketserver has it; of TCP always a socket

CONNECTIONS = 32  # at once
PATIENCE = 20.0  # seconds after which a connection that says nothing is closed
AHEAD_SECONDS = 60.0  # a format that was asked for so lately is made before it is asked for again ...
AHEAD_SHARE = 100  # ... at most one part in so many of the time
VERSION_1 = OPENMETRICS.partition("0")[0]
PAGE = b"""<!doctype html><meta charset="utf-8"><title>proctally</title>
<h1>proctally</h1><p><a href="/metrics">Metrics</a></p>
"""


class Texts:
    """The text of the newest state in both formats, plain and compressed, each made when it is wanted."""

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition
        self._latest: Latest = exposition.latest
        self._lock = threading.Lock()
        self._made: dict[str, tuple[int, bytes]] = {}
        self._zipped: dict[str, tuple[int, bytes]] = {}
        self._asked: dict[str, float] = {}
        self._not_before = 0.0

    def of(self, content_type: str, *, zipped: bool) -> bytes:
        """The text of the newest state."""
        with self._lock:
            self._asked[content_type] = time.monotonic()
            version, text = self._text(content_type)
            if not zipped:
                return text
            made = self._zipped.get(content_type)
            if made is None or made[0] != version:
                made = self._zipped[content_type] = version, gzip.compress(text, 1)
            return made[1]

    def _text(self, content_type: str) -> tuple[int, bytes]:
        version = self._latest.version
        made = self._made.get(content_type)
        if made is None or made[0] != version:
            made = self._made[content_type] = version, self._exposition.text(content_type)
        return made

    def ahead(self) -> None:
        """A sample is complete: make what is probably asked for next, as long as that stays cheap."""
        begun = time.monotonic()
        if begun < self._not_before:
            return
        with self._lock:
            for content_type, asked in self._asked.items():
                if begun - asked < AHEAD_SECONDS:
                    self._text(content_type)
        ended = time.monotonic()
        self._not_before = ended + AHEAD_SHARE * (ended - begun)


class Server(ThreadingMixIn, HTTPServer):
    """Answers on a socket that is bound and listening, a thread for each of a bounded number of connections.

    One more takes the place of the one that has asked for nothing for the longest time: who keeps connections open, or
    asks a letter a second, keeps nobody else out.
    """

    daemon_threads = True

    def __init__(self, listening: socket.socket, texts: Texts) -> None:
        HTTPServer.__init__(self, ("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.texts = texts
        self._lock = threading.Lock()
        self.requests: dict[Request, None] = {}  # in order of their last activity

    def process_request(self, request: Request, client_address: object) -> None:
        """In a thread of its own."""
        with self._lock:
            if len(self.requests) >= CONNECTIONS:
                self._end(next(iter(self.requests)))
            self.requests[request] = None
        super().process_request(request, client_address)

    def asked(self, request: Request) -> None:
        """Something was asked for on this connection."""
        with self._lock:
            if request in self.requests:
                del self.requests[request]
                self.requests[request] = None

    def _end(self, request: Request) -> None:
        """Have a connection end: its thread finds it closed."""
        del self.requests[request]
        assert isinstance(request, socket.socket)
        try:
            request.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def shutdown_request(self, request: Request) -> None:
        """The end of a connection, also of one for which no thread could be had."""
        with self._lock:
            self.requests.pop(request, None)
            super().shutdown_request(request)

    def handle_error(self, request: Request, client_address: object) -> None:
        """A client that goes away in the middle is nobody's trouble but its own."""


class Handler(BaseHTTPRequestHandler):
    """`/metrics`, and a page that leads there."""

    protocol_version = "HTTP/1.1"
    server_version = "proctally"
    timeout = PATIENCE
    server: Server

    def do_GET(self) -> None:
        """The metrics, the page, or 404."""
        self.server.asked(self.connection)
        path = self.path.partition("?")[0]
        if path == "/metrics":
            content_type = negotiated(self.headers.get("Accept") or "")
            zipped = gzip_accepted(self.headers.get("Accept-Encoding") or "")
            try:
                text = self.server.texts.of(content_type, zipped=zipped)
            except Exception as error:  # a fault of our own: Prometheus shows what is said
                fault = f"a fault of its own ({type(error).__name__}: {error})\n".encode("utf-8", "backslashreplace")
                self._answer(500, "text/plain; charset=utf-8", fault)
                return
            self._answer(200, content_type, text, zipped=zipped)
        elif path == "/":
            self._answer(200, "text/html; charset=utf-8", PAGE)
        else:
            self._answer(404, "text/plain; charset=utf-8", b"there is /metrics\n")

    do_HEAD = do_GET  # noqa: N815

    def version_string(self) -> str:
        """What is said of the server: no versions."""
        return self.server_version

    def _answer(self, status: int, content_type: str, body: bytes, *, zipped: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Vary", "Accept, Accept-Encoding")
        if zipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: there is nobody to read it."""


def negotiated(accept: str) -> str:
    """Return OPENMETRICS for a client that asks for its version 1, else TEXT."""
    try:
        _, content_type = choose_encoder(accept)
    except (ValueError, TypeError):  # the version is not one
        return TEXT
    return OPENMETRICS if content_type.startswith(VERSION_1) else TEXT


def serve(listening: socket.socket, texts: Texts) -> Server:
    """Answer from now on, in threads of their own."""
    server = Server(listening, texts)
    threading.Thread(target=server.serve_forever, args=(3600.0,), daemon=True).start()
    return server
