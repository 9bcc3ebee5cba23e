"""Open descriptors of this process: `/proc/self/fd`."""

from __future__ import annotations

import os


def close_above(fd: int) -> None:
    """Close every descriptor of this process above this one; by listing, since a limit can be 2**30."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > fd:
            try:
                os.close(int(name))
            except OSError:  # the descriptor of the listing itself
                pass
