"""Parsers of system files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured import machine_in, put, unpack
from proctally.linux.disks import parse_diskstats
from proctally.linux.mounts import parse_mounts, parse_zpool_list
from proctally.linux.net import parse_net_dev
from proctally.linux.system import (
    ProcessCounter,
    SystemReader,
    parse_loadavg,
    parse_meminfo,
    parse_pressure,
    parse_stat,
)
from system_files import fixed_size

# -- parsers -----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=60))
def test_any_answer_of_zpool(data: bytes) -> None:
    try:
        parse_zpool_list(data)
    except ValueError as error:
        assert str(error).startswith("zpool: ")


def test_stat_of_an_old_kernel_has_fewer_times() -> None:
    cpu = parse_stat(b"cpu  1 2 3 4\ncpu0 1 2 3 4\nctxt 7\n")
    assert cpu.all == cpu.cores[0] == (1, 2, 3, 4, 0, 0, 0, 0)
    assert (cpu.context_switches, cpu.forks, cpu.running) == (7, None, None)


def test_broken_known_values_raise_with_their_text() -> None:
    for parse, data, text in (
        (parse_stat, b"cpu  1 2 x 4\n", "1 2 x 4"),
        (parse_stat, b"cpu  1 2 3 4\nctxt many\n", "ctxt many"),
        (parse_meminfo, b"MemTotal: lots kB\n", "MemTotal: lots"),
        (parse_pressure, b"some avg10=0.00\n", "some avg10"),
        (parse_loadavg, b"0.1 nan 0.3 1/2 3\n", "nan"),
        (parse_net_dev, b"eth0: 1 2 3\n", "eth0"),
        (parse_diskstats, b" 8 0 sda 1 2\n", "sda"),
        (parse_mounts, b"21 28 0:20 / /proc rw\n", "/proc"),
    ):
        with pytest.raises(ValueError, match=text):
            parse(data)


NEGATIVE = 18446744073709551615


def test_negative_values_are_null_and_spoil_no_other() -> None:
    cpu = parse_stat(
        b"cpu  1 2 3 %d 5 6 7 8\nctxt 9\nprocesses 9\nprocs_running 1\nprocs_blocked %d\n" % (NEGATIVE, NEGATIVE)
    )
    assert cpu.since_boot == (1, 2, 3, None, 5, 6, 7, 8)
    assert (cpu.context_switches, cpu.forks, cpu.running, cpu.blocked) == (9, 9, 1, None)
    for kilobytes in (NEGATIVE, NEGATIVE >> 10, 1 << 400):  # an underflow of kilobytes, and of bytes
        memory = parse_meminfo(b"MemTotal: 8 kB\nSwapFree: %d kB\n" % kilobytes)
        assert (memory.total_bytes, memory.swap_free_bytes) == (8192, None)
    assert parse_pressure(b"some total=%d\nfull total=7\n" % NEGATIVE) == {"some": None, "full": 7}
    load = parse_loadavg(b"0.1 0.2 99999999999999999999.0 1/%d 3\n" % NEGATIVE)
    assert (load.averages, load.threads) == ((0.1, 0.2, None), None)
    assert parse_diskstats(b" 8 0 sda 1 0 8 0 1 0 8 0 4294967295 0 0\n")["sda"].in_flight is None


# -- a captured server -------------------------------------------------------------------------------------------


def test_a_file_that_comes_back_is_read_again(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    stat = tmp_path / "proc/stat"
    text = stat.read_bytes()
    stat.unlink()
    reader = SystemReader(machine, statvfs=fixed_size)
    assert reader.read().cpu is None
    stat.write_bytes(text)
    assert reader.read().cpu is not None
    reader.close()
    assert reader.read().cpu is not None


def test_a_reading_says_that_devices_changed(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    versions = [reader.read().version, reader.read().version]
    for path, gone in (("net/dev", b"  ifb0:"), ("diskstats", b"   8      32 sdc")):
        lines = (tmp_path / "proc" / path).read_bytes().splitlines(keepends=True)
        put(tmp_path, f"proc/{path}", b"".join(each for each in lines if not each.startswith(gone)))
        versions += [reader.read().version, reader.read().version]
    assert versions[::2] == versions[1::2] == sorted(set(versions))


# -- processes ---------------------------------------------------------------------------------------------------


def test_directories_of_modules_are_counted_out_again_after_a_minute(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    for name in ("1", "2", "sys", "self/ns"):
        (tmp_path / "proc" / name).mkdir(parents=True)
    os.symlink("pid:[4026531836]", tmp_path / "proc/self/ns/pid")
    counter = ProcessCounter(machine)
    assert counter.read() == 2
    (tmp_path / "proc/3").mkdir()
    assert counter.read() == 3  # by the link count of the directory alone
    (tmp_path / "proc/module").mkdir()
    assert counter.read() == 4
    clock.advance(60)
    assert counter.read() == 3


@pytest.mark.parametrize("missing", ["1", "self/ns/pid"])
def test_processes_are_listed_where_the_link_count_is_not_of_those_listed(tmp_path: Path, missing: str) -> None:
    """Another pid namespace, or hidden processes: init is then not seen."""
    machine, _ = machine_in(tmp_path)
    for name in ("1", "2", "self/ns"):
        (tmp_path / "proc" / name).mkdir(parents=True)
    os.symlink("pid:[4026531836]", tmp_path / "proc/self/ns/pid")
    path = tmp_path / "proc" / missing
    path.rmdir() if path.is_dir() else path.unlink()
    counter = ProcessCounter(machine)
    first = counter.read()
    (tmp_path / "proc/hidden").mkdir()
    assert counter.read() == first
