"""Two sides as text, Markdown and JSON."""

from __future__ import annotations

import json

import pytest

from made import GIB, lines
from proctally.text.markdown import escaped
from proctally.views.diff import as_json, as_markdown, as_text
from sides_of import diff, noisy

# -- figures ---------------------------------------------------------------------------------------------------------


def test_two_runs_beside_each_other() -> None:
    found = diff([{"wall": 100.0, "memory": GIB}], [{"wall": 120.0, "memory": GIB}])
    wall, memory = found.row("wall"), found.row("memory")
    assert (wall.change, wall.ratio) == (pytest.approx(20.0), pytest.approx(1.2))
    assert wall.is_worse is True and memory.is_worse is None
    assert wall.comparison is not None and wall.comparison.differs is None  # one run a side
    text = as_text(found, verbose=False, colour=False)
    assert "one run a side" in text and "+20.0 % ?" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_difference_within_the_spread_is_not_called_one() -> None:
    within = diff(noisy(100.0, share=0.1), noisy(104.0, share=0.1))
    beyond = diff(noisy(100.0), noisy(104.0))
    assert within.row("wall").is_worse is None and beyond.row("wall").is_worse is True
    assert "+4.0 % ~" in as_text(within, verbose=False, colour=False)
    assert "+4.0 % ~" not in as_text(beyond, verbose=False, colour=False)
    assert "ranks" in as_text(beyond, verbose=False, colour=False)
    assert "Student" in as_text(diff(noisy(100.0, 2), noisy(104.0, 2)), verbose=False, colour=False)


def test_what_one_side_does_not_know_is_not_compared_and_told() -> None:
    waits = {"waiting": {"throttled_seconds": 3.0}}
    found = diff([{}], [waits])
    assert found.row("throttled").comparison is None and found.row("throttled").ratio is None
    assert "not compared, unknown in BASE: throttled" in found.notes
    found = diff([{}, waits, {}], [waits])
    assert "BASE: known of a part of its runs only: throttled" in found.notes
    assert "throttled" not in as_text(diff([{}], [{}]), verbose=True, colour=False)


def test_the_machine_is_compared_where_that_was_tracked() -> None:
    busy = {"system": {"cpus": 8, "cpu_seconds": 50.0, "mean_cores": 4.0}}
    assert "machine-cpu" not in as_text(diff([busy], [busy]), verbose=False, colour=False)
    assert "machine-cpu" in as_text(diff([busy], [busy]), verbose=True, colour=False)
    alone = busy | {"kind": "system"}
    assert "machine-cpu" in as_text(diff([alone], [alone]), verbose=False, colour=False)


def test_commands() -> None:
    base = [{"commands": {"cc1": 50.0, "ld": 2.0, "gone": 1.0}}]
    new = [{"commands": {"cc1": 60.0, "ld": 2.0, "born": 3.0}}]
    found = diff(base, new)
    rows = {row.name: row for row in found.commands}
    assert [row.name for row in found.commands] == ["cc1", "born", "ld", "gone"]
    assert rows["cc1"].ratio == pytest.approx(1.2)
    assert (rows["gone"].new and rows["gone"].new.median, rows["gone"].processes) == (0.0, (1, 0))
    text = as_text(found, verbose=False, colour=False)
    assert "CPU time by command" in text and "from 0" in text and "-100.0 %" in text
    unseen = lines()[-1]["processes"] | {"source": "procfs"}  # what is not in the list may have been too short
    found = diff(base, [new[0] | {"processes": unseen}])
    assert {row.name: row for row in found.commands}["gone"].new is None


# -- the views -------------------------------------------------------------------------------------------------------


EVIL = "x|`<b>[a](http://e)\x1b[31m\n@you $1$ :x: www.e"


def test_names_of_strangers_are_text() -> None:
    found = diff(
        [{"name": EVIL, "commands": {EVIL: 5.0}}],
        [{"commands": {EVIL: 6.0}, "verdict": "failed", "why": {"code": "block_ended", "exception": EVIL}}],
    )
    text, marked = as_text(found, verbose=True, colour=False), as_markdown(found, verbose=True)
    assert "\x1b" not in text + marked and "\\x1b[31m" in text
    for sign in ("<b>", "`", "[a]", "http://", "@you", "$1$", "www.e"):
        assert sign not in marked, sign
    rows = [line for line in marked.splitlines() if line.startswith("| ")]
    assert rows and all(line.count("|") in (6, 7) for line in rows)
    assert escaped("a b-1.5 (+2 %)") == "a b-1.5 (+2 %)"  # what is plain stays so


def test_markdown_says_first_whether_it_failed() -> None:
    marked = as_markdown(diff(noisy(100.0), noisy(200.0), "wall=+10%,cpu=-10%"), verbose=False)
    assert marked.startswith(
        "**failed**\n\n- failed: wall 100 s to 200 s (+100.0 %): beyond wall=+10%\n- passed: cpu 100"
    )
    assert as_markdown(diff(noisy(100.0), noisy(100.0), "wall=+10%"), verbose=False).startswith("**passed**")
    assert "passed" not in as_markdown(diff(noisy(100.0), noisy(100.0)), verbose=False)


def test_json_has_everything() -> None:
    found = json.loads(as_json(diff(noisy(100.0), noisy(200.0), "wall=+10%")))
    wall = next(row for row in found["figures"] if row["name"] == "wall")
    assert wall["base"] == {"n": 5, "median": 100.0, "low": 98.0, "high": 102.0,
                            "mad": pytest.approx(1.4826), "values": [98.0, 99.0, 100.0, 101.0, 102.0]}  # fmt: skip
    assert (wall["differs"], wall["method"], wall["unit"], wall["better"]) == (True, "ranks", "s", "less")
    assert wall["p"] == pytest.approx(2 / 252)
    assert found["failed"] is True and found["limits"][0]["limit"] == "wall=+10%"
    assert len(found["base"]["runs"]) == 5 and found["base"]["runs"][0]["counted"] is True


def test_colour_says_worse_and_better() -> None:
    text = as_text(
        diff(noisy(100.0), [made | {"memory": GIB // 2} for made in noisy(200.0)]), verbose=False, colour=True
    )
    assert "\x1b[31m" in next(line for line in text.splitlines() if "wall" in line)
    assert "\x1b[32m" in next(line for line in text.splitlines() if "memory" in line)
