"""How a job ended, and the sentence that this rests on. A verdict is given on evidence alone."""

from __future__ import annotations

import os

from proctally.kernel.child import SIGKILL, signal_name

MACHINE = "the machine"
UNHEARD = "nobody reads its output any more"
KILLED_BY_SHELL = 128 + SIGKILL  # the exit status of a shell whose command was killed


class Outcome:
    """How it ended: exit status or signal, verdict, and the sentence that the verdict rests on."""

    __slots__ = ("evidence", "exit_code", "signal", "verdict")

    def __init__(self, verdict: str, evidence: str, exit_code: int | None = None, signal: int | None = None) -> None:
        self.verdict = verdict
        self.evidence = evidence
        self.exit_code = exit_code
        self.signal = signal


def judge(
    status: int | None,
    *,
    fired: tuple[str, str] | None = None,
    kills: int = 0,
    kills_where: str | None = None,
    memory: str = "",
) -> Outcome:
    """The outcome for a wait status; None where it did not end.

    `fired`: (timeout or limit, why) where it was ended by us. `kills`: processes that the OOM killer took meanwhile in
    `kills_where`. `memory`: the limit and the last sample, in words.

    The OOM killer sends SIGKILL, and so does many another: only with a count that rose is it called so. Where that
    count is not of the run's own cgroup, the job itself must have ended by that signal, too; and the count of the
    whole machine proves nothing.
    """
    plain = _plain(status)
    if fired is not None:
        verdict, why = fired
        return Outcome(verdict, f"{why}; {plain.evidence}", plain.exit_code, plain.signal)
    if not kills or plain.verdict == "ok":
        return plain
    if kills_where == MACHINE:
        said = f"{plain.evidence}; {MACHINE}'s oom_kill count rose by {kills}, which need not be of this job"
        return Outcome(plain.verdict, said, plain.exit_code, plain.signal)
    by_kill = plain.signal == SIGKILL or plain.exit_code == KILLED_BY_SHELL
    rise = f"{plain.evidence}; {kills_where}'s oom_kill count rose by {kills}{memory}"
    if by_kill or kills_where == "the run's own cgroup":
        return Outcome("oom", rise, plain.exit_code, plain.signal)
    return Outcome(plain.verdict, rise, plain.exit_code, plain.signal)


def _plain(status: int | None) -> Outcome:
    if status is None:
        return Outcome("ended", "not ended when tracking did")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        core = ", core dumped" if os.WCOREDUMP(status) else ""
        return Outcome("killed", f"killed by signal {number} ({signal_name(number)}){core}", None, number)
    code = os.WEXITSTATUS(status)
    return Outcome("ok" if code == 0 else "failed", f"exit status {code}", code)
