"""Which cloud this machine is rented from, by the metadata services of the clouds. Used with `--cloud` only.

Nothing is contacted but by `discover`, and then the addresses of ENDPOINTS alone: no names are resolved, no proxy is
used, no redirect followed, no more than MOST_BYTES read of an answer. Only what is recorded is asked for: user data,
keys and credentials that such a service also has are not, except where one document holds all of it.

The tracker has one thread and reaps every child, so that it does none of this itself: `CloudProcess` starts a process
of its own for it, which prints one line and ends.
"""

from __future__ import annotations

import os
import sys

from proctally.kernel.aside import Aside
from proctally.kernel.machine import NANOSECONDS, Machine
from proctally.kernel.sources import attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable, Iterable, Mapping
    from http.client import HTTPConnection
    from typing import Any

    Facts = dict[str, str | None]

TIMEOUT = 1.0  # seconds for each provider, all its requests together
MOST_BYTES = 256 << 10  # of one answer: larger than any of these documents
MOST_CHARACTERS = 256  # of one value

LINK_LOCAL = ("169.254.169.254", 80)
ENDPOINTS: Mapping[str, tuple[str, int]] = {
    "aws": LINK_LOCAL,
    "gcp": LINK_LOCAL,
    "azure": LINK_LOCAL,
    "hetzner": LINK_LOCAL,
    "upcloud": LINK_LOCAL,
    "vultr": LINK_LOCAL,
    "alibaba": ("100.100.100.200", 80),
    "ovh": LINK_LOCAL,  # last: its service is that of OpenStack, which others imitate
}

# How sys_vendor of the firmware begins: who is asked for the answer first. It decides nothing.
VENDORS = {
    "Amazon EC2": "aws",
    "Google": "gcp",
    "Microsoft Corporation": "azure",
    "Hetzner": "hetzner",
    "UpCloud": "upcloud",
    "Vultr": "vultr",
    "Alibaba Cloud": "alibaba",
    "OpenStack Foundation": "ovh",
}

OVH_RESOLVER = "213.186.33.99"  # the name server that OVHcloud gives its machines


class NotThere(Exception):
    """This is not the cloud that was asked for, or its service does not answer as it should."""


class Service:
    """One metadata service, over one connection."""

    def __init__(self, host: str, port: int, deadline: float) -> None:
        self._host = host
        self._port = port
        self._deadline = deadline
        self._connection: HTTPConnection | None = None
        self._sock: socket.socket | None = None  # the connection lets go of it while an answer is still read
        self._is_closed = False

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        echo: tuple[str, str] | None = None,
    ) -> bytes:
        """The body of an answer of status 200. `echo`: a header that the answer must have.

        Raises NotThere, OSError or HTTPException. What drips in byte by byte is cut off by `close`.
        """
        import time
        from http.client import HTTPConnection

        left = self._deadline - time.monotonic()
        if left <= 0:
            raise NotThere("no time is left")
        if self._connection is None:
            self._connection = HTTPConnection(self._host, self._port)
        connection = self._connection
        connection.timeout = left
        if connection.sock is None:
            connection.connect()
        self._sock = connection.sock
        if self._is_closed:
            raise NotThere("closed")
        self._sock.settimeout(left)
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise NotThere(f"{path}: more than {MOST_BYTES} bytes")
        if answer.status != 200:
            raise NotThere(f"{path}: status {answer.status}")
        if echo is not None and answer.getheader(echo[0], "").strip() != echo[1]:
            raise NotThere(f"{path}: no header {echo[0]}")
        return body

    def document(self, path: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """An answer that is a JSON object."""
        import json

        found = json.loads(self.ask(path, headers))
        if not isinstance(found, dict):
            raise NotThere(f"{path}: no object")
        return found

    def line(self, path: str, headers: Mapping[str, str] | None = None) -> str | None:
        """An answer that is one value; None where the service has no such thing."""
        try:
            return value(self.ask(path, headers).decode("utf-8", "backslashreplace").strip())
        except NotThere:
            return None

    def close(self) -> None:
        """From any thread: what waits for this service gets an error."""
        import socket

        self._is_closed = True
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def value(said: object) -> str | None:
    """A value of a document as one printable line; None for what is none."""
    if isinstance(said, int) and not isinstance(said, bool):
        said = str(said)
    if not isinstance(said, str) or not said or len(said) > MOST_CHARACTERS or not said.isprintable():
        return None
    return said


def facts(
    provider: str, *, region: object, zone: object, instance_type: object, instance_id: object, image_id: object
) -> Facts:
    """What is recorded of any provider. Raises NotThere without an identity: then it is no answer of a cloud."""
    found: Facts = {
        "provider": provider,
        "region": value(region),
        "zone": value(zone),
        "instance_type": value(instance_type),
        "instance_id": value(instance_id),
        "image_id": value(image_id),
    }
    if found["instance_id"] is None:
        raise NotThere("no identity")
    return found


# -- the providers ---------------------------------------------------------------------------------------------------


def aws(service: Service) -> Facts:
    """EC2, IMDSv2 only: a token by PUT, then the identity document.

    The packet with the token has a hop limit, 1 unless the owner of the machine raised it: inside a container with a
    network of its own nothing arrives.
    """
    token = service.ask("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    headers = {"X-aws-ec2-metadata-token": as_header(token)}
    said = service.document("/latest/dynamic/instance-identity/document", headers)
    return facts(
        "aws",
        region=said.get("region"),
        zone=said.get("availabilityZone"),
        instance_type=said.get("instanceType"),
        instance_id=said.get("instanceId"),
        image_id=said.get("imageId"),
    )


def gcp(service: Service) -> Facts:
    """Compute Engine. Each value alone: the whole document holds the metadata of the project, with secrets in it."""
    flavor = ("Metadata-Flavor", "Google")
    headers = dict([flavor])
    base = "/computeMetadata/v1/instance"
    identity = service.ask(f"{base}/id", headers, echo=flavor).decode("ascii", "replace")
    zone = last_part(service.line(f"{base}/zone", headers))
    return facts(
        "gcp",
        region=zone and zone.rpartition("-")[0],
        zone=zone,
        instance_type=last_part(service.line(f"{base}/machine-type", headers)),
        instance_id=identity.strip(),
        image_id=service.line(f"{base}/image", headers),
    )


def azure(service: Service) -> Facts:
    """Azure. A version of the interface from before user data was in this document."""
    said = service.document("/metadata/instance/compute?api-version=2020-06-01&format=json", {"Metadata": "true"})
    if not said.get("azEnvironment"):
        raise NotThere("no azEnvironment")
    profile = said.get("storageProfile")
    image = profile.get("imageReference") if isinstance(profile, dict) else None
    parts = [image.get(name) for name in ("publisher", "offer", "sku", "version")] if isinstance(image, dict) else []
    named = ":".join(map(str, parts)) if parts and all(parts) else None
    return facts(
        "azure",
        region=said.get("location"),
        zone=said.get("zone"),
        instance_type=said.get("vmSize"),
        instance_id=said.get("vmId"),
        image_id=named or (image.get("id") if isinstance(image, dict) else None),
    )


def hetzner(service: Service) -> Facts:
    """Hetzner Cloud. Each value alone: the whole document holds keys and the vendor's scripts.

    It tells neither the type of the server nor its image.
    """
    base = "/hetzner/v1/metadata"
    identity = service.ask(f"{base}/instance-id").decode("ascii", "replace").strip()
    if not identity.isdecimal():
        raise NotThere("the identity is no number")
    return facts(
        "hetzner",
        region=service.line(f"{base}/region"),
        zone=service.line(f"{base}/availability-zone"),
        instance_type=None,
        instance_id=identity,
        image_id=None,
    )


def upcloud(service: Service) -> Facts:
    """UpCloud, where what others call a zone is the region. It tells neither the plan nor the image."""
    said = service.document("/metadata/v1.json")
    if said.get("cloud_name") != "upcloud":
        raise NotThere("another cloud_name")
    region = said.get("region")
    return facts(
        "upcloud",
        region=region,
        zone=None,
        instance_type=None,
        instance_id=said.get("instance_id"),
        image_id=None,
    )


def vultr(service: Service) -> Facts:
    """Vultr. It tells neither the plan nor the image."""
    said = service.document("/v1.json")
    region = said.get("region")
    if not isinstance(region, dict) or "regioncode" not in region:
        raise NotThere("no regioncode")
    return facts(
        "vultr",
        region=region["regioncode"],
        zone=None,
        instance_type=None,
        instance_id=said.get("instance-v2-id") or said.get("instanceid"),
        image_id=None,
    )


def alibaba(service: Service) -> Facts:
    """Alibaba Cloud's ECS: with a token, as its hardened mode demands; without one where it gives none."""
    headers = {}
    try:
        asked = {"X-aliyun-ecs-metadata-token-ttl-seconds": "60"}
        token = service.ask("/latest/api/token", asked, method="PUT")
        headers = {"X-aliyun-ecs-metadata-token": as_header(token)}
    except NotThere:
        pass
    said = service.document("/latest/dynamic/instance-identity/document", headers)
    return facts(
        "alibaba",
        region=said.get("region-id"),
        zone=said.get("zone-id"),
        instance_type=said.get("instance-type"),
        instance_id=said.get("instance-id"),
        image_id=said.get("image-id"),
    )


def ovh(service: Service) -> Facts:
    """OVHcloud, whose service is that of OpenStack: `openstack` where nothing says that it is OVHcloud's.

    OpenStack itself tells neither region nor type here: the first is what some add, the second is in the part that
    imitates EC2.
    """
    said = service.document("/openstack/latest/meta_data.json")
    region = said.get("region_id")
    try:
        network = service.document("/openstack/latest/network_data.json")
    except (NotThere, ValueError):
        network = {}
    servers = network.get("services")
    is_ovh = any(
        isinstance(each, dict) and each.get("type") == "dns" and each.get("address") == OVH_RESOLVER
        for each in (servers if isinstance(servers, list) else ())
    )
    return facts(
        "ovh" if is_ovh else "openstack",
        region=region,
        zone=said.get("availability_zone"),
        instance_type=service.line("/latest/meta-data/instance-type"),
        instance_id=said.get("uuid"),
        image_id=None,
    )


PROBES: Mapping[str, Callable[[Service], Facts]] = {
    "aws": aws,
    "gcp": gcp,
    "azure": azure,
    "hetzner": hetzner,
    "upcloud": upcloud,
    "vultr": vultr,
    "alibaba": alibaba,
    "ovh": ovh,
}


def as_header(token: bytes) -> str:
    """A token that may stand in a header."""
    said = token.decode("ascii", "replace").strip()
    if not said or len(said) > 4096 or not said.isascii() or not said.isprintable():
        raise NotThere("no token")
    return said


def last_part(path: str | None) -> str | None:
    """us-central1-a of projects/1/zones/us-central1-a."""
    return None if path is None else path.rpartition("/")[2]


# -- all of them -----------------------------------------------------------------------------------------------------


class Probe:
    """One provider, asked by a thread of its own."""

    def __init__(self, name: str, endpoint: tuple[str, int], deadline: float) -> None:
        import threading

        self.found: Facts | None = None
        self._ask = PROBES[name]
        self._service = Service(*endpoint, deadline)
        self.thread: threading.Thread = threading.Thread(target=self._run, name=f"cloud-{name}", daemon=True)

    def _run(self) -> None:
        from http.client import HTTPException

        try:
            self.found = self._ask(self._service)
        except (NotThere, HTTPException, OSError, ValueError, RecursionError):
            pass  # strangers answer what they like: it is not this cloud

    def close(self) -> None:
        self._service.close()


def discover(
    timeout: float = TIMEOUT,
    endpoints: Mapping[str, tuple[str, int]] = ENDPOINTS,
    *,
    vendor: str | None = None,
) -> Facts | None:
    """The cloud this machine is in: provider, region, zone, instance_type, instance_id, image_id. None: none answered.

    All are asked at once, and each has `timeout` seconds. The answer of one counts when those before it in the order
    have none; `vendor`, sys_vendor of the firmware, puts the one it speaks of in front.
    """
    import http.client  # noqa: F401 -- slow to load: before the time begins to run
    import json  # noqa: F401
    import time

    deadline = time.monotonic() + timeout
    probes = [Probe(name, endpoints[name], deadline) for name in order(endpoints, vendor)]
    try:
        for probe in probes:
            probe.thread.start()
        for probe in probes:
            probe.thread.join(max(0.0, deadline - time.monotonic()))
            if probe.found is not None:
                return probe.found
        return None
    finally:
        for probe in probes:
            probe.close()


def order(names: Iterable[str], vendor: str | None) -> list[str]:
    """In the order of the table, the one that the firmware speaks of first."""
    hinted = {name for start, name in VENDORS.items() if vendor is not None and vendor.startswith(start)}
    return sorted(names, key=lambda name: (name not in hinted, list(ENDPOINTS).index(name)))


# -- in a process of its own -----------------------------------------------------------------------------------------

CODE = "import sys;sys.path[:]=sys.argv[4:];from proctally.cloud import main;main()"
BACKSTOP = 5  # seconds beyond the timeout after which the process is killed by its own alarm


def main() -> None:
    """`sys.argv`: root of sysfs, seconds for each provider, endpoints as JSON. Prints what was found as JSON."""
    import json
    import signal

    sys_root, timeout, endpoints = sys.argv[1:4]
    signal.alarm(int(float(timeout)) + BACKSTOP)
    try:
        os.chdir("/")  # keep no file system busy
    except OSError:
        pass
    vendor = attribute(Machine(sys=sys_root), "class/dmi/id/sys_vendor")
    found = discover(float(timeout), json.loads(endpoints), vendor=vendor)
    os.write(1, json.dumps({"cloud": found}).encode() + b"\n")
    os._exit(0)  # without waiting for a thread


class CloudProcess:
    """Asks for the cloud in a process of its own, once, without ever waiting for it.

    `done`: nothing more will come. `found`: what `discover` gave. `trouble`: why there is no answer, where that is not
    an answer itself. Who reaps children of any kind has to tell `reaped`; whom nobody reaps is reaped here.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        environment: Mapping[str, str] | None = None,
        started: Callable[[int], object] | None = None,
        timeout: float = TIMEOUT,
        endpoints: Mapping[str, tuple[str, int]] = ENDPOINTS,
        patience: float = 10.0,
    ) -> None:
        self._machine = machine
        self._environment = environment
        self._started = started
        self._timeout = timeout
        self._endpoints = endpoints
        self._patience_ns = int(patience * NANOSECONDS)
        self._born_ns = 0
        self._pipe = -1
        self._incoming = b""
        self._process: Aside | None = None
        self.done = False
        self.found: Facts | None = None
        self.trouble: str | None = None

    @property
    def pids(self) -> frozenset[int]:
        """The process, as long as it may still be a child of this one: it is no member of any tree."""
        pid = 0 if self._process is None else self._process.pid
        return frozenset({pid} if pid else ())

    @property
    def fileno(self) -> int | None:
        """A descriptor that is readable when the answer is there; None before the start and after the answer."""
        return None if self._pipe < 0 else self._pipe

    def cpu_ns(self) -> int:
        """The CPU time it used; where others reaped it without saying how much, as last read."""
        return 0 if self._process is None else self._process.cpu_ns()

    def start(self) -> None:
        """Start it: to be called after the job was started, and once."""
        self._born_ns = self._machine.monotonic_ns()
        try:
            self._spawn()
        except (OSError, NotImplementedError) as error:
            self._finish(f"the process that asks cannot be started: {getattr(error, 'strerror', None) or error}")
            return
        if self._started is not None and self._process is not None:
            self._started(self._process.pid)

    def _spawn(self) -> None:
        import json

        if not sys.executable:
            raise OSError(0, "no interpreter is known")
        arguments = [self._machine.sys, str(self._timeout), json.dumps(dict(self._endpoints))]
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(theirs, True)
            self._process = Aside(
                self._machine,
                [sys.executable, "-I", "-S", "-c", CODE, *arguments, *map(os.path.abspath, sys.path)],
                os.environ if self._environment is None else self._environment,
                [
                    (os.POSIX_SPAWN_DUP2, theirs, 1),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 2),
                ],
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._pipe = ours

    def take(self) -> bool:
        """Read what is there, without waiting; whether it is done, so that `found` is what there is to know."""
        if self._pipe >= 0:
            self._receive()
            waited = self._machine.monotonic_ns() - self._born_ns
            if not self.done and waited > self._patience_ns:
                self._finish(f"no answer from the process that asks in {waited / 1e9:.1f} s")
        self.reap()
        return self.done

    def _receive(self) -> None:
        try:
            while data := os.read(self._pipe, 65536):
                self._incoming += data
                if len(self._incoming) > MOST_BYTES:
                    self._finish("the process that asks answered without end")
                    return
        except BlockingIOError:
            return
        import json

        try:
            self.found = json.loads(self._incoming)["cloud"]
            self._finish(None)
        except (ValueError, TypeError, KeyError):
            self._finish("the process that asks ended without an answer")

    def _finish(self, trouble: str | None) -> None:
        self.done = True
        self.trouble = trouble
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self._process is not None:
            self._process.kill()

    def reap(self) -> bool:
        """Reap it if it ended, without waiting; True when there is nothing to be reaped."""
        return self._process is None or not self._process.pid or (self.done and self._process.reap())

    def reaped(self, pid: int, cpu_ns: int | None = None) -> bool:
        """A child was reaped: whether it was this one. `cpu_ns`: what wait4 said that it had used."""
        return self._process is not None and self._process.reaped(pid, cpu_ns)

    def close(self) -> None:
        """End it, without waiting. What it had not answered until then is not known."""
        if not self.done:
            self._finish("the run ended before the answer" if self._born_ns else None)
        self.reap()
