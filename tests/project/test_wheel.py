"""The wheel, installed into an environment of its own: every way in works without this repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest

from installs import JOB, QUIET, hostile_modules
from places import ROOT
from tracked import PATIENCE, until

pytestmark = pytest.mark.slow
TRACK = """
import proctally

with proctally.track(interval=0.1, system=False) as run:
    sum(range(1_000_000))
assert run.summary.verdict == "ok", run.missing
print(proctally.__file__)
"""
MAGIC = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "proctally")
shell.run_cell_magic("track", "", "sum(range(1_000_000))")
"""
MARKED = """
import pytest

@pytest.mark.proctally(max_cpu=60)
def test_one():
    sum(range(1_000_000))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and beside it what this one has of other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", str(ROOT)], check=True)
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    # a .pth of that folder is not read from here, and so the editable install in it is not seen
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return folder / "bin"


def environment(home: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PROCTALLY_", "PYTHON"))}
    return inherited | {"PROCTALLY_HOME": str(home)}


def call(*command: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, "cwd": home}
    done = subprocess.run(command, env=environment(home), check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    result: subprocess.CompletedProcess[str] = done
    return result


def test_run_and_report(installed: Path, tmp_path: Path) -> None:
    done = call(installed / "proctally", "run", "--", "sh", "-c", "sleep 0.2; echo out", home=tmp_path)
    assert done.stdout == "out\n" and done.stderr.startswith("proctally sh  ok")
    call(installed / "proctally", "report", "-o", "report.html", "last", home=tmp_path)
    assert "proctally report</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_run_with_hostile_pythonpath_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    env = environment(tmp_path) | {"PYTHONPATH": str(hostile_modules(tmp_path / "modules"))}
    done = subprocess.run([installed / "proctally", *QUIET, *JOB], env=env, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_track_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = call(installed / "python", "-c", TRACK, home=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(installed.parent)


def test_pytest_plugin_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_marked.py").write_text(MARKED, encoding="utf-8")
    done = call(installed / "python", "-m", "pytest", "--proctally", "test_marked.py", home=tmp_path)
    assert "proctally: 1 of 1 tests" in done.stdout


def test_magic_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("IPython", reason="no IPython")
    assert "CPU" in call(installed / "python", "-c", MAGIC, home=tmp_path).stdout


def test_exporter_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="no prometheus_client")
    command = [str(installed / "proctally"), "serve", "--listen", "127.0.0.1:0", "--duration", "10"]
    with subprocess.Popen(command, env=environment(tmp_path), stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = server.stderr.readline().split()[-1]
        taken: list[bytes] = []

        def scrape() -> bool:
            with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                taken.append(answer.read())
            return b"proctally_system_cpu_seconds" in taken[-1]

        until(scrape, "a sample of the machine")
        server.terminate()


def test_gpu_helper_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import os; from proctally.linux.spawn import python\n"
        "*command, code = python('proctally.host.gpu_helper', packages=['pynvml'])\n"
        "os.execv(command[0], [*command, code.replace('main()', 'print(main.__module__)')])"
    )
    done = call(installed / "python", "-I", "-c", code, home=tmp_path)
    assert done.stdout == "proctally.host.gpu_helper\n"
