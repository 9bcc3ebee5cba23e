"""Answers of NVML that are impossible."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from proctally.linux.nvml import Nvml
from proctally.linux.nvml_calls import UNREADABLE, DeviceCalls, Known


class NVMLError(Exception):
    value = 3


def calls(**answers: Any) -> DeviceCalls:
    """A device that answers this, and lacks all else."""
    functions = {f"nvmlDevice{name}": lambda *_, answer=answer, **__: answer for name, answer in answers.items()}
    return DeviceCalls(SimpleNamespace(**functions, NVMLError=NVMLError), None, Known(), {})


def test_amounts_up_to_a_limit_are_known() -> None:
    here = calls(GetPowerUsage=512500, GetTemperature=0, GetClockInfo=1980)
    assert here.amount("GetPowerUsage", per=1000, most=1000) == 512.5
    assert here.amount("GetTemperature", 0, most=250) == 0.0
    assert here.count("GetClockInfo", 0, scale=1_000_000, most=1 << 40) == 1_980_000_000
    assert here.count("GetFanSpeed", most=1) is None
    assert here.errors == {}


@pytest.mark.parametrize(
    ("function", "answer", "fields"),
    [
        ("GetTemperature", 644245923, ("temperature_celsius",)),
        ("GetTemperature", -7, ("temperature_celsius",)),
        ("GetPowerUsage", 4294967294, ("power_watts",)),
        ("GetEnforcedPowerLimit", 4294967294, ("power_limit_watts",)),
        ("GetTotalEnergyConsumption", (1 << 64) - 2, ("energy_joules",)),
        ("GetClockInfo", 4294967294, ("graphics_clock_hertz", "sm_clock_hertz", "memory_clock_hertz")),
        ("GetFanSpeed", 4294967294, ("fan_ratio",)),
        ("GetTotalEccErrors", (1 << 64) - 2, ("ecc_corrected", "ecc_uncorrected")),
        ("GetCurrPcieLinkWidth", 4294967294, ("pcie_width",)),
        ("GetPcieThroughput", 4294967294, ("pcie_sent_bytes_per_second", "pcie_received_bytes_per_second")),
        ("GetMemoryInfo", SimpleNamespace(used=(1 << 64) - 4096, total=1000), ("memory_used_bytes",)),
        ("GetUtilizationRates", SimpleNamespace(gpu=101, memory=7), ("utilization_ratio",)),
    ],
)
def test_an_impossible_answer_is_unknown_and_named(function: str, answer: object, fields: tuple[str, ...]) -> None:
    library = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInitWithFlags=lambda _: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda _: None,
        **{f"nvmlDevice{function}": lambda *_, **__: answer},
    )
    (device,) = Nvml(library, lambda: 0, lambda: 0).read()
    assert [getattr(device, name) for name in fields] == [None] * len(fields)
    assert device.errors == {function: UNREADABLE}
