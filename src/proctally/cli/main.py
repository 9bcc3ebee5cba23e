"""The command line: which command, with which options, and which exit status. Each imports only what it needs."""

from __future__ import annotations

import os
import sys

from proctally import __version__
from proctally.kernel.child import occupy_standard_streams, say
from proctally.options import ON, HelpAsked, UsageError, describe, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from proctally.options import Options

CANNOT_RUN = 125
USAGE = 2
FAILED = 1
INTERRUPTED = 130

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

RUN_HELP = """\
proctally run [options] [--] COMMAND [ARG ...]

Start a command, track it and everything that descends from it, and pass on its exit status. The summary goes to
stderr after the command ended; the record goes to $XDG_STATE_HOME/proctally/runs ($PROCTALLY_HOME/runs wins).

{options}

Each option has an environment variable (PROCTALLY_INTERVAL=0.5); flags win. PROCTALLY_DISABLE=1 runs the command and
nothing else.

Exit status: the command's own; 128+N when signal N ended it; 126 not executable, 127 not found; 125 when proctally
could not begin.
"""

ATTACH_HELP = """\
proctally attach [options] PID

Track a process tree that runs already, until its root and every known member ended, or until Ctrl-C. Totals count
from the attach.

{options}

Exit status: 0 at the end, 1 when there is nothing to track, 2 for a mistake in the options.
"""


SYSTEM_HELP = """\
proctally system [options]

Track the whole machine (CPU, memory, disks, network, GPUs), until Ctrl-C or SIGTERM, or for --duration.

{options}

Exit status: 0 at the end, 1 when the output cannot be written, 2 for a mistake in the options.
"""

SERVE_HELP = """\
proctally serve [options] [PID]

Answer scrapes of Prometheus at /metrics: with a PID of the process tree that it is the root of, until that ended;
without, of the whole machine. Until Ctrl-C or SIGTERM, or for --duration. No record is written.

{options}

Exit status: 0 at the end, 1 when there is nothing to track or what answers was killed, 2 for a mistake in the options
or an address in use.
"""

EXPORT_HELP = """\
proctally export [options] RECORD|last

Write a record of the past as a table of 32 columns (csv), as a typed table of every field (parquet; it needs the extra
`parquet`), or as a whole copy of one whose end is torn (jsonl).

{options}

Exit status: 0, 1 when it cannot be read or written, 2 for a mistake in the options.
"""

TOP_HELP = """\
proctally top [options] [PID|RECORD]

A live view: with a PID of its process tree, which is sampled from then on; with a record that is still written (a file,
an id, last) of that run; without, of a run to choose from those of yours that are running. The key ? lists the keys.
Where stdin or stdout is no terminal it is plain text, a block for each interval.

{options}

Exit status: 0, 1 when there is nothing to show, or not any more, 2 for a mistake in the options.
"""

REPORT_HELP = """\
proctally report [options] [RECORD|last ...]

Make a report of a record (a file, an id, last, name:X; last without one): what it used and waited for, charts over
time, who ran when, what the numbers cannot see. Several records are laid over each other, each from its own start.

{options}

HTML goes to a file in the working directory that is called as the record is, RECORD.html, and its name to stdout; it is
one file that needs no network. It needs the extra: pip install 'proctally[report]'. The others go to stdout.

Exit status: 0, 1 when the record cannot be read or the report not written or shown, 2 for a mistake in the options.
"""

LS_HELP = """\
proctally ls [options]

List the runs whose records lie in the default place, the newest first: when, id, name, verdict, wall time, CPU time,
peak memory. Each can be named by its id. What is no record is named and skipped.

{options}

Exit status: 0, 1 when the place cannot be read, 2 for a mistake in the options.
"""

RM_HELP = """\
proctally rm [options] [RECORD ...]

Delete records: those that are named (a file, an id, last, name:X), or those that the options choose. One that is
still written is left alone.

{options}

Exit status: 0, 1 when one could not be deleted, 2 for a mistake in the options.
"""

MARK_HELP = """\
proctally mark [options] NAME

From inside a command that `proctally run` tracks: a phase begins here, and the one that was marked before ends. In a
shell `echo NAME >> "${PROCTALLY_MARKS:-/dev/null}"` does the same. At most 10,000 marks of a run are kept.

{options}

Exit status: 0, also where nothing tracks (one line on stderr says so), 2 for a mistake in the options.
"""

DIFF_HELP = """\
proctally diff [options] BASE NEW

The figures of two runs side by side, and the CPU time of their commands. Each side is a file, an id, last, name:X (all
past runs of that name), or several of these with commas; several runs are compared by their medians, and a difference
within their spread is not called one. A run that stands on both sides counts for NEW alone.

{options}

--fail-on FIGURE=LIMIT: with + when NEW is more than that above BASE, with - when it is more than that below. A limit is
a share (+10%), a size (+100MB), a time (+2s) or a number; several with commas. `verdict`: when a run of NEW did not go
well. What cannot be judged has failed. Figures: wall cpu user system cores peak-cores memory pss rss process read write
processes run-delay throttled gpu gpu-memory and more: docs/decide.md.

Exit status: 0, 1 when a limit was passed or a record cannot be read, 2 for a mistake in the options.
"""

ADVISE_HELP = """\
proctally advise [options] [RECORD ...]

What to request next time, from one run or better from many: cores, memory, time and GPUs, with what that rests on, and
as lines for a scheduler. Where a run was throttled, starved, killed or ended by its time, that figure says so instead
of guessing. RECORD is a file, an id, last (default) or name:X.

{options}

Exit status: 0, 1 when there is no record to go by, 2 for a mistake in the options.
"""

FIELDS_HELP = """\
proctally fields

Print the fields of a record: name, kind, unit, meaning, source, CSV column.
"""


class Command:
    """One command: what it does with its arguments, its help, and its status after a mistake in them."""

    __slots__ = ("call", "help", "mistake")

    def __init__(self, call: Callable[[list[str]], int], text: str, mistake: int = USAGE) -> None:
        self.call = call
        self.help = text
        self.mistake = mistake


def main(argv: list[str] | None = None) -> int:
    """The exit status of `proctally` with these arguments."""
    arguments = sys.argv[1:] if argv is None else argv
    occupy_standard_streams()
    name = arguments[0] if arguments else ""
    command = COMMANDS.get(name)
    if command is not None:
        try:
            return command.call(arguments[1:])
        except HelpAsked:
            return _print(_wrapped(command.help).replace("{options}", describe(name)))
        except UsageError as error:
            _complain(str(error))
            return command.mistake
    if name in ("-h", "--help", "help"):
        return _print(_wrapped(HELP))
    if name in ("-V", "--version"):
        return _print(f"proctally {__version__}\n")
    if name:
        _complain(f"there is no command {name[:40]!r}; {_instead(name)}")
    else:
        say(_wrapped(HELP))
    return USAGE


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
    status = main()
    os._exit(status)


def _run(arguments: list[str]) -> int:
    environment = dict(os.environ)
    options, command = parse("run", arguments, environment, to_first_word=True)
    if not command:
        raise UsageError("which command? proctally run [options] -- COMMAND [ARG ...]")
    _check_format(options)
    if options.cgroup and options.source == "procfs":
        raise UsageError("--source procfs and --cgroup exclude each other; use --source auto or cgroup")
    if options.output == "-":
        raise UsageError("-o -: stdout belongs to the command; give a file, or /dev/fd/N of your own")
    if environment.get("PROCTALLY_DISABLE", "").lower() in ON:
        from proctally.job import execute_instead

        status, reason = execute_instead(command, environment)
        _complain(f"{command[0]}: {reason}")
        return status
    from proctally.run import run

    return run(options, command, environment)


def _system(arguments: list[str]) -> int:
    environment = dict(os.environ)
    options, words = parse("system", arguments, environment, to_first_word=False)
    if words:
        raise UsageError(f"{words[0][:40]!r}: system takes no arguments; to track a command: proctally run")
    _check_format(options)
    from proctally.whole import track

    return track(options, environment)


def _export(arguments: list[str]) -> int:
    # the variables are for what is tracked: an export writes where it is told to
    options, words = parse("export", arguments, {}, to_first_word=False)
    if len(words) != 1:
        raise UsageError("which record? proctally export [options] RECORD|last")
    from proctally.export import export

    output, environment = options.output or "-", dict(os.environ)
    return export(words[0], options.format, output, environment, force=options.force, every_seconds=options.every)


def _top(arguments: list[str]) -> int:
    options, words = parse("top", arguments, {}, to_first_word=False)
    from proctally.top.command import top
    from proctally.top.scene import CannotShow

    try:
        return top(options, words, dict(os.environ))
    except CannotShow as error:
        _complain(str(error))
        return 1


def _report(arguments: list[str]) -> int:
    options, words = parse("report", arguments, {}, to_first_word=False)
    from proctally.history import NoRecord
    from proctally.report.command import report

    try:
        trouble = report(options, words, dict(os.environ))
    except NoRecord as error:
        trouble = str(error)
    except BrokenPipeError:  # whoever reads it has enough
        return FAILED
    except OSError as error:
        trouble = f"{error.filename or 'stdout'}: {error.strerror}"
    except KeyboardInterrupt:
        return INTERRUPTED
    if trouble:
        _complain(trouble)
    return FAILED if trouble else 0


def _ls(arguments: list[str]) -> int:
    options, words = parse("ls", arguments, {}, to_first_word=False)
    if words:
        raise UsageError(f"{words[0][:40]!r}: ls takes options only; -n {words[0][:40]} lists the runs of a name")
    from proctally.listing import ls

    status, text = ls(options, dict(os.environ))
    return _print(text) or status


def _rm(arguments: list[str]) -> int:
    options, words = parse("rm", arguments, {}, to_first_word=False)
    from proctally.listing import rm

    status, text = rm(options, words, dict(os.environ))
    return _print(text) or status


def _mark(arguments: list[str]) -> int:
    options, words = parse("mark", arguments, {}, to_first_word=False)
    name = " ".join(words).strip()
    if options.begin and options.end:
        raise UsageError("--begin and --end exclude each other")
    if not name and not options.end:
        raise UsageError("which phase? proctally mark NAME")
    if os.environ.get("PROCTALLY_DISABLE", "").lower() in ON:
        return 0
    import time

    from proctally.marks import BEGIN, END, NEXT, mark

    event = BEGIN if options.begin else END if options.end else NEXT
    why = mark(name or None, event, dict(os.environ), time.time())
    if why is not None:
        _complain(why)  # and that is all: a job must not fail for the want of a tracker
    return 0


def _diff(arguments: list[str]) -> int:
    options, words = parse("diff", arguments, {}, to_first_word=False)
    if len(words) != 2:
        raise UsageError("which two? proctally diff [options] BASE NEW; several runs of a side with commas")
    from proctally.diff import diff

    status, text = diff(words[0], words[1], options, dict(os.environ))
    return _print(text) or status


def _advise(arguments: list[str]) -> int:
    options, words = parse("advise", arguments, {}, to_first_word=False)
    from proctally.advise import advise

    status, text = advise(words, options, dict(os.environ))
    return _print(text) or status


def _check_format(options: Options) -> None:
    if options.format == "csv" and options.no_system:
        raise UsageError("-f csv is a table of the whole machine: leave --no-system out")
    if options.format == "csv" and options.output is None:
        raise UsageError("-f csv: where to? give -o FILE")


def _attach(arguments: list[str]) -> int:
    environment = dict(os.environ)
    options, words = parse("attach", arguments, environment, to_first_word=False)
    if len(words) != 1:
        raise UsageError("which process? proctally attach [options] PID")
    pid = _pid(words[0])
    _check_format(options)
    if options.source == "cgroup":
        raise UsageError("--source cgroup: what runs already is not moved; use auto or perf or procfs")
    from proctally.attach import attach

    return attach(options, pid, environment)


def _pid(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= 10) or not 0 < int(word) < 1 << 31:
        raise UsageError(f"{word[:40]!r} is not a process id")
    return int(word)


def _serve(arguments: list[str]) -> int:
    environment = dict(os.environ)
    options, words = parse("serve", arguments, environment, to_first_word=False)
    if len(words) > 1:
        raise UsageError(f"{words[1][:40]!r}: serve takes one process id, or none")
    pid = _pid(words[0]) if words else None
    options.serve, options.no_record, options.process_lines = options.listen, True, 0
    if pid is None:
        from proctally.whole import track

        return track(options, environment)
    from proctally.attach import attach

    return attach(options, pid, environment)


def _fields(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        raise HelpAsked
    if arguments:
        raise UsageError(f"fields takes nothing behind it, not {arguments[0]!r}")
    from proctally.model import fields

    lines = []
    for field in fields():
        lines.append(
            f"{field.scope}.{field.name}\t{field.kind}\t{field.unit}\t{field.help}\t{field.source}\t{field.csv}\n"
        )
    return _print("".join(lines))


COMMANDS = {
    "run": Command(_run, RUN_HELP, CANNOT_RUN),
    "attach": Command(_attach, ATTACH_HELP),
    "system": Command(_system, SYSTEM_HELP),
    "serve": Command(_serve, SERVE_HELP),
    "top": Command(_top, TOP_HELP),
    "export": Command(_export, EXPORT_HELP),
    "report": Command(_report, REPORT_HELP),
    "ls": Command(_ls, LS_HELP),
    "rm": Command(_rm, RM_HELP),
    "mark": Command(_mark, MARK_HELP),
    "diff": Command(_diff, DIFF_HELP),
    "advise": Command(_advise, ADVISE_HELP),
    "fields": Command(_fields, FIELDS_HELP),
}


def _print(text: str) -> int:
    """To stdout; the exit status."""
    try:
        os.set_blocking(1, True)
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        return 1
    except OSError as error:
        _complain(f"cannot write: {error.strerror}")
        return 1
    return 0


def _complain(text: str) -> None:
    say(f"proctally: {text}\n")
