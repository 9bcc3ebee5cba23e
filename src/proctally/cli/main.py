"""The command line: find the command, call it, and turn errors into exit statuses."""

from __future__ import annotations

import os
import sys

from proctally.cli.options import describe
from proctally.cli.streams import complain, occupy_standard_streams, write_stdout
from proctally.errors import HelpAsked, ProctallyError, UsageError
from proctally.linux.child import hold_signals
from proctally.record import __version__
from proctally.text.escape import printable
from proctally.text.terminal import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

FAILED = 1

HELP = """\
proctally: an exact, lightweight resource tracker

  proctally run [options] [--] COMMAND ...    start and track a command
  proctally attach [options] PID              track a tree that runs already
  proctally system [options]                  track the whole machine
  proctally serve [options] [PID]             answer scrapes of Prometheus
  proctally top [options] [PID|RECORD]        a live view of a tree, or a run
  proctally report [options] [RECORD ...]     HTML page, text, Markdown, JSON
  proctally ls [options]                      the runs of the past
  proctally rm [options] [RECORD ...]         delete some of them
  proctally diff [options] BASE NEW           compare runs; fail a CI job
  proctally advise [options] [RECORD ...]     what to request next time
  proctally export [options] RECORD|last      as CSV, Parquet, or a copy
  proctally mark [options] NAME               from inside a job: a phase begins
  proctally fields                            the fields of a record

proctally COMMAND --help lists the options of each; proctally --version tells which this is.
"""

COMMANDS = (
    "run", "attach", "system", "serve", "top", "export", "report", "ls", "rm", "mark", "diff", "advise", "fields",
)  # fmt: skip
ENDED_BY_SIGNALS = ("attach", "system", "serve")  # with a summary


def command(name: str) -> ModuleType:
    """Return the module of a command: `call`, `HELP`, and `MISTAKE` where each of our errors has that status."""
    return __import__(f"proctally.cli.commands.{name}", fromlist=["call"])


def main(argv: list[str] | None = None) -> int:
    """Return the exit status of `proctally` with these arguments."""
    arguments = sys.argv[1:] if argv is None else argv
    occupy_standard_streams()
    name = arguments[0] if arguments else ""
    module = command(name) if name in COMMANDS else None
    try:
        return _without_command(name) if module is None else _call(name, module, arguments[1:])
    except ProctallyError as error:
        complain(printable(str(error)))
        return getattr(module, "MISTAKE", error.exit_status)
    except BrokenPipeError:  # the reader closed the pipe
        pass
    except OSError as error:
        from proctally.record.location import output_problem

        complain(f"{printable(str(error.filename or 'stdout'))}: {output_problem(error)}")
        return getattr(module, "MISTAKE", FAILED)
    return FAILED


def _call(name: str, module: ModuleType, arguments: list[str]) -> int:
    try:
        status: int = module.call(arguments)
        return status
    except HelpAsked:
        return write_stdout(_wrapped(module.HELP).replace("{options}", describe(name)))


def _without_command(name: str) -> int:
    if name in ("-h", "--help", "help"):
        return write_stdout(_wrapped(HELP))
    if name in ("-V", "--version"):
        return write_stdout(f"proctally {__version__}\n")
    if name:
        raise UsageError(f"there is no command {name[:40]!r}; {_instead(name)}")
    say(_wrapped(HELP))
    return UsageError.exit_status


def _instead(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name[:40], COMMANDS, 1)
    return f"did you mean {close[0]}?" if close else f"to track one: proctally run -- {name[:40]} ..."


def _wrapped(text: str) -> str:
    """A help text for 80 columns: paragraphs are made to fit, lines with an indent are left as they are."""
    import textwrap

    parts = text.split("\n\n")
    return "\n\n".join(part if part.startswith((" ", "{")) else textwrap.fill(part, 80) for part in parts) + "\n"


def script() -> NoReturn:
    """`main` as the installed command: ends at once, without the 2 ms an interpreter takes to clear itself away."""
    if any(word in ENDED_BY_SIGNALS for word in sys.argv[1:2]):
        hold_signals()  # until their `SignalFd` reads them: what is loaded first takes longer than all before
    status = main()
    os._exit(status)
