"""Two sides as text, Markdown and JSON."""

from __future__ import annotations

import json

import pytest

from made import GIB, lines
from proctally.analysis.comparison import Side
from proctally.text.markdown import escaped
from proctally.views.diff import as_json, as_markdown, as_spread, as_text
from sides_of import diff, noisy, past

# -- figures ---------------------------------------------------------------------------------------------------------


def test_two_runs_are_untested() -> None:
    found = diff([{"wall": 100.0, "memory": GIB}], [{"wall": 120.0, "memory": GIB}])
    wall, memory = found.row("wall"), found.row("memory")
    assert (wall.change, wall.ratio) == (pytest.approx(20.0), pytest.approx(1.2))
    assert wall.is_worse is None and memory.is_worse is None
    text = as_text(found, verbose=False, colour=False)
    assert "untested (1 run a side); an interval needs 4 runs a side" in text and "+20.0 %\n" in text


def test_groups_have_intervals_words_and_what_they_see() -> None:
    """Text of the default view: three figures, what the CPU time is of, and limits."""
    base = [made | {"commands": {"cc1": 60.0 + place, "ld": 5.0}} for place, made in enumerate(noisy(100.0))]
    new = [made | {"commands": {"cc1": 70.0 + place, "ld": 5.0}} for place, made in enumerate(noisy(104.0))]
    text = as_text(diff(base, new, "wall=+5%,cpu=+50%,memory=+1%"), verbose=False, colour=False)
    assert text.splitlines()[:6] == [
        "BASE  job, 5 runs",
        "NEW   job, 5 runs",
        "           BASE    NEW  CHANGE        95 %",
        "  wall    100 s  104 s  +4.0 %  +0.9..+7.2  more",
        "  cpu     100 s  104 s  +4.0 %  +0.9..+7.2  more",
        "  memory  1 GiB  1 GiB       =  +0.0..+0.0  unclear",
    ]
    assert "most of the CPU: cc1 +10 of +4 s (+11.1..+21.3 %)" in text
    assert "wall spreads by 1.6 %: 5 runs a side see +3.7 %\n" in text
    assert "gate wall=+5%    CANNOT TELL  +4.0 % (+0.9..+7.2); about" in text
    assert "gate cpu=+50%    HOLDS        +4.0 % (+0.9..+7.2)\n" in text
    assert "gate memory=+1%  HOLDS        = (+0.0..+0.0)\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_claim_that_is_clear_alone_says_of_how_many_it_is() -> None:
    text = as_text(diff(noisy(100.0, 4), noisy(200.0, 4)), verbose=False, colour=False)
    assert "unclear: one of 3 tests" in text


def test_rows_that_are_equal_are_folded() -> None:
    text = as_text(diff(noisy(100.0), noisy(104.0)), verbose=True, colour=False)
    (folded,) = [line for line in text.splitlines() if line.startswith("equal on both sides: ")]
    assert "cores" in folded and "user" not in folded
    assert "cores" not in text.replace(folded, "") and "  user " in text
    assert "equal on both sides" not in as_text(diff(noisy(100.0), noisy(104.0)), verbose=False, colour=False)


def test_change_from_0_is_an_amount() -> None:
    waits = [{"waiting": {"throttled_seconds": 1.0 * place}} for place in range(8)]
    text = as_text(diff(waits[:4], waits[4:], "throttled=+10s"), verbose=False, colour=False)
    assert "HOLDS        +4 s (+1..+7 s)" in text


def test_spread_of_one_group() -> None:
    text = as_spread(Side("BASE", "b", [past(made, i) for i, made in enumerate(noisy(100.0))]), colour=False)
    assert text.splitlines()[:3] == [
        "job, 5 runs",
        "          MEDIAN  LEAST   MOST  SPREAD",
        "  wall     100 s   98 s  102 s   1.6 %",
    ]
    assert text.endswith("wall spreads by 1.6 %: 5 runs a side see +3.7 %\n")


def test_what_one_side_does_not_know_is_not_compared_and_told() -> None:
    waits = {"waiting": {"throttled_seconds": 3.0}}
    found = diff([{}], [waits])
    assert found.row("throttled").shift is None and found.row("throttled").ratio is None
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
    text = as_text(found, verbose=True, colour=False)
    assert "CPU time by command" in text and "+3 s" in text and "-1 s" in text
    assert "most of the CPU" not in text and "1 to 0 processes" in text
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
    assert rows and all(line.count("|") == 7 for line in rows)
    assert escaped("a b-1.5 (+2 %)") == "a b-1.5 (+2 %)"  # what is plain stays so


def test_markdown_says_first_whether_it_failed() -> None:
    marked = as_markdown(diff(noisy(100.0), noisy(200.0), "wall=+10%,cpu=-10%"), verbose=False)
    assert marked.startswith(
        "**fails**\n\n- gate wall=+10% FAILS: +100.0 % (+94.1..+106.1)\n- gate cpu=-10% HOLDS: +100"
    )
    assert as_markdown(diff(noisy(100.0), noisy(100.0), "wall=+10%"), verbose=False).startswith("**holds**")
    assert as_markdown(diff(noisy(100.0), noisy(110.0), "wall=+10%"), verbose=False).startswith("**cannot tell**")
    assert "holds" not in as_markdown(diff(noisy(100.0), noisy(100.0)), verbose=False)


def test_json_has_everything() -> None:
    found = json.loads(as_json(diff(noisy(100.0), noisy(200.0), "wall=+10%")))
    wall = next(row for row in found["figures"] if row["name"] == "wall")
    assert wall["base"] == {"n": 5, "median": 100.0, "low": 98.0, "high": 102.0,
                            "mad": pytest.approx(1.4826), "values": [98.0, 99.0, 100.0, 101.0, 102.0]}  # fmt: skip
    assert (wall["claim"], wall["shift_is_ratio"], wall["unit"], wall["better"]) == ("more", True, "s", "less")
    assert wall["p"] == pytest.approx(2 / 252)
    assert (wall["shift"], wall["shift_low"]) == (pytest.approx(1.0), pytest.approx(198 / 102 - 1))
    (limit,) = found["limits"]
    assert (found["result"], limit["limit"], limit["result"], limit["runs_needed"]) == (
        "fails",
        "wall=+10%",
        "fails",
        None,
    )
    assert limit["shift_low"] == wall["shift_low"]
    assert len(found["base"]["runs"]) == 5 and found["base"]["runs"][0]["counted"] is True


def test_colour_says_worse_and_better() -> None:
    text = as_text(
        diff(noisy(100.0), [made | {"memory": GIB // 2} for made in noisy(200.0)]), verbose=False, colour=True
    )
    assert "\x1b[31m" in next(line for line in text.splitlines() if "wall" in line)
    assert "\x1b[32m" in next(line for line in text.splitlines() if "memory" in line)
