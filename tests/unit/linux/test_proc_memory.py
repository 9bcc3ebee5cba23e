"""Parsers of a process's memory against literals and made-up bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctally.linux.proc import parse_stat
from proctally.linux.proc_memory import (
    HIDDEN_PROGRAM,
    NO_PROGRAM,
    parse_memory,
    parse_program,
    parse_rollup,
    parse_statm,
)

STATUS = b"""Name:\tpython3
Umask:\t0022
State:\tS (sleeping)
VmPeak:\t   13228 kB
VmSize:\t   13000 kB
VmLck:\t       0 kB
VmPin:\t       0 kB
VmHWM:\t    9900 kB
VmRSS:\t    9800 kB
RssAnon:\t    3412 kB
RssFile:\t    6356 kB
RssShmem:\t      32 kB
VmData:\t    3000 kB
VmStk:\t     132 kB
VmExe:\t    2700 kB
VmLib:\t    3800 kB
VmPTE:\t      64 kB
VmSwap:\t      12 kB
HugetlbPages:\t    2048 kB
CoreDumping:\t0
THP_enabled:\t1
Threads:\t1
SigQ:\t0/96365
"""
SIZES = tuple(kib * 1024 for kib in (9900, 3412, 6356, 32, 64, 12, 2048))
STAT = (
    b"4711 (a) b) S 1 4711 1 0 -1 4194560 36314 3312474 7 1137 159 1112 15737 5484 20 0 13 0 24 45744128 3628 "
    b"18446744073709551615 94632773332992 94632773333333 140734920797056 0 0 0 4096 1256 0 0 0 0 17 0 0 0 0 0 0 "
    b"94632773344688 94632773345304 94633581834240 140734920804832 140734920804860 140734920804860 140734920806375 0\n"
)
ROLLUP = b"""557e79042000-7ffe600a2000 ---p 00000000 00:00 0                          [rollup]
Rss:                1756 kB
Pss:                 364 kB
Pss_Dirty:           112 kB
Pss_Anon:            100 kB
Pss_File:            252 kB
Pss_Shmem:            12 kB
Shared_Clean:       1592 kB
Anonymous:           112 kB
Shared_Hugetlb:     4096 kB
Private_Hugetlb:    2048 kB
"""


def without(data: bytes, *keys: bytes) -> bytes:
    """Drop the lines of these keys."""
    return b"".join(line for line in data.splitlines(keepends=True) if line.partition(b":")[0] not in keys)


def test_parse_memory_returns_bytes() -> None:
    assert parse_memory(STATUS) == SIZES


@pytest.mark.parametrize("size", [99_999_999, 100_000_000, 123_456_789_012])
def test_parse_memory_size_wider_than_its_column(size: int) -> None:
    lines = STATUS.replace(b"    3412 kB", b"%8d kB" % size).replace(b"    9900 kB", b"%8d kB" % size)
    assert parse_memory(lines) == (size * 1024, size * 1024, *SIZES[2:])


def test_parse_memory_vmpmd_line_is_skipped() -> None:
    assert parse_memory(STATUS.replace(b"VmSwap:", b"VmPMD:\t      12 kB\nVmSwap:")) == SIZES


def test_parse_memory_no_hugetlb_or_swap_line_is_zero() -> None:
    assert parse_memory(without(STATUS, b"HugetlbPages", b"VmSwap")) == (*SIZES[:5], 0, 0)


@pytest.mark.parametrize("key", [b"VmHWM", b"RssAnon", b"RssFile", b"RssShmem", b"VmPTE"])
def test_parse_memory_missing_size_is_none(key: bytes) -> None:
    assert parse_memory(without(STATUS, key)) is None


def test_parse_memory_zombie_is_none() -> None:
    assert parse_memory(b"Name:\tsh\nState:\tZ (zombie)\nThreads:\t1\n") is None


@pytest.mark.parametrize("number", [b"9900 ", b"3412 ", b"  12 "])
def test_parse_memory_broken_size_raises(number: bytes) -> None:
    broken = STATUS.replace(number, b" 1x2 ")
    with pytest.raises(ValueError, match="1x2"):
        parse_memory(broken)
    with pytest.raises(ValueError, match="1x2"):
        parse_memory(without(broken, b"HugetlbPages"))


def test_parse_program_returns_three_addresses() -> None:
    stat = parse_stat(STAT)
    assert parse_program(STAT, len(stat.head)) == b"94632773332992 140734920797056 94633581834240"


def test_parse_program_other_user_is_hidden() -> None:
    tail = b" 18446744073709551615 1 1 0 0 0 0 4096 1256 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    assert parse_program(tail, 0) == HIDDEN_PROGRAM


def test_parse_program_zombie_has_none() -> None:
    tail = b" 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    assert parse_program(tail, 0) == NO_PROGRAM


def test_parse_program_truncated_stat_raises() -> None:
    with pytest.raises(ValueError, match="stat"):
        parse_program(STAT[:200], len(parse_stat(STAT).head))


def test_parse_statm_is_resident_less_shared() -> None:
    assert parse_statm(b"4565 2450 1597 675 0 750 0\n", 4096) == (2450 - 1597) * 4096
    with pytest.raises(ValueError, match="statm"):
        parse_statm(b"4565 2450\n", 4096)


def test_parse_rollup_returns_bytes() -> None:
    rollup = parse_rollup(ROLLUP)
    assert rollup is not None
    assert (rollup.pss_anon, rollup.pss_file, rollup.pss_shmem) == (100 << 10, 252 << 10, 12 << 10)
    assert (rollup.anon, rollup.private_hugetlb, rollup.shared_hugetlb) == (112 << 10, 2 << 20, 4 << 20)


@pytest.mark.parametrize("key", [b"Pss_Anon", b"Pss_File", b"Pss_Shmem", b"Anonymous"])
def test_parse_rollup_old_kernel_is_none(key: bytes) -> None:
    assert parse_rollup(without(ROLLUP, key)) is None


def test_parse_rollup_no_hugetlb_line_is_zero() -> None:
    rollup = parse_rollup(without(ROLLUP, b"Private_Hugetlb", b"Shared_Hugetlb"))
    assert rollup is not None
    assert rollup.private_hugetlb == rollup.shared_hugetlb == 0


@given(st.binary(max_size=300))
def test_parse_memory_any_bytes_give_sizes_or_error(data: bytes) -> None:
    for text in (data, STATUS[:200] + data, data + STATUS):
        try:
            sizes = parse_memory(text)
        except ValueError:
            continue
        assert sizes is None or len(sizes) == 7
