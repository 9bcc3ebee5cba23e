"""The machine beside the tree: what it did in each sample, and its GPUs.

Reading starts after the job did, and a GPU is read by a process of its own: nothing here can keep the job waiting.
"""

from __future__ import annotations

from proctally.host.derive import derive
from proctally.host.facts import HostReader
from proctally.host.gpus import GpuSampler
from proctally.host.served import ServedFiles, served_files
from proctally.linux.child import pause
from proctally.linux.descriptors import leave_spare
from proctally.linux.machine import NANOSECONDS
from proctally.linux.mounts import ZpoolCommand
from proctally.linux.system import SystemReader
from proctally.record.codes import NO_ANSWER, of_error
from proctally.record.names import (
    SYSTEM,
    SYSTEM_DISK,
    SYSTEM_DISKS,
    SYSTEM_INTERFACES,
    SYSTEM_MEMORY,
    SYSTEM_NETWORK,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, TypeVar

    from proctally.host.cloud import CloudClient
    from proctally.linux.gpu import GpuReading
    from proctally.linux.machine import Machine
    from proctally.linux.spawn import HelperClient
    from proctally.linux.system import SystemReading
    from proctally.record import JsonObject

    Result = TypeVar("Result")

SHORT_NS = 20_000_000
DISCOVER_NS = 10_000_000  # maximum time for sysfs of disks, of interfaces and for mounts at a time
STEP_NS = 1_000_000  # so long is read of the host at a time
SOON_NS = 20_000_000  # ... and so much later goes on
AHEAD_NS = 100_000_000  # so long before a sample GPUs are asked, and as much earlier as they took the last time ...
MOST_AHEAD_NS = NANOSECONDS  # ... up to this
SERVED_NS = NANOSECONDS  # maximum wait for the first answer of a daemon that serves files
LAST_NS = 20_000_000  # so long a helper is waited for at the end
DEVICES_NS = 60 * NANOSECONDS  # how often every device is told in full
DIGITS = 4
TREE = "tree"  # what of a section belongs into that of the tree


class HostSampler:
    """The `system` and `gpus` sections of each sample, every device in full now and then, and the host once.

    `started`: receives the pid of each helper process, which is not a member of the tree. `fault`: an error of
    proctally, after which all of it is null; tracking continues.
    """

    def __init__(
        self,
        machine: Machine,
        environment: dict[str, str],
        *,
        system: bool,
        gpu: bool,
        cloud: bool,
        started: Callable[[int], object] | None = None,
    ) -> None:
        self.machine = machine
        self.fault: Exception | None = None
        self._zpool = ZpoolCommand(machine, started=started)
        served = served_files(machine)
        self._served = ServedFiles(machine, served, environment, started) if served else None
        machine.aside = None if self._served is None else self._served.read
        self._reader = SystemReader(machine, zpool=self._zpool, step_ns=DISCOVER_NS) if system else None
        self._discovers = system
        self.gpus = GpuSampler(machine, started=started) if gpu else None
        self._host: HostReader | None = HostReader(machine, environment=environment)
        self._cloud: CloudClient | None = None
        self._before: SystemReading | None = None
        self._derived: JsonObject | None = None
        self._is_host_read = False
        self._awaits_served = self._served is not None
        self._served_ns = machine.monotonic_ns() + SERVED_NS
        self._told: list[dict[str, object]] | None = None  # what the record knows of each GPU
        self._noted: GpuReading | None = None
        self._asked_for = 0
        self._devices_ns = 0
        self._version: tuple[int, list[object]] | None = None
        self._unavailable: dict[str, str] = {}  # code of each file of the last reading
        self.peaks = HostPeaks()
        if cloud:
            from proctally.host.cloud import CloudClient

            self._cloud = CloudClient(machine, environment=environment, started=started)
        self._guarded(self._begin, None)

    def _begin(self) -> None:
        """The first reading, from which intervals count: it learns what devices there are, in some milliseconds."""
        self._begin_reading()
        if self._served is not None:
            self._served.ask()
        if self.gpus is not None:
            self.gpus.start()
        if self._cloud is not None:
            self._cloud.start()

    def _begin_reading(self) -> None:
        if self._reader is not None:
            self._before = self._reader.read()
            self._derived = derive(None, self._before)
            self._version = _version(self._before)
            self._unavailable = _unavailable(self._before)
            self.peaks.begin(self._derived)

    def _guarded(self, call: Callable[..., Result], otherwise: Result, *arguments: Any, **named: Any) -> Result:
        """Do this, unless there was a fault; whatever goes wrong costs what is told of the machine, and no more."""
        if self.fault is None:
            try:
                return call(*arguments, **named)
            except Exception as error:
                self.fault = error
        return otherwise

    @property
    def reads_system(self) -> bool:
        """Whether the machine is read."""
        return self._reader is not None

    @property
    def reads_gpus(self) -> bool:
        """Whether GPUs are read, where there are any."""
        return self.gpus is not None

    @property
    def gpus_took_ns(self) -> int:
        """How long the last reading of the GPUs took."""
        return 0 if self.gpus is None else self.gpus.took_ns

    @property
    def fds(self) -> list[int]:
        """Descriptors that are ready when something is to be taken."""
        return self._guarded(self._fds, [])

    def _fds(self) -> list[int]:
        asked = [each for each in self._helpers() if each is not self._zpool]
        return [fd for fd in (each.fileno for each in asked) if fd is not None]

    def timeout(self, now: int, next_ns: int) -> int | None:
        """Nanoseconds after which `go_on` has something to do; None when it waits for nothing.

        `next_ns`: when the next sample is due.
        """
        return self._guarded(self._timeout, None, now, next_ns)

    def _timeout(self, now: int, next_ns: int) -> int | None:
        if not self._is_host_read or self._discovers:
            return SOON_NS
        if self.gpus is not None and self.gpus.present and self._asked_for != next_ns:
            return max(0, next_ns - self._ahead_ns() - now)
        return None

    def _ahead_ns(self) -> int:
        assert self.gpus is not None
        return AHEAD_NS + min(self.gpus.took_ns, MOST_AHEAD_NS)

    def go_on(self, now: int, next_ns: int, members: Collection[int]) -> list[JsonObject]:
        """Have the GPUs read shortly before a sample, which takes what they answered; the lines that are due.

        They are asked once before that: rates count from there, and a driver may need long for its first answer.
        `members`: the pids of the tree.
        """
        self._guarded(self._take_served, None)
        lines = self.lines()
        self._guarded(self._ask, None, now, next_ns, members)
        return lines

    def _ask(self, now: int, next_ns: int, members: Collection[int]) -> None:
        if self.gpus is not None and self.gpus.present:
            if self._asked_for != next_ns and now >= next_ns - self._ahead_ns():
                self._asked_for = next_ns
                self.gpus.ask(members)
            elif self._is_host_read and not self._asked_for:
                self._asked_for = now
                self.gpus.ask(members)

    def _take_served(self) -> None:
        """Receive what a daemon answered; the first answer is where totals begin."""
        if self._served is not None and self._served.take() and self._awaits_served:
            self._awaits_served = False
            self._begin_reading()

    def silent_files(self) -> int:
        """Return the number of files that were wanted, and for which a daemon did not answer."""
        served = self._served
        return sum(served is None or not served.has(path) for path in self.machine.refused)

    def gap_ended(self) -> None:
        """The job was stopped until now: the next interval begins here, and what others did meanwhile is in none."""
        self._guarded(self._begin_again, None)

    def _begin_again(self) -> None:
        if self._reader is not None:
            self._before = self._reader.read()

    def lines(self, *, last: bool = False) -> list[JsonObject]:
        """Lines of the record that are due: the host, once it is known, and the devices. `last`: there are no later."""
        if self._discovers:
            self._discovers = self._guarded(self._discover, False)
        found = (self._guarded(self._host_line, None, last=last), self._guarded(self._devices, None, last=last))
        return [line for line in found if line is not None]

    def _discover(self) -> bool:
        return self._reader is not None and self._reader.discover()

    def _host_line(self, *, last: bool) -> JsonObject | None:
        """Read on, for a moment; the line, once what others are asked for is there as well."""
        host, gpus, cloud = self._host, self.gpus, self._cloud
        if host is None:
            return None
        if self._awaits_served and not last and self.machine.monotonic_ns() < self._served_ns:
            return None
        ended = self.machine.monotonic_ns() + STEP_NS
        while not self._is_host_read and (last or self.machine.monotonic_ns() < ended):
            self._is_host_read = not host.step()
        if gpus is not None:
            gpus.take()  # the next sample takes it again
        awaited = (cloud is not None and not cloud.take()) or (gpus is not None and gpus.awaited)
        if not self._is_host_read or (awaited and not last):
            return None
        self._host = None
        if gpus is not None:
            self._told = gpus.facts() if gpus.present else []
        missing = dict(host.unavailable)
        if gpus is not None and gpus.present and self._told is None:
            missing["gpus"] = gpus.skipped or NO_ANSWER
        if cloud is not None and cloud.missing is not None:
            missing["cloud"] = cloud.missing
        found = None if cloud is None else cloud.found
        return host.line() | {"gpus": self._told, "cloud": found, "unavailable": missing or None}

    def sample(self, members: Collection[int], *, first: bool) -> JsonObject:
        """What a sample says of the machine at this moment; null for what was not read. `first`: of the record."""
        return self._guarded(self._sample, {"system": None, "gpus": None}, members, first=first)

    def _sample(self, members: Collection[int], *, first: bool) -> JsonObject:
        said: JsonObject = {"system": None, "gpus": None}
        if self._served is not None:
            self._take_served()
            self._served.ask()  # for the next one
        if self._reader is not None:
            reading = self._reader.read()
            before = self._before
            if first or (before is not None and reading.at_ns - before.at_ns < SHORT_NS):
                before = None  # of a few milliseconds no rate is to be had: the kernel counts in ticks
            derived = derive(before, reading, facts=True)
            self.machine.attend()
            self._before, self._derived, self._unavailable = reading, derived, _unavailable(reading)
            said["system"] = slim(derived)
            self.peaks.note(derived, 0.0 if before is None else (reading.at_ns - before.at_ns) / NANOSECONDS)
            version = _version(reading)
            if version != self._version:
                self._version, self._devices_ns = version, 0
        if self.gpus is not None:
            said |= self._read_gpus(members)
        return said

    def _read_gpus(self, members: Collection[int]) -> JsonObject:
        gpus = self.gpus
        assert gpus is not None
        if not gpus.present:
            return {"gpus": []}
        reading = gpus.take()
        if reading is None:
            return {"gpus": None, "gpus_skipped": gpus.skipped}
        facts = gpus.facts()
        listed, tree = gpus.derive(members, facts=facts != self._told)
        self._told = facts
        knows_tree = self.machine.procfs_missing is None
        if not knows_tree:
            tree = dict.fromkeys(tree)
        if reading is not self._noted:  # a sample may have the reading of the one before
            self._noted = reading
            self.peaks.note_gpus(listed, tree, whole=gpus.missing is None)
        age = gpus.age_seconds()
        said: JsonObject = {"gpus": listed, "gpus_age_seconds": None if age is None else round(age, 3)}
        if gpus.missing is not None:
            said["gpus_unavailable"] = gpus.missing
        if not knows_tree:
            return said
        return said | {TREE: {f"gpu_{name}": _short(value) for name, value in tree.items()}}

    def _devices(self, *, last: bool) -> JsonObject | None:
        """Every device in full, when that is due: at first, when they changed, each minute, and at the end.

        The first has the counters from which those of the samples count.
        """
        now = self.machine.monotonic_ns()
        if self._derived is None or (now < self._devices_ns and not last):
            return None
        self._devices_ns = now + DEVICES_NS
        derived = self._derived
        return {
            "type": "devices",
            "at": round(self.machine.time(), 3),
            "cpus": derived["cpus"],
            "cpu_user_seconds": derived["cpu_user_seconds"],
            "cpu_system_seconds": derived["cpu_system_seconds"],
            "threads": derived["thread_count"],
            "memory": derived["memory"],
            "disk": derived["disk"],
            "disks": derived["disks"],
            "network": derived["network"],
            "interfaces": derived["interfaces"],
            "unavailable": self._unavailable or None,
        }

    def system(self) -> JsonObject | None:
        """The `system` section of a summary; None where the machine was not read twice."""
        section = self.peaks.system()
        return None if section is None else section | {"unavailable": dict(self._unavailable)}

    def reaped(self, pid: int, cpu_ns: int) -> bool:
        """Whether a child that was reaped, with so much CPU time, is a helper of ours."""
        return any(each.reaped(pid, cpu_ns) for each in self._helpers())

    def cpu_ns(self) -> int:
        """CPU time of helper processes."""
        return sum(each.cpu_ns() for each in self._helpers())

    def _helpers(self) -> list[HelperClient]:
        gpus = None if self.gpus is None else self.gpus.poller
        return [each for each in (self._zpool, gpus, self._cloud, self._served) if each is not None]

    def close(self) -> None:
        """Give everything back. Helpers that were killed get a moment to end, and one that hangs is left behind.

        Who leaves a child leaves it to an init, and that of many a container keeps it as a zombie.
        """
        helpers = self._helpers()
        for each in (self._reader, *helpers):
            if each is not None:
                each.close()
        ended = self.machine.monotonic_ns() + LAST_NS
        while not all(each.reap() for each in helpers) and self.machine.monotonic_ns() < ended:
            pause(0.0005)


def begin(
    machine: Machine,
    environment: dict[str, str],
    started: Callable[[int], object] | None = None,
    *,
    system: bool,
    gpu: bool,
    cloud: bool,
) -> HostSampler | None:
    """What was asked for of the machine; None where too few descriptors are left to read it beside the tree."""
    around = HostSampler(
        machine,
        environment,
        system=system,
        gpu=gpu,
        cloud=cloud,
        started=started,
    )
    try:
        leave_spare()
    except OSError:
        around.close()
        return None
    return around


def joined(sample: JsonObject, around: HostSampler, members: Collection[int]) -> JsonObject:
    """A sample of the tree with the sections of the machine."""
    sections = around.sample(members, first=sample["interval_seconds"] is None)
    sample["tree"] |= sections.pop(TREE, {})
    return sample | sections


def slim(derived: JsonObject) -> JsonObject:
    """What every sample says: the machine as a whole, and of single devices only those that did something."""
    section = {name: _short(derived[name]) for name in SYSTEM}
    memory, disk, network = derived["memory"], derived["disk"], derived["network"]
    section["memory"] = None if memory is None else {name: memory[name] for name in SYSTEM_MEMORY}
    section["disk"] = None if disk is None else {name: disk[name] for name in SYSTEM_DISK}
    section["network"] = None if network is None else {name: network[name] for name in SYSTEM_NETWORK}
    section["disks"] = _active(derived["disks"], SYSTEM_DISKS)
    section["interfaces"] = _active(derived["interfaces"], SYSTEM_INTERFACES)
    pressure = derived["pressure"]
    section["pressure"] = None if pressure is None else {name: _short(value) for name, value in pressure.items()}
    return section


def _unavailable(reading: SystemReading) -> dict[str, str]:
    return {path: of_error(error) for path, error in reading.errors.items()}


def _version(reading: SystemReading) -> tuple[int, list[object]]:
    """As long as it stays, there are the same devices, with the same facts."""
    pools = None if reading.disks is None else reading.disks.pools
    return reading.version, [pool.name for pool in pools or ()]


def _short(value: object) -> object:
    return round(value, DIGITS) if isinstance(value, float) else value


def _active(entries: list[JsonObject] | None, names: tuple[str, ...]) -> list[JsonObject] | None:
    if entries is None:
        return None
    return [
        {name: _short(entry[name]) for name in names} for entry in entries if any(entry[name] for name in names[1:])
    ]


class HostPeaks:
    """What a summary says of the machine and its GPUs."""

    def __init__(self) -> None:
        self._first: JsonObject | None = None
        self._last: JsonObject | None = None
        self._last_known: JsonObject | None = None  # with the last known value of each counter that the last lacks
        self._memory_peak: int | None = None
        self._gpu: JsonObject | None = None
        self._core_seconds = self._seconds = 0.0
        self._most_cores: float | None = None

    def begin(self, derived: JsonObject) -> None:
        """The counters from which totals count."""
        self._first = self._last_known = derived

    def note(self, derived: JsonObject, seconds: float) -> None:
        """One sample, so long after the one before; 0 where its rates are unknown."""
        self._last = derived
        self._last_known = _last_known(self._last_known, derived)
        cores = derived["cpu_cores"]
        if cores is not None:
            self._core_seconds += cores * seconds
            self._seconds += seconds
            self._most_cores = max(self._most_cores or 0.0, cores)
        used = (derived["memory"] or {}).get("used_bytes")
        if used is not None:
            self._memory_peak = max(self._memory_peak or 0, used)

    def note_gpus(self, listed: list[JsonObject], tree: JsonObject, *, whole: bool = True) -> None:
        """One sample of the GPUs. `whole`: whether no device is missing from the list."""
        if not listed and whole:
            return
        gpu = self._gpu = self._gpu or {"samples": 0, "ratio": 0.0, "peak_ratio": None, "memory": None, "tree": None}
        ratios = [0.0 if _sleeps(entry) else entry["utilization_ratio"] for entry in listed]
        held = [0 if _sleeps(entry) else entry["memory_used_bytes"] for entry in listed]
        if whole and None not in ratios:  # the sum of some would be less than what there was
            gpu["samples"] += 1
            gpu["ratio"] += sum(ratios)
            gpu["peak_ratio"] = max(gpu["peak_ratio"] or 0.0, sum(ratios))
        if whole and None not in held:
            gpu["memory"] = max(gpu["memory"] or 0, sum(held))
        if tree["memory_bytes"] is not None:
            gpu["tree"] = max(gpu["tree"] or 0, tree["memory_bytes"])

    def system(self) -> JsonObject | None:
        """The `system` section of a summary; None where the machine was not read twice."""
        first, last, known = self._first, self._last, self._last_known
        if first is None or last is None or known is None:
            return None
        return {
            "cpus": last["cpus"],
            "memory_total_bytes": (last["memory"] or {}).get("total_bytes"),
            "cpu_seconds": _grown(first, known, "cpu_user_seconds", "cpu_system_seconds"),
            "cpu_iowait_seconds": _grown(first, known, "cpu_iowait_seconds"),
            "cpu_steal_seconds": _grown(first, known, "cpu_steal_seconds"),
            "mean_cores": _short(self._core_seconds / self._seconds) if self._seconds else None,
            "peak_cores": _short(self._most_cores),
            "peak_memory_used_bytes": self._memory_peak,
            "disk_read_bytes": _grown(first["disk"], known["disk"], "read_bytes"),
            "disk_write_bytes": _grown(first["disk"], known["disk"], "write_bytes"),
            "network_received_bytes": _grown(first["network"], known["network"], "received_bytes"),
            "network_sent_bytes": _grown(first["network"], known["network"], "sent_bytes"),
        }

    def gpu(self) -> JsonObject | None:
        """The `gpu` section of a summary; None where no GPU was read."""
        gpu = self._gpu
        if gpu is None:
            return None
        return {
            "mean_utilization_ratio": round(gpu["ratio"] / gpu["samples"], DIGITS) if gpu["samples"] else None,
            "peak_utilization_ratio": _short(gpu["peak_ratio"]),
            "peak_memory_used_bytes": gpu["memory"],
            "peak_tree_memory_bytes": gpu["tree"],
        }


def _sleeps(entry: JsonObject) -> bool:
    return bool(entry["state"] == "asleep")


TOTALS = ("cpu_user_seconds", "cpu_system_seconds", "cpu_iowait_seconds", "cpu_steal_seconds", "disk", "network")


def _last_known(before: JsonObject | None, now: JsonObject) -> JsonObject:
    """Return the counters of a summary as last known: one that is in doubt in the last sample is known before it."""
    found = {}
    for name in TOTALS:
        value, earlier = now[name], None if before is None else before[name]
        if value is None:
            value = earlier
        elif isinstance(value, dict) and earlier is not None and None in value.values():
            value = {key: earlier[key] if each is None else each for key, each in value.items()}
        found[name] = value
    return found


def _grown(first: JsonObject | None, last: JsonObject | None, *names: str) -> Any:
    """By how much these counters grew together; None where one is unknown."""
    if first is None or last is None or any(first[name] is None or last[name] is None for name in names):
        return None
    return _short(max(0, sum(last[name] - first[name] for name in names)))
