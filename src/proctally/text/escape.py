"""Make untrusted text safe to show: names, arguments and labels that other programs chose."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LABEL_CHARACTERS = 128  # maximum length of a label
REPR_CHARACTERS = 190  # maximum length of the repr of a public object


def decode_name(name: bytes) -> str:
    """Decode a name that can hold any byte; a byte that is not UTF-8 becomes `\\xff` as text."""
    return name.decode("utf-8", "backslashreplace")


def argument_text(argument: str) -> str:
    """Return an argument or a path as strict text; a byte that is not UTF-8 becomes `\\xff` as text."""
    try:
        return os.fsencode(argument).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that is not a byte, or a locale without this letter
        return "".join(argument_text(sign) if "\udc80" <= sign <= "\udcff" else encodable(sign) for sign in argument)


def encodable(text: str) -> str:
    """Return text that UTF-8 can encode; a lone surrogate, which JSON can hold, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """Return text for a terminal; control characters are escaped and never sent."""
    if text.isprintable():  # most names are, and a scrape has thousands
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def html(text: object) -> str:
    """Return text for HTML, or for an attribute in quotes: no markup, no control characters."""
    from html import escape

    return escape(printable(str(text)))


def csv_cell(value: object) -> str:
    """Return a value for CSV: empty for None, in quotes where it needs them; no spreadsheet takes it for a formula."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = printable(value)
    if text[:1] in ("=", "+", "-", "@"):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"') else text


def safe_name(name: str) -> str:
    """Return a part of a file name: letters, digits, `.`, `_` and `-`, at most 40 characters."""
    kept = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "_" for sign in name[:40])
    return kept.lstrip(".-") or "run"


def label(text: object) -> str:
    """Return the value of a metric label: of bounded length, control characters and lone surrogates escaped."""
    return printable(str(text)[:LABEL_CHARACTERS])


def short_repr(value: object, fields: Iterable[tuple[str, object]]) -> str:
    """Return `Class(name=value, ...)` as one line that is cut where it is long."""
    text = f"{type(value).__name__}({', '.join(f'{name}={each!r}' for name, each in fields)})"
    return text if len(text) <= REPR_CHARACTERS else f"{text[: REPR_CHARACTERS - 4]}...)"
