"""GPUs through DRM: fdinfo of several drivers and kernels as text, trees of files, and sysfs of AMD and Intel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured import Clock, machine_in, put
from proctally.gpus import derive, memory_of
from proctally.kernel.drm import Clients, cards, kfd_devices, kfd_memory, parse_fdinfo, read_card
from proctally.kernel.gpu import GpuDevice, GpuReading, has_drm
from proctally.kernel.gpu_helper import Reader
from proctally.kernel.machine import Machine

COMMON = "pos:\t0\nflags:\t02100002\nmnt_id:\t26\nino:\t437\n"

AMDGPU = (
    COMMON
    + """\
drm-driver:	amdgpu
drm-client-id:	20
drm-pdev:	0000:03:00.0
pasid:	32770
drm-total-cpu:	0
drm-shared-cpu:	0
drm-total-gtt:	12 MiB
drm-total-vram:	400 MiB
drm-resident-gtt:	10 MiB
drm-resident-vram:	300 MiB
drm-memory-vram:	307200 KiB
drm-memory-gtt: 	10240 KiB
drm-memory-cpu: 	7 KiB
amd-requested-vram:	400 KiB
drm-engine-gfx:	1000000000 ns
drm-engine-compute:	500000000 ns
drm-engine-capacity-compute:	4
"""
)
OLD_AMDGPU = (
    COMMON + "drm-driver:\tamdgpu\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t7\ndrm-memory-vram:\t8 KiB\n"
    "drm-engine-gfx:\t55 ns\n"
)
I915 = (
    COMMON
    + """\
drm-driver: i915
drm-client-id: 7
drm-pdev: 0000:00:02.0
drm-total-system0: 24 MiB
drm-shared-system0: 8 MiB
drm-resident-system0: 20 MiB
drm-purgeable-system0: 0
drm-total-stolen-system0: 0
drm-engine-render: 9288864723 ns
drm-engine-copy: 2035071108 ns
drm-engine-video: 0 ns
drm-engine-capacity-video: 2
"""
)
XE = (
    COMMON
    + """\
drm-driver:	xe
drm-client-id:	12
drm-pdev:	0000:04:00.0
drm-total-system:	0
drm-total-vram0:	2 GiB
drm-resident-vram0:	1 GiB
drm-cycles-rcs:	28257900
drm-total-cycles-rcs:	7655183225
drm-cycles-ccs:	0
drm-total-cycles-ccs:	7655183225
drm-engine-capacity-ccs:	4
"""
)
PANFROST = (
    COMMON
    + "drm-driver:\tpanfrost\ndrm-client-id:\t3\ndrm-engine-fragment:\t1846584880 ns\n"
    + (
        "drm-cycles-fragment:\t1424359409\ndrm-maxfreq-fragment:\t799999987 Hz\ndrm-curfreq-fragment:\t799999987 Hz\n"
        "drm-total-memory:\t290 MiB\ndrm-resident-memory:\t270 MiB\n"
    )
)


# -- one file --------------------------------------------------------------------------------------------------------


def test_amdgpu() -> None:
    client = parse_fdinfo(AMDGPU.encode())
    assert client is not None
    assert (client.driver, client.device, client.client) == ("amdgpu", "0000:03:00.0", "20")
    assert client.engines == {"gfx": 1_000_000_000, "compute": 500_000_000}
    assert client.capacity == {"compute": 4}
    assert client.memory == {"gtt": 10 << 20, "vram": 300 << 20, "cpu": 7 << 10}
    assert memory_of(client) == 300 << 20


def test_old_name_of_what_is_resident() -> None:
    client = parse_fdinfo(OLD_AMDGPU.encode())
    assert client is not None
    assert client.memory == {"vram": 8192}


def test_i915_has_the_machines_memory() -> None:
    client = parse_fdinfo(I915.encode())
    assert client is not None
    assert client.engines == {"render": 9288864723, "copy": 2035071108, "video": 0}
    assert memory_of(client) == 20 << 20


def test_xe_counts_cycles() -> None:
    client = parse_fdinfo(XE.encode())
    assert client is not None
    assert client.cycles == {"rcs": [28257900, 7655183225], "ccs": [0, 7655183225]}
    assert client.engines == {}
    assert memory_of(client) == 1 << 30


def test_a_frequency_is_no_time() -> None:
    client = parse_fdinfo(PANFROST.encode())
    assert client is not None
    assert client.device == ""
    assert (client.engines, client.cycles) == ({"fragment": 1846584880}, {})
    assert client.memory == {"memory": 270 << 20}


@pytest.mark.parametrize("data", [b"", COMMON.encode(), b"drm-driver:\n", b"drm-engine-gfx: 5 ns\n", b"\n:\n::\n"])
def test_what_is_no_client(data: bytes) -> None:
    assert parse_fdinfo(data) is None


@pytest.mark.parametrize("value", ["", "x", "-5 ns", "5 furlongs", "5 ns more", "1.5 ns"])
def test_a_value_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="drm-engine-gfx"):
        parse_fdinfo(f"drm-driver: amdgpu\ndrm-engine-gfx: {value}\n".encode())


KEYS = ["drm-driver", "drm-pdev", "drm-client-id", "drm-engine-a", "drm-engine-capacity-a", "drm-cycles-a"]
KEYS += ["drm-total-cycles-a", "drm-memory-vram", "drm-resident-vram", "drm-total-vram", "drm-", "pos", ""]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.from_regex(r"\s*\d{0,25} ?(ns|KiB|MiB|GiB|x)?", fullmatch=True))))
def test_any_lines_are_numbers_or_refused(lines: list[tuple[str, str]]) -> None:
    data = "".join(f"{key}:{value}\n" for key, value in lines).encode()
    try:
        client = parse_fdinfo(data)
    except ValueError:
        return
    if client is not None:
        numbers = [*client.engines.values(), *client.memory.values(), *sum(client.cycles.values(), [])]
        assert all(isinstance(number, int) and number >= 0 for number in numbers)
        assert all(capacity >= 1 for capacity in client.capacity.values())


@given(st.binary())
def test_any_bytes_are_a_client_or_refused(data: bytes) -> None:
    try:
        parse_fdinfo(b"drm-driver: x\n" + data)
    except ValueError:
        pass


# -- many files ------------------------------------------------------------------------------------------------------


def hold(folder: Path, pid: int, number: int, target: str, fdinfo: str = COMMON) -> None:
    """Let a process have this open."""
    place = folder / "proc" / str(pid) / "fd"
    place.mkdir(parents=True, exist_ok=True)
    (place / str(number)).unlink(missing_ok=True)
    os.symlink(target, place / str(number))
    put(folder, f"proc/{pid}/fdinfo/{number}", fdinfo)


def clients_of(machine: Machine, *pids: int) -> Clients:
    clients = Clients(machine)
    for pid in pids:
        clients.add(pid, None)
    return clients


def test_a_client_that_many_share_counts_once(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    later = AMDGPU.replace("1000000000 ns", "1000000900 ns").replace("resident-vram:\t300", "resident-vram:\t301")
    for pid, number, text in ((10, 5, AMDGPU), (10, 6, later), (11, 5, AMDGPU), (12, 0, COMMON)):
        hold(tmp_path, pid, number, "/dev/dri/renderD128", text)
    hold(tmp_path, 12, 1, "/dev/dri/renderD128", AMDGPU.replace("client-id:\t20", "client-id:\t21"))
    hold(tmp_path, 12, 2, "/dev/dri/renderD129", AMDGPU.replace("0000:03", "0000:0a"))
    clients = clients_of(machine, 10, 11, 12)
    assert clients.look() == 0
    found = {(each.device, each.client): each for each in clients.read()}
    assert sorted(found) == [("0000:03:00.0", "20"), ("0000:03:00.0", "21"), ("0000:0a:00.0", "20")]
    assert found["0000:03:00.0", "20"].pids == [10, 11]
    assert found["0000:03:00.0", "20"].engines["gfx"] == 1_000_000_900  # the larger, whichever comes first
    assert found["0000:03:00.0", "20"].memory["vram"] == 301 << 20
    hold(tmp_path, 10, 5, "/dev/dri/renderD130", XE)
    hold(tmp_path, 11, 5, "/dev/dri/renderD130", XE.replace("28257900", "28257999").replace("7655183225", "7655183300"))
    assert [each.cycles["rcs"] for each in clients.read() if each.driver == "xe"] == [[28257999, 7655183300]]


def test_without_numbers_every_descriptor_is_a_client(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    os.makedirs(tmp_path / "sys/class/drm/renderD128")
    os.symlink("../../../ffe40000.gpu", tmp_path / "sys/class/drm/renderD128/device")
    text = PANFROST.replace("drm-client-id:\t3\n", "")
    hold(tmp_path, 10, 5, "/dev/dri/renderD128", text)
    hold(tmp_path, 10, 6, "/dev/dri/renderD128", text)
    clients = clients_of(machine, 10)
    clients.look()
    assert [(each.device, each.client) for each in clients.read()] == [("ffe40000.gpu", "")] * 2


def test_descriptors_are_listed_at_first_a_second_later_and_every_ten(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    hold(tmp_path, 10, 1, "/dev/null")
    clients = clients_of(machine, 10)
    seen = []
    for step in range(24):
        if step in (1, 13):
            hold(
                tmp_path, 10, 10 + step, "/dev/dri/renderD128", AMDGPU.replace("client-id:\t20", f"client-id:\t{step}")
            )
        clients.look()
        seen.append(len(clients.read()))
        clock.advance(0.9)
    assert seen == [0] * 2 + [1] * 12 + [2] * 10


def test_who_goes_and_what_breaks_costs_only_itself(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    hold(tmp_path, 10, 5, "/dev/dri/renderD128", AMDGPU)
    hold(tmp_path, 11, 5, "/dev/dri/renderD128", "drm-driver: x\ndrm-engine-gfx: nonsense\n")
    hold(tmp_path, 12, 5, "/dev/dri/card0", COMMON)  # a driver that tells nothing
    clients = clients_of(machine, 9, 10, 11, 12)
    clients.look()
    assert [each.pids for each in clients.read()] == [[10]]
    assert clients.silent() == [[11, "renderD128"], [12, "card0"]]
    (tmp_path / "proc/10/fdinfo/5").unlink()
    assert clients.read() == []
    assert clients.silent() == [[11, "renderD128"], [12, "card0"]]
    hold(tmp_path, 10, 6, "/dev/dri/renderD129", AMDGPU)
    clock.advance(2.0)
    clients.look(all_anew=True)
    (tmp_path / "proc/10/fdinfo/6").unlink()
    (tmp_path / "proc/10/fdinfo/6").mkdir()  # an error that is not the end of the process
    assert clients.read() == []
    assert [10, "renderD129"] in clients.silent()
    clients.drop(10)
    assert list(clients.pids()) == [9, 11, 12]


def test_what_may_not_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, _ = machine_in(tmp_path)
    hold(tmp_path, 10, 5, "/dev/kfd")
    hold(tmp_path, 10, 6, "/dev/nvidia-uvm")
    hold(tmp_path, 10, 7, "/dev/nvidiactl")
    hold(tmp_path, 11, 5, "/dev/nvidiactl")
    hold(tmp_path, 13, 5, "/dev/nvidia-modeset")
    os.makedirs(tmp_path / "proc/12")
    (tmp_path / "proc/12/fd").symlink_to("/proc/1/fd")
    clients = clients_of(machine, 10, 11, 12, 13)
    listdir = os.listdir

    def denied(path: Any) -> list[str]:
        if str(path).endswith("/12/fd"):  # root may list everything: the one place where the kernel is stood in for
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", denied)
    clients.look()
    assert clients.users() == ([10, 13], [10], [12])


def test_listings_have_a_budget_and_who_waited_is_next(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    machine.monotonic_ns = lambda: ticking(clock)
    pids = range(100, 150)
    for pid in pids:
        hold(tmp_path, pid, 5, "/dev/dri/renderD128", AMDGPU.replace("client-id:\t20", f"client-id:\t{pid}"))
    clients = clients_of(machine, *pids)
    waiting = clients.look()
    assert 30 < waiting < 50
    while waiting:
        before, waiting = waiting, clients.look()
        assert waiting < before
    assert len(clients.read()) == len(pids)
    waiting = clients.look(all_anew=True)
    assert 30 < waiting < 50
    assert 0 < clients.look() < waiting  # goes on where it was


def ticking(clock: Clock) -> int:
    clock.advance(0.001)
    return clock.now_ns


# -- what the tree had -----------------------------------------------------------------------------------------------


def reading_of(at_seconds: float, *files: tuple[int, str], since_ns: int | None = None) -> GpuReading:
    reading = GpuReading(round(at_seconds * 1e9))
    for pid, text in files:
        client = parse_fdinfo(text.encode())
        assert client is not None
        client.pids = [pid]
        client.since_ns = since_ns
        reading.clients.append(client)
    return reading


def tree_of(before: GpuReading | None, now: GpuReading, *members: int) -> dict[str, object]:
    return derive(before, now, members)[1]


def test_the_busiest_engine_counts() -> None:
    before = reading_of(10, (1, AMDGPU))
    now = reading_of(12, (1, AMDGPU.replace("1000000000 ns", "1500000000 ns").replace("\t500000000", "\t900000000")))
    assert tree_of(before, now, 1) == {
        "utilization_ratio": pytest.approx(0.25),  # gfx 0.5 s of 2, compute 0.4 s of 2 on four alike
        "memory_bytes": 300 << 20,
        "processes": 1,
        "used": 1,
        "unread": 0,
    }


def test_the_first_reading_tells_no_use_and_strangers_have_no_part() -> None:
    now = reading_of(10, (1, AMDGPU))
    assert tree_of(None, now, 1)["utilization_ratio"] is None
    assert tree_of(None, now, 2)["utilization_ratio"] == 0.0
    assert tree_of(None, now, 2)["memory_bytes"] == 0


@pytest.mark.parametrize(
    ("since", "busy", "ratio"),
    [(10.5, 0.6, 0.3), (10.5, 9.0, 1.0), (2.0, 5.0, 0.5), (None, 5.0, None)],
)
def test_a_client_that_began_since_counts_whole(since: float | None, busy: float, ratio: float | None) -> None:
    new = AMDGPU.replace("client-id:\t20", "client-id:\t30").replace("1000000000 ns", f"{round(busy * 1e9)} ns")
    before = reading_of(10, (1, AMDGPU))
    now = reading_of(12, (1, AMDGPU), (1, new), since_ns=None if since is None else round(since * 1e9))
    assert tree_of(before, now, 1)["utilization_ratio"] == (None if ratio is None else pytest.approx(ratio))
    assert tree_of(before, now, 1)["memory_bytes"] == 600 << 20


def test_a_client_whose_first_holder_ended_is_still_held() -> None:
    before, now = reading_of(10, (1, AMDGPU)), reading_of(12, (1, AMDGPU.replace("1000000000 ns", "2000000000 ns")))
    for reading in (before, now):
        reading.clients[0].pids.append(2)
    assert tree_of(before, now, 2)["memory_bytes"] == 300 << 20
    assert tree_of(before, now, 2)["utilization_ratio"] == pytest.approx(0.5)


def test_who_ended_since_used_it_and_holds_nothing() -> None:
    before, now = reading_of(10, (1, AMDGPU)), reading_of(12, (1, AMDGPU.replace("1000000000 ns", "2000000000 ns")))
    tree = derive(before, now, (), ended={1})[1]
    assert tree["utilization_ratio"] == pytest.approx(0.5)
    assert (tree["memory_bytes"], tree["processes"]) == (0, 0)


def test_it_is_told_when_a_client_was_not_there_yet(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    begun = machine.monotonic_ns()
    hold(tmp_path, 10, 5, "/dev/dri/renderD128", AMDGPU)
    hold(tmp_path, 11, 5, "/dev/dri/renderD128", AMDGPU.replace("client-id:\t20", "client-id:\t21"))
    clients = clients_of(machine, 10)  # it may be older than the tracking
    clients.add(11, begun - 7)
    clients.look()
    assert {each.client: each.since_ns for each in clients.read()} == {"20": None, "21": begun - 7}
    hold(tmp_path, 10, 6, "/dev/dri/renderD128", AMDGPU.replace("client-id:\t20", "client-id:\t22"))
    clock.advance(2.0)
    clients.look()
    assert {each.client: each.since_ns for each in clients.read()} == {"20": None, "21": begun - 7, "22": begun}
    hold(tmp_path, 10, 7, "/dev/dri/renderD128", AMDGPU.replace("client-id:\t20", "client-id:\t21"))
    clock.advance(20.0)
    clients.look()
    assert {each.client: each.since_ns for each in clients.read()} == {"20": None, "21": begun - 7, "22": begun}


def test_time_that_runs_backwards_is_no_time() -> None:
    before = reading_of(10, (1, AMDGPU))
    now = reading_of(12, (1, AMDGPU.replace("1000000000 ns", "900000000 ns")))
    assert tree_of(before, now, 1)["utilization_ratio"] == 0.0


def test_cycles_need_no_clock() -> None:
    before = reading_of(10, (1, XE))
    now = reading_of(99, (1, XE.replace("28257900", "28258000").replace("7655183225", "7655183425")))
    assert tree_of(before, now, 1)["utilization_ratio"] == pytest.approx(0.5)
    for cycles, ratio in ((400, 0.5), (800, 1.0), (9000, 1.0)):  # of four that are alike
        ccs = XE.replace("drm-cycles-ccs:\t0", f"drm-cycles-ccs:\t{cycles}").replace("7655183225", "7655183425")
        assert tree_of(before, reading_of(11, (1, ccs)), 1)["utilization_ratio"] == pytest.approx(ratio)


def test_devices_add_up() -> None:
    files = [(1, AMDGPU), (2, AMDGPU.replace("0000:03", "0000:0a"))]
    before = reading_of(10, *files)
    now = reading_of(11, *((pid, text.replace("1000000000 ns", "2000000000 ns")) for pid, text in files))
    tree = tree_of(before, now, 1, 2)
    assert tree["utilization_ratio"] == pytest.approx(2.0)
    assert (tree["used"], tree["processes"], tree["memory_bytes"]) == (2, 2, 600 << 20)


def test_compute_of_amd_leaves_memory_and_no_time() -> None:
    reading = reading_of(10, (1, AMDGPU))
    reading.kfd_users = [1]
    reading.kfd_memory = [[1, "0000:03:00.0", 5 << 30]]
    tree = tree_of(reading_of(9, (1, AMDGPU)), reading, 1)
    assert tree["utilization_ratio"] is None  # and not 0, which the engines say
    assert tree["memory_bytes"] == 5 << 30
    reading.host_pids = False
    reading.kfd_memory = []  # sysfs has it under the pid of the host
    assert tree_of(reading_of(9, (1, AMDGPU)), reading, 1)["memory_bytes"] is None


def test_a_driver_that_tells_nothing_leaves_it_unknown() -> None:
    now = reading_of(10)
    device = GpuDevice("amd", 0)
    device.driver, device.pci = "amdgpu", "0000:03:00.0"
    now.devices = [device]
    assert tree_of(None, now, 1)["memory_bytes"] == 0
    now.silent = [[1, "0000:03:00.0"]]
    assert tree_of(None, now, 1)["memory_bytes"] is None and tree_of(None, now, 1)["utilization_ratio"] is None
    assert tree_of(None, now, 2)["memory_bytes"] == 0


def test_what_nvidias_driver_says_by_drm_is_not_counted_beside_nvml() -> None:
    now = reading_of(10, (1, COMMON + "drm-driver:\tnvidia-drm\ndrm-pdev:\t0000:3b:00.0\ndrm-client-id:\t1\n"))
    assert tree_of(None, now, 1) == {
        "utilization_ratio": 0.0,
        "memory_bytes": 0,
        "processes": 0,
        "used": 0,
        "unread": 0,
    }


def test_kfd_tells_which_device(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    nodes = "sys/class/kfd/kfd/topology/nodes"
    put(tmp_path, f"{nodes}/0/gpu_id", "0\n")
    put(tmp_path, f"{nodes}/0/properties", "cpu_cores_count 8\n")
    put(tmp_path, f"{nodes}/1/gpu_id", "41234\n")
    put(tmp_path, f"{nodes}/1/properties", "simd_count 10\nlocation_id 785\ndomain 1\n")
    put(tmp_path, f"{nodes}/2/gpu_id", "7\n")
    put(tmp_path, "sys/class/kfd/kfd/proc/10/vram_41234", "4096\n")
    put(tmp_path, "sys/class/kfd/kfd/proc/10/sdma_41234", "5\n")
    put(tmp_path, "sys/class/kfd/kfd/proc/10/vram_9", "1\n")
    devices = kfd_devices(machine)
    assert devices == {"41234": "0001:03:02.1"}
    assert kfd_memory(machine, [10, 11], devices) == [[10, "0001:03:02.1", 4096]]


# -- sysfs -----------------------------------------------------------------------------------------------------------


def card(folder: Path, number: int, driver: str, pci: str, files: dict[str, str], *, render: bool = True) -> None:
    """A card as sysfs shows it; the names of files are below its device."""
    device = folder / "sys/devices" / pci
    for node in [f"card{number}", *([f"renderD{128 + number}"] if render else [])]:
        (device / "drm" / node).mkdir(parents=True)
        place = folder / "sys/class/drm" / node
        place.mkdir(parents=True)
        os.symlink(f"../../../devices/{pci}", place / "device")
    os.symlink(f"../../bus/pci/drivers/{driver}", device / "driver")
    for name, text in files.items():
        put(folder, f"sys/devices/{pci}/{name}", text + "\n")


AMD_CARD = {
    "vendor": "0x1002",
    "device": "0x744c",
    "unique_id": "8b1c2d3e4f",
    "gpu_busy_percent": "42",
    "mem_busy_percent": "7",
    "mem_info_vram_used": "1073741824",
    "mem_info_vram_total": "25753026560",
    "current_link_speed": "16.0 GT/s PCIe",
    "current_link_width": "16",
    "ras/umc_err_count": "ue: 1\nce: 4",
    "hwmon/hwmon3/temp1_input": "51000",
    "hwmon/hwmon3/power1_average": "123000000",
    "hwmon/hwmon3/power1_cap": "300000000",
    "hwmon/hwmon3/freq1_input": "2500000000",
    "hwmon/hwmon3/freq2_input": "1249000000",
    "hwmon/hwmon3/pwm1": "51",
    "power/runtime_status": "active",
}


def test_amdgpu_card(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    card(tmp_path, 1, "amdgpu", "0000:03:00.0", AMD_CARD)
    assert has_drm(machine)
    assert cards(machine) == ["card1"]
    device = read_card(machine, "card1")
    said = {
        name: getattr(device, name) for name in device.__slots__ if getattr(device, name) not in (None, False, [], {})
    }
    assert said == {
        "vendor": "amd",
        "index": 1,
        "driver": "amdgpu",
        "pci": "0000:03:00.0",
        "uuid": "8b1c2d3e4f",
        "name": "amdgpu 0x1002:0x744c",
        "utilization_ratio": 0.42,
        "memory_busy_ratio": 0.07,
        "memory_used_bytes": 1 << 30,
        "memory_total_bytes": 25753026560,
        "pcie_generation": 4,
        "pcie_width": 16,
        "ecc_corrected": 4,
        "ecc_uncorrected": 1,
        "temperature_celsius": 51.0,
        "power_watts": 123.0,
        "power_limit_watts": 300.0,
        "graphics_clock_hertz": 2_500_000_000,
        "memory_clock_hertz": 1_249_000_000,
        "fan_ratio": 0.2,
    }


def test_power_of_an_apu_is_that_of_the_moment(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    files = {"hwmon/hwmon3/power1_input": "9500000", "hwmon/hwmon3/power1_cap": "nonsense"}
    card(tmp_path, 0, "amdgpu", "0000:03:00.0", files)
    device = read_card(machine, "card0")
    assert (device.power_watts, device.power_limit_watts, device.temperature_celsius) == (9.5, None, None)


@pytest.mark.parametrize("status", ["suspended", "suspending"])
def test_a_card_that_sleeps_is_not_woken(tmp_path: Path, status: str) -> None:
    machine, _ = machine_in(tmp_path)
    card(tmp_path, 0, "amdgpu", "0000:03:00.0", {**AMD_CARD, "power/runtime_status": status})
    device = read_card(machine, "card0")
    assert device.asleep
    assert device.utilization_ratio is None and device.temperature_celsius is None
    assert device.uuid == "8b1c2d3e4f"


def test_a_bare_card_is_all_unknown(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    card(tmp_path, 0, "v3d", "fec00000.gpu", {"gpu_busy_percent": "nonsense", "mem_busy_percent": "101"})
    device = read_card(machine, "card0")
    assert (device.vendor, device.name, device.pci) == ("v3d", "v3d", "fec00000.gpu")
    assert device.utilization_ratio is None and device.memory_busy_ratio is None
    assert device.throttle_reasons is None and device.power_watts is None


@pytest.mark.parametrize(
    ("driver", "prefix", "clock"),
    [("i915", "drm-card/gt/gt0/throttle_reason_", "drm-card/gt/gt0/rps_act_freq_mhz"),
     ("xe", "tile0/gt0/freq0/throttle/reason_", "tile0/gt0/freq0/act_freq")],
)  # fmt: skip
def test_intel_cards(tmp_path: Path, driver: str, prefix: str, clock: str) -> None:
    machine, _ = machine_in(tmp_path)
    files = {
        "vendor": "0x8086",
        "hwmon/hwmon1/energy1_input": "5000000",
        "hwmon/hwmon1/power1_max": "0",
        "hwmon/hwmon1/temp2_input": "40000",
        f"{prefix}thermal": "1",
        f"{prefix}pl1": "0",
        f"{prefix}status": "1",
        clock: "1350",
    }
    card(tmp_path, 0, driver, "0000:04:00.0", files)
    if driver == "i915":
        os.rename(tmp_path / "sys/devices/0000:04:00.0/drm-card/gt", tmp_path / "sys/class/drm/card0/gt")
    device = read_card(machine, "card0")
    assert device.vendor == "intel"
    assert device.energy_joules == 5.0
    assert device.power_limit_watts is None
    assert device.temperature_celsius == 40.0
    assert device.graphics_clock_hertz == 1_350_000_000
    assert device.throttle_reasons == ["thermal"]
    assert device.utilization_ratio is None  # these drivers do not tell it


def test_only_gpus_are_cards(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    assert not has_drm(machine) and cards(machine) == []
    card(tmp_path, 0, "ast", "0000:01:00.0", {}, render=False)
    card(tmp_path, 2, "nvidia", "0000:02:00.0", {})
    (tmp_path / "sys/class/drm/card0-VGA-1").mkdir()
    assert not has_drm(machine) and cards(machine) == []
    card(tmp_path, 4, "vgem", "vgem", {})
    (tmp_path / "sys/devices/vgem/driver").unlink()
    assert not has_drm(machine) and cards(machine) == []
    for number in (10, 3):
        card(tmp_path, number, "amdgpu", f"0000:{number:02x}:00.0", {})
    assert has_drm(machine)
    assert cards(machine) == ["card3", "card10"]


# -- as the helper reads it ------------------------------------------------------------------------------------------


def test_a_card_that_vanishes_is_lost_and_may_come_back(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    card(tmp_path, 0, "amdgpu", "0000:03:00.0", AMD_CARD)
    card(tmp_path, 1, "amdgpu", "0000:0a:00.0", {**AMD_CARD, "unique_id": "other"})
    reader = Reader(machine, str(tmp_path / "dev"))
    before = reader.read([], [])
    for path in ("sys/devices/0000:0a:00.0", "sys/class/drm/card1", "sys/class/drm/renderD129"):
        shutil.rmtree(tmp_path / path)
    for _ in range(2):
        clock.advance(1.0)
        first, second = derive(before, reader.read([], []), ())[0]
        assert (first["state"], first["utilization_ratio"]) == ("ok", 0.42)
        assert (second["state"], second["pci"], second["uuid"]) == ("lost", "0000:0a:00.0", "other")
        assert second["utilization_ratio"] is None
    card(tmp_path, 2, "amdgpu", "0000:0a:00.0", AMD_CARD)
    clock.advance(31.0)
    assert [each["state"] for each in derive(None, reader.read([], []), ())[0]] == ["ok", "ok"]


def test_in_a_namespace_compute_of_amd_is_not_a_strangers(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    card(tmp_path, 0, "amdgpu", "0000:03:00.0", AMD_CARD)
    hold(tmp_path, 10, 5, "/dev/kfd")
    nodes = "sys/class/kfd/kfd/topology/nodes"
    put(tmp_path, f"{nodes}/1/gpu_id", "41234\n")
    put(tmp_path, f"{nodes}/1/properties", "location_id 768\n")
    put(tmp_path, "sys/class/kfd/kfd/proc/10/vram_41234", "4096\n")  # sysfs goes by the pids of the host
    reader = Reader(machine, str(tmp_path / "dev"))
    assert derive(None, reader.read([10], []), (10,))[1]["memory_bytes"] == 0
    put(tmp_path, "proc/2/stat", f"2 (kthreadd) S 0 0 0 0 -1 {0x00208040} {'0 ' * 45}\n")
    put(tmp_path, "proc/self/status", "NSpid:\t7\n")
    reader = Reader(machine, str(tmp_path / "dev"))
    assert derive(None, reader.read([10], []), (10,))[1]["memory_bytes"] == 4096


def test_reader_joins_devices_and_members(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    card(tmp_path, 0, "amdgpu", "0000:03:00.0", AMD_CARD)
    hold(tmp_path, 10, 5, "/dev/dri/renderD128", AMDGPU)
    hold(tmp_path, 11, 5, "/dev/dri/renderD128", AMDGPU)
    reader = Reader(machine, str(tmp_path / "dev"))
    before = reader.read([10, 11, 12], [])
    clock.advance(1.0)
    hold(tmp_path, 10, 5, "/dev/dri/renderD128", AMDGPU.replace("1000000000 ns", "1300000000 ns"))
    now = reader.read([], [12])
    (device,), tree = derive(before, now, (10, 11))
    assert device["utilization_ratio"] == 0.42  # of all processes of the machine
    assert device["tree_utilization_ratio"] == pytest.approx(0.3)
    assert device["tree_memory_bytes"] == tree["memory_bytes"] == 300 << 20
    assert tree["processes"] == 1  # two share one client
    assert now.nvidia_trouble is None
