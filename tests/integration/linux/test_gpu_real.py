"""The real driver of NVIDIA, where there is one: a busy kernel, against what nvidia-smi says of it at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tracked import PROCTALLY, environment, of_type, record, samples

SMI = shutil.which("nvidia-smi")
pytestmark = pytest.mark.skipif(
    SMI is None or not Path("/proc/driver/nvidia/version").exists(), reason="no GPU of NVIDIA with its driver"
)

MIB = 1 << 20
HELD = 256 * MIB

# The driver's own interface (libcuda), for no toolkit is needed for that: it keeps every processor busy, and memory.
BUSY = f"""
import ctypes, sys, time
PTX = b'''
.version 6.0
.target sm_50
.address_size 64
.visible .entry spin(.param .u64 rounds, .param .u64 out)
{{
    .reg .pred %p;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [rounds];
    ld.param.u64 %rd2, [out];
    mov.u64 %rd3, 0;
    mov.u64 %rd4, 1;
again:
    mul.lo.s64 %rd4, %rd4, 6364136223846793005;
    add.s64 %rd4, %rd4, 1442695040888963407;
    add.s64 %rd3, %rd3, 1;
    setp.lt.u64 %p, %rd3, %rd1;
    @%p bra again;
    st.global.u64 [%rd2], %rd4;
    ret;
}}
'''
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    assert status == 0, (name, status)
device, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
function, memory = ctypes.c_void_p(), ctypes.c_uint64()
call("cuInit", 0)
call("cuDeviceGet", ctypes.byref(device), 0)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
call("cuCtxSetCurrent", context)
call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t({HELD}))
call("cuModuleLoadData", ctypes.byref(module), PTX)
call("cuModuleGetFunction", ctypes.byref(function), module, b"spin")
rounds = ctypes.c_uint64(200_000)
arguments = (ctypes.c_void_p * 2)(ctypes.addressof(rounds), ctypes.addressof(memory))
end = time.monotonic() + float(sys.argv[1])
print("ready", flush=True)
while time.monotonic() < end:
    call("cuLaunchKernel", function, 512, 1, 1, 256, 1, 1, 0, None, arguments, None)
    call("cuCtxSynchronize")
"""


def smi(query: str) -> list[list[str]]:
    assert SMI is not None
    command = [SMI, f"--query-{query}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines()]


def number(word: str) -> float | None:
    """None for `[N/A]` and its like."""
    try:
        return float(word)
    except ValueError:
        return None


def near(ours: Any, theirs: float | None, within: float) -> bool:
    return theirs is None or ours is None or abs(ours - theirs) <= within


def test_a_busy_kernel_is_seen_as_by_the_drivers_own_tool(tmp_path: Path) -> None:
    if len(smi("gpu=name")) < 1:
        pytest.skip("nvidia-smi lists no GPU")
    job = [sys.executable, "-S", "-c", BUSY, "12"]
    with subprocess.Popen(
        [*PROCTALLY, "run", "-q", "-i", "0.5", "--", *job], env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as tracker:
        assert tracker.stdout is not None
        assert tracker.stdout.readline() == "ready\n"
        theirs: list[list[str]] = []
        apps: list[list[str]] = []
        while tracker.poll() is None and len(theirs) < 6:
            theirs.append(smi("gpu=utilization.gpu,memory.used,temperature.gpu,power.draw,name,uuid")[0])
            apps = smi("compute-apps=pid,used_memory") or apps
        assert tracker.wait(timeout=120) == 0
    lines = record(tmp_path)
    told = [sample for sample in samples(lines) if sample["gpus"]]
    assert len(told) >= 5, [sample.get("gpus_skipped") for sample in samples(lines)]
    (host,) = of_type(lines, "host")
    used, held, temperature, power, name, uuid = theirs[-1]
    assert (host["gpus"][0]["name"], host["gpus"][0]["uuid"]) == (name, uuid)
    busy = max(told, key=lambda sample: sample["gpus"][0]["utilization_ratio"] or 0.0)
    gpu = busy["gpus"][0]
    if gpu["mig_instances"] is None:
        assert gpu["utilization_ratio"] > 0.5 and near(gpu["utilization_ratio"], (number(used) or 0) / 100, 0.5)
    assert near(gpu["memory_used_bytes"], (number(held) or 0) * MIB, 64 * MIB)
    assert near(gpu["temperature_celsius"], number(temperature), 15)
    watts = number(power)
    assert near(gpu["power_watts"], watts, 0.5 * (watts or 0) + 20)
    mine = gpu["tree_memory_bytes"]
    if os.readlink("/proc/self/ns/pid") == "pid:[4026531836]":
        (pid,) = [line["pid"] for line in lines if line["type"] == "run"]
        of_job = [number(held) for word, held in apps if word == str(pid)]
        assert mine is not None and mine >= HELD
        assert all(near(mine, held * MIB, 2 * MIB) for held in of_job if held is not None)
        assert busy["tree"]["gpu_processes"] == 1
        assert max(sample["tree"]["gpu_utilization_ratio"] or 0.0 for sample in told) > 0.3
    else:  # here the driver may call it by a pid that we cannot know: then it is unknown, never 0
        assert mine is None or mine >= HELD
    assert lines[-1]["gpu"]["peak_memory_used_bytes"] >= HELD
