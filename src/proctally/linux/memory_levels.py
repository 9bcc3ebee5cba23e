"""Anonymous and shared memory of a cgroup, of the machine, and of System V segments.

Sources: `memory.stat` of a v1 or v2 memory cgroup (mm/memcontrol-v1.c, mm/memcontrol.c), `/proc/meminfo`
(fs/proc/meminfo.c) and `/proc/sysvipc/shm` (ipc/shm.c). Every size is in bytes.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.cgroup import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.machine import Machine

# keys of anonymous memory, shared memory, and the part of the former that is in huge pages
V1_KEYS = (b"\ntotal_rss ", b"\ntotal_shmem ", b"\ntotal_rss_huge ")
V2_KEYS = (b"\nanon ", b"\nshmem ", b"\nanon_thp ")
MEMINFO_KEYS = (b"\nAnonPages:", b"\nShmem:", b"\nAnonHugePages:")


class MemoryLevels:
    """Memory of all processes of a cgroup or machine; `anon_huge` is in `anon`."""

    __slots__ = ("anon", "anon_huge", "shmem")

    def __init__(self, anon: int, shmem: int, anon_huge: int = 0) -> None:
        self.anon = anon
        self.shmem = shmem
        self.anon_huge = anon_huge


def parse_memory_stat(data: bytes) -> MemoryLevels | None:
    """Return the levels of `memory.stat`; None where a key is missing.

    The totals of v1 and the values of v2 include all cgroups below it.
    """
    data = b"\n" + data
    return _levels(data, V1_KEYS if V1_KEYS[0] in data else V2_KEYS, 1)


def parse_meminfo_levels(data: bytes) -> MemoryLevels | None:
    """Return the levels of `/proc/meminfo`; None where a key is missing."""
    return _levels(b"\n" + data, MEMINFO_KEYS, 1024)


def _levels(data: bytes, keys: tuple[bytes, bytes, bytes], unit: int) -> MemoryLevels | None:
    anon, shmem, huge = (_first_number(data, key) for key in keys)
    if anon is None or shmem is None:
        return None
    return MemoryLevels(anon * unit, shmem * unit, (huge or 0) * unit)


def _first_number(data: bytes, key: bytes) -> int | None:
    at = data.find(key)
    if at < 0:
        return None
    at += len(key)
    try:
        return int(data[at : at + 64].split(None, 1)[0])
    except (ValueError, IndexError):
        raise ValueError(f"{key.strip().decode()} {data[at : at + 64]!r}") from None


def parse_sysvipc_shm(data: bytes) -> list[tuple[int, int, int]]:
    """Return (id, pid of the creator, resident bytes) of each System V segment.

    The file is `/proc/sysvipc/shm`. It has resident bytes since 2.6.36; without them the list is empty.
    """
    lines = data.splitlines()
    header = lines[0].split() if lines else []
    try:
        columns = [header.index(name) for name in (b"shmid", b"cpid", b"rss")]
    except ValueError:
        return []
    segments = []
    for line in lines[1:]:
        words = line.split()
        try:
            number, creator, resident = (int(words[column]) for column in columns)
        except (ValueError, IndexError):
            raise ValueError(f"sysvipc/shm: {line[:200]!r}") from None
        segments.append((number, creator, resident))
    return segments


def read_cgroup_levels(directory: str) -> MemoryLevels | None:
    """Read the levels of a memory cgroup; None where it has no such file."""
    data = read_file(directory, "memory.stat")
    return None if data is None else parse_memory_stat(data)


def read_machine_levels(machine: Machine) -> MemoryLevels | None:
    """Read the levels of the whole machine; None where `meminfo` cannot be read."""
    try:
        return parse_meminfo_levels(machine.read("meminfo"))
    except UNREADABLE:
        return None


def read_sysvipc_shm(machine: Machine) -> list[tuple[int, int, int]]:
    """Read the System V segments; empty where the file cannot be read."""
    try:
        return parse_sysvipc_shm(machine.read("sysvipc/shm", to_end=True))
    except UNREADABLE:
        return []
