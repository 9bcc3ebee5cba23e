"""The file of one run: JSON Lines, each line written at once, readable after `kill -9` of its writer."""

from __future__ import annotations

import os
import stat
from errno import EAGAIN, EINTR, EPIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

KEPT_LINES = 4096
KEPT_BYTES = 4 << 20
SECRETS = (
    "passw", "secret", "token", "apikey", "api_key", "api-key", "access_key", "access-key", "credential",
    "authorization",
)  # fmt: skip
MASK = "***"


def _refuse(value: Any) -> Any:
    raise TypeError(f"{value!r} has no place in a record")


def _make_encode() -> Any:
    """The standard library's JSON encoder in C, without the package around it, whose import costs 8 ms."""
    try:
        from _json import encode_basestring_ascii, make_encoder

        chunks = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)
        return lambda value: "".join(chunks(value, 0))
    except (ImportError, TypeError):
        from json import JSONEncoder

        return JSONEncoder(separators=(",", ":"), allow_nan=False).encode


encode = _make_encode()


class Record:
    """Writes the lines of one run to a descriptor; what cannot be written is kept, within bounds, and tried again."""

    __slots__ = ("_bytes", "_fd", "_kept", "_made", "_written", "error", "lost_samples", "path")

    def __init__(self, fd: int, path: str, *, made: bool = False) -> None:
        self.path = path
        self._made = made
        self.error: OSError | None = None
        self.lost_samples = 0
        self._fd = fd
        self._kept: list[tuple[bytes, bool]] = []  # lines in order, and whether each is a sample
        self._bytes = 0
        self._written = 0  # of the first kept line

    def write(self, line: dict[str, Any]) -> None:
        """One line. Never raises for the file's sake: `error` says what went wrong, `lost_samples` what was lost."""
        data = encode(line).encode() + b"\n"
        self._kept.append((data, line["type"] == "sample"))
        self._bytes += len(data)
        self._flush()
        while len(self._kept) > KEPT_LINES or self._bytes > KEPT_BYTES:
            self._drop(1 if self._written else 0)

    def discard(self) -> None:
        """Close it, and remove the file if it was made for this run."""
        os.close(self._fd)
        if self._made:
            try:
                os.unlink(self.path)
            except OSError:
                pass

    def _flush(self) -> bool:
        """Write what is kept as far as it goes; True when nothing is left."""
        while self._kept:
            data, _ = self._kept[0]
            try:
                self._written += os.write(self._fd, data[self._written :])
            except OSError as error:
                if error.errno == EINTR:
                    continue
                if error.errno != EAGAIN:
                    self.error = error
                if error.errno == EPIPE:
                    while self._kept:
                        self._drop(0)
                return False
            if self._written == len(data):
                del self._kept[0]
                self._bytes -= len(data)
                self._written = 0
        return True

    def _drop(self, place: int) -> None:
        """Give up a kept line; one of which a part is in the file already must stay."""
        data, sample = self._kept.pop(min(place, len(self._kept) - 1))
        self._bytes -= len(data)
        self.lost_samples += sample
        if not self._kept:
            self._written = 0

    def close(self, patience_ms: int = 500) -> None:
        """Write the rest; a reader that is slow to take it is waited for this long."""
        if not self._flush() and self._kept and self.error is None:
            import select

            poller = select.poll()
            poller.register(self._fd, select.POLLOUT)
            for _ in range(patience_ms // 10):
                poller.poll(10)
                if self._flush() or self.error is not None:
                    break
        self.lost_samples += sum(sample for _, sample in self._kept)
        if self._kept and self.error is None:
            self.error = OSError(EAGAIN, "its reader does not read")
        try:
            os.close(self._fd)
        except OSError as error:
            self.error = self.error or error


# -- where it lies ---------------------------------------------------------------------------------------------------


def runs_directory(environment: dict[str, str]) -> str | None:
    """Where records lie by default: PROCTALLY_HOME, else below XDG_STATE_HOME, else below ~/.local/state.

    None where there is no home.
    """
    home = environment.get("PROCTALLY_HOME")
    if home:
        return os.path.join(home, "runs")
    state = environment.get("XDG_STATE_HOME")
    if not state or not state.startswith("/"):
        home = environment.get("HOME") or _home_by_passwd()
        if not home:
            return None
        state = os.path.join(home, ".local", "state")
    return os.path.join(state, "proctally", "runs")


def _home_by_passwd() -> str | None:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError):
        return None


def open_default(environment: dict[str, str], started_at: float, name: str, run_id: str) -> Record:
    """A new record in its default place. Raises OSError."""
    directory = runs_directory(environment)
    if directory is None:
        raise OSError(0, "there is no home directory; set PROCTALLY_HOME")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, f"{_utc(started_at)}-{safe_name(name)}-{run_id[:8]}.jsonl")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
    return Record(os.open(path, flags, 0o600), path)


def _utc(at: float) -> str:
    import time

    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))


def safe_name(name: str) -> str:
    """A name as a part of a file name: letters, digits and a few signs, at most 40 of them."""
    kept = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "_" for sign in name[:40])
    return kept.lstrip(".-") or "run"


def expand(path: str, values: dict[str, str], environment: dict[str, str]) -> str:
    """Fill in `{run_id} {name} {host} {pid} {env:VAR}`. Raises ValueError for any other, and for a VAR not set."""
    out = []
    rest = path
    while "{" in rest:
        before, _, rest = rest.partition("{")
        key, brace, rest = rest.partition("}")
        out.append(before)
        if not brace:
            raise ValueError(f"{{{key} has no closing brace")
        if key.startswith("env:"):
            if key[4:] not in environment:
                raise ValueError(f"{{{key}}}: the variable {key[4:]} is not set")
            out.append(environment[key[4:]])
        elif key in values:
            out.append(values[key])
        else:
            raise ValueError(f"{{{key}}} is not known; use {{run_id}} {{name}} {{host}} {{pid}} {{env:VAR}}")
    out.append(rest)
    return "".join(out)


def open_output(path: str, *, force: bool = False) -> Record:
    """The file of `-o`: a new one is made; an existing regular one is refused without `force`.

    A device, a pipe or a descriptor of this process (`/dev/stdout`, `>(gzip)`) is opened as it is, and never waited
    for. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    try:
        return Record(os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), path, made=True)
    except FileExistsError:
        pass
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "is a directory")
    if not stat.S_ISREG(mode) or os.path.dirname(os.path.abspath(path)) in ("/dev", "/dev/fd", "/proc/self/fd"):
        return Record(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY), path)
    if not force:
        raise FileExistsError(17, "exists already; choose another or give --force")
    return Record(os.open(path, flags | os.O_TRUNC | os.O_NOFOLLOW), path)


def standard_output() -> Record:
    """The record on this process's own stdout (`-o -`)."""
    return Record(os.dup(1), "-")


# -- reading ---------------------------------------------------------------------------------------------------------


def read(path: str) -> Iterator[dict[str, Any]]:
    """The lines of a record as dictionaries, in order; a torn last line is left out.

    Raises ValueError for a file that is not a record, naming the line.
    """
    import json

    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):
                return
            try:
                line = json.loads(data)
            except ValueError:
                raise ValueError(f"{path}: line {number} is not JSON") from None
            if not isinstance(line, dict) or "type" not in line:
                raise ValueError(f"{path}: line {number} is not a line of a record")
            yield line


# -- what may be in it -----------------------------------------------------------------------------------------------


def plain(argument: str) -> str:
    """An argument or a path as strict text: bytes that are not UTF-8 are written as `\\xff`."""
    return os.fsencode(argument).decode("utf-8", "backslashreplace")


def mask(command: list[str]) -> list[str]:
    """A command line with the values that look like secrets replaced by `***`."""
    masked = []
    hide_next = False
    for argument in command:
        argument = plain(argument)
        if hide_next and not argument.startswith("-"):
            masked.append(MASK)
            hide_next = False
            continue
        hide_next = False
        lowered = argument.lower()
        if "://" in argument and "@" in argument:
            argument = _mask_url(argument)
        if any(word in lowered for word in SECRETS):
            key, equals, _ = argument.partition("=")
            if not any(sign.isspace() for sign in argument):
                if equals and _secret(key):
                    argument = f"{key}={MASK}"
                elif argument.startswith("-") and _secret(key):
                    hide_next = not equals
            else:
                argument = _mask_text(argument)
        masked.append(argument)
    return masked


def _secret(key: str) -> bool:
    key = key.lower()
    return any(word in key for word in SECRETS)


def _mask_url(argument: str) -> str:
    import re

    return re.sub(r"(://[^/\s:@]*:)[^@/\s]+@", rf"\g<1>{MASK}@", argument)


def _mask_text(argument: str) -> str:
    """A whole script in one argument: the values of what looks like a key, after `=`, `:` or a space."""
    import re

    words = "|".join(re.escape(word) for word in SECRETS)
    return re.sub(
        rf"(?i)([\w.-]*(?:{words})[\w.-]*\s*(?:=|:|\s)\s*(?:bearer\s+|basic\s+)?)([^\s\"']+)", rf"\g<1>{MASK}", argument
    )
