"""The GPUs in the samples: what each device did, and which part of it the tracked tree had.

Reading is asked for in one moment and taken in a later one, for it is made by a process of its own. What cannot be
told is None: a process that the driver knows by another pid is not one that uses no GPU.
"""

from __future__ import annotations

from proctally.host.gpu_client import LATE_NS, GpuPoller
from proctally.linux.counters import rate
from proctally.linux.gpu import MAX_PCIE, MAX_WATTS, GpuClient, GpuDevice, GpuProcess, GpuReading, has_drm, has_nvidia
from proctally.linux.machine import NANOSECONDS, Machine
from proctally.linux.nvml_calls import UNREADABLE
from proctally.record.codes import DEVICE_LOST, DRIVER_ERROR, NO_ANSWER, NO_DRIVER, nvml_code
from proctally.record.names import GPUS, GPUS_MIG_INSTANCES, HOST_GPUS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

SHORTEST_NS = 1_000_000  # between two readings, for rates
LOCAL = ("vram", "local", "lmem")  # regions of a GPU's own memory; without any, it has the machine's

FACTS = tuple(name for name in HOST_GPUS if name != "index")
LEVELS = tuple(name for name in GPUS if name in GpuDevice.__slots__ and name not in HOST_GPUS)
INSTANCE = tuple(name for name in GPUS_MIG_INSTANCES if name != "mig_parent")


# -- what the tree has of it -----------------------------------------------------------------------------------------


class Share:
    """What the tree has of one device, or of all. None is unknown."""

    __slots__ = ("memory_bytes", "pids", "utilization_ratio")

    def __init__(
        self, utilization_ratio: float | None = 0.0, memory_bytes: int | None = 0, pids: frozenset[int] = frozenset()
    ) -> None:
        self.utilization_ratio = utilization_ratio
        self.memory_bytes = memory_bytes
        self.pids: frozenset[int] | None = pids


def unknown() -> Share:
    """Nothing is known."""
    share = Share(None, None)
    share.pids = None
    return share


class Matching:
    """Which processes of NVIDIA's lists are members of the tree.

    On the host the pids are the tree's own. Elsewhere the driver may report those of the host, and a pid that a
    member happens to have may be a foreign one's: it is taken for the member only if that has the device open. `known`:
    every member that has it open was found in the lists, so that what is not found is not there. `certain`: no member
    can be behind a pid that is none of the tree's: none has it open, or the pids are the same.

    `ended`: who was a member until lately.
    """

    __slots__ = ("_ended", "_names", "certain", "known")

    def __init__(self, reading: GpuReading, members: Collection[int], ended: Collection[int] = ()) -> None:
        self._names: dict[int, int] = {}
        self._ended = ended if reading.host_pids else ()
        self.certain = reading.host_pids
        self.known = True
        if reading.host_pids:
            self._names = {pid: pid for pid in members}
            return
        users = set(reading.nvidia_users).intersection(members)
        self._names = {alias: member for member, alias in reading.aliases if member in users}
        self._names.update((pid, pid) for pid in users)
        listed = {process.pid for device in reading.devices for process in device.processes or () if process.listed}
        found = {self._names[pid] for pid in listed if pid in self._names}
        unread = set(reading.unread).intersection(members)
        self.certain = not users and not unread
        foreign = listed - self._names.keys()
        matched = not users or (users <= found and not reading.foreign)
        self.known = matched and not reading.waiting and not (unread and foreign)

    def member(self, pid: int) -> int | None:
        """The member that the driver calls so."""
        return self._names.get(pid)

    def is_ours(self, process: GpuProcess) -> bool:
        """Whether it is a member, or was one as it left its records: one that is listed lives, by whatever pid."""
        return process.pid in self._names or (not process.listed and process.pid in self._ended)


def nvidia_share(device: GpuDevice, matching: Matching) -> Share:
    """Its part by the driver's list of processes and its records of what they used since the last reading."""
    if device.asleep:
        return Share()
    if device.processes is None or not matching.known:
        return unknown()
    mine = [process for process in device.processes if matching.is_ours(process)]
    held = [process.memory_bytes for process in mine if process.listed]
    pids = {matching.member(process.pid) for process in mine}
    return Share(
        _utilization(device, mine, matching),
        None if None in held else sum(each for each in held if each is not None),
        frozenset(pid for pid in pids if pid is not None),
    )


def _utilization(device: GpuDevice, mine: list[GpuProcess], matching: Matching) -> float | None:
    """A process without a record did not use the device, unless its record goes by a pid that is not ours."""
    if not mine:
        return 0.0 if matching.certain or not _foreign_records(device, matching) else None
    if not device.records_known:
        return None
    ratios = [process.utilization_ratio for process in mine]
    if None in ratios and not matching.certain and _foreign_records(device, matching):
        return None
    return sum(ratio or 0.0 for ratio in ratios)


def _foreign_records(device: GpuDevice, matching: Matching) -> bool:
    """Whether somebody used it whom its own list of processes does not have: the two go by different pids."""
    listed = {process.pid for process in device.processes or () if process.listed}
    return any(process.pid not in listed and matching.member(process.pid) is None for process in device.processes or ())


def drm_share(
    name: str, before: GpuReading | None, now: GpuReading, members: Collection[int], ended: Collection[int] = ()
) -> Share:
    """Its part of a device with a DRM driver: busy time of the busiest engine, memory of its own.

    What those used who ended since counts; they hold nothing any more.

    AMD's compute (ROCm) goes past DRM, and leaves its memory in sysfs but no busy time.
    """
    if any(device == name and pid in members for pid, device in now.silent):
        return unknown()
    clients: list[GpuClient] = []
    over: list[GpuClient] = []
    for client in now.clients:
        if client.device == name and any(pid in members for pid in client.pids):
            clients.append(client)
        elif client.device == name and any(pid in ended for pid in client.pids):
            over.append(client)
    compute = {pid: held for pid, device, held in now.kfd_memory if device == name and pid in members}
    graphics: dict[int, int] = {}
    for client in clients:
        owner = next(pid for pid in client.pids if pid in members)
        graphics[owner] = graphics.get(owner, 0) + memory_of(client)
    pids = frozenset(graphics) | frozenset(compute)
    memory = sum(max(graphics.get(pid, 0), compute.get(pid, 0)) for pid in pids)
    ratio = busiest([*clients, *over], before, now) if clients or over else 0.0
    if any(pid in members for pid in now.kfd_users) and any(client.driver == "amdgpu" for client in clients):
        ratio = None
        if not now.host_pids:
            return Share(None, None, pids)
    return Share(ratio if not compute else None, memory, pids)


def memory_of(client: GpuClient) -> int:
    """What it holds of the GPU's own memory, or of the machine's, where the GPU has none."""
    local = [held for region, held in client.memory.items() if region.startswith(LOCAL)]
    return sum(local) if local else sum(held for region, held in client.memory.items() if not region.startswith("cpu"))


def busiest(clients: Iterable[GpuClient], before: GpuReading | None, now: GpuReading) -> float | None:
    """The share of time in which the engine that they used most was busy with them; None in the first reading.

    A client that was not there before counts whole, over the time in which it can have begun: descriptors are looked
    at less often than read. Where that is not known, neither is what it did.
    """
    if before is None:
        return None
    earlier = {_key(client): client for client in before.clients}
    ratios: dict[str, float] = {}
    for client in clients:
        last = earlier.get(_key(client))
        since = before.at_ns
        if last is None:
            if client.since_ns is None:
                return None
            since = min(since, client.since_ns)
        elapsed = max(now.at_ns - since, SHORTEST_NS)
        for engine, busy in client.engines.items():
            capacity = client.capacity.get(engine, 1)
            most = elapsed * capacity
            grown = _grown(last.engines.get(engine, 0), busy) if last is not None else busy
            ratios[engine] = ratios.get(engine, 0.0) + min(grown, most) / most
        for engine, (busy, total) in client.cycles.items():
            first = (last.cycles.get(engine) if last is not None else None) or [busy, total]
            passed = _grown(first[1], total)
            if passed and engine not in client.engines:
                most = passed * client.capacity.get(engine, 1)  # the alike add up (xe_exec_queue_update_run_ticks)
                ratios[engine] = ratios.get(engine, 0.0) + min(_grown(first[0], busy), most) / most
    return max(ratios.values()) if ratios else None


def _grown(before: int, now: int) -> int:
    """Return the growth of a counter that can go back a little: the larger one holds (drm-usage-stats.rst)."""
    return max(0, now - before)


def _key(client: GpuClient) -> tuple[str, str, int]:
    return client.device, client.client, 0 if client.client else client.pids[0]


def shares(
    before: GpuReading | None, now: GpuReading, members: Collection[int], ended: Collection[int]
) -> tuple[list[Share], list[Share]]:
    """One for each device, in their order, and those of devices that are not listed although they are open."""
    matching = Matching(now, members, ended)
    mine = [
        nvidia_share(device, matching)
        if device.driver == "nvidia"
        else drm_share(device.pci or "", before, now, members, ended)
        for device in now.devices
    ]
    listed = {device.pci for device in now.devices}
    others = {client.device for client in now.clients if not client.driver.startswith("nvidia")} - listed
    return mine, [drm_share(name, before, now, members, ended) for name in sorted(others)]


def total(parts: Iterable[Share]) -> dict[str, object]:
    """The tree's part of all devices: None where that of one is not known."""
    parts = list(parts)
    ratios = [part.utilization_ratio for part in parts]
    held = [part.memory_bytes for part in parts]
    pids = [part.pids for part in parts]
    return {
        "utilization_ratio": None if None in ratios else sum(ratio or 0.0 for ratio in ratios),
        "memory_bytes": None if None in held else sum(each or 0 for each in held),
        "processes": None if None in pids else len(frozenset().union(*(each or () for each in pids))),
        "used": None if None in ratios else sum(1 for ratio in ratios if ratio),
    }


# -- the sample ------------------------------------------------------------------------------------------------------


def derive(
    before: GpuReading | None,
    now: GpuReading,
    members: Collection[int],
    *,
    ended: Collection[int] = (),
    facts: bool = True,
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """The entries of all devices, and the tree's part of them.

    A lost device is left out of the tree's part: nothing on it runs any more. Where a driver cannot be reached at
    all, the tree's part is unknown. `ended`: who was a member until lately; `facts`: with what does not change.
    """
    parts, others = shares(before, now, members, ended)
    earlier = {_identity(device): device for device in before.devices} if before is not None else {}
    elapsed_ns = now.at_ns - before.at_ns if before is not None else 0
    seconds = max(elapsed_ns, SHORTEST_NS) / NANOSECONDS
    listed = [
        entry(device, earlier.get(_identity(device)), seconds, part, facts=facts)
        for device, part in zip(now.devices, parts, strict=True)
    ]
    counted = [part for device, part in zip(now.devices, parts, strict=True) if not device.lost]
    if now.nvidia_missing is not None:
        counted.append(unknown())
    tree = total([*counted, *others])
    tree["unread"] = len(set(now.unread).intersection(members)) + now.waiting
    return listed, tree


def _identity(device: GpuDevice) -> tuple[str, str]:
    return device.vendor, device.uuid or device.pci or str(device.index)


def entry(device: GpuDevice, last: GpuDevice | None, seconds: float, part: Share, *, facts: bool) -> dict[str, object]:
    """One device of the section `gpus`."""
    said: dict[str, object] = {"index": device.index, "uuid": device.uuid, "name": device.name}
    if facts:
        said.update((name, getattr(device, name)) for name in FACTS)
    said["state"] = "lost" if device.lost else "asleep" if device.asleep else "ok"
    said["unavailable"] = _unavailable(device)
    said.update((name, getattr(device, name)) for name in LEVELS)
    if device.power_watts is None and last is not None:  # drivers that count energy and give no power
        said["power_watts"] = _power(last.energy_joules, device.energy_joules, seconds)
    for name in ("pcie_received_bytes", "pcie_sent_bytes"):
        measured = getattr(device, f"{name}_per_second")
        if measured is None and last is not None:
            first, second = getattr(last, name), getattr(device, name)
            measured = rate(first, second, seconds, MAX_PCIE)
        said[f"{name}_per_second"] = measured
    said["mig_instances"] = None if device.mig is None else _instances(device)
    said["tree_utilization_ratio"] = part.utilization_ratio
    said["tree_memory_bytes"] = part.memory_bytes
    said["tree_processes"] = None if part.pids is None else len(part.pids)
    return said


def _unavailable(device: GpuDevice) -> dict[str, str] | None:
    """Return the code of what could not be read, by function of NVML; `device` for one that is lost."""
    found = {
        name: DRIVER_ERROR if number == UNREADABLE else nvml_code(number) for name, number in device.errors.items()
    }
    return found or ({"device": DEVICE_LOST} if device.lost else None)


def _power(before: float | None, now: float | None, seconds: float) -> float | None:
    if before is None or now is None or not 0 <= now - before <= MAX_WATTS * (seconds + 1):
        return None
    return (now - before) / seconds


def _instances(device: GpuDevice) -> list[dict[str, object]]:
    found = []
    for instance in device.instances:
        said: dict[str, object] = {name: getattr(instance, name) for name in INSTANCE}
        said["mig_parent"] = device.uuid
        found.append(said)
    return found


class GpuSampler:
    """The GPUs of this machine, read again and again by a helper process.

    `poller`: asks the helper. `present`: whether there is any driver; without, no process is started. `skipped`: the
    code that says why `take` gave nothing. `missing`: why NVIDIA's devices are missing although there is a driver, as
    of the last reading.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        dev: str = "/dev",
        started: Callable[[int], object] | None = None,
        poller: GpuPoller | None = None,
    ) -> None:
        self._machine = machine
        self._dev = dev
        self.poller = poller or GpuPoller(machine, dev=dev, started=started)
        self._before: GpuReading | None = None
        self.last: GpuReading | None = None
        self._members: list[frozenset[int]] = []  # for which the last two readings were asked
        self.present = False
        self.skipped: str | None = None
        self.missing: str | None = None

    def start(self) -> None:
        """Look whether there is a GPU, by a few files; the helper is started when it is first asked."""
        self.present = has_nvidia(self._machine, self._dev) or has_drm(self._machine)

    def ask(self, members: Collection[int]) -> bool:
        """Ask for a reading in which these pids are the tree; False where one is still awaited, or none can be had."""
        asked = self.present and self.poller.ask(members)
        if asked:
            self._members = [*self._members[-1:], frozenset(members)]
        return asked

    def take(self) -> GpuReading | None:
        """The reading that came since, or the last one within a second of its end; else None.

        `skipped` then says why.
        """
        if not self.present:
            self.skipped = NO_DRIVER
            return None
        reading = self.poller.take()
        if reading is not None:
            self._before, self.last = self.last, reading
            self.missing = reading.nvidia_missing
        elif self.last is None or self._machine.monotonic_ns() - self.last.at_ns - self.last.took_ns > LATE_NS:
            self.skipped = self.poller.missing or NO_ANSWER
            return None
        self.skipped = None
        return self.last

    def derive(
        self, members: Collection[int], *, facts: bool = True
    ) -> tuple[list[dict[str, object]], dict[str, object]]:
        """What `derive` makes of the last two readings; call it where `take` gave one."""
        assert self.last is not None
        ended = frozenset().union(*self._members).difference(members)
        return derive(self._before, self.last, members, ended=ended, facts=facts)

    def facts(self) -> list[dict[str, object]] | None:
        """What does not change of each device, as of the last reading; None before the first."""
        if self.last is None:
            return None
        return [
            {"index": device.index} | {name: getattr(device, name) for name in FACTS} for device in self.last.devices
        ]

    @property
    def awaited(self) -> bool:
        """Whether the first reading is still to come, as far as is known."""
        return self.present and self.last is None and self.poller.missing is None

    @property
    def took_ns(self) -> int:
        """How long the last reading took: so much earlier the next one is to be asked for."""
        return 0 if self.last is None else self.last.took_ns

    def age_seconds(self) -> float | None:
        """How old the last reading is; None before the first."""
        return None if self.last is None else (self._machine.monotonic_ns() - self.last.at_ns) / NANOSECONDS
