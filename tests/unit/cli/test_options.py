"""Options, variables and help."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import CANNOT_RUN
from proctally.cli.main import COMMANDS, main
from proctally.cli.options import TABLE, Spec, describe, hints, parse, specs
from proctally.errors import HelpAsked, UsageError
from proctally.tracking.config import NOT_PASSED_ON, Options

SPECS = [Spec(*row) for row in TABLE]


pytestmark = pytest.mark.usefixtures("clean_environment")


def run(arguments: list[str], **environment: str) -> tuple[Options, list[str]]:
    return parse("run", arguments, environment, to_first_word=True)


def attach(arguments: list[str], **environment: str) -> tuple[Options, list[str]]:
    return parse("attach", arguments, environment, to_first_word=False)


# -- the table ---------------------------------------------------------------------------------------------------


def test_every_option_has_its_place() -> None:
    options = Options()
    for spec in SPECS:
        assert hasattr(options, spec.attribute), spec.name
        assert set(spec.commands) <= set(COMMANDS)
        assert spec.help
        assert len(spec.short) <= 1
    places = {spec.attribute for spec in SPECS}
    assert {name for name, value in vars(Options).items() if name[0] != "_" and not callable(value)} | {"tag"} == places


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
    lines = describe(command, 80).splitlines()
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
    assert capfd.readouterr().err == "proctally: atach: unknown command; did you mean attach?\n"
    for words, command in (
        (["sh", "-c", "exit 3"], "sh -c 'exit 3'"),
        (["env"], "env"),
        (["sh", "--password=x"], "sh '--password=***'"),
    ):
        assert main(words) == 2
        said = f"proctally: {words[0]}: unknown command; to track it: proctally run -- {command}\n"
        assert capfd.readouterr().err == said
    for word in ("mark1e5", "frobnicate"):  # no likely twin
        assert main([word]) == 2
        assert capfd.readouterr().err == f"proctally: {word}: unknown command; see proctally --help\n"


@pytest.mark.parametrize("words", [["help", "run"], ["--help", "run"], ["run", "--help"], ["run", "-h"]])
def test_help_of_a_command(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capfd.readouterr().out.startswith("proctally run [options]")


@pytest.mark.parametrize("columns", [40, 59, 60, 120, 200])
def test_help_fits_columns(columns: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["rm", "--help"]) == 0
    assert columns - 30 < max(map(len, capfd.readouterr().out.splitlines())) <= columns


def test_options_of_one_command_alone() -> None:
    assert "wait-all" not in describe("attach", 80)
    assert "duration" not in describe("run", 80)
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
    (["-i"], "--interval: needs a value, such as 0.5"),
    (["--interval", "--", "true"], "--interval: needs a value, such as 0.5"),
    (["--intervall", "1"], "--intervall: unknown option of {}; did you mean --interval?"),
    (["--interv", "1"], "did you mean --interval?"),
    (["--output"], "--output"),
    (["-i", "soon"], "--interval soon: not a time"),
    (["-i", ""], "--interval '': not a time"),
    (["-i=1"], "--interval =1: not a time"),
    (["--interval", "0"], "--interval 0: too short; use 0.05 s or more"),
    (["--interval", "-1"], "--interval -1: too short; use 0.05 s or more"),
    (["--interval", "0.049"], "--interval 0.049: too short; use 0.05 s or more"),
    (["--interval", "49ms"], "0.05"),
    (["--interval", "nan"], "nan"),
    (["--interval", "inf"], "inf"),
    (["--interval", "1e999"], "1e999"),
    (["--interval", "1e300"], "1e300"),
    (["--pss-budget", "2"], "--pss-budget 2: "),
    (["--pss-budget", "-0.1"], "--pss-budget -0.1: "),
    (["--pss-budget", "nan"], "--pss-budget nan: "),
    (["--process-lines", "-1"], "--process-lines -1: "),
    (["--process-lines", "1.5"], "--process-lines 1.5: "),
    (["--process-lines", "²"], "--process-lines"),
    (["--process-lines", "9" * 5000], "--process-lines"),
    (["--source", "magic"], "--source magic: unknown; use auto, cgroup, perf or procfs"),
    (["--format", "xml"], "--format xml: unknown; use jsonl or csv"),
    (["--tag", "alone"], "--tag alone: not of the form"),
    (["--tag", "=x"], "--tag =x: not of the form"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=[" ".join(row[0])[:30] for row in BAD])
def test_bad_values_name_what_is_wrong(arguments: list[str], named: str) -> None:
    for asked in (run, attach):
        words = [] if len(arguments) == 1 and not arguments[0].startswith("-q") else ["7"]
        with pytest.raises(UsageError) as caught:
            asked([*arguments, *words])
        assert named.format(asked.__name__) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["--max-memory", "5"], ["--max-memory", "500000B"], ["--repeat", "0"]])
def test_too_small_for_any_run(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match=f"{' '.join(arguments)}: too small; use 1"):
        run([*arguments, "true"])


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--max-memory", "99999999999999999999TiB"], "too large; use less than 8388608 TiB"),
        (["--pss-budget", "nan"], "not a number; use one such as 0.5"),
        (["--tag", "=x"], "not of the form KEY=VALUE; use one such as lr=0.1"),
        (["--quiet=1"], "takes no value; use --quiet alone"),
    ],
)
def test_wrong_value_has_a_remedy(arguments: list[str], remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        run([*arguments, "true"])
    assert str(caught.value).endswith(f": {remedy}")


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("5min", 300), ("2h", 7200), ("1.5d", 129600), ("1w", 604800), ("20ms", 0.02)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert run(["--timeout", text, "true"])[0].timeout == pytest.approx(seconds)


def test_hints() -> None:
    options, _ = run(["--pushgateway-keep", "--textfile", "x.txt", "true"])
    environment = {"PROCTALLY_INTERVALL": "3", "PROCTALLY_RUN_ID": "1", "PROCTALLY_OTHER_THING": "1"}
    assert hints(options, environment) == [
        "PROCTALLY_INTERVALL: unknown variable; did you mean PROCTALLY_INTERVAL?",
        "--pushgateway-keep: no effect without --pushgateway URL",
        "--textfile x.txt: node_exporter reads only names that end in .prom",
    ]
    assert hints(run(["--textfile", "x.prom", "true"])[0], {}) == []


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
    "repeat": ("5", 5),
    "max-memory": ("1GiB", 1 << 30),
    "warmup": ("2", 2),
    "versus": ("make", "make"),
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


def test_main_returns_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nosuch"]) == 2
    assert main(["run", "--nonsense"]) == CANNOT_RUN
    assert main(["attach", "x"]) == 2
    assert capsys.readouterr().out == ""
