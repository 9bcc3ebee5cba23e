"""What leaves this machine while it is tracked, on the tracker's side: a process of its own is told every line.

What is asked for is checked before anything starts (`Outlets`): an address that cannot be had and a package that is
missing are said in one line. From then on nothing waits for the exporter: what it does not take in time is dropped,
counted, and told.
"""

from __future__ import annotations

import os

from proctally.errors import UsageError, install, require
from proctally.linux import channel
from proctally.linux.child import pause
from proctally.linux.machine import NANOSECONDS
from proctally.linux.spawn import HelperClient, python
from proctally.record.line_queue import FIRST, NEVER, LineQueue
from proctally.record.location import WholeFile, expand, output_problem
from proctally.record.writer import json_line
from proctally.text.secrets import MASK, mask_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.linux.channel import Socket
    from proctally.linux.machine import Machine
    from proctally.record import JsonObject
    from proctally.tracking.config import Options

REMEDY = "check that the receiver answers and accepts them"
REPORT_BYTES = 1 << 16
REAP_NS = 10_000_000
SKIPPED = ("process",)  # of processes it is told all that it tells with the commands
ESSENTIAL = ("config", "run", "host", "summary")  # few, and never dropped
PACKAGES = ("prometheus_client", "google", "grpc", "opentelemetry", "typing_extensions")  # of the helper process
PROTOCOLS = ("grpc", "http/protobuf", "http/json")
EXTRAS = {
    "prometheus": ("prometheus_client",),
    "otlp": ("opentelemetry.proto", "google.protobuf", "google.rpc", "grpc"),
}
OLDEST = {"prometheus_client": (0, 23, 1)}  # distributions have older ones, which lack what is called here


class Outlets:
    """The ways out that are asked for, all of which can be had. Raises UsageError where one cannot.

    `address`: where scrapes are answered, None without. `values`: what may stand in the path of `--textfile`.
    """

    def __init__(self, options: Options, environment: dict[str, str], values: dict[str, str]) -> None:
        self.listening: Socket | None = None
        self.address: str | None = None
        self._textfile = None if options.textfile is None else _textfile(options.textfile, values, environment)
        self._shown = {"textfile": options.textfile}  # of each way out: where to, without what may be secret
        self._pushgateway = options.pushgateway
        self._keep = options.pushgateway_keep
        self._otlp = None if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" else options.otlp
        for name, given in (("textfile", options.textfile), ("pushgateway", options.pushgateway)):
            if given is not None:
                _demand("prometheus", f"--{name}")
        if options.pushgateway is not None:
            _check_url("--pushgateway", options.pushgateway, ("http", "https"))
            self._shown["pushgateway"] = shown = _masked(options.pushgateway)
            if any(sign in options.pushgateway for sign in "?#"):  # a path follows it
                raise UsageError(f"--pushgateway: {shown!r} has more than a host and a path")
        if self._otlp is not None:
            _demand("otlp", "--otlp")
            _check_protocol(environment)
            endpoint = _endpoint(self._otlp, environment)
            _check_url("--otlp", endpoint, ("http", "https", "grpc", "grpcs"))
            _check_files(environment)
            self._shown["otlp"] = _masked(endpoint)
            if endpoint.startswith("grpc"):
                self._otlp = endpoint
        for flag, where in (("--serve", options.serve), ("--listen", options.listen)):
            if where is not None:
                _demand("prometheus", flag)
                self.listening, self.address = listen(where, flag)

    def config(self) -> JsonObject:
        """What the exporter is told first."""
        return {
            "type": "config",
            "serve": self.address is not None,
            "textfile": self._textfile,
            "pushgateway": self._pushgateway,
            "keep": self._keep,
            "otlp": self._otlp,
        }

    def label(self, sink: str) -> str:
        """Return the option of a way out, with the file or the masked URL that it names."""
        where = self._shown.get(sink)
        return f"--{sink} {where}" if where else f"--{sink}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can ask."""
        return self.address is not None and self.address.startswith(("127.", "[::1]"))

    @property
    def pushes(self) -> bool:
        """Whether something is to be said at the end."""
        return any(each is not None for each in (self._textfile, self._pushgateway, self._otlp))

    def close(self) -> None:
        """Give the address back."""
        if self.listening is not None:
            self.listening.close()
            self.listening = None


def _demand(extra: str, flag: str) -> None:
    for package in EXTRAS[extra]:
        origin = require(package, extra, flag)
        version, oldest = _version(package, origin), OLDEST.get(package, ())
        if version and version < oldest:
            wanted, there = (".".join(map(str, numbers)) for numbers in (oldest, version))
            raise UsageError(f"{flag} needs {package} {wanted} or newer, and {there} is installed: {install(extra)}")


def _version(package: str, origin: str | None) -> tuple[int, ...]:
    """The numbers of its version by the name of what lies beside it; empty where that does not tell.

    `importlib.metadata` takes 20 ms to load, and the job waits.
    """
    try:
        names = os.listdir(os.path.dirname(os.path.dirname(origin or "")))
    except OSError:
        return ()
    for name in names:
        if name.startswith(f"{package}-") and name.endswith((".dist-info", ".egg-info")):
            parts = name[len(package) + 1 :].partition("-")[0].split(".")
            digits = [part[: len(part) - len(part.lstrip("0123456789"))] for part in parts]
            return tuple(int(each) for each in digits if each)
    return ()


def _check_url(flag: str, url: str, schemes: tuple[str, ...]) -> None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text has parts of the URL
        is_whole = False
    wrong = any(sign.isspace() or not sign.isprintable() for sign in url)
    if not is_whole or wrong:
        raise UsageError(f"{flag}: {_masked(url)!r} is not a URL such as {schemes[0]}://host:port")
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":  # of a password with one of /?#
        raise UsageError(f"{flag}: {_masked(url)!r} has an @ behind the host; write %40, or %2F %3F %23 in a password")


def _endpoint(otlp: str, environment: dict[str, str]) -> str:
    """The URL. For gRPC `host:port` alone will do, as for others who export; it is TLS unless the environment says."""
    if otlp == "env":
        otlp = _variable(environment, "ENDPOINT")[1]
        if not otlp:
            raise UsageError("--otlp env: neither OTEL_EXPORTER_OTLP_ENDPOINT nor ..._METRICS_ENDPOINT is set")
    if "://" in otlp or _variable(environment, "PROTOCOL")[1] != "grpc":
        return otlp
    is_plain = _variable(environment, "INSECURE")[1].lower() == "true"
    return f"{'grpc' if is_plain else 'grpcs'}://{otlp}"


def _variable(environment: dict[str, str], name: str) -> tuple[str, str]:
    """The variable of OpenTelemetry that counts, and its value: that for metrics, else that for all signals."""
    for each in (f"OTEL_EXPORTER_OTLP_METRICS_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := environment.get(each, "").strip():
            return each, value
    return "", ""


def _check_protocol(environment: dict[str, str]) -> None:
    name, protocol = _variable(environment, "PROTOCOL")
    if protocol not in ("", *PROTOCOLS):
        raise UsageError(f"{name} is {protocol!r}; use {', '.join(PROTOCOLS)}")


def _check_files(environment: dict[str, str]) -> None:
    for each in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
        name, path = _variable(environment, each)
        if path and not os.access(path, os.R_OK):
            raise UsageError(f"{name}: {path} cannot be read")


def _masked(url: str) -> str:
    """Return a URL without user, password and query, also where it has no scheme, or more than one @."""
    head, at, tail = url.rpartition("@")
    for sign in "?#":
        tail = f"{tail.partition(sign)[0]}{sign}{MASK}" if sign in tail else tail
    scheme, colon, _ = head.partition("://")
    return mask_text(f"{f'{scheme}://' if colon and scheme.isalnum() else ''}{MASK}@{tail}" if at else tail)


def _textfile(path: str, values: dict[str, str], environment: dict[str, str]) -> str:
    try:
        file = WholeFile(expand(path, values, environment), force=True)
        if not file.is_replaced:  # root would change the mode of /dev/null
            raise ValueError("is not a regular file")
        return os.path.abspath(file.path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--textfile {path}: {output_problem(error)}") from None


def listen(where: str, flag: str = "--serve") -> tuple[Socket, str]:
    """Return a listening socket at HOST:PORT, [HOST]:PORT or PORT, and its address. Raises UsageError.

    `flag`: the option, for the error. Without a host it is the loopback. A name other than localhost is not resolved:
    that might take long.
    """
    try:
        host, port = _host_and_port(where)
        listening, port = channel.listen(host, port)
    except ValueError:
        raise UsageError(f"{flag} {where}: not an address; use 127.0.0.1:9111 or [::1]:9111") from None
    except OSError as error:
        raise UsageError(f"{flag} {where}: {error.strerror}") from None
    return listening, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_and_port(where: str) -> tuple[str, int]:
    """Return both parts of an address. Raises ValueError."""
    host, _, port = where.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not _is_port(port):
        raise ValueError(where)
    return {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host), int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 1 << 16


class ExporterLimits:
    """Maximum of what waits for the exporter; how long the end of a run waits for the last push.

    The run ends within 3 s of its job: the rest of its end takes some tenths of a second on a busy machine.
    """

    def __init__(self, lines: int = 1024, byte_count: int = 2 << 20, finish_ns: int = 2_600_000_000) -> None:
        self.lines = lines
        self.byte_count = byte_count
        self.finish_ns = finish_ns


class Exports(HelperClient):
    """The exporter, from its start until it is left: told lines, never waited for but in `finish`.

    `gone`: whether it ended, or never began, before it was left. `trouble`: why it was told nothing more.
    """

    def __init__(
        self,
        machine: Machine,
        environment: dict[str, str],
        outlets: Outlets,
        *,
        started: Callable[[int], object] | None = None,
        limits: ExporterLimits | None = None,
    ) -> None:
        super().__init__(machine, environment, started)
        self._outlets = outlets
        self._limits = limits or ExporterLimits()
        self._queue = LineQueue(self._send, self._limits.lines, self._limits.byte_count)
        self._untold = 0  # lines that were dropped and of which it does not know yet
        self.dropped = 0
        self.gone = False
        self.trouble: str | None = None
        self.troubles: list[str] = []  # of what it pushed, said by itself at the end
        listening = outlets.listening
        try:
            command = python("proctally.exporters.process", str(os.getpid()), packages=PACKAGES)
            self.begin(command, stdout=None if listening is None else listening.fileno())
        except (OSError, NotImplementedError) as error:
            self.gone = True
            self.trouble = f"exporter: {getattr(error, 'strerror', None) or error}"
        outlets.close()
        self.write(outlets.config())

    # -- telling it ----------------------------------------------------------------------------------------------

    def write(self, line: JsonObject) -> None:
        """One line. Never waits, and never raises for the exporter's sake."""
        kind = line["type"]
        if self.helper is None or kind in SKIPPED:
            return
        self._flush()
        if not self._queue:
            self._own_up()
        self._queue.add(json_line(line), NEVER if kind in ESSENTIAL else FIRST)
        self._flush()
        dropped = len(self._queue.trim())
        self._untold += dropped
        self.dropped += dropped

    def _own_up(self) -> None:
        """Send the number of lines that were dropped."""
        if self._untold:
            self._queue.add(json_line({"type": "dropped", "lines": self._untold}), NEVER)
            self._untold = 0

    def _send(self, data: bytes) -> int:
        assert self.helper is not None
        return self.helper.send(data)

    def _flush(self) -> bool:
        """Send what is taken at once; return True when nothing is left."""
        if self.helper is not None:
            try:
                self._queue.flush()
            except OSError:
                self.gone = True
                self.trouble = "exporter: ended before the run did"
                self.helper.receive(REPORT_BYTES)
                self._leave()
                self._queue.clear()
        return not self._queue

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self, ended_ns: int | None = None) -> None:
        """There are no more lines: have it say the last, and wait for that a limited time; then leave it.

        `ended_ns`: the end of the run (monotonic), from which the time counts: a summary takes long on a busy machine.
        """
        if self.helper is not None:
            now, wait_ns = self.machine.monotonic_ns(), self._limits.finish_ns
            deadline = max((ended_ns or now) + wait_ns, now + wait_ns // 2)
            if self._outlets.pushes:
                self._own_up()
                self._queue.add(json_line({"type": "end", "until": deadline / NANOSECONDS}), NEVER)
            else:
                self._queue.clear()
                self.helper.kill()  # it has nothing to say
            self._wait(deadline)
            self._leave()
        self._reap_soon()

    def _wait(self, deadline: int) -> None:
        """Send the rest, and receive what it says until it ends."""
        import select

        is_open = True
        while self.helper is not None:
            if is_open and self._flush():
                is_open = False
                if self.helper is None or not self.helper.end_of_lines():
                    return
            left = deadline - self.machine.monotonic_ns()
            if left <= 0:
                if self._outlets.pushes:
                    self.trouble = "exporter: was not done in time; the last state might still be sent"
                return
            poller = select.poll()
            poller.register(self.helper.fileno(), select.POLLIN | (select.POLLOUT if is_open else 0))
            poller.poll(left / 1e6)
            if not self.helper.receive(REPORT_BYTES):
                return

    def _leave(self) -> None:
        """Note what it said of itself, and leave it to its end."""
        helper = self.helper
        self.drop(kill=False)
        if helper is None or not helper.incoming:
            return
        import json

        try:
            report = json.loads(helper.incoming)
            self.troubles += [f"{self._outlets.label(sink)}: {why}" for sink, why in report["troubles"].items()]
            for sink, count in report["dropped"].items():
                self.troubles.append(f"{self._outlets.label(sink)}: {count} points were given up; {REMEDY}")
            self.troubles += [f"exporter: {fault}" for fault in report["faults"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.troubles.append("exporter: its report cannot be read")

    def _reap_soon(self) -> None:
        """It closed its socket and ends: reap it, if that takes a moment only."""
        soon = self.machine.monotonic_ns() + REAP_NS
        while not self.reap() and self.machine.monotonic_ns() < soon:
            pause(0.001)

    def warnings(self) -> list[str]:
        """What went wrong, in words."""
        said = [] if self.trouble is None else [self.trouble]
        if self.dropped:
            said.append(f"exporter: {self.dropped} lines were dropped, because it did not read them")
        return said + self.troubles
