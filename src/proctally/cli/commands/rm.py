"""`proctally rm`: delete records."""

from __future__ import annotations

import os

from proctally.cli.options import parse, record_filter
from proctally.cli.streams import complain, write_stdout
from proctally.errors import UsageError
from proctally.record.catalogue import glance, glances, paths, resolve
from proctally.record.schema import RUNNING
from proctally.text.escape import printable
from proctally.text.units import size

HELP = """\
proctally rm [options] [RECORD ...]

Delete records: those that are named (a file, an id, last, name:X), or those that the options choose. One that is
still written is left alone. --dry-run lists them and deletes none.

{options}

Exit status: 0, 1 when one could not be deleted, 2 for a mistake in the options.
"""
FAILED = 1


def call(arguments: list[str]) -> int:
    """Delete records and return the exit status. Raises UsageError, HelpAsked, NoRecord, OSError."""
    options, words = parse("rm", arguments, {}, to_first_word=False)
    environment = dict(os.environ)
    wanted = record_filter(options)
    if not words and wanted.is_any and not options.dry_run:
        raise UsageError("rm: no run named; use proctally rm RECORD ..., or --older-than 30d")
    named = dict.fromkeys(path for each in words for path in resolve(each, environment))
    # what is named is read first: where one is not a record, none is deleted
    records = [glance(path) for path in named] if words else glances(sorted(paths(environment), reverse=True), [])
    status = deleted = freed = 0
    listed = ""
    for record in records:
        if not wanted.takes(record):
            continue
        kept = "is still written" if record.verdict == RUNNING else "is a link" if os.path.islink(record.path) else None
        if kept is not None:
            complain(f"{printable(record.path)}: {kept}; left alone")
            status = FAILED
            continue
        try:
            if options.dry_run:
                listed += f"{printable(record.path)}\n"
            else:
                os.unlink(record.path)
        except OSError as error:
            complain(f"{printable(record.path)}: {error.strerror}")
            status = FAILED
        else:
            deleted, freed = deleted + 1, freed + record.size
    would = "would be deleted" if options.dry_run else "deleted"
    return write_stdout(f"{listed}{deleted} run{'' if deleted == 1 else 's'} {would}, {size(freed)}\n") or status
