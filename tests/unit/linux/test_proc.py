"""Parsers of `/proc/PID`, and readers of made-up files."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakeroot import FakeHost
from proc_files import IO, TAIL, fake_processes
from proctally.errors import ProcessGone
from proctally.linux.machine import Machine
from proctally.linux.proc import (
    Files,
    Kept,
    OwnIo,
    parse_children,
    parse_io,
    parse_schedstat,
    parse_stat,
    parse_status,
    process_count,
    read_run_delay,
    read_stat,
    scan,
)

patient = settings(deadline=None)


# -- captures ----------------------------------------------------------------------------------------------------


INIT = (
    b"1 (systemd) S 0 1 1 0 -1 4194560 36314 3312474 7 1137 159 1112 15737 5484 20 0 13 0 24 45744128 3628 "
    b"18446744073709551615 1 1 0 0 0 0 0 4096 1256 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
KTHREAD = (
    b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 24 0 0 18446744073709551615 0 0 0 0 0 0 0 "
    b"2147483647 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
ZOMBIE = (
    b"4711 (sh) Z 4700 4711 18893 34816 4711 4227084 112 40 0 0 1 2 3 4 20 0 1 0 577642 0 0 18446744073709551615 "
    b"0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
STATUS = (
    b"Name:\tcat\nUmask:\t0022\nState:\tR (running)\nTgid:\t28860\nPid:\t28860\nPPid:\t28856\nUid:\t0\t0\t0\t0\n"
    b"VmPeak:\t    3060 kB\nVmHWM:\t    1592 kB\nVmRSS:\t    1500 kB\nVmSwap:\t      12 kB\nThreads:\t1\n"
    b"SigIgn:\t0000000000001000\nSigCgt:\t0000000000010000\n"
    b"voluntary_ctxt_switches:\t345\nnonvoluntary_ctxt_switches:\t16\n"
)
KTHREAD_STATUS = (
    b"Name:\tkthreadd\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t2\nPid:\t2\nPPid:\t0\nKthread:\t1\nThreads:\t1\n"
    b"SigIgn:\tffffffffffffffff\nvoluntary_ctxt_switches:\t70\nnonvoluntary_ctxt_switches:\t0\n"
)
ZOMBIE_STATUS = (
    b"Name:\tsh\nState:\tZ (zombie)\nTgid:\t4711\nPid:\t4711\nPPid:\t4700\nThreads:\t1\n"
    b"SigIgn:\t0000000000000000\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n"
)
ROLLUP = (
    b"557141b35000-7ffdf627b000 ---p 00000000 00:00 0                          [rollup]\nRss:                1724 kB\n"
    b"Pss:                 265 kB\nPss_Dirty:           112 kB\nPss_Anon:            112 kB\n"
    b"Pss_File:            153 kB\nSwap:                  0 kB\nSwapPss:               7 kB\n"
)
NAMES = [
    b"bash",
    b"",
    b" ",
    b"a) R 1 (b\n\xff",
    b") ",
    b")))(((",
    b"tab\there",
    b"new\nline) Z 0",
    b"(sd-pam)",
    b"Web Content",
    b"\xff\xfe\x00\x80",
    "naïve ☃".encode(),
    b"1 2 3 4 5 6 7 8",
]


# -- stat --------------------------------------------------------------------------------------------------------


def test_stat_of_an_ordinary_process() -> None:
    stat = parse_stat(INIT)
    assert (stat.comm, stat.state, stat.ppid, stat.tty, stat.flags) == (b"systemd", b"S", 0, 0, 4194560)
    assert (stat.minor_faults, stat.major_faults) == (36314, 7)
    assert (stat.tree_minor_faults, stat.tree_major_faults) == (36314 + 3312474, 7 + 1137)
    assert (stat.user, stat.system, stat.child_user, stat.child_system) == (159, 1112, 15737, 5484)
    assert (stat.threads, stat.start, stat.vsize, stat.rss) == (13, 24, 45744128, 3628)


def test_stat_of_a_kernel_thread() -> None:
    stat = parse_stat(KTHREAD)
    assert (stat.comm, stat.ppid, stat.rss, stat.vsize, stat.threads) == (b"kthreadd", 0, 0, 0, 1)


def test_stat_of_a_zombie() -> None:
    stat = parse_stat(ZOMBIE)
    assert (stat.comm, stat.state, stat.ppid, stat.tty) == (b"sh", b"Z", 4700, 34816)
    assert (stat.user, stat.system, stat.child_user, stat.child_system) == (1, 2, 3, 4)
    assert (stat.rss, stat.start) == (0, 577642)


@pytest.mark.parametrize("name", NAMES)
def test_stat_of_any_name(name: bytes) -> None:
    stat = parse_stat(b"28858 (" + name + b")" + TAIL)
    assert (stat.comm, stat.state, stat.ppid) == (name, b"R", 28856)
    assert (stat.user, stat.system, stat.start, stat.rss) == (5, 6, 577642, 372)


def test_stat_of_an_old_kernel_and_of_a_future_one() -> None:
    short = b" ".join(INIT.split()[:24])
    for data in (short + b"\n", INIT.rstrip() + b" 99 100 101\n"):
        assert (parse_stat(data).start, parse_stat(data).rss) == (24, 3628)


BROKEN_STATS = [
    b"",
    b"\n",
    b"1",
    b"1 (sh",
    b"1 (sh)",
    b"1 (sh) ",
    b"1 (sh) S 0 1 1",
    INIT.replace(b" 159 ", b" x159 "),
    INIT.replace(b" 24 ", b" 2.4 "),
    b" ".join(INIT.split()[:23]),
    INIT.replace(b") ", b"] "),
]


@pytest.mark.parametrize("data", BROKEN_STATS)
def test_broken_stat(data: bytes) -> None:
    with pytest.raises(ValueError, match="stat: "):
        parse_stat(data)


NUMBERS = st.integers(min_value=0, max_value=2**63 - 1)
NOT_COUNTED = {3: -1, 4: -1, 5: 2**64 - 1, 14: -100, 15: -20, 17: 2**64 - 1}  # tty, tpgid, flags, priority, nice
NAME_BYTES = st.one_of(st.binary(max_size=64), st.text(alphabet="() \nRSZ0123456789", max_size=40).map(str.encode))


@patient
@given(NAME_BYTES, st.sampled_from([b"R", b"S", b"D", b"Z", b"X", b"T"]), st.lists(NUMBERS, min_size=21, max_size=49))
def test_stat_round_trip(name: bytes, state: bytes, numbers: list[int]) -> None:
    numbers = [NOT_COUNTED.get(place, number) for place, number in enumerate(numbers)]
    data = b"77 (%b) %b %b\n" % (name, state, b" ".join(b"%d" % number for number in numbers))
    stat = parse_stat(data)
    assert (stat.comm, stat.state) == (name, state)
    assert [stat.ppid, stat.tty, stat.flags] == [numbers[0], numbers[3], numbers[5]]
    assert [stat.minor_faults, stat.major_faults] == [numbers[6], numbers[8]]
    assert [stat.tree_minor_faults, stat.tree_major_faults] == [numbers[6] + numbers[7], numbers[8] + numbers[9]]
    assert [stat.user, stat.system, stat.child_user, stat.child_system] == numbers[10:14]
    assert [stat.threads, stat.start, stat.vsize, stat.rss] == [numbers[16], *numbers[18:21]]


# -- io ----------------------------------------------------------------------------------------------------------


def test_io() -> None:
    assert parse_io(IO) == (323934931, 323929600, 632687, 632675, 4096, 323932160, 8192)


def test_io_of_a_future_kernel() -> None:
    assert parse_io(IO + b"shiny_bytes: 5\n") == parse_io(IO)


@pytest.mark.parametrize("missing", range(7))
def test_io_with_a_missing_line(missing: int) -> None:
    lines = IO.splitlines(keepends=True)
    del lines[missing]
    with pytest.raises(ValueError, match="io: "):
        parse_io(b"".join(lines))


@pytest.mark.parametrize("data", [b"", b"\n", IO.replace(b" 4096", b" many"), IO.replace(b"syscw", b"syscx"), IO[:60]])
def test_broken_io(data: bytes) -> None:
    with pytest.raises(ValueError, match="io: "):
        parse_io(data)


@pytest.mark.parametrize("missing", range(7))
def test_io_with_a_missing_value(missing: int) -> None:
    lines = IO.splitlines()
    lines[missing] = lines[missing].split()[0]
    with pytest.raises(ValueError, match="io: "):
        parse_io(b"\n".join(lines))


@patient
@given(st.lists(NUMBERS, min_size=7, max_size=7))
def test_io_round_trip(numbers: list[int]) -> None:
    keys = [line.split(b":")[0] for line in IO.splitlines()]
    pairs = zip(keys, numbers, strict=True)
    assert list(parse_io(b"".join(b"%b: %d\n" % pair for pair in pairs))) == numbers


# -- status ------------------------------------------------------------------------------------------------------


def test_status() -> None:
    status = parse_status(STATUS)
    assert (status.peak_rss_bytes, status.swap_bytes) == (1592 * 1024, 12 * 1024)
    assert status.context_switches == 345 + 16
    assert status.ignores_child_signal is False


def test_status_of_a_kernel_thread() -> None:
    status = parse_status(KTHREAD_STATUS)
    assert (status.peak_rss_bytes, status.swap_bytes, status.context_switches) == (None, None, 70)


def test_status_of_a_zombie() -> None:
    status = parse_status(ZOMBIE_STATUS)
    assert (status.peak_rss_bytes, status.swap_bytes, status.context_switches) == (None, None, 7)


@pytest.mark.parametrize("data", [b"", b"\n", b"Name:\tcat\n", b"no colon at all\n", b"VmHWMx:\t1 kB\n"])
def test_status_without_what_is_asked(data: bytes) -> None:
    status = parse_status(data)
    assert (status.peak_rss_bytes, status.swap_bytes, status.context_switches) == (None, None, None)
    assert status.ignores_child_signal is False


def test_status_whose_name_looks_like_a_line() -> None:
    """The kernel escapes the newline of a name, so that it cannot make a line of its own."""
    assert parse_status(b"Name:\tx\\nVmHWM:\t9 kB\n").peak_rss_bytes is None


@pytest.mark.parametrize(
    "data",
    [b"VmHWM:\t many kB\n", b"VmHWM:\n", b"VmSwap:\t1 MB\n", b"voluntary_ctxt_switches:\t-\n", b"SigIgn:\tzz\n"],
)
def test_broken_status_names_the_line(data: bytes) -> None:
    with pytest.raises(ValueError, match=data.split(b":")[0].decode()):
        parse_status(data)


@pytest.mark.parametrize(("mask", "ignored"), [("0" * 16, False), ("0000000000010000", True), ("f" * 16, True)])
def test_status_of_who_ignores_sigchld(mask: str, ignored: bool) -> None:
    assert parse_status(f"SigIgn:\t{mask}\nSigCgt:\t0000000000010000\n".encode()).ignores_child_signal is ignored


# -- schedstat, children ---------------------------------------------------------------------------


def test_schedstat() -> None:
    assert parse_schedstat(b"750629 1234 1\n") == (750629, 1234)
    for data in (b"", b"1 2", b"1 x 3\n"):
        with pytest.raises(ValueError):
            parse_schedstat(data)


def test_children() -> None:
    assert parse_children(b"101 7 4194303 ") == [101, 7, 4194303]
    assert parse_children(b"") == []
    with pytest.raises(ValueError, match="children: "):
        parse_children(b"101 x7 ")


PARSERS = [parse_stat, parse_io, parse_status, parse_schedstat, parse_children]
CAPTURES = [INIT, KTHREAD, ZOMBIE, IO, STATUS, KTHREAD_STATUS, ROLLUP, b"750629 0 1\n", b"101 7 "]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A capture that was cut, or of which a part was replaced by other bytes."""
    data = draw(st.sampled_from(CAPTURES))
    begin = draw(st.integers(0, len(data)))
    end = draw(st.integers(begin, len(data)))
    return data[:begin] + draw(st.binary(max_size=12)) + data[end : draw(st.integers(end, len(data)))]


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@patient
@given(data=st.one_of(st.binary(max_size=300), damaged()))
@example(data=b"")
@example(data=b"9" * 5000)
@example(data=b"1 (x) " + b" ".join([b"S", *[b"9" * 5000] * 30]))
@example(data=b"VmHWM:\t" + b"9" * 5000 + b" kB\n")
def test_parser_returns_or_raises_value_error(parse: Callable[[bytes], Any], data: bytes) -> None:
    try:
        parse(data)
    except ValueError:
        pass


@patient
@given(st.lists(st.integers(min_value=1, max_value=2**22), max_size=900))
def test_children_round_trip(pids: list[int]) -> None:
    assert parse_children(b"".join(b"%d " % pid for pid in pids)) == pids


# -- what no kernel writes ------------------------------------------------------------------------------------------


def _damaged(data: bytes) -> dict[str, bytes]:
    """Return a file cut in its last number, and with other numbers in place of each."""
    digits = max(at for at, byte in enumerate(data) if chr(byte).isdigit())
    return {
        "cut": data[:digits],
        "cut before its end": data[: digits + 1],
        "negative": re.sub(rb"\b\d+\b", rb"-\g<0>", data),
        "2^64-1": re.sub(rb"\b\d+\b", b"18446744073709551615", data),
        "text": re.sub(rb"\b\d+\b", b"N/A", data),
        "not UTF-8": re.sub(rb"\b\d+\b", b"\xff\xfe", data),
    }


@pytest.mark.parametrize("kind", _damaged(b"1 1"))
@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (parse_stat, b" ".join(INIT.split()[:24]) + b"\n"),
        (parse_io, IO),
        (parse_children, b"101 102 "),
        (parse_status, b"VmHWM:\t  12 kB\nVmSwap:\t 8 kB\n"),
        (parse_schedstat, b"12 34 5"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damaged_file_is_refused(parse: Callable[[bytes], object], data: bytes, kind: str) -> None:
    parse(data)
    if (parse, kind) == (parse_schedstat, "cut before its end"):
        return  # its last number has one digit
    with pytest.raises(ValueError, match=":"):
        parse(_damaged(data)[kind])


def test_stat_of_pid_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="stat: "):
        parse_stat(re.sub(rb"\d+", b"0", INIT))


def test_children_of_another_pid_namespace_are_left_out() -> None:
    assert parse_children(b"0 101 0 ") == [101]


# -- every process of this machine -------------------------------------------------------------------------------


def test_scan_of_a_fake_root(tmp_path: Path) -> None:
    for name in ("1", "4711", "self", "tty", "1x", "-3"):
        (tmp_path / name).mkdir()
    assert {pid for pid, _ in scan(Machine(str(tmp_path)))} == {1, 4711}
    assert process_count(Machine(str(tmp_path))) >= 2


# -- against psutil ----------------------------------------------------------------------------------------------


def test_state_x_is_gone(tmp_path: Path) -> None:
    """As the docstring says: its parent is just reaping it."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(b"7 (dead) X" + TAIL[2:])
    with pytest.raises(ProcessGone):
        read_stat(Machine(str(tmp_path)), 7)


def test_own_io_where_there_is_none(tmp_path: Path) -> None:
    own = OwnIo(Machine(str(tmp_path)))
    assert own.read() == b""
    assert own.growth(b"") is None


@pytest.mark.parametrize("data", [IO.replace(b"rchar", b"char"), b"", b"rchar: N/A\n", IO[:-2]])
def test_own_io_of_another_form_is_unknown(tmp_path: Path, data: bytes) -> None:
    """gVisor writes `char:` where Linux writes `rchar:`."""
    path = tmp_path / "self/io"
    path.parent.mkdir()
    path.write_bytes(data)
    own = OwnIo(Machine(str(tmp_path)))
    assert own.growth(own.read()) is None
    path.write_bytes(IO)
    before = own.read()
    path.write_bytes(data)
    assert own.growth(before) is None


def test_own_io_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    """read(2) of a directory gives EISDIR, an errno that nothing expects."""
    (tmp_path / "self/io").mkdir(parents=True)
    own = OwnIo(Machine(str(tmp_path)))
    assert own.read() == b""
    assert own.growth(own.read()) is None


# -- descriptors that are kept -----------------------------------------------------------------------------------


@pytest.fixture
def fakes(tmp_path: Path) -> Callable[[int], Machine]:
    return partial(fake_processes, tmp_path)


def test_files_read_again_what_changed(fakes: Callable[[int], Machine]) -> None:
    machine = fakes(1)
    files, kept = Files(machine, 4), Kept()
    assert files.stat(kept, 1).user == 5
    descriptor = kept.stat_fd
    Path(machine.proc, "1", "stat").write_bytes(b"1 (x)" + TAIL.replace(b" 5 6 ", b" 50 60 "))
    assert files.stat(kept, 1).user == 50
    assert kept.stat_fd == descriptor >= 0
    files.close(kept)


def test_who_was_not_read_lately_makes_room(fakes: Callable[[int], Machine]) -> None:
    files = Files(fakes(4), 2)
    old, busy, new, late = Kept(), Kept(), Kept(), Kept()
    files.stat(old, 1)
    files.stat(busy, 2)
    files.stat(new, 3)
    assert new.stat_fd < 0 <= min(old.stat_fd, busy.stat_fd), "all were read lately: the new one is not kept"
    for files.tick in range(1, 6):
        files.stat(busy, 2)
    files.stat(new, 3)
    assert old.stat_fd < 0 <= min(new.stat_fd, busy.stat_fd), "the one that idled makes room, not the one in use"
    files.stat(late, 4)
    assert late.stat_fd < 0 <= min(new.stat_fd, busy.stat_fd)
    assert files.open_count == 2
    for entry in (old, busy, new, late):
        files.close(entry)
    assert files.open_count == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_run_delay_without_schedstat_is_unknown(tmp_path: Path, threads: int) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1)
    for path in ("schedstat", "task/100/schedstat"):
        (host.processes[100].folder / path).unlink()
    assert read_run_delay(host.machine(), 100, threads) is None
    with pytest.raises(ProcessGone):
        read_run_delay(host.machine(), 200, threads)
