"""`proctally fields`: print the table of fields."""

from __future__ import annotations

from proctally.cli.streams import write_stdout
from proctally.errors import HelpAsked, UsageError
from proctally.record.schema import fields

HELP = """\
proctally fields

Print the fields of a record: name, type, unit, kind, aggregate, presence, meaning, source, CSV column.
"""
COLUMNS = ("path", "type", "unit", "kind", "aggregate", "presence", "help", "source", "csv")


def call(arguments: list[str]) -> int:
    """Print the table and return the exit status. Raises UsageError, HelpAsked."""
    if arguments in (["-h"], ["--help"]):
        raise HelpAsked
    if arguments:
        raise UsageError(f"fields takes nothing behind it, not {arguments[0]!r}")
    lines = ["\t".join(getattr(field, column) for column in COLUMNS) + "\n" for field in fields()]
    return write_stdout("".join(lines))
