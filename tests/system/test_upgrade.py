"""A package that is removed while it tracks, as an upgrade does to a job of days: nothing of the run is lost."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from installs import VERSION, environment_of_its_own
from tracked import PATIENCE, environment, of_type, record, until, whole

LOADED_SECONDS = 12.0  # of a run, after which it needs nothing of the package
OLD = f"lib/{VERSION}/site-packages"
NEEDS_PROMETHEUS = pytest.mark.skipif(find_spec("prometheus_client") is None, reason="the extra is not installed")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installation, with what its exporter needs."""
    environment_of_its_own(tmp_path / "venv")
    spec = find_spec("prometheus_client")
    if spec is not None and spec.origin is not None:
        shutil.copytree(Path(spec.origin).parent, tmp_path / "venv" / OLD / "prometheus_client")
    return tmp_path / "venv"


def remove(prefix: Path) -> None:
    (prefix / OLD).rename(prefix / "removed")


def tracking(home: Path, prefix: Path, *words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [prefix / "bin/proctally", *words], env=environment(home), stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def ended(process: subprocess.Popen[str]) -> str:
    """Return its summary, without any warning."""
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "\nproctally: " not in said and "  record " in said, said
    return said


@NEEDS_PROMETHEUS
def test_run(tmp_path: Path, prefix: Path) -> None:
    text = tmp_path / "run.prom"
    job = f"""
sleep {LOADED_SECONDS}
mv '{prefix / OLD}' '{prefix}/removed'
echo built >> "$PROCTALLY_MARKS"
sleep 0.5
"""
    options = ["-i", "0.2", "--textfile", text, "--serve", "127.0.0.1:0", "--summary-json", tmp_path / "summary"]
    ended(tracking(tmp_path, prefix, "run", *options, "--", "sh", "-c", job))
    assert whole(record(tmp_path))["phases"][0]["name"] == "built"
    assert "proctally_run_exit_code" in text.read_text(encoding="utf-8")
    assert (tmp_path / "summary").stat().st_size > 0


@pytest.mark.parametrize("kind", ["attach", "system"])
def test_what_is_tracked_on_its_own(tmp_path: Path, prefix: Path, kind: str) -> None:
    with subprocess.Popen(["sleep", "20"]) as sleeper:
        words = [str(sleeper.pid)] if kind == "attach" else []
        process = tracking(tmp_path, prefix, kind, "-i", "0.2", *words)
        until(lambda: list(tmp_path.glob("runs/*")), "it tracks")
        time.sleep(LOADED_SECONDS)
        remove(prefix)
        process.send_signal(signal.SIGTERM)
        ended(process)
        sleeper.kill()
    assert whole(record(tmp_path))["reason"]["code"] == "stopped"


def test_track(tmp_path: Path, prefix: Path) -> None:
    code = f"""
import os, time, proctally
with proctally.track(interval=0.1) as run:
    time.sleep({LOADED_SECONDS})
    os.rename({str(prefix / OLD)!r}, {str(prefix / "removed")!r})
    with run.phase("rest"):
        time.sleep(0.2)
assert run.missing == [] and run.summary.wall_seconds > {LOADED_SECONDS}, run.missing
"""
    python = [prefix / "bin/python", "-c", code]
    done = subprocess.run(python, env=environment(tmp_path), capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = record(tmp_path)
    assert whole(lines)["phases"][0]["name"] == "rest"
    assert len(of_type(lines, "phase")) == 2
