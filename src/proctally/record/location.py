"""Location of the record of a run, and the only place that opens files for writing.

There are three kinds: a record, which grows line by line; a whole file, which replaces another one at once; an existing
device, pipe or descriptor, which is used as it is.
"""

from __future__ import annotations

import os
import stat
from errno import EAGAIN, EBADF, EEXIST, EISDIR

from proctally.errors import NoRecord
from proctally.record.writer import RecordWriter
from proctally.text.escape import safe_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC


def runs_directory(environment: dict[str, str]) -> str | None:
    """Return the default directory: of PROCTALLY_HOME, else XDG_STATE_HOME, else ~/.local/state.

    None where there is no home directory.
    """
    base = _base(environment)
    return None if base is None else os.path.join(*base)


def _base(environment: dict[str, str]) -> tuple[str, str] | None:
    """Return the directory that the user has, and what is made in it."""
    home = environment.get("PROCTALLY_HOME")
    if home:
        return home, "runs"
    state = environment.get("XDG_STATE_HOME")
    if state and state.startswith("/"):
        return state, "proctally/runs"
    home = environment.get("HOME") or _home_by_passwd()
    return (home, ".local/state/proctally/runs") if home and home.startswith("/") else None


def _home_by_passwd() -> str | None:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError):
        return None


def other_owner(environment: dict[str, str]) -> tuple[int, int] | None:
    """Return the user and the group that the default directory belongs to, where this is root and they are others."""
    base = _base(environment)
    if base is None or os.geteuid() != 0:
        return None
    place = os.path.abspath(base[0])
    while True:
        try:
            there = os.stat(place)
        except OSError:
            if place == "/":
                return None
            place = os.path.dirname(place)
        else:
            return (there.st_uid, there.st_gid) if there.st_uid != 0 else None


def open_default(environment: dict[str, str], started_at: float, name: str, run_id: str) -> RecordWriter:
    """Make a new record in the default directory. Raises OSError."""
    directory = runs_directory(environment)
    if directory is None:
        why = "HOME is a relative path" if environment.get("HOME") else "there is no home directory"
        raise OSError(0, f"{why}; set PROCTALLY_HOME")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, f"{utc(started_at)}-{safe_name(name)}-{run_id[:8]}.jsonl")
    return RecordWriter(_held(os.open(path, NEW, 0o600)), path, made=path, is_file=True)


def utc(at: float) -> str:
    """Return the time stamp at the start of the file name of a record."""
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
    """Open the file of `--output`, to which lines are added; an existing regular file is refused without `force`.

    A device, a pipe or a descriptor of this process (`/dev/stdout`, `>(gzip)`) is opened without waiting for it. Raises
    OSError.
    """
    try:
        return RecordWriter(_held(os.open(path, NEW, 0o600)), path, made=path, is_file=True)
    except FileExistsError:
        pass
    there = _open_existing(path, force)
    if there is not None:
        return there
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return RecordWriter(_held(fd), path, is_file=True, replaces=True)
    except OSError:
        os.close(fd)
        raise


class WholeFile:
    """A file that appears as a whole, or replaces another one: a temporary file in its directory is renamed at the end.

    A link is replaced and not followed. A device, a pipe or a descriptor is opened at once; `-` is stdout. `mode`: of a
    new file. `is_replaced`: a temporary file takes its place. Raises OSError if it cannot be written, NoRecord if it is
    one of `sources`, the files to read.
    """

    def __init__(self, path: str, sources: Iterable[str] = (), *, force: bool = False, mode: int = 0o600) -> None:
        self.path = path
        self._mode = mode
        self._is_old = False
        self._new = os.path.join(os.path.dirname(path), f".proctally-{os.urandom(4).hex()}.new")
        self._opened = standard_output() if path == "-" else self._existing(force)
        there = _identity("/proc/self/fd/1" if path == "-" else path)
        if there is not None and any(there == _identity(source) for source in sources):
            raise NoRecord(f"--output {path}: is the record itself")
        self.is_replaced = self._opened is None
        if self.is_replaced:
            self._beside().discard()

    def _existing(self, force: bool) -> RecordWriter | None:
        try:
            before = os.lstat(self.path)
            opened = _open_existing(self.path, force)
        except FileNotFoundError:
            if not self.path or (not force and os.path.islink(self.path)):
                raise
            return None
        if stat.S_ISREG(before.st_mode):
            self._is_old, self._mode = True, stat.S_IMODE(before.st_mode)
        return opened

    def _beside(self) -> RecordWriter:
        try:
            fd = os.open(self._new, NEW, self._mode)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None
        if self._is_old:
            os.fchmod(fd, self._mode)
        return RecordWriter(fd, self.path, made=self._new)

    def open(self) -> RecordWriter:
        """Return what writes it. Raises OSError."""
        return self._beside() if self._opened is None else self._opened

    def discard(self) -> None:
        """Remove what is not whole."""
        try:
            os.unlink(self._new)
        except OSError:
            pass


def _held(fd: int) -> int:
    """Lock a record, so that readers know that it is still written.

    Raises BlockingIOError where another run writes it.
    """
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(EAGAIN, "another run writes it") from None
    except OSError:  # a file system without locks: readers go by the time of the last line
        pass
    return fd


def _open_existing(path: str, force: bool) -> RecordWriter | None:
    """Open what exists there as it is, None for a regular file.

    Raises OSError, also where it is a directory, a descriptor that is not open for writing, or must not be replaced.
    """
    mode = _writable_mode(path, force)
    own = _own_descriptor(path)
    if own is not None:
        _check_writable(own, path)
        return RecordWriter(_again(own, mode), path)
    if stat.S_ISREG(mode):
        return None
    return RecordWriter(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY), path)


def _writable_mode(path: str, force: bool) -> int:
    """Return the mode of what exists there. Raises OSError where it is a directory, or must not be replaced."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
    if stat.S_ISREG(mode) and not force and _own_descriptor(path) is None:
        raise FileExistsError(EEXIST, os.strerror(EEXIST), path)
    return mode


def output_problem(error: OSError | ValueError, *, force: str = "--force") -> str:
    """Return the problem of the output file. `force`: what replaces an existing one, as the caller writes it."""
    remedy = f"; use {force} to replace it" if isinstance(error, FileExistsError) else ""
    return f"{getattr(error, 'strerror', None) or error}{remedy}"


def replace_file(path: str, data: bytes) -> None:
    """Replace a file at once by one of mode 0644: a reader finds the old one or the new one. Raises OSError."""
    with WholeFile(path, force=True).open() as record:
        os.fchmod(record.fd, 0o644)  # for other users, with any umask
        record.write_bytes(data)


def same_file(first: str, second: str) -> bool:
    """Return whether two outputs are one file; a character device, such as /dev/null, can be several."""
    there = _identity(first)
    return there is not None and there == _identity(second)


def _identity(path: str) -> tuple[int, int, str] | None:
    """Return the identity of a file; for a file that does not exist, that of its directory, and its name."""
    for place, name in ((path, ""), (os.path.dirname(path) or ".", os.path.basename(path))):
        try:
            there = os.stat(place)
        except OSError:
            continue
        return None if stat.S_ISCHR(there.st_mode) else (there.st_dev, there.st_ino, name)
    return None


def standard_output() -> RecordWriter:
    """Return a record on the stdout of this process (`-o -`). Raises OSError."""
    _check_writable(1, None)
    return RecordWriter(_again(1, os.fstat(1).st_mode), "-")


def _own_descriptor(path: str) -> int | None:
    """Return the number of the descriptor that a path names: `/dev/stdout`, `/dev/fd/5`."""
    path = {"/dev/stdin": "/dev/fd/0", "/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}.get(path, path)
    folder, _, name = path.rpartition("/")
    return int(name) if folder in ("/dev/fd", "/proc/self/fd") and name.isdecimal() else None


def _check_writable(fd: int, path: str | None) -> None:
    """Raise OSError where a descriptor is open for reading only."""
    import fcntl

    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(EBADF, os.strerror(EBADF), path)


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
