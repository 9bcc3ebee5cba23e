"""Requests to a receiver over HTTP: whatever it answers, one ends in time, in bounded memory, with a reason."""

from __future__ import annotations

import io
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL, RemoteDisconnected
from urllib.error import HTTPError, URLError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from proctally.exporters.sink import REASON_CHARACTERS, ReceiverRefused, one_line, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from email.message import Message
    from socket import socket
    from ssl import SSLContext

BODY_BYTES = 1 << 16  # maximum of a body ...
BODY_SECONDS = 1.0  # ... and of the wait for it: the status is known
ANSWER_BYTES = 1 << 18  # maximum of a whole answer: 100 headers of 64 KiB each are legal
LONGEST_RETRY_AFTER = 300.0


class Answer:
    """What a receiver answered. `problem`: why the body is not whole, None where it is."""

    __slots__ = ("body", "headers", "problem", "status")

    def __init__(self, status: int, headers: Message, body: bytes, problem: str | None) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.problem = None if problem is None else f"HTTP status {status}, but the answer {problem}"

    @property
    def kind(self) -> str:
        """The type of the body."""
        return str(self.headers.get("Content-Type", ""))

    @property
    def is_success(self) -> bool:
        """Whether the request was accepted. A redirect is a refusal: a POST would become a GET."""
        return 200 <= self.status < 300

    def refusal(self, why: str | None = None, *, final: bool = False) -> ReceiverRefused:
        """Return the error with the status. `why`: what the receiver says of it, by default the text of the body."""
        if why is None:
            why = "" if "html" in self.kind else self.body[:REASON_CHARACTERS].decode("utf-8", "replace")
        after = retry_after(self.headers.get("Retry-After"))
        return ReceiverRefused(one_line(f"HTTP status {self.status}", why), after, final=final)


class Receiver:
    """Requests over HTTP or HTTPS, also through the proxies of the environment. `context`: TLS other than usual."""

    def __init__(self, context: SSLContext | None = None) -> None:
        self._opener = build_opener(_Plain(), _Secure(context), _Stay())
        self._opener.addheaders = [("User-Agent", "proctally")]

    def ask(self, method: str, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Answer:
        """Send a request and return the answer, within `timeout` seconds of sending. Raises ReceiverRefused."""
        deadline = time.monotonic() + timeout
        try:
            try:
                answer = self._opener.open(Request(url, body, headers, method=method), timeout=timeout)
            except HTTPError as error:
                answer = error  # has status, headers and body as any other
            with answer:
                return Answer(answer.status, answer.headers, *_body(answer, deadline))
        except URLError as error:
            raise ReceiverRefused(reason(error.reason) if isinstance(error.reason, OSError) else str(error)) from None
        except (OSError, RemoteDisconnected) as error:
            raise ReceiverRefused(reason(error)) from None
        except (InvalidURL, ValueError) as error:
            raise ReceiverRefused(f"this URL cannot be asked: {error}", final=True) from None
        except HTTPException as error:
            raise ReceiverRefused(one_line("the answer is not HTTP", str(error))) from None


class _Bounded(io.RawIOBase):
    """What a socket receives, until a moment and up to a number of bytes: a byte a second is not progress."""

    def __init__(self, connection: socket, deadline: float) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)  # keeps the socket open
        self._deadline = deadline
        self._left = ANSWER_BYTES

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the file that `http.client` reads: to it this is the socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        """Receive what is there."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        if self._left <= 0:
            raise HTTPException(f"more than {ANSWER_BYTES} bytes")
        self._connection.settimeout(seconds)
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        return count

    def close(self) -> None:
        """Close the socket."""
        self._raw.close()
        super().close()


def _bounded(connection: HTTPConnection) -> HTTPConnection:
    """Return a connection whose answers are bounded."""
    deadline = time.monotonic() + (connection.timeout or 0.0)

    def response(received: socket, debuglevel: int = 0, method: str | None = None) -> HTTPResponse:
        return HTTPResponse(_Bounded(received, deadline), debuglevel, method)  # type: ignore[arg-type]

    connection.response_class = response  # type: ignore[assignment]
    return connection


class _Plain(HTTPHandler):
    """HTTP."""

    def http_open(self, req: Request) -> HTTPResponse:
        """Send a request."""
        return self.do_open(lambda host, **more: _bounded(HTTPConnection(host, **more)), req)


class _Secure(HTTPSHandler):
    """HTTPS."""

    def __init__(self, context: SSLContext | None) -> None:
        super().__init__(context=context)
        self.context = context

    def https_open(self, req: Request) -> HTTPResponse:
        """Send a request."""
        return self.do_open(lambda host, **more: _bounded(HTTPSConnection(host, context=self.context, **more)), req)


class _Stay(HTTPRedirectHandler):
    """No redirect is followed, nor its address read: headers would reach an unrelated server."""

    def http_error_302(self, *_: object) -> None:
        """Leave the answer as it is."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]


def _body(answer: HTTPResponse | HTTPError, deadline: float) -> tuple[bytes, str | None]:
    """Return the body as far as it arrives, and what is wrong with it: the status counts all the same."""
    deadline = min(deadline, time.monotonic() + BODY_SECONDS)
    length = answer.length
    data = b""
    try:
        while len(data) <= BODY_BYTES:
            if time.monotonic() > deadline:  # also where what arrives is never a whole chunk
                raise TimeoutError
            more = answer.read1(BODY_BYTES + 1 - len(data))
            if not more:
                return data, None if length is None or len(data) == length else "stopped short"
            data += more
    except TimeoutError:
        return data, "did not end in time"
    except (OSError, ValueError, HTTPException):
        return data, "stopped short"
    return data, f"has more than {BODY_BYTES} bytes"


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date; None where there is none."""
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
