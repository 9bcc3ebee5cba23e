"""`proctally fields`: print the table of fields."""

from __future__ import annotations

import os

from proctally.cli.options import parse
from proctally.cli.streams import complain, write_all
from proctally.record.catalogue import one
from proctally.text.terminal import Look
from proctally.views.fields import as_lines, as_page, of_record, of_table

HELP = """\
proctally fields [options] [WORD ...]

Print the fields of a record, or those whose name or meaning has each WORD. On a terminal: name, type, unit and meaning,
by the object that they are in. Elsewhere: a line with tabs for each, with path, type, unit, kind, aggregate, presence,
meaning, source and CSV column.

{options}

With --of, the values of the run, of the host, of the last sample and of the summary; elsewhere than on a terminal path,
value as JSON, unit and meaning.

Exit status: 0, 1 when no field matches or the record cannot be read, 2 for a mistake in the options.
"""
FAILED = 1


def call(arguments: list[str]) -> int:
    """Print the table and return the exit status. Raises UsageError, HelpAsked, NoRecord, OSError."""
    options, words = parse("fields", arguments, {}, to_first_word=False)
    environment = dict(os.environ)
    with_values = options.of is not None
    entries = of_table() if options.of is None else of_record(one(options.of, environment))
    entries = [entry for entry in entries if entry.has(words)]
    if not entries:
        complain(f"fields {' '.join(words)}: no field has this name or meaning")
        return FAILED
    if os.isatty(1):
        return write_all(as_page(entries, Look.of(environment, 1), with_values=with_values))
    return write_all(as_lines(entries, with_values=with_values))
