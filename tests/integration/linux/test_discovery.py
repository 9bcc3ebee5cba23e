"""Discovery of many disks, interfaces and mounts in steps: each step is short, and nothing unknown is a 0."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from proctally.host.derive import derive
from proctally.linux.machine import Machine
from proctally.linux.mounts import MountReader
from proctally.linux.system import SystemReader

STEP_NS = 5_000_000
READ_NS = 30_000  # what a file of sysfs takes
DISKS, INTERFACES, MOUNTS = 400, 300, 5000
NET_HEAD = "Inter-| Receive | Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n"


class SlowMachine(Machine):
    """A machine on which each file of sysfs and each look at the clock takes time."""

    now_ns = 0

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder / "proc"), sys=str(folder / "sys"), monotonic_ns=self.clock)

    def clock(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def read_sys(self, path: str) -> bytes:
        self.now_ns += READ_NS
        return super().read_sys(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    proc, sys = folder / "proc", folder / "sys"
    (proc / "net").mkdir(parents=True)
    (proc / "self").mkdir()
    disks = [f"sd{number}x" for number in range(DISKS)]
    lines = [f"   8 {number} {name} 1 0 8 0 1 0 8 0 0 0 0\n" for number, name in enumerate(disks)]
    (proc / "diskstats").write_text("".join(lines))
    for name in disks:
        (sys / "class/block" / name).mkdir(parents=True)
        (sys / "class/block" / name / "size").write_text("8\n")
    interfaces = [f"veth{number}" for number in range(INTERFACES)]
    rows = "".join(f"{name}: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n" for name in interfaces)
    (proc / "net/dev").write_text(NET_HEAD + rows)
    for name in interfaces:
        (sys / "class/net" / name).mkdir(parents=True)
        (sys / "class/net" / name / "mtu").write_text("1500\n")
    mounts = (f"{10 + number} 1 8:{number % 9} / /m/{number} rw - ext4 /dev/sda rw\n" for number in range(MOUNTS))
    (proc / "self/mountinfo").write_text("".join(mounts))
    return folder


def statvfs(_: str) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 100, 50, 50, 0, 0, 0, 0, 255))


def test_first_reading_has_a_part_and_no_sums(folder: Path) -> None:
    reading = SystemReader(SlowMachine(folder), statvfs=statvfs, step_ns=STEP_NS).read()
    assert reading.disks is not None
    assert reading.net is not None
    assert 0 < len(reading.disks.disks) < DISKS
    assert 0 < len(reading.net.counters) < INTERFACES
    section: dict[str, Any] = derive(None, reading)
    assert set(section["disk"].values()) == {None}
    assert section["network"] == dict.fromkeys(section["network"])
    assert [entry["mounts"] for entry in section["disks"]] == [None] * len(reading.disks.disks)


def test_each_step_is_short(folder: Path) -> None:
    machine = SlowMachine(folder)
    reader = SystemReader(machine, statvfs=statvfs, step_ns=STEP_NS)
    reader.read()
    is_left = True
    while is_left:
        before = machine.now_ns
        is_left = reader.discover()
        assert machine.now_ns - before < STEP_NS + 30 * READ_NS
    whole = SystemReader(Machine(str(folder / "proc"), sys=str(folder / "sys")), statvfs=statvfs).read()
    now = reader.read()
    assert whole.disks is not None
    assert now.disks is not None
    assert (now.disks.totals, now.disks.summed) == (whole.disks.totals, whole.disks.summed)
    assert list(now.disks.disks) == list(whole.disks.disks)
    assert now.disks.spaces is not None
    assert whole.disks.spaces is not None
    assert [space.point for space in now.disks.spaces] == [space.point for space in whole.disks.spaces]
    assert now.net is not None
    assert whole.net is not None
    assert (now.net.totals, list(now.net.counters)) == (whole.net.totals, list(whole.net.counters))


def test_devices_that_change_during_discovery(folder: Path, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "net").mkdir(parents=True)
    for name in ("diskstats", "net/dev"):
        (proc / name).write_bytes((folder / "proc" / name).read_bytes())
    (tmp_path / "sys").symlink_to(folder / "sys")
    machine = SlowMachine(tmp_path)
    reader = SystemReader(machine, statvfs=statvfs, step_ns=STEP_NS)
    reader.read()
    lines = (proc / "diskstats").read_text().splitlines(keepends=True)[10:]
    (proc / "diskstats").write_text("".join(lines))
    rows = (proc / "net/dev").read_text().splitlines(keepends=True)[:-10]
    (proc / "net/dev").write_text("".join(rows))
    reader.read()
    while reader.discover():
        pass
    now = reader.read()
    assert now.disks is not None
    assert now.net is not None
    assert (len(now.disks.disks), len(now.net.counters)) == (DISKS - 10, INTERFACES - 10)
    assert now.disks.totals == (512 * 8 * (DISKS - 10), 512 * 8 * (DISKS - 10), DISKS - 10, DISKS - 10)


def test_owners_of_many_mounts_are_looked_for_in_steps(tmp_path: Path) -> None:
    """By the path of the source, which takes calls of the kernel for each."""
    (tmp_path / "proc/self").mkdir(parents=True)
    mounts = (f"{10 + each} 1 8:{each} / /m/{each} rw - ext4 /dev/sd{each} rw\n" for each in range(600))
    (tmp_path / "proc/self/mountinfo").write_text("".join(mounts))
    machine = SlowMachine(tmp_path)
    reader = MountReader(machine, statvfs)

    def owner(_: str, source: str) -> str:
        machine.now_ns += READ_NS
        return source

    spaces, steps = None, 0
    while spaces is None:
        before = machine.now_ns
        spaces = reader.read(owner, 1, machine.now_ns + STEP_NS)
        assert machine.now_ns - before < STEP_NS + 80 * READ_NS
        steps += 1
    assert steps > 2
    assert {space.device for space in spaces} == {f"/dev/sd{each}" for each in range(600)}


def test_others_get_a_turn_between_the_parts_of_a_reading(folder: Path) -> None:
    """Thousands of disks take ten milliseconds to parse, and so do as many interfaces; their sysfs takes longer."""
    machine = SlowMachine(folder)
    read: list[str] = []
    opened = machine.open

    def open_file(path: str, *more: Any) -> int:
        read.append(path)
        return opened(path, *more)

    machine.open = open_file  # type: ignore[method-assign]
    machine.attend = lambda: read.append("attend")
    SystemReader(machine, statvfs=statvfs).read()
    places = [each for each in read if each in ("diskstats", "net/dev", "attend")]
    assert [place for place, _ in groupby(places)] == ["attend", "diskstats", "attend", "net/dev", "attend"]
    assert places.count("attend") > DISKS // 10
