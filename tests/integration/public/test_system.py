"""System values against psutil."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import bighost
from captured import machine_in, put
from proctally import system
from proctally.linux.machine import Machine
from truth import agree

# What the procfs module tells of a machine, and where it is here.
PLACES = {
    "timestamp": "at",
    "processes": "processes",
    "utime": "cpu_user_seconds",
    "stime": "cpu_system_seconds",
    "memory_free": "memory_free_bytes",
    "memory_used": "memory_used_bytes",
    "memory_buffers": "memory_buffers_bytes",
    "memory_cached": "memory_cached_bytes",
    "memory_active": "memory_active_bytes",
    "memory_inactive": "memory_inactive_bytes",
    "disk_stats": "disks",
    "disk_spaces": "disk_spaces",
    "net_recv_bytes": "network_received_bytes",
    "net_sent_bytes": "network_sent_bytes",
}
MOVES = 16 << 20  # memory that others may take or give back between two readings


def root_statvfs(_: str) -> os.statvfs_result:
    return os.statvfs("/")


def test_every_field_of_the_procfs_module_has_its_place() -> None:
    found = system.stats()
    for place in PLACES.values():
        assert getattr(found, place) is not None, place


def test_counters_are_those_of_psutil() -> None:
    before, found, after = psutil.cpu_times(), system.stats(), psutil.cpu_times()
    assert found.cpu_user_seconds is not None and found.cpu_system_seconds is not None
    some = 0.001  # sums of floats
    assert before.user + before.nice - some <= found.cpu_user_seconds <= after.user + after.nice + some
    assert before.system <= found.cpu_system_seconds <= after.system
    assert before.steal <= (found.cpu_steal_seconds or 0) <= after.steal
    assert found.cpus == psutil.cpu_count()
    assert found.context_switches == pytest.approx(psutil.cpu_stats().ctx_switches, rel=0.01, abs=10_000)
    assert found.at == pytest.approx(time.time(), abs=5)
    assert (found.load_1, found.load_5, found.load_15) == pytest.approx(os.getloadavg(), abs=0.5)


def test_memory_and_processes_are_those_of_psutil() -> None:
    names = ("total", "free", "available", "buffers", "cached", "active", "inactive", "used")

    def ours() -> dict[str, float | None]:
        found = system.stats()
        levels = {name: getattr(found, f"memory_{name}_bytes") for name in names}
        levels |= {"swap_total": found.swap_total_bytes, "swap_used": found.swap_used_bytes}
        return levels

    def theirs() -> dict[str, float]:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        levels = {name: getattr(memory, name) for name in names}
        levels["cached"] = memory.cached - memory.shared  # shared memory cannot be dropped
        levels["used"] = memory.total - memory.free - memory.buffers - levels["cached"]
        levels |= {"swap_total": swap.total, "swap_used": swap.used}
        return levels

    agree(ours, theirs, MOVES)
    agree(lambda: {"processes": system.stats().processes}, lambda: {"processes": len(psutil.pids())}, 2)
    assert system.stats().memory_total_bytes == psutil.virtual_memory().total


def test_disks_and_interfaces_are_those_of_psutil() -> None:
    before, found, after = psutil.disk_io_counters(perdisk=True), system.stats(), psutil.disk_io_counters(perdisk=True)
    assert found.disks is not None and found.interfaces is not None
    for name, disk in found.disks.items():
        assert before[name].read_bytes <= disk.read_bytes <= after[name].read_bytes
        assert before[name].write_bytes <= disk.write_bytes <= after[name].write_bytes
        assert before[name].read_count <= disk.reads <= after[name].read_count
    first = psutil.net_io_counters(pernic=True)
    found = system.stats()
    last = psutil.net_io_counters(pernic=True)
    assert found.interfaces is not None and found.interfaces.keys() == first.keys() - {"lo"}
    for name, interface in found.interfaces.items():
        assert first[name].bytes_recv <= interface.received_bytes <= last[name].bytes_recv
        assert first[name].bytes_sent <= interface.sent_bytes <= last[name].bytes_sent
        assert first[name].packets_sent <= interface.sent_packets <= last[name].packets_sent
    summed = [each for each in found.interfaces.values() if each.is_summed]
    assert found.network_received_bytes == sum(each.received_bytes for each in summed)
    assert found.network_sent_bytes == sum(each.sent_bytes for each in summed)


def test_what_is_done_between_two_readings_shows_in_the_second(tmp_path: Path) -> None:
    with system.Monitor() as reader:
        before = reader.stats()
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        with open(tmp_path / "file", "wb") as file:
            file.write(os.urandom(4 << 20))
            os.fsync(file.fileno())
        after = reader.stats()
    used = [(each.cpu_user_seconds or 0) + (each.cpu_system_seconds or 0) for each in (before, after)]
    assert used[1] - used[0] >= 0.2
    assert before.disks is not None and after.disks is not None
    written = sum(disk.write_bytes for disk in after.disks.values()) - sum(d.write_bytes for d in before.disks.values())
    if os.stat(tmp_path).st_dev >> 8 == 0 or written == 0:
        pytest.skip("the folder for temporary files lies on no disk that is counted")
    assert written >= 4 << 20


def test_a_sector_of_diskstats_has_512_bytes_on_a_disk_with_larger_ones(tmp_path: Path) -> None:
    bighost.build(tmp_path, cores=2, disks=2, interfaces=2)
    machine, _ = machine_in(tmp_path)
    sectors = {}
    for line in (tmp_path / "proc/diskstats").read_text().splitlines():
        words = line.split()
        sectors[words[2]] = (int(words[5]), int(words[9]))
    assert system.sector_sizes(machine=machine) == {"nvme0n1": 4096, "nvme1n1": 4096}
    with system.Monitor(machine=machine, statvfs=root_statvfs) as reader:
        found = reader.stats()
    assert found.disks is not None and found.disks.keys() == {"nvme0n1", "nvme1n1"}
    for name, disk in found.disks.items():
        assert (disk.read_bytes, disk.write_bytes) == tuple(512 * count for count in sectors[name])
        assert disk.read_bytes > 0


def test_sector_sizes_are_those_of_sysfs(tmp_path: Path) -> None:
    found = system.sector_sizes()
    assert found.keys() == {name.replace("!", "/") for name in os.listdir("/sys/block")}
    for name, size in found.items():
        attribute = Path(f"/sys/block/{name.replace('/', '!')}/queue/hw_sector_size")
        assert size == (int(attribute.read_text()) if attribute.exists() else None)
    put(tmp_path, "sys/class/block/cciss!c0d0/queue/hw_sector_size", "512\n")
    put(tmp_path, "sys/class/block/cciss!c0d0p1/partition", "1\n")
    (tmp_path / "sys/class/block/odd").mkdir()
    assert system.sector_sizes(machine=machine_in(tmp_path)[0]) == {"cciss/c0d0": 512, "odd": None}


def test_spaces_are_those_of_df() -> None:
    found = system.disk_spaces()
    assert found == system.stats().disk_spaces or found.keys() == (system.stats().disk_spaces or {}).keys()
    for point, space in found.items():
        said = subprocess.run(
            ["df", "-B1", "--output=size,avail,fstype", point], capture_output=True, text=True, check=True
        ).stdout.splitlines()[1]
        size, free, kind = said.split()
        assert space.total_bytes == int(size) and space.filesystem == kind
        assert space.free_bytes == pytest.approx(int(free), abs=64 << 20)
        assert space.used_bytes == (space.total_bytes or 0) - (space.free_bytes or 0)


def zfs_machine(folder: Path, zpool: str) -> tuple[Machine, str]:
    """A machine with ZFS, and what stands for its `zpool`."""
    (folder / "proc/spl/kstat/zfs").mkdir(parents=True)
    put(
        folder,
        "proc/self/mountinfo",
        "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "31 30 0:44 / /tank rw - zfs tank rw\n"
        "32 30 0:45 / /tank/a rw - zfs tank/a rw\n",
    )
    command = folder / "zpool"
    command.write_text(f"#!/bin/sh\n{zpool}\n")
    command.chmod(0o755)
    return Machine(str(folder / "proc"), sys=str(folder / "sys")), str(command)


def test_zfs_pools_are_waited_for(tmp_path: Path) -> None:
    machine, zpool = zfs_machine(tmp_path, r"sleep 0.2; printf 'tank\t1000\t300\nodd name\t50\t50\n'")
    expected = {
        "tank": system.DiskSpace(1000, 700, 300, "zfs"),
        "odd name": system.DiskSpace(50, 0, 50, "zfs"),
    }
    others = psutil.Process().children()
    found = system.disk_spaces(machine=machine, statvfs=root_statvfs, zpool=zpool)
    root = os.statvfs("/")
    assert found.pop("/").total_bytes == root.f_blocks * root.f_frsize
    assert found == expected
    with system.Monitor(machine=machine, statvfs=root_statvfs, zpool=zpool) as reader:
        for _ in range(2):
            spaces = reader.stats().disk_spaces
            assert spaces is not None and {name: spaces[name] for name in expected} == expected
    assert "zpool" not in [child.name() for child in psutil.Process().children() if child not in others]


def test_a_pool_that_hangs_keeps_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.POOLS_PATIENCE == 6
    monkeypatch.setattr(system, "POOLS_PATIENCE", 0.2)
    machine, zpool = zfs_machine(tmp_path, "exec sleep 100")
    others = psutil.Process().children()
    begun = time.monotonic()
    assert system.disk_spaces(machine=machine, statvfs=root_statvfs, zpool=zpool).keys() == {"/"}
    with system.Monitor(machine=machine, statvfs=root_statvfs, zpool=zpool) as reader:
        for _ in range(2):  # the second time nobody waits
            assert (reader.stats().disk_spaces or {}).keys() == {"/"}
    assert 0.4 <= time.monotonic() - begun < 3
    assert psutil.Process().children() == others, "what was asked is killed and reaped"


def test_nothing_is_left_open() -> None:
    system.stats()
    before = os.listdir("/proc/self/fd")
    with system.Monitor() as reader:
        reader.stats()
        assert len(os.listdir("/proc/self/fd")) > len(before)
    system.stats()
    system.disk_spaces()
    assert os.listdir("/proc/self/fd") == before
