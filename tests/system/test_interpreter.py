"""No variable and no module of another Python program reaches the interpreter of the command."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from installs import BASE, JOB, QUIET, VERSION, environment_of_its_own, hostile_modules, put
from places import ROOT
from tracked import PATIENCE, PROCTALLY, Done, environment, records, target

SCRIPT = [sys.executable, str(ROOT / "scripts" / "proctally")]
IGNORE = ["sed", "-i", "--follow-symlinks", "1s/$/ -I/"]  # README, Surroundings
# What `python -m` itself imports before it runs the package, in one of the supported versions.
OF_RUNPY = (
    "runpy", "importlib", "pkgutil", "warnings", "contextlib", "collections", "keyword", "operator", "reprlib",
    "functools", "types", "typing", "os", "_weakrefset", "weakref", "threading", "re", "linecache", "tokenize",
    "_py_warnings", "_collections_abc", "zipimport", "abc", "_opcode_metadata", "opcode", "inspect", "enum", "copyreg",
)  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_modules(tmp_path_factory.mktemp("other") / "modules")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in a virtual environment."""
    return environment_of_its_own(tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(scope="module")
def remedied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, with the remedy of the README."""
    command = environment_of_its_own(tmp_path_factory.mktemp("remedied") / "venv")
    subprocess.run([*IGNORE, command], check=True)
    return command


def said(command: list[str | Path], **popen: object) -> tuple[int, bytes, bytes]:
    popen.setdefault("env", bare())
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, **popen)  # type: ignore[call-overload]
    return done.returncode, done.stdout, done.stderr


def bare(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PROCTALLY_", "PYTHON"))}
    return {**inherited, **more}


# -- modules of another program --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [SCRIPT, PROCTALLY], ids=["installed", "module"])
def test_run_with_hostile_pythonpath_is_silent(tmp_path: Path, hostile: Path, command: list[str]) -> None:
    folder = hostile if command is SCRIPT else hostile_modules(tmp_path / "modules", *OF_RUNPY)
    env = bare(PYTHONPATH=str(folder))
    assert said([*command, *QUIET, *JOB], env=env) == (7, b"", b"")


@pytest.mark.parametrize("folder", ["cwd", "script"])
def test_run_beside_hostile_modules_is_silent(tmp_path: Path, folder: str) -> None:
    modules = hostile_modules(tmp_path / "modules", *OF_RUNPY)
    command = PROCTALLY if folder == "cwd" else [sys.executable, shutil.copy(SCRIPT[1], modules)]
    assert said([*command, *QUIET, *JOB], cwd=modules) == (7, b"", b"")


def test_isolated_module_in_a_hostile_folder_is_silent(hostile: Path) -> None:
    assert said([sys.executable, "-I", "-m", "proctally", *QUIET, *JOB], cwd=hostile) == (7, b"", b"")


def test_helper_with_hostile_pythonpath_exports(tmp_path: Path, hostile: Path) -> None:
    pytest.importorskip("prometheus_client", reason="no prometheus_client")
    file = tmp_path / "job.prom"
    options = ["run", "-q", "--no-record", "--textfile", str(file), "--"]
    assert said([*SCRIPT, *options, *JOB], env=bare(PYTHONPATH=str(hostile))) == (7, b"", b"")
    assert "proctally_run_info" in file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with two records."""
    home = tmp_path_factory.mktemp("home")
    for name in ("first", "second"):
        said([*SCRIPT, "run", "-q", "-n", name, "--", "true"], env=bare(PROCTALLY_HOME=str(home)))
    return home


@pytest.mark.parametrize(
    "words",
    [
        "ls", "report -f text last", "export last", "export -f jsonl last",
        "diff first second", "advise", "fields", "system --duration 0.1 --no-record", "rm --dry-run --older-than 1d",
        "mark a", "--help", "lss",
    ],
)  # fmt: skip
def test_command_with_hostile_pythonpath_works(home: Path, hostile: Path, words: str) -> None:
    status, stdout, stderr = said([*SCRIPT, *words.split()], env=bare(PROCTALLY_HOME=str(home)))
    reached = said([*SCRIPT, *words.split()], env=bare(PROCTALLY_HOME=str(home), PYTHONPATH=str(hostile)))
    if words.startswith("system"):  # figures
        assert (reached[0], b"of another program" in reached[2]) == (status, False)
    else:
        assert reached == (status, stdout, stderr)


def test_attach_with_hostile_pythonpath_works(tmp_path: Path, hostile: Path) -> None:
    for process in target(["sleep", "300"]):
        words = ["attach", "--duration", "0.1", str(process.pid)]
        env = bare(PROCTALLY_HOME=str(tmp_path), PYTHONPATH=str(hostile))
        status, _, stderr = said([*SCRIPT, *words], env=env)
        assert (status, b"of another program" in stderr) == (0, False)
    assert len(records(tmp_path)) == 1


def test_track_beside_hostile_modules_measures(tmp_path: Path) -> None:
    """Names that programs also choose."""
    for name in ("json", "math", "resource", "select", "signal", "struct", "socket", "platform", "queue", "statistics"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of another program')\n")
    (tmp_path / "program.py").write_text(
        "import proctally\nwith proctally.track(interval=0.05) as run:\n    sum(range(1_000_000))\n"
        "assert 'CPU' in str(run.summary)\nprint(run.missing, run.summary.verdict)\n"
    )
    env = environment(tmp_path)
    assert said([sys.executable, "program.py"], cwd=tmp_path, env=env) == (0, b"[] ok\n", b"")


# -- variables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable",
    [
        "PYTHONHOME=/usr", "PYTHONEXECUTABLE=/bin/false", "__PYVENV_LAUNCHER__=/bin/false", "PYTHONDEVMODE=1",
        "PYTHONMALLOC=debug", "PYTHONTRACEMALLOC=1", "PYTHONINTMAXSTRDIGITS=640", "PYTHONPERFSUPPORT=1",
        "PYTHON_CPU_COUNT=1", "PYTHONWARNINGS=error",
    ],
)  # fmt: skip
def test_variable_of_another_program_does_not_reach_run(installed: Path, variable: str) -> None:
    name, _, value = variable.partition("=")
    if name == "PYTHONHOME" and not Path(f"{value}/lib/{VERSION}/os.py").exists():
        pytest.skip(f"no standard library of {VERSION} in {value}")
    assert said([installed, *QUIET, *JOB], env=bare(**{name: value})) == (7, b"", b"")


def test_interpreter_named_by_a_variable_is_not_started(tmp_path: Path, installed: Path, hostile: Path) -> None:
    link = tmp_path / "proctally"  # as pipx has it
    link.symlink_to(installed)
    env = bare(PYTHONEXECUTABLE="/bin/false", PYTHONPATH=str(hostile))
    assert said([link, *QUIET, *JOB], env=env) == (7, b"", b"")


@pytest.mark.parametrize(
    ("variables", "restarts"),
    [
        ({}, False),
        ({"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHON_VERSION": "3.11.7"}, False),
        ({"PYTHONPATH": ""}, False),
        ({"PYTHONPATH": "/nonexistent"}, True),
    ],
    ids=["none", "container", "empty", "path"],
)
def test_run_restarts_for_what_reaches_it_alone(variables: dict[str, str], restarts: bool) -> None:
    job = ["sh", "-c", "tr '\\0' '\\n' </proc/$PPID/cmdline"]
    status, stdout, _ = said([*SCRIPT, *QUIET, *job], env=bare() | variables)
    words = stdout.decode().splitlines()
    assert (status, "-E" in words[:4]) == (0, restarts)
    assert words[-len(job) :] == job


def test_run_after_a_restart_has_its_name(installed: Path) -> None:
    status, stdout, _ = said(
        [installed, *QUIET, "sh", "-c", "cat /proc/$PPID/comm"], env=bare(PYTHONPATH="/nonexistent")
    )
    assert (status, stdout) == (0, b"proctally\n")


STRIKING = [
    "PYTHONHOME=/nonexistent", "PYTHONMALLOC=x", "PYTHONHASHSEED=x", "PYTHONUTF8=x", "PYTHONIOENCODING=x",
    "PYTHONTRACEMALLOC=x", "PYTHONINTMAXSTRDIGITS=1", "PYTHONPLATLIBDIR=x", "PYTHONVERBOSE=1",
    "PYTHONPROFILEIMPORTTIME=1", "PYTHONMALLOCSTATS=1", "PYTHONWARNINGS=foo::bar", "PYTHONCOERCECLOCALE=warn",
    "PYTHONPATH=encodings", "PYTHONPATH=sitecustomize",
]  # fmt: skip


@pytest.mark.parametrize("variable", STRIKING)
def test_remedy_for_variables_that_strike_first(tmp_path: Path, remedied: Path, variable: str) -> None:
    name, _, value = variable.partition("=")
    if name == "PYTHONPATH":
        (tmp_path / f"{value}.py").write_text("raise RuntimeError('of another program')\n")
        value = str(tmp_path)
    locale = {"LANG": "C", "LC_ALL": ""} if name == "PYTHONCOERCECLOCALE" else {}
    assert said([remedied, *QUIET, *JOB], env=bare(**{name: value}, **locale)) == (7, b"", b"")


# -- places ----------------------------------------------------------------------------------------------------------


def test_editable_installation_restarts(tmp_path: Path, hostile: Path) -> None:
    command = environment_of_its_own(tmp_path / "venv", editable=True)
    assert said([command, *QUIET, *JOB], env=bare(PYTHONPATH=str(hostile))) == (7, b"", b"")


@pytest.mark.parametrize("remedy", ["", "1s/$/ -EP/"])
def test_installation_for_one_user_restarts(tmp_path: Path, hostile: Path, remedy: str) -> None:
    command = put(tmp_path, BASE)
    if remedy:
        subprocess.run(["sed", "-i", remedy, command], check=True)
    env = bare(PYTHONUSERBASE=str(tmp_path), PYTHONPATH=str(hostile))
    assert said([command, *QUIET, *JOB], env=env) == (7, b"", b"")


def test_package_found_by_pythonpath_alone_restarts(tmp_path: Path) -> None:
    """As environment modules of clusters have it; a hostile module lies in the same folder."""
    command = put(tmp_path, BASE)
    folder = tmp_path / "lib" / VERSION / "site-packages"
    (folder / "json.py").write_text("raise RuntimeError('of another program')\n")
    (folder / "__future__.py").write_text("raise RuntimeError('of another program')\n")
    assert said([command, *QUIET, *JOB], env=bare(PYTHONPATH=str(folder), PYTHONNOUSERSITE="1")) == (7, b"", b"")


def test_path_with_a_space_has_a_remedy(tmp_path: Path, hostile: Path) -> None:
    command = environment_of_its_own(tmp_path / "with a space")
    python = command.with_name("python")
    env = bare(PYTHONPATH=str(hostile))
    assert said([python, "-I", "-m", "proctally", *QUIET, *JOB], env=env) == (7, b"", b"")
    assert said([python, command, *QUIET, *JOB], env=env) == (7, b"", b"")
    subprocess.run(["sed", "-i", f'1s|.*|#!/usr/bin/env -S "{python}" -I|', command], check=True)
    if subprocess.run(["env", "-S", "true"], capture_output=True).returncode:
        pytest.skip("no env -S")
    assert said([command, *QUIET, *JOB], env=env) == (7, b"", b"")


# -- the environment of the job --------------------------------------------------------------------------------------

ODD = [
    b"A=1", b"A=2", b"no pair", b"", b"=", b"=odd", b"a.b=1", b"BASH_FUNC_f%%=() {  echo f;\n}", b"\xff\xfe=\x80\n",
    b"LONG=" + b"x" * 120_000, b"LC_CTYPE=", b"LANG=C", b"EMPTY=", b"A=3",
]  # fmt: skip
# posix_spawn(3) and execve(2) of Python take pairs alone.
GIVEN = """
import sys
from proctally.linux.c_library import execve, libc
words = [word.encode() for word in sys.argv[2:]]
with open(sys.argv[1], "rb") as file:
    entries = file.read().split(b"\\0")[:-1]
next(execve(libc(), [words[0]], words, entries))
"""


def given(folder: Path, entries: list[bytes], command: list[str]) -> bytes:
    """Return what a command writes that was started with these entries as its environment."""
    (folder / "environ").write_bytes(b"".join(entry + b"\0" for entry in entries))
    words = [sys.executable, "-c", GIVEN, str(folder / "environ"), *command]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize("more", [[], [b"PYTHONPATH=/nonexistent"], [b"PROCTALLY_DISABLE=1"]], ids=["", "path", "off"])
def test_environment_reaches_the_job_byte_for_byte(tmp_path: Path, more: list[bytes]) -> None:
    entries = [*ODD, b"PATH=" + os.fsencode(os.environ["PATH"]), *more]
    seen = given(tmp_path, entries, [*SCRIPT, *QUIET, "cat", "/proc/self/environ"]).split(b"\0")[:-1]
    if b"PROCTALLY_DISABLE=1" in more:
        assert seen == entries
    else:
        assert seen[:-2] == entries
        assert [entry.partition(b"=")[0] for entry in seen[-2:]] == [b"PROCTALLY_RUN_ID", b"PROCTALLY_MARKS"]


def test_variables_of_an_outer_run_are_replaced_in_the_inner(tmp_path: Path) -> None:
    inner = [*SCRIPT, *QUIET, "cat", "/proc/self/environ"]
    status, stdout, _ = said([*SCRIPT, *QUIET, *inner])
    names = [entry.partition(b"=")[0] for entry in stdout.split(b"\0")]
    assert (status, names.count(b"PROCTALLY_RUN_ID"), names.count(b"PROCTALLY_MARKS")) == (0, 1, 1)


def test_empty_environment_stays_empty(tmp_path: Path) -> None:
    seen = given(tmp_path, [], [*SCRIPT, *QUIET, shutil.which("cat") or "/bin/cat", "/proc/self/environ"])
    assert [entry.partition(b"=")[0] for entry in seen.split(b"\0")] == [b"PROCTALLY_RUN_ID", b"PROCTALLY_MARKS", b""]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_environment_is_what_the_shell_gives(shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell}")
    words = [path, "sh"] if shell == "busybox" else [path]
    job = 'export A=1; f() { :; }; [ -z "$BASH" ] || export -f f; exec "$@"'
    env = bare() | {"a.b": "1", "BASH_FUNC_g%%": "() {  echo g;\n}", "PYTHONPATH": "/nonexistent"}
    plain = said([*words, "-c", job, "sh", "cat", "/proc/self/environ"], env=env)
    under = said([*words, "-c", job, "sh", *SCRIPT, *QUIET, "cat", "/proc/self/environ"], env=env)
    assert (plain[0], under[0], under[2]) == (0, 0, b"")
    entries = [entry for entry in under[1].split(b"\0") if not entry.startswith(b"PROCTALLY_")]
    assert [entry for entry in entries if not entry.startswith(b"_=")] == [
        entry for entry in plain[1].split(b"\0") if not entry.startswith(b"_=")
    ]


NAMES = ("LISTEN_PID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID")
SHOW = "echo $$ " + " ".join(f"${name}" for name in NAMES) + " $LISTEN_FDS ${LISTEN_PIDFDID:-}; cat <&3"


@pytest.mark.parametrize("path", ["", "/nonexistent"], ids=["", "restarted"])
def test_socket_activation_follows_the_job(tmp_path: Path, path: str) -> None:
    (tmp_path / "third").write_text("from 3\n")
    given = "".join(f"{name}=$$ " for name in NAMES) + "LISTEN_FDS=1 LISTEN_PIDFDID=17"
    script = f'exec env {given} "$@" 3<{tmp_path}/third'
    words = ["sh", "-c", script, "sh", *SCRIPT, *QUIET, "sh", "-c", SHOW]
    status, stdout, _ = said(words, env=bare(PYTHONPATH=path))
    line, third = stdout.decode().splitlines()
    pid, *pids, count = line.split()
    assert (status, pids, count, third) == (0, [pid] * 3, "1", "from 3")


def test_socket_activation_of_another_process_stays(tmp_path: Path) -> None:
    env = bare(LISTEN_PID="1", WATCHDOG_PID="1", SYSTEMD_EXEC_PID="1", LISTEN_FDS="1", LISTEN_PIDFDID="17")
    status, stdout, _ = said([*SCRIPT, *QUIET, "sh", "-c", f"{SHOW} 3</dev/null".replace("cat <&3", ":")], env=env)
    assert (status, stdout.split()[1:]) == (0, [b"1", b"1", b"1", b"1", b"17"])


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", range(5, 13))
def test_run_with_few_descriptors_works_or_says_why(most: int) -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # noqa: E731
    status, stdout, stderr = said([*SCRIPT, *QUIET, *JOB], preexec_fn=limit, close_fds=True)
    assert (status, stdout, stderr.count(b"\n")) in ((7, b"", 0), (125, b"", 1))


@pytest.mark.parametrize("kilobytes", [4200, 5400, 7000, 9300])
def test_run_with_little_memory_works_or_says_why(kilobytes: int) -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (kilobytes * 1024,) * 2)  # noqa: E731
    status, _, stderr = said([*SCRIPT, *QUIET, *JOB], preexec_fn=limit)
    assert status == 7 or (status, stderr.count(b"\n")) == (125, 1) or b"Fatal Python error" in stderr, stderr


@pytest.mark.parametrize("error", ["MemoryError()", "OSError(12, 'Cannot allocate memory')", "SystemError('NULL')"])
@pytest.mark.parametrize("place", ["proctally.cli.main.script", "proctally.tracking.run.Runner.__init__"])
def test_error_before_the_start_is_125_and_one_line(error: str, place: str) -> None:
    module, name = place.rsplit(".", 1)
    owner = module.replace(".Runner", "")
    code = (
        f"import sys, {owner}\n"
        f"def broken(*_): raise {error}\n"
        f"{module}.{name} = broken\n"
        "import proctally.cli\nproctally.cli.start()"
    )
    status, stdout, stderr = said([sys.executable, "-c", code, *QUIET, *JOB])
    assert (status, stdout, stderr.count(b"\n")) == (125, b"", 1)
    assert stderr.startswith(b"proctally: ")
    assert b"MemoryError" not in stderr


def test_error_of_the_loop_does_not_cost_the_status(tmp_path: Path) -> None:
    """A module of the standard library that cannot be loaded while the job runs."""
    code = "import sys; sys.modules['select'] = None; from proctally.cli.main import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "run", "-q", "--", "sh", "-c", "sleep 0.2; exit 7"]
    done = Done(tmp_path, subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=PATIENCE))
    assert done.status == 7
    assert b"proctally: tracking: ended before the command did" in done.stderr and b"Traceback" not in done.stderr
    assert done.record()[-1]["exit_code"] == 7


@pytest.fixture(scope="module")
def own_mounts() -> list[str]:
    """The words before a command that gives it mounts of its own."""
    words = ["unshare", "-m"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("no unshare, or no rights for it")
    return words


@pytest.mark.parametrize("path", ["", "/nonexistent"], ids=["", "restarted"])
def test_environment_without_proc_reaches_the_job(own_mounts: list[str], path: str) -> None:
    words = [*own_mounts, "sh", "-c", 'umount -l /proc; "$@"', "sh", *SCRIPT, *QUIET, "sh", "-c", "echo $A; exit 7"]
    status, stdout, _ = said(words, env=bare(A="1", PYTHONPATH=path))
    assert (status, stdout) == (7, b"1\n")


@pytest.mark.parametrize("closed", ["", "<&-", "<&- >&- 2>&-"])
def test_run_without_dev_works(tmp_path: Path, own_mounts: list[str], closed: str) -> None:
    script = f'mount -t tmpfs none /dev; "$@" {closed}'
    options = ["run", "-q", "--no-record", "--textfile", str(tmp_path / "job.prom"), "--"]
    words = [*own_mounts, "sh", "-c", script, "sh", *SCRIPT, *options, *JOB]
    assert said(words) == (7, b"", b"")
    assert (tmp_path / "job.prom").exists()


def test_signals_ignored_and_few_descriptors_have_a_remedy() -> None:
    """Python overwrites what SIGPIPE was, and needs more descriptors itself."""
    job = ["grep", "SigIgn", "/proc/self/status"]
    status, stdout, _ = said([*SCRIPT, *QUIET, "sh", "-c", 'trap "" PIPE; exec "$@"', "sh", *job])
    assert (status, int(stdout.split()[1], 16) & 1 << 12) == (0, 1 << 12)
    job = ["sh", "-c", "ulimit -n; exit 7"]
    assert said([*SCRIPT, *QUIET, "sh", "-c", 'ulimit -n 4; exec "$@"', "sh", *job]) == (7, b"4\n", b"")
