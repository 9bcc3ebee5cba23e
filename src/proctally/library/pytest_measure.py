"""What each test of a session of pytest used, in the terminal report and as JUnit properties; limits by mark.

CPU time, peak memory and I/O of the call of each test - of this process and all that descends from it, fixtures left
out; `@pytest.mark.proctally(max_rss="500MB", max_cpu=2, max_wall=5)` sets limits.
"""

from __future__ import annotations

import time

import pytest

from proctally.errors import UsageError
from proctally.library.track import track
from proctally.text.units import parse_seconds, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from proctally.library.run import Run
    from proctally.library.track import Tracked

MARK = "proctally"
MIB = 1 << 20
KEEP_SECONDS = 60.0  # between samples of the block around all tests, which only keeps the sampler
PREFIX = "proctally_"
UNITS = {
    "max_rss": ("peak_rss_bytes", "bytes"),
    "max_rss_growth": ("rss_growth_bytes", "bytes"),
    "max_cpu": ("cpu_seconds", "CPU s"),
    "max_wall": ("wall_seconds", "s"),
    "max_read": ("read_bytes", "bytes"),
    "max_write": ("write_bytes", "bytes"),
}


class Measurement:
    """The measuring of one session. With pytest-xdist each worker measures, and who controls them reports."""

    def __init__(self, interval: float, rows: int) -> None:
        self._interval = interval
        self._rows = rows
        self._around: Tracked | None = None
        self._tests: dict[str, dict[str, Any]] = {}  # of one that is run once more, the last run

    # -- where tests run ---------------------------------------------------------------------------------------------

    def _track(self, name: str, interval: float) -> Tracked:
        return track(interval, name, system=False, gpu=False, record=False, source="procfs", process_lines=0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure the test itself; one that passed and used more than it may fails."""
        limits = _limits(item)
        if self._around is None:  # while a block is open, that of a test begins in a few milliseconds
            self._around = self._track("pytest", KEEP_SECONDS)
            self._around.__enter__()
        tracked = self._track(item.nodeid, self._interval)
        run = tracked.__enter__()
        begun = time.perf_counter()
        try:
            outcome = yield
        finally:
            wall = time.perf_counter() - begun
            tracked.__exit__(None, None, None)
            used = used_by(run, wall)
            item.user_properties[:] = [each for each in item.user_properties if not each[0].startswith(PREFIX)]
            item.user_properties += [(PREFIX + name, value) for name, value in used.items() if value is not None]
        exceeded = limits_exceeded(limits, used)
        if exceeded:
            pytest.fail("; ".join(exceeded), pytrace=False)
        return outcome

    def pytest_sessionfinish(self) -> None:
        """The sampler ends with the session."""
        around, self._around = self._around, None
        if around is not None:
            around.__exit__(None, None, None)

    # -- where it is reported ----------------------------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what was measured, here or in a worker."""
        if report.when == "call":
            used = {
                name.removeprefix(PREFIX): value for name, value in report.user_properties if name.startswith(PREFIX)
            }
            if used:
                self._tests[report.nodeid] = used

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The tests that used most CPU time."""
        if not self._tests:
            return
        tests = sorted(self._tests.items(), key=lambda test: test[1].get("cpu_seconds") or 0.0, reverse=True)
        shown = tests[: self._rows] if self._rows > 0 else tests
        terminalreporter.section(f"proctally: {len(shown)} of {len(tests)} tests, by CPU time")
        terminalreporter.write_line("   CPU s    wall s  peak RSS MiB  read MiB  written MiB  test")
        for name, used in shown:
            terminalreporter.write_line(
                f"{_number(used, 'cpu_seconds', 2):>8}  {_number(used, 'wall_seconds', 2):>8}"
                f"  {_number(used, 'peak_rss_bytes', 1, MIB):>12}  {_number(used, 'read_bytes', 1, MIB):>8}"
                f"  {_number(used, 'write_bytes', 1, MIB):>11}  {name}"
            )
        unmeasured = [name for name, used in tests if "missing" in used]
        if unmeasured:
            terminalreporter.write_line(
                f"not all could be measured of {len(unmeasured)} tests, first of {unmeasured[0]}"
            )


def used_by(run: Run, wall: float) -> dict[str, Any]:
    """What the test used, None for what is not known."""
    summary, samples = run.summary, run.samples
    peaks = (summary.memory.peak_rss_bytes, summary.memory.peak_process_rss_bytes)
    peak = max((each for each in peaks if each is not None), default=None)
    before = samples[0].tree.rss_bytes if samples else None
    return {
        "cpu_seconds": summary.cpu.total_seconds,
        "wall_seconds": round(wall, 4),
        "peak_rss_bytes": peak,
        "rss_growth_bytes": None if peak is None or before is None else max(0, peak - before),
        "read_bytes": summary.io.read_bytes,
        "write_bytes": summary.io.write_bytes,
        "read_chars": summary.io.read_chars,
        "write_chars": summary.io.write_chars,
        "missing": "; ".join(run.missing) or None,
    }


def _limits(item: pytest.Item) -> dict[str, float]:
    """The limits of a test by its marks; the nearest mark wins. One that cannot be understood fails the test."""
    limits: dict[str, float] = {}
    for mark in item.iter_markers(MARK):
        unknown = sorted(mark.kwargs.keys() - UNITS)
        if unknown or mark.args:
            pytest.fail(f"mark proctally: {unknown or mark.args} is not known; use {', '.join(UNITS)}", pytrace=False)
        for name, value in mark.kwargs.items():
            if value is None or name in limits:
                continue
            where = f"mark proctally, {name}={value}"
            parse = parse_size if UNITS[name][1] == "bytes" else parse_seconds
            try:
                limits[name] = parse(value, where) if isinstance(value, str) else float(value)
            except UsageError as error:
                pytest.fail(str(error), pytrace=False)
            except (TypeError, ValueError):
                pytest.fail(f"{where}: not a number", pytrace=False)
    return limits


def limits_exceeded(limits: dict[str, float], used: dict[str, Any]) -> list[str]:
    """The limits that were exceeded, in words. What is not known exceeds nothing."""
    found = []
    for name, limit in limits.items():
        field, unit = UNITS[name]
        value = used[field]
        if value is not None and value > limit:
            found.append(f"proctally: {name} is {limit:,.15g} {unit}, and {value:,.15g} were used")
    return found


def _number(used: dict[str, Any], name: str, digits: int, scale: int = 1) -> str:
    value = used.get(name)
    return "?" if value is None else f"{value / scale:.{digits}f}"
