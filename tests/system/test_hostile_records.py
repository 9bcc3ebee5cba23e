"""Files that are made to hold up who reads them: long lines, compressed ones, pipes, two runs, other schemas."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from catalogue_files import data, header, said, summary
from proctally.cli.main import main
from proctally.errors import NoRecord
from proctally.record import reader
from proctally.record.catalogue import glance
from proctally.record.reader import lines, read
from proctally.record.writer import json_line

MIB = 1 << 20
SAMPLE = {"type": "sample", "elapsed_seconds": 1.0}
READERS = (
    ("report", "-f", "html", "-o", "OUT"), ("report", "-f", "text"), ("report", "-f", "markdown"),
    ("report", "-f", "json"), ("advise",), ("export", "-f", "csv", "-o", "OUT"), ("export", "-f", "jsonl", "-o", "OUT"),
    ("export", "-f", "parquet", "-o", "OUT"),
)  # fmt: skip
OF_ENDS = (("diff",), ("top", "--plain"), ("rm", "--dry-run"))


def packed(path: Path, parts: Iterable[tuple[bytes, int]]) -> Path:
    """Write each block so many times, compressed, without ever holding it all."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for block, times in parts:
            for _ in range(times):
                file.write(packer.compress(block))
        file.write(packer.flush())
    return path


def refusals(path: Path, commands: Iterable[tuple[str, ...]], capfd: pytest.CaptureFixture[str]) -> Iterator[str]:
    """Yield the one line with which each command refuses the record."""
    for command in commands:
        words = [str(path.parent / "out") if word == "OUT" else word for word in command]
        other = [str(path)] if command[0] == "diff" else []
        assert main([*words, *other, str(path)]) == (2 if other else 1), command
        out, err = said(capfd)
        assert not out and len(err) == 1, command
        assert not (path.parent / "out").exists()
        yield err[0]


# -- what is too large -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["no header", "header"])
def head(request: pytest.FixtureRequest) -> bytes:
    return data(header()) if request.param == "header" else b""


def test_line_without_an_end_is_refused_by_each_command(
    tmp_path: Path, head: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    end = b"\n" + json_line(summary())
    path = packed(tmp_path / "bomb.jsonl.gz", [(head, 1), (b"x" * MIB, 32), (end, 1)])
    for words in refusals(path, (*READERS, *OF_ENDS), capfd):
        assert words == f"proctally: {path}: has a line of more than 16 MiB; it is not a record"


def test_line_without_an_end_takes_little_memory(tmp_path: Path, head: bytes) -> None:
    """4 GiB, as holes of a file and compressed."""
    sparse = tmp_path / "sparse.jsonl"
    sparse.write_bytes(head)
    os.truncate(sparse, 4 << 30)
    bomb = packed(tmp_path / "bomb.jsonl.gz", [(head, 1), (b"x" * MIB, 32)])
    for path in (sparse, bomb):
        for reading in (lambda path: list(lines(path)), *([glance] if path is bomb or not head else [])):
            tracemalloc.start()
            with pytest.raises(NoRecord, match="has a line of more than 16 MiB; it is not a record"):
                reading(str(path))
            assert tracemalloc.get_traced_memory()[1] < 60 * MIB
            tracemalloc.stop()


def test_list_names_what_is_too_large(tmp_path: Path, head: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    packed(runs / "bomb.jsonl.gz", [(head, 1), (b"x" * MIB, 32)])
    os.environ["PROCTALLY_HOME"] = str(tmp_path)
    try:
        assert main(["ls"]) == 0
    finally:
        del os.environ["PROCTALLY_HOME"]
    assert "has a line of more than 16 MiB" in capfd.readouterr().err


def test_record_that_unpacks_to_far_more_than_its_size_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    block = json_line(SAMPLE | {"x": "y" * 4000}) * 50
    path = packed(tmp_path / "many.jsonl.gz", [(json_line(header()), 1), (block, 110)])
    for reading in (glance, lambda path: list(lines(path))):
        with pytest.raises(NoRecord, match="unpacks to more than 100 times its size; it is not a record"):
            reading(str(path))
    assert main(["export", "-f", "csv", str(path)]) == 1
    assert said(capfd)[0] == [], "it is refused before anything of it is written"


def test_long_record_is_read_although_it_packs_well(tmp_path: Path) -> None:
    samples = [SAMPLE | {"elapsed_seconds": second / 7, "x": "y" * 600} for second in range(40_000)]
    path = tmp_path / "day.jsonl.gz"
    path.write_bytes(gzip.compress(data(header(), *samples, summary()), 1))
    assert path.stat().st_size * 50 < sum(map(len, map(json_line, samples)))
    assert sum(1 for _ in lines(str(path))) == 40_002
    assert glance(str(path)).verdict == "ok"


@pytest.mark.parametrize("value", [b"{}", b"[]", b"1"])
def test_line_of_very_many_values_is_refused(tmp_path: Path, value: bytes) -> None:
    path = tmp_path / "wide.jsonl"
    end = b'{"type":"summary","x":[' + (value + b",") * (1 << 20) + value + b"]}\n"
    path.write_bytes(json_line(header()) + end)
    with pytest.raises(NoRecord, match="line 2 has too many values"):
        list(lines(str(path)))
    assert glance(str(path)).summary is None


def test_long_command_line_is_read(tmp_path: Path) -> None:
    words = ["\x01" * 100_000] * 20
    path = tmp_path / "long.jsonl"
    path.write_bytes(data(header(command=words), summary()))
    assert glance(str(path)).run["command"] == words == next(lines(str(path)))["command"]


# -- blocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 7, 64, 4096])
def test_lines_are_the_same_whatever_the_blocks(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [header(), SAMPLE, SAMPLE | {"x": "y" * 500}, summary()]
    content = data(*made)
    plain, twice = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_bytes(content + b'{"type":"sam')
    halves = gzip.compress(content[:300]) + bytes(3) + gzip.compress(content[300:])
    twice.write_bytes(halves + b"what follows a compressed file")
    for name in ("BLOCK_BYTES", "PACKED_BYTES", "TAIL_BYTES"):
        monkeypatch.setattr(reader, name, size)
    for path in (plain, twice):
        assert list(read(str(path))) == made
    assert glance(str(twice)).summary == made[-1]


def test_compressed_record_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = gzip.compress(data(header(), *[SAMPLE] * 200, summary()), 1)
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[:-9])
    assert len(list(lines(str(path)))) == 202, "only its checksum is cut"
    path.write_bytes(whole[: len(whole) // 2])
    assert 0 < len(list(lines(str(path)))) < 202 and glance(str(path)).verdict == "lost"


# -- what is not one record ------------------------------------------------------------------------------------------


def test_pipe_is_refused_and_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for words in refusals(path, (*READERS, *OF_ENDS), capfd):
        assert words == f"proctally: {path}: is not a file"


def test_device_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("export", "report", "advise"):
        assert main([command, *(["-f", "json"] if command == "report" else []), "/dev/zero"]) == 1
        assert said(capfd) == ([], ["proctally: /dev/zero: is not a file"])


def test_two_runs_in_one_file_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.jsonl"
    first, second = header("a" * 32), header("b" * 32, name="other")
    path.write_bytes(data(first, SAMPLE, summary(run_id="a" * 32), second, SAMPLE, summary(run_id="b" * 32)))
    for words in refusals(path, (*READERS, *OF_ENDS), capfd):
        assert "write each run into its own file" in words
    with pytest.raises(NoRecord, match="line 4 begins a second run"):
        list(lines(str(path)))


def test_other_schema_is_refused_by_its_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "later.jsonl"
    path.write_bytes(data(header(schema="proctally/99"), SAMPLE, summary()))
    for words in refusals(path, (*READERS, *OF_ENDS), capfd):
        assert words == f"proctally: {path}: schema proctally/99 is unknown; update proctally"


# -- what is no figure -----------------------------------------------------------------------------------------------


def test_record_without_a_sample_has_a_report_in_each_form(tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    end = summary(new=0, signal=0, commands=[{"command": "x", "cpu_seconds": 0}])
    path.write_bytes(data(header()) + data(end).replace(b":0", b":Infinity"))
    for form in ("html", "text", "markdown", "json"):
        assert main(["report", "-f", form, "-o", str(tmp_path / form), str(path)]) == 0


def test_wrong_values_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_bytes(data(header(pid="x"), SAMPLE | {"tree": {"rss_bytes": -1}}, summary(wall_seconds=True)))
    counted = "3 values of a wrong type, shown as unknown"
    for command in (["report", "-f", "text"], ["report", "-f", "markdown"], ["report", "-f", "json"], ["advise"]):
        assert main([*command, str(path)]) == 0
        assert counted in " ".join(capfd.readouterr().out.split()), command
    other = tmp_path / "other.jsonl"
    other.write_bytes(data(header(pid="x", run_id="1" * 32), SAMPLE, summary(wall_seconds=True)))
    assert main(["diff", "-v", str(path), str(other)]) == 0
    assert "4 values of a wrong type" in capfd.readouterr().out, "it reads the first and the last line of each"
