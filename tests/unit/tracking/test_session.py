"""The list of commands in a summary: folded, summed, and with what was sampled where the kernel tells no times."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fakeroot import SECOND, FakeHost
from proctally.kernel.perf import RECORD_COMM, RECORD_EXIT, RECORD_FORK
from proctally.options import Options
from proctally.roll import Roll
from proctally.sampler import Command, Sampler
from proctally.session import COMMANDS_KEPT, OTHERS, Session, _folded
from proctally.watch import Watch

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
    commands = [command(number) for number in range(COMMANDS_KEPT)]
    assert _folded(list(commands)) == commands


def test_more_are_folded_into_one_and_the_sums_are_kept() -> None:
    commands = [command(number) for number in range(COMMANDS_KEPT + 30)]
    folded = _folded(list(commands))
    assert folded[:COMMANDS_KEPT] == commands[:COMMANDS_KEPT]
    (others,) = folded[COMMANDS_KEPT:]
    assert (others["command"], others["peak_rss_bytes"]) == (OTHERS, COMMANDS_KEPT + 29)
    assert others.keys() == commands[0].keys()
    for name in SUMS:
        assert sum(entry[name] for entry in folded) == pytest.approx(sum(entry[name] for entry in commands))


def test_those_of_unknown_time_are_folded_as_well() -> None:
    unknown = {"cpu_seconds": None, "teardown_seconds": None, "peak_rss_bytes": None}
    folded = _folded([command(number, **unknown) for number in range(COMMANDS_KEPT + 2)])
    assert (folded[-1]["cpu_seconds"], folded[-1]["peak_rss_bytes"]) == (0, None)
    assert folded[-1]["processes"] == COMMANDS_KEPT + COMMANDS_KEPT + 1


def told_no_times(folder: Path, seen: dict[bytes, int], count: int) -> list[dict[str, Any]]:
    """The commands `c0`, `c1`, ... of one process each, of which these were sampled with so many seconds."""
    host = FakeHost(folder)
    sampler = Sampler(host.machine())
    for name, seconds in seen.items():
        known = sampler.commands[name] = Command()
        known.processes, known.cpu_ns = 1, seconds * SECOND
    sampler.watch = watch = Watch(sampler.machine)
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
    return Session("run", Options(), dict(os.environ), sampler.machine, "x")._commands(sampler)


def test_where_the_kernel_tells_no_times_they_are_those_sampled(tmp_path: Path) -> None:
    commands = {entry["command"]: entry for entry in told_no_times(tmp_path, {b"c1": 7, b"sh": 1}, 3)}
    assert {name: entry["cpu_seconds"] for name, entry in commands.items()} == {
        "sh": 1.0,
        "c0": None,
        "c1": 7.0,
        "c2": None,
    }
    assert [entry["processes"] for entry in commands.values()] == [1, 1, 1, 1]
    assert {entry["teardown_seconds"] for entry in commands.values()} == {None}


def test_the_largest_by_sampling_are_kept(tmp_path: Path) -> None:
    commands = told_no_times(tmp_path, {b"c70": 9, b"c60": 8, b"sh": 1}, 80)
    assert [entry["command"] for entry in commands[:3]] == ["c70", "c60", "sh"]
