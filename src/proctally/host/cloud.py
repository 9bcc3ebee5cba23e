"""Which cloud this machine is rented from, by the metadata services of the clouds. Used with `--cloud` only.

Nothing is contacted but by `discover`, and then the addresses of ENDPOINTS alone: no names are resolved, no proxy is
used, no redirect followed, no more than MOST_BYTES read of an answer. Only what is recorded is asked for: user data,
keys and credentials that such a service also has are not, except where one document holds all of it.

The tracker has one thread and reaps every child, so that it does none of this itself: `CloudClient` starts a process
of its own for it, which prints one line and ends.
"""

from __future__ import annotations

import os
import sys

from proctally.linux.machine import NANOSECONDS, Machine
from proctally.linux.sources import attribute
from proctally.linux.spawn import HelperClient, python
from proctally.record.codes import HELPER_FAILED, NO_ANSWER

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


# -- the providers ---------------------------------------------------------------------------------------------------


FIELDS = ("region", "zone", "instance_type", "instance_id", "image_id")


def facts(provider: str, *values: object) -> Facts:
    """Return what is recorded of any provider. Raises NotThere without an identity: then no cloud answered."""
    found: Facts = {"provider": provider, **dict.fromkeys(FIELDS)}
    found |= {name: value(said) for name, said in zip(FIELDS, values, strict=False)}
    if found["instance_id"] is None:
        raise NotThere("no identity")
    return found


def as_header(token: bytes) -> str:
    """A token that may stand in a header."""
    said = token.decode("ascii", "replace").strip()
    if not said or len(said) > 4096 or not said.isascii() or not said.isprintable():
        raise NotThere("no token")
    return said


def at(document: object, path: str) -> object:
    """Return what a document has at a path such as `a.b`, or None."""
    for key in path.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def choose(document: object, paths: str) -> object:
    """Return the first of some alternatives (`|`) that is there; parts of one (`:`) are joined."""
    for alternative in paths.split("|"):
        parts = [at(document, path) for path in alternative.split(":")]
        if all(parts):
            return ":".join(map(str, parts)) if len(parts) > 1 else parts[0]
    return None


class Document:
    """A provider that has all values in one JSON document without secrets.

    `values`: the paths of FIELDS in it. `token`: header of the token that is asked for before, by PUT. `mark`: path of
    what no other cloud has there, and its value where that matters.
    """

    def __init__(
        self,
        provider: str,
        path: str,
        *values: str,
        token: str = "",
        needs_token: bool = True,
        headers: Mapping[str, str] | None = None,
        mark: tuple[str, str | None] = ("", None),
    ) -> None:
        self._provider = provider
        self._path = path
        self._values = values
        self._token = token
        self._needs_token = needs_token
        self._headers = headers
        self._mark = mark

    def __call__(self, service: Service) -> Facts:
        """Ask the service. Raises NotThere, ValueError, OSError or HTTPException."""
        headers = dict(self._headers or {})
        if self._token:
            try:
                token = service.ask("/latest/api/token", {f"{self._token}-ttl-seconds": "60"}, method="PUT")
                headers[self._token] = as_header(token)
            except NotThere:
                if self._needs_token:
                    raise
        document = service.document(self._path, headers)
        path, wanted = self._mark
        if path and (not at(document, path) or wanted not in (None, at(document, path))):
            raise NotThere(f"another {path}")
        return facts(self._provider, *(choose(document, paths) for paths in self._values))


def gcp(service: Service) -> Facts:
    """Compute Engine. Each value alone: the whole document holds the metadata of the project, with secrets in it."""
    flavor = ("Metadata-Flavor", "Google")
    headers = dict([flavor])
    base = "/computeMetadata/v1/instance"
    identity = service.ask(f"{base}/id", headers, echo=flavor).decode("ascii", "replace")
    zone = last_part(service.line(f"{base}/zone", headers))
    kind = last_part(service.line(f"{base}/machine-type", headers))
    return facts(
        "gcp", zone and zone.rpartition("-")[0], zone, kind, identity.strip(), service.line(f"{base}/image", headers)
    )


def last_part(path: str | None) -> str | None:
    """us-central1-a of projects/1/zones/us-central1-a."""
    return None if path is None else path.rpartition("/")[2]


def hetzner(service: Service) -> Facts:
    """Hetzner Cloud. Each value alone: the whole document holds keys and the vendor's scripts.

    It tells neither the type of the server nor its image.
    """
    base = "/hetzner/v1/metadata"
    identity = service.ask(f"{base}/instance-id").decode("ascii", "replace").strip()
    if not identity.isdecimal():
        raise NotThere("the identity is no number")
    return facts("hetzner", service.line(f"{base}/region"), service.line(f"{base}/availability-zone"), None, identity)


def ovh(service: Service) -> Facts:
    """OVHcloud, whose service is that of OpenStack: `openstack` where nothing says that it is OVHcloud's.

    OpenStack itself tells neither region nor type here: the first is what some add, the second is in the part that
    imitates EC2.
    """
    said = service.document("/openstack/latest/meta_data.json")
    try:
        network = service.document("/openstack/latest/network_data.json")
    except (NotThere, ValueError):
        network = {}
    servers = network.get("services")
    is_ovh = any(
        isinstance(each, dict) and each.get("type") == "dns" and each.get("address") == OVH_RESOLVER
        for each in (servers if isinstance(servers, list) else ())
    )
    kind = service.line("/latest/meta-data/instance-type")
    name = "ovh" if is_ovh else "openstack"
    return facts(name, said.get("region_id"), said.get("availability_zone"), kind, said.get("uuid"))


IDENTITY = "/latest/dynamic/instance-identity/document"
IMAGE = "storageProfile.imageReference."
PROBES: Mapping[str, Callable[[Service], Facts]] = {
    # IMDSv2 only. The packet with the token has a hop limit, 1 unless the owner of the machine raised it: inside a
    # container with a network of its own nothing arrives.
    "aws": Document(
        "aws", IDENTITY, "region", "availabilityZone", "instanceType", "instanceId", "imageId",
        token="X-aws-ec2-metadata-token",
    ),
    "gcp": gcp,
    # a version of the interface from before user data was in this document
    "azure": Document(
        "azure", "/metadata/instance/compute?api-version=2020-06-01&format=json", "location", "zone", "vmSize", "vmId",
        f"{IMAGE}publisher:{IMAGE}offer:{IMAGE}sku:{IMAGE}version|{IMAGE}id",
        headers={"Metadata": "true"}, mark=("azEnvironment", None),
    ),
    "hetzner": hetzner,
    # what others call a zone is the region; it tells neither the plan nor the image
    "upcloud": Document(
        "upcloud", "/metadata/v1.json", "region", "", "", "instance_id", mark=("cloud_name", "upcloud")
    ),
    # it tells neither the plan nor the image
    "vultr": Document(
        "vultr", "/v1.json", "region.regioncode", "", "", "instance-v2-id|instanceid", mark=("region.regioncode", None)
    ),
    # with a token, as its hardened mode demands; without one where it gives none
    "alibaba": Document(
        "alibaba", IDENTITY, "region-id", "zone-id", "instance-type", "instance-id", "image-id",
        token="X-aliyun-ecs-metadata-token", needs_token=False,
    ),
    "ovh": ovh,
}  # fmt: skip


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


class CloudLimits:
    """Seconds for each provider, and for the whole helper process."""

    def __init__(self, *, timeout: float = TIMEOUT, patience: float = 10.0) -> None:
        self.timeout = timeout
        self.patience_ns = int(patience * NANOSECONDS)


class CloudClient(HelperClient):
    """Asks for the cloud in a helper process, once, without ever waiting for it.

    `done`: nothing more will come. `found`: what `discover` gave. `missing`: the code that says why there is no answer,
    where that is not an answer itself.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        environment: Mapping[str, str] | None = None,
        started: Callable[[int], object] | None = None,
        endpoints: Mapping[str, tuple[str, int]] = ENDPOINTS,
        limits: CloudLimits | None = None,
    ) -> None:
        super().__init__(machine, environment, started)
        self._endpoints = endpoints
        self._limits = limits or CloudLimits()
        self._born_ns = 0
        self.done = False
        self.found: Facts | None = None
        self.missing: str | None = None

    def start(self) -> None:
        """Start it: to be called after the job was started, and once."""
        import json

        self._born_ns = self.machine.monotonic_ns()
        try:
            arguments = (self.machine.sys, str(self._limits.timeout), json.dumps(dict(self._endpoints)))
            self.begin(python("proctally.host.cloud", *arguments), end=1)
        except (OSError, NotImplementedError):
            self._finish(HELPER_FAILED)

    def take(self) -> bool:
        """Read what is there, without waiting; whether it is done, so that `found` is what there is to know."""
        if self.helper is not None:
            if not self.helper.receive(MOST_BYTES):
                self._understand(self.helper.incoming)
            elif self.machine.monotonic_ns() - self._born_ns > self._limits.patience_ns:
                self._finish(NO_ANSWER)
        self.reap()
        return self.done

    def _understand(self, data: bytes) -> None:
        import json

        try:
            self.found = json.loads(data)["cloud"]
            self._finish(None)
        except (ValueError, TypeError, KeyError):
            self._finish(HELPER_FAILED)

    def _finish(self, missing: str | None) -> None:
        self.done = True
        self.missing = missing
        self.drop()

    def close(self) -> None:
        """End it, without waiting. What it had not answered until then is not known."""
        if not self.done:
            self._finish(NO_ANSWER if self._born_ns else None)
        super().close()
