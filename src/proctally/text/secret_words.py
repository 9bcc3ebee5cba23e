"""Mask secrets in an argument vector: options of any program and of known ones, and the commands inside a script."""

from __future__ import annotations

import re

from proctally.text.secret_names import is_secret, without_option
from proctally.text.secret_table import AMBIGUOUS, PROGRAMS
from proctally.text.secret_text import MIN_TOKEN, mask_text, masked_value
from proctally.text.secrets import MASK, PASSWORD_OPTIONS, USER_OPTIONS

MAX_DEPTH = 4  # scripts inside scripts
MAX_GROUP = 8  # commands between one that prints and one that reads
# kinds of a value; the others are those of `secret_table.PROGRAMS`
WHOLE, HEADER, SETTING, LOGIN, NEXT = "whole", "header", "setting", "login", "1"
_KINDS = "+.:%,=*^&1234"

_BLANK = re.compile(r"\s")
_OPTION = re.compile(r"--?[A-Za-z_][\w.:-]*+")
_ASSIGNED = re.compile(r"(--?[A-Za-z][\w.-]*+|[A-Za-z_][\w.-]*+(?:\[[\w.-]*\])*)(\+?=|:=)(.*)", re.DOTALL)
_COLON = re.compile(r"((?:/|--?)[A-Za-z][\w.-]*+):([^/].*)", re.DOTALL)  # --token:X, but --auth:token X
_NEXT_OPTION = re.compile(r"--[a-z]+(?:-[a-z0-9]+)*(?:=.*)?|-[A-Za-z]|-[a-z]+(?:-[a-z]+)*(?:=.*)?|--", re.DOTALL)
_SCRIPT_NEXT = re.compile(r"-[A-Za-z]{0,6}c|--command|--wrap|--exec|--eval")
_SWITCH = re.compile(rf"{_NEXT_OPTION.pattern}|--[a-z]+\d\d|-[A-Za-z0-9]{{0,5}}|/[a-z]{{2,10}}(?::.*)?", re.DOTALL)
_PAIR = re.compile(r"[A-Za-z_][\w.-]*=.*[^=]", re.DOTALL)
_KEY = re.compile(r"[:$@]?[A-Za-z_][\w.:-]*")
_CLUSTER = re.compile(r"-[A-Za-z]{1,6}")
_DOCUMENT = re.compile(
    r"\s*[\[<]|\s*\{(?!\s+\w[\w./-]*\s)|---|\s*-\s|[\w.=/-]{1,128}:\s|[\w-]*uthorization:"
)  # JSON, XML, YAML, a header
_HEADER = re.compile(r"(?:[A-Za-z0-9]+-)[A-Za-z0-9-]+:|(?:Proxy-)?Authorization:|Cookie:|Set-Cookie:", re.IGNORECASE)
_SCHEMES = ("bearer", "basic", "token", "digest", "negotiate", "apikey", "splunk", "geniekey")
_NAMING = (
    "--name", "--hostname", "--network", "--container", "--service", "--user", "--host", "-n", "-h", "-U", "-o",
    "--output", "--registry", "--config", "--stdin-name", "--vault-id", "--user-id", "-salt",
)  # fmt: skip
# Words that a name and its value follow: set NAME X, config a.NAME X, -genv NAME X
_SETTERS = (
    "set", "config", "modify", "put", "write", "option", "setx", "set-environment", "set-env", "config-set", "cset",
    "-genv", "-env", "--arg", "--stringparam", "--set",
)  # fmt: skip
_SETTINGS = {"http-basic": "2", "github-oauth": NEXT, "gitlab-token": NEXT, "bearer": NEXT, "pypi-token": NEXT}
# -p X behind a user is not a password: a port, a path, a pair
_NOT_PASSWORD = re.compile(
    r"(?:[\d.:,/-]|\$\{?[A-Z_]+\}?)+(?:/(?:tcp|udp))?|[a-z_.-]+(?:/[a-z_.-]+)+|\w+=.*", re.DOTALL
)
_BEFORE_COMMAND = (
    "sudo", "doas", "env", "exec", "time", "nohup", "--", "then", "do", "else", "command", "xargs", "!", "{",
)  # fmt: skip
_PROSE = (
    "-m", "--message", "--title", "--body", "--description", "--subject", "--comment", "--grep", "--notes",
    "--reason",
)  # fmt: skip
_CODE = re.compile(r"-[A-Za-z]{0,6}[ceEr]|(?:--)?eval")
_INTERPRETERS = ("python", "perl", "ruby", "node", "nodejs", "php", "Rscript", "lua", "julia", "deno", "bun", "mongo")
_FILTERS = ("awk", "gawk", "mawk", "sed", "jq", "yq", "grep", "egrep", "fgrep", "rg", "ag")
_FROM_STDIN = re.compile(
    r"-*[\w-]*stdin(?:-pass)?|--with-token|-k?S|fd:\d+|file:/dev/\S+|[a-z_]\w*=-"
    r"|--[\w-]*pass[\w-]*(?:fd|file)(?:=.*)?"
)
_PASSING_ON = ("tee", "cat", "tr", "base64", "head", "tail", "cut", "sed")  # what they read is what they print


def _options() -> dict[str, list[tuple[str, str, str]]]:
    """Return (option, kind of its value, word before it) by program."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for names, needed, options in PROGRAMS:
        for name in names.split():
            for each in options.split():
                kind = each[-1] if each[-1] in _KINDS and len(each) > 1 else ""
                option = each.removesuffix(kind)
                kind = "@" if each == "@/" else kind or (WHOLE if each[0] in "-/" else NEXT)
                if each[0] == "!":
                    option, kind = each[1:], "!"
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
        if self._expected is not None and self._is_value(word, *self._expected):
            self.masked.append(self._take_value(word, *self._expected))
        else:
            self._note_program(word, previous)
            self.masked.append(self._masked_word(word, previous))
        self._sets = (self._sets or _is_setter(word)) and word not in ("get", "--get")
        self._options.update(self._awaited.get(word.removeprefix("--auth-type=").removeprefix("-A"), ()))
        self._before, self._previous = previous, word

    def _is_value(self, word: str, kind: str, name: str) -> bool:
        """Return whether a word is the value that is expected; if it is not, the value can still follow."""
        if kind.isdecimal():
            if _SWITCH.fullmatch(word) or self._previous in _NAMING:
                return False
            if kind > NEXT:
                self._expected = (str(int(kind) - 1), name)
                return False
            if _PAIR.fullmatch(word):
                self._expected = None
        elif kind == SETTING and word.startswith(("--value", "-v", "=", ":=")):
            return "=" in word[2:]
        elif _NEXT_OPTION.fullmatch(word) or (kind == SETTING and _PAIR.fullmatch(word)):
            self._expected = None
        return self._expected is not None

    def _take_value(self, word: str, kind: str, name: str) -> str:
        if (not word and name.startswith("--")) or (kind == HEADER and word.lower() in _SCHEMES):
            return word  # the value is still to come
        self._expected = (WHOLE, name) if kind == "&" else None
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
            for before in needed.split():
                self._awaited.setdefault(before, []).append((option, kind))
            if option == name:
                self._expected = (kind, "password")
            elif not needed:
                self._options.setdefault(option, kind)

    def _masked_word(self, word: str, previous: str) -> str:
        if self._options and (masked := self._masked_known(word)) is not None:
            return masked
        if word in PASSWORD_OPTIONS and word not in self._options and self._follows_user(previous):
            self._expected = (LOGIN, "password")
            return word
        if (found := _COLON.fullmatch(word)) and is_secret(found[1]) and not _is_nested(*found.groups()):
            return f"{found[1]}:{masked_value(found[1], found[2])}"
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
                first, _, rest = value.partition(",")  # credentials=/etc/c,uid=1000
                if masked_value(key, first if _PAIR.fullmatch(rest) else value) == MASK:
                    return f"{name}{equals}{MASK}"
            if _BLANK.search(value) is not None:
                return name + equals + self._masked_text(value, name)
        elif self._expects_header(word) or self._expects_setting(word, previous):
            return word
        return self._masked_text(word, previous)

    def _follows_user(self, previous: str) -> bool:
        """Return whether the words before are the option of a user and its value: `-u bob`, `--user=bob`."""
        if previous.partition("=")[0] in USER_OPTIONS and "=" in previous:
            return True
        return self._before in USER_OPTIONS and self.masked[-3:-2] not in (["sudo"], ["doas"])

    def _masked_known(self, word: str) -> str | None:
        """Return an option of a known program, its value masked where it is in the same word; None for other words."""
        head, equals, value = word.partition("=")
        kind = self._options.get(word)
        if kind is not None and kind not in ("+", "!"):
            self._expected = (kind, "password")
            if kind == "^":
                del self._options[word]
            return word
        if kind == "!":
            return word
        if equals and (kind := self._options.get(head)) is not None:
            return word if kind == "!" else f"{head}={masked_part(value, kind, 'password')}"
        if word.startswith("-") and len(word) > 2:
            for start in (word[:3], word[:2]):
                kind = self._options.get(start)
                if kind is not None and word[1] != "-" and kind in ((WHOLE, *"+:%,=^") if len(start) == 2 else "+"):
                    if kind == "^":
                        del self._options[start]
                    return start + masked_part(word[len(start) :], kind, "password")
            if "b" in word and self._options.get("-b") == "3" and _CLUSTER.fullmatch(word):  # of htpasswd
                self._expected = (str(3 - ("n" in word) + ("C" in word)), "password")
                return word
            last = self._options.get(f"-{word[-1]}") if _CLUSTER.fullmatch(word) else None
            if last is not None and last not in "+.!1234":
                self._expected = (last, "password")
                return word
        if "@/" in self._options and (
            found := re.fullmatch(r"((?:userid=)?[\w$#]+/)([^\s/@]+|\S+(?=@))(@[^\s@]*|@\(.*)?", word)
        ):
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

    def _expects_setting(self, word: str, previous: str) -> bool:
        """Return whether the next word is the value of this key: `configure set KEY X`, `login U password X`."""
        lowered = word.lower()
        if self._before.lower() in ("login", "user", "username") and lowered in ("password", "passwd"):
            self._expected = (WHOLE, word)
        elif self._sets and "." in word and (kind := _SETTINGS.get(word.partition(".")[0])) is not None:
            self._expected = (kind, word)
        elif self._sets and not any(sign in word for sign in " =") and is_secret("--" + word.rpartition("/")[2]):
            setter = self._before if previous[:1] == "-" and not _is_setter(previous) else previous
            is_plain = word == lowered and not any(sign in word for sign in "_.:/")
            is_first = (_is_setter(setter) or word in ("password", "passwd", "pass")) and setter != "config"
            if is_first or not is_plain:
                self._expected = (SETTING, word.rpartition(":")[2])
        return self._expected is not None

    def _masked_text(self, word: str, previous: str) -> str:
        if word.isalnum() and len(word) < MIN_TOKEN:
            return word
        is_prose = previous in _PROSE
        is_document = _DOCUMENT.match(word) is not None
        if _BLANK.search(word) is None or is_document or self._depth >= MAX_DEPTH:
            return mask_text(word, prose=is_prose and word[:1] not in "{[<")
        if is_prose or self._filter or (self._code and _CODE.fullmatch(previous) is not None):
            return mask_text(word, prose=is_prose)
        return mask_script(word, self._depth + 1)


def _is_nested(name: str, value: str) -> bool:
    """Return whether this is one name: --auth:token, unlike --auth:X, --auth-token:X and --password:X."""
    return is_secret(value) and "-" not in name.strip("-") and "pass" not in name.lower()


def _is_setter(word: str) -> bool:
    return word in _SETTERS or word.endswith((":set", "setenv"))


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
            is_reference = not sign or head in ("env", "file", "fd", "fp", "stdin") or "://" in head
            return value if is_reference else f"{head}{sign}{masked_value(name, secret)}"
        case "=":
            return masked_value(name, value) if "=" in value else value
        case "*":
            head, sign, secret = value.partition("=")
            return f"{head}={masked_value(name, secret)}" if sign else value
        case "setting" if value.startswith("--value="):
            return f"--value={masked_value(name, value[8:])}"
        case "login":
            return value if _NOT_PASSWORD.fullmatch(value) else masked_value(name, value)
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
# a part that is not a command: a here-document, a call with texts, a pair with one (so is what an open quote precedes)
_TEXTUAL = re.compile(r"<<|\([\[{]?[\"'{]|(?:=>|:) ?[\"']")
_ESCAPED = re.compile(r'\\(["\\$`\n])')
_NEEDS_QUOTES = re.compile(r"[\s'\"\\;&|()<>`]")


def mask_script(script: str, depth: int) -> str:
    """Return a script with `***` for each secret in its commands."""
    pieces: list[str] = []  # alternately what is between the words, and a word
    commands: list[list[int]] = [[]]  # the words of each command, as indices of `pieces`
    operators = [""]  # before each command
    is_text = _TEXTUAL.search(script) is not None
    for found in _TOKEN.finditer(script):
        is_text = is_text or found["open"] is not None
        pieces.append(mask_text(found[0]) if found["comment"] else found[0])
        if found["word"]:
            commands[-1].append(len(pieces) - 1)
        elif found["operator"] and not found[0].rstrip("&|").endswith(("<", ">")):
            commands.append([])
            sign = pieces[-2][-1:] if len(pieces) > 1 else ""
            operators.append(sign + found[0] if sign + found[0] in ("<(", "$(", " `") else found[0])
    end = ""  # of a here-document with a secret
    is_inside = False
    for number, command in enumerate(commands):
        plain = [_unquoted(pieces[index]) for index in command]
        is_inside = end != "" and (is_inside or "\n" in operators[number])
        if is_inside and plain == [end]:
            end = ""
        elif is_inside:
            _show(pieces, command, plain, [MASK] * len(plain))
        elif command:
            before = [pieces[index] for index in commands[number - 1]] if number else []
            is_read = _is_value(before, operators[number], depth) or _reads_secret(
                [pieces[index] for index in _reader(pieces, commands, operators, number)]
            )
            end = _mask_command(pieces, command, plain, depth, is_read=is_read) or end
    masked = "".join(pieces)
    return mask_text(masked) if is_text else masked


def _reader(pieces: list[str], commands: list[list[int]], operators: list[str], number: int) -> list[int]:
    """Return the command that reads what this one prints: (echo a; echo b) | tee f | command, command < <(echo a)."""
    if operators[number] == "<(":
        return commands[number - 1]
    is_closed = True
    for later in range(number + 1, min(number + MAX_GROUP, len(commands))):
        is_closed = is_closed or ")" in operators[later]
        words = [pieces[index] for index in commands[later]]
        if operators[later] == "|" and is_closed:
            if _program(words) not in _PASSING_ON or _reads_secret(words):
                return commands[later]
            continue
        is_closed = words == ["}"] or (not words and is_closed)
        if words and words[0] not in ("echo", "printf", "}"):
            break
    return []


def _is_value(before: list[str], operator: str, depth: int) -> bool:
    """Return whether what a command prints is a secret of the command before: --password $(echo X), TOKEN=`echo X`."""
    if operator not in ("$(", "`", " `") or not before:
        return False
    probe = [*before, "`echo"] if operator == " `" else [*before[:-1], before[-1] + operator[-1] + "echo"]
    return mask_words(probe, depth)[-1] != probe[-1]


def _mask_command(pieces: list[str], command: list[int], plain: list[str], depth: int, *, is_read: bool) -> str:
    """Mask one command of a script, and what it prints, where that `is_read` as a secret, or what it reads.

    Returns the word that ends its here-document if that has a secret.
    """
    masked = mask_words(plain, depth)
    end = ""
    program = _program(plain)
    is_read = is_read or _writes_secret(pieces, command)
    if program in ("echo", "printf", "yes") and is_read:
        for number in range(plain.index(program) + 1, len(plain)):
            if plain[number][:1] not in ("-", "%"):
                masked[number] = masked_value("password", masked[number])
    if is_read or _reads_secret(plain):
        for number, index in enumerate(command):
            before = _redirection(pieces, index)
            if before.endswith("<<<"):
                masked[number] = masked_value("password", plain[number])
            elif before.endswith("<<"):
                end = plain[number].removeprefix("-")
    _show(pieces, command, plain, masked)
    return end


def _program(command: list[str]) -> str:
    return next((word for word in command if word not in _BEFORE_COMMAND and word[:1] != "-" and "=" not in word), "")


def _reads_secret(command: list[str]) -> bool:
    """Return whether a command reads a secret from its standard input."""
    if any(option == "<" for option, _, _ in OPTIONS.get(_program(command).rpartition("/")[2], ())):
        return True
    if _program(command) in ("read", "tee"):
        return any(map(_is_secret_file, command[1:]))
    is_login = any(word in ("login", "secret", "secrets") for word in command[1:3]) and command[1][:1] != "-"
    return is_login or any(_FROM_STDIN.fullmatch(word) for word in command)


def _writes_secret(pieces: list[str], command: list[int]) -> bool:
    """Return whether a command writes into a file with a secret name: echo X > ~/.vault-token."""
    return any(_redirection(pieces, index)[-1:] == ">" and _is_secret_file(pieces[index]) for index in command)


def _redirection(pieces: list[str], index: int) -> str:
    """Return the operator before a word, with what precedes it."""
    return "".join(pieces[max(0, index - 2) : index]).rstrip()


def _is_secret_file(path: str) -> bool:
    return is_secret(path.rpartition("/")[2].removesuffix(".txt"))


def _show(pieces: list[str], command: list[int], plain: list[str], masked: list[str]) -> None:
    """Put the words of a command that are masked into the pieces of its script."""
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
