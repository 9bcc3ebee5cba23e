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

from proctally.exporters.latest import Latest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctally.exporters.endpoint import Texts
    from proctally.exporters.push import Sink
    from proctally.record import JsonObject

LINES, LISTENING = 0, 1
LIMIT = 10.0  # seconds that the end may take
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

    def main(self) -> None:
        """From the first line to the last."""
        for line in self._lines():
            kind = line.get("type")
            if kind == "config":
                self._open(line)
                continue
            try:
                self.latest.feed(line)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._broken[:1] = [f"a line of type {kind} cannot be understood: {error!r}"]
                continue
            if kind == "summary" or (kind == "tracker" and self.latest.sample is not None):
                self._sampled()
        self._end()

    def _lines(self) -> Iterator[JsonObject]:
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
            for line in lines:
                yield json.loads(line)

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
        deadline = time.monotonic() + LIMIT
        for sink in self._sinks:
            sink.end(deadline)
        unfinished = [sink for sink in self._sinks if not sink.join(deadline - time.monotonic())]
        troubles = {sink.name: sink.delivery.trouble for sink in self._sinks if sink.delivery.trouble}
        troubles |= {sink.name: "no end of it in time" for sink in unfinished}
        lost = {sink.name: sink.delivery.dropped for sink in self._sinks if sink.delivery.dropped}
        report = {"troubles": troubles, "dropped": lost, "faults": self._broken}
        try:
            os.set_blocking(LINES, False)
            os.write(LINES, json.dumps(report).encode() + b"\n")
        except OSError:
            pass  # nobody waits for it any more


def main() -> None:
    """`sys.argv`: pid of the tracker."""
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
        _say_fault(error)
    os._exit(0)  # whatever a thread still waits for


def _say_fault(error: Exception) -> None:
    report = {"troubles": {}, "dropped": {}, "faults": [f"{type(error).__name__}: {error}"]}
    try:
        os.set_blocking(LINES, False)
        os.write(LINES, json.dumps(report).encode() + b"\n")
    except OSError:
        pass
