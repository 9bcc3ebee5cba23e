"""The commands `ls` and `rm`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from catalogue_files import HOUR, put, said, summary
from peak_memory import peak_mib
from proctally.cli.main import main
from proctally.record.catalogue import past
from proctally.views.listing import KEYS, as_json
from writing import held


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROCTALLY_HOME", str(tmp_path))
    runs = tmp_path / "runs"
    runs.mkdir()
    return runs


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
    put(home, "20260101T000000Z", "\x1b[31m\n" + "b" * 27)
    assert main(["ls"]) == 0
    out, _ = said(capfd)
    assert len(out) == 4
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
    assert len(err) == 4 and any(line.endswith("pipe.jsonl: is not a file") for line in err)
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


def test_long_command_lines_take_little_memory(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["\U0001f600" * 20_000] * 20
    for number in range(20):
        put(home, f"202601{number + 1:02}T000000Z", f"{number:032x}", summary(), command=[*command, "--token=x"])
    for words, most in (["ls"], 12), (["ls", "--json"], 30), (["rm", "--dry-run"], 12):
        assert peak_mib(lambda words=words: main(words)) < most, words
        said(capfd)
    assert main(["ls", "--json"]) == 0
    assert [json.loads(line)["command"] for line in said(capfd)[0]] == [[*command, "--token=***"]] * 20


def test_record_that_is_removed_meanwhile_is_not_listed(home: Path) -> None:
    gone, kept = (put(home, f"2026010{day}T000000Z", f"{day:032x}", summary()) for day in (1, 2))
    found = past(dict(os.environ))[0]
    gone.unlink()
    assert [json.loads(line)["path"] for line in as_json(found)] == [str(kept)]


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
    listed = {line["path"]: line["summary"] for line in (json.loads(line, parse_constant=pytest.fail) for line in out)}
    assert set(listed) == {str(plain), str(path)} and not err
    if value in ("NaN", "Infinity", "1e999"):
        assert listed[str(path)][field] is None, "a number that is not finite is unknown"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls", "x"], "takes options only"),
        (["ls", "--sort", "size"], "is not known"),
        (["ls", "--since", "soon"], "is no age"),
        (["rm"], "which runs?"),
        (["ls", "--verdict", "ok,foo"], "--verdict foo: unknown verdict; use running, ok, failed, killed, oom,"),
        (["rm", "--verdict", ""], "--verdict : unknown verdict; use running, ok, failed, killed, oom,"),
        (["rm", "--older-than", "x"], "is no age"),
    ],
)
def test_mistakes(home: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    out, err = said(capfd)
    assert not out and len(err) == 1 and words in err[0]


# -- rm ----------------------------------------------------------------------------------------------------------------


def test_the_old_are_deleted(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = put(home, "20260101T000000Z", "a" * 32, summary(), started_at=time.time() - 40 * 24 * HOUR)
    new = put(home, "20260101T000000Z", "b" * 32, summary(), started_at=time.time() - HOUR)
    written = put(home, "20260101T000000Z", "c" * 32, started_at=time.time() - 40 * 24 * HOUR)
    undated = put(home, "20260101T000000Z", "d" * 32, summary(), started_at=None)
    foreign = home / "foreign.jsonl"
    foreign.write_text("mine")
    with held(written):
        assert main(["rm", "--older-than", "30d", "--dry-run"]) == 1
        out, err = said(capfd)
        assert old.exists() and out == [str(old), f"1 run would be deleted, {old.stat().st_size} B"]
        assert len(err) == 1 and "still written" in err[0]
        assert main(["rm", "--older-than", "30d"]) == 1
    assert not old.exists() and new.exists() and written.exists() and foreign.exists()
    assert undated.exists(), "of what age it is nobody knows"


def test_dry_run_without_filter_lists_all(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = [put(home, f"2026010{day}T000000Z", "a" * 31 + str(day), summary()) for day in (1, 2)]
    assert main(["rm", "--dry-run"]) == 0
    assert sorted(said(capfd)[0][:2]) == sorted(map(str, paths))


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
