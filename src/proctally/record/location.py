"""Where the record of a run is: the default directory, the file of `--output`, a descriptor."""

from __future__ import annotations

import os
import stat
from errno import EEXIST, EISDIR

from proctally.errors import NoRecord
from proctally.record.writer import RecordWriter
from proctally.text.escape import safe_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def runs_directory(environment: dict[str, str]) -> str | None:
    """Return the default directory: of PROCTALLY_HOME, else XDG_STATE_HOME, else ~/.local/state.

    None where there is no home directory.
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


def open_default(environment: dict[str, str], started_at: float, name: str, run_id: str) -> RecordWriter:
    """Make a new record in the default directory. Raises OSError."""
    directory = runs_directory(environment)
    if directory is None:
        raise OSError(0, "there is no home directory; set PROCTALLY_HOME")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, f"{_utc(started_at)}-{safe_name(name)}-{run_id[:8]}.jsonl")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
    return RecordWriter(os.open(path, flags, 0o600), path)


def _utc(at: float) -> str:
    import time

    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))


def expand(path: str, values: dict[str, str], environment: dict[str, str]) -> str:
    """Fill in `{run_id} {name} {host} {pid} {env:VAR}`. Raises ValueError for any other name."""
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


def open_output(path: str, *, force: bool = False) -> RecordWriter:
    """Open the file of `--output`; an existing regular file is refused without `force`.

    A device, a pipe or a descriptor of this process (`/dev/stdout`, `>(gzip)`) is opened without waiting for it. Raises
    OSError.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    try:
        return RecordWriter(os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), path, made=True)
    except FileExistsError:
        pass
    mode = _writable_mode(path, force)
    own = _own_descriptor(path)
    if own is not None:
        return RecordWriter(_again(own, mode), path)
    if not stat.S_ISREG(mode):
        return RecordWriter(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY), path)
    return RecordWriter(os.open(path, flags | os.O_TRUNC | os.O_NOFOLLOW), path)


def _writable_mode(path: str, force: bool) -> int:
    """Return the mode of what exists there. Raises OSError where it is a directory, or must not be replaced."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
    if stat.S_ISREG(mode) and not force and _own_descriptor(path) is None:
        raise FileExistsError(EEXIST, os.strerror(EEXIST), path)
    return mode


def check_output(path: str, sources: Iterable[str], *, force: bool) -> None:
    """Raise what `open_output` would, before long records are read; `-` is stdout.

    Raises OSError, and NoRecord where it is one of `sources`: that would grow, or be emptied, while it is read.
    """
    try:
        there = os.fstat(1) if path == "-" else os.stat(path)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise
        return
    if stat.S_ISREG(there.st_mode) and any(os.path.samestat(there, os.stat(source)) for source in sources):
        raise NoRecord(f"--output {path}: is the record itself")
    if path != "-":
        _writable_mode(path, force)


def output_problem(error: OSError | ValueError, *, force: str = "--force") -> str:
    """Return the problem of the output file. `force`: what replaces an existing one, as the caller writes it."""
    remedy = f"; use {force} to replace it" if isinstance(error, FileExistsError) else ""
    return f"{getattr(error, 'strerror', None) or error}{remedy}"


def write_file(path: str, data: bytes) -> None:
    """Write a file, device or pipe in place. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666), "wb") as file:
        file.write(data)


def replace_file(path: str, data: bytes) -> None:
    """Replace a file at once by one of mode 0644: a reader finds the old one or the new one. Raises OSError."""
    new = f"{path}.{os.getpid()}.new"  # does not end as the files that a collector looks for
    try:
        os.unlink(new)
    except FileNotFoundError:
        pass
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o644)  # for other users, whatever the umask
            file.write(data)
        os.replace(new, path)
    except OSError:
        try:
            os.unlink(new)
        except OSError:
            pass
        raise


def standard_output() -> RecordWriter:
    """Return a record on the stdout of this process (`-o -`)."""
    return RecordWriter(_again(1, os.fstat(1).st_mode), "-")


def _own_descriptor(path: str) -> int | None:
    """Return the number of the descriptor that a path names: `/dev/stdout`, `/dev/fd/5`."""
    path = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}.get(path, path)
    folder, _, name = path.rpartition("/")
    return int(name) if folder in ("/dev/fd", "/proc/self/fd") and name.isdecimal() else None


def _again(fd: int, mode: int) -> int:
    """Return another descriptor of the same file.

    A pipe or a terminal is opened again: it is non-blocking for proctally and stays as it is for the job. A file keeps
    its common position by dup(2), and a socket cannot be opened by a path.
    """
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            pass
    return os.dup(fd)
