"""Files of made-up machines."""

from __future__ import annotations

import os
from collections.abc import Callable

from proctally.linux.disks import parse_diskstats
from proctally.linux.mounts import parse_mounts
from proctally.linux.net import parse_net_dev
from proctally.linux.system import (
    parse_loadavg,
    parse_meminfo,
    parse_pressure,
    parse_stat,
)

PARSERS: dict[str, Callable[[bytes], object]] = {
    "stat": parse_stat,
    "meminfo": parse_meminfo,
    "loadavg": parse_loadavg,
    "pressure/cpu": parse_pressure,
    "diskstats": parse_diskstats,
    "net/dev": parse_net_dev,
    "self/mountinfo": parse_mounts,
}


# -- a captured server -------------------------------------------------------------------------------------------


def fixed_size(_: str) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 1000, 500, 400, 10, 5, 5, 0, 255))
