"""The file of one run: JSON Lines, each line written at once, readable after `kill -9` of its writer."""

from __future__ import annotations

import os
import stat
from errno import EAGAIN, EINTR, EPIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

KEPT_LINES = 4096
KEPT_BYTES = 4 << 20
PATIENCE_MS = 500
SECRETS = ("passw", "passphrase", "secret", "token", "key", "credential", "authorization")  # a first, cheap look
MASK = "***"
GZIP = b"\x1f\x8b"  # with which a file begins that is compressed by gzip


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


def json_line(line: dict[str, Any]) -> bytes:
    """A line as it stands in a record."""
    text: str = encode(line)
    return text.encode() + b"\n"


class Record:
    """Writes the lines of one run to a descriptor; what cannot be written is kept, within bounds, and tried again.

    `format`: what becomes of a line, None for one of which nothing is written.
    """

    __slots__ = ("_bytes", "_fd", "_kept", "_made", "_written", "error", "format", "lost_samples", "path")

    def __init__(self, fd: int, path: str, *, made: bool = False) -> None:
        self.path = path
        self._made = made
        self.format: Callable[[dict[str, Any]], bytes | None] = json_line
        self.error: OSError | None = None
        self.lost_samples = 0
        self._fd = fd
        self._kept: list[tuple[bytes, bool]] = []  # lines in order, and whether each is a sample
        self._bytes = 0
        self._written = 0  # of the first kept line

    def write(self, line: dict[str, Any]) -> None:
        """One line. Never raises for the file's sake: `error` says what went wrong, `lost_samples` what was lost."""
        data = self.format(line)
        if data is not None:
            self._kept.append((data, line["type"] == "sample"))
            self._bytes += len(data)
        self._flush()
        while (len(self._kept) > KEPT_LINES or self._bytes > KEPT_BYTES) and self._give_up_one():
            pass

    def write_bytes(self, data: bytes) -> None:
        """What is no line. Never raises for the file's sake, and is never given up."""
        self._kept.append((data, False))
        self._bytes += len(data)
        self._flush()

    def _give_up_one(self) -> bool:
        """Give up the oldest kept line that may be: no header, no summary, none of which a part is out already."""
        for expendable in (True, False):
            for place, (data, sample) in enumerate(self._kept):
                if place == 0 and self._written:
                    continue
                if sample == expendable and (sample or data.startswith(b'{"type":"process"')):
                    del self._kept[place]
                    self._bytes -= len(data)
                    self.lost_samples += sample
                    return True
        return False

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
            data, sample = self._kept[0]
            try:
                self._written += os.write(self._fd, data[self._written :])
            except OSError as error:
                if error.errno == EINTR:
                    continue
                if error.errno != EAGAIN:
                    self.error = error
                if error.errno == EPIPE:
                    self.lost_samples += sum(sample for _, sample in self._kept)
                    self._kept.clear()
                    self._bytes = self._written = 0
                return False
            if self._written == len(data):
                del self._kept[0]
                self._bytes -= len(data)
                self._written = 0
        if self.error is not None and self.error.errno != EPIPE and not self.lost_samples:
            self.error = None  # there is room again, and everything was written
        return True

    def unwritten(self, patience_ms: int = PATIENCE_MS) -> int:
        """The samples that are lost, or will be when this is closed.

        A reader that does not read is waited for this long, one that reads ten times as long.
        """
        if not self._flush() and self.error is None:
            self._drain(patience_ms)
        return self.lost_samples + sum(sample for _, sample in self._kept)

    def _drain(self, patience_ms: int) -> None:
        import select
        import time

        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        begun = progress = time.monotonic()
        while True:
            before = (len(self._kept), self._written)
            if self._flush() or self.error is not None:
                return
            now = time.monotonic()
            if (len(self._kept), self._written) != before:
                progress = now
            if (now - progress) * 1000 >= patience_ms or (now - begun) * 100 >= patience_ms:
                return
            poller.poll(10)

    def close(self, patience_ms: int = PATIENCE_MS) -> None:
        """Write the rest, as far as it can be written."""
        self.lost_samples = self.unwritten(patience_ms)
        if self._kept and self.error is None:
            self.error = OSError(EAGAIN, "its reader does not read")
        fd, self._fd = self._fd, -1
        try:
            os.close(fd)
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
    own = _own_descriptor(path)
    if own is not None:
        return Record(_again(own, mode), path)
    if not stat.S_ISREG(mode):
        return Record(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY), path)
    if not force:
        raise FileExistsError(17, "exists already; choose another or give --force")
    return Record(os.open(path, flags | os.O_TRUNC | os.O_NOFOLLOW), path)


def standard_output() -> Record:
    """The record on this process's own stdout (`-o -`)."""
    return Record(_again(1, os.fstat(1).st_mode), "-")


def _own_descriptor(path: str) -> int | None:
    """The number of this process's own descriptor that a path names: `/dev/stdout`, `/dev/fd/5`."""
    path = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}.get(path, path)
    folder, _, name = path.rpartition("/")
    return int(name) if folder in ("/dev/fd", "/proc/self/fd") and name.isdecimal() else None


def _again(fd: int, mode: int) -> int:
    """A descriptor for what this one is open on.

    A pipe or a terminal is opened anew, so that it can be non-blocking for us and stays as it is for the job. A file
    keeps its common position by dup(2), and a socket cannot be opened by a path.
    """
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            pass
    return os.dup(fd)


# -- reading ---------------------------------------------------------------------------------------------------------


def read(path: str) -> Iterator[dict[str, Any]]:
    """The lines of a record as dictionaries, in order; a torn last line is left out. It may be compressed by gzip.

    Raises ValueError for a file that is not a record, naming the line.
    """
    import json

    with open(path, "rb") as file:
        compressed = file.peek(2)[:2] == GZIP  # a pipe can be read once only
        for number, data in enumerate(unzipped(file) if compressed else file, 1):
            if not data.endswith(b"\n"):
                return
            try:
                line = json.loads(data)
            except ValueError:
                raise ValueError(f"{path}: line {number} is not JSON") from None
            if not isinstance(line, dict) or "type" not in line:
                raise ValueError(f"{path}: line {number} is not a line of a record")
            yield line


def unzipped(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a compressed file, as far as it goes."""
    import gzip
    import zlib

    try:
        with gzip.open(file) as lines:
            yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile):  # torn
        return


# -- what may be in it -----------------------------------------------------------------------------------------------


def plain(argument: str) -> str:
    """An argument or a path as strict text: bytes that are not UTF-8 are written as `\\xff`."""
    return os.fsencode(argument).decode("utf-8", "backslashreplace")


def mask(command: list[str]) -> list[str]:
    """A command line with the values that look like secrets replaced by `***`.

    `--password=x`, `--password x`, `TOKEN=x`, `Authorization: Bearer x`, `https://user:x@host`, `?token=x`, and the
    same within a script or a document that is one argument.
    """
    masked = []
    hide = False
    for argument in map(plain, command):
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
    """One argument without its secrets, and whether the next one is the value of this option."""
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
