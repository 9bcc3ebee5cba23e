"""`proctally.Tree`: a tree that its caller samples, against what its processes say of themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

import proctally
from proctally.errors import ProcessGone
from proctally.library import tree as library_tree
from proctally.linux import child
from proctally.linux.c_library import libc
from proctally.linux.machine import Machine
from tracked import PYTHON, Lines, User
from tree_counters import COUNTED

MIB = 1 << 20
PR_SET_CHILD_SUBREAPER = 36
FAULTS = "__import__('resource').getrusage(0).ru_minflt"


# does what it is told, line by line, and answers
OBEDIENT = """
import os, subprocess, sys, threading, time
kept = []
def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
def hold(mib):
    kept.append(bytearray(mib << 20)); kept[-1][::4096] = b"x" * len(kept[-1][::4096])
def child(seconds):
    subprocess.run([sys.executable, "-S", "-E", "-c", f"import time\\nwhile time.process_time() < {seconds}: pass"])
for line in sys.stdin:
    said = eval(line)
    print(said, flush=True)
"""


class Target:
    """A process that does what it is told."""

    def __init__(self, **popen: Any) -> None:
        self.process = subprocess.Popen(
            [*popen.pop("python", PYTHON), "-c", OBEDIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **popen
        )
        assert self.process.stdout is not None
        self._lines = Lines(self.process.stdout.fileno())
        self.pid = self.process.pid

    def do(self, words: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(words.encode() + b"\n")
        self.process.stdin.flush()
        return self._lines.next()

    def end(self) -> None:
        """Those that it started may live on, with its stdout: the end of that is not waited for."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def target() -> Iterator[Target]:
    found = Target(start_new_session=True)
    try:
        found.do("None")
        yield found
    finally:
        try:
            os.killpg(found.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        found.end()


def used(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def test_first_sample_has_levels_and_no_deltas(target: Target) -> None:
    target.do("busy(0.1)")
    target.do("hold(50)")
    with proctally.Tree(target.pid) as tree:
        sample = tree.sample()
    assert sample.pids == [target.pid]
    assert all(getattr(sample, name) == 0 for name in COUNTED)
    assert sample.cpu_cores == 0.0
    assert sample.interval_seconds is None
    assert sample.rss_bytes is not None and sample.rss_bytes > 50 * MIB
    assert sample.rss_bytes == pytest.approx(psutil.Process(target.pid).memory_info().rss, rel=0.02)
    info = psutil.Process(target.pid).memory_info()
    assert sample.memory_bytes == sample.memory_low_bytes == sample.memory_high_bytes
    assert sample.memory_bytes == pytest.approx(info.rss - info.shared, rel=0.02)  # anonymous: no file, no tmpfs
    assert (sample.pss_bytes, sample.pss_unread) == (None, 1)  # nothing is wide
    assert (sample.processes, sample.threads) == (1, 1)


def test_later_samples_count_from_the_first(target: Target) -> None:
    target.do("busy(0.1)")
    with proctally.Tree(target.pid) as tree:
        tree.sample()
        before = used(target.pid)
        target.do("busy(0.15)")
        first = tree.sample()
        target.do("child(0.15)")
        second = tree.sample()
        truth = used(target.pid) - before
    assert first.cpu_seconds == pytest.approx(0.15, abs=0.02)
    assert second.cpu_seconds == pytest.approx(truth, abs=0.04)
    assert second.cpu_seconds > 0.28
    assert first.cpu_cores == pytest.approx(0.15 / first.interval_seconds, rel=0.2)
    assert second.read_chars > first.read_chars
    assert second.minor_faults > first.minor_faults
    assert second.interval_seconds == pytest.approx(second.at - first.at, abs=0.01)


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Orphans become children of this process, which need not wait for init to reap them."""
    library = libc()
    assert child.become_subreaper(library)
    yield
    library.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_members_come_and_go(target: Target, subreaper: None) -> None:
    with proctally.Tree(target.pid) as tree:
        assert tree.sample().pids == [target.pid]
        started = "kept.append(subprocess.Popen(['sleep', '300'])) or kept[-1].pid"
        one, other = int(target.do(started)), int(target.do(started))
        sample = tree.sample()
        assert sample.pids == [target.pid, one, other]
        assert sample.rss_bytes > psutil.Process(target.pid).memory_info().rss
        target.do("kept[-1].kill() or kept[-1].wait()")
        assert tree.sample().pids == [target.pid, one]
        target.end()
        sample = tree.sample()
        assert sample.pids == [one], "an orphan stays"
        os.kill(one, signal.SIGKILL)
        os.waitpid(one, 0)
        last = tree.sample()
        assert last.pids == [] and last.rss_bytes == 0
        assert last.cpu_seconds >= sample.cpu_seconds
        with pytest.raises(ProcessGone):
            tree.sample()


def test_one_process_alone(target: Target) -> None:
    with proctally.Tree(target.pid, children=False) as alone, proctally.Tree(target.pid) as tree:
        alone.sample(), tree.sample()
        faults = -int(target.do(FAULTS))
        child = int(target.do("kept.append(subprocess.Popen(['sleep', '300'])) or kept[-1].pid"))
        target.do("child(0.2)")
        target.do("busy(0.1)")
        mine, all_ = alone.sample(), tree.sample()
        faults += int(target.do(FAULTS))
        target.do("busy(0.1)")
        later = alone.sample()
    assert mine.pids == [target.pid] and all_.pids == [target.pid, child]
    assert mine.cpu_seconds == pytest.approx(0.1, abs=0.03)
    assert all_.cpu_seconds == pytest.approx(0.3, abs=0.1)
    assert mine.cpu_user_seconds + mine.cpu_system_seconds == pytest.approx(0.1, abs=0.05)
    assert mine.minor_faults == pytest.approx(faults, abs=50) and mine.minor_faults + 200 < all_.minor_faults
    assert later.cpu_seconds - mine.cpu_seconds == pytest.approx(0.1, abs=0.02)


def test_caller_in_its_own_tree() -> None:
    with proctally.Tree(os.getpid(), pss=False) as tree:
        tree.sample()
        before = time.process_time()
        while time.process_time() < before + 0.2:
            pass
        sample = tree.sample()
    assert os.getpid() in sample.pids
    assert sample.cpu_seconds == pytest.approx(time.process_time() - before, abs=0.05)
    assert sample.pss_bytes is None
    assert sample.memory_bytes == sample.memory_low_bytes


def test_caller_below_the_tree(target: Target) -> None:
    """A test rig that looks at who started it is a member like any other."""
    code = "import proctally, os; print(os.getpid() in proctally.Tree(os.getppid()).sample().pids)"
    asked = f"subprocess.run([{sys.executable!r}, '-c', {code!r}], capture_output=True, text=True).stdout.strip()"
    assert target.do(asked) == "True"


def test_samples_from_many_threads(target: Target) -> None:
    tree = proctally.Tree(target.pid)
    found: list[float] = []

    def work() -> None:
        for _ in range(50):
            found.append(tree.sample().cpu_seconds)

    target.do("threading.Thread(target=busy, args=(0.3,)).start()")
    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(found) == 200
    tree.close()


def test_a_fork_while_another_thread_samples_hangs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    is_sampling, may_continue = threading.Event(), threading.Event()

    def monotonic_ns() -> int:
        if threading.current_thread() is not threading.main_thread():
            is_sampling.set()
            may_continue.wait(20)
        return time.monotonic_ns()

    monkeypatch.setattr(library_tree, "host_machine", lambda: Machine(monotonic_ns=monotonic_ns))
    tree, idle = proctally.Tree(os.getpid(), pss=False), proctally.Tree(os.getpid(), pss=False)
    told = idle.sample().cpu_seconds
    thread = threading.Thread(target=tree.sample)
    thread.start()
    try:
        assert is_sampling.wait(20)
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            try:
                tree.sample()
            except ValueError as error:
                if "forked" in str(error) and idle.sample().cpu_seconds >= told:
                    tree.close()
                    os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    finally:
        may_continue.set()
        thread.join()
    assert tree.sample().pids and idle.sample().pids


# -- watching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pss", [True, False])
def test_watch_tells_once_for_each_crossing(target: Target, pss: bool) -> None:
    tree = proctally.Tree(target.pid, pss=pss)
    base = tree.sample().memory_bytes
    told: list[int] = []
    watch = tree.watch(base + 50 * MIB, lambda sample: told.append(sample.memory_bytes))
    tree.sample()
    assert told == [] and not watch.is_above
    target.do("hold(80)")
    tree.sample()
    tree.sample()
    assert len(told) == 1 and told[0] > base + 50 * MIB
    assert watch.is_above
    target.do("kept.clear()")
    tree.sample()
    assert not watch.is_above
    target.do("hold(80)")
    tree.sample()
    assert len(told) == 2
    watch.cancel()
    watch.cancel()
    target.do("kept.clear()")
    tree.sample()
    target.do("hold(80)")
    tree.sample()
    assert len(told) == 2
    tree.close()


def test_watch_is_not_told_again_near_its_limit(target: Target) -> None:
    with proctally.Tree(target.pid, pss=False) as tree:
        base = tree.sample().memory_bytes
        told: list[int] = []
        limit = base + 60 * MIB
        tree.watch(limit, lambda sample: told.append(sample.memory_bytes), rearm_bytes=base + 20 * MIB)
        target.do("hold(40)")
        target.do("hold(40)")
        tree.sample()
        for _ in range(3):
            target.do("kept.pop() and None")
            assert tree.sample().memory_bytes < limit
            target.do("hold(40)")
            assert tree.sample().memory_bytes > limit
        assert len(told) == 1
        target.do("kept.clear()")
        tree.sample()
        target.do("hold(80)")
        tree.sample()
        assert len(told) == 2


def test_shared_memory_is_no_crossing(target: Target) -> None:
    """Forked children share their pages: their RSS sums to four times what they hold."""
    with proctally.Tree(target.pid) as tree:
        target.do("hold(60)")
        told: list[int] = []
        tree.sample()
        tree.watch(150 * MIB, lambda sample: told.append(sample.memory_bytes))
        for _ in range(3):
            target.do("os.fork() or time.sleep(300)")
        sample = tree.sample()
        assert sample.processes == 4
        assert sample.rss_bytes > 150 * MIB
        assert told == [] and sample.memory_bytes < 120 * MIB


def test_callback_may_use_the_tree_and_fail(target: Target) -> None:
    with proctally.Tree(target.pid) as tree:
        seen: list[int] = []
        tree.watch(1, lambda sample: 1 / 0)
        tree.watch(1, lambda sample: seen.append(tree.sample().memory_bytes))
        tree.watch(1, lambda sample: seen.index(0))
        with pytest.raises(ZeroDivisionError):
            tree.sample()
        assert len(seen) == 1, "the failure of one keeps nothing from the others"
        tree.sample()
        assert len(seen) == 1


def test_a_watch_that_was_cancelled_by_another_is_not_told(target: Target) -> None:
    with proctally.Tree(target.pid) as tree:
        told: list[str] = []
        tree.watch(1, lambda sample: (told.append("first"), second.cancel()))
        second = tree.watch(1, lambda sample: told.append("second"))
        tree.sample()
        assert told == ["first"]


# -- what cannot be --------------------------------------------------------------------------------------------------


def test_no_such_process() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(ProcessGone):
        proctally.Tree(ended.pid)


def test_a_thread_is_no_process() -> None:
    ready, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), stop.wait()))
    thread.start()
    ready.wait()
    try:
        with pytest.raises(ProcessGone, match="thread"):
            proctally.Tree(thread.native_id or 0)
    finally:
        stop.set()
        thread.join()


def test_process_that_ends_before_the_first_sample(target: Target) -> None:
    tree = proctally.Tree(target.pid)
    target.end()
    with pytest.raises(ProcessGone):
        tree.sample()


def test_closed(target: Target) -> None:
    before = len(os.listdir("/proc/self/fd"))
    tree = proctally.Tree(target.pid)
    tree.sample()
    tree.close()
    tree.close()
    assert len(os.listdir("/proc/self/fd")) == before
    for use in (tree.sample, lambda: tree.watch(1, print)):
        with pytest.raises(proctally.AlreadyClosed, match="this Tree is closed"):
            use()


@pytest.mark.parametrize("wrong", [{"limit_bytes": 0}, {"limit_bytes": 10, "rearm_bytes": 11}])
def test_limits_that_are_none(target: Target, wrong: dict[str, int]) -> None:
    with proctally.Tree(target.pid) as tree, pytest.raises(ValueError, match="use"):
        tree.watch(callback=print, **wrong)


def test_another_user_is_sampled_in_part(user: User) -> None:
    """Of another's process an ordinary user reads CPU and RSS; its PSS and I/O are None, never 0."""
    code = f"""
import proctally, time
tree = proctally.Tree({os.getpid()}, children=False)
tree.sample(); time.sleep(0.05); sample = tree.sample()
print(sample.pids, sample.rss_bytes > 0, sample.pss_bytes, sample.read_bytes, sample.pss_unread)
"""
    done = subprocess.run(
        [user.python[0], "-c", code], env=user.environment, cwd=user.folder, preexec_fn=user.become, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    if user.number is not None:
        assert done.stdout.decode().strip() == f"[{os.getpid()}] True None None 1"
