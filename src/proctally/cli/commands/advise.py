"""`proctally advise`: what to request next time."""

from __future__ import annotations

import os

from proctally.analysis.directives import SCHEDULERS
from proctally.cli.options import parse, record_filter
from proctally.cli.streams import write_stdout
from proctally.errors import UsageError
from proctally.text.terminal import Look
from proctally.views import advise, advise_all
from proctally.views.servers import fitting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record.catalogue import Filter
    from proctally.tracking.config import Options

HELP = """\
proctally advise [options] [RECORD ...]

What a run used and had, and what to request next time: cores, memory, time and GPUs, from one run or better from many,
and as lines for a scheduler. A run that was throttled, starved, killed or ended by its time limit proves no request:
then there is a trial, as a comment. RECORD is a file, an id, last (default) or name:X.

{options}

Exit status: 0, 1 without a record or a file of servers, 2 for a mistake in the options.
"""


def call(arguments: list[str]) -> int:
    """Print advice and return the exit status. Raises UsageError, HelpAsked, NoRecord, CannotShow, OSError."""
    options, words = parse("advise", arguments, {}, to_first_word=False)
    environment = dict(os.environ)
    wanted = record_filter(options)
    look = Look.of(environment, 1)
    if options.all:
        return write_stdout(_of_all(options, words, wanted, environment, look))
    names = None if options.for_ is None else _schedulers(options.for_)
    found = advise.found_runs(words, wanted, environment)
    if options.servers is not None:
        found.servers = fitting(found.rows, options.servers, environment)
    ordered = advise.schedulers(found.runs, environment)
    names = names or (ordered if options.format == "json" else ordered[:1])
    if options.format == "json":
        text = advise.as_json(found, names, trial=options.trial)
    elif options.quiet:
        lines = found.directives(names, trial=options.trial)
        text = "\n".join(line for each in lines.values() for line in each) + "\n"
    elif options.format == "markdown":
        text = advise.as_markdown(found, names, trial=options.trial)
    else:
        text = advise.as_text(found, names, look, trial=options.trial)
    return write_stdout(text)


def _of_all(options: Options, words: list[str], wanted: Filter, environment: dict[str, str], look: Look) -> str:
    if words or options.servers is not None or options.for_ is not None or options.quiet:
        raise UsageError("--all is a line for each name; use --name, --tag or --since, and leave other words out")
    found, left_out = advise_all.jobs(wanted, environment)
    if options.format == "json":
        return advise_all.as_json(found)
    return (
        advise_all.as_markdown(found, left_out)
        if options.format == "markdown"
        else advise_all.as_text(found, left_out, look)
    )


def _schedulers(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return list(SCHEDULERS)
    for name in names:
        if name not in SCHEDULERS:
            raise UsageError(f"--for {name[:40]}: unknown scheduler; use {', '.join(SCHEDULERS)} or all")
    if not names:
        raise UsageError(f"--for: no scheduler given; use {', '.join(SCHEDULERS)} or all")
    return names
