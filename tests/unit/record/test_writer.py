"""The file of one run: strict JSON, truncated ends, full disks and its directory."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import pwd
import re
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peak_memory import MIB, peak_mib
from proctally.record import writer as module
from proctally.record.location import expand, open_default, open_output, replace_file, runs_directory, standard_output
from proctally.record.reader import read
from proctally.record.writer import KEPT_BYTES, KEPT_LINES, RecordWriter, encode, json_line
from proctally.text.escape import argument_text
from proctally.text.secrets import mask
from record_lines import drain, in_lines, numbers, sample

patient = settings(deadline=None)


LONG_MS = 1_000_000


# -- encode ------------------------------------------------------------------------------------------------------


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)


@patient
@given(VALUES)
@example({"a": [], "b": {}, '\x00\x1f\x7f\u2028\n\t"\\/': "\U0001f600 \x1b[31m\ud800"})
@example([1e308, -0.0, 5e-324, 10**40, True, None])
def test_encode_is_the_json_of_the_library(value: Any) -> None:
    line = encode(value)
    assert line == json.dumps(value, separators=(",", ":"), allow_nan=False)
    assert line.isascii()
    assert min(line) >= " ", "no control characters, and no newline"
    assert json.loads(line, parse_constant=pytest.fail) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("put", [lambda value: value, lambda value: {"a": [0.5, value]}, lambda value: {value: 1}])
def test_encode_refuses_what_json_has_not(value: float, put: Callable[[float], Any]) -> None:
    with pytest.raises(ValueError):
        encode(put(value))


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), {"a": [b""]}, {(1, 2): 3}, 1j])
def test_encode_refuses_what_has_no_place(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


@patient
@given(value=VALUES)
def test_encode_without_the_encoder_in_c(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "_json", None)
        slow = module._make_encode()
    assert slow(value) == encode(value)
    with pytest.raises(ValueError):
        slow(math.nan)


@patient
@given(st.binary(max_size=40).filter(lambda name: 0 not in name))
@example(b"\xed\xa0\x80")
def test_plain_is_strict_text(name: bytes) -> None:
    shown = argument_text(os.fsdecode(name))
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert shown == name.decode("utf-8", "backslashreplace")


# -- read --------------------------------------------------------------------------------------------------------


def test_read_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    record = open_output(str(path))
    lines = [{"type": "run", "name": "ü\n"}, sample(1), {"type": "summary", "none": None}]
    for count, line in enumerate(lines, 1):
        record.write(line)
        assert list(read(str(path))) == lines[:count], "each line is written at once"
    record.close()
    assert list(read(str(path))) == lines
    assert (record.error, record.lost_samples) == (None, 0)


@pytest.mark.parametrize("torn", [b'{"type":"sample"', b'{"type":"sample","number":3}', b"{", b"\xff", b"nonsense"])
def test_torn_last_line_is_left_out(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "torn"
    path.write_bytes(b'{"type":"sample","number":1}\n{"type":"sample","number":2}\n' + torn)
    assert numbers(path) == [1, 2]


def test_cut_anywhere_every_whole_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    whole = b"".join(encode(sample(number, name="ü")).encode() + b"\n" for number in range(3))
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert numbers(path) == list(range(whole[:length].count(b"\n")))


@pytest.mark.parametrize(
    "line",
    [b"not json", b"[1, 2]", b"7", b"null", b'"type"', b"{}", b'{"kind":"x"}', b"", b"\x89PNG\r", b"{'type': 1}"],
)
@pytest.mark.parametrize("before", [0, 2])
def test_foreign_file_is_refused_by_line(tmp_path: Path, line: bytes, before: int) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(b'{"type":"sample","number":1}\n' * before + line + b"\n" + b'{"type":"sample"}\n')
    seen = []
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: line {before + 1} "):
        seen.extend(read(str(path)))
    assert len(seen) == before


@patient
@given(data=st.binary(max_size=200))
def test_any_file_is_read_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    try:
        assert all("type" in line for line in read(str(path)))
    except ValueError as error:
        assert str(path) in str(error)


# -- trouble with the disk ---------------------------------------------------------------------------------------


def test_full_disk_loses_and_counts() -> None:
    record = open_output("/dev/full")
    record.write({"type": "run"})
    for number in range(10):
        record.write(sample(number))
    assert record.lost_samples == 0, "they are kept, to be tried again"
    record.close()
    assert record.error is not None
    assert record.error.errno == errno.ENOSPC
    assert record.lost_samples == 10, "of samples, not of lines"


def make_pipe() -> tuple[int, int]:
    """A pipe of one page whose write end does not block."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(write_end, False)
    return read_end, write_end


def test_end_does_not_wait_by_a_clock_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", Mock(side_effect=OverflowError))
    _, write_end = make_pipe()
    os.write(write_end, b"x" * 4096)
    record = RecordWriter(write_end, "a pipe")
    record.write(sample(0))
    record.close(patience_ms=30)
    assert record.error is not None and record.lost_samples == 1


def test_what_is_kept_is_bounded_by_lines() -> None:
    read_end, write_end = make_pipe()
    filled = os.write(write_end, b"x" * 4096)
    record = RecordWriter(write_end, "a pipe")
    for number in range(KEPT_LINES + 100):
        record.write(sample(number))
    assert record.lost_samples == 100
    assert len(drain(read_end)) == filled
    reader = Reader(read_end)
    record.close(patience_ms=LONG_MS)
    kept = [line["number"] for line in in_lines(reader.join())]
    assert len(kept) == KEPT_LINES
    assert kept == sorted(kept)
    assert kept[-1] == KEPT_LINES + 99, "the newest is there"
    assert record.lost_samples == 100


def test_what_is_kept_is_bounded_by_bytes() -> None:
    read_end, write_end = make_pipe()
    os.write(write_end, b"x" * 4096)
    record = RecordWriter(write_end, "a pipe")
    each = 100_000
    for number in range(60):
        record.write(sample(number, pad="x" * each))
    may_be_kept = KEPT_BYTES // each
    assert 60 - may_be_kept - 1 <= record.lost_samples <= 60 - may_be_kept + 1
    lost = record.lost_samples
    drain(read_end)
    reader = Reader(read_end)
    record.close(patience_ms=LONG_MS)
    assert [line["number"] for line in in_lines(reader.join())] == list(range(lost, 60))
    assert record.lost_samples == lost


def test_a_part_that_is_out_already_is_completed() -> None:
    """When the bound is reached while a line is half written, the half must not be left behind."""
    read_end, write_end = make_pipe()
    record = RecordWriter(write_end, "a pipe")
    for number in range(60):
        record.write(sample(number, pad="x" * 100_000))
    begin = drain(read_end)
    assert 0 < len(begin) <= 4096
    reader = Reader(read_end)
    record.close(patience_ms=LONG_MS)
    lines = in_lines(begin + reader.join())
    assert lines[0]["number"] == 0
    assert len(lines) + record.lost_samples == 60


def test_one_line_beyond_the_bound() -> None:
    read_end, write_end = make_pipe()
    record = RecordWriter(write_end, "a pipe")
    record.write(sample(0, pad="x" * (KEPT_BYTES + 10)))
    record.write(sample(1))
    begin = drain(read_end)
    reader = Reader(read_end)
    record.write(sample(2))
    record.close(patience_ms=LONG_MS)
    lines = in_lines(begin + reader.join())
    assert len(lines) + record.lost_samples == 3


def test_the_first_and_the_last_line_are_not_given_up() -> None:
    """A record without its header is none: samples are given up for it."""
    read_end, write_end = make_pipe()
    os.write(write_end, b"x" * 4096)
    record = RecordWriter(write_end, "a pipe")
    record.write({"type": "run"})
    for number in range(KEPT_LINES + 100):
        record.write(sample(number))
    record.write({"type": "summary"})
    drain(read_end)
    reader = Reader(read_end)
    record.close(patience_ms=LONG_MS)
    lines = in_lines(reader.join())
    assert (lines[0]["type"], lines[-1]["type"]) == ("run", "summary")
    assert record.lost_samples == KEPT_LINES + 100 - (len(lines) - 2)


class Reader(threading.Thread):
    """Reads a pipe to its end, a little at a time."""

    def __init__(self, fd: int, size: int = 65536, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.fd, self.size, self.pause = fd, size, pause
        self.data = b""
        os.set_blocking(fd, True)
        self.start()

    def run(self) -> None:
        while more := os.read(self.fd, self.size):
            self.data += more
            time.sleep(self.pause)
        os.close(self.fd)

    def join(self, timeout: float | None = 20) -> bytes:  # type: ignore[override]
        super().join(timeout)
        assert not self.is_alive(), "the other end was not closed"
        return self.data


def test_partial_writes_complete_in_order() -> None:
    read_end, write_end = make_pipe()
    record = RecordWriter(write_end, "a pipe")
    reader = Reader(read_end, size=1000, pause=0.001)
    for number in range(40):
        record.write(sample(number, pad="y" * (number * 331 % 9000)))
    record.close(patience_ms=LONG_MS)
    lines = in_lines(reader.join())
    assert [line["number"] for line in lines] == list(range(40))
    assert [len(line["pad"]) for line in lines] == [number * 331 % 9000 for number in range(40)]
    assert (record.error, record.lost_samples) == (None, 0)


def test_a_reader_that_reads_is_waited_for() -> None:
    """It takes the backlog as fast as it is given, a page at a time: that is no lack of patience."""
    read_end, write_end = make_pipe()
    record = RecordWriter(write_end, "a pipe")
    for number in range(2000):
        record.write(sample(number, pad="y" * 500))
    reader = Reader(read_end)
    record.close()
    assert [line["number"] for line in in_lines(reader.join())] == list(range(2000))
    assert (record.error, record.lost_samples) == (None, 0)


def test_a_reader_that_does_not_read_is_not_waited_for_long() -> None:
    read_end, write_end = make_pipe()
    record = RecordWriter(write_end, "a pipe")
    begun = time.monotonic()
    for number in range(100):
        record.write(sample(number, pad="y" * 200))
    record.close(patience_ms=100)
    assert time.monotonic() - begun < 5
    data = drain(read_end)
    os.close(read_end)
    whole = data.count(b"\n")
    assert 0 < whole < 100
    assert record.lost_samples == 100 - whole
    assert record.error is not None


def test_reader_that_went_away() -> None:
    read_end, write_end = make_pipe()
    record = RecordWriter(write_end, "a pipe")
    record.write({"type": "run"})
    record.write(sample(0))
    assert len(in_lines(drain(read_end))) == 2
    os.close(read_end)
    for number in range(3):
        record.write(sample(number))
    assert record.error is not None
    assert record.error.errno == errno.EPIPE
    assert record.lost_samples == 3
    record.close()
    assert record.lost_samples == 3


def test_reader_that_goes_away_in_the_middle_of_a_line() -> None:
    read_end, write_end = make_pipe()
    record = RecordWriter(write_end, "a pipe")
    for number in range(10):
        record.write(sample(number, pad="y" * 3000))
    assert record.error is None
    os.close(read_end)
    record.close()
    assert record.error is not None
    assert record.error.errno == errno.EPIPE
    assert record.lost_samples == 9


def test_closed_descriptor_is_no_exception() -> None:
    record = open_output("/dev/null")
    os.close(record.fd)
    record.write(sample(1))
    record.close()
    assert record.error is not None
    assert (record.error.errno, record.lost_samples) == (errno.EBADF, 1)


# -- where it lies -----------------------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_new_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new"
    before = os.umask(0)
    try:
        record = open_output(str(path))
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600
    assert not os.get_inheritable(record.fd)
    assert fcntl.fcntl(record.fd, fcntl.F_GETFL) & os.O_APPEND
    record.close()


def test_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("what was there\n")
    with pytest.raises(FileExistsError, match="File exists"):
        open_output(str(path))
    assert path.read_text() == "what was there\n"
    record = open_output(str(path), force=True)
    record.write(sample(1))
    record.close()
    assert numbers(path) == [1]


def test_two_at_once_are_not_one(tmp_path: Path) -> None:
    path = tmp_path / "one"
    open_output(str(path)).close()
    with pytest.raises(FileExistsError):
        open_output(str(path))


@pytest.mark.parametrize("force", [False, True])
def test_symbolic_link_to_a_file_is_refused(tmp_path: Path, force: bool) -> None:
    target, link, dangling = tmp_path / "target", tmp_path / "link", tmp_path / "dangling"
    target.write_text("mine\n")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (link, dangling):
        with pytest.raises(OSError):
            open_output(str(path), force=force)
    assert target.read_text() == "mine\n"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("force", [False, True])
def test_folder_is_refused(tmp_path: Path, force: bool) -> None:
    for path in (str(tmp_path), f"{tmp_path}/", f"{tmp_path}/none/file", "", "/"):
        with pytest.raises(OSError) as caught:
            open_output(path, force=force)
        assert caught.value.strerror


def test_fifo_is_opened_as_it_is_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError) as caught:
        open_output(str(path))
    assert caught.value.errno == errno.ENXIO, "nobody reads it"
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    record = open_output(str(path))
    record.write(sample(1))
    record.close()
    assert in_lines(drain(reader)) == [sample(1)]
    os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_device_is_opened_as_it_is() -> None:
    record = open_output("/dev/null")
    record.write(sample(1))
    record.close()
    assert record.error is None


def test_discard_removes_only_what_was_made(tmp_path: Path) -> None:
    made, old = tmp_path / "made", tmp_path / "old"
    old.write_text("old\n")
    open_output(str(made)).discard()
    open_output(str(old), force=True).discard()
    open_output("/dev/null").discard()
    assert not made.exists()
    assert old.exists()
    assert Path("/dev/null").exists()


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    record = standard_output()
    record.write(sample(1))
    record.close()
    os.write(1, b"still open\n")
    assert capfd.readouterr().out == '{"type":"sample","number":1}\nstill open\n'


VALUES_OF = {"run_id": "ab12", "name": "{host}", "host": "node7", "pid": "4711"}


@pytest.mark.parametrize(
    ("path", "expanded"),
    [
        ("plain.jsonl", "plain.jsonl"),
        ("", ""),
        ("{run_id}", "ab12"),
        ("a{pid}b{host}c{pid}", "a4711bnode7c4711"),
        ("{name}-{run_id}", "{host}-ab12"),
        ("out/{env:RANK}/{env:EMPTY}x", "out/3/x"),
        ("{env:BRACES}", "{pid}"),
        ("closing } alone", "closing } alone"),
    ],
)
def test_expand(path: str, expanded: str) -> None:
    """Values are put in as they are: braces in them are no placeholders again."""
    assert expand(path, VALUES_OF, {"RANK": "3", "EMPTY": "", "BRACES": "{pid}"}) == expanded


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("{nonsense}", "{nonsense}"),
        ("{}", "{}"),
        ("{PID}", "{PID}"),
        ("{pid", "{pid"),
        ("x{env:NOT_SET}", "NOT_SET"),
        ("{env:}", "{env:}"),
        ("{ pid }", "{ pid }"),
        ("{{pid}}", "{{pid}"),
    ],
)
def test_expand_names_what_is_wrong(path: str, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        expand(path, VALUES_OF, {"pid": "x"})


def test_runs_directory_under_every_combination() -> None:
    home_of_user = pwd.getpwuid(os.getuid()).pw_dir
    for ours in (None, "", "/ours"):
        for state in (None, "", "relative", "/state"):
            for home in (None, "", "/home/x"):
                given_ = {"PROCTALLY_HOME": ours, "XDG_STATE_HOME": state, "HOME": home}
                environment = {key: value for key, value in given_.items() if value is not None}
                if ours:
                    expected = "/ours/runs"
                elif state == "/state":
                    expected = "/state/proctally/runs"
                else:
                    expected = f"{home or home_of_user}/.local/state/proctally/runs"
                assert runs_directory(environment) == expected, environment


def test_default_place(tmp_path: Path) -> None:
    environment = {"PROCTALLY_HOME": str(tmp_path / "deep" / "er")}
    record = open_default(environment, 1_700_000_000.9, "a b/c", "0123456789abcdef")
    record.write(sample(1))
    record.close()
    path = Path(record.path)
    assert path == tmp_path / "deep" / "er" / "runs" / "20231114T221320Z-a_b_c-01234567.jsonl"
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    assert numbers(path) == [1]
    with pytest.raises(FileExistsError):
        open_default(environment, 1_700_000_000.9, "a b/c", "0123456789abcdef")


# -- what may be in it -------------------------------------------------------------------------------------------


@patient
@given(st.lists(st.text(alphabet="pasword token=:/@'\" -&?{}\\\n", max_size=40), max_size=6))
def test_mask_takes_any_command(command: list[str]) -> None:
    masked = mask(command)
    assert len(masked) == len(command)
    encode(masked)


def test_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    before = os.umask(0o077)
    try:
        replace_file(str(path), b"one")
        with path.open("rb") as old:
            replace_file(str(path), b"two")
            assert old.read() == b"one"
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["x.prom"]


def test_long_line_is_held_at_most_twice() -> None:
    line = {"type": "x", "text": "\U0001f600" * 400_000}
    assert peak_mib(lambda: json_line(line)) < 2.1 * len(json_line(line)) / MIB
