"""Files of made-up disks and mounts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from captured import put
from proctally.linux.disks import DiskReader
from proctally.linux.machine import Machine


class Statvfs:
    """statvfs(2) of a machine that is not here: every file system has a size of its own. It knows who was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self.empty: set[str] = set()

    def __call__(self, path: str) -> os.statvfs_result:
        self.asked.append(path)
        if path in self.refused:
            raise PermissionError(13, "Permission denied")
        blocks = 0 if path in self.empty else 1000 + len(path)
        return os.statvfs_result((4096, 1024, blocks, 500, 400, 10, 5, 5, 0, 255))


def reader_of(machine: Machine, statvfs: Callable[[str], os.statvfs_result] | None = None) -> DiskReader:
    return DiskReader(machine, statvfs=statvfs or Statvfs(), zpool=None)


def line(name: str, *, number: str = "8 0", read: int = 0, written: int = 0, busy_ms: int = 0) -> str:
    return f" {number} {name} 1 0 {read} 0 2 0 {written} 0 0 {busy_ms} 0 0 0 0 0\n"


def device(folder: Path, name: str, size: int = 1000, **attributes: str) -> None:
    put(folder, f"sys/class/block/{name}/size", f"{size}\n")
    for attribute, value in attributes.items():
        put(folder, f"sys/class/block/{name}/{attribute.replace('__', '/')}", f"{value}\n")
