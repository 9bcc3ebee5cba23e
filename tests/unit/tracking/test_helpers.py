"""Which children are waited for when the command has ended: those that are about to exit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakeroot import FakeHost
from proctally.tracking.helpers import AT_MOST_NS, POLL_NS, Helpers
from proctally.tree.member import CPU

OWN, HELPER, DAEMON = 77, 200, 201
PIDS = [HELPER, DAEMON]


def helpers_of(host: FakeHost, members: dict[int, Any] | None = None, read_ns: int | None = None) -> Helpers:
    return Helpers(host.machine(), members or {}, host.monotonic_ns() if read_ns is None else read_ns)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path, own=OWN)
    for pid in PIDS:
        host.spawn(pid, OWN)
    return host


def test_a_daemon_that_sleeps_is_not_waited_for(host: FakeHost) -> None:
    helpers = helpers_of(host)
    assert helpers.timeout(PIDS) == 0
    assert helpers.timeout([]) == 0


def test_a_child_that_has_exited_is_waited_for(host: FakeHost) -> None:
    host.exit(HELPER)
    assert helpers_of(host).timeout(PIDS) == POLL_NS


@pytest.mark.parametrize("state", "RD")
def test_a_helper_that_is_about_to_exit_is_waited_for(host: FakeHost, state: str) -> None:
    host.set_state(HELPER, state)
    helpers = helpers_of(host)
    assert helpers.timeout(PIDS) == POLL_NS
    host.set_state(HELPER, "S")
    assert helpers.timeout(PIDS) == POLL_NS, "it has moved since"
    assert helpers.timeout(PIDS) == 0


def test_a_daemon_that_is_busy_is_waited_for_no_longer_than_50_ms(host: FakeHost) -> None:
    host.set_state(DAEMON, "R")
    helpers = helpers_of(host)
    host.advance((AT_MOST_NS - 1000) / 1e9)
    assert helpers.timeout(PIDS) == 1000
    host.advance(1e-6)
    assert helpers.timeout(PIDS) == 0


@pytest.mark.parametrize(("seconds", "used", "expected"), [(0.1, 0.06, 0), (0.1, 0.04, POLL_NS), (0.02, 0.02, POLL_NS)])
def test_a_daemon_that_computed_before_the_exit_is_not_waited_for(
    host: FakeHost, seconds: float, used: float, expected: int
) -> None:
    host.set_state(DAEMON, "R")
    member = SimpleNamespace(cpu=host.processes[DAEMON].used[CPU], state=b"R")
    read_ns = host.monotonic_ns()
    host.advance(seconds)
    host.run(DAEMON, used)
    assert helpers_of(host, {DAEMON: member}, read_ns).timeout(PIDS) == expected


def test_a_child_that_was_reaped_or_cannot_be_read_is_not_waited_for(host: FakeHost) -> None:
    host.set_state(HELPER, "R")
    host.hide(HELPER)
    host.end(DAEMON)
    assert helpers_of(host).timeout(PIDS) == 0
