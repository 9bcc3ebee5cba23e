"""The command line: find the command, call it, and turn errors into exit statuses."""

from __future__ import annotations

import os
import sys

from proctally.cli.streams import complain, occupy_standard_streams, write_stdout
from proctally.errors import HelpAsked, ProctallyError, UsageError
from proctally.linux.child import hold_signals
from proctally.record import __version__
from proctally.text.escape import printable
from proctally.text.terminal import columns, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

FAILED = 1
HELP_WORDS = ("-h", "--help", "help")
MAX_COMMAND = 60  # cells of the command in a suggestion

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
    if arguments[1:] and arguments[0] in HELP_WORDS:  # `help run` is `run --help`
        arguments = [arguments[1], "--help"]
    name = arguments[0] if arguments else ""
    module = command(name) if name in COMMANDS else None
    try:
        return _without_command(arguments) if module is None else _call(name, module, arguments[1:])
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
        from proctally.cli.options import describe

        width = columns(dict(os.environ), 1)
        return write_stdout(_wrapped(module.HELP, width).replace("{options}", describe(name, width)))


def _without_command(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name in HELP_WORDS:
        return write_stdout(_wrapped(HELP, columns(dict(os.environ), 1)))
    if name in ("-V", "--version"):
        return write_stdout(f"proctally {__version__}\n")
    if name:
        raise UsageError(f"{name[:40]}: unknown command; {_instead(arguments)}")
    say(_wrapped(HELP, columns(dict(os.environ))))
    return UsageError.exit_status


def _instead(arguments: list[str]) -> str:
    """Return what to do instead: track a program, or call a command of proctally."""
    from shlex import join
    from shutil import which

    from proctally.text.cells import cut
    from proctally.text.nearest import did_you_mean
    from proctally.text.secrets import mask

    if which(arguments[0]) is not None:
        return f"to track it: proctally run -- {cut(join(mask(arguments)), MAX_COMMAND)}"
    return did_you_mean(arguments[0], COMMANDS) or "see proctally --help"


def _wrapped(text: str, width: int) -> str:
    """Return a help text for lines of `width` cells; lines with an indent are left as they are."""
    from proctally.text.cells import wrapped

    paragraphs = []
    for part in text.rstrip().split("\n\n"):
        is_text = not part.startswith((" ", "{"))
        paragraphs.append("\n".join(wrapped(part.replace("\n", " "), width, width)) if is_text else part)
    return "\n\n".join(paragraphs) + "\n"


def script() -> NoReturn:
    """`main` as the installed command: ends at once, without the 2 ms an interpreter takes to clear itself away."""
    if any(word in ENDED_BY_SIGNALS for word in sys.argv[1:2]):
        hold_signals()  # until their `SignalFd` reads them: what is loaded first takes longer than all before
    status = main()
    os._exit(status)
