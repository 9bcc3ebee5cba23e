"""Every error that proctally raises for its callers."""

from __future__ import annotations

from errno import EACCES, ESRCH, EWOULDBLOCK, EXDEV


class ProcessGone(ProcessLookupError):
    """The process or the thread no longer exists (ESRCH, ENOENT of `stat`, EINVAL of a CPU clock).

    An OSError: handle it before an OSError that costs more than this one process.
    """


class AccessDenied(PermissionError):
    """The kernel denies this user the access (EACCES, EPERM)."""


class NoDescriptors(OSError):
    """No descriptor is left in this process or on the machine (EMFILE, ENFILE)."""


class AlreadyClosed(ValueError):
    """An object was used after its `close()`, or a run after its end."""


def closed(what: object) -> AlreadyClosed:
    """Return the error for the use of an object after its `close()`."""
    return AlreadyClosed(f"this {type(what).__name__} is closed; make another one")


class NoProcfs(AccessDenied):
    """Nothing of any process can be read here: no procfs at `proc`, or that of another pid namespace.

    `code`: `procfs_missing` or `procfs_foreign`, as in `summary.gaps`.
    """

    def __init__(self, code: str, proc: str = "/proc") -> None:
        super().__init__(EACCES, NO_PROCFS[code].replace("/proc", proc))
        self.code = code
        self._proc = proc

    def __reduce__(self) -> tuple[type[NoProcfs], tuple[str, str]]:  # else it cannot leave a process of a pool
        return type(self), (self.code, self._proc)


class FileServed(OSError):
    """A daemon (FUSE) or another machine answers for this file of /proc or /sys: reading it could wait forever."""

    code = "file_served"

    def __init__(self, path: str) -> None:
        super().__init__(EWOULDBLOCK, "a daemon serves this file", path)

    def __reduce__(self) -> tuple[type[FileServed], tuple[str]]:
        return type(self), (self.filename,)


class SysfsForeign(OSError):
    """The interfaces of /sys are those of another network namespace than this one."""

    code = "sysfs_foreign"

    def __init__(self) -> None:
        super().__init__(EXDEV, "sysfs belongs to another network namespace")

    def __reduce__(self) -> tuple[type[SysfsForeign], tuple[()]]:
        return type(self), ()


# by code: the problem and its remedy
NO_PROCFS = {
    "procfs_missing": "procfs is not mounted at /proc; mount it (mount -t proc proc /proc)",
    "procfs_foreign": ("/proc belongs to another pid namespace; mount procfs inside (mount -t proc proc /proc)"),
}


def no_process(pid: int) -> ProcessGone:
    """Return the error for a pid that no process has."""
    return ProcessGone(ESRCH, f"process {pid} does not exist")


# A reading that failed is missing this once: any errno (ENOMEM where a job is at its limit), and ValueError of a
# parser where the text is not what the kernel writes.
UNREADABLE = (OSError, ValueError)


class ProctallyError(Exception):
    """An error that a command reports in one line: what is wrong and what to do.

    `exit_status`: the status that the command returns then. Where a command has one for its own errors (`run`), that
    counts.
    """

    exit_status = 1


class UsageError(ProctallyError):
    """A request that cannot be met; the message is one line: what is wrong and what to do."""

    exit_status = 2


class NoRecord(ProctallyError):
    """There is no such record, or the file is not one; the message is one line."""


class NoProcess(ProctallyError):
    """There is no such process, or this user can read nothing of it; the message is one line."""


class CannotShow(ProctallyError):
    """There is nothing to show, or no way to show it; the message is one line."""


class NotMarked(ProctallyError):
    """A phase mark did not reach a tracker; the message is one line. A mark never fails a job."""

    exit_status = 0


class CannotStart(ProctallyError):
    """Tracking cannot start: a command cannot be executed (126 or 127, as shells have it), or an output not be opened.

    `reason`: the text of the kernel.
    """

    def __init__(self, exit_status: int, reason: str) -> None:
        super().__init__(reason)
        self.exit_status = exit_status
        self.reason = reason


class TrackingWarning(RuntimeWarning):
    """Tracking failed in part; the program that is tracked continues as if nothing had happened."""


class HelpAsked(Exception):
    """The options contain `--help`."""


def require(package: str, extra: str, what: str, otherwise: str = "") -> str | None:
    """Check that an optional package is installed; return the path of its code, None where it has none.

    `what`: needs it. `otherwise`: what does not. Raises UsageError.
    """
    from importlib.util import find_spec

    try:
        found = find_spec(package)
    except ModuleNotFoundError:  # the package around it
        found = None
    if found is None:
        raise UsageError(f"{what} needs the package {package}: {install(extra)}{otherwise and f' ({otherwise})'}")
    return found.origin


def install(extra: str) -> str:
    """Return the command that installs an extra of proctally."""
    return f"pip install 'proctally[{extra}]'"
