"""Facts of made-up machines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from captured import machine_in, put, unpack
from identities import X86, arm, read_host
from proctally.host.facts import FIELDS, HostReader
from proctally.linux.machine import Machine
from proctally.linux.system import parse_meminfo


def uname(release: str = "6.12.0", machine: str = "x86_64") -> os.uname_result:
    return os.uname_result(("Linux", "node7", release, "#1 SMP", machine))


class Built:
    """A machine of a few files, and what is read of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine, _ = machine_in(folder)
        self.environment: dict[str, str] = {}
        self.uname = uname()
        self.reader: HostReader | None = None

    def put(self, path: str, content: str | bytes = "") -> None:
        put(self.folder, path, content)

    def cpu(self, path: str, content: str) -> None:
        self.put(f"sys/devices/system/cpu/{path}", content)

    def read(self) -> dict[str, object]:
        self.reader = HostReader(
            self.machine, root=str(self.folder), environment=self.environment, uname=lambda: self.uname
        )
        while self.reader.step():
            pass
        return self.reader.line()

    def hints(self, name: str) -> list[tuple[str, str]]:
        said = self.read()[f"{name}_hints"]
        assert isinstance(said, list)
        return [(hint["name"], hint["from"]) for hint in said]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path)


# -- os-release ------------------------------------------------------------------------------------------------------


def test_distribution(built: Built) -> None:
    built.put("usr/lib/os-release", 'ID=fedora\nPRETTY_NAME="Fedora Linux 44"\nVERSION_ID=44\n')
    assert {name: said for name, said in built.read().items() if name.startswith("distribution")} == {
        "distribution": "Fedora Linux 44",
        "distribution_id": "fedora",
        "distribution_version": "44",
    }
    built.put("etc/os-release", "ID=arch\n")
    said = built.read()
    assert (said["distribution"], said["distribution_id"], said["distribution_version"]) == (None, "arch", None)


def test_an_os_release_that_is_a_pipe_is_not_waited_for(built: Built) -> None:
    for place in "etc", "usr/lib":
        (built.folder / place).mkdir(parents=True)
        os.mkfifo(built.folder / place / "os-release")
    os.mkdir(built.folder / "run")
    os.mkfifo(built.folder / "run" / "containerenv")
    (built.folder / "run/systemd").mkdir()
    os.mkfifo(built.folder / "run/systemd/container")
    said = built.read()
    assert said["distribution"] is None
    assert said["container"] is None
    assert built.reader is not None
    assert built.reader.unavailable["distribution"] == "invalid"


# -- processors ------------------------------------------------------------------------------------------------------


def large(built: Built, sockets: int, cores: int, threads: int) -> int:
    """A machine whose second threads are numbered after all the first ones, as on x86."""
    total = sockets * cores * threads
    built.cpu("online", f"0-{total - 1}\n")
    built.cpu("possible", f"0-{total * 2 - 1}\n")
    built.cpu("smt/active", f"{int(threads > 1)}\n")
    for cpu in range(total):
        core = cpu % (sockets * cores)
        socket = core // cores
        siblings = ",".join(str(core + n * sockets * cores) for n in range(threads))
        first = socket * cores
        ranges = ((first + n * sockets * cores, first + n * sockets * cores + cores - 1) for n in range(threads))
        built.cpu(f"cpu{cpu}/topology/core_cpus_list", f"{siblings}\n")
        built.cpu(f"cpu{cpu}/topology/package_cpus_list", ",".join(f"{low}-{high}" for low, high in ranges) + "\n")
        built.cpu(f"cpufreq/policy{cpu}/cpuinfo_max_freq", "5100000\n" if cpu == total // 2 else "3600000\n")
        built.cpu(f"cpufreq/policy{cpu}/scaling_governor", "performance\n")
    return total


class Counting(Machine):
    """Counts the files that are opened."""

    files = 0

    def read(self, path: str, *, to_end: bool = False) -> bytes:
        self.files += 1
        return super().read(path, to_end=to_end)

    def read_sys(self, path: str) -> bytes:
        self.files += 1
        return super().read_sys(path)


@pytest.mark.parametrize(("sockets", "cores", "threads"), [(1, 1, 1), (2, 4, 2), (2, 64, 2), (4, 8, 1), (1, 3, 4)])
def test_topology(built: Built, sockets: int, cores: int, threads: int) -> None:
    total = large(built, sockets, cores, threads)
    said = built.read()
    assert said["cpu_sockets"] == sockets
    assert said["cpu_physical_cores"] == sockets * cores
    assert said["cpus_online"] == total
    assert said["cpus_possible"] == total * 2
    assert said["cpu_max_hertz"] == 5_100_000_000
    assert said["cpu_governor"] == "performance"


def test_no_step_opens_many_files(built: Built) -> None:
    """256 CPUs, 60 disks with partitions, 16 nodes: what is read between two samples stays small."""
    large(built, 2, 64, 2)
    built.put("sys/devices/system/node/online", "0-15\n")
    for node in range(16):
        built.put(f"sys/devices/system/node/node{node}/cpulist", f"{node * 16}-{node * 16 + 15}\n")
        built.put(f"sys/devices/system/node/node{node}/meminfo", f"Node {node} MemTotal: 1024 kB\n")
    lines = []
    for place in range(60):
        name = f"nvme{place}n1"
        lines += [
            f"259 {place * 2} {name} 1 1 1 1 1 1 1 1 0 1 1",
            f"259 {place * 2 + 1} {name}p1 1 1 1 1 1 1 1 1 0 1 1",
        ]
        built.put(f"sys/class/block/{name}/size", "1024\n")
        built.put(f"sys/class/block/{name}/device/model", "disk\n")
        built.put(f"sys/class/block/{name}p1/partition", "1\n")
    built.put("proc/diskstats", "\n".join(lines) + "\n")
    machine = Counting(built.machine.proc, sys=built.machine.sys)
    reader = HostReader(machine, root=str(built.folder), uname=uname)
    most = steps = 0
    more = True
    while more:
        before = machine.files
        more = reader.step()
        most = max(most, machine.files - before)
        steps += 1
    assert most <= 48
    assert steps < 300
    said = reader.line()
    assert len(said["storage"]) == 60  # type: ignore[arg-type]
    assert len(said["numa_nodes"]) == 16  # type: ignore[arg-type]
    assert said["cpu_physical_cores"] == 128


def test_names_of_older_kernels(built: Built) -> None:
    built.cpu("online", "0-1")
    for cpu in 0, 1:
        built.cpu(f"cpu{cpu}/topology/thread_siblings_list", "0-1")
        built.cpu(f"cpu{cpu}/topology/core_siblings_list", "0-1")
    said = built.read()
    assert (said["cpu_sockets"], said["cpu_physical_cores"]) == (1, 1)


@pytest.mark.parametrize(
    ("machine", "clusters", "acpi", "sockets"),
    [
        ("aarch64", ("0-1", "2-5"), False, None),  # a phone or a board
        ("aarch64", ("0-2", "3-6", "7"), False, None),
        ("aarch64", ("0-3",), False, 1),
        ("aarch64", ("0-1", "2-5"), True, 2),  # a server
        ("riscv64", ("0-1", "2-5"), False, None),
        ("x86_64", ("0-1", "2-5"), False, 2),
    ],
)
def test_clusters_of_arm_are_no_sockets(
    built: Built, machine: str, clusters: tuple[str, ...], acpi: bool, sockets: int | None
) -> None:
    built.uname = uname(machine=machine)
    last = int(clusters[-1].rpartition("-")[2])
    built.cpu("online", f"0-{last}\n")
    for cluster in clusters:
        first, _, end = cluster.partition("-")
        for cpu in range(int(first), int(end or first) + 1):
            built.cpu(f"cpu{cpu}/topology/core_siblings_list", f"{cluster}\n")
    if acpi:
        built.put("sys/firmware/acpi/tables/PPTT")
    assert built.read()["cpu_sockets"] == sockets


def test_a_gap_in_the_topology_is_unknown(built: Built) -> None:
    large(built, 2, 4, 2)
    (built.folder / "sys/devices/system/cpu/cpu5/topology/core_cpus_list").unlink()
    (built.folder / "sys/devices/system/cpu/cpu4/topology/package_cpus_list").write_text("nonsense")
    said = built.read()
    assert (said["cpu_sockets"], said["cpu_physical_cores"], said["cpus_online"]) == (None, None, 16)


def test_without_sysfs_the_cores_of_proc_stat(built: Built) -> None:
    built.put("proc/stat", "cpu  1 1 1 1\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 1\nctxt 1\n")
    said = built.read()
    assert (said["cpus_online"], said["cpu_sockets"], said["cpus_possible"]) == (2, None, None)


def test_several_governors(built: Built) -> None:
    for place, governor in enumerate(("schedutil", "performance", "schedutil")):
        built.cpu(f"cpufreq/policy{place}/scaling_governor", governor)
    said = built.read()
    assert said["cpu_governor"] == "schedutil, performance"
    assert said["cpu_max_hertz"] is None


# -- memory ----------------------------------------------------------------------------------------------------------


def test_memory(built: Built) -> None:
    built.put("proc/meminfo", "MemTotal:       16384 kB\nSwapTotal:          0 kB\n")
    built.put("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0")
    built.put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0")
    built.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    built.put("sys/devices/system/node/online", "0,2\n")
    built.put("sys/devices/system/node/node0/cpulist", "0-3,8-11\n")
    built.put("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:        8192 kB\nNode 0 MemFree: 1 kB\n")
    built.put("sys/devices/system/node/node2/cpulist", "\n")  # memory without CPUs
    built.put("sys/devices/system/node/node2/meminfo", "Node 2 MemTotal:        x kB\n")
    said = built.read()
    assert (said["memory_bytes"], said["swap_bytes"]) == (16384 * 1024, 0)
    assert said["hugepage_sizes_bytes"] == [2 << 20, 1 << 30]
    assert said["transparent_hugepages"] == "madvise"
    assert said["numa_nodes"] == [
        {"node": 0, "cpus": "0-3,8-11", "memory_bytes": 8192 * 1024},
        {"node": 2, "cpus": "", "memory_bytes": None},
    ]
    assert built.reader is not None
    assert built.reader.unavailable["node2"] == "invalid"


# -- inside of what --------------------------------------------------------------------------------------------------


def test_no_container(built: Built) -> None:
    built.put("proc/self/cgroup", "0::/user.slice\n")
    said = built.read()
    assert (said["container"], said["container_hints"]) == (None, [])


def test_containers_by_files_and_variables(built: Built) -> None:
    built.put("run/.containerenv", 'engine="podman-5.4.0"\n')
    assert built.read()["container"] == "podman"
    built.put(".dockerenv")
    built.environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "PASSWORD": "hunter2"}
    built.put("proc/1/environ", b"SECRET=x\0container=oci\0")
    assert built.read()["container"] == "kubernetes"
    assert built.hints("container") == [
        ("podman", "/run/.containerenv"),
        ("docker", "/.dockerenv"),
        ("kubernetes", "variable KUBERNETES_SERVICE_HOST"),
        ("oci", "variable container of 1"),
    ]


def test_a_runtime_that_is_not_known_by_the_name_it_gives(built: Built) -> None:
    built.put("run/systemd/container", b"w\xffasm" + b"x" * 1000)
    name = built.read()["container"]
    assert isinstance(name, str)
    assert name.startswith("w\\xffasm")
    assert len(name) <= 64


DMI = "sys/class/dmi/id"


@pytest.mark.parametrize(
    ("vendor", "product", "name"),
    [
        ("Amazon EC2", "m7i.large", "amazon"),
        ("Google", "Google Compute Engine", "google"),
        ("Alibaba Cloud", "Alibaba Cloud ECS", "alibaba"),
        ("VMware, Inc.", "VMware Virtual Platform", "vmware"),
        ("innotek GmbH", "VirtualBox", "virtualbox"),
        ("Microsoft Corporation", "Virtual Machine", "hyperv"),
        ("Microsoft Corporation", "Surface Laptop", "vm-other"),
        ("Xen", "HVM domU", "xen"),
        ("QEMU", "Standard PC (Q35 + ICH9, 2009)", "qemu"),
        ("Hetzner", "vServer", "vm-other"),
        ("", "", "vm-other"),
    ],
)
def test_virtual_machines_by_their_firmware(built: Built, vendor: str, product: str, name: str) -> None:
    built.put("proc/cpuinfo", X86 % b"hypervisor ")
    built.put(f"{DMI}/sys_vendor", vendor + "\n")
    built.put(f"{DMI}/product_name", product + "\n")
    said = built.read()
    assert said["virtualization"] == name
    assert (said["hardware_vendor"], said["hardware_model"]) == (vendor or None, product or None)
    # the same firmware on a CPU that says that it is not below a hypervisor
    built.put("proc/cpuinfo", X86 % b"")
    assert built.read()["virtualization"] is None


def test_qemu_with_kvm_is_kvm(built: Built) -> None:
    built.put("proc/cpuinfo", X86 % b"hypervisor ")
    built.put(f"{DMI}/sys_vendor", "QEMU\n")
    built.put("sys/devices/system/clocksource/clocksource0/available_clocksource", "kvm-clock tsc acpi_pm \n")
    assert built.read()["virtualization"] == "kvm"


def test_firecracker_by_its_generation_counter(built: Built) -> None:
    built.put("proc/cpuinfo", X86 % b"hypervisor ")
    built.put("sys/bus/acpi/devices/FCVMGID:00/hid", "FCVMGID")
    built.put("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc kvm-clock\n")
    assert built.hints("virtualization") == [
        ("firecracker", "acpi FCVMGID"),
        ("kvm", "clocksource kvm-clock"),
        ("vm-other", "cpuinfo hypervisor"),
    ]
    assert built.read()["virtualization"] == "firecracker"


def test_xen_and_its_host(built: Built) -> None:
    built.put("proc/cpuinfo", X86 % b"hypervisor ")
    built.put("sys/hypervisor/type", "xen\n")
    assert built.read()["virtualization"] == "xen"
    built.put("proc/xen/capabilities", "control_d\n")
    assert built.read()["virtualization"] is None


def test_arm_by_firmware_or_device_tree(built: Built) -> None:
    built.uname = uname(machine="aarch64")
    built.put("proc/cpuinfo", arm(("0x41", "0xd0c")))
    assert built.read()["virtualization"] is None  # nothing says that there is one
    built.put(f"{DMI}/sys_vendor", "Amazon EC2\n")
    built.put(f"{DMI}/product_name", "c7g.metal\n")
    assert built.read()["virtualization"] is None
    built.put(f"{DMI}/product_name", "c7g.large\n")
    assert built.read()["virtualization"] == "amazon"


def test_arm_by_device_tree(built: Built) -> None:
    built.put("proc/cpuinfo", arm(("0x41", "0xd0c")))
    built.put("sys/firmware/devicetree/base/model", b"linux,dummy-virt\0")
    built.put("sys/firmware/devicetree/base/compatible", b"linux,dummy-virt\0")
    said = built.read()
    assert (said["virtualization"], said["hardware_model"]) == ("vm-other", "linux,dummy-virt")
    built.put("sys/firmware/devicetree/base/fw-cfg@9020000/reg", b"")
    assert built.read()["virtualization"] == "qemu"
    built.put("sys/firmware/devicetree/base/hypervisor/compatible", b"linux,kvm\0")
    assert built.read()["virtualization"] == "kvm"


def test_wsl(built: Built) -> None:
    built.uname = uname("5.15.153.1-microsoft-standard-WSL2")
    built.put("proc/cpuinfo", X86 % b"hypervisor ")
    assert built.read()["virtualization"] == "wsl"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0::/a\n", "v2"),
        ("1:name=systemd:/a\n0::/a\n", "hybrid"),
        ("4:memory:/a\n2:cpu,cpuacct:/a\n", "v1"),
        ("", None),
        ("nonsense\n", None),
    ],
)
def test_cgroup_version(built: Built, text: str, version: str | None) -> None:
    built.put("proc/self/cgroup", text)
    assert built.read()["cgroup_version"] == version


@pytest.mark.parametrize(("number", "initial"), [(4026531836, True), (4026532200, False), (None, None)])
def test_pid_namespace(built: Built, number: int | None, initial: bool | None) -> None:
    (built.folder / "proc/self/ns").mkdir(parents=True)
    if number is not None:
        os.symlink(f"pid:[{number}]", built.folder / "proc/self/ns/pid")
    assert built.read()["pid_namespace_initial"] is initial


# -- all of it -------------------------------------------------------------------------------------------------------


def test_an_empty_machine_knows_nothing_and_says_so(built: Built) -> None:
    said = built.read()
    assert list(said) == ["type", *FIELDS]
    known = {name for name, value in said.items() if value is not None}
    own = {
        "hostname",
        "architecture",
        "kernel_release",
        "kernel_version",
        "page_bytes",
        "clock_tick_hertz",
        "booted_at",
    }
    assert known == {"type", "container_hints", "virtualization_hints", *own}


def test_a_captured_server(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    said = read_host(machine, root=str(tmp_path), uname=uname)
    storage = said["storage"]
    assert isinstance(storage, list)
    assert all(device["name"] and device["capacity_bytes"] != 0 for device in storage)
    assert said["memory_bytes"] == parse_meminfo(machine.read("meminfo")).total_bytes


def test_storage_of_several_paths_is_told_once(built: Built) -> None:
    names = "nvme0n1", "nvme0c0n1", "nvme0c1n1"
    lines = (f"259 {place} {name} 1 0 8 0 1 0 8 0 0 1 1\n" for place, name in enumerate(names))
    built.put("proc/diskstats", "".join(lines))
    for name in names:
        built.put(f"sys/class/block/{name}/size", "1024\n")
        built.put(f"sys/class/block/{name}/hidden", f"{int(name != 'nvme0n1')}\n")
    storage = built.read()["storage"]
    assert isinstance(storage, list)
    assert [device["name"] for device in storage] == ["nvme0n1"]


def test_every_file_broken_costs_fields_and_raises_nothing(built: Built) -> None:
    large(built, 1, 2, 2)
    built.put("sys/devices/system/node/online", "0\n")
    built.put("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 1 kB\n")
    for path in "proc/meminfo", "proc/diskstats", "proc/cpuinfo", "proc/self/cgroup", "proc/1/comm", "proc/1/environ":
        built.put(path)
    built.put("proc/sys/kernel/perf_event_paranoid", "2\n")
    built.put("sys/kernel/mm/transparent_hugepage/enabled")
    files = [path for path in built.folder.rglob("*") if path.is_file()]
    for junk in b"", b"\xff\x00\xfe\n", b"9" * 5000, b"-1\n", b"0-99999999999\n", b":" * 1000, b"MemTotal: x kB\n":
        for path in files:
            path.write_bytes(junk)
        json.dumps(built.read(), allow_nan=False).encode()


def test_names_that_are_no_text(built: Built) -> None:
    built.uname = os.uname_result(("Linux", os.fsdecode(b"n\xffode"), "6", "v", "x86_64"))
    built.put("proc/1/comm", b"i\xffnit\n")
    said = built.read()
    assert (said["hostname"], said["init"]) == ("n\\xffode", "i\\xffnit")
    json.dumps(said).encode()


def test_the_line_is_there_before_all_is_read(built: Built) -> None:
    built.put("proc/meminfo", "MemTotal: 1 kB\n")
    reader = HostReader(built.machine, root=str(built.folder), uname=uname)
    assert reader.step()
    said = reader.line()
    assert (said["hostname"], said["memory_bytes"]) == ("node7", None)
    while reader.step():
        pass
    assert not reader.step()
    assert reader.line()["memory_bytes"] == 1024
