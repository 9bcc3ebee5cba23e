"""`proctally mark`: start a phase from inside a job."""

from __future__ import annotations

import os
import time

from proctally.cli.options import parse
from proctally.errors import UsageError
from proctally.tracking.config import ON
from proctally.tracking.marks import BEGIN, END, NEXT, mark

HELP = """\
proctally mark [options] NAME

From inside a command that `proctally run` tracks: a phase begins here, and the one that was marked before ends. In a
shell `echo NAME >> "${PROCTALLY_MARKS:-/dev/null}"` does the same. At most 10,000 marks of a run are kept.

{options}

Exit status: 0, also where nothing tracks (one line on stderr says so), 2 for a mistake in the options.
"""


def call(arguments: list[str]) -> int:
    """Send a mark and return 0. Raises UsageError, HelpAsked, NotMarked."""
    options, words = parse("mark", arguments, {}, to_first_word=False)
    name = " ".join(words).strip()
    if options.begin and options.end:
        raise UsageError("--begin and --end exclude each other")
    if not name and not options.end:
        raise UsageError("mark: no phase named; use proctally mark NAME")
    if os.environ.get("PROCTALLY_DISABLE", "").lower() in ON:
        return 0
    event = BEGIN if options.begin else END if options.end else NEXT
    mark(name or None, event, dict(os.environ), time.time())
    return 0
