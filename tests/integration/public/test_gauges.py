"""Gauges of real processes."""

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
from gauges_of import only
from proctally import gauges, process
from proctally.gauges import Gauges, Series
from tracked import Puppet, User, state, until

PYTHON_EXE = os.path.basename(os.path.realpath(sys.executable))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def puppet(tmp_path: Path) -> Iterator[Puppet]:
    with Puppet(tmp_path, tracker=[]) as somebody:
        yield somebody


def burn(puppet: Puppet, seconds: float) -> None:
    puppet.do(f"end = time.process_time() + {seconds}")
    puppet.do("while time.process_time() < end: pass")


# -- real processes --------------------------------------------------------------------------------------------------


def test_levels_are_those_of_psutil(puppet: Puppet) -> None:
    with Gauges(puppet.job) as tree:
        for _ in range(2):
            puppet.do("import threading; stop = threading.Event(); threads = [threading.Thread(target=stop.wait)]")
            puppet.do("threads[0].start(); memory = bytearray(20_000_000)")
            sample, truth = tree.sample(), psutil.Process(puppet.job)
            assert list(sample.members) == [(puppet.job, PYTHON_EXE)]
            found = only(sample)
            assert found.rss_bytes == pytest.approx(truth.memory_info().rss, abs=1 << 20)
            assert found.virtual_bytes == truth.memory_info().vms
            assert found.threads == truth.num_threads() == 2
            assert sample.processes == 1 and sample.rss_bytes == found.rss_bytes
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
        halves = first.user_cpu_percent + first.system_cpu_percent
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
        assert tree.sample().processes == 1
        puppet.do("import subprocess; child = subprocess.Popen(['sleep', '100'])")
        child = int(puppet.ask("child.pid"))
        until(lambda: process.command_name(child) == "sleep", "exec")
        sleep = os.path.basename(os.path.realpath(shutil.which("sleep") or "sleep"))
        sample = tree.sample()
        assert sample.members.keys() == {(puppet.job, PYTHON_EXE), (child, sleep)}
        assert sample.rss_bytes == sum(each.rss_bytes for each in sample.members.values())
        puppet.do("child.kill()")
        until(lambda: state(child) == "Z", "it ends")
        sample = tree.sample()
        assert sample.members[Series(child, sleep)].rss_bytes == 0  # a zombie is there
        puppet.do("child.wait()")
        assert tree.sample().members.keys() == {(puppet.job, PYTHON_EXE)}
        puppet.exit(0)
        assert tree.sample() == ({}, 0, 0, 0)
    with pytest.raises(proctally.ProcessGone):
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
            first = tree.sample().members[Series(child.pid, "first")]
            assert first.cpu_percent > 0
            time.sleep(0.2)
            assert tree.sample().members[Series(child.pid, "first")].cpu_percent < first.cpu_percent / 2
            child.stdin.write(b"\n")
            child.stdin.flush()
            until(lambda: process.command_name(child.pid) == "sleep", "exec")
            sample = tree.sample()
            age = time.time() - process.start_time(child.pid)
            average = 100 * process.cpu_time(child.pid) / 1e9 / age
            assert only(sample).cpu_percent == pytest.approx(average, rel=0.2)
            assert Series(child.pid, "first") not in sample.members
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
(series, found), = tree.sample().members.items()
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
