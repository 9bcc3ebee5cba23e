"""The command `report`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import made
from made import MIB
from strange_lines import hostile
from tracked import PROCTALLY, PYTHON, environment


def report(
    tmp_path: Path, *arguments: str | Path, home: Path | None = None, command: list[str] = PROCTALLY, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "report", *map(str, arguments)],
        capture_output=True, text=True, cwd=tmp_path, env=environment(home or tmp_path, **more), timeout=60,
        check=False,
    )  # fmt: skip


# -- forms -----------------------------------------------------------------------------------------------------------


def test_json_has_figures_and_thinned_series(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl", seconds=5000)
    done = report(tmp_path, "-f", "json", path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    assert told["schema"] == "proctally-report/2"
    (one,) = told["runs"]
    assert one["figures"]["peak_memory_bytes"] == 512 * MIB
    assert one["figures"]["throttled_seconds"] is None
    assert one["time"] is None
    assert [row["resource"] for row in one["request"]] == ["cores", "memory", "time"]
    assert one["samples"] == 5001
    assert one["thinned"] is True
    assert {len(values) for values in one["series"].values()} == {len(one["series"]["elapsed_seconds"])}
    assert len(one["series"]["elapsed_seconds"]) <= 2000
    assert one["series"]["tree.cpu_cores"][0] == 2.0
    assert one["series"]["tree.write_bytes"][-1] == MIB


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bokeh() -> None:
    pytest.importorskip("bokeh", reason="the extra report is not installed")


def test_html_goes_beside_where_it_is_asked_for(tmp_path: Path, bokeh: None) -> None:
    path = made.whole(tmp_path / "20260101T000000Z-made-01234567.jsonl")
    here = tmp_path / "here"
    here.mkdir()
    done = report(here, path)
    name = "20260101T000000Z-made-01234567.html"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}\n", "")
    page = here / name
    assert page.stat().st_mode & 0o777 == 0o600
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    again = report(here, path)
    assert again.returncode == 1
    assert again.stderr == f"proctally: {name}: File exists; use --force to replace it\n"
    assert report(here, path, "--force").returncode == 0
    out = report(here, path, "-o", "-")
    assert out.stdout.endswith("</html>\n")
    assert [one.name for one in here.iterdir()] == [name]


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path: Path, bokeh: None) -> None:
    page = report(tmp_path, hostile(tmp_path / "a.jsonl"), "-o", "-").stdout
    assert len(page) < 6_000_000
    assert "alert(1)</script>" not in page
    assert "<script>alert" not in page
    assert not re.search(r"""<(?:link|script|img|iframe)[^>]*(?:src|href)=["'](?!data:|#)""", page)


def test_svg_and_png_have_the_two_pictures(tmp_path: Path, bokeh: None) -> None:
    path = hostile(tmp_path / "a.jsonl")
    done = report(tmp_path, path, "-f", "svg")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a.svg\n", "")
    drawn = ElementTree.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert drawn.tag.endswith("svg")
    assert "100 to 200 B held, 36 MiB mapped files" in " ".join(drawn.itertext())
    assert "var(" not in (tmp_path / "a.svg").read_text(encoding="utf-8")
    code = "import sys; sys.modules['resvg_py'] = None; from proctally.cli.main import main; sys.exit(main())"
    without = report(tmp_path, path, "-f", "png", command=[sys.executable, "-c", code])
    assert without.returncode == 2
    assert without.stderr.startswith("proctally: --format png needs the package resvg_py: pip install 'proctally[png]'")
    pytest.importorskip("resvg_py", reason="the extra png is not installed")
    assert report(tmp_path, path, "-f", "png").returncode == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_last_is_the_record_without_a_name(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    made.whole(runs / "20260101T000000Z-old-00000001.jsonl", seconds=3)
    made.whole(runs / "20260102T000000Z-new-00000002.jsonl", seconds=4)
    assert re.match(r"proctally made +ok +4\.0 s", report(tmp_path, "-f", "text", home=tmp_path).stdout)
    assert re.match(r"proctally made +ok +3\.0 s", report(tmp_path, "-f", "text", "00000001", home=tmp_path).stdout)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nothere.jsonl"], 1, "nothere.jsonl: no such record"),
        (["/nothere/x.jsonl"], 1, "No such file"),
        (["-f", "pdf"], 2, "use html, text, markdown, json, svg or png"),
        (["-f", "csv"], 2, "use html, text, markdown, json, svg or png"),
        (["-f", "text", "--open"], 2, "--open"),
        (["-o", "-", "--open"], 2, "--open"),
        (["a.jsonl", "-f", "text", "-o", "/nothere/x"], 1, "No such file or directory"),
        (["a.jsonl", "-f", "text", "-o", "."], 1, "Is a directory"),
        (["a.jsonl", "-f", "text", "-o", "a.jsonl", "--force"], 1, "is the record itself"),
        (["a.jsonl", "-f", "text", "-o", "/dev/full"], 1, "No space left"),
        (["a.jsonl", "--limit", "3"], 2, "--limit: unknown option of report"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    path = made.whole(tmp_path / "a.jsonl")
    before = path.read_bytes()
    done = report(tmp_path, *arguments)
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("proctally: ")
    assert said in done.stderr
    assert done.stdout == ""
    assert path.read_bytes() == before


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    made.whole(tmp_path / "a.jsonl")
    code = "import sys; sys.modules['bokeh'] = None; from proctally.cli.main import main; sys.exit(main())"
    without = [sys.executable, "-c", code]
    done = report(tmp_path, "a.jsonl", command=without)
    assert done.returncode == 2
    assert "pip install 'proctally[report]'" in done.stderr
    assert report(tmp_path, "a.jsonl", "-f", "text", command=without).returncode == 0


def test_too_many_records(tmp_path: Path) -> None:
    paths = [made.whole(tmp_path / f"{n}.jsonl", seconds=1) for n in range(25)]
    done = report(tmp_path, *paths)
    assert (done.returncode, done.stdout) == (2, "")
    assert "at most 24" in done.stderr


@pytest.mark.parametrize(("opens", "status"), [("true", 0), ("false", 1)])
def test_it_is_shown_in_a_browser(tmp_path: Path, bokeh: None, opens: str, status: int) -> None:
    program = shutil.which(opens)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" >{tmp_path}/shown\nexec {program}\n')
    browser.chmod(0o755)
    made.whole(tmp_path / "a.jsonl")
    done = report(tmp_path, "a.jsonl", "--open", BROWSER=f"{browser} %s")
    assert done.returncode == status, done.stderr
    assert (tmp_path / "shown").read_text() == f"file://{tmp_path}/a.html"
    assert (tmp_path / "a.html").exists()
    assert done.stderr == ("" if status == 0 else "proctally: no browser was found; the report is a.html\n")


def test_text_needs_neither_bokeh_nor_numpy(tmp_path: Path) -> None:
    made.whole(tmp_path / "a.jsonl")
    code = (
        "import sys; from proctally.cli.main import main; main(['report', '-f', 'text', 'a.jsonl']);"
        "assert not {'bokeh', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path), capture_output=True)
    assert done.returncode == 0, done.stderr


# -- real runs -------------------------------------------------------------------------------------------------------


def test_reports_of_a_real_run(tmp_path: Path) -> None:
    job = "import time, subprocess, sys; s = sum(i * i for i in range(2_000_000)); subprocess.run(['sleep', '0.3'])"
    done = subprocess.run(
        [*PROCTALLY, "run", "-q", "-i", "0.1", "-n", "real", "--", *PYTHON, "-c", job],
        env=environment(tmp_path), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    told = report(tmp_path, "-f", "text", LANG="C.UTF-8").stdout
    assert told.startswith("proctally real  ok")
    assert "\n  ended      exit status 0\n" in told
    assert re.search(r"used +[ ▁▂▃▄▅▆▇█]{20,} ", told)
    (one,) = json.loads(report(tmp_path, "-f", "json").stdout)["runs"]
    assert one["figures"]["cpu_seconds"] > 0.05
    assert one["figures"]["wall_seconds"] >= 0.3
    assert len(one["series"]["tree.cpu_cores"]) == one["samples"] >= 3
    assert "## <code>real</code> ✅ ok" in report(tmp_path, "-f", "markdown").stdout
