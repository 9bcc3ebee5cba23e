"""Readers of system files against this machine and other tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bighost
from captured import machine_in, unpack
from proctally.host.derive import derive, derive_memory
from proctally.linux.machine import Machine
from proctally.linux.sources import KeptFile
from proctally.linux.system import (
    ProcessCounter,
    SystemReader,
    parse_meminfo,
)
from system_files import PARSERS, fixed_size
from truth import agree

patient = settings(deadline=None)
MIB = 1 << 20


def real(name: str) -> bytes:
    """A file of this machine, to its end."""
    return Machine().read(name, to_end=True) if os.path.exists(f"/proc/{name}") else b""


# -- parsers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARSERS)
def test_any_bytes_parse_or_raise_valueerror(name: str) -> None:
    parse, text = PARSERS[name], real(name)

    @patient
    @given(st.binary(max_size=300), st.integers(0, len(text)), st.integers(0, 40))
    @example(b"cpu999999999999 1 2 3 4\n", 0, 0)
    @example(b"cpu  1 2 3\n", 0, 0)
    def check(noise: bytes, at: int, cut: int) -> None:
        for data in (noise, text[:at], text[:at] + noise + text[at + cut :], text[at:]):
            try:
                parse(data)
            except ValueError as error:
                assert str(error)

    check()


def test_every_file_of_this_machine_is_understood() -> None:
    for name, parse in PARSERS.items():
        if data := real(name):
            assert parse(data)


# -- a captured server -------------------------------------------------------------------------------------------


def test_files_stay_open_and_are_given_up(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        reader.read()
    assert len(os.listdir("/proc/self/fd")) == before + 9
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    bighost.build(tmp_path, cores=600, disks=200, interfaces=300)
    machine, clock = machine_in(tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = reader.read()
    clock.advance(1.0)
    bighost.step(tmp_path, 1, cores=600, disks=200, interfaces=300)
    section = derive(before, reader.read())
    assert section["cpus"] == 600
    assert section["cpu_cores"] == pytest.approx(300.0)
    assert section["per_core_ratio"] == [0.5] * 600
    for name, count in (("disks", 200), ("interfaces", 300)):
        listed = section[name]
        assert isinstance(listed, list)
        assert len(listed) == count
    disk, network = section["disk"], section["network"]
    assert isinstance(disk, dict)
    assert isinstance(network, dict)
    assert disk["read_bytes_per_second"] == 200 * 8 * 512
    assert network["received_bytes_per_second"] == 150 * 100_000
    assert network["sent_bytes_per_second"] == 150 * 50_000


@pytest.mark.skipif(not os.access("/proc/kallsyms", os.R_OK), reason="no symbols of the kernel")
def test_files_of_many_records_are_read_to_their_end() -> None:
    """The kernel gives a page of them at a time, whatever it is asked for."""
    file = KeptFile(Machine(), "kallsyms", records=True)
    whole = Path("/proc/kallsyms").read_bytes()
    assert len(whole) > 1 << 16
    assert file.read() == file.read() == whole
    file.close()


class CountingMachine(Machine):
    """Knows how often a file was opened."""

    opened = 0

    def open(self, path: str) -> int:
        self.opened += 1
        return super().open(path)

    def read_sys(self, path: str) -> bytes:
        self.opened += 1
        return super().read_sys(path)


def test_a_sample_of_a_large_machine_opens_next_to_nothing(tmp_path: Path) -> None:
    bighost.build(tmp_path, cores=16)
    machine = CountingMachine(str(tmp_path / "proc"), sys=str(tmp_path / "sys"))
    reader = SystemReader(machine, statvfs=fixed_size)
    version = reader.read().version
    first, machine.opened = machine.opened, 0
    assert first > 1000
    for number in range(1, 11):
        bighost.step(tmp_path, number, cores=16)
        assert reader.read().version == version
    assert machine.opened <= 10 * 5


# -- processes ---------------------------------------------------------------------------------------------------


def test_processes_of_this_machine_are_counted_with_and_without_listing() -> None:
    counter = ProcessCounter(Machine())

    def listed() -> int:
        return sum(map(str.isdecimal, os.listdir("/proc")))

    for _ in range(5):
        for _ in range(50):
            before, count, after = listed(), counter.read(), listed()
            if before == after:
                assert count == before
                break
        child = subprocess.Popen(["sleep", "9"])
        for _ in range(50):
            before, count, after = listed(), counter.read(), listed()
            if before == after:
                assert count == before
                break
        child.kill()
        child.wait()


# -- this machine by a second truth ------------------------------------------------------------------------------


C_LOCALE = {**os.environ, "LC_ALL": "C"}


def shown(*command: str) -> list[str]:
    """The lines that another program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True, env=C_LOCALE).stdout.splitlines()


def between(before: dict[str, object], truth: dict[str, float], after: dict[str, object]) -> None:
    """Counters only grow: what another program read between two readings lies between them."""
    for name, value in truth.items():
        low, high = before[name], after[name]
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        assert low - 1e-6 <= value <= high + 1e-6, name


def memory_levels() -> dict[str, float | None]:
    memory = derive_memory(parse_meminfo(real("meminfo")))
    assert memory is not None
    return memory  # type: ignore[return-value]


@pytest.mark.skipif(shutil.which("free") is None, reason="no free")
def test_memory_against_free() -> None:
    """But for `used`, which newer ones define as what is not available, and for shared memory as cache."""

    def theirs() -> dict[str, float]:
        lines = shown("free", "-b", "-w")
        total, _, free, shared, buffers, cache, available = map(int, lines[1].split()[1:])
        cache -= shared
        swap_total, swap_used, swap_free = map(int, lines[2].split()[1:])
        used = total - free - buffers - cache
        levels = {
            "total": total,
            "free": free,
            "buffers": buffers,
            "cached": cache,
            "available": available,
            "shared": shared,
        }
        levels |= {"used": used, "swap_total": swap_total, "swap_used": swap_used, "swap_free": swap_free}
        return {f"{name}_bytes": value for name, value in levels.items()}

    agree(memory_levels, theirs, 4 * MIB)
    assert memory_levels()["total_bytes"] == theirs()["total_bytes"]


def test_memory_against_psutil() -> None:
    def theirs() -> dict[str, float]:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        names = ("total", "available", "free", "buffers", "cached", "active", "inactive")
        levels = {f"{name}_bytes": getattr(memory, name) for name in names}
        levels |= {"shared_bytes": memory.shared, "cached_bytes": memory.cached - memory.shared}
        return levels | {f"swap_{name}_bytes": getattr(swap, name) for name in ("total", "used", "free")}

    agree(memory_levels, theirs, 4 * MIB)


def test_counters_against_psutil() -> None:
    reader = SystemReader(Machine())
    before = derive(None, reader.read())
    times, stats = psutil.cpu_times(), psutil.cpu_stats()
    truth = {
        "cpu_user_seconds": times.user + times.nice,
        "cpu_system_seconds": times.system,
        "cpu_irq_seconds": times.irq,
        "cpu_softirq_seconds": times.softirq,
        "cpu_steal_seconds": times.steal,
        "context_switches": stats.ctx_switches,
    }
    between(before, truth, derive(None, reader.read()))
    assert before["cpus"] == psutil.cpu_count()
    agree(
        lambda: {name: derive(None, reader.read())[name] for name in ("load_1", "load_5", "load_15", "process_count")},  # type: ignore[misc]
        lambda: (
            dict(zip(("load_1", "load_5", "load_15"), psutil.getloadavg(), strict=True))
            | {"process_count": len(psutil.pids())}
        ),
        0.01,
    )


@pytest.mark.skipif(shutil.which("vmstat") is None, reason="no vmstat")
def test_counters_against_vmstat() -> None:
    reader = SystemReader(Machine())
    before = derive(None, reader.read())
    said = {line.strip().partition(" ")[2]: int(line.split()[0]) for line in shown("vmstat", "-s")}
    user = said["non-nice user cpu ticks"] + said["nice user cpu ticks"]
    truth = {
        "forks": said["forks"],
        "context_switches": said["CPU context switches"],
        "cpu_user_seconds": user / os.sysconf("SC_CLK_TCK"),
        "cpu_system_seconds": said["system cpu ticks"] / os.sysconf("SC_CLK_TCK"),
    }
    between(before, truth, derive(None, reader.read()))


def test_a_busy_core_is_seen() -> None:
    reader = SystemReader(Machine())
    before = reader.read()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    section = derive(before, reader.read())
    busy, cores = section["cpu_cores"], section["cpus"]
    assert isinstance(busy, float)
    assert isinstance(cores, int)
    assert 0.3 < busy < cores + 0.5
    ratios = section["per_core_ratio"]
    assert isinstance(ratios, list)
    assert sum(ratios) == pytest.approx(busy, abs=0.3)


def test_names_hold_their_units() -> None:
    """As in the rest of the record: a number of bytes or seconds says so."""
    section = derive(None, SystemReader(Machine()).read())

    def names(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(names, value))
        if isinstance(value, dict):
            return set(value).union(*map(names, value.values()))
        return set()

    assert not {name for name in names(section) if name.endswith(("_kb", "_mib", "_pct", "_ms", "percent"))}
