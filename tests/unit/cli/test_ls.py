"""The commands `ls` and `rm`."""

from __future__ import annotations

import csv
import json
import os
import time
import tracemalloc
from datetime import datetime
from pathlib import Path

import pytest

from catalogue_files import HOUR, header, put, said, summary
from peak_memory import peak_mib
from proctally.cli.main import main
from proctally.record.catalogue import Past, past
from proctally.text.cells import columns_of
from proctally.text.units import short_time
from proctally.views.listing import KEYS, Form, Row, as_json
from writing import held

STARVED = {f"{part}_seconds": share for part, share in zip(("running", "ready", "throttled", "disk", "asleep"),
           (2.0, 6.0, 2.0, 0.0, 0.0), strict=True)} | {"wanted_cores": 1.5}  # fmt: skip
TWO = {"cpu_cores": 2.0}


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
        return "".join(line.split("  ")[1][0] for line in said(capfd)[0][1:])

    assert ids() == "210"
    assert ids("--reverse") == "012"
    assert ids("--sort", "cpu") == "102"
    assert ids("--sort", "cpu", "--reverse") == "012"
    assert ids("--sort", "name") == "201"
    assert ids("--limit", "2") == "21"
    assert ids("-n", "c") == "1"
    assert ids("--since", "2026-01-01T00:00:01+00:00") == "21"


def test_narrow_table_drops_columns_from_the_right(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = summary(wall_seconds=3723.0, cpu={"total_seconds": 359_999, "mean_cores": 0.5}, time=STARVED, limits=TWO)
    put(home, "20260101T000000Z", "a" * 32, long, name="名前名前名前名前名前/name-of-a-run")
    heads = {}
    for columns in (40, 60, 80, 100, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["ls"]) == 0
        out, _ = said(capfd)
        assert max(map(columns_of, out)) <= columns
        assert "ok, starved" in out[1]
        heads[columns] = out[0].split()
    every = ["WHEN", "ID", "NAME", "VERDICT", "WALL", "CPU", "WANTED", "MEMORY", "WAITED"]
    assert all(head == every[: len(head)] for head in heads.values())
    assert len(heads[40]) >= 4 and heads[80] == heads[200] == every
    assert "1 h 02 min 03 s" in out[1] and "1.0 MiB" in out[1] and "1.50" in out[1] and "80 %" in out[1]


def test_verdict_names_kills(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, (verdict, place) in enumerate((("ok", "cgroup"), ("oom", "cgroup"), ("ok", "machine"))):
        end = summary(verdict=verdict, reason={"oom_kills": 2, "oom_place": place}, ended_at=1767225610.0)
        put(home, f"2026010{number + 1}T000000Z", str(number) * 32, end, started_at=1767225600.0 + number)
    assert main(["ls"]) == 0
    assert [line[24:].partition("  ")[0].strip() for line in said(capfd)[0]] == ["VERDICT", "ok", "oom", "ok, 2 killed"]


def test_when_is_short_where_there_is_no_room() -> None:
    now = time.localtime()
    row = Row(Past("", header(started_at=time.time()), None, 0, 0.0))
    whole, short = (Form(8, " ", short_time, is_long=is_long).cells(row, "~", now)[0] for is_long in (True, False))
    assert whole == time.strftime("%Y-%m-%d %H:%M", now) and whole.endswith(short)
    for day, shown in (("2020-03-01", "2020-03-01"), (f"{now.tm_year}-01-01", "Jan 01")):
        row.started_at = datetime.fromisoformat(day).timestamp()
        if time.localtime(row.started_at)[:3] != now[:3]:
            assert Form(8, " ", short_time).cells(row, "~", now)[0] == shown


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


# -- which -------------------------------------------------------------------------------------------------------------


def test_conditions_choose(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, cpu in enumerate((3.0, 90.0, None)):
        end = summary(cpu={"total_seconds": cpu, "mean_cores": 0.5}, time=STARVED, limits=TWO)
        put(home, "20260101T000000Z", str(number) * 32, end, name=f"job{number}", tags={"lr": "0.1"}, user="ada")

    def names(*texts: str) -> str:
        assert main(["ls", "--csv", *(word for text in texts for word in ("--where", text))]) == 0
        return "".join(sorted(line.split(",")[0][0] for line in said(capfd)[0][1:]))

    for text, found in {
        "cpu>10": "1", "cpu<=3": "0", "cpu=1.5m": "1", "cpu!=3s": "1", "memory>=1MiB": "012", "memory<1MB": "",
        "verdict=ok": "012", "name=a>=b": "", "verdict != ok": "", "name=job1": "1", "run.user=ada": "012",
        "user>1": "", "tags.lr=0.1": "012",
        "wanted>=1.5": "012", "waited>79%": "012", "waited>0.81": "", "cpu.total_seconds>80": "1", "run-delay>1": "",
    }.items():  # fmt: skip
        assert names(text) == found, text
    assert names("cpu>1", "cpu<50", "verdict=ok") == "0"
    assert main(["rm", "--where", "cpu>10"]) == 0 and said(capfd)[0]
    assert names("wall>0") == "02"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cpu", "not a condition; use"), ("cpu>", "not a condition"), (">1", "not a condition"), ("", "condition"),
        ("cpu>x", "not a number"), ("memory>5s", "not a size"), ("verdict>ok", "verdict is a text; use = or !="),
        ("memroy>1GiB", "unknown field memroy; did you mean memory?"), ("zzz=1", "proctally fields lists them"),
    ],
)  # fmt: skip
def test_wrong_condition(home: Path, capfd: pytest.CaptureFixture[str], text: str, why: str) -> None:
    assert main(["ls", "--where", text]) == 2
    out, (line,) = said(capfd)
    assert not out and line.startswith(f"proctally: --where {text}: ") and why in line


def test_any_folder_and_files(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(home, "20260101T000000Z", "a" * 32, summary())
    folder = tmp_path / "kept"
    folder.mkdir()
    kept = put(folder, "20260101T000000Z", "b" * 32, summary())
    copy = tmp_path / "copy.log"
    copy.write_bytes(kept.read_bytes())
    for words, ids in (((str(folder),), "b"), ((str(copy), "last"), "ba"), ((str(folder), str(kept)), "b")):
        assert main(["ls", "--csv", *words]) == 0
        assert sorted(line[0] for line in said(capfd)[0][1:]) == sorted(ids)
    assert main(["ls", str(tmp_path / "nowhere")]) == 1
    assert "No such file" in said(capfd)[1][0]


def test_without_a_run(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("ls", "report", "diff last last", "advise", "export last"):
        assert main(command.split()) == {"ls": 0, "diff last last": 2}.get(command, 1)
        assert said(capfd) == ([], [f"proctally: {home}: no records; create one with proctally run -- COMMAND"])
    put(home, "20260101T000000Z", "a" * 32, summary())
    assert main(["ls", "--name", "nomatch*"]) == 0
    assert said(capfd) == ([], ["proctally: no run matches"])
    assert main(["ls", "--name", "nomatch*", "--csv"]) == 0
    assert len(said(capfd)[0]) == 1


def test_as_csv_is_safe_for_spreadsheets(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = put(home, "20260101T000000Z", "a" * 32, summary(), name='=1+2,"x"\n')
    assert main(["ls", "--csv"]) == 0
    head, line = csv.reader(said(capfd)[0])
    values = dict(zip(head, line, strict=True))
    assert values["name"] == '\'=1+2,"x"\\n' and values["path"] == str(path)
    assert (values["wall_seconds"], values["memory_bytes"], values["waited_ratio"]) == ("10.0", "1048576", "")


def test_list_keeps_no_summaries(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    large = summary(commands=[{"command": f"{number:0200}"} for number in range(3000)])
    for number in range(30):
        put(home, "20260101T000000Z", f"{number:08}{0:024}", large)
    for options in ([], ["--json"], ["--csv"]):
        tracemalloc.start()
        assert main(["ls", *options]) == 0
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16e6, options  # one of them has about 4 MB
        assert len(said(capfd)[0]) >= 30


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
        assert len(out) == 3 and not err and max(map(len, out)) <= 80
        assert out[-1 if sort == "when" else 0].startswith(("- ", "WHEN")), "when that was is unknown"
    assert main(["ls", "--tag", "k=v"]) == 0
    assert said(capfd) == ([], ["proctally: no run matches"])
    assert main(["ls", "--json"]) == 0
    out, err = said(capfd)
    listed = {line["path"]: line["summary"] for line in (json.loads(line, parse_constant=pytest.fail) for line in out)}
    assert set(listed) == {str(plain), str(path)} and not err
    if value in ("NaN", "Infinity", "1e999"):
        assert listed[str(path)][field] is None, "a number that is not finite is unknown"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls", "--json", "--csv"], "--json and --csv exclude each other"),
        (["ls", "--sort", "size"], "--sort size: unknown; use when, name, "),
        (["ls", "--since", "soon"], "--since soon: not an age or a date"),
        (["ls", "--limit", "0"], "--limit 0: too small; use 1 or more"),
        (["top", "--count", "0"], "--count 0: too small; use 1 or more"),
        (["rm"], "rm: no run named"),
        (["ls", "--verdict", "ok,foo"], "--verdict foo: unknown verdict; use running, ok, failed, killed, oom,"),
        (["rm", "--verdict", ""], "--verdict : unknown verdict; use running, ok, failed, killed, oom,"),
        (["rm", "--older-than", "x"], "--older-than x: not an age or a date"),
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
