"""Readers of `/proc/PID` against real processes and psutil."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proc_files import IO, fake_processes
from proctally.errors import AccessDenied, ProcessGone
from proctally.linux.machine import Machine, clock_id
from proctally.linux.proc import (
    Files,
    Kept,
    OwnIo,
    parse_io,
    read_children,
    read_run_delay,
    read_stat,
    read_status,
    read_threads,
    scan,
)
from proctally.linux.proc_memory import read_rollup
from proctally.text.escape import decode_name

NOBODY = 65534
patient = settings(deadline=None)


# -- stat --------------------------------------------------------------------------------------------------------


def test_a_real_process_with_a_hostile_name() -> None:
    """The whole way, through the kernel: prctl(PR_SET_NAME) takes any 15 bytes."""
    name = b"a) R 1 (b\n\xff"
    code = f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0); print(flush=True); input()"
    with running([sys.executable, "-c", code]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stat = read_stat(Machine(), child.pid)
        assert (stat.comm, stat.ppid) == (name, os.getpid())
        assert decode_name(stat.comm) == "a) R 1 (b\n\\xff"
        read_status(Machine(), child.pid)


# -- status ------------------------------------------------------------------------------------------------------


def test_a_real_process_that_ignores_sigchld() -> None:
    code = "import signal; signal.signal(signal.SIGCHLD, signal.{}); print(flush=True); input()"
    for action, ignored in (("SIG_IGN", True), ("SIG_DFL", False)):
        with running([sys.executable, "-c", code.format(action)]) as child:
            assert child.stdout is not None
            child.stdout.readline()
            assert read_status(Machine(), child.pid).ignores_child_signal is ignored


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
    "io": lambda machine, pid: parse_io(machine.read(f"{pid}/io")),
    "pss": read_rollup,
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
            except (ProcessGone, AccessDenied):
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
            with pytest.raises(AccessDenied):
                READERS["io"](Machine(), os.getppid())
            with pytest.raises(AccessDenied):
                read_rollup(Machine(), os.getppid())
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
    assert decode_name(stat.comm) == other.name()[:15]
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
    read_chars, write_chars, reads, writes, read_bytes, write_bytes, _ = READERS["io"](Machine(), busy.pid)
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
        assert read_rollup(machine, child.pid) is None
        status = read_status(machine, child.pid)
        assert (status.peak_rss_bytes, status.swap_bytes) == (None, None)
        assert status.context_switches is not None
        assert read_children(machine, child.pid) == []
        assert child.pid in read_children(machine, os.getpid(), 2)
        read_run_delay(machine, child.pid, 1)
    finally:
        child.wait()
    for reader in (read_stat, read_status, READERS["io"], read_threads, read_children):
        with pytest.raises(ProcessGone):
            reader(machine, child.pid)
    assert read_rollup(machine, child.pid) is None


def test_own_io_shows_what_a_reaped_child_moved() -> None:
    own = OwnIo(Machine())
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


# -- descriptors that are kept -----------------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def fakes(tmp_path: Path) -> Callable[[int], Machine]:
    return partial(fake_processes, tmp_path)


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
from proctally.linux.machine import Machine
from proctally.linux.proc import Files, Kept, parse_io, read_status
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
        with pytest.raises(ProcessGone):
            files.stat(kept, child.pid)
        with pytest.raises(ProcessGone):
            files.io(kept, child.pid)
    files.close(kept)
    assert files.open_count == 0
    with pytest.raises(ProcessGone):
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
        with pytest.raises(ProcessGone):
            files.stat(kept, child.pid)
        with pytest.raises(ProcessGone):
            files.io(kept, child.pid)
        files.close(kept)
        assert files.stat(kept, child.pid).start != start
    finally:
        files.close(kept)
        os.kill(again, 9)
        os.waitpid(again, 0)
