"""Files that a run writes: checked before the job starts, whole or as they were, and never empty."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from proctally.cli.main import main
from proctally.record.reader import read
from small_disks import small_disk
from tracked import PROCTALLY, call, environment, records, shell

RAN = "echo ran; exit 3"
OTHER = (61234, 61235)  # user and group


def refused(tmp_path: Path, *options: str, why: str) -> None:
    """The job does not start, and one line names the output."""
    done = shell(tmp_path, RAN, *options, cwd=tmp_path)
    assert (done.status, done.stdout) == (125, b"")
    words = done.stderr.decode()
    assert words.startswith(f"proctally: {options[-2]} {options[-1]}: ") and words.count("\n") == 1
    assert why in words
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".proctally")]


# -- --textfile ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("loop", "Too many levels of symbolic links"), ("/dev/fd/99", "No such file or directory"),
        ("y" * 300, "File name too long"), ("/dev/null", "is not a regular file"), (".", "Is a directory"),
    ],
)  # fmt: skip
def test_textfile_that_cannot_be_written_is_refused(tmp_path: Path, path: str, why: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path, "--no-record", "--textfile", path, why=why)


def test_textfile_in_removed_directory_is_refused(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = [*PROCTALLY, "run", "--no-record", "--textfile", "x", "--", "echo", "ran"]
    script = f"rmdir {gone}; exec {shlex.join(words)}"
    done = subprocess.run(["sh", "-c", script], cwd=gone, env=environment(tmp_path), capture_output=True, timeout=20)
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr == b"proctally: --textfile x: No such file or directory\n"


@pytest.mark.parametrize("option", ["-o", "--output", "--summary-json", "--textfile"])
def test_empty_path_is_refused(tmp_path: Path, option: str) -> None:
    done = shell(tmp_path, RAN, option, "", cwd=tmp_path)
    assert (done.status, done.stdout) == (125, b"")
    name = "--output" if option == "-o" else option
    assert done.stderr == f"proctally: {name} '': the path is empty; use the path of a file\n".encode()


# -- --summary-json --------------------------------------------------------------------------------------------------


def test_summary_into_a_pipe_without_a_reader_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path, "--no-record", "--summary-json", "pipe", why="No such device or address")


@pytest.mark.parametrize(
    ("path", "why"),
    [(".", "Is a directory"), ("none/x", "No such file or directory"), ("y" * 300, "name too long")],
)
def test_summary_that_cannot_be_written_is_refused(tmp_path: Path, path: str, why: str) -> None:
    refused(tmp_path, "--no-record", "--summary-json", path, why=why)


def test_refused_summary_leaves_no_record(tmp_path: Path) -> None:
    refused(tmp_path, "-o", "record", "--summary-json", "none/x", why="No such file")
    assert not (tmp_path / "record").exists()


def test_summary_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)
    assert shell(tmp_path, RAN, "--summary-json", str(link)).status == 3
    assert target.read_text() == "mine" and not link.is_symlink()
    assert json.loads(link.read_bytes())["exit_code"] == 3


def test_summary_replaces_a_file_at_once_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    path.chmod(0o640)
    with path.open() as before:
        assert shell(tmp_path, f"cat {path}", "--summary-json", str(path)).stdout == b"old"
        assert before.read() == "old", "a reader keeps what it opened"
    assert json.loads(path.read_bytes())["type"] == "summary"
    assert path.stat().st_mode & 0o777 == 0o640


def test_summary_goes_into_a_descriptor(tmp_path: Path) -> None:
    done = shell(tmp_path, "exit 3", "--summary-json", "/dev/stdout")
    assert json.loads(done.stdout)["exit_code"] == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [("-o", "--summary-json"), ("--textfile", "--summary-json"), ("-o", "--textfile")],
)
def test_two_outputs_into_one_file_are_refused(tmp_path: Path, first: str, second: str) -> None:
    done = shell(tmp_path, RAN, first, "./same", second, "same", cwd=tmp_path)
    assert (done.status, done.stdout) == (125, b"")
    assert b"is the file of --" in done.stderr and done.stderr.count(b"\n") == 1
    assert not (tmp_path / "same").exists()


# -- --output --------------------------------------------------------------------------------------------------------


def test_output_into_a_descriptor_for_reading_is_refused(tmp_path: Path) -> None:
    for source in (os.open(os.devnull, os.O_RDONLY), os.pipe()[0]):
        number = str(source)
        try:
            words = [*PROCTALLY, "run", "-o", f"/dev/fd/{number}", "--", "sh", "-c", RAN]
            done = subprocess.run(words, pass_fds=[source], env=environment(tmp_path), capture_output=True, timeout=20)
        finally:
            os.close(source)
        assert (done.returncode, done.stdout) == (125, b"")
        assert done.stderr == f"proctally: --output /dev/fd/{number}: Bad file descriptor\n".encode()


def test_record_that_another_run_writes_is_not_replaced(tmp_path: Path) -> None:
    inner = " ".join([*PROCTALLY, "run", "-q", "--force", "-o", "record", "--", "echo", "ran"])
    done = shell(tmp_path, f"{inner}; echo $?", "-o", "record", cwd=tmp_path)
    assert done.stdout == b"125\n" and b"record: another run writes it" in done.stderr
    assert [line["type"] for line in read(str(tmp_path / "record"))][-1] == "summary"


@pytest.mark.parametrize("how", ["rm record", "mv record other", "cp record x; mv x record"])
def test_record_that_vanishes_is_reported(tmp_path: Path, how: str) -> None:
    done = shell(tmp_path, how, "-o", "record", cwd=tmp_path)
    assert done.status == 0
    assert done.stderr == b"proctally: record record: was deleted, renamed or replaced during the run\n"


def test_default_directory_that_vanishes_is_reported(tmp_path: Path) -> None:
    done = shell(tmp_path, f"until [ -s {tmp_path}/runs/* ]; do :; done; rm -r {tmp_path}/runs")
    assert done.status == 0
    assert b"was deleted, renamed or replaced during the run\n" in done.stderr and done.stderr.count(b"\n") == 1


# -- no room ---------------------------------------------------------------------------------------------------------


def test_nothing_empty_stays_on_a_full_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "record.jsonl"
    assert shell(tmp_path, "true", "-o", str(record)).status == 0
    with small_disk(tmp_path / "small", "16k") as disk:
        (disk / "filler").write_bytes(bytes(16 << 10))
        done = shell(disk, "exit 3", "--summary-json", str(disk / "summary"))
        assert done.status == 3
        assert re.search(rb"^proctally: record \S+: No space left [^;]*; use --output", done.stderr, re.M)
        assert re.search(rb"^proctally: --summary-json \S+/summary: No space left", done.stderr, re.M)
        for form in ("markdown", "json"):
            path = str(disk / f"report.{form}")
            assert main(["report", "-f", form, "-o", path, str(record)]) == 1
            assert capfd.readouterr().err == f"proctally: {path}: No space left on device\n"
        assert main(["export", "-f", "jsonl", "-o", str(disk / "copy"), str(record)]) == 1
        assert capfd.readouterr().err == f"proctally: {disk}/copy: No space left on device\n"
        assert [path.name for path in disk.rglob("*") if path.is_file()] == ["filler"]


# -- home directories ------------------------------------------------------------------------------------------------


def at_home(tmp_path: Path, home: str) -> dict[str, str]:
    without = {name: value for name, value in environment(tmp_path).items() if name != "PROCTALLY_HOME"}
    return without | {"HOME": home, "XDG_STATE_HOME": ""}


def test_relative_home_makes_no_directory(tmp_path: Path) -> None:
    done = shell(tmp_path, RAN, env=at_home(tmp_path, "relative"), cwd=tmp_path)
    assert (done.status, done.stdout) == (3, b"ran\n")
    assert b"record: HOME is a relative path" in done.stderr and done.stderr.count(b"\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def others_home() -> Iterator[Path]:
    """The home directory of another user, which that user can reach."""
    if os.getuid() != 0:
        pytest.skip("it takes root to give a directory away")
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        os.chown(home, *OTHER)
        yield home


def test_root_leaves_nothing_of_its_own_in_the_home_of_another_user(tmp_path: Path, others_home: Path) -> None:
    job = shell(tmp_path, "id -u; exit 3", env=at_home(tmp_path, str(others_home)))
    assert (job.status, job.stdout, job.stderr) == (3, b"0\n", b"")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in others_home.rglob("*")} == {OTHER}
    assert len(records(others_home / ".local/state/proctally")) == 1


def test_root_has_no_more_rights_there_than_its_owner(tmp_path: Path, others_home: Path) -> None:
    others_home.chmod(0o500)
    done = shell(tmp_path, RAN, env=at_home(tmp_path, str(others_home)))
    assert done.status == 3 and b"proctally: record: " in done.stderr and done.stderr.count(b"\n") == 1
    assert not list(others_home.iterdir())


@pytest.mark.parametrize(
    ("options", "job", "status"), [((), "/nope/command", 127), (("--summary-json", "/nope/x"), "true", 125)]
)
def test_forced_output_keeps_its_content_where_no_run_starts(
    tmp_path: Path, options: tuple[str, ...], job: str, status: int
) -> None:
    kept = tmp_path / "kept"
    kept.write_text("precious\n")
    words = [*PROCTALLY, "run", "-q", "--force", "-o", str(kept), *options, "--", job]
    assert subprocess.run(words, env=environment(tmp_path), capture_output=True).returncode == status
    assert kept.read_text() == "precious\n"


def test_message_about_a_hostile_name_is_one_printable_line(tmp_path: Path) -> None:
    name = "./\x1b]0;x\x07\n"
    for words in (["--", name], ["-o", f"/nope/{name}", "--", "true"]):
        done = subprocess.run([*PROCTALLY, "run", "-q", *words], env=environment(tmp_path), capture_output=True)
        text = done.stderr.decode()
        assert done.returncode in (125, 127) and text.count("\n") == 1 and text[:-1].isprintable()


def test_warning_about_a_hostile_home_is_printable(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("")
    words = [*PROCTALLY, "run", "-q", "--", "true"]
    done = subprocess.run(words, env=environment(home / "\x1b[31m"), capture_output=True)
    assert done.returncode == 0
    assert done.stderr and done.stderr.decode().replace("\n", "").isprintable()


def test_hint_follows_the_summary_and_quiet_has_none(tmp_path: Path) -> None:
    misspelt = environment(tmp_path, PROCTALLY_INTERVALL="3")
    done = call(tmp_path, "run", "--no-record", "--", "true", env=misspelt)
    hint = b"proctally: PROCTALLY_INTERVALL: unknown variable; did you mean PROCTALLY_INTERVAL?"
    assert done.stderr.startswith(b"proctally true  ok") and done.stderr.splitlines()[-1] == hint
    assert call(tmp_path, "run", "-q", "--no-record", "--", "true", env=misspelt).stderr == b""
