"""Blocks of a sidecar."""

from __future__ import annotations

import os
from collections.abc import Collection
from types import SimpleNamespace

import pytest

from proctally.linux.c_library import libc
from proctally.linux.channel import Channel, pair
from proctally.linux.child import SignalFd
from proctally.linux.machine import Machine
from proctally.tracking import sidecar
from proctally.tracking.loop import Source
from proctally.tracking.verdict import Outcome


def made(monkeypatch: pytest.MonkeyPatch, control: Channel) -> sidecar.Sidecar:
    """A sidecar whose target lives as long as the channel."""
    monkeypatch.setattr(sidecar, "raise_limit", lambda: 100 + sidecar.WATCHED_MEMBERS)
    monkeypatch.setattr(sidecar, "host_machine", Machine)
    monkeypatch.setattr(sidecar, "pidfd_open", lambda pid: None)
    monkeypatch.setattr(sidecar, "read_stat", lambda machine, pid: SimpleNamespace(start=7, state=b"S", threads=1))
    return sidecar.Sidecar(control, os.getpid(), 7, SignalFd(libc(), ()))


# -- the sampler -----------------------------------------------------------------------------------------------------


def test_a_descriptor_that_hung_up_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair()
    beside = made(monkeypatch, theirs)
    reading, writing = os.pipe()
    os.close(writing)
    woken: list[bool] = []

    class Helper(Source):
        def fds(self, now: int) -> list[int]:
            return [reading]

        def timeout(self, now: int) -> int:
            return 10_000_000

        def act(self, now: int, ready: Collection[int]) -> Outcome | None:
            woken.append(reading in ready)
            return Outcome("ended", {}) if len(woken) == 3 else None

    beside.loop.replace([beside, Helper()])
    beside.loop.run()
    assert woken == [True, False, False]
    os.close(reading)
    for channel in (ours, theirs):
        channel.close()


# -- the target, whatever happens to it ------------------------------------------------------------------------------


def test_block_for_which_the_sampler_has_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops what has no room at the receiver; other blocks go on."""
    ours, theirs = pair()
    beside = made(monkeypatch, theirs)
    ours.send({"options": {}}, 1.0)
    assert beside.act(0, beside.fds(0)) is None
    assert beside.control is theirs and beside.blocks == []
    for channel in (ours, theirs):
        channel.close()
