"""The samplers that `track` started."""

from __future__ import annotations

from pathlib import Path

from tracked import runs


def samplers(target: int) -> list[int]:
    """The processes that sample this target."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if any(b"proctally.tracking.sidecar" in word for word in words) and str(target).encode() in words:
                found.append(int(entry.name))
    return [pid for pid in found if runs(pid)]
