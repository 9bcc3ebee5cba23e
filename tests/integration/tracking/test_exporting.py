"""The exporter process, started by hand."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
import proctally  # noqa: E402
from exported import state, value  # noqa: E402
from proctally.errors import UsageError  # noqa: E402
from proctally.linux.machine import Machine  # noqa: E402
from proctally.tracking.config import Options, has_exports
from proctally.tracking.exporting import ExporterLimits, Exports, Outlets, listen  # noqa: E402
from tracked import (  # noqa: E402
    PATIENCE,
    User,
    environment,
    runs,
    until,
)

pytestmark = pytest.mark.timeout(120)  # several waits for a server, of at most 20 s each


# -- a run with a file -----------------------------------------------------------------------------------------------


def test_a_user_who_is_not_root(user: User) -> None:
    spec = importlib.util.find_spec("prometheus_client")
    assert spec is not None and spec.origin is not None
    there = user.folder / "package" / "prometheus_client"
    if not there.exists():
        shutil.copytree(Path(spec.origin).parent, there)
        for path in [there, *there.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    path = user.folder / "x.prom"
    done = user.call("run", "-q", "-i", "0.1", "--textfile", str(path), "--", "sh", "-c", "sleep 0.3")
    assert (done.status, done.stderr) == (0, b"")
    assert state(path) == "ok"
    assert path.stat().st_uid == (os.getuid() if user.number is None else user.number)
    if user.number is not None:
        done = user.call("run", "-q", "--textfile", "/root-of-nobody.prom", "--", "true")
        assert done.status == 125
        assert done.stderr == b"proctally: --textfile /root-of-nobody.prom: Permission denied\n"


# -- it is no part of the job ----------------------------------------------------------------------------------------


def test_nothing_of_it_is_loaded_when_it_is_not_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "proctally", "run", "-q", "--", "true"],
        env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "proctally.tracking.run" in loaded
    assert not loaded & {
        "proctally.tracking.exporting",
        "proctally.tracking.live_lines",
        "proctally.exporters.process",
        "prometheus_client",
        "_socket",
    }


def test_address_is_had_without_the_codec_for_names_of_hosts() -> None:
    code = "import sys; from proctally.tracking import exporting; exporting.listen('0'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE).stdout
    assert "proctally.tracking.exporting" in loaded.split()
    assert not set(loaded.split()) & {"encodings.idna", "stringprep", "socket", "re"}


# -- what is said before anything starts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("serve", "x"), ("serve", "127.0.0.1:99999"), ("serve", "example.org:80"), ("serve", "203.0.113.9:80"),
        ("serve", ""), ("serve", "\udcff:80"), ("serve", "é:80"), ("serve", "[::1"), ("serve", "127.0.0.1:-1"),
        ("textfile", "/nowhere/x.prom"), ("textfile", "/tmp"), ("textfile", "{nothing}.prom"), ("textfile", ""),
        ("textfile", "/dev/null"),
        ("pushgateway", "localhost:9091"), ("pushgateway", "ftp://h:1"), ("pushgateway", "http://u:secret@"),
        ("pushgateway", ""), ("pushgateway", "http://u:secret@h:1/?a=b"), ("pushgateway", "http://h:1/a b"),
        ("pushgateway", "http://h:1/\udcff"), ("pushgateway", "http://h:99999"), ("otlp", ""), ("otlp", "h:4317"),
        ("pushgateway", "secret@h:1"), ("pushgateway", "u:secret@h:1"), ("otlp", "secret@h:4317"),
        ("pushgateway", "ftp://h/?token=secret"), ("pushgateway", "http://h/?token=secret["),
        ("pushgateway", "http://h/#secret"), ("otlp", "h/?x=secret"), ("otlp", "https//u:secret@h:1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(option: str, wrong: str) -> None:
    options = Options()
    setattr(options, option, wrong)
    assert has_exports(options)
    with pytest.raises(UsageError) as refused:
        Outlets(options, {}, {})
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "extra"),
    [(("--serve", "127.0.0.1:0"), "prometheus"), (("--otlp", "http://127.0.0.1:1"), "otlp")],
)
def test_missing_package_is_said_before_the_job(tmp_path: Path, options: tuple[str, str], extra: str) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "proctally", "run", *options, "--", "touch", str(tmp_path / "ran")],
        env=environment(tmp_path, PYTHONPATH=str(Path(proctally.__file__).parent.parent)),
        capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 125
    assert f"pip install 'proctally[{extra}]'".encode() in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("where", "host"),
    [
        ("0", "127.0.0.1"),
        (":0", "127.0.0.1"),
        ("localhost:0", "127.0.0.1"),
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "0.0.0.0"),
    ],
)
def test_it_listens_on_the_loopback_unless_told_otherwise(where: str, host: str) -> None:
    listening, address = listen(where)
    with socket.socket(fileno=listening.detach()) as opened:
        assert opened.getsockname()[0] == host
        assert address == f"{host}:{opened.getsockname()[1]}"


# -- the queue -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(10_000, 1000), (300_000, 60)], ids=["many", "such as go in parts"])
def test_queue_is_bounded_and_what_is_dropped_is_told(tmp_path: Path, size: int, count: int) -> None:
    path = tmp_path / "x.prom"
    options = Options()
    options.textfile = str(path)
    told: list[int] = []
    exports = Exports(
        Machine(),
        environment(tmp_path),
        Outlets(options, {}, {}),
        started=told.append,
        limits=ExporterLimits(lines=10, byte_count=1 << 20),
    )
    exports.write({"type": "run", "run_id": "r", "name": "n", "started_at": 1.0})
    helper = told[0]
    os.kill(helper, signal.SIGSTOP)
    sample = {"type": "sample", "at": 2.0, "tree": {"rss_bytes": 1}}
    begun = time.monotonic()
    for number in range(count):
        filling: object = "x" * size
        for _ in range(number % 59):  # a part of one line and a part of another are no JSON
            filling = [filling]
        exports.write(sample | {"filling": filling})
    assert time.monotonic() - begun < 2
    assert count / 2 < exports.dropped < count
    os.kill(helper, signal.SIGCONT)
    time.sleep(0.5)
    exports.write(sample | {"tree": {"rss_bytes": 77}})
    exports.write({"type": "summary", "verdict": "ok", "ended_at": 3.0})
    exports.finish()
    until(lambda: not runs(helper), "it ended")
    assert exports.cpu_ns() > 0
    assert value(path, "exporter_lines_dropped_total") == exports.dropped
    assert value(path, "process_resident_memory_bytes") == 77
    assert exports.warnings() == [f"exporter: {exports.dropped} lines were dropped, because it did not read them"]


def test_one_that_cannot_be_started_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(sys, "base_exec_prefix", "/nowhere")
    options = Options()
    options.textfile = str(tmp_path / "x.prom")
    exports = Exports(Machine(), {}, Outlets(options, {}, {}))
    exports.write({"type": "summary"})
    exports.finish()
    assert exports.warnings() == ["exporter: there is no interpreter that could be started"]
