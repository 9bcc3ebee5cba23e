"""The memory that a call takes at its peak."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

MIB = 1 << 20


def peak_mib(call: Callable[[], object]) -> float:
    """Return MiB of Python's objects."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()
