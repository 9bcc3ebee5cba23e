"""Where perf or a cgroup is refused, in part or whole: the job is tracked all the same, and what is missing is said."""

from __future__ import annotations

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
from perf_refused import Giving, machine, spare
from proctally.linux import perf
from proctally.linux.c_library import libc
from proctally.linux.cgroup import places
from proctally.linux.machine import Machine
from proctally.linux.perf import Events, PerfRefused, Unsupported
from proctally.text.words import missing
from proctally.tree.perf_source import PerfSource
from sandbox import refusing, unavailable
from tracked import PATIENCE, PROCTALLY, PYTHON, Done, User, call, environment, gaps, run

pytestmark = pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER))
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
SECONDS = 0.3  # what a job burns
SLACK_SECONDS = 0.02
BEYOND_SECONDS = 0.01  # what starting and ending it costs
REFUSALS = {"EACCES": errno.EACCES, "EPERM": errno.EPERM, "ENOSYS": errno.ENOSYS}
CODES = {"EACCES": "perf_refused", "EPERM": "perf_refused", "ENOSYS": "no_syscall"}
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
    except (Unsupported, PerfRefused) as error:
        return f"no perf: {error!r}"
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
    assert summary["cpu"]["unavailable"]["perf"] == CODES[name]
    assert missing(CODES[name], "perf") in said(done)
    assert summary["processes"]["source"] == "procfs"
    assert gaps(summary, "processes") == {"processes_sampled": {}}


@in_a_sandbox
@pytest.mark.parametrize("name", REFUSALS)
def test_refused_to_an_ordinary_user_in_a_sandbox(fresh: User, programs: Programs, name: str) -> None:
    done = fresh.call("run", "-v", "--", *job(programs), before=refusing(REFUSALS[name], "perf_event_open"))
    summary = ran(done)
    assert is_right(summary)
    assert summary["cpu"]["unavailable"]["perf"] == CODES[name]
    if summary["cpu"]["source"] != "cgroup":
        assert summary["cpu"]["unavailable"]["cgroup"]
        assert gaps(summary, "cpu") == {"unreaped_unknown": {}}


@in_a_sandbox
@pytest.mark.parametrize("name", REFUSALS)
def test_perf_alone_is_asked_for_and_refused(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "started"
    before = refusing(REFUSALS[name], "perf_event_open")
    done = run(tmp_path, "-v", "--source", "perf", "--", "touch", str(marker), preexec_fn=before)
    line = one_line(done, 125)
    assert line == f"proctally: --source perf: {missing(CODES[name], 'perf')}\n"
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
    assert summary["cpu"]["unavailable"]["perf"] == CODES[name]


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
    assert line == f"proctally: --source perf: {missing(CODES[name], 'perf')}\n"


# -- kernel.perf_event_paranoid --------------------------------------------------------------------------------------


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
    summary = ran(done)
    assert is_right(summary)
    assert summary["cpu"]["unavailable"]["perf"] == "perf_paranoid"


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
        assert summary["cpu"]["unavailable"]["perf"] == "perf_paranoid"


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
    assert gaps(summary, "processes").keys() & {"setuid", "processes_sampled"}


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
from proctally.linux import perf
from proctally.linux.proc import parse_cpu_list
from proctally.linux.c_library import libc
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
perf.RING_BYTES = (131072, 65536, 32768, 16384)
cpus = sorted(parse_cpu_list(open("/sys/devices/system/cpu/online", "rb").read()))
kept = []
try:
    while True:
        kept.append(perf.open_rings(perf.Events(libc()), os.getpid(), cpus))
except perf.PerfRefused as error:
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
    assert right(summary["cpu"]["sources"]["perf"], summary["cpu"]["total_seconds"], stolen())
    assert "perf" not in summary["cpu"]["unavailable"]
    assert summary["processes"]["source"] == "procfs"
    assert summary["cpu"]["unavailable"]["commands"] == "no_locked_memory"
    assert gaps(summary, "processes") == {"processes_sampled": {}}
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
        assert "no_descriptors" in summary["cpu"]["unavailable"].values()


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
        assert summary["cpu"]["unavailable"]["perf"] == "no_descriptors"


@pytest.fixture
def giving(monkeypatch: pytest.MonkeyPatch) -> Giving:
    """Its files know no PERF_EVENT_IOC_SET_OUTPUT."""
    monkeypatch.setattr(perf, "ioctl", lambda fd, request, argument: 0)
    return Giving()


def test_rings_that_leave_too_few_descriptors_are_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, giving: Giving
) -> None:
    spare(monkeypatch, False, True)
    before = os.listdir("/proc/self/fd")
    watch = PerfSource(machine(tmp_path))
    watch.open(giving, 1, b"job", commands="on", counters=False)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert (watch.read(), watch.fds, watch.roll) == (0, [], None)
    assert (watch.missing, watch.commands_missing) == (None, "no_descriptors")
    watch.take(last=True)
    watch.close()


def test_a_counter_that_leaves_too_few_descriptors_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, giving: Giving
) -> None:
    spare(monkeypatch, False, False)
    before = os.listdir("/proc/self/fd")
    watch = PerfSource(machine(tmp_path))
    watch.open(giving, 1, b"job", commands="on", counters=True)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert (watch.read(), watch.fds, watch.roll) == (None, [], None)
    assert watch.missing == "no_descriptors"


# -- cgroups ---------------------------------------------------------------------------------------------------------


def unified() -> str:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return line.split()[4]
    pytest.skip("no cgroup v2 is mounted")


def hierarchies(*kinds: str) -> list[str]:
    """Where cgroups are mounted in which a run makes its own: v2, and `cpuacct` and `memory` of v1."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        kind, _, options = source.split()[:3]
        used = kind == "cgroup2" or {"cpuacct", "memory"} & {*options.split(",")}
        if kind in kinds and used:
            found.append(mount.split()[4])
    return found


def read_only() -> str:
    unified()
    remount = "mount --bind {0} {0}; mount -o remount,ro,bind {0}"
    return "; ".join(remount.format(point) for point in hierarchies("cgroup", "cgroup2"))


def unmounted(*kinds: str) -> str:
    return "; ".join(f"umount -l {point}" for point in hierarchies(*kinds)) or ":"


@as_root
def test_read_only_cgroups(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    words = in_mounts(read_only())
    done = call_in(words, tmp_path, "run", "-v", "--cgroup", "--", *job(programs))
    summary = ran(done)
    assert is_right(summary, stolen())
    assert summary["cpu"]["unavailable"]["cgroup"] == "cgroup_read_only"
    assert missing("cgroup_read_only", "cgroup") in said(done)
    assert "cgroup" not in summary["cpu"]["sources"]


@as_root
def test_read_only_cgroups_alone_are_asked_for(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    words = in_mounts(read_only())
    line = one_line(call_in(words, tmp_path, "run", "--source", "cgroup", "--", "touch", str(marker)), 125)
    assert line == f"proctally: --source cgroup: {missing('cgroup_read_only', 'cgroup')}\n"
    assert not marker.exists()


@as_root
@in_a_sandbox
def test_read_only_cgroups_and_no_perf(tmp_path: Path, programs: Programs) -> None:
    """As in most containers."""
    words = in_mounts(read_only())
    before = refusing(errno.EPERM, "perf_event_open")
    done = call_in(words, tmp_path, "run", "-v", "--", *job(programs), preexec_fn=before)
    summary = ran(done)
    assert is_right(summary)
    assert summary["cpu"]["unavailable"] == {"perf": "perf_refused", "cgroup": "cgroup_read_only"}
    assert gaps(summary, "cpu") == {"unreaped_unknown": {}}


@as_root
def test_cgroups_that_are_not_to_be_seen(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    unified()
    words = in_mounts(unmounted("cgroup", "cgroup2"))
    done = call_in(words, tmp_path, "run", "-v", "--cgroup", "--", *job(programs))
    summary = ran(done)
    assert is_right(summary, stolen())
    assert summary["cpu"]["unavailable"]["cgroup"] == "cgroup_unfit"


@as_root
def test_a_cgroup_that_is_not_delegated(fresh: User, programs: Programs, stolen: Callable[[], float]) -> None:
    unified()
    done = fresh.call("run", "-v", "--cgroup", "--", *job(programs))
    summary = ran(done)
    assert is_right(summary, stolen())
    assert summary["cpu"]["unavailable"]["cgroup"] == "cgroup_not_delegated"
    marker = fresh.folder / "home" / "started"
    line = one_line(fresh.call("run", "--source", "cgroup", "--", "touch", str(marker)), 125)
    assert line == f"proctally: --source cgroup: {missing('cgroup_not_delegated', 'cgroup')}\n"
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
    assert cpu["unavailable"] == {"limits": "invalid"}
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
    words = in_mounts(unmounted("cgroup"))  # of those it would be a member still
    done = call_in(words, tmp_path, "run", "-v", "-i", "0.05", "--cgroup", "--", "sh", "-c", script)
    summary = ran(done)
    assert summary["cpu"]["source"] != "cgroup"
    assert is_right(summary, stolen())
    assert summary["cpu"]["unavailable"]["cgroup"] == "cgroup_left"


# -- perf without rings ----------------------------------------------------------------------------------------------


@with_perf
def test_commands_off(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    done = run(tmp_path, "-v", "--commands", "off", "--", *PYTHON, "-c", UNREAPED, programs.burn, str(SECONDS))
    summary = ran(done, stderr=b"", status=0)
    assert summary["cpu"]["source"] == "perf"
    assert SECONDS - SLACK_SECONDS <= summary["cpu"]["total_seconds"] <= SECONDS + 0.06 + stolen()
    assert summary["processes"]["source"] == "procfs"
    assert summary["cpu"]["unavailable"]["commands"] == "switched_off"
    assert gaps(summary, "processes") == {"processes_sampled": {}}


@with_perf
def test_commands_on(tmp_path: Path, programs: Programs, stolen: Callable[[], float]) -> None:
    summary = ran(run(tmp_path, "-v", "--commands", "on", "--", *job(programs)))
    assert is_right(summary, stolen())
    assert (summary["processes"]["source"], summary["processes"]["coverage"]) == ("perf", "complete")
    assert {(command["command"], command["processes"]) for command in summary["commands"]} == {("sh", 1), ("burn", 1)}


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
    assert told or summary["processes"]["coverage"] != "complete"
