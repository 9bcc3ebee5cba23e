"""Two sides compared, and limits of a difference."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from made import GIB, gap, lines, record
from proctally.analysis.comparison import Diff, Side, sides
from proctally.analysis.gates import FAILED, PASSED, UNKNOWN, WITHIN, gates
from proctally.errors import UsageError
from sides_of import diff, noisy, past


def states(found: Diff) -> list[str]:
    return [each.state for each in found.judged]


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
    assert states(found) == [FAILED, FAILED]
    assert found.judged[0].why.endswith("ok (the kernel's OOM killer ended 4 processes in its cgroup)")
    found = diff(noisy(100.0), [*noisy(100.0), {"wall": 1.0, "reason": kills}])
    assert found.row("wall").change == 0, "it is left out"
    assert states(diff([{}], [{"reason": kills | {"oom_place": "machine"}}], "verdict")) == [PASSED]


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
    found = diff(noisy(100.0), [{"wall": 0.1, "verdict": "killed", "signal": 9}], "wall=+10%")
    assert found.has_failed and states(found) == [FAILED, PASSED]
    assert "NEW: no run went well" in found.judged[0].why and "signal 9" in found.judged[0].why
    some = [*noisy(100.0), {"verdict": "failed", "exit_code": 1}]
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
