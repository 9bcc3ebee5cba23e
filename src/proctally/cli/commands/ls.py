"""`proctally ls`: list past runs."""

from __future__ import annotations

import os

from proctally.cli.options import parse, record_filter
from proctally.cli.streams import complain, write_parts, write_stdout
from proctally.errors import UsageError
from proctally.record.catalogue import past
from proctally.text.escape import printable
from proctally.views.listing import as_json, in_order, table

HELP = """\
proctally ls [options]

List the runs whose records lie in the default place, the newest first: when, id, name, verdict, wall time, CPU time,
peak memory. Each can be named by its id. What is no record is named and skipped.

{options}

Exit status: 0, 1 when the place cannot be read, 2 for a mistake in the options.
"""


def call(arguments: list[str]) -> int:
    """Print the list and return the exit status. Raises UsageError, HelpAsked, NoRecord."""
    options, words = parse("ls", arguments, {}, to_first_word=False)
    if words:
        raise UsageError(f"{words[0][:40]!r}: ls takes options only; -n {words[0][:40]} lists the runs of a name")
    environment = dict(os.environ)
    wanted = record_filter(options)
    records, strange = past(environment)
    found = in_order([record for record in records if wanted.takes(record)], options.sort, reverse=options.reverse)
    found = found if options.limit is None else found[: options.limit]
    for problem in strange:
        complain(f"skipped: {printable(problem)}")
    return write_parts(as_json(found)) if options.json else write_stdout("".join(table(found, environment)))
