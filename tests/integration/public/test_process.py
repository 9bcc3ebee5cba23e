"""One process, one call: against psutil and ps, on every pid here, and on odd, dead, denied and reused ones."""

from __future__ import annotations

import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import proctally
from fakeroot import FakeHost
from proctally import process, processes
from proctally.gauges import Gauges
from proctally.kernel import details, terminals
from proctally.kernel.machine import Machine
from tracked import PYTHON, Puppet, User, state, until

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(process, name) for name in process.__all__ if name[0].islower() and name != "this_machine"
}
CONTRACT = frozenset(
    {"cpu_time", "cpu_time_with_children", "rss_bytes", "virtual_bytes", "pss_bytes", "uss_bytes", "swap_bytes"}
    | {"disk_io", "all_stats", "liveness", "children", "parent", "command_name", "executable", "command_line"}
    | {"environment", "terminal", "start_time", "threads", "open_files", "limits", "cgroup"}
)
TESTS = Path(__file__).parent
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look at the processes of somebody else")


@pytest.fixture
def puppet(tmp_path: Path) -> Iterator[Puppet]:
    """A Python process of its own that does what it is told."""
    with Puppet(tmp_path, tracker=[]) as somebody:
        yield somebody


def gone_pid() -> int:
    """The pid of a process that has ended and was reaped."""
    child = subprocess.Popen([*PYTHON, "-c", ""])
    child.wait()
    return child.pid


# -- all of them -----------------------------------------------------------------------------------------------------


def test_the_names_are_those_of_the_contract() -> None:
    assert FUNCTIONS.keys() >= CONTRACT


def test_every_function_works_on_every_process_here() -> None:
    answered = dict.fromkeys(FUNCTIONS, 0)
    every = psutil.pids()
    for pid in [*every[:: 1 + len(every) // 1000], os.getpid()]:  # where there are thousands, of each kind some
        for name, function in FUNCTIONS.items():
            try:
                value = function(pid)
            except process.Denied:
                assert name in DENIED, (name, pid)  # of init even to root, in some sandboxes
                continue
            except process.Gone:
                assert state(pid) in "XZ", (name, pid)
                continue
            answered[name] += 1
            if isinstance(value, int | float):
                assert value >= 0, (name, pid)
    assert min(answered.values()) >= (2 if os.geteuid() == 0 else 1), answered


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nobody_is_gone(name: str) -> None:
    for pid in (0, -1, -2, 1 << 30, 1 << 70, gone_pid()):
        with pytest.raises(proctally.Gone) as caught:
            FUNCTIONS[name](pid)
        assert str(caught.value) == f"process {pid} does not exist"
        with pytest.raises(LookupError):
            FUNCTIONS[name](pid, machine=Machine(clock_gettime_ns=None))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "liveness"])
def test_a_start_names_one_process(name: str, puppet: Puppet) -> None:
    start = process.liveness(puppet.job).start
    FUNCTIONS[name](puppet.job, start=start)
    with pytest.raises(proctally.Gone, match=f"process {puppet.job} is another one: it began at tick {start}, and not"):
        FUNCTIONS[name](puppet.job, start=start + 1)
    with pytest.raises(proctally.Gone):
        FUNCTIONS[name](puppet.job, start=start + 1, machine=Machine(clock_gettime_ns=None))


def test_the_id_of_a_thread_is_no_pid(puppet: Puppet) -> None:
    puppet.do("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()")
    [tid] = set(process.threads(puppet.job)) - {puppet.job}
    start = process.liveness(puppet.job).start
    if process.liveness(tid).start == start:
        pytest.skip("both began in one tick")
    for name, function in FUNCTIONS.items():
        if name != "liveness":
            with pytest.raises(proctally.Gone):
                function(tid, start=start)
    many = (processes.snapshot, processes.snapshot_tree, processes.DeltaTracker, processes.CumulativeTracker)
    for alone in (process.cpu_time, process.all_stats, *many, Gauges, proctally.Tree):
        with pytest.raises(proctally.Gone):
            alone(tid)  # type: ignore[operator]


def test_errors_are_typed_and_one() -> None:
    assert proctally.Gone is process.Gone and issubclass(process.Gone, LookupError)
    assert proctally.Denied is process.Denied and issubclass(process.Denied, PermissionError)


class CountingMachine(Machine):
    """This host, and what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def read(self, path: str, *, to_end: bool = False) -> bytes:
        self.paths.append(path.partition("/")[2])
        return super().read(path, to_end=to_end)

    def open(self, path: str) -> int:
        self.paths.append(path.partition("/")[2])
        return super().open(path)


FILES = {
    "cpu_time": [],
    "cpu_time_with_children": ["stat"],
    "cpu_split": ["stat"],
    "rss_bytes": ["statm"],
    "virtual_bytes": ["statm"],
    "pss_bytes": ["smaps_rollup"],
    "uss_bytes": ["smaps_rollup"],
    "swap_bytes": ["status"],
    "disk_io": ["io"],
    "all_stats": ["stat", "io", "smaps_rollup", "status"],
    "liveness": ["stat"],
    "parent": ["stat"],
    "command_name": ["comm"],
    "executable": [],
    "command_line": ["cmdline"],
    "environment": ["environ"],
    "terminal": ["stat"],
    "start_time": ["stat"],
    "threads": [],
    "open_files": [],
    "limits": ["limits"],
    "cgroup": ["cgroup"],
}


@pytest.mark.parametrize("name", FILES)
def test_no_more_files_are_read_than_it_takes(name: str, puppet: Puppet) -> None:
    machine = CountingMachine()
    FUNCTIONS[name](puppet.job, machine=machine)
    assert machine.paths == FILES[name]


# -- a second truth --------------------------------------------------------------------------------------------------


def test_cpu_time_is_that_of_psutil_and_grows_with_it(puppet: Puppet) -> None:
    other = psutil.Process(puppet.job)
    for _ in range(3):
        puppet.do("end = time.process_time() + 0.15")
        puppet.do("while time.process_time() < end: pass")
        times = other.cpu_times()
        used = process.cpu_time(puppet.job)
        split = process.cpu_split(puppet.job)
        assert used / 1e9 == pytest.approx(times.user + times.system, abs=0.04)
        assert (split.user_ns / 1e9, split.system_ns / 1e9) == pytest.approx((times.user, times.system), abs=0.001)
        assert used % 10_000_000  # nanoseconds, not ticks
        by_stat = process.cpu_time(puppet.job, machine=Machine(clock_gettime_ns=None))
        assert by_stat % 10_000_000 == 0 and by_stat == split.user_ns + split.system_ns
    assert used >= 450_000_000
    assert used / 1e9 == pytest.approx(float(puppet.ask("time.process_time()")), abs=0.02)


def test_cpu_time_with_children_has_those_that_were_waited_for(puppet: Puppet) -> None:
    before = process.cpu_time_with_children(puppet.job)
    own = process.cpu_time(puppet.job)
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    puppet.do(f"import subprocess; child = subprocess.Popen([sys.executable, '-S', '-E', '-c', {burn!r}])")
    time.sleep(0.1)
    unreaped = process.cpu_time_with_children(puppet.job)
    assert unreaped - before < 100_000_000  # it has not been waited for
    puppet.do("child.wait()")
    after = process.cpu_time_with_children(puppet.job)
    assert after - before >= 280_000_000
    assert process.cpu_time(puppet.job) - own < 150_000_000
    times = psutil.Process(puppet.job).cpu_times()
    assert after / 1e9 == pytest.approx(sum(times[:4]), abs=0.04)
    split = process.cpu_split(puppet.job)
    assert (split.children_user_ns / 1e9, split.children_system_ns / 1e9) == pytest.approx(
        (times.children_user, times.children_system), abs=0.001
    )


def test_memory_is_that_of_psutil(puppet: Puppet) -> None:
    before = process.rss_bytes(puppet.job)
    puppet.do("memory = bytearray(30_000_000); memory[::4096] = b'x' * len(memory[::4096])")
    pid = puppet.job
    truth = psutil.Process(pid).memory_full_info()
    near = 1 << 20  # the kernel's counters of a process lag by some pages for each CPU
    assert process.rss_bytes(pid) == pytest.approx(truth.rss, abs=near)
    assert process.virtual_bytes(pid) == truth.vms
    assert process.pss_bytes(pid) == pytest.approx(truth.pss, abs=near)
    assert process.uss_bytes(pid) == pytest.approx(truth.uss, abs=near)
    assert process.swap_bytes(pid) == truth.swap
    assert process.rss_bytes(pid) - before == pytest.approx(30_000_000, rel=0.1)
    puppet.do("del memory")
    assert process.rss_bytes(pid) == pytest.approx(before, abs=4 * near)


def test_io_is_that_of_psutil(puppet: Puppet, tmp_path: Path) -> None:
    before = process.disk_io(puppet.job)
    puppet.do(f"fd = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY)")
    puppet.do("os.write(fd, bytes(300_000)); os.fsync(fd); os.close(fd)")
    after, truth = process.disk_io(puppet.job), psutil.Process(puppet.job).io_counters()
    assert 300_000 <= after.write_chars - before.write_chars < 310_000
    assert after.read_bytes == truth.read_bytes and after.write_bytes == truth.write_bytes
    assert (after.write_chars, after.write_syscalls) == (truth.write_chars, truth.write_count)
    assert after.read_chars == pytest.approx(truth.read_chars, abs=100)
    assert after.read_syscalls == pytest.approx(truth.read_count, abs=2)
    if after.write_bytes == before.write_bytes:
        pytest.skip("the folder for temporary files is in memory: nothing is written to storage")
    assert after.write_bytes - before.write_bytes >= 300_000


def test_all_at_once_are_what_each_says(puppet: Puppet) -> None:
    puppet.do("pass")
    all_of_it = process.all_stats(puppet.job)
    assert all_of_it.pid == puppet.job
    assert all_of_it.start == process.liveness(puppet.job).start
    assert all_of_it.cpu_ns == process.cpu_time(puppet.job)
    assert process.CpuSplit(*all_of_it[3:7]) == process.cpu_split(puppet.job)
    assert all_of_it.rss_bytes == pytest.approx(process.rss_bytes(puppet.job), abs=1 << 20)
    assert all_of_it.virtual_bytes == process.virtual_bytes(puppet.job)
    assert all_of_it.pss_bytes == process.pss_bytes(puppet.job)
    assert all_of_it.uss_bytes == process.uss_bytes(puppet.job)
    assert all_of_it.swap_bytes == process.swap_bytes(puppet.job)
    assert all_of_it.disk_io == process.disk_io(puppet.job)
    assert all_of_it.threads == 1


def test_who_it_is_as_psutil_says(puppet: Puppet) -> None:
    pid, truth = puppet.job, psutil.Process(puppet.job)
    assert process.parent(pid) == os.getpid() == truth.ppid()
    assert process.command_name(pid) == truth.name()
    assert process.executable(pid) == truth.exe() == os.path.realpath(sys.executable)
    assert process.command_line(pid) == truth.cmdline()
    assert process.environment(pid) == truth.environ()
    assert process.start_time(pid) == pytest.approx(truth.create_time(), abs=1.1)  # which counts from a whole second
    assert process.liveness(pid).state in "SR"
    assert process.liveness(pid).parent == os.getpid()
    assert process.liveness(pid).started_at == pytest.approx(process.start_time(pid), abs=0.01)


def test_the_start_lies_between_before_and_after() -> None:
    before = time.time()
    with subprocess.Popen(["sleep", "100"]) as child:
        after = time.time()
        assert before - 0.02 < process.start_time(child.pid) < after + 0.01
        assert before - 0.02 < process.liveness(child.pid).started_at < after + 0.01
        child.kill()


def test_threads_are_listed(puppet: Puppet) -> None:
    puppet.do("import threading; stop = threading.Event()")
    puppet.do("for _ in range(3): threading.Thread(target=stop.wait, daemon=True).start()")
    found = process.threads(puppet.job)
    assert found == sorted(thread.id for thread in psutil.Process(puppet.job).threads())
    assert len(found) == 4 and puppet.job in found
    assert process.all_stats(puppet.job).threads == 4
    puppet.do("stop.set()")
    until(lambda: process.threads(puppet.job) == [puppet.job], "the threads end")


def test_open_files_are_listed(puppet: Puppet, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/odd \xff name")
    before = process.open_files(puppet.job)
    assert len(before) == psutil.Process(puppet.job).num_fds()
    puppet.do(f"fd = os.open({path!r}, os.O_CREAT | os.O_WRONLY)")
    fd = int(puppet.ask("fd"))
    assert process.open_files(puppet.job) == {**before, fd: path}
    puppet.do("os.close(fd)")
    assert process.open_files(puppet.job) == before


def test_children_of_every_thread_are_found(puppet: Puppet) -> None:
    assert process.children(puppet.job) == []
    puppet.do("import subprocess, threading")
    puppet.do("one = subprocess.Popen(['sleep', '100'])")
    puppet.do("def more(): global two; two = subprocess.Popen(['sleep', '100']); forked.set(); stop.wait()")
    puppet.do("stop, forked = threading.Event(), threading.Event()")
    puppet.do("threading.Thread(target=more).start(); forked.wait()")
    pids = [int(puppet.ask("one.pid")), int(puppet.ask("two.pid"))]
    try:
        assert sorted(process.children(puppet.job)) == sorted(pids)
        assert Path(f"/proc/{puppet.job}/task/{puppet.job}/children").read_text().split() == [str(pids[0])]
        assert details.children_by_listing(Machine(), puppet.job) == sorted(pids)
        assert sorted(child.pid for child in psutil.Process(puppet.job).children()) == sorted(pids)
    finally:
        puppet.do("one.kill(); two.kill(); one.wait(); two.wait(); stop.set()")
    assert process.children(puppet.job) == []


def test_limits_are_those_of_getrlimit(puppet: Puppet) -> None:
    pid = puppet.job
    resource.prlimit(pid, resource.RLIMIT_RSS, (123 << 20, resource.RLIM_INFINITY))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (77, 99))
    found = process.limits(pid)
    assert found.rss_bytes == process.Limit(123 << 20, None)
    assert found.open_files == process.Limit(77, 99)
    names = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
    numbers = {"LOCKS": 10}  # RLIMIT_LOCKS, asm-generic/resource.h
    for name, limit in zip(names.split(), found, strict=True):
        number = numbers.get(name) or getattr(resource, f"RLIMIT_{name}")
        truth = resource.prlimit(pid, number)
        assert tuple(limit) == tuple(None if value == resource.RLIM_INFINITY else value for value in truth), name


def test_a_limit_that_is_missing_is_told() -> None:
    text = Path("/proc/self/limits").read_bytes()
    assert len(details.parse_limits(text)) == 16
    with pytest.raises(ValueError, match="limits"):
        details.parse_limits(text.replace(b"Max resident set", b"Max something   "))
    with pytest.raises(ValueError, match="limits"):
        details.parse_limits(text.replace(b"unlimited", b"endless  "))


def test_the_cgroup_is_that_of_the_kernel(puppet: Puppet) -> None:
    found = process.cgroup(puppet.job)
    lines = Path(f"/proc/{puppet.job}/cgroup").read_text().splitlines()
    for line in lines:
        number, names, path = line.split(":", 2)
        if number == "0":
            assert found.path == path
        for name in filter(None, names.split(",")):
            assert found.controllers[name] == path
    assert len(found.controllers) + (found.path is not None) >= len(lines) >= 1


# -- a terminal ------------------------------------------------------------------------------------------------------


def test_a_terminal_by_name() -> None:
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "100"])
    try:
        until(lambda: process.command_name(pid) == "sleep", "exec")
        said = subprocess.run(["ps", "-o", "tty=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
        assert process.terminal(pid) == f"/dev/{said}"
        assert process.terminal(pid).startswith("/dev/pts/")  # type: ignore[union-attr]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)


def test_no_terminal_is_none(tmp_path: Path) -> None:
    with Puppet(tmp_path, tracker=[], start_new_session=True) as somebody:
        assert process.terminal(somebody.job) is None


DRIVERS = b"""\
/dev/tty             /dev/tty        5       0 system:/dev/tty
/dev/console         /dev/console    5       1 system:console
/dev/ptmx            /dev/ptmx       5       2 system
/dev/vc/0            /dev/vc/0       4       0 system:vtmaster
serial               /dev/ttyS       4 64-95 serial
hvc                  /dev/hvc      229 0-7 system
one                  /dev/ttyX      99       3 serial
pty_slave            /dev/pts      136 0-1048575 pty:slave
pty_master           /dev/ptm      128 0-1048575 pty:master
unknown              /dev/tty        4 1-63 console
"""


@pytest.mark.parametrize(
    ("major", "minor", "name"),
    [(4, 1, "/dev/tty1"), (4, 63, "/dev/tty63"), (4, 64, "/dev/ttyS0"), (4, 66, "/dev/ttyS2")]
    + [(99, 3, "/dev/ttyX0"), (5, 1, "/dev/console"), (4, 96, None), (7, 0, None)],
)
def test_a_terminal_by_its_driver(major: int, minor: int, name: str | None) -> None:
    assert terminals.name_by_drivers(DRIVERS, major, minor) == name


def test_numbers_of_terminals(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path / "proc"), sys=str(tmp_path / "sys"))
    (tmp_path / "proc/tty").mkdir(parents=True)
    assert terminals.terminal_name(machine, 0) is None
    assert terminals.terminal_name(machine, (136 << 8) | 5) == "/dev/pts/5"
    assert terminals.terminal_name(machine, (136 << 8) | 0x2C | (0x101 << 20)) == f"/dev/pts/{0x1012C}"
    assert terminals.terminal_name(machine, (137 << 8) | 1) == "/dev/pts/257"
    assert terminals.terminal_name(machine, (4 << 8) | 65) == "4:65"  # nobody knows its name
    (tmp_path / "proc/tty/drivers").write_bytes(DRIVERS)
    assert terminals.terminal_name(machine, (4 << 8) | 65) == "/dev/ttyS1"
    folder = tmp_path / "sys/dev/char/4:65"
    folder.mkdir(parents=True)
    (folder / "uevent").write_text("MAJOR=4\nMINOR=65\nDEVNAME=tty/S1\n")
    assert terminals.terminal_name(machine, (4 << 8) | 65) == "/dev/tty/S1"


# -- ends ------------------------------------------------------------------------------------------------------------


def test_a_zombie_is_there_and_has_no_memory(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    child = subprocess.Popen([*PYTHON, "-c", burn])
    start = process.liveness(child.pid).start
    until(lambda: state(child.pid) == "Z", "it ends")
    pid = child.pid
    try:
        seen = process.liveness(pid, start=start)
        assert (seen.state, seen.parent, seen.is_same) == ("Z", os.getpid(), True)
        assert process.cpu_time(pid) >= 100_000_000
        assert [process.rss_bytes(pid), process.virtual_bytes(pid), process.swap_bytes(pid)] == [0, 0, 0]
        assert process.executable(pid) is None
        assert process.command_line(pid) == [] and process.command_name(pid)
        assert process.children(pid) == []
        stats = process.all_stats(pid)
        assert (stats.rss_bytes, stats.pss_bytes, stats.uss_bytes, stats.swap_bytes) == (0, 0, 0, 0)
        assert process.pss_bytes(pid) == process.uss_bytes(pid) == 0
        assert process.environment(pid) == {} and process.open_files(pid) == {}
        if os.geteuid() != 0:  # what a zombie used for I/O is told to root alone
            with pytest.raises(proctally.Denied):
                process.disk_io(pid)
            assert stats.disk_io is None
    finally:
        child.wait()
    with pytest.raises(proctally.Gone):
        process.liveness(pid)


def test_a_process_without_its_main_thread_is_alive() -> None:
    child = subprocess.Popen([*PYTHON, str(TESTS / "workloads.py"), "leader_exits", "100"], stdin=subprocess.DEVNULL)
    pid = child.pid
    try:
        until(lambda: state(pid) == "Z", "the main thread ends")
        assert process.liveness(pid).state == "Z"
        assert len(process.threads(pid)) == 2
        assert process.rss_bytes(pid) > 1 << 20
        assert process.virtual_bytes(pid) > 1 << 20
        assert (process.pss_bytes(pid) or 0) > 1 << 20 and (process.uss_bytes(pid) or 0) > 1 << 20
        assert process.swap_bytes(pid) is not None
        assert process.executable(pid) == os.path.realpath(sys.executable)
        assert "leader_exits" in process.command_line(pid)
        assert process.environment(pid)["PATH"] == os.environ["PATH"]
        assert 0 in process.open_files(pid)
        stats = process.all_stats(pid)
        assert stats.rss_bytes > 1 << 20 and stats.virtual_bytes > 1 << 20 and stats.threads == 2
        before = process.cpu_time(pid)
        until(lambda: process.cpu_time(pid) > before + 50_000_000, "its other thread is busy")
    finally:
        child.kill()
        child.wait()


def test_the_end_of_a_process_between_two_calls(puppet: Puppet) -> None:
    start = process.liveness(puppet.job).start
    assert process.liveness(puppet.job, start=start).is_same is True
    assert process.liveness(puppet.job, start=start - 1).is_same is False
    assert process.liveness(puppet.job).is_same is None
    puppet.exit(0)
    for function in FUNCTIONS.values():
        with pytest.raises(proctally.Gone):
            function(puppet.job)


def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1, pages=5)
    host.run(100, user=0.25, pages=5)
    machine = host.machine()
    start = process.liveness(100, machine=machine).start
    assert process.cpu_time(100, start=start, machine=machine) == pytest.approx(250_000_000, abs=1000)
    host.end(100)
    with pytest.raises(proctally.Gone):
        process.cpu_time(100, start=start, machine=machine)
    host.spawn(100, 1, pages=7)
    assert process.liveness(100, start=start, machine=machine).is_same is False
    for function in (process.cpu_time, process.cpu_time_with_children, process.all_stats, process.parent):
        function(100, machine=machine)
        with pytest.raises(proctally.Gone):
            function(100, start=start, machine=machine)


@pytest.mark.parametrize("moment", ["100/clock", "100/io", "100/status"])
def test_readings_of_two_processes_are_never_put_together(tmp_path: Path, moment: str) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1)
    host.run(100, user=0.25, pages=5)

    def reuse() -> None:
        host.end(100)
        host.spawn(100, 1)

    host.once(moment, reuse)
    with pytest.raises(proctally.Gone):
        process.all_stats(100, machine=host.machine())
    assert process.all_stats(100, machine=host.machine()).cpu_ns < 1000  # the new one
    host.run(100, user=0.5)
    host.once("100/clock", reuse)
    with pytest.raises(proctally.Gone):
        process.cpu_time_with_children(100, machine=host.machine())


def test_a_process_that_is_just_being_reaped_is_gone(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1)
    host.exit(100)
    host.set_state(1, "S")
    assert process.liveness(100, machine=host.machine()).state == "Z"
    host.processes[100].state = "X"
    host._write(host.processes[100])
    for function in (process.liveness, process.parent, process.cpu_time_with_children, process.all_stats):
        with pytest.raises(proctally.Gone):
            function(100, machine=host.machine())


def test_children_without_children_files(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, children_files=False)
    host.spawn(100, 1)
    host.spawn(101, 100)
    host.spawn(102, 100)
    host.spawn(103, 101)
    assert sorted(process.children(100, machine=host.machine())) == [101, 102]
    assert process.children(103, machine=host.machine()) == []


# -- odd ones --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b") R 1 (", b"a\nb c", b"\xff\xfe(x", b"\xe2\x82\xac)", b" "])
def test_odd_names(puppet: Puppet, name: bytes) -> None:
    puppet.do(f"open('/proc/self/comm', 'wb').write({name!r})")
    assert process.command_name(puppet.job) == name.decode("utf-8", "backslashreplace")
    assert process.parent(puppet.job) == os.getpid()
    assert process.liveness(puppet.job).state in "RS"
    assert process.all_stats(puppet.job).threads == 1


def test_odd_arguments_and_variables() -> None:
    arguments = [b"odd", b"-S", b"-c", b"import time; time.sleep(100)", b"", b"new\nline", b"\xff"]
    environment = {b"A": b"1\n2", b"\xfe": b"\xff=", b"EMPTY": b""}
    pid = os.fork()
    if pid == 0:
        os.execve(sys.executable, arguments, environment)
    try:
        until(lambda: process.command_line(pid)[:1] == ["odd"], "exec")
        assert list(map(os.fsencode, process.command_line(pid))) == arguments
        assert {os.fsencode(key): os.fsencode(value) for key, value in process.environment(pid).items()} == environment
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_parsers_of_arguments_and_variables() -> None:
    assert details.parse_arguments(b"") == []
    assert details.parse_arguments(b"a\0\0b\0") == ["a", "", "b"]
    assert details.parse_arguments(b"nginx: worker process") == ["nginx: worker process"]
    assert details.parse_environment(b"A=1\0B=2=3\0no\0A=4\0=x\0") == {"A": "1", "B": "2=3", "": "x"}


def test_the_executable_of_a_deleted_program(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    for name, is_removed in (("plain", True), ("really (deleted)", False), ("really (deleted)", True)):
        program = tmp_path / name
        shutil.copy(os.path.realpath(sleep), program)
        with subprocess.Popen([program, "100"]) as child:
            until(lambda child=child, program=program: process.executable(child.pid) == str(program), "exec")
            if is_removed:
                program.unlink()
                assert os.readlink(f"/proc/{child.pid}/exe") == f"{program} (deleted)"
            assert process.executable(child.pid) == str(program)
            program.write_text("another one in its place") if is_removed else None
            assert process.executable(child.pid) == str(program)
            child.kill()


def test_a_kernel_thread_has_no_memory_and_no_program() -> None:
    if not Path("/proc/2/comm").exists() or process.parent(2) != 0:
        pytest.skip("no kernel threads in sight")
    assert process.command_name(2) == "kthreadd"
    assert process.command_line(2) == []
    assert process.rss_bytes(2) == process.virtual_bytes(2) == process.swap_bytes(2) == 0
    assert process.terminal(2) is None
    assert process.limits(2)
    if os.geteuid() == 0:
        assert process.executable(2) is None and process.environment(2) == {}
        assert process.pss_bytes(2) == process.uss_bytes(2) == 0
        assert process.all_stats(2).pss_bytes == 0


def test_unknown_is_none_where_a_kernel_lacks_smaps_rollup(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    process_ = host.spawn(100, 1)
    (process_.folder / "statm").write_bytes(b"10 5 0 0 0 0 0\n")
    (process_.folder / "smaps_rollup").unlink()
    assert process.pss_bytes(100, machine=host.machine()) is None
    assert process.rss_bytes(100, machine=host.machine()) == 5 * 4096


def test_what_is_shared_and_what_is_its_own(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    lines = "Rss: 9 kB\nPss: 7 kB\nPss_Dirty: 6 kB\nShared_Clean: 64 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n"
    (host.spawn(100, 1).folder / "smaps_rollup").write_text(lines + "Private_Hugetlb: 4 kB\nSwap: 128 kB\n")
    machine = host.machine()
    assert (process.pss_bytes(100, machine=machine), process.uss_bytes(100, machine=machine)) == (7 << 10, 7 << 10)
    (host.processes[100].folder / "smaps_rollup").write_text(lines)
    assert (process.pss_bytes(100, machine=machine), process.uss_bytes(100, machine=machine)) == (7 << 10, 3 << 10)


def test_an_exec_in_between_does_not_make_memory_vanish(tmp_path: Path) -> None:
    """The address space that was opened is gone (ESRCH), and there is another."""
    host = FakeHost(tmp_path)
    host.spawn(100, 1, pages=3)

    def replaced() -> None:
        raise proctally.Gone(3, "No such process")

    host.once("100/smaps_rollup", replaced)
    assert process.pss_bytes(100, machine=host.machine()) == 3 * 4096


def test_memory_of_another_users_process_without_its_main_thread_is_denied(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1, threads=2, pages=3)
    host.end_leader(100)
    host.deny("100/smaps_rollup")
    assert process.pss_bytes(100, machine=host.machine()) == 3 * 4096
    host.deny("100/task/10001/smaps_rollup")
    with pytest.raises(proctally.Denied):
        process.pss_bytes(100, machine=host.machine())


def test_broken_files_are_told() -> None:
    for parse, data in (
        (details.parse_statm, b"1 x"),
        (details.parse_statm, b""),
        (lambda data: details.parse_smaps(data, b"Pss"), b"Pss: many kB"),
    ):
        with pytest.raises(ValueError):
            parse(data)
    assert details.parse_smaps(b"Pss:  3 kB\nPss_Anon: 1 kB\nPrivate_Clean: 2 kB\n", b"Pss") == 3072
    assert details.parse_smaps(b"Rss: 3 kB\n", b"Pss") is None


# -- who may not -----------------------------------------------------------------------------------------------------

ASK = """
import json, sys
from proctally import process
said = {}
for name in process.__all__:
    if name[0].islower() and name != "this_machine":
        try:
            said[name] = repr(getattr(process, name)(int(sys.argv[1])))
        except process.Gone:
            said[name] = "Gone"
        except process.Denied as error:
            said[name] = f"Denied: {error}"
print(json.dumps(said))
"""
DENIED = {"disk_io", "environment", "executable", "open_files", "pss_bytes", "uss_bytes"}


def ask_as(user: User, pid: int, before: Callable[[], None] | None = None) -> dict[str, str]:
    import json

    def prepare() -> None:
        if before is not None:
            before()
        user.become()

    done = subprocess.run(
        [user.python[0], "-S", "-c", ASK, str(pid)],
        preexec_fn=prepare, env=user.environment, cwd=user.folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@root_only
def test_what_a_user_may_not_read_is_denied_and_the_rest_is_there(user: User, puppet: Puppet) -> None:
    said = ask_as(user, puppet.job)
    denied = {name: value for name, value in said.items() if value.startswith("Denied")}
    assert denied.keys() == DENIED
    for name, file in (("disk_io", "io"), ("executable", "exe"), ("open_files", "fd"), ("pss_bytes", "smaps_rollup")):
        assert denied[name] == f"Denied: [Errno 13] Permission denied: '/proc/{puppet.job}/{file}'"
    assert "Gone" not in said.values()
    assert int(said["cpu_time"]) > 0 and int(said["rss_bytes"]) > 1 << 20
    for missing in ("pss_bytes=None", "uss_bytes=None", "disk_io=None"):
        assert missing in said["all_stats"]
    assert "swap_bytes=0" in said["all_stats"]


@root_only
def test_what_a_user_may_of_his_own(user: User) -> None:
    with subprocess.Popen([*user.python, "-c", "input()"], stdin=subprocess.PIPE, preexec_fn=user.become) as child:
        said = ask_as(user, child.pid)
        assert not [value for value in said.values() if value.startswith(("Gone", "Denied"))], said
        child.kill()


def _hidepid(kind: str) -> Callable[[], None]:
    """In a mount namespace of its own, a `/proc` that hides the processes of others."""

    def prepare() -> None:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        new_namespace, private, recursive = 0x20000, 1 << 18, 1 << 14
        if (
            library.unshare(new_namespace)
            or library.mount(b"none", b"/", None, private | recursive, None)
            or library.mount(b"proc", b"/proc", b"proc", 0, f"hidepid={kind}".encode())
        ):
            raise OSError(ctypes.get_errno(), "no such /proc can be mounted here")

    return prepare


@root_only
@pytest.mark.parametrize(("kind", "error"), [("1", "Denied"), ("2", "Gone")])
def test_where_processes_are_hidden(user: User, puppet: Puppet, kind: str, error: str) -> None:
    try:
        said = ask_as(user, puppet.job, _hidepid(kind))
    except subprocess.SubprocessError:
        pytest.skip("a /proc with hidepid cannot be mounted here")
    assert int(said.pop("cpu_time")) > 0  # the clock is anybody's
    assert {value.partition(":")[0] for value in said.values()} == {error}


# -- the rest --------------------------------------------------------------------------------------------------------


def test_the_machine_is_found_anew_in_a_child() -> None:
    mine = process.this_machine()
    assert process.this_machine() is mine
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"new" if process.this_machine() is not mine else b"old")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 3) == b"new"
    os.close(read)
    os.close(write)
    assert process.this_machine() is mine


def test_importing_does_nothing_and_names_come_late() -> None:
    code = """
import sys
before = set(sys.modules)
import proctally
assert set(sys.modules) - before == {"proctally"}, set(sys.modules) - before
assert "process" in dir(proctally) and "Gone" in dir(proctally)
assert proctally.process.cpu_time(1) > 0
assert proctally.Gone is proctally.process.Gone
for name in ("processes", "system", "gauges", "Denied"):
    getattr(proctally, name)
try:
    proctally.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise SystemExit(1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_descriptor_is_left_open(puppet: Puppet) -> None:
    for function in FUNCTIONS.values():
        function(puppet.job)
    before = os.listdir("/proc/self/fd")
    for function in FUNCTIONS.values():
        function(puppet.job)
        with pytest.raises(proctally.Gone):
            function(1 << 30)
    assert os.listdir("/proc/self/fd") == before
