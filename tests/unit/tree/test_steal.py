"""Steal time and the ledger."""

from __future__ import annotations

import pytest

from proctally.tree.ledger import Ledger
from proctally.tree.member import CPU

TICK_NS = 10_000_000


def ledger(procfs: int, counted: int, doubtful: int) -> Ledger:
    made = Ledger(TICK_NS)
    made.waited = 1
    made.reaped[CPU] = procfs
    made.cpu.counted = counted
    made.cpu.doubtful = doubtful
    return made


@pytest.mark.parametrize(
    ("procfs", "counted", "doubtful", "source"),
    [
        (1_000_000_000, 1_030_000_000, 40_000_000, "rusage"),  # as much as others took: no time of the job
        (1_000_000_000, 1_050_000_000, 40_000_000, "perf"),  # more: somebody was not waited for
        (1_000_000_000, 1_030_000_000, 0, "rusage"),  # within its tolerance
        (1_000_000_000, 1_041_000_000, 0, "perf"),
        (1_000_000_000, 900_000_000, 40_000_000, "rusage"),
    ],
)
def test_what_others_took_is_not_taken_for_the_job(procfs: int, counted: int, doubtful: int, source: str) -> None:
    said = ledger(procfs, counted, doubtful)
    assert said.choose().source == source
    assert said.total()[CPU] == said.sources()[source]
    said.cpu.only = "perf"
    assert said.total()[CPU] == counted
