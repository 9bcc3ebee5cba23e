"""Waiting for signals and descriptors at once, also where there is no signalfd(2)."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proctally.linux.c_library import libc
from proctally.linux.child import SignalFd, queue_signal

LONG_NS = 5_000_000_000
SHORT_NS = 30_000_000


@pytest.fixture(params=["signalfd", "without"])
def signals(request: pytest.FixtureRequest) -> Iterator[SignalFd]:
    made = SignalFd(libc() if request.param == "signalfd" else None, [signal.SIGUSR2])
    assert (made.fd is None) == (request.param == "without")
    try:
        yield made
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, made.previous)
        if made.fd is not None:
            os.close(made.fd)


@pytest.fixture(params=[0, 1100], ids=["low", "above 1024"])
def pipe(request: pytest.FixtureRequest) -> Iterator[list[int]]:
    """Both ends, the first one with a number from here on."""
    if request.param >= resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        pytest.skip("the limit of open files is too low")
    low, write = os.pipe()
    read = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, request.param)
    os.close(low)
    ends = [read, write]
    yield ends
    for fd in ends:
        os.close(fd)


def test_a_descriptor_that_is_ready(signals: SignalFd, pipe: list[int]) -> None:
    assert signals.wait(pipe[:1], SHORT_NS) == []
    os.write(pipe[1], b"x")
    begun = time.monotonic()
    assert signals.wait(pipe[:1], LONG_NS) == pipe[:1]
    assert time.monotonic() - begun < 2
    os.read(pipe[0], 1)
    assert signals.wait(pipe[:1], SHORT_NS) == []


def test_a_signal_and_a_descriptor_at_once(signals: SignalFd, pipe: list[int]) -> None:
    os.write(pipe[1], b"x")
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signals.wait(pipe[:1], LONG_NS) == pipe[:1]
    (found,) = signals.take()
    assert (found.number, found.sender) == (signal.SIGUSR2, os.getpid())
    assert signals.take() == []


def test_one_that_has_hung_up_is_waited_for_no_longer(signals: SignalFd, pipe: list[int]) -> None:
    os.close(pipe.pop())
    assert signals.wait(pipe, LONG_NS) == pipe
    assert signals.hung == {pipe[0]}
    begun = time.monotonic()
    assert signals.wait(pipe, SHORT_NS) == []
    assert time.monotonic() - begun >= 0.9 * SHORT_NS / 1e9


def test_descriptors_that_change_from_wait_to_wait(signals: SignalFd, pipe: list[int]) -> None:
    other, write = os.pipe()
    try:
        os.write(pipe[1], b"x")
        assert signals.wait([other], SHORT_NS) == []
        assert signals.wait([other, pipe[0]], LONG_NS) == [pipe[0]]
        os.close(write)
        assert signals.wait([other], LONG_NS) == [other]
        assert signals.hung == {other}
        assert signals.wait([pipe[0]], 0) == [pipe[0]]
        assert signals.hung == set()  # its number can be another file's by now
    finally:
        os.close(other)


def test_many_signals_in_one_wait(signals: SignalFd) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR2)  # pending once
    assert signals.wait([], LONG_NS) == []
    assert len(signals.take()) == 1
    assert signals.wait([], 0) == []
    assert signals.take() == []


def test_value_that_was_sent_with_a_signal() -> None:
    made = SignalFd(libc(), [signal.SIGUSR2])
    library = libc()
    assert library is not None
    try:
        for value in (7, -7, 1 << 40):
            assert queue_signal(library, os.getpid(), signal.SIGUSR2, value)
            made.look()
            (found,) = made.take()
            assert (found.number, found.code, found.value) == (signal.SIGUSR2, -1, value)
        os.kill(os.getpid(), signal.SIGUSR2)
        made.look()
        assert [each.value for each in made.take()] == [None]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, made.previous)
        assert made.fd is not None
        os.close(made.fd)


def test_flood_is_read_in_parts(signals: SignalFd) -> None:
    """Between them everything else gets its turn."""
    number = signal.SIGRTMIN
    flooded = SignalFd(libc() if signals.fd is not None else None, [number])
    counts = []
    try:
        for _ in range(600):
            os.kill(os.getpid(), number)
        while sum(counts) < 600:
            flooded.wait([], LONG_NS)
            counts.append(len(flooded.take()))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, flooded.previous)
        if flooded.fd is not None:
            os.close(flooded.fd)
    assert max(counts) <= 512


@pytest.mark.parametrize(
    ("fault", "number"),
    [("import ctypes; ctypes.string_at(0)", signal.SIGSEGV), ("os.abort()", signal.SIGABRT)],
)
def test_own_faults_end_a_process_that_reads_every_signal(tmp_path: Path, fault: str, number: int) -> None:
    code = f"""
import os
from proctally.linux.c_library import libc
from proctally.linux.child import SignalFd, catchable
made = SignalFd(libc(), catchable())
os.kill(os.getpid(), {int(number)})
made.look()
assert [each.number for each in made.take()] == [{int(number)}], "one that was sent is read"
{fault}
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == -number
