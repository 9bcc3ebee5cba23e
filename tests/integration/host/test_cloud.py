"""The metadata services of clouds, played by a server on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_service import (
    ALIBABA,
    AWS,
    AZURE,
    TOKEN,
    UPCLOUD,
    VULTR,
    Answer,
    Cloud,
    Play,
    document,
    play_alibaba,
    play_aws,
    play_azure,
    play_gcp,
    play_hetzner,
    play_openstack,
    play_upcloud,
    play_vultr,
    text,
)
from places import SUPPORT
from proctally.host import cloud
from proctally.host.cloud import ENDPOINTS, MOST_BYTES, PROBES, CloudClient, CloudLimits, discover
from proctally.linux.machine import Machine, host_machine

pytestmark = pytest.mark.timeout(120)  # several waits for a server, of at most 20 s each
SOON = 10.0  # seconds, for what takes milliseconds


@pytest.fixture
def serve() -> Iterator[Callable[..., Cloud]]:
    made = []

    def start(play: Play, **options: str) -> Cloud:
        made.append(Cloud(play, **options))
        return made[-1]

    yield start
    for each in made:
        each.close()


# -- the providers, as their services answer -------------------------------------------------------------------------


def expected(provider: str, *rest: str | None) -> dict[str, str | None]:
    names = ("region", "zone", "instance_type", "instance_id", "image_id")
    return {"provider": provider, **dict(zip(names, rest, strict=True))}


GOOGLE_IMAGE = "projects/debian-cloud/global/images/debian-12-bookworm-v20240910"
CLOUDS: dict[str, tuple[Play, dict[str, str | None]]] = {
    "aws": (play_aws, expected("aws", "eu-west-1", "eu-west-1b", "m7i.large", "i-0123456789abcdef0", "ami-0abc")),
    "gcp": (
        play_gcp,
        expected("gcp", "us-central1", "us-central1-a", "n2-standard-4", "1234567890123456789", GOOGLE_IMAGE),
    ),
    "azure": (
        play_azure,
        expected("azure", "westeurope", "2", "Standard_D4s_v5", AZURE["vmId"], "Debian:debian-12:12:1.2"),  # type: ignore[arg-type]
    ),
    "hetzner": (play_hetzner, expected("hetzner", "eu-central", "fsn1-dc14", None, "4711", None)),
    "upcloud": (play_upcloud, expected("upcloud", "de-fra1", None, None, "00bf9504-a4cb-4839-88ff-124a2c95e169", None)),
    "vultr": (play_vultr, expected("vultr", "EWR", None, None, "36e9cf60-5d93-4e31-8ebf-613b3d2874fb", None)),
    "alibaba": (
        play_alibaba,
        expected("alibaba", "cn-hangzhou", "cn-hangzhou-i", "ecs.g7.large", "i-bp12tt", "debian_12"),
    ),
    "ovh": (play_openstack("213.186.33.99"), expected("ovh", None, "nova", "b3-8", "d8e02d56", None)),
    "openstack": (play_openstack("10.0.0.2"), expected("openstack", None, "nova", "b3-8", "d8e02d56", None)),
}


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/1.0"])
def test_each_provider_among_all_probes(serve: Callable[..., Cloud], name: str, protocol: str) -> None:
    """All eight are asked at the same address: only its own probe takes an answer for one."""
    play, facts = CLOUDS[name]
    service = serve(play, protocol=protocol)
    assert discover(SOON, service.everywhere()) == facts


@pytest.mark.parametrize("name", PROBES)
def test_each_probe_alone_knows_none_of_the_others(serve: Callable[..., Cloud], name: str) -> None:
    for other, (play, _) in CLOUDS.items():
        if other != name and (name, other) != ("ovh", "openstack"):
            assert discover(SOON, {name: serve(play).endpoint}) is None, other


def test_no_secret_is_asked_for(serve: Callable[..., Cloud]) -> None:
    """Credentials, user data and whole trees are never asked for, whoever answers."""
    for play, _ in CLOUDS.values():
        service = serve(play)
        discover(SOON, service.everywhere())
        for _, path, _ in service.asked:
            assert not any(
                word in path for word in ("user", "recursive", "iam", "credential", "service-account", "keys")
            )


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_aws_refuses_a_wrong_token_and_is_not_asked_without_one(serve: Callable[..., Cloud]) -> None:
    def wrong(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        return text("another token") if method == "PUT" else play_aws(method, path, headers)

    def without(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        return document(AWS) if method == "GET" else None  # IMDSv1

    assert discover(SOON, {"aws": serve(wrong).endpoint}) is None
    service = serve(without)
    assert discover(SOON, {"aws": service.endpoint}) is None
    assert [method for method, _, _ in service.asked] == ["PUT"]


@pytest.mark.parametrize("token", ["", "a\r\nX-Injected: 1", "t\x00", "\xff", "x" * 5000])
def test_a_token_that_is_no_header_is_none(serve: Callable[..., Cloud], token: str) -> None:
    service = serve(lambda method, path, headers: (200, {}, token.encode("latin-1")) if method == "PUT" else None)
    assert discover(SOON, {"aws": service.endpoint}) is None
    assert all(method == "PUT" for method, _, _ in service.asked)


def test_alibaba_without_tokens(serve: Callable[..., Cloud]) -> None:
    def play(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        return document(ALIBABA) if path.endswith("/instance-identity/document") and method == "GET" else None

    assert discover(SOON, {"alibaba": serve(play).endpoint}) == CLOUDS["alibaba"][1]


def test_google_without_its_header_is_not_google(serve: Callable[..., Cloud]) -> None:
    def play(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        answer = play_gcp(method, path, headers)
        return answer and (answer[0], {}, answer[2])

    assert discover(SOON, {"gcp": serve(play).endpoint}) is None


# -- services that behave badly --------------------------------------------------------------------------------------


NONSENSE = {
    "nothing": (200, {}, b""),
    "html": text("<html>sign in</html>"),
    "a list": document([1, 2]),
    "no json": text("{"),
    "null": document(None),
    "deep": text("[" * 100_000),
    "not utf-8": (200, {}, b"\xff\xfe{}"),
    "other types": document(
        {"instanceId": {}, "vmId": 1.5, "azEnvironment": 1, "cloud_name": "upcloud", "instance_id": [], "region": {}}
    ),
    "huge": (200, {}, b'{"instanceId": "' + b"x" * (2 << 20) + b'"}'),
    "error": (500, {}, b"{}"),
    "a long number": text("9" * 10_000),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_no_cloud(serve: Callable[..., Cloud], name: str) -> None:
    answer = NONSENSE[name]
    assert discover(SOON, serve(lambda *_: answer).everywhere()) is None


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("upcloud", "/metadata/v1.json", UPCLOUD | {"cloud_name": "another"}),
        ("upcloud", "/metadata/v1.json", {"droplet_id": 1, "instance_id": "1", "region": "nyc3"}),
        (
            "azure",
            "/metadata/instance/compute",
            {name: said for name, said in AZURE.items() if name != "azEnvironment"},
        ),
        ("vultr", "/v1.json", VULTR | {"region": "EWR"}),
        ("vultr", "/v1.json", VULTR | {"region": {}}),
    ],
)
def test_one_that_only_looks_alike(serve: Callable[..., Cloud], name: str, path: str, said: dict[str, object]) -> None:
    service = serve(lambda _, asked, __: document(said) if asked.partition("?")[0] == path else None)
    assert discover(SOON, service.everywhere()) is None
    assert discover(SOON, {name: service.endpoint}) is None


@pytest.mark.parametrize(("padding", "found"), [(MOST_BYTES // 2, True), (MOST_BYTES, False)])
def test_an_answer_is_not_read_without_end(serve: Callable[..., Cloud], padding: int, found: bool) -> None:
    """However right its beginning is."""

    def play(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        answer = play_aws(method, path, headers)
        return answer and (answer[0], {}, answer[2] + b" " * (padding if method == "GET" else 0))

    assert discover(SOON, {"aws": serve(play).endpoint}) == (CLOUDS["aws"][1] if found else None)


def test_redirects_are_not_followed(serve: Callable[..., Cloud]) -> None:
    trap = serve(play_aws)
    away = {"Location": "http://{}:{}/latest/api/token".format(*trap.endpoint)}
    for status in 301, 302, 303, 307, 308:
        service = serve(lambda *_, status=status: (status, away, b""))
        assert discover(SOON, service.everywhere()) is None
        assert service.asked
    assert trap.asked == []


def test_no_proxy_is_used(serve: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(lambda *_: text("caught"))
    for name in "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY":
        monkeypatch.setenv(name, "http://{}:{}".format(*proxy.endpoint))
    monkeypatch.setenv("no_proxy", "")
    assert discover(SOON, serve(play_aws).everywhere()) == CLOUDS["aws"][1]
    assert proxy.asked == []


@contextmanager
def raw_service(behave: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        while True:
            try:
                peer = listener.accept()[0]
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(peer,), daemon=True))
            threads[-1].start()

    def serve(peer: socket.socket) -> None:
        with peer:
            behave(peer)

    threads = [threading.Thread(target=accept, daemon=True)]
    threads[0].start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection; to close it does not
        threads[0].join()
        listener.close()
        for thread in threads[1:]:  # until whoever asked has gone
            thread.join(SOON)


def silent(peer: socket.socket) -> None:
    while peer.recv(1000):
        pass


def dripping(peer: socket.socket) -> None:
    """Always something, so that no single read ever waits for long."""
    try:
        peer.recv(1000)
        peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n")
        while True:
            peer.sendall(b"{")
            time.sleep(0.02)
    except OSError:
        peer.close()


def dripping_headers(peer: socket.socket) -> None:
    try:
        peer.recv(1000)
        while True:
            peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.02)
    except OSError:
        peer.close()


@pytest.mark.parametrize("behave", [silent, dripping, dripping_headers])
def test_the_limit_is_kept_and_no_thread_stays(behave: Callable[[socket.socket], None]) -> None:
    with raw_service(behave) as endpoint:
        before = time.monotonic()
        assert discover(0.3, dict.fromkeys(ENDPOINTS, endpoint)) is None
        took = time.monotonic() - before
        assert 0.29 <= took < 2.0  # and not eight times the limit
        until = time.monotonic() + SOON
        while any(thread.name.startswith("cloud-") for thread in threading.enumerate()):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_slow_provider_does_not_take_from_the_others(serve: Callable[..., Cloud]) -> None:
    with raw_service(silent) as endpoint:
        endpoints = dict.fromkeys(ENDPOINTS, endpoint) | {"vultr": serve(play_vultr).endpoint}
        assert discover(0.5, endpoints) == CLOUDS["vultr"][1]


def test_the_firmware_puts_one_in_front_and_decides_nothing(serve: Callable[..., Cloud]) -> None:
    with raw_service(silent) as endpoint:
        endpoints = dict.fromkeys(ENDPOINTS, endpoint) | {"vultr": serve(play_vultr).endpoint}
        before = time.monotonic()
        assert discover(30, endpoints, vendor="Vultr") == CLOUDS["vultr"][1]
        assert time.monotonic() - before < SOON  # it did not wait for those that are silent
    assert discover(SOON, serve(play_hetzner).everywhere(), vendor="Amazon EC2") == CLOUDS["hetzner"][1]


# -- the process -----------------------------------------------------------------------------------------------------


def wait(process: CloudClient) -> None:
    until = time.monotonic() + SOON
    while not (process.take() and process.reap()):
        assert time.monotonic() < until
        time.sleep(0.005)


def test_the_process_answers_and_is_reaped(serve: Callable[..., Cloud]) -> None:
    started: list[int] = []
    process = CloudClient(
        host_machine(), endpoints=serve(play_aws).everywhere(), limits=CloudLimits(timeout=SOON), started=started.append
    )
    process.start()
    assert process.pids == frozenset(started)
    assert process.fileno is not None
    assert not os.get_inheritable(process.fileno)
    wait(process)
    assert process.found == CLOUDS["aws"][1]
    assert process.missing is None
    assert process.cpu_ns() > 0
    assert process.pids == frozenset()
    assert process.fileno is None
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_the_process_says_that_there_is_none(serve: Callable[..., Cloud]) -> None:
    process = CloudClient(
        host_machine(), endpoints=serve(lambda *_: None).everywhere(), limits=CloudLimits(timeout=SOON)
    )
    process.start()
    wait(process)
    assert (process.done, process.found, process.missing) == (True, None, None)


def test_somebody_else_reaps_it(serve: Callable[..., Cloud]) -> None:
    """As the tracker does, which waits for any child."""
    process = CloudClient(host_machine(), endpoints=serve(play_vultr).everywhere(), limits=CloudLimits(timeout=SOON))
    process.start()
    (pid,) = process.pids
    assert not process.reaped(pid + 1)
    _, _, usage = os.wait4(pid, 0)
    assert process.reaped(pid, 123)
    assert not process.reaped(pid, 123)
    assert process.take()
    assert process.found == CLOUDS["vultr"][1]
    assert process.cpu_ns() == 123


def test_it_can_be_ended_by_any_signal() -> None:
    """Whatever the tracker has blocked or ignores."""
    every = set(range(1, 32))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, every)
    try:
        with raw_service(silent) as endpoint:
            process = CloudClient(host_machine(), endpoints={"aws": endpoint}, limits=CloudLimits(timeout=30))
            process.start()
            (pid,) = process.pids
            status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            process.close()
            wait(process)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert int(status["SigBlk"], 16) == 0


def test_the_end_of_the_run_does_not_wait() -> None:
    with raw_service(silent) as endpoint:
        process = CloudClient(
            host_machine(), endpoints=dict.fromkeys(ENDPOINTS, endpoint), limits=CloudLimits(timeout=30)
        )
        process.start()
        before = time.monotonic()
        assert not process.take()
        process.close()
        assert time.monotonic() - before < 1.0
        assert process.done
        assert process.missing == "no_answer"
        wait(process)


def test_one_that_hangs_is_given_up() -> None:
    with raw_service(silent) as endpoint:
        process = CloudClient(host_machine(), endpoints={"aws": endpoint}, limits=CloudLimits(timeout=30, patience=0.1))
        process.start()
        wait(process)
        assert process.found is None
        assert process.missing == "no_answer"


def test_it_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        process = CloudClient(host_machine(), endpoints={})
        process.start()
        wait(process)
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    monkeypatch.setattr(sys, "base_exec_prefix", "/nonexistent")
    process = CloudClient(Machine())
    process.start()
    assert process.take()
    assert process.found is None
    assert process.missing == "helper_failed"
    process.close()


def test_nothing_of_ours_goes_on_in_it(serve: Callable[..., Cloud]) -> None:
    """A pipe of the user's ends although it still waits."""
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    with raw_service(silent) as endpoint:
        process = CloudClient(host_machine(), endpoints={"aws": endpoint}, limits=CloudLimits(timeout=SOON))
        process.start()
        os.close(theirs)
        assert os.read(ours, 1) == b""
        assert not process.take()
        process.close()
        wait(process)
    os.close(ours)


# -- never without being asked ---------------------------------------------------------------------------------------


def test_loading_contacts_nobody_and_loads_no_network_modules() -> None:
    code = (
        "import sys\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event.startswith('socket.') else None)\n"
        "before = set(sys.modules)\n"
        "import proctally.host.cloud\n"
        "from proctally.linux.machine import Machine\n"
        "process = proctally.host.cloud.CloudClient(Machine())\n"
        "process.close()\n"
        "slow = {'socket', 'http', 'http.client', 'threading', 'ssl', 'urllib', 'json'}\n"
        "sys.exit(', '.join(seen + sorted(slow & (set(sys.modules) - before))) or None)\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=with_path())
    assert (done.returncode, done.stderr) == (0, "")


def with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(cloud.__file__).parents[2])}


def internet_connections(tmp_path: Path, *command: str) -> list[str]:
    """The calls of a command and all that it starts that make or use an internet socket."""
    log = tmp_path / "calls"
    watched = ["strace", "-f", "-qq", "-e", "trace=socket,connect,sendto", "-o", str(log), *command]
    environment = {**with_path(), "PROCTALLY_HOME": str(tmp_path / "home")}
    done = subprocess.run(watched, capture_output=True, text=True, env=environment, timeout=120)
    if done.returncode and not log.exists():
        pytest.skip("strace(1) may not trace here")
    assert done.returncode == 0, done.stderr
    return [line for line in log.read_text().splitlines() if "AF_INET" in line]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace(1) is not installed")
def test_a_run_without_the_flag_opens_no_internet_socket(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "proctally", "run", "-q", "-i", "0.05", "--", "sleep", "0.3"]
    assert internet_connections(tmp_path, *run) == []
    # and the same eyes see what there is to be seen
    asked = f"from proctally.host.cloud import discover; discover({SOON}, {{'aws': ('127.0.0.1', {closed_port()})}})"
    assert any("connect(" in line for line in internet_connections(tmp_path, sys.executable, "-c", asked))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


IN_A_CLOUD = """
import json, os, subprocess, sys
from cloud_service import Cloud, play_aws

for words in "link set lo up", "addr add 169.254.169.254/32 dev lo":
    done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"ip {words}: {done.stderr}")
service = Cloud(play_aws, address=("169.254.169.254", 80))


def track(seconds, *options):
    # all three at once, each with a folder of its own
    job = subprocess.Popen(["sleep", "60"])
    trackers = []
    for command, rest in ("run", ["--", "sleep", seconds]), ("attach", [str(job.pid)]), ("system", []):
        limit = [] if command == "run" else ["--duration", seconds]
        words = [sys.executable, "-m", "proctally", command, "-q", "-i", "0.1", *limit, *options, *rest]
        home = os.path.join(sys.argv[1], command + "".join(options))
        trackers.append(subprocess.Popen(words, env=os.environ | {"PROCTALLY_HOME": home}))
    for tracker in trackers:
        if tracker.wait():
            sys.exit(f"{tracker.args}: {tracker.returncode}")
    job.kill()

track("0.5")
print(json.dumps(service.asked))
track("3", "--cloud")  # long enough for an interpreter to start on a busy machine
print(json.dumps(len(service.asked)))
"""


def test_in_a_cloud_of_its_own(tmp_path: Path) -> None:
    """At the address that they all share, in a network namespace: nobody is asked without the flag, and then one is."""
    if os.getuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces take root and ip(8)")
    paths = os.pathsep.join((with_path()["PYTHONPATH"], str(SUPPORT)))
    away = {"http_proxy": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9", "AWS_SECRET_ACCESS_KEY": "hunter2"}
    command = ["unshare", "--net", sys.executable, "-c", IN_A_CLOUD, str(tmp_path)]
    environment = os.environ | away | {"PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    if done.stderr.startswith(("ip ", "unshare")):
        pytest.skip(done.stderr.strip())
    assert done.stderr == ""
    without, with_flag = map(json.loads, done.stdout.splitlines())
    assert without == []
    assert with_flag > 0
    for command in "run", "attach", "system":
        for options, found in (("", None), ("--cloud", CLOUDS["aws"][1])):
            (path,) = (tmp_path / f"{command}{options}" / "runs").iterdir()
            data = path.read_text()
            assert not [secret for secret in (TOKEN, str(AWS["accountId"]), "hunter2") if secret in data]
            lines = [json.loads(line) for line in data.splitlines()]
            (host,) = (line for line in lines if line["type"] == "host")
            assert host["cloud"] == found, command
            if command == "run":  # who asks is none of the tree
                assert lines[-1]["processes"]["started"] == 1
