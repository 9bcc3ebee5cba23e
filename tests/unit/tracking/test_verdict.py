"""What is called how, and on what evidence."""

from types import SimpleNamespace
from typing import Any

import pytest

from proctally.record import codes
from proctally.tracking.verdict import Outcome, judge, oom_kills, reason

KILLED = 9
SEGV = 11 | 0x80  # with a core dump
FIRED = {"timeout": reason(codes.TIMED_OUT, limit_seconds=2.5), "limit": reason(codes.MEMORY_LIMIT, used_bytes=7)}


def said(outcome: Outcome) -> tuple[str, int | None, int | None]:
    return outcome.verdict, outcome.exit_code, outcome.signal


def values(found: dict[str, Any]) -> dict[str, Any]:
    """What a reason says."""
    return {name: value for name, value in found.items() if value is not None}


def kills(count: int, place: str, limit: int | None = None, last: int | None = None) -> dict[str, Any] | None:
    enclosure = SimpleNamespace(kills=lambda: (count, place), limits=SimpleNamespace(memory_bytes=limit))
    return oom_kills(enclosure, last)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "verdict", "code", "signal", "why"),
    [
        (0, "ok", 0, None, {"code": "exit_status"}),
        (3 << 8, "failed", 3, None, {"code": "exit_status"}),
        (137 << 8, "failed", 137, None, {"code": "exit_status"}),
        (KILLED, "killed", None, 9, {"code": "signal", "signal": 9, "core_dumped": False}),
        (SEGV, "killed", None, 11, {"code": "signal", "signal": 11, "core_dumped": True}),
    ],
)
def test_without_evidence(status: int, verdict: str, code: int | None, signal: int | None, why: dict[str, Any]) -> None:
    outcome = judge(status)
    assert said(outcome) == (verdict, code, signal)
    assert values(outcome.reason) == why


def test_reason_has_every_value() -> None:
    assert list(judge(0).reason) == [
        "code", "signal", "core_dumped", "exception", "limit_seconds", "measure", "used_bytes", "limit_bytes",
        "oom_kills", "oom_place", "oom_cgroup", "memory_limit_bytes", "last_rss_bytes", "left_alive",
    ]  # fmt: skip


def test_kills_of_a_member_elsewhere_have_the_path_and_limit_of_its_cgroup() -> None:
    enclosure = SimpleNamespace(kills=lambda: None, limits=SimpleNamespace(memory_bytes=1 << 40))
    counted = SimpleNamespace(found=lambda: (4, "cgroup", "/x", 100 << 20))
    kills = oom_kills(enclosure, 5, counted)  # type: ignore[arg-type]
    outcome = judge(0, kills=kills)
    assert outcome.verdict == "ok", "a rise never makes ok into oom"
    assert values(outcome.reason) == {
        "code": "exit_status",
        "oom_kills": 4,
        "oom_place": "cgroup",
        "oom_cgroup": "/x",
        "memory_limit_bytes": 100 << 20,
        "last_rss_bytes": 5,
    }
    nothing = SimpleNamespace(found=lambda: None)
    assert oom_kills(enclosure, 5, nothing) is None  # type: ignore[arg-type]


def test_the_count_of_the_machine_proves_nothing() -> None:
    outcome = judge(KILLED, kills=kills(2, codes.WHOLE_MACHINE, 1 << 30))
    assert outcome.verdict == "killed"
    assert values(outcome.reason) == {
        "code": "signal",
        "signal": 9,
        "core_dumped": False,
        "oom_kills": 2,
        "oom_place": "machine",
        "memory_limit_bytes": 1 << 30,
    }
    assert values(judge(0, kills=kills(2, codes.WHOLE_MACHINE)).reason) == {"code": "exit_status"}


def test_no_kills() -> None:
    assert oom_kills(SimpleNamespace(kills=lambda: None)) is None  # type: ignore[arg-type]


def test_not_ended() -> None:
    assert said(judge(None, fired=("timeout", FIRED["timeout"]))) == ("timeout", None, None)
    assert judge(None).reason["code"] == "not_ended"


@pytest.mark.parametrize("place", ["own_cgroup", "cgroup"])
@pytest.mark.parametrize("status", [KILLED, 137 << 8])
def test_killed_while_the_count_rose(status: int, place: str) -> None:
    outcome = judge(status, kills=kills(1, place, 2 << 30, 1 << 30))
    assert outcome.verdict == "oom"
    assert values(outcome.reason) == {
        "code": "oom_kill",
        "oom_kills": 1,
        "oom_place": place,
        "memory_limit_bytes": 2 << 30,
        "last_rss_bytes": 1 << 30,
    }


def test_a_child_was_taken_and_the_job_failed_of_it() -> None:
    assert judge(2 << 8, kills=kills(1, codes.OWN_CGROUP)).verdict == "oom"
    outcome = judge(2 << 8, kills=kills(1, codes.ENCLOSING_CGROUP))  # it may have been a neighbour
    assert outcome.verdict == "failed"
    assert values(outcome.reason) == {"code": "exit_status", "oom_kills": 1, "oom_place": "cgroup"}


def test_a_job_that_got_over_it_is_ok() -> None:
    outcome = judge(0, kills=kills(3, codes.OWN_CGROUP))
    assert outcome.verdict == "ok"
    assert values(outcome.reason) == {"code": "exit_status", "oom_kills": 3, "oom_place": "own_cgroup"}


@pytest.mark.parametrize("verdict", ["timeout", "limit"])
def test_what_was_ended_by_us_is_no_oom(verdict: str) -> None:
    outcome = judge(KILLED, fired=(verdict, dict(FIRED[verdict])), kills=kills(1, codes.OWN_CGROUP))
    assert said(outcome) == (verdict, None, 9)
    assert outcome.reason == FIRED[verdict] | {"oom_kills": 1, "oom_place": "own_cgroup"}
