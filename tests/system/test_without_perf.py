"""Where perf or a cgroup is refused, in part or whole: the job is tracked all the same, and what is missing is said."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compiled import NO_COMPILER, Programs
from proctally.kernel import perf
from proctally.kernel.cgroup import places
from proctally.kernel.child import libc
from proctally.kernel.machine import Machine
from proctally.kernel.perf import Events, Refused, Unavailable, explain
from proctally.watch import Watch
from sandbox import refusing, unavailable
from tracked import PATIENCE, PROCTALLY, PYTHON, Done, User, call, environment, run

pytestmark = pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER))

PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
SECONDS = 0.3  # what a job burns
SLACK_SECONDS = 0.02
BEYOND_SECONDS = 0.01  # what starting and ending it costs
REFUSALS = {"EACCES": errno.EACCES, "EPERM": errno.EPERM, "ENOSYS": errno.ENOSYS}
ASKS_FOR = {"EACCES": "ask for CAP_PERFMON", "EPERM": "ask for CAP_PERFMON", "ENOSYS": "has no perf_event_open"}

NO_SANDBOX = unavailable()
in_a_sandbox = pytest.mark.skipif(NO_SANDBOX is not None, reason=str(NO_SANDBOX))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def paranoid() -> int | None:
    try:
        return int(PARANOID.read_text())
    except (OSError, ValueError):
        return None


def no_perf() -> str | None:
    """None, or in one line why an ordinary user has no counters and rings here."""
    try:
        os.close(Events(libc()).open(0, -1, perf.OURS))
    except Unavailable as reason:
        return str(reason)
    except Refused as error:
        return explain(error, paranoid())
    level = paranoid()
    if level is not None and level > 2:
        return f"perf is not for ordinary users: kernel.perf_event_paranoid is {level}"
    count = os.cpu_count() or 1
    return f"with {count} CPUs there are no rings unless asked for" if count > perf.MOST_RINGS else None


NO_PERF = no_perf()
with_perf = pytest.mark.skipif(NO_PERF is not None, reason=str(NO_PERF))


@pytest.fixture
def fresh(user: User) -> User:
    """The user, with no records of other tests."""
    shutil.rmtree(user.folder / "home", ignore_errors=True)
    return user


def job(programs: Programs, seconds: float = SECONDS) -> list[str]:
    """A command that burns, says something on both outputs, and ends with 3."""
    return ["sh", "-c", f"{programs.burn} {seconds}; echo out; echo err >&2; exit 3"]


def ran(done: Done, stdout: bytes = b"out\n", stderr: bytes = b"err\n", status: int = 3) -> dict[str, Any]:
    """The summary of a job whose status and outputs came through whole, of a tracker that had no mishap."""
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert (done.status, done.stdout) == (status, stdout), done.stderr.decode()
    assert done.stderr.startswith(stderr + b"proctally "), done.stderr.decode()
    assert b"fault of its own" not in done.stderr, done.stderr.decode()
    return done.summary()


def said(done: Done) -> str:
    """What was printed, without the breaks between its lines."""
    return " ".join(done.stderr.decode().split())


def right(total: float, used: float, stolen: float = 0.0) -> bool:
    """Whether a total is that of a job which burned so much, beside what it takes to start and end."""
    return 0.99 * used - SLACK_SECONDS <= total <= 1.01 * used + SLACK_SECONDS + BEYOND_SECONDS + stolen


def is_right(summary: dict[str, Any], stolen: float = 0.0, used: float = SECONDS) -> bool:
    return right(summary["cpu"]["total_seconds"], used, stolen)


def one_line(done: Done, status: int) -> str:
    """The one line of a tracker that did not begin."""
    assert (done.status, done.stdout) == (status, b""), done.stderr.decode()
    assert done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1, done.stderr.decode()
    return done.stderr.decode()


@contextmanager
def process(*words: str, **popen: Any) -> Iterator[int]:
    started = subprocess.Popen(words, **popen)
    try:
        yield started.pid
    finally:
        started.kill()
        started.wait()


# -- a sandbox that refuses perf_event_open --------------------------------------------------------------------------


@in_a_sandbox
@pytest.mark.parametrize("name", REFUSALS)
def test_refused_in_a_sandbox(tmp_path: Path, programs: Programs, name: str) -> None:
    done = run(tmp_path, "-v", "--", *job(programs), preexec_fn=refusing(REFUSALS[name], "perf_event_open"))
    summary = ran(done)
    assert is_right(summary)
    assert summary["cpu"]["source"] in ("cgroup", "rusage")
    assert "perf" not in summary["cpu"]["sources"]
    assert ASKS_FOR[name] in summary["cpu"]["unavailable"]["perf"]
    assert "no perf: " in said(done) and ASKS_FOR[name] in said(done)
    assert summary["processes"]["source"] == "procfs"
    assert "are missing" in summary["processes"]["coverage"]


@in_a_sandbox
@pytest.mark.parametrize("name", REFUSALS)
def test_refused_to_an_ordinary_user_in_a_sandbox(fresh: User, programs: Programs, name: str) -> None:
    done = fresh.call("run", "-v", "--", *job(programs), before=refusing(REFUSALS[name], "perf_event_open"))
    summary = ran(done)
    assert is_right(summary)
    assert "no perf: " in said(done) and ASKS_FOR[name] in said(done)
    if summary["cpu"]["source"] != "cgroup":
        assert "no cgroup: " in said(done)
        assert summary["cpu"]["coverage"].startswith("all but children that nobody waits for")


@in_a_sandbox
@pytest.mark.parametrize("name", REFUSALS)
def test_perf_alone_is_asked_for_and_refused(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "started"
    before = refusing(REFUSALS[name], "perf_event_open")
    done = run(tmp_path, "-v", "--source", "perf", "--", "touch", str(marker), preexec_fn=before)
    line = one_line(done, 125)
    assert "--source perf" in line and ASKS_FOR[name] in line
    assert not marker.exists()
    assert not (tmp_path / "runs").exists()


@in_a_sandbox
def test_where_it_is_refused_no_output_is_left(tmp_path: Path) -> None:
    output = tmp_path / "record.jsonl"
    before = refusing(errno.EPERM, "perf_event_open")
    one_line(run(tmp_path, "--source", "perf", "-o", str(output), "--", "true", preexec_fn=before), 125)
    assert not output.exists()


@in_a_sandbox
@pytest.mark.parametrize("name", REFUSALS)
def test_attach_refused_in_a_sandbox(tmp_path: Path, programs: Programs, name: str) -> None:
    with process(programs.burn, "60") as pid:
        before = refusing(REFUSALS[name], "perf_event_open")
        done = call(tmp_path, "attach", "-v", "--duration", "0.3", str(pid), preexec_fn=before)
    assert (done.status, done.stdout) == (0, b"")
    summary = done.summary()
    assert summary["cpu"]["source"] == "procfs"
    assert summary["cpu"]["total_seconds"] > 0.05
    assert list(summary["cpu"]["sources"]) == ["procfs"]
    assert "no perf: " in said(done) and ASKS_FOR[name] in said(done)


@in_a_sandbox
@pytest.mark.parametrize("name", REFUSALS)
def test_attach_by_perf_alone_refused(tmp_path: Path, programs: Programs, name: str) -> None:
    with process(programs.burn, "60") as pid:
        before = refusing(REFUSALS[name], "perf_event_open")
        path = tmp_path / "record"
        arguments = ["attach", "-v", "--source", "perf", "--duration", "0.3", "-o", str(path), str(pid)]
        done = call(tmp_path, *arguments, preexec_fn=before)
    assert not path.exists()  # nothing was tracked
    line = one_line(done, 1)
    assert "--source perf" in line and ASKS_FOR[name] in line


# -- kernel.perf_event_paranoid --------------------------------------------------------------------------------------


class Refusing:
    """A C library whose kernel refuses every call."""

    def __init__(self, number: int) -> None:
        self.number = number

    def syscall(self, *_: Any) -> int:
        ctypes.set_errno(self.number)
        return -1


def machine(folder: Path, *, level: int = 2, cpus: str = "0-1") -> Machine:
    """One with this `perf_event_paranoid` and these CPUs online."""
    for path, text in (("proc/sys/kernel/perf_event_paranoid", level), ("sys/devices/system/cpu/online", cpus)):
        file = folder / path
        file.parent.mkdir(parents=True)
        file.write_text(f"{text}\n")
    return Machine(str(folder / "proc"), sys=str(folder / "sys"))


def refused(watch: Watch, level: int) -> None:
    assert watch.why == f"kernel.perf_event_paranoid is {level}: ask for 2 (sysctl -w), or for CAP_PERFMON"
    assert (watch.read(), watch.fds, watch.roll) == (None, [], None)
    watch.take(last=True)
    watch.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("level", [3, 4])
def test_a_kernel_that_is_more_paranoid(tmp_path: Path, level: int, number: int) -> None:
    """Debian and Android have 3, Ubuntu has 4: nothing for whoever lacks CAP_PERFMON."""
    watch = Watch(machine(tmp_path, level=level))
    watch.open(Refusing(number), 1, b"job", commands="auto", counters=False)
    refused(watch, level)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("level", [3, 4])
def test_attach_under_a_kernel_that_is_more_paranoid(tmp_path: Path, level: int, number: int) -> None:
    watch = Watch(machine(tmp_path, level=level))
    watch.attach(Refusing(number), lambda: [1, 2])
    refused(watch, level)


def in_mounts(prepare: str, *before: str) -> list[str]:
    """The words that run what follows them in a mount namespace of its own, in which `prepare` was run."""
    words = ["unshare", "-m", *before, "sh", "-ec", f'{prepare}; exec "$0" "$@"']
    try:
        probe = subprocess.run([*words, "true"], capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"needs unshare(1): {error.strerror}")
    if probe.returncode:
        pytest.skip(f"needs a mount namespace: {probe.stderr.strip()}")
    return words


def call_in(words: list[str], home: Path, *arguments: str, **popen: Any) -> Done:
    """`proctally ARGUMENTS` behind these words."""
    command = [*words, *PROCTALLY, *arguments]
    return Done(
        home, subprocess.run(command, env=environment(home), capture_output=True, timeout=PATIENCE, cwd=home, **popen)
    )


@as_root
@in_a_sandbox
@pytest.mark.parametrize("level", [3, 4])
def test_a_kernel_that_says_it_is_more_paranoid(tmp_path: Path, programs: Programs, level: int) -> None:
    said_so = tmp_path / "level"
    said_so.write_text(f"{level}\n")
    words = in_mounts(f"mount --bind {said_so} {PARANOID}")
    before = refusing(errno.EACCES, "perf_event_open")
    done = call_in(words, tmp_path, "run", "-v", "--", *job(programs), preexec_fn=before)
    assert is_right(ran(done))
    assert f"kernel.perf_event_paranoid is {level}: ask for 2" in said(done)


@pytest.fixture
def paranoid_4() -> Iterator[None]:
    level = paranoid()
    if level is None:
        pytest.skip("this kernel has no perf_event_paranoid")
    try:
        PARANOID.write_text("4\n")
    except OSError as error:
        pytest.skip(f"kernel.perf_event_paranoid cannot be set: {error.strerror}")
    try:
        yield
    finally:
        PARANOID.write_text(f"{level}\n")


@as_root
@pytest.mark.usefixtures("paranoid_4")
def test_an_ordinary_user_of_a_paranoid_kernel(fresh: User, programs: Programs, stolen: Callable[[], float]) -> None:
    """Upstream has no level above 2, so it may be allowed."""
    done = fresh.call("run", "-v", "--", *job(programs))
    summary = ran(done)
    assert is_right(summary, stolen())
    if "perf" in summary["cpu"]["sources"]:
        assert summary["processes"]["coverage"] == "complete"
    else:
        assert "kernel.perf_event_paranoid is 4: ask for 2" in said(done)


# -- programs that an ordinary user may execute and not watch --------------------------------------------------------

HIDDEN = {"setuid": 0o4755, "unreadable": 0o711}


@pytest.fixture(params=HIDDEN)
def hidden(request: pytest.FixtureRequest, programs: Programs, user: User) -> str:
    """A program that burns, at whose exec the kernel takes perf's counter off an ordinary user's process."""
    if user.number is None:
        pytest.skip("it takes root to make a program of another user")
    if NO_PERF is not None:
        pytest.skip(NO_PERF)
    if request.param == "setuid" and os.statvfs(programs.folder).f_flag & os.ST_NOSUID:
        pytest.skip(f"{programs.folder} is on a file system without setuid")
    return programs.copy(request.param, HIDDEN[request.param])


def tells_of_it(summary: dict[str, Any]) -> None:
    """What it used is no longer told by perf, so the processes and commands are not whole."""
    commands = sum(command["cpu_seconds"] for command in summary["commands"])
    if right(commands, SECONDS):
        return
    assert not summary["processes"]["coverage"].startswith("complete")


def test_hidden_job(fresh: User, hidden: str) -> None:
    done = fresh.call("run", "-v", "-i", "0.1", "--", hidden, str(SECONDS))
    summary = ran(done, b"", b"", 0)
    assert is_right(summary)
    assert summary["cpu"]["source"] == "rusage"
    tells_of_it(summary)


def test_hidden_child(fresh: User, hidden: str) -> None:
    done = fresh.call("run", "-v", "-i", "0.1", "--", "sh", "-c", f"{hidden} {SECONDS}; echo out; echo err >&2; exit 3")
    summary = ran(done)
    assert is_right(summary)
    assert summary["cpu"]["source"] == "rusage"
    tells_of_it(summary)


UNREAPED = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
try:
    os.waitpid(pid, 0)
except ChildProcessError:
    print("out")
"""


def test_hidden_child_that_nobody_waits_for(fresh: User, hidden: str) -> None:
    """Nothing tells what it used after it was last seen."""
    code = [*fresh.python, "-c", UNREAPED, hidden, str(SECONDS)]
    done = fresh.call("run", "-v", "-i", "0.2", "--", *code)
    summary = ran(done, stderr=b"", status=0)
    assert summary["cpu"]["total_seconds"] <= 1.01 * SECONDS + 0.1
    assert summary["cpu"]["coverage"] != "complete"
    tells_of_it(summary)


@with_perf
def test_child_that_nobody_waits_for_and_that_can_be_watched(
    fresh: User, programs: Programs, stolen: Callable[[], float]
) -> None:
    """The same with a program that hides nothing: perf has it all."""
    code = [*fresh.python, "-c", UNREAPED, programs.burn, str(SECONDS)]
    summary = ran(fresh.call("run", "-v", "-i", "0.2", "--", *code), stderr=b"", status=0)
    own = 0.03  # of the interpreter
    assert 0.99 * SECONDS - SLACK_SECONDS <= summary["cpu"]["total_seconds"] <= SECONDS + own + 0.03 + stolen()
    assert summary["cpu"]["source"] == "perf"
    assert summary["processes"]["coverage"] == "complete"
    (burnt,) = [command for command in summary["commands"] if command["command"] == "burn"]
    assert right(burnt["cpu_seconds"], SECONDS, stolen())


# -- the user's locked memory ----------------------------------------------------------------------------------------

HOARD = """
import os, resource, sys
from proctally.kernel import perf
from proctally.kernel.cgroup import parse_cpu_list
from proctally.kernel.child import libc
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
perf.RING_BYTES = (131072, 65536, 32768, 16384)
cpus = sorted(parse_cpu_list(open("/sys/devices/system/cpu/online", "rb").read()))
kept = []
try:
    while True:
        kept.append(perf.open_rings(perf.Events(libc()), os.getpid(), cpus))
except perf.Refused as error:
    for rings in kept[len(kept) - int(sys.argv[1]) :]:
        rings.close()
    print(len(kept), error.errno, flush=True)
sys.stdin.read()
"""


@contextmanager
def hoard(user: User, give_back: int) -> Iterator[None]:
    """Another process of this user has all the memory for rings that he may have, but for so many small sets."""
    words = [user.python[0], "-c", HOARD, str(give_back)]
    with subprocess.Popen(
        words,
        env=user.environment,
        cwd=user.folder,
        preexec_fn=user.become,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as helper:
        assert helper.stdin is not None and helper.stdout is not None
        try:
            count, number = map(int, helper.stdout.readline().split())
            assert (count > 0, number) == (True, errno.ENOMEM)
            yield
        finally:
            helper.stdin.close()


def without_locked_memory() -> None:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))


memory_is_limited = pytest.mark.skipif(
    (paranoid() or 0) < 0, reason="kernel.perf_event_paranoid < 0: the memory of rings is not limited"
)


@as_root
@with_perf
@memory_is_limited
def test_a_user_without_locked_memory_has_the_pool(
    fresh: User, programs: Programs, stolen: Callable[[], float]
) -> None:
    done = fresh.call("run", "-v", "--", *job(programs), before=without_locked_memory)
    summary = ran(done)
    assert is_right(summary, stolen())
    assert (summary["processes"]["source"], summary["processes"]["coverage"]) == ("perf", "complete")


@as_root
@with_perf
@memory_is_limited
def test_little_is_left_of_the_pool(fresh: User, programs: Programs, stolen: Callable[[], float]) -> None:
    """Smaller rings tell as much."""
    with hoard(fresh, 1):
        done = fresh.call("run", "-v", "--", *job(programs), before=without_locked_memory)
    summary = ran(done)
    assert is_right(summary, stolen())
    assert (summary["processes"]["source"], summary["processes"]["coverage"]) == ("perf", "complete")
    assert summary["processes"]["started"] == 2


@as_root
@with_perf
@memory_is_limited
@pytest.mark.parametrize("commands", ["auto", "on"])
def test_nothing_is_left_of_the_pool(
    fresh: User, programs: Programs, stolen: Callable[[], float], commands: str
) -> None:
    """The counter alone takes no memory: the total is perf's, also of what nobody waits for."""
    with hoard(fresh, 0):
        options = ["-v", "-i", "0.2", "--commands", commands]
        done = fresh.call("run", *options, "--", *job(programs), before=without_locked_memory)
        summary = ran(done)
        assert is_right(summary, stolen())
        code = [*fresh.python, "-c", UNREAPED, programs.burn, str(SECONDS)]
        shutil.rmtree(fresh.folder / "home")
        unreaped = ran(fresh.call("run", *options, "--", *code, before=without_locked_memory), stderr=b"", status=0)
    assert summary["cpu"]["sources"]["perf"] == pytest.approx(summary["cpu"]["total_seconds"], rel=0.01, abs=0.02)
    assert "perf" not in summary["cpu"]["unavailable"]
    assert summary["processes"]["source"] == "procfs"
    assert "no locked memory is left for rings" in summary["processes"]["coverage"]
    assert "no locked memory is left for rings: ask for more kernel.perf_event_mlock_kb or ulimit -l" in said(done)
    assert unreaped["cpu"]["source"] == "perf"
    assert SECONDS - SLACK_SECONDS <= unreaped["cpu"]["total_seconds"] <= SECONDS + 0.06 + stolen()


# -- no descriptors --------------------------------------------------------------------------------------------------

LIMITS = [*range(12, 20), 24, 40]
SHORT_SECONDS = 0.1


@pytest.mark.parametrize("limit", LIMITS)
def test_few_descriptors(tmp_path: Path, programs: Programs, stolen: Callable[[], float], limit: int) -> None:
    script = f"ulimit -n; ulimit -Hn; {programs.burn} {SHORT_SECONDS}; exit 3"
    done = run(
        tmp_path,
        "-v",
        "--",
        "sh",
        "-c",
        script,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit - 1, limit)),
    )
    summary = ran(done, f"{limit - 1}\n{limit}\n".encode(), b"")
    assert is_right(summary, stolen(), SHORT_SECONDS) or summary["cpu"]["coverage"] != "complete"
    if NO_PERF is None and summary["processes"]["source"] != "perf":
        assert "ulimit -n" in said(done)


@pytest.mark.parametrize("limit", LIMITS)
def test_few_descriptors_and_nothing_to_be_said(tmp_path: Path, limit: int) -> None:
    done = run(
        tmp_path,
        "-q",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; kill -KILL $$",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    assert (done.status, done.stdout, done.stderr) == (137, b"out\n", b"err\n")


@pytest.mark.parametrize("limit", LIMITS)
def test_attach_with_few_descriptors(tmp_path: Path, programs: Programs, limit: int) -> None:
    with process(programs.burn, "60") as pid:
        arguments = ["attach", "-v", "-i", "0.1", "--duration", "0.3", str(pid)]
        done = call(tmp_path, *arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "it goes on"
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    if done.status:
        one_line(done, 1)
        return
    summary = done.summary()
    assert summary["cpu"]["total_seconds"] > 0.05
    if NO_PERF is None and "perf" not in summary["cpu"]["sources"]:
        assert "no perf: " in said(done) and "ulimit -n" in said(done)


class Giving:
    """A C library whose kernel gives every event: a file that can be mapped."""

    def __init__(self) -> None:
        self.cpus: list[int] = []

    def syscall(self, number: Any, attr: bytes, pid: Any, cpu: Any, *_: Any) -> int:
        self.cpus.append(cpu.value)
        fd = os.memfd_create("event")
        os.ftruncate(fd, 1 << 18)
        return fd


@pytest.fixture
def giving(monkeypatch: pytest.MonkeyPatch) -> Giving:
    """Its files know no PERF_EVENT_IOC_SET_OUTPUT."""
    monkeypatch.setattr(perf, "ioctl", lambda fd, request, argument: 0)
    return Giving()


def spare(monkeypatch: pytest.MonkeyPatch, *enough: bool) -> None:
    """Whether there are enough descriptors for /proc, each time that this is asked."""
    answers = iter(enough)

    def leave_spare() -> None:
        if not next(answers):
            raise Refused(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("proctally.watch.leave_spare", leave_spare)


def test_rings_that_leave_too_few_descriptors_are_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, giving: Giving
) -> None:
    spare(monkeypatch, False, True)
    before = os.listdir("/proc/self/fd")
    watch = Watch(machine(tmp_path))
    watch.open(giving, 1, b"job", commands="on", counters=False)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert (watch.read(), watch.fds, watch.roll) == (0, [], None)
    why = "no descriptor is left for perf: raise the limit of open files (ulimit -n)"
    assert (watch.why, watch.why_no_commands) == (None, why)
    watch.take(last=True)
    watch.close()


def test_a_counter_that_leaves_too_few_descriptors_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, giving: Giving
) -> None:
    spare(monkeypatch, False, False)
    before = os.listdir("/proc/self/fd")
    watch = Watch(machine(tmp_path))
    watch.open(giving, 1, b"job", commands="on", counters=True)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert (watch.read(), watch.fds, watch.roll) == (None, [], None)
    assert watch.why is not None and "ulimit -n" in watch.why


def test_counters_that_leave_too_few_descriptors_are_given_up_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, giving: Giving
) -> None:
    spare(monkeypatch, True, False)
    watch = Watch(machine(tmp_path))
    watch.open(giving, 1, b"job", commands="on", counters=True)
    assert set(watch.counters().values()) == {None}
    assert (watch.why, watch.why_no_commands) == (None, None)
    assert watch.roll is not None
    assert len(watch.fds) == 3
    watch.close()


# -- cgroups ---------------------------------------------------------------------------------------------------------


def unified() -> str:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return line.split()[4]
    pytest.skip("no cgroup v2 is mounted")


READ_ONLY = "mount --bind {0} {0}; mount -o remount,ro,bind {0}"


@as_root
def test_read_only_cgroups(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    words = in_mounts(READ_ONLY.format(unified()))
    done = call_in(words, tmp_path, "run", "-v", "--cgroup", "--", *job(programs))
    summary = ran(done)
    assert is_right(summary, stolen())
    assert "no cgroup: cgroups are mounted read-only here: have the v2 hierarchy mounted writable" in said(done)
    assert "cgroup" not in summary["cpu"]["sources"]


@as_root
def test_read_only_cgroups_alone_are_asked_for(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    words = in_mounts(READ_ONLY.format(unified()))
    line = one_line(call_in(words, tmp_path, "run", "--source", "cgroup", "--", "touch", str(marker)), 125)
    assert "--source cgroup" in line and "read-only" in line
    assert not marker.exists()


@as_root
@in_a_sandbox
def test_read_only_cgroups_and_no_perf(tmp_path: Path, programs: Programs) -> None:
    """As in most containers."""
    words = in_mounts(READ_ONLY.format(unified()))
    before = refusing(errno.EPERM, "perf_event_open")
    done = call_in(words, tmp_path, "run", "-v", "--", *job(programs), preexec_fn=before)
    summary = ran(done)
    assert is_right(summary)
    assert "read-only" in said(done) and "ask for CAP_PERFMON" in said(done)
    assert summary["cpu"]["coverage"].startswith("all but children that nobody waits for")


@as_root
def test_cgroups_that_are_not_to_be_seen(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    words = in_mounts(f"umount -l {unified()}")
    done = call_in(words, tmp_path, "run", "-v", "--cgroup", "--", *job(programs))
    assert is_right(ran(done), stolen())
    assert "no cgroup: this cgroup is threaded or has no v2 hierarchy: start in a domain cgroup of v2" in said(done)


@as_root
def test_a_cgroup_that_is_not_delegated(fresh: User, programs: Programs, stolen: Callable[[], float]) -> None:
    unified()
    done = fresh.call("run", "-v", "--cgroup", "--", *job(programs))
    assert is_right(ran(done), stolen())
    assert "no cgroup: this cgroup is not this user's to divide: start inside a delegated one" in said(done)
    marker = fresh.folder / "home" / "started"
    line = one_line(fresh.call("run", "--source", "cgroup", "--", "touch", str(marker)), 125)
    assert "--source cgroup" in line and "Delegate=yes" in line
    assert not marker.exists()


def cgroup_files(*names: str) -> list[str]:
    """Those of these files that the cgroups around this process have."""
    levels = [directory for place in places(Machine(), os.getpid()).values() for directory, _ in place.levels()]
    return [f"{directory}/{name}" for directory in levels for name in names if os.path.exists(f"{directory}/{name}")]


@as_root
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0-3 (isolated)", ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")),
        ("oom_kill many", ("memory.events", "memory.oom_control")),
    ],
)
def test_cgroup_files_that_cannot_be_understood(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    files = cgroup_files(*names)
    if not files:
        pytest.skip(f"no cgroup around this process has {names[0]}")
    unified()
    garbage = tmp_path / "garbage"
    garbage.write_text(f"{text}\n")
    words = in_mounts("; ".join(f"mount --bind {garbage} {file}" for file in files))
    script = "grep ^0:: /proc/self/cgroup | cut -d: -f3; sleep 0.15; exit 3"
    done = call_in(words, tmp_path, "run", "-q", "-i", "0.05", "--cgroup", "--", "sh", "-c", script)
    assert (done.status, done.stderr) == (3, b"")
    cpu = done.summary()["cpu"]
    assert (cpu["source"], cpu["coverage"]) == ("cgroup", "complete")
    assert cpu["unavailable"].keys() == {"limits"} and text in cpu["unavailable"]["limits"]
    own = unified() + done.stdout.decode().strip()
    assert "/proctally-" in own
    assert not os.path.exists(own)


LEAVE = """
point={point}
path=$(grep ^0:: /proc/self/cgroup | cut -d: -f3)
{burn} {half}
echo $$ > $point/cgroup.procs
rmdir $point$path
{burn} {half}
echo out; echo err >&2; exit 3
"""


@as_root
@with_perf
def test_its_own_cgroup_is_removed(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    """The job moves away and removes it: what it used there is known to no file any more."""
    script = LEAVE.format(point=unified(), burn=programs.burn, half=SECONDS / 2)
    done = run(tmp_path, "-v", "-i", "0.05", "--cgroup", "--", "sh", "-c", script)
    summary = ran(done)
    assert summary["cpu"]["source"] != "cgroup"
    assert is_right(summary, stolen())
    assert "no cgroup: " in said(done)


# -- perf without rings ----------------------------------------------------------------------------------------------


@with_perf
def test_commands_off(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    done = run(tmp_path, "-v", "--commands", "off", "--", *PYTHON, "-c", UNREAPED, programs.burn, str(SECONDS))
    summary = ran(done, stderr=b"", status=0)
    assert summary["cpu"]["source"] == "perf"
    assert SECONDS - SLACK_SECONDS <= summary["cpu"]["total_seconds"] <= SECONDS + 0.06 + stolen()
    assert summary["processes"]["source"] == "procfs"
    assert "switched off" in summary["processes"]["coverage"]
    assert "(switched off)" in said(done)


@with_perf
def test_commands_on(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    summary = ran(run(tmp_path, "-v", "--commands", "on", "--", *job(programs)))
    assert is_right(summary, stolen())
    assert (summary["processes"]["source"], summary["processes"]["coverage"]) == ("perf", "complete")
    assert {(command["command"], command["processes"]) for command in summary["commands"]} == {("sh", 1), ("burn", 1)}


class Many:
    """A C library whose kernel gives counters and refuses the events of which rings are made."""

    def __init__(self) -> None:
        self.cpus: list[int] = []

    def syscall(self, number: Any, attr: bytes, pid: Any, cpu: Any, *_: Any) -> int:
        self.cpus.append(cpu.value)
        if cpu.value >= 0:
            ctypes.set_errno(errno.EMFILE)
            return -1
        return os.memfd_create("counter")


@pytest.mark.parametrize(
    ("cpus", "commands", "why", "tried"),
    [
        ("0-63", "auto", "with 64 CPUs every fork would take 128 us longer: ask for it by --commands on", [-1]),
        ("0-16", "auto", "with 17 CPUs every fork would take 34 us longer: ask for it by --commands on", [-1]),
        ("0-15", "auto", "no descriptor is left for perf: raise the limit of open files (ulimit -n)", [0, -1]),
        ("0-63", "on", "no descriptor is left for perf: raise the limit of open files (ulimit -n)", [0, -1]),
        ("0-1", "off", "switched off", [-1]),
    ],
)
def test_many_cpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpus: str, commands: str, why: str, tried: list[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {max(tried[0], 0)})
    library = Many()
    watch = Watch(machine(tmp_path, cpus=cpus))
    watch.open(library, 1, b"job", commands=commands, counters=False)
    assert library.cpus == tried
    assert (watch.why, watch.why_no_commands) == (None, why)
    assert (watch.read(), watch.fds, watch.roll) == (0, [], None)
    watch.close()


@pytest.mark.parametrize(
    ("online", "cpuset", "opened"),
    [
        ("0-1", {0}, [0]),
        ("0-127", {6, 3, 5, 4}, [3, 4, 5, 6]),  # by the machine alone there would be none
        ("0-1", set(), [0, 1]),
    ],
)
def test_rings_are_for_the_cpus_of_the_cpuset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, giving: Giving, online: str, cpuset: set[int], opened: list[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    watch = Watch(machine(tmp_path, cpus=online))
    watch.open(giving, 1, b"job", commands="auto", counters=False, cpuset=lambda: cpuset)
    assert giving.cpus == [*opened, -1, -1]
    assert (watch.why, watch.why_no_commands) == (None, None)
    assert watch.roll is not None
    assert len(watch.fds) == len(opened) + 1
    watch.close()


@as_root
@with_perf
def test_a_list_of_cpus_that_hides_some(tmp_path: Path, programs: Programs) -> None:
    """A container's file system (LXCFS) shows as many CPUs as it may use at a time, not those that it runs on."""
    if os.cpu_count() == 1:
        pytest.skip("needs two CPUs")
    online = tmp_path / "online"
    online.write_text("0\n")
    words = in_mounts(f"mount --bind {online} /sys/devices/system/cpu/online")
    done = call_in(words, tmp_path, "run", "-v", "--", programs.forks, str(os.cpu_count()), "20", "60", "0")
    count, _ = done.stdout.split()
    summary = ran(done, done.stdout, b"", 0)
    told = summary["processes"]["started"] == int(count)
    assert told or not summary["processes"]["coverage"].startswith("complete")
