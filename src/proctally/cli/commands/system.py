"""`proctally system`: track the whole machine."""

from __future__ import annotations

import os

from proctally.cli.options import check_format, parse
from proctally.cli.streams import show_end
from proctally.errors import UsageError

HELP = """\
proctally system [options]

Track the whole machine (CPU, memory, disks, network, GPUs), until Ctrl-C or SIGTERM, or for --duration.

{options}

Exit status: 0 at the end, 1 when the output cannot be written, 2 for a mistake in the options.
"""


def call(arguments: list[str]) -> int:
    """Track the machine and return the exit status. Raises UsageError, HelpAsked."""
    environment = dict(os.environ)
    options, words = parse("system", arguments, environment, to_first_word=False)
    if words:
        raise UsageError(f"{words[0][:40]!r}: system takes no arguments; to track a command: proctally run")
    check_format(options)
    from proctally.tracking.system import track

    return show_end(track(options, environment), options, environment)
