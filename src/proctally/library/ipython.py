"""`%load_ext proctally`, `%%track` and `%track`: what a cell of IPython or Jupyter used, shown below it.

Only IPython imports this, and nothing of IPython is imported here: it hands over its shell.
"""

from __future__ import annotations

import sys

from proctally.options import UsageError
from proctally.tracking import track

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from proctally.tracking import Run

USAGE = """\
%%track [options]          what the cell used
%track [options] STATEMENT   what the statement used

  -i, --interval SECONDS   time between samples, 0.05 or more (default 0.5)
  -n, --name NAME          name of the record
  -o, --output FILE        where the record goes
      --tag K=V            a pair for the record
      --into VARIABLE      keep the run under this name
      --record             write a record into the default place
      --no-system, --no-gpu   leave the machine, its GPUs out
  -q, --quiet              show nothing

The run is also kept as proctally_run.
"""
KEPT_AS = "proctally_run"
INTERVAL = 0.5
FLAGS = {"--record": "record", "--no-system": "no_system", "--no-gpu": "no_gpu", "--quiet": "quiet", "-q": "quiet"}
VALUES = {
    "--interval": "interval",
    "-i": "interval",
    "--name": "name",
    "-n": "name",
    "--output": "output",
    "-o": "output",
    "--tag": "tag",
    "--into": "into",
}
MIB = 1 << 20


class Asked:
    """The options of one magic, and the statement behind them."""

    def __init__(self, line: str) -> None:
        self.interval: str | None = None
        self.name: str | None = None
        self.output: str | None = None
        self.into: str | None = None
        self.record = self.no_system = self.no_gpu = self.quiet = False
        self.tags: dict[str, str] = {}
        self.statement = self._parse(line)

    def _parse(self, line: str) -> str:
        import shlex

        rest = line.strip()
        while rest.startswith("-"):
            word, rest = _first_word(rest)
            flag, equals, value = word.partition("=")
            if flag in FLAGS and not equals:
                setattr(self, FLAGS[flag], True)
                continue
            if flag not in VALUES:
                raise UsageError(f"there is no option {flag}\n{USAGE}")
            if not equals:
                value, rest = _first_word(rest)
            if not value:
                raise UsageError(f"{flag} needs a value\n{USAGE}")
            value = "".join(shlex.split(value)) or value
            if VALUES[flag] == "tag":
                key, equals, of_key = value.partition("=")
                if not equals or not key:
                    raise UsageError(f"{flag}: {value!r} is not of the form KEY=VALUE")
                self.tags[key] = of_key
            else:
                setattr(self, VALUES[flag], value)
        return rest

    def seconds(self) -> float:
        """The interval."""
        try:
            return INTERVAL if self.interval is None else float(self.interval)
        except ValueError:
            raise UsageError(f"--interval: {self.interval!r} is not a number of seconds") from None


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
        cpu, memory, io = summary.cpu, summary.memory, summary.io
        cores = [] if cpu.mean_cores is None else [f"{cpu.mean_cores:.2f} cores on average"]
        if cpu.peak_cores is not None:
            cores.append(f"{cpu.peak_cores:.2f} at most")
        rows = [
            ("wall", _said(summary.wall_seconds, "{:.3f} s")),
            ("CPU", ", ".join([_said(cpu.total_seconds, "{:.3f} s"), *cores])),
            ("peak RSS", _mib(memory.peak_rss_bytes)),
            ("peak PSS", _mib(memory.peak_pss_bytes)),
            ("storage", f"{_mib(io.read_bytes)} read, {_mib(io.write_bytes)} written"),
            ("processes", f"{_said(summary.processes.peak, '{}')} at most"),
        ]
        if summary.gpu is not None:
            peak = summary.gpu.peak_utilization_ratio
            rows.append(("GPU", f"{_said(peak, '{:.0%}')} at most, {_mib(summary.gpu.peak_tree_memory_bytes)} held"))
        rows += [("missing", what) for what in self.run.missing]
        if self.run.path is not None:
            rows.append(("record", self.run.path))
        return rows

    def _head(self) -> str:
        return _plain(f"{self.run.name or 'cell'}: {self.run.summary.verdict or 'not measured'}")

    def __repr__(self) -> str:
        return "\n".join([self._head(), *(f"  {_plain(name):<10} {_plain(said)}" for name, said in self.rows())])

    def _repr_html_(self) -> str:
        from html import escape

        head = escape(self._head())
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(_plain(name))}</th>"
            f"<td style='text-align:left'>{escape(_plain(said))}</td></tr>"
            for name, said in self.rows()
        )
        return f"<table class='proctally'><caption>{head}</caption><tbody>{rows}</tbody></table>"


def _plain(text: str) -> str:
    """What names of strangers hold of control signs is shown, never sent."""
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)


def _said(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)


def _mib(value: int | None) -> str:
    return "unknown" if value is None else f"{value / MIB:.1f} MiB"


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext proctally`."""

    def magic(line: str, cell: str | None = None) -> None:
        _track(shell, line, cell)

    magic.__doc__ = USAGE
    shell.register_magic_function(magic, magic_kind="line_cell", magic_name="track")


def unload_ipython_extension(shell: Any) -> None:
    """Called by `%unload_ext proctally`."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("track", None)


def _track(shell: Any, line: str, cell: str | None) -> None:
    try:
        asked = Asked(line)
        code = asked.statement if cell is None else cell
        if cell is not None and asked.statement:
            raise UsageError(f"{asked.statement!r} stands behind the options of a cell\n{USAGE}")
        if not code.strip():
            raise UsageError(USAGE)
        tracked = track(
            asked.seconds(),
            asked.name or "cell",
            asked.output,
            asked.tags,
            not asked.no_system,
            not asked.no_gpu,
            record=asked.record,
        )
    except (UsageError, ValueError) as error:
        print(f"%track: {error}")
        return
    body, last = _compiled(shell, code)
    run = None
    try:
        with tracked as run:
            exec(body, shell.user_ns)
            value = None if last is None else eval(last, shell.user_ns)
    finally:
        if run is not None:
            shell.user_ns[KEPT_AS] = run
            if asked.into is not None:
                shell.user_ns[asked.into] = run
            if not asked.quiet:
                _show(Report(run))
    if value is not None and not code.rstrip().endswith(";"):  # in a notebook that means: do not show it
        sys.displayhook(value)


def _compiled(shell: Any, code: str) -> tuple[Any, Any]:
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
