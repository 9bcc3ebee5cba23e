"""`proctally serve`: serve Prometheus metrics."""

from __future__ import annotations

import os

from proctally.cli.options import parse, parse_pid
from proctally.cli.streams import show_end
from proctally.errors import UsageError

HELP = """\
proctally serve [options] [PID]

Answer scrapes of Prometheus at /metrics: with a PID of the process tree that it is the root of, until that ended;
without, of the whole machine. Until Ctrl-C or SIGTERM, or for --duration. No record is written.

{options}

Exit status: 0 at the end, 1 when there is nothing to track or what answers was killed, 2 for a mistake in the options
or an address in use.
"""
ADDRESS = "127.0.0.1:9111"


def call(arguments: list[str]) -> int:
    """Serve metrics and return the exit status. Raises UsageError, HelpAsked."""
    environment = dict(os.environ)
    options, words = parse("serve", arguments, environment, to_first_word=False)
    if len(words) > 1:
        raise UsageError(f"serve: expected one PID, got {len(words)}; use proctally serve [options] [PID]")
    pid = parse_pid(words[0]) if words else None
    options.listen, options.no_record, options.process_lines = options.listen or ADDRESS, True, 0
    if pid is None:
        from proctally.tracking.system import track

        return show_end(track(options, environment), options, environment)
    from proctally.tracking.attach import attach

    return show_end(attach(options, pid, environment), options, environment)
