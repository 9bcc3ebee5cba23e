"""Mask secrets in an argument vector: options of any program and of known ones, and the commands inside a script."""

from __future__ import annotations

import re

from proctally.text.secret_names import is_secret, without_option
from proctally.text.secret_table import AMBIGUOUS, PROGRAMS
from proctally.text.secret_text import MIN_TOKEN, mask_text, masked_value
from proctally.text.secrets import MASK

MAX_DEPTH = 4  # scripts inside scripts
WHOLE, HEADER = "whole", "header"  # kinds of a value; the others are those of `secret_table.PROGRAMS`
_KINDS = "+.:%,=*"

_BLANK = re.compile(r"\s")
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*+")
_ASSIGNED = re.compile(r"(--?[A-Za-z][\w.-]*+|[A-Za-z_][\w.-]*+(?:\[[\w.-]*\])*)(\+?=|:=)(.*)", re.DOTALL)
_COLON = re.compile(r"(/|--?)([A-Za-z][\w.-]*+)(:)([^/].*)", re.DOTALL)
_NEXT_OPTION = re.compile(r"--[a-z]+(?:-[a-z0-9]+)*(?:=.*)?|-[A-Za-z]|-[a-z]+(?:-[a-z]+)*(?:=.*)?|--", re.DOTALL)
_SCRIPT_NEXT = re.compile(r"-[A-Za-z]{0,6}c|--command|--wrap|--exec|--eval")
_KEY = re.compile(r":?[A-Za-z_][\w.-]*")
_CLUSTER = re.compile(r"-[A-Za-z]{1,6}")
_DOCUMENT = re.compile(r"\s*[\[<]|\s*\{(?!\s+\w[\w./-]*\s)|---|\s*-\s|[\w.=/-]{1,128}:\s")  # JSON, XML, YAML, a header
_HEADER = re.compile(r"(?:[A-Za-z0-9]+-)[A-Za-z0-9-]+:|(?:Proxy-)?Authorization:|Cookie:|Set-Cookie:", re.IGNORECASE)
_SCHEMES = ("bearer", "basic", "token", "digest", "negotiate", "apikey", "splunk", "geniekey")
_NAMING = (
    "--name", "--hostname", "--network", "--container", "--service", "--user", "--host", "-n", "-h", "-U", "-o",
    "--output",
)  # fmt: skip
_BEFORE_COMMAND = (
    "sudo", "doas", "env", "exec", "time", "nohup", "--", "then", "do", "else", "command", "xargs", "!", "{",
)  # fmt: skip
_PROSE = (
    "-m", "--message", "--title", "--body", "--description", "--subject", "--comment", "--grep", "--notes",
    "--reason",
)  # fmt: skip
_CODE = ("-c", "-e", "-E", "-r", "-ne", "-pe", "-lne", "--eval")
_INTERPRETERS = ("python", "perl", "ruby", "node", "nodejs", "php", "Rscript", "lua", "julia", "deno", "bun")
_FILTERS = ("awk", "gawk", "mawk", "sed", "jq", "yq", "grep", "egrep", "fgrep", "rg", "ag")
_FROM_STDIN = re.compile(
    r"--(?:password-stdin|stdin|with-token|passphrase-fd|pass-stdin|token-stdin|stdin-pass)|chpasswd|-S"
)


def _options() -> dict[str, list[tuple[str, str, str]]]:
    """Return (option, kind of its value, word before it) by program."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for names, needed, options in PROGRAMS:
        for name in names.split():
            for each in options.split():
                kind = each[-1] if each[-1] in _KINDS and len(each) > 1 else WHOLE
                kind = "!" if each[0] == "!" else "@" if each == "@/" else kind
                option = each.removeprefix("!") if kind == "!" else each.rstrip(_KINDS)
                found.setdefault(name, []).append((option, kind, needed))
    return found


OPTIONS = _options()


class Words:
    """One command: its words are taken from left to right. `masked`: what can be shown of those so far."""

    def __init__(self, depth: int) -> None:
        self.masked: list[str] = []
        self._previous = self._before = ""  # the last two words
        self._depth = depth
        self._expected: tuple[str, str] | None = None  # kind of the value that the next word is, and its key
        self._options: dict[str, str] = {}  # kind of the value of each option of the programs seen
        self._awaited: dict[str, list[tuple[str, str]]] = {}  # those that hold behind a word, by that word
        self._sets = False  # whether a word `set` or `config` makes a key of what follows
        self._code = self._filter = False  # whether a word can be code of another language

    def add(self, word: str) -> None:
        """Take the next word."""
        previous = self._previous
        if self._expected is not None and not _NEXT_OPTION.fullmatch(word):
            self.masked.append(self._take_value(word))
        else:
            self._expected = None
            self._note_program(word, previous)
            self.masked.append(self._masked_word(word, previous))
        self._sets = (self._sets or word in ("set", "config")) and word not in ("get", "--get")
        self._options.update(self._awaited.get(word, ()))
        self._before, self._previous = previous, word

    def _take_value(self, word: str) -> str:
        assert self._expected is not None
        kind, name = self._expected
        if (not word and name.startswith("--")) or (kind == HEADER and word.lower() in _SCHEMES):
            return word  # the value is still to come
        self._expected = None
        return masked_part(word, kind, name)

    def _note_program(self, word: str, previous: str) -> None:
        if word.startswith("-") or "=" in word:
            return
        name = word.rpartition("/")[2].removesuffix(".exe")
        if not self.masked or previous in _BEFORE_COMMAND or "=" in previous:
            self._code = self._code or name.startswith(_INTERPRETERS)
            self._filter = self._filter or name in _FILTERS
        elif name in AMBIGUOUS or previous in _NAMING:
            return
        for option, kind, needed in OPTIONS.get(name, ()):
            if needed:
                self._awaited.setdefault(needed, []).append((option, kind))
            else:
                self._options.setdefault(option, kind)

    def _masked_word(self, word: str, previous: str) -> str:
        if self._options and (masked := self._masked_known(word)) is not None:
            return masked
        if _OPTION.fullmatch(word):
            if is_secret(word):
                self._expected = (WHOLE, word)
            return word
        if self._is_script(word, previous):
            return self._masked_text(word, previous)
        if found := _ASSIGNED.fullmatch(word):
            name, equals, value = found.groups()
            key = without_option(name)
            if is_secret(key):
                if not value and name[:1] == "-":
                    self._expected = (WHOLE, name)
                shown = masked_value(key, value)
                if shown == MASK:
                    return f"{name}{equals}{MASK}"
            if _BLANK.search(value) is not None:
                return name + equals + self._masked_text(value, name)
        elif (found := _COLON.fullmatch(word)) and is_secret(found[2]):
            return f"{found[1]}{found[2]}:{masked_value(found[2], found[4])}"
        elif self._expects_header(word) or self._expects_setting(word):
            return word
        return self._masked_text(word, previous)

    def _masked_known(self, word: str) -> str | None:
        """Return an option of a known program, its value masked where it is in the same word; None for other words."""
        head, equals, value = word.partition("=")
        kind = self._options.get(word)
        if kind is not None and kind not in ("+", "!"):
            self._expected = (kind, "password")
            return word
        if kind == "!":
            return word
        if equals and (kind := self._options.get(head)) is not None:
            return word if kind == "!" else f"{head}={masked_part(value, kind, 'password')}"
        if word.startswith("-") and len(word) > 2:
            for start in (word[:3], word[:2]):
                kind = self._options.get(start)
                if kind is not None and word[1] != "-" and kind in ((WHOLE, *"+:%,=") if len(start) == 2 else "+"):
                    return start + masked_part(word[len(start) :], kind, "password")
            last = self._options.get(f"-{word[-1]}") if _CLUSTER.fullmatch(word) else None
            if last is not None and last not in "+.!":
                self._expected = (last, "password")
                return word
        if "@/" in self._options and (found := re.fullmatch(r"([\w$#]+/)([^\s/]+?)(@[\w./:]+)?", word)):
            return f"{found[1]}{MASK}{found[3] or ''}"
        slash = word.partition(":")[0] + ":"
        if word.startswith("/") and slash[:-1] in self._options:
            return slash + MASK
        return None

    def _is_script(self, word: str, previous: str) -> bool:
        """Return whether a word is a script by its place: sh -c 'NAME=value command'. `git -c` sets a variable."""
        is_next = _SCRIPT_NEXT.fullmatch(previous) is not None and not self.masked[0].endswith("git")
        return is_next and _BLANK.search(word) is not None

    def _expects_header(self, word: str) -> bool:
        """Return whether the next word is the value of this header, or of this key at the beginning of a line."""
        if word in ("=", ":=", "=>") and _KEY.fullmatch(self._previous) and is_secret(self._previous):
            self._expected = (WHOLE, self._previous)
            return True
        name = word.removesuffix(":")
        is_key = word.endswith(":") and (_HEADER.fullmatch(word) is not None or (not self.masked and self._depth > 0))
        if is_key and is_secret(name):
            self._expected = (HEADER, name)
        return self._expected is not None

    def _expects_setting(self, word: str) -> bool:
        """Return whether the next word is the value of this key: `configure set KEY X`, `login U password X`."""
        is_login = self._before.lower() in ("login", "user", "username") and word.lower() in ("password", "passwd")
        is_key = word != word.lower() or any(sign in word for sign in "_.:")
        if is_login or (self._sets and is_key and not any(sign in word for sign in " =") and is_secret(word)):
            self._expected = (WHOLE, word.rpartition(":")[2])
        return self._expected is not None

    def _masked_text(self, word: str, previous: str) -> str:
        if word.isalnum() and len(word) < MIN_TOKEN:
            return word
        is_prose = previous in _PROSE
        is_document = _DOCUMENT.match(word) is not None
        if _BLANK.search(word) is None or is_document or self._depth >= MAX_DEPTH:
            return mask_text(word, prose=is_prose and word[:1] not in "{[<")
        if is_prose or self._filter or (self._code and previous in _CODE):
            return mask_text(word, prose=is_prose)
        return mask_script(word, self._depth + 1)


def mask_words(arguments: list[str], depth: int = 0) -> list[str]:
    """Return an argument vector with `***` for each secret. `depth`: how many scripts it is in."""
    command = Words(depth)
    for word in arguments:
        command.add(word)
    return command.masked


def masked_part(value: str, kind: str, name: str) -> str:
    """Return the value of an option of this kind."""
    match kind:
        case ":" | "%" | ",":
            head, sign, secret = value.partition(kind)
            is_reference = not sign or head in ("env", "file", "fd", "fp", "stdin")
            return value if is_reference else f"{head}{sign}{masked_value(name, secret)}"
        case "=":
            return masked_value(name, value) if "=" in value else value
        case "*":
            head, sign, secret = value.partition("=")
            return f"{head}={masked_value(name, secret)}" if sign else value
        case "!":
            return value
    return masked_value(name, value)


# -- scripts ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<blank>[^\S\n]++|\\\n) | (?P<comment>\#[^\n]*)
    | (?P<operator>[;&|()\n`]++|<<<|[0-9]*[<>]++[&|]?)
    | (?P<word>(?:[^\s'"\\;&|()<>$`] | \\. | '[^']*' | "(?:[^"\\]|\\.)*+" | \$'(?:[^'\\]|\\.)*+'
        | \$\{[^}\s]{0,256}\} | \$ | (?P<open>['"\\]))++)""",
    re.DOTALL | re.VERBOSE,
)
_PIECE = re.compile(r"""\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*+)"|\$'((?:[^'\\]|\\.)*+)'""", re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\$`\n])')
_NEEDS_QUOTES = re.compile(r"[\s'\"\\;&|()<>`]")


def mask_script(script: str, depth: int) -> str:
    """Return a script with `***` for each secret in its commands."""
    pieces: list[str] = []  # alternately what is between the words, and a word
    commands: list[list[int]] = [[]]  # the words of each command, as indices of `pieces`
    operators = [""]  # before each command
    is_text = "<<" in script  # whether a part is not a command: in a here-document, after an open quote
    for found in _TOKEN.finditer(script):
        is_text = is_text or found["open"] is not None
        pieces.append(mask_text(found[0]) if found["comment"] else found[0])
        if found["word"]:
            commands[-1].append(len(pieces) - 1)
        elif found["operator"] and not found[0].rstrip("&|").endswith(("<", ">")):
            commands.append([])
            operators.append(found[0])
    for number, command in enumerate(commands):
        if not command:
            continue
        is_piped = operators[number + 1 : number + 2] == ["|"]
        _mask_command(pieces, command, commands[number + 1] if is_piped else [], depth)
    masked = "".join(pieces)
    return mask_text(masked) if is_text else masked


def _mask_command(pieces: list[str], command: list[int], reader: list[int], depth: int) -> None:
    """Mask one command of a script, and the words that it prints into a command that reads a secret."""
    plain = [_unquoted(pieces[index]) for index in command]
    masked = mask_words(plain, depth)
    if plain and plain[0] in ("echo", "printf") and any(_FROM_STDIN.fullmatch(pieces[index]) for index in reader):
        masked[1:] = [each if each[:1] in ("-", "%") else masked_value("password", each) for each in masked[1:]]
    if any(_FROM_STDIN.fullmatch(word) for word in plain):
        for number, index in enumerate(command):
            if "".join(pieces[max(0, index - 2) : index]).rstrip().endswith("<<<"):
                masked[number] = masked_value("password", plain[number])
    for index, word, shown in zip(command, plain, masked, strict=True):
        if shown != word:
            needs_quotes = _NEEDS_QUOTES.search(shown) is not None
            pieces[index] = "'" + shown.replace("'", "'\\''") + "'" if needs_quotes else shown


def _unquoted(raw: str) -> str:
    if not any(sign in raw for sign in "'\"\\"):
        return raw
    return _PIECE.sub(_meant, raw)


def _meant(piece: re.Match[str]) -> str:
    sign, single, double, ansi = piece.groups()
    if sign is not None:
        return "" if sign == "\n" else sign
    if double is not None:
        return _ESCAPED.sub(r"\1", double)
    return single if single is not None else re.sub(r"\\(.)", r"\1", ansi, flags=re.DOTALL)
