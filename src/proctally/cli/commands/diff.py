"""`proctally diff`: compare two runs or groups of runs."""

from __future__ import annotations

import os

from proctally.analysis.comparison import Diff, sides
from proctally.analysis.gates import CANNOT_TELL, FAILS, HOLDS, gates
from proctally.cli.options import parse
from proctally.cli.streams import complain, write_stdout
from proctally.errors import UsageError
from proctally.text.escape import printable
from proctally.text.terminal import colour_wanted
from proctally.views.diff import as_json, as_markdown, as_text, gate, shouted

HELP = """\
proctally diff [options] BASE NEW

Compare the figures of two runs, or of two groups of runs. Each side is a file, an id, a name that one run has, last,
name:X (all past runs of that name), or several of these with commas. A run that is on both sides counts for NEW alone.
From four runs a side, each change has an interval of 95 %; wall, CPU and memory also have a word: more, less or
unclear. With fewer runs, changes are untested.

{options}

--fail-on FIGURE=LIMIT: with + when NEW is more than that above BASE, with - when it is more than that below. A limit is
a share (+10%), a size (+100MB), a time (+2s) or a number; several with commas. `verdict`: when a run of NEW did not go
well. A limit holds when the whole interval is within it, and fails when all of it is beyond. Figures: wall cpu user
system cores peak-cores memory memory-low pss rss process read write processes run-delay throttled gpu gpu-memory and
more: docs/decide.md.

Exit status: 0, 1 when a limit fails, 3 when one is undecided (--undecided pass: 0, fail: 1), 2 for a mistake or a
record that cannot be read.
"""
MISTAKE = 2
STATUSES = {None: 0, HOLDS: 0, FAILS: 1}
UNDECIDED = {"pass": 0, "fail": 1, None: 3}  # exit status of an undecided limit, by option


def call(arguments: list[str]) -> int:
    """Print a comparison; return the worst result of the limits. Raises UsageError, HelpAsked, NoRecord, OSError."""
    options, words = parse("diff", arguments, {}, to_first_word=False)
    if len(words) != 2:
        raise UsageError(f"diff: expected two sides, got {len(words)}; use proctally diff [options] BASE NEW")
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
            if each.result != HOLDS:
                complain(f"{gate(each)}: {shouted(each)}: {printable(each.why)}")
    write_stdout(text)
    if found.result != CANNOT_TELL:
        return STATUSES[found.result]
    if options.undecided is None:
        complain("exit status 3: not every limit is decided; see --undecided pass|fail")
    return UNDECIDED[options.undecided]
