"""Parsers of GPU readings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from proctally.host.gpu_helper import parse_namespace_pids
from proctally.host.gpus import derive
from proctally.linux import gpu
from proctally.linux.gpu import GpuDevice, GpuInstance, GpuProcess, GpuReading, pack, unpack
from proctally.linux.nvml import ProcessUse, mean_by_pid, pci_name, reasons

# -- pure ------------------------------------------------------------------------------------------------------------


def test_reading_survives_its_journey() -> None:
    reading = GpuReading(5)
    device = GpuDevice("nvidia", 1)
    device.instances = [GpuInstance(2)]
    device.processes = [GpuProcess(7)]
    reading.devices = [device, GpuDevice("amd", 0)]
    reading.clients = [gpu.GpuClient("amdgpu", "0000:03:00.0", "9")]
    again = unpack(json.loads(json.dumps(reading, default=pack)))
    assert json.dumps(again, default=pack) == json.dumps(reading, default=pack)
    assert again.devices[0].instances[0].index == 2
    assert again.devices[0].processes is not None and again.devices[0].processes[0].pid == 7
    assert again.devices[1].processes is None
    assert again.clients[0].client == "9"


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=15), max_leaves=20))
def test_what_is_no_reading_raises_nothing_else(values: Any) -> None:
    try:
        unpack(values)
    except (ValueError, TypeError):
        pass


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.integers(-1, 2**32 - 1))), st.integers(0, 20))
def test_mean_is_a_ratio_of_new_records(values: list[tuple[int, int, int]], after: int) -> None:
    found = mean_by_pid([ProcessUse(*value) for value in values], after)
    assert all(ratio is None or 0 <= ratio <= 1 for ratio in found.values())
    assert found.keys() == {pid for pid, at, percent in values if pid and at > after}
    sane = {pid for pid, at, percent in values if pid and at > after and 0 <= percent <= 100}
    assert sane == {pid for pid, ratio in found.items() if ratio is not None}


@pytest.mark.parametrize(
    ("mask", "names"),
    [(0, []), (1, ["gpu_idle"]), (0x48, ["hw_slowdown", "hw_thermal_slowdown"]), (1 << 11, ["bit_11"])],
)
def test_reasons(mask: int, names: list[str]) -> None:
    assert reasons(mask) == names


@pytest.mark.parametrize(
    ("bus", "name"),
    [
        (b"00000000:3B:00.0", "0000:3b:00.0"),
        (b"00010000:01:00.0", "10000:01:00.0"),
        ("0001:01:00.0", "0001:01:00.0"),
        ("", None),
        ("nonsense", None),
    ],
)
def test_pci_name(bus: str | bytes, name: str | None) -> None:
    assert pci_name(bus) == name


@given(st.binary())
@settings(max_examples=examples(200))
def test_namespace_pids_are_numbers_or_refused(data: bytes) -> None:
    try:
        assert all(isinstance(pid, int) for pid in parse_namespace_pids(data))
    except ValueError:
        pass


def test_power_is_derived_where_only_energy_is_counted() -> None:
    before, now = GpuReading(0), GpuReading(2_000_000_000)
    for reading, joules in ((before, 100.0), (now, 150.0)):
        device = GpuDevice("intel", 0)
        device.driver, device.pci, device.energy_joules = "xe", "0000:03:00.0", joules
        reading.devices = [device]
    assert derive(before, now, ())[0][0]["power_watts"] == 25.0
    assert derive(None, now, ())[0][0]["power_watts"] is None
    assert "memory_total_bytes" not in derive(None, now, (), facts=False)[0][0]
