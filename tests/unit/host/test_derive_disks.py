"""Disk values derived from two readings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from captured import machine_in, put, unpack
from disk_files import Statvfs, device, line, reader_of
from proctally.host.derive import derive_disks
from proctally.linux.disks import Device, Disk, DisksReading
from proctally.linux.mounts import Space, parse_zpool_list

Entries = dict[str, dict[str, object]]


def by_name(before: DisksReading | None, now: DisksReading, seconds: float = 1.0) -> tuple[dict[str, object], Entries]:
    disk, disks = derive_disks(before, now, seconds)
    return disk, {str(entry["name"]): entry for entry in disks}


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
        (5_000_000, 10, None),  # made anew
    ],
)
def test_utilisation_by_a_counter_that_wraps(before: int, now: int, ratio: float | None) -> None:
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
    assert disks["sda"]["read_bytes_per_second"] is disk["read_bytes_per_second"] is disks["sda"]["busy_ratio"] is None
    assert disk["read_bytes"] is None
    assert reader.read().totals == (1000 * 512, 0, 1, 2)


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


# -- mounts ------------------------------------------------------------------------------------------------------


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


# -- ZFS ---------------------------------------------------------------------------------------------------------


def test_pools_are_part_of_the_space() -> None:
    pools = parse_zpool_list(b"tank\t1000\t400\n")
    spaces = [Space("/", "ext4", "sda", 500, 100), Space("/zvol", "ext4", "zd0", 50, 10)]
    devices = {"sda": Device(), "zd0": Device()}
    devices["zd0"].in_another = True
    disk, _ = by_name(None, DisksReading({}, devices, frozenset(), None, spaces, pools))
    assert (disk["space_total_bytes"], disk["space_free_bytes"], disk["space_used_bytes"]) == (1500, 500, 1000)
    assert disk["read_bytes"] is None


@pytest.mark.parametrize(
    ("other", "sums"),
    [
        ((29 << 30, 20 << 30), (39 << 30, 20 << 30 | 7 << 20)),  # the root is on another disk, or has a quota
        ((10 << 30, 8 << 20), (10 << 30, 8 << 20)),  # on this one, written to meanwhile
    ],
)
def test_the_root_of_a_container_is_listed_and_counted_once(
    tmp_path: Path, other: tuple[int, int], sums: tuple[int, int]
) -> None:
    machine, _ = machine_in(tmp_path)
    put(
        tmp_path,
        "proc/self/mountinfo",
        "20 1 0:200 / / rw - overlay overlay rw\n21 20 8:1 /hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
        "22 20 8:1 /cfg /config ro - ext4 /dev/sda1 rw\n",
    )

    def statvfs(point: str) -> os.statvfs_result:
        total, free = (10 << 30, 7 << 20) if point == "/" else other
        return os.statvfs_result((4096, 4096, total // 4096, free // 4096, free // 4096, 10, 5, 5, 0, 255))

    disk, _ = by_name(None, reader_of(machine, statvfs).read())
    assert isinstance(disk["other_mounts"], list)
    listed = [(each["mount_point"], each["total_bytes"], each["free_bytes"]) for each in disk["other_mounts"]]
    assert listed == [("/", 10 << 30, 7 << 20), ("/config", *other)]
    assert (disk["space_total_bytes"], disk["space_free_bytes"]) == sums
