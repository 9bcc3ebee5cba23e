"""Limits of open files (RLIMIT_NOFILE): how many descriptors a tracker keeps, and how many stay free; other limits.

A program that is tracked by `track()` may have a `resource.py`: what it needs of this module does not import one.
"""

from __future__ import annotations

import os

SPARE = 8  # descriptors that must stay free for reading /proc
RESERVED = 64  # descriptors for everything that is not a file of a member
MAX_KEPT = 65536


def get_limits() -> tuple[int, int]:
    """Return the soft and the hard limit."""
    from resource import RLIMIT_NOFILE, getrlimit

    return getrlimit(RLIMIT_NOFILE)


def address_space() -> int | None:
    """Return the soft limit of the address space of each process in bytes; None without one."""
    from resource import RLIMIT_AS, getrlimit

    soft = getrlimit(RLIMIT_AS)[0]
    return None if soft < 0 else soft  # RLIM_INFINITY is -1


def set_limits(limits: tuple[int, int]) -> None:
    """Set the soft and the hard limit. Raises OSError or ValueError."""
    from resource import RLIMIT_NOFILE, setrlimit

    setrlimit(RLIMIT_NOFILE, limits)


def no_file(existing: str) -> tuple[str, int]:
    """Return path and flags of open(2) for a standard stream without a file: /dev/null if there is one.

    Otherwise it is `existing`, opened so that it cannot be read or written.
    """
    return (os.devnull, os.O_RDWR) if os.path.exists(os.devnull) else (existing, os.O_PATH)


def raise_limit() -> int:
    """Raise the soft limit to the hard one; return how many descriptors can be kept for members."""
    soft, hard = get_limits()
    if soft != hard:
        try:
            set_limits((hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass
    return max(0, min(MAX_KEPT if soft < 0 else soft, MAX_KEPT) - RESERVED)  # RLIM_INFINITY is -1


def share(divisor: int, most: int) -> int:
    """Return one part in `divisor` of the soft limit, at most `most`; the limit belongs to another program."""
    soft = os.sysconf("SC_OPEN_MAX")
    return most if soft < 0 else max(0, min(most, soft // divisor))


def leave_spare() -> None:
    """Raise OSError (EMFILE) when too few descriptors are free for reading /proc."""
    spare: list[int] = []
    try:
        while len(spare) < SPARE:
            spare.append(os.dup(2))
    finally:
        for fd in spare:
            os.close(fd)


def own_maxrss() -> int:
    """Return the high-water mark of this process in bytes; it can be that of the program before its exec."""
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss * 1024
