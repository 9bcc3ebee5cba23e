"""Mask values that look like secrets, in command lines and in other texts.

A plain search finds most command lines free of them; the others load `re` and the modules `secret_*`.
"""

from __future__ import annotations

from proctally.text.escape import argument_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "***"


def mask(command: list[str]) -> list[str]:
    """Return a command line with the values that look like secrets replaced by `***`.

    By the name of an option, a variable, a header or a key of a document; by the shape of a token; by the options of
    known programs; in URLs; and all of these inside a script that is one argument. `docs/secrets.md` has the table.
    """
    words = [argument_text(word).replace("\0", "\\0") for word in command]
    if not _is_suspicious(" ".join(words)) and not any(map(_holds_program, words)):
        return words
    from proctally.text.secret_text import mask_tokens
    from proctally.text.secret_words import mask_words

    return mask_words(mask_tokens("\0".join(words)).split("\0"))  # one search, also for thousands of words


def mask_text(text: str, *, prose: bool = False) -> str:
    """Return a name, a URL or a message with the values that look like secrets replaced by `***`.

    `prose`: a message, where `auth: ...` is about a thing of this name.
    """
    if not _is_suspicious(text):
        return text
    from proctally.text.secret_text import mask_text, mask_tokens

    return mask_text(mask_tokens(text), prose=prose)


def mask_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as strict text, with `***` for the values that look like secrets, by key or by shape."""
    return {argument_text(key): mask([f"--{key}", value])[1] for key, value in tags.items()}


def mask_recorded(command: object) -> list[str] | None:
    """Return the command line of a record, which an older version can have written; None for other values."""
    return mask([str(word) for word in command]) if isinstance(command, list) else None


def _is_suspicious(text: str) -> bool:
    """Return whether a secret can be in a text, options of known programs left out."""
    from proctally.text.secret_table import ENDS, SHAPES, STEMS  # not before the job starts

    lowered = text.lower()
    if any(stem in lowered for stem in STEMS) or lowered.endswith(ENDS) or "-----BEGIN" in text:
        return True
    return ("@" in text and ":" in text) or any(literal in text for literal, _ in SHAPES)


def _holds_program(word: str) -> bool:
    """Return whether a word is a program whose options can be secret, or a script that can run one."""
    from proctally.text.secret_table import NAMES

    return word.rpartition("/")[2] in NAMES or (" " in word and any(f"{name} " in word for name in NAMES))
