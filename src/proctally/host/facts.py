"""What does not change while a job runs: hardware, kernel, distribution, and what this machine may be inside of.

Read once for a record, after the job started, in small steps, so that no sample waits for a machine of many CPUs and
disks. Unknown is None. Layouts: Documentation/ABI/ of the kernel (sysfs-devices-system-cpu, stable/sysfs-devices-node,
sysfs-firmware-dmi), os-release(5).
"""

from __future__ import annotations

import os
import stat

from proctally.linux.cgroup import V2, parse_cgroup
from proctally.linux.disks import parse_diskstats, read_device
from proctally.linux.identity import (
    CLOCKS,
    CONTAINERS,
    FIRMWARE,
    NAME,
    VIRTUAL,
    Processor,
    container_of_path,
    likeliest,
    parse_choice,
    parse_cpuinfo,
    parse_node_meminfo,
    parse_os_release,
    parse_variable,
)
from proctally.linux.machine import Machine
from proctally.linux.proc import parse_cpu_list
from proctally.linux.sources import attribute, entries, number
from proctally.linux.system import parse_meminfo, parse_stat
from proctally.record.codes import of_error
from proctally.record.names import HOST
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

TROUBLE = (OSError, LookupError, ValueError)  # what a missing, denied or broken file raises: it costs its own field
FILES = 32  # that are read in one step, more or less: half a millisecond
MOST_FILES = 4096  # of one kind: a longer list is given up
MOST_DEVICES = 256
NODES = 8  # that are read in one step: the kernel adds up the counters of all CPUs for each

FIELDS = tuple(name for name in HOST if name not in ("type", "gpus", "cloud", "unavailable"))  # those are of others


# -- parsers ---------------------------------------------------------------------------------------------------------


# -- reading ---------------------------------------------------------------------------------------------------------


class HostReader:
    """Reads the host in steps of about a millisecond at most. It never raises for a file's sake.

    `root`: below which `/etc` and `/run` lie. `environment`: our own variables, in which a container may be named.
    `unavailable`: the code of each part that could not be read.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        root: str = "",
        environment: Mapping[str, str] | None = None,
        uname: Callable[[], os.uname_result] = os.uname,
    ) -> None:
        self._machine = machine
        self._root = root
        self._environment = environment or {}
        self._uname = uname
        self._facts: dict[str, object] = dict.fromkeys(FIELDS)
        self._cpu = Processor()
        self._steps = self._read()
        self.unavailable: dict[str, str] = {}

    def step(self) -> bool:
        """Read some more; False when there is nothing more to read."""
        return next(self._steps, self) is None

    def line(self) -> dict[str, object]:
        """The line of the record, with what was read so far."""
        return {"type": "host", **self._facts}

    def _read(self) -> Iterator[None]:
        parts = (
            self._system,
            self._processor,
            self._topology,
            self._frequency,
            self._memory,
            self._numa,
            self._storage,
            self._container,
            self._virtualization,
        )
        for part in parts:
            try:
                yield from part()
            except TROUBLE as error:
                self._note(part.__name__.lstrip("_"), error)
            yield

    def _note(self, name: str, error: Exception) -> None:
        self.unavailable[name] = of_error(error)

    def _set(self, name: str, read: Callable[[], object]) -> None:
        """One field: what this gives, or None."""
        try:
            self._facts[name] = read()
        except TROUBLE as error:
            self._note(name, error)

    def _file(self, path: str) -> bytes:
        """A small file outside procfs and sysfs: whoever made it may have made a pipe, or something without end."""
        fd = os.open(f"{self._root}{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError(f"{path} is no regular file")
            return os.read(fd, 65536)
        finally:
            os.close(fd)

    def _name(self, path: str) -> str | None:
        """A file of one word."""
        try:
            return decode_name(self._file(path).strip())[:NAME] or None
        except TROUBLE:
            return None

    # -- the system ------------------------------------------------------------------------------------------------

    def _system(self) -> Iterator[None]:
        facts, machine = self._facts, self._machine
        said = self._uname()
        names = ("hostname", "kernel_release", "kernel_version", "architecture")
        values = (said.nodename, said.release, said.version, said.machine)
        facts.update((name, decode_name(os.fsencode(value))) for name, value in zip(names, values, strict=True))
        facts["page_bytes"] = machine.page_size
        facts["clock_tick_hertz"] = machine.ticks
        self._set("booted_at", lambda: round(machine.start_unix(0), 3))
        self._set("init", lambda: decode_name(machine.read("1/comm").strip(b"\n")) or None)
        facts["pid_namespace_initial"] = machine.in_initial_pid_namespace()
        self._set("cgroup_version", self._cgroup_version)
        self._set("perf_event_paranoid", lambda: int(machine.read("sys/kernel/perf_event_paranoid")))
        self._set("distribution", self._distribution)
        yield

    def _cgroup_version(self) -> str | None:
        """By the hierarchies in which this process is: that of v2 is listed once it was mounted anywhere."""
        paths = parse_cgroup(self._machine.read("self/cgroup"))
        if not paths:
            return None
        return "v1" if V2 not in paths else "v2" if len(paths) == 1 else "hybrid"

    def _distribution(self) -> str | None:
        try:
            data = self._file("/etc/os-release")
        except TROUBLE:
            data = self._file("/usr/lib/os-release")
        values = parse_os_release(data)
        self._facts["distribution_id"] = values.get("ID") or None
        self._facts["distribution_version"] = values.get("VERSION_ID") or None
        return values.get("PRETTY_NAME") or None

    # -- processors ------------------------------------------------------------------------------------------------

    def _processor(self) -> Iterator[None]:
        """One read of `cpuinfo`: on x86 that is a page, the first records, and on ARM all that are in 64 KiB."""
        self._cpu = cpu = parse_cpuinfo(self._machine.read_or_aside("cpuinfo"))
        self._facts["cpu_vendor"] = cpu.vendor
        self._facts["cpu_model"] = cpu.model
        if cpu.parts:
            self._facts["cpu_parts"] = [{"implementer": maker, "part": part} for maker, part in cpu.parts]
        yield

    def _topology(self) -> Iterator[None]:
        online = self._cpus("devices/system/cpu/online")
        if online:
            self._facts["cpus_online"] = len(online)
        else:
            self._set(
                "cpus_online", lambda: len(parse_stat(self._machine.read_or_aside("stat", to_end=True)).cores) or None
            )
        self._facts["cpus_possible"] = len(self._cpus("devices/system/cpu/possible")) or None
        yield
        if not online:
            return
        sockets = yield from self._groups(online, ("package_cpus_list", "core_siblings_list"))
        self._facts["cpu_sockets"] = sockets if sockets == 1 or self._knows_sockets() else None
        if number(self._machine, "devices/system/cpu/smt/active") == 0:
            self._facts["cpu_physical_cores"] = len(online)
        else:
            groups = yield from self._groups(online, ("core_cpus_list", "thread_siblings_list"))
            self._facts["cpu_physical_cores"] = groups

    def _knows_sockets(self) -> bool:
        """Return whether a package of sysfs is a socket: on ARM and RISC-V only if ACPI has a PPTT."""
        architecture = str(self._facts["architecture"])
        if not architecture.startswith(("aarch64", "arm", "riscv")):
            return True
        return "PPTT" in (entries(self._machine, "firmware/acpi/tables") or ())

    def _cpus(self, path: str) -> set[int]:
        """A list of CPUs of sysfs; empty where it is not known."""
        try:
            return parse_cpu_list(self._machine.read_sys(path))
        except TROUBLE:
            return set()

    def _groups(self, cpus: set[int], names: tuple[str, str]) -> Generator[None, None, int | None]:
        """Into how many groups these CPUs fall: one file for each group, that of its first CPU. New name, old name."""
        seen: set[int] = set()
        count = 0
        for cpu in sorted(cpus):
            if cpu in seen:
                continue
            folder = f"devices/system/cpu/cpu{cpu}/topology"
            members = self._cpus(f"{folder}/{names[0]}") or self._cpus(f"{folder}/{names[1]}")
            if cpu not in members or count == MOST_FILES:
                return None
            seen |= members
            count += 1
            if count % FILES == 0:
                yield
        return count

    def _frequency(self) -> Iterator[None]:
        folder = "devices/system/cpu/cpufreq"
        names = [name for name in entries(self._machine, folder) or () if name.startswith("policy")]
        kilohertz = []
        governors: dict[str, None] = {}
        for place, name in enumerate(sorted(names)[:MOST_FILES]):
            most = number(self._machine, f"{folder}/{name}/cpuinfo_max_freq")
            governor = attribute(self._machine, f"{folder}/{name}/scaling_governor")
            if most:
                kilohertz.append(most)
            if governor is not None:
                governors[governor] = None
            if place % (FILES // 2) == 0:
                yield
        if kilohertz and len(names) <= MOST_FILES:
            self._facts["cpu_max_hertz"] = max(kilohertz) * 1000
        self._facts["cpu_governor"] = ", ".join(governors) or None

    # -- memory ----------------------------------------------------------------------------------------------------

    def _memory(self) -> Iterator[None]:
        facts, machine = self._facts, self._machine
        names = entries(machine, "kernel/mm/hugepages")
        if names is not None:
            sizes = [name.removeprefix("hugepages-").removesuffix("kB") for name in names]
            facts["hugepage_sizes_bytes"] = sorted(int(size) * 1024 for size in sizes if size.isdecimal())
        self._set(
            "transparent_hugepages", lambda: parse_choice(machine.read_sys("kernel/mm/transparent_hugepage/enabled"))
        )
        memory = parse_meminfo(machine.read_or_aside("meminfo"))
        facts["memory_bytes"] = memory.total_bytes
        facts["swap_bytes"] = memory.swap_total_bytes
        yield

    def _numa(self) -> Iterator[None]:
        folder = "devices/system/node"
        found: list[dict[str, object]] = []
        nodes = parse_cpu_list(self._machine.read_sys(f"{folder}/online"))
        for place, node in enumerate(sorted(nodes)):
            if place % NODES == NODES - 1:
                yield
            entry: dict[str, object] = {"node": node, "cpus": None, "memory_bytes": None}
            found.append(entry)
            try:
                entry["cpus"] = decode_name(self._machine.read_sys(f"{folder}/node{node}/cpulist").strip())
                entry["memory_bytes"] = parse_node_meminfo(self._machine.read_sys(f"{folder}/node{node}/meminfo"))
            except TROUBLE as error:
                self._note(f"node{node}", error)
        self._facts["numa_nodes"] = found

    # -- storage ---------------------------------------------------------------------------------------------------

    def _storage(self) -> Iterator[None]:
        """Whole devices with something in them; of one with several paths (NVMe) the one that is used."""
        names = parse_diskstats(self._machine.read_or_aside("diskstats", to_end=True))
        found: list[dict[str, object]] = []
        for name in names:
            yield
            device = read_device(self._machine, name, names)
            if not device.partition and device.capacity_bytes != 0 and device.path_of is None:
                found.append({"name": name, **device.facts()})
            if len(found) == MOST_DEVICES:
                break
        self._facts["storage"] = found

    # -- inside of what --------------------------------------------------------------------------------------------

    def _container(self) -> Iterator[None]:
        hints = list(self._container_hints())
        self._facts["container"] = likeliest(hints, CONTAINERS)
        self._facts["container_hints"] = [{"name": name, "from": where} for name, where in hints]
        yield

    def _container_hints(self) -> Iterator[tuple[str, str]]:
        for name, path in (
            ("kubernetes", "/var/run/secrets/kubernetes.io"),
            ("podman", "/run/.containerenv"),
            ("docker", "/.dockerenv"),
            ("apptainer", "/.singularity.d"),
        ):
            if os.path.exists(f"{self._root}{path}"):
                yield name, path
        for path in "/run/systemd/container", "/run/host/container-manager":
            named = self._name(path)
            if named is not None:
                yield named, path
        for name, variable in (
            ("kubernetes", "KUBERNETES_SERVICE_HOST"),
            ("apptainer", "APPTAINER_CONTAINER"),
            ("apptainer", "SINGULARITY_CONTAINER"),
        ):
            if self._environment.get(variable):
                yield name, f"variable {variable}"
        if self._environment.get("container"):
            yield decode_name(os.fsencode(self._environment["container"]))[:NAME], "variable container"
        for process in "self", "1":
            try:
                found = map(container_of_path, parse_cgroup(self._machine.read(f"{process}/cgroup")).values())
                name_of = next(filter(None, found), None)
            except TROUBLE:
                continue
            if name_of is not None:
                yield name_of, f"cgroup of {process}"
        try:
            variable_of = parse_variable(self._machine.read("1/environ"), b"container")
        except TROUBLE:
            return
        if variable_of is not None:
            yield variable_of, "variable container of 1"

    def _virtualization(self) -> Iterator[None]:
        """What a VM shows of itself. An x86 CPU without the flag of a hypervisor is no VM's, whoever made it."""
        dmi = {name: attribute(self._machine, f"class/dmi/id/{name}") for name in ("sys_vendor", "product_name")}
        self._facts["hardware_vendor"] = dmi["sys_vendor"]
        tree = attribute(self._machine, "firmware/devicetree/base/model")
        self._facts["hardware_model"] = dmi["product_name"] or tree
        yield
        hints: list[tuple[str, str]] = []
        if self._cpu.hypervisor is not False and not self._is_dom0():
            hints = list(self._firmware_hints(dmi))
            yield
            hints += self._other_hints()
        self._facts["virtualization"] = likeliest(hints, VIRTUAL)
        self._facts["virtualization_hints"] = [{"name": name, "from": where} for name, where in hints]

    def _is_dom0(self) -> bool:
        """Xen's first guest, which is the host to all but Xen."""
        try:
            return b"control_d" in self._machine.read("xen/capabilities")
        except TROUBLE:
            return False

    def _firmware_hints(self, dmi: dict[str, str | None]) -> Iterator[tuple[str, str]]:
        product = dmi["product_name"] or ""
        if self._cpu.hypervisor is None and ".metal" in product:
            return
        if dmi["sys_vendor"] == "Microsoft Corporation" and product == "Virtual Machine":
            yield "hyperv", "dmi product_name"
        others = {name: attribute(self._machine, f"class/dmi/id/{name}") for name in ("board_vendor", "bios_vendor")}
        for field, value in {**dmi, **others}.items():
            for prefix, name in FIRMWARE:
                if value is not None and value.startswith(prefix):
                    yield name, f"dmi {field}"
                    break

    def _other_hints(self) -> Iterator[tuple[str, str]]:
        machine = self._machine
        if "microsoft" in str(self._facts["kernel_release"]).lower():
            yield "wsl", "kernel release"
        if os.path.exists(f"{machine.sys}/bus/acpi/devices/FCVMGID:00"):
            yield "firecracker", "acpi FCVMGID"
        if attribute(machine, "hypervisor/type") == "xen":
            yield "xen", "hypervisor/type"
        base = "firmware/devicetree/base"
        below = attribute(machine, f"{base}/hypervisor/compatible")
        if below is not None:
            yield (
                next((name for name in ("kvm", "xen", "vmware") if name in below), "vm-other"),
                "device tree hypervisor",
            )
        if any(name.startswith("fw-cfg@") for name in entries(machine, base) or ()):
            yield "qemu", "device tree fw-cfg"
        if "linux,dummy-virt" in (attribute(machine, f"{base}/compatible") or ""):
            yield "vm-other", "device tree compatible"
        clocks = attribute(machine, "devices/system/clocksource/clocksource0/available_clocksource") or ""
        for clock in clocks.split():
            for prefix, name in CLOCKS:
                if clock.startswith(prefix):
                    yield name, f"clocksource {clock}"
        if self._cpu.hypervisor:
            yield "vm-other", "cpuinfo hypervisor"
