"""What several files of tests start with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from compiled import NO_COMPILER, Programs, built, compiled_jobs
from examples import FULL
from hidden_proc import show_all
from nvml_library import library
from places import TESTS
from terminal_session import Terminal
from track_samplers import samplers
from tracked import User, ordinary_user, target, until
from truth import stolen_ns

if TYPE_CHECKING:
    from gpu_rig import Rig

__all__ = ["library"]

# As a shell starts what it puts into the background, and nohup(1) what it starts: every job would have them ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

# The same examples at each run, so that a failure comes from a change. Few of them, unless `make test` or you set
# `--hypothesis-profile=full`; `--hypothesis-profile=default` draws other ones each time.
settings.register_profile("quick", derandomize=True, deadline=None, max_examples=10)
settings.register_profile("full", derandomize=True, deadline=None, max_examples=FULL)
settings.load_profile("quick")


PROC = show_all()

# What measures cores, disks or moments, changes something for the whole machine (perf's limits, CPUs that come and go,
# cgroups of a crash that the next run removes), or sends a signal to its own process, of which a worker of xdist has
# another thread. All else shares the CPUs in `make test`.
ALONE = re.compile(
    r"integration/(linux/test_(child|gpu_real)|tree/test_(perf_source|time_source))\.py"
    r"|system/test_(own_cgroup|perf|time|track|without_perf)\.py"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ALONE.match(item.path.relative_to(TESTS).as_posix()):
            item.add_marker(pytest.mark.alone)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PROC is not None:
        terminalreporter.write_line(PROC)


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with built() as programs:
        yield programs


@pytest.fixture(scope="session")
def cpu_jobs() -> Iterator[str]:
    """The program of `support/cpu_jobs.c`, where every user can execute it."""
    if NO_COMPILER is not None:
        pytest.skip(NO_COMPILER)
    with compiled_jobs() as program:
        yield program


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with ordinary_user() as somebody:
        if somebody is None:
            pytest.skip("no Python 3.11 or newer that an ordinary user may execute")
        yield somebody


@pytest.fixture(scope="module")
def other_user(user: User) -> User:
    """An ordinary user who is not the one that runs the tests."""
    if user.number is None:
        pytest.skip("only root can be another user")
    return user


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of proctally is set but the one for its folder."""
    for name in list(os.environ):
        if name.startswith("PROCTALLY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PROCTALLY_HOME", str(tmp_path / "home"))


@pytest.fixture
def home(clean_environment: None, tmp_path: Path) -> Iterator[Path]:
    """Where records of this very process lie."""
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    until(lambda: not samplers(os.getpid()), "no sampler is left")


@pytest.fixture
def rig(tmp_path: Path, library: Path) -> Iterator[Rig]:
    from gpu_rig import Rig, wait_until

    made = Rig(tmp_path, library)
    yield made
    if made.gpus is not None:
        made.gpus.poller.close()
        wait_until(made.gpus.poller.reap)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing and does not end."""
    yield from target(["sleep", "300"])


@pytest.fixture
def stolen() -> Callable[[], float]:
    """Seconds that were stolen from this machine since the test began: perf's clock has them."""
    begun = stolen_ns()
    return lambda: (stolen_ns() - begun) / 1e9
