"""A plugin of pytest: what each test used, with `--proctally`.

Every session of pytest in this environment imports this file, whatever its version: it holds the options and the mark
alone. What measures is in pytest_measure.py.
"""

from __future__ import annotations

import os

import pytest

MARK_HELP = (
    "proctally(max_rss=None, max_rss_growth=None, max_cpu=None, max_wall=None, max_read=None, max_write=None): with "
    '--proctally the test fails when its processes held more memory at once (bytes, or "500MB", "2GiB"), grew by more, '
    "used more CPU seconds, took more seconds, or read or wrote more bytes of storage"
)
ROWS = 10
MIN_INTERVAL = 0.05
NEEDED = (8, 0)  # hooks that are wrappers


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--proctally`, how many tests the report shows, and how often they are looked at."""
    group = parser.getgroup("proctally", "what each test used")
    group.addoption("--proctally", action="store_true", help="measure CPU, peak memory and I/O of each test")
    group.addoption(
        "--proctally-rows", type=int, default=ROWS, metavar="N", help=f"tests in the report, 0 for all (default {ROWS})"
    )
    group.addoption(
        "--proctally-interval", type=float, default=0.1, metavar="SECONDS", help="time between looks (default 0.1)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The mark is known always, so that `--strict-markers` accepts it; all else is on request."""
    config.addinivalue_line("markers", MARK_HELP)
    if not config.getoption("--proctally"):
        return
    from proctally.tracking.config import ON

    if os.environ.get("PROCTALLY_DISABLE", "").lower() in ON:
        return
    interval = config.getoption("--proctally-interval")
    if not interval >= MIN_INTERVAL:
        raise pytest.UsageError(f"--proctally-interval is {interval}; use {MIN_INTERVAL} or more")
    if getattr(pytest, "version_tuple", (0,)) < NEEDED:
        raise pytest.UsageError(f"--proctally needs pytest {NEEDED[0]} or newer; this is {pytest.__version__}")
    from proctally.library.pytest_measure import Measurement

    config.pluginmanager.register(Measurement(interval, config.getoption("--proctally-rows")), "proctally-tests")
