"""The command line: options from flags and variables, exit statuses, help texts; and the record against its table."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctally import __version__
from proctally.cli import COMMANDS, main
from proctally.model import COUNTER, GAUGE, INFO, SCHEMA, fields
from proctally.options import (
    NOT_PASSED_ON,
    TABLE,
    HelpAsked,
    Options,
    Spec,
    UsageError,
    describe,
    parse,
    specs,
)

GOLDEN = Path(__file__).with_name("golden") / "fields.txt"
REFRESH = "PROCTALLY_REFRESH_GOLDEN"
REFRESHING = os.environ.get(REFRESH) == "1"
SPECS = [Spec(*row) for row in TABLE]
CANNOT_RUN = 125
ENDS_WITHIN_SECONDS = 30


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("PROCTALLY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PROCTALLY_HOME", str(tmp_path / "home"))


def run(arguments: list[str], **environment: str) -> tuple[Options, list[str]]:
    return parse("run", arguments, environment, to_first_word=True)


def attach(arguments: list[str], **environment: str) -> tuple[Options, list[str]]:
    return parse("attach", arguments, environment, to_first_word=False)


def proctally(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proctally", *arguments]
    return subprocess.run(command, **({"capture_output": True, "text": True, "timeout": ENDS_WITHIN_SECONDS} | options))


# -- the table ---------------------------------------------------------------------------------------------------


def test_every_option_has_its_place() -> None:
    options = Options()
    for spec in SPECS:
        assert hasattr(options, spec.attribute), spec.name
        assert set(spec.commands) <= COMMANDS.keys()
        assert spec.help
        assert len(spec.short) <= 1
    places = {spec.attribute for spec in SPECS}
    assert {name for name in vars(Options) if not name.startswith("_")} | {"tag"} == places


def test_no_flag_stands_for_two_options() -> None:
    for command in COMMANDS:
        names = [spec.name for spec in specs(command)]
        assert len(set(names)) == len(names)
        shorts = [spec.short for spec in specs(command) if spec.short] + ["h"]
        assert len(set(shorts)) == len(shorts)


def test_what_a_job_does_not_inherit_is_an_option() -> None:
    assert {f"PROCTALLY_{name}" for name in NOT_PASSED_ON} <= {spec.variable for spec in SPECS}


@pytest.mark.parametrize("command", [name for name in COMMANDS if specs(name)])
def test_help_names_every_option(command: str) -> None:
    lines = describe(command).splitlines()
    begun = [number for number, line in enumerate(lines) if line[:6].strip() or line[6:8] == "--"]
    assert len(begun) == len(specs(command))
    for spec, first, last in zip(specs(command), begun, [*begun[1:], len(lines)], strict=True):
        line = " ".join(" ".join(lines[first:last]).split())
        assert f"--{spec.name}" in line
        assert (f"-{spec.short}, " in line) is bool(spec.short)
        assert line.endswith(spec.help)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"] if command else ["--help"]) == 0
    assert max(map(len, capfd.readouterr().out.splitlines())) <= 80


def test_a_command_that_is_misspelt(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["atach", "1"]) == 2
    assert capfd.readouterr().err == "proctally: there is no command 'atach'; did you mean attach?\n"
    assert main(["gcc", "x.c"]) == 2
    assert capfd.readouterr().err == "proctally: there is no command 'gcc'; to track one: proctally run -- gcc ...\n"


def test_options_of_one_command_alone() -> None:
    assert "wait-all" not in describe("attach")
    assert "duration" not in describe("run")
    with pytest.raises(UsageError, match="--duration"):
        run(["--duration", "3", "true"])
    with pytest.raises(UsageError, match="--wait-all"):
        attach(["--wait-all", "1"])


# -- the parser --------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    options, words = run(["true"])
    assert vars(options) == {"tag": {}}
    assert words == ["true"]
    assert (options.interval, options.pss_budget, options.process_lines) == (1.0, 0.005, 2000)


@pytest.mark.parametrize(
    ("arguments", "interval"),
    [
        (["-i", "0.5"], 0.5),
        (["-i0.5"], 0.5),
        (["--interval", "0.5"], 0.5),
        (["--interval=0.5"], 0.5),
        (["--interval=500ms"], 0.5),
        (["--interval=50ms"], 0.05),
        (["-i", "2s"], 2.0),
        (["-i", "1e1"], 10.0),
        (["-qi3"], 3.0),
        (["-qvi", "3"], 3.0),
        (["-i1", "-i2"], 2.0),
    ],
)
def test_interval(arguments: list[str], interval: float) -> None:
    options, words = run([*arguments, "true"])
    assert options.interval == pytest.approx(interval)
    assert words == ["true"]


def test_flags_run_together() -> None:
    options, words = run(["-qv", "true"])
    assert (options.quiet, options.verbose, words) == (True, True, ["true"])
    options, words = run(["-vqofile", "true"])
    assert (options.quiet, options.verbose, options.output, words) == (True, True, "file", ["true"])


def test_everything_at_once() -> None:
    options, words = run(
        ["--output=a=b", "-f", "jsonl", "--force", "-n", "n", "--tag", "a=1", "--tag=b=2=3", "--tag", "a=4", "-q", "-v"]
        + ["--source", "procfs", "--pss-budget", "0.01", "--process-lines", "7", "--no-record"]
        + ["--summary-json", "s.json", "--wait-all", "cmd"]
    )
    assert vars(options) == {
        "output": "a=b",
        "format": "jsonl",
        "force": True,
        "name": "n",
        "tag": {"a": "4", "b": "2=3"},
        "quiet": True,
        "verbose": True,
        "source": "procfs",
        "pss_budget": 0.01,
        "process_lines": 7,
        "no_record": True,
        "summary_json": "s.json",
        "wait_all": True,
    }
    assert words == ["cmd"]


@pytest.mark.parametrize(
    "command",
    [
        ["make"],
        ["make", "-j4", "--", "-q", "--help", "--version", "-i"],
        ["env", "-i", "x"],
        ["-", "-q"],
        ["", "-q"],
    ],
)
def test_what_follows_the_command_is_its_own(command: list[str]) -> None:
    for before in ([], ["-q"], ["--"], ["-q", "--"]):
        options, words = run([*before, *command])
        assert words == command
        assert options.quiet is ("-q" in before)


def test_a_command_that_begins_with_a_dash() -> None:
    assert run(["--", "-x", "-q"])[1] == ["-x", "-q"]
    assert run(["-q", "--", "--"])[1] == ["--"]
    assert run(["-n", "--", "x"])[0].name == "--", "a value is whatever follows"


def test_options_of_attach_may_stand_behind_the_pid() -> None:
    options, words = attach(["17", "-q", "--duration=3s"])
    assert (options.quiet, options.duration, words) == (True, 3.0, ["17"])
    assert attach(["--", "17", "-q"])[1] == ["17", "-q"]


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["-q", "--help"], ["-qh"]])
def test_help_is_asked(arguments: list[str]) -> None:
    with pytest.raises(HelpAsked):
        run([*arguments, "true"])
    with pytest.raises(HelpAsked):
        attach(arguments)


BAD = [
    (["--nonsense"], "--nonsense"),
    (["--intervall=1"], "--intervall"),
    (["-x"], "-x"),
    (["-qx"], "-x"),
    (["-q-"], "-"),
    (["--quiet=1"], "--quiet"),
    (["-i"], "-i"),
    (["--output"], "--output"),
    (["-i", "soon"], "-i: 'soon'"),
    (["-i", ""], "-i"),
    (["-i=1"], "-i: '=1'"),
    (["--interval", "0"], "--interval: 0"),
    (["--interval", "-1"], "--interval: -1"),
    (["--interval", "0.049"], "0.05"),
    (["--interval", "49ms"], "0.05"),
    (["--interval", "nan"], "nan"),
    (["--interval", "inf"], "inf"),
    (["--interval", "1e999"], "1e999"),
    (["--interval", "1e300"], "1e300"),
    (["--pss-budget", "2"], "--pss-budget: 2"),
    (["--pss-budget", "-0.1"], "--pss-budget: -0.1"),
    (["--pss-budget", "nan"], "--pss-budget: 'nan'"),
    (["--process-lines", "-1"], "--process-lines: '-1'"),
    (["--process-lines", "1.5"], "--process-lines: '1.5'"),
    (["--process-lines", "²"], "--process-lines"),
    (["--process-lines", "9" * 5000], "--process-lines"),
    (["--source", "magic"], "--source: 'magic' is not known; use auto or cgroup or perf or procfs"),
    (["--format", "xml"], "--format: 'xml' is not known; use jsonl"),
    (["--tag", "alone"], "--tag: 'alone'"),
    (["--tag", "=x"], "--tag: '=x'"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=[" ".join(row[0])[:30] for row in BAD])
def test_bad_values_name_what_is_wrong(arguments: list[str], named: str) -> None:
    for asked in (run, attach):
        words = [] if len(arguments) == 1 and not arguments[0].startswith("-q") else ["7"]
        with pytest.raises(UsageError) as caught:
            asked([*arguments, *words])
        assert named in str(caught.value)
        assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.lists(st.text(alphabet="-=qviofn h1.0sm\n²x", max_size=8), max_size=5))
def test_any_words_are_parsed_or_refused(words: list[str]) -> None:
    for asked in (run, attach):
        try:
            asked(words)
        except (UsageError, HelpAsked):
            pass


# -- variables ---------------------------------------------------------------------------------------------------

VALUES = {
    "interval": ("0.25", 0.25),
    "output": ("{pid}.jsonl", "{pid}.jsonl"),
    "format": ("jsonl", "jsonl"),
    "name": ("n", "n"),
    "tag": ("a=1,b=2=3,,c=", {"a": "1", "b": "2=3", "c": ""}),
    "source": ("procfs", "procfs"),
    "commands": ("off", "off"),
    "pss-budget": ("0.1", 0.1),
    "process-lines": ("5", 5),
    "summary-json": ("s.json", "s.json"),
    "duration": ("90ms", 0.09),
    "serve": ("9111", "9111"),
    "textfile": ("x.prom", "x.prom"),
    "pushgateway": ("http://h:9091", "http://h:9091"),
    "otlp": ("env", "env"),
}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_each_option_has_its_variable(spec: Spec) -> None:
    text, value = VALUES.get(spec.name, ("1", True))
    for asked, command in ((run, "run"), (attach, "attach")):
        options, _ = asked([], **{spec.variable: text})
        if spec.name in {each.name for each in specs(command)}:
            assert getattr(options, spec.attribute) == value
        else:
            assert vars(options) == {"tag": {}}, "of another command: not looked at"
        untouched, _ = asked([], **{spec.variable: ""})
        assert getattr(untouched, spec.attribute) == getattr(Options(), spec.attribute), "empty is not set"


@pytest.mark.parametrize(("text", "on"), [("1", True), ("true", True), ("YES", True), ("0", False), ("No", False)])
def test_flags_by_variable(text: str, on: bool) -> None:
    assert run([], PROCTALLY_QUIET=text)[0].quiet is on


def test_flags_win() -> None:
    options, _ = run(
        ["-i2", "-o", "b", "--tag", "a=2"], PROCTALLY_INTERVAL="3", PROCTALLY_OUTPUT="a", PROCTALLY_TAG="a=1,b=1"
    )
    assert (options.interval, options.output, options.tag) == (2.0, "b", {"a": "2", "b": "1"})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("INTERVAL", "soon"),
        ("INTERVAL", "0.01"),
        ("QUIET", "maybe"),
        ("TAG", "x"),
        ("PROCESS_LINES", "x"),
        ("SOURCE", "x"),
    ],
)
def test_bad_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"PROCTALLY_{variable}.*{text}"):
        run(["true"], **{f"PROCTALLY_{variable}": text})


# -- exit statuses and streams -----------------------------------------------------------------------------------

USAGE = [
    ([], 2, "proctally run"),
    (["nosuch"], 2, "there is no command 'nosuch'"),
    (["-q", "run"], 2, "'-q'"),
    (["run"], CANNOT_RUN, "which command?"),
    (["run", "--"], CANNOT_RUN, "which command?"),
    (["run", "--nonsense", "true"], CANNOT_RUN, "--nonsense"),
    (["run", "-i", "soon", "true"], CANNOT_RUN, "soon"),
    (["run", "-o", "-", "true"], CANNOT_RUN, "stdout belongs to the command"),
    (["run", "--source", "procfs", "--cgroup", "true"], CANNOT_RUN, "--source procfs and --cgroup exclude each other"),
    (["run", "-o", "{nonsense}", "true"], CANNOT_RUN, "{nonsense}"),
    (["run", "-o", "/nowhere/x", "true"], CANNOT_RUN, "/nowhere/x"),
    (["run", "--process-lines", "9" * 5000, "true"], CANNOT_RUN, "--process-lines"),
    (["run", "-i", "1e300", "true"], CANNOT_RUN, "1e300"),
    (["attach"], 2, "which process?"),
    (["attach", "1", "2"], 2, "which process?"),
    (["attach", "x"], 2, "'x' is not a process id"),
    (["attach", "0"], 2, "'0'"),
    (["attach", "-1"], 2, "-1"),
    (["attach", "²"], 2, "is not a process id"),
    (["attach", "9" * 5000], 2, "is not a process id"),
    (["attach", "99999999999"], 2, "is not a process id"),
    (["attach", "--nonsense", "1"], 2, "--nonsense"),
    (["attach", str((1 << 31) - 1)], 1, "there is no process 2147483647"),
]


@pytest.mark.parametrize(("arguments", "status", "said"), USAGE, ids=[" ".join(row[0])[:40] for row in USAGE])
def test_failures(arguments: list[str], status: int, said: str) -> None:
    done = proctally(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not arguments or done.stderr.startswith("proctally: ")
    assert not arguments or done.stderr.count("\n") == 1


def test_main_returns_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nosuch"]) == 2
    assert main(["run", "--nonsense"]) == CANNOT_RUN
    assert main(["attach", "x"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("argument", ["--help", "-h", "help"])
def test_help(argument: str) -> None:
    done = proctally(argument)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"proctally {command}" in done.stdout for command in ("run", "attach", "fields"))


@pytest.mark.parametrize("argument", ["--version", "-V"])
def test_version(argument: str) -> None:
    done = proctally(argument)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"proctally {__version__}\n", "")


@pytest.mark.parametrize("command", ["run", "attach"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_command(command: str, flag: str) -> None:
    done = proctally(command, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"proctally {command} [options]" in done.stdout
    assert describe(command) in done.stdout


def test_help_of_fields() -> None:
    done = proctally("fields", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "proctally fields" in done.stdout


def test_words_too_many_for_fields() -> None:
    done = proctally("fields", "extra")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command 'fields'" not in done.stderr


def test_help_in_spite_of_a_bad_variable() -> None:
    done = proctally("run", "--help", env={**os.environ, "PROCTALLY_INTERVAL": "soon"})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["fields"], ["run", "--help"]])
def test_output_that_cannot_be_written(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "proctally", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in done.stderr
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in closed.stderr
    read_end, write_end = os.pipe()
    os.close(read_end)
    gone = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert gone.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_change_the_status(tmp_path: Path, closed: str) -> None:
    """Nor does what is said on stderr land in a file that was opened in its place."""
    record, summary = tmp_path / "record", tmp_path / "summary"
    command = [sys.executable, "-m", "proctally", "run", "-o", str(record), "--summary-json", str(summary)]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command, "--", "sh", "-c", "exit 3"], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [lines[0]["type"], lines[-1]["type"]] == ["run", "summary"]
    assert json.loads(summary.read_text())["exit_code"] == 3


def test_closed_stderr_of_a_usage_error() -> None:
    command = [sys.executable, "-m", "proctally"]
    for arguments, status in (([], 2), (["nosuch"], 2), (["run"], CANNOT_RUN), (["attach", "x"], 2)):
        done = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command, *arguments], capture_output=True)
        assert (done.returncode, done.stdout) == (status, b"")


def test_an_interval_that_outlasts_the_job() -> None:
    """Longer than what poll(2) takes as a timeout, and longer than the early looks."""
    done = proctally("run", "-q", "-i", "1e7", "--", "sleep", "0.7")
    assert (done.returncode, done.stderr) == (0, "")


TROUBLE = """
import sys
from proctally import cli, sampler
calls = 0
def trouble(self, *rest):
    global calls
    calls += 1
    if calls >= int(sys.argv[2]):
        raise {error}("trouble of our own")
    return kept(self, *rest)
kept = getattr(sampler.Sampler, sys.argv[1])
setattr(sampler.Sampler, sys.argv[1], trouble)
sys.exit(cli.main(["run", "-q", "-i", "0.05", "--", "sh", "-c", "sleep 0.3; echo done; exit 3"]))
"""


@pytest.mark.parametrize(
    ("method", "call", "error"),
    [
        ("look", 1, "ValueError"),
        ("look", 3, "OSError"),
        ("look", 3, "MemoryError"),
        ("sample", 2, "ValueError"),
        ("reaped", 1, "OSError"),
        ("finish", 1, "ValueError"),
    ],
)
def test_trouble_of_our_own_does_not_reach_the_job(method: str, call: int, error: str) -> None:
    """It ends the tracking with a warning; the job runs to its end, and its exit status is passed on."""
    program = TROUBLE.replace("{error}", error)
    done = subprocess.run(
        [sys.executable, "-c", program, method, str(call)], capture_output=True, text=True, timeout=ENDS_WITHIN_SECONDS
    )
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert done.stderr.startswith("proctally: "), "also with -q"
    assert "Traceback" not in done.stderr


def test_attach_to_a_slow_reader_can_be_stopped(tmp_path: Path) -> None:
    """`attach -o - PID | less`: a reader that does not read must not keep SIGTERM from being heard."""
    job = subprocess.Popen(["sleep", "60"])
    read_end, write_end = os.pipe()
    tracker = subprocess.Popen(
        [sys.executable, "-m", "proctally", "attach", "-q", "-i", "0.05", "-o", "-", str(job.pid)], stdout=write_end
    )
    os.close(write_end)
    try:
        fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, 4096)
        time.sleep(1.5)  # enough for a few pages of samples
        tracker.terminate()
        assert tracker.wait(10) == 0
    finally:
        os.close(read_end)
        tracker.kill()
        tracker.wait()
        job.kill()
        job.wait()


# -- what is lost is said ----------------------------------------------------------------------------------------


def test_lost_samples_are_counted_in_the_summary(tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    done = proctally("run", "-q", "-i", "0.05", "-o", "/dev/full", "--summary-json", str(summary), "--", "sleep", "0.3")
    assert done.returncode == 0
    tracker = json.loads(summary.read_text())["tracker"]
    assert tracker["lost_samples"] == tracker["samples"] >= 3
    assert f"{tracker['samples']} samples are lost" in done.stderr


def test_a_small_process_has_not_the_memory_of_its_tracker(tmp_path: Path) -> None:
    """What the held child had before exec is in its ru_maxrss, and no part of the job."""
    summary = tmp_path / "summary"
    done = proctally("run", "-q", "--no-record", "--summary-json", str(summary), "--", "sleep", "0.2")
    assert done.returncode == 0
    memory = json.loads(summary.read_text())["memory"]
    assert memory["peak_process_rss_bytes"] <= 4 << 20, "sleep takes about 2 MiB"


# -- the table of fields -----------------------------------------------------------------------------------------


def test_fields_prints_every_row() -> None:
    done = proctally("fields")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows == [[f"{row.scope}.{row.name}", row.kind, row.unit, row.help, row.source, row.csv] for row in fields()]


UNIT_OF_SUFFIX = {"_seconds": "s", "_bytes": "By", "_cores": "1", "_ratio": "1", "_at": "s", "_chars": "By"}


def test_the_table_is_sound() -> None:
    rows = fields()
    names = [(row.scope, row.name) for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        where = f"{row.scope}.{row.name}"
        assert row.kind in (COUNTER, GAUGE, INFO), where
        assert row.help, where
        assert row.kind == INFO or row.unit, where
        for suffix, unit in UNIT_OF_SUFFIX.items():
            assert not row.name.endswith(suffix) or row.unit == unit, where
        if row.unit == "By":
            assert row.name.endswith(("_bytes", "_chars")), where


# no field of a table of their own: pairs that the user gave, and one entry for each source
OPAQUE = {
    "devices.disk.other_mounts",
    "devices.troubles",
    "host.troubles",
    "summary.system.unavailable",
    "host.container_hints",
    "host.virtualization_hints",
    "run.limits",
    "run.scheduler",
    "run.tags",
    "summary.cpu.sources",
    "summary.cpu.unavailable",
    "summary.limits",
}
# there is one only where it tells something: PSS that is denied or not read yet
SOMETIMES = {"tree.pss_unread", "tree.io_unread", "run.thinned_seconds"}
SOMETIMES |= {f"{row.scope}.{row.name}" for row in fields() if row.scope.startswith(("gpus", "system.pressure"))}
SOMETIMES |= {f"{row.scope}.{row.name}" for row in fields() if row.scope in ("system.disks", "system.interfaces")}
SOMETIMES |= {f"{row.scope}.{row.name}" for row in fields() if "gpu" in row.name or row.scope == "summary.gpu"}
SOMETIMES |= {"summary.system"} | {
    f"system.{name}" for name in ("memory", "disk", "network", "disks", "interfaces", "pressure")
}
SOMETIMES |= {f"cgroup.{row.name}" for row in fields() if row.scope == "cgroup"}  # of a run that has one of its own


# fields of their own beside those of their entries
TABLED = {
    *(f"devices.{name}" for name in ("memory", "disk", "disks", "disks.mounts", "network", "interfaces")),
    *("devices.disk.pools", "host.numa_nodes", "host.storage", "host.gpus", "host.cloud"),
}
SOMETIMES |= {f"{row.scope}.{row.name}" for row in fields() if row.scope in TABLED}


def found_in(line: dict[str, Any], scope: str) -> Iterator[str]:
    """Every field of a line of a record, as the table names it."""
    for name, value in line.items():
        where = f"{scope}.{name}"
        nested = {
            "sample.system": "system",
            "sample.gpus": "gpus",
            "sample.tree": "tree",
            "sample.cgroup": "cgroup",
            "sample.top": "top",
        }.get(where, where)
        parts = value if isinstance(value, list) else [value]
        if where not in OPAQUE and parts and all(isinstance(part, dict) for part in parts):
            for part in parts:
                yield from found_in(part, nested)
            if nested != where or where in TABLED:
                yield where
        else:
            yield where


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The lines of a real run, of a real attach, and of a program that tracks itself."""
    folder = tmp_path_factory.mktemp("records")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PROCTALLY_")}
    environment["PROCTALLY_HOME"] = str(folder)
    code = "import time; b = bytearray(20_000_000); time.sleep(0.5)"
    job = ["sh", "-c", '"$0" -c "$1" & sleep 0.1; wait', sys.executable, code]
    common = ["-q", "-i", "0.1", "-o"]
    options = ("--tag", "a=b", "--cgroup", "--counters")
    done = proctally("run", *common, str(folder / "run"), *options, "--", *job, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    target = subprocess.Popen(job)
    try:
        done = proctally("attach", *common, str(folder / "attach"), str(target.pid), env=environment)
    finally:
        target.wait()
    assert (done.returncode, done.stderr) == (0, "")
    block = "with proctally.track(0.1, output=sys.argv[1]) as run, run.phase('p'): time.sleep(0.3)"
    program = [sys.executable, "-c", f"import proctally, sys, time\n{block}", str(folder / "track")]
    subprocess.run(program, env=environment, check=True)
    names = ("run", "attach", "track")
    return [json.loads(line) for name in names for line in (folder / name).read_text().splitlines()]


def test_records_have_every_kind_of_line(records: list[dict[str, Any]]) -> None:
    types = [line["type"] for line in records]
    assert [types.count("run"), types.count("summary"), types.count("phase")] == [3, 3, 2]
    assert types[0] == "run"
    assert types[-1] == "summary"
    assert types.count("sample") >= 6
    assert types.count("process") >= 4


def test_every_field_of_a_record_is_in_the_table_and_the_other_way_round(records: list[dict[str, Any]]) -> None:
    table = {f"{row.scope}.{row.name}" for row in fields()}
    found = {name for line in records for name in found_in(line, line["type"])}
    assert found - table == set(), "in the record, and not in the table"
    assert table - found - SOMETIMES == set(), "in the table, and not in the record"


def test_every_line_of_a_type_has_the_same_fields(records: list[dict[str, Any]]) -> None:
    """Unknown is null: a field is not left out."""
    shapes: dict[str, set[frozenset[str]]] = {}
    for line in records:
        shape = set(found_in(line, line["type"])) - SOMETIMES
        shape -= {name for name in shape if name.startswith(("top.", "system.", "summary.commands", "summary.system."))}
        shapes.setdefault(line["type"], set()).add(frozenset(shape))
    assert {kind: len(found) for kind, found in shapes.items()} == dict.fromkeys(shapes, 1)


def test_values_are_of_their_kind(records: list[dict[str, Any]]) -> None:
    """Counters never fall, what is counted is a number, and times are near each other."""
    kinds = {(row.scope, row.name): row for row in fields()}
    for line in (line for line in records if line["type"] in ("sample", "summary")):
        for scope in ("tree", "cpu", "memory", "io", "processes", "tracker"):
            for name, value in (line.get(scope) or {}).items() if isinstance(line.get(scope), dict) else ():
                row = kinds[(scope if scope == "tree" else f"summary.{scope}", name)]
                if row.kind != INFO and value is not None:
                    assert isinstance(value, int | float), f"{scope}.{name}"
                    assert value >= 0, f"{scope}.{name}"
    trees = [line["tree"] for line in records if line["type"] == "sample"]
    firsts = [place for place, tree in enumerate(trees) if tree["cpu_cores"] is None]
    counters = [row.name for row in fields() if row.scope == "tree" and row.kind == COUNTER]
    assert len(counters) > 10
    for part in (trees[begin:end] for begin, end in zip(firsts, [*firsts[1:], None], strict=True)):
        for name in counters:
            values = [tree[name] for tree in part if tree[name] is not None]
            assert values == sorted(values), f"{name} fell"


def test_the_schema_is_pinned() -> None:
    """A field is added freely: refresh the list. One that is renamed or changes its meaning takes a new SCHEMA."""
    listed = "".join(f"{row.scope}.{row.name} {row.kind} {row.unit}".rstrip() + "\n" for row in fields())
    table = f"schema {SCHEMA}\n{listed}"
    if REFRESHING:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(table, encoding="utf-8")
    pinned = GOLDEN.read_text(encoding="utf-8")
    gone = set(pinned.splitlines()) - set(table.splitlines())
    assert not gone, f"fields that programs may read were taken away or changed: {sorted(gone)}"
    assert table == pinned, f"new fields: {REFRESH}=1 writes them to {GOLDEN.name}"
