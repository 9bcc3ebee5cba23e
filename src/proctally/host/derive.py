"""Derive what a sample says of the machine: pure functions of two readings and the time between them."""

from __future__ import annotations

from operator import sub

from proctally.linux.counters import growth, rate
from proctally.linux.disks import MOST_PER_SECOND, SUMMED
from proctally.linux.machine import NANOSECONDS
from proctally.linux.mounts import STACKED_ROOTS
from proctally.linux.net import NAMES
from proctally.linux.proc import COUNTERS_END
from proctally.linux.system import IDLE, IOWAIT, IRQ, NICE, PRESSURE, SLACK, SOFTIRQ, STEAL, SYSTEM, USER
from proctally.record.names import SYSTEM as SYSTEM_FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.disks import DisksReading
    from proctally.linux.mounts import Space
    from proctally.linux.net import NetReading
    from proctally.linux.system import Cpu, MemInfo, SystemReading

SHORTEST_NS = 1_000_000  # two readings are never closer than that: a rate over less says nothing
LATE_TICKS = 10  # the clock is read a moment before the times are
SAME_SPACE = 0.001  # of its size: what is written between two calls of statvfs(2)
RAN = (USER, NICE, SYSTEM, IRQ, SOFTIRQ, STEAL)


def busy_ratio(before: tuple[int, ...], now: tuple[int, ...], most: float) -> float | None:
    """Return the share of time that was not idle and did not wait for storage; None where it is unknown.

    `most`: ticks that passed. Idle time runs backwards after a suspension, and `iowait` at any time
    (get_cpu_iowait_time_us): then what ran counts against the time that passed.
    """
    grown: tuple[int, ...] = tuple(map(sub, now, before))
    total = sum(grown)
    limit = SLACK * most + LATE_TICKS
    idle = grown[IDLE] + grown[IOWAIT]
    if min(grown) >= 0 and total <= limit:
        return (total - idle) / total if total else None
    ran = [grown[place] for place in RAN]
    if min(ran) < 0 or max(*ran, grown[IDLE], grown[IOWAIT]) > limit or max(now) >= COUNTERS_END:
        return None
    return min(1.0, sum(ran) / most)


def core_ratios(before: Cpu, now: Cpu, most: float) -> list[float | None]:
    """Return the busy share of each core by its number; None where it is unknown, as for a core that is offline."""
    ratios: list[float | None] = [None] * (max(now.cores, default=-1) + 1)
    for core, times in now.cores.items():
        earlier = before.cores.get(core)
        if earlier is not None:
            ratio = busy_ratio(earlier, times, most)
            ratios[core] = None if ratio is None else round(ratio, 4)
    return ratios


def derive_cpu(before: Cpu | None, now: Cpu | None, ticks: int, seconds: float = 1.0) -> dict[str, object]:
    """Counters since boot; `cpu_cores` and `per_core_ratio` over the interval, None in the first sample."""
    if now is None:
        return dict.fromkeys(("cpus", "cpu_irq_seconds", *SYSTEM_FIELDS))
    cores = ratios = None
    if before is not None and before.counted and now.counted:
        count = len(now.cores)
        ratio = busy_ratio(before.all, now.all, seconds * ticks * max(1, count))
        cores = None if ratio is None else ratio * count
        ratios = core_ratios(before, now, seconds * ticks)
    every = now.since_boot or now.all
    return {
        "cpus": len(now.cores),
        "cpu_cores": cores,
        "per_core_ratio": ratios,
        "cpu_user_seconds": _seconds(ticks, every[USER], every[NICE]),
        "cpu_system_seconds": _seconds(ticks, every[SYSTEM]),
        "cpu_iowait_seconds": _seconds(ticks, every[IOWAIT]),
        "cpu_irq_seconds": _seconds(ticks, every[IRQ]),
        "cpu_softirq_seconds": _seconds(ticks, every[SOFTIRQ]),
        "cpu_steal_seconds": _seconds(ticks, every[STEAL]),
        "context_switches": now.context_switches,
        "forks": now.forks,
        "processes_running": now.running,
        "processes_blocked": now.blocked,
    }


def _seconds(ticks: int, *times: int | None) -> float | None:
    total = _sum(*times)
    return None if total is None else total / ticks


def derive_memory(memory: MemInfo | None) -> dict[str, object] | None:
    """Levels in bytes. Used is what is neither free nor buffers nor cache, reclaimable slab and ARC of ZFS being cache.

    `Cached` contains shared memory, files of tmpfs included: it is in use, since the kernel cannot drop it.
    What does not fit together is unknown: the runtime of a container can show such a file.
    """
    if memory is None:
        return None
    swap_used = _difference(memory.swap_total_bytes, memory.swap_free_bytes)
    shared = memory.shared_bytes
    if shared is not None and shared > (memory.page_cache_bytes or 0):
        shared = None  # of the host, with the page cache of a container
    slab = memory.reclaimable_slab_bytes or 0  # a sandbox lacks it, and Shmem
    cached = _sum(memory.page_cache_bytes, slab, memory.arc_bytes, -(shared or 0))
    return {
        "total_bytes": memory.total_bytes,
        "free_bytes": memory.free_bytes,
        "available_bytes": memory.available_bytes,
        "used_bytes": _difference(memory.total_bytes, _sum(memory.free_bytes, memory.buffers_bytes, cached)),
        "buffers_bytes": memory.buffers_bytes,
        "cached_bytes": cached,
        "shared_bytes": shared,
        "active_bytes": memory.active_bytes,
        "inactive_bytes": memory.inactive_bytes,
        "swap_total_bytes": memory.swap_total_bytes,
        "swap_free_bytes": None if swap_used is None else memory.swap_free_bytes,
        "swap_used_bytes": swap_used,
        "hugepages_total": memory.hugepages_total,
        "hugepages_free": memory.hugepages_free,
        "hugepage_bytes": memory.hugepage_bytes,
    }


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None or part > whole else whole - part


def derive(before: SystemReading | None, now: SystemReading, *, facts: bool = True) -> dict[str, object]:
    """The `system` section of a sample. Counters are since boot, rates over the interval and None in the first sample.

    `facts`: with what does not count of each device; it is the same as long as `now.version` is.
    """
    seconds = max(now.at_ns - before.at_ns, SHORTEST_NS) / NANOSECONDS if before is not None else 1.0
    section = derive_cpu(before.cpu if before is not None else None, now.cpu, now.ticks, seconds)
    section["process_count"] = now.processes
    section["thread_count"] = now.load.threads if now.load is not None else None
    for place, minutes in enumerate((1, 5, 15)):
        section[f"load_{minutes}"] = now.load.averages[place] if now.load is not None else None
    section["memory"] = derive_memory(now.memory)
    section["disk"] = section["disks"] = section["network"] = section["interfaces"] = None
    if now.disks is not None:
        earlier = before.disks if before is not None else None
        section["disk"], section["disks"] = derive_disks(earlier, now.disks, seconds, facts=facts)
    if now.net is not None:
        last = before.net if before is not None else None
        section["network"], section["interfaces"] = derive_network(last, now.net, seconds, facts=facts)
    section["pressure"] = derive_pressure(now.pressure)
    return section


def derive_pressure(pressure: tuple[int | None, ...] | None) -> dict[str, object] | None:
    """Seconds since boot; None where the kernel does not account for it."""
    if pressure is None:
        return None
    return {
        f"{name}_{kind}_seconds": None if total is None else total / 1e6
        for (name, kind), total in zip(PRESSURE, pressure, strict=True)
    }


UNKNOWN = (None,) * len(SUMMED)
RATED = ("read_bytes_per_second", "write_bytes_per_second")


def derive_disks(
    before: DisksReading | None, now: DisksReading, seconds: float, *, facts: bool = True
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The sums, and one entry for each whole device. Rates are None in the first sample of a device."""
    sums: dict[str, object] = {}
    totals = now.totals or UNKNOWN
    earlier = (before.totals if before is not None else None) or UNKNOWN
    sums.update(zip(SUMMED, totals, strict=True))
    for place, key in enumerate(RATED):
        sums[key] = rate(earlier[place], totals[place], seconds, MOST_PER_SECOND * len(now.disks))
    sums.update(_space_sums(now))
    mounts: dict[str | None, list[dict[str, object]]] = {}
    for space in now.spaces or ():
        mounts.setdefault(space.device, []).append(space.entry())
    listed: list[dict[str, object]] = []
    for name, disk in now.disks.items():
        entry: dict[str, object] = {"name": name, "summed": name in now.summed}
        entry.update(zip(SUMMED, disk.values, strict=True))
        last = before.disks.get(name) if before is not None else None
        for place, key in enumerate(RATED):
            entry[key] = rate(last.values[place], disk.values[place], seconds, MOST_PER_SECOND) if last else None
        entry["busy_ratio"] = _disk_busy_ratio(last.busy_ms, disk.busy_ms, seconds) if last else None
        entry["in_flight"] = disk.in_flight
        if facts:
            entry.update(now.devices[name].facts())
        entry["mounts"] = None if now.spaces is None else mounts.pop(name, [])
        listed.append(entry)
    sums["other_mounts"] = None if now.spaces is None else [each for entries in mounts.values() for each in entries]
    sums["pools"] = None if now.pools is None else [pool.entry() for pool in now.pools]
    return sums, listed


def _disk_busy_ratio(before: int, now: int, seconds: float) -> float | None:
    busy = growth(before, now, 1000 * SLACK * seconds)  # 32 bits: jiffies_to_msecs() gives an unsigned int
    return None if busy is None else min(1.0, busy / (1000 * seconds))


def _space_sums(reading: DisksReading) -> dict[str, object]:
    """Over all file systems, none of them inside another. None where nothing is known of any."""
    spaces = [
        space for space in reading.spaces or () if space.device is None or not reading.devices[space.device].in_another
    ]
    parts = [(space.total_bytes, space.free_bytes) for space in spaces if not _lies_in_another(space, spaces)]
    parts += [(pool.total_bytes, pool.free_bytes) for pool in reading.pools or ()]
    known = [(total, free) for total, free in parts if total is not None and free is not None]
    total = sum(total for total, _ in known) if known else None
    free = sum(free for _, free in known) if known else None
    return {
        "space_total_bytes": total,
        "space_free_bytes": free,
        "space_used_bytes": None if total is None or free is None else total - free,
    }


def _lies_in_another(overlay: Space, spaces: list[Space]) -> bool:
    """Return whether the root of a container shows the figures of a file system that is listed (ovl_statfs)."""
    total, free = overlay.total_bytes, overlay.free_bytes
    if overlay.kind not in STACKED_ROOTS or total is None or free is None:
        return False
    return any(
        other is not overlay
        and other.total_bytes == total
        and other.free_bytes is not None
        and abs(other.free_bytes - free) <= total * SAME_SPACE
        for other in spaces
    )


def derive_network(
    before: NetReading | None, now: NetReading, seconds: float, *, facts: bool = True
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The sums, and one entry for each interface. Rates are None in the first sample of an interface."""
    network: dict[str, object] = dict(zip(NAMES, now.totals, strict=True))
    most = sum(now.interfaces[name].most_per_second() for name in now.summed)
    for place in (0, 1):
        earlier = before.totals[place] if before is not None else None
        network[f"{NAMES[place]}_per_second"] = rate(earlier, now.totals[place], seconds, most)
    listed: list[dict[str, object]] = []
    for name, values in now.counters.items():
        entry: dict[str, object] = {"name": name, "summed": name in now.summed}
        entry.update(zip(NAMES, values, strict=True))
        last = before.counters.get(name) if before is not None else None
        speed = now.interfaces[name].most_per_second()
        entry["received_bytes_per_second"] = rate(last[0], values[0], seconds, speed) if last else None
        entry["sent_bytes_per_second"] = rate(last[1], values[1], seconds, speed) if last else None
        if facts:
            entry.update(now.interfaces[name].facts())
        listed.append(entry)
    return network, listed
