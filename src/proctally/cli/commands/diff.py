"""`proctally diff`: compare two runs or groups of runs."""

from __future__ import annotations

import os

from proctally.analysis.comparison import Diff, sides
from proctally.analysis.gates import gates
from proctally.cli.options import parse
from proctally.cli.streams import complain, write_stdout
from proctally.errors import UsageError
from proctally.text.escape import printable
from proctally.text.terminal import colour_wanted
from proctally.views.diff import as_json, as_markdown, as_text

HELP = """\
proctally diff [options] BASE NEW

The figures of two runs side by side, and the CPU time of their commands. Each side is a file, an id, last, name:X (all
past runs of that name), or several of these with commas; several runs are compared by their medians, and a difference
within their spread is not called one. A run that stands on both sides counts for NEW alone.

{options}

--fail-on FIGURE=LIMIT: with + when NEW is more than that above BASE, with - when it is more than that below. A limit is
a share (+10%), a size (+100MB), a time (+2s) or a number; several with commas. `verdict`: when a run of NEW did not go
well. What cannot be judged has failed. Figures: wall cpu user system cores peak-cores memory memory-low pss rss process
read write processes run-delay throttled gpu gpu-memory and more: docs/decide.md.

Exit status: 0, 1 when a limit was passed or a record cannot be read, 2 for a mistake in the options.
"""


def call(arguments: list[str]) -> int:
    """Print a comparison; return 1 where a limit is exceeded. Raises UsageError, HelpAsked, NoRecord, OSError."""
    options, words = parse("diff", arguments, {}, to_first_word=False)
    if len(words) != 2:
        raise UsageError("which two? proctally diff [options] BASE NEW; several runs of a side with commas")
    environment = dict(os.environ)
    limits = [] if options.fail_on is None else gates(options.fail_on)
    first, second, notes = sides(words[0], words[1], environment)
    found = Diff(first, second, limits)
    found.notes[:0] = notes
    if options.format == "json":
        text = as_json(found)
    elif options.format == "markdown":
        text = as_markdown(found, verbose=options.verbose)
    else:
        text = as_text(found, verbose=options.verbose, colour=colour_wanted(environment, 1))
    if options.format != "text":  # its output can go to a file that nobody reads at once
        for each in found.judged:
            if each.has_failed:
                complain(printable(each.why))
    return write_stdout(text) or int(found.has_failed)
