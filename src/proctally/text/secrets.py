"""Mask values that look like secrets in command lines."""

from __future__ import annotations

from proctally.text.escape import argument_text

SECRETS = ("passw", "passphrase", "secret", "token", "key", "credential", "authorization")  # a cheap test first
MASK = "***"


def mask(command: list[str]) -> list[str]:
    """Return a command line with the values that look like secrets replaced by `***`.

    Covers `--password=x`, `--password x`, `TOKEN=x`, `Authorization: Bearer x`, `https://user:x@host`, `?token=x`, and
    the same inside a script or a document that is one argument.
    """
    masked = []
    hide = False
    for argument in map(argument_text, command):
        if hide and not argument.startswith("-"):
            masked.append(MASK)
            hide = False
            continue
        hide = False
        if "://" in argument and "@" in argument:
            argument = _mask_url(argument)
        lowered = argument.lower()
        if any(word in lowered for word in SECRETS):
            argument, hide = _mask_argument(argument)
        masked.append(argument)
    return masked


def _mask_url(argument: str) -> str:
    import re

    return re.sub(r"(://[^/\s:@]{0,256}:)[^@/\s]{1,1024}@", rf"\g<1>{MASK}@", argument)


def _mask_argument(argument: str) -> tuple[str, bool]:
    """Return one argument without its secrets, and whether the next one is the value of this option."""
    import re

    secret = (
        r"passw|passphrase|secret|token(?!i[sz]|s(?![a-z]))|api[_-]?key|access[_-]?key|private[_-]?key|credential"
        r"|authorization"
    )
    key, equals, value = argument.partition("=")
    whole = not any(sign.isspace() for sign in key) and re.search(secret, key[-256:], re.IGNORECASE)
    if argument.startswith("-") and whole and ":" not in key:
        return (f"{key}={MASK}" if equals else argument), not equals
    # within a text: a key, `=` or `:` or a space, maybe a scheme, and a value that may be quoted
    found = re.compile(
        rf"(?i)((?:{secret})[\w.-]{{0,64}}(?:\\?[\"']?\s{{0,8}}[=:]\s{{0,8}}|\s{{1,8}})"
        r"(?:(?:bearer|basic|token|digest|negotiate)\s{1,8})?)"
        r"(\\?\"[^\"]*\"|'[^']*'|[^\s\"'&,;}]+)"
    )
    return found.sub(rf"\g<1>{MASK}", argument), False
