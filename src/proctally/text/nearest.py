"""The nearest of the known words to one that is unknown, for messages."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CUTOFF = 0.8  # ratio of difflib: above that of two short words that share all but one letter
MIN_START = 3  # characters that a longer word has to start with
MAX_LENGTH = 40  # of a word that is compared


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` might be a misspelling or the start of; None without a likely one."""
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(word[:MAX_LENGTH], names, 1, CUTOFF)
    longer = [each for each in names if each.startswith(word)] if len(word.lstrip("-")) >= MIN_START else []
    return next(iter(close or longer), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the remedy for an unknown word; empty without a likely one."""
    found = nearest(word, known)
    return "" if found is None else f"did you mean {found}?"


def missing_attribute(module: str) -> Callable[[str], object]:
    """Return the `__getattr__` of a module, which suggests the nearest of its public names."""

    def refuse(name: str) -> object:
        remedy = "" if name.startswith("_") else did_you_mean(name, sys.modules[module].__all__)
        raise AttributeError(f"module {module!r} has no attribute {name!r}{remedy and f'; {remedy}'}")

    return refuse
