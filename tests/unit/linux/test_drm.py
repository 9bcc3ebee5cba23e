"""GPUs through DRM: fdinfo of several drivers as text, and sysfs of AMD and Intel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured import Clock, machine_in, put
from drm_files import AMD_CARD, AMDGPU, COMMON, XE, card, hold
from proctally.linux.drm import Clients, cards, kfd_devices, kfd_memory, parse_fdinfo, read_card
from proctally.linux.gpu import has_drm
from proctally.linux.machine import Machine

OLD_AMDGPU = (
    COMMON + "drm-driver:\tamdgpu\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t7\ndrm-memory-vram:\t8 KiB\n"
    "drm-engine-gfx:\t55 ns\n"
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


def test_old_name_of_what_is_resident() -> None:
    client = parse_fdinfo(OLD_AMDGPU.encode())
    assert client is not None
    assert client.memory == {"vram": 8192}


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


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("temp1_input", "temperature_celsius"),
        ("power1_average", "power_watts"),
        ("power1_cap", "power_limit_watts"),
        ("energy1_input", "energy_joules"),
        ("freq1_input", "graphics_clock_hertz"),
        ("pwm1", "fan_ratio"),
    ],
)
def test_an_impossible_value_of_a_card_is_unknown(tmp_path: Path, file: str, field: str) -> None:
    machine, _ = machine_in(tmp_path)
    card(tmp_path, 0, "amdgpu", "0000:03:00.0", AMD_CARD | {f"hwmon/hwmon3/{file}": str((1 << 64) - 2)})
    assert getattr(read_card(machine, "card0"), field) is None


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
