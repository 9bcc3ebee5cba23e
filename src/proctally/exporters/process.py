"""The process beside the tracker that serves and pushes what the tracker says, so that nothing of it can hold that up.

It reads lines of JSON from its stdin: first what it is to do (`type` config), then those of the record. At their end
it says the last, within a limit, writes one line about what went wrong, and ends. The socket of `--serve` is its
stdout. `tracking.exporting` starts it; it knows nothing else of the tracker.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from math import inf
from types import ModuleType

from proctally.exporters.latest import Latest
from proctally.record.reader import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctally.exporters.endpoint import Texts
    from proctally.exporters.sink import Sink
    from proctally.record import JsonObject

LINES, LISTENING = 0, 1
LIMIT = 10.0  # maximum seconds of the end
REPORT_SECONDS = 2.2  # from the end of the lines to the report: the tracker waits not much longer
REPORT_MARGIN = 0.4  # seconds in which the report reaches the tracker
LATE = "no answer in time; the last state might be missing there"
LOOK_MS = 5000  # how often it is looked whether the tracker is still there
MOST_BYTES = 64 << 20  # of one line


class Exporter:
    """The state, and the ways out of it."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self.latest = Latest()
        self._sinks: list[Sink] = []
        self._texts: Texts | None = None
        self._broken: list[str] = []
        self._awaited = inf  # until when (monotonic) the tracker waits for the report

    def main(self) -> None:
        """From the first line to the last."""
        for data in self._lines():
            kind = None
            try:
                line = decode(data)
                kind = line["type"]
                self._take(kind, line)
            except Exception as error:  # one line costs itself
                self._broken[:1] = [f"a line of type {kind} cannot be understood: {error!r}"]
        self._end()

    def _take(self, kind: str, line: JsonObject) -> None:
        if kind == "config":
            self._open(line)
        elif kind == "end":
            self._awaited = line["until"]
        else:
            self.latest.feed(line)
            if kind == "summary" or (kind == "tracker" and self.latest.sample is not None):
                self._sampled()

    def _lines(self) -> Iterator[bytes]:
        """What the tracker says, until it says no more, or is gone."""
        poller = select.poll()
        poller.register(LINES, select.POLLIN)
        pending = bytearray()
        while True:
            if not poller.poll(LOOK_MS):
                if os.getppid() != self._parent:
                    return
                continue
            try:
                data = os.read(LINES, 1 << 18)
            except OSError:
                return
            if not data or len(pending) > MOST_BYTES:
                return
            pending += data
            *lines, rest = pending.split(b"\n")
            pending = bytearray(rest)
            yield from map(bytes, lines)

    def _open(self, config: JsonObject) -> None:
        """Begin with what is asked for; what is asked over HTTP first, as others may wait for it."""
        try:
            self._open_sinks(config)
        except (OSError, ValueError, ImportError) as error:  # one that cannot begin costs itself and what is behind it
            self._broken.append(f"{type(error).__name__}: {error}")
        for sink in self._sinks:
            sink.start()

    def _open_sinks(self, config: JsonObject) -> None:
        if config["serve"] or config["textfile"] or config["pushgateway"]:
            from proctally.exporters.prometheus import Exposition

            exposition = Exposition(self.latest)
            if config["serve"]:
                from proctally.exporters.endpoint import Texts, serve

                self._texts = Texts(exposition)
                serve(socket.socket(fileno=LISTENING), self._texts)
            if config["textfile"] or config["pushgateway"]:
                from proctally.exporters.push import Pushgateway, Textfile

                if config["textfile"]:
                    self._sinks.append(Textfile(exposition, config["textfile"]))
                if config["pushgateway"]:
                    self._sinks.append(Pushgateway(exposition, config["pushgateway"], keep=config["keep"]))
        if config["otlp"]:
            from proctally.exporters.otlp_sender import Otlp, settings

            self._sinks.append(Otlp(self.latest, settings(config["otlp"], dict(os.environ))))

    def _sampled(self) -> None:
        """A sample is complete."""
        for sink in self._sinks:
            sink.sampled()
        if self._texts is not None:
            self._texts.ahead()

    def _end(self) -> None:
        """There are no more lines: the last word, and what went wrong."""
        if self.latest.summary is None:
            self.latest.tracker_lost(time.time())
        now = time.monotonic()
        deadline = now + LIMIT
        for sink in self._sinks:
            sink.end(deadline)
        report_at = min(now + REPORT_SECONDS, self._awaited - REPORT_MARGIN)
        late = [sink for sink in self._sinks if not sink.join(report_at - time.monotonic())]
        troubles = {sink.name: sink.delivery.trouble for sink in self._sinks if sink.delivery.trouble}
        troubles = {sink.name: LATE for sink in late} | troubles
        lost = {sink.name: sink.delivery.dropped for sink in self._sinks if sink.delivery.dropped}
        _report(troubles, lost, self._broken)
        for sink in late:  # the tracker has left; a slow receiver can still get the last state
            sink.join(deadline - time.monotonic())


def main() -> None:
    """`sys.argv`: pid of the tracker."""
    _leave_out_own_metrics()
    # who ends the tracker's group or service may mean us, too: the last word is said when the lines end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        os.chdir("/")  # keep no file system busy
    except OSError:
        pass
    threading.excepthook = lambda _: None  # stderr is nobody's
    exporter = Exporter(int(sys.argv[1]))
    try:
        exporter.main()
    except Exception as error:
        _report({}, {}, [f"{type(error).__name__}: {error}"])
    os._exit(0)  # whatever a thread still waits for


def _leave_out_own_metrics() -> None:
    """Have prometheus_client not read /proc/stat: a daemon that serves it may never answer."""
    module = ModuleType("prometheus_client.process_collector")
    vars(module).update(PROCESS_COLLECTOR=None, ProcessCollector=None)
    sys.modules[module.__name__] = module


def _report(troubles: dict[str, str], lost: dict[str, int], faults: list[str]) -> None:
    """Send the one line of the end, and that nothing follows it."""
    report = {"troubles": troubles, "dropped": lost, "faults": faults}
    with socket.socket(fileno=LINES) as tracker:
        try:
            tracker.setblocking(False)
            tracker.send(json.dumps(report).encode() + b"\n")
            tracker.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the tracker is gone
        tracker.detach()  # 0 stays taken
