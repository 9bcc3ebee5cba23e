"""Parsers of memory levels against literals; readers against made-up files."""

from __future__ import annotations

from pathlib import Path

import pytest

from proctally.linux.machine import Machine
from proctally.linux.memory_levels import (
    MemoryLevels,
    parse_meminfo_levels,
    parse_memory_stat,
    parse_sysvipc_shm,
    read_cgroup_levels,
    read_machine_levels,
    read_sysvipc_shm,
)

V1 = b"""cache 1000
rss 2000
rss_huge 0
shmem 50
hierarchical_memory_limit 9223372036854771712
total_cache 70000
total_rss 511758336
total_rss_huge 4194304
total_shmem 17461248
total_mapped_file 4096
"""
V2 = b"""anon 1048576
file 4096
kernel 65536
shmem 8192
file_mapped 0
anon_thp 2097152
shmem_thp 0
"""
MEMINFO = b"""MemTotal:       24684092 kB
AnonPages:        499644 kB
Mapped:           174612 kB
Shmem:             17172 kB
AnonHugePages:     38912 kB
ShmemHugePages:        0 kB
"""
SHM = b"""       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      \
dtime      ctime                   rss                  swap
         0          3  1600              67108864  4711  4712      2     0     0     0     0 1796008000          0 \
1796008000              67108864                     0
       -17          4   600                  4096   813   813      0  1000  1000  1000  1000          0          0 \
1796008001                     0                     0
"""


def sizes(levels: MemoryLevels | None) -> tuple[int, int, int] | None:
    return None if levels is None else (levels.anon, levels.shmem, levels.anon_huge)


def test_parse_memory_stat_v1_counts_cgroups_below() -> None:
    assert sizes(parse_memory_stat(V1)) == (511758336, 17461248, 4194304)


def test_parse_memory_stat_v2() -> None:
    assert sizes(parse_memory_stat(V2)) == (1048576, 8192, 2097152)


def test_parse_memory_stat_no_huge_key_is_zero() -> None:
    assert sizes(parse_memory_stat(V2.replace(b"anon_thp", b"other"))) == (1048576, 8192, 0)


@pytest.mark.parametrize("key", [b"anon ", b"shmem "])
def test_parse_memory_stat_missing_key_is_none(key: bytes) -> None:
    assert parse_memory_stat(V2.replace(key, b"other ")) is None


def test_parse_memory_stat_broken_number_raises() -> None:
    with pytest.raises(ValueError, match="anon"):
        parse_memory_stat(b"anon x\nshmem 1\n")
    with pytest.raises(ValueError, match="anon"):
        parse_memory_stat(b"anon ")


def test_parse_meminfo_levels_returns_bytes() -> None:
    assert sizes(parse_meminfo_levels(MEMINFO)) == (499644 << 10, 17172 << 10, 38912 << 10)


def test_parse_sysvipc_shm_returns_resident_bytes() -> None:
    assert parse_sysvipc_shm(SHM) == [(3, 4711, 67108864), (4, 813, 0)]


def test_parse_sysvipc_shm_without_rss_is_empty() -> None:
    assert parse_sysvipc_shm(b"key shmid perms size cpid\n 0 3 1600 4096 17\n") == []
    assert parse_sysvipc_shm(b"") == []


def test_parse_sysvipc_shm_broken_line_raises() -> None:
    with pytest.raises(ValueError, match="sysvipc"):
        parse_sysvipc_shm(SHM + b" 0 5 600\n")


def test_readers_missing_files_give_none(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path))
    assert read_machine_levels(machine) is None
    assert read_cgroup_levels(str(tmp_path)) is None
    assert read_sysvipc_shm(machine) == []


def test_readers_give_what_files_hold(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_bytes(MEMINFO)
    (tmp_path / "memory.stat").write_bytes(V2)
    (tmp_path / "sysvipc").mkdir()
    (tmp_path / "sysvipc" / "shm").write_bytes(SHM)
    machine = Machine(str(tmp_path))
    assert sizes(read_machine_levels(machine)) == (499644 << 10, 17172 << 10, 38912 << 10)
    assert sizes(read_cgroup_levels(str(tmp_path))) == (1048576, 8192, 2097152)
    assert len(read_sysvipc_shm(machine)) == 2
