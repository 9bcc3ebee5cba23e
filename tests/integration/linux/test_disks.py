"""Disks and file systems: a captured server, made-up changes between two readings, and this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from captured import Clock, machine_in, put, unpack
from proctally.kernel.disks import Device, Disk, DiskReader, DisksReading, derive_disks, parent_of, parse_diskstats
from proctally.kernel.machine import Machine
from proctally.kernel.mounts import MountReader, Space, ZpoolCommand, choose, parse_mounts, parse_zpool_list
from proctally.kernel.system import SystemReader, SystemReading, derive

Entries = dict[str, dict[str, object]]


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


def by_name(before: DisksReading | None, now: DisksReading, seconds: float = 1.0) -> tuple[dict[str, object], Entries]:
    disk, disks = derive_disks(before, now, seconds)
    return disk, {str(entry["name"]): entry for entry in disks}


def line(name: str, *, number: str = "8 0", read: int = 0, written: int = 0, busy_ms: int = 0) -> str:
    return f" {number} {name} 1 0 {read} 0 2 0 {written} 0 0 {busy_ms} 0 0 0 0 0\n"


def device(folder: Path, name: str, size: int = 1000, **attributes: str) -> None:
    put(folder, f"sys/class/block/{name}/size", f"{size}\n")
    for attribute, value in attributes.items():
        put(folder, f"sys/class/block/{name}/{attribute.replace('__', '/')}", f"{value}\n")


# -- a captured server -------------------------------------------------------------------------------------------


def test_server_counts_each_byte_once(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    disk, disks = by_name(None, reader_of(machine).read())
    assert list(disks) == ["loop0", "nvme0n1", "dm-0", "dm-1", "sda", "sdb", "md127", "sdc", "zram0"]
    assert [name for name, entry in disks.items() if entry["summed"]] == ["nvme0n1", "sda", "sdb", "sdc"]
    assert [name for name, entry in disks.items() if entry["stacked"]] == ["loop0", "dm-0", "dm-1", "md127", "zram0"]
    assert disk["read_bytes"] == (80000 + 4000 + 2400 + 80) * 512
    assert disk["write_bytes"] == (160000 + 5600 + 5600 + 160) * 512
    assert disk["reads"] == 1000 + 500 + 300 + 10
    assert disk["writes"] == 2000 + 700 + 700 + 20
    assert disk["read_bytes_per_second"] is None


def test_server_tells_what_its_disks_are(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    _, disks = by_name(None, reader_of(machine).read())
    facts = ("type", "model", "vendor", "serial", "capacity_bytes", "hardware_sector_bytes")
    assert {name: tuple(disks[name][fact] for fact in facts) for name in ("nvme0n1", "sda", "sdc")} == {
        "nvme0n1": ("nvme", "Samsung SSD 980 PRO 500GB", None, "S5GYNX0R123456", 1000215216 * 512, 512),
        "sda": ("hdd", "ST4000NM0033-9ZM", "ATA", "Z1Z2ABCa", 7814037168 * 512, 512),
        "sdc": ("hdd", "HUH721008AL4200", "HGST", None, 15628053168 * 512, 4096),
    }
    assert disks["dm-0"]["type"] == "ssd"
    assert disks["sdc"]["read_bytes"] == 80 * 512  # units of 512 bytes on a disk with sectors of 4096


def test_server_shows_each_file_system_at_its_disk(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    statvfs = Statvfs()
    disk, disks = by_name(None, reader_of(machine, statvfs).read())
    points = {name: [mount["mount_point"] for mount in entry["mounts"]] for name, entry in disks.items()}  # type: ignore[attr-defined]
    assert points == {
        "loop0": ["/snap/core/1"],
        "nvme0n1": ["/boot"],
        "dm-0": [],
        "dm-1": ["/"],
        "sda": [],
        "sdb": [],
        "md127": ["/srv/my files"],
        "sdc": ["/data"],
        "zram0": [],
    }
    assert sorted(statvfs.asked) == ["/", "/boot", "/data", "/snap/core/1", "/srv/my files"]
    sizes = [1024 * (1000 + len(point)) for point in ("/", "/boot", "/srv/my files", "/data")]
    assert disk["space_total_bytes"] == sum(sizes)  # a loop's file system lies inside another one
    assert disk["space_free_bytes"] == 4 * 400 * 1024
    assert disk["space_used_bytes"] == sum(sizes) - 4 * 400 * 1024
    assert disk["other_mounts"] == []
    assert disks["md127"]["mounts"] == [
        {
            "mount_point": "/srv/my files",
            "filesystem": "xfs",
            "total_bytes": 1013 * 1024,
            "free_bytes": 400 * 1024,
            "used_bytes": 613 * 1024,
        }
    ]


def test_a_container_counts_its_overlay_and_knows_partitions_by_name(tmp_path: Path) -> None:
    machine, _ = unpack("container", tmp_path)
    disk, disks = by_name(None, reader_of(machine).read())
    assert list(disks) == ["nvme0n1"]
    assert disks["nvme0n1"]["type"] is disks["nvme0n1"]["capacity_bytes"] is None
    assert disk["read_bytes"] == 80000 * 512
    assert disk["space_total_bytes"] == 1001 * 1024
    assert disk["other_mounts"] == [
        {
            "mount_point": "/",
            "filesystem": "overlay",
            "total_bytes": 1001 * 1024,
            "free_bytes": 400 * 1024,
            "used_bytes": 601 * 1024,
        }
    ]


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("sda1", "sda"), ("sda15", "sda"), ("sdaa1", None), ("nvme0n1p2", "nvme0n1"), ("nvme0n1", None),
        ("mmcblk0p1", "mmcblk0"), ("mmcblk0boot0", None), ("loop10", None), ("md1", None), ("sda", None), ("1", None),
        ("sdap1", None), ("", None),
    ],
)  # fmt: skip
def test_partitions_by_name(name: str, parent: str | None) -> None:
    assert parent_of(name, {"sda", "nvme0n1", "mmcblk0", "loop1", "md127"}) == parent


def test_what_stands_on_another_device_is_stacked_whatever_its_name(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    put(tmp_path, "proc/diskstats", line("vda", read=8) + line("new0", number="250 0", read=8))
    device(tmp_path, "vda", serial="disk-1")
    device(tmp_path, "new0", slaves__vda="")
    disk, disks = by_name(None, reader_of(machine).read())
    assert [(name, entry["stacked"], entry["summed"]) for name, entry in disks.items()] == [
        ("vda", False, True),
        ("new0", True, False),
    ]
    assert disk["read_bytes"] == 8 * 512
    assert (disks["vda"]["serial"], disks["new0"]["serial"]) == ("disk-1", None)  # of virtio, beside its device


def test_what_is_encrypted_in_a_file_takes_no_space_beside_it(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    names = ("vda", "254:0", None), ("loop0", "7:0", None), ("dm-0", "253:0", "loop0"), ("dm-1", "253:1", "vda")
    for name, _, below in names:
        device(tmp_path, name, **({f"slaves__{below}": ""} if below else {}))
    put(tmp_path, "proc/diskstats", "".join(line(name, number=said.replace(":", " ")) for name, said, _ in names))
    mounts = (f"{place + 20} 1 {said} / /{name} rw - ext4 /dev/x rw\n" for place, (name, said, _) in enumerate(names))
    put(tmp_path, "proc/self/mountinfo", "".join(mounts))
    disk, disks = by_name(None, reader_of(machine).read())
    assert all(entry["mounts"] for entry in disks.values())
    assert disk["space_total_bytes"] == (1004 + 1005) * 1024  # /vda and /dm-1


def test_a_name_with_a_slash(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    put(tmp_path, "proc/diskstats", line("cciss/c0d0", read=8) + line("cciss/c0d0p1", number="8 1", read=8))
    device(tmp_path, "cciss!c0d0", queue__hw_sector_size="512")
    put(tmp_path, "sys/class/block/cciss!c0d0p1/partition", "1\n")
    _, disks = by_name(None, reader_of(machine).read())
    assert {name: entry["hardware_sector_bytes"] for name, entry in disks.items()} == {"cciss/c0d0": 512}


def test_nvme_multipath_is_counted_on_its_paths(tmp_path: Path) -> None:
    """An older kernel counts nothing on the common device; a newer one counts on both."""
    machine, _ = machine_in(tmp_path)
    names = {"nvme0n1": 24, "nvme0c0n1": 8, "nvme0c1n1": 16, "nvme1n1": 80}
    put(
        tmp_path,
        "proc/diskstats",
        "".join(line(name, number=f"259 {i}", read=read) for i, (name, read) in enumerate(names.items())),
    )
    for name in names:
        device(tmp_path, name, hidden="1" if "c" in name else "0")
    disk, disks = by_name(None, reader_of(machine).read())
    assert [name for name, entry in disks.items() if entry["summed"]] == ["nvme0c0n1", "nvme0c1n1", "nvme1n1"]
    assert disk["read_bytes"] == (24 + 80) * 512


# -- two readings ------------------------------------------------------------------------------------------------


def test_rates_and_utilisation(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    put(tmp_path, "proc/diskstats", line("sda", read=100, written=10, busy_ms=1000))
    device(tmp_path, "sda")
    reader = reader_of(machine)
    before = reader.read()
    put(tmp_path, "proc/diskstats", line("sda", read=300, written=50, busy_ms=2500))
    disk, disks = by_name(before, reader.read(), 2.0)
    assert disks["sda"]["read_bytes_per_second"] == disk["read_bytes_per_second"] == 100 * 512
    assert disks["sda"]["write_bytes_per_second"] == disk["write_bytes_per_second"] == 20 * 512
    assert disks["sda"]["busy_ratio"] == 0.75


@pytest.mark.parametrize(
    ("before", "now", "ratio"),
    [
        (0, 500, 0.5),
        (0, 1000, 1.0),
        (0, 1500, 1.0),  # requests were under way before, or the clocks differ
        ((1 << 32) - 300, 200, 0.5),  # an unsigned int of milliseconds wraps
        (5_000_000, 10, 0.0),  # made anew
    ],
)
def test_utilisation_by_a_counter_that_wraps(before: int, now: int, ratio: float) -> None:
    def reading(busy_ms: int) -> DisksReading:
        disks = {"sda": Disk("8:0", (0, 0, 0, 0), 0, busy_ms)}
        return DisksReading(disks, {"sda": Device()}, frozenset(), (0, 0, 0, 0), None, None)

    _, disks = by_name(reading(before), reading(now))
    assert disks["sda"]["busy_ratio"] == ratio
    assert disks["sda"]["mounts"] is None


def test_a_disk_that_comes_goes_and_comes_back(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    for name in ("sda", "sdb"):
        device(tmp_path, name)
    sda = line("sda", read=100)
    reader = reader_of(machine)
    put(tmp_path, "proc/diskstats", sda)
    readings = [reader.read()]
    for sdb in (1000, 1010, None, 5, 6):
        put(tmp_path, "proc/diskstats", sda + (line("sdb", number="8 16", read=sdb) if sdb is not None else ""))
        readings.append(reader.read())
    sectors, rates = [], []
    for before, now in zip([None, *readings], readings, strict=False):
        disk, disks = by_name(before, now)
        assert isinstance(disk["read_bytes"], int)
        sectors.append(disk["read_bytes"] // 512)
        rates.append(disks["sdb"]["read_bytes_per_second"] if "sdb" in disks else "absent")
    assert sectors == [100, 100, 110, 110, 110, 111]
    assert rates == ["absent", None, 5120.0, "absent", None, 512.0]


def test_a_disk_made_anew_between_two_readings_has_no_negative_rate(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    device(tmp_path, "sda")
    reader = reader_of(machine)
    put(tmp_path, "proc/diskstats", line("sda", read=1000, busy_ms=900))
    before = reader.read()
    put(tmp_path, "proc/diskstats", line("sda", read=10, busy_ms=5))
    disk, disks = by_name(before, reader.read())
    assert disks["sda"]["read_bytes_per_second"] == disk["read_bytes_per_second"] == disks["sda"]["busy_ratio"] == 0.0
    assert disk["read_bytes"] == 1000 * 512


def test_what_sysfs_says_is_read_again_when_it_can_have_changed(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    device(tmp_path, "sda", device__model="first")
    device(tmp_path, "loop0", size=0)
    reader = reader_of(machine)
    text = line("sda") + line("loop0", number="7 0")
    put(tmp_path, "proc/diskstats", text)
    _, disks = by_name(None, reader.read())
    version = reader.version
    assert list(disks) == ["sda"]
    assert disks["sda"]["model"] == "first"
    for _ in range(4):
        reader.read()
    assert reader.version == version
    device(tmp_path, "sda", size=2000, device__model="second")  # another stick in the same slot
    device(tmp_path, "loop0", size=8)  # and a file behind the loop
    reader.read()
    _, disks = by_name(None, reader.read())
    assert reader.version > version
    assert {name: entry["capacity_bytes"] for name, entry in disks.items()} == {"sda": 2000 * 512, "loop0": 8 * 512}
    assert disks["sda"]["model"] == "second"


def test_an_empty_device_that_is_used_shows_at_once(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    names = [f"loop{number}" for number in range(20)]
    for name in names:
        device(tmp_path, name, size=0)
    reader = reader_of(machine)
    lines = {name: line(name, number=f"7 {place}") for place, name in enumerate(names)}
    put(tmp_path, "proc/diskstats", "".join(lines.values()))
    assert reader.read().disks == {}
    device(tmp_path, "loop13", size=8)
    lines["loop13"] = line("loop13", number="7 13", read=8)
    put(tmp_path, "proc/diskstats", "".join(lines.values()))
    assert list(reader.read().disks) == ["loop13"]


def test_a_partition_made_later_is_none_of_the_disks(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    device(tmp_path, "sda")
    reader = reader_of(machine)
    put(tmp_path, "proc/diskstats", line("sda"))
    reader.read()
    put(tmp_path, "sys/class/block/sda1/partition", "1\n")
    put(tmp_path, "proc/self/mountinfo", "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    put(tmp_path, "proc/diskstats", line("sda") + line("sda1", number="8 1"))
    for _ in range(3):
        reading = reader.read()
        assert list(reading.disks) == ["sda"]
        assert [(space.point, space.device) for space in reading.spaces or ()] == [("/", "sda")]


# -- mounts ------------------------------------------------------------------------------------------------------


def mounts(*lines: str) -> list[str]:
    data = "".join(f"{number + 20} {each}\n" for number, each in enumerate(lines))
    return [os.fsdecode(mount.point) for mount in choose(parse_mounts(data.encode()))]


def test_one_mount_of_a_device_the_one_that_shows_most() -> None:
    bind = "1 8:1 /sub /a rw - ext4 /dev/sda1 rw"
    whole = "1 8:1 / /mnt/whole rw - ext4 /dev/sda1 rw"
    again = "1 8:1 / /whole rw - ext4 /dev/sda1 rw"
    assert mounts(bind, whole, again) == mounts(again, whole, bind) == ["/whole"]
    assert mounts(bind) == ["/a"]


def test_a_mount_over_another_hides_it() -> None:
    assert mounts("1 8:1 / /a rw - ext4 /dev/sda1 rw", "20 8:2 / /a rw - ext4 /dev/sda2 rw") == ["/a"]
    assert mounts("1 8:1 / /a rw - ext4 /dev/sda1 rw", "20 0:50 / /a rw - nfs4 host:/x rw") == []


@pytest.mark.parametrize("over", ["0:50 / /far rw - nfs4 host:/x rw", "8:9 / /far rw - tmpfs t rw"])
def test_a_mount_over_a_directory_on_the_way_hides_it(over: str) -> None:
    """Who asked for the space of what is hidden would ask the one that hides it, and wait with it."""
    near, below = "1 8:1 / /far/near rw - ext4 /dev/sda1 rw", "20 8:2 / /far/near/est rw - ext4 /dev/sda2 rw"
    seen = mounts(f"1 {over}")
    assert mounts(near, below) == ["/far/near", "/far/near/est"]
    assert mounts(near, below, f"1 {over}") == seen
    assert mounts(f"1 {over}", near.replace("1 ", "20 ", 1)) == (["/far", "/far/near"] if seen else [])
    assert mounts("1 8:3 / /far rw - ext4 /dev/sda3 rw", near.replace("1 ", "20 ", 1), f"20 {over}") == seen
    assert mounts(near, f"1 {over.replace('/far', '/farther')}") == [
        "/far/near",
        *mounts(f"1 {over}".replace("/far", "/farther")),
    ]


def test_a_mount_moved_over_a_later_one_hides_it() -> None:
    """The kernel lists them in the order in which they were made."""
    assert mounts("21 0:50 / /a rw - nfs4 host:/x rw", "1 8:1 / /a rw - ext4 /dev/sda1 rw") == []
    assert mounts("21 8:2 /sub /a rw - ext4 /dev/sda2 rw", "1 8:1 / /a rw - ext4 /dev/sda1 rw") == ["/a"]


def test_a_mount_over_the_root_hides_nothing_from_those_that_run() -> None:
    root, home = "1 8:1 / / rw - ext4 /dev/sda1 rw", "20 8:2 / /home rw - ext4 /dev/sda2 rw"
    assert mounts(root, home, "20 8:1 / / rw - ext4 /dev/sda1 rw") == ["/", "/home"]


def test_escapes_are_undone() -> None:
    assert mounts(r"1 8:1 / /a\040b\011c\012d\134e rw - ext4 /dev/sda1 rw") == ["/a b\tc\nd\\e"]


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "lustre", "fuse", "fuse.sshfs", "gfs2"])
def test_remote_file_systems_are_never_asked(kind: str) -> None:
    remote = f"1 0:50 / /far rw - {kind} /dev/host:/x rw"
    assert mounts(remote) == []
    assert mounts(remote, "20 8:1 / /far/near rw - ext4 /dev/sda1 rw") == []
    assert mounts(remote, "20 0:51 / /far/t rw - tmpfs t rw", "21 8:1 / /far/t/n rw - ext4 /dev/sda1 rw") == []


def test_a_remote_root_does_not_stand_in_the_way() -> None:
    assert mounts("1 0:50 / / rw - nfs4 host:/x rw", "20 8:1 / /scratch rw - xfs /dev/sda1 rw") == ["/scratch"]


@pytest.mark.parametrize("kind", ["nfs4", "9p", "fuse.fuse-overlayfs", "tmpfs", "zfs"])
def test_no_other_root_is_asked_for_want_of_a_block_device(kind: str) -> None:
    assert mounts(f"1 0:50 / / rw - {kind} pool/root rw") == []


def test_virtual_places_are_left_out_and_their_like_are_not() -> None:
    for point in ("/proc", "/sys", "/dev", "/run"):
        assert mounts(f"1 8:1 / {point} rw - ext4 /dev/sda1 rw", f"1 8:2 / {point}/x rw - ext4 /dev/sda2 rw") == []
        assert mounts(f"1 8:1 / {point}s rw - ext4 /dev/sda1 rw") == [f"{point}s"]


def test_an_overlay_counts_only_as_the_root_and_without_others() -> None:
    root = "1 0:50 / / rw - overlay overlay rw,lowerdir=/a"
    assert mounts(root) == ["/"]
    assert mounts(root, "20 0:51 / /other rw - overlay overlay rw") == ["/"]
    assert mounts("1 0:51 / /other rw - overlay overlay rw") == []
    assert mounts(root, "20 8:1 /h /etc/hosts rw - ext4 /dev/sda1 rw") == ["/etc/hosts"]


def test_parents_in_a_circle_end() -> None:
    assert mounts("21 8:1 / /a rw - ext4 /dev/sda1 rw", "20 8:2 / /b rw - ext4 /dev/sda2 rw") == ["/a", "/b"]


def test_what_statvfs_refuses_is_unknown_and_what_has_no_blocks_is_left_out(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    put(
        tmp_path,
        "proc/self/mountinfo",
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 8:2 / /no rw - ext4 /dev/sda2 rw\n"
        "23 21 8:3 / /empty rw - ext4 /dev/sda3 rw\n",
    )
    statvfs = Statvfs()
    statvfs.refused.add("/no")
    statvfs.empty.add("/empty")
    disk, _ = by_name(None, reader_of(machine, statvfs).read())
    entries = disk["other_mounts"]
    assert isinstance(entries, list)
    assert {entry["mount_point"]: entry["total_bytes"] for entry in entries} == {"/": 1001 * 1024, "/no": None}
    assert disk["space_total_bytes"] == 1001 * 1024


def owner(number: str, source: str) -> str | None:
    return None


def test_mountinfo_is_parsed_only_when_a_mount_was_made_or_removed(tmp_path: Path) -> None:
    reader = MountReader(Machine(), os.statvfs)
    reads = 0
    read = reader.file.read

    class Counting:
        trouble = None
        fileno = reader.file.fileno

        def read(self) -> bytes | None:
            nonlocal reads
            reads += 1
            return read()

    reader.file = Counting()  # type: ignore[assignment]
    points = {space.point for space in reader.read(owner, 0) or ()}
    for _ in range(5):
        assert {space.point for space in reader.read(owner, 0) or ()} == points
    assert reads == 1
    if os.getuid():
        pytest.skip("mounting takes root")
    try:
        subprocess.run(["mount", "-t", "tmpfs", "proctally", str(tmp_path)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    try:
        reader.read(owner, 0)
        assert reads == 2
        reader.read(owner, 0)
        assert reads == 2
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    reader.read(owner, 0)
    assert reads == 3


# -- ZFS ---------------------------------------------------------------------------------------------------------


def zpool(folder: Path, script: str, started: Callable[[int], object] | None = None) -> tuple[ZpoolCommand, Clock]:
    machine, clock = machine_in(folder)
    (folder / "proc/spl/kstat/zfs").mkdir(parents=True)
    command = folder / "zpool"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    return ZpoolCommand(machine, str(command), started=started), clock


def until(ready: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pools_are_heard_of_a_reading_later(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    command, clock = zpool(tmp_path, f"echo $* >>{asked}; printf 'tank\\t1000\\t400\\nbad\\t-\\t-\\n'")
    assert command.poll() is None
    until(command.poll)
    pools = command.poll() or []
    assert [pool.entry() for pool in pools] == [
        {"name": "tank", "total_bytes": 1000, "free_bytes": 400, "used_bytes": 600}
    ]
    until(lambda: command.poll() and not command.pid)
    command.poll()
    assert command.pid == 0  # not before a minute has passed
    assert asked.read_text().splitlines() == ["list -Hp -o name,size,free"]
    clock.advance(61)
    command.poll()
    assert command.pid
    until(lambda: command.poll() and not command.pid)


def test_a_pool_that_hangs_stalls_nobody(tmp_path: Path) -> None:
    command, clock = zpool(tmp_path, "exec sleep 60")
    start = time.monotonic()
    command.poll()
    pid = command.pid
    assert command.poll() is None
    clock.advance(6)
    until(lambda: (command.poll(), not command.pid)[1])
    assert time.monotonic() - start < 10
    assert not psutil.pid_exists(pid)


def test_pools_are_heard_of_where_somebody_else_reaps(tmp_path: Path) -> None:
    """As the tracker does, which waits for any child, before it looks at the answer."""
    started: list[int] = []
    command, _ = zpool(tmp_path, "printf 'tank\\t1000\\t400\\n'", started.append)
    assert command.poll() is None
    (pid,) = started
    assert command.pid == pid
    assert not command.reaped(pid + 1, 5)
    os.waitpid(pid, 0)
    assert command.reaped(pid, 123)
    assert not command.reaped(pid, 123)
    pools = command.poll() or []
    assert [pool.name for pool in pools] == ["tank"]
    assert (command.pid, command.cpu_ns()) == (0, 123)


def test_its_cpu_time_is_known(tmp_path: Path) -> None:
    command, _ = zpool(tmp_path, "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done")
    until(lambda: (command.poll(), command.cpu_ns() > 1_000_000)[1])


@pytest.mark.parametrize("script", ["exit 1", "echo 'no permission' >&2; exit 2", "echo nonsense"])
def test_what_is_not_heard_is_not_none(tmp_path: Path, script: str) -> None:
    command, clock = zpool(tmp_path, f"[ -e {tmp_path}/broken ] || exec printf 'tank\\t1000\\t400\\n'; {script}")
    until(command.poll)
    until(lambda: (command.poll(), not command.pid)[1])
    (tmp_path / "broken").touch()
    clock.advance(61)
    until(lambda: command.poll() is None)


def test_a_pool_that_hangs_keeps_no_pipe_of_the_users_open(tmp_path: Path) -> None:
    command, _ = zpool(tmp_path, "exec sleep 60")
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    command.poll()
    os.close(theirs)
    assert os.read(ours, 1) == b""
    os.close(ours)
    assert os.getpgid(command.pid) == command.pid  # Ctrl-C is the job's
    command.close()


def test_without_zfs_nothing_is_started(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    command = ZpoolCommand(machine, "/bin/false")
    assert command.poll() is None
    assert command.pid == 0


def test_a_command_that_cannot_be_started_is_tried_a_minute_later(tmp_path: Path) -> None:
    command, clock = zpool(tmp_path, "printf 'tank\\t1000\\t400\\n'")
    (tmp_path / "zpool").chmod(0o644)
    assert command.poll() is None
    assert command.pid == 0
    (tmp_path / "zpool").chmod(0o755)
    command.poll()
    assert command.pid == 0
    clock.advance(61)
    command.poll()
    until(command.poll)


def test_a_child_that_somebody_else_reaped_is_gone(tmp_path: Path) -> None:
    told: list[int] = []
    command, clock = zpool(tmp_path, "exit 0")
    command._started = told.append
    command.poll()
    assert told == [command.pid]
    pid, _ = os.waitpid(command.pid, 0)
    assert not command.reaped(pid + 1)
    assert command.reaped(pid, 5_000_000)
    command.poll()
    assert (command.pid, command.cpu_ns()) == (0, 5_000_000)
    clock.advance(61)
    command.poll()
    assert command.pid
    until(lambda: (command.poll(), not command.pid)[1])
    assert command.cpu_ns() > 5_000_000


def test_pools_are_part_of_the_space() -> None:
    pools = parse_zpool_list(b"tank\t1000\t400\n")
    spaces = [Space("/", "ext4", "sda", 500, 100), Space("/zvol", "ext4", "zd0", 50, 10)]
    devices = {"sda": Device(), "zd0": Device()}
    devices["zd0"].in_another = True
    disk, _ = by_name(None, DisksReading({}, devices, frozenset(), None, spaces, pools))
    assert (disk["space_total_bytes"], disk["space_free_bytes"], disk["space_used_bytes"]) == (1500, 500, 1000)
    assert disk["read_bytes"] is None


# -- this machine by a second truth ------------------------------------------------------------------------------


def test_spaces_against_df() -> None:
    """Total, free, available and size; what it calls used leaves out what is kept back for root."""
    reader = DiskReader(Machine(), statvfs=os.statvfs, zpool=None)

    def ours() -> dict[str, tuple[int | None, int | None]]:
        return {space.point: (space.total_bytes, space.free_bytes) for space in reader.read().spaces or ()}

    points = [point for point, (total, _) in ours().items() if total is not None]
    if not points:
        pytest.skip("no local file system here")
    far = {}
    for _ in range(20):  # others write to them
        before = ours()
        done = subprocess.run(["df", "-B1", "--output=size,avail", *points], capture_output=True, text=True, check=True)
        rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()[1:]]
        truth, after = dict(zip(points, rows, strict=True)), ours()
        far = {point: (before[point], row) for point, row in truth.items() if row not in (before[point], after[point])}
        if not far:
            return
    raise AssertionError(far)


def counted(reader: DiskReader) -> dict[str, tuple[int, ...]]:
    """Bytes read and written, reads and writes of every whole device."""
    return {name: disk.counters for name, disk in reader.read().disks.items()}


def by_psutil() -> dict[str, tuple[int, ...]]:
    said = psutil.disk_io_counters(perdisk=True).items()
    return {name: (each.read_bytes, each.write_bytes, each.read_count, each.write_count) for name, each in said}


def by_vmstat() -> dict[str, tuple[int, ...]]:
    lines = subprocess.run(["vmstat", "-d", "-n"], capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in lines[2:]]
    return {row[0]: (int(row[3]) * 512, int(row[7]) * 512, int(row[1]), int(row[5])) for row in rows}


def by_iostat() -> dict[str, tuple[int, ...]]:
    """In KiB."""
    done = subprocess.run(["iostat", "-d", "-k", "-o", "JSON"], capture_output=True, text=True, check=True)
    (statistics,) = json.loads(done.stdout)["sysstat"]["hosts"][0]["statistics"]
    return {each["disk_device"]: (each["kB_read"] * 1024, each["kB_wrtn"] * 1024) for each in statistics["disk"]}


@pytest.mark.parametrize(
    ("read", "unit"), [(by_psutil, 1), (by_vmstat, 1), (by_iostat, 1024)], ids=["psutil", "vmstat", "iostat"]
)
def test_counters_against_others(read: Callable[[], dict[str, tuple[int, ...]]], unit: int) -> None:
    """Counters only grow: what another program reads between two readings lies between them."""
    tool = read.__name__.removeprefix("by_")
    if tool != "psutil" and shutil.which(tool) is None:
        pytest.skip(f"no {tool}")
    reader = DiskReader(Machine(), statvfs=os.statvfs, zpool=None)
    before, truth, after = counted(reader), read(), counted(reader)
    names = before.keys() & truth.keys() & after.keys()
    assert names or not before
    for name in names:
        for low, value, high in zip(before[name], truth[name], after[name], strict=False):
            assert low - unit < value <= high, name


@contextmanager
def loop_device(folder: Path, sector_bytes: int) -> Iterator[str]:
    """A loop device with this sector size over a file in the folder; skips where there can be none."""
    backing = folder / "backing"
    backing.write_bytes(bytes(16 << 20))
    command = ["losetup", "--find", "--show", "-b", str(sector_bytes), str(backing)]
    if os.getuid() or shutil.which("losetup") is None:
        pytest.skip("loop devices take root and losetup")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    path = done.stdout.strip()
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


HANGING = """
import ctypes, os, sys
folder, device = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)

def mount(source, point, kind, options=""):
    if libc.mount(source.encode(), point.encode(), kind.encode(), 0, options.encode()):
        sys.exit(f"no {kind}: {os.strerror(ctypes.get_errno())}")

near, far = f"{folder}/far/near", f"{folder}/far"
os.makedirs(near)
mount(device, near, "ext4")
from proctally.kernel.disks import DiskReader
from proctally.kernel.machine import Machine
reader = DiskReader(Machine(), statvfs=os.statvfs, zpool=None)
points = lambda: [space.point for space in reader.read().spaces]
assert near in points(), points()
daemon = os.open("/dev/fuse", os.O_RDWR)  # which never answers
mount("proctally", far, "fuse", f"fd={daemon},rootmode=40000,user_id=0,group_id=0")
for _ in range(3):
    assert not [point for point in points() if point.startswith(far)]
print("done")
os._exit(0)
"""


def test_a_hung_file_system_is_not_waited_for(tmp_path: Path) -> None:
    """A real one, over a directory in which another one had been mounted; in a mount namespace of its own."""
    if shutil.which("mke2fs") is None or not os.path.exists("/dev/fuse"):
        pytest.skip("no mke2fs, or no FUSE")
    with loop_device(tmp_path, 512) as device:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", device], check=True)
        command = ["unshare", "--mount", sys.executable, "-c", HANGING, str(tmp_path), device]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.stderr.startswith(("no ", "unshare")):
        pytest.skip(done.stderr.strip())
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_bytes_of_a_loop_device_are_counted_once(tmp_path: Path, sector_bytes: int) -> None:
    """Whatever its sector size, `diskstats` counts units of 512 bytes."""
    reader = SystemReader(Machine())
    with loop_device(tmp_path, sector_bytes) as path:
        name = os.path.basename(path)
        os.sync()
        before = until_seen(reader, name)
        size = 4 << 20
        for arguments in (
            ["if=/dev/zero", f"of={path}", "oflag=direct", "conv=fsync,notrunc"],
            [f"if={path}", "of=/dev/null", "iflag=direct"],
        ):
            command = ["dd", "bs=1M", f"count={size >> 20}", *arguments]
            subprocess.run(command, check=True, capture_output=True)
        now = reader.read()
        section = derive(before, now)
        disks = section["disks"]
        assert isinstance(disks, list)
        entry = next(entry for entry in disks if entry["name"] == name)
        assert entry["hardware_sector_bytes"] == sector_bytes
        assert entry["capacity_bytes"] == 16 << 20
        assert entry["summed"] is False
        assert before.disks is not None
        earlier = before.disks.disks[name].counters
        assert entry["write_bytes"] - earlier[1] == size
        assert 0 <= entry["read_bytes"] - earlier[0] - size < 1 << 20  # who looks what it is reads a little


def until_seen(reader: SystemReader, name: str) -> SystemReading:
    """The first reading in which the device is, once nobody looks any more what it is."""
    last = None
    for _ in range(200):
        reading = reader.read()
        assert reading.disks is not None
        disk = reading.disks.disks.get(name)
        if disk is not None and disk.counters == last:
            return reading
        last = disk.counters if disk is not None else None
        time.sleep(0.05)
    raise AssertionError(f"{name} is not seen")


def test_parser_leaves_out_what_it_is_told() -> None:
    data = (line("sda") + line("sda1", number="8 1") + " 8 2 sda2 broken\n").encode()
    assert list(parse_diskstats(data, {b"sda1", b"sda2"})) == ["sda"]
