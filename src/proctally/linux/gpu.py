"""What one look at the GPUs gives, whatever the vendor, and whether there is any GPU to look at.

The readings are made in a process of their own (`gpu_helper`), since a driver may hang in any call, and travel to the
tracker as lists of values in the order of the slots. Base units; what is not known is None.
"""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE
from proctally.linux.machine import Machine
from proctally.linux.proc import read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    Reading = TypeVar("Reading", bound="GpuProcess | GpuInstance | GpuDevice | GpuClient | GpuReading")

PF_KTHREAD = 0x00200000  # include/linux/sched.h

# Above these an answer is impossible: drivers show such numbers for a moment.
MAX_CELSIUS = 250
MAX_WATTS = 20_000
MAX_JOULES = 1e13  # of a device of 20 kW in 15 years
MAX_HERTZ = 20_000_000_000
MAX_FAN_RATIO = 2
MAX_COUNT = 1 << 48
MAX_BYTES = 1 << 48
MAX_LINK = 64  # lanes, or the generation
MAX_PCIE = 2.5e11  # bytes per second


class GpuProcess:
    """A process as the driver of a device lists it. `pid`: of which namespace, the driver alone knows.

    `utilization_ratio`: the mean of its records since the last reading; None where it has none. `listed`: whether it
    holds memory of the device now; one that ended since has only records.
    """

    __slots__ = ("compute_instance", "gpu_instance", "listed", "memory_bytes", "pid", "utilization_ratio")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory_bytes: int | None = None
        self.utilization_ratio: float | None = None
        self.gpu_instance: int | None = None
        self.compute_instance: int | None = None
        self.listed = False


class GpuInstance:
    """A MIG instance: a part of a device with its own memory and its own share of the processors."""

    __slots__ = (
        "compute_instance",
        "gpu_instance",
        "index",
        "memory_total_bytes",
        "memory_used_bytes",
        "name",
        "uuid",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.uuid: str | None = None
        self.name: str | None = None
        self.gpu_instance: int | None = None
        self.compute_instance: int | None = None
        self.memory_used_bytes: int | None = None
        self.memory_total_bytes: int | None = None


class GpuDevice:
    """One GPU. `lost`: its driver no longer reaches it; `asleep`: it is powered down, and reading it would wake it.

    `pcie_*_bytes` and `energy_joules` are counters, `pcie_*_bytes_per_second` what the driver itself measured.
    `driver`: the kernel's. `processes`: None where it does not list them; `records_known`: whether it told what they
    used. `errors`: numbers of the NVML errors of what could not be read, by function.
    """

    __slots__ = (
        "asleep",
        "driver",
        "driver_version",
        "ecc_corrected",
        "ecc_uncorrected",
        "energy_joules",
        "errors",
        "fan_ratio",
        "graphics_clock_hertz",
        "index",
        "instances",
        "lost",
        "memory_busy_ratio",
        "memory_clock_hertz",
        "memory_total_bytes",
        "memory_used_bytes",
        "mig",
        "name",
        "pci",
        "pcie_generation",
        "pcie_received_bytes",
        "pcie_received_bytes_per_second",
        "pcie_sent_bytes",
        "pcie_sent_bytes_per_second",
        "pcie_width",
        "power_limit_watts",
        "power_watts",
        "processes",
        "records_known",
        "sm_clock_hertz",
        "temperature_celsius",
        "throttle_reasons",
        "utilization_ratio",
        "uuid",
        "vendor",
    )

    def __init__(self, vendor: str, index: int) -> None:
        self.vendor = vendor
        self.index = index
        self.uuid: str | None = None
        self.name: str | None = None
        self.pci: str | None = None
        self.driver: str | None = None
        self.driver_version: str | None = None
        self.lost = False
        self.asleep = False
        self.mig: bool | None = None
        self.instances: list[GpuInstance] = []
        self.processes: list[GpuProcess] | None = None
        self.records_known = False
        self.errors: dict[str, int] = {}
        self.utilization_ratio: float | None = None
        self.memory_busy_ratio: float | None = None
        self.memory_used_bytes: int | None = None
        self.memory_total_bytes: int | None = None
        self.temperature_celsius: float | None = None
        self.power_watts: float | None = None
        self.power_limit_watts: float | None = None
        self.energy_joules: float | None = None
        self.graphics_clock_hertz: int | None = None
        self.sm_clock_hertz: int | None = None
        self.memory_clock_hertz: int | None = None
        self.fan_ratio: float | None = None
        self.throttle_reasons: list[str] | None = None
        self.ecc_corrected: int | None = None
        self.ecc_uncorrected: int | None = None
        self.pcie_received_bytes: int | None = None
        self.pcie_sent_bytes: int | None = None
        self.pcie_received_bytes_per_second: float | None = None
        self.pcie_sent_bytes_per_second: float | None = None
        self.pcie_generation: int | None = None
        self.pcie_width: int | None = None


class GpuClient:
    """An open DRM device of members of the tree, which may share it (a descriptor that was inherited): `pids`.

    `engines`: busy nanoseconds; `cycles`: busy and all cycles, of drivers that count these; `capacity`: how many
    alike an engine stands for, where that is more than one. `memory`: bytes by region. `since_ns`: it was not there
    yet then, by the monotonic clock; None where that is not known.
    """

    __slots__ = ("capacity", "client", "cycles", "device", "driver", "engines", "memory", "pids", "since_ns")

    def __init__(self, driver: str, device: str, client: str) -> None:
        self.driver = driver
        self.device = device
        self.client = client
        self.pids: list[int] = []
        self.since_ns: int | None = None
        self.engines: dict[str, int] = {}
        self.cycles: dict[str, list[int]] = {}
        self.capacity: dict[str, int] = {}
        self.memory: dict[str, int] = {}


class GpuReading:
    """One look. `at_ns`: by the monotonic clock, when it began; `took_ns`: how long it lasted.

    `nvidia_missing`: the code that says why nothing is known of NVIDIA's devices. `host_pids`: the pids of the tree are
    those of the host, which NVIDIA's driver reports. `aliases`: members by their pid in the helper's own namespace,
    where that is another. `foreign`: NVIDIA's lists hold pids that no process here has. `nvidia_users`, `kfd_users`:
    members that hold such a device open; `unread`: those whose descriptors may not be read; `waiting`: how many were
    not looked at yet. `kfd_memory`: [pid, device, bytes]. `silent`: [pid, device] of members whose use of that DRM
    device its driver does not tell.
    """

    __slots__ = (
        "aliases",
        "at_ns",
        "clients",
        "devices",
        "foreign",
        "host_pids",
        "kfd_memory",
        "kfd_users",
        "nvidia_missing",
        "nvidia_users",
        "silent",
        "took_ns",
        "unread",
        "waiting",
    )

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns
        self.took_ns = 0
        self.devices: list[GpuDevice] = []
        self.clients: list[GpuClient] = []
        self.nvidia_missing: str | None = None
        self.host_pids = True
        self.aliases: list[list[int]] = []
        self.foreign = False
        self.nvidia_users: list[int] = []
        self.kfd_users: list[int] = []
        self.kfd_memory: list[list[Any]] = []
        self.silent: list[list[Any]] = []
        self.unread: list[int] = []
        self.waiting = 0


def pack(reading: object) -> list[object]:
    """The values in the order of the slots; for `json.dumps(..., default=pack)`."""
    return [getattr(reading, name) for name in reading.__slots__]  # type: ignore[attr-defined]


def _fill(reading: Reading, values: list[object]) -> Reading:
    for name, value in zip(reading.__slots__, values, strict=True):
        setattr(reading, name, value)
    return reading


def unpack(values: list[object]) -> GpuReading:
    """The reading that was packed; raises ValueError or TypeError where it is none."""
    reading = _fill(GpuReading(0), values)
    reading.devices = [_fill(GpuDevice("", 0), device) for device in reading.devices]  # type: ignore[arg-type]
    reading.clients = [_fill(GpuClient("", "", ""), client) for client in reading.clients]  # type: ignore[arg-type]
    for device in reading.devices:
        device.instances = [_fill(GpuInstance(0), each) for each in device.instances]  # type: ignore[arg-type]
        if device.processes is not None:
            device.processes = [_fill(GpuProcess(0), each) for each in device.processes]  # type: ignore[arg-type]
    return reading


# -- what there is, without asking a driver --------------------------------------------------------------------------


def has_nvidia(machine: Machine, dev: str = "/dev") -> bool:
    """Whether NVIDIA's driver is there: its module, its control device, or WSL's door to the host's driver.

    Three stat(2). The library alone says nothing: images with CUDA hold it on machines without any GPU.
    """
    paths = (f"{machine.proc}/driver/nvidia/version", f"{dev}/nvidiactl", f"{dev}/dxg")
    return any(map(os.path.exists, paths))


def has_drm(machine: Machine) -> bool:
    """Whether another driver has a GPU here: a render node that is not NVIDIA's own, or AMD's compute device."""
    folder = f"{machine.sys}/class/drm"
    try:
        nodes = [name for name in os.listdir(folder) if name.startswith("renderD")]
    except OSError:
        return False
    return any(driver_of(machine, node) not in (None, "nvidia") for node in nodes)


def driver_of(machine: Machine, node: str) -> str | None:
    """The kernel's driver of a DRM node (card0, renderD128)."""
    try:
        return os.readlink(f"{machine.sys}/class/drm/{node}/device/driver").rpartition("/")[2]
    except OSError:
        return None


def shows_host_pids(machine: Machine) -> bool:
    """Whether this `/proc` is that of the initial pid namespace, in which kernel threads live and nowhere else.

    Where other users' processes are hidden (hidepid), the number of the namespace decides.
    """
    try:
        thread = read_stat(machine, 2)
        if thread.ppid == 0 and thread.flags & PF_KTHREAD:
            return True
    except UNREADABLE:
        pass
    return machine.in_initial_pid_namespace() is True
