"""The process that talks to GPU drivers, so that one that hangs stalls neither the sampling nor the exit.

It reads one line of JSON from its socket for each reading that is wanted and answers with one; it ends when the socket
does, or its parent. It is started by `gpu_client`, knows nothing of the tracker, and is killed where it hangs.
"""

from __future__ import annotations

import os
import sys

from proctally.errors import UNREADABLE
from proctally.linux.c_library import libc
from proctally.linux.drm import Clients, cards, kfd_devices, kfd_memory, read_card
from proctally.linux.gpu import GpuDevice, GpuReading, has_drm, has_nvidia, pack, shows_host_pids
from proctally.linux.machine import NANOSECONDS, Machine
from proctally.linux.sources import attribute
from proctally.record.codes import NO_BINDING, nvml_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from proctally.linux.nvml import Nvml

PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
SIGKILL = 9
SOCKET = 0
RELIST_NS = 30 * NANOSECONDS  # how often it is looked whether there are other cards than before


def main() -> None:
    """`sys.argv`: pid of the parent, roots of procfs, sysfs and devices."""
    parent, proc, sys_root, dev = sys.argv[1:5]
    die_with(int(parent))
    try:
        os.chdir("/")  # keep no file system busy
    except OSError:
        pass
    reader = GpuReader(Machine(proc, sys=sys_root), dev)
    serve(reader, SOCKET)
    os._exit(0)  # without the finalizers of a driver's library, which may hang


def die_with(parent: int) -> None:
    """End with the thread that started this process, also while a call of the driver waits (not in state D)."""
    library = libc()
    if library is not None:
        library.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def serve(reader: GpuReader, fd: int) -> None:
    """Answer until nobody asks any more."""
    import json

    pending = b""
    while True:
        line, newline, rest = pending.partition(b"\n")
        if not newline:
            data = os.read(fd, 65536)
            if not data:
                return
            pending += data
            continue
        pending = rest
        request = json.loads(line)
        answer: dict[str, Any] = {"number": request["number"]}
        try:
            answer["reading"] = reader.read(request["add"], request["drop"])
        except Exception:  # nothing that a driver does may end the answers
            pass
        left = json.dumps(answer, default=pack, allow_nan=False).encode() + b"\n"
        try:
            while left:
                left = left[os.write(fd, left) :]
        except OSError:
            return


class GpuReader:
    """Everything that is read, by whichever driver."""

    def __init__(self, machine: Machine, dev: str) -> None:
        self._machine = machine
        self._dev = dev
        self._clients = Clients(machine)
        self._nvml: Nvml | None = None
        self._nvidia_missing: str | None = None
        self._cards: list[str] = []
        self._seen: dict[str | None, GpuDevice] = {}  # by PCI address
        self._kfd: dict[str, str] = {}
        self._has_drm = False
        self._relist_ns = 0
        self._last_ns: int | None = None
        self._host_pids = (
            shows_host_pids(machine)
            and len(namespace_pids(machine, "self")) <= 1
            and not os.path.exists(f"{dev}/dxg")  # the host is Windows
        )
        self._foreign: set[int] = set()

    def read(self, add: list[int], drop: list[int]) -> GpuReading:
        """One reading, after these processes became members, and these ceased to be."""
        machine = self._machine
        for pid in drop:
            self._clients.drop(pid)
        for pid in add:
            self._clients.add(pid, self._last_ns)
        reading = GpuReading(machine.monotonic_ns())
        self._last_ns = reading.at_ns
        reading.host_pids = self._host_pids
        self._read_nvidia(reading)
        if reading.at_ns >= self._relist_ns:
            self._relist_ns = reading.at_ns + RELIST_NS
            self._has_drm = has_drm(machine)
            self._cards = cards(machine)
            self._kfd = kfd_devices(machine)
        reading.devices += self._read_cards()
        self._read_members(reading)
        reading.took_ns = machine.monotonic_ns() - reading.at_ns
        return reading

    def _read_cards(self) -> list[GpuDevice]:
        """The cards, with those that were there once and are no more."""
        devices = [read_card(self._machine, card) for card in self._cards]
        there = {device.pci: device for device in devices if device.driver is not None}
        if len(there) < len(devices):
            self._relist_ns = 0
        self._seen |= there
        found = list(there.values())
        for pci, last in self._seen.items():
            if pci not in there:
                gone = GpuDevice(last.vendor, last.index)
                gone.driver, gone.pci, gone.uuid, gone.name = last.driver, pci, last.uuid, last.name
                gone.lost = True
                found.append(gone)
        return found

    def _read_nvidia(self, reading: GpuReading) -> None:
        if self._nvml is None and self._nvidia_missing is None:
            if not has_nvidia(self._machine, self._dev):
                return
            asleep = _asleep(self._machine)
            if asleep is not None:
                reading.devices += asleep
                return
            self._open_nvidia()
        if self._nvml is not None:
            reading.devices += self._nvml.read()
            self._nvidia_missing = None if self._nvml.error is None else nvml_code(self._nvml.error)
        reading.nvidia_missing = self._nvidia_missing

    def _open_nvidia(self) -> None:
        try:
            import pynvml  # type: ignore[import-untyped, import-not-found, unused-ignore]
        except ImportError:
            self._nvidia_missing = NO_BINDING
            return
        from proctally.linux.nvml import Nvml

        self._nvml = Nvml(pynvml, self._machine.monotonic_ns)

    def _read_members(self, reading: GpuReading) -> None:
        """Who of the tree uses what.

        On the host, NVIDIA's driver lists its processes by the pids that the tree has, and the descriptors say
        nothing more. In a pid namespace it may list those of the host: then what members hold open decides, and is
        listed anew when there is somebody in the driver's list who was not there before.
        """
        listed = {process.pid for device in reading.devices for process in device.processes or ()}
        nvidia = any(device.driver == "nvidia" for device in reading.devices)
        if not self._has_drm and (self._host_pids or not nvidia):
            return
        foreign = listed - set(self._clients.pids())
        appeared, self._foreign = foreign - self._foreign, foreign
        reading.waiting = self._clients.look(all_anew=bool(appeared) and not self._host_pids)
        reading.nvidia_users, reading.kfd_users, reading.unread = self._clients.users()
        reading.clients = self._clients.read()
        reading.silent = self._clients.silent()
        if self._host_pids:  # sysfs has it under the pids of the host
            reading.kfd_memory = kfd_memory(self._machine, reading.kfd_users, self._kfd)
        else:
            reading.aliases = aliases(self._machine, reading.nvidia_users)
            reading.foreign = self._lists_foreigners(reading)

    def _lists_foreigners(self, reading: GpuReading) -> bool:
        """Whether a process is listed that is none here: a driver that knows namespaces would have left it out.

        It then lists pids of the host, and one of these may be that of a member by chance. Nothing is known of it
        where `/proc` is that of an outer namespace.
        """
        proc = self._machine.proc
        if len(namespace_pids(self._machine, "self")) > 1:
            return False
        listed = {each.pid for device in reading.devices for each in device.processes or () if each.listed}
        return not all(os.path.exists(f"{proc}/{pid}") for pid in listed)


def _asleep(machine: Machine) -> list[GpuDevice] | None:
    """NVIDIA's devices where all are powered down (PCI's runtime power management): to open the driver wakes them.

    None where one is awake, or nothing is known of it.
    """
    try:
        names = sorted(os.listdir(f"{machine.proc}/driver/nvidia/gpus"))
    except OSError:
        return None
    states = [attribute(machine, f"bus/pci/devices/{name}/power/runtime_status") for name in names]
    if not states or any(state != "suspended" for state in states):
        return None
    devices = [GpuDevice("nvidia", index) for index in range(len(names))]
    for device, name in zip(devices, names, strict=True):
        device.driver = "nvidia"
        device.pci = name
        device.asleep = True
    return devices


def aliases(machine: Machine, members: list[int]) -> list[list[int]]:
    """[member, its pid in the namespace of this process], where `/proc` is that of an outer namespace.

    NSpid lists the pids of a process from the namespace of this `/proc` inwards (fs/proc/array.c): it never tells
    those in a namespace further out, so that a container cannot know how the host calls its processes.
    """
    depth = len(namespace_pids(machine, "self")) - 1
    if depth < 1:
        return []
    found = []
    for member in members:
        pids = namespace_pids(machine, str(member))
        if len(pids) > depth:
            found.append([member, pids[depth]])
    return found


def namespace_pids(machine: Machine, process: str) -> list[int]:
    """The pids of a process, outermost namespace first; empty where they are not told."""
    try:
        return parse_namespace_pids(machine.read(f"{process}/status"))
    except UNREADABLE:
        return []


def parse_namespace_pids(data: bytes) -> list[int]:
    """NSpid of `/proc/PID/status`."""
    for line in data.split(b"\n"):
        if line.startswith(b"NSpid:"):
            try:
                return [int(word) for word in line[6:].split()]
            except ValueError:
                raise ValueError(f"NSpid: {line[:100]!r}") from None
    return []
