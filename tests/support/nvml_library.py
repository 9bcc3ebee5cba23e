"""A stand-in for the library of the NVIDIA driver, compiled from C."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from places import SUPPORT

CC = shutil.which("cc")
TWO = """\
driver 570.86.15
count 2
0.uuid GPU-aaaa
0.name NVIDIA H200
0.pci 00000000:3B:00.0
0.utilization 87 40
0.memory_v2 20000000000 700000000 150000000000
0.temperature 61
0.power 512500
0.power_limit 700000
0.energy 123456789
0.clocks 1980 1965 3201
0.reasons 4
0.ecc 3 1
0.ecc_ever 300 100
0.pcie_generation 5
0.pcie_width 16
0.pcie 1500 2500
0.mig 0
0.lists_processes
0.samples
1.uuid GPU-bbbb
1.name NVIDIA RTX <A>
1.pci 00000000:AF:00.0
1.utilization 0 0
1.memory 100 1000
1.temperature 30
1.fan 31
1.old_reasons 1
1.lists_processes
1.samples
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the library."""
    folder = tmp_path_factory.mktemp("nvml")
    source = SUPPORT / "fake_nvml.c"
    command = [str(CC), "-shared", "-fPIC", "-Wall", "-O1", "-o", str(folder / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(command, check=True)
    return folder
