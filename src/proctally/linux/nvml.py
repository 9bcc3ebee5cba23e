"""NVIDIA's devices through NVML, by its official binding. Runs in the helper process: any call may hang.

Units: nvml.h. The library is that of the host's driver; every call about a device goes through `DeviceCalls`.
"""

from __future__ import annotations

import time

from proctally.linux.gpu import (
    MAX_BYTES,
    MAX_CELSIUS,
    MAX_COUNT,
    MAX_FAN_RATIO,
    MAX_HERTZ,
    MAX_JOULES,
    MAX_LINK,
    MAX_PCIE,
    MAX_WATTS,
    GpuDevice,
    GpuInstance,
    GpuProcess,
)
from proctally.linux.nvml_calls import (
    ABSENT,
    DRIVER_GONE,
    INSUFFICIENT_SIZE,
    NOT_FOUND,
    SUCCESS,
    DeviceCalls,
    DeviceLost,
    DriverGone,
    Known,
    fraction,
    number,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

MEGAHERTZ = 1_000_000
WIDE = 1 << 32  # a counter that was once above is known not to wrap at 32 bits
ASK_AGAIN = 600  # readings after which what a device did not have is asked for once more
LOST_AGAIN = 30  # readings after which a lost device is tried again
SET_BACK_NS = 100_000_000  # more than the two clocks differ by when nobody sets one
FUTURE_US = 1_000_000  # a record from further ahead is from before the calendar was set back
RETRY_NS = 60_000_000_000  # between two attempts to reach the driver

INIT_FLAG_NO_GPUS = 1  # nvmlInitWithFlags does not fail where a GPU is lost, or none is left
CLOCK_GRAPHICS, CLOCK_SM, CLOCK_MEMORY = 0, 1, 2
FIELD_PCIE_SENT, FIELD_PCIE_RECEIVED = 197, 198
PCIE_SENT, PCIE_RECEIVED = 0, 1
VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t

THROTTLE_REASONS = (
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
    "board_limit",
    "reliability",
)


def reasons(mask: int) -> list[str]:
    """The names of nvmlClocksEventReason*; a bit that is newer than the table as `bit_11`."""
    known = len(THROTTLE_REASONS)
    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return [THROTTLE_REASONS[bit] if bit < known else f"bit_{bit}" for bit in bits]


def pci_name(bus: str | bytes) -> str | None:
    """0000:3b:00.0 as the kernel writes it, for the 00000000:3B:00.0 of NVML."""
    text = bus.decode("ascii", "replace") if isinstance(bus, bytes) else bus
    domain, _, rest = text.lower().partition(":")
    return f"{domain.lstrip('0').rjust(4, '0')}:{rest}" if rest else None


class ProcessUse:
    """One record of nvmlDeviceGetProcessUtilization: `sm_percent` over the sampling period that ended at `at_us`."""

    __slots__ = ("at_us", "pid", "sm_percent")

    def __init__(self, pid: int, at_us: int, sm_percent: int) -> None:
        self.pid = pid
        self.at_us = at_us
        self.sm_percent = sm_percent


def mean_by_pid(records: Iterable[ProcessUse], after_us: int) -> dict[int, float | None]:
    """The mean ratio of each pid over its records newer than this; None where they are all nonsense.

    Drivers hand out records that are older than asked for, or of no process, or with nonsense above 100 %: left out.
    """
    found: dict[int, list[int]] = {}
    for record in records:
        if record.at_us > after_us and record.pid:
            sane = found.setdefault(record.pid, [])
            if 0 <= record.sm_percent <= 100:
                sane.append(record.sm_percent)
    return {pid: sum(percents) / len(percents) / 100 if percents else None for pid, percents in found.items()}


class Nvml:
    """Reads every NVIDIA device again and again. It is made without touching the driver; `read` opens it.

    `library`: the binding (`pynvml`). `error`: number of the NVML error for which there is nothing, or None.
    """

    def __init__(
        self, library: ModuleType, monotonic_ns: Callable[[], int], now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._library = library
        self._monotonic_ns = monotonic_ns
        self._now_ns = now_ns
        self._ahead_ns = now_ns() - monotonic_ns()
        self._open = False
        self._retry_ns = 0
        self._turn = -1
        self._handles: list[object] = []
        self._known: list[Known] = []
        self._seen: dict[str, GpuDevice] = {}
        self.driver_version: str | None = None
        self.error: int | None = None

    def read(self) -> list[GpuDevice]:
        """One reading of all devices; none where the driver cannot be reached, see `error`."""
        try:
            if not self._open and not self._start():
                return []
            self._look_at_clock()
            if self._count() != len(self._handles):
                self._enumerate()
            self._turn += 1
            return self._with_vanished([self._device(index) for index in range(len(self._handles))])
        except DriverGone as error:
            self._fail(error.number)
        except self._library.NVMLError as error:
            self._fail(error.value)
        return []

    def _look_at_clock(self) -> None:
        """Records carry the time of the calendar: where that was set back, the new ones would pass for old ones."""
        ahead = self._now_ns() - self._monotonic_ns()
        if ahead < self._ahead_ns - SET_BACK_NS:
            for known in self._known:
                known.last_us = 0
                known.primed = False
        self._ahead_ns = ahead

    def _with_vanished(self, devices: list[GpuDevice]) -> list[GpuDevice]:
        """With those that were listed once and are no more: the driver gave the others their numbers."""
        there = {device.uuid for device in devices}
        for device in devices:
            if device.uuid is not None:
                self._seen[device.uuid] = device
        for uuid, last in self._seen.items():
            if uuid not in there:
                gone = nvidia_device(last.index)
                gone.uuid, gone.name, gone.pci, gone.driver_version = uuid, last.name, last.pci, last.driver_version
                gone.lost = True
                devices.append(gone)
        return devices

    def _start(self) -> bool:
        library = self._library
        if self.error is not None and self._monotonic_ns() < self._retry_ns:
            return False
        try:
            library.nvmlInitWithFlags(INIT_FLAG_NO_GPUS)
            self._open = True
            self.error = None
            self._enumerate()
        except library.NVMLError as error:
            self._fail(error.value)
            return False
        try:
            version = library.nvmlSystemGetDriverVersion()
            self.driver_version = version.decode("ascii", "replace") if isinstance(version, bytes) else version
        except (library.NVMLError, ValueError, AttributeError):
            self.driver_version = None
        return True

    def _fail(self, number: int) -> None:
        """Nothing is known of any device; another attempt is made after a while."""
        if self._open:
            self._open = False
            try:
                self._library.nvmlShutdown()
            except self._library.NVMLError:
                pass
        self._handles = []
        self._known = []
        self.error = number
        self._retry_ns = self._monotonic_ns() + RETRY_NS

    def _count(self) -> int:
        try:
            return int(self._library.nvmlDeviceGetCount())
        except self._library.NVMLError as error:
            if error.value in DRIVER_GONE:
                raise DriverGone(error.value) from None
            return len(self._handles)

    def _enumerate(self) -> None:
        library = self._library
        self._handles = [None] * int(library.nvmlDeviceGetCount())
        self._known = [Known() for _ in self._handles]

    def _device(self, index: int) -> GpuDevice:
        device = nvidia_device(index)
        device.driver_version = self.driver_version
        known = self._known[index]
        known.age += 1
        if known.age % ASK_AGAIN == 0:
            known.absent.clear()
        if known.lost_for and known.lost_for % LOST_AGAIN:
            known.lost_for += 1
            return self._lost(device, known)
        try:
            self._read(DeviceCalls(self._library, self._handle(index), known, device.errors), device, known)
            known.lost_for = 0
        except DeviceLost as error:
            known.lost_for = 1
            self._handles[index] = None
            lost = nvidia_device(index)
            lost.driver_version = device.driver_version
            lost.errors["device"] = error.number
            return self._lost(lost, known)
        return device

    def _lost(self, device: GpuDevice, known: Known) -> GpuDevice:
        device.lost = True
        device.uuid, device.name, device.pci = known.uuid, known.name, known.pci
        return device

    def _handle(self, index: int) -> object:
        """The handle of a device. Raises `DriverGone`, or `DeviceLost`, also where this user may not have it."""
        if self._handles[index] is None:
            library = self._library
            try:
                self._handles[index] = library.nvmlDeviceGetHandleByIndex(index)
            except library.NVMLError as error:
                number = error.value
                raise (DriverGone(number) if number in DRIVER_GONE else DeviceLost(number)) from None
        return self._handles[index]

    def _read(self, calls: DeviceCalls, device: GpuDevice, known: Known) -> None:
        call = calls.call
        if known.uuid is None:
            known.uuid = call("GetUUID")
            known.name = call("GetName")
            info = call("GetPciInfo")
            known.pci = None if info is None else pci_name(info.busId)
        device.uuid, device.name, device.pci = known.uuid, known.name, known.pci
        device.memory_used_bytes, device.memory_total_bytes = _memory(self._library, calls)
        mode = call("GetMigMode")
        device.mig = None if mode is None else mode[0] == 1
        if device.mig != known.mig:  # what it has changes with the mode
            known.mig = device.mig
            known.absent.clear()
        if not device.mig:  # not given in MIG mode, and where an old driver gives it, it is meaningless
            rates = call("GetUtilizationRates")
            if rates is not None:
                device.utilization_ratio = calls.checked("GetUtilizationRates", fraction(rates.gpu, 100), 1)
                device.memory_busy_ratio = calls.checked("GetUtilizationRates", fraction(rates.memory, 100), 1)
        device.temperature_celsius = calls.amount("GetTemperature", 0, most=MAX_CELSIUS)
        device.power_watts = calls.amount("GetPowerUsage", per=1000, most=MAX_WATTS)
        device.power_limit_watts = calls.amount("GetEnforcedPowerLimit", per=1000, most=MAX_WATTS)
        device.energy_joules = calls.amount("GetTotalEnergyConsumption", per=1000, most=MAX_JOULES)
        for name, clock in ("graphics", CLOCK_GRAPHICS), ("sm", CLOCK_SM), ("memory", CLOCK_MEMORY):
            hertz = calls.count("GetClockInfo", clock, scale=MEGAHERTZ, most=MAX_HERTZ)
            setattr(device, f"{name}_clock_hertz", hertz)
        device.fan_ratio = calls.amount("GetFanSpeed", per=100, most=MAX_FAN_RATIO)
        mask = call("GetCurrentClocksEventReasons")
        if mask is None:
            mask = call("GetCurrentClocksThrottleReasons")  # its name before driver 535
        device.throttle_reasons = None if mask is None else reasons(mask)
        # volatile errors: since the driver was loaded
        device.ecc_corrected = calls.count("GetTotalEccErrors", 0, 0, most=MAX_COUNT)
        device.ecc_uncorrected = calls.count("GetTotalEccErrors", 1, 0, most=MAX_COUNT)
        device.pcie_generation = calls.count("GetCurrPcieLinkGeneration", most=MAX_LINK)
        device.pcie_width = calls.count("GetCurrPcieLinkWidth", most=MAX_LINK)
        self._pcie(calls, device, known)
        if device.mig:
            device.instances, device.processes = _instances(self._library, calls)
        else:
            device.processes = _processes(calls)
        self._utilization(calls, device, known)

    def _pcie(self, calls: DeviceCalls, device: GpuDevice, known: Known) -> None:
        """The counters, where they are seen to have more than 32 bits (which wrap ten times a second at full speed).

        Else what the driver measures itself over 20 ms, in which the call blocks: of one device in each reading, lest
        many make it late.
        """
        values = calls.call("GetFieldValues", (FIELD_PCIE_RECEIVED, FIELD_PCIE_SENT))
        if values is not None:
            received, sent = (_field(value) for value in values)
            known.wide = known.wide or max(received or 0, sent or 0) >= WIDE
            if known.wide:
                device.pcie_received_bytes, device.pcie_sent_bytes = received, sent
                return
        if self._turn % len(self._handles) != device.index:
            return
        for name, counter in ("received", PCIE_RECEIVED), ("sent", PCIE_SENT):
            speed = calls.amount("GetPcieThroughput", counter, per=0.001, most=MAX_PCIE)
            setattr(device, f"pcie_{name}_bytes_per_second", speed)

    def _utilization(self, calls: DeviceCalls, device: GpuDevice, known: Known) -> None:
        """What the processes used since the last reading.

        The first answer holds whatever the driver kept, from seconds before; it only tells where to begin.
        NOT_FOUND: no process used the device since. SUCCESS as an error: no record, by the binding.
        """
        answer, error = _ask_list(calls, "GetProcessUtilization", known.last_us)
        if answer is None and error not in (NOT_FOUND, SUCCESS):
            return
        latest_us = self._now_ns() // 1000 + FUTURE_US
        records = [
            ProcessUse(each.pid, each.timeStamp, each.smUtil) for each in answer or () if each.timeStamp <= latest_us
        ]
        ratios = mean_by_pid(records, known.last_us)
        known.last_us = max([known.last_us, *(record.at_us for record in records)])
        primed, known.primed = known.primed, True
        if not primed:
            return
        processes = device.processes or []
        device.records_known = all(ratios.get(process.pid, 0.0) is not None for process in processes)
        for process in processes:
            process.utilization_ratio = ratios.pop(process.pid, None)
        for pid, ratio in ratios.items():
            process = GpuProcess(pid)
            process.utilization_ratio = ratio
            if device.processes is not None and ratio is not None:
                device.processes.append(process)


def nvidia_device(index: int) -> GpuDevice:
    device = GpuDevice("nvidia", index)
    device.driver = "nvidia"
    return device


def _field(value: Any) -> int | None:
    if value.nvmlReturn != SUCCESS or not 0 <= value.valueType < len(VALUE_MEMBERS):
        return None
    return int(getattr(value.value, VALUE_MEMBERS[value.valueType]))


def _memory(library: ModuleType, calls: DeviceCalls) -> tuple[int | None, int | None]:
    """Used and total bytes; used without what the driver reserves, where it can tell (version 2 of the structure)."""
    memory = None
    version = getattr(library, "nvmlMemory_v2", None)
    if version is not None:
        memory = calls.call("GetMemoryInfo", version=version)
    if memory is None:
        memory = calls.call("GetMemoryInfo")
    if memory is None:
        return None, None
    total = calls.checked("GetMemoryInfo", number(memory.total), MAX_BYTES)
    return calls.checked("GetMemoryInfo", number(memory.used), MAX_BYTES if total is None else total), total


def _instances(library: ModuleType, calls: DeviceCalls) -> tuple[list[GpuInstance], list[GpuProcess] | None]:
    """The MIG instances, and the processes of all of them."""
    found: list[GpuInstance] = []
    lists: list[list[GpuProcess] | None] = []
    for index in range(number(calls.call("GetMaxMigDeviceCount")) or 0):
        handle, _ = calls.ask("GetMigDeviceHandleByIndex", index)
        if handle is None:  # NOT_FOUND: no instance has this number
            continue
        inner = calls.to(handle)
        instance = GpuInstance(index)
        instance.uuid = inner.call("GetUUID")
        instance.name = inner.call("GetName")
        instance.gpu_instance = number(inner.call("GetGpuInstanceId"))
        instance.compute_instance = number(inner.call("GetComputeInstanceId"))
        instance.memory_used_bytes, instance.memory_total_bytes = _memory(library, inner)
        found.append(instance)
        processes = _processes(inner)
        for process in processes or ():
            if process.gpu_instance is None:
                process.gpu_instance, process.compute_instance = instance.gpu_instance, instance.compute_instance
        lists.append(processes)
    everywhere = _processes(calls)  # only for those who may know it
    if everywhere is None:
        return found, None if None in lists else _merged(lists)
    placed = {process.pid for processes in lists for process in processes or ()}
    elsewhere = [each for each in everywhere if each.gpu_instance is not None or each.pid not in placed]
    return found, _merged([*lists, elsewhere])


def _ask_list(calls: DeviceCalls, name: str, *arguments: int) -> tuple[Any, int]:
    """Return what `ask` does; ask again where the list grew between the two calls of the binding."""
    for _ in range(3):
        listed, error = calls.ask(name, *arguments)
        if error != INSUFFICIENT_SIZE:
            break
    return listed, error


def _processes(calls: DeviceCalls) -> list[GpuProcess] | None:
    """Who holds memory of a device: those that compute, those that draw, those of MPS; None where it does not tell.

    A list that it does not have is none; one that could not be had now leaves all unknown: who is in it is missing.
    """
    lists: list[list[GpuProcess] | None] = []
    for kind in ("Compute", "Graphics", "MPSCompute"):
        listed = None
        for version in ("v3", "v2"):
            listed, error = _ask_list(calls, f"Get{kind}RunningProcesses_{version}")
            if listed is not None:
                break
            if error not in ABSENT:
                return None
        lists.append(None if listed is None else [_process(calls, each) for each in listed])
    return _merged(lists)


def _process(calls: DeviceCalls, listed: Any) -> GpuProcess:
    process = GpuProcess(int(listed.pid))
    process.listed = True
    process.memory_bytes = calls.checked("GetProcesses", number(listed.usedGpuMemory), MAX_BYTES)
    process.gpu_instance = number(listed.gpuInstanceId)
    process.compute_instance = number(listed.computeInstanceId)
    return process


def _merged(lists: list[list[GpuProcess] | None]) -> list[GpuProcess] | None:
    """One entry for a process that several lists have; the larger memory. None where no list is known."""
    known = [processes for processes in lists if processes is not None]
    if not known:
        return None
    merged: dict[tuple[int, int | None, int | None], GpuProcess] = {}
    for process in (each for processes in known for each in processes):
        first = merged.setdefault((process.pid, process.gpu_instance, process.compute_instance), process)
        if process.memory_bytes is not None:
            first.memory_bytes = max(first.memory_bytes or 0, process.memory_bytes)
    return list(merged.values())
