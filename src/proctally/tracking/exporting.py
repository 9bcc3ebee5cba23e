"""What leaves this machine while it is tracked, on the tracker's side: a process of its own is told every line.

What is asked for is checked before anything starts (`Outlets`): an address that cannot be had and a package that is
missing are said in one line. From then on nothing waits for the exporter: what it does not take in time is dropped,
counted, and told.
"""

from __future__ import annotations

import _socket
import os
import sys

from proctally.kernel.aside import Aside
from proctally.kernel.machine import NANOSECONDS
from proctally.options import UsageError
from proctally.record import expand, json_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from proctally.kernel.machine import Machine
    from proctally.options import Options

KEPT_LINES = 1024
KEPT_BYTES = 2 << 20
SEND_BYTES = 1 << 20  # asked for as room in the socket; the kernel gives what net.core.wmem_max allows
FINISH_NS = 3 * NANOSECONDS  # so long is waited at the end for what is pushed last
REPORT_BYTES = 1 << 16
BACKLOG = 32
SKIPPED = ("process",)  # of processes it is told all that it tells with the commands
ESSENTIAL = ("config", "run", "host", "summary")  # few, and never dropped
CODE = "import sys;sys.path[:]=sys.argv[2:];from proctally.exporter import main;main()"
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
        self.listening: _socket.socket | None = None
        self.address: str | None = None
        self._textfile = None if options.textfile is None else _textfile(options.textfile, values, environment)
        self._pushgateway = options.pushgateway
        self._keep = options.pushgateway_keep
        self._otlp = None if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" else options.otlp
        for name, given in (("textfile", options.textfile), ("pushgateway", options.pushgateway)):
            if given is not None:
                _demand("prometheus", f"--{name}")
        if options.pushgateway is not None:
            _check_url("--pushgateway", options.pushgateway, ("http", "https"))
            if any(sign in options.pushgateway for sign in "?#"):  # a path follows it
                raise UsageError(f"--pushgateway: {_masked(options.pushgateway)!r} has more than a host and a path")
        if self._otlp is not None:
            _demand("otlp", "--otlp")
            _check_protocol(environment)
            endpoint = _endpoint(self._otlp, environment)
            _check_url("--otlp", endpoint, ("http", "https", "grpc", "grpcs"))
            _check_files(environment)
            if endpoint.startswith("grpc"):
                self._otlp = endpoint
        if options.serve is not None:
            _demand("prometheus", "--serve")
            self.listening, self.address = listen(options.serve)

    def config(self) -> dict[str, Any]:
        """What the exporter is told first."""
        return {
            "type": "config",
            "serve": self.address is not None,
            "textfile": self._textfile,
            "pushgateway": self._pushgateway,
            "keep": self._keep,
            "otlp": self._otlp,
        }

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
    from importlib.util import find_spec

    for package in EXTRAS[extra]:
        try:
            found = find_spec(package)
        except ModuleNotFoundError:
            found = None
        install = f"pip install 'proctally[{extra}]'"
        if found is None:
            raise UsageError(f"{flag} needs the package {package}: {install}")
        version, oldest = _version(package, found.origin), OLDEST.get(package, ())
        if version and version < oldest:
            wanted, there = (".".join(map(str, numbers)) for numbers in (oldest, version))
            raise UsageError(f"{flag} needs {package} {wanted} or newer, and {there} is installed: {install}")


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
    scheme, colon, rest = url.partition("://")
    place = rest.partition("/")[0].rpartition("@")[2]
    port = place.rpartition("]")[2].partition(":")[2]
    host = place.removesuffix(f":{port}") if port else place
    wrong = any(sign.isspace() or not sign.isprintable() for sign in rest)
    if not colon or scheme.lower() not in schemes or not host or not (_is_port(port) or not port) or wrong:
        raise UsageError(f"{flag}: {_masked(url)!r} is not a URL such as {schemes[0]}://host:port")


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
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else url


def _textfile(path: str, values: dict[str, str], environment: dict[str, str]) -> str:
    try:
        path = os.path.abspath(expand(path, values, environment))
    except ValueError as error:
        raise UsageError(f"--textfile: {error}") from None
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise UsageError(f"--textfile: {path} is a directory; give a file in it, such as {path}/proctally.prom")
    if os.path.exists(path) and not os.path.isfile(path):  # root would replace /dev/null
        raise UsageError(f"--textfile: {path} is not an ordinary file")
    if not os.path.isdir(folder):
        raise UsageError(f"--textfile: there is no directory {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--textfile: no file can be made in {folder}")
    return path


def listen(where: str) -> tuple[_socket.socket, str]:
    """A listening socket at HOST:PORT, [HOST]:PORT or PORT, and its address. Raises UsageError.

    Without a host it is the loopback. A name other than localhost is not resolved: that might take long.
    """
    host, port = _host_and_port(where)
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    try:
        _socket.inet_pton(family, host)
    except (OSError, ValueError):  # of what is no UTF-8
        raise _no_address(where) from None
    try:
        listening = _socket.socket(family, _socket.SOCK_STREAM)
    except OSError as error:  # a kernel without IPv6
        raise UsageError(f"cannot listen at {where}: {error.strerror}") from None
    try:
        listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            listening.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        listening.bind((host.encode(), port))  # as text it would load the codec for names of hosts: 15 ms
        listening.listen(BACKLOG)
        port = listening.getsockname()[1]
    except OSError as error:
        listening.close()
        raise UsageError(f"cannot listen at {where}: {error.strerror}") from None
    return listening, f"[{host}]:{port}" if family == _socket.AF_INET6 else f"{host}:{port}"


def _host_and_port(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not _is_port(port):
        raise _no_address(where)
    return {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host), int(port)


def _no_address(where: str) -> UsageError:
    return UsageError(f"{where!r} is not an address to listen at, such as 127.0.0.1:9111 or [::1]:9111")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 1 << 16


class Exports:
    """The exporter, from its start until it is left: told lines, never waited for but in `finish`.

    `started`: told its pid, which is none of the tree. `gone`: whether it ended, or never began, before it was left.
    `trouble`: why it was told nothing more.
    """

    def __init__(
        self,
        machine: Machine,
        environment: dict[str, str],
        outlets: Outlets,
        *,
        started: Callable[[int], object] | None = None,
        kept_lines: int = KEPT_LINES,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._machine = machine
        self._outlets = outlets
        self._kept: list[tuple[bytes, bool]] = []  # lines in order, and whether each may be dropped
        self._bytes = 0
        self._written = 0  # of the first kept line
        self._kept_lines = kept_lines
        self._kept_bytes = kept_bytes
        self._untold = 0  # lines that were dropped and of which it does not know yet
        self.dropped = 0
        self.gone = False
        self.trouble: str | None = None
        self.troubles: list[str] = []  # of what it pushed, said by itself at the end
        self._process: Aside | None
        self._socket: _socket.socket | None
        try:
            self._process, self._socket = self._start(environment)
        except (OSError, NotImplementedError) as error:
            self._process = self._socket = None
            self.gone = True
            self.trouble = f"the exporter cannot be started: {getattr(error, 'strerror', None) or error}"
        outlets.close()
        if self._process is not None and started is not None:
            started(self._process.pid)
        self.write(outlets.config())

    def _start(self, environment: dict[str, str]) -> tuple[Aside, _socket.socket]:
        if not sys.executable:
            raise OSError(0, "no interpreter is known")
        listening = self._outlets.listening
        ours, theirs = _socket.socketpair()
        try:
            ours.setblocking(False)
            ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SEND_BYTES)
            null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0)
            process = Aside(
                self._machine,
                [sys.executable, "-I", "-S", "-c", CODE, str(os.getpid()), *map(os.path.abspath, sys.path)],
                environment,
                [
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    null if listening is None else (os.POSIX_SPAWN_DUP2, listening.fileno(), 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_RDWR, 0),
                ],
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return process, ours

    # -- telling it ----------------------------------------------------------------------------------------------

    def write(self, line: dict[str, Any]) -> None:
        """One line. Never waits, and never raises for the exporter's sake."""
        kind = line["type"]
        if self._socket is None or kind in SKIPPED:
            return
        self._flush()
        if not self._kept:
            self._own_up()
        self._keep(line, expendable=kind not in ESSENTIAL)
        self._flush()
        while (len(self._kept) > self._kept_lines or self._bytes > self._kept_bytes) and self._drop_one():
            pass

    def _own_up(self) -> None:
        """Tell of the lines that were dropped."""
        if self._untold:
            self._keep({"type": "dropped", "lines": self._untold}, expendable=False)
            self._untold = 0

    def _keep(self, line: dict[str, Any], *, expendable: bool) -> None:
        data = json_line(line)
        self._kept.append((data, expendable))
        self._bytes += len(data)

    def _drop_one(self) -> bool:
        """Drop the oldest line that may be: what is newer tells more."""
        for place, (data, expendable) in enumerate(self._kept):
            if expendable and not (place == 0 and self._written):
                del self._kept[place]
                self._bytes -= len(data)
                self._untold += 1
                self.dropped += 1
                return True
        return False

    def _flush(self) -> bool:
        """Send what is kept as far as it goes; True when nothing is left."""
        while self._kept and self._socket is not None:
            data = self._kept[0][0]
            try:
                self._written += self._socket.send(data[self._written :], _socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self.gone = True
                self.trouble = "the exporter ended before the run did"
                self._receive()
                self._close_socket()
                self._kept.clear()
                self._bytes = 0
                return True
            if self._written == len(data):
                del self._kept[0]
                self._bytes -= len(data)
                self._written = 0
        return True

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self, limit_ns: int = FINISH_NS) -> None:
        """There are no more lines: have it say the last, and wait for that at most so long; then leave it."""
        if self._socket is not None:
            if not self._outlets.pushes and self._process is not None:
                self._kept.clear()
                self._process.kill()  # it has nothing to say
            self._own_up()
            self._wait(self._machine.monotonic_ns() + limit_ns)
        self._close_socket()
        if self._process is not None:
            self._reap_soon()

    def _wait(self, deadline: int) -> None:
        """Send the rest, and read what it says until it ends."""
        import select

        is_open = True
        while (to := self._socket) is not None:
            if is_open and self._flush():
                is_open = False
                try:
                    to.shutdown(_socket.SHUT_WR)
                except OSError:  # it has ended
                    return
            left = deadline - self._machine.monotonic_ns()
            if left <= 0:
                if self._outlets.pushes:
                    self.trouble = "the exporter did not say the last in time; it may do so later"
                return
            poller = select.poll()
            poller.register(to.fileno(), select.POLLIN | (select.POLLOUT if is_open else 0))
            poller.poll(left / 1e6)
            if self._receive():
                return

    def _receive(self) -> bool:
        """Read what it says of itself; whether it ended."""
        if self._socket is None:
            return True
        data = b""
        ended = False
        try:
            while len(data) < REPORT_BYTES:
                more = self._socket.recv(1 << 16)
                if not more:
                    ended = True
                    break
                data += more
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        if data:
            self._note(data)
        return ended

    def _note(self, data: bytes) -> None:
        import json

        try:
            report = json.loads(data)
            self.troubles += [f"--{sink}: {why}" for sink, why in report["troubles"].items()]
            self.troubles += [f"--{sink}: {count} points were given up" for sink, count in report["dropped"].items()]
            self.troubles += [f"the exporter: {fault}" for fault in report["faults"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.troubles.append("what the exporter said at its end cannot be read")

    def _reap_soon(self) -> None:
        """It closed its socket and ends: reap it, if that takes a moment only."""
        import time

        assert self._process is not None
        for _ in range(10):
            if self._process.reap():
                return
            time.sleep(0.001)

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def reaped(self, pid: int, cpu_ns: int | None = None) -> bool:
        """A child was reaped: whether it was this one. `cpu_ns`: what wait4 said that it had used."""
        return self._process is not None and self._process.reaped(pid, cpu_ns)

    def cpu_ns(self) -> int:
        """The CPU time it used."""
        return 0 if self._process is None else self._process.cpu_ns()

    def warnings(self) -> list[str]:
        """What went wrong, in words."""
        said = [] if self.trouble is None else [self.trouble]
        if self.dropped:
            said.append(f"{self.dropped} lines were dropped, because the exporter did not read them")
        return said + self.troubles

    def close(self) -> None:
        """Leave it."""
        self._close_socket()
