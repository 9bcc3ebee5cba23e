"""Which files processes have open: `/proc/PID/fd`."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def open_for_writing(paths: Collection[str]) -> set[str]:
    """Return those of these real paths that a process has open for writing, as far as this user can see."""
    found = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            descriptors = [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
        except OSError:  # it exited, or belongs to another user
            continue
        for descriptor in descriptors:
            try:
                path = os.readlink(descriptor)
                if path in paths and os.lstat(descriptor).st_mode & stat.S_IWUSR:
                    found.add(path)
            except OSError:  # it was closed
                continue
    return found


def close_above(fd: int) -> None:
    """Close every descriptor of this process above this one; by listing, since a limit can be 2**30."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > fd:
            try:
                os.close(int(name))
            except OSError:  # the descriptor of the listing itself
                pass
