"""A large machine made up for the budget of a sample: its files under a folder, and how they look an interval later."""

from __future__ import annotations

import os
from pathlib import Path

from captured import put

INTERRUPTS = 4000


def build(folder: Path, *, cores: int = 256, disks: int = 100, interfaces: int = 200) -> None:
    """Every disk with two partitions and a file system on the second; half of the interfaces are veth in a bridge."""
    for disk in range(disks):
        name = f"nvme{disk}n1"
        path = f"sys/class/block/{name}"
        for attribute, content in (
            ("size", "7501476528"),
            ("queue/hw_sector_size", "4096"),
            ("queue/rotational", "0"),
            ("hidden", "0"),
            ("device/model", "SAMSUNG MZQL23T8HCLS-00A07"),
            ("device/serial", f"S64HNE0R{disk:06}"),
        ):
            put(folder, f"{path}/{attribute}", f"{content}\n")
        (folder / path / "slaves").mkdir()
        for number in (1, 2):
            put(folder, f"sys/class/block/{name}p{number}/partition", f"{number}\n")
    for index in range(interfaces):
        name = interface_name(index)
        path = f"sys/class/net/{name}"
        for attribute, content in (
            ("address", f"02:00:00:00:{index // 256:02x}:{index % 256:02x}"),
            ("operstate", "up"),
            ("mtu", "1500"),
            ("speed", "10000"),
            ("ifindex", f"{index + 2}"),
            ("iflink", f"{index + 2}"),
            ("type", "1"),
            ("uevent", f"INTERFACE={name}\nIFINDEX={index + 2}"),
        ):
            put(folder, f"{path}/{attribute}", f"{content}\n")
        if index % 2:
            os.symlink("../br0", folder / path / "master")
        else:
            (folder / path / "device").mkdir()
            os.symlink("../../../../bus/drivers/mlx5_core", folder / path / "device/driver")
    for kind in ("cpu", "memory", "io"):
        put(
            folder,
            f"proc/pressure/{kind}",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        )
    put(folder, "proc/loadavg", "100.00 90.00 80.00 12/5000 123456\n")
    put(folder, "proc/meminfo", Path("/proc/meminfo").read_bytes())
    mounts = [
        f"{disk + 30} 1 259:{disk * 3 + 2} / /data/{disk} rw,noatime shared:{disk} - xfs /dev/nvme{disk}n1p2 rw\n"
        for disk in range(disks)
    ]
    put(folder, "proc/self/mountinfo", "".join(mounts))
    step(folder, 0, cores=cores, disks=disks, interfaces=interfaces)


def interface_name(index: int) -> str:
    return f"veth{index:06x}" if index % 2 else f"eth{index}"


def step(folder: Path, number: int, *, cores: int = 256, disks: int = 100, interfaces: int = 200) -> None:
    """The counters after `number` intervals of a second in which every core was half busy."""
    each = " ".join(str(10_000_000 + number * ticks) for ticks in (30, 5, 10, 50, 0, 1, 4, 0)) + " 0 0\n"
    lines = [f"cpu{core} {each}" for core in range(cores)]
    all_times = " ".join(str(cores * (10_000_000 + number * ticks)) for ticks in (30, 5, 10, 50, 0, 1, 4, 0))
    put(
        folder,
        "proc/stat",
        f"cpu  {all_times} 0 0\n{''.join(lines)}intr 123456{' 0' * INTERRUPTS}\nctxt {10**9 + number * 1000}\n"
        f"btime 1700000000\nprocesses {10**7 + number * 10}\nprocs_running 12\nprocs_blocked 0\n"
        "softirq 10 1 1 1 1 1 1 1 1 1 1\n",
    )
    counters = f"{10**6 + number} 0 {10**9 + number * 8} 500 {10**6 + number} 0 {10**9 + number * 16} 500 3"
    lines = [
        f" 259 {disk * 3 + part:7} {name} {counters} {number * 250} 900 0 0 0 0 0 0\n"
        for disk in range(disks)
        for part, name in enumerate((f"nvme{disk}n1", f"nvme{disk}n1p1", f"nvme{disk}n1p2"))
    ]
    put(folder, "proc/diskstats", "".join(lines))
    values = f"{10**12 + number * 100_000} {10**9} 0 1 0 0 0 0 {10**12 + number * 50_000} {10**9} 0 2 0 0 0 0"
    lines = [f"{interface_name(index)}: {values}\n" for index in range(interfaces)]
    put(folder, "proc/net/dev", f"Inter-| Receive | Transmit\n face |bytes |bytes\n    lo: {values}\n{''.join(lines)}")
