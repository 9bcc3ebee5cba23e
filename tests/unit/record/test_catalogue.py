"""Past runs, found by a word and read from their first and last lines."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogue_files import age, data, header, put, summary
from examples import examples
from proctally.errors import NoRecord
from proctally.record.catalogue import Filter, glance, moment, named, newest, past, resolve
from proctally.record.reader import lines
from proctally.record.writer import json_line
from writing import held


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROCTALLY_HOME", str(tmp_path))
    runs = tmp_path / "runs"
    runs.mkdir()
    return runs


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
    path = put(home, "20260101T000000Z", "a" * 32, summary(x=["x" * 1000] * (length // 1000)), command=["y" * length])
    found = glance(str(path))
    assert found.run["command"] == ["y" * length]
    assert found.figure("x") == ["x" * 1000] * (length // 1000)


def test_a_line_that_never_ends_takes_no_memory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of zeros is a kilobyte when compressed, and a gigabyte a megabyte."""
    monkeypatch.setattr("proctally.record.reader.MAX_LINE_BYTES", 1 << 20)
    begin, end = data(header()), data(summary())
    for content in (begin + bytes(64 << 20) + b"\n" + end, begin + bytes(64 << 20), bytes(64 << 20)):
        path = home / "bomb.jsonl.gz"
        path.write_bytes(gzip.compress(content, 1))
        tracemalloc.start()
        with pytest.raises(NoRecord, match="has a line of more than 1 MiB; it is not a record"):
            glance(str(path))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 16 << 20


def test_a_record_without_its_end_is_running_or_lost(home: Path) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, {"type": "sample"})
    with held(path):
        age(path, 3600)
        assert (glance(str(path)).verdict, glance(str(path)).summary) == ("running", None)
    os.utime(path)
    assert glance(str(path)).verdict == "lost", "its age tells nothing"


def test_where_files_have_no_locks_age_tells(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    path = put(home, "20260101T000000Z", "a" * 32, {"type": "sample"})
    assert glance(str(path)).verdict == "running"
    age(path, 11)
    assert glance(str(path)).verdict == "lost"
    slow = put(home, "20260101T000000Z", "b" * 32, {"type": "sample"}, interval_seconds=60.0)
    age(slow, 170)
    assert glance(str(slow)).verdict == "running", "its samples are a minute apart"
    age(slow, 190)
    assert glance(str(slow)).verdict == "lost"


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


@settings(max_examples=examples(200), deadline=None)
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


# -- which one is meant ------------------------------------------------------------------------------------------------


def test_words(home: Path) -> None:
    environment = dict(os.environ)
    first = str(put(home, "20260101T000000Z", "abcd1111" + "0" * 24, summary()))
    second = str(put(home, "20260102T000000Z", "abcd2222" + "0" * 24, summary(), started_at=1767312000.0))
    assert resolve("last", environment) == [second] == [newest(environment)]
    assert resolve("name:job", environment) == [second, first]
    assert resolve("abcd1", environment) == [first]
    assert resolve(os.path.basename(first), environment) == [first]
    alone = str(put(home, "20260103T000000Z", "abce3333" + "0" * 24, summary(), name="alone"))
    assert resolve("alone", environment) == [alone]
    os.unlink(alone)
    for word, why in (
        ("abcd", "abcd: matches 2 records"),
        ("abc", "abc: no such record"),
        ("job", "job: 2 runs have this name; use name:job, or an id"),
        ("name:other", "name:other: no past run has this name"),
        ("./nowhere.jsonl", "./nowhere.jsonl: No such file"),
    ):
        with pytest.raises(NoRecord, match=why):
            resolve(word, environment)


def test_a_whole_id_is_compared_to_its_end(home: Path) -> None:
    environment = dict(os.environ)
    path = str(put(home, "20260101T000000Z", "abcd1111" + "2" * 24, summary()))
    assert resolve("abcd1111" + "2" * 24, environment) == resolve("abcd11112", environment) == [path]
    for other in ("abcd11113", "abcd1111" + "2" * 23 + "3", "abcd1111" + "2" * 25):
        with pytest.raises(NoRecord, match="no such record"):
            resolve(other, environment)
    os.rename(path, home / "renamed-train.jsonl")
    assert resolve("abcd1111", environment) == [str(home / "renamed-train.jsonl")], "as ls tells it"
    with pytest.raises(NoRecord, match="no such record"):
        resolve("trai", environment)
    (home / "copy.jsonl.gz").write_bytes(gzip.compress((home / "renamed-train.jsonl").read_bytes()))
    with pytest.raises(NoRecord, match=r"use a longer id, or a file: copy.jsonl.gz, renamed-train.jsonl"):
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
    with pytest.raises(NoRecord, match="no records; create one with proctally run -- COMMAND"):
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
        with pytest.raises(ValueError, match="not an age or a date"):
            moment(text)


def test_last_skips_what_is_not_a_file(home: Path) -> None:
    record = put(home, "20260101T000000Z", "a" * 32, summary())
    os.mkfifo(home / "20260102T000000Z-fifo.jsonl")
    (home / "20260103T000000Z-memory.jsonl").symlink_to("/proc/self/mem")
    (home / "20260104T000000Z-nowhere.jsonl").symlink_to("/nowhere")
    assert newest(dict(os.environ)) == str(record)
    link = home / "20260105T000000Z-link.jsonl"
    link.symlink_to(record)
    assert newest(dict(os.environ)) == str(link)


def test_last_is_the_newest_that_is_not_of_the_future(home: Path) -> None:
    environment = dict(os.environ)
    past_one = str(put(home, "20260101T000000Z", "a" * 32, summary()))
    future = str(put(home, "22000101T000000Z", "b" * 32, summary()))
    assert newest(environment) == past_one
    ahead = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + 60))
    little = str(put(home, ahead, "c" * 32, summary()))
    assert newest(environment) == little, "the clocks of two machines differ a little"
    for path in (past_one, little):
        os.unlink(path)
    assert newest(environment) == future, "there is no other one"
