"""A captured machine: one text file that a reviewer can read and diff, unpacked into a folder as `/proc` and `/sys`.

A line `-- proc/stat --` begins a file, `-- sys/class/net/eth0/master -> ../bond0 --` is a link, and one that ends in a
slash is a directory. What stands before the first of them says what machine it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from places import SUPPORT
from proctally.linux.machine import Machine

HOSTS = SUPPORT / "hosts"


class Clock:
    """The monotonic clock of a machine that does not run: it goes on when it is told."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def unpack(name: str, folder: Path) -> tuple[Machine, Clock]:
    """The machine in `hosts/NAME.txt`, below `folder`."""
    path: Path | None = None
    lines: list[str] = []

    def finish() -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines))

    for line in (HOSTS / f"{name}.txt").read_text().splitlines(keepends=True):
        if not (line.startswith("-- ") and line.endswith(" --\n")):
            lines.append(line)
            continue
        finish()
        path, lines = None, []
        inner, arrow, target = line[3:-4].partition(" -> ")
        if arrow:
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(target, folder / inner)
        elif inner.endswith("/"):
            (folder / inner).mkdir(parents=True, exist_ok=True)
        else:
            path = folder / inner
    finish()
    return machine_in(folder)


def machine_in(folder: Path) -> tuple[Machine, Clock]:
    """The machine whose files lie below `folder`; what is missing of the two roots is made."""
    for root in ("proc/self", "sys"):
        (folder / root).mkdir(parents=True, exist_ok=True)
    clock = Clock()
    machine = Machine(str(folder / "proc"), sys=str(folder / "sys"), ticks=100, monotonic_ns=lambda: clock.now_ns)
    return machine, clock


def put(folder: Path, path: str, content: str | bytes = "") -> None:
    """Write a file below `folder`, over what stands there, so that kept descriptors read the new text."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
