"""What is called how, and on what evidence."""

import pytest

from proctally.verdict import Outcome, judge

KILLED = 9
SEGV = 11 | 0x80  # with a core dump


def said(outcome: Outcome) -> tuple[str, int | None, int | None]:
    return outcome.verdict, outcome.exit_code, outcome.signal


@pytest.mark.parametrize(
    ("status", "verdict", "code", "signal", "evidence"),
    [
        (0, "ok", 0, None, "exit status 0"),
        (3 << 8, "failed", 3, None, "exit status 3"),
        (137 << 8, "failed", 137, None, "exit status 137"),
        (KILLED, "killed", None, 9, "killed by signal 9 (SIGKILL)"),
        (SEGV, "killed", None, 11, "killed by signal 11 (SIGSEGV), core dumped"),
    ],
)
def test_without_evidence(status: int, verdict: str, code: int | None, signal: int | None, evidence: str) -> None:
    outcome = judge(status)
    assert said(outcome) == (verdict, code, signal)
    assert outcome.evidence == evidence


def test_the_count_of_the_machine_proves_nothing() -> None:
    outcome = judge(KILLED, kills=2, kills_where="the machine", memory=" at a limit of 1 GiB")
    assert outcome.verdict == "killed"
    assert outcome.evidence.endswith("; the machine's oom_kill count rose by 2, which need not be of this job")


def test_not_ended() -> None:
    assert said(judge(None, fired=("timeout", "why"))) == ("timeout", None, None)


@pytest.mark.parametrize("where", ["the run's own cgroup", "the cgroup"])
@pytest.mark.parametrize("status", [KILLED, 137 << 8])
def test_killed_while_the_count_rose(status: int, where: str) -> None:
    outcome = judge(status, kills=1, kills_where=where, memory=" at a limit of 2.0 GiB, last sample 1.97 GiB")
    assert outcome.verdict == "oom"
    assert outcome.evidence.endswith(
        f"; {where}'s oom_kill count rose by 1 at a limit of 2.0 GiB, last sample 1.97 GiB"
    )


def test_a_child_was_taken_and_the_job_failed_of_it() -> None:
    assert judge(2 << 8, kills=1, kills_where="the run's own cgroup").verdict == "oom"
    outcome = judge(2 << 8, kills=1, kills_where="the cgroup")  # it may have been a neighbour
    assert outcome.verdict == "failed"
    assert "oom_kill count rose by 1" in outcome.evidence


def test_a_job_that_got_over_it_is_ok() -> None:
    assert judge(0, kills=3, kills_where="the run's own cgroup").verdict == "ok"


@pytest.mark.parametrize("verdict", ["timeout", "limit"])
def test_what_was_ended_by_us_is_no_oom(verdict: str) -> None:
    outcome = judge(KILLED, fired=(verdict, "why"), kills=1, kills_where="the run's own cgroup")
    assert said(outcome) == (verdict, None, 9)
    assert outcome.evidence == "why; killed by signal 9 (SIGKILL)"
