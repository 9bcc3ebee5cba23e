"""Two sides beside each other: what differs, what is told, and when a CI job fails."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from made import GIB, MIB, lines, record
from proctally.comparison import Diff, Side, sides
from proctally.diff import as_json, as_markdown, as_text
from proctally.gates import FAILED, PASSED, UNKNOWN, WITHIN, gates
from proctally.history import Past
from proctally.markdown import escaped
from proctally.options import UsageError
from proctally.quantities import number, percent, with_unit
from tracked import Done, call, run


def past(made: dict[str, Any], index: int = 0) -> Past:
    found = lines(number=index, **made)
    return Past(f"{index}.jsonl", found[0], found[-1] if found[-1]["type"] == "summary" else None, 1, 0.0)


def diff(base: list[dict[str, Any]], new: list[dict[str, Any]], limits: str | None = None) -> Diff:
    return Diff(
        Side("BASE", "b", [past(made, i) for i, made in enumerate(base)]),
        Side("NEW", "n", [past(made, 100 + i) for i, made in enumerate(new)]),
        [] if limits is None else gates(limits),
    )


def noisy(value: float, count: int = 5, share: float = 0.01) -> list[dict[str, Any]]:
    """Runs around a wall time."""
    return [{"wall": value * (1 + share * (i - count // 2))} for i in range(count)]


def states(found: Diff) -> list[str]:
    return [each.state for each in found.judged]


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


def test_better_is_no_worse() -> None:
    found = diff(noisy(100.0), noisy(50.0))
    assert found.row("wall").is_worse is False
    assert found.row("cores").is_worse is None  # neither way is better


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


def test_other_machines_and_gaps_are_told() -> None:
    found = diff([{"limits": {"cpu_cores": 2}}], [{"limits": {"cpu_cores": 8}}])
    assert "cores that a run may use differ: BASE 2; NEW 8" in found.notes
    gap = lines()[-1]["cpu"] | {"coverage": "all but what nobody waits for"}
    found = diff([{}], [{"cpu": gap}])
    assert "NEW: cpu: all but what nobody waits for" in found.notes


def test_failed_runs_are_told_and_do_not_count_beside_good_ones() -> None:
    bad = {"wall": 1.0, "verdict": "failed", "evidence": "exit status 7"}
    found = diff(noisy(100.0), [*noisy(100.0), bad])
    assert found.row("wall").change == 0
    assert any("NEW: 5 ok, 1 failed (exit status 7); only those that went well" in note for note in found.notes)
    found = diff(noisy(100.0), [bad])
    assert found.row("wall").change == pytest.approx(-99.0)
    assert any("its figures end where it ended" in note for note in found.notes)
    assert any(note.startswith("verdicts differ") for note in found.notes)


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


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "wall", "memory", "expected"),
    [
        ("wall=+10%", 109.0, GIB, [PASSED]),
        ("wall=+10%", 111.0, GIB, [FAILED]),
        ("wall=+10%", 50.0, GIB, [PASSED]),
        ("wall=-10%", 91.0, GIB, [PASSED]),
        ("wall=-10%", 89.0, GIB, [FAILED]),
        ("wall=+0%", 100.0, GIB, [PASSED]),
        ("wall=+0%", 100.01, GIB, [FAILED]),
        ("wall=+5s", 104.0, GIB, [PASSED]),
        ("wall=+5s", 106.0, GIB, [FAILED]),
        ("wall=+1m", 159.0, GIB, [PASSED]),
        ("wall=+500ms", 101.0, GIB, [FAILED]),
        ("memory=+100MB", 100.0, GIB + 99 * 10**6, [PASSED]),
        ("memory=+100MB", 100.0, GIB + 101 * 10**6, [FAILED]),
        ("memory=+100MiB", 100.0, GIB + 101 * 10**6, [PASSED]),
        ("memory=+5%, wall=+20%", 130.0, 2 * GIB, [FAILED, FAILED]),
        ("cores=+0.5", 100.0, GIB, [PASSED]),
        ("throttled=+10%", 100.0, GIB, [UNKNOWN]),
        ("verdict", 100.0, GIB, [PASSED]),
    ],
)
def test_limits(limits: str, wall: float, memory: int, expected: list[str]) -> None:
    found = diff([{"wall": 100.0}], [{"wall": wall, "memory": memory}], limits)
    assert states(found) == expected
    assert found.has_failed is (set(expected) != {PASSED})


@pytest.mark.parametrize(
    ("limit", "base", "new"), [("wall=+10%", 1.0, 1.1), ("wall=+29%", 100.0, 129.0), ("wall=-10%", 1.0, 0.9),
                               ("wall=+100ms", 0.2, 0.3), ("wall=+2s", 0.1, 2.1)],
)  # fmt: skip
def test_what_is_just_at_the_limit_has_passed(limit: str, base: float, new: float) -> None:
    step = 1e-6 if "+" in limit else -1e-6
    assert states(diff([{"wall": base}], [{"wall": new}], limit)) == [PASSED]
    assert states(diff([{"wall": base}], [{"wall": new + step}], limit)) == [FAILED]


@pytest.mark.parametrize(
    ("text", "amount", "relative"),
    [
        ("cpu=+10 %", 0.1, True), ("cpu = + 10%", 0.1, True), ("cpu=+0.5%", 0.005, True), ("cpu=+2 min", 120.0, False),
        ("cpu=+2h", 7200.0, False), ("cpu=+2m", 120.0, False), ("cpu=+2ms", 0.002, False), ("cpu=+2s", 2.0, False),
        ("memory=+1 GiB", GIB, False), ("memory=+1.5GB", 1.5e9, False), ("processes=+ 3", 3.0, False),
    ],
)  # fmt: skip
def test_blanks_in_a_limit(text: str, amount: float, relative: bool) -> None:
    (gate,) = gates(text)
    assert (gate.amount, gate.relative) == (pytest.approx(amount), relative)


def test_a_limit_is_not_passed_by_noise() -> None:
    """8 % more by the medians, of runs that spread over 40 %."""
    noise = diff(noisy(100.0, share=0.1), noisy(108.0, share=0.1), "wall=+5%")
    assert states(noise) == [WITHIN] and not noise.has_failed
    assert states(diff(noisy(100.0), noisy(108.0), "wall=+5%")) == [FAILED]
    assert states(diff(noisy(100.0), noisy(104.0), "wall=+5%")) == [PASSED]  # a difference, and not beyond the limit
    assert states(diff(noisy(100.0), [{"wall": 108.0}], "wall=+5%")) == [FAILED]  # one against five


def test_from_nothing_any_share_is_more() -> None:
    throttled = [{"waiting": {"throttled_seconds": seconds}} for seconds in (0.0, 1.0)]
    assert states(diff(throttled[:1], throttled[1:], "throttled=+50%")) == [FAILED]
    assert states(diff(throttled[:1], throttled[:1], "throttled=+50%")) == [PASSED]


def test_a_run_that_failed_at_once_has_not_become_faster() -> None:
    found = diff(noisy(100.0), [{"wall": 0.1, "verdict": "killed", "evidence": "killed by signal 9"}], "wall=+10%")
    assert found.has_failed and states(found) == [FAILED, PASSED]
    assert "NEW: no run went well" in found.judged[0].why and "signal 9" in found.judged[0].why
    some = [*noisy(100.0), {"verdict": "failed", "evidence": "exit status 1"}]
    assert not diff(noisy(100.0), some, "wall=+10%").has_failed
    assert states(diff(noisy(100.0), some, "verdict")) == [FAILED]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("memery=+5%", "no figure 'memery'; use verdict, or of wall cpu"),
        ("cpu", "cpu=+10% or cpu=-10%"),
        ("cpu=10%", "cpu=+10% or cpu=-10%"),
        ("cpu=", "cpu=+10%"),
        ("cpu=+", "neither a share nor a time"),
        ("cpu=+x%", "is not a number"),
        ("cpu=+-5%", "is not a number"),
        ("cpu=+1e3%", "is not a number"),
        ("cpu=+nan", "neither a share nor a time"),
        ("cpu=+5MB", "neither a share nor a time"),
        ("memory=+5", None),  # bytes
        ("memory=+5s", "is not a size"),
        ("processes=+5MB", "is not a number"),
        ("", "which limits"),
        (" , ", "which limits"),
        ("verdict=+1", "no figure 'verdict'"),
    ],
)
def test_a_mistake_in_a_limit(text: str, why: str | None) -> None:
    if why is None:
        assert gates(text)[0].amount == 5
        return
    with pytest.raises(UsageError, match="^--fail-on") as caught:
        gates(text)
    assert why in str(caught.value)


# -- which runs ------------------------------------------------------------------------------------------------------


def test_the_last_run_against_those_before_it(tmp_path: Path) -> None:
    home = {"PROCTALLY_HOME": str(tmp_path)}
    paths = [record(tmp_path, name="train", number=number, wall=100.0 + number) for number in range(4)]
    base, new, told = sides("name:train", str(paths[3]), home)
    assert len(base.counted) == 3 and len(new.counted) == 1
    assert told == ["1 of the runs of BASE left out: also in NEW"]
    base, new, told = sides(str(paths[0]), str(paths[0]), home)  # with itself
    assert len(base.counted) == len(new.counted) == 1 and told == []
    base, _, _ = sides(f"{paths[0]},{paths[1]},{paths[1]}", "last", home)
    assert len(base.counted) == 2


def test_a_path_with_a_comma_is_a_path(tmp_path: Path) -> None:
    made = record(tmp_path, name="a")
    odd = tmp_path / "a,b.jsonl.gz"
    odd.write_bytes(gzip.compress(made.read_bytes()))
    base, _, _ = sides(str(odd), str(made), {"PROCTALLY_HOME": str(tmp_path)})
    assert [found.path for found in base.counted] == [str(odd)]


# -- the views -------------------------------------------------------------------------------------------------------

EVIL = "x|`<b>[a](http://e)\x1b[31m\n@you $1$ :x: www.e"


def test_names_of_strangers_are_text() -> None:
    found = diff(
        [{"name": EVIL, "commands": {EVIL: 5.0}}], [{"commands": {EVIL: 6.0}, "verdict": "failed", "evidence": EVIL}]
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


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"), (0.0123, "s", "0.012 s"), (99.5, "s", "99.50 s"), (599, "s", "599 s"), (660, "s", "11 min"),
        (7300, "s", "2.028 h"), (864000, "s", "10 days"), (1023, "By", "1,023 B"), (1 << 20, "By", "1 MiB"),
        (1.5 * GIB, "By", "1.500 GiB"), (3.25, "1", "3.250"), (12345, "1", "12,345"),
    ],
)  # fmt: skip
def test_quantities(value: float, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


def test_numbers_beside_each_other_have_the_same_digits() -> None:
    assert number(1.0, 1.05) == "1.000" and number(1.0, 2.0) == "1"
    assert (percent(1, 1), percent(0, 1), percent(2, 1), percent(1, 25)) == ("=", "from 0", "-50.0 %", "x 25.0")


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_status_of_the_command(tmp_path: Path) -> None:
    for number_ in range(5):
        record(tmp_path, name="base", number=number_, wall=100.0 + number_)
        record(tmp_path, name="new", number=10 + number_, wall=150.0 + number_, memory=GIB + MIB)
    record(tmp_path, name="running", number=30, end=False)

    def status(*arguments: str) -> Done:
        return call(tmp_path, "diff", *arguments)

    assert status("name:base", "name:new").status == 0
    failed = status("name:base", "name:new", "--fail-on", "wall=+20%,memory=+5%")
    assert failed.status == 1 and failed.stderr == b""
    assert b"failed: wall 102 s to 152 s (+49.0 %): beyond wall=+20%" in failed.stdout
    assert status("name:base", "name:new", "--fail-on", "wall=+60%").status == 0
    marked = status("name:base", "name:new", "--fail-on", "wall=+20%", "-f", "markdown")
    assert marked.status == 1 and marked.stdout.startswith(b"**failed**")
    assert marked.stderr == b"proctally: wall 102 s to 152 s (+49.0 %): beyond wall=+20%\n"
    for arguments, expected, why in (
        (("name:base",), 2, b"which two?"),
        (("name:base", "name:new", "x"), 2, b"which two?"),
        (("name:base", "name:new", "--fail-on", "nothing=+1%"), 2, b"no figure 'nothing'"),
        (("name:base", "name:new", "-f", "csv"), 2, b"text or markdown or json"),
        (("name:base", "name:nobody"), 1, b"no past run with the name"),
        (("name:base", str(tmp_path / "none.jsonl")), 1, b"No such file"),
        (("name:base", "name:running"), 1, b"NEW name:running: nothing to compare: running"),
        (("name:base", str(tmp_path)), 1, b"directory"),
        (("name:base", ","), 1, b"names no record"),
    ):
        done = status(*arguments)
        assert (done.status, done.stdout) == (expected, b""), arguments
        assert why in done.stderr and done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1


def test_two_real_runs(tmp_path: Path) -> None:
    for megabytes in (20, 120):
        script = f"import time; a = bytearray({megabytes * MIB}); a[::4096] = b'x' * len(a[::4096]); time.sleep(0.2)"
        run(tmp_path, "-q", "-i", "0.05", "-n", f"m{megabytes}", "--", sys.executable, "-S", "-c", script)
    done = call(tmp_path, "diff", "name:m20", "name:m120", "-f", "json", "--fail-on", "memory=+50MB")
    found = json.loads(done.stdout)
    memory = next(row for row in found["figures"] if row["name"] == "memory")
    assert 90 * MIB < memory["change"] < 110 * MIB
    assert memory["differs"] is None and done.status == 1
    assert call(tmp_path, "diff", "name:m120", "name:m20", "--fail-on", "memory=+50MB").status == 0
    assert call(tmp_path, "diff", "name:m20", "name:m120", "--fail-on", "memory=+200MB").status == 0
