"""The command `serve`, and runs that serve: asked by hand, and by the real Prometheus."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families as classic  # noqa: E402

from beside import exporter  # noqa: E402
from daemons import answers, daemon, free_port, get  # noqa: E402
from proctally.exporters.prometheus import OPENMETRICS, TEXT  # noqa: E402
from scrapes import FROM_PROMETHEUS  # noqa: E402
from tracked import PATIENCE, PROCTALLY, PYTHON, Lines, Puppet, call, environment, records, runs, until  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # several waits for a server, of at most 20 s each


HOSTILE = b'x"y{a}\\\n\xff'
HOSTILE_LABEL = 'x"y{a}\\\\n\\xff'


class Serving:
    """`proctally serve`, and where it answers."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        self.process = process
        line = Lines(process.stderr.fileno()).next()
        found = re.fullmatch(r"proctally: serving http://127\.0\.0\.1:(\d+)/metrics", line)
        assert found, line
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def values(self) -> dict[str, float]:
        """Of the series without labels."""
        return {
            sample.name: sample.value
            for family in classic(get(f"{self.url}/metrics"))
            for sample in family.samples
            if not sample.labels
        }


@contextmanager
def serving(home: Path, *arguments: str) -> Iterator[Serving]:
    command = [*PROCTALLY, "serve", "--listen", "127.0.0.1:0", "-i", "0.1", *arguments]
    with subprocess.Popen(command, env=environment(home), stderr=subprocess.PIPE, process_group=0) as process:
        try:
            server = Serving(process)
            until(lambda: "proctally_samples_total" in server.values(), "the first sample is told")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            assert process.stderr is not None
            process.stderr.read()


@contextmanager
def busy() -> Iterator[int]:
    """A process that uses a CPU half of the time, and its child."""
    code = "import os, time\nos.fork()\nwhile True:\n sum(range(300000))\n time.sleep(0.01)"
    with subprocess.Popen([*PYTHON, "-c", code], process_group=0) as process:
        try:
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


# -- HTTP ------------------------------------------------------------------------------------------------------------


def test_format_is_negotiated(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        answer, body = server.ask(Accept=FROM_PROMETHEUS)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == OPENMETRICS
        assert list(strict(body.decode()))
        assert body.endswith(b"# EOF\n")
        answer, body = server.ask()
        assert answer.headers["Content-Type"] == TEXT
        assert list(classic(body.decode()))
        answer, body = server.ask(Accept=FROM_PROMETHEUS, Accept_Encoding="gzip")
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body).endswith(b"# EOF\n")
        assert int(answer.headers["Content-Length"]) == len(body)


def test_only_what_there_is_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        answer, body = server.ask("/")
        assert answer.status == 200
        assert b'href="/metrics"' in body
        assert server.ask("/metrics?x=y")[0].status == 200
        for path in ("/etc/passwd", "/../../etc/passwd", "/metrics/"):
            assert server.ask(path)[0].status == 404
        assert server.ask("/metrics", "POST")[0].status == 501
        answer, body = server.ask("/metrics", "HEAD")
        assert (answer.status, body) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 100


# -- what is served --------------------------------------------------------------------------------------------------


def test_a_tree_until_it_ends(tmp_path: Path) -> None:
    with busy() as pid, serving(tmp_path, str(pid)) as server:
        first = server.values()
        assert first["proctally_processes"] == 2
        until(lambda: server.values()["proctally_tree_cpu_seconds_total"] > 0.2, "it uses CPU time")
        assert server.values()["proctally_run_start_timestamp_seconds"] == pytest.approx(time.time(), abs=30)
        os.killpg(pid, signal.SIGKILL)
        assert server.process.wait(PATIENCE) == 0
        assert not answers(f"{server.url}/metrics")
    assert records(tmp_path) == []


def test_the_machine_until_told_to_end(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        values = server.values()
        assert "proctally_processes" not in values
        name = "proctally_system_memory_size_bytes"
        until(lambda: name in server.values(), "the devices are told")
        total = next(line for line in Path("/proc/meminfo").read_text("ascii").splitlines() if "MemTotal" in line)
        assert server.values()[name] == int(total.split()[1]) * 1024
        samples = values["proctally_samples_total"]
        until(lambda: server.values()["proctally_samples_total"] > samples, "it goes on")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 0
    assert records(tmp_path) == []


@pytest.mark.parametrize("of_tree", [False, True])
def test_it_ends_when_what_answers_was_killed(tmp_path: Path, of_tree: bool) -> None:
    with serving(tmp_path, *([str(os.getpid())] if of_tree else [])) as server:
        helper = exporter(server.process.pid)
        assert helper is not None
        os.kill(helper, signal.SIGKILL)
        assert server.process.wait(PATIENCE) == 1


def test_who_measures_is_no_part_of_a_tree_that_it_is_in(tmp_path: Path) -> None:
    with serving(tmp_path, str(os.getpid())) as server:
        helper = exporter(server.process.pid)
        name = "proctally_samples_total"
        samples = server.values()[name]
        until(lambda: server.values()[name] > samples + 1, "it looked for children again")
        pids = set(re.findall(r'proctally_member_threads{exe="[^"]*",pid="(\d+)"}', get(f"{server.url}/metrics")))
    assert str(os.getpid()) in pids
    assert not pids & {str(helper), str(server.process.pid)}


def test_port_is_free_when_the_run_has_ended(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    for _ in range(3):
        done = call(tmp_path, "run", "-q", "--serve", address, "--", "true")
        assert (done.status, done.stderr) == (0, b"")


def test_serve_says_nothing_while_a_command_runs(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with Puppet(tmp_path, "-i", "0.1", "--serve", address) as puppet:
        until(lambda: answers(f"http://{address}/metrics"), "it answers")
        assert "proctally_run_info{" in get(f"http://{address}/metrics")
        assert puppet.exit(0) == 0
        assert puppet.stderr() == b""


@pytest.mark.parametrize("arguments", [("1", "2"), ("x",), ("-o", "f"), ("--listen", "nowhere")])
def test_mistakes(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert call(tmp_path, "serve", *arguments).status == 2


def test_end_of_serve_has_no_request(tmp_path: Path) -> None:
    with busy() as pid:
        done = call(tmp_path, "serve", str(pid), "--listen", "0", "-i", "0.1", "--duration", "0.4")
    assert done.status == 0 and b"  CPU  " in done.stderr and b"  request  " not in done.stderr


def test_who_else_can_ask_is_said(tmp_path: Path) -> None:
    for address, more in (("0.0.0.0", b", without a password, to whoever reaches this machine"), ("127.0.0.1", b"")):
        done = call(tmp_path, "serve", "-q", "--listen", f"{address}:0", "--duration", "0.05")
        assert re.fullmatch(rb"proctally: serving http://[\d.:]+/metrics(.*)\n", done.stderr)[1] == more
        assert done.status == 0
        done = call(tmp_path, "serve", "--listen", f"{address}:0", "--duration", "0.05")
        assert re.fullmatch(rb"proctally: serving http://[\d.:]+/metrics(.*)", done.stderr.split(b"\n")[0])[1] == more
        assert b"proctally system  ended" in done.stderr


def test_nobody_to_serve(tmp_path: Path) -> None:
    done = call(tmp_path, "serve", "--listen", "0", "4194300")
    assert done.status == 1
    assert b"process 4194300: No such process" in done.stderr


# -- Prometheus ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str] | None]:
    """A Prometheus and the address that it scrapes, None where it is not installed.

    It looks for its first target five seconds after its start, whatever is asked of it: other tests run meanwhile.
    """
    if shutil.which("prometheus") is None:
        yield None
        return
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))  # nobody else is given it
        address = f"127.0.0.1:{kept.getsockname()[1]}"
        scrapes = {"job_name": "proctally", "static_configs": [{"targets": [address]}]}
        every = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
        config = folder / "prometheus.yml"
        config.write_text(json.dumps({"global": every, "scrape_configs": [scrapes]}), encoding="utf-8")
        url = f"http://127.0.0.1:{port}"
        arguments = (
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        with daemon("prometheus", *arguments, ready=f"{url}/-/ready"):
            yield url, address


def query(url: str, expression: str) -> list[dict[str, Any]]:
    told = json.loads(get(f"{url}/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
    assert told["status"] == "success", told
    found: list[dict[str, Any]] = told["data"]["result"]
    return found


def value(url: str, expression: str) -> float | None:
    """Of the one series; None where there is none."""
    rows = query(url, expression)
    assert len(rows) <= 1, rows
    return float(rows[0]["value"][1]) if rows else None


def test_prometheus_scrapes_a_run_and_answers(tmp_path: Path, prometheus: tuple[str, str] | None) -> None:
    if prometheus is None:
        pytest.skip("Prometheus is not installed (Debian: prometheus)")
    url, address = prometheus
    hostile = os.fsencode(tmp_path) + b"/" + HOSTILE
    os.symlink(shutil.which("sleep") or "", hostile)
    with Puppet(tmp_path, "-i", "0.1", "-n", "job", "--serve", address) as puppet:
        until(lambda: value(url, "proctally_processes") == 1, "it is scraped")
        puppet.do("import subprocess, threading, time")
        puppet.do(f"child = subprocess.Popen([{hostile!r}, '60'])")
        puppet.do("end = time.monotonic() + 1.2")
        puppet.do("exec('while time.monotonic() < end: pass')")
        rate = value(url, "rate(proctally_tree_cpu_seconds_total[1s])")
        assert rate is not None and 0.2 < rate < 1.3, "one CPU was busy, as far as there was one"
        used = float(puppet.ask("time.process_time()"))
        total = "proctally_tree_cpu_seconds_total"
        until(lambda: (value(url, total) or 0) > used - 0.05, "all of it is there")
        assert value(url, total) == pytest.approx(used, abs=0.2)
        commands = query(url, "proctally_command_processes_total")
        assert HOSTILE_LABEL in {row["metric"]["command"] for row in commands}
        assert value(url, "count(proctally_member_threads)") == 2
        puppet.do("child.kill(); child.wait()")
        until(lambda: value(url, "count(proctally_member_threads)") == 1, "the series of who is gone ends")
        [row] = query(url, "proctally_processes * on (instance) group_left (name, run_id) proctally_run_info")
        assert row["metric"]["name"] == "job"
        assert row["value"][1] == "1"
        assert value(url, 'proctally_run_state{proctally_run_state="running"}') == 1
        assert (value(url, "scrape_samples_scraped") or 0) > 50
        metadata = json.loads(get(f"{url}/api/v1/metadata?metric=proctally_tree_cpu_seconds"))["data"]
        metadata |= json.loads(get(f"{url}/api/v1/metadata?metric=proctally_tree_cpu_seconds_total"))["data"]
        assert {entry["type"] for entries in metadata.values() for entry in entries} == {"counter"}
        assert puppet.exit(0) == 0
        until(lambda: value(url, "up") == 0, "it is gone")


def test_ended_helper_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        tracker = server.process.pid
        until(lambda: exporter(tracker), "there is an exporter")
        helper = exporter(tracker)
        assert helper is not None
        os.kill(tracker, signal.SIGKILL)
        server.process.wait()
        until(lambda: not runs(helper), "it ended")
        assert not answers(f"{server.url}/metrics")
