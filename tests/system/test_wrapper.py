"""`proctally run` as its job and its caller see it: exit statuses, outputs, and that nothing of the job is changed."""

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from places import SUPPORT
from proctally.record.reader import read
from tracked import PATIENCE, PROCTALLY, PYTHON, Done, call, environment, reason, record, records, run, shell, whole

VIEW = [*PYTHON, str(SUPPORT / "view.py")]


# -- exit status -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 3, 124, 125, 126, 127, 255])
def test_exit_status_of_the_command(tmp_path: Path, status: int) -> None:
    done = shell(tmp_path, f"exit {status}")
    assert (done.status, done.stdout, done.stderr) == (status, b"", b"")
    summary = done.summary()
    assert (summary["exit_code"], summary["signal"]) == (status, None)
    assert summary["verdict"] == ("failed" if status else "ok")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT, signal.SIGPIPE])
def test_exit_status_of_a_command_killed_by_a_signal(tmp_path: Path, number: int) -> None:
    done = shell(tmp_path, f"ulimit -c 0; kill -{int(number)} $$", cwd=tmp_path)
    assert (done.status, done.stderr) == (128 + number, b"")
    summary = done.summary()
    assert (summary["exit_code"], summary["signal"], summary["verdict"]) == (None, number, "killed")
    assert reason(summary) == {"code": "signal", "signal": number, "core_dumped": False}


@pytest.mark.parametrize(("soft", "shown"), [(4_000_000, 4_096_000_000), ("unlimited", None)])
def test_record_has_the_limit_of_address_space_that_the_job_inherits(
    tmp_path: Path, soft: object, shown: object
) -> None:
    words = ["sh", "-c", f'ulimit -v {soft}; exec "$@"', "sh", *PROCTALLY, "run", "-q", "--", "false"]
    assert subprocess.run(words, env=environment(tmp_path), check=False).returncode == 1
    lines = record(tmp_path)
    assert [line["limits"]["address_space_bytes"] for line in (lines[0], lines[-1])] == [shown] * 2


def cannot_start(done: Done, status: int, name: str) -> None:
    """One line says what could not be started, and no record is left of what never ran."""
    assert (done.status, done.stdout) == (status, b"")
    assert done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1
    assert name in done.stderr.decode()
    assert records(done.home) == []


@pytest.mark.parametrize("name", ["no-such-program", "./no-such-program", "/no/such/program", ""])
def test_command_not_found(tmp_path: Path, name: str) -> None:
    cannot_start(run(tmp_path, "-q", "--", name, cwd=tmp_path), 127, f"proctally: {name or repr(name)}: ")


def test_command_below_a_file_is_not_executable(tmp_path: Path) -> None:
    """As a shell has it (bash: 126)."""
    (tmp_path / "file").write_text("")
    cannot_start(run(tmp_path, "-q", "--", str(tmp_path / "file/program")), 126, "file/program")


def test_command_below_a_file_of_the_path_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cannot_start(
        run(tmp_path, "-q", "--", "program", env=environment(tmp_path, PATH=str(tmp_path / "file"))), 127, "program"
    )


def test_file_without_permission_is_not_executable(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    cannot_start(run(tmp_path, "-q", "--", str(program)), 126, str(program))


def test_directory_is_not_executable(tmp_path: Path) -> None:
    cannot_start(run(tmp_path, "-q", "--", str(tmp_path)), 126, str(tmp_path))


def test_missing_interpreter_is_not_found(tmp_path: Path) -> None:
    program = script(tmp_path / "program", "#!/no/such/interpreter\n")
    cannot_start(run(tmp_path, "-q", "--", str(program)), 127, str(program))


def test_output_of_a_command_that_never_ran_is_taken_away(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert run(tmp_path, "-q", "-o", str(output), "--", "no-such-program").status == 127
    assert not output.exists()


# -- what is executed ------------------------------------------------------------------------------------------------


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_script_without_an_interpreter_line_is_run_by_the_shell(tmp_path: Path) -> None:
    program = script(tmp_path / "program", 'echo "$0 $#: $1"\nexit 6\n')
    done = run(tmp_path, "-q", "--", str(program), "a b", "c")
    assert (done.status, done.stdout.decode(), done.stderr) == (6, f"{program} 2: a b\n", b"")


def search(tmp_path: Path, *folders: Path) -> Done:
    env = environment(tmp_path, PATH=os.pathsep.join(map(str, folders)))
    return run(tmp_path, "-q", "--", "program", env=env, cwd=tmp_path)


def test_path_is_searched_beyond_what_may_not_be_executed(tmp_path: Path) -> None:
    script(tmp_path / "denied/program", "#!/bin/sh\nexit 1\n", 0o644)
    script(tmp_path / "right/program", "#!/bin/sh\nexit 8\n")
    assert search(tmp_path, tmp_path / "missing", tmp_path / "denied", tmp_path / "right").status == 8


def test_path_with_nothing_but_what_may_not_be_executed(tmp_path: Path) -> None:
    script(tmp_path / "denied/program", "#!/bin/sh\nexit 1\n", 0o644)
    cannot_start(search(tmp_path, tmp_path / "denied", tmp_path / "missing"), 126, "program")


def test_path_is_searched_beyond_a_file_among_the_folders(tmp_path: Path) -> None:
    script(tmp_path / "file", "")
    script(tmp_path / "right/program", "#!/bin/sh\nexit 8\n")
    assert search(tmp_path, tmp_path / "file", tmp_path / "right").status == 8


def test_path_is_searched_beyond_a_name_that_is_too_long(tmp_path: Path) -> None:
    cannot_start(search(tmp_path, Path("/x" * 2100)), 127, "program")
    script(tmp_path / "right/program", "#!/bin/sh\nexit 8\n")
    assert search(tmp_path, Path("/x" * 2100), tmp_path / "right").status == 8


def test_empty_part_of_path_is_the_working_directory(tmp_path: Path) -> None:
    script(tmp_path / "program", "#!/bin/sh\nexit 8\n")
    env = environment(tmp_path, PATH=f"/nonexistent{os.pathsep}")
    assert run(tmp_path, "-q", "--", "program", env=env, cwd=tmp_path).status == 8


def test_arguments_reach_the_command_byte_for_byte(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--", "printf", "%s|", "-q", "--", "", "a b", b"\xff\n", "ü")
    assert done.stdout == b"-q|--||a b|\xff\n|\xc3\xbc|"
    assert done.record()[0]["command"] == ["printf", "%s|", "-q", "--", "", "a b", "\\xff\n", "ü"]


def test_options_end_at_the_first_word(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "printf", "%s|", "--quiet", "-o")
    assert (done.status, done.stdout) == (0, b"--quiet|-o|")


# -- before the start: 125 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--no-such-option"],
        ["-Z"],
        ["-i", "0.01"],
        ["-i", "0"],
        ["-i", "nan"],
        ["-i", "soon"],
        ["-i"],
        ["--tag", "novalue"],
        ["--source", "magic"],
        ["-f", "xml"],
        ["--quiet=yes"],
        ["-o", "-"],
        ["-o", "missing/out.jsonl"],
        ["-o", "."],
        ["-o", "existing"],
        ["-o", "dangling"],
        ["-o", "out-{nothing}"],
        ["-o", "out-{env:NOT_SET_ANYWHERE}"],
        ["-o", "out-{pid"],
        ["-o", "fifo"],
    ],
    ids=" ".join,
)
def test_mistakes_end_before_the_command_begins(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "existing").write_text("mine\n")
    (tmp_path / "dangling").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "fifo")  # nobody reads it: opening must not wait
    before = sorted(tmp_path.iterdir())
    done = run(tmp_path, *options, "--", "touch", "ran", cwd=tmp_path)
    assert (done.status, done.stdout) == (125, b"")
    assert done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "existing").read_text() == "mine\n"


@pytest.mark.parametrize("words", [["run"], ["run", "-q"], ["run", "--"]], ids=" ".join)
def test_run_of_nothing(tmp_path: Path, words: list[str]) -> None:
    done = call(tmp_path, *words)
    assert (done.status, done.stdout) == (125, b"")
    assert done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "variable", ["PROCTALLY_INTERVAL=soon", "PROCTALLY_QUIET=perhaps", "PROCTALLY_OUTPUT=-", "PROCTALLY_TAG=x"]
)
def test_mistakes_in_variables(tmp_path: Path, variable: str) -> None:
    name, _, value = variable.partition("=")
    done = run(tmp_path, "--", "touch", "ran", cwd=tmp_path, env=environment(tmp_path, **{name: value}))
    assert (done.status, done.stderr.count(b"\n")) == (125, 1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["attach", "-h"]], ids=" ".join)
def test_help_and_version(tmp_path: Path, words: list[str]) -> None:
    done = call(tmp_path, *words)
    assert (done.status, done.stderr) == (0, b"")
    assert b"proctally" in done.stdout


# -- outputs ---------------------------------------------------------------------------------------------------------


def test_output_is_made_for_its_owner_alone_and_takes_the_place_of_the_default(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert shell(tmp_path, "exit 3", "-o", str(output)).status == 3
    assert whole(list(read(str(output))))["exit_code"] == 3
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert records(tmp_path) == []


def test_record_in_its_default_place(tmp_path: Path) -> None:
    shell(tmp_path, ":", "-n", "../a name")
    (path,) = (tmp_path / "runs").iterdir()
    lines = record(tmp_path)
    assert lines[0]["name"] == "../a name"
    assert path.name.endswith(f"_a_name-{lines[0]['run_id'][:8]}.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_existing_output_with_force(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("something longer than what comes, and not JSON\n" * 1000)
    assert shell(tmp_path, ":", "-o", str(output), "--force").status == 0
    whole(list(read(str(output))))


def test_output_with_force_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine\n")
    (tmp_path / "link").symlink_to("target")
    assert shell(tmp_path, ":", "-o", str(tmp_path / "link"), "--force").status == 125
    assert (tmp_path / "target").read_text() == "mine\n"


def test_placeholders_of_the_output(tmp_path: Path) -> None:
    env = environment(tmp_path, RANK="7")
    output = str(tmp_path / "{name}.{env:RANK}.{pid}.{run_id}.{host}")
    done = run(tmp_path, "-q", "-n", "a/b", "-o", output, "--", "sh", "-c", "echo $$", env=env)
    (path,) = tmp_path.glob("a_b.7.*")
    lines = list(read(str(path)))
    assert path.name == f"a_b.7.{int(done.stdout)}.{lines[0]['run_id']}.{os.uname().nodename}"


def test_output_to_an_inherited_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(pipe.read()))
        reader.start()
        done = shell(tmp_path, "exit 3", "-o", f"/dev/fd/{writing}", pass_fds=(writing,))
        os.close(writing)
        reader.join()
    assert (done.status, done.stderr) == (3, b"")
    assert whole([json.loads(line) for line in got[0].splitlines()])["exit_code"] == 3


def test_output_to_stdout_goes_behind_what_the_job_wrote_to_its_file(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w+b") as out:
        assert shell(tmp_path, "echo job", "-o", "/dev/stdout", stdout=out).status == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert "job" in lines
    lines.remove("job")
    whole([json.loads(line) for line in lines])


def test_output_whose_reader_goes_away_does_not_end_the_job(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = shell(tmp_path, "exit 3", "-o", f"/dev/fd/{writing}", pass_fds=(writing,))
    os.close(writing)
    assert done.status == 3
    assert done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1


def test_no_record(tmp_path: Path) -> None:
    assert shell(tmp_path, "exit 3", "--no-record").status == 3
    assert not list(tmp_path.iterdir())


def test_summary_follows_what_the_job_wrote_and_names_the_record(tmp_path: Path) -> None:
    done = run(tmp_path, "--", "sh", "-c", "echo out; echo err >&2")
    assert done.stdout == b"out\n"
    text = done.stderr.decode()
    assert text.startswith("err\nproctally sh  ok")
    (path,) = (tmp_path / "runs").iterdir()
    assert str(path) in text
    assert "\x1b" not in text


def test_summary_json(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    done = shell(tmp_path, "exit 3", "--summary-json", str(path))
    assert json.loads(path.read_text()) == done.summary()


def test_disable_becomes_the_job(tmp_path: Path) -> None:
    env = environment(tmp_path, PROCTALLY_DISABLE="1")
    process = subprocess.Popen(
        [*PROCTALLY, "run", "-o", str(tmp_path / "out"), "--", "sh", "-c", "echo $$; exit 3"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stdout, stderr = process.communicate()
    assert (process.returncode, int(stdout), stderr) == (3, process.pid, b"")
    assert not list(tmp_path.iterdir())
    assert run(tmp_path, "--", "no-such-program", env=env).status == 127
    assert run(tmp_path, "--", str(tmp_path), env=env).status == 126


# -- nothing of the job is changed -----------------------------------------------------------------------------------


# With a path, so that subprocess starts it as it starts the tracker: posix_spawn ignores glibc's own two signals.
CAT = shutil.which("cat") or "/bin/cat"


def both_ways(tmp_path: Path, job: list[str], **popen: Any) -> tuple[bytes, bytes]:
    """What a job writes when it is run bare, and when it is run under the tracker."""
    popen.setdefault("env", environment(tmp_path))
    popen.setdefault("stdin", subprocess.DEVNULL)
    written = []
    for words in (job, [*PROCTALLY, "run", "-q", "--", *job]):
        done = subprocess.run(words, capture_output=True, timeout=PATIENCE, **popen)
        assert (done.returncode, done.stderr) == (0, b"")
        written.append(done.stdout)
    assert len(records(tmp_path)) == 1
    return written[0], written[1]


def lower_limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 1000))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))


def odd_circumstances() -> None:
    lower_limits()
    os.umask(0o027)
    os.nice(3)
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    Path("/proc/self/oom_score_adj").write_text("321")


@pytest.mark.parametrize("before", [None, odd_circumstances], ids=["plain", "odd"])
def test_job_sees_itself_as_if_it_ran_bare(tmp_path: Path, before: Callable[[], None] | None) -> None:
    reading, writing = os.pipe()
    try:
        bare, tracked = both_ways(tmp_path, VIEW, pass_fds=(reading, writing), preexec_fn=before, cwd="/")
    finally:
        os.close(reading)
        os.close(writing)
    seen = json.loads(bare)
    assert {0, 1, 2, reading, writing} <= set(seen["descriptors"])
    if before is not None:
        assert (seen["limits"]["RLIMIT_NOFILE"], seen["nice"], seen["oom_score_adj"]) == ([200, 1000], 3, 321)
    assert json.loads(tracked) == seen


def close_standard_descriptors() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


def test_closed_descriptors_stay_closed(tmp_path: Path) -> None:
    seen = []
    for number, words in enumerate((VIEW, [*PROCTALLY, "run", "-q", "--", *VIEW])):
        out = tmp_path / f"view-{number}"
        process = subprocess.Popen([*words, str(out)], env=environment(tmp_path), preexec_fn=close_standard_descriptors)
        assert process.wait(PATIENCE) == 0
        seen.append(json.loads(out.read_text()))
    assert set(seen[0]["descriptors"]).isdisjoint({0, 1, 2})
    assert seen[0] == seen[1]


@pytest.mark.parametrize("leader", ["group", "session"])
def test_job_is_in_the_group_and_the_session_of_the_tracker(tmp_path: Path, leader: str) -> None:
    code = "import os; print(os.getpgrp(), os.getsid(0), os.getppid())"
    how: dict[str, Any] = {"process_group": 0} if leader == "group" else {"start_new_session": True}
    process = subprocess.Popen(
        [*PROCTALLY, "run", "-q", "--", *PYTHON, "-c", code], env=environment(tmp_path), stdout=subprocess.PIPE, **how
    )
    stdout, _ = process.communicate(timeout=PATIENCE)
    group, session, above = map(int, stdout.split())
    assert (group, above) == (process.pid, process.pid)
    assert session == (process.pid if leader == "session" else os.getsid(0))


def ignore(*numbers: int) -> Callable[[], None]:
    def before() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return before


CATCHABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def block(*numbers: int) -> Callable[[], None]:
    return lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


@pytest.mark.parametrize(
    ("before", "field", "numbers"),
    [
        (None, "SigIgn", []),
        (ignore(signal.SIGINT, signal.SIGQUIT), "SigIgn", [signal.SIGINT, signal.SIGQUIT]),
        (ignore(signal.SIGHUP), "SigIgn", [signal.SIGHUP]),
        (ignore(signal.SIGTERM, signal.SIGUSR1), "SigIgn", [signal.SIGTERM, signal.SIGUSR1]),
        (ignore(signal.SIGCHLD), "SigIgn", [signal.SIGCHLD]),
        (ignore(signal.SIGTSTP, signal.SIGTTOU), "SigIgn", [signal.SIGTSTP, signal.SIGTTOU]),
        (block(signal.SIGUSR1, signal.SIGTERM), "SigBlk", [signal.SIGUSR1, signal.SIGTERM]),
        (block(signal.SIGCHLD), "SigBlk", [signal.SIGCHLD]),
        (block(signal.SIGALRM, signal.SIGRTMIN), "SigBlk", [signal.SIGALRM, signal.SIGRTMIN]),
        (block(*CATCHABLE), "SigBlk", CATCHABLE),
    ],
    ids=["plain", "background", "nohup", "ignored", "SIGCHLD-ignored", "stops-ignored", "blocked", "SIGCHLD-blocked"]
    + ["others-blocked", "all-blocked"],
)
def test_signals_are_as_if_it_ran_bare(
    tmp_path: Path, before: Callable[[], None] | None, field: str, numbers: list[int]
) -> None:
    bare, tracked = (
        dict(line.split(":", 1) for line in text.decode().splitlines())
        for text in both_ways(tmp_path, [CAT, "/proc/self/status"], preexec_fn=before)
    )
    assert all(int(bare[field], 16) >> (number - 1) & 1 for number in numbers), "the test itself did not set it up"
    fields = ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"]
    fields += ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups", "Uid", "Gid"]
    assert {name: tracked.get(name) for name in fields} == {name: bare.get(name) for name in fields}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_tracker_and_job_under_a_tracer(tmp_path: Path) -> None:
    tracer = ["strace", "-f", "-o", os.devnull]
    job = ["sh", "-c", 'trap "exit 9" USR1; kill -USR1 $$; exit 4']
    command = [*tracer, *PROCTALLY, "run", "-q", "--", *job]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (9, b"")
    assert whole(record(tmp_path))["exit_code"] == 9


@pytest.mark.parametrize("before", [ignore(signal.SIGCHLD), block(signal.SIGCHLD)], ids=["ignored", "blocked"])
def test_status_and_usage_come_through_whatever_was_done_to_sigchld(tmp_path: Path, before: Callable[[], None]) -> None:
    job = [*PYTHON, "-c", "import time\nwhile time.process_time() < 0.1: pass\nraise SystemExit(3)"]
    done = run(tmp_path, "-q", "--", *job, preexec_fn=before)
    assert (done.status, done.stderr) == (3, b"")
    assert done.summary()["cpu"]["total_seconds"] >= 0.1
    assert done.summary()["processes"]["left"] == 0


def variables(data: bytes) -> list[bytes]:
    return data.rstrip(b"\0").split(b"\0")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"LANG": "C"},
        {"LC_ALL": "POSIX"},
        {"LC_CTYPE": "C"},
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": "C"},
        {"EMPTY": "", "ODD": "a=b\n\udcff", "BASH_FUNC_f%%": "() { :; }"},
    ],
    ids=["bare", "LANG=C", "LC_ALL=POSIX", "LC_CTYPE=C", "no-utf8", "odd"],
)
def test_environment_of_the_job_gains_two_variables(tmp_path: Path, more: dict[str, str]) -> None:
    env = {"PATH": os.environ.get("PATH", os.defpath), "PROCTALLY_HOME": str(tmp_path), **more}
    bare, tracked = map(variables, both_ways(tmp_path, ["cat", "/proc/self/environ"], env=env))
    run_id = record(tmp_path)[0]["run_id"]
    marks = [variable for variable in tracked if variable.startswith(b"PROCTALLY_MARKS=/proc/")]
    assert len(marks) == 1
    assert sorted(tracked) == sorted([*bare, b"PROCTALLY_RUN_ID=" + run_id.encode(), *marks])


def test_disable_changes_nothing_of_the_environment(tmp_path: Path) -> None:
    env = {"PATH": os.environ.get("PATH", os.defpath), "PROCTALLY_DISABLE": "1"}
    done = run(tmp_path, "--", "cat", "/proc/self/environ", env=env)
    assert sorted(variables(done.stdout)) == sorted(f"{name}={value}".encode() for name, value in env.items())


def test_options_of_this_run_are_no_options_of_runs_inside(tmp_path: Path) -> None:
    kept = {"PROCTALLY_HOME": str(tmp_path), "PROCTALLY_INTERVAL": "0.5", "PROCTALLY_QUIET": "1"}
    dropped = {
        "PROCTALLY_OUTPUT": str(tmp_path / "out.jsonl"),
        "PROCTALLY_SUMMARY_JSON": str(tmp_path / "summary.json"),
        "PROCTALLY_NAME": "outer",
        "PROCTALLY_TAG": "a=1",
        "PROCTALLY_FORCE": "1",
        "PROCTALLY_FORMAT": "jsonl",
    }
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **kept, **dropped}
    done = run(tmp_path, "--", "cat", "/proc/self/environ", env=env)
    header = next(read(str(tmp_path / "out.jsonl")))
    assert (header["name"], header["tags"]) == ("outer", {"a": "1"})
    seen = dict(variable.decode().split("=", 1) for variable in variables(done.stdout))
    assert seen.pop("PROCTALLY_MARKS").startswith("/proc/")
    assert {name: value for name, value in seen.items() if name.startswith("PROCTALLY_")} == {
        **kept,
        "PROCTALLY_RUN_ID": header["run_id"],
    }


def test_streams_pass_through(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    done = run(tmp_path, "-q", "--", "sh", "-c", "cat; echo e >&2", input=data)
    assert (done.status, done.stdout, done.stderr) == (0, data, b"e\n")


def test_stdin_that_the_job_left_is_there_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one\ntwo\n")
    with open(tmp_path / "lines", "rb") as lines:
        assert shell(tmp_path, "read line; echo $line", stdin=lines).stdout == b"one\n"
        os.lseek(lines.fileno(), 4, os.SEEK_SET)
        assert shell(tmp_path, "read line; echo $line", stdin=lines).stdout == b"two\n"
