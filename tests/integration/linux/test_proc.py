"""The parsers against literals and made-up bytes; the readers against every process of this machine and psutil."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proctally.kernel.machine import Denied, Gone, Machine, clock_id
from proctally.kernel.proc import (
    Files,
    Kept,
    OwnIo,
    parse_children,
    parse_io,
    parse_schedstat,
    parse_smaps_rollup,
    parse_stat,
    parse_status,
    process_count,
    read_children,
    read_io,
    read_pss,
    read_run_delay,
    read_stat,
    read_status,
    read_threads,
    scan,
    text,
)

NOBODY = 65534
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
TAIL = b" R 28856 28856 18893 0 -1 4194304 102 0 0 0 5 6 0 0 20 0 1 0 577642 3133440 372 18446744073709551615 1 0\n"

IO = (
    b"rchar: 323934931\nwchar: 323929600\nsyscr: 632687\nsyscw: 632675\nread_bytes: 4096\nwrite_bytes: 323932160\n"
    b"cancelled_write_bytes: 8192\n"
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
    for data in (short, short + b"\n", INIT.rstrip() + b" 99 100 101\n"):
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


def test_a_real_process_with_a_hostile_name() -> None:
    """The whole way, through the kernel: prctl(PR_SET_NAME) takes any 15 bytes."""
    name = b"a) R 1 (b\n\xff"
    code = f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0); print(flush=True); input()"
    with running([sys.executable, "-c", code]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stat = read_stat(Machine(), child.pid)
        assert (stat.comm, stat.ppid) == (name, os.getpid())
        assert text(stat.comm) == "a) R 1 (b\n\\xff"
        read_status(Machine(), child.pid)


NUMBERS = st.integers(min_value=0, max_value=2**64 - 1)
SIGNED = st.integers(min_value=-(2**31), max_value=2**64 - 1)
NAME_BYTES = st.one_of(st.binary(max_size=64), st.text(alphabet="() \nRSZ0123456789", max_size=40).map(str.encode))


@patient
@given(NAME_BYTES, st.sampled_from([b"R", b"S", b"D", b"Z", b"X", b"T"]), st.lists(SIGNED, min_size=21, max_size=49))
def test_stat_round_trip(name: bytes, state: bytes, numbers: list[int]) -> None:
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


def test_a_real_process_that_ignores_sigchld() -> None:
    code = "import signal; signal.signal(signal.SIGCHLD, signal.{}); print(flush=True); input()"
    for action, ignored in (("SIG_IGN", True), ("SIG_DFL", False)):
        with running([sys.executable, "-c", code.format(action)]) as child:
            assert child.stdout is not None
            child.stdout.readline()
            assert read_status(Machine(), child.pid).ignores_child_signal is ignored


# -- smaps_rollup, schedstat, children ---------------------------------------------------------------------------


def test_pss_is_not_one_of_its_parts() -> None:
    assert parse_smaps_rollup(ROLLUP) == 265 * 1024
    lines = ROLLUP.splitlines(keepends=True)
    assert parse_smaps_rollup(b"".join([*lines[:2], *lines[3:], lines[2]])) == 265 * 1024
    assert parse_smaps_rollup(b"".join([*lines[:2], lines[2].rstrip()])) == 265 * 1024


@pytest.mark.parametrize("data", [b"", b"Rss: 1 kB\n", b"\n", ROLLUP.replace(b"\nPss:", b"\nQss:")])
def test_no_pss(data: bytes) -> None:
    assert parse_smaps_rollup(data) is None


def test_broken_pss() -> None:
    with pytest.raises(ValueError, match="Pss"):
        parse_smaps_rollup(ROLLUP.replace(b" 265 ", b" 2x5 "))


def test_schedstat() -> None:
    assert parse_schedstat(b"750629 1234 1\n") == 1234
    for data in (b"", b"1 2", b"1 x 3\n"):
        with pytest.raises(ValueError):
            parse_schedstat(data)


def test_children() -> None:
    assert parse_children(b"101 7 4194303 ") == [101, 7, 4194303]
    assert parse_children(b"") == []
    with pytest.raises(ValueError, match="children: "):
        parse_children(b"101 x7 ")


PARSERS = [parse_stat, parse_io, parse_status, parse_smaps_rollup, parse_schedstat, parse_children]
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
@given(st.lists(st.integers(min_value=0, max_value=2**22), max_size=900))
def test_children_round_trip(pids: list[int]) -> None:
    assert parse_children(b"".join(b"%d " % pid for pid in pids)) == pids


@patient
@given(st.binary(max_size=40))
def test_text_of_any_name_is_strict(name: bytes) -> None:
    shown = text(name)
    assert bool(shown.encode("utf-8")) == bool(name)
    try:
        assert shown == name.decode()
    except UnicodeDecodeError:
        assert "\\x" in shown


# -- every process of this machine -------------------------------------------------------------------------------


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        time.sleep(0.005)


READERS: dict[str, Callable[[Machine, int], Any]] = {
    "stat": read_stat,
    "status": read_status,
    "io": read_io,
    "pss": read_pss,
    "threads": read_threads,
    "children": read_children,
    "children of all threads": lambda machine, pid: read_children(machine, pid, 2),
    "run delay": lambda machine, pid: read_run_delay(machine, pid, 1),
    "run delay of all threads": lambda machine, pid: read_run_delay(machine, pid, 2),
    "clock": lambda machine, pid: machine.clocks([clock_id(pid)]),
    "kept stat": lambda machine, pid: Files(machine, 0).stat(Kept(), pid),
    "kept io": lambda machine, pid: Files(machine, 0).io(Kept(), pid),
}


def read_everything() -> tuple[int, dict[str, int]]:
    """How many processes are listed, and how many of them each reader could read."""
    machine = Machine()
    counts = dict.fromkeys(READERS, 0)
    pids = [pid for pid, _ in scan(machine)]
    for pid in pids:
        for name, reader in READERS.items():
            try:
                reader(machine, pid)
                counts[name] += 1
            except (Gone, Denied):
                pass
            except Exception as error:
                raise AssertionError(f"{name} of process {pid}") from error
    return len(pids), counts


def test_every_process() -> None:
    with running(["cat"]), running([sys.executable, "-c", "input()"]):
        processes, counts = read_everything()
    assert processes >= 3
    assert all(count >= 3 for count in counts.values()), counts
    assert counts["stat"] >= 0.9 * processes or os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="it takes root to become an ordinary user")
def test_every_process_as_an_ordinary_user() -> None:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            processes, counts = read_everything()
            assert counts["stat"] >= 1, counts
            assert counts["io"] < processes, "an ordinary user cannot read the io of root"
            with pytest.raises(Denied):
                read_io(Machine(), os.getppid())
            with pytest.raises(Denied):
                read_pss(Machine(), os.getppid())
        except BaseException:
            os.write(write_end, traceback.format_exc().encode()[:60_000])
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        said = file.read()
    os.waitpid(pid, 0)
    assert said.decode() == ""


def test_scan_lists_every_process() -> None:
    machine = Machine()
    with running(["cat"]) as child:
        listed = dict(scan(machine))
        assert {os.getpid(), os.getppid(), child.pid} <= listed.keys()
        assert listed[child.pid] == os.stat(f"/proc/{child.pid}").st_ino
        assert dict(scan(machine))[child.pid] == listed[child.pid]
        before = set(psutil.pids())
        seen = {pid for pid, _ in scan(machine)}
        assert before & set(psutil.pids()) <= seen
    assert child.pid not in dict(scan(machine))


def test_scan_of_a_fake_root(tmp_path: Path) -> None:
    for name in ("1", "4711", "self", "tty", "1x", "-3"):
        (tmp_path / name).mkdir()
    assert {pid for pid, _ in scan(Machine(str(tmp_path)))} == {1, 4711}
    assert process_count(Machine(str(tmp_path))) >= 2


# -- against psutil ----------------------------------------------------------------------------------------------

BUSY = """
import sys, time
held = bytearray(40_000_000)
for place in range(0, len(held), 4096):
    held[place] = 1
with open("/dev/null", "wb", 0) as sink:
    for _ in range(1000):
        sink.write(b"x" * 100)
while time.process_time() < 0.3:
    pass
print(flush=True)
input()
"""


@pytest.fixture(scope="module")
def busy() -> Iterator[subprocess.Popen[bytes]]:
    with running([sys.executable, "-c", BUSY]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        wait_until(lambda: read_stat(Machine(), child.pid).state == b"S")
        yield child


def test_stat_against_psutil(busy: subprocess.Popen[bytes]) -> None:
    machine = Machine()
    other = psutil.Process(busy.pid)
    stat = read_stat(machine, busy.pid)
    times = other.cpu_times()
    assert stat.user / machine.ticks == times.user
    assert stat.system / machine.ticks == times.system
    assert (stat.user + stat.system) / machine.ticks >= 0.28
    # kernel: `stat` has the sum without what each CPU has not handed in yet (percpu_counter_read_positive)
    cpus = os.cpu_count() or 1
    not_handed_in = 3 * cpus * max(32, 2 * cpus) * machine.page_size
    assert stat.rss * machine.page_size == pytest.approx(other.memory_info().rss, abs=not_handed_in)
    assert stat.rss * machine.page_size >= 40_000_000 - not_handed_in
    assert stat.vsize == other.memory_info().vms
    assert (stat.ppid, stat.threads) == (other.ppid(), other.num_threads())
    assert text(stat.comm) == other.name()[:15]
    assert (stat.child_user, stat.child_system) == (0, 0)


def test_clock_against_stat(busy: subprocess.Popen[bytes]) -> None:
    machine = Machine()
    stat = read_stat(machine, busy.pid)
    (clock,) = machine.clocks([clock_id(busy.pid)])
    assert clock is not None
    ticks = (stat.user + stat.system) * machine.tick_ns
    assert ticks <= clock <= ticks + 2 * machine.tick_ns


def test_io_against_psutil(busy: subprocess.Popen[bytes]) -> None:
    other = psutil.Process(busy.pid).io_counters()
    read_chars, write_chars, reads, writes, read_bytes, write_bytes, _ = read_io(Machine(), busy.pid)
    assert (read_chars, write_chars, reads, writes) == (
        other.read_chars, other.write_chars, other.read_count, other.write_count,
    )  # fmt: skip
    assert (read_bytes, write_bytes) == (other.read_bytes, other.write_bytes)
    assert write_chars >= 100_000
    assert writes >= 1000


def test_status_against_psutil(busy: subprocess.Popen[bytes]) -> None:
    status = read_status(Machine(), busy.pid)
    other = psutil.Process(busy.pid)
    switches = other.num_ctx_switches()
    assert status.context_switches == switches.voluntary + switches.involuntary
    assert status.peak_rss_bytes is not None
    assert status.peak_rss_bytes >= other.memory_info().rss
    assert status.swap_bytes is not None


def test_pss_against_psutil(busy: subprocess.Popen[bytes]) -> None:
    pss = read_pss(Machine(), busy.pid)
    full = psutil.Process(busy.pid).memory_full_info()
    assert pss is not None
    assert pss == pytest.approx(full.pss, rel=0.02)  # who shares its libraries comes and goes
    assert full.uss <= 1.02 * pss
    assert pss <= full.rss


def test_run_delay_against_the_file(busy: subprocess.Popen[bytes]) -> None:
    delay = int(Path(f"/proc/{busy.pid}/schedstat").read_text().split()[1])
    assert read_run_delay(Machine(), busy.pid, 1) == read_run_delay(Machine(), busy.pid, 2) == {busy.pid: delay}


THREADED = """
import subprocess, sys, threading
def start():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    print(child.pid, flush=True)
    child.wait()
main = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
print(main.pid, flush=True)
thread = threading.Thread(target=start, daemon=True)
thread.start()
input()
main.kill()
"""


def test_children_of_every_thread() -> None:
    machine = Machine()
    with running([sys.executable, "-c", THREADED]) as parent:
        assert parent.stdout is not None
        of_main = int(parent.stdout.readline())
        of_thread = int(parent.stdout.readline())
        try:
            stat = read_stat(machine, parent.pid)
            assert stat.threads == 2 == psutil.Process(parent.pid).num_threads()
            threads = read_threads(machine, parent.pid)
            assert sorted(threads) == sorted(thread.id for thread in psutil.Process(parent.pid).threads())
            assert read_children(machine, parent.pid, 1) == [of_main]
            assert sorted(read_children(machine, parent.pid, stat.threads)) == sorted([of_main, of_thread])
            assert {child.pid for child in psutil.Process(parent.pid).children()} == {of_main, of_thread}
            assert read_run_delay(machine, parent.pid, 2).keys() == set(threads)
        finally:
            for pid in (of_main, of_thread):
                os.kill(pid, 9)


def test_more_children_than_one_read_gives() -> None:
    """A read of `children` ends at a page: 1,500 pids do not fit."""
    code = "import os, sys; [os.fork() or os._exit(0) for _ in range(1500)]; print(flush=True); input()"
    with running([sys.executable, "-c", code]) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        found = read_children(Machine(), parent.pid)
    assert len(found) == len(set(found)) == 1500


def test_zombie() -> None:
    machine = Machine()
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        wait_until(lambda: read_stat(machine, child.pid).state == b"Z")
        stat = read_stat(machine, child.pid)
        assert (stat.ppid, stat.rss, stat.threads) == (os.getpid(), 0, 1)
        assert stat.user + stat.system > 0 or (machine.clocks([clock_id(child.pid)])[0] or 0) > 0
        assert read_pss(machine, child.pid) is None
        status = read_status(machine, child.pid)
        assert (status.peak_rss_bytes, status.swap_bytes) == (None, None)
        assert status.context_switches is not None
        assert read_children(machine, child.pid) == []
        assert child.pid in read_children(machine, os.getpid(), 2)
        read_run_delay(machine, child.pid, 1)
    finally:
        child.wait()
    for reader in (read_stat, read_status, read_io, read_threads, read_children):
        with pytest.raises(Gone):
            reader(machine, child.pid)
    assert read_pss(machine, child.pid) is None


def test_state_x_is_gone(tmp_path: Path) -> None:
    """As the docstring says: its parent is just reaping it."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(b"7 (dead) X" + TAIL[2:])
    with pytest.raises(Gone):
        read_stat(Machine(str(tmp_path)), 7)


def test_own_io_shows_what_a_reaped_child_moved() -> None:
    own = OwnIo()
    before = own.read()
    if not before:
        pytest.skip("no /proc/self/io here")
    again = own.growth(before)
    assert again is not None
    assert again[0] == again[2] == 0, "its own reading is taken out"
    child = os.fork()
    if child == 0:
        with open("/dev/null", "wb", 0) as sink:
            for _ in range(50):
                sink.write(b"x" * 1000)
        os._exit(0)
    before = own.read()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    os.waitpid(child, 0)
    growth = own.growth(before)
    assert growth is not None
    assert (growth[1], growth[3]) == (50_000, 50)


def test_own_io_where_there_is_none(tmp_path: Path) -> None:
    own = OwnIo(str(tmp_path / "none"))
    assert own.read() == b""
    assert own.growth(b"") is None


# -- descriptors that are kept -----------------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def fakes(tmp_path: Path) -> Callable[[int], Machine]:
    """A root with so many processes, that of pid N started at tick N."""

    def make(count: int) -> Machine:
        for pid in range(1, count + 1):
            folder = tmp_path / str(pid)
            folder.mkdir()
            (folder / "stat").write_bytes(b"%d (x)" % pid + TAIL.replace(b" 577642 ", b" %d " % pid))
            (folder / "io").write_bytes(IO)
        return Machine(str(tmp_path))

    return make


def test_files_stay_within_their_limit(fakes: Callable[[int], Machine]) -> None:
    machine = fakes(10)
    for limit in (0, 1, 2, 7, 20, 100):
        files = Files(machine, limit)
        kept = {pid: Kept() for pid in range(1, 11)}
        before = open_descriptors()
        for tick in range(8):
            files.tick = tick
            for pid, entry in kept.items():
                assert files.stat(entry, pid).start == pid
                assert parse_io(files.io(entry, pid)) == parse_io(IO)
                assert open_descriptors() - before == files.open_count <= limit
        assert files.open_count == min(limit, 20)
        for entry in kept.values():
            files.close(entry)
            files.close(entry)
            assert (entry.stat_fd, entry.io_fd) == (-1, -1)
        assert files.open_count == 0
        assert open_descriptors() == before


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


@patient
@given(st.integers(0, 5), st.lists(st.tuples(st.sampled_from(["stat", "io", "close", "tick"]), st.integers(1, 6))))
def test_files_count_what_they_hold(limit: int, steps: list[tuple[str, int]]) -> None:
    """Any order of calls: never more than the limit, never a descriptor lost or counted twice."""
    own = os.getpid()
    files = Files(Machine(), limit)
    entries = {place: Kept() for place in range(1, 7)}
    before = open_descriptors()
    try:
        for step, place in steps:
            if step == "tick":
                files.tick += place
            elif step == "close":
                files.close(entries[place])
            elif step == "stat":
                assert files.stat(entries[place], own).ppid == os.getppid()
            else:
                assert parse_io(files.io(entries[place], own))
            held = [fd for entry in entries.values() for fd in (entry.stat_fd, entry.io_fd) if fd >= 0]
            assert len(held) == len(set(held)) == files.open_count <= limit
            assert open_descriptors() - before == files.open_count
    finally:
        for entry in entries.values():
            files.close(entry)
    assert open_descriptors() == before


EXHAUSTED = """
import os, resource
from proctally.kernel.machine import Machine
from proctally.kernel.proc import Files, Kept, parse_io, read_status
# others of this process take descriptors that the tracker thought were its own
files = Files(Machine(), 1000)
kept = [Kept() for _ in range(60)]
own = os.getpid()
soft = len(os.listdir("/proc/self/fd")) + 40
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
for tick in range(6):
    files.tick = tick
    for entry in kept:
        assert files.stat(entry, own).ppid == os.getppid()
        assert parse_io(files.io(entry, own))
        read_status(files.machine, own)
    held = [fd for entry in kept for fd in (entry.stat_fd, entry.io_fd) if fd >= 0]
    assert len(held) == len(set(held)) == files.open_count < 40, files.open_count
assert files.open_count > 0
print("fine")
"""


def test_exhausted_descriptors() -> None:
    done = subprocess.run([sys.executable, "-c", EXHAUSTED], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_ended_process_is_gone_for_kept_files() -> None:
    files, kept = Files(Machine(), 8), Kept()
    with running(["cat"]) as child:
        files.stat(kept, child.pid)
        files.io(kept, child.pid)
    assert min(kept.stat_fd, kept.io_fd) >= 0
    for _ in range(2):
        with pytest.raises(Gone):
            files.stat(kept, child.pid)
        with pytest.raises(Gone):
            files.io(kept, child.pid)
    files.close(kept)
    assert files.open_count == 0
    with pytest.raises(Gone):
        files.stat(Kept(), child.pid)
    assert files.open_count == 0


def fork_with_pid(pid: int) -> int | None:
    """A living child that has just this pid, or None if it cannot be had (kernel: ns_last_pid)."""
    for _ in range(100):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        except OSError:
            return None
        child = os.fork()
        if child == 0:
            os.execvp("sleep", ["sleep", "60"])
        if child == pid:
            return child
        os.kill(child, 9)
        os.waitpid(child, 0)
    return None


@pytest.mark.skipif(os.getuid() != 0, reason="it takes root to choose a pid")
def test_kept_files_never_answer_for_another_process_of_that_pid() -> None:
    machine = Machine()
    files, kept = Files(machine, 8), Kept()
    with running(["cat"]) as child:
        start = files.stat(kept, child.pid).start
        files.io(kept, child.pid)
        inode = os.stat(f"/proc/{child.pid}").st_ino
    time.sleep(0.02)  # a start of the next tick at the earliest
    again = fork_with_pid(child.pid)
    if again is None:
        pytest.skip("the kernel gave out no pid of choice")
    try:
        assert read_stat(machine, again).start != start
        assert os.stat(f"/proc/{again}").st_ino != inode
        with pytest.raises(Gone):
            files.stat(kept, child.pid)
        with pytest.raises(Gone):
            files.io(kept, child.pid)
        files.close(kept)
        assert files.stat(kept, child.pid).start != start
    finally:
        files.close(kept)
        os.kill(again, 9)
        os.waitpid(again, 0)
