"""A process that exits before tracking starts is reported as missing, not as an error of the tracker."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeroot import INIT, FakeHost
from proctally.errors import NoProcess
from proctally.tracking import attach, live_tree
from proctally.tracking.config import Options

PID = 100


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path)
    host.spawn(PID, INIT)
    return host


def vanish(host: FakeHost) -> None:
    host.exit(PID)
    host.reap(PID)


def test_attach_to_process_that_exits_names_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(attach, "host_machine", host.machine)
    monkeypatch.setattr(attach, "SignalFd", lambda *_: None)
    host.once(f"{PID}/stat", lambda: vanish(host))
    assert attach.attach(Options(), PID, {}).status == 1
    assert capfd.readouterr().err == f"proctally: process {PID}: No such process\n"


def test_live_tree_of_process_that_exits_names_it(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_tree, "host_machine", host.machine)
    host.once(f"{PID}/stat", lambda: vanish(host))
    with pytest.raises(NoProcess, match=f"process {PID}: No such process"):
        live_tree.LiveTree(PID, 1.0)
