"""The plugin of pytest, in sessions of its own (pytester): off unless asked for, its report, JUnit, limits, xdist."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from proctally.library import pytest_measure
from proctally.record.objects import Summary

pytest_plugins = ["pytester"]

BUSY = """
import subprocess, sys, time, pytest

def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass

CHILD = [sys.executable, "-S", "-E", "-c", "import time\\nwhile time.process_time() < 0.3: pass"]
"""


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("PROCTALLY_", "PYTEST_XDIST"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PROCTALLY_HOME", str(tmp_path / "home"))


def session(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(BUSY + tests)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)


def test_off_unless_asked_for(pytester: pytest.Pytester) -> None:
    tests = """
def test_nothing_is_loaded():
    ours = {name for name in sys.modules if name.startswith("proctally.")}
    assert ours <= {"proctally.library", "proctally.library.pytest_plugin"}

@pytest.mark.proctally(max_cpu=0.001)
def test_limit_is_none():
    busy(0.05)
"""
    done = session(pytester, tests, "--strict-markers")
    done.assert_outcomes(passed=2)
    assert "proctally:" not in done.stdout.str()


def test_switched_off(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCTALLY_DISABLE", "1")
    done = session(pytester, "@pytest.mark.proctally(max_wall=0.001)\ndef test_slow(): time.sleep(0.01)", "--proctally")
    done.assert_outcomes(passed=1)
    assert "proctally:" not in done.stdout.str()


def test_a_child_is_not_charged_with_what_its_parent_once_held(pytester: pytest.Pytester) -> None:
    """Between vfork and exec a child is in its parent's memory, whose high-water mark is of earlier tests."""
    tests = """
def test_big():
    held = b"x" * (300 << 20)

@pytest.mark.proctally(max_rss="200MB")
@pytest.mark.parametrize("number", range(20))
def test_small(number):
    for _ in range(3): subprocess.run(["true"])

@pytest.mark.proctally(max_rss="200MB")
def test_child_is_large():
    code = "import time; held = b'x' * (250 << 20); time.sleep(0.3); del held; time.sleep(0.3)"
    subprocess.run([sys.executable, "-S", "-E", "-c", code])
"""
    done = session(pytester, tests, "--proctally")
    done.assert_outcomes(passed=21, failed=1)
    done.stdout.fnmatch_lines(["*FAILED *test_child_is_large*"])


def test_report(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.fixture
def slow():
    busy(0.2)

def test_busy(slow): busy(0.15)
def test_child(): subprocess.run(CHILD); busy(0.1)
def test_memory():
    held = bytearray(200 << 20); held[::4096] = b"x" * len(held[::4096])
def test_fails(): assert False
@pytest.mark.skip
def test_skipped(): pass
"""
    done = session(pytester, tests, "--proctally")
    done.assert_outcomes(passed=3, failed=1, skipped=1)
    lines = done.stdout.lines
    begin = next(number for number, line in enumerate(lines) if "proctally: 4 of 4 tests" in line)
    rows = {line.split()[-1].split("::")[1]: line.split() for line in lines[begin + 2 : begin + 6]}
    assert float(rows["test_child"][0]) == pytest.approx(0.4, abs=0.1)
    assert float(rows["test_busy"][0]) == pytest.approx(0.15, abs=0.03), "without its fixture"
    assert float(rows["test_memory"][2]) > 200
    assert float(rows["test_busy"][2]) < 150
    times = [float(row[0]) for row in rows.values()]
    assert times == sorted(times, reverse=True)
    assert not (pytester.path.parent / "home").exists(), "no records are written"


def test_all_rows(pytester: pytest.Pytester) -> None:
    tests = "@pytest.mark.parametrize('n', range(12))\ndef test_it(n): pass\n"
    assert "proctally: 12 of 12 tests" in session(pytester, tests, "--proctally", "--proctally-rows=0").stdout.str()


@pytest.mark.parametrize("workers", [0, 2])
def test_junit(pytester: pytest.Pytester, workers: int) -> None:
    """The same with workers of xdist, each of which measures its own tests."""
    if workers:
        pytest.importorskip("xdist")
    tests = """
def test_busy(): busy(0.3)
def test_writes(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * (3 << 20))
"""
    options = [f"-n{workers}"] if workers else []
    done = session(pytester, tests, "--proctally", "--junitxml=out.xml", *options)
    done.assert_outcomes(passed=2)
    assert "proctally: 2 of 2 tests" in done.stdout.str()
    found = {}
    for case in ElementTree.parse(pytester.path / "out.xml").iter("testcase"):
        properties = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
        found[case.attrib["name"]] = properties
    assert float(found["test_busy"]["proctally_cpu_seconds"]) == pytest.approx(0.3, abs=0.05)
    assert float(found["test_busy"]["proctally_wall_seconds"]) >= 0.3
    assert int(found["test_writes"]["proctally_write_chars"]) >= 3 << 20
    assert int(found["test_busy"]["proctally_write_chars"]) < 1 << 20
    assert int(found["test_busy"]["proctally_peak_rss_bytes"]) > 5 << 20
    assert "proctally_missing" not in found["test_busy"]


def test_limits(pytester: pytest.Pytester) -> None:
    tests = """
def hold(mib, seconds=0):
    held = bytearray(mib << 20); held[::4096] = b"x" * len(held[::4096]); time.sleep(seconds)

@pytest.mark.proctally(max_rss="1GB", max_rss_growth="75MB", max_cpu=5, max_wall=60)
def test_within(): hold(50)
@pytest.mark.proctally(max_rss="250MB")
def test_memory(): hold(400)
@pytest.mark.proctally(max_rss_growth="100MB")
def test_growth(): hold(200, 0.25)  # below the high-water mark, for as long as looks are apart
@pytest.mark.proctally(max_rss_growth="100MB", max_write="2MB", max_read="1TB")
def test_writes(tmp_path):
    with open(tmp_path / "file", "wb") as file: file.write(b"x" * (4 << 20)); file.flush()
@pytest.mark.proctally(max_cpu=0.2)
def test_cpu(): subprocess.run(CHILD)
@pytest.mark.proctally(max_wall=0.1)
def test_wall(): time.sleep(0.2)
@pytest.mark.proctally(max_cpu=0.01)
def test_own_failure_stands(): busy(0.1); assert "own" == "failure"
@pytest.mark.proctally(max_cpu=5)
class TestNearest:
    @pytest.mark.proctally(max_cpu=0.1)
    def test_near(self): busy(0.2)
    def test_far(self): busy(0.2)
"""
    done = session(pytester, tests, "--proctally", "--proctally-rows=2", "-rA")
    text = done.stdout.str()
    done.assert_outcomes(passed=2, failed=7)
    assert "proctally: 2 of 9 tests, by CPU time" in text
    assert "proctally: max_rss is 250,000,000 bytes, and 4" in text
    assert "proctally: max_rss_growth is 100,000,000 bytes, and 2" in text
    assert "proctally: max_write is 2,000,000 bytes, and 4" in text
    assert "proctally: max_cpu is 0.2 CPU s, and 0.2" in text or "CPU s, and 0.3" in text
    assert re.search(r"proctally: max_wall is 0\.1 s, and (0\.[2-9]|[1-9])", text)
    assert "'own' == 'failure'" in text
    assert text.count("proctally: max_cpu is 0.01 CPU s") == 0


def test_what_is_not_known_exceeds_nothing() -> None:
    class Run:
        summary = Summary()
        samples: tuple[object, ...] = ()
        missing = ("everything",)

    used = pytest_measure.used_by(Run(), 0.5)  # type: ignore[arg-type]
    known = {name: value for name, value in used.items() if value is not None}
    assert known == {"wall_seconds": 0.5, "missing": "everything"}
    assert pytest_measure.limits_exceeded(dict.fromkeys(pytest_measure.UNITS, 1.0), used) == []


def test_marks_that_cannot_be_understood(pytester: pytest.Pytester) -> None:
    marks = {
        'max_rss="much"': "mark proctally, max_rss=much: not a size",
        "max_memory=1": "mark proctally: ['max_memory'] is not known; use max_rss, ",
        '"500MB"': "mark proctally: ('500MB',) is not known",
        'max_cpu="2GiB"': "mark proctally, max_cpu=2GiB: not a time",
        "max_rss=[]": "mark proctally, max_rss=[]: not a number",
    }
    tests = [f"@pytest.mark.proctally({mark})\ndef test_{number}(): pass\n" for number, mark in enumerate(marks)]
    done = session(pytester, "".join(tests), "--proctally")
    done.assert_outcomes(failed=len(marks))
    for told in marks.values():
        assert told in done.stdout.str()


def test_test_that_is_run_once_more(pytester: pytest.Pytester) -> None:
    """As the plugins do that give tests a second chance: what is told is of the last run."""
    conftest = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):
        runtestprotocol(item, nextitem=nextitem)
    return True
"""
    pytester.makeconftest(conftest)
    done = session(pytester, "def test_it(): pass\n", "--proctally", "--junitxml=out.xml")
    done.assert_outcomes(passed=2)
    assert "proctally: 1 of 1 tests" in done.stdout.str()
    *_, case = ElementTree.parse(pytester.path / "out.xml").iter("testcase")
    names = [each.attrib["name"] for each in case.iter("property")]
    assert len(names) == len(set(names)) > 5


@pytest.mark.parametrize("wanted", [True, False])
def test_pytest_that_is_too_old(pytester: pytest.Pytester, wanted: bool) -> None:
    """Every session of every version imports the plugin; one without wrappers is told so when it is to measure."""
    (pytester.path / "old.py").write_text(
        "import pytest\npytest.version_tuple = (7, 1, 3)\npytest.__version__ = '7.1.3'\ndel pytest.hookimpl\n"
    )
    program = "import old, pytest, proctally.library.pytest_plugin as plugin\n" + CONFIGURED.format(wanted)
    done = pytester.runpython_c(program)
    assert ("--proctally needs pytest 8 or newer; this is 7.1.3" in done.stderr.str()) == wanted
    assert bool(done.ret) == wanted


CONFIGURED = """
class Config:
    def addinivalue_line(self, *_): pass
    def getoption(self, name): return {{"--proctally": {}, "--proctally-interval": 0.1}}[name]
plugin.pytest_configure(Config())
"""


def test_interval_that_is_none(pytester: pytest.Pytester) -> None:
    done = session(pytester, "def test_it(): pass\n", "--proctally", "--proctally-interval=0.01")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "use 0.05 or more" in done.stderr.str()


def test_warnings_that_are_errors_end_no_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = """
import os, signal, time
def test_kills_the_sampler():
    mine = str(os.getpid()).encode()
    for _ in range(10):  # the shell that starts it has its words too
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file: words = file.read().split(b"\\0")
                if mine in words and any(b"sidecar" in word for word in words):
                    os.kill(int(pid), signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.03)
def test_next(): busy(0.1)
"""
    done = session(pytester, tests, "--proctally", "-W", "error")
    done.assert_outcomes(passed=2)
    assert "not all could be measured of 1 tests" in done.stdout.str()


def test_import_is_cheap() -> None:
    """Of ours, every session in the environment loads this one file."""
    import subprocess

    code = "import pytest, sys; old = set(sys.modules)"
    code += "; import proctally.library.pytest_plugin; print(*sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["proctally", "proctally.library", "proctally.library.pytest_plugin"]
