"""Disks and file systems of a captured server and of made-up machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from captured import machine_in, put
from disk_files import device, line, reader_of
from proctally.linux.disks import parent_of, parse_diskstats
from proctally.linux.mounts import ZpoolCommand, choose, parse_mounts

# -- a captured server -------------------------------------------------------------------------------------------


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


# -- two readings ------------------------------------------------------------------------------------------------


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


def test_an_overlay_counts_only_as_the_root() -> None:
    root = "1 0:50 / / rw - overlay overlay rw,lowerdir=/a"
    assert mounts(root) == ["/"]
    assert mounts(root, "20 0:51 / /other rw - overlay overlay rw") == ["/"]
    assert mounts("1 0:51 / /other rw - overlay overlay rw") == []
    assert mounts(root, "20 8:1 /h /etc/hosts rw - ext4 /dev/sda1 rw") == ["/", "/etc/hosts"]


def test_parents_in_a_circle_end() -> None:
    assert mounts("21 8:1 / /a rw - ext4 /dev/sda1 rw", "20 8:2 / /b rw - ext4 /dev/sda2 rw") == ["/a", "/b"]


# -- ZFS ---------------------------------------------------------------------------------------------------------


def test_without_zfs_nothing_is_started(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    command = ZpoolCommand(machine, "/bin/false")
    assert command.poll() is None
    assert command.pid == 0


# -- this machine by a second truth ------------------------------------------------------------------------------


def test_parser_leaves_out_what_it_is_told() -> None:
    data = (line("sda") + line("sda1", number="8 1") + " 8 2 sda2 broken\n").encode()
    assert list(parse_diskstats(data, {b"sda1", b"sda2"})) == ["sda"]
