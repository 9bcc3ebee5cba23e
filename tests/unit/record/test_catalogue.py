"""Records of the past: found by a word, told by their two ends, listed and deleted."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctally.cli import main
from proctally.history import Filter, NoRecord, glance, lines, moment, named, newest, past, resolve
from proctally.listing import KEYS
from proctally.record import json_line
from tracked import until

HOUR = 3600.0


def header(run_id: str = "0123456789abcdef", **more: Any) -> dict[str, Any]:
    run = {"type": "run", "schema": "proctally/1", "run_id": run_id, "kind": "run", "name": "job", "tags": {}}
    return run | {"started_at": 1767225600.0, "interval_seconds": 1.0, "command": ["job"]} | more


def summary(**more: Any) -> dict[str, Any]:
    figures = {"wall_seconds": 10.0, "cpu": {"total_seconds": 5.0}, "memory": {"peak_pss_bytes": 1 << 20}}
    return {"type": "summary", "verdict": "ok", "ended_at": 1767225610.0} | figures | more


def data(*found: dict[str, Any]) -> bytes:
    return b"".join(map(json_line, found))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROCTALLY_HOME", str(tmp_path))
    runs = tmp_path / "runs"
    runs.mkdir()
    return runs


def put(home: Path, stamp: str, run_id: str, *found: dict[str, Any], ending: str = ".jsonl", **more: Any) -> Path:
    path = home / f"{stamp}-job-{run_id[:8]}{ending}"
    content = data(header(run_id, **more), *found)
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    return path


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def said(capfd: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    out, err = capfd.readouterr()
    return out.splitlines(), err.splitlines()


# -- the two ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("filler", [0, 1, 5000])
def test_a_glance_is_the_first_and_the_last_line(home: Path, ending: str, filler: int) -> None:
    many = [{"type": "sample", "at": number} for number in range(filler)]
    path = put(home, "20260101T000000Z", "a" * 32, *many, summary(verdict="oom"), ending=ending)
    found = glance(str(path))
    assert found.run["run_id"] == "a" * 32
    assert found.verdict == "oom"
    assert found.figure("cpu.total_seconds") == 5.0
    assert found.figure("cpu.nothing") is None and found.figure("nothing.at.all") is None


@pytest.mark.parametrize("length", [100, 16 << 10, 300 << 10])
def test_ends_of_any_length(home: Path, length: int) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, summary(evidence="x" * length), command=["y" * length])
    found = glance(str(path))
    assert found.run["command"] == ["y" * length]
    assert found.figure("evidence") == "x" * length


def test_a_line_that_never_ends_takes_no_memory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of zeros is a kilobyte when compressed, and a gigabyte a megabyte."""
    monkeypatch.setattr("proctally.history.LONGEST_LINE", 1 << 20)
    begin, end = data(header()), data(summary())
    for content in (begin + bytes(64 << 20) + b"\n" + end, begin + bytes(64 << 20), bytes(64 << 20)):
        path = home / "bomb.jsonl.gz"
        path.write_bytes(gzip.compress(content, 1))
        tracemalloc.start()
        try:
            assert (glance(str(path)).summary is not None) == content.endswith(end)
        except NoRecord:
            assert not content.startswith(begin)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 16 << 20


def test_a_record_without_its_end_is_running_or_lost(home: Path) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, {"type": "sample"})
    assert (glance(str(path)).verdict, glance(str(path)).summary) == ("running", None)
    age(path, 11)
    assert glance(str(path)).verdict == "lost"
    slow = put(home, "20260101T000000Z", "b" * 32, {"type": "sample"}, interval_seconds=60.0)
    age(slow, 170)
    assert glance(str(slow)).verdict == "running", "its samples are a minute apart"
    age(slow, 190)
    assert glance(str(slow)).verdict == "lost"


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


def test_a_summary_that_is_not_whole_is_none(home: Path) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, {"type": "sample"})
    with path.open("ab") as file:
        file.write(json_line(summary())[:-1])
    assert glance(str(path)).summary is None


def test_cut_anywhere_it_is_read_or_refused(home: Path) -> None:
    whole = data(header(), {"type": "sample", "at": 1.0}, summary())
    packed = gzip.compress(whole)
    path = home / "cut.jsonl"
    for content in (whole, packed):
        for end in range(len(content)):
            path.write_bytes(content[:end])
            try:
                assert glance(str(path)).summary is None or content is packed  # cut in the checksum behind it all
            except NoRecord:
                pass
            try:
                assert all(line["type"] != "summary" for line in lines(str(path))) or content is packed
            except NoRecord:
                pass


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(),
        st.binary().map(gzip.compress),
        st.recursive(st.none() | st.text(), st.lists).map(repr).map(str.encode),
    )
)
def test_any_file_is_a_record_or_refused(content: bytes) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"proctally-any-{os.getpid()}.jsonl"
    try:
        path.write_bytes(content)
        with pytest.raises(NoRecord):
            glance(str(path))
    finally:
        path.unlink(missing_ok=True)


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


# -- which one is meant ------------------------------------------------------------------------------------------------


def test_words(home: Path) -> None:
    environment = dict(os.environ)
    first = str(put(home, "20260101T000000Z", "abcd1111" + "0" * 24, summary()))
    second = str(put(home, "20260102T000000Z", "abcd2222" + "0" * 24, summary(), started_at=1767312000.0))
    assert resolve("last", environment) == [second] == [newest(environment)]
    assert resolve("name:job", environment) == [second, first]
    assert resolve("abcd1", environment) == [first]
    assert resolve(os.path.basename(first), environment) == [first]
    for word, why in (
        ("abcd", "may be each of 2 records"),
        ("abc", "there is no record 'abc'"),
        ("name:other", "no past run with the name 'other'"),
        ("./nowhere.jsonl", "./nowhere.jsonl: No such file"),
    ):
        with pytest.raises(NoRecord, match=why):
            resolve(word, environment)


def test_a_whole_id_is_compared_to_its_end(home: Path) -> None:
    environment = dict(os.environ)
    path = str(put(home, "20260101T000000Z", "abcd1111" + "2" * 24, summary()))
    assert resolve("abcd1111" + "2" * 24, environment) == resolve("abcd11112", environment) == [path]
    for other in ("abcd11113", "abcd1111" + "2" * 23 + "3", "abcd1111" + "2" * 25):
        with pytest.raises(NoRecord, match="there is no record"):
            resolve(other, environment)
    os.rename(path, home / "renamed-train.jsonl")
    assert resolve("abcd1111", environment) == [str(home / "renamed-train.jsonl")], "as ls tells it"
    with pytest.raises(NoRecord, match="there is no record"):
        resolve("trai", environment)
    (home / "copy.jsonl.gz").write_bytes(gzip.compress((home / "renamed-train.jsonl").read_bytes()))
    with pytest.raises(NoRecord, match=r"give more of its id, or a file: copy.jsonl.gz, renamed-train.jsonl"):
        resolve("abcd1111", environment)


def test_words_with_commas_and_each_run_once(home: Path) -> None:
    environment = dict(os.environ)
    odd = put(home, "20260101T000000Z", "a" * 32, summary(), name="a,b[1]")
    other = put(home, "20260102T000000Z", "b" * 32, summary(), name="b", started_at=1767312000.0)
    assert [found.path for found in named(["name:a,b[1]"], environment)] == [str(odd)]
    assert [found.path for found in named(["bbbb,aaaa"], environment)] == [str(other), str(odd)]
    assert [found.path for found in named([str(odd), "bbbb,aaaa", "last"], environment)] == [str(odd), str(other)]
    copy = home.parent / "copy.jsonl.gz"
    copy.write_bytes(gzip.compress(odd.read_bytes()))
    assert [found.path for found in named([str(copy), "aaaa"], environment)] == [str(copy)], "a copy is no other run"
    assert Filter(name="a,b[1]").takes(glance(str(odd))), "as it is, or as a pattern"
    for nothing in ("", ",", "bbbb,cccc"):
        with pytest.raises(NoRecord):
            named([nothing], environment)


def test_without_any_record(tmp_path: Path) -> None:
    environment = {"PROCTALLY_HOME": str(tmp_path / "none")}
    assert past(environment) == ([], [])
    with pytest.raises(NoRecord, match="there is no record in"):
        resolve("last", environment)


def test_filters(home: Path) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, summary(), name="train-3", tags={"lr": "0.1"})
    record = glance(str(path))
    for wanted, takes in (
        (Filter(), True),
        (Filter(name="train-3"), True),
        (Filter(name="train-*"), True),
        (Filter(name="train"), False),
        (Filter(tags={"lr": "0.1"}), True),
        (Filter(tags={"lr": "0.2"}), False),
        (Filter(tags={"other": "0.1"}), False),
        (Filter(verdicts=["ok", "oom"]), True),
        (Filter(verdicts=["oom"]), False),
        (Filter(since=record.started_at), True),
        (Filter(since=record.started_at + 1), False),
        (Filter(before=record.started_at), False),
        (Filter(before=record.started_at + 1), True),
    ):
        assert wanted.takes(record) is takes


def test_moments() -> None:
    now = time.time()
    for text, seconds in (("90s", 90), ("1.5h", 5400), ("2d", 2 * 86400), ("4w", 4 * 7 * 86400), ("30m", 1800)):
        assert abs(now - seconds - moment(text)) < 60
    assert moment("2026-01-31T12:00:00+00:00") == 1769860800.0
    for text in ("", "d", "7", "7x", "-7d", "yesterday", "2026-13-01", "1.2.3d"):
        with pytest.raises(ValueError, match="is no age"):
            moment(text)


# -- ls ----------------------------------------------------------------------------------------------------------------


def test_listed_in_order_with_unknown_last(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, (cpu, name) in enumerate(((3.0, "b"), (9.0, "c"), (None, "a"))):
        more = summary(cpu={"total_seconds": cpu})
        put(home, f"2026010{number + 1}T000000Z", str(number) * 32, more, name=name, started_at=1767225600.0 + number)

    def ids(*arguments: str) -> str:
        assert main(["ls", *arguments]) == 0
        return "".join(line[18] for line in said(capfd)[0][1:])

    assert ids() == "210"
    assert ids("--reverse") == "012"
    assert ids("--sort", "cpu") == "102"
    assert ids("--sort", "cpu", "--reverse") == "012"
    assert ids("--sort", "name") == "201"
    assert ids("--limit", "2") == "21"
    assert ids("-n", "c") == "1"
    assert ids("--since", "2026-01-01T00:00:01+00:00") == "21"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (99.9, "99.9 s"), (100, "1m40s"), (5999, "99m59s"), (6000, "1h40m"), (359_999, "99h59m"),
        (360_000, "4d04h"), (8_640_000, "100 d"), (None, "-"),
    ],
)  # fmt: skip
def test_times_in_the_list(home: Path, capfd: pytest.CaptureFixture[str], seconds: float | None, text: str) -> None:
    put(home, "20260101T000000Z", "a" * 32, summary(wall_seconds=seconds))
    assert main(["ls"]) == 0
    assert f" {text} " in said(capfd)[0][1]


def test_no_line_is_wider_than_a_terminal(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wide = summary(
        wall_seconds=9e6, cpu={"total_seconds": 8e9}, memory={"peak_pss_bytes": 999 << 40}, verdict="x\x1b[31m" * 9
    )
    put(home, "20260101T000000Z", "a" * 32, wide, name="é\x1b]0;x\x07" * 20)
    put(home, "20260101T000000Z", "b" * 32, name="", started_at=None)
    assert main(["ls"]) == 0
    out, _ = said(capfd)
    assert len(out) == 3
    for line in out:
        assert len(line) <= 80
        assert line.isprintable()


def test_what_is_no_record_is_named_and_skipped(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(home, "20260101T000000Z", "a" * 32, summary())
    (home / "notes.txt").write_text("not looked at")
    (home / "20260101T000000Z-x-00000000.jsonl").write_text('{"type":"other"}\n')
    (home / "empty.jsonl").write_text("")
    (home / "folder.jsonl").mkdir()
    (home / "gone.jsonl").symlink_to(home / "nowhere")
    os.mkfifo(home / "pipe.jsonl")  # nobody ever writes into it
    assert main(["ls"]) == 0
    out, err = said(capfd)
    assert len(out) == 2
    assert len(err) == 4 and any(line.endswith("pipe.jsonl: is no file") for line in err)
    assert all(line.startswith("proctally: skipped: ") for line in err)
    assert {"empty.jsonl", "folder.jsonl", "00000000.jsonl"} == {
        name
        for name in ("empty.jsonl", "folder.jsonl", "00000000.jsonl", "gone", "notes")
        if any(name in e for e in err)
    }


def test_as_json(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, summary(), tags={"k": "v"})
    assert main(["ls", "--json"]) == 0
    (line,) = said(capfd)[0]
    found = json.loads(line)
    assert (found["path"], found["run_id"], found["verdict"]) == (str(path), "a" * 32, "ok")
    assert found["tags"] == {"k": "v"} and found["summary"]["cpu"]["total_seconds"] == 5.0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"abc"', "true", "null", "[1]", "-5", str(1 << 70)])
@pytest.mark.parametrize("field", ["wall_seconds", "cpu", "memory", "verdict"])
def test_whatever_a_summary_holds_is_listed(
    home: Path, capfd: pytest.CaptureFixture[str], value: str, field: str
) -> None:
    plain = put(home, "20260101T000000Z", "b" * 32, summary())
    path = put(home, "20260102T000000Z", "a" * 32, tags=["k"], started_at="soon")
    path.write_bytes(path.read_bytes() + f'{{"type":"summary","{field}":{value}}}\n'.encode())
    for sort in KEYS:
        assert main(["ls", "--sort", sort]) == 0
        out, err = said(capfd)
        assert len(out) == 3 and not err and (max(map(len, out)) <= 80 or len(value) > 20)
        assert out[-1 if sort == "when" else 0].startswith(("-  ", "WHEN")), "when that was nobody knows"
    assert main(["ls", "--tag", "k=v"]) == 0
    assert len(said(capfd)[0]) == 1
    assert main(["ls", "--json"]) == 0
    out, err = said(capfd)
    told = [json.loads(line, parse_constant=pytest.fail)["path"] for line in out]
    is_none = value in ("NaN", "Infinity", "1e999")
    assert sorted(told) == sorted([str(plain)] + [str(path)] * (not is_none))
    assert [line for line in err if str(path) in line] == err and len(err) == is_none


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls", "x"], "takes options only"),
        (["ls", "--sort", "size"], "is not known"),
        (["ls", "--since", "soon"], "is no age"),
        (["rm"], "which runs?"),
        (["rm", "--older-than", "x"], "is no age"),
    ],
)
def test_mistakes(home: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    out, err = said(capfd)
    assert not out and len(err) == 1 and words in err[0]


def test_a_reader_that_has_enough(home: Path) -> None:
    for number in range(300):
        put(home, "20260101T000000Z", f"{number:08}" + "0" * 24, summary())
    ended = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m proctally ls | head -1; exit 0"], capture_output=True, check=False, text=True
    )
    assert ended.stdout.startswith("WHEN") and not ended.stderr


@pytest.mark.parametrize(
    ("to", "status", "why"), [(">/dev/full", 1, "proctally: cannot write: No space left on device\n"), (">&-", 0, "")]
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


def test_the_old_are_deleted(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = put(home, "20260101T000000Z", "a" * 32, summary(), started_at=time.time() - 40 * 24 * HOUR)
    new = put(home, "20260101T000000Z", "b" * 32, summary(), started_at=time.time() - HOUR)
    written = put(home, "20260101T000000Z", "c" * 32, started_at=time.time() - 40 * 24 * HOUR)
    undated = put(home, "20260101T000000Z", "d" * 32, summary(), started_at=None)
    foreign = home / "foreign.jsonl"
    foreign.write_text("mine")
    assert main(["rm", "--older-than", "30d", "--dry-run"]) == 1
    out, err = said(capfd)
    assert old.exists() and out == [f"1 run would be deleted, {old.stat().st_size} B"]
    assert len(err) == 1 and "still written" in err[0]
    assert main(["rm", "--older-than", "30d"]) == 1
    assert not old.exists() and new.exists() and written.exists() and foreign.exists()
    assert undated.exists(), "of what age it is nobody knows"


def test_named_ones_are_deleted(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept = put(home, "20260101T000000Z", "abcd1111" + "0" * 24, summary())
    gone = put(home, "20260101T000000Z", "abcd2222" + "0" * 24, summary())
    foreign = home / "foreign.jsonl"
    foreign.write_text("mine")
    assert main(["rm", "abcd2"]) == 0
    assert kept.exists() and not gone.exists()
    assert main(["rm", "abcd1", "abcd9"]) == 1, "one that is not there: nothing is deleted"
    assert main(["rm", str(foreign)]) == 1
    assert kept.exists() and foreign.exists()
    assert main(["rm", "name:job", "--verdict", "failed"]) == 0
    assert kept.exists(), "the options choose among those that are named"
    assert main(["rm", "name:job"]) == 0
    assert not kept.exists()


def test_a_link_is_no_record(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, summary())
    path.rename(home.parent / "kept")
    path.symlink_to(home.parent / "kept")
    assert main(["rm", "--older-than", "2026-02-01"]) == 1
    assert path.exists() and "is a link; left alone" in said(capfd)[1][0]


def test_one_that_may_not_be_deleted(home: Path) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, summary())
    code = "import os,sys,fnmatch,proctally.listing,proctally.cli;os.setuid(65534);"
    code += "from proctally.cli import main;sys.exit(main(['rm', sys.argv[1]]))"
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
