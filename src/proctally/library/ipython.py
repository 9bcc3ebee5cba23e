"""`%load_ext proctally`, `%%track` and `%track`: what a cell of IPython or Jupyter used, shown below it.

IPython imports this; nothing of IPython is imported before it does.
"""

from __future__ import annotations

import sys

from proctally.library.track import track
from proctally.text.escape import html, printable
from proctally.text.units import UNKNOWN, duration, percentage, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from types import CodeType
    from typing import Any

    from proctally.library.run import Run

    Shell = Any  # IPython's InteractiveShell, whose annotations are incomplete

KEPT_AS = "proctally_run"
DESCRIPTION = f"Show what a cell or a statement used. The run is also kept as {KEPT_AS}."


def make_parser() -> ArgumentParser:
    """Return the parser of the options. It raises IPython's UsageError."""
    from argparse import REMAINDER

    from IPython.core.magic_arguments import MagicArgumentParser  # type: ignore[import-not-found, unused-ignore]

    parser: ArgumentParser = MagicArgumentParser("%track", description=DESCRIPTION, add_help=False)  # type: ignore[no-untyped-call, unused-ignore]
    parser.add_argument("-i", "--interval", type=float, default=0.5, help="seconds between samples, 0.05 or more")
    parser.add_argument("-n", "--name", default="cell", help="name of the record")
    parser.add_argument("-o", "--output", metavar="FILE", help="file of the record")
    parser.add_argument("--tag", metavar="K=V", action="append", type=_pair, default=[], help="a pair for the record")
    parser.add_argument("--into", metavar="VARIABLE", help="keep the run under this name")
    parser.add_argument("--record", action="store_true", help="write a record into the default directory")
    parser.add_argument("--no-system", action="store_true", help="leave the machine out")
    parser.add_argument("--no-gpu", action="store_true", help="leave GPUs out")
    parser.add_argument("-q", "--quiet", action="store_true", help="show nothing")
    parser.add_argument("statement", nargs=REMAINDER, help="of %%track; a cell has none")
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


def parse(line: str) -> tuple[Namespace, str]:
    """Return the options of one magic, and the statement after them as it was written."""
    words, rest = [], line.strip()
    while rest:
        word, rest = _first_word(rest)
        words.append(_unquoted(word))
    options = make_parser().parse_args(words)
    statement = line.strip()
    for _ in words[len(options.statement) :]:
        statement = _first_word(statement)[1]
    return options, statement


def _unquoted(word: str) -> str:
    import shlex

    try:
        return "".join(shlex.split(word)) or word
    except ValueError:  # a quote of the statement
        return word


def _first_word(text: str) -> tuple[str, str]:
    """Up to a space that stands in no quotes, and what follows."""
    quote = ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign.isspace():
            return text[:place], text[place:].lstrip()
    return text, ""


class Report:
    """What is shown of one run, as text and as HTML."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def rows(self) -> list[tuple[str, str]]:
        """What there is to say, each with its name."""
        summary = self.run.summary
        cpu, memory, io, processes = summary.cpu, summary.memory, summary.io, summary.processes.peak
        cores = [] if cpu.mean_cores is None else [f"{cpu.mean_cores:.2f} cores on average"]
        if cpu.peak_cores is not None:
            cores.append(f"{cpu.peak_cores:.2f} at most")
        rows = [
            ("wall", duration(summary.wall_seconds)),
            ("CPU", ", ".join([duration(cpu.total_seconds), *cores])),
            ("peak RSS", size(memory.peak_rss_bytes)),
            ("peak PSS", size(memory.peak_pss_bytes)),
            ("storage", f"{size(io.read_bytes)} read, {size(io.write_bytes)} written"),
            ("processes", f"{UNKNOWN if processes is None else processes} at most"),
        ]
        if summary.gpu is not None:
            peak = summary.gpu.peak_utilization_ratio
            rows.append(("GPU", f"{percentage(peak, 0)} at most, {size(summary.gpu.peak_tree_memory_bytes)} held"))
        rows += [("missing", what) for what in self.run.missing]
        if self.run.path is not None:
            rows.append(("record", self.run.path))
        return rows

    def _head(self) -> str:
        return printable(f"{self.run.name or 'cell'}: {self.run.summary.verdict or 'not measured'}")

    def __repr__(self) -> str:
        return "\n".join([self._head(), *(f"  {printable(name):<10} {printable(said)}" for name, said in self.rows())])

    def _repr_html_(self) -> str:
        head = html(self._head())
        rows = "".join(
            f"<tr><th style='text-align:left'>{html(name)}</th><td style='text-align:left'>{html(said)}</td></tr>"
            for name, said in self.rows()
        )
        return f"<table class='proctally'><caption>{head}</caption><tbody>{rows}</tbody></table>"


def load_ipython_extension(shell: Shell) -> None:
    """Called by `%load_ext proctally`."""

    def magic(line: str, cell: str | None = None) -> None:
        _track(shell, line, cell)

    magic.__doc__ = make_parser().format_help()
    shell.register_magic_function(magic, magic_kind="line_cell", magic_name="track")


def unload_ipython_extension(shell: Shell) -> None:
    """Called by `%unload_ext proctally`."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("track", None)


def _track(shell: Shell, line: str, cell: str | None) -> None:
    from IPython.core.error import UsageError

    options, statement = parse(line)
    code = statement if cell is None else cell
    if cell is not None and statement:
        raise UsageError(f"{statement!r} stands behind the options of a cell")
    if not code.strip():
        raise UsageError(make_parser().format_help())
    try:
        tracked = track(
            options.interval,
            options.name,
            options.output,
            dict(options.tag),
            not options.no_system,
            not options.no_gpu,
            record=options.record,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    body, last = _compiled(shell, code)
    run = None
    try:
        with tracked as run:
            exec(body, shell.user_ns)
            value = None if last is None else eval(last, shell.user_ns)
    finally:
        if run is not None:
            shell.user_ns[KEPT_AS] = run
            if options.into is not None:
                shell.user_ns[options.into] = run
            if not options.quiet:
                _show(Report(run))
    if value is not None and not code.rstrip().endswith(";"):  # in a notebook that means: do not show it
        sys.displayhook(value)


def _compiled(shell: Shell, code: str) -> tuple[CodeType, CodeType | None]:
    """The cell as code, and its last expression apart, whose value is shown.

    Not by the shell's own run_cell: that shows what is raised, and goes on as if nothing had been.
    """
    import ast

    source = shell.transform_cell(code)
    name = shell.compile.cache(source, shell.execution_count, raw_code=code)
    tree = shell.transform_ast(shell.compile.ast_parse(source, filename=name))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = None if last is None else shell.compile(ast.Expression(last.value), name, "eval")
    return shell.compile(tree, name, "exec"), value


def _show(report: Report) -> None:
    from IPython.display import display  # type: ignore[import-not-found, unused-ignore]

    display(report)  # type: ignore[no-untyped-call, unused-ignore]
