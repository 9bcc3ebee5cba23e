"""What vanishes while the machine is read is missing; it is not reported as a device that does not answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from captured import machine_in
from drm_files import AMDGPU, hold
from proctally.errors import ProcessGone
from proctally.linux.drm import Clients, Opened, list_opened

PID = 7
NODE = "/dev/dri/renderD128"


def test_client_of_process_that_exits_is_not_silent(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    hold(tmp_path, PID, 3, NODE, AMDGPU)
    hold(tmp_path, PID + 1, 3, NODE, "pos: 0\n")
    clients = Clients(machine)
    clients.add(PID, None)
    clients.add(PID + 1, None)
    clients.look()
    shutil.rmtree(tmp_path / f"proc/{PID}")
    assert clients.read() == []
    assert [pid for pid, _ in clients.silent()] == [PID + 1], "the driver of the other one shows nothing"


def test_descriptors_of_process_that_exits_are_gone(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    opened = Opened(None)
    with pytest.raises(ProcessGone):
        list_opened(machine, PID, opened)
    assert not opened.denied
