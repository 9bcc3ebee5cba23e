"""Files of made-up GPUs that DRM drivers show."""

from __future__ import annotations

import os
from pathlib import Path

from captured import put

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


# -- many files ------------------------------------------------------------------------------------------------------


def hold(folder: Path, pid: int, number: int, target: str, fdinfo: str = COMMON) -> None:
    """Let a process have this open."""
    place = folder / "proc" / str(pid) / "fd"
    place.mkdir(parents=True, exist_ok=True)
    (place / str(number)).unlink(missing_ok=True)
    os.symlink(target, place / str(number))
    put(folder, f"proc/{pid}/fdinfo/{number}", fdinfo)


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
