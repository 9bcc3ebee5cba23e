"""The GPUs of AMD, Intel and others: `/proc/PID/fdinfo` of what members of the tree hold open, and sysfs.

Layouts: Documentation/gpu/drm-usage-stats.rst, amdgpu's and i915's documents of their sysfs, ABI/testing/sysfs-driver-
intel-*-hwmon, and drivers/gpu/drm/amd/amdkfd for compute that goes past DRM. Runs in the helper process: a read wakes
the device, or waits for its driver.
"""

from __future__ import annotations

import os

from proctally.errors import UNREADABLE, ProcessGone
from proctally.linux.gpu import MAX_CELSIUS, MAX_HERTZ, MAX_JOULES, MAX_WATTS, GpuClient, GpuDevice, driver_of
from proctally.linux.machine import Machine, classify
from proctally.linux.sources import attribute, entries, number
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MICRO = 1_000_000
UNITS = {b"": 1, b"B": 1, b"KiB": 1 << 10, b"MiB": 1 << 20, b"GiB": 1 << 30, b"ns": 1}
VENDORS = {"0x1002": "amd", "0x8086": "intel", "0x10de": "nvidia"}
# Of several keys for the memory of a region the first that is there: what it holds now, under its name and its old
# name (a driver that has only `memory` means that), else what it could hold.
MEMORY_KEYS = (b"drm-resident-", b"drm-memory-", b"drm-total-")
GENERATIONS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}  # GT/s of each PCIe generation

RESCAN_NS = 10_000_000_000  # how often the descriptors of a process are listed again
NEW_NS = 1_000_000_000  # and of one that was listed but once: it may not have begun yet
BUDGET_NS = 20_000_000  # what one reading spends on listings; who had no turn is first in the next

# -- fdinfo ----------------------------------------------------------------------------------------------------------


def parse_fdinfo(data: bytes) -> GpuClient | None:
    """`/proc/PID/fdinfo/FD`: the client that it is, or None where it is no DRM device or its driver tells nothing.

    `client` is empty where the kernel does not number its clients, `device` where the device is not on PCI.
    """
    values: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        key, colon, value = line.partition(b":")
        if colon and key.startswith(b"drm-"):
            values[key] = value.strip()
    driver = values.get(b"drm-driver")
    if not driver:
        return None
    client = GpuClient(
        decode_name(driver), decode_name(values.get(b"drm-pdev", b"")), decode_name(values.get(b"drm-client-id", b""))
    )
    for key, value in values.items():
        if key.startswith(b"drm-engine-capacity-"):
            client.capacity[decode_name(key[20:])] = max(1, _quantity(key, value))
        elif key.startswith(b"drm-engine-"):
            client.engines[decode_name(key[11:])] = _quantity(key, value)
        elif key.startswith(b"drm-total-cycles-"):
            busy = values.get(b"drm-cycles-" + key[17:])
            if busy is not None:
                client.cycles[decode_name(key[17:])] = [_quantity(b"drm-cycles-", busy), _quantity(key, value)]
    for prefix in MEMORY_KEYS:
        for key, value in values.items():
            if key.startswith(prefix) and not key.startswith(b"drm-total-cycles-"):
                client.memory.setdefault(decode_name(key[len(prefix) :]), _quantity(key, value))
    return client


def _quantity(key: bytes, value: bytes) -> int:
    """A number and its unit in base units; raises ValueError where it is none."""
    words = value.split()
    if not 1 <= len(words) <= 2 or not words[0].isdigit() or (len(words) == 2 and words[1] not in UNITS):
        raise ValueError(f"{decode_name(key)}: {value[:100]!r}")
    return int(words[0]) * (UNITS[words[1]] if len(words) == 2 else 1)


class Opened:
    """What a process has open of GPUs, when it was last looked at.

    `nodes`: its DRM descriptors, what they are, and when it did not have them yet. `since_ns`: it was not there yet, or
    looked at, then. `silent`: devices among them of which the driver tells nothing.
    """

    __slots__ = ("at_ns", "denied", "kfd", "nodes", "nvidia", "silent", "since_ns", "times")

    def __init__(self, since_ns: int | None) -> None:
        self.since_ns = since_ns
        self.at_ns = 0
        self.times = 0
        self.denied = False
        self.nvidia = False
        self.kfd = False
        self.nodes: dict[str, tuple[str, int | None]] = {}
        self.silent: set[str] = set()


def list_opened(machine: Machine, pid: int, opened: Opened) -> None:
    """List the descriptors of a process by their links; raises `ProcessGone`.

    `nvidia-uvm` is open where CUDA was started (`dxg` below WSL), `nvidia-modeset` where something is drawn; a process
    that only watches (NVML) has neither.
    """
    folder = f"{machine.proc}/{pid}/fd"
    before, opened.nodes = opened.nodes, {}
    opened.silent = set()
    opened.nvidia = opened.kfd = opened.denied = False
    try:
        names = os.listdir(folder)
    except OSError as error:
        if isinstance(known := classify(error), PermissionError):
            opened.denied = True
            return
        raise known from None
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if not target.startswith("/dev/"):
            continue
        if target.startswith("/dev/dri/"):
            node, since_ns = before.get(name, ("", None))
            opened.nodes[name] = target[9:], since_ns if node == target[9:] else opened.since_ns
        elif target.startswith(("/dev/nvidia-uvm", "/dev/nvidia-modeset", "/dev/dxg")):
            opened.nvidia = True
        elif target == "/dev/kfd":
            opened.kfd = True


class Clients:
    """Finds which members of the tree use GPUs, and reads what they use.

    Descriptors are listed when a process is new, a second later, and then every ten; what was found is read each time.
    """

    __slots__ = ("_machine", "_opened", "_since_ns")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._opened: dict[int, Opened] = {}
        self._since_ns = 0

    def add(self, pid: int, since_ns: int | None) -> None:
        """A process became a member, after this moment if that is known."""
        self._opened[pid] = Opened(since_ns)

    def drop(self, pid: int) -> None:
        """A member is gone."""
        self._opened.pop(pid, None)

    def pids(self) -> Iterable[int]:
        """The members."""
        return self._opened.keys()

    def look(self, *, all_anew: bool = False) -> int:
        """List the descriptors of those whose turn it is; returns how many still wait for theirs.

        `all_anew`: what was listed before now does not count any more, with this look or as many as it takes.
        """
        clock = self._machine.monotonic_ns
        now = clock()
        if all_anew:
            self._since_ns = now
        deadline = now + BUDGET_NS
        due = [
            (opened.at_ns, pid)
            for pid, opened in self._opened.items()
            if self._waits(opened) or now - opened.at_ns > (NEW_NS if opened.times == 1 else RESCAN_NS)
        ]
        due.sort()
        for done, (_, pid) in enumerate(due):
            if clock() > deadline:
                return sum(1 for _, late in due[done:] if self._waits(self._opened[late]))
            opened = self._opened[pid]
            opened.at_ns = clock()
            opened.times += 1
            try:
                list_opened(self._machine, pid, opened)
            except UNREADABLE:
                opened.nodes = {}
            opened.since_ns = opened.at_ns
        return 0

    def _waits(self, opened: Opened) -> bool:
        return not opened.times or opened.at_ns < self._since_ns

    def users(self) -> tuple[list[int], list[int], list[int]]:
        """Members with NVIDIA's device open, with AMD's compute device open, and those that may not be looked at."""
        found = self._opened.items()
        return (
            [pid for pid, opened in found if opened.nvidia],
            [pid for pid, opened in found if opened.kfd],
            [pid for pid, opened in found if opened.denied],
        )

    def read(self) -> list[GpuClient]:
        """Every client once, however many descriptors and processes share it; the larger of what these say.

        A file that is gone or tells nothing is left out, with its descriptor, until the next listing.
        """
        machine = self._machine
        clients: dict[tuple[str, str], GpuClient] = {}
        for pid, opened in self._opened.items():
            for name, (node, since_ns) in list(opened.nodes.items()):
                try:
                    client = parse_fdinfo(machine.read(f"{pid}/fdinfo/{name}", to_end=True))
                except ProcessGone:
                    del opened.nodes[name]
                    continue
                except UNREADABLE:
                    client = None
                if client is None:
                    del opened.nodes[name]
                    opened.silent.add(device_name(machine, node))
                    continue
                client.pids = [pid]
                client.since_ns = since_ns
                client.device = client.device or device_name(machine, node)
                first = clients.setdefault((client.device, client.client or f"{pid}/{name}"), client)
                if first is not client:
                    _merge(first, client)
        return list(clients.values())

    def silent(self) -> list[list[object]]:
        """[pid, device] of members that have a device open whose driver tells nothing of them."""
        return [[pid, device] for pid, opened in self._opened.items() for device in sorted(opened.silent)]


def _merge(first: GpuClient, again: GpuClient) -> None:
    first.pids += (pid for pid in again.pids if pid not in first.pids[-1:])
    if first.since_ns is not None:
        first.since_ns = None if again.since_ns is None else min(first.since_ns, again.since_ns)
    for name, busy in again.engines.items():
        first.engines[name] = max(busy, first.engines.get(name, 0))
    for name, cycles in again.cycles.items():
        first.cycles[name] = max(cycles, first.cycles.get(name, cycles))
    for region, held in again.memory.items():
        first.memory[region] = max(held, first.memory.get(region, 0))


def device_name(machine: Machine, node: str) -> str:
    """What sysfs calls the device behind a DRM node: its PCI address, or the name of a part of the chip."""
    try:
        return os.readlink(f"{machine.sys}/class/drm/{node}/device").rpartition("/")[2]
    except OSError:
        return node


# -- AMD's compute -----------------------------------------------------------------------------------------------------


def kfd_devices(machine: Machine) -> dict[str, str]:
    """PCI addresses by the id that amdkfd gives each GPU (topology: location_id is bus and device, domain apart)."""
    found = {}
    for node in entries(machine, "class/kfd/kfd/topology/nodes") or ():
        path = f"class/kfd/kfd/topology/nodes/{node}"
        gpu = attribute(machine, f"{path}/gpu_id")
        said = attribute(machine, f"{path}/properties")
        if gpu is None or gpu == "0" or said is None:
            continue
        values = dict(line.split(None, 1) for line in said.splitlines() if len(line.split(None, 1)) == 2)
        try:
            place, domain = int(values["location_id"]), int(values.get("domain", "0"))
        except (KeyError, ValueError):
            continue
        found[gpu] = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
    return found


def kfd_memory(machine: Machine, pids: Iterable[int], devices: dict[str, str]) -> list[list[object]]:
    """[pid, PCI address, bytes] of video memory that these processes hold for compute."""
    found: list[list[object]] = []
    for pid in pids:
        for name in entries(machine, f"class/kfd/kfd/proc/{pid}") or ():
            held = number(machine, f"class/kfd/kfd/proc/{pid}/{name}") if name.startswith("vram_") else None
            if held is not None and name[5:] in devices:
                found.append([pid, devices[name[5:]], held])
    return found


# -- sysfs -----------------------------------------------------------------------------------------------------------


def cards(machine: Machine) -> list[str]:
    """The GPUs among the cards, by number: those with a render node and a driver, NVIDIA's own aside."""
    found = []
    for name in entries(machine, "class/drm") or ():
        if not name.startswith("card") or not name[4:].isdigit():
            continue  # card0-DP-1 is a connector
        beside = entries(machine, f"class/drm/{name}/device/drm") or ()
        if any(each.startswith("renderD") for each in beside) and driver_of(machine, name) not in (None, "nvidia"):
            found.append(name)
    return sorted(found, key=lambda name: int(name[4:]))


def read_card(machine: Machine, card: str) -> GpuDevice:
    """What sysfs tells of one card. Nothing is read of one that is powered down but its name: that would wake it."""
    path = f"class/drm/{card}/device"
    driver = driver_of(machine, card)
    vendor = attribute(machine, f"{path}/vendor") or ""
    device = GpuDevice(VENDORS.get(vendor, driver or "unknown"), int(card[4:]))
    device.driver = driver
    device.pci = device_name(machine, card)
    device.uuid = attribute(machine, f"{path}/unique_id")
    device.name = attribute(machine, f"{path}/product_name") or _named(driver, vendor, machine, path)
    if attribute(machine, f"{path}/power/runtime_status") in ("suspended", "suspending"):
        device.asleep = True
        return device
    device.utilization_ratio = _percent(number(machine, f"{path}/gpu_busy_percent"))
    device.memory_busy_ratio = _percent(number(machine, f"{path}/mem_busy_percent"))
    device.memory_used_bytes = number(machine, f"{path}/mem_info_vram_used")
    device.memory_total_bytes = number(machine, f"{path}/mem_info_vram_total")
    speed = (attribute(machine, f"{path}/current_link_speed") or "").partition(" ")[0]
    device.pcie_generation = GENERATIONS.get(speed)
    device.pcie_width = number(machine, f"{path}/current_link_width") if device.pcie_generation else None
    _read_errors(machine, f"{path}/ras/umc_err_count", device)
    for name in entries(machine, f"{path}/hwmon") or ():
        _read_hwmon(machine, f"{path}/hwmon/{name}", device)
        break
    if driver == "i915":
        _read_gt(machine, f"class/drm/{card}/gt/gt0", "rps_act_freq_mhz", "throttle_reason_", device)
    elif driver == "xe":
        folder = f"{path}/tile0/gt0/freq0"
        _read_gt(machine, folder, "act_freq", "reason_", device, throttle=f"{folder}/throttle")
    return device


def _named(driver: str | None, vendor: str, machine: Machine, path: str) -> str | None:
    product = attribute(machine, f"{path}/device")
    return f"{driver or 'unknown'} {vendor}:{product}" if product is not None else driver


def _percent(value: int | None) -> float | None:
    return _amount(value, 100, 1)


def _read_hwmon(machine: Machine, path: str, device: GpuDevice) -> None:
    """Microwatts, microjoules, thousandths of a degree, hertz (Documentation/hwmon/sysfs-interface.rst)."""
    temperature = number(machine, f"{path}/temp1_input")
    if temperature is None:
        temperature = number(machine, f"{path}/temp2_input")  # xe: 1 is not there, 2 is the package
    power = number(machine, f"{path}/power1_average")
    if power is None:
        power = number(machine, f"{path}/power1_input")
    limit = number(machine, f"{path}/power1_cap")
    if limit is None:
        limit = number(machine, f"{path}/power1_max")
    energy = number(machine, f"{path}/energy1_input")
    device.temperature_celsius = _amount(temperature, 1000, MAX_CELSIUS)
    device.power_watts = _amount(power, MICRO, MAX_WATTS)
    device.power_limit_watts = _amount(limit, MICRO, MAX_WATTS) if limit else None  # 0: there is none
    device.energy_joules = _amount(energy, MICRO, MAX_JOULES)
    for name, file in ("graphics", "freq1_input"), ("memory", "freq2_input"):
        hertz = number(machine, f"{path}/{file}")
        setattr(device, f"{name}_clock_hertz", hertz if hertz is not None and 0 <= hertz <= MAX_HERTZ else None)
    device.fan_ratio = _amount(number(machine, f"{path}/pwm1"), 255, 1)


def _amount(value: int | None, per: int, most: float) -> float | None:
    """Return a number in another unit (`per` of it are one), None where it is impossible."""
    return value / per if value is not None and 0 <= value / per <= most else None


def _read_errors(machine: Machine, path: str, device: GpuDevice) -> None:
    """amdgpu: `ue: 0` and `ce: 0`, uncorrected and corrected errors of the memory."""
    for line in (attribute(machine, path) or "").splitlines():
        kind, _, count = line.partition(":")
        if not count.strip().isdigit():
            continue
        if kind.strip() == "ue":
            device.ecc_uncorrected = int(count)
        elif kind.strip() == "ce":
            device.ecc_corrected = int(count)


def _read_gt(
    machine: Machine, path: str, clock: str, prefix: str, device: GpuDevice, *, throttle: str | None = None
) -> None:
    """Intel's first graphics tile: its clock in MHz, and files of 0 or 1 for each reason of throttling."""
    megahertz = number(machine, f"{path}/{clock}")
    device.graphics_clock_hertz = None if megahertz is None else megahertz * MICRO
    folder = throttle or path
    files = [name for name in entries(machine, folder) or () if name.startswith(prefix) and not name.endswith("status")]
    if files:
        found = (name for name in sorted(files) if number(machine, f"{folder}/{name}"))
        device.throttle_reasons = [name[len(prefix) :] for name in found]
