"""How a job ended: the verdict, and the reason for it as a code with values. A verdict is given on evidence alone."""

from __future__ import annotations

import os

from proctally.linux.child import SIGKILL
from proctally.record.codes import EXIT_STATUS, NOT_ENDED, OOM_KILLED, OWN_CGROUP, SIGNALLED, WHOLE_MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.kills import Kills

    Reason = dict[str, "str | int | float | bool | None"]

KILLED_BY_SHELL = 128 + SIGKILL  # the exit status of a shell whose command was killed
VALUES = (
    "signal", "core_dumped", "exception", "limit_seconds", "measure", "used_bytes", "limit_bytes", "oom_kills",
    "oom_place", "oom_cgroup", "memory_limit_bytes", "last_rss_bytes", "left_alive",
)  # fmt: skip


def reason(code: str, **values: str | float | bool | None) -> Reason:
    """Return `summary.reason`: the code and all values, None where they say nothing."""
    return {"code": code} | dict.fromkeys(VALUES) | values


def oom_kills(enclosure: Enclosure, last_rss_bytes: int | None = None, counted: Kills | None = None) -> Reason | None:
    """Return the values of a reason for processes that the OOM killer ended; None without any.

    `last_rss_bytes`: memory of the tree in the last sample before its end. `counted`: what counted the kills in the
    cgroups of all members; None where only that of the root is known.
    """
    path = limit = None
    in_cgroups = None if counted is None else counted.found()
    if in_cgroups is not None:
        kills, place, path, limit = in_cgroups
    else:
        found = enclosure.kills()
        if found is None:
            return None
        kills, place = found
        limit = enclosure.limits.memory_bytes
    return {
        "oom_kills": kills,
        "oom_place": place,
        "oom_cgroup": path,
        "memory_limit_bytes": limit,
        "last_rss_bytes": last_rss_bytes,
    }


class Outcome:
    """How it ended: verdict, reason, and the exit status or signal of the command."""

    __slots__ = ("exit_code", "reason", "signal", "verdict")

    def __init__(self, verdict: str, reason: Reason, exit_code: int | None = None, signal: int | None = None) -> None:
        self.verdict = verdict
        self.reason = reason
        self.exit_code = exit_code
        self.signal = signal


def judge(status: int | None, *, fired: tuple[str, Reason] | None = None, kills: Reason | None = None) -> Outcome:
    """Return the outcome for a wait status; None where the job did not end.

    `fired`: verdict and reason where proctally ended it (`--timeout`, `--max-memory`). `kills`: of `oom_kills`.

    The OOM killer sends SIGKILL, as other programs do: the verdict needs a count that rose. Where that count is not of
    the run's own cgroup, the job itself must have ended by that signal, too; the count of the machine proves nothing.
    """
    outcome = _plain(status)
    is_ok = outcome.verdict == "ok"
    if fired is not None:
        outcome.verdict, outcome.reason = fired
    elif kills is not None and kills["oom_place"] != WHOLE_MACHINE and not is_ok:
        by_kill = outcome.signal == SIGKILL or outcome.exit_code == KILLED_BY_SHELL
        if by_kill or kills["oom_place"] == OWN_CGROUP:
            outcome.verdict, outcome.reason = "oom", reason(OOM_KILLED)
    if kills is not None and not (is_ok and kills["oom_place"] == WHOLE_MACHINE):
        outcome.reason |= kills
    return outcome


def _plain(status: int | None) -> Outcome:
    if status is None:
        return Outcome("ended", reason(NOT_ENDED))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("killed", reason(SIGNALLED, signal=number, core_dumped=os.WCOREDUMP(status)), None, number)
    code = os.WEXITSTATUS(status)
    return Outcome("ok" if code == 0 else "failed", reason(EXIT_STATUS), code)
