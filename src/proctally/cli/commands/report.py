"""`proctally report`: make a report of one or several records."""

from __future__ import annotations

import json
import os

from proctally.cli.options import parse
from proctally.cli.streams import whole_file, write_stdout
from proctally.errors import CannotShow, UsageError, require
from proctally.record.catalogue import resolve
from proctally.text.terminal import knows_blocks
from proctally.views.report.run_facts import Facts
from proctally.views.report.series import collect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.record import JsonObject
    from proctally.tracking.config import Options

HELP = """\
proctally report [options] [RECORD|last ...]

Make a report of a record (a file, an id, last, name:X; last without one): what it used and waited for, charts over
time, who ran when, what the numbers cannot see. Several records are laid over each other, each from its own start.

{options}

HTML goes to a file in the working directory that is called as the record is, RECORD.html, and its name to stdout; it is
one file that needs no network. SVG and PNG have the two diagrams alone, where the time went and memory at its peak.
HTML and SVG need the extra: pip install 'proctally[report]'; PNG needs 'proctally[png]'. The others go to stdout.

Exit status: 0, 1 when the record cannot be read or the report not written or shown, 2 for a mistake in the options.
"""

SCHEMA = "proctally-report/2"
STDOUT = "-"
FILES = {  # forms that go to a file, and the packages that each needs, with the extra
    "html": (("bokeh", "report"), ("jinja2", "report")),
    "svg": (("jinja2", "report"),),
    "png": (("jinja2", "report"), ("resvg_py", "png")),
}
MOST_RUNS = 24
BUCKETS = 1000  # of the series in JSON, with two rows each
TIME_DIGITS, DIGITS = 9, 7  # of a series: double and single floats


def call(arguments: list[str]) -> int:
    """Write a report and return the exit status. Raises UsageError, HelpAsked, NoRecord, CannotShow, OSError."""
    options, words = parse("report", arguments, {}, to_first_word=False)
    problem = report(options, words, dict(os.environ))
    if problem:
        raise CannotShow(problem)
    return 0


def report(options: Options, words: Sequence[str], environment: dict[str, str]) -> str:
    """Write the report of the records that `words` name; return what went wrong, empty where nothing did.

    Raises UsageError, NoRecord, OSError.
    """
    form = options.format
    if options.open and (form != "html" or options.output == STDOUT):
        raise UsageError("--open: needs --format html and a file; omit the other option")
    # more of them than can be told apart are not read first
    named = [resolve(word, environment) for word in words or ("last",)]
    paths = list(dict.fromkeys(path for found in named for path in found))
    if len(paths) > MOST_RUNS:
        raise UsageError(f"{len(paths)} records: at most {MOST_RUNS} can be laid over each other")
    output = options.output or (_default(paths, form) if form in FILES else STDOUT)
    for package, extra in FILES.get(form, ()):
        require(package, extra, f"--format {form}", "--format text and markdown need no package")
    file = whole_file(output, paths, force=options.force)
    data = _made(form, paths, environment, _split(named, paths))
    with file.open() as record:
        record.write_bytes(data)
    if options.open:
        return _opened(output)
    if options.output is None and output != STDOUT:
        write_stdout(f"{output}\n")
    return ""


def _default(paths: Sequence[str], form: str) -> str:
    """In the working directory, called as the record is."""
    stem = os.path.basename(paths[0]).removesuffix(".gz").removesuffix(".jsonl")
    return f"{stem}.{form}" if len(paths) == 1 else f"{stem}-and-{len(paths) - 1}-more.{form}"


def _split(named: Sequence[Sequence[str]], paths: Sequence[str]) -> int:
    """Return how many of the records are compared with the others: those of the first of two words, or one of two."""
    return len(dict.fromkeys(named[0])) if len(named) == 2 else 1 if len(paths) == 2 else 0


def _made(form: str, paths: Sequence[str], environment: dict[str, str], split: int) -> bytes:
    runs = [Facts(collect(path)) for path in paths]
    if form == "png":
        from proctally.views.report.image import png

        return png(runs)
    return _text(form, runs, environment, split).encode("utf-8", "backslashreplace")


def _text(form: str, runs: Sequence[Facts], environment: dict[str, str], split: int) -> str:
    if form == "html":
        from proctally.views.report.page import page

        return page([run.story for run in runs], split)
    if form == "svg":
        from proctally.views.report.image import svg

        return svg(runs)
    if form == "json":
        return json.dumps({"schema": SCHEMA, "runs": [as_json(one) for one in runs]}, allow_nan=False) + "\n"
    if form == "markdown":
        from proctally.views.report.markdown import markdown

        return markdown(runs, split)
    from proctally.views.report.text import text

    return text(runs, split, blocks=knows_blocks(environment))


def as_json(facts: Facts) -> JsonObject:
    """The figures in base units, the series thinned, null for what is not known."""
    from proctally.views.report import request, run_facts, say
    from proctally.views.report.decimate import thin
    from proctally.views.report.series import shown

    story = facts.story
    keys = [line.key for _, rows in shown(story)[0] for line in rows]
    times, columns = thin(story.times, {key: story.columns[key] for key in keys}, BUCKETS)
    return {
        "path": story.past.path,
        "run": story.run,
        "verdict": facts.verdict,
        "reason": story.summary.get("reason"),
        "gaps": story.summary.get("gaps"),
        "complete": facts.whole,
        "figures": {
            "wall_seconds": facts.wall,
            "cpu_seconds": facts.cpu,
            "mean_cores": facts.mean_cores,
            "peak_cores": facts.peak_cores,
            "limit_cores": facts.limit_cores,
            "machine_cores": facts.machine_cores,
            "wanted_cores": facts.time.wanted_cores,
            "peak_memory_bytes": facts.peak_memory,
            "peak_memory_low_bytes": facts.memory.low,
            "mapped_file_bytes": facts.memory.mapped_file,
            "kernel_bytes": facts.memory.kernel,
            "swap_bytes": facts.memory.swap,
            "unclaimed_shmem_bytes": facts.memory.unclaimed,
            "peak_pss_bytes": facts.peak_pss,
            "peak_rss_bytes": facts.peak_rss,
            "peak_process_rss_bytes": facts.largest,
            "limit_memory_bytes": facts.limit_memory,
            "machine_memory_bytes": facts.machine_memory,
            "read_bytes": facts.read,
            "write_bytes": facts.written,
            "run_delay_seconds": facts.run_delay,
            "throttled_seconds": facts.throttled,
        },
        "say": say.sentences(facts),
        "time": _time(facts),
        "request": request.data(facts),
        "summary": story.past.summary,
        "phases": [
            {"name": one["name"], "begin_seconds": one["begin"], "end_seconds": one["end"], "cpu_seconds": one["used"]}
            for one in story.phases
        ],
        "cannot_see": run_facts.unseen(facts),
        "samples": story.samples,
        "thinned": len(times) < len(story.times),
        "series": {
            "elapsed_seconds": _values(times, TIME_DIGITS),
            **{key: _values(column) for key, column in columns.items()},
        },
    }


def _time(facts: Facts) -> JsonObject | None:
    """Return each part of the wall time in seconds with its bounds, and bounds of what a starved run got; else null."""
    time = facts.time
    if not time.parts:
        return None
    got = time.got(facts.mean_cores)
    parts = {
        part.name: {
            "seconds": part.share * time.seconds,
            "low_seconds": part.low * time.seconds,
            "high_seconds": part.high * time.seconds,
        }
        for part in time.parts
    }
    bounds = {"low": got[0], "high": got[1], "certain": time.is_certain} if got else None
    return {"parts": parts, "starved": bounds}


def _values(column: Sequence[float], digits: int = DIGITS) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if value == value and abs(value) != float("inf") else None for value in column]


def _opened(output: str) -> str:
    """Show it in a browser; what to say where there is none."""
    import webbrowser
    from pathlib import Path

    shown = webbrowser.open(Path(output).resolve().as_uri())
    return "" if shown else f"no browser was found; the report is {output}"
