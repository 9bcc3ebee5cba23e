"""`track` in programs that replace calls, change their root or user, or lack files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

import proctally
from hidden_proc import hidepid
from places import SUPPORT
from proctally.record import objects
from track_programs import program, run_program
from track_samplers import samplers
from tracked import User, ordinary_user, until

LOOPS = {
    "gevent": "from gevent import monkey, sleep, spawn; monkey.patch_all()",
    "eventlet": "from eventlet import monkey_patch, sleep, spawn; monkey_patch()",
}
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# -- loops of greenlets ----------------------------------------------------------------------------------------------


PATCH = """
import warnings; warnings.simplefilter("ignore")  # eventlet announces its end
if {is_early}: proctally.track  # loaded before the calls are replaced
{patch}
"""


def in_loop(home: Path, loop: str, code: str, *, is_early: bool = False) -> dict[str, object]:
    """Return what a program says that replaces the calls that wait by those of a loop."""
    if find_spec(loop) is None:
        pytest.skip(f"{loop} is not installed")
    return program(home, PATCH.format(is_early=is_early, patch=LOOPS[loop]) + textwrap.dedent(code))


@pytest.mark.parametrize("is_early", [False, True])
@pytest.mark.parametrize("loop", LOOPS)
def test_track_in_greenlets_is_complete(tmp_path: Path, loop: str, is_early: bool) -> None:
    said = in_loop(
        tmp_path,
        loop,
        """
        found = []
        def work(number):
            with proctally.track(record=False, interval=0.05) as run:
                with run.phase("work"):
                    sleep(0.1)
            found.append((run.missing, run.summary.verdict, len(run.phases), len(run.samples) > 1))
        with proctally.track(record=False) as first:
            pass
        for number in range(5):
            spawn(work, number)
        while len(found) < 5:
            sleep(0.01)
        say(first=first.missing, found=found)
        """,
        is_early=is_early,
    )
    assert said == {"first": [], "found": [[[], "ok", 1, True]] * 5}


@pytest.mark.parametrize("loop", LOOPS)
def test_on_sample_in_greenlets_is_called(tmp_path: Path, loop: str) -> None:
    said = in_loop(
        tmp_path,
        loop,
        """
        seen, turns = [], 0
        with proctally.track(record=False, interval=0.05, on_sample=seen.append) as run:
            for turns in range(20):
                sleep(0.02)
        say(seen=len(seen), samples=len(run.samples), missing=run.missing, wall=run.summary.wall_seconds)
        """,
    )
    assert said["seen"] == said["samples"] and said["missing"] == []
    assert 0.4 <= float(str(said["wall"])) < 5
    assert int(str(said["seen"])) >= 5


@pytest.mark.parametrize("loop", LOOPS)
def test_track_waiting_for_sampler_lets_greenlets_run(tmp_path: Path, loop: str) -> None:
    said = in_loop(
        tmp_path,
        loop,
        """
        from proctally.library import block
        sys.path.append({SUPPORT!r})
        from track_samplers import samplers
        block.STOP_SECONDS = 0.3
        ticks = [0]
        def tick():
            while True:
                ticks[0] += 1
                sleep(0.01)
        spawn(tick)
        with proctally.track(record=False) as run:
            (sampler,) = samplers(os.getpid())
            os.kill(sampler, signal.SIGSTOP)
            before = ticks[0]
        after = ticks[0]
        os.kill(sampler, signal.SIGKILL)
        say(ticked=after > before + 1, code=run.missing[0].code)
        """.replace("{SUPPORT!r}", repr(str(SUPPORT))),
    )
    assert said == {"ticked": True, "code": "no_answer"}


@pytest.mark.parametrize("loop", LOOPS)
def test_track_within_loop_itself_works(tmp_path: Path, loop: str) -> None:
    """A handler of a signal runs in the loop, where no call may wait for other greenlets."""
    said = in_loop(
        tmp_path,
        loop,
        """
        runs = []
        def handle(*_):
            with proctally.track(record=False) as run:
                pass
            runs.append(run)
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        end = time.monotonic() + 20
        while not runs and time.monotonic() < end:
            sleep(0.02)
        say(missing=runs[0].missing, verdict=runs[0].summary.verdict)
        """,
    )
    assert said == {"missing": [], "verdict": "ok"}


@pytest.mark.parametrize("loop", LOOPS)
def test_track_inside_a_wait_loses_no_wakeup(tmp_path: Path, loop: str) -> None:
    """A handler of a signal can run after a greenlet asked to be woken, and before it gives way."""
    said = in_loop(
        tmp_path,
        loop,
        """
        def block():
            with proctally.track(record=False) as run:
                pass
            return run.missing
        missing = []
        signal.alarm(30)  # where the wake-up is lost, the next line never ends
        if "eventlet" in sys.modules:
            from eventlet import hubs
            hub = hubs.get_hub()
            schedule = hub.schedule_call_global
            def interrupted(*arguments):
                hub.schedule_call_global = schedule
                timer = schedule(*arguments)
                missing.append(block())
                return timer
            hub.schedule_call_global = interrupted
            sleep(0.001)
        else:
            from gevent import get_hub
            class Watcher:
                def __init__(self):
                    self.timer = get_hub().loop.timer(0.001)
                def start(self, *arguments):
                    self.timer.start(*arguments)
                    missing.append(block())
                def stop(self):
                    self.timer.stop()
            get_hub().wait(Watcher())
        say(missing=missing)
        """,
    )
    assert said == {"missing": [[]]}


@pytest.mark.parametrize("loop", LOOPS)
def test_other_trackers_in_greenlets_work(tmp_path: Path, loop: str) -> None:
    said = in_loop(
        tmp_path,
        loop,
        """
        from proctally import gauges, process, processes, system
        with proctally.Tree(os.getpid()) as tree, system.Monitor() as monitor, gauges.Gauges(os.getpid()) as shown:
            found = [os.getpid() in tree.sample().pids, os.getpid() in {pid for pid, _ in shown.sample().members}]
            spaces = [monitor.stats().disk_spaces is None, monitor.stats().disk_spaces is None]
        say(found=found, spaces=spaces, alone=system.stats().disk_spaces is None, cpu=process.cpu_time(os.getpid()) > 0)
        """,
    )
    assert said["found"] == [True, True] and said["cpu"] is True
    assert said["spaces"] == [said["alone"]] * 2


# -- moments ---------------------------------------------------------------------------------------------------------


def test_track_in_del_and_atexit_works(tmp_path: Path) -> None:
    done = run_program(
        tmp_path,
        """
        import atexit
        def block():
            with proctally.track(record=False) as run:
                pass
            say(missing=run.missing, verdict=run.summary.verdict)
        class Late:
            def __del__(self):
                block()
        late = Late()
        del late
        atexit.register(block)
        """,
    )
    assert done.stdout.splitlines() == [b'{"missing": [], "verdict": "ok"}'] * 2, done.stderr.decode()


@pytest.mark.parametrize("before", ["", "with proctally.track(record=False): pass"])
def test_track_while_python_exits_raises_nothing(tmp_path: Path, before: str) -> None:
    code = """
    {before}
    class Late:
        def __del__(self, track=lambda: proctally.track):
            with track()(record=False) as run:
                pass
            print(run.summary.verdict, len(run.missing), run.missing[0].code)
    late = Late()
    """.replace("{before}", before)
    done = run_program(tmp_path, code)
    assert done.stdout == b"None 1 helper_failed\n", done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_stand_in_has_sections_of_summary() -> None:
    """A stand-in that is made where no module can be loaded cannot ask the schema."""
    with pytest.warns(RuntimeWarning, match="no module"):
        run = proctally._stand_in(ImportError("no module"))().start()
    for name in objects.Summary.__annotations__:
        value = getattr(run.summary, name)
        known = getattr(objects.Summary(), name)
        assert (value is None) == (known is None), name
        assert value is None or (value.total_seconds is None and value.as_dict() == {})
    with run.phase("fit"):
        assert (run.samples, run.phases, run.path) == ((), (), None)


# -- what is not there -----------------------------------------------------------------------------------------------


def test_track_in_deleted_directory_works(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    # the directory goes before the interpreter starts, so that `sys.path` has a relative entry which leads nowhere
    code = "with proctally.track(record=False) as run: pass\nsay(missing=run.missing)"
    python = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", sys.executable]
    assert program(tmp_path, code, python=python, cwd=folder) == {"missing": []}


@AS_ROOT
@pytest.mark.parametrize("closed", [False, True])
def test_track_without_dev_null_works(tmp_path: Path, closed: bool) -> None:
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"' + " <&-" * closed, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("mounts cannot be made here")
    code = "with proctally.track(record=False, gpu=False) as run: pass\nsay(missing=run.missing)"
    assert program(tmp_path, code, python=[*mount, sys.executable]) == {"missing": []}


# -- another root, another user --------------------------------------------------------------------------------------


CHROOT = """
{before}
os.mkdir({root!r})
os.chroot({root!r}); os.chdir("/")
with proctally.track(record=False) as run:
    with run.phase("inside"):
        pass
@proctally.track(record=False)
def answer():
    return 42
say(missing=run.missing, known=run.summary.cpu.total_seconds is not None, text=bool(str(run.summary)),
    code=[each.code for each in run.missing], answer=answer())
"""


@AS_ROOT
def test_track_after_preload_and_chroot_works(tmp_path: Path) -> None:
    code = CHROOT.format(before="proctally.preload()", root=str(tmp_path / "root"))
    assert program(tmp_path, code) == {"missing": [], "known": True, "text": True, "code": [], "answer": 42}


def test_preloaded_sampler_ends_with_program(tmp_path: Path) -> None:
    code = """
    proctally.preload()
    proctally.preload()
    with proctally.track(record=False) as run:
        pass
    child = os.fork()
    if child == 0:
        with proctally.track(record=False) as run:
            pass
        os._exit(0 if run.missing == [] else 1)
    say(pid=os.getpid(), missing=run.missing, child=os.waitpid(child, 0)[1])
    """
    said = program(tmp_path, code)
    assert (said["missing"], said["child"]) == ([], 0)
    until(lambda: not samplers(said["pid"]), "the sampler has ended")


@AS_ROOT
def test_track_after_chroot_warns_once(tmp_path: Path) -> None:
    done = run_program(tmp_path, CHROOT.format(before="", root=str(tmp_path / "root")), "-Wonce")
    assert done.returncode == 0, done.stderr.decode()
    assert b'"known": false' in done.stdout and b'"code": ["helper_failed"], "answer": 42' in done.stdout
    assert done.stderr.count(b"Warning") == 1
    assert b"call proctally.preload() before chroot or setuid" in done.stderr


SETUID = """
import json, os, sys, warnings
sys.path.insert(0, {package!r})
import proctally
{before}
os.setgroups([]); os.setgid({user}); os.setuid({user})
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    with proctally.track(record=False, interval=0.1) as run:
        sum(range(100_000))
gaps = [gap["code"] for gap in run.summary.as_dict().get("gaps", ())]
print(json.dumps([run.summary.verdict, [each.code for each in run.missing], "io_unavailable" in gaps]))
"""


@pytest.fixture
def other() -> object:
    with ordinary_user() as user:
        if user is None or user.number is None:
            pytest.skip("needs root, and an interpreter that an ordinary user can execute")
        yield user


@pytest.mark.parametrize(
    ("before", "mode", "result"),
    [
        ("proctally.track", 0o755, ["ok", [], True]),  # the kernel gives its `io` to root
        ("proctally.preload()", 0o755, ["ok", [], False]),
        ("proctally.preload()", 0o700, ["ok", [], False]),
        ("proctally.track", 0o700, [None, ["EACCES"], False]),
    ],
)
def test_track_after_setuid_works_or_has_code(other: User, before: str, mode: int, result: list[object]) -> None:
    package = other.folder / "package"
    package.chmod(mode)
    os.chown(package, 0, 0)
    code = SETUID.format(package=str(package), before=before, user=other.number)
    done = subprocess.run([other.python[0], "-c", code], capture_output=True, timeout=60, cwd="/")
    assert json.loads(done.stdout) == result, done.stderr.decode()


def test_track_that_hidepid_hides_has_code(other: User) -> None:
    """The sampler, which starts after setuid(2), cannot see the program: its /proc is that of root."""
    try:
        subprocess.run(["true"], preexec_fn=hidepid("2"), check=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("no such /proc can be mounted here")
    code = SETUID.format(package=str(other.folder / "package"), before="proctally.track", user=other.number)
    done = subprocess.run(
        [other.python[0], "-c", code], capture_output=True, timeout=60, cwd="/", preexec_fn=hidepid("2")
    )
    assert json.loads(done.stdout) == [None, ["hidden"], False], done.stderr.decode()
