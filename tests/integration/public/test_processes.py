"""Many processes: against psutil, and on trees of known shape."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import proctally
import sandbox
import truth
from places import SUPPORT
from proctally import process, processes
from proctally.linux.machine import Machine
from tracked import PYTHON, Puppet, User, state, until
from ways_to_total import OF_ONE

BURN = "import time\nwhile time.process_time() < {0}: pass"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def puppet(tmp_path: Path) -> Iterator[Puppet]:
    with Puppet(tmp_path, tracker=[]) as somebody:
        yield somebody


@pytest.fixture
def family() -> Iterator[list[int]]:
    """A shell, its two children, and two below the first: [shell, first, second, below, below]."""
    script = "sh -c 'sleep 100 & sleep 100 & echo $$ $! ; wait' & sleep 100 & echo $!; wait"
    with subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True, stdin=subprocess.DEVNULL
    ) as shell:
        assert shell.stdout is not None
        words = [int(word) for _ in range(2) for word in shell.stdout.readline().split()]
        below = psutil.Process(shell.pid).children(recursive=True)
        try:
            assert len(below) == 4 and set(words) <= {each.pid for each in below}
            until(lambda: sum(each.name() == "sleep" for each in below) == 3, "exec")
            first = next(each.pid for each in below if each.children())
            second = next(each.pid for each in psutil.Process(shell.pid).children() if each.pid != first)
            until(lambda: is_idle([shell.pid, *(each.pid for each in below)]), "nobody runs")
            yield [shell.pid, first, second, *sorted(each.pid for each in psutil.Process(first).children())]
        finally:
            os.killpg(shell.pid, 9)


def is_idle(pids: list[int]) -> bool:
    before = [process.cpu_time(pid) for pid in pids]
    time.sleep(0.05)
    return before == [process.cpu_time(pid) for pid in pids]


# -- one pass over all -----------------------------------------------------------------------------------------------


def test_pids_are_those_of_psutil() -> None:
    for _ in range(3):
        before, found, after = psutil.pids(), processes.pids(), psutil.pids()
        if before == after:
            break
    assert set(before) & set(after) <= set(found) <= set(before) | set(after) | set(found)
    assert found == sorted(found) and os.getpid() in found


def by_psutil() -> dict[int, dict[str, Any]]:
    asked = ["ppid", "name", "num_threads", "memory_info", "cpu_times", "create_time"]
    return {each.pid: each.info for each in psutil.process_iter(asked)}


def test_a_scan_says_what_psutil_says() -> None:
    before, found, after = by_psutil(), processes.scan(), by_psutil()
    compared = 0
    for pid in before.keys() & found.keys() & after.keys():
        seen, first, last = found[pid], before[pid], after[pid]
        if any(first[key] != last[key] for key in ("ppid", "name", "num_threads", "create_time")):
            continue
        compared += 1
        assert (seen.parent, seen.threads) == (first["ppid"], first["num_threads"])
        name = os.fsencode(first["name"]).decode("utf-8", "backslashreplace")
        assert seen.command == name or len(seen.command) >= 15  # psutil goes on with the arguments
        least, most = first["cpu_times"], last["cpu_times"]
        assert least.user <= seen.user_ns / 1e9 <= most.user
        assert least.system <= seen.system_ns / 1e9 <= most.system
        assert least.children_user <= seen.children_user_ns / 1e9 <= most.children_user
        assert least.children_system <= seen.children_system_ns / 1e9 <= most.children_system
        assert least.user + least.system - 0.01 < seen.cpu_ns / 1e9 < most.user + most.system + 0.04
        if first["memory_info"] == last["memory_info"]:
            assert seen.virtual_bytes == first["memory_info"].vms
            assert seen.rss_bytes == pytest.approx(first["memory_info"].rss, abs=1 << 20)
    assert compared >= len(found) // 2 >= 1


def test_a_scan_and_a_snapshot_say_the_same(family: list[int]) -> None:
    found = processes.scan()
    for pid in family:
        assert processes.snapshot(pid) == found[pid]
        assert found[pid].start_ticks == process.liveness(pid).start_ticks
        assert found[pid].cpu_ns == process.cpu_time(pid)
        assert found[pid].virtual_bytes == process.virtual_bytes(pid)
    without = Machine(clock_gettime_ns=None)
    assert processes.snapshot(family[0], machine=without) == processes.scan(machine=without)[family[0]]
    assert processes.snapshot(family[0], machine=without).cpu_ns % 10_000_000 == 0


@pytest.mark.parametrize("name", [b") R 1 (", b"a\nb c", b"\xff\xfe(x"])
def test_odd_names_spoil_nothing(puppet: Puppet, name: bytes) -> None:
    puppet.do(f"open('/proc/self/comm', 'wb').write({name!r})")
    for seen in (processes.scan()[puppet.job], processes.snapshot(puppet.job), processes.Scanner().scan()[puppet.job]):
        assert seen.command == name.decode("utf-8", "backslashreplace")
        assert (seen.parent, seen.threads) == (os.getpid(), 1)


def test_zombies_and_processes_without_a_main_thread() -> None:
    child = subprocess.Popen([*PYTHON, "-c", ""])
    other = subprocess.Popen([*PYTHON, str(SUPPORT / "workloads.py"), "leader_exits", "100"], stdin=subprocess.DEVNULL)
    try:
        until(lambda: state(child.pid) == state(other.pid) == "Z", "both end")
        found = processes.scan()
        for seen in (found[child.pid], processes.snapshot(child.pid)):
            assert (seen.state, seen.rss_bytes, seen.virtual_bytes) == ("Z", 0, 0)
            assert seen.cpu_ns > 0
        for seen in (found[other.pid], processes.snapshot(other.pid), processes.Scanner().scan()[other.pid]):
            assert (seen.state, seen.threads) == ("Z", 2)
            assert seen.rss_bytes > 1 << 20 and seen.virtual_bytes > 1 << 20
    finally:
        other.kill()
        other.wait()
        child.wait()


WITHOUT_DESCRIPTORS = """
import os, resource, sys
import proctally
import proctally
from proctally import gauges, process, processes
scanner, tracker = processes.Scanner(), processes.CumulativeTracker(os.getpid())
scanner.scan(), tracker.update()
makers = [processes.CumulativeTracker, gauges.Gauges, proctally.Tree, processes.DeltaTracker]
of_one = [processes.snapshot, processes.snapshot_tree, process.liveness, process.all_stats, process.threads]
of_all = [processes.pids, processes.scan, processes.parent_map, scanner.scan]
limit, spare = 40, int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
try:
    while True: os.dup(0)
except OSError: pass
for fd in range(limit - spare, limit): os.close(fd)
told = 0
for call, *pid in [*((call,) for call in of_all), *((call, os.getpid()) for call in makers + of_one)]:
    try:
        assert call(*pid), call
    except proctally.NoDescriptors as error:
        assert "Too many open files" in str(error), error
        told += 1
assert tracker.update().processes == 1
print(told)
"""


@pytest.mark.parametrize(("spare", "most"), [(0, 13), (1, 6)])
def test_without_descriptors_nobody_is_gone(spare: int, most: int) -> None:
    """A scan that could not be made is no empty one, and a process that cannot be read now is there all the same."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_DESCRIPTORS, str(spare)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 3 <= int(done.stdout) <= most


@pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable()))
def test_a_sandbox_without_cpu_clocks_leaves_stat() -> None:
    code = """
import os
from proctally import process, processes
from proctally.linux.machine import this_machine
assert this_machine().clock_gettime_ns is None
parent = os.getppid()
split = process.cpu_split(parent)
assert process.cpu_time(parent) == split.user_ns + split.system_ns > 0
assert processes.scan()[parent].cpu_ns >= split.user_ns
assert processes.Scanner().scan()[parent].start_ticks == processes.snapshot(parent).start_ticks
assert parent in processes.snapshot_tree(parent).pids
"""
    refuse = sandbox.refusing(errno.EPERM, "clock_gettime")
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=refuse, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- the scanner -----------------------------------------------------------------------------------------------------


def test_a_scanner_reads_what_moved_and_finds_what_a_scan_finds(family: list[int], puppet: Puppet) -> None:
    scanner = processes.Scanner()
    first = scanner.scan()
    assert {pid: first[pid] for pid in family} == {pid: each for pid, each in processes.scan().items() if pid in family}
    puppet.do("end = time.process_time() + 0.1")
    puppet.do("while time.process_time() < end: pass")
    second = scanner.scan()
    assert second[puppet.job].cpu_ns - first[puppet.job].cpu_ns >= 100_000_000
    both = [found[puppet.job].user_ns + found[puppet.job].system_ns for found in (first, second)]
    assert both[1] - both[0] >= 80_000_000
    for pid in family:
        assert second[pid] is first[pid] or second[pid] == first[pid]
    child = subprocess.Popen(["sleep", "100"])
    try:
        assert scanner.scan()[child.pid].parent == os.getpid()
    finally:
        child.kill()
        until(lambda: state(child.pid) == "Z", "it ends")
        assert scanner.scan()[child.pid].state == "Z"
        child.wait()
    assert child.pid not in scanner.scan()
    found, fresh = scanner.scan(), processes.scan()
    same = [pid for pid in fresh if pid in found and fresh[pid].cpu_ns == found[pid].cpu_ns]
    assert len(same) >= len(family) and all(found[pid][:3] == fresh[pid][:3] for pid in same)
    found.clear()
    assert scanner.scan()


# -- who descends from whom ------------------------------------------------------------------------------------------


def test_maps_of_a_tree_of_known_shape(family: list[int]) -> None:
    shell, first, second, third, fourth = family
    found = processes.scan()
    for children in (processes.children_map(found), processes.children_map()):
        assert sorted(children[shell]) == sorted([first, second])
        assert sorted(children[first]) == [third, fourth]
        assert children[second] == children[fourth] == []
    for parents in (processes.parent_map(found), processes.parent_map()):
        assert [parents[pid] for pid in family] == [os.getpid(), shell, shell, first, first]
    assert processes.descendants(shell, children) == [*children[shell], *children[first]]
    assert sorted(processes.descendants(shell)) == sorted(family[1:])
    assert processes.descendants(fourth, children) == []
    assert processes.is_descendant(fourth, shell, parents)
    assert processes.is_descendant(fourth, os.getpid())
    assert not processes.is_descendant(shell, fourth, parents)
    assert not processes.is_descendant(shell, shell, parents)
    assert not processes.is_descendant(second, first, parents)
    tree = processes.tree_pids(shell)
    assert tree[0] == shell and set(tree[1:3]) == {first, second} and set(tree[3:]) == {third, fourth}


def test_every_descendant_is_that_of_psutil() -> None:
    before = {child.pid for child in psutil.Process(1).children(recursive=True)}
    found = set(processes.descendants(1))
    tree = set(processes.tree_pids(1))
    after = {child.pid for child in psutil.Process(1).children(recursive=True)}
    assert before & after <= found and before & after <= tree


# -- snapshots -------------------------------------------------------------------------------------------------------


def test_a_snapshot_of_a_tree_both_ways(family: list[int]) -> None:
    tree = processes.snapshot_tree(family[0])
    scanned = processes.snapshot_tree_from_scan(family[0])
    assert sorted(tree.pids) == sorted(family) and tree.pids[0] == family[0]
    assert sorted(tree.members) == sorted(scanned.members)
    assert tree[1:-1] == scanned[1:-1]
    assert (tree.unread, scanned.unread) == (0, None)
    assert tree.cpu_ns == sum(process.cpu_time(pid) for pid in family)
    assert tree.rss_bytes == sum(each.rss_bytes for each in tree.members) > 0
    assert tree.virtual_bytes == sum(process.virtual_bytes(pid) for pid in family)
    assert tree.threads == 5
    start = tree.members[0].start_ticks
    assert processes.snapshot_tree(family[0], start_ticks=start).pids == tree.pids
    for function in (processes.snapshot, processes.snapshot_tree, processes.snapshot_tree_from_scan):
        with pytest.raises(proctally.ProcessGone):
            function(family[0], start_ticks=start + 1)  # type: ignore[operator]


def test_children_of_a_tree_that_were_waited_for(puppet: Puppet) -> None:
    before = processes.snapshot_tree(puppet.job)
    puppet.do(f"import subprocess; subprocess.run([sys.executable, '-S', '-E', '-c', {BURN.format(0.2)!r}])")
    after = processes.snapshot_tree(puppet.job)
    assert after.children_cpu_ns - before.children_cpu_ns >= 180_000_000
    assert after.cpu_ns - before.cpu_ns < 150_000_000


def test_gone_and_nobody() -> None:
    for function in (*OF_ONE, processes.snapshot_tree_from_scan, proctally.Tree):
        with pytest.raises(proctally.ProcessGone) as caught:
            function(1 << 30)
        assert caught.value.strerror == f"process {1 << 30} does not exist"


# -- trackers --------------------------------------------------------------------------------------------------------


def test_a_delta_is_what_was_used_between_two_calls(puppet: Puppet) -> None:
    tracker = processes.DeltaTracker(puppet.job)
    for _ in range(2):
        before = float(puppet.ask("time.process_time()"))
        tracker.update()
        puppet.do("end = time.process_time() + 0.2")
        puppet.do("while time.process_time() < end: pass")
        delta = tracker.update()
        used = float(puppet.ask("time.process_time()")) - before
        assert delta.cpu_ns / 1e9 == pytest.approx(used, abs=0.03)
        assert delta.cpu_percent == pytest.approx(100 * delta.cpu_ns / delta.elapsed_ns)
        assert 5 < delta.cpu_percent < 110
    time.sleep(0.1)
    idle = tracker.update()
    assert idle.cpu_percent < 10 and idle.elapsed_ns >= 100_000_000
    puppet.exit(0)
    with pytest.raises(proctally.ProcessGone):
        tracker.update()


def children_of(puppet: Puppet, count: int, seconds: float) -> float:
    """CPU seconds of children that lived one after another, as who waited for them knows."""
    puppet.do("import subprocess; used = sum(os.times()[2:4])")
    command = f"[sys.executable, '-S', '-E', '-c', {BURN.format(seconds)!r}]"
    puppet.do(f"[subprocess.run({command}) for _ in range({count})]")
    return float(puppet.ask("sum(os.times()[2:4]) - used"))


def test_short_lived_children_are_in_the_total_and_what_was_before_is_not(puppet: Puppet) -> None:
    children_of(puppet, 2, 0.05)
    own = process.cpu_time(puppet.job)
    with processes.CumulativeTracker(puppet.job) as tracker:
        assert tracker.update().cpu_ns < 20_000_000
        waited = 0.0
        for count in (4, 2):
            waited += children_of(puppet, count, 0.03)
            total = tracker.update()
            expected = waited + (process.cpu_time(puppet.job) - own) / 1e9
            assert total.cpu_ns / 1e9 == pytest.approx(expected, rel=0.03, abs=0.03)
            assert (total.user_ns + total.system_ns) / 1e9 == pytest.approx(expected, rel=0.05, abs=0.05)
        assert total.processes == 1 and total.minor_faults > 1000
        assert tracker.start_ticks == process.liveness(puppet.job).start_ticks


@pytest.mark.skipif(truth.available() is not None, reason=str(truth.available()))
def test_a_total_is_that_of_the_kernels_own_accounting(tmp_path: Path) -> None:
    short = f"{sys.executable} -S -E -c '{BURN.format(0.03)}'"
    with truth.cpu_truth() as job, Puppet(tmp_path, tracker=[], before=tuple(job.enter_argv([]))) as puppet:
        puppet.do("import subprocess")
        with processes.CumulativeTracker(puppet.job) as tracker:
            begun = job.cpu_seconds()
            before = tracker.update().cpu_ns
            for _ in range(3):
                puppet.do(f"subprocess.run(['sh', '-c', {short + ';' + short + '; true'!r}])")
                used = job.cpu_seconds() - begun
                total = (tracker.update().cpu_ns - before) / 1e9
                assert total == pytest.approx(used, rel=0.02, abs=0.04)
            assert total > 0.15


def test_a_total_never_falls_also_when_the_tree_ends(puppet: Puppet) -> None:
    tracker = processes.CumulativeTracker(puppet.job)
    delta = processes.DeltaTracker(puppet.job, children=True)
    puppet.do(f"import subprocess; child = subprocess.Popen([sys.executable, '-S', '-c', {BURN.format(0.3)!r}])")
    totals = [tracker.update()]
    deadline = time.monotonic() + 10
    while state(int(puppet.ask("child.pid"))) != "Z":
        assert time.monotonic() < deadline
        totals.append(tracker.update())
    totals.append(tracker.update())
    puppet.do("child.wait()")
    totals.append(tracker.update())
    of_tree = delta.update().cpu_ns
    puppet.exit(0)
    totals += [tracker.update(), tracker.update()]
    used = [total.cpu_ns for total in totals]
    assert used == sorted(used) and used[-1] >= 290_000_000
    assert [total.elapsed_ns for total in totals] == sorted(total.elapsed_ns for total in totals)
    assert max(total.processes for total in totals) == 2 and totals[-1].processes == 0
    assert totals[-1].processes_seen == 2
    assert of_tree == pytest.approx(used[-1], abs=30_000_000)
    assert delta.update().cpu_ns == 0  # of what it used after that nobody tells: its parent is no member
    tracker.close()
    delta.close()
    with pytest.raises(proctally.ProcessGone):
        processes.CumulativeTracker(puppet.job)


def test_this_process_can_be_its_own_tracker() -> None:
    with processes.CumulativeTracker(os.getpid()) as tracker:
        before = sum(os.times()[:4])
        subprocess.run([*PYTHON, "-c", BURN.format(0.2)])
        total = tracker.update()
        used = sum(os.times()[:4]) - before
        assert total.cpu_ns / 1e9 == pytest.approx(used, abs=0.05)
        assert total.cpu_ns >= 180_000_000


def test_orphans_stay_in_the_total(puppet: Puppet) -> None:
    puppet.do("import subprocess")
    with processes.CumulativeTracker(puppet.job) as tracker:
        script = f"{sys.executable} -S -E -c 'import time; time.sleep(100)' & echo $!"
        puppet.do(f"shell = subprocess.Popen(['sh', '-c', {script!r} + '; read line'], stdin=-1, stdout=-1, text=True)")
        puppet.do("orphan = int(shell.stdout.readline())")
        orphan = int(puppet.ask("orphan"))
        assert tracker.update().processes == 3
        puppet.do("shell.stdin.close(); shell.wait()")
        until(lambda: process.parent(orphan) != puppet.job, "it loses its parent")
        try:
            assert tracker.update().processes == 2
        finally:
            os.kill(orphan, 9)
        until(lambda: state(orphan) in "XZ", "it ends")


def test_a_tracker_keeps_few_descriptors_and_gives_them_back(puppet: Puppet) -> None:
    puppet.do("import subprocess; children = [subprocess.Popen(['sleep', '100']) for _ in range(60)]")
    try:
        before = len(os.listdir("/proc/self/fd"))
        tracker = processes.CumulativeTracker(puppet.job)
        assert tracker.update().processes == 61
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert len(os.listdir("/proc/self/fd")) - before <= min(64, limit // 16) + 2
        tracker.close()
        assert len(os.listdir("/proc/self/fd")) - before <= 1
        del tracker
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        puppet.do("[child.kill() for child in children]; [child.wait() for child in children]")


# -- an ordinary user ------------------------------------------------------------------------------------------------


ASK = """
import json, os, subprocess, sys, time
import proctally
from proctally import processes
pid = int(sys.argv[1])
found = processes.scan()
with processes.CumulativeTracker(os.getpid()) as tracker:
    subprocess.run([sys.executable, "-S", "-c", "import time\\nwhile time.process_time() < 0.1: pass"])
    total = tracker.update()
seen = found.get(pid)
try:
    tree = processes.tree_pids(pid)
except proctally.ProcessGone:
    tree = None
print(json.dumps([pid in processes.pids(), seen and seen.cpu_ns, seen and seen.rss_bytes, tree, total.cpu_ns,
                  os.getpid() in found]))
"""


@root_only
@pytest.mark.parametrize("hidden", [False, True])
def test_what_a_user_sees(user: User, puppet: Puppet, hidden: bool) -> None:
    from hidden_proc import hidepid

    def prepare() -> None:
        if hidden:
            hidepid("2")()
        user.become()

    try:
        done = subprocess.run(
            [user.python[0], "-S", "-c", ASK, str(puppet.job)],
            preexec_fn=prepare, env=user.environment, cwd=user.folder, capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.SubprocessError:
        pytest.skip("a /proc with hidepid cannot be mounted here")
    assert done.returncode == 0, done.stderr
    listed, cpu, rss, tree, own, is_there = json.loads(done.stdout)
    assert own >= 80_000_000 and is_there
    if hidden:
        assert (listed, cpu, rss, tree) == (False, None, None, None)
    else:
        assert listed and cpu > 0 and rss > 1 << 20 and tree == [puppet.job]
