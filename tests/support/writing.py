"""A file that is held as the tracker that writes it holds it."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


def held(path: Path) -> IO[bytes]:
    """Open it as its writer: as long as that is open it is still written."""
    file = path.open("ab", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file
