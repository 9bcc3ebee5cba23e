"""The end of a summary, and its list of commands: folded, summed, sampled where the kernel tells no times."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fakeroot import SECOND, FakeHost
from proctally.linux.perf import RECORD_COMM, RECORD_EXIT, RECORD_FORK
from proctally.record.codes import EXIT_STATUS
from proctally.tracking.config import Options
from proctally.tracking.session import Session
from proctally.tracking.summary import COMMANDS_KEPT, OTHERS, folded
from proctally.tracking.tracker import TreeTracker
from proctally.tracking.verdict import Outcome, reason
from proctally.tree.commands import CommandUse
from proctally.tree.perf_processes import Roll
from proctally.tree.perf_source import PerfSource
from proctally.tree.sampler import TreeSampler

SUMS = ("processes", "cpu_seconds", "teardown_seconds", "wall_seconds")


def command(number: int, **values: Any) -> dict[str, Any]:
    return {
        "command": f"c{number}",
        "processes": number,
        "cpu_seconds": 1000.0 - number,
        "teardown_seconds": 0.0625,
        "wall_seconds": 0.125,
        "peak_rss_bytes": number if number % 2 else None,
    } | values


def test_as_many_as_are_kept_are_all_there() -> None:
    listed = [command(number) for number in range(COMMANDS_KEPT)]
    assert folded(list(listed)) == listed


def test_more_are_folded_into_one_and_the_sums_are_kept() -> None:
    listed = [command(number) for number in range(COMMANDS_KEPT + 30)]
    found = folded(list(listed))
    assert found[:COMMANDS_KEPT] == listed[:COMMANDS_KEPT]
    (others,) = found[COMMANDS_KEPT:]
    assert (others["command"], others["peak_rss_bytes"]) == (OTHERS, COMMANDS_KEPT + 29)
    assert others["folded"] is True
    assert others.keys() == listed[0].keys() | {"folded"}
    for name in SUMS:
        assert sum(entry[name] for entry in found) == pytest.approx(sum(entry[name] for entry in listed))


def test_those_of_unknown_time_are_folded_as_well() -> None:
    unknown = {"cpu_seconds": None, "teardown_seconds": None, "peak_rss_bytes": None}
    found = folded([command(number, **unknown) for number in range(COMMANDS_KEPT + 2)])
    assert (found[-1]["cpu_seconds"], found[-1]["peak_rss_bytes"]) == (0, None)
    assert found[-1]["processes"] == COMMANDS_KEPT + COMMANDS_KEPT + 1


def told_no_times(folder: Path, seen: dict[bytes, int], count: int) -> list[dict[str, Any]]:
    """The commands `c0`, `c1`, ... of one process each, of which these were sampled with so many seconds."""
    host = FakeHost(folder)
    sampler = TreeSampler(host.machine())
    for name, seconds in seen.items():
        known = sampler.commands.uses[name] = CommandUse()
        known.processes, known.cpu_ns = 1, seconds * SECOND
    sampler.perf = watch = PerfSource(sampler.machine)
    watch.total_ns = 500 * SECOND
    watch.roll = roll = Roll(1, b"sh", 0)
    for number in range(count):
        pid = 2 + number
        roll.take(
            [
                (1, RECORD_FORK, 1 << 32 | pid, 1 << 32 | pid),
                (2, RECORD_COMM, pid, b"c%d" % number),
                (10**9, RECORD_EXIT, pid, pid),
            ]
        )
    roll.take([(10**9, RECORD_EXIT, 1, 1)])
    assert not roll.tells_time()
    return folded(sampler.summary().commands(sampler.machine.monotonic_ns()))


def test_where_the_kernel_tells_no_times_they_are_those_sampled(tmp_path: Path) -> None:
    found = {entry["command"]: entry for entry in told_no_times(tmp_path, {b"c1": 7, b"sh": 1}, 3)}
    assert {name: entry["cpu_seconds"] for name, entry in found.items()} == {
        "sh": 1.0,
        "c0": None,
        "c1": 7.0,
        "c2": None,
    }
    assert [entry["processes"] for entry in found.values()] == [1, 1, 1, 1]
    assert {entry["teardown_seconds"] for entry in found.values()} == {None}


def test_the_largest_by_sampling_are_kept(tmp_path: Path) -> None:
    found = told_no_times(tmp_path, {b"c70": 9, b"c60": 8, b"sh": 1}, 80)
    assert [entry["command"] for entry in found[:3]] == ["c70", "c60", "sh"]


@pytest.mark.parametrize("ended", [0.5, None])
def test_a_summary_ends_at_the_moment_of_its_wall_time(tmp_path: Path, ended: float | None) -> None:
    """What follows the last reading takes long on a busy machine; None: the summary is made at once."""
    host = FakeHost(tmp_path)
    session = Session("run", Options(), dict(os.environ), host.machine(), "x")
    tracker = TreeTracker(session, descriptors=512)
    host.advance(3.0)
    if ended is not None:
        tracker.ended_ns = session.started_ns + int(ended * SECOND)
    tracker.end_record(tracker.sampler.summary(), Outcome("ok", reason(EXIT_STATUS), exit_code=0), [], 0)
    assert session.summary is not None
    wall = 3.0 if ended is None else ended
    assert session.summary["wall_seconds"] == wall
    assert session.summary["ended_at"] == pytest.approx(session.started_at + wall, abs=0.001)
