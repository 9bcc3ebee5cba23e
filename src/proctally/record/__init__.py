"""The file of one run: its fields, how it is written and how it is read.

These few names stand here because the start of a run needs them and must not load the table of fields.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    JsonObject = dict[str, Any]  # a line of a record or a section of it

__version__ = "0.1.0"
SCHEMA = "proctally/2"  # changes when a field is renamed or changes its meaning


def seconds(nanoseconds: int) -> float:
    """Return seconds as records hold them: rounded to a tenth of a millisecond."""
    return round(nanoseconds / 1_000_000_000, 4)
