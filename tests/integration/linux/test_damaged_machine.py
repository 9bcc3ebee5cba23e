"""Damaged files of a whole machine: readings never raise, and show the right value or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captured import Clock, unpack
from damage import KIND, damaged
from proctally import system
from proctally.host.derive import derive
from proctally.host.facts import HostReader
from proctally.linux.machine import Machine
from proctally.linux.steal import Stolen
from proctally.linux.system import SystemReader
from proctally.tree.cgroups import Enclosure
from system_files import fixed_size

FILES = (
    "stat", "meminfo", "loadavg", "diskstats", "net/dev", "pressure/cpu", "pressure/memory", "pressure/io", "cpuinfo",
    "vmstat", "uptime", "self/mountinfo",
)  # fmt: skip


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for each in value:
            yield from numbers(each, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


Hosts = dict[str, tuple[Machine, Clock]]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    """Captured machines, unpacked once: their many small files take longer than what is read of them."""
    return {name: unpack(name, tmp_path_factory.mktemp(name)) for name in ("server", "container")}


@contextmanager
def kept(path: Path) -> Iterator[bytes]:
    """The content of a file, which it has again afterwards."""
    data = path.read_bytes()
    try:
        yield data
    finally:
        path.write_bytes(data)


@settings(max_examples=80)
@given(st.sampled_from(FILES), KIND, st.sampled_from(["server", "container"]))
def test_readings_never_raise(hosts: Hosts, file: str, kind: str | float, host: str) -> None:
    machine, clock = hosts[host]
    path = Path(machine.proc, file)
    if not path.exists():
        return
    with kept(path) as data:
        reader = SystemReader(machine, statvfs=fixed_size)
        stolen, enclosure = Stolen(machine), Enclosure(machine)
        before = None
        for content in (data, damaged(data, kind), damaged(data, kind), data):
            path.write_bytes(content)
            clock.advance(1.0)
            reading = reader.read()
            section = derive(before, reading)
            for name, value in numbers(section):
                assert 0 <= value < 1 << 63, name
            before = reading
            stolen.most_ns(1_000_000)
            enclosure.look_around(1)
        _read_host(machine)
        path.write_bytes(damaged(data, kind))
        _read_host(machine)
        _read_library(machine)


def _read_host(machine: Machine) -> None:
    host = HostReader(machine, environment={})
    while host.step():
        pass
    host.line()


def _read_library(machine: Machine) -> None:
    with system.Monitor(machine=machine) as reader:
        reader.stats()


@settings(max_examples=40)
@given(st.sampled_from(["meminfo", "stat", "loadavg", "net/dev", "diskstats"]), st.floats(0.0, 0.99))
def test_cut_file_shows_the_right_value_or_none(hosts: Hosts, file: str, part: float) -> None:
    machine, _ = hosts["server"]
    path = Path(machine.proc, file)
    right: dict[str, Any] = derive(None, SystemReader(machine, statvfs=fixed_size).read())
    with kept(path) as data:
        path.write_bytes(damaged(data, part).removesuffix(b"\n"))
        found: dict[str, Any] = derive(None, SystemReader(machine, statvfs=fixed_size).read())
    for name in ("cpu_user_seconds", "context_switches", "memory", "load_1", "thread_count"):
        if found[name] is None:
            continue
        if isinstance(found[name], dict):
            for key, value in found[name].items():
                assert value in (None, right[name][key]), (name, key)
        else:
            assert found[name] == right[name], name
