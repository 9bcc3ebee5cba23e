"""`proctally report`: which records, in which form, to where."""

from __future__ import annotations

import json
import os
import stat
import sys

from proctally.history import NoRecord, resolve
from proctally.options import UsageError
from proctally.report.figures import Facts
from proctally.report.series import collect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from proctally.options import Options

SCHEMA = "proctally-report/1"
STDOUT = "-"
MOST_RUNS = 24
BUCKETS = 1000  # of the series in JSON, with two rows each
DIGITS = 9  # of a value of a series, more than any source has


def report(options: Options, words: Sequence[str], environment: dict[str, str]) -> str:
    """Write the report of the records that `words` mean; a line for stderr, empty where there is nothing to say.

    Raises UsageError, NoRecord, OSError.
    """
    form = options.format
    if options.open and (form != "html" or options.output == STDOUT):
        raise UsageError("--open shows a file of -f html: leave the other away")
    # more of them than can be told apart are not read first
    paths = list(dict.fromkeys(path for word in words or ["last"] for path in resolve(word, environment)))
    if len(paths) > MOST_RUNS:
        raise UsageError(f"{len(paths)} records: at most {MOST_RUNS} can be laid over each other")
    output = options.output or (_default(paths) if form == "html" else STDOUT)
    if output != STDOUT:
        _check(output, paths, force=options.force)
    if form == "html":
        _needs_bokeh()
    data = _made(form, paths, environment).encode("utf-8", "backslashreplace")
    if output == STDOUT:
        os.set_blocking(1, True)
        _write(1, data)
        return ""
    _save(output, data, force=options.force)
    if options.open:
        return _opened(output)
    if options.output is None:
        _write(1, f"{output}\n".encode("utf-8", "backslashreplace"))
    return ""


def _default(paths: Sequence[str]) -> str:
    """In the working directory, called as the record is."""
    stem = os.path.basename(paths[0]).removesuffix(".gz").removesuffix(".jsonl")
    return f"{stem}.html" if len(paths) == 1 else f"{stem}-and-{len(paths) - 1}-more.html"


def _needs_bokeh() -> None:
    try:
        import bokeh
    except ImportError:
        raise UsageError(
            "-f html needs the package bokeh: pip install 'proctally[report]' (-f text and -f markdown do without)"
        ) from None
    del bokeh


def _made(form: str, paths: Sequence[str], environment: dict[str, str]) -> str:
    stories = [_collected(path) for path in paths]
    if form == "html":
        from proctally.report.page import page

        return page(stories)
    runs = [Facts(story) for story in stories]
    if form == "json":
        return json.dumps({"schema": SCHEMA, "runs": [as_json(one) for one in runs]}, allow_nan=False) + "\n"
    if form == "markdown":
        from proctally.report.markdown import markdown

        return markdown(runs)
    from proctally.report.text import text

    return text(runs, blocks=knows_blocks(environment))


def _collected(path: str) -> Any:
    try:
        return collect(path)
    except OSError as error:
        raise NoRecord(f"{path}: {error.strerror}") from None


def knows_blocks(environment: dict[str, str]) -> bool:
    """Whether the locale is one of UTF-8 (locale(7): LC_ALL, then LC_CTYPE, then LANG)."""
    name = next((environment[key] for key in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(key)), "")
    return "utf-8" in name.lower() or "utf8" in name.lower()


def as_json(facts: Facts) -> dict[str, Any]:
    """The figures in base units, the series thinned, null for what is not known."""
    from proctally.report import figures, waits
    from proctally.report.series import shown
    from proctally.report.thin import thin

    story = facts.story
    keys = [line.key for _, rows in shown(story)[0] for line in rows]
    times, columns = thin(story.times, {key: story.columns[key] for key in keys}, BUCKETS)
    return {
        "path": story.past.path,
        "run": story.run,
        "verdict": facts.verdict,
        "evidence": facts.evidence,
        "complete": facts.whole,
        "figures": {
            "wall_seconds": facts.wall,
            "cpu_seconds": facts.cpu,
            "mean_cores": facts.mean_cores,
            "peak_cores": facts.peak_cores,
            "limit_cores": facts.limit_cores,
            "machine_cores": facts.machine_cores,
            "peak_memory_bytes": facts.peak_memory,
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
        "waited_for": waits.headline(facts),
        "waits": [{"what": wait.what, "share": wait.share, "text": wait.text} for wait in waits.waits(facts)],
        "summary": story.past.summary,
        "phases": [
            {"name": one["name"], "begin_seconds": one["begin"], "end_seconds": one["end"], "cpu_seconds": one["used"]}
            for one in story.phases
        ],
        "cannot_see": figures.unseen(facts),
        "samples": story.samples,
        "thinned": len(times) < len(story.times),
        "series": {
            "elapsed_seconds": _values(times),
            **{key: _values(column) for key, column in columns.items()},
        },
    }


def _values(column: Sequence[float]) -> list[float | None]:
    return [float(f"{value:.{DIGITS}g}") if value == value and abs(value) != float("inf") else None for value in column]


# -- to where --------------------------------------------------------------------------------------------------------


def _check(output: str, paths: Sequence[str], *, force: bool) -> None:
    """That it can be written there, before a long record is read. Raises UsageError, OSError."""
    try:
        there = os.stat(output)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(output) or "."):
            raise FileNotFoundError(2, "no such directory", output) from None
        return
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(21, "is a directory", output)
    if not stat.S_ISREG(there.st_mode):
        return
    if any(os.path.samestat(there, os.stat(path)) for path in paths):
        raise FileExistsError(17, "is the record itself", output)
    if not force:
        raise FileExistsError(17, "exists already; choose another with -o, or give --force", output)


def _save(output: str, data: bytes, *, force: bool) -> None:
    """A new file is 0600, as records are, and is only there if it is whole. Raises OSError."""
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    made = False
    try:
        fd = os.open(output, flags | os.O_CREAT | os.O_EXCL, 0o600)
        made = True
    except FileExistsError:
        if stat.S_ISREG(os.stat(output).st_mode):
            if not force:
                raise FileExistsError(17, "exists already; choose another with -o, or give --force", output) from None
            fd = os.open(output, flags | os.O_TRUNC)
        else:  # a device, or a pipe: /dev/stdout is a link
            fd = os.open(output, os.O_WRONLY | os.O_CLOEXEC)
    try:
        _write(fd, data)
    except BaseException:
        if made:
            os.unlink(output)
        raise
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _opened(output: str) -> str:
    """Show it in a browser; what to say where there is none."""
    import webbrowser
    from pathlib import Path

    sys.stdout.flush()
    shown = webbrowser.open(Path(output).resolve().as_uri())
    return "" if shown else f"no browser was found; the report is {output}"
