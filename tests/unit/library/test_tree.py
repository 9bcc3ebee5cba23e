"""Deltas, watches and names of `Tree`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import proctally
from fakeroot import INIT, FakeHost
from proctally.errors import AccessDenied, ProcessGone
from proctally.library import tree as library_tree
from tree_counters import COUNTED

MEMORY = (95, 100, 101, 150, 91, 120, 90, 99, 200)  # one look after the other


def test_first_sample_has_no_deltas_whatever_runs_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    attach = library_tree.TreeSampler.attach

    def attach_and_run(*arguments: Any) -> Any:
        root = attach(*arguments)
        host.run(100, user=0.5, system=0.25, minor=3, io=(10,) * 7)
        return root

    monkeypatch.setattr(library_tree, "host_machine", host.machine)
    monkeypatch.setattr(library_tree.TreeSampler, "attach", attach_and_run)
    with proctally.Tree(100) as tree:
        sample = tree.sample()
        assert {name: getattr(sample, name) for name in COUNTED} == dict.fromkeys(COUNTED, 0)
        host.run(100, user=0.125, minor=2, io=(1,) * 7)
        sample = tree.sample()
        assert (sample.cpu_seconds, sample.minor_faults, sample.read_bytes) == (0.125, 2, 1)


# -- watching --------------------------------------------------------------------------------------------------------


def test_watch_rises_above_its_limit_and_falls_to_where_it_is_armed_again() -> None:
    watch = library_tree.MemoryWatch(None, 100, print, 90)  # type: ignore[arg-type]
    told = [
        (bytes_, watch._crossed(library_tree.TreeSample({"memory_bytes": bytes_})), watch.is_above) for bytes_ in MEMORY
    ]
    assert [bytes_ for bytes_, crossed, _ in told if crossed] == [101, 200]
    assert [is_above for *_, is_above in told] == [False, False, True, True, True, True, False, False, True]


# -- what cannot be --------------------------------------------------------------------------------------------------


def test_errors_are_of_their_kinds() -> None:
    assert issubclass(ProcessGone, ProcessLookupError) and issubclass(AccessDenied, PermissionError)


def test_sample_of_tree_that_exited_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sample after the exit has the totals; a later one is an error that an OSError handler sees first."""
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    monkeypatch.setattr(library_tree, "host_machine", host.machine)
    with proctally.Tree(100, pss=False) as tree:
        tree.sample()
        host.exit(100)
        host.reap(100)
        assert tree.sample().pids == []
        with pytest.raises(ProcessLookupError, match="process 100 and all its descendants have exited") as raised:
            tree.sample()
        assert type(raised.value) is ProcessGone
    with pytest.raises(ProcessGone):
        proctally.Tree(100)


def test_tree_whose_pid_another_process_has_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, INIT)
    monkeypatch.setattr(library_tree, "host_machine", host.machine)
    with proctally.Tree(100, pss=False) as tree:
        host.end(100)
        host.advance(1)
        host.spawn(100, INIT)
        with pytest.raises(ProcessGone, match="process 100 has exited, and another process has its pid"):
            tree.sample()
