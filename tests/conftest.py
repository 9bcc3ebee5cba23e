"""What several files of tests start with."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from compiled import Programs, built
from tracked import User, ordinary_user, target
from truth import stolen_ns

# As a shell starts what it puts into the background, and nohup(1) what it starts: every job would have them ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same examples at each run: what a change breaks is then its own. `--hypothesis-profile=default` looks for others.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with built() as programs:
        yield programs


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with ordinary_user() as somebody:
        if somebody is None:
            pytest.skip("no Python 3.11 or newer that an ordinary user may execute")
        yield somebody


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing and does not end."""
    yield from target(["sleep", "300"])


@pytest.fixture
def stolen() -> Callable[[], float]:
    """Seconds that were stolen from this machine since the test began: perf's clock has them."""
    begun = stolen_ns()
    return lambda: (stolen_ns() - begun) / 1e9
