"""`proctally run`: start and track a command."""

from __future__ import annotations

import os

from proctally.cli.options import check_format, parse
from proctally.cli.streams import complain, show_end
from proctally.errors import UsageError
from proctally.tracking.config import ON

HELP = """\
proctally run [options] [--] COMMAND [ARG ...]

Start a command, track it and everything that descends from it, and pass on its exit status. The summary goes to
stderr after the command ended; the record goes to $XDG_STATE_HOME/proctally/runs ($PROCTALLY_HOME/runs wins).

{options}

Each option has an environment variable (PROCTALLY_INTERVAL=0.5); flags win. PROCTALLY_DISABLE=1 runs the command and
nothing else.

Exit status: the command's own; 128+N when signal N ended it; 126 not executable, 127 not found; 125 when proctally
could not begin. With --repeat: 0, or that of the first run that fails.
"""
MISTAKE = 125  # exit status of a usage error: never one of the command


def call(arguments: list[str]) -> int:
    """Run a command and return its exit status. Raises UsageError, HelpAsked."""
    environment = dict(os.environ)
    options, command = parse("run", arguments, environment, to_first_word=True)
    if not command:
        raise UsageError("run: no command; use proctally run [options] -- COMMAND [ARG ...]")
    check_format(options)
    if options.cgroup and options.source == "procfs":
        raise UsageError("--source procfs and --cgroup exclude each other; use --source auto or cgroup")
    if options.output == "-":
        raise UsageError("--output -: the command owns stdout; use a file or /dev/fd/N")
    if environment.get("PROCTALLY_DISABLE", "").lower() in ON:
        from proctally.tracking.job import EMPTY, execute_instead

        status, reason = execute_instead(command, environment)
        complain(f"{command[0] or EMPTY}: {reason}")
        return status
    if options.repeat is not None:
        from proctally.cli.repeat import repeat

        return repeat(options, command, environment)
    if options.versus is not None or options.warmup:
        raise UsageError(f"{'--warmup' if options.versus is None else '--versus'}: no number of runs; add --repeat N")
    from proctally.tracking.run import run

    return show_end(run(options, command, environment), options, environment)
