"""`proctally attach`: track a running process tree."""

from __future__ import annotations

import os

from proctally.cli.options import check_format, parse, parse_pid
from proctally.cli.streams import show_end
from proctally.errors import UsageError

HELP = """\
proctally attach [options] PID

Track a process tree that runs already, until its root and every known member ended, or until Ctrl-C. Totals count
from the attach.

{options}

Exit status: 0 at the end, 1 when there is nothing to track, 2 for a mistake in the options.
"""


def call(arguments: list[str]) -> int:
    """Track a tree and return the exit status. Raises UsageError, HelpAsked."""
    environment = dict(os.environ)
    options, words = parse("attach", arguments, environment, to_first_word=False)
    if len(words) != 1:
        raise UsageError(f"attach: expected one PID, got {len(words)}; use proctally attach [options] PID")
    pid = parse_pid(words[0])
    check_format(options)
    if options.source == "cgroup":
        raise UsageError("--source cgroup: cannot move a running process; use auto, perf or procfs")
    from proctally.tracking.attach import attach

    return show_end(attach(options, pid, environment), options, environment)
