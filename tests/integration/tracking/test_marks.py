"""Phases that a job marks from inside: real jobs, strangers' bytes, and no tracker at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from proctally.errors import NotMarked
from proctally.tracking.marks import LONGEST_LINE, LONGEST_NAME, MOST, PARSED_AT_ONCE, PAUSE_NS, VARIABLE, Marks, mark
from tracked import PYTHON

PROCTALLY = f"{sys.executable} -m proctally"


def phases_of(tmp_path: Path, script: str, *options: str) -> tuple[list[dict[str, Any]], str]:
    """The phase lines of a real run of a shell script, and what was said."""
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "proctally", "run", "-q", "--no-record", "-o", str(out), *options]
    done = subprocess.run(
        [*command, "--", "sh", "-ec", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["type"] for line in found][-1] == "summary"
    return [line for line in found if line["type"] == "phase"], done.stderr


def events(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["name"], line["event"]) for line in lines]


# -- real jobs ---------------------------------------------------------------------------------------------------------


def test_a_job_marks_its_phases(tmp_path: Path) -> None:
    busy = f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.3: pass'"
    before = time.time()
    # the pause: a tracker that waits for a CPU takes the mark before the work starts
    job = f"{PROCTALLY} mark load data; sleep 0.2; {busy}; echo fit >> $PROCTALLY_MARKS; sleep 0.2"
    found, said = phases_of(tmp_path, job)
    assert said == ""
    assert events(found) == [("load data", "begin"), ("load data", "end"), ("fit", "begin"), ("fit", "end")]
    load, loaded, fit, fitted = found
    assert before < load["at"] < loaded["at"] == fit["at"] < fitted["at"] < time.time()
    # its parent shows the time of each of two processes in two counters that are cut to ticks
    assert 0.26 <= loaded["cpu_seconds"] - load["cpu_seconds"] < 1.0
    assert fitted["at"] - fit["at"] >= 0.19
    assert 0 < load["elapsed_seconds"] < fitted["elapsed_seconds"] < time.time() - before
    assert 0 <= fitted["cpu_seconds"] - fit["cpu_seconds"] < 0.1


def test_the_job_has_no_end_of_the_pipe(tmp_path: Path) -> None:
    code = (
        "import os; mine = os.stat(os.environ['PROCTALLY_MARKS']).st_ino; listed = os.listdir('/proc/self/fd')\n"
        "assert mine not in [os.stat(int(fd)).st_ino for fd in listed if os.path.exists(f'/proc/self/fd/{fd}')]"
    )
    assert phases_of(tmp_path, f'{sys.executable} -c "{code}"') == ([], "")


def test_a_mark_soon_after_another_is_heard_soon(tmp_path: Path) -> None:
    """Not with the next sample only: those of this run come once a minute, and the first looks are over."""
    tell = "echo {} >> $PROCTALLY_MARKS"
    script = f"sleep 0.55; {tell.format('a')}; sleep 0.005; {tell.format('b')}; sleep 0.4"
    found, _ = phases_of(tmp_path, script, "-i", "60", "--no-system", "--no-gpu")
    begun = {line["name"]: line["at"] for line in found if line["event"] == "begin"}
    assert begun["b"] - begun["a"] < 0.3


def test_a_phase_beside_others(tmp_path: Path) -> None:
    script = "; ".join(
        f"{PROCTALLY} mark {words}" for words in ("a", "--begin b", "c", "--begin b", "--end b", "--begin d", "--end")
    )
    found, _ = phases_of(tmp_path, script)
    assert events(found) == [
        ("a", "begin"),
        ("b", "begin"),
        ("a", "end"),
        ("c", "begin"),
        ("b", "end"),
        ("b", "begin"),
        ("b", "end"),
        ("d", "begin"),
        ("c", "end"),
        ("d", "end"),
    ]


def test_marks_in_great_number_are_bounded_and_told(tmp_path: Path) -> None:
    code = (
        f"import os; f = open(os.environ['PROCTALLY_MARKS'], 'ab')\nfor n in range({MOST + 500}): f.write(b'%d\\n' % n)"
    )
    found, said = phases_of(tmp_path, f'{sys.executable} -c "{code}"')
    assert len(found) == 2 * MOST
    assert said == "proctally: 500 marks of the job were invalid or too many\n"


def test_without_a_tracker_nothing_fails(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROCTALLY_")}

    def marked(**more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "proctally", "mark", "x"]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=30, check=False)

    done = marked()
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "proctally: this is not inside a tracked job; nothing was marked\n"
    done = marked(PROCTALLY_MARKS="/proc/1/fd/99999")
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "cannot be reached" in done.stderr
    done = marked(PROCTALLY_DISABLE="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_tracker_that_was_killed_is_no_fault_of_the_job(tmp_path: Path) -> None:
    out = tmp_path / "said"
    script = f"kill -9 $PPID; sleep 0.1; {PROCTALLY} mark x 2>{out}; echo $? >>{out}"
    command = [sys.executable, "-m", "proctally", "run", "--no-record", "--", "sh", "-c", script]
    assert subprocess.run(command, timeout=30, check=False).returncode == -9
    deadline = time.monotonic() + 20
    while not (out.exists() and out.read_text().endswith("0\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "cannot be reached" in out.read_text()


def test_a_tracker_that_failed_holds_nobody_up(tmp_path: Path) -> None:
    """More is marked than the pipe has room for, and then it rests: neither may wait for it, nor it for ever ask."""
    code = """
import sys, time
from proctally.cli.main import main
from proctally.linux.child import SignalFd
from proctally.tree.sampler import TreeSampler

waited, begun = SignalFd.wait, time.monotonic()
def fails(self, *, last):
    raise RuntimeError("of a test")
def wait(self, fds, timeout):
    waits.append(None)
    return waited(self, fds, timeout)
waits = []
TreeSampler.sample, SignalFd.wait = fails, wait
status = main(sys.argv[1:])
print(len(waits) < 60 + 10 * (time.monotonic() - begun))
sys.exit(status)
"""
    script = (
        'i=0; while [ $i -lt 3000 ]; do echo "a phase of some thirty letters" >> $PROCTALLY_MARKS; i=$((i+1)); done; '
        "sleep 0.5"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "-q", "--no-record", "--", "sh", "-ec", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "of a test" in done.stderr


def test_of_nested_runs_the_innermost_hears(tmp_path: Path) -> None:
    inner = tmp_path / "inner.jsonl"
    script = (
        f"echo outer >> $PROCTALLY_MARKS; {PROCTALLY} run -q --no-record -o {inner} -- {PROCTALLY} mark inner; "
        f"PROCTALLY_DISABLE=1 {PROCTALLY} run -- sh -c 'echo again >> $PROCTALLY_MARKS'"
    )
    found, said = phases_of(tmp_path, script)
    assert [name for name, event in events(found) if event == "begin"] == ["outer", "again"] and said == ""
    assert [json.loads(line)["name"] for line in inner.read_text().splitlines() if '"phase"' in line] == ["inner"] * 2


@pytest.mark.parametrize("shell", ["sh -ec", "bash -eC -c", "dash -ec"])
def test_lines_that_never_fail_a_script(tmp_path: Path, shell: str) -> None:
    """As docs/phases.md has them: with a tracker, and without one."""
    words = shell.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    script = 'echo fit >> "${PROCTALLY_MARKS:-/dev/null}"; echo went on'
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "proctally", "run", "-q", "--no-record", "-o", str(out), "--", *words, script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "went on\n"
    assert out.read_text().count('"type":"phase","name":"fit"') == 2
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    assert subprocess.run([*words, script], env=environment, capture_output=True, check=True).stdout == b"went on\n"


def test_bytes_that_are_no_text_are_one_name(tmp_path: Path) -> None:
    """Whichever way they come."""
    script = f"name=$(printf 'a\\377'); {PROCTALLY} mark $name; echo $name >> $PROCTALLY_MARKS"
    found, _ = phases_of(tmp_path, script)
    assert {name for name, _ in events(found)} == {"a\\xff"}


# -- the pipe ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def marks() -> Any:
    marks = Marks(lambda: 1.5, lambda: 1000.0)
    yield marks
    marks.close()


def tell(marks: Marks, data: bytes) -> None:
    assert marks.path is not None
    with open(marks.path, "ab") as file:
        file.write(data)


def test_a_line_in_two_parts(marks: Marks) -> None:
    tell(marks, b"one\ntw")
    assert events(marks.take(0)) == [("one", "begin")]
    tell(marks, b"o\n")
    assert events(marks.take(0)) == [("one", "end"), ("two", "begin")]
    assert marks.dropped == 0


def test_it_is_deaf_for_a_moment(marks: Marks) -> None:
    assert len(marks.fds(0)) == 1 and marks.timeout(0) is None
    tell(marks, b"x\n")
    assert marks.take(5)
    assert marks.fds(5) == [] and marks.timeout(5) == PAUSE_NS
    assert len(marks.fds(5 + PAUSE_NS)) == 1 and marks.timeout(5 + PAUSE_NS) is None


def test_when_it_was_marked(marks: Marks) -> None:
    tell(marks, b'{"name":"a","at":900.25}\n{"name":"b","at":1e9}\nc\n')
    assert [line["at"] for line in marks.take(0) if line["event"] == "begin"] == [900.25, 1000.0, 1000.0]


def test_times_by_the_clock_that_is_never_set(marks: Marks) -> None:
    marks.started_ns = 7_000_000_000
    tell(marks, b'{"name":"a","at":999.5}\nb\n{"name":"c","at":1}\n')
    begun = [line for line in marks.take(9_000_000_000) if line["event"] == "begin"]
    assert [line["elapsed_seconds"] for line in begun] == [1.5, 2.0, 0.0]


def test_what_is_open_ends_at_the_end(marks: Marks) -> None:
    tell(marks, b'a\n{"name":"b","event":"begin"}\nlast')
    assert events(marks.last(0)) == [("a", "begin"), ("b", "begin"), ("a", "end"), ("b", "end")]
    assert marks.dropped == 1, "a line without its end is no mark, and that is told"


def test_one_line_without_end(marks: Marks) -> None:
    tell(marks, b"x" * (LONGEST_LINE + 1))
    assert marks.take(0) == [] and marks.dropped == 1
    tell(marks, b"x" * 9000)
    tell(marks, b"the end of it\ny\n")
    assert events(marks.take(0)) == [("y", "begin")]
    assert marks.dropped == 1, "it is one line, however long"


def test_a_full_pipe_is_not_waited_for(marks: Marks) -> None:
    assert marks.path is not None
    fd = os.open(marks.path, os.O_WRONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(fd, b"x" * 4095 + b"\n")
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(fd)
    with pytest.raises(NotMarked):
        mark("x", "next", {VARIABLE: marks.path}, 1.0)


def test_who_marks_too_much_costs_little(marks: Marks) -> None:
    looks = []
    marks.look = lambda: looks.append(None)  # type: ignore[func-returns-value]
    for count in (MOST - 1, 2, 3, 30_000):
        tell(marks, b"x\n" * count)
        marks.take(0)
        while marks.has_waiting:
            assert marks.timeout(0) == 0
            marks.take(0)
    assert marks.dropped == 30_004
    assert len(looks) == MOST // PARSED_AT_ONCE + 1, "nothing is read for marks that are not kept"


def test_who_writes_more_than_the_pipe_holds_is_not_waited_for(marks: Marks) -> None:
    """A pause would hold the job up: 64 KiB each 20 ms are 3 MB a second."""
    tell(marks, b"x\n" * 32_000)
    marks.take(1)
    assert len(marks.fds(1)) == 1
    marks.take(2)  # there is nothing
    assert len(marks.fds(2)) == 1


def test_the_pause_ends_before_the_pipe_is_full(marks: Marks) -> None:
    tell(marks, b"x")
    marks.take(0)
    tell(marks, b"x" * 16_384)
    marks.take(8_000_000)
    assert marks.timeout(8_000_000) == 16_000_000, "half of it would be full then"


def test_lines_without_number_of_what_is_no_mark_cost_little(marks: Marks) -> None:
    """Each of them would be parsed for ever."""
    for _ in range(3):
        tell(marks, b"{\n" * 30_000)
        while marks.take(0) or marks.has_waiting:
            pass
    assert marks.dropped == 90_000
    tell(marks, b"x\n")
    assert marks.take(0) == [] and marks.dropped == 90_001


def test_a_tracker_that_failed_hears_nothing_more(marks: Marks) -> None:
    tell(marks, b"x\n" * (PARSED_AT_ONCE + 5))
    assert marks.take(0) and marks.has_waiting
    marks.forget()
    assert (marks.timeout(PAUSE_NS), marks.dropped) == (None, 5)


def test_a_flood_does_not_hold_the_job_up(tmp_path: Path) -> None:
    """With a pause of 20 ms between two reads this took more than ten seconds."""
    code = (
        "import os, time\n"
        "fd = os.open(os.environ['PROCTALLY_MARKS'], os.O_WRONLY)\n"
        "data = b'a phase of some thirty letters\\n' * 2000\n"
        "begun = time.monotonic()\n"
        "for _ in range(500): os.write(fd, data)\n"
        "print(time.monotonic() - begun)"
    )
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "proctally", "run", "-q", "--no-record", "-o", str(out), "--"]
    done = subprocess.run([*command, *PYTHON, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) < 8
    assert done.stderr == f"proctally: {1_000_000 - MOST} marks of the job were invalid or too many\n"
    assert out.read_text().count('"type":"phase"') == 2 * MOST


def test_a_file_that_is_no_pipe_of_a_tracker_is_left_alone(tmp_path: Path) -> None:
    """A pid is another process's by now, or in here: that descriptor may be any file of it."""
    path = tmp_path / "file"
    path.write_bytes(b"precious\n")
    with path.open("ab") as other, pytest.raises(NotMarked):
        mark("x", "next", {VARIABLE: f"/proc/{os.getpid()}/fd/{other.fileno()}"}, 1.0)
    assert path.read_bytes() == b"precious\n"


@pytest.mark.parametrize("name", ["x" * 70_000, "😀" * 9_000, os.fsdecode(b"\xff" * 9_000)])
def test_a_long_name_is_cut(marks: Marks, name: str) -> None:
    assert marks.path is not None
    mark(name, "next", {VARIABLE: marks.path}, 1.0)
    (line,) = marks.take(0)
    assert line["name"] == os.fsencode(name).decode("utf-8", "backslashreplace")[:LONGEST_NAME]


# -- strangers' bytes --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.binary(),
            st.builds(
                json.dumps,
                st.dictionaries(
                    st.sampled_from(["name", "event", "at"]),
                    st.none() | st.text() | st.floats() | st.integers() | st.lists(st.text()),
                ),
            ).map(str.encode),
        )
    )
)
def test_any_bytes_are_lines_of_a_record_or_counted(lines: list[bytes]) -> None:
    marks = Marks(lambda: None, lambda: 1000.0)
    try:
        tell(marks, b"\n".join(lines)[:60_000] + b"\n")
        found = marks.last(0)
    finally:
        marks.close()
    begun = [line["name"] for line in found if line["event"] == "begin"]
    ended = [line["name"] for line in found if line["event"] == "end"]
    assert sorted(begun) == sorted(ended)
    for line in found:
        json.dumps(line, allow_nan=False).encode()
        assert len(line["name"]) > 0 and 0 <= line["at"] <= 1000.0
