"""Values of GPUs through NVML, from a made-up driver library in C."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from captured import put
from gpu_rig import Rig, on_host
from nvml_library import CC, TWO
from proctally.host.gpu_helper import aliases
from proctally.host.gpus import derive
from proctally.linux import gpu
from proctally.linux.gpu import GpuDevice, GpuProcess, GpuReading
from proctally.linux.machine import Machine
from proctally.linux.nvml_calls import UNREADABLE

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")


# -- what the devices tell -------------------------------------------------------------------------------------------


def test_every_number_in_base_units(rig: Rig) -> None:
    gpus = rig.start()
    assert gpus.present
    (first, second), _ = rig.derived()
    assert first == {
        "index": 0,
        "vendor": "nvidia",
        "name": "NVIDIA H200",
        "uuid": "GPU-aaaa",
        "pci": "0000:3b:00.0",
        "driver": "nvidia",
        "driver_version": "570.86.15",
        "memory_total_bytes": 150_000_000_000,
        "power_limit_watts": 700.0,
        "state": "ok",
        "unavailable": None,
        "utilization_ratio": 0.87,
        "memory_busy_ratio": 0.4,
        "memory_used_bytes": 20_000_000_000,
        "temperature_celsius": 61.0,
        "power_watts": 512.5,
        "energy_joules": 123456.789,
        "graphics_clock_hertz": 1_980_000_000,
        "sm_clock_hertz": 1_965_000_000,
        "memory_clock_hertz": 3_201_000_000,
        "fan_ratio": None,
        "throttle_reasons": ["sw_power_cap"],
        "ecc_corrected": 3,
        "ecc_uncorrected": 1,
        "pcie_generation": 5,
        "pcie_width": 16,
        "pcie_received_bytes_per_second": 2_500_000.0,
        "pcie_sent_bytes_per_second": 1_500_000.0,
        "mig_instances": [],
        "tree_utilization_ratio": 0.0,
        "tree_memory_bytes": 0,
        "tree_processes": 0,
    }
    assert second["utilization_ratio"] == 0.0  # told to be 0, not unknown
    assert (second["memory_used_bytes"], second["memory_total_bytes"]) == (100, 1000)
    assert second["fan_ratio"] == 0.31
    assert second["throttle_reasons"] == ["gpu_idle"]  # by the name the function had before
    unknown = ("power_watts", "energy_joules", "sm_clock_hertz", "ecc_corrected", "pcie_width", "mig_instances")
    assert [second[name] for name in unknown] == [None] * len(unknown)


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("GetUtilizationRates", "utilization_ratio"),
        ("GetTemperature", "temperature_celsius"),
        ("GetPowerUsage", "power_watts"),
        ("GetTotalEnergyConsumption", "energy_joules"),
        ("GetClockInfo", "sm_clock_hertz"),
        ("GetCurrentClocksEventReasons", "throttle_reasons"),
        ("GetTotalEccErrors", "ecc_corrected"),
        ("GetCurrPcieLinkWidth", "pcie_width"),
        ("GetPcieThroughput", "pcie_sent_bytes_per_second"),
        ("GetName", "name"),
        ("GetUUID", "uuid"),
        ("GetPciInfo_v3", "pci"),
        ("GetComputeRunningProcesses_v3", "tree_utilization_ratio"),
    ],
)
def test_one_error_costs_one_value(rig: Rig, function: str, field: str) -> None:
    rig.add(f"0.nvmlDevice{function}.error 3", "0.nvmlDeviceGetGraphicsRunningProcesses_v3.error 3")
    rig.add("0.nvmlDeviceGetMPSComputeRunningProcesses_v3.error 3")
    rig.start()
    (first, second), _ = rig.derived()
    assert first["state"] == second["state"] == "ok"
    assert first[field] is None
    others = {"utilization_ratio": 0.87, "temperature_celsius": 61.0, "energy_joules": 123456.789} | {field: None}
    assert {name: first[name] for name in others} == others


def test_an_error_that_is_no_lack_is_said(rig: Rig) -> None:
    rig.add("0.nvmlDeviceGetTemperature.error 999")
    rig.start()
    reading = rig.read()
    assert reading.devices[0].temperature_celsius is None
    assert reading.devices[0].errors == {"GetTemperature": 999}
    assert reading.devices[1].errors == {}
    first, second = derive(None, reading, ())[0]
    assert (first["unavailable"], second["unavailable"]) == ({"GetTemperature": "nvml_999"}, None)


def test_what_a_device_has_not_is_not_asked_for_again_and_a_failure_is(rig: Rig) -> None:
    rig.add("0.nvmlDeviceGetTemperature.error 999", "0.nvmlDeviceGetPowerUsage.error 3")
    rig.start()
    rig.read()
    rig.write(TWO)
    device = rig.read().devices[0]
    assert device.temperature_celsius == 61.0
    assert device.power_watts is None


def test_wide_pcie_counters_become_rates_and_narrow_ones_are_not_trusted(rig: Rig) -> None:
    rig.add("0.fields 3 5000000000 6000000000", "1.fields 1 1000 1000")
    rig.start()
    rig.read()
    rig.add("0.fields 3 5000001000 6000002000", "1.fields 1 2000 2000")
    (first, second), _ = rig.derived()
    sent, received = first["pcie_sent_bytes_per_second"], first["pcie_received_bytes_per_second"]
    assert sent > 0 and received == pytest.approx(2 * sent)
    assert second["pcie_sent_bytes_per_second"] is None
    rig.add("0.fields 3 4000 7000000000")
    (first, _), _ = rig.derived()
    assert first["pcie_sent_bytes_per_second"] is None  # it began anew: how much it was is not known
    assert first["pcie_received_bytes_per_second"] > 0


def test_a_name_that_is_no_text_costs_the_name(rig: Rig) -> None:
    rig.write(TWO)
    data = rig.script.read_bytes().replace(b"NVIDIA H200", b"NVIDIA \xff\xfe")
    rig.script.write_bytes(data)
    rig.start()
    reading = rig.read()
    device = reading.devices[0]
    assert device.name is None
    assert device.uuid == "GPU-aaaa"
    assert device.errors == {"GetName": UNREADABLE}
    assert derive(None, reading, ())[0][0]["unavailable"] == {"GetName": "driver_error"}


def test_no_device_is_an_empty_list(rig: Rig) -> None:
    rig.write("driver 570\ncount 0\n")
    rig.start()
    devices, tree = rig.derived(os.getpid())
    assert devices == []
    assert tree == {"utilization_ratio": 0.0, "memory_bytes": 0, "processes": 0, "used": 0, "unread": 0}


# -- MIG -------------------------------------------------------------------------------------------------------------


MIG = """\
driver 570.86.15
count 1
0.uuid GPU-aaaa
0.name NVIDIA H100
0.memory 5000 80000
0.utilization 99 99
0.mig 1
0.mig_most 7
0.lists_processes
0.compute 4242 700 1 0
0.mig0.uuid MIG-one
0.mig0.name NVIDIA H100 MIG 3g.40gb
0.mig0.memory 3000 40000
0.mig0.gpu_instance 1
0.mig0.compute_instance 0
0.mig0.lists_processes
0.mig0.compute 4242 700
0.mig2.uuid MIG-two
0.mig2.memory 10 20000
0.mig2.gpu_instance 5
0.mig2.compute_instance 0
0.mig2.lists_processes
0.mig2.compute 99 10
"""


def test_mig_instances_are_told_apart_from_their_parent(rig: Rig) -> None:
    rig.write(MIG)
    rig.start()
    rig.read(4242)
    (parent,), tree = rig.derived(4242)
    assert parent["utilization_ratio"] is None  # means nothing, whatever the driver says
    assert parent["memory_used_bytes"] == 5000
    one, two = parent["mig_instances"]
    assert one == {
        "index": 0,
        "uuid": "MIG-one",
        "name": "NVIDIA H100 MIG 3g.40gb",
        "gpu_instance": 1,
        "compute_instance": 0,
        "memory_used_bytes": 3000,
        "memory_total_bytes": 40000,
        "mig_parent": "GPU-aaaa",
    }
    assert (two["index"], two["uuid"], two["gpu_instance"]) == (2, "MIG-two", 5)
    assert tree["memory_bytes"] == 700  # listed by the parent and by the instance
    assert tree["processes"] == 1
    assert tree["utilization_ratio"] is None  # a process of ours is there, and nobody tells what it used


def test_a_parent_that_does_not_tell_instances_counts_nobody_twice(rig: Rig) -> None:
    rig.write(MIG.replace("0.compute 4242 700 1 0", "0.compute 4242 700\n0.compute 31 5"))
    rig.start()
    assert rig.derived(4242)[1]["memory_bytes"] == 700
    assert rig.derived(31)[1]["memory_bytes"] == 5


@pytest.mark.parametrize("error", [4, 999])
def test_an_instance_that_fails_leaves_the_tree_unknown(rig: Rig, error: int) -> None:
    kinds = ("Compute", "Graphics", "MPSCompute")
    hidden = "".join(f"0.nvmlDeviceGet{kind}RunningProcesses_v3.error 4\n" for kind in kinds)  # to all but root
    rig.write(hidden + MIG)
    rig.start()
    assert rig.derived(4242)[1]["memory_bytes"] == 700
    rig.add(*(f"0.mig2.nvmlDeviceGet{kind}RunningProcesses_v3.error {error}" for kind in kinds))
    assert rig.derived(4242)[1]["memory_bytes"] is None


def test_mig_off_is_no_mig(rig: Rig) -> None:
    rig.start()
    (first, second), _ = rig.derived()
    assert (first["mig_instances"], second["mig_instances"]) == ([], None)
    assert first["utilization_ratio"] == 0.87


# -- processes -------------------------------------------------------------------------------------------------------


def in_namespace(rig: Rig) -> Path:
    """A machine whose `/proc` is that of a pid namespace; returns the folder of its processes."""
    proc = rig.script.parent / "proc"
    put(proc.parent, "proc/self/status", "NSpid:\t7\n")
    rig.machine = Machine(str(proc), sys=str(rig.script.parent / "sys"))
    return proc


def holds(proc: Path, pid: int, *paths: str, nspid: str = "") -> None:
    """A process with these files open."""
    (proc / str(pid) / "fd").mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        os.symlink(path, proc / str(pid) / "fd" / str(number))
    if nspid:
        (proc / str(pid) / "status").write_text(f"NSpid:\t{nspid}\n")


def test_the_tree_has_its_part_of_each_device(rig: Rig) -> None:
    on_host(rig)
    rig.add("0.compute 100 1000", "0.graphics 100 1500", "0.compute 200 50", "0.compute 300 9000", "1.compute 100 7")
    rig.start()
    rig.read(100, 200)
    rig.add("0.sample 100 5000000 30", "0.sample 100 5200000 50", "0.sample 300 5200000 20")
    (first, second), tree = rig.derived(100, 200)
    assert first["tree_utilization_ratio"] == pytest.approx(0.4)  # 200 has no record: it did nothing
    assert first["tree_memory_bytes"] == 1550  # the larger of what two lists say
    assert first["tree_processes"] == 2
    assert second["tree_utilization_ratio"] == 0.0  # NOT_FOUND: nobody did anything
    assert tree["memory_bytes"] == 1557
    assert tree["utilization_ratio"] == pytest.approx(0.4)
    assert (tree["processes"], tree["used"], tree["unread"]) == (2, 1, 0)


def test_records_from_before_the_first_reading_are_not_ours(rig: Rig) -> None:
    on_host(rig)
    rig.add("0.compute 100 1000", "0.sample 100 4000000 99")
    rig.start()
    (first, _), tree = rig.derived(100)
    assert first["tree_utilization_ratio"] is None  # not known yet
    assert tree["memory_bytes"] == 1000
    rig.add("0.stale")  # a driver that hands out the old ones again
    (first, _), _ = rig.derived(100)
    assert first["tree_utilization_ratio"] == 0.0
    rig.add("0.sample 100 6000000 10", "0.sample 0 6000000 80", "0.sample 100 6100000 3000000000")
    (first, _), _ = rig.derived(100)
    assert first["tree_utilization_ratio"] == pytest.approx(0.1)


def read_directly(rig: Rig, code: str) -> list[str]:
    """What this code prints, beside the driver and without a helper: `nvml`, its clocks, `write` and `add`."""
    program = rig.script.parent / "program.py"
    program.write_text(
        "import pynvml, sys\n"
        "from proctally.linux.nvml import Nvml\n"
        "now, monotonic = [10**15], [0]\n"
        "nvml = Nvml(pynvml, lambda: monotonic[0], lambda: now[0])\n"
        "def write(text): open(sys.argv[1], 'w').write(text)\n"
        "def add(line): write(line + chr(10) + open(sys.argv[1]).read())\n"
        "two = open(sys.argv[1]).read()\n" + code
    )
    command = [sys.executable, str(program), str(rig.script)]
    done = subprocess.run(command, env=rig.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_records_are_seen_after_the_calendar_was_set_back(rig: Rig, library: Path) -> None:
    said = read_directly(
        rig,
        "for at in (10**12, 10**12 + 10, 0, 1000, 2000):\n"
        "    now[0] -= (at == 1000) * 3600 * 10**9\n"
        "    add(f'0.sample 100 {at} 50')\n"
        "    device = nvml.read()[0]\n"
        "    print([process.utilization_ratio for process in device.processes], device.records_known)\n",
    )
    before = ["[] False", "[0.5] True", "[] True"]
    assert said == [*before, "[] False", "[0.5] True"]


def test_records_that_grow_meanwhile_are_asked_for_again(rig: Rig) -> None:
    on_host(rig)
    rig.start()
    rig.read(100)
    rig.add("0.sample 100 5000000 60", "0.grows 2")
    assert rig.derived(100)[0][0]["tree_utilization_ratio"] == pytest.approx(0.6)


def test_a_process_with_nothing_but_nonsense_is_unknown_and_not_idle(rig: Rig) -> None:
    on_host(rig)
    rig.add("0.compute 100 1000")
    rig.start()
    rig.read(100)
    rig.add("0.sample 100 6100000 3000000000", "1.sample 300 6100000 3000000000")
    (first, second), tree = rig.derived(100)
    assert first["tree_utilization_ratio"] is None and tree["utilization_ratio"] is None
    assert second["tree_utilization_ratio"] == 0.0  # nobody that it lists


@pytest.mark.parametrize("kind", ["Compute", "Graphics", "MPSCompute"])
def test_a_list_that_could_not_be_had_leaves_the_tree_unknown(rig: Rig, kind: str) -> None:
    on_host(rig)
    rig.add(f"0.nvmlDeviceGet{kind}RunningProcesses_v3.error 3")
    rig.start()
    assert rig.derived(100)[1]["memory_bytes"] == 0  # it has no such list
    rig.add(f"1.nvmlDeviceGet{kind}RunningProcesses_v3.error 999")
    (first, second), tree = rig.derived(100)
    assert (first["tree_memory_bytes"], second["tree_memory_bytes"], tree["memory_bytes"]) == (0, None, None)


def test_a_process_that_ended_counts_what_it_used_and_holds_nothing(rig: Rig) -> None:
    on_host(rig)
    rig.start()
    rig.read(100)
    rig.add("0.sample 100 5000000 60", "0.sample 300 5000000 30", "1.compute 100 77", "1.sample 100 5000000 20")
    (first, second), tree = rig.derived()  # it has left the tree meanwhile
    assert first["tree_utilization_ratio"] == pytest.approx(0.6)
    assert second["tree_utilization_ratio"] == 0.0  # who lives by its pid is another one
    assert (tree["memory_bytes"], tree["processes"]) == (0, 0)
    rig.add("0.sample 100 6000000 60")
    rig.read()
    rig.add("0.sample 100 7000000 60")
    assert rig.derived()[0][0]["tree_utilization_ratio"] == 0.0  # long ended


def test_memory_that_is_not_available_is_unknown(rig: Rig) -> None:
    on_host(rig)
    rig.add("0.compute 100 -1")
    rig.start()
    (first, _), tree = rig.derived(100)
    assert first["tree_memory_bytes"] is None
    assert tree["memory_bytes"] is None
    assert tree["processes"] == 1
    devices, tree = rig.derived(55)
    assert (devices[0]["tree_memory_bytes"], tree["memory_bytes"]) == (0, 0)  # it is not our process


def test_host_pids_in_a_container_are_unknown_and_not_zero(rig: Rig) -> None:
    proc = in_namespace(rig)
    holds(proc, 100, "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm")
    holds(proc, 101, "/dev/null")
    rig.add("0.compute 645400 3000")
    rig.start()
    (first, second), tree = rig.derived(100, 101)
    for share in (first, second):
        assert share["tree_memory_bytes"] is None and share["tree_utilization_ratio"] is None
    assert tree == {"utilization_ratio": None, "memory_bytes": None, "processes": None, "used": None, "unread": 0}


def test_a_stranger_with_the_pid_of_a_member_is_not_taken_for_it(rig: Rig) -> None:
    proc = in_namespace(rig)
    holds(proc, 100, "/dev/null")  # it does not have the device open
    rig.add("0.compute 100 3000")
    rig.start()
    _, tree = rig.derived(100)
    assert (tree["memory_bytes"], tree["processes"]) == (0, 0)


def test_pids_of_the_container_itself_are_matched(rig: Rig) -> None:
    proc = in_namespace(rig)
    holds(proc, 100, "/dev/nvidia-uvm")
    rig.add("0.compute 100 3000")
    rig.start()
    rig.read(100)
    rig.add("0.sample 645400 5000000 60")  # a driver whose records go by the pids of the host all the same
    (first, _), tree = rig.derived(100)
    assert first["tree_memory_bytes"] == tree["memory_bytes"] == 3000
    assert first["tree_utilization_ratio"] is None


@pytest.mark.parametrize(("name", "host"), [("pid:[4026531836]", True), ("pid:[4026532999]", False)])
def test_where_kernel_threads_are_hidden_the_number_of_the_namespace_tells(
    tmp_path: Path, name: str, host: bool
) -> None:
    (tmp_path / "self" / "ns").mkdir(parents=True)
    os.symlink(name, tmp_path / "self" / "ns" / "pid")
    assert gpu.shows_host_pids(Machine(str(tmp_path))) is host


def test_who_has_no_device_open_is_idle_whoever_else_is_not(rig: Rig) -> None:
    proc = in_namespace(rig)
    holds(proc, 101, "/dev/null")
    rig.start()
    rig.read(101)
    rig.add("0.sample 645400 5000000 60")  # a driver that knows namespaces lists nobody, and gives everybody's records
    _, tree = rig.derived(101)
    assert (tree["utilization_ratio"], tree["memory_bytes"], tree["processes"]) == (0.0, 0, 0)


def test_a_member_that_was_not_looked_at_leaves_the_tree_unknown() -> None:
    reading = GpuReading(0)
    reading.host_pids = False
    device = GpuDevice("nvidia", 0)
    device.driver, device.processes = "nvidia", [GpuProcess(100), GpuProcess(7)]
    for process in device.processes:
        process.listed, process.memory_bytes = True, 5
    reading.devices = [device]
    reading.nvidia_users = [100]
    assert derive(None, reading, (100, 101))[1]["memory_bytes"] == 5
    reading.unread = [101]  # 7 may be what the driver calls it
    assert derive(None, reading, (100, 101))[1]["memory_bytes"] is None
    device.processes = device.processes[:1]
    assert derive(None, reading, (100, 101))[1]["memory_bytes"] == 5
    reading.unread, reading.waiting = [], 1
    assert derive(None, reading, (100, 101))[1]["memory_bytes"] is None


def test_lists_that_hold_strangers_are_the_hosts_and_match_nobody(rig: Rig) -> None:
    proc = in_namespace(rig)
    holds(proc, 100, "/dev/nvidia-uvm")
    holds(proc, 101, "/dev/null")
    rig.add("0.compute 100 3000", "0.compute 101 5")
    rig.start()
    assert rig.derived(100)[1]["memory_bytes"] == 3000
    rig.add("1.compute 645400 1000")  # nobody here has this pid: 100 may be somebody else's, out there
    _, tree = rig.derived(100)
    assert (tree["memory_bytes"], tree["utilization_ratio"], tree["processes"]) == (None, None, None)
    assert rig.derived(101)[1]["memory_bytes"] == 0  # it has no device open


def test_who_opens_the_device_is_seen_as_soon_as_the_driver_lists_somebody(rig: Rig) -> None:
    proc = in_namespace(rig)
    holds(proc, 100, "/dev/null")
    rig.start()
    _, tree = rig.derived(100)
    assert tree["memory_bytes"] == 0
    holds(proc, 100)
    os.symlink("/dev/nvidia-uvm", proc / "100" / "fd" / "9")
    rig.add("0.compute 645400 3000")
    _, tree = rig.derived(100)
    assert tree["memory_bytes"] is None


def test_below_windows_nobody_is_listed_and_that_is_not_zero(rig: Rig) -> None:
    on_host(rig)
    (rig.dev / "dxg").touch()
    holds(rig.script.parent / "proc", 100, "/dev/dxg")
    rig.start()
    _, tree = rig.derived(100)
    assert tree["memory_bytes"] is None


def test_nspid_finds_members_of_an_outer_proc(rig: Rig) -> None:
    on_host(rig)  # its /proc shows the kernel's threads, although this is a namespace
    proc = rig.script.parent / "proc"
    (proc / "self" / "status").write_text("NSpid:\t9007\t7\n")
    holds(proc, 9100, "/dev/nvidia-uvm", nspid="9100\t12")
    rig.add("0.compute 12 3000")
    rig.start()
    _, tree = rig.derived(9100)
    assert (tree["memory_bytes"], tree["processes"]) == (3000, 1)


def test_nspid_never_tells_pids_further_out(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/status", "Name:\tx\nNSpid:\t7\n")
    put(tmp_path, "proc/12/status", "NSpid:\t12\t1\n")
    assert aliases(Machine(str(tmp_path / "proc")), [12]) == []


# -- a driver that is broken -----------------------------------------------------------------------------------------


def test_version_mismatch_is_said_and_the_rest_unknown(rig: Rig) -> None:
    rig.add("nvmlInitWithFlags.error 18")
    gpus = rig.start()
    devices, tree = rig.derived(os.getpid())
    assert devices == []
    assert gpus.missing == "nvml_18"
    assert tree["memory_bytes"] is None and tree["utilization_ratio"] is None


def test_no_library_is_said(rig: Rig) -> None:
    rig.environment["LD_LIBRARY_PATH"] = str(rig.dev)
    gpus = rig.start()
    assert rig.read().devices == []
    assert gpus.missing == "nvml_12"


def test_a_lost_device_is_lost_and_the_others_go_on(rig: Rig) -> None:
    on_host(rig)
    rig.add("1.compute 100 40")
    rig.start()
    rig.read(100)
    rig.add("0.nvmlDeviceGetTemperature.error 15")
    (first, second), tree = rig.derived(100)
    assert (first["state"], first["unavailable"]) == ("lost", {"device": "nvml_15"})
    assert (first["uuid"], first["name"]) == ("GPU-aaaa", "NVIDIA H200")
    assert first["utilization_ratio"] is None and first["memory_used_bytes"] is None
    assert first["tree_memory_bytes"] is None
    assert (second["state"], second["temperature_celsius"]) == ("ok", 30.0)
    assert tree["memory_bytes"] == 40


def test_a_device_that_vanishes_from_the_list_is_lost(rig: Rig) -> None:
    rig.start()
    rig.read()
    moved = [line for line in TWO.splitlines() if not line.startswith("0.")]
    rig.write("\n".join(moved).replace("count 2", "count 1").replace("\n1.", "\n0.") + "\n")
    first, second = rig.derived()[0]
    assert (first["uuid"], first["state"], first["temperature_celsius"]) == ("GPU-bbbb", "ok", 30.0)
    assert (second["uuid"], second["state"], second["temperature_celsius"]) == ("GPU-aaaa", "lost", None)
    assert second["unavailable"] == {"device": "device_lost"}


def test_each_entry_tells_whose_it_is(rig: Rig) -> None:
    gpus = rig.start()
    rig.read()
    moved = [line for line in TWO.splitlines() if not line.startswith("0.")]
    rig.write("\n".join(moved).replace("count 2", "count 1").replace("\n1.", "\n0.") + "\n")
    rig.read()
    told = [(each["index"], each["uuid"]) for each in gpus.derive((), facts=False)[0]]
    assert told == [(0, "GPU-bbbb"), (0, "GPU-aaaa")]


def test_throughput_is_measured_of_one_device_in_each_reading(rig: Rig) -> None:
    rig.add("1.pcie 7 9", "nvmlDeviceGetPcieThroughput.sleep 1")
    rig.start()
    seen = [[each.pcie_sent_bytes_per_second for each in rig.read().devices] for _ in range(3)]
    assert seen == [[1_500_000.0, None], [None, 7_000.0], [1_500_000.0, None]]


def test_a_device_that_cannot_be_opened_is_lost(rig: Rig) -> None:
    rig.add("0.nvmlDeviceGetHandleByIndex_v2.error 15")
    rig.start()
    first, second = rig.derived()[0]
    assert (first["state"], first["uuid"]) == ("lost", None)
    assert second["state"] == "ok"


def test_a_lost_device_is_tried_again_now_and_then(rig: Rig) -> None:
    said = read_directly(
        rig,
        "nvml.read()\n"
        "add('0.nvmlDeviceGetTemperature.error 16')\n"
        "states = [nvml.read()[0].lost]\n"
        "write(two)\n"
        "states += [nvml.read()[0].lost for _ in range(40)]\n"
        "print(states.count(True), states[-1], nvml.read()[0].temperature_celsius)\n",
    )
    assert said == ["30 False 61.0"]


def test_a_driver_that_comes_back_is_read_again(rig: Rig) -> None:
    said = read_directly(
        rig,
        "for seconds in (0, 10, 20, 90):\n"
        "    monotonic[0] = seconds * 10**9\n"
        "    if seconds == 10: add('nvmlDeviceGetCount_v2.error 1')\n"
        "    if seconds == 20: write(two)\n"
        "    print(len(nvml.read()), nvml.error is None)\n",
    )
    assert said == ["2 True", "0 False", "0 False", "2 True"]


def test_what_a_device_has_not_is_asked_for_after_a_while_and_in_another_mode(rig: Rig) -> None:
    said = read_directly(
        rig,
        "add('0.nvmlDeviceGetFanSpeed.error 3')\n"
        "nvml.read()\n"
        "write(two + '0.fan 50\\n')\n"
        "print(nvml.read()[0].fan_ratio)\n"
        "write(two.replace('0.mig 0', '0.mig 1') + '0.fan 50\\n')\n"
        "print(nvml.read()[0].fan_ratio)\n"
        "nvml._known[1].age = 598\n"
        "add('1.power 5000')\n"
        "print([nvml.read()[1].power_watts for _ in range(2)])\n",
    )
    assert said == ["None", "0.5", "[None, 5.0]"]


@pytest.mark.parametrize(
    ("lines", "held"),
    [
        (["0.nvmlDeviceGetComputeRunningProcesses_v3.error 13", "0.old_compute 100 1000"], 1000),
        (["0.compute 100 1000", "0.grows 2"], 1000),
        (["0.compute 100 1000", "0.grows 99"], None),
    ],
)
def test_lists_of_older_drivers_and_lists_that_grow(rig: Rig, lines: list[str], held: int | None) -> None:
    on_host(rig)
    rig.add(*lines)
    rig.start()
    assert rig.derived(100)[1]["memory_bytes"] == held


def test_a_driver_that_goes_is_said(rig: Rig) -> None:
    gpus = rig.start()
    rig.read()
    rig.add("nvmlDeviceGetCount_v2.error 9")
    devices, tree = rig.derived(os.getpid())
    assert (devices, tree["memory_bytes"]) == ([], None)
    assert gpus.missing == "nvml_9"
