"""Real cgroups around a job: its limits, throttling, the OOM killer, and a cgroup of its own. It takes root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import proctally
from proctally.linux import own_cgroup
from proctally.linux.cgroup import V2, parse_mountinfo, places
from proctally.linux.machine import Machine
from tracked import (
    PROCTALLY,
    PYTHON,
    Done,
    environment,
    failing,
    gaps,
    reason,
    record,
    run,
    runs,
    samples,
    until,
    whole,
)
from truth import ENTER

NOBODY = 65534
MIB = 1 << 20
MOUNTS = parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())


def mount_of(name: str) -> Path | None:
    """Where the hierarchy of a v1 controller, or of v2, is mounted and can be written."""
    points = [Path(mount.point) for mount in MOUNTS if name in mount.names]
    return next((point for point in points if os.geteuid() == 0 and os.access(point, os.W_OK)), None)


def needs(name: str) -> pytest.MarkDecorator:
    missing = mount_of(name) is None
    return pytest.mark.skipif(missing, reason=f"no writable {name or 'v2'} hierarchy: needs root and a mount")


@contextmanager
def below(name: str, **files: str) -> Iterator[Path]:
    """A cgroup of this hierarchy with these settings; all in it is killed at the end."""
    point = mount_of(name)
    assert point is not None
    folder = Path(tempfile.mkdtemp(prefix="proctally-test-", dir=point))
    try:
        for file, value in files.items():
            (folder / file.replace("__", ".")).write_text(value)
        yield folder
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    for inner in [path for path in folder.iterdir() if path.is_dir()]:
        remove(inner)
    deadline = time.monotonic() + 5
    while True:
        try:
            for pid in (folder / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            folder.rmdir()
            return
        except (ProcessLookupError, OSError):
            assert time.monotonic() < deadline, f"{folder} stays"
            time.sleep(0.01)


def run_in(folder: Path, home: Path, *arguments: str) -> Done:
    """`proctally run` within this cgroup, tracker and job."""
    command = ["/bin/sh", "-c", ENTER, str(folder / "cgroup.procs"), *PROCTALLY, "run", *arguments]
    done = subprocess.run(command, env=environment(home), capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    return Done(home, done)


# -- limits ----------------------------------------------------------------------------------------------------------

BURN = "import time\nwhile time.process_time() < 0.4: pass"


@needs("cpu")
def test_a_quota_and_what_it_costs(tmp_path: Path) -> None:
    with below("cpu", cpu__cfs_period_us="20000", cpu__cfs_quota_us="10000") as folder:
        done = run_in(folder, tmp_path, "-i", "0.2", "--", *PYTHON, "-c", BURN)
        name = folder.name
    assert done.status == 0
    summary = done.summary()
    assert summary["limits"]["cpu_cores"] == 0.5
    assert summary["limits"]["from"].startswith(f"cpu.cfs_quota_us of /{name}")
    waiting = summary["waiting"]
    assert 0.02 < waiting["throttled_seconds"] < 2 * summary["wall_seconds"]
    assert 0 < waiting["throttled_periods"] <= waiting["periods"]
    throttled = [sample["tree"]["throttled_seconds"] for sample in samples(done.record())]
    assert throttled == sorted(throttled)
    assert throttled[-1] > throttled[0]
    assert b"of 0.5 used" in done.stderr and b"held by the quota" in done.stderr
    assert done.record()[0]["limits"] == summary["limits"]


def test_without_a_quota_nothing_is_throttled(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--", "true")
    if done.summary()["limits"]["from"].startswith("cpu."):
        pytest.skip("this machine's own cgroup has a quota")
    assert done.summary()["waiting"]["throttled_seconds"] is None
    assert samples(done.record())[-1]["tree"]["throttled_seconds"] is None


@needs("cpuset")
def test_a_cpuset(tmp_path: Path) -> None:
    point = mount_of("cpuset")
    assert point is not None
    nodes = (point / "cpuset.mems").read_text()
    with below("cpuset", cpuset__cpus="0", cpuset__mems=nodes) as folder:
        done = run_in(folder, tmp_path, "-q", "--", "true")
    limits = done.summary()["limits"]
    assert (limits["cpu_cores"], limits["from"].split(";")[0]) == (1, f"cpuset of /{folder.name}")


def test_affinity(tmp_path: Path) -> None:
    first = min(os.sched_getaffinity(0))
    done = run(tmp_path, "-q", "--", "true", preexec_fn=lambda: os.sched_setaffinity(0, {first}))
    assert done.summary()["limits"]["cpu_cores"] <= 1


@needs("memory")
def test_a_limit_of_memory_is_shown(tmp_path: Path) -> None:
    with below("memory", memory__limit_in_bytes=str(512 * MIB)) as folder:
        done = run_in(folder, tmp_path, "--", "true")
    assert done.summary()["limits"]["memory_bytes"] == 512 * MIB
    assert b"of 512 MiB" in done.stderr


@needs("cpu")
def test_attach_has_the_limits_of_its_target(tmp_path: Path) -> None:
    with below("cpu", cpu__cfs_period_us="20000", cpu__cfs_quota_us="2000") as folder:
        command = ["/bin/sh", "-c", ENTER, str(folder / "cgroup.procs"), *PYTHON, "-c", "while True: pass"]
        target = subprocess.Popen(command)
        try:
            until(lambda: (folder / "cgroup.procs").read_text().split() == [str(target.pid)], "in its cgroup")
            options = ["-q", "-i", "0.1", "--duration", "0.5", str(target.pid)]
            done = subprocess.run([*PROCTALLY, "attach", *options], env=environment(tmp_path), timeout=30)
        finally:
            target.kill()
            target.wait()
    assert done.returncode == 0
    lines = record(tmp_path)
    assert lines[0]["limits"]["cpu_cores"] == 0.1
    assert lines[-1]["waiting"]["throttled_seconds"] > 0.02
    assert lines[-1]["cpu"]["unavailable"]["cgroup"] == "already_running"


# -- what surrounds it -----------------------------------------------------------------------------------------------


@needs("cpuacct")
def test_what_all_around_it_used(tmp_path: Path) -> None:
    with below("cpuacct") as folder:
        done = run_in(folder, tmp_path, "-q", "--", *PYTHON, "-c", BURN)
        everything = int((folder / "cpuacct.usage").read_text()) / 1e9
    summary = done.summary()
    around = summary["cgroup"]
    assert (around["path"], around["own"]) == (f"/{folder.name}", False)
    assert summary["cpu"]["total_seconds"] <= around["cpu_seconds"] + 0.02 <= everything + 0.04


# -- the OOM killer --------------------------------------------------------------------------------------------------

KILLED = {"code": "signal", "signal": 9, "core_dumped": False}
EAT = "b = []\nwhile True: b.append(bytearray(1 << 20))"


@needs("memory")
def test_killed_for_memory(tmp_path: Path) -> None:
    with below("memory", memory__limit_in_bytes=str(96 * MIB)) as folder:
        done = run_in(folder, tmp_path, "-i", "0.05", "--", *PYTHON, "-c", EAT)
    assert done.status == 137
    summary = done.summary()
    assert (summary["verdict"], summary["signal"]) == ("oom", 9)
    found = reason(summary)
    assert 0 < found.pop("last_rss_bytes") < 96 * MIB
    assert found.pop("oom_cgroup") == f"/{folder.name}"
    assert found == {"code": "oom_kill", "oom_kills": 1, "oom_place": "cgroup", "memory_limit_bytes": 96 * MIB}
    (kill,) = summary["memory"]["ooms"]
    assert kill["count"] == 1
    assert kill["at_peak"][0]["command"].startswith("python")


@needs("memory")
def test_a_child_was_killed_and_the_shell_says_137(tmp_path: Path) -> None:
    script = '"$0" -S -c "$1"; exit $?'
    with below("memory", memory__limit_in_bytes=str(96 * MIB)) as folder:
        done = run_in(folder, tmp_path, "-q", "--", "sh", "-c", script, sys.executable, EAT)
    assert done.status == 137
    assert done.summary()["verdict"] == "oom"
    assert done.summary()["exit_code"] == 137


def test_killed_without_evidence_is_not_for_memory(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--", "sh", "-c", "kill -KILL $$")
    summary = done.summary()
    assert (summary["verdict"], reason(summary)) == ("killed", KILLED)
    done = run(tmp_path / "second", "-q", "--", "sh", "-c", "exit 137")
    assert done.summary()["verdict"] == "failed"


@needs("memory")
def test_killed_while_the_oom_killer_took_another(tmp_path: Path) -> None:
    """In a cgroup beside that of the job: the count of the machine rises, that of the job's cgroup does not."""
    flag = tmp_path / "now"
    script = f"while [ ! -e {flag} ]; do sleep 0.02; done; kill -9 $$"
    tracker = subprocess.Popen(
        [*PROCTALLY, "run", "-q", "-i", "0.1", "--", "sh", "-c", script],
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: (tmp_path / "runs").exists(), "it tracks")
        with below("memory", memory__limit_in_bytes=str(32 * MIB)) as folder:
            command = ["/bin/sh", "-c", ENTER, str(folder / "cgroup.procs"), *PYTHON, "-c", EAT]
            assert subprocess.run(command, timeout=30).returncode == -signal.SIGKILL
            assert "oom_kill 1" in (folder / "memory.oom_control").read_text()
    finally:
        flag.touch()
        _, stderr = tracker.communicate(timeout=30)
    assert (tracker.returncode, stderr) == (137, b"")
    summary = whole(record(tmp_path))
    assert (summary["verdict"], reason(summary)) == ("killed", KILLED)


FORKS_EAT = """
import os, sys
for _ in range(2):
    child = os.fork()
    if not child:
        held = []
        while True:
            held.append(bytearray(1 << 20))
    assert os.waitpid(child, 0)[1] == 9
sys.exit(int(sys.argv[1]))
"""
MOVE_BELOW = 'mkdir "$0/in" && echo $$ > "$0/in/cgroup.procs" && exec "$@"'


@needs("memory")
@pytest.mark.parametrize("where", ["around", "entered", "below"])
def test_killed_children_are_shown_beside_ok(tmp_path: Path, where: str) -> None:
    """The job lives in the limited cgroup, enters it after its start, or moves to a cgroup below it."""
    job = [*PYTHON, "-c", FORKS_EAT, "0"]
    with below("memory", memory__limit_in_bytes=str(96 * MIB)) as folder:
        if where == "entered":
            done = run(tmp_path, "-q", "-i", "0.1", "--", "sh", "-c", ENTER, str(folder / "cgroup.procs"), *job)
        else:
            words = ["sh", "-c", MOVE_BELOW, str(folder)] if where == "below" else []
            done = run_in(folder, tmp_path, "-q", "-i", "0.1", "--", *words, *job)
    path = f"/{folder.name}/in" if where == "below" else f"/{folder.name}"
    assert done.status == 0
    summary = done.summary()
    assert summary["verdict"] == "ok"
    found = reason(summary)
    found.pop("last_rss_bytes", None)
    assert found == {
        "code": "exit_status",
        "oom_kills": 2,
        "oom_place": "cgroup",
        "oom_cgroup": path,
        "memory_limit_bytes": 96 * MIB,
    }
    assert done.stderr.startswith(b"proctally ")
    assert b"ok, but 2 processes were killed for memory" in done.stderr
    memory = summary["memory"]
    assert memory["oom_kills"] == sum(each["count"] for each in memory["ooms"]) == 2
    assert {(each["cgroup"], each["limit_bytes"]) for each in memory["ooms"]} == {(path, 96 * MIB)}
    assert [gap for gap in summary["gaps"] if gap["code"] == "oom_elsewhere"] == []


@needs("memory")
def test_attach_has_kills_in_a_field(tmp_path: Path) -> None:
    flag = tmp_path / "now"
    wait = f"import os, time\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.01)\n"
    with below("memory", memory__limit_in_bytes=str(96 * MIB)) as folder:
        enter = ["/bin/sh", "-c", ENTER, str(folder / "cgroup.procs")]
        target = subprocess.Popen([*enter, *PYTHON, "-c", wait + FORKS_EAT, "1"])
        until(lambda: (folder / "cgroup.procs").read_text().split() == [str(target.pid)], "in its cgroup")
        command = [*PROCTALLY, "attach", "-q", "-i", "0.1", str(target.pid)]
        tracker = subprocess.Popen(command, env=environment(tmp_path), stderr=subprocess.PIPE)
        until(lambda: list(tmp_path.glob("runs/*.jsonl")), "it tracks")
        flag.touch()
        assert target.wait(30) == 1
        _, stderr = tracker.communicate(timeout=30)
    summary = whole(record(tmp_path))
    assert summary["verdict"] == "ended"
    assert summary["memory"]["oom_kills"] == reason(summary)["oom_kills"] == 2
    assert b"ended, and 2 processes were killed for memory" in stderr


# -- its own ---------------------------------------------------------------------------------------------------------


def left_over() -> list[str]:
    point = mount_of(V2)
    assert point is not None
    return [name for name in os.listdir(point) if own_cgroup.owner(name) is not None]


def left_in_v1() -> list[str]:
    """The run cgroups in the v1 hierarchies, below the cgroup of this process."""
    found = places(Machine(), os.getpid())
    folders = [found[name].directory for name in ("cpuacct", "memory") if name in found]
    return [name for folder in folders for name in os.listdir(folder) if own_cgroup.owner(name) is not None]


@needs(V2)
@needs("memory")
@needs("cpuacct")
def test_memory_and_cpu_time_by_the_kernel_on_a_hybrid_host(tmp_path: Path) -> None:
    hold = "import time; held = bytearray(64 << 20); time.sleep(0.4)"
    summary = run(tmp_path, "-q", "-i", "0.1", "--cgroup", "--", *PYTHON, "-c", hold).summary()
    memory, around, cpu = summary["memory"], summary["cgroup"], summary["cpu"]
    assert memory["source"] == "cgroup"
    assert 64 * MIB <= memory["peak_low_bytes"] <= memory["peak_high_bytes"] <= 80 * MIB
    assert memory["peak_high_bytes"] - memory["peak_low_bytes"] <= 0.02 * memory["peak_high_bytes"]
    assert 64 * MIB <= memory["cgroup_peak_bytes"] == around["memory_peak_bytes"]
    assert (around["own"], around["oom_kills"]) == (True, 0)
    assert (cpu["source"], cpu["coverage"], cpu["unavailable"]) == ("cgroup", "complete", {})
    assert abs(cpu["user_seconds"] + cpu["system_seconds"] - cpu["total_seconds"]) < 0.01
    assert left_in_v1() == left_over() == []


@needs(V2)
@needs("memory")
@needs("cpuacct")
def test_who_leaves_two_hierarchies_is_counted_in_the_third(tmp_path: Path) -> None:
    hold = "import time; held = bytearray(64 << 20); time.sleep(0.4)"
    enter = ["/bin/sh", "-c", ENTER]
    with below("memory") as folder, below(V2) as second:
        job = [*enter, str(second / "cgroup.procs"), *enter, str(folder / "cgroup.procs"), *PYTHON, "-c", hold]
        summary = run(tmp_path, "-q", "-i", "0.1", "--cgroup", "--", *job).summary()
    cpu = summary["cpu"]
    assert (cpu["source"], cpu["coverage"]) == ("cgroup", "complete")
    assert abs(cpu["total_seconds"] - cpu["sources"]["rusage"]) < 0.02
    assert summary["memory"]["source"] != "cgroup"
    assert summary["memory"]["peak_high_bytes"] >= 64 * MIB


@needs(V2)
def test_a_cgroup_of_its_own(tmp_path: Path) -> None:
    done = run(tmp_path, "-v", "-i", "0.1", "--cgroup", "--", *PYTHON, "-c", BURN)
    summary = done.summary()
    cpu = summary["cpu"]
    assert (cpu["source"], cpu["coverage"], cpu["unavailable"]) == ("cgroup", "complete", {})
    assert cpu["total_seconds"] == cpu["sources"]["cgroup"]
    assert cpu["sources"].keys() == {"cgroup", "rusage", "perf", "procfs"}
    assert abs(cpu["sources"]["rusage"] - cpu["total_seconds"]) <= 0.01 * cpu["total_seconds"] + 0.01
    used = [sample["cgroup"]["cpu_seconds"] for sample in samples(done.record())]
    assert used == sorted(used)
    assert used[-1] > 0.35
    assert [sample["tree"]["cpu_seconds"] for sample in samples(done.record())][-1] == used[-1]
    assert b"by cgroup" in done.stderr
    assert left_over() == []


@needs(V2)
@pytest.mark.parametrize(("source", "others"), [("perf", {"rusage", "procfs"}), ("cgroup", {"rusage", "procfs"})])
def test_one_source_alone(tmp_path: Path, source: str, others: set[str]) -> None:
    done = run(tmp_path, "-q", "-i", "0.1", "--source", source, "--", *PYTHON, "-c", BURN)
    cpu = done.summary()["cpu"]
    assert cpu["source"] == source
    assert cpu["total_seconds"] == cpu["sources"][source]
    assert cpu["sources"].keys() == others | {source}


@needs(V2)
@needs("cpuacct")
def test_one_source_alone_whatever_leaves_it(tmp_path: Path) -> None:
    """What was asked for is given, and said to be short."""
    enter = ["/bin/sh", "-c", ENTER]
    with below(V2) as folder, below("cpuacct") as second:
        job = [*enter, str(second / "cgroup.procs"), *enter, str(folder / "cgroup.procs"), *PYTHON, "-c", BURN]
        done = run(tmp_path, "-q", "-i", "0.1", "--source", "cgroup", "--", *job)
    summary = done.summary()
    cpu = summary["cpu"]
    assert cpu["source"] == "cgroup"
    assert cpu["total_seconds"] < 0.1 < cpu["sources"]["rusage"]
    assert gaps(summary, "cpu") == {"cgroup_left": {}}


@needs(V2)
def test_after_a_fault_of_ours_it_is_removed(tmp_path: Path) -> None:
    words = ["run", "-q", "--cgroup", "--", "sh", "-c", "sleep 0.1; exit 3"]
    tracker = [*failing("tree.sampler:TreeSampler.sample"), *words]
    done = subprocess.run(tracker, env=environment(tmp_path), capture_output=True, timeout=30)
    assert done.returncode == 3
    assert done.stderr.count(b"broken on purpose") == 1
    assert record(tmp_path)[-1]["type"] == "summary"
    assert left_over() == []


@needs(V2)
def test_what_a_crash_leaves_is_swept(tmp_path: Path) -> None:
    tracker = subprocess.Popen(
        [*PROCTALLY, "run", "-q", "--cgroup", "--", "sleep", "1.5"], env=environment(tmp_path), start_new_session=True
    )
    until(lambda: len(left_over()) == 1 and (tmp_path / "runs").exists(), "a cgroup")
    tracker.kill()
    tracker.wait()
    folder = left_over()
    assert len(folder) == 1
    until(lambda: run(tmp_path / "next", "-q", "--cgroup", "--", "true").status == 0 and not left_over(), "swept")
    assert left_in_v1() == []


@needs(V2)
def test_a_delegated_subtree_is_enough(tmp_path: Path) -> None:
    """An ordinary user, in a cgroup that was given to him."""
    home = Path(tempfile.mkdtemp(prefix="proctally-user-"))
    try:
        shutil.copytree(Path(proctally.__file__).parent, home / "proctally", ignore=shutil.ignore_patterns("*.pyc"))
        for path in [home, *home.rglob("*")]:
            path.chmod(0o755)
        os.chown(home, NOBODY, NOBODY)
        python = next((name for name in (sys.executable, "/usr/bin/python3") if usable(name)), None)
        if python is None:
            pytest.skip("no Python 3.11 or newer that an ordinary user may execute")
        with below(V2) as folder:
            inner = folder / "inner"
            inner.mkdir()
            for path in (folder, inner):
                for file in (path, path / "cgroup.procs", path / "cgroup.subtree_control"):
                    os.chown(file, NOBODY, NOBODY)
                path.chmod(0o755)

            def enter() -> None:
                (inner / "cgroup.procs").write_text("0")
                become_nobody()

            env = {"PATH": os.defpath, "PYTHONPATH": str(home), "PROCTALLY_HOME": str(home / "records"), "HOME": "/"}
            command = [python, "-m", "proctally", "run", "-q", "--cgroup", "--", python, "-S", "-E", "-c", BURN]
            done = subprocess.run(command, env=env, preexec_fn=enter, capture_output=True, timeout=30)
            assert (done.returncode, done.stderr) == (0, b"")
            cpu = whole(record(home / "records"))["cpu"]
            assert (cpu["source"], cpu["coverage"]) == ("cgroup", "complete")
            assert [path for path in inner.iterdir() if path.is_dir()] == []
    finally:
        shutil.rmtree(home)


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def usable(python: str) -> bool:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([python, "-c", check], preexec_fn=become_nobody, cwd="/").returncode == 0
    except OSError:
        return False


@needs(V2)
def test_its_timeout_kills_all_that_is_in_it(tmp_path: Path) -> None:
    script = "trap '' TERM; (trap '' TERM; exec sleep 61) & echo $!; wait; sleep 60"
    done = run(tmp_path, "-q", "--cgroup", "--timeout", "0.3", "--grace", "0.2", "--", "sh", "-c", script)
    assert done.status == 124
    assert not runs(int(done.stdout))
    assert left_over() == []


def sections(lines: list[dict[str, Any]]) -> list[Any]:
    return [sample["cgroup"] for sample in samples(lines)]


def test_without_one_there_is_no_section(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--", "true")
    assert set(sections(done.record())) == {None}
    assert done.summary()["cgroup"]["own"] is False
