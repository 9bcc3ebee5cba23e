"""GPU values derived from DRM clients."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from captured import machine_in, put
from drm_files import AMD_CARD, AMDGPU, COMMON, XE, card, hold
from proctally.host.gpu_helper import GpuReader
from proctally.host.gpus import derive, memory_of
from proctally.linux.drm import parse_fdinfo
from proctally.linux.gpu import GpuDevice, GpuReading

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


# -- one file --------------------------------------------------------------------------------------------------------


def test_amdgpu() -> None:
    client = parse_fdinfo(AMDGPU.encode())
    assert client is not None
    assert (client.driver, client.device, client.client) == ("amdgpu", "0000:03:00.0", "20")
    assert client.engines == {"gfx": 1_000_000_000, "compute": 500_000_000}
    assert client.capacity == {"compute": 4}
    assert client.memory == {"gtt": 10 << 20, "vram": 300 << 20, "cpu": 7 << 10}
    assert memory_of(client) == 300 << 20


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


# -- as the helper reads it ------------------------------------------------------------------------------------------


def test_a_card_that_vanishes_is_lost_and_may_come_back(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    card(tmp_path, 0, "amdgpu", "0000:03:00.0", AMD_CARD)
    card(tmp_path, 1, "amdgpu", "0000:0a:00.0", {**AMD_CARD, "unique_id": "other"})
    reader = GpuReader(machine, str(tmp_path / "dev"))
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
    reader = GpuReader(machine, str(tmp_path / "dev"))
    assert derive(None, reader.read([10], []), (10,))[1]["memory_bytes"] == 0
    put(tmp_path, "proc/2/stat", f"2 (kthreadd) S 0 0 0 0 -1 {0x00208040} {'0 ' * 45}\n")
    put(tmp_path, "proc/self/status", "NSpid:\t7\n")
    reader = GpuReader(machine, str(tmp_path / "dev"))
    assert derive(None, reader.read([10], []), (10,))[1]["memory_bytes"] == 4096


def test_reader_joins_devices_and_members(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    card(tmp_path, 0, "amdgpu", "0000:03:00.0", AMD_CARD)
    hold(tmp_path, 10, 5, "/dev/dri/renderD128", AMDGPU)
    hold(tmp_path, 11, 5, "/dev/dri/renderD128", AMDGPU)
    reader = GpuReader(machine, str(tmp_path / "dev"))
    before = reader.read([10, 11, 12], [])
    clock.advance(1.0)
    hold(tmp_path, 10, 5, "/dev/dri/renderD128", AMDGPU.replace("1000000000 ns", "1300000000 ns"))
    now = reader.read([], [12])
    (device,), tree = derive(before, now, (10, 11))
    assert device["utilization_ratio"] == 0.42  # of all processes of the machine
    assert device["tree_utilization_ratio"] == pytest.approx(0.3)
    assert device["tree_memory_bytes"] == tree["memory_bytes"] == 300 << 20
    assert tree["processes"] == 1  # two share one client
    assert now.nvidia_missing is None
