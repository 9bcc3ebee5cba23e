"""Steal time, read from a made-up machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from proctally.linux.machine import Machine
from proctally.linux.steal import Stolen, parse_machine


def stat(user: int, irq: int, softirq: int, steal: int) -> str:
    return f"cpu  {user} 1 2 1000 50 {irq} {softirq} {steal} 7 7\ncpu0 1 1 1 1\n"


def test_line_of_the_whole_machine() -> None:
    assert parse_machine(stat(10, 3, 4, 5).encode()) == (13, 12)
    assert parse_machine(b"cpu 1 2 3 4\n") == (6, 0)
    for broken in (b"", b"cpu0 1 2 3 4\n", b"cpu 1 2 3\n", b"cpu 1 x 3 4\n"):
        with pytest.raises(ValueError):
            parse_machine(broken)


def test_a_job_has_its_share_and_never_more_than_all(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text(stat(100, 0, 0, 0))
    stolen = Stolen(Machine(proc=str(tmp_path), ticks=100))
    assert stolen.most_ns(10**9) == 0
    file.write_text(stat(1100, 20, 30, 50))  # 10 s of processes, 1 s of others
    assert stolen.most_ns(10**9) == pytest.approx(0.2e9)  # a tenth of what ran, twice
    assert stolen.most_ns(10 * 10**9) == 10**9
    file.unlink()
    assert stolen.most_ns(10**9) == 0


def test_a_machine_that_does_not_say(tmp_path: Path) -> None:
    assert Stolen(Machine(proc=str(tmp_path), ticks=100)).most_ns(10**9) == 0


def test_what_was_taken_before_is_not_known(tmp_path: Path) -> None:
    """All since the machine was started is not what was taken from the job."""
    stolen = Stolen(Machine(proc=str(tmp_path), ticks=100))
    (tmp_path / "stat").write_text(stat(1100, 20, 30, 50))
    assert stolen.most_ns(10**9) == 0
