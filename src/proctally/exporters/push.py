"""Ways out that are written to and not asked: the file of node_exporter's textfile collector, and a Pushgateway."""

from __future__ import annotations

import os
import threading
import time
from urllib.parse import unquote, urlsplit, urlunsplit

from prometheus_client.exposition import (
    basic_auth_handler,
    default_handler,
    delete_from_gateway,
    push_to_gateway,
)

from proctally.exporters.latest import Delivery
from proctally.exporters.prometheus import TEXT
from proctally.record.location import replace_file
from proctally.text.escape import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.exporters.latest import Latest
    from proctally.exporters.prometheus import Exposition

FILE_SECONDS = 1.0  # a file is written no more often than that ...
PUSH_SECONDS = 10.0  # ... and a Pushgateway told; at first, and at the end, at once
TIMEOUT = 5.0
AGAIN_SECONDS = 0.3


class Sink:
    """One way out, in a thread of its own: what it waits for keeps nobody else waiting.

    `write` is what it does with the state, at most every so many `seconds`; `last` what it does at the end, in at most
    so many `tries`. Both raise OSError or ValueError.
    """

    name = ""
    seconds = 1.0
    tries = 1

    def __init__(self, latest: Latest) -> None:
        self.latest = latest
        self.delivery = latest.deliveries[self.name] = Delivery()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def sampled(self) -> None:
        """There is a new sample."""
        self._wake.set()

    def end(self, deadline: float) -> None:
        """There are no more lines: say the last, until then (monotonic)."""
        self._deadline = deadline
        self._ending.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for its end; whether it came."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _guarded(self) -> None:
        """A fault of our own ends this way out, and is told."""
        try:
            self._run()
        except Exception as error:
            self.delivery.failed_by(f"a fault of its own ({type(error).__name__}: {error})")

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._ending.is_set():
                break
            if self._tried(self.write):
                self.delivery.succeeded()
            self._ending.wait(self.seconds)
        for left in reversed(range(self.tries)):
            if self._tried(self.last) or not left or time.monotonic() + AGAIN_SECONDS > self._deadline:
                return
            time.sleep(AGAIN_SECONDS)

    def _tried(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except (OSError, ValueError) as error:
            self.delivery.failed_by(str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error))
            return False
        self.delivery.trouble = None
        return True

    def write(self) -> None:
        """Say the newest state."""
        raise NotImplementedError

    def last(self) -> None:
        """Say the last."""
        self.write()


class Textfile(Sink):
    """The text in a file that is replaced as a whole: who reads it finds the old one or the new one.

    It stays behind when the run has ended, with its last state: a job that is shorter than the interval of scrapes is
    seen all the same. The format has no timestamps, which node_exporter would refuse; and each series bears the name of
    the run, as node_exporter takes no series twice, from whatever files.
    """

    name = "textfile"
    seconds = FILE_SECONDS

    def __init__(self, exposition: Exposition, path: str) -> None:
        super().__init__(exposition.latest)
        self._exposition = exposition
        self._path = path

    def write(self) -> None:
        """Replace the file."""
        name = self.latest.run.get("name")
        replace_file(self._path, self._exposition.text(TEXT, {} if name is None else {"run": label(name)}))


class Pushgateway(Sink):
    """A Pushgateway, under a group of this run's own: job, instance and run_id.

    The group is deleted at the end, as it would be scraped for ever otherwise; with `keep` it says how the run ended.
    """

    name = "pushgateway"
    seconds = PUSH_SECONDS
    tries = 3

    def __init__(self, exposition: Exposition, url: str, *, keep: bool) -> None:
        super().__init__(exposition.latest)
        self._exposition = exposition
        self._url, self._user, self._password = without_credentials(url)
        self._keep = keep
        self._job: str | None = None
        self._group: dict[str, str] = {}

    def write(self) -> None:
        """Push the newest state; the first time decides under which group."""
        if self._job is None:
            run, host = self.latest.run, self.latest.host or {}
            self._group = {
                "instance": label(host.get("hostname") or os.uname().nodename),
                "run_id": label(run.get("run_id")),
            }
            name = label(run.get("name") or "")
            self._job = name if name.strip(".") else "proctally"  # what is but dots would be taken for folders
        push_to_gateway(
            self._url, self._job, self._exposition.registry, self._group, timeout=TIMEOUT, handler=self._request
        )

    def last(self) -> None:
        """Delete the group, or push the last state into it."""
        if self._keep:
            self.write()
            self.delivery.succeeded()
        elif self._job is not None:
            delete_from_gateway(self._url, self._job, self._group, timeout=TIMEOUT, handler=self._request)

    def _request(
        self, url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        if self._user is None:
            return default_handler(url, method, timeout, headers, data)
        return basic_auth_handler(url, method, timeout, headers, data, self._user, self._password)


def without_credentials(url: str) -> tuple[str, str | None, str | None]:
    """A URL without the user and the password that it names, and these."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, None, None
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))
    return bare, unquote(parts.username), unquote(parts.password or "")
