"""Cgroups of this kernel, made and removed. It takes root."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cgroup_host import NO_PID
from proctally.errors import ProcessGone
from proctally.linux import cgroup, own_cgroup
from proctally.linux.cgroup import V2, Place
from proctally.linux.machine import Machine
from proctally.linux.own_cgroup import CgroupRefused, RunCgroup
from proctally.linux.proc import read_stat

NOBODY = 65534


# -- real cgroups ------------------------------------------------------------------------------------------------


MACHINE = Machine()


@pytest.fixture
def real() -> Iterator[Place]:
    """A cgroup of this test alone, below the one in which it lives; removed with all that is in it."""
    if os.geteuid():
        pytest.skip("needs root")
    place = cgroup.places(MACHINE, os.getpid()).get(V2)
    try:
        outer = RunCgroup(MACHINE, place, os.getpid())
    except CgroupRefused as refused:
        pytest.skip(f"needs a writable cgroup v2: {refused}")
    assert place is not None
    yield Place(outer.directory, outer.path, place.top)
    outer.kill()
    for _ in range(200):
        if outer.remove():
            return
        time.sleep(0.01)
    raise AssertionError(f"{outer.directory} is still there")


@contextmanager
def child(work: Callable[[], object]) -> Iterator[tuple[int, Callable[[], None]]]:
    """A forked process that waits to be let go, works, and ends with 0; yields its pid and what lets it go."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(write)
            os.read(read, 1)
            work()
            status = 0
        finally:
            os._exit(status)
    os.close(read)
    try:
        yield pid, lambda: os.close(write)
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def burn() -> None:
    while time.process_time() < 0.4:
        sum(range(1000))


def test_usage_is_what_the_child_used(real: Place) -> None:
    run = RunCgroup(MACHINE, real, os.getpid())
    with child(burn) as (pid, go):
        run.add(pid)
        assert run.pids() == [pid]
        assert run.left([pid, os.getpid()]) == [os.getpid()]
        go()
        _, status, rusage = os.wait4(pid, 0)
    assert status == 0
    used = (rusage.ru_utime + rusage.ru_stime) * 1e9
    reading = run.read()
    if reading.cpu.usage_ns is None:
        pytest.skip("needs a kernel with cpu.stat in every cgroup")
    assert reading.cpu.usage_ns == pytest.approx(used, rel=0.01, abs=20e6)
    assert reading.cpu.user_ns is not None and reading.cpu.system_ns is not None
    assert reading.cpu.user_ns + reading.cpu.system_ns == pytest.approx(used, rel=0.01, abs=20e6)
    assert run.left([pid]) == []
    assert run.remove()
    assert not os.path.exists(run.directory)
    assert run.read().cpu.usage_ns is None


def test_left_behind_and_killed(real: Place) -> None:
    run = RunCgroup(MACHINE, real, os.getpid())
    with child(signal.pause) as (pid, go):
        sub = f"{run.directory}/of the job"
        os.mkdir(sub)
        os.mkdir(f"{run.directory}/empty")
        Path(sub, "cgroup.procs").write_text(str(pid))
        go()
        assert run.pids() == [pid] and run.left([pid]) == []
        assert not run.remove()
        assert os.path.isdir(f"{run.directory}/empty")  # it may yet be wanted
        assert own_cgroup.sweep(MACHINE, real) == 0
        if run.kill():
            assert ended(pid) == -signal.SIGKILL
        else:
            os.kill(pid, signal.SIGKILL)
            ended(pid)
    assert run.remove()


def test_who_moves_elsewhere_is_noticed(real: Place) -> None:
    run = RunCgroup(MACHINE, real, os.getpid())
    with child(signal.pause) as (pid, _):
        run.add(pid)
        assert run.left([pid]) == []
        Path(real.directory, "cgroup.procs").write_text(str(pid))
        assert run.left([pid, NO_PID]) == [pid]
    assert run.remove()


def test_a_zombie_stays_where_it_was_and_holds_nothing_up(real: Place) -> None:
    run = RunCgroup(MACHINE, real, os.getpid())
    with child(lambda: None) as (pid, go):
        run.add(pid)
        go()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert run.pids() == []
        assert run.left([pid]) == []
        assert run.remove()
        assert b"(deleted)" in MACHINE.read(f"{pid}/cgroup")
        assert run.left([pid]) == []
        assert V2 not in cgroup.places(MACHINE, pid)


def test_add_a_process_that_is_gone(real: Place) -> None:
    run = RunCgroup(MACHINE, real, os.getpid())
    with pytest.raises(ProcessGone):
        run.add(NO_PID)
    assert run.remove()
    with pytest.raises(CgroupRefused):
        run.add(os.getpid())


def test_sweep_after_a_run_that_was_killed(real: Place) -> None:
    with child(lambda: RunCgroup(MACHINE, real, os.getpid())) as (pid, go):
        start = read_stat(MACHINE, pid).start
        go()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        (name,) = (name for name in os.listdir(real.directory) if name.startswith(own_cgroup.PREFIX))
        assert own_cgroup.owner(name) == (pid, start)
        assert own_cgroup.sweep(MACHINE, real) == 0  # still a zombie: it has not been seen to end
        assert ended(pid) == 0
    mine = RunCgroup(MACHINE, real, os.getpid())
    os.mkdir(f"{real.directory}/else")
    assert own_cgroup.sweep(MACHINE, real) == 1
    assert not os.path.exists(f"{real.directory}/{name}")
    assert os.path.isdir(mine.directory) and os.path.isdir(f"{real.directory}/else")
    assert mine.remove()


def test_refused_at_the_limit_of_cgroups(real: Place) -> None:
    Path(real.directory, "cgroup.max.descendants").write_text("0")
    with pytest.raises(CgroupRefused) as refused:
        RunCgroup(MACHINE, real, os.getpid())
    assert refused.value.errno == errno.EAGAIN


def test_refused_below_a_threaded_cgroup(real: Place) -> None:
    os.mkdir(f"{real.directory}/threads")
    Path(real.directory, "threads/cgroup.type").write_text("threaded")
    with pytest.raises(CgroupRefused) as refused:
        RunCgroup(MACHINE, real, os.getpid())
    assert refused.value.errno == errno.EOPNOTSUPP
    assert [name for name in os.listdir(real.directory) if name.startswith(own_cgroup.PREFIX)] == []


def outcome(place: Place) -> str:
    """What an ordinary user gets who lives in this cgroup: the errno of the refusal, or how a whole use went."""
    read, write = os.pipe()

    def work() -> None:
        Path(place.directory, "cgroup.procs").write_text("0")
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            run = RunCgroup(MACHINE, place, os.getpid())
            with child(lambda: None) as (pid, go):
                run.add(pid)
                answer = f"holds {run.pids() == [pid]}, "
                go()
                ended(pid)
            answer += f"removed {run.remove()}"
        except CgroupRefused as refused:
            answer = errno.errorcode[refused.errno]
        os.write(write, answer.encode())

    with child(work) as (pid, go):
        os.close(write)
        go()
        answer = os.read(read, 100).decode()
        os.close(read)
        assert ended(pid) == 0
    return answer


def test_an_ordinary_user_needs_a_delegated_cgroup(real: Place) -> None:
    assert outcome(real) == "EACCES"
    os.chown(real.directory, NOBODY, NOBODY)  # may make cgroups, but not move processes
    assert outcome(real) == "EACCES"
    assert [name for name in os.listdir(real.directory) if name.startswith(own_cgroup.PREFIX)] == []
    os.chown(f"{real.directory}/cgroup.procs", NOBODY, NOBODY)
    assert outcome(real) == "holds True, removed True"


IN_A_NAMESPACE = """
import os
from proctally.linux import cgroup, own_cgroup
from proctally.linux.machine import Machine
place = cgroup.places(Machine(), os.getpid()).get(cgroup.V2)
try:
    own_cgroup.RunCgroup(Machine(), place, os.getpid()).remove()
    print(place.path)
except own_cgroup.CgroupRefused as refused:
    print(refused.errno)
"""


def inside(real: Place, prepare: str, *options: str) -> str:
    """What the script says from within new namespaces, in the cgroup `real`; `$0` of `prepare` is the v2 mount."""
    argv = ["unshare", "-m", *options, "sh", "-ec", f'{prepare}; shift 0; exec "$@"', real.top]

    def enter() -> None:
        Path(real.directory, "cgroup.procs").write_text("0")

    probe = subprocess.run([*argv, "true"], preexec_fn=enter, capture_output=True) if shutil.which("unshare") else None
    if probe is None or probe.returncode:
        pytest.skip("needs new namespaces")
    command = [*argv, sys.executable, "-c", IN_A_NAMESPACE]
    return subprocess.run(command, preexec_fn=enter, check=True, capture_output=True, text=True).stdout.strip()


def test_refused_where_cgroups_are_read_only(real: Place) -> None:
    assert inside(real, 'mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"') == str(errno.EROFS)


def test_inside_a_cgroup_namespace(real: Place) -> None:
    assert inside(real, 'umount -l "$0"; mount -t cgroup2 none "$0"', "-C") == "/"


def test_a_mount_from_outside_the_namespace_does_not_say_where_we_are(real: Place) -> None:
    assert inside(real, ":", "-C") == str(errno.EOPNOTSUPP)
