"""What can be asked for: one table of options, for the command line, for the environment and for the help texts.

A flag wins over its environment variable (`PROCTALLY_` and its name). The parser is our own because loading the
standard one costs a third of what `run` may take to start a command.
"""

from __future__ import annotations

from proctally.errors import HelpAsked, UsageError
from proctally.tracking.config import MIN_INTERVAL, ON, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from proctally.record.catalogue import Filter

CHOICES = {
    "source": ("auto", "cgroup", "perf", "procfs"),
    "format": ("jsonl", "csv"),
    "format of diff advise": ("text", "markdown", "json"),
    "format of report": ("html", "text", "markdown", "json", "svg", "png"),
    "commands": ("auto", "on", "off"),
    "undecided": ("pass", "fail"),
    "sort": ("when", "name", "verdict", "wall", "cpu", "wanted", "memory", "waited"),
    "format of export": ("csv", "jsonl", "parquet"),
    "sort of top": ("cpu", "wait", "memory", "io", "pid", "name"),
}
OFF = ("", "0", "false", "no", "off")


COLUMN = 30  # where the words of help texts begin
NARROW = 60  # cells: below, they have separate lines
FLAG, FILE, TEXT, SECONDS, RATIO, COUNT, PAIR, SIZE = "", "FILE", "TEXT", "SECONDS", "RATIO", "N", "K=V", "SIZE"
OPTIONAL = "[=FILE]"  # a value only behind `=`; empty without one
CONDITION = "CONDITION"
EXAMPLES = {SECONDS: "0.5", RATIO: "0.01", COUNT: "10", PAIR: "lr=0.1", SIZE: "2GiB", FILE: "usage.jsonl"}
FROM_ONE = ("count", "limit", "repeat")  # numbers of which 0 makes no sense
MIN_MEMORY = 1 << 20  # of --max-memory: any command uses more
PREFIX = "PROCTALLY_"  # of variables
NOT_OPTIONS = ("DISABLE", "HOME", "MARKS", "RUN_ID")  # variables of other things

# short, name, what it takes, for which commands, help
TABLE = (
    ("i", "interval", SECONDS, "run attach system serve", f"time between samples, {MIN_INTERVAL} or more (default 1)"),
    (
        "o",
        "output",
        FILE,
        "run attach system",
        "where the record goes; fills in {run_id} {name} {host} {pid} {env:VAR}",
    ),
    (
        "f",
        "format",
        "FORMAT",
        "run attach system",
        "of the output: jsonl or csv (the record is still written to its default place)",
    ),
    ("o", "output", FILE, "export", "where it goes (default: stdout)"),
    ("f", "format", "FORMAT", "export", "csv (default), jsonl or parquet"),
    ("", "every", SECONDS, "export", "one sample for so much time: the last counters, the mean rates, the peak levels"),
    (
        "o",
        "output",
        FILE,
        "report",
        "where it goes; - is stdout (default: html, svg and png to a file here, the others to stdout)",
    ),
    ("f", "format", "FORMAT", "report", "html (default), text, markdown, json, svg or png"),
    ("", "open", FLAG, "report", "show the file in a browser"),
    ("", "force", FLAG, "run attach system export report", "write over an existing output file"),
    ("n", "name", TEXT, "run attach system serve", "name of the run (default: the command's)"),
    ("", "tag", PAIR, "run attach system serve", "a pair to keep with the run; may be repeated"),
    ("q", "quiet", FLAG, "run attach system serve", "no summary"),
    ("v", "verbose", FLAG, "run attach system serve", "more in the summary: every source and what it cannot see"),
    ("", "source", "SOURCE", "run attach serve", "where CPU totals come from: auto, cgroup, perf or procfs"),
    ("", "commands", "WHEN", "run", "count every process by its command: auto, on or off"),
    ("", "counters", FLAG, "run", "count page faults, switches, migrations, cycles, instructions: 3 us each at a fork"),
    ("", "pss-budget", RATIO, "run attach serve", "share of one core that reading PSS may cost (default 0.005)"),
    ("", "process-lines", COUNT, "run attach", "at most so many processes one by one in the record (default 2000)"),
    ("", "no-record", FLAG, "run attach system", "write no record to the default place"),
    ("", "summary-json", FILE, "run attach system", "write the summary, as JSON, to this file too"),
    ("", "cgroup", FLAG, "run", "put the command into a cgroup of its own, where that is possible"),
    ("", "timeout", SECONDS, "run", "end the command after this time: TERM, and KILL to all of it after --grace"),
    ("", "grace", SECONDS, "run", "time between TERM and KILL (default 10)"),
    ("", "max-memory", SIZE, "run", "end it when it uses more (500MB, 2GiB), as for --timeout"),
    ("", "wait-all", FLAG, "run", "wait for every process of the tree, not for the command alone"),
    ("", "repeat", COUNT, "run", "run it N times, without stdin, and show how far the runs spread"),
    ("", "warmup", COUNT, "run", "with --repeat: N runs before, which are not recorded"),
    ("", "versus", "COMMAND", "run", "with --repeat: run this in turn with it, and compare both as diff does"),
    ("", "ignore-failure", FLAG, "run", "with --repeat: continue after a run that fails"),
    ("", "duration", SECONDS, "attach system serve", "stop after this time"),
    ("", "no-system", FLAG, "run attach serve", "leave the machine beside the tree out"),
    ("", "no-gpu", FLAG, "run attach system serve", "leave GPUs out"),
    (
        "",
        "cloud",
        FLAG,
        "run attach system serve",
        "ask the metadata service of the cloud where this is (nothing else ever does)",
    ),
    ("", "listen", "ADDRESS", "serve", "where /metrics is answered (default 127.0.0.1:9111)"),
    ("", "serve", "ADDRESS", "run attach system", "answer scrapes of Prometheus at HOST:PORT (PORT: of the loopback)"),
    (
        "",
        "textfile",
        FILE,
        "run attach system",
        "keep a file for node_exporter's textfile collector; fills in what --output does",
    ),
    ("", "pushgateway", "URL", "run attach system", "push to a Pushgateway; what was pushed is deleted at the end"),
    ("", "pushgateway-keep", FLAG, "run attach system", "push the end, too, and leave all of it there"),
    (
        "",
        "otlp",
        "URL",
        "run attach system",
        "push to an OpenTelemetry receiver; env: where OTEL_EXPORTER_OTLP_ENDPOINT says",
    ),
    ("n", "name", "PATTERN", "ls rm", "only runs of this name; * and ? stand for anything"),
    ("", "tag", PAIR, "ls rm", "only runs with this pair; may be repeated"),
    ("", "verdict", "VERDICT", "ls rm", "only runs that ended so; several with commas: failed,oom"),
    ("", "since", "WHEN", "ls", "only runs begun since: an age (90m, 12h, 7d, 4w) or a date (2026-01-31)"),
    ("", "older-than", "WHEN", "rm", "only runs begun before: an age or a date"),
    (
        "",
        "where",
        CONDITION,
        "ls rm",
        "only runs that meet this: 'cpu>10', 'wall>=5m', 'memory>2GiB', verdict=ok; may be repeated",
    ),
    (
        "",
        "sort",
        "COLUMN",
        "ls",
        "by when (default), name, verdict, wall, cpu, wanted, memory or waited; the largest first",
    ),
    ("", "reverse", FLAG, "ls", "in the opposite order"),
    ("", "limit", COUNT, "ls", "at most N runs"),
    ("", "json", FLAG, "ls", "as JSON, a line for each run: file, id, name, tags and summary"),
    ("", "csv", FLAG, "ls", "as CSV, a line for each run, in base units"),
    ("i", "interval", SECONDS, "top", f"time between two pictures, {MIN_INTERVAL} or more (default 1)"),
    ("", "duration", SECONDS, "top", "stop after this time"),
    ("", "count", COUNT, "top", "stop after so many pictures"),
    ("", "sort", "COLUMN", "top", "by cpu (default), wait, memory, io, pid or name"),
    ("", "plain", FLAG, "top", "as plain text, on a terminal too"),
    ("", "limit", COUNT, "top", "of plain text: at most so many processes (default 20)"),
    ("", "dry-run", FLAG, "rm", "list what would be deleted"),
    ("", "of", "RECORD", "fields", "the values of this record (a file, an id, last, name:X) next to the meanings"),
    ("", "begin", FLAG, "mark", "begin it beside what was marked before, which goes on"),
    ("", "end", FLAG, "mark", "end it; without a NAME all that are open"),
    ("f", "format", "FORMAT", "diff advise", "text (default), markdown or json"),
    (
        "",
        "fail-on",
        "LIMITS",
        "diff",
        "exit 1 when NEW is beyond: cpu=+10%,memory=+100MB,gpu=-20%,verdict",
    ),
    ("", "undecided", "RESULT", "diff", "exit status of an undecided limit: pass (0) or fail (1); default 3"),
    ("v", "verbose", FLAG, "diff", "every figure and every command, and what the figures may not contain"),
    ("n", "name", "PATTERN", "advise", "the past runs of this name; * and ? stand for anything"),
    ("", "tag", PAIR, "advise", "of these only runs with this pair; may be repeated"),
    ("", "since", "WHEN", "advise", "of these only runs begun since: an age (12h, 7d) or a date"),
    ("", "all", FLAG, "advise", "a line for each name, the most wasteful first; ? marks a trial"),
    (
        "",
        "for",
        "NAMES",
        "advise",
        "lines for slurm, pbs, lsf, kubernetes, docker, nextflow, snakemake, or all"
        " (default: the scheduler that is found, else slurm)",
    ),
    ("", "trial", FLAG, "advise", "what no run proves as lines too, not as comments"),
    ("", "servers", OPTIONAL, "advise", "the cheapest cloud servers that fit, from a file of sparecores-data"),
    ("q", "quiet", FLAG, "advise", "the lines alone, to be pasted"),
)
DEFAULTS = {
    "report": {"format": "html"},
    "export": {"format": "csv"},
    "diff": {"format": "text"},
    "advise": {"format": "text"},
    "top": {"sort": "cpu"},
}


class Spec:
    """One row of the table."""

    __slots__ = ("commands", "help", "name", "short", "takes")

    def __init__(self, short: str, name: str, takes: str, commands: str, text: str) -> None:
        self.short = short
        self.name = name
        self.takes = takes
        self.commands = commands.split()
        self.help = text

    @property
    def attribute(self) -> str:
        """Its name in `Options`."""
        return "for_" if self.name == "for" else self.name.replace("-", "_")  # `for` is a word of the language

    @property
    def choices(self) -> tuple[str, ...] | None:
        """What it may be; None where it may be anything."""
        return CHOICES.get(f"{self.name} of {' '.join(self.commands)}") or CHOICES.get(self.name)

    @property
    def example(self) -> str:
        """The end of a message on a missing value; empty where any text is one."""
        return f", such as {EXAMPLES[self.takes]}" if self.takes in EXAMPLES else ""

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.replace("-", "_").upper()


def specs(command: str) -> list[Spec]:
    """The options of a command."""
    return [spec for spec in (Spec(*row) for row in TABLE) if command in spec.commands]


def parse(
    command: str, arguments: list[str], environment: dict[str, str], *, to_first_word: bool
) -> tuple[Options, list[str]]:
    """Options and the words that are none. `to_first_word`: what follows the first word belongs to it.

    Raises UsageError, and HelpAsked.
    """
    known = specs(command)
    options = Options()
    for name, default in DEFAULTS.get(command, {}).items():
        setattr(options, name, default)
    mistake: UsageError | None = None  # of the environment: said only when no help is asked for
    for spec in known:
        value = environment.get(spec.variable)
        try:
            if value is not None:
                _from_environment(options, spec, value)
        except UsageError as error:
            mistake = mistake or error
    by_flag = {f"--{spec.name}": spec for spec in known}
    by_flag |= {f"-{spec.short}": spec for spec in known if spec.short}
    words: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            if to_first_word:
                words += rest
                break
            continue
        if word in ("-h", "--help"):
            raise HelpAsked
        flag, value, rest = _split(word, rest, by_flag)
        found = by_flag.get(flag)
        if found is None:
            from proctally.text.nearest import did_you_mean

            remedy = did_you_mean(flag, by_flag) or f"see proctally {command} --help"
            raise UsageError(f"{flag}: unknown option of {command}; {remedy}")
        if found.takes == FLAG:
            if value is not None:
                raise UsageError(f"--{found.name}: takes no value; use --{found.name} alone")
            setattr(options, found.attribute, True)
            continue
        if value is None and found.takes == OPTIONAL:
            value = ""
        if value is None:
            if not rest or (rest[0] == "--" and found.takes in EXAMPLES):
                raise UsageError(f"--{found.name}: needs a value{found.example}")
            value = rest.pop(0)
        _set(options, found, value, f"--{found.name} ")
    if mistake is not None:
        raise mistake
    return options, words


def _split(word: str, rest: list[str], by_flag: dict[str, Spec]) -> tuple[str, str | None, list[str]]:
    """A word into its flag and the value that is written into it: `--x=v`, `-xv`, and flags run together, `-qv`."""
    if word.startswith("--"):
        flag, equals, value = word.partition("=")
        return flag, value if equals else None, rest
    flag, value = word[:2], word[2:]
    spec = by_flag.get(flag)
    if value and spec is not None and spec.takes == FLAG and not value.startswith("-"):
        return flag, None, [f"-{value}", *rest]
    return flag, value or None, rest


def _from_environment(options: Options, spec: Spec, value: str) -> None:
    if spec.takes == FLAG:
        if value.lower() not in ON + OFF:
            raise UsageError(f"{spec.variable}={value}: not a switch; use 1 or 0")
        setattr(options, spec.attribute, value.lower() in ON)
    elif spec.takes == PAIR:
        for pair in value.split(","):
            if pair:
                _set(options, spec, pair, f"{spec.variable}=")
    elif value:
        _set(options, spec, value, f"{spec.variable}=")


def _set(options: Options, spec: Spec, text: str, where: str) -> None:
    """Set an option. `where`: what the user typed before the value, such as `--interval `. Raises UsageError."""
    from proctally.text.units import parse_number, parse_seconds, parse_size

    typed = f"{where}{text[:40]}" if text else f"{where}''"
    value: Any = text
    if spec.takes == SECONDS:
        value = parse_seconds(text, typed, MIN_INTERVAL if spec.name == "interval" else None)
    elif spec.takes == RATIO:
        value = parse_number(text, typed)
        if not 0 <= value <= 1:
            raise UsageError(f"{typed}: not a ratio from 0 to 1")
    elif spec.takes == COUNT:
        if not (text.isascii() and text.isdecimal()) or len(text) > 12:
            raise UsageError(f"{typed}: not a whole number of at most 12 digits")
        value = int(text)
        if value < 1 and spec.name in FROM_ONE:
            raise UsageError(f"{typed}: too small; use 1 or more")
    elif spec.takes == FILE and not text:
        raise UsageError(f"{typed}: the path is empty; use the path of a file")
    elif spec.takes == SIZE:
        value = parse_size(text, typed, MIN_MEMORY)
    elif spec.takes == PAIR:
        key, equals, pair_value = text.partition("=")
        if not equals or not key:
            from proctally.text.secrets import mask_text

            raise UsageError(f"{where}{mask_text(text)}: not of the form KEY=VALUE; use one such as lr=0.1")
        options.tag[key] = pair_value
        return
    elif spec.takes == CONDITION:
        value = [*getattr(options, spec.attribute), text]
    elif spec.choices is not None and text not in spec.choices:
        *others, last = spec.choices
        raise UsageError(f"{typed}: unknown; use {', '.join(others)} or {last}")
    setattr(options, spec.attribute, value)


def hints(options: Options, environment: dict[str, str]) -> list[str]:
    """Return what the user may not have meant: misspelt variables, options without effect."""
    found = []
    names = {name.removeprefix(PREFIX) for name in environment if name.startswith(PREFIX)}.difference(NOT_OPTIONS)
    known = {Spec(*row).variable.removeprefix(PREFIX) for row in TABLE} if names else set()
    for name in sorted(names - known):
        from proctally.text.nearest import nearest

        meant = nearest(name, known.union(NOT_OPTIONS))
        found += [] if meant is None else [f"{PREFIX}{name}: unknown variable; did you mean {PREFIX}{meant}?"]
    if options.pushgateway_keep and options.pushgateway is None:
        found.append("--pushgateway-keep: no effect without --pushgateway URL")
    if options.textfile is not None and not options.textfile.endswith(".prom"):
        found.append(f"--textfile {options.textfile}: node_exporter reads only names that end in .prom")
    return found


def describe(command: str, width: int) -> str:
    """Return the options of a command, for lines of `width` cells."""
    from proctally.text.cells import indented

    lines = []
    for spec in specs(command):
        flags = f"-{spec.short}, --{spec.name}" if spec.short else f"    --{spec.name}"
        taken = spec.takes if spec.takes == OPTIONAL else f" {spec.takes}"
        head = f"  {f'{flags}{taken}'.rstrip():<{COLUMN - 4}}  "
        if width < NARROW:
            lines.append(head.rstrip())
            head = " " * 6
        lines += indented(spec.help, head, width)
    return "\n".join(lines)


def check_format(options: Options) -> None:
    """Check what `-f csv` needs. Raises UsageError."""
    if options.format == "csv" and options.no_system:
        raise UsageError("--format csv: a table of the whole machine; omit --no-system")
    if options.format == "csv" and options.output is None:
        raise UsageError("--format csv: no file given; use --output FILE")


def parse_pid(word: str) -> int:
    """Return a process id. Raises UsageError."""
    if not (word.isascii() and word.isdecimal() and len(word) <= 10) or not 0 < int(word) < 1 << 31:
        raise UsageError(f"{word[:40]}: not a PID; find one with pgrep")
    return int(word)


def record_filter(options: Options) -> Filter:
    """Return the filter of past runs that these options describe. Raises UsageError."""
    from proctally.analysis.conditions import conditions
    from proctally.record.catalogue import Filter
    from proctally.record.schema import STATES

    verdicts = [] if options.verdict is None else [word.strip() for word in options.verdict.split(",")]
    for verdict in verdicts:
        if verdict not in STATES:
            raise UsageError(f"--verdict {verdict[:40]}: unknown verdict; use {', '.join(STATES)}")
    return Filter(
        name=options.name,
        tags=options.tag,
        verdicts=verdicts,
        since=None if options.since is None else _moment("--since", options.since),
        before=None if options.older_than is None else _moment("--older-than", options.older_than),
        conditions=conditions(options.where),
    )


def _moment(option: str, text: str) -> float:
    from proctally.record.catalogue import moment

    try:
        return moment(text)
    except ValueError as error:
        raise UsageError(f"{option} {text[:40]}: {error}") from None
