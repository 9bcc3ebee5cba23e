"""The disks of the machine: `/proc/diskstats`, and what sysfs says of each device.

Layouts: Documentation/admin-guide/iostats.rst, block/genhd.c and Documentation/ABI/stable/sysfs-block of the kernel.
Sectors of `diskstats` and of `size` are 512 bytes on every device, whatever its hardware sector size.
"""

from __future__ import annotations

import os

from proctally.linux.counters import GrowingSum
from proctally.linux.machine import Machine
from proctally.linux.mounts import MountReader, Pool, Space, ZpoolCommand
from proctally.linux.sources import UNBOUNDED_NS, KeptFile, attribute, entries, number, take
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

SECTOR_BYTES = 512
MOST_PER_SECOND = 4e11  # bytes, and requests, of one device: above the memory of any machine
NEGATIVE = 1 << 31  # requests in flight from here on are a count that went below 0

# Devices that hand on what they are given to others that are counted themselves, where `slaves` does not say so, and
# those that keep it in memory.
STACKED = ("loop", "dm-", "md", "drbd", "zd", "bcache", "ram", "zram")
SUMMED = ("read_bytes", "write_bytes", "reads", "writes")
IN_ANOTHER = ("loop", "zd")  # their file systems lie inside others, or inside a ZFS pool


class Disk:
    """The counters of one line of `diskstats`. `number`: `major:minor`; `busy_ms`: time in which a request was open.

    `counters`: as the file has them. `values`: the same, None in place of those in doubt.
    """

    __slots__ = ("busy_ms", "counters", "in_flight", "number", "values")

    def __init__(self, number: str, counters: tuple[int, ...], in_flight: int, busy_ms: int) -> None:
        self.number = number
        self.counters = counters
        self.values: tuple[int | None, ...] = counters
        self.in_flight = in_flight if 0 <= in_flight < NEGATIVE else None
        self.busy_ms = busy_ms


def parse_diskstats(data: bytes, without: Collection[bytes] = ()) -> dict[str, Disk]:
    """`/proc/diskstats`, partitions as well: the counters SUMMED, requests in flight and busy milliseconds, by name.

    `without`: names that are left out, unread.
    """
    found = {}
    for line in data.split(b"\n"):
        words = line.split(None, 3)
        if not words or (len(words) == 4 and words[2] in without):
            continue
        try:
            words = line.split(None, 13)
            major, minor, name, reads, _, read_sectors, _, writes, _, write_sectors, _, in_flight, busy_ms = words[:13]
            counters = (int(read_sectors) * SECTOR_BYTES, int(write_sectors) * SECTOR_BYTES, int(reads), int(writes))
            found[decode_name(name)] = Disk(f"{int(major)}:{int(minor)}", counters, int(in_flight), int(busy_ms))
        except ValueError:
            raise ValueError(f"diskstats: {line[:200]!r}") from None
    return found


class Device:
    """What sysfs says of a block device. None is unknown.

    `partition`: it is a part of another one. `stacked`: what it counts, the devices below it count too. `in_another`:
    its space is that of another file system. `media`: nvme, ssd or hdd, as the device (or what emulates it) says.
    `path_of`: the device to which this one is one of several ways (NVMe multipath). `capacity_bytes` 0: nothing is in
    it, or no file behind it.
    """

    __slots__ = (
        "capacity_bytes",
        "hardware_sector_bytes",
        "in_another",
        "media",
        "model",
        "partition",
        "path_of",
        "serial",
        "stacked",
        "vendor",
    )

    def __init__(self) -> None:
        self.partition = False
        self.stacked = False
        self.in_another = False
        self.path_of: str | None = None
        self.media: str | None = None
        self.model: str | None = None
        self.vendor: str | None = None
        self.serial: str | None = None
        self.capacity_bytes: int | None = None
        self.hardware_sector_bytes: int | None = None

    def facts(self) -> dict[str, object]:
        """What does not count: for the entry of this device."""
        return {
            "type": self.media,
            "model": self.model,
            "vendor": self.vendor,
            "serial": self.serial,
            "capacity_bytes": self.capacity_bytes,
            "hardware_sector_bytes": self.hardware_sector_bytes,
            "stacked": self.stacked,
        }


def folder(name: str) -> str:
    """The directory of a device below `sys` (cciss/c0d0 is cciss!c0d0 there)."""
    return f"class/block/{name.replace('/', '!')}"


def parent_of(name: str, names: Collection[str]) -> str | None:
    """The device of which one is a partition by its name: sda1, or nvme0n1p1 after a digit (bdev_name)."""
    stem = name.rstrip("0123456789")
    if stem == name or not stem:
        return None
    if stem in names:
        return stem
    disk = stem.removesuffix("p")
    return disk if disk != stem and disk[-1:].isdigit() and disk in names else None


def read_device(machine: Machine, name: str, names: Collection[str]) -> Device:
    """Some twenty calls: not for every sample. `names`: those of all devices."""
    device = Device()
    path = folder(name)
    listed = entries(machine, path)
    device.in_another = name.startswith(IN_ANOTHER)
    if listed is None:
        device.partition = parent_of(name, names) is not None
        device.stacked = name.startswith(STACKED)
        return device
    device.partition = "partition" in listed
    if device.partition:
        return device
    slaves = entries(machine, f"{path}/slaves")
    device.stacked = name.startswith(STACKED) or bool(slaves)
    if slaves:  # encrypted in a file, a home or a container: device mapper over a loop
        device.in_another = all(slave.startswith(IN_ANOTHER) for slave in slaves)
    device.capacity_bytes = _capacity(machine, name)
    device.hardware_sector_bytes = number(machine, f"{path}/queue/hw_sector_size")
    rotational = number(machine, f"{path}/queue/rotational")
    if name.startswith("nvme"):
        device.media = "nvme"
    elif rotational is not None:
        device.media = "hdd" if rotational else "ssd"
    if number(machine, f"{path}/hidden"):
        device.path_of = _head(name)
    if "device" in listed:
        device.model = attribute(machine, f"{path}/device/model") or attribute(machine, f"{path}/device/name")
        device.vendor = attribute(machine, f"{path}/device/vendor")
        device.serial = attribute(machine, f"{path}/device/serial") or _scsi_serial(machine, path)
    if device.serial is None and "serial" in listed:  # virtio
        device.serial = attribute(machine, f"{path}/serial")
    return device


def _capacity(machine: Machine, name: str) -> int | None:
    sectors = number(machine, f"{folder(name)}/size")
    return None if sectors is None else sectors * SECTOR_BYTES


def _scsi_serial(machine: Machine, path: str) -> str | None:
    """Vital product data, page 0x80: four bytes, then the serial number (SPC-4, 7.8.15)."""
    try:
        return decode_name(machine.read_sys(f"{path}/device/vpd_pg80")[4:].strip(b" \n\0")) or None
    except OSError:
        return None


def _head(name: str) -> str | None:
    """nvme0n1 for its hidden path nvme0c1n1 (nvme_mpath_set_disk_name)."""
    controller = name.find("c")
    namespace = name.find("n", controller)
    return name[:controller] + name[namespace:] if 0 < controller < namespace else None


class DisksReading:
    """`disks` and `devices` by name, whole devices with something in them only; `totals` over those in `summed`.

    `totals` are None until sysfs was read for each device. `spaces` and `pools`: the file systems; None where the
    mounts, or the pools, are not known.
    """

    __slots__ = ("devices", "disks", "pools", "spaces", "summed", "totals")

    def __init__(
        self,
        disks: dict[str, Disk],
        devices: dict[str, Device],
        summed: frozenset[str],
        totals: tuple[int | None, ...] | None,
        spaces: list[Space] | None,
        pools: list[Pool] | None,
    ) -> None:
        self.disks = disks
        self.devices = devices
        self.summed = summed
        self.totals = totals
        self.spaces = spaces
        self.pools = pools


class DiskReader:
    """Reads the counters each time, and what sysfs says of a device when it appears.

    After that the capacity of one device is read with each reading, in turn; another capacity is another medium, and
    all is read again. `version` grows when anything of it changed.

    sysfs takes 0.1 to 0.4 ms a device: `discover` reads the devices for which the time was too short.
    """

    def __init__(
        self, machine: Machine, *, statvfs: Callable[[str], os.statvfs_result], zpool: ZpoolCommand | None
    ) -> None:
        self._machine = machine
        self.file = KeptFile(machine, "diskstats", records=True)
        self.mounts = MountReader(machine, statvfs)
        self._zpool = zpool
        self._devices: dict[str, Device] = {}
        self._lines: Mapping[str, Disk] = {}
        self._pending: list[str] = []  # devices whose sysfs is not read yet
        self._empty: dict[str, tuple[int, ...]] = {}
        self._numbers: dict[str, str] = {}
        self._partitions: frozenset[bytes] = frozenset()
        self._summed: frozenset[str] = frozenset()
        self._sum = GrowingSum(len(SUMMED))
        self._turn = 0
        self.version = 0

    def read(self, end_ns: int = UNBOUNDED_NS) -> DisksReading:
        """Where `diskstats` cannot be read or understood there are no disks and no totals, but still the spaces.

        `end_ns`: when to stop reading sysfs; the devices that are left are in no reading yet.
        """
        lines = self.file.parsed(self._parse)
        self.discover(end_ns)
        disks: dict[str, Disk] = {}
        totals = None
        if lines is not None:
            devices = self._devices
            disks = {name: disk for name, disk in lines.items() if name in devices and _is_shown(devices[name])}
            counters = {name: disk.counters for name, disk in disks.items()}
            if not self._pending:
                totals = self._sum.update(counters, self._summed, self._machine.monotonic_ns(), _most)
                for name, values in self._sum.values.items():
                    disks[name].values = values
        spaces = self.mounts.read(self._owner, self.version, end_ns)
        pools = self._zpool.poll() if self._zpool is not None else None
        return DisksReading(disks, self._devices, self._summed, totals, spaces, pools)

    def close(self) -> None:
        self.file.close()
        self.mounts.file.close()

    def discover(self, end_ns: int) -> bool:
        """Read sysfs of the devices that are left; True while some are."""
        if not self._pending:
            return False
        for name in take(self._pending, self._machine.monotonic_ns, end_ns):
            self._devices[name] = read_device(self._machine, name, self._lines)
        if not self._pending:
            self._settle()
        return bool(self._pending)

    def _parse(self, data: bytes) -> dict[str, Disk]:
        """Without the partitions, as long as no device came or went."""
        if self._pending:
            lines = parse_diskstats(data)
            if lines.keys() != self._lines.keys():
                self._look(lines, [])
            return lines
        lines = parse_diskstats(data, self._partitions)
        if len(lines) + len(self._partitions) != len(self._devices) or not lines.keys() <= self._devices.keys():
            lines = parse_diskstats(data) if self._partitions else lines
            self._look(lines, [])
            return lines
        again = [name for name, counters in self._empty.items() if lines[name].counters != counters]
        if lines:
            self._turn = (self._turn + 1) % len(lines)
            name = list(lines)[self._turn]
            if _capacity(self._machine, name) != self._devices[name].capacity_bytes:
                again.append(name)
        if again:
            lines = parse_diskstats(data)
            self._look(lines, again)
        return lines

    def _look(self, lines: Mapping[str, Disk], again: Collection[str]) -> None:
        """Have sysfs read of the devices that are new, and of those `again`."""
        kept = {name: device for name, device in self._devices.items() if name in lines and name not in again}
        self._devices, self._lines = kept, lines
        self._pending = [name for name in list(lines)[::-1] if name not in kept]
        self._partitions = frozenset()
        if not self._pending:
            self._settle()

    def _settle(self) -> None:
        """Derive what depends on all devices."""
        lines = self._lines
        devices = {name: self._devices[name] for name in lines}
        for device in list(devices.values()):
            head = devices.get(device.path_of or "")
            if head is not None and _is_shown(device):
                head.stacked = True
        self._devices = devices
        self._empty = {name: lines[name].counters for name, device in devices.items() if device.capacity_bytes == 0}
        self._numbers = {disk.number: name for name, disk in lines.items()}
        self._partitions = frozenset(os.fsencode(name) for name, device in devices.items() if device.partition)
        self._summed = frozenset(name for name, each in devices.items() if _is_shown(each) and not each.stacked)
        self._lines = {}
        self.version += 1

    def _owner(self, number: str, source: str) -> str | None:
        """The whole device on which a file system lies: by the number of its device, else by the path of its source.

        btrfs shows a number of its own; device mapper and udev name their devices by links.
        """
        devices = self._devices
        name = self._numbers.get(number)
        if name is None and source.startswith("/dev/"):
            name = os.path.realpath(source).rpartition("/")[2]
        if name is None or name not in devices:
            return None
        return parent_of(name, devices) if devices[name].partition else name


def _most(_: str) -> float:
    return MOST_PER_SECOND


def _is_shown(device: Device) -> bool:
    return not device.partition and device.capacity_bytes != 0
