"""One process: against psutil and ps, on every pid of this machine, and on odd and denied ones."""

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

import psutil
import pytest

import proctally
from hidden_proc import hidepid
from places import SUPPORT
from process_functions import FUNCTIONS
from proctally import process, processes
from proctally.gauges import Gauges
from proctally.linux import proc_details
from proctally.linux.machine import Machine, this_machine
from tracked import PYTHON, Puppet, User, state, until

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


def test_every_function_works_on_every_process_here() -> None:
    answered = dict.fromkeys(FUNCTIONS, 0)
    every = psutil.pids()
    for pid in [*every[:: 1 + len(every) // 1000], os.getpid()]:  # where there are thousands, of each kind some
        for name, function in FUNCTIONS.items():
            try:
                value = function(pid)
            except proctally.AccessDenied:
                assert name in DENIED, (name, pid)  # of init even to root, in some sandboxes
                continue
            except proctally.ProcessGone:
                assert state(pid) in "XZ", (name, pid)
                continue
            answered[name] += 1
            if isinstance(value, int | float):
                assert value >= 0, (name, pid)
    assert min(answered.values()) >= (2 if os.geteuid() == 0 else 1), answered


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nobody_is_gone(name: str) -> None:
    for pid in (1 << 30, (1 << 31) - 1, gone_pid()):
        with pytest.raises(proctally.ProcessGone) as caught:
            FUNCTIONS[name](pid)
        assert caught.value.strerror == f"process {pid} does not exist"
        with pytest.raises(ProcessLookupError):
            FUNCTIONS[name](pid, machine=Machine(clock_gettime_ns=None))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "liveness"])
def test_a_start_names_one_process(name: str, puppet: Puppet) -> None:
    start = process.liveness(puppet.job).start_ticks
    FUNCTIONS[name](puppet.job, start_ticks=start)
    with pytest.raises(
        proctally.ProcessGone, match=f"process {puppet.job} is another one: it started at tick {start}, not"
    ):
        FUNCTIONS[name](puppet.job, start_ticks=start + 1)
    with pytest.raises(proctally.ProcessGone):
        FUNCTIONS[name](puppet.job, start_ticks=start + 1, machine=Machine(clock_gettime_ns=None))


def test_the_id_of_a_thread_is_no_pid(puppet: Puppet) -> None:
    puppet.do("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()")
    [tid] = set(process.threads(puppet.job)) - {puppet.job}
    start = process.liveness(puppet.job).start_ticks
    if process.liveness(tid).start_ticks == start:
        pytest.skip("both began in one tick")
    for name, function in FUNCTIONS.items():
        if name != "liveness":
            with pytest.raises(proctally.ProcessGone):
                function(tid, start_ticks=start)
    many = (processes.snapshot, processes.snapshot_tree, processes.DeltaTracker, processes.CumulativeTracker)
    for alone in (process.cpu_time, process.all_stats, *many, Gauges, proctally.Tree):
        with pytest.raises(proctally.ProcessGone):
            alone(tid)  # type: ignore[operator]


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
    assert all_of_it.start_ticks == process.liveness(puppet.job).start_ticks
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
        assert proc_details.children_by_listing(Machine(), puppet.job) == sorted(pids)
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
    assert len(proc_details.parse_limits(text)) == 16
    with pytest.raises(ValueError, match="limits"):
        proc_details.parse_limits(text.replace(b"Max resident set", b"Max something   "))
    with pytest.raises(ValueError, match="limits"):
        proc_details.parse_limits(text.replace(b"unlimited", b"endless  "))


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


# -- ends ------------------------------------------------------------------------------------------------------------


def test_a_zombie_is_there_and_has_no_memory(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    child = subprocess.Popen([*PYTHON, "-c", burn])
    start = process.liveness(child.pid).start_ticks
    until(lambda: state(child.pid) == "Z", "it ends")
    pid = child.pid
    try:
        seen = process.liveness(pid, start_ticks=start)
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
            with pytest.raises(proctally.AccessDenied):
                process.disk_io(pid)
            assert stats.disk_io is None
    finally:
        child.wait()
    with pytest.raises(proctally.ProcessGone):
        process.liveness(pid)


def test_a_process_without_its_main_thread_is_alive() -> None:
    child = subprocess.Popen([*PYTHON, str(SUPPORT / "workloads.py"), "leader_exits", "100"], stdin=subprocess.DEVNULL)
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
    start = process.liveness(puppet.job).start_ticks
    assert process.liveness(puppet.job, start_ticks=start).is_same is True
    assert process.liveness(puppet.job, start_ticks=start - 1).is_same is False
    assert process.liveness(puppet.job).is_same is None
    puppet.exit(0)
    for function in FUNCTIONS.values():
        with pytest.raises(proctally.ProcessGone):
            function(puppet.job)


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


# -- who may not -----------------------------------------------------------------------------------------------------


ASK = """
import json, sys
import proctally
from proctally import process
said = {}
for name in process.__all__:
    if name[0].islower():
        try:
            value = getattr(process, name)(int(sys.argv[1]))
            said[name] = repr(value._asdict() if hasattr(value, "_asdict") else value)
        except proctally.ProcessGone:
            said[name] = "ProcessGone"
        except proctally.AccessDenied as error:
            said[name] = f"AccessDenied: {error}"
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
    denied = {name: value for name, value in said.items() if value.startswith("AccessDenied")}
    assert denied.keys() == DENIED
    for name, file in (("disk_io", "io"), ("executable", "exe"), ("open_files", "fd"), ("pss_bytes", "smaps_rollup")):
        assert denied[name] == f"AccessDenied: [Errno 13] Permission denied: '/proc/{puppet.job}/{file}'"
    assert "ProcessGone" not in said.values()
    assert int(said["cpu_time"]) > 0 and int(said["rss_bytes"]) > 1 << 20
    for missing in ("pss_bytes", "uss_bytes", "disk_io"):
        assert f"'{missing}': None" in said["all_stats"]
    assert "'swap_bytes': 0" in said["all_stats"]


@root_only
def test_what_a_user_may_of_his_own(user: User) -> None:
    with subprocess.Popen([*user.python, "-c", "input()"], stdin=subprocess.PIPE, preexec_fn=user.become) as child:
        said = ask_as(user, child.pid)
        assert not [value for value in said.values() if value.startswith(("ProcessGone", "AccessDenied"))], said
        child.kill()


@root_only
@pytest.mark.parametrize(("kind", "error"), [("1", "AccessDenied"), ("2", "ProcessGone")])
def test_where_processes_are_hidden(user: User, puppet: Puppet, kind: str, error: str) -> None:
    try:
        said = ask_as(user, puppet.job, hidepid(kind))
    except subprocess.SubprocessError:
        pytest.skip("a /proc with hidepid cannot be mounted here")
    assert int(said.pop("cpu_time")) > 0  # the clock is anybody's
    assert {value.partition(":")[0] for value in said.values()} == {error}


# -- the rest --------------------------------------------------------------------------------------------------------


def test_the_machine_is_found_anew_in_a_child() -> None:
    mine = this_machine()
    assert this_machine() is mine
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"new" if this_machine() is not mine else b"old")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 3) == b"new"
    os.close(read)
    os.close(write)
    assert this_machine() is mine


def test_importing_does_nothing_and_names_come_late() -> None:
    code = """
import sys
before = set(sys.modules)
import proctally
assert set(sys.modules) - before == {"proctally"}, set(sys.modules) - before
assert "process" in dir(proctally) and "ProcessGone" in dir(proctally)
assert proctally.process.cpu_time(1) > 0
for name in ("processes", "system", "gauges", "AccessDenied"):
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
        with pytest.raises(proctally.ProcessGone):
            function(1 << 30)
    assert os.listdir("/proc/self/fd") == before


def test_start_time_is_one_value() -> None:
    assert len({process.start_time(os.getpid()) for _ in range(50)}) == 1
    assert process.liveness(os.getpid()).started_at == process.start_time(os.getpid())
