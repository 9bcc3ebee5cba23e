"""`proctally advise`: what to request next time."""

from __future__ import annotations

import os

from proctally.analysis.directives import SCHEDULERS
from proctally.cli.options import parse, record_filter
from proctally.cli.streams import write_stdout
from proctally.errors import UsageError
from proctally.text.terminal import colour_wanted
from proctally.views.advise import as_json, as_markdown, as_text, found_runs

HELP = """\
proctally advise [options] [RECORD ...]

What to request next time, from one run or better from many: cores, memory, time and GPUs, with what that rests on, and
as lines for a scheduler. Where a run was throttled, starved, killed or ended by its time, that figure says so instead
of guessing. RECORD is a file, an id, last (default) or name:X.

{options}

Exit status: 0, 1 when there is no record to go by, 2 for a mistake in the options.
"""


def call(arguments: list[str]) -> int:
    """Print advice and return the exit status. Raises UsageError, HelpAsked, NoRecord, OSError."""
    options, words = parse("advise", arguments, {}, to_first_word=False)
    environment = dict(os.environ)
    names = _schedulers(options.for_)
    found = found_runs(words, record_filter(options), environment)
    if options.format == "json":
        text = as_json(found, names)
    elif options.quiet:
        text = "\n".join(line for each in found.directives(names).values() for line in each) + "\n"
    elif options.format == "markdown":
        text = as_markdown(found, names)
    else:
        text = as_text(found, names, colour=colour_wanted(environment, 1))
    return write_stdout(text)


def _schedulers(text: str | None) -> list[str]:
    if text is None:
        return list(SCHEDULERS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SCHEDULERS:
            raise UsageError(f"--for: {name[:40]!r} is not known; use {', '.join(SCHEDULERS)}")
    if not names:
        raise UsageError(f"--for: for which? of {', '.join(SCHEDULERS)}")
    return names
