"""`proctally ls`: list past runs."""

from __future__ import annotations

import os

from proctally.cli.options import parse, record_filter
from proctally.cli.streams import complain, write_all, write_parts
from proctally.errors import UsageError
from proctally.record.catalogue import files_of, glances, no_records, paths, resolve
from proctally.text.escape import printable
from proctally.text.terminal import Look
from proctally.views.listing import Row, as_csv, as_json, in_order, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = """\
proctally ls [options] [FOLDER|RECORD ...]

List past runs, the newest first: those in the default directory, in any folder, or the named ones (a file, an id, last,
name:X). WANTED is the mean number of cores that the run wanted, WAITED the share of the wall time in which work was
ready and had no CPU. Other files are skipped with a warning.

{options}

--where NAME OPERATOR VALUE: NAME is a column, a figure (docs/decide.md) or a field of the summary; the operators are
= != < <= > >=; sizes, times and shares have units (2GiB, 5m, 20%). An unknown value meets no condition.

Exit status: 0, also when no run matches; 1 when a folder cannot be read or there is no such record, 2 for a mistake in
the options.
"""


def call(arguments: list[str]) -> int:
    """Print the list and return the exit status. Raises UsageError, HelpAsked, NoRecord, OSError."""
    options, words = parse("ls", arguments, {}, to_first_word=False)
    if options.json and options.csv:
        raise UsageError("--json and --csv exclude each other")
    environment = dict(os.environ)
    wanted = record_filter(options)
    files = _files(words, environment)
    strange: list[str] = []
    rows = [Row(record) for record in glances(files, strange) if wanted.takes(record)]
    rows = in_order(rows, options.sort, reverse=options.reverse)[: options.limit]
    for problem in strange:
        complain(f"skipped: {printable(problem)}")
    if not files and not words:
        complain(no_records(environment))
    elif not rows:
        complain("no run matches" if files else "no records")
    if options.json:
        return write_parts(as_json(rows))
    if options.csv:
        return write_all(as_csv(rows))
    return write_all(table(rows, Look.of(environment, 1)) if rows else ())


def _files(named: Sequence[str], environment: dict[str, str]) -> list[str]:
    """Return the files of the default directory, or those that are named. Raises NoRecord."""
    if not named:
        return paths(environment)
    found: dict[str, None] = {}
    for word in named:
        found |= dict.fromkeys(files_of(word) if os.path.isdir(word) else resolve(word, environment))
    return list(found)
