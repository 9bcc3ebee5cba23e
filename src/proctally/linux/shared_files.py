"""Files in shared memory that a tree holds: tmpfs, memfd, shared anonymous areas.

They prove memory that no member maps. Each file counts once, by device and inode, at its allocated size (st_blocks).
Descriptors are in `/proc/PID/fd`; shared anonymous areas are only in `/proc/PID/map_files`, which root alone can follow
(kernel: proc_map_files_get_link).
"""

from __future__ import annotations

import os

from proctally.linux.machine import contents
from proctally.linux.proc import unescape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.linux.machine import Machine

BLOCK_BYTES = 512  # unit of st_blocks
WRITABLE = os.O_WRONLY | os.O_RDWR
UNNAMED = ("/memfd:", "/dev/zero (deleted)")  # targets of files without a place in any directory


class SharedFiles:
    """Files in shared memory that members of one tree have or had open.

    `since`: Unix seconds of the start of the tree. A named file that did not change since then is not claimed: another
    program made it.
    """

    def __init__(self, machine: Machine, since: float) -> None:
        self._proc = machine.proc
        self._since = since
        self._paths: dict[tuple[int, int], tuple[str, str]] = {}
        self._roots, self._devices = tmpfs_mounts(machine)
        self.map_files_denied = False

    def search(self, pids: Iterable[int]) -> None:
        """Search the descriptors and mapped files of these processes."""
        for pid in pids:
            for folder in ("fd", "map_files"):
                try:
                    names = os.listdir(f"{self._proc}/{pid}/{folder}")
                except OSError:
                    continue
                for name in names:
                    self._consider(pid, folder, name)

    def _consider(self, pid: int, folder: str, name: str) -> None:
        path = f"{self._proc}/{pid}/{folder}/{name}"
        try:
            target = os.readlink(path)
            if not target.startswith(UNNAMED) and not target.startswith(self._roots):
                return
            found = os.stat(path)
            if found.st_dev not in self._devices:
                return
            named = folder == "fd" and not target.startswith(UNNAMED)
            if named and (found.st_ctime < self._since or not self._writable(pid, name)):
                return
        except PermissionError:
            self.map_files_denied |= folder == "map_files"
            return
        except (OSError, ValueError, IndexError):
            return
        self._paths.setdefault((found.st_dev, found.st_ino), (target, path))

    def _writable(self, pid: int, name: str) -> bool:
        data = contents(f"{self._proc}/{pid}/fdinfo/{name}", to_end=False)
        return bool(int(data.split(b"flags:", 1)[1].split(None, 1)[0], 8) & WRITABLE)

    def size(self) -> int:
        """Return the bytes that the files found hold now."""
        total = 0
        for key, paths in list(self._paths.items()):
            size = next((size for size in (_size(path, key) for path in paths) if size is not None), None)
            if size is None:
                del self._paths[key]
            else:
                total += size
        return total


def _size(path: str, key: tuple[int, int]) -> int | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_blocks * BLOCK_BYTES if (found.st_dev, found.st_ino) == key else None


def tmpfs_mounts(machine: Machine) -> tuple[tuple[str, ...], set[int]]:
    """Return the mount points (with `/`) and devices of each tmpfs.

    The devices include the kernel's own mount, which has no place.
    """
    roots = []
    devices = set()
    for line in machine.read("self/mountinfo", to_end=True).splitlines():
        head, _, tail = line.partition(b" - ")
        fields = head.split(b" ")
        if tail.startswith(b"tmpfs ") and len(fields) > 4:
            major, _, minor = fields[2].partition(b":")
            devices.add(os.makedev(int(major), int(minor)))
            roots.append(os.fsdecode(unescape(fields[4])).rstrip("/") + "/")
    try:
        fd = os.memfd_create("proctally")  # lives in that mount, as shared anonymous areas do
    except OSError:
        return tuple(roots), devices
    devices.add(os.fstat(fd).st_dev)
    os.close(fd)
    return tuple(roots), devices
