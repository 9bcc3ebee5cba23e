"""Metadata services of clouds, played on the loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from proctally.host.cloud import ENDPOINTS

Answer = tuple[int, dict[str, str], bytes]
Play = Callable[[str, str, dict[str, str]], Answer | None]  # method, path, headers


def text(body: str, **headers: str) -> Answer:
    return 200, headers, body.encode()


def document(body: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


class Cloud:
    """A service that answers as `play` says, and remembers what it was asked. None: not found."""

    def __init__(self, play: Play, *, protocol: str = "HTTP/1.1", address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = protocol

            def answer(self) -> None:
                headers = {key.lower(): said for key, said in self.headers.items()}
                outer.asked.append((self.command, self.path, headers))
                status, more, body = play(self.command, self.path, headers) or (404, {}, b"not found")
                try:
                    self.send_response(status)
                    for key, said in more.items():
                        self.send_header(key.replace("_", "-"), said)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            do_GET = do_PUT = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(address, Handler)
        self.endpoint = ("127.0.0.1", self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def everywhere(self) -> dict[str, tuple[str, int]]:
        """All providers are asked here, as at the address that they share."""
        return dict.fromkeys(ENDPOINTS, self.endpoint)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


# -- the providers, as their services answer -------------------------------------------------------------------------


TOKEN = "AQAEAtoken=="
AWS = {
    "accountId": "123456789012",
    "architecture": "x86_64",
    "availabilityZone": "eu-west-1b",
    "imageId": "ami-0abc",
    "instanceId": "i-0123456789abcdef0",
    "instanceType": "m7i.large",
    "region": "eu-west-1",
}


def play_aws(method: str, path: str, headers: dict[str, str]) -> Answer | None:
    if (method, path) == ("PUT", "/latest/api/token"):
        return text(TOKEN) if headers.get("x-aws-ec2-metadata-token-ttl-seconds") else (400, {}, b"")
    if headers.get("x-aws-ec2-metadata-token") != TOKEN:
        return 401, {}, b""
    return document(AWS) if (method, path) == ("GET", "/latest/dynamic/instance-identity/document") else None


def play_gcp(method: str, path: str, headers: dict[str, str]) -> Answer | None:
    if headers.get("metadata-flavor") != "Google":
        return 403, {}, b"Missing Metadata-Flavor:Google header."
    said = {
        "id": "1234567890123456789",
        "zone": "projects/42/zones/us-central1-a",
        "machine-type": "projects/42/machineTypes/n2-standard-4",
        "image": "projects/debian-cloud/global/images/debian-12-bookworm-v20240910",
    }
    name = path.removeprefix("/computeMetadata/v1/instance/")
    return text(said[name], Metadata_Flavor="Google") if name in said else None


AZURE = {
    "azEnvironment": "AzurePublicCloud",
    "location": "westeurope",
    "zone": "2",
    "vmSize": "Standard_D4s_v5",
    "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
    "publicKeys": [{"keyData": "ssh-rsa 0", "path": "/home/u"}],
    "storageProfile": {"imageReference": {"publisher": "Debian", "offer": "debian-12", "sku": "12", "version": "1.2"}},
}


def play_azure(method: str, path: str, headers: dict[str, str]) -> Answer | None:
    if headers.get("metadata") != "true":
        return 400, {}, b'{"error": "Bad request"}'
    inside = path.startswith("/metadata/instance/compute?") and "api-version=" in path
    return document(AZURE) if inside else None


def play_hetzner(method: str, path: str, headers: dict[str, str]) -> Answer | None:
    said = {"instance-id": "4711", "region": "eu-central", "availability-zone": "fsn1-dc14"}
    name = path.removeprefix("/hetzner/v1/metadata/")
    return text(said[name] + "\n") if name in said else None


UPCLOUD = {
    "cloud_name": "upcloud",
    "instance_id": "00bf9504-a4cb-4839-88ff-124a2c95e169",
    "region": "de-fra1",
    "public_keys": ["ssh-rsa 0"],
}


def play_upcloud(method: str, path: str, headers: dict[str, str]) -> Answer | None:
    return document(UPCLOUD) if path == "/metadata/v1.json" else None


VULTR = {
    "instanceid": "a747bfz6385e",
    "instance-v2-id": "36e9cf60-5d93-4e31-8ebf-613b3d2874fb",
    "region": {"regioncode": "EWR", "countrycode": "US"},
}


def play_vultr(method: str, path: str, headers: dict[str, str]) -> Answer | None:
    return document(VULTR) if path == "/v1.json" else None


ALIBABA = {
    "region-id": "cn-hangzhou",
    "zone-id": "cn-hangzhou-i",
    "instance-id": "i-bp12tt",
    "instance-type": "ecs.g7.large",
    "image-id": "debian_12",
    "owner-account-id": "1609",
}


def play_alibaba(method: str, path: str, headers: dict[str, str]) -> Answer | None:
    if (method, path) == ("PUT", "/latest/api/token"):
        return text(TOKEN) if headers.get("x-aliyun-ecs-metadata-token-ttl-seconds") else (400, {}, b"")
    if headers.get("x-aliyun-ecs-metadata-token") != TOKEN:
        return 403, {}, b""
    return document(ALIBABA) if path == "/latest/dynamic/instance-identity/document" else None


def play_openstack(resolver: str) -> Play:
    said = {
        "/openstack/latest/meta_data.json": {"uuid": "d8e02d56", "availability_zone": "nova", "name": "a"},
        "/openstack/latest/network_data.json": {"services": [{"type": "dns", "address": resolver}]},
    }

    def play(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        if method == "PUT":
            return 405, {}, b""
        if path == "/latest/meta-data/instance-type":
            return text("b3-8")
        return document(said[path]) if path in said else None

    return play
