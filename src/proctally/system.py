"""The whole machine: what its processors, memory, disks and network have done and hold, in base units.

    from proctally import system
    system.stats().memory_available_bytes
    with system.Monitor() as monitor: ...; monitor.stats()   # again and again, from files that stay open

Counters are since boot. Bytes of disks come from 512-byte sectors, which is what the kernel counts on every device,
regardless of its hardware sector size (Documentation/admin-guide/iostats.rst). What is unknown is None.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from proctally.errors import closed
from proctally.host.derive import derive_cpu, derive_memory
from proctally.linux.disks import folder
from proctally.linux.machine import Machine, monotonic, this_machine
from proctally.linux.mounts import MountReader, Pool, Space, ZpoolCommand
from proctally.linux.net import NAMES
from proctally.linux.sources import entries, number
from proctally.linux.system import SystemReader, SystemReading
from proctally.text.escape import short_repr
from proctally.text.nearest import missing_attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any
else:  # a type checker would take every name for one of the module
    __getattr__ = missing_attribute(__name__)

__all__ = [
    "DiskCounters",
    "DiskSpace",
    "InterfaceCounters",
    "Monitor",
    "SystemStats",
    "disk_spaces",
    "sector_sizes",
    "stats",
]


def __dir__() -> list[str]:
    return list(__all__)


POOLS_PATIENCE = 6.0  # seconds; after five, `zpool` is given up
END_PATIENCE = 0.5  # for the end of one that was killed
POLL_SECONDS = 0.005


class DiskCounters(NamedTuple):
    """Bytes and completed requests of a whole disk since boot, from `diskstats`.

    `is_summed`: whether it counts in sums; a disk that is on other disks (loop, dm, md) does not.
    """

    read_bytes: int
    write_bytes: int
    reads: int
    writes: int
    is_summed: bool


class DiskSpace(NamedTuple):
    """The space of a file system, or of a ZFS pool, in bytes. None: unknown.

    `free_bytes`: for ordinary users. `used_bytes`: the rest; it includes what is kept for root, which df(1) leaves out.
    `filesystem`: its type.
    """

    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    filesystem: str


class InterfaceCounters(NamedTuple):
    """Bytes and packets of a network interface since it was made, from `net/dev`.

    `is_summed`: whether it counts in sums; the loopback, and one whose traffic another one in the sums carries (a
    bridge, a tunnel), do not.
    """

    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int
    receive_errors: int
    send_errors: int
    receive_drops: int
    send_drops: int
    is_summed: bool

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


class SystemStats(NamedTuple):
    """The machine at one moment: seconds and counts since boot, bytes now. None: unknown here.

    `at`: Unix seconds. `cpu_user_seconds` includes nice and guest time (`stat`). `memory_used_bytes`: total minus free,
    buffers and cache, where cache includes reclaimable slab (`meminfo`). `load_1`, `load_5`, `load_15`: processes
    (`loadavg`). `disks`, `disk_spaces` and `interfaces` are by name, by mount point or pool, and by name;
    `network_received_bytes` and `network_sent_bytes` sum the interfaces with `is_summed`.
    """

    at: float
    processes: int | None
    cpus: int | None
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    cpu_iowait_seconds: float | None
    cpu_irq_seconds: float | None
    cpu_softirq_seconds: float | None
    cpu_steal_seconds: float | None
    context_switches: int | None
    forks: int | None
    processes_running: int | None
    processes_blocked: int | None
    load_1: float | None
    load_5: float | None
    load_15: float | None
    threads: int | None
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    memory_available_bytes: int | None
    memory_used_bytes: int | None
    memory_buffers_bytes: int | None
    memory_cached_bytes: int | None
    memory_active_bytes: int | None
    memory_inactive_bytes: int | None
    swap_total_bytes: int | None
    swap_used_bytes: int | None
    disks: dict[str, DiskCounters] | None
    disk_spaces: dict[str, DiskSpace] | None
    network_received_bytes: int | None
    network_sent_bytes: int | None
    interfaces: dict[str, InterfaceCounters] | None

    def __repr__(self) -> str:
        return short_repr(self, self._asdict().items())


class Monitor:
    """Reads the machine again and again: files stay open, and what does not change is read once.

    Use it from one thread. A child process (`zpool`) lists the ZFS pools: the first reading waits for it, later ones
    have the answer of the last minute.
    """

    __slots__ = ("_is_closed", "_machine", "_reader", "_waits", "_zpool")

    def __init__(
        self,
        *,
        machine: Machine | None = None,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
        zpool: str = "",
    ) -> None:
        """Prepare; files are opened by the first reading.

        `machine`: where to read, as in `proctally.process`. `statvfs`, `zpool`: the call, and the path of the command,
        for the file systems and pools of another machine.
        """
        self._machine = machine or this_machine()
        self._zpool = ZpoolCommand(self._machine, zpool)
        self._reader = SystemReader(self._machine, statvfs=statvfs, zpool=self._zpool)
        self._waits = True
        self._is_closed = False

    def stats(self) -> SystemStats:
        """Return one reading; what cannot be read or parsed is None.

        Raises nothing for a missing part, and `AlreadyClosed` after `close`.
        """
        if self._is_closed:
            raise closed(self)
        if self._waits:
            self._waits = False
            _await_pools(self._zpool)
        return _stats(self._machine, self._reader.read())

    def close(self) -> None:
        """Close the files and end the child process; safe to call twice."""
        self._is_closed = True
        self._reader.close()
        _dismiss(self._zpool)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stats(*, machine: Machine | None = None) -> SystemStats:
    """Return the machine at this moment; what cannot be read or parsed is None.

    From `stat`, `meminfo`, `loadavg`, `diskstats`, `net/dev` and mountinfo of `/proc`, sysfs, statvfs(2) and `zpool
    list`.
    """
    with Monitor(machine=machine) as monitor:
        return monitor.stats()


def _stats(machine: Machine, reading: SystemReading) -> SystemStats:
    cpu: dict[str, Any] = derive_cpu(None, reading.cpu, reading.ticks)
    memory: dict[str, Any] = derive_memory(reading.memory) or {}
    load = reading.load
    loads = (None, None, None) if load is None else load.averages
    disks, net = reading.disks, reading.net
    return SystemStats(
        at=machine.time(),
        processes=reading.processes,
        cpus=cpu["cpus"],
        cpu_user_seconds=cpu["cpu_user_seconds"],
        cpu_system_seconds=cpu["cpu_system_seconds"],
        cpu_iowait_seconds=cpu["cpu_iowait_seconds"],
        cpu_irq_seconds=cpu["cpu_irq_seconds"],
        cpu_softirq_seconds=cpu["cpu_softirq_seconds"],
        cpu_steal_seconds=cpu["cpu_steal_seconds"],
        context_switches=cpu["context_switches"],
        forks=cpu["forks"],
        processes_running=cpu["processes_running"],
        processes_blocked=cpu["processes_blocked"],
        load_1=loads[0],
        load_5=loads[1],
        load_15=loads[2],
        threads=None if load is None else load.threads,
        memory_total_bytes=memory.get("total_bytes"),
        memory_free_bytes=memory.get("free_bytes"),
        memory_available_bytes=memory.get("available_bytes"),
        memory_used_bytes=memory.get("used_bytes"),
        memory_buffers_bytes=memory.get("buffers_bytes"),
        memory_cached_bytes=memory.get("cached_bytes"),
        memory_active_bytes=memory.get("active_bytes"),
        memory_inactive_bytes=memory.get("inactive_bytes"),
        swap_total_bytes=memory.get("swap_total_bytes"),
        swap_used_bytes=memory.get("swap_used_bytes"),
        disks=None
        if disks is None or disks.totals is None
        else {name: DiskCounters._make((*disk.counters, name in disks.summed)) for name, disk in disks.disks.items()},
        disk_spaces=None if disks is None or disks.spaces is None else _spaces(disks.spaces, disks.pools),
        network_received_bytes=None if net is None else net.totals[RECEIVED],
        network_sent_bytes=None if net is None else net.totals[SENT],
        interfaces=None
        if net is None
        else {
            name: InterfaceCounters._make((*counters, name in net.summed)) for name, counters in net.counters.items()
        },
    )


RECEIVED, SENT = NAMES.index("received_bytes"), NAMES.index("sent_bytes")


def disk_spaces(
    *,
    machine: Machine | None = None,
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    zpool: str = "",
) -> dict[str, DiskSpace]:
    """Return the space of each local file system on a block device by mount point, and of each ZFS pool by name.

    Of several mounts of one file system the one that shows the most counts; so does the overlay that is the root of a
    container. Remote file systems and FUSE are left out: a request to them can hang. From mountinfo, statvfs(2) and
    `zpool list`. Raises OSError where the mounts cannot be read: `AccessDenied` without procfs.
    """
    machine = machine or this_machine()
    reader = MountReader(machine, statvfs)
    command = ZpoolCommand(machine, zpool)
    try:
        spaces = reader.read(_no_owner, 0)
        if spaces is None:
            machine.need_procfs()
            error = reader.file.error
            assert error is not None
            raise OSError(getattr(error, "errno", 0), str(error.args[-1]), f"{machine.proc}/{reader.file.path}")
        return _spaces(spaces, _await_pools(command))
    finally:
        reader.file.close()
        _dismiss(command)


def _no_owner(number: str, source: str) -> None:
    """Take the device of a file system, which is not needed here."""


def _spaces(spaces: list[Space], pools: list[Pool] | None) -> dict[str, DiskSpace]:
    found = {}
    for space in spaces:
        total, free = space.total_bytes, space.free_bytes
        used = None if total is None or free is None else total - free
        found[space.point] = DiskSpace(total, used, free, space.kind)
    for pool in pools or ():
        found[pool.name] = DiskSpace(pool.total_bytes, pool.total_bytes - pool.free_bytes, pool.free_bytes, "zfs")
    return found


def _await_pools(command: ZpoolCommand) -> list[Pool] | None:
    pools = command.poll()
    deadline = monotonic() + POOLS_PATIENCE
    while command.pid and monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        pools = command.poll()
    return pools


def _dismiss(command: ZpoolCommand) -> None:
    """End a child that still runs, without a zombie: a killed one exits at once, unless it hangs in the kernel."""
    command.close()
    deadline = monotonic() + END_PATIENCE
    while not command.reap() and monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def sector_sizes(*, machine: Machine | None = None) -> dict[str, int | None]:
    """Return the hardware sector size in bytes of each whole block device; None where sysfs does not have it.

    From `queue/hw_sector_size` of sysfs. `diskstats` never counts in it: there a sector is 512 bytes on every device.
    """
    machine = machine or this_machine()
    found = {}
    for entry in sorted(entries(machine, "class/block") or ()):
        if "partition" not in (entries(machine, f"class/block/{entry}") or ()):
            name = entry.replace("!", "/")
            found[name] = number(machine, f"{folder(name)}/queue/hw_sector_size")
    return found
