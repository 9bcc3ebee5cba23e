"""Gauges of a tree: every clause of what they promise, on real processes and on a fake host."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import proctally
from captured import put
from fakeroot import INIT, NO_PID, PAGE, FakeHost
from proctally import gauges, process
from proctally.gauges import Gauges, ProcessGauges, Series
from proctally.sampler import Sampler
from tracked import Puppet, User, state, until

PYTHON_EXE = os.path.basename(os.path.realpath(sys.executable))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def puppet(tmp_path: Path) -> Iterator[Puppet]:
    with Puppet(tmp_path, tracker=[]) as somebody:
        yield somebody


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A fake host of four CPUs, with one process, 100, that executes /bin/job."""
    monkeypatch.setattr(gauges, "_affinity", lambda pid: {0, 1, 2, 3})
    host = FakeHost(tmp_path)
    host.spawn(100, INIT, comm=b"job", pages=10)
    executes(host, 100, "/bin/job")
    return host


def executes(host: FakeHost, pid: int, path: str) -> None:
    link = host.processes[pid].folder / "exe"
    link.unlink(missing_ok=True)
    link.symlink_to(path)


def burn(puppet: Puppet, seconds: float) -> None:
    puppet.do(f"end = time.process_time() + {seconds}")
    puppet.do("while time.process_time() < end: pass")


def only(sample: gauges.TreeGauges) -> ProcessGauges:
    (found,) = sample.processes.values()
    return found


# -- real processes --------------------------------------------------------------------------------------------------


def test_levels_are_those_of_psutil(puppet: Puppet) -> None:
    with Gauges(puppet.job) as tree:
        for _ in range(2):
            puppet.do("import threading; stop = threading.Event(); threads = [threading.Thread(target=stop.wait)]")
            puppet.do("threads[0].start(); memory = bytearray(20_000_000)")
            sample, truth = tree.sample(), psutil.Process(puppet.job)
            assert list(sample.processes) == [(puppet.job, PYTHON_EXE)]
            found = only(sample)
            assert found.rss_bytes == pytest.approx(truth.memory_info().rss, abs=1 << 20)
            assert found.virtual_bytes == truth.memory_info().vms
            assert found.threads == truth.num_threads() == 2
            assert sample.process_count == 1 and sample.rss_bytes == found.rss_bytes
            puppet.do("stop.set(); threads[0].join()")


def test_the_first_value_is_the_average_since_the_start_and_the_next_since_the_last(puppet: Puppet) -> None:
    asked, tick = 0.005, 0.01  # what answers take, and what is cut off
    burn(puppet, 0.2)
    time.sleep(0.1)
    with Gauges(puppet.job) as tree:
        used, before = float(puppet.ask("time.process_time()")), time.time()
        first = only(tree.sample())
        after, start = time.time(), process.start_time(puppet.job)
        age = before - start
        assert 100 * used / (after - start + tick) <= first.cpu_percent <= 100 * (used + asked) / (age - tick) < 90
        halves = first.user_cpu_percent + first.kernel_cpu_percent
        assert halves == pytest.approx(first.cpu_percent, abs=100 * 3 * tick / age)
        for _ in range(2):
            since = before, after
            spent = -float(puppet.ask("time.process_time()"))
            burn(puppet, 0.1)
            time.sleep(0.05)
            spent += float(puppet.ask("time.process_time()"))
            before, found, after = time.time(), only(tree.sample()), time.time()
            least, most = 100 * spent / (after - since[0]), 100 * (spent + asked) / (before - since[1])
            assert least <= found.cpu_percent <= most
        time.sleep(0.1)
        assert only(tree.sample()).cpu_percent < 5


def test_children_that_were_waited_for_are_no_part_of_their_parent(puppet: Puppet) -> None:
    with Gauges(puppet.job) as tree:
        tree.sample()
        code = "import time\nwhile time.process_time() < 0.2: pass"
        puppet.do(f"import subprocess; subprocess.run([sys.executable, '-S', '-E', '-c', {code!r}])")
        assert only(tree.sample()).cpu_percent < 40


def test_the_soft_rss_limit_is_left_out_when_it_is_infinite(puppet: Puppet) -> None:
    with Gauges(puppet.job) as tree:
        found = only(tree.sample())
        assert found.rss_limit_bytes is None and "rss_limit_bytes" not in dict(found.named())
        assert dict(found.named()).keys() == set(found._fields) - {"rss_limit_bytes"}
        resource.prlimit(puppet.job, resource.RLIMIT_RSS, (64 << 20, 128 << 20))
        burn(puppet, 0.01)
        found = only(tree.sample())
        assert found.rss_limit_bytes == 64 << 20 == dict(found.named())["rss_limit_bytes"]


def test_nothing_is_kept_open_when_it_is_closed(puppet: Puppet) -> None:
    before = len(os.listdir("/proc/self/fd"))
    tree = Gauges(puppet.job)
    tree.sample()
    assert len(os.listdir("/proc/self/fd")) > before
    tree.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_limits_that_others_change_are_read_again(puppet: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gauges(puppet.job) as tree:
        tree.sample()
        resource.prlimit(puppet.job, resource.RLIMIT_RSS, (32 << 20, 128 << 20))
        monkeypatch.setattr(gauges, "OLD_NS", 0)
        assert only(tree.sample()).rss_limit_bytes == 32 << 20


def test_who_comes_and_who_goes(puppet: Puppet) -> None:
    with Gauges(puppet.job) as tree:
        assert tree.sample().process_count == 1
        puppet.do("import subprocess; child = subprocess.Popen(['sleep', '100'])")
        child = int(puppet.ask("child.pid"))
        until(lambda: process.command_name(child) == "sleep", "exec")
        sleep = os.path.basename(os.path.realpath(shutil.which("sleep") or "sleep"))
        sample = tree.sample()
        assert sample.processes.keys() == {(puppet.job, PYTHON_EXE), (child, sleep)}
        assert sample.rss_bytes == sum(each.rss_bytes for each in sample.processes.values())
        puppet.do("child.kill()")
        until(lambda: state(child) == "Z", "it ends")
        sample = tree.sample()
        assert sample.processes[Series(child, sleep)].rss_bytes == 0  # a zombie is there
        puppet.do("child.wait()")
        assert tree.sample().processes.keys() == {(puppet.job, PYTHON_EXE)}
        puppet.exit(0)
        assert tree.sample() == ({}, 0, 0)
    with pytest.raises(proctally.Gone):
        Gauges(puppet.job)


def test_a_new_program_starts_anew(tmp_path: Path) -> None:
    program = tmp_path / "first"
    shutil.copy(os.path.realpath("/bin/sh"), program)
    script = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo ready; read line; exec sleep 100"
    with subprocess.Popen([program, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with Gauges(child.pid) as tree:
            program.unlink()  # the name stays
            first = tree.sample().processes[Series(child.pid, "first")]
            assert first.cpu_percent > 0
            time.sleep(0.2)
            assert tree.sample().processes[Series(child.pid, "first")].cpu_percent < first.cpu_percent / 2
            child.stdin.write(b"\n")
            child.stdin.flush()
            until(lambda: process.command_name(child.pid) == "sleep", "exec")
            sample = tree.sample()
            age = time.time() - process.start_time(child.pid)
            average = 100 * process.cpu_time(child.pid) / 1e9 / age
            assert only(sample).cpu_percent == pytest.approx(average, rel=0.2)
            assert Series(child.pid, "first") not in sample.processes
        child.kill()


def test_the_usable_cores_are_those_of_the_affinity(puppet: Puppet) -> None:
    tree = Gauges(puppet.job)
    tree.sample()
    assert 0 < tree._cores <= len(os.sched_getaffinity(puppet.job))
    one = {min(os.sched_getaffinity(puppet.job))}
    os.sched_setaffinity(puppet.job, one)
    with Gauges(puppet.job) as narrowed:
        narrowed.sample()
        assert 0 < narrowed._cores <= 1


ASK = """
import sys, time
from proctally.gauges import Gauges
tree = Gauges(int(sys.argv[1]))
tree.sample()
time.sleep(0.1)
(series, found), = tree.sample().processes.items()
print(series.exe, found.rss_bytes)
"""


@root_only
def test_a_program_that_may_not_be_known_is_called_by_its_command(user: User, puppet: Puppet) -> None:
    puppet.do("open('/proc/self/comm', 'w').write('called')")
    done = subprocess.run(
        [user.python[0], "-S", "-c", ASK, str(puppet.job)],
        preexec_fn=user.become, env=user.environment, cwd=user.folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name, rss = done.stdout.split()
    assert name == "called" and int(rss) > 1 << 20


# -- a fake host -----------------------------------------------------------------------------------------------------


def test_percents_of_one_core(host: FakeHost) -> None:
    host.advance(10)
    host.run(100, user=3, system=1)
    tree = Gauges(100, machine=host.machine())
    first = only(tree.sample())
    assert (first.cpu_percent, first.user_cpu_percent, first.kernel_cpu_percent) == pytest.approx((40, 30, 10))
    host.advance(2)
    host.run(100, user=1, system=0.5)
    second = only(tree.sample())
    assert (second.cpu_percent, second.user_cpu_percent, second.kernel_cpu_percent) == pytest.approx((75, 50, 25))
    host.advance(1)
    assert only(tree.sample())[4:] == (0, 0, 0)
    assert (second.rss_bytes, second.virtual_bytes, second.threads) == (10 * PAGE, 10 * PAGE, 1)


def test_percents_end_at_what_the_cores_can_do(host: FakeHost) -> None:
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.advance(1)
    host.run(100, user=3.5, system=0.2)
    assert only(tree.sample()).cpu_percent == pytest.approx(370)
    host.advance(1)
    host.run(100, user=5, system=0.2)  # such are the clocks of a short interval
    assert only(tree.sample())[4:] == pytest.approx((400, 20, 400))


def test_the_quota_of_a_cgroup_counts_as_cores(host: FakeHost, tmp_path: Path) -> None:
    put(tmp_path, "cgroup/job/cpu.max", "150000 100000\n")
    put(tmp_path, "cgroup/cpu.max", "max 100000\n")
    put(host.proc, "100/cgroup", "0::/job\n")
    put(host.proc, "self/mountinfo", f"30 1 0:26 / {tmp_path}/cgroup rw - cgroup2 cgroup2 rw\n")
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.advance(1)
    host.run(100, user=3)
    assert only(tree.sample()).cpu_percent == pytest.approx(150)
    put(tmp_path, "cgroup/job/cpu.max", "250000 100000\n")
    host.advance(11)
    host.run(100, user=33)
    assert only(tree.sample()).cpu_percent == pytest.approx(250)


def test_waited_for_children_are_excluded_and_orphans_are_not(host: FakeHost) -> None:
    host.spawn(101, 100)
    host.spawn(102, 101)
    for pid in (101, 102):
        executes(host, pid, "/bin/other")
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.advance(1)
    host.run(101, user=0.5)
    host.run(102, user=0.25)
    host.end(101)
    sample = tree.sample()
    assert sample.processes[Series(100, "job")].cpu_percent == pytest.approx(0, abs=0.01)
    assert sample.processes[Series(102, "other")].cpu_percent == pytest.approx(25)
    assert sample.processes.keys() == {(100, "job"), (102, "other")}
    assert sample.process_count == 2


def test_another_process_under_the_pid_starts_anew(host: FakeHost) -> None:
    host.spawn(101, 100)
    executes(host, 101, "/bin/other")
    tree = Gauges(100, machine=host.machine())
    host.advance(10)
    host.run(101, user=8)
    assert tree.sample().processes[Series(101, "other")].cpu_percent == pytest.approx(80)
    host.end(101)
    host.spawn(101, 100)
    executes(host, 101, "/bin/other")
    host.advance(2)
    host.run(101, user=1)
    assert tree.sample().processes[Series(101, "other")].cpu_percent == pytest.approx(50)


def test_exec_starts_anew_and_the_same_program_does_not(host: FakeHost) -> None:
    tree = Gauges(100, machine=host.machine())
    host.advance(10)
    host.run(100, user=5)
    assert only(tree.sample()).cpu_percent == pytest.approx(50)
    host.advance(10)
    host.exec(100, b"again")  # another name, the same program
    host.run(100, user=1)
    assert tree.sample().processes[Series(100, "job")].cpu_percent == pytest.approx(10)
    executes(host, 100, "/opt/new (deleted)")
    host.exec(100, b"new")
    host.advance(10)
    sample = tree.sample()
    assert list(sample.processes) == [(100, "new")]
    assert only(sample).cpu_percent == pytest.approx(20, abs=0.01)
    host.advance(10)
    host.run(100, user=4)
    assert only(tree.sample()).cpu_percent == pytest.approx(40)


def test_a_process_that_begins_while_the_tree_is_read_has_no_spike(host: FakeHost) -> None:
    """Its CPU time was read after the moment of the sample, before which it was not."""
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    tree._sampler.files.close_all()

    def fork() -> None:
        host.advance(0.01)
        host.spawn(101, 100)
        executes(host, 101, "/bin/other")
        host.run(101, user=0.001)
        host.advance(0.002)

    host.advance(1)
    host.run(100, user=0.1)
    host.once("100/stat", fork)
    assert tree.sample().processes[Series(101, "other")].cpu_percent == pytest.approx(50, abs=0.1)
    host.advance(1)
    host.run(101, user=0.25)
    assert tree.sample().processes[Series(101, "other")].cpu_percent == pytest.approx(25, abs=1)


def test_a_program_that_came_between_two_samples_of_somebody_else(host: FakeHost) -> None:
    """Who shares a sampler is not asked at each of its looks."""
    machine = host.machine()
    sampler = Sampler(machine)
    sampler.attach(100, NO_PID)
    tree = Gauges.beside(sampler, machine)
    sampler.sample()
    assert tree.sample().processes.keys() == {(100, "job")}
    executes(host, 100, "/bin/other")
    host.exec(100, b"other")
    sampler.look()
    host.advance(1)
    sampler.sample()
    assert tree.sample().processes.keys() == {(100, "other")}
    opened = len(host.opened())
    host.advance(1)
    sampler.sample()
    assert tree.sample().processes.keys() == {(100, "other")}
    assert len(host.opened()) < opened


def test_what_cannot_be_understood_of_cgroups_is_no_limit(host: FakeHost) -> None:
    put(host.proc, "100/cgroup", "nonsense\n")
    put(host.proc, "self/mountinfo", "nonsense\n")
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.advance(1)
    host.run(100, user=3)
    assert only(tree.sample()).cpu_percent == pytest.approx(300)


def test_a_process_without_its_main_thread_has_memory(host: FakeHost) -> None:
    host.spawn(101, 100, threads=2, pages=7)
    executes(host, 101, "/bin/other")
    host.end_leader(101)
    found = Gauges(100, machine=host.machine()).sample().processes[Series(101, "other")]
    assert (found.rss_bytes, found.virtual_bytes, found.threads) == (7 * PAGE, 7 * PAGE, 2)


def test_labels(host: FakeHost) -> None:
    for path, label in (
        ("/usr/bin/plain", "plain"),
        ("/x/really (deleted)", "really"),
        ("/x/odd \udcff", "odd \\xff"),
        (None, "a\\xfe(b"),
    ):
        link = host.processes[100].folder / "exe"
        link.unlink(missing_ok=True)
        if path is not None:
            link.symlink_to(path)
        host.exec(100, b"a\xfe(b")
        assert list(Gauges(100, machine=host.machine()).sample().processes) == [(100, label)]


def test_a_zombie_keeps_its_label(host: FakeHost) -> None:
    host.spawn(101, 100, comm=b"called")
    executes(host, 101, "/bin/other")
    tree = Gauges(100, machine=host.machine())
    tree.sample()
    host.exit(101)
    (host.processes[101].folder / "exe").unlink()
    assert tree.sample().processes.keys() == {(100, "job"), (101, "other")}
    host.reap(101)
    assert tree.sample().processes.keys() == {(100, "job")}
