"""Disks, file systems and pools of this machine, and other tools' view of them."""

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

from captured import Clock, machine_in
from proctally.host.derive import derive
from proctally.linux.disks import DiskReader
from proctally.linux.machine import Machine
from proctally.linux.mounts import MountReader, ZpoolCommand
from proctally.linux.system import SystemReader, SystemReading

# -- mounts ------------------------------------------------------------------------------------------------------


def owner(number: str, source: str) -> str | None:
    return None


def test_mountinfo_is_parsed_only_when_a_mount_was_made_or_removed(tmp_path: Path) -> None:
    reader = MountReader(Machine(), os.statvfs)
    reads = 0
    read = reader.file.read

    class Counting:
        error = None
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
    until(lambda: (command.poll(), not command.pids)[1])
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
from proctally.linux.disks import DiskReader
from proctally.linux.machine import Machine
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
