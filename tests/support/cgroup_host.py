"""A folder that looks like a host with cgroups."""

from __future__ import annotations

import os
from pathlib import Path

from proctally.linux import cgroup
from proctally.linux.cgroup import Place
from proctally.linux.machine import Machine

NO_PID = 1 << 22  # PID_MAX_LIMIT: never given out


class Host:
    """A folder with a `proc` and cgroup mounts, which its mountinfo names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = Machine(str(folder / "proc"))
        self.write("proc/self/mountinfo", "")

    def write(self, name: str, content: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def mount(self, point: str, options: str | None = None, root: str = "/") -> None:
        """A mount of v2, or of v1 with these options."""
        (self.folder / point).mkdir(parents=True, exist_ok=True)
        kind = "cgroup2 cgroup2 rw" if options is None else f"cgroup cgroup rw,{options}"
        where = str(self.folder / point).replace("\\", "\\134").replace(" ", "\\040")
        with open(self.folder / "proc/self/mountinfo", "a") as file:
            file.write(f"30 22 0:27 {root} {where} rw shared:4 - {kind}\n")

    def process(self, pid: int, *lines: str, start: int = 1000) -> dict[str, Place]:
        self.write(f"proc/{pid}/cgroup", "".join(line + "\n" for line in lines))
        self.write(f"proc/{pid}/stat", f"{pid} (x) S 1 " + "0 " * 17 + f"{start} 0 0 0\n")
        return self.places(pid)

    def places(self, pid: int) -> dict[str, Place]:
        return cgroup.places(self.machine, pid)

    def shown(self, found: dict[str, Place]) -> dict[str, tuple[str, str]]:
        return {name: (os.path.relpath(place.directory, self.folder), place.path) for name, place in found.items()}
