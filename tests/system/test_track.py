"""`proctally.track()`: real programs that track a block of their own, against what they know of themselves."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import proctally
from sandbox import refusing, unavailable
from track_programs import PREAMBLE, near, program, run_program
from track_samplers import samplers
from tracked import PATIENCE, User, environment, of_type, reason, records, runs, samples, state, until, whole
from truth import Truth, available, cpu_truth


def begun(home: Path, code: str, **popen: Any) -> subprocess.Popen[bytes]:
    """A program that goes on."""
    popen.setdefault("env", environment(home))
    text = PREAMBLE + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, start_new_session=True, **popen)


# -- what is counted -------------------------------------------------------------------------------------------------


def test_block_alone_is_counted(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        busy(0.15)
        with proctally.track(interval=0.05) as run:
            before = used()
            busy(0.3)
            after = used()
        busy(0.1)
        say(total=run.summary.cpu.total_seconds, truth=after[0] - before[0], missing=run.missing, path=run.path,
            wall=run.summary.wall_seconds, samples=len(run.samples), verdict=run.summary.verdict)
        """,
    )
    near(said["total"], said["truth"])
    assert said["missing"] == []
    assert said["verdict"] == "ok"
    (lines,) = records(tmp_path)
    summary = whole(lines)
    assert summary["cpu"]["total_seconds"] == said["total"]
    assert len(samples(lines)) == said["samples"] >= 5
    assert lines[0]["kind"] == "track"
    assert Path(said["path"]).parent == tmp_path / "runs"
    seen = [sample["tree"]["cpu_seconds"] for sample in samples(lines)]
    assert seen == sorted(seen) and seen[0] < 0.05
    assert samples(lines)[-1]["elapsed_seconds"] == pytest.approx(said["wall"], abs=2e-4), "both since the baseline"


@pytest.mark.parametrize("source", ["auto", "procfs"])
def test_children_and_threads(tmp_path: Path, source: str) -> None:
    said = program(
        tmp_path,
        f"""
        child = [sys.executable, "-S", "-E", "-c", "import time\\nwhile time.process_time() < 0.15: pass"]
        subprocess.run(child)  # no part of it
        with proctally.track(interval=0.1, source={source!r}) as run:
            before = used()
            threads = [threading.Thread(target=busy, args=(0.1,)) for _ in range(4)]
            [thread.start() for thread in threads]
            for _ in range(3):
                subprocess.run(child)
            [thread.join() for thread in threads]
            after = used()
        say(total=run.summary.cpu.total_seconds, truth=sum(after) - sum(before), started=run.summary.processes.started,
            peak=run.summary.processes.peak, source=run.summary.cpu.source)
        """,
    )
    near(said["total"], said["truth"], 0.02 if source == "auto" else 0.04)
    assert said["truth"] > 0.8
    assert said["peak"] == 2


@pytest.mark.skipif(available() is not None, reason=str(available()))
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_by_cgroup(tmp_path: Path, method: str) -> None:
    """The program enters a cgroup once its sampler has begun: what is accounted there is its own."""
    with cpu_truth() as truth:
        script = tmp_path / "script.py"
        script.write_text(PREAMBLE + POOL.replace("METHOD", method).replace("AT_BEGIN", enters(truth)))
        said = script_said(tmp_path, script)
        accounted = truth.cpu_seconds()
    assert accounted > 0.4
    # what the interpreter uses behind the block is accounted there, too
    assert -0.06 <= accounted - said["total"] - said["behind"] <= 0.08, said


def enters(truth: Truth) -> str:
    return f"open({str(truth.job / 'cgroup.procs')!r}, 'w').write('0')"


POOL = """
import multiprocessing

def work(seconds):
    busy(seconds)
    return os.getpid(), time.process_time()

if __name__ == "__main__":
    with proctally.track(interval=0.05, source="procfs") as run:
        AT_BEGIN
        before = used()
        with multiprocessing.get_context("METHOD").Pool(2) as pool:
            told = pool.map(work, [0.1] * 4, chunksize=1)
            pool.close()
            pool.join()
        after = used()
    say(total=run.summary.cpu.total_seconds, own=after[0] - before[0], waited=after[1] - before[1],
        workers=sum(dict(told).values()), missing=run.missing, left=run.summary.processes.left,
        peak=run.summary.processes.peak, behind=time.process_time() - after[0])
"""


def script_said(home: Path, script: Path) -> dict[str, Any]:
    """A file, because multiprocessing imports the main module anew."""
    done = subprocess.run([sys.executable, str(script)], env=environment(home), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(PREAMBLE + POOL.replace("METHOD", method).replace("AT_BEGIN", "pass"))
    said = script_said(tmp_path, script)
    assert said["missing"] == []
    if method == "forkserver":  # the server lives on and is waited for by nobody: workers say what they used themselves
        assert said["own"] + said["workers"] - 0.03 <= said["total"] <= said["own"] + said["workers"] + 0.5
    else:
        assert said["waited"] >= 0.4
        # with spawn there is a resource tracker, which lives on
        assert -0.04 <= said["total"] - said["own"] - said["waited"] <= (0.04 if method == "fork" else 0.2)
    assert said["peak"] >= 3
    assert said["left"] == {"fork": 1, "spawn": 2, "forkserver": 3}[method]


def test_peak_memory_is_that_of_the_block(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        MIB = 1 << 20
        big = bytearray(120 * MIB)
        big[::4096] = b"x" * len(big[::4096])
        del big
        with proctally.track(interval=0.1) as small:
            held = bytearray(20 * MIB); held[::4096] = b"x" * len(held[::4096]); time.sleep(0.06)
        with proctally.track(interval=30) as large:
            time.sleep(0.55)  # behind every early look
            big = bytearray(180 * MIB)
            big[::4096] = b"x" * len(big[::4096])
            del big
        say(small=small.summary.memory.peak_process_rss_bytes / MIB,
            large=large.summary.memory.peak_process_rss_bytes / MIB, sampled=large.summary.memory.peak_rss_bytes / MIB)
        """,
    )
    assert 20 < said["small"] < 90
    assert 200 < said["large"] < 270, "by the high-water mark, between two samples"
    assert said["sampled"] < 90


# -- the sampler -----------------------------------------------------------------------------------------------------


PORTRAIT = """
def portrait(pid):
    stat = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    status = dict(line.split(":\\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\\t" in line)
    fds = {fd: f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")}  # it goes on opening and closing
    return dict(parent=int(stat[1]), group=int(stat[2]), session=int(stat[3]), ignored=status["SigIgn"],
                blocked=status["SigBlk"], caught=status["SigCgt"],
                fds={fd: link for fd, link in ((fd, link_of(path)) for fd, path in fds.items()) if link})

def link_of(path):
    try:
        return os.readlink(path)
    except OSError:
        return None

def state(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"

def sampler():
    mine = str(os.getpid()).encode()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")
        except OSError:
            continue
        if mine in words and any(b"sidecar" in word for word in words):
            return int(pid)

"""


def test_sampler_is_nobody_of_ours(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        PORTRAIT
        + textwrap.dedent("""
        mark = open(os.environ["PROCTALLY_HOME"] + "/mark", "w")
        os.set_inheritable(mark.fileno(), True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
        begin = used()
        with proctally.track(interval=0.05) as run:
            time.sleep(0.1)
            pid = sampler()
            seen = portrait(pid)
            children = open(f"/proc/self/task/{os.getpid()}/children").read()
        end = used()
        deadline = time.monotonic() + 5
        while state(pid) not in "XZ" and time.monotonic() < deadline: time.sleep(0.005)
        say(pid=pid, seen=seen, children=children, mine=[os.getpid(), os.getpgid(0), os.getsid(0)],
            grown=end[1] - begin[1], end=state(pid), own=run.summary.tracker.cpu_seconds,
            most=max(sample.tree.processes for sample in run.samples), started=run.summary.processes.started)
        """),
    )
    seen = said["seen"]
    assert seen["parent"] != said["mine"][0]
    assert seen["group"] != said["mine"][1] and seen["session"] != said["mine"][2]
    assert said["children"] == ""
    assert said["end"] in "XZ", "it ended with the block"
    assert not any("mark" in link for link in seen["fds"].values())
    assert {seen["fds"][fd] for fd in "012"} == {"/dev/null"}
    assert not int(seen["blocked"], 16) & 1 << (signal.SIGWINCH - 1)
    assert not int(seen["ignored"], 16) & 1 << (signal.SIGTERM - 1)
    assert not int(seen["ignored"], 16) & 1 << (signal.SIGINT - 1)
    assert said["own"] > 0.01, "what it used ..."
    assert said["grown"] < 0.005, "... is not among what this process waited for"
    assert (said["most"], said["started"]) == (1, 1)


REAPERS = {
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "handled": """
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
signal.signal(signal.SIGCHLD, reap)
""",
    "subreaper": "import ctypes; assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0",
}


@pytest.mark.parametrize("who", REAPERS)
def test_whoever_reaps(tmp_path: Path, who: str) -> None:
    """A process that ignores SIGCHLD, one that waits for anybody, and one to which orphans come."""
    said = program(
        tmp_path,
        f"{REAPERS[who]}\n"
        + textwrap.dedent("""
        for _ in range(2):
            with proctally.track(interval=0.05) as run:
                busy(0.1)
                with proctally.track(interval=0.05) as inner:
                    busy(0.1)
        say(total=run.summary.cpu.total_seconds, inner=inner.summary.cpu.total_seconds, missing=run.missing,
            most=max(sample.tree.processes for sample in run.samples),
            children=open(f"/proc/self/task/{os.getpid()}/children").read())
        """),
    )
    near(said["total"], 0.2)
    near(said["inner"], 0.1)
    assert said["missing"] == []
    assert said["most"] == 1, "its sampler is a stranger, also as a child"
    assert said["children"] == "", "and it is reaped"


def test_last_sample_is_whole(home: Path) -> None:
    """What is read about twice a second is read for it, too."""
    with proctally.track(interval=0.05) as run:
        time.sleep(0.1)
        for _ in range(300):
            time.sleep(0.0001)
    assert run.samples[-1].tree.context_switches >= 300
    assert run.samples[-1].system is not None


def test_sampler_of_before_is_a_stranger(tmp_path: Path) -> None:
    """One that hangs, a child of a process that adopts orphans."""
    said = program(
        tmp_path,
        REAPERS["subreaper"]
        + PORTRAIT
        + textwrap.dedent("""
        import warnings
        from proctally.library import block
        block.STOP_SECONDS = 0.1
        warnings.simplefilter("ignore")
        with proctally.track(interval=0.05):
            hangs = sampler()
            os.kill(hangs, signal.SIGSTOP)
        with proctally.track(interval=0.05) as run:
            time.sleep(0.1)
        os.kill(hangs, signal.SIGKILL)
        say(most=run.summary.processes.peak, missing=run.missing)
        """),
    )
    assert (said["most"], said["missing"]) == (1, [])


# -- the target, whatever happens to it ------------------------------------------------------------------------------


NO_SANDBOX = unavailable()
in_a_sandbox = pytest.mark.skipif(NO_SANDBOX is not None, reason=str(NO_SANDBOX))


@pytest.mark.parametrize("lacking", [None, pytest.param("pidfd_open", marks=in_a_sandbox)])
def test_killed(tmp_path: Path, lacking: str | None) -> None:
    process = begun(
        tmp_path,
        """
        with proctally.track(interval=0.05):
            say(ready=True)
            while True: pass
        """,
        preexec_fn=refusing(errno.ENOSYS, lacking) if lacking else None,
    )
    assert process.stdout is not None
    with process:
        process.stdout.readline()
        until(lambda: seen_seconds(tmp_path) > 0.1, "it is sampled")
        (pid,) = samplers(process.pid)
        process.kill()
        process.wait()
        until(lambda: not runs(pid), "the sampler ends", 1.0)
    summary = whole(records(tmp_path)[0])
    assert summary["verdict"] == "ended"
    assert reason(summary) == {"code": "program_exited"}
    assert summary["cpu"]["total_seconds"] > 0.1


def seen_seconds(home: Path) -> float:
    """The CPU time by the latest sample of the one record."""
    return max((line["tree"]["cpu_seconds"] for lines in records(home) for line in samples(lines)), default=0.0)


def test_killed_while_forked_children_live_on(tmp_path: Path) -> None:
    """They have copies of what a program has open; also those whose fork Python knows nothing of."""
    process = begun(
        tmp_path,
        """
        import ctypes
        with proctally.track(interval=0.05):
            if ctypes.PyDLL(None).fork() == 0:
                time.sleep(300)
            if os.fork() == 0:
                time.sleep(300)
            say(ready=True)
            time.sleep(300)
        """,
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        until(lambda: records(tmp_path), "it is sampled")
        (pid,) = samplers(process.pid)
        process.kill()
        process.wait()
        until(lambda: not runs(pid), "the sampler ends", 1.0)
        assert whole(records(tmp_path)[0])["processes"]["left"] == 2
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_ends_with_the_last_block_while_forked_children_live_on(tmp_path: Path) -> None:
    """They have copies of its channels where Python knows nothing of the fork."""
    said = program(
        tmp_path,
        PORTRAIT
        + textwrap.dedent("""
        import ctypes
        with proctally.track(interval=0.05) as run:
            child = ctypes.PyDLL(None).fork()
            if child == 0:
                time.sleep(300)
            there = sampler()
        deadline = time.monotonic() + 5
        while sampler() and time.monotonic() < deadline: time.sleep(0.01)
        say(there=there, after=sampler(), verdict=run.summary.verdict)
        os.kill(child, signal.SIGKILL)
        """),
    )
    assert said["there"] is not None and said["after"] is None
    assert said["verdict"] == "ok"


def test_executes_another(tmp_path: Path) -> None:
    process = begun(
        tmp_path,
        """
        with proctally.track(interval=0.05):
            busy(0.2)
            os.execv("/bin/sleep", ["sleep", "300"])
        """,
    )
    try:
        until(lambda: state(process.pid) == "S" and b"sleep" in Path(f"/proc/{process.pid}/comm").read_bytes(), "exec")
        until(lambda: not samplers(process.pid), "the sampler ends", 1.0)
        summary = whole(records(tmp_path)[0])
        assert reason(summary) == {"code": "program_replaced"}
        assert summary["verdict"] == "ended"
        near(summary["cpu"]["total_seconds"], 0.2, 0.05)
        assert runs(process.pid)
    finally:
        process.kill()
        process.communicate()


def test_exit_inside_the_block_without_unwinding(tmp_path: Path) -> None:
    assert run_program(tmp_path, "proctally.track().__enter__(); busy(0.1); os._exit(7)").returncode == 7
    until(lambda: records(tmp_path) and records(tmp_path)[0][-1]["type"] == "summary", "the record is whole", 2.0)
    assert whole(records(tmp_path)[0])["verdict"] == "ended"


def test_forked_child_leaves_the_run_alone(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        read, write = os.pipe()
        try:
            with proctally.track(interval=0.05, done=lambda run: os.write(write, b"done ")) as run:
                child = os.fork()
                if child == 0:
                    with run.phase("not ours"):
                        busy(0.1)
                    sys.exit(3)  # through the end of the block
                status = os.waitpid(child, 0)[1]
                busy(0.2)
        except SystemExit:
            os.write(write, json.dumps([run.summary.cpu.total_seconds, run.summary.verdict]).encode())
            with proctally.track(interval=0.05) as own:  # one of its own
                busy(0.1)
            os.write(write, json.dumps(own.summary.cpu.total_seconds).encode() + b"\\n")
            raise
        child, *done = os.read(read, 1000).decode().split("done ")
        say(total=run.summary.cpu.total_seconds, verdict=run.summary.verdict, status=status, done=done,
            child=child, phases=[phase.name for phase in run.phases])
        """,
    )
    assert said["verdict"] == "ok"
    assert os.waitstatus_to_exitcode(said["status"]) == 3
    assert said["done"] == [""], "its parent is told last, and alone"
    assert said["child"].startswith("[null, null]")
    near(float(said["child"].removeprefix("[null, null]")), 0.1)
    assert 0.38 < said["total"] < 0.6
    assert said["phases"] == []
    assert len(records(tmp_path)) == 2
    assert [whole(lines)["verdict"] for lines in records(tmp_path)] == ["ok", "ok"]


def test_signal_ends_the_sampler_with_what_it_has(tmp_path: Path) -> None:
    """As a service is stopped: every process of its cgroup gets SIGTERM, and the program may take its time."""
    said = program(
        tmp_path,
        PORTRAIT
        + textwrap.dedent("""
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with proctally.track(interval=0.05) as run:
                busy(0.2)
                pid = sampler()
                os.kill(pid, signal.SIGTERM)
                deadline = time.monotonic() + 5
                while state(pid) not in "XZ" and time.monotonic() < deadline: time.sleep(0.005)
        say(total=run.summary.cpu.total_seconds, missing=run.missing, reason=run.summary.as_dict()["reason"])
        """),
    )
    near(said["total"], 0.2)
    assert (said["reason"]["code"], said["reason"]["signal"]) == ("stopped", signal.SIGTERM)
    assert said["missing"] == ["the summary: the sampler has ended"]
    assert whole(records(tmp_path)[0])["verdict"] == "ended"


def test_killed_sampler_costs_its_result_alone(tmp_path: Path) -> None:
    """Also where SIGPIPE would end the program."""
    said = program(
        tmp_path,
        PORTRAIT
        + textwrap.dedent("""
        import warnings
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore", ResourceWarning)
            with proctally.track(interval=0.05) as run:
                time.sleep(0.2)
                os.kill(sampler(), signal.SIGKILL)
                time.sleep(0.1)
                for _ in range(3):
                    with run.phase("late"): pass
        with proctally.track(interval=0.05) as again:
            busy(0.1)
        say(total=run.summary.cpu.total_seconds, missing=run.missing, warned=[str(each.message) for each in caught],
            samples=len(run.samples), again=again.summary.cpu.total_seconds)
        """),
    )
    assert said["total"] is None
    assert "the sampler has ended" in said["missing"][0]
    assert said["warned"][0].startswith("proctally: ")
    assert said["samples"] >= 2, "what it had written is there"
    near(said["again"], 0.1)


def test_program_that_closed_its_standard_streams(tmp_path: Path) -> None:
    """What it writes on 1 and 2 all the same goes nowhere near our channels."""
    said = tmp_path / "said"
    code = f"""
        os.closerange(0, 3)
        with proctally.track(interval=0.05) as run:
            for fd in (0, 1, 2):
                try: os.write(fd, b"noise")
                except OSError: pass
            busy(0.1)
        open({str(said)!r}, "w").write(json.dumps([run.summary.cpu.total_seconds, run.missing]))
    """
    assert run_program(tmp_path, code).returncode == 0
    total, missing = json.loads(said.read_text())
    near(total, 0.1)
    assert missing == []


def test_program_that_closes_all_descriptors(tmp_path: Path) -> None:
    """What it opens next has the numbers of ours: nothing is written there, and it stays open."""
    said = program(
        tmp_path,
        """
        import gc, socket, warnings
        warnings.simplefilter("ignore")
        with proctally.track(interval=0.05, record=False) as run:
            os.closerange(3, 1024)
            mine, other = zip(*(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(6)))
            with run.phase("unheard"): pass
        missing, samples = run.missing, run.samples
        del run
        gc.collect()
        heard = []
        for each in [*mine, *other]:
            each.setblocking(False)
            try: heard.append(each.recv(1000).decode())
            except BlockingIOError: pass
        with proctally.track(interval=0.05) as again: busy(0.1)
        say(missing=missing, samples=samples, heard=heard, again=again.summary.cpu.total_seconds)
        """,
    )
    assert said["heard"] == []
    assert "the descriptor of its channel was closed" in said["missing"][0]
    assert said["samples"] == []
    near(said["again"], 0.1)


def test_descriptor_above_the_limit(tmp_path: Path) -> None:
    """The program lowered its limit below what it has open; the sampler has nothing of that all the same."""
    said = program(
        tmp_path,
        PORTRAIT
        + textwrap.dedent("""
        os.dup2(os.open("/etc/passwd", os.O_RDONLY), 500)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with proctally.track(interval=0.05) as run:
            seen = portrait(sampler())
        say(missing=run.missing, links=list(seen["fds"].values()), total=run.summary.cpu.total_seconds)
        """),
    )
    assert said["missing"] == []
    assert said["total"] is not None
    assert "/etc/passwd" not in said["links"]


# -- its ends, and what it says --------------------------------------------------------------------------------------


def test_exception(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), proctally.track(interval=0.05) as run:
        1 / 0  # noqa: B018
    assert (run.summary.verdict, run.summary.as_dict()["reason"]["exception"]) == ("failed", "ZeroDivisionError")
    assert whole(records(home)[0])["verdict"] == "failed"


def test_generator_that_is_left(home: Path) -> None:
    """To ask for no more is no failure; and who asks is not inside of its block once that has ended."""

    @proctally.track(interval=0.05)
    def count() -> Iterator[int]:
        yield from range(9)

    for _ in count():
        break
    assert whole(records(home)[0])["verdict"] == "ok"
    others = count()
    next(others)
    with proctally.track(interval=0.05, name="around its end"):
        list(others)
    with proctally.track(interval=0.05, name="behind"):
        pass
    assert [lines[0]["parent_run_id"] for lines in records(home) if lines[0]["name"] == "behind"] == [None]


@pytest.mark.parametrize(("status", "verdict"), [("0", "ok"), ("", "ok"), ("3", "failed"), ("'message'", "failed")])
def test_exit_in_the_block(tmp_path: Path, status: str, verdict: str) -> None:
    run_program(tmp_path, f"with proctally.track(interval=0.05): sys.exit({status})")
    summary = whole(records(tmp_path)[0])
    assert summary["verdict"] == verdict and summary["reason"]["exception"] == "SystemExit"


@pytest.mark.parametrize("why", ["no place", "not wanted"])
def test_samples_without_a_file(home: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setenv("PROCTALLY_HOME", "/proc/nowhere")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with proctally.track(interval=0.05, record=why == "no place") as run:
            time.sleep(0.2)
            assert run.samples
    assert run.path is None
    assert len(run.samples) >= 4
    assert run.samples[-1].tree.rss_bytes > 1 << 20
    assert bool(run.missing) == bool(caught) == (why == "no place")
    assert run.summary.verdict == "ok"


def test_phases(home: Path) -> None:
    with proctally.track(interval=0.5) as run:
        with run.phase("load"):
            time.sleep(0.05)
        with run.phase("fit"):
            end = time.thread_time() + 0.2
            while time.thread_time() < end:
                pass
            with run.phase("inner"):
                pass
        with pytest.raises(KeyError), run.phase("broken"):
            raise KeyError
    assert [phase.name for phase in run.phases] == ["load", "fit", "inner", "broken"]
    load, fit, *_ = run.phases
    assert load.wall_seconds >= 0.05 and load.cpu_seconds < 0.05
    near(fit.cpu_seconds, 0.2)
    told = of_type(records(home)[0], "phase")
    assert [(line["name"], line["event"]) for line in told[:4]] == [
        ("load", "begin"), ("load", "end"), ("fit", "begin"), ("inner", "begin"),
    ]  # fmt: skip
    assert [line["at"] for line in told] == sorted(line["at"] for line in told)


def test_phase_while_the_clock_is_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proctally.track(interval=0.5) as run, run.phase("fit"):
        time.sleep(0.05)
        ahead = time.time() - 3600
        monkeypatch.setattr(time, "time", lambda: ahead)
    (phase,) = run.phases
    assert phase.ended_at < phase.began_at
    assert 0.05 <= phase.wall_seconds < 5
    begin, end = of_type(records(home)[0], "phase")
    assert 0 <= begin["elapsed_seconds"] < end["elapsed_seconds"] < 5


def test_storm_of_phases_harms_nobody(home: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with proctally.track(interval=0.1) as run:
            begin = time.monotonic()
            for _ in range(5000):
                with run.phase("p"):
                    pass
            assert time.monotonic() - begin < 5
    assert run.summary.verdict == "ok"
    dropped = sum(int(what.split()[0]) for what in run.missing)
    assert len(of_type(records(home)[0], "phase")) + dropped == 10000


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dataframe(home: Path, library: Any) -> None:
    pytest.importorskip(library)
    with proctally.track(interval=0.05) as run:
        time.sleep(0.2)
    frame = run.to_dataframe(library)
    assert type(frame).__module__.startswith(library)
    assert frame.shape[0] == len(run.samples)
    assert list(frame["tree.cpu_seconds"]) == [sample.tree.cpu_seconds for sample in run.samples]
    assert "system.memory.used_bytes" in frame.columns
    assert not {"tree", "system", "gpus", "cgroup", "top"} & set(frame.columns), "those are no single values"


def test_dataframe_without_a_library(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        sys.modules["pandas"] = sys.modules["polars"] = None
        with proctally.track() as run: pass
        told = []
        for library in (None, "pandas", "polars"):
            try: run.to_dataframe(library)
            except ImportError as error: told.append(str(error))
        say(told=told)
        """,
    )
    assert len(said["told"]) == 3
    assert all("pip install" in each for each in said["told"])


def test_large_environment(tmp_path: Path) -> None:
    """Whatever has to be known of it arrives."""
    said = program(
        tmp_path,
        """
        os.environ |= {f"{'V' * 80}{number}": "v" for number in range(20_000)} | {"SLURM_JOB_ID": "77"}
        with proctally.track() as run: pass
        say(missing=run.missing)
        """,
    )
    assert said["missing"] == []
    assert records(tmp_path)[0][0]["scheduler"] == {"SLURM_JOB_ID": "77"}


def test_disabled(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        PORTRAIT
        + textwrap.dedent("""
        with proctally.track(interval=0.05) as run:
            with run.phase("p"): busy(0.05)
            there = sampler()
        say(total=run.summary.cpu.total_seconds, samples=run.samples, phases=run.phases, there=there,
            missing=run.missing)
        """),
        env=environment(tmp_path, PROCTALLY_DISABLE="1"),
    )
    assert (said["total"], said["samples"], said["phases"], said["there"]) == (None, [], [], None)
    assert "PROCTALLY_DISABLE" in said["missing"][0]
    assert not (tmp_path / "runs").exists()


def test_one_at_a_time(home: Path) -> None:
    tracker = proctally.track(interval=0.05)
    with tracker, pytest.raises(RuntimeError, match="in use"), tracker:
        pass
    with tracker as run:
        pass
    assert run.summary.verdict == "ok"


def test_ordinary_user(user: User) -> None:
    said = program(
        user.folder / "home",
        """
        with proctally.track(interval=0.1) as run:
            before = used()
            subprocess.run([sys.executable, "-S", "-E", "-c", "import time\\nwhile time.process_time() < 0.2: pass"])
            busy(0.3)
            after = used()
        say(total=run.summary.cpu.total_seconds, truth=sum(after) - sum(before), missing=run.missing, path=run.path,
            io=run.summary.io.write_chars)
        """,
        python=user.python[:1],
        env=user.environment,
        cwd=user.folder,
        preexec_fn=user.become,
    )
    near(said["total"], said["truth"])
    assert said["missing"] == []
    assert said["io"] is not None
    assert Path(said["path"]).stat().st_mode & 0o777 == 0o600


def test_interrupt_of_the_terminal_reaches_the_program_alone(tmp_path: Path) -> None:
    process = begun(
        tmp_path,
        """
        try:
            with proctally.track(interval=0.05) as run:
                say(ready=True)
                time.sleep(30)
        except KeyboardInterrupt:
            say(verdict=run.summary.verdict, reason=run.summary.as_dict()["reason"], missing=run.missing)
        """,
    )
    assert process.stdout is not None
    with process:
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        said = json.loads(process.stdout.readline())
        assert process.wait(PATIENCE) == 0
    assert said["verdict"] == "failed"
    assert (said["reason"]["code"], said["reason"]["exception"]) == ("block_ended", "KeyboardInterrupt")
    assert said["missing"] == []
