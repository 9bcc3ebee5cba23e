"""The command `ls` with real runs and readers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from catalogue_files import HOUR, age, put, said, summary
from proctally.cli.main import main
from proctally.record.catalogue import glance, past, resolve
from tracked import until


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROCTALLY_HOME", str(tmp_path))
    runs = tmp_path / "runs"
    runs.mkdir()
    return runs


# -- the two ends ------------------------------------------------------------------------------------------------------


def test_a_record_whose_tracker_is_stopped_is_not_lost(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-Z for a minute: nothing is added, and it is still written."""
    command = [sys.executable, "-m", "proctally", "run", "-q", "-n", "stopped", "--", "sleep", "60"]
    with subprocess.Popen(command, start_new_session=True) as tracker:
        try:
            until(lambda: any(path.stat().st_size for path in home.iterdir()), "a record")
            (path,) = home.iterdir()
            os.kill(tracker.pid, signal.SIGSTOP)
            until(lambda: ") T " in Path(f"/proc/{tracker.pid}/stat").read_text(), "it stops")
            age(path, HOUR)
            with path.open("rb"):  # a reader proves nothing
                assert main(["rm", "last"]) == main(["rm", "--older-than", "0s"]) == 1
            assert path.exists()
            out, err = said(capfd)
            assert len(err) == 2 and all("still written" in line for line in err)
            assert main(["ls"]) == 0
            assert "running" in said(capfd)[0][1]
            assert main(["advise"]) == 1 and "still runs" in said(capfd)[1][0]
        finally:
            tracker.kill()
            os.kill(glance(str(path)).run["pid"], signal.SIGKILL)
    age(path, HOUR)
    with path.open("rb"):
        assert main(["ls"]) == 0
        assert "lost" in said(capfd)[0][1]
        assert main(["rm", "last"]) == 0
    assert not path.exists()


# -- a real one --------------------------------------------------------------------------------------------------------


def test_a_real_run_is_listed_and_found(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "proctally", "run", "-q", "-n", "real", "--", "sh", "-c", "exit 3"]
    assert subprocess.run(command, check=False).returncode == 3
    found, strange = past(dict(os.environ))
    assert [(record.name, record.verdict) for record in found] == [("real", "failed")] and not strange
    run_id = found[0].run["run_id"]
    for word in ("last", "name:real", run_id, run_id[:6], os.path.basename(found[0].path), found[0].path):
        assert resolve(word, dict(os.environ)) == [found[0].path], word
    assert main(["ls"]) == 0
    out, err = said(capfd)
    assert run_id[:8] in out[1] and "real" in out[1] and "failed" in out[1] and not err
    assert subprocess.run(["gzip", found[0].path], check=False).returncode == 0
    assert resolve(run_id[:6], dict(os.environ)) == [found[0].path + ".gz"]
    assert past(dict(os.environ))[0][0].summary == found[0].summary


# -- ls ----------------------------------------------------------------------------------------------------------------


def test_a_reader_that_has_enough(home: Path) -> None:
    for number in range(300):
        put(home, "20260101T000000Z", f"{number:08}" + "0" * 24, summary())
    ended = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m proctally ls | head -1; exit 0"], capture_output=True, check=False, text=True
    )
    assert ended.stdout.startswith("WHEN") and not ended.stderr


@pytest.mark.parametrize(
    ("to", "status", "why"),
    [
        (">/dev/full", 1, "proctally: stdout: No space left on device\n"),
        (">&-", 1, "proctally: stdout: Bad file descriptor\n"),
    ],
)
@pytest.mark.parametrize("options", ["", "--json"])
def test_nowhere_to_write(home: Path, to: str, status: int, why: str, options: str) -> None:
    put(home, "20260101T000000Z", "a" * 32, summary(), name="é")
    command = ["sh", "-c", f"{sys.executable} -m proctally ls {options} {to}"]
    ended = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stderr) == (status, why)


def test_a_terminal_that_knows_no_other_signs(home: Path) -> None:
    put(home, "20260101T000000Z", "a" * 32, summary(), name="é" * 30)
    command = [sys.executable, "-m", "proctally", "ls"]
    ended = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert ended.returncode == 0 and not ended.stderr and "é…".encode() in ended.stdout


# -- rm ----------------------------------------------------------------------------------------------------------------


def test_one_that_may_not_be_deleted(home: Path) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, summary())
    code = "import fcntl,os,sys,fnmatch,proctally.views.listing,proctally.cli.main;os.setuid(65534);"
    code += "from proctally.cli.main import main;sys.exit(main(['rm', sys.argv[1]]))"
    if os.getuid():
        home.chmod(0o500)
        code = code.replace("os.setuid(65534);", "")
    path.chmod(0o644)
    for folder in (home, home.parent):
        folder.chmod(0o755)
    for folder in home.parent.parents:
        if os.stat(folder).st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    home.chmod(0o755)
    assert ended.returncode == 1 and path.exists()
    assert ended.stderr.count("\n") == 1 and "Permission denied" in ended.stderr
