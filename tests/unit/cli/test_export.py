"""The command `export`."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from csv_rows import ANY_LINES, ANY_RUN, RUN, SCRIPTS, export, sample, write_record
from places import GOLDEN
from proctally.cli.main import FAILED
from proctally.record.csv import Lines
from proctally.record.field_types import TypeFilter
from proctally.record.location import open_output
from proctally.record.reader import check_size, read
from proctally.record.writer import encode

patient = settings(deadline=None)


# -- any record --------------------------------------------------------------------------------------------------


def json_only(value: Any) -> bool:
    try:
        encode(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("depth", range(900, 1000, 7))
def test_no_depth_of_nesting_is_a_traceback(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "deep"
    path.write_text('{"type":"run","x":' + "[" * depth + "]" * depth + "}\n")
    assert export(str(path), "jsonl", "/dev/null", {}) in (0, FAILED)
    assert export(str(path), "csv", "/dev/null", {}) in (0, FAILED)


@patient
@given(run=ANY_RUN.filter(json_only), lines=ANY_LINES.filter(json_only))
def test_live_and_exported_are_identical(
    run: dict[str, Any], lines: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("alike")
    paths = [str(folder / name) for name in ("record", "live", "exported", "copy")]
    outputs = [open_output(path) for path in paths[:2]]
    outputs[1].format = Lines()
    types = TypeFilter()
    for line in [types.admit(each) for each in (run, *lines, {"type": "summary"})]:
        for output in outputs:
            output.write(line)
    for output in outputs:
        output.close()
    for form, path in (("csv", paths[2]), ("jsonl", paths[3])):
        assert export(paths[0], form, path, {}) == 0
    data = [Path(path).read_bytes() for path in paths]
    assert data[1] == data[2]
    assert data[0] == data[3]


# -- export ------------------------------------------------------------------------------------------------------


@pytest.fixture
def record_path(tmp_path: Path) -> Path:
    """A record as a kill leaves it."""
    path = tmp_path / "record.jsonl"
    write_record(path, SCRIPTS["run"][:-1], b'{"type":"sample","at":17')
    return path


def test_export_to_a_file(record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.csv"
    before = os.umask(0)
    try:
        assert export(str(record_path), "csv", str(out), {}) == 0
    finally:
        os.umask(before)
    assert out.read_bytes() == (GOLDEN / "run.csv").read_bytes()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert capfd.readouterr() == ("", "")


def test_export_to_stdout(record_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(str(record_path), "csv", "-", {}) == 0
    assert capfd.readouterr() == ((GOLDEN / "run.csv").read_text(), "")


def test_export_leaves_out_what_is_torn(record_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert export(str(record_path), "jsonl", str(out), {}) == 0
    assert out.read_bytes() == record_path.read_bytes().rpartition(b"\n")[0] + b"\n"
    assert list(read(str(out))) == SCRIPTS["run"][:-1]


def said(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("proctally: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "does not begin as a record"),
        (b'{"type":"run"', "does not begin as a record"),
        (b'{"type":"sample"}\n', "does not begin as a record"),
        (b"\x89PNG\r\n", "line 1 is not JSON"),
        (b'{"type":"run"}\nnonsense\n', "line 2 is not JSON"),
        (b'{"type":"run","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
    ],
)
def test_what_is_no_record_leaves_no_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    path, out = tmp_path / "it", tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    assert export(str(path), "jsonl", str(out), {}) == FAILED
    line = said(capfd)
    assert words in line
    assert str(path) in line
    assert not out.exists()


def test_export_refuses_a_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(str(tmp_path), "csv", "-", {}) == FAILED
    assert "directory" in said(capfd)


def test_export_refuses_what_exists(record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.write_text("what was there\n")
    assert export(str(record_path), "csv", str(out), {}) == FAILED
    assert "--force" in said(capfd)
    assert out.read_text() == "what was there\n"
    assert export(str(record_path), "csv", str(out), {}, force=True) == 0
    assert out.read_bytes() == (GOLDEN / "run.csv").read_bytes()


def test_export_follows_no_link_that_leads_nowhere(
    record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    assert export(str(record_path), "csv", str(link), {}) == FAILED
    said(capfd)
    assert not (tmp_path / "target").exists()


def test_error_names_output_and_no_temporary_file(
    record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none" / "out"
    assert export(str(record_path), "csv", str(out), {}) == FAILED
    assert said(capfd) == f"proctally: {out}: No such file or directory\n"


@pytest.mark.parametrize("linked", [False, True])
def test_export_onto_itself_is_refused(
    record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], linked: bool
) -> None:
    before = record_path.read_bytes()
    out = record_path
    if linked:
        out = tmp_path / "other name"
        os.link(record_path, out)
    assert export(str(record_path), "jsonl", str(out), {}, force=True) == FAILED
    assert "the record itself" in said(capfd)
    assert record_path.read_bytes() == before


def test_export_to_a_full_disk(record_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(str(record_path), "csv", "/dev/full", {}) == FAILED
    assert "/dev/full: No space left" in said(capfd)


# -- the newest record -------------------------------------------------------------------------------------------


def test_last_is_the_newest(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ("20260101T000000Z-zz-1.jsonl", "20260102T000000Z-b-2.jsonl", "20260102T000000Z-a-3.jsonl", "zz.jsonl")
    for place, name in enumerate(names):
        path = tmp_path / "runs" / name
        write_record(path, [RUN | {"pid": place}, sample(0)])
        os.utime(path, ns=(0, place if name != names[0] else 10**18))
    assert export("last", "csv", "-", {"PROCTALLY_HOME": str(tmp_path)}) == 0
    _, row = capfd.readouterr().out.splitlines()
    assert row.split(",")[21] == "2", "the later of those that began in one second"


@pytest.mark.parametrize("made", [False, True])
def test_no_last_record(tmp_path: Path, capfd: pytest.CaptureFixture[str], made: bool) -> None:
    if made:
        (tmp_path / "runs").mkdir()
    assert export("last", "csv", "-", {"PROCTALLY_HOME": str(tmp_path)}) == FAILED
    assert str(tmp_path / "runs") in said(capfd)


def test_record_that_cannot_be_read_is_the_object_of_its_error(tmp_path: Path) -> None:
    (tmp_path / "record").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error") as failed:
        check_size(str(tmp_path / "record"))
    assert failed.value.filename == str(tmp_path / "record")
