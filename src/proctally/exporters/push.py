"""Sinks that take the text of Prometheus: the file of node_exporter's textfile collector, and a Pushgateway."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit, urlunsplit

from prometheus_client.exposition import delete_from_gateway, push_to_gateway

from proctally.exporters.prometheus import TEXT
from proctally.exporters.receiver import Receiver
from proctally.exporters.sink import Sink, basic, credentials
from proctally.record.location import replace_file
from proctally.text.escape import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.exporters.prometheus import Exposition

FILE_SECONDS = 1.0  # minimum between two writes of the file ...
PUSH_SECONDS = 10.0  # ... and two pushes
TIMEOUT = 5.0


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
        self._url, user, password = without_credentials(url)
        self._headers = {} if user is None else {"Authorization": basic(user, password or "")}
        super().__init__(exposition.latest, (user or "", password or "", *credentials(self._headers)))
        self._exposition = exposition
        self._keep = keep
        self._receiver = Receiver()
        self._job: str | None = None
        self._group: dict[str, str] = {}
        self._problem: str | None = None

    def write(self) -> str | None:
        """Push the newest state; the first time decides under which group."""
        if self._job is None:
            run, host = self.latest.run, self.latest.host or {}
            self._group = {
                "instance": label(host.get("hostname") or os.uname().nodename),
                "run_id": label(run.get("run_id")),
            }
            name = label(run.get("name") or "")
            self._job = name if name.strip(".") else "proctally"  # what is but dots would be taken for folders
        registry = self._exposition.registry
        push_to_gateway(self._url, self._job, registry, self._group, timeout=TIMEOUT, handler=self._request)
        return self._problem

    def last(self) -> str | None:
        """Delete the group, or push the last state into it."""
        if self._keep:
            problem = self.write()
            self.delivery.done += 1
            return problem
        if self._job is not None:
            delete_from_gateway(self._url, self._job, self._group, timeout=TIMEOUT, handler=self._request)
            return self._problem
        return None

    def _request(
        self, url: str, method: str, timeout: float, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        def ask() -> None:
            answer = self._receiver.ask(method, url, self._headers | dict(headers), data, self.time_left(timeout))
            if not answer.is_success:
                raise answer.refusal()
            self._problem = answer.problem

        return ask


def without_credentials(url: str) -> tuple[str, str | None, str | None]:
    """A URL without the user and the password that it names, and these."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, None, None
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))
    return bare, unquote(parts.username), unquote(parts.password or "")
