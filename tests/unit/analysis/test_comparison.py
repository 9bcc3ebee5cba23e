"""Two sides compared, and limits of a difference."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from made import GIB, gap, lines, record
from proctally.analysis.comparison import Diff, Side, sides
from proctally.analysis.gates import CANNOT_TELL, FAILS, HOLDS, gates
from proctally.errors import UsageError
from sides_of import diff, noisy, past


def states(found: Diff) -> list[str]:
    return [each.result for each in found.judged]


# -- figures ---------------------------------------------------------------------------------------------------------


def test_better_is_no_worse() -> None:
    found = diff(noisy(100.0), noisy(50.0))
    assert found.row("wall").is_worse is False
    assert found.row("cores").is_worse is None  # neither way is better


def test_other_machines_and_gaps_are_told() -> None:
    found = diff([{"limits": {"cpu_cores": 2}}], [{"limits": {"cpu_cores": 8}}])
    assert "cores that a run may use differ: BASE 2; NEW 8" in found.notes
    denied = [gap("io", "io_denied", count=count) for count in (1, 3, 2)]
    found = diff([{}], [{"gaps": [each]} for each in denied])
    assert "NEW: I/O: I/O of 3 processes is denied to this user" in found.notes
    found = diff([{"gaps": [denied[0]]}], [{"gaps": [denied[1]]}])
    assert not any("denied" in note for note in found.notes), "the same gap on both sides"
    found = diff([{}], [{"cpu": lines()[-1]["cpu"] | {"coverage": "partial"}}])
    assert "NEW: CPU time: partial" in found.notes


def test_diff_row_of_all_other_commands_is_not_a_command_of_that_name() -> None:
    rows = [{"command": "(others)", "processes": 1, "cpu_seconds": seconds} for seconds in (5.0, 7.0)]
    folded = rows[1] | {"folded": True}
    found = diff([{"commands": {"make": 1.0}}], [{"commands": {"(others)": 5.0}}])
    assert [(row.name, row.base is not None) for row in found.commands] == [("(others)", True), ("make", True)]
    base, new = past({}), past({}, 100)
    assert base.summary is not None and new.summary is not None
    base.summary["commands"], new.summary["commands"] = [rows[0], folded], [rows[0]]
    found = Diff(Side("BASE", "b", [base]), Side("NEW", "n", [new]), [])
    assert [(row.name, row.base and row.base.median, row.new and row.new.median) for row in found.commands] == [
        ("(others)", 7.0, 0.0),
        ("(others)", 5.0, 5.0),
    ]


def test_run_with_oom_kills_did_not_go_well() -> None:
    kills = {"code": "exit_status", "oom_kills": 4, "oom_place": "cgroup"}
    found = diff([{}], [{"reason": kills}], "verdict")
    assert states(found) == [FAILS, FAILS]
    assert found.judged[0].why.endswith("ok (the kernel's OOM killer ended 4 processes in its cgroup)")
    found = diff(noisy(100.0), [*noisy(100.0), {"wall": 1.0, "reason": kills}])
    assert found.row("wall").change == 0, "it is left out"
    assert states(diff([{}], [{"reason": kills | {"oom_place": "machine"}}], "verdict")) == [HOLDS]


def test_failed_runs_are_told_and_do_not_count_beside_good_ones() -> None:
    bad = {"wall": 1.0, "verdict": "failed", "exit_code": 7}
    found = diff(noisy(100.0), [*noisy(100.0), bad])
    assert found.row("wall").change == 0
    assert any("NEW: 5 ok, 1 failed (exit status 7); only those that went well" in note for note in found.notes)
    found = diff(noisy(100.0), [bad])
    assert found.row("wall").change == pytest.approx(-99.0)
    assert any("its figures end where it ended" in note for note in found.notes)
    assert any(note.startswith("verdicts differ") for note in found.notes)


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "wall", "memory", "expected"),
    [
        ("wall=+10%", 109.0, GIB, [HOLDS]),
        ("wall=+10%", 111.0, GIB, [FAILS]),
        ("wall=+10%", 50.0, GIB, [HOLDS]),
        ("wall=-10%", 91.0, GIB, [HOLDS]),
        ("wall=-10%", 89.0, GIB, [FAILS]),
        ("wall=+0%", 100.0, GIB, [HOLDS]),
        ("wall=+0%", 100.01, GIB, [FAILS]),
        ("wall=+5s", 104.0, GIB, [HOLDS]),
        ("wall=+5s", 106.0, GIB, [FAILS]),
        ("wall=+1m", 159.0, GIB, [HOLDS]),
        ("wall=+500ms", 101.0, GIB, [FAILS]),
        ("memory=+100MB", 100.0, GIB + 99 * 10**6, [HOLDS]),
        ("memory=+100MB", 100.0, GIB + 101 * 10**6, [FAILS]),
        ("memory=+100MiB", 100.0, GIB + 101 * 10**6, [HOLDS]),
        ("memory=+5%, wall=+20%", 130.0, 2 * GIB, [FAILS, FAILS]),
        ("cores=+0.5", 100.0, GIB, [HOLDS]),
        ("throttled=+10%", 100.0, GIB, [CANNOT_TELL]),
        ("verdict", 100.0, GIB, [HOLDS]),
    ],
)
def test_limits(limits: str, wall: float, memory: int, expected: list[str]) -> None:
    found = diff([{"wall": 100.0}], [{"wall": wall, "memory": memory}], limits)
    assert states(found) == expected
    assert found.result == (CANNOT_TELL if CANNOT_TELL in expected else FAILS if FAILS in expected else HOLDS)


@pytest.mark.parametrize(
    ("limit", "base", "new"), [("wall=+10%", 1.0, 1.1), ("wall=+29%", 100.0, 129.0), ("wall=-10%", 1.0, 0.9),
                               ("wall=+100ms", 0.2, 0.3), ("wall=+2s", 0.1, 2.1)],
)  # fmt: skip
def test_what_is_just_at_the_limit_has_passed(limit: str, base: float, new: float) -> None:
    step = 1e-6 if "+" in limit else -1e-6
    assert states(diff([{"wall": base}], [{"wall": new}], limit)) == [HOLDS]
    assert states(diff([{"wall": base}], [{"wall": new + step}], limit)) == [FAILS]


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


def test_gate_needs_the_whole_interval() -> None:
    """8 % more by the medians, of runs that spread over 40 %, is neither within 5 % nor beyond."""
    noise = diff(noisy(100.0, share=0.1), noisy(108.0, share=0.1), "wall=+5%")
    (judged,) = noise.judged
    assert noise.result == CANNOT_TELL and judged.runs is not None and judged.runs > 100
    assert judged.why.startswith("+8.0 % (") and f"about {judged.runs} runs a side decide" in judged.why
    assert states(diff(noisy(100.0), noisy(120.0), "wall=+5%,wall=+10s")) == [FAILS, FAILS]
    assert states(diff(noisy(100.0), noisy(101.0), "wall=+5%,wall=+10s")) == [HOLDS, HOLDS]
    assert states(diff(noisy(100.0), noisy(99.0), "wall=-5%,wall=-10s")) == [HOLDS, HOLDS]
    assert states(diff(noisy(100.0), noisy(99.0), "wall=-1%,wall=-1s,wall=-200%")) == [CANNOT_TELL, CANNOT_TELL, HOLDS]
    (judged,) = diff(noisy(100.0), noisy(105.0), "wall=+5%").judged
    assert judged.result == CANNOT_TELL and judged.why.endswith("its change is the limit itself")


def test_gate_of_few_runs_judges_points_and_is_untested() -> None:
    for runs, count in ((1, "1 run"), (3, "3 runs")):
        found = diff(noisy(100.0, runs), noisy(108.0), "wall=+5%")
        assert (states(found), found.judged[0].why) == ([FAILS], f"+8.0 %, untested ({count} a side)")
        assert states(diff(noisy(100.0, runs), noisy(104.0, runs), "wall=+5%")) == [HOLDS]


def test_worst_gate_decides() -> None:
    unknown = diff(noisy(100.0), noisy(100.0), "throttled=+5%,wall=+50%")
    assert (states(unknown), unknown.result) == ([CANNOT_TELL, HOLDS], CANNOT_TELL)
    assert diff(noisy(100.0), noisy(200.0), "throttled=+5%,wall=+50%").result == FAILS
    assert diff(noisy(100.0), noisy(200.0)).result is None


def test_claims_are_of_three_figures_and_of_limits() -> None:
    found = diff(noisy(100.0), noisy(50.0), "cores=+5%")
    claims = {row.name: row.claim for row in found.rows if row.claim is not None}
    assert claims == {"wall": "less", "cpu": "less", "memory": "unclear", "cores": "unclear"}
    assert {row.name for row in diff(noisy(100.0, 3), noisy(50.0)).rows if row.claim is not None} == set()


def test_claims_are_corrected_for_their_number() -> None:
    """The clearest order of 4 against 4 comes by chance in 2 of 70 cases: too often for one of three."""
    found = diff(noisy(100.0, 4), noisy(200.0, 4)).row("wall")
    assert found.shift is not None and found.shift.interval is not None
    assert (found.claim, found.shift.interval.p) == ("unclear", pytest.approx(2 / 70))


def test_from_nothing_any_share_is_more() -> None:
    throttled = [{"waiting": {"throttled_seconds": seconds}} for seconds in (0.0, 1.0)]
    assert states(diff(throttled[:1], throttled[1:], "throttled=+50%")) == [FAILS]
    assert states(diff(throttled[:1], throttled[:1], "throttled=+50%")) == [HOLDS]


def test_a_run_that_failed_at_once_has_not_become_faster() -> None:
    found = diff(noisy(100.0), [{"wall": 0.1, "verdict": "killed", "signal": 9}], "wall=+10%")
    assert states(found) == [FAILS, HOLDS]
    assert "NEW: no run went well" in found.judged[0].why and "signal 9" in found.judged[0].why
    some = [*noisy(100.0), {"verdict": "failed", "exit_code": 1}]
    assert diff(noisy(100.0), some, "wall=+10%").result == HOLDS
    assert states(diff(noisy(100.0), some, "verdict")) == [FAILS]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("memery=+5%", "memery=+5%: unknown figure; did you mean memory?"),
        ("foo=1", "foo=1: unknown figure; proctally diff --help lists the figures"),
        ("cpu", "cpu=+10% or cpu=-10%"),
        ("cpu=10%", "cpu=+10% or cpu=-10%"),
        ("cpu=", "cpu=+10%"),
        ("cpu=+", "not a share or a time"),
        ("cpu=+x%", "is not a number"),
        ("cpu=+-5%", "is not a number"),
        ("cpu=+1e3%", "is not a number"),
        ("cpu=+nan", "not a share or a time"),
        ("cpu=+5MB", "not a share or a time"),
        ("memory=+5", None),  # bytes
        ("memory=+5s", "not a size"),
        ("processes=+5MB", "is not a number"),
        ("", "no limit given"),
        (" , ", "no limit given"),
        ("verdict=+1", "verdict=+1: unknown figure"),
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
    for word, same in ((str(paths[0]), "are the same run"), ("name:train", "have the same runs")):
        with pytest.raises(UsageError, match=f"both sides {same}; name another one"):
            sides(word, word, home)
    base, _, _ = sides(f"{paths[0]},{paths[1]},{paths[1]}", "last", home)
    assert len(base.counted) == 2


def test_a_path_with_a_comma_is_a_path(tmp_path: Path) -> None:
    made, other = record(tmp_path, name="a"), record(tmp_path, name="b")
    odd = tmp_path / "a,b.jsonl.gz"
    odd.write_bytes(gzip.compress(made.read_bytes()))
    base, _, _ = sides(str(odd), str(other), {"PROCTALLY_HOME": str(tmp_path)})
    assert [found.path for found in base.counted] == [str(odd)]
